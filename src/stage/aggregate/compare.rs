//! Lines of the tidy table beside each other: differences to a level, smoothing, ranks.

use super::recipe::{AggregateRecipe, Rank, Smooth};
use super::unknown;
use crate::report::layout::Best;
use crate::report::table::{Cell, Column, Table};
use crate::statistics::{self, Ties};
use anyhow::Context as _;
use std::collections::BTreeMap;

/// Adds the columns of all comparisons that the recipe asks for.
pub(super) fn compare(recipe: &AggregateRecipe, table: &mut Table) -> anyhow::Result<()> {
    if !recipe.relative_to.is_empty() {
        relative(&recipe.relative_to, &recipe.by.0, table).context("`relative_to`")?;
    }
    if let Some(smooth) = &recipe.smooth {
        smoothed(smooth, &recipe.by.0, table);
    }
    if let Some(rank) = &recipe.rank {
        ranked(rank, &recipe.by.0, table);
    }
    Ok(())
}

/// Rows that agree in the metric and in all of `by` but `but`; each in the order of the table.
fn families(by: &[String], but: &[&str], table: &Table) -> Vec<Vec<usize>> {
    let keys = by.iter().map(String::as_str).filter(|name| !but.contains(name)).chain(["metric"]);
    let keys: Vec<&Column> = keys.filter_map(|name| table.column(name)).collect();
    let mut families: BTreeMap<Vec<&Cell>, Vec<usize>> = BTreeMap::new();
    for row in 0..table.rows() {
        families.entry(keys.iter().map(|column| &column.cells[row]).collect()).or_default().push(row);
    }
    families.into_values().collect()
}

fn means(table: &Table) -> Vec<Option<f64>> {
    table.column("mean").map_or(Vec::new(), |column| column.cells.iter().map(Cell::number).collect())
}

fn push(table: &mut Table, name: &str, values: Vec<Option<f64>>) {
    let cells = values.into_iter().map(|value| value.map_or(Cell::Null, Cell::Float)).collect();
    table.columns.push(Column { name: name.to_string(), cells });
}

fn relative(levels: &BTreeMap<String, serde_json::Value>, by: &[String], table: &mut Table) -> anyhow::Result<()> {
    let names: Vec<&str> = levels.keys().map(String::as_str).collect();
    for (name, level) in levels {
        let cells = || table.column(name).map_or(&[][..], |column| &column.cells);
        if !cells().iter().any(|cell| is_level(cell, level)) {
            let mut known: Vec<&Cell> = cells().iter().collect();
            known.sort();
            known.dedup();
            let known: Vec<String> = known.into_iter().map(|cell| cell.text().into_owned()).collect();
            let level = level.as_str().map_or_else(|| level.to_string(), str::to_string);
            return Err(unknown(&format!("`{name}` has no value"), &level, known.iter().map(String::as_str)));
        }
    }
    let means = means(table);
    let (mut difference, mut ratio) = (vec![None; table.rows()], vec![None; table.rows()]);
    let is_base = |row: usize| {
        levels.iter().all(|(name, level)| table.column(name).is_some_and(|column| is_level(&column.cells[row], level)))
    };
    for family in families(by, &names, table) {
        let Some(base) = family.iter().copied().find(|row| is_base(*row)).and_then(|row| means[row]) else { continue };
        for row in family {
            difference[row] = means[row].map(|mean| mean - base);
            ratio[row] = means[row].and_then(|mean| statistics::relative(base, mean));
        }
    }
    push(table, "difference", difference);
    push(table, "relative", ratio);
    Ok(())
}

fn is_level(cell: &Cell, level: &serde_json::Value) -> bool {
    match level {
        serde_json::Value::String(text) => cell.text() == text.as_str(),
        serde_json::Value::Number(number) => cell.number() == number.as_f64(),
        other => cell.to_json() == *other,
    }
}

fn smoothed(smooth: &Smooth, by: &[String], table: &mut Table) {
    let means = means(table);
    let mut smoothed = vec![None; table.rows()];
    for mut family in families(by, &[&smooth.over], table) {
        if let Some(over) = table.column(&smooth.over) {
            family.sort_by_key(|row| &over.cells[*row]);
        }
        let values: Vec<f64> = family.iter().map(|row| means[*row].unwrap_or(f64::NAN)).collect();
        for (row, value) in family.into_iter().zip(statistics::smooth(&values, smooth.alpha)) {
            smoothed[row] = Some(value).filter(|value| !value.is_nan());
        }
    }
    push(table, "smoothed", smoothed);
}

/// The average of the ranks that equal means share; 1 is the best.
fn ranked(rank: &Rank, by: &[String], table: &mut Table) {
    let means = means(table);
    let mut ranks = vec![None; table.rows()];
    for family in families(by, &[&rank.of], table) {
        let (rows, values): (Vec<usize>, Vec<f64>) = family.iter().filter_map(|row| Some((*row, means[*row]?))).unzip();
        let sign = if rank.best == Best::High { -1.0 } else { 1.0 };
        let values: Vec<f64> = values.into_iter().map(|mean| sign * mean).collect();
        for (row, value) in rows.into_iter().zip(statistics::ranks(&values, Ties::Average)) {
            ranks[row] = Some(value);
        }
    }
    push(table, "rank", ranks);
}
