//! Scorers: how good is an answer, measured against its references?
//!
//! A scorer is one file and one line in [`ALL`]. It sees the answers one by one and gives a value for each of its metrics;
//! where a metric is one of all rows together (a corpus BLEU), it says what each row adds to it. It knows nothing of files
//! or stages; that is what makes its numbers comparable with those of the reference programs.

mod answer_words;
pub mod bertscore;
pub mod bleu;
pub mod cer;
pub mod chrf;
pub mod command;
mod cut;
mod edits;
pub mod exact_match;
mod grams;
pub mod judge;
pub mod labels;
pub mod meteor;
mod models;
mod overlap;
pub mod paper;
mod porter;
mod python_literal;
mod python_regex;
pub mod reward;
pub mod rouge;
pub mod rules;
pub mod sacrebleu;
pub mod sbert;
mod signature;
pub mod squad;
pub mod squad_v2;
mod subsequence;
#[cfg(feature = "candle")]
mod taken;
pub mod ter;
mod text;
pub mod token_f1;
mod unicode;
pub mod wer;
mod words;

use crate::diagnostic::Problems;
use crate::row::Row;
use crate::settings::{Fields, Group, Setting};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::Path;

/// Every scorer, in the order in which messages list them.
pub const ALL: &[Definition] = &[
    bertscore::DEFINITION,
    bleu::DEFINITION,
    cer::DEFINITION,
    chrf::DEFINITION,
    command::DEFINITION,
    exact_match::DEFINITION,
    judge::DEFINITION,
    labels::DEFINITION,
    meteor::DEFINITION,
    paper::DEFINITION,
    reward::DEFINITION,
    rouge::DEFINITION,
    rules::DEFINITION,
    sacrebleu::DEFINITION,
    sbert::DEFINITION,
    squad::DEFINITION,
    squad_v2::DEFINITION,
    ter::DEFINITION,
    token_f1::DEFINITION,
    wer::DEFINITION,
];

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
    /// What it yields for each row, in the order of [`Scored::values`]. None: its parameter `metrics` names them.
    pub metrics: &'static [Metric],
    /// What it yields for all rows together, in the order of [`Scorer::pool`].
    pub pooled: &'static [Metric],
    /// Whether it needs to know what would have been right.
    pub references: References,
    /// Reads its parameters as the recipe keeps them, with defaults filled in.
    read: fn(&mut Fields<'_>, &mut Problems) -> Option<serde_json::Value>,
    /// What its parameters are.
    settings: fn() -> Vec<Setting>,
    /// How it works.
    pub work: Work,
}

/// How a scorer works.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// It looks at one row after the other, and at nothing else.
    Rows(fn(serde_json::Value) -> anyhow::Result<Box<dyn Scorer>>),
    /// The same, with what lies in a folder that a setting may name.
    WithFolder(WithFolder),
    /// It asks a program of one's own, its parameter `command`, about one row after the other. The program runs where the
    /// project's files lie.
    Program(fn(serde_json::Value, &Path) -> anyhow::Result<Box<dyn Scorer>>),
    /// It reads texts by a model, many at a time.
    Model(ByModel),
    /// It asks another model, behind an API.
    Judge,
}

/// How a scorer that may read a folder is made.
type BuildWith = fn(serde_json::Value, Option<&Path>) -> anyhow::Result<Box<dyn Scorer>>;

/// A scorer that may read a folder besides the rows.
#[derive(Clone, Copy, Debug)]
pub struct WithFolder {
    /// The setting that names the folder, and what it is.
    pub setting: (&'static str, &'static str),
    /// Makes the scorer of its parameters, with the folder if one is named.
    pub build: BuildWith,
    /// Looks at the folder before anything runs.
    pub check: fn(&Path) -> anyhow::Result<()>,
}

/// What a scorer needs to know of what would have been right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum References {
    /// One text or more.
    Some,
    /// Any number; none at all says that there is no answer, which is one, too.
    Any,
    /// Nothing: it does not look at them.
    Unread,
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

/// What a scorer sees of a row.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What was answered.
    pub prediction: &'a str,
    /// What would have been right: each of them alone. At least one, if the definition says so.
    pub references: &'a [Cow<'a, str>],
    /// The row, for scorers that look at other columns.
    pub row: &'a Row,
}

impl Answer<'_> {
    /// The greatest of what `value` gives for each reference; `None` without any.
    ///
    /// # Errors
    /// Those of `value`.
    pub fn best(&self, mut value: impl FnMut(&str, &str) -> anyhow::Result<f64>) -> anyhow::Result<Option<f64>> {
        let mut best: Option<f64> = None;
        for reference in self.references {
            let value = value(self.prediction, reference)?;
            best = Some(best.map_or(value, |best| best.max(value)));
        }
        Ok(best)
    }
}

