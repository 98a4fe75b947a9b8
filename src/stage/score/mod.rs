//! The score kind: answers → values per row and a summary, by one scorer.
//!
//! A score stage of the manifest falls apart into one instance per scorer, so that adding a scorer runs no other again.
//! The name that the manifest gives a scorer is not in the recipe: renaming it changes no key.

mod judge;
mod models;
mod results;
mod rows;
mod scope;
mod scorers;
mod summary;

pub use scope::Scope;
use scorers::{Named, Scorers};
pub use scorers::{is_judge, settings_of};

use super::predict::ApiRecipe;
use super::{Context, Form, Input, InputSource, InputSpec, Recipe, Stage};
use crate::diagnostic::Diagnostic;
use crate::row::{self, Row};
use crate::scorer::{self, Work};
use crate::settings::At;
use anyhow::Context as _;
use results::Results;
use scope::Chooser;
use serde::{Deserialize, Serialize};

/// Everything that can change a byte of the output of a score stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreRecipe {
    /// Name of the scorer in [`scorer::ALL`].
    pub scorer: String,
    /// The scorer's version.
    pub version: u32,
    /// The scorer's parameters, with defaults filled in.
    pub params: serde_json::Value,
    /// Which rows are scored, and how they are summed up.
    #[serde(default, skip_serializing_if = "Scope::is_everything")]
    pub scope: Scope,
    /// Who judges, and with what parameters it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Box<ApiRecipe>>,
}

crate::form! {
    /// Answers → values per row and a summary, by each scorer.
    pub(super) struct ScoreForm {
        /// The answers: a predict stage, or rows that have a column `prediction` already.
        predictions: At<InputSource>,
        /// By what they are scored: a list of scorers, or a table of names of one's own with a scorer each.
        scorers: Scorers,
    }
}

/// What a score stage says → one [`Stage`] per scorer.
pub(super) fn stages(form: ScoreForm) -> Vec<Stage> {
    let input = InputSpec::new(PREDICTIONS, Form::Rows, form.predictions);
    let stage = |Named { name, recipe, inputs, hints }: Named| {
        let inputs = [input.clone()].into_iter().chain(inputs).collect();
        Stage { scorer: Some(name), hints, ..Stage::new(Recipe::Score(recipe), inputs) }
    };
    form.scorers.0.into_iter().map(stage).collect()
}

impl ScoreRecipe {
    /// Whether the scorer reads texts by a model: a work of its own, whose answer to each row is worth keeping.
    pub fn is_by_model(&self) -> bool {
        scorer::find(&self.scorer).is_some_and(|definition| definition.by_model().is_some())
    }

    /// Whether a program of the person's scores.
    pub fn is_by_program(&self) -> bool {
        scorer::find(&self.scorer).is_some_and(|definition| matches!(definition.work, Work::Program(_)))
    }

    /// How often a judge is asked about these rows at most; `None`: the scorer asks nobody.
    pub fn calls(&self, rows: impl Iterator<Item = Row>) -> Option<u64> {
        self.api.as_ref()?;
        let environment = scope::environment();
        let mut chooser = Chooser::new(&self.scope, &environment);
        let scored = rows.filter(|row| chooser.takes(row).unwrap_or(true)).count();
        Some(scored as u64 * judge::calls_per_row(self))
    }
}

/// Settings that say which rows are scored, not what is said of one.
pub const ABOUT_ROWS: &[&str] = &["scope"];

/// How many rows of a file [`check`] looks at.
const CHECKED_ROWS: usize = 1000;

/// Mistakes that would show themselves late: files of answers whose rows lack what is compared.
pub fn check(recipe: &ScoreRecipe, inputs: &[Input]) -> Vec<Diagnostic> {
    let Some(definition) = scorer::find(&recipe.scorer) else { return Vec::new() };
    let rows = inputs.iter().filter(|input| input.role == PREDICTIONS);
    let problems = rows.filter_map(|input| check_rows(recipe, definition, input).err());
    problems.chain(models::check(recipe, definition, inputs)).chain(check_folder(definition, inputs)).collect()
}

fn check_folder(definition: &scorer::Definition, inputs: &[Input]) -> Option<Diagnostic> {
    let with_folder = definition.with_folder()?;
    let folder = inputs.iter().find(|input| input.role == with_folder.setting.0)?;
    let error = (with_folder.check)(&folder.path).err()?;
    Some(Diagnostic::new(format!("`{}`: {error:#}", folder.name)))
}

fn check_rows(recipe: &ScoreRecipe, definition: &scorer::Definition, input: &Input) -> Result<(), Diagnostic> {
    let environment = scope::environment();
    let mut chooser = Chooser::new(&recipe.scope, &environment);
    let judge = matches!(definition.work, Work::Judge).then(|| judge::judge(recipe).ok()).flatten();
    for item in row::read(&input.path, &input.name)?.take(CHECKED_ROWS) {
        let (line, row) = item?;
        let checked = chooser.takes(&row).and_then(|takes| match takes {
            true => {
                recipe.scope.check(&row, definition.references)?;
                models::check_row(&row, definition)?;
                judge.as_ref().map_or(Ok(()), |judge| judge::check_row(judge, recipe, &row))
            }
            false => Ok(()),
        });
        checked.map_err(|message| Diagnostic::in_file(&input.name, Some(line), message))?;
    }
    Ok(())
}

/// Does the work: `scores.jsonl`, a line for each row in the rows' order, and `summary.json`.
pub fn execute(recipe: &ScoreRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let definition = scorer::find(&recipe.scorer)
        .filter(|definition| definition.version == recipe.version)
        .with_context(|| format!("this program has no scorer `{}` of version {}", recipe.scorer, recipe.version))?;
    match definition.work {
        Work::Rows(build) => rows::execute(recipe, definition, build(recipe.params.clone())?, context),
        Work::WithFolder(with_folder) => {
            let folder = context.role(with_folder.setting.0).next().map(|input| input.path.as_path());
            rows::execute(recipe, definition, (with_folder.build)(recipe.params.clone(), folder)?, context)
        }
        Work::Program(build) => rows::execute(recipe, definition, build(recipe.params.clone(), context.root)?, context),
        Work::Model(by_model) => models::execute(recipe, definition, &by_model, context),
        Work::Judge => judge::execute(recipe, definition, context),
    }
}

/// The role of the answers.
const PREDICTIONS: &str = "predictions";

/// Where a row's values stand in `scores.jsonl`.
pub(super) const SCORES: &str = "scores";

/// Columns that do not go into the scores: the texts themselves, and what identifies a row.
pub const NEVER_CARRIED: [&str; 5] = [row::ID, row::INSTRUCTION, row::INPUT, row::OUTPUT, row::PREDICTION];

#[cfg(test)]
mod tests;
