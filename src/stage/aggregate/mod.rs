//! The aggregate kind: rows of many instances and files → a tidy table of their groups, and figures of it.
//!
//! The way of the rows: read and joined (`sources`), columns derived and rows left out (`rows`), groups made and
//! summed up (`group`), groups held against each other (`compare`), statistics computed of the rows
//! ([`statistics`]), tables written (`write`), figures drawn of them ([`figures`]). What it takes more
//! than one such way to say is a chain of aggregates, each of which reads the table of the one before. Numbers are
//! computed by [`crate::statistics`], drawings and layouts are made by [`crate::report`].

mod compare;
pub mod figures;
mod group;
mod recipe;
mod rows;
mod sources;
pub mod statistics;
#[cfg(test)]
mod tests;
mod write;

pub use recipe::AggregateRecipe;
pub(super) use recipe::{AggregateForm, stages};

use super::{Context, Input};
use crate::diagnostic::{Diagnostic, closest};
use crate::frame::Formula;
use crate::report::table::Table;
use crate::settings::Names;
use recipe::ROW;
use sources::Gathered;

/// Mistakes that would show themselves late: none can be seen before the rows are there.
pub fn check(_recipe: &AggregateRecipe, _inputs: &[Input]) -> Vec<Diagnostic> {
    Vec::new()
}

/// Axes and columns that groups are made of, each with its setting.
pub fn names(recipe: &AggregateRecipe) -> Vec<(&'static str, String)> {
    recipe.names()
}

/// The metrics that it makes of those that it reads.
pub(super) fn metrics_made(recipe: &AggregateRecipe, read: Vec<String>) -> Vec<String> {
    read.into_iter().chain(recipe.columns.keys().cloned()).chain(recipe.ratios.keys().cloned()).collect()
}

/// Names of metrics that the scores will not have.
pub(super) fn check_metrics(recipe: &AggregateRecipe, known: &[String]) -> Vec<Diagnostic> {
    let known = metrics_made(recipe, known.to_vec());
    let named = recipe.metrics.iter().flat_map(|metrics| &metrics.0);
    named.filter_map(|name| unknown_metric("`metrics`", name, &known)).collect()
}

/// Says that nothing has a metric of that name, if so.
fn unknown_metric(setting: &str, name: &str, known: &[String]) -> Option<Diagnostic> {
    let problem = || Diagnostic::new(format!("{setting} names `{name}`, which no score has"));
    let is_unknown = group::select_one(name, known).next().is_none();
    is_unknown.then(|| problem().suggest(name, known.iter().map(String::as_str)))
}

/// Does the work: the files of the table, and of the rows where they are kept.
pub fn execute(recipe: &AggregateRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let mut gathered = sources::read(recipe, context.inputs, context.events)?;
    rows::prepare(recipe, &mut gathered, context.events)?;
    let mut table = group::tabulate(recipe, &gathered)?;
    compare::compare(recipe, &mut table)?;
    write::table(recipe, &table, context.output)?;
    if !recipe.statistics.is_empty() {
        write::statistics(&statistics_of(recipe, &gathered)?, context.output)?;
    }
    if recipe.rows {
        write::parquet("rows.parquet", &gathered.frame, context.output)?;
    }
    Ok(())
}

/// The table of the recipe's statistics.
fn statistics_of(recipe: &AggregateRecipe, gathered: &Gathered) -> anyhow::Result<Table> {
    let table = gathered.frame.to_table();
    let mask = |expression: &str| Formula::new(expression)?.mask(&gathered.frame);
    let rows = statistics::Rows { table: &table, key: &gathered.key, mask: &mask };
    statistics::tabulate(&recipe.statistics, &rows)
}

/// An error of a person's about a name that the scores do not have.
fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> anyhow::Error {
    let hint = match closest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.clone().next().is_none() => "they have none".to_string(),
        None => format!("known are {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    anyhow::anyhow!("{what} `{name}`: {hint}")
}
