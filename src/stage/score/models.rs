//! Scorers that read texts by a model: all rows are taken in first, then those are scored whose values are not known from
//! earlier work.

use super::ScoreRecipe;
use crate::diagnostic::Diagnostic;
use crate::row::{self, Row};
use crate::scorer::{ByModel, Definition};
use crate::stage::{Context, Input};

/// The setting that names the model, and the role of its folder.
pub(super) const MODEL: &str = "model";

/// What a row lacks of what a scorer asks for besides the texts.
pub(super) fn check_row(row: &Row, definition: &Definition) -> Result<(), String> {
    match definition.by_model().and_then(|by_model| by_model.column) {
        Some(column) if row::text(row, column).is_none() => Err(row::lacks(row, column)),
        _ => Ok(()),
    }
}

/// What speaks against the model, if it is there.
#[cfg(feature = "candle")]
pub(super) fn check(recipe: &ScoreRecipe, definition: &Definition, inputs: &[Input]) -> Option<Diagnostic> {
    let by_model = definition.by_model()?;
    let mut layers = inputs.iter().filter(|input| input.role.strip_prefix(MODEL).is_some_and(|n| n.starts_with('.')));
    let model = layers.next()?;
    let checked = match layers.next() {
        Some(adapter) => Err(anyhow::anyhow!("`{}` stands on it: this scorer reads no adapters", adapter.name)),
        None => (by_model.check)(&recipe.params, &model.path),
    };
    let error = checked.err()?;
    Some(Diagnostic::new(format!("model `{}`: {error:#}", model.name)))
}

/// Without the engine models cannot be looked at.
#[cfg(not(feature = "candle"))]
pub(super) fn check(_: &ScoreRecipe, _: &Definition, _: &[Input]) -> Option<Diagnostic> {
    None
}

/// Says that the work cannot be done.
#[cfg(not(feature = "candle"))]
pub(super) fn execute(_: &ScoreRecipe, _: &Definition, _: &ByModel, _: &Context<'_>) -> anyhow::Result<()> {
    anyhow::bail!("this titer was built without the engine (feature `candle`)")
}

/// Scores all rows.
#[cfg(feature = "candle")]
pub(super) fn execute(
    recipe: &ScoreRecipe,
    definition: &Definition,
    by_model: &ByModel,
    context: &Context<'_>,
) -> anyhow::Result<()> {
    use super::rows::{Place, each};
    use crate::scorer::{Answer, Files, ModelScorer, Scored};
    use anyhow::{Context as _, ensure};

    let layers = context.layers(MODEL);
    let model = layers.first().context("input `model.0` is missing")?;
    ensure!(layers.len() == 1, "model `{}`: this scorer reads no adapters", model.name);
    let other = by_model.file.and_then(|(role, _)| context.role(role).next()).map(|input| input.path.as_path());
    let files = Files { model: &model.path, other };
    let scorer = (by_model.build)(recipe.params.clone(), &files);
    let mut scorer: Box<dyn ModelScorer> = scorer.with_context(|| format!("model `{}` cannot be used", model.name))?;
    let mut rows = Vec::new();
    let take = |_: &Place<'_>, answer: &Answer<'_>| scorer.take(answer);
    each(recipe, definition.references, context, take, |row, taken| {
        rows.push((row, taken.is_some()));
        Ok(())
    })?;
    let keys = scorer.keys();
    let mut values = context.earlier.answers().complete(&keys, |open, said| {
        let mut done = keys.len() - open.len();
        Ok(scorer.score(open, &mut |place, values| {
            said(place, values);
            done += 1;
            progress(context, done, keys.len());
        }))
    })?;
    let mut results = super::Results::create(context, definition, recipe)?;
    let mut values = values.drain(..);
    for (row, is_scored) in rows {
        let scored = if is_scored { values.next() } else { None };
        let scored = scored.map(|values| Scored { values, counts: Vec::new() });
        results.add(row, scored.as_ref())?;
    }
    results.finish(None, None)
}

#[cfg(feature = "candle")]
fn progress(context: &Context<'_>, done: usize, total: usize) {
    let (done, total) = (done as u64, total as u64);
    let (unit, note) = ("rows".to_string(), String::new());
    context.events.progress(crate::stage::Progress { done, total, unit, note });
}