/// What a scorer says of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scored {
    /// One value for each of [`Definition::metrics`], in their order; `None` where the metric says nothing of this row.
    pub values: Vec<Option<f64>>,
    /// What the row adds to the metrics of all rows together, as [`Scorer::add`] takes it; of the same length for every row.
    pub counts: Vec<f64>,
}

impl Scored {
    /// A row of a scorer without metrics of all rows together.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        Self { values: values.into_iter().map(Some).collect(), counts: Vec::new() }
    }
}

/// A scorer with its parameters.
///
/// It may keep what helps it from row to row (buffers, labels that it has met), but what it says of a row does not depend
/// on the rows before.
pub trait Scorer {
    /// What it says of a row.
    ///
    /// # Errors
    /// If the texts are more than the scorer can take, or a column that it looks at is missing.
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored>;

    /// Told behind the last row.
    ///
    /// # Errors
    /// If something was wrong that shows itself now only.
    fn finish(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Adds what a row counts to the sums over rows, `times` times (a bootstrap draws rows several times, or never). `sums`
    /// is empty before the first.
    fn add(&self, sums: &mut Vec<f64>, counts: &[f64], times: f64) {
        sums.resize(counts.len(), 0.0);
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += times * count;
        }
    }

    /// The metrics of all rows together, one for each of [`Definition::pooled`] in their order; `None` where they are not
    /// defined.
    fn pool(&self, _sums: &[f64]) -> Vec<Option<f64>> {
        Vec::new()
    }

    /// What the summary says besides: a signature, a table of confusions. An object, or null.
    fn details(&self, _sums: &[f64]) -> serde_json::Value {
        serde_json::Value::Null
    }
}

pub use models::{ByModel, Files, ModelScorer, Values};

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

    /// The names of what it yields for each row with these parameters.
    pub fn metric_names(&self, params: &serde_json::Value) -> Vec<String> {
        if !self.metrics.is_empty() {
            return self.metrics.iter().map(|metric| metric.name.to_string()).collect();
        }
        texts(params, "metrics")
    }

    /// The program that it asks with these parameters, with its arguments; none if it asks none.
    pub fn command(&self, params: &serde_json::Value) -> Vec<String> {
        match &self.work {
            Work::Program(_) => texts(params, "command"),
            Work::Rows(_) | Work::WithFolder(_) | Work::Model(_) | Work::Judge => Vec::new(),
        }
    }

    /// What it needs of models, if it reads texts by one.
    pub fn by_model(&self) -> Option<&ByModel> {
        match &self.work {
            Work::Model(by_model) => Some(by_model),
            Work::Rows(_) | Work::WithFolder(_) | Work::Program(_) | Work::Judge => None,
        }
    }

    /// What it needs of a folder, if it may read one.
    pub fn with_folder(&self) -> Option<&WithFolder> {
        match &self.work {
            Work::WithFolder(with_folder) => Some(with_folder),
            Work::Rows(_) | Work::Program(_) | Work::Model(_) | Work::Judge => None,
        }
    }
}

/// The texts of a list among parameters.
fn texts(params: &serde_json::Value, name: &str) -> Vec<String> {
    let list = params.get(name).and_then(serde_json::Value::as_array);
    list.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_string)).collect()
}

/// A scorer's parameters: a `settings!` struct, and how it becomes the scorer.
trait Params: Group + Serialize + DeserializeOwned {
    type Scorer: Scorer + 'static;
    fn scorer(self) -> anyhow::Result<Self::Scorer>;
}

/// A scorer without parameters.
trait Plain: Scorer + Sized + 'static {
    fn new() -> anyhow::Result<Self>;
}

/// The parameters of a [`Plain`] scorer.
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
fn read<P: Group + Serialize>(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<serde_json::Value> {
    let params = P::read(fields, problems)?;
    serde_json::to_value(params).ok()
}

/// The same where parameters may not fit together: what keeps the scorer from being made is said.
fn read_fitting<P: Params>(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<serde_json::Value> {
    let params = P::read(fields, problems)?;
    let value = serde_json::to_value(&params).ok()?;
    match params.scorer() {
        Ok(_) => Some(value),
        Err(error) => {
            problems.at(fields.span(), format!("{error:#}"));
            None
        }
    }
}

/// [`Definition::settings`] of a scorer whose parameters are `P`.
fn settings<P: Group>() -> Vec<Setting> {
    P::settings()
}

/// [`Work::Rows`] of a scorer whose parameters are `P`.
fn build<P: Params>(params: serde_json::Value) -> anyhow::Result<Box<dyn Scorer>> {
    let params: P = serde_json::from_value(params)?;
    Ok(Box::new(params.scorer()?))
}

/// [`Work::Rows`] of a scorer without parameters.
fn build_plain<S: Plain>(params: serde_json::Value) -> anyhow::Result<Box<dyn Scorer>> {
    let NoParams {} = serde_json::from_value(params)?;
    Ok(Box::new(S::new()?))
}

#[cfg(test)]
mod tests;
