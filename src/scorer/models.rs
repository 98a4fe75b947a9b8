//! What scorers that read texts by a model have in common. They work many rows at a time, and what they say of a row is
//! worth keeping.

use super::Answer;
use crate::key::Digest;
use serde_json::Value;
use std::path::Path;

/// The values of a row, one for each metric.
pub type Values = Vec<Option<f64>>;

/// What a scorer that reads texts by a model is made of.
#[derive(Clone, Copy, Debug)]
pub struct ByModel {
    /// The setting that may name a file besides the model, and what it is.
    pub file: Option<(&'static str, &'static str)>,
    /// A column that every row must have.
    pub column: Option<&'static str>,
    /// Fills in what depends on the name of the model. An error says what is missing.
    pub complete: fn(&mut Value, &str) -> Result<(), String>,
    /// Makes it ready. Without the engine there is no such thing.
    #[cfg(feature = "candle")]
    pub build: fn(Value, &Files<'_>) -> anyhow::Result<Box<dyn ModelScorer>>,
    /// Looks at a model's folder before anything runs.
    #[cfg(feature = "candle")]
    pub check: fn(&Value, &Path) -> anyhow::Result<()>,
}

/// What it reads besides the rows.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The model's folder.
    pub model: &'a Path,
    /// The other file, if the scorer's settings name one.
    pub other: Option<&'a Path>,
}

/// A scorer that reads texts by a model, ready.
pub trait ModelScorer {
    /// Takes in the next row.
    ///
    /// # Errors
    /// If it has texts that the model cannot read.
    fn take(&mut self, answer: &Answer<'_>) -> anyhow::Result<()>;

    /// For each row that was taken in, what its values depend on besides parameters, model and file.
    fn keys(&mut self) -> Vec<Digest>;

    /// The values of rows, by their numbers; says each, by its place among them, as soon as it has it.
    fn score(&mut self, rows: &[usize], said: &mut dyn FnMut(usize, &Values)) -> Vec<Values>;
}
