//! Statistics of plain numbers: pure functions, each with its source.

pub mod bootstrap;
mod describe;

pub use describe::{CONFIDENCE, Summary, mean, quantile, summarise};
