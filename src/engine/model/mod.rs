//! Models as plain numbers: what they are made of, their weights by name, and the folders that they are read from.
//!
//! A family (`families`) is a description: which parts of a common vocabulary (`config`, `block`, `rotary`) its blocks
//! have, and what their modules are called in its files. Weights are kept as the matrix product wants them: `inputs ×
//! outputs`, row-major (most files have them transposed). Knows neither how a model learns nor how it answers.

mod adapted;
mod adapter;
mod block;
mod config;
mod expected;
mod families;
mod load;
mod network;
mod rotary;
mod settings;

pub use adapted::{Adapted, Beside};
pub use adapter::{Adapter, AdapterConfig, Biases, Pair, Saved, Selector, Targets};
pub use block::{Block, Mlp, NormPlace, Order, Part, Place, QkNorms, Qkv, Walk};
pub use config::{Alibi, Config, Layer, Layout, LinearName, NewLlama, Projections, Residual, Shape, is_target};
pub(super) use families::is_decoder;
pub use network::{HeldLinear, Linear, Model, Norm, Parameter};
pub use rotary::{Pairing, Rotary};
pub(super) use settings::{Settings, read as read_settings};

/// File that stands alone in a model folder whose training had no rows: the base is the result as it is.
pub const UNCHANGED: &str = "unchanged.json";
