//! The five kinds of stages: what can be set, what is checked before anything runs, what is done.
//!
//! Each kind is one module with the same four parts: a *recipe* (everything that can change a byte of the output), a
//! `decode` (manifest table → [`Stage`]), a `check` (mistakes that would show themselves late, looked for early) and an
//! `execute` (recipe + inputs → files in a folder). Knows nothing of graphs, caches or processes.

pub mod aggregate;
#[cfg(test)]
mod heard;
#[cfg(feature = "candle")]
mod layers;
pub mod mix;
pub mod predict;
pub mod prompt;
pub mod score;
pub mod train;

use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::settings::{Decode, Fields, Table, Value, ValueKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// The kinds, in the order in which data flows through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Rows from sources → train, validation and test rows.
    Mix,
    /// Rows (and a base) → a model or an adapter.
    Train,
    /// A model and rows → answers.
    Predict,
    /// Answers → values per row and a summary.
    Score,
    /// Scores of many instances → tables and figures.
    Aggregate,
}

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Kind; 5] = [Kind::Mix, Kind::Train, Kind::Predict, Kind::Score, Kind::Aggregate];

    /// The kind's name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mix => "mix",
            Kind::Train => "train",
            Kind::Predict => "predict",
            Kind::Score => "score",
            Kind::Aggregate => "aggregate",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Version of what the kind does. It is part of every key: raise it when the same recipe and inputs give other bytes.
    pub fn version(self) -> u32 {
        match self {
            Kind::Mix | Kind::Train | Kind::Predict | Kind::Score | Kind::Aggregate => 1,
        }
    }

    /// Names of the outputs and the file (or folder, with `/`) that each is, in the stage's output folder.
    /// The first is what a reference without an output means.
    pub fn outputs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Kind::Mix => &[
                ("train", "train.jsonl"),
                ("validation", "validation.jsonl"),
                ("test", "test.jsonl"),
                ("stats", "stats.json"),
            ],
            Kind::Train => &[("model", "model/"), ("metrics", "metrics.jsonl"), ("summary", "summary.json")],
            Kind::Predict => &[("predictions", "predictions.jsonl"), ("summary", "summary.json")],
            Kind::Score => &[("scores", "scores.jsonl"), ("summary", "summary.json")],
            Kind::Aggregate => {
                &[("table", "table.json"), ("csv", "table.csv"), ("markdown", "table.md"), ("figures", "figures/")]
            }
        }
    }

    /// Paths of the settings that may hold a reference to a stage; `*` stands for every item of a list.
    /// Needed before placeholders are filled in, to know which axes a stage has.
    pub fn reference_settings(self) -> &'static [&'static str] {
        match self {
            Kind::Mix => &["sources.*.from", "tokenizer"],
            Kind::Train => &["data", "data.train", "data.validation", "validation", "base"],
            Kind::Predict => &["model", "data"],
            Kind::Score => &["predictions"],
            Kind::Aggregate => &["from", "from.*"],
        }
    }

    /// Whether the kind draws random numbers, so that the manifest's `seed` is its default.
    pub fn takes_seed(self) -> bool {
        matches!(self, Kind::Mix | Kind::Train)
    }

    /// Whether a crash or an out-of-memory kill is likely enough that each job gets a fresh worker process.
    pub fn is_heavy(self) -> bool {
        matches!(self, Kind::Train | Kind::Predict)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Everything that can change a byte of a stage's output, besides its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// A mix.
    Mix(mix::MixRecipe),
    /// A training.
    Train(Box<train::TrainRecipe>),
    /// A prediction.
    Predict(predict::PredictRecipe),
    /// A scoring by one scorer.
    Score(score::ScoreRecipe),
    /// An aggregation.
    Aggregate(aggregate::AggregateRecipe),
}

impl Recipe {
    /// The kind whose recipe this is.
    pub fn kind(&self) -> Kind {
        match self {
            Recipe::Mix(_) => Kind::Mix,
            Recipe::Train(_) => Kind::Train,
            Recipe::Predict(_) => Kind::Predict,
            Recipe::Score(_) => Kind::Score,
            Recipe::Aggregate(_) => Kind::Aggregate,
        }
    }
}

