//! Rows as they were read → those that count, with the columns that the recipe derives.

use super::recipe::AggregateRecipe;
use super::sources::Gathered;
use crate::frame::{Evaluated, Formula, Frame};
use crate::row;
use crate::stage::Events;
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;

/// Derives columns, keeps what `where` keeps, then the first rows, then the first values of what is limited.
pub(super) fn prepare(recipe: &AggregateRecipe, gathered: &mut Gathered, events: &dyn Events) -> anyhow::Result<()> {
    for name in derive(recipe, &mut gathered.frame, events)? {
        if gathered.frame.is_numeric(&name) && !gathered.metrics.contains(&name) {
            gathered.metrics.push(name);
        }
    }
    let frame = &mut gathered.frame;
    if let Some(text) = &recipe.filter {
        let mask = Formula::new(text).and_then(|formula| formula.mask(frame)).context("`where`")?;
        *frame = frame.filter(&mask)?;
    }
    if let Some(first) = recipe.first {
        let axes = gathered.key.iter().filter(|name| *name != row::ID);
        let per: Vec<&str> = axes.chain(&recipe.first_per.0).map(String::as_str).collect();
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        let mask: Vec<bool> =
            frame.group(&per)?.groups.iter().map(|group| count(&mut counts, *group) < first).collect();
        *frame = frame.filter(&mask)?;
    }
    for (name, most) in &recipe.at_most {
        let by: Vec<&str> = recipe.by.0.iter().map(String::as_str).filter(|by| by != name).collect();
        let mask = first_values(frame, &by, name, *most)?;
        *frame = frame.filter(&mask)?;
    }
    Ok(())
}

/// Adds one to a count; how much it was before.
fn count(counts: &mut BTreeMap<u32, u64>, group: u32) -> u64 {
    let count = counts.entry(group).or_default();
    *count += 1;
    *count - 1
}

/// The rows of the first `most` values (in their order) of a column within each group.
fn first_values(frame: &Frame, by: &[&str], name: &str, most: u64) -> anyhow::Result<Vec<bool>> {
    let outer = frame.group(by)?;
    let inner = frame.group(&by.iter().copied().chain([name]).collect::<Vec<_>>())?;
    // Finer groups are numbered in the order of the coarser: how many of the same coarser one come before each?
    let mut rank = vec![0; inner.count];
    let mut counts = BTreeMap::new();
    for (group, row) in inner.firsts().into_iter().enumerate() {
        rank[group] = count(&mut counts, outer.groups[row]);
    }
    Ok(inner.groups.iter().map(|group| rank[*group as usize] < most).collect())
}

/// The derived columns, in an order in which each finds what it names; their names as they come.
fn derive(recipe: &AggregateRecipe, frame: &mut Frame, events: &dyn Events) -> anyhow::Result<Vec<String>> {
    let mut open: Vec<(&String, Vec<Formula>)> = Vec::new();
    for (name, texts) in &recipe.columns {
        let formulas = texts.0.iter().map(|text| Formula::new(text)).collect::<anyhow::Result<_>>();
        open.push((name, formulas.with_context(|| format!("column `{name}`"))?));
    }
    let mut made = Vec::new();
    while !open.is_empty() {
        let waits = |formulas: &[Formula]| {
            let mut names = formulas.iter().flat_map(Formula::names);
            names.any(|named| open.iter().any(|(name, _)| *name == named) && frame.column(named).is_none())
        };
        let Some(place) = open.iter().position(|(_, formulas)| !waits(formulas)) else {
            let names: Vec<&str> = open.iter().map(|(name, _)| name.as_str()).collect();
            bail!("the columns `{}` are derived of each other", names.join("`, `"));
        };
        let (name, formulas) = open.remove(place);
        let column = first_of(&formulas, frame, name, events).with_context(|| format!("column `{name}`"))?;
        frame.set(name, column.column());
        made.push(name.clone());
    }
    Ok(made)
}

/// Per row, the value of the first formula that has one.
fn first_of(formulas: &[Formula], frame: &Frame, name: &str, events: &dyn Events) -> anyhow::Result<Evaluated> {
    let mut found: Option<Evaluated> = None;
    for formula in formulas {
        let next = formula.evaluate(frame)?;
        if let Some(failure) = &next.failure {
            events.warn(format!("column `{name}` has no value in {} rows: {failure}", next.failed));
        }
        found = Some(match found {
            None => next,
            Some(before) => before.or(next),
        });
    }
    found.context("no expression is given")
}
