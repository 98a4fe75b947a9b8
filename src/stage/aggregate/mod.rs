//! The aggregate kind: rows of many instances and files → a tidy table of their groups, and figures of it.
//!
//! The way of the rows: read and joined ([`sources`]), columns derived and rows left out ([`rows`]), groups made and
//! summed up ([`group`]), groups held against each other ([`compare`]), tables written ([`write`]). What it takes more
//! than one such way to say is a chain of aggregates, each of which reads the table of the one before. Numbers are
//! computed by [`crate::statistics`], drawings and layouts are made by [`crate::report`].

mod compare;
mod figures;
mod group;
mod recipe;
mod rows;
mod sources;
#[cfg(test)]
mod tests;
mod write;

pub use recipe::AggregateRecipe;
pub(super) use recipe::{AggregateForm, stage};

use super::{Context, Input};
use crate::diagnostic::{Diagnostic, closest};
use crate::report::figure;
use anyhow::Context as _;
use std::fs;

/// Mistakes that would show themselves late: none can be seen before the rows are there.
pub fn check(_recipe: &AggregateRecipe, _inputs: &[Input]) -> Vec<Diagnostic> {
    Vec::new()
}

/// Axes and columns that groups are made of, each with its setting.
pub fn names(recipe: &AggregateRecipe) -> Vec<(&'static str, String)> {
    recipe.names()
}

/// Names of metrics that the scores will not have.
pub(super) fn check_metrics(recipe: &AggregateRecipe, known: &[String]) -> Vec<Diagnostic> {
    let known: Vec<String> = known.iter().chain(recipe.columns.keys()).chain(recipe.ratios.keys()).cloned().collect();
    let figures = recipe.figures.iter().map(|figure| ("a figure's `y`", &figure.y));
    let named = recipe.metrics.iter().map(|metrics| ("`metrics`", metrics)).chain(figures);
    let unknown = named.flat_map(|(setting, names)| {
        names.0.iter().filter(|name| group::select_one(name, &known).next().is_none()).map(move |name| (setting, name))
    });
    let known = || known.iter().map(String::as_str);
    unknown
        .map(|(setting, name)| {
            Diagnostic::new(format!("{setting} names `{name}`, which no score has")).suggest(name, known())
        })
        .collect()
}

/// Does the work: the files of the table, of the rows where they are kept, and of `figures/`.
pub fn execute(recipe: &AggregateRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let mut gathered = sources::read(recipe, context.inputs, context.events)?;
    rows::prepare(recipe, &mut gathered, context.events)?;
    let mut table = group::tabulate(recipe, &gathered)?;
    compare::compare(recipe, &mut table)?;
    write::table(recipe, &table, context.output)?;
    if recipe.rows {
        write::parquet("rows.parquet", &gathered.frame, context.output)?;
    }
    fs::create_dir_all(context.output.join("figures")).context("cannot make the folder `figures`")?;
    for (number, recipe) in recipe.figures.iter().enumerate() {
        let (name, chart) = figures::chart(number + 1, recipe, &table)?;
        let svg = chart.to_svg();
        write::text(context.output, &format!("figures/{name}.svg"), &svg)?;
        fs::write(context.output.join(format!("figures/{name}.png")), figure::to_png(&svg)?)?;
    }
    Ok(())
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