crate::settings! {
    /// What cannot change a byte of the output. Never part of a key.
    #[derive(Default)]
    pub struct Hints {
        /// Rows that are generated together.
        batch_size: Option<u32> = None,
        /// Threads of the engine; by default what the runner has free.
        threads: Option<u32> = None,
    }
}

/// One stage as its settings say, after placeholders are filled in.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Name of the scorer, for the instances that one score stage falls apart into.
    pub scorer: Option<String>,
    /// What is to be done.
    pub recipe: Recipe,
    /// How, as far as it does not matter.
    pub hints: Hints,
    /// With what.
    pub inputs: Vec<InputSpec>,
}

/// What a stage reads, as the manifest says it.
#[derive(Clone, Debug)]
pub struct InputSpec {
    /// What the stage calls it: `data`, `source.0`, `model`, … Unique within a stage. Part of the key.
    pub role: String,
    /// What is read of it.
    pub form: Form,
    /// Where it comes from.
    pub source: InputSource,
    /// Axis whose instances are all read, one after the other (a mix's `gather`).
    pub gather: Option<String>,
    /// Where the manifest says so.
    pub span: Span,
}

/// In what form an input is read; decides which output a plain reference to a stage means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One file of rows: a mix's train split, predictions.
    Rows,
    /// The validation split of a mix; absent if it has none.
    ValidationRows,
    /// A model folder in HF layout, a stage's model with all that it stands on, or an adapter's folder: one input per
    /// layer, `role.0` (the base), `role.1`, …
    Model,
    /// A folder or stage with a `tokenizer.json`.
    Tokenizer,
    /// A file as it is.
    File,
    /// The scores of every instance of a stage, labelled with its axes (and its scorer).
    Scores,
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum InputSource {
    /// A file, a folder or a glob, relative to the project's root.
    Path(String),
    /// An output of a stage.
    Stage(Reference),
}

/// `mix.train[n=320,run=1].validation`: a stage, perhaps with axes pinned, perhaps one of its outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The kind of the stage.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Axes with the text of the value that they are pinned to.
    pub pins: Vec<(String, String)>,
    /// The output, if one is named.
    pub output: Option<String>,
}

impl Reference {
    /// Reads `kind.name`, `kind.name[axis=value,…]`, each with or without `.output`. `Ok(None)` if the text does not
    /// begin like a reference (then it is a path); `Err` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let Some((head, rest)) = text.split_once('.') else { return Ok(None) };
        let Some(kind) = Kind::from_name(head) else { return Ok(None) };
        if rest.contains('/') {
            return Ok(None);
        }
        let (name, pins, tail) = match rest.split_once('[') {
            Some((name, rest)) => {
                let (inner, tail) = rest.split_once(']').ok_or_else(|| format!("`{text}` has a `[` but no `]`"))?;
                (name, parse_pins(inner)?, tail)
            }
            None => match rest.split_once('.') {
                Some((name, _)) => (name, Vec::new(), &rest[name.len()..]),
                None => (rest, Vec::new(), ""),
            },
        };
        let output = match tail.strip_prefix('.') {
            Some(output) => Some(output.to_string()),
            None if tail.is_empty() => None,
            None => return Err(format!("`{tail}` after the `]` of `{text}`: expected `.output`")),
        };
        if !is_name(name) {
            return Err(format!("`{name}` is no name of a stage: letters, digits, `_` and `-`"));
        }
        if let Some(output) = &output
            && !kind.outputs().iter().any(|(known, _)| known == output)
        {
            let known: Vec<&str> = kind.outputs().iter().map(|(known, _)| *known).collect();
            return Err(format!("a {kind} stage has no output `{output}`: it has {}", known.join(", ")));
        }
        Ok(Some(Self { kind, name: name.to_string(), pins, output }))
    }

    /// `kind.name`, as stages are called.
    pub fn stage(&self) -> String {
        format!("{}.{}", self.kind, self.name)
    }
}

/// Reads `axis=value,axis=value`.
pub fn parse_pins(text: &str) -> Result<Vec<(String, String)>, String> {
    text.split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| match part.split_once('=') {
            Some((axis, value)) => Ok((axis.trim().to_string(), value.trim().to_string())),
            None => Err(format!("`{part}` is not `axis=value`")),
        })
        .collect()
}

