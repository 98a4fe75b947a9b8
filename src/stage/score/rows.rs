//! The rows of the answers: which are scored, and with what texts. Scorers that look at one row after the other are done with
//! each in one pass.

use super::scope::{Chooser, environment};
use super::{PREDICTIONS, Results, ScoreRecipe};
use crate::row::{self, Row};
use crate::scorer::{Answer, Definition, References, Scorer};
use crate::stage::Context;
use anyhow::Context as _;
use std::fmt;

/// Where a row stands.
pub(super) struct Place<'a> {
    file: &'a str,
    line: u64,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Reads all rows: each that is scored goes to `score`, then every one to `then`, with what `score` made of it. Their errors
/// name the row.
pub(super) fn each<T>(
    recipe: &ScoreRecipe,
    needed: References,
    context: &Context<'_>,
    mut score: impl FnMut(&Place<'_>, &Answer<'_>) -> anyhow::Result<T>,
    mut then: impl FnMut(Row, Option<T>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let environment = environment();
    let mut chooser = Chooser::new(&recipe.scope, &environment);
    for input in context.role(PREDICTIONS) {
        for item in row::read(&input.path, &input.name)? {
            let (line, row) = item?;
            let place = Place { file: &input.name, line };
            let take = || {
                let scored = match chooser.takes(&row).map_err(anyhow::Error::msg)? {
                    false => None,
                    true => {
                        let texts = recipe.scope.texts(&row, needed).map_err(anyhow::Error::msg)?;
                        Some(score(&place, &texts.answer(&row))?)
                    }
                };
                then(row, scored)
            };
            take().with_context(|| place.to_string())?;
        }
    }
    Ok(())
}

/// Scores all rows.
pub(super) fn execute(
    recipe: &ScoreRecipe,
    definition: &Definition,
    mut scorer: Box<dyn Scorer>,
    context: &Context<'_>,
) -> anyhow::Result<()> {
    let mut results = Results::create(context, definition, recipe)?;
    let score = |_: &Place<'_>, answer: &Answer<'_>| scorer.score_row(answer);
    each(recipe, definition.references, context, score, |row, scored| results.add(row, scored.as_ref()))?;
    scorer.finish()?;
    results.finish(Some(&*scorer), None)
}
