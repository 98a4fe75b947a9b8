//! The five kinds of stages: what can be set, what is checked before anything runs, what is done.
//!
//! Each kind is one module with the same five parts: a *form* (its table in a manifest), a *recipe* (everything that can
//! change a byte of the output), a `stage` (form → [`Stage`]), a `check` (mistakes that would show themselves late, looked for early) and an
//! `execute` (recipe + inputs → files in a folder). Knows nothing of graphs, caches or processes.

pub mod aggregate;
pub mod command;
pub mod demands;
mod dtype;
mod earlier;
#[cfg(test)]
mod heard;
pub mod import;
mod kept;
mod kind;
#[cfg(feature = "candle")]
mod layers;
pub mod mix;
mod pins;
pub mod predict;
mod recipe;
mod reference;
mod rows;
pub mod score;
pub mod train;

pub use command::CommandRecipe;
pub use demands::{Cause, Demands, Device, Require, Retry};
pub use dtype::Dtype;
pub use earlier::{Answers, Earlier};
pub use kept::Kept;
pub use kind::Kind;
pub use pins::{Pins, quoted};
pub use recipe::Recipe;
pub use reference::{Expression, InputSource, Reference, is_name};

use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::secrets::Secrets;
use crate::settings::{At, Bytes, Decode as _, Fields, Group as _, Schema, Seconds, Setting, Table, schema};
use anyhow::Context as _;
use reference::Layers;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// How the work is to be done, as far as it cannot change a byte of the output. Never part of a key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hints {
    /// Rows that are generated together.
    pub batch_size: Option<u32>,
    /// Time between two checkpoints of a training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<Seconds>,
    /// Memory for the keys and values of rows that are generated together.
    #[serde(default)]
    pub cache_memory: Option<Bytes>,
    /// Whether a training computes blocks again in its backward pass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_blocks: bool,
    /// How an API is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<predict::ApiHints>,
    /// Secrets that the work gets: variables of its environment, and those of titer's own that hold the values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
}

/// A part of a stage that is an instance of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// What the scorer of this name says.
    Scorer(String),
    /// The figure of this name.
    Figure(String),
}

impl Part {
    /// The label of the instance, and its value.
    pub fn label(&self) -> (&'static str, &str) {
        match self {
            Part::Scorer(name) => (SCORER, name),
            Part::Figure(name) => (FIGURE, name),
        }
    }
}

/// The label that tells the scorers of a score stage apart.
pub const SCORER: &str = "scorer";
/// The label that tells the figures of an aggregate apart.
pub const FIGURE: &str = "figure";

/// One stage as its settings say, after placeholders are filled in.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Which part of what the manifest says it is, where one stage of it falls apart into several.
    pub part: Option<Part>,
    /// What is to be done.
    pub recipe: Recipe,
    /// How, as far as it does not matter.
    pub hints: Hints,
    /// What it asks of the machine.
    pub demands: Demands,
    /// With what.
    pub inputs: Vec<InputSpec>,
}

impl Stage {
    /// A stage that asks for nothing special.
    fn new(recipe: Recipe, inputs: Vec<InputSpec>) -> Self {
        Self { part: None, recipe, hints: Hints::default(), demands: Demands::default(), inputs }
    }
}

/// What a stage reads, as the manifest says it.
#[derive(Clone, Debug, PartialEq)]
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

impl InputSpec {
    fn new(role: impl Into<String>, form: Form, source: At<InputSource>) -> Self {
        Self { role: role.into(), form, source: source.value, gather: None, span: source.span }
    }
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
    /// A folder with the files of a WordNet.
    WordNet,
    /// A file as it is.
    File,
    /// Rows of every instance of a stage, labelled with its axes (and its scorer), or of a file.
    Records,
    /// A file or a folder as it is, for a command.
    Any,
    /// An argument of a command: a file of the project if there is one of that name, else a word that names none.
    Argument,
}

/// Reads the settings of one stage (placeholders filled in) into what it does: one [`Stage`], or one per scorer.
pub fn decode(kind: Kind, table: &Table, span: Span, problems: &mut Problems) -> Option<Vec<Stage>> {
    let mut fields = Fields::of_table(table, span);
    let stages = match kind {
        _ if table.get(command::COMMAND).is_some() => {
            command::read(kind, &mut fields, problems).map(|stage| vec![stage])
        }
        Kind::Mix => mix::MixForm::read(&mut fields, problems).map(|form| vec![mix::stage(form)]),
        Kind::Train => train::TrainForm::read(&mut fields, problems)
            .and_then(|form| train::stage(form, span, problems))
            .map(|stage| vec![stage]),
        Kind::Predict if predict::asks_an_api(table) => {
            predict::read_api(&mut fields, table, problems).map(|stage| vec![stage])
        }
        Kind::Predict => {
            let stop_is_set = table.get("stop").is_some();
            predict::PredictForm::read(&mut fields, problems)
                .and_then(|form| predict::stage(form, stop_is_set, span, problems))
                .map(|stage| vec![stage])
        }
        Kind::Score => score::ScoreForm::read(&mut fields, problems).map(score::stages),
        Kind::Aggregate => aggregate::AggregateForm::read(&mut fields, problems)
            .and_then(|form| aggregate::stages(form, span, problems)),
    };
    let demands = Demands::read(&mut fields, problems);
    fields.finish(problems)?;
    let demands = demands?;
    Some(stages?.into_iter().map(|stage| Stage { demands: demands.clone(), ..stage }).collect())
}

