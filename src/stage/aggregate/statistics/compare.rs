//! Tests between systems that answered the same rows.

use super::super::{Names, unknown};
use super::line::Line;
use super::recipe::{TestKind, TestRecipe};
use super::rows::Rows;
use crate::random::Random;
use crate::report::table::Cell;
use crate::statistics::{McNemar, Tested, Units, bootstrap_p, holm, mean, permutation, student, wilcoxon};
use anyhow::bail;
use std::collections::{BTreeMap, BTreeSet};

/// Two systems, by their values in the column that is compared.
type Two<'a> = (&'a Cell, &'a Cell);

/// The systems that are held against each other, among the rows of all groups.
pub(super) fn systems<'a>(recipe: &TestRecipe, rows: &Rows<'a>, on: &[usize]) -> anyhow::Result<Vec<Two<'a>>> {
    let cells = rows.cells("compare", &recipe.compare)?;
    let systems: BTreeSet<&Cell> = on.iter().map(|row| &cells[*row]).filter(|cell| **cell != Cell::Null).collect();
    let systems: Vec<&Cell> = systems.into_iter().collect();
    let Some(to) = &recipe.to else {
        let each = |(number, second): (usize, &&'a Cell)| {
            let second = *second;
            systems[..number].iter().map(move |first| (*first, second)).collect::<Vec<_>>()
        };
        return Ok(systems.iter().enumerate().flat_map(each).collect());
    };
    let written = to.as_str().map_or_else(|| to.to_string(), str::to_string);
    let is_meant = |system: &Cell| match to.as_f64() {
        Some(number) => system.number() == Some(number),
        None => system.text() == written,
    };
    let Some(base) = systems.iter().find(|system| is_meant(system)) else {
        let known: Vec<_> = systems.iter().map(|system| system.text()).collect();
        let what = format!("`to` is no value of `{}`:", recipe.compare);
        return Err(unknown(&what, &written, known.iter().map(AsRef::as_ref)));
    };
    Ok(systems.iter().filter(|system| *system != base).map(|system| (*system, *base)).collect())
}

