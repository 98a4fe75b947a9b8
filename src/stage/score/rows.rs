//! Scorers that look at one row after the other: rows are read, scored and written in one pass.

use super::scope::{Chooser, environment};
use super::{PREDICTIONS, Results, ScoreRecipe};
use crate::row;
use crate::scorer::{Answer, Definition, Scorer};
use crate::stage::Context;
use anyhow::Context as _;

/// Scores all rows.
pub(super) fn execute(
    recipe: &ScoreRecipe,
    definition: &Definition,
    mut scorer: Box<dyn Scorer>,
    context: &Context<'_>,
) -> anyhow::Result<()> {
    scorer.settle(context.root);
    let mut results = Results::create(context, definition, recipe)?;
    let environment = environment();
    let mut chooser = Chooser::new(&recipe.scope, &environment);
    for input in context.role(PREDICTIONS) {
        for item in row::read(&input.path, &input.name)? {
            let (line, row) = item?;
            let place = || format!("{}:{line}", input.name);
            let mut score = || match chooser.takes(&row).map_err(anyhow::Error::msg)? {
                false => Ok(None),
                true => {
                    let texts = recipe.scope.answer(&row, definition.references).map_err(anyhow::Error::msg)?;
                    let (prediction, references) = (&*texts.prediction, &*texts.references);
                    scorer.score_row(&Answer { prediction, references, row: &row }).map(Some)
                }
            };
            let scored = score().with_context(place)?;
            results.add(row, scored.as_ref()).with_context(place)?;
        }
    }
    scorer.finish()?;
    results.finish(Some(&*scorer))
}
