//! What a stage does, of any kind: one type for keys, outputs, and what a job needs to know.

use super::{CommandRecipe, Kind, aggregate, mix, predict, score, train};
use crate::report::figure::FigureRecipe;
use serde::{Deserialize, Serialize};

/// Everything that can change a byte of a stage's output, besides its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// A mix.
    Mix(mix::MixRecipe),
    /// A training.
    Train(Box<train::TrainRecipe>),
    /// A prediction.
    Predict(Box<predict::PredictRecipe>),
    /// A prediction by a model behind an API.
    Api(predict::ApiRecipe),
    /// A scoring by one scorer.
    Score(score::ScoreRecipe),
    /// An aggregation.
    Aggregate(Box<aggregate::AggregateRecipe>),
    /// A figure of an aggregate's table.
    Figure(Box<FigureRecipe>),
    /// Any kind's work, done by another program.
    Command(CommandRecipe),
}

impl Recipe {
    /// The kind whose recipe this is.
    pub fn kind(&self) -> Kind {
        match self {
            Recipe::Mix(_) => Kind::Mix,
            Recipe::Train(_) => Kind::Train,
            Recipe::Predict(_) | Recipe::Api(_) => Kind::Predict,
            Recipe::Score(_) => Kind::Score,
            Recipe::Aggregate(_) | Recipe::Figure(_) => Kind::Aggregate,
            Recipe::Command(recipe) => recipe.kind,
        }
    }

    /// Version of what is done; part of every key.
    pub fn version(&self) -> u32 {
        match self {
            Recipe::Command(_) => CommandRecipe::VERSION,
            Recipe::Api(_) => predict::ApiRecipe::VERSION,
            Recipe::Figure(_) => aggregate::figures::VERSION,
            _ => self.kind().version(),
        }
    }

    /// Names and paths of the outputs that are promised.
    pub fn outputs(&self) -> Vec<(&'static str, &'static str)> {
        match self {
            Recipe::Command(recipe) => recipe.outputs(),
            Recipe::Train(recipe) => recipe.outputs(),
            Recipe::Aggregate(recipe) => recipe.outputs(),
            Recipe::Figure(_) => aggregate::figures::outputs(),
            _ => self.kind().outputs().to_vec(),
        }
    }

    /// Whether an output can hold anything: a mix without a validation split has an empty file for it.
    pub fn fills(&self, output: &str) -> bool {
        match (self, output) {
            (Recipe::Mix(recipe), "validation") => recipe.has_validation(),
            (Recipe::Mix(recipe), "test") => recipe.has_test(),
            _ => self.outputs().iter().any(|(name, _)| *name == output),
        }
    }

    /// Whether a training's output is a model of its own, not an adapter that needs its base.
    pub fn is_whole(&self) -> bool {
        match self {
            Recipe::Train(recipe) => recipe.is_whole(),
            Recipe::Command(recipe) => recipe.whole,
            _ => false,
        }
    }

    /// Whether work that is stopped keeps where it stands, so that a later attempt goes on there.
    pub fn goes_on(&self) -> bool {
        matches!(self, Recipe::Train(_))
    }

    /// The role of the rows of which each is worked on by itself, at a price that is worth keeping the answer.
    pub fn rows_role(&self) -> Option<&'static str> {
        match self {
            Recipe::Predict(_) => Some("data"),
            Recipe::Score(recipe) if recipe.is_by_model() => Some("predictions"),
            _ => None,
        }
    }

    /// Settings that say which of those rows are worked on, not what becomes of one.
    pub fn settings_about_rows(&self) -> &'static [&'static str] {
        if matches!(self, Recipe::Score(_)) { score::ABOUT_ROWS } else { &[] }
    }

    /// The role of the model that is held as it is, with an adapter beside it, and how: jobs that differ in the adapter
    /// alone can hold it together.
    pub fn holds(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Recipe::Predict(recipe) => Some(("model", recipe.base_precision?.name())),
            _ => None,
        }
    }

    /// Who is asked, if the work is done by a model behind an API.
    pub fn api(&self) -> Option<&predict::ApiRecipe> {
        match self {
            Recipe::Api(recipe) => Some(recipe),
            Recipe::Score(recipe) => recipe.api.as_deref(),
            _ => None,
        }
    }

    /// How often an API is asked for these rows, at most; `None`: it asks none.
    pub fn calls(&self, rows: impl Iterator<Item = crate::row::Row>) -> Option<u64> {
        match self {
            Recipe::Api(recipe) => Some(rows.count() as u64 * u64::from(recipe.samples.unwrap_or(1))),
            Recipe::Score(recipe) => recipe.calls(rows),
            _ => None,
        }
    }

    /// Whether the work is done elsewhere, for money.
    pub fn asks_an_api(&self) -> bool {
        self.api().is_some()
    }

    /// Whether the worker starts another program for it, which the kernel does not end with the worker.
    pub fn starts_program(&self) -> bool {
        matches!(self, Recipe::Score(recipe) if recipe.is_by_program())
    }

    /// Whether each job gets a fresh worker process: a crash or an out-of-memory kill is likely enough, or the process
    /// holds a secret.
    pub fn is_heavy(&self) -> bool {
        match self {
            Recipe::Train(_) | Recipe::Predict(_) | Recipe::Api(_) => true,
            Recipe::Score(recipe) => recipe.is_by_model() || recipe.api.is_some(),
            _ => false,
        }
    }
}
