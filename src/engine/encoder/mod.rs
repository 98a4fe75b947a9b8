//! Encoders: models that read a text whole and give a vector for each of its tokens. Inference only.
//!
//! A family (`families`) is a description: which parts of a common vocabulary (`config`) its blocks have, and what its
//! modules are called in its files. What the parts do (`network`, `attention`, `relative`) is the same for all.

mod attention;
mod config;
mod families;
mod load;
mod network;
mod relative;
mod rows;
mod sentences;

pub use config::{Block, Config, Convolution, Disentangled, Distances, Head, Layout, Positions, Qkv, Relative, Shape};
pub use load::Wanted;
pub use network::{Encoder, Text};
pub use sentences::{Pooling, Sentences};

#[cfg(test)]
mod tests;