/// Whether `text` can be the name of a stage, an axis or a parameter.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

impl Decode for InputSource {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = String::decode(value, problems)?;
        match Reference::parse(&text) {
            Ok(Some(reference)) => Some(Self::Stage(reference)),
            Ok(None) if text.is_empty() => {
                problems.at(value.span, "a path is empty");
                None
            }
            Ok(None) => Some(Self::Path(text)),
            Err(message) => {
                problems.at(value.span, message);
                None
            }
        }
    }
}

/// Reads the settings of one stage (placeholders filled in) into what it does: one [`Stage`], or one per scorer.
pub fn decode(kind: Kind, table: &Table, span: Span, problems: &mut Problems) -> Option<Vec<Stage>> {
    let mut fields = Fields::of_table(table, span);
    let stages = match kind {
        Kind::Mix => mix::decode(&mut fields, problems).map(|stage| vec![stage]),
        Kind::Train => train::decode(&mut fields, problems).map(|stage| vec![stage]),
        Kind::Predict => predict::decode(&mut fields, problems).map(|stage| vec![stage]),
        Kind::Score => score::decode(&mut fields, problems),
        Kind::Aggregate => aggregate::decode(&mut fields, problems).map(|stage| vec![stage]),
    };
    fields.finish(problems)?;
    stages
}

/// An input at its place on the disk, ready to be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// See [`InputSpec::role`]; a model's layers are `model.0` (the base), `model.1`, …
    pub role: String,
    /// Axis values (and `scorer`) of the instance that made it, where the consumer's output shows them ([`Form::Scores`]).
    #[serde(default)]
    pub labels: BTreeMap<String, serde_json::Value>,
    /// What messages call it: the path as the person wrote it, or `mix.train[n=20].train`.
    pub name: String,
    /// A file or a folder.
    pub path: PathBuf,
}

/// What a stage's work may look at and speak to.
#[derive(Debug)]
pub struct Context<'a> {
    /// The inputs; of one role there may be several (a glob, a gathered axis, scores), in order.
    pub inputs: &'a [Input],
    /// The folder to write outputs into: exists, is empty.
    pub output: &'a Path,
    /// How, as far as it does not matter.
    pub hints: &'a Hints,
    /// Where progress and warnings go.
    pub events: &'a dyn Events,
}

impl Context<'_> {
    /// All inputs of one role.
    pub fn role<'b>(&'b self, role: &'b str) -> impl Iterator<Item = &'b Input> + 'b {
        self.inputs.iter().filter(move |input| input.role == role)
    }

    /// The one input of a role.
    pub fn one<'b>(&'b self, role: &'b str) -> anyhow::Result<&'b Input> {
        self.role(role).next().ok_or_else(|| anyhow::anyhow!("input `{role}` is missing"))
    }

    /// The layers of a model: its base, then the adapters on it in order.
    pub fn layers<'b>(&'b self, role: &'b str) -> Vec<&'b Input> {
        let number = |input: &Input| {
            input.role.strip_prefix(role).and_then(|tail| tail.strip_prefix('.')).and_then(|n| n.parse::<usize>().ok())
        };
        let mut layers: Vec<(usize, &Input)> =
            self.inputs.iter().filter_map(|input| Some((number(input)?, input))).collect();
        layers.sort_by_key(|(number, _)| *number);
        layers.into_iter().map(|(_, input)| input).collect()
    }
}

/// What a stage says while it works. Nothing of it reaches the output.
pub trait Events: fmt::Debug {
    /// How far the work is.
    fn progress(&self, progress: Progress);
    /// Something that the person should know; kept in the record.
    fn warn(&self, message: String);
    /// A line for the stage's log.
    fn log(&self, message: String);
}

/// How far a stage's work is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
    /// What is counted: `rows`, `steps`.
    pub unit: String,
    /// Tokens per second, loss and the like, as a person reads it: `loss 1.234, 5678 tokens/s`.
    pub note: String,
}