/// The lines of one group of rows.
pub(super) fn lines(
    recipe: &TestRecipe,
    rows: &Rows<'_>,
    on: &[usize],
    systems: &[Two<'_>],
) -> anyhow::Result<Vec<Line>> {
    let compared = rows.cells("compare", &recipe.compare)?;
    let others = || rows.key.iter().filter(|name| **name != recipe.compare).cloned().collect();
    let pair = recipe.pair.clone().unwrap_or_else(|| Names(others()));
    let pairs = rows.places("pair", &pair, on)?;
    let mut lines = Vec::new();
    for metric in rows.columns("x", &recipe.metrics)? {
        let values = rows.numbers("x", &metric, on)?;
        let mut of_system: BTreeMap<&Cell, Vec<f64>> = BTreeMap::new();
        for (number, pair) in pairs.iter().enumerate() {
            let mut found: BTreeMap<&Cell, Vec<f64>> = BTreeMap::new();
            for place in pair.iter().filter(|place| !values[**place].is_nan()) {
                found.entry(&compared[on[*place]]).or_default().push(values[*place]);
            }
            for (system, found) in found {
                let column = of_system.entry(system).or_insert_with(|| vec![f64::NAN; pairs.len()]);
                column[number] = mean(&found).unwrap_or(f64::NAN);
            }
        }
        let none = vec![f64::NAN; pairs.len()];
        for (first, second) in systems {
            let side = |system: &Cell| of_system.get(system).unwrap_or(&none);
            let matched = Matched::new(side(first), side(second), |pair| on[pairs[pair][0]]);
            lines.push(Line {
                metric: Some(metric.clone()),
                x: Some(first.text().into_owned()),
                y: Some(second.text().into_owned()),
                ..matched.line(recipe, rows, &metric)?
            });
        }
    }
    Ok(lines)
}

/// What both systems have.
struct Matched {
    first: Vec<f64>,
    second: Vec<f64>,
    differences: Vec<f64>,
    /// A row of each pair.
    origins: Vec<usize>,
}

impl Matched {
    /// The pairs of which both sides are there; `origin` is a row of a pair.
    fn new(first: &[f64], second: &[f64], origin: impl Fn(usize) -> usize) -> Self {
        let both = (0..first.len()).filter(|pair| !first[*pair].is_nan() && !second[*pair].is_nan());
        let side = |values: &[f64]| both.clone().map(|pair| values[pair]).collect();
        Self {
            first: side(first),
            second: side(second),
            differences: both.clone().map(|pair| first[pair] - second[pair]).collect(),
            origins: both.map(origin).collect(),
        }
    }

    fn line(&self, recipe: &TestRecipe, rows: &Rows<'_>, metric: &str) -> anyhow::Result<Line> {
        let test = self.test(recipe, metric)?;
        let of_places =
            |places: &[usize]| mean(&places.iter().map(|place| self.differences[*place]).collect::<Vec<_>>());
        let interval = recipe.interval.as_ref().map(|interval| rows.interval(interval, &self.origins, of_places));
        Ok(Line {
            value: test.map(|test| test.value),
            p: test.and_then(|test| test.p),
            difference: mean(&self.differences),
            interval: interval.transpose()?.flatten(),
            count: self.differences.len(),
            draws: recipe.draws,
            ..Line::default()
        })
    }

    fn test(&self, recipe: &TestRecipe, metric: &str) -> anyhow::Result<Option<Tested>> {
        let draws = recipe.draws.unwrap_or(0);
        let random = |purpose: &str| Random::new(recipe.seed.unwrap_or(0), purpose);
        Ok(match recipe.kind {
            TestKind::PairedT => student(&self.differences),
            TestKind::Wilcoxon => wilcoxon(&self.differences),
            TestKind::Permutation => permutation(&self.differences, random("statistics permutation"), draws),
            TestKind::PairedBootstrap => self.bootstrap(random("statistics paired bootstrap"), draws),
            TestKind::McNemar => {
                let (only_first, only_second) = self.right(metric)?;
                let test = if recipe.exact == Some(false) { McNemar::Corrected } else { McNemar::Exact };
                test.test(only_first, only_second)
            }
        })
    }

    fn bootstrap(&self, random: Random, draws: u64) -> Option<Tested> {
        let rows: Vec<usize> = (0..self.differences.len()).collect();
        let sum = |rows: &[usize]| Some(rows.iter().map(|row| self.differences[*row]).sum::<f64>() / rows.len() as f64);
        let drawn: Vec<f64> = Units::Rows(&rows).bootstrap(random, draws, sum).into_iter().flatten().collect();
        let value = mean(&self.differences)?;
        Some(Tested { value, p: bootstrap_p(value, &drawn) })
    }

    /// How many rows only the first system got right, and only the second.
    fn right(&self, metric: &str) -> anyhow::Result<(u64, u64)> {
        if let Some(value) = self.first.iter().chain(&self.second).find(|value| **value != 0.0 && **value != 1.0) {
            bail!(
                "`mcnemar` counts right and wrong answers, 1 and 0, but `{metric}` is {value} in a pair: `wilcoxon` or \
                 `permutation` take any numbers"
            );
        }
        let count = |difference: f64| self.differences.iter().filter(|found| **found == difference).count() as u64;
        Ok((count(1.0), count(-1.0)))
    }
}

/// Adjusts the p-values of one family: all lines of one statistic.
pub(super) fn adjust(lines: &mut [Line]) {
    let p: Vec<f64> = lines.iter().filter_map(|line| line.p).collect();
    let adjusted = holm(&p);
    lines.iter_mut().filter(|line| line.p.is_some()).zip(adjusted).for_each(|(line, p)| line.p_holm = Some(p));
}