/// Names of the settings of a stage of the kind that does not do the work itself, if the table is one: another program
/// does it, or an API.
pub fn narrower_settings(kind: Kind, table: &Table) -> Option<Vec<&'static str>> {
    let settings = match kind {
        _ if table.get(command::COMMAND).is_some() => command::settings(kind),
        Kind::Predict if predict::asks_an_api(table) => predict::api_settings(),
        _ => return None,
    };
    Some(settings.into_iter().chain(Demands::settings()).map(|setting| setting.name).collect())
}

/// What the table of a stage may hold, with or without a `command`.
pub fn schema(kind: Kind) -> Schema {
    let (built_in, about) = match kind {
        Kind::Mix => (mix::MixForm::settings(), mix::MixForm::schema()),
        Kind::Train => (train::TrainForm::settings(), train::TrainForm::schema()),
        Kind::Predict => (predict::PredictForm::settings(), predict::PredictForm::schema()),
        Kind::Score => (score::ScoreForm::settings(), score::ScoreForm::schema()),
        Kind::Aggregate => (aggregate::AggregateForm::settings(), aggregate::AggregateForm::schema()),
    };
    let mut settings: Vec<Setting> = Vec::new();
    // What the built-in work and a command both take, is described by the built-in work.
    let by_api = if kind == Kind::Predict { predict::api_settings() } else { Vec::new() };
    for setting in [built_in, by_api, command::settings(kind), Demands::settings()].into_iter().flatten() {
        if !settings.iter().any(|known| known.name == setting.name) {
            settings.push(setting);
        }
    }
    let about = about["description"].as_str().unwrap_or_default();
    schema::described(schema::table(settings), &[about])
}

/// An input at its place on the disk, ready to be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// See [`InputSpec::role`]; a model's layers are `model.0` (the base), `model.1`, …
    pub role: String,
    /// Axis values (and `scorer`) of the instance that made it, where the consumer's output shows them ([`Form::Records`]).
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
    /// What earlier attempts left.
    pub earlier: &'a Earlier,
    /// What was given to the process besides the job.
    pub means: &'a Means,
    /// The project's root.
    pub root: &'a Path,
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

/// What a process was given besides its job: written nowhere.
#[derive(Default)]
pub struct Means {
    /// Secrets by their names.
    pub secrets: Secrets,
    /// Requests to APIs that the job may send, as its share of what all may.
    pub requests_per_second: Option<f64>,
    /// What all jobs of the run may spend on APIs, and the file where it is counted.
    pub max_cost: Option<(f64, PathBuf)>,
    /// What earlier jobs of the process left.
    pub kept: Kept,
}

/// Names only.
impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.secrets.keys()).finish()
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
    /// The kind of device that does the arithmetic, where it is not the processor.
    fn computes_on(&self, _device: &str) {}
    /// Whether the work is asked to end: what can go on another time keeps where it stands, and fails.
    fn is_asked_to_end(&self) -> bool {
        false
    }
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
        Recipe::Api(recipe) => predict::check_api(recipe, inputs),
        Recipe::Score(recipe) => score::check(recipe, inputs),
        Recipe::Aggregate(recipe) => aggregate::check(recipe, inputs),
        Recipe::Figure(_) | Recipe::Command(_) => Vec::new(),
    }
}

/// What the values of a score stage's instance are called where they are gathered; `scorer` is its scorer's name in the
/// manifest. `None`: another program makes them.
pub fn metrics(recipe: &Recipe, scorer: &str) -> Option<Vec<String>> {
    let Recipe::Score(recipe) = recipe else { return None };
    let metrics = crate::scorer::find(&recipe.scorer)?.metric_names(&recipe.params);
    Some(match &metrics[..] {
        [_] => vec![scorer.to_string()],
        _ => metrics.iter().map(|metric| format!("{scorer}.{metric}")).collect(),
    })
}

/// What an aggregate asks for that none of its scores has, or a figure that its table has not; `known` are their metrics.
pub fn check_metrics(recipe: &Recipe, known: &[String]) -> Vec<Diagnostic> {
    match recipe {
        Recipe::Aggregate(recipe) => aggregate::check_metrics(recipe, known),
        Recipe::Figure(recipe) => aggregate::figures::check_metrics(recipe, known),
        _ => Vec::new(),
    }
}

/// The metrics of an aggregate's table and rows, of those that it reads.
pub fn metrics_made(recipe: &Recipe, read: Vec<String>) -> Vec<String> {
    match recipe {
        Recipe::Aggregate(recipe) => aggregate::metrics_made(recipe, read),
        _ => read,
    }
}

/// Writes a value as a file that people read, too.
///
/// # Errors
/// If it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Does the work: writes the kind's outputs into the context's folder.
pub fn execute(recipe: &Recipe, context: &Context<'_>) -> anyhow::Result<()> {
    match recipe {
        Recipe::Mix(recipe) => mix::execute(recipe, context),
        Recipe::Train(recipe) => train::execute(recipe, context),
        Recipe::Predict(recipe) => predict::execute(recipe, context),
        Recipe::Api(recipe) => predict::ask(recipe, context),
        Recipe::Score(recipe) => score::execute(recipe, context),
        Recipe::Aggregate(recipe) => aggregate::execute(recipe, context),
        Recipe::Figure(recipe) => aggregate::figures::execute(recipe, context),
        Recipe::Command(_) => anyhow::bail!("a command is not a worker's work"),
    }
}
