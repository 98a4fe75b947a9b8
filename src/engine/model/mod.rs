//! Models as plain numbers: their shape, their weights by name, and the folders that they are read from.
//!
//! Weights are kept as the matrix product wants them: `inputs × outputs`, row-major (the files have them transposed).
//! Knows neither how a model learns nor how it answers.

mod adapter;
mod config;
mod llama;

pub use adapter::{Adapter, AdapterConfig, Pair};
pub use config::{Config, is_target};
pub use llama::{Block, Linear, Model, Parameter};

/// File that stands alone in a model folder whose training had no rows: the base is the result as it is.
pub const UNCHANGED: &str = "unchanged.json";
