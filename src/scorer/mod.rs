//! Scorers: how good is an answer, measured against its reference?
//!
//! A scorer is one file and one line in [`ALL`]. It sees two texts and gives a value for each of its metrics. It knows
//! nothing of files, rows or stages; that is what makes its numbers comparable with those of the reference programs.

pub mod exact_match;
mod porter;
mod python_regex;
pub mod rouge;
mod text;
pub mod token_f1;

use crate::diagnostic::Problems;
use crate::settings::{Fields, Group, Setting};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Every scorer, in the order in which messages list them.
pub const ALL: &[Definition] = &[exact_match::DEFINITION, rouge::DEFINITION, token_f1::DEFINITION];

/// What can be said of a scorer before it is given its parameters.
#[derive(Debug)]
pub struct Definition {
    /// Its name in manifests.
    pub name: &'static str,
    /// Part of every key: raise it when the same texts and parameters give other values.
    pub version: u32,
    /// What it measures, in a sentence.
    pub summary: &'static str,
    /// Where the definition comes from, and what its values are equal to.
    pub source: &'static str,
    /// What it yields for each row, in the order of [`Scorer::score_row`].
    pub metrics: &'static [Metric],
    /// Reads its parameters as the recipe keeps them, with defaults filled in.
    read: fn(&mut Fields<'_>, &mut Problems) -> Option<serde_json::Value>,
    /// What its parameters are.
    settings: fn() -> Vec<Setting>,
    /// Makes it ready from its parameters.
    build: fn(serde_json::Value) -> anyhow::Result<Box<dyn Scorer>>,
}

/// One of the values that a scorer gives.
#[derive(Debug)]
pub struct Metric {
    /// Its name in `scores.jsonl`.
    pub name: &'static str,
    /// The least and the greatest value.
    pub range: (f64, f64),
    /// Which way is good.
    pub better: Better,
}

/// Which values of a metric are the good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The more, the better.
    Higher,
    /// The less, the better.
    Lower,
}

/// A scorer with its parameters.
pub trait Scorer {
    /// One value for each of the definition's metrics, in its order; `None` where the metric says nothing of this row.
    /// An error if the texts are more than the scorer can take.
    fn score_row(&self, prediction: &str, reference: &str) -> anyhow::Result<Vec<Option<f64>>>;
}

/// The scorer of that name.
pub fn find(name: &str) -> Option<&'static Definition> {
    ALL.iter().find(|definition| definition.name == name)
}

impl Definition {
    /// Reads the parameters that stand in `fields`: JSON with all defaults filled in, as the recipe keeps it.
    pub fn read_params(&self, fields: &mut Fields<'_>, problems: &mut Problems) -> Option<serde_json::Value> {
        (self.read)(fields, problems)
    }

    /// What its parameters are.
    pub fn settings(&self) -> Vec<Setting> {
        (self.settings)()
    }

    /// The scorer with parameters that [`Definition::read_params`] gave.
    pub fn build(&self, params: &serde_json::Value) -> anyhow::Result<Box<dyn Scorer>> {
        (self.build)(params.clone())
    }
}

/// A scorer's parameters: a `settings!` struct, and how it becomes the scorer.
trait Params: Group + Serialize + DeserializeOwned {
    type Scorer: Scorer + 'static;
    fn scorer(self) -> anyhow::Result<Self::Scorer>;
}

/// The parameters of a scorer that has none.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

impl Group for NoParams {
    fn read(_: &mut Fields<'_>, _: &mut Problems) -> Option<Self> {
        Some(Self {})
    }

    fn settings() -> Vec<Setting> {
        Vec::new()
    }
}

/// [`Definition::read`] of a scorer whose parameters are `P`.
fn read<P: Params>(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<serde_json::Value> {
    let params = P::read(fields, problems)?;
    serde_json::to_value(params).ok()
}

/// [`Definition::settings`] of a scorer whose parameters are `P`.
fn settings<P: Params>() -> Vec<Setting> {
    P::settings()
}

/// [`Definition::build`] of a scorer whose parameters are `P`.
fn build<P: Params>(params: serde_json::Value) -> anyhow::Result<Box<dyn Scorer>> {
    let params: P = serde_json::from_value(params)?;
    Ok(Box::new(params.scorer()?))
}

#[cfg(test)]
mod tests;