/// Looks for mistakes that would show themselves late: columns that a source lacks, an adapter that does not fit.
/// `inputs` are those that exist before anything runs (files, and folders of models). Reads only.
pub fn check(recipe: &Recipe, inputs: &[Input], axes: &BTreeSet<&str>) -> Vec<Diagnostic> {
    match recipe {
        Recipe::Mix(recipe) => mix::check(recipe, inputs, axes),
        Recipe::Train(recipe) => train::check(recipe, inputs),
        Recipe::Predict(recipe) => predict::check(recipe, inputs),
        Recipe::Score(recipe) => score::check(recipe, inputs),
        Recipe::Aggregate(recipe) => aggregate::check(recipe, inputs),
    }
}

/// Does the work: writes the kind's outputs into the context's folder.
pub fn execute(recipe: &Recipe, context: &Context<'_>) -> anyhow::Result<()> {
    match recipe {
        Recipe::Mix(recipe) => mix::execute(recipe, context),
        Recipe::Train(recipe) => train::execute(recipe, context),
        Recipe::Predict(recipe) => predict::execute(recipe, context),
        Recipe::Score(recipe) => score::execute(recipe, context),
        Recipe::Aggregate(recipe) => aggregate::execute(recipe, context),
    }
}

/// Reads a setting that is an input: a path or a reference.
pub(crate) fn input(
    fields: &mut Fields<'_>,
    setting: &'static str,
    form: Form,
    problems: &mut Problems,
) -> Option<InputSpec> {
    let span = fields.span();
    match fields.take(setting) {
        Some(value) => {
            let source = InputSource::decode(value, problems)?;
            Some(InputSpec { role: setting.to_string(), form, source, gather: None, span: value.span })
        }
        None => {
            problems.at(span, format!("`{setting}` is missing"));
            None
        }
    }
}

/// Reads a setting that may be an input.
pub(crate) fn optional_input(
    fields: &mut Fields<'_>,
    setting: &'static str,
    form: Form,
    problems: &mut Problems,
) -> Option<Option<InputSpec>> {
    match fields.take(setting) {
        Some(value) => {
            let source = InputSource::decode(value, problems)?;
            Some(Some(InputSpec { role: setting.to_string(), form, source, gather: None, span: value.span }))
        }
        None => Some(None),
    }
}

/// Reads a setting that is a model: a folder or a stage, or a list of them: a base, then the adapters on it. All have
/// the setting's name for their role. No item: the setting is not there.
pub(crate) fn model_inputs(
    fields: &mut Fields<'_>,
    setting: &'static str,
    problems: &mut Problems,
) -> Option<Vec<InputSpec>> {
    let Some(value) = fields.take(setting) else { return Some(Vec::new()) };
    let items = match &value.kind {
        ValueKind::Array(items) if items.is_empty() => {
            problems.at(value.span, format!("`{setting}` is empty"));
            return None;
        }
        ValueKind::Array(items) => items.iter().collect(),
        _ => vec![value],
    };
    let spec = |value: &Value| {
        let source = InputSource::decode(value, problems)?;
        Some(InputSpec { role: setting.to_string(), form: Form::Model, source, gather: None, span: value.span })
    };
    let specs: Vec<Option<InputSpec>> = items.into_iter().map(spec).collect();
    specs.into_iter().collect()
}

/// Whether the value is a string, for settings where a string or a table may stand.
pub(crate) fn is_string(value: &Value) -> bool {
    matches!(value.kind, ValueKind::String(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_paths() {
        assert_eq!(Reference::parse("data/tasks/sst2.jsonl"), Ok(None));
        assert_eq!(Reference::parse("mix.d/rows.jsonl"), Ok(None));
        let plain = Reference::parse("mix.train").unwrap().unwrap();
        assert_eq!((plain.stage().as_str(), plain.output), ("mix.train", None));
        let full = Reference::parse("mix.train[n=320,run=1].validation").unwrap().unwrap();
        assert_eq!(full.pins, [("n".into(), "320".into()), ("run".into(), "1".into())]);
        assert_eq!(full.output.as_deref(), Some("validation"));
        assert!(Reference::parse("mix.train.valid").unwrap_err().contains("train, validation, test, stats"));
        assert!(Reference::parse("mix.train[n=320").is_err());
    }
}
