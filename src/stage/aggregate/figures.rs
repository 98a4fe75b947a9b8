//! Figures: each an instance of its own beside the table that it is drawn of, so that restyling repeats no statistics.

use super::recipe::Figure;
use super::unknown_metric;
use crate::diagnostic::{Diagnostic, Span};
use crate::frame::{self, Formula, Frame, Wanted};
use crate::report::figure::{self, FigureRecipe, Source};
use crate::stage::{Context, Form, InputSource, InputSpec, Kind, Part, Recipe, Stage};
use anyhow::Context as _;
use std::fs;

/// Version of what is drawn; part of every key.
pub const VERSION: u32 = 1;
/// The role of the table that a figure is drawn of.
const TABLE: &str = "table";
/// What the names of a figure's outputs begin with, those of the others do not.
const FILE: &str = "figure";

/// Whether an output of the kind is a figure's.
pub(super) fn is_output(output: &str) -> bool {
    Kind::Aggregate.outputs().iter().any(|(name, path)| *name == output && path.starts_with(FILE))
}

/// The outputs of a figure.
pub fn outputs() -> Vec<(&'static str, &'static str)> {
    Kind::Aggregate.outputs().iter().copied().filter(|(name, _)| is_output(name)).collect()
}

/// The figures with a name each: where two would have the same, the later ones get a number.
pub(super) fn named(mut figures: Vec<Figure>) -> Vec<Figure> {
    for place in 0..figures.len() {
        let name = figures[place].recipe.file_name();
        let is_taken =
            |wanted: &str| figures[..place].iter().any(|figure| figure.recipe.name.as_deref() == Some(wanted));
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !is_taken(name));
        figures[place].recipe.name = free;
    }
    figures
}

/// The stage of one figure.
pub(super) fn stage(mut recipe: FigureRecipe, span: Span) -> Stage {
    let output = match recipe.source() {
        Source::Table => "table",
        Source::Statistics => "statistics",
        Source::Rows => "rows",
    };
    let source = InputSource::Sibling(output);
    let input = InputSpec { role: TABLE.to_string(), form: Form::File, source, gather: None, span };
    // The name tells the instance, and is nothing that is drawn.
    let name = recipe.name.take().unwrap_or_default();
    Stage { part: Some(Part::Figure(name)), ..Stage::new(Recipe::Figure(Box::new(recipe)), vec![input]) }
}

/// Names of metrics that the table will not have. Rows have columns besides, and statistics names of their own.
pub(in crate::stage) fn check_metrics(recipe: &FigureRecipe, known: &[String]) -> Vec<Diagnostic> {
    if recipe.source() != Source::Table {
        return Vec::new();
    }
    let named = recipe.metrics().into_iter();
    named.filter_map(|(setting, name)| unknown_metric(&format!("a figure's `{setting}`"), name, known)).collect()
}

/// Does the work: the figure's files.
pub fn execute(recipe: &FigureRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let input = context.one(TABLE)?;
    let frame = frame::read(&input.path, &input.name, Wanted::All)?.frame;
    let mask = |expression: &str| Formula::new(expression)?.mask(&frame);
    for (ending, bytes) in figure::draw(recipe, &Frame::to_table(&frame), &mask)? {
        let name = format!("{FILE}{ending}");
        fs::write(context.output.join(&name), bytes).with_context(|| format!("cannot write `{name}`"))?;
    }
    Ok(())
}
