//! Records → groups → the table's statistics.

use super::gather::{Record, Scores};
use super::{AggregateRecipe, Names, ROW, unknown};
use crate::report::tidy::{Label, Line, Table};
use crate::statistics::{mean, summarise};
use anyhow::{Context as _, bail};
use minijinja::value::Serde;
use minijinja::{Environment, Expression};
use std::collections::{BTreeMap, BTreeSet};

/// Steps that one evaluation of `where` may take: far more than an expression needs, and an end to one that has none.
const FUEL: u64 = 100_000;

/// One metric of one group.
#[derive(Default)]
struct Cell {
    /// Values by their unit.
    units: BTreeMap<Label, Vec<f64>>,
    nulls: usize,
}

/// The table of the recipe's groups.
pub(super) fn tabulate(recipe: &AggregateRecipe, scores: &Scores) -> anyhow::Result<Table> {
    let metrics = select(recipe.metrics.as_ref(), &scores.metrics)?;
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    let filter = recipe.filter.as_deref().map(|text| environment.compile_expression(text)).transpose()?;
    let mut cells: BTreeMap<(Vec<Label>, usize), Cell> = BTreeMap::new();
    for (number, record) in scores.records.iter().enumerate() {
        if !keeps(filter.as_ref(), record)? {
            continue;
        }
        let label = |name: &String| Label(record.values[name].clone());
        let group: Vec<Label> = recipe.by.0.iter().map(label).collect();
        // Rows are units by their number, so that every row is one.
        let unit = if recipe.unit == ROW { Label(number.into()) } else { label(&recipe.unit) };
        for (column, (source, _)) in metrics.iter().enumerate() {
            let Some(score) = record.scores.get(source) else { continue };
            let cell = cells.entry((group.clone(), column)).or_default();
            match score {
                Some(score) => cell.units.entry(unit.clone()).or_default().push(*score),
                None => cell.nulls += 1,
            }
        }
    }
    if cells.is_empty() {
        let blame = recipe.filter.as_ref().map_or(String::new(), |text| format!(" after `where = \"{text}\"`"));
        bail!("no row is left to aggregate{blame}");
    }
    let lines = cells.into_iter().map(|((group, column), cell)| Line {
        group: group.into_iter().map(|label| label.0).collect(),
        metric: metrics[column].1.clone(),
        nulls: cell.nulls,
        summary: summarise(&cell.units.values().filter_map(|values| mean(values)).collect::<Vec<f64>>()),
    });
    Ok(Table {
        by: recipe.by.0.clone(),
        unit: recipe.unit.clone(),
        lines: lines.collect(),
        metrics: metrics.into_iter().map(|(_, name)| name).collect(),
    })
}

/// The metrics that `names` means, with their numbers in `known`: a metric's name, or a scorer's for all of its metrics.
pub(super) fn select(names: Option<&Names>, known: &[String]) -> anyhow::Result<Vec<(usize, String)>> {
    let all = || known.iter().cloned().enumerate();
    let Some(names) = names else { return Ok(all().collect()) };
    let mut selected = Vec::new();
    for name in &names.0 {
        let before = selected.len();
        selected.extend(select_one(name, known).map(|(number, metric)| (number, metric.clone())));
        if selected.len() == before {
            return Err(unknown("the scores have no metric", name, known.iter().map(String::as_str)));
        }
    }
    let mut seen = BTreeSet::new();
    selected.retain(|(number, _)| seen.insert(*number));
    Ok(selected)
}

/// The metrics that one name means, with their numbers in `known`.
pub(super) fn select_one<'a>(name: &'a str, known: &'a [String]) -> impl Iterator<Item = (usize, &'a String)> {
    let is_meant =
        move |metric: &str| metric.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    known.iter().enumerate().filter(move |(_, metric)| is_meant(metric))
}

/// Whether the `where` of a recipe keeps the record.
fn keeps(filter: Option<&Expression<'_, '_>>, record: &Record) -> anyhow::Result<bool> {
    let Some(filter) = filter else { return Ok(true) };
    Ok(filter.eval(Serde(&record.values)).context("`where` of the aggregate")?.is_true())
}
