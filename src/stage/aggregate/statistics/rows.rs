//! The rows that statistics are made of, and their columns.

use super::super::{Names, ROW, unknown};
use super::recipe::{IntervalRecipe, Method};
use crate::random::Random;
use crate::report::table::{Cell, Table};
use crate::statistics::{Units, bootstrap};
use anyhow::bail;
use std::collections::BTreeMap;

/// Rows by the values of the columns that group them.
pub(super) type Groups<'a> = BTreeMap<Vec<&'a Cell>, Vec<usize>>;

/// The rows of an aggregate, after joining, deriving and filtering.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Axes, row id, columns of the rows, and a column of numbers for each metric.
    pub table: &'a Table,
    /// The columns that tell rows apart: the axes and the row id.
    pub key: &'a [String],
    /// Which rows a `where` keeps.
    pub mask: &'a dyn Fn(&str) -> anyhow::Result<Vec<bool>>,
}

impl<'a> Rows<'a> {
    /// The numbers of the rows that count.
    pub fn kept(&self, filter: Option<&str>) -> anyhow::Result<Vec<usize>> {
        let all = 0..self.table.rows();
        let Some(filter) = filter else { return Ok(all.collect()) };
        let mask = (self.mask)(filter)?;
        let kept: Vec<usize> = all.filter(|row| mask[*row]).collect();
        if kept.is_empty() && self.table.rows() > 0 {
            bail!("no row is left after `where = \"{filter}\"`");
        }
        Ok(kept)
    }

    /// The cells of a column that `setting` names.
    pub fn cells(&self, setting: &str, name: &str) -> anyhow::Result<&'a [Cell]> {
        match self.table.column(name) {
            Some(column) => Ok(&column.cells),
            None => Err(unknown(&format!("`{setting}` names no column of the rows:"), name, self.table.names())),
        }
    }

    /// The names of the columns that `names` mean: a column, or all metrics of a scorer.
    pub fn columns(&self, setting: &str, names: &Names) -> anyhow::Result<Vec<String>> {
        let mut found: Vec<String> = Vec::new();
        for name in &names.0 {
            let is_meant = |column: &str| column.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'));
            let meant: Vec<&str> = match self.table.column(name) {
                Some(_) => vec![name],
                None => self.table.names().filter(|column| is_meant(column)).collect(),
            };
            if meant.is_empty() {
                self.cells(setting, name)?;
            }
            for column in meant {
                if !found.iter().any(|known| known == column) {
                    found.push(column.to_string());
                }
            }
        }
        Ok(found)
    }

    /// Some rows of a column as numbers, true as 1 and false as 0; NaN where there is none.
    pub fn numbers(&self, setting: &str, name: &str, rows: &[usize]) -> anyhow::Result<Vec<f64>> {
        let cells = self.cells(setting, name)?;
        let number = |row: &usize| match &cells[*row] {
            Cell::Null => Ok(f64::NAN),
            Cell::Bool(is_true) => Ok(f64::from(u8::from(*is_true))),
            cell @ (Cell::Int(_) | Cell::Float(_)) => Ok(cell.number().unwrap_or(f64::NAN)),
            Cell::Text(text) => {
                bail!("`{setting}` needs numbers, but column `{name}` has texts, such as {}", shortened(text))
            }
        };
        rows.iter().map(number).collect()
    }

    /// The groups of some rows by columns' values, in the order of the values; all rows are one group of no columns.
    pub fn groups(&self, setting: &str, names: &Names, rows: &[usize]) -> anyhow::Result<Groups<'a>> {
        let mut groups = self.grouped(setting, names, rows)?;
        groups.values_mut().flatten().for_each(|place| *place = rows[*place]);
        Ok(groups)
    }

    /// The same groups of the places of some rows in their list.
    pub fn places(&self, setting: &str, names: &Names, rows: &[usize]) -> anyhow::Result<Vec<Vec<usize>>> {
        Ok(self.grouped(setting, names, rows)?.into_values().collect())
    }

    fn grouped(&self, setting: &str, names: &Names, rows: &[usize]) -> anyhow::Result<Groups<'a>> {
        let columns: Vec<&[Cell]> = names.0.iter().map(|name| self.cells(setting, name)).collect::<Result<_, _>>()?;
        let mut groups = Groups::new();
        for (place, row) in rows.iter().enumerate() {
            groups.entry(columns.iter().map(|cells| &cells[*row]).collect()).or_default().push(place);
        }
        Ok(groups)
    }

    /// For each of some rows, the number of its group.
    pub fn codes(&self, setting: &str, names: &Names, rows: &[usize]) -> anyhow::Result<Vec<usize>> {
        let mut codes = vec![0; rows.len()];
        for (code, places) in self.places(setting, names, rows)?.into_iter().enumerate() {
            places.into_iter().for_each(|place| codes[place] = code);
        }
        Ok(codes)
    }

    /// The bootstrap interval of a statistic, which is a function of places in the list `rows`.
    pub fn interval(
        &self,
        recipe: &IntervalRecipe,
        rows: &[usize],
        mut statistic: impl FnMut(&[usize]) -> Option<f64>,
    ) -> anyhow::Result<Option<(f64, f64)>> {
        let all: Vec<usize> = (0..rows.len()).collect();
        let clusters = Names(recipe.unit.0.iter().filter(|name| *name != ROW).cloned().collect());
        let clusters = (!clusters.0.is_empty()).then(|| self.places("interval.unit", &clusters, rows)).transpose()?;
        let units = match &clusters {
            None => Units::Rows(&all),
            Some(clusters) if recipe.unit.0.iter().any(|name| name == ROW) => Units::Both(clusters),
            Some(clusters) => Units::Clusters(clusters),
        };
        let Some(value) = statistic(&all) else { return Ok(None) };
        let draws = units.bootstrap(Random::new(recipe.seed, "statistics interval"), recipe.draws, &mut statistic);
        Ok(match recipe.method {
            Method::Percentile => bootstrap::interval(draws),
            Method::Bca => bootstrap::bca(value, draws, &units.jackknife(&mut statistic)),
        })
    }
}

/// The beginning of a text, in quotation marks.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
