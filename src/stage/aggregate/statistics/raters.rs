//! Who rated what how: of columns, one for each rater, or of rows, one for each rating.

use super::super::Names;
use super::recipe::Ratings;
use super::rows::Rows;
use crate::report::table::Cell;
use anyhow::bail;
use std::collections::{BTreeMap, BTreeSet};

/// Items with the ratings that they got.
pub(super) struct Rated {
    /// Names of the raters.
    pub raters: Vec<String>,
    /// Each item's ratings, by the number of the rater.
    pub items: Vec<Vec<(usize, f64)>>,
}

/// Two raters' ratings of one item, and its number.
#[derive(Clone, Copy)]
pub(super) struct Shared {
    pub item: usize,
    pub first: f64,
    pub second: f64,
}

/// How ratings are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As numbers; of several ratings of one item by one rater, the mean counts.
    Numbers,
    /// As numbers, one for each rater and item.
    LoneNumbers,
    /// As labels, one for each rater and item: each gets a number, equal ones the same.
    Labels,
}

impl Rated {
    /// Of columns: each row is an item.
    pub fn of_columns(rows: &Rows<'_>, names: &[String], on: &[usize], reading: Reading) -> anyhow::Result<Self> {
        let columns: Vec<Vec<f64>> = match reading {
            Reading::Labels => {
                let cells = names.iter().map(|name| rows.cells("raters", name)).collect::<anyhow::Result<Vec<_>>>()?;
                labels(&cells)
            }
            Reading::Numbers | Reading::LoneNumbers => {
                names.iter().map(|name| rows.numbers("raters", name)).collect::<Result<_, _>>()?
            }
        };
        let ratings = |row: &usize| {
            let each = columns.iter().enumerate().map(|(rater, column)| (rater, column[*row]));
            each.filter(|(_, rating)| !rating.is_nan()).collect()
        };
        Ok(Self { raters: names.to_vec(), items: on.iter().map(ratings).collect() })
    }

    /// Of rows: each is a rating.
    pub fn of_rows(rows: &Rows<'_>, recipe: &Ratings, on: &[usize], reading: Reading) -> anyhow::Result<Self> {
        let values = match reading {
            Reading::Labels => labels(&[rows.cells("value", &recipe.value)?]).remove(0),
            Reading::Numbers | Reading::LoneNumbers => rows.numbers("value", &recipe.value)?,
        };
        let who = rows.cells("rater", &recipe.rater)?;
        let raters: BTreeSet<&Cell> = on.iter().map(|row| &who[*row]).collect();
        let numbers: BTreeMap<&Cell, usize> = raters.iter().enumerate().map(|(number, cell)| (*cell, number)).collect();
        let mut items = Vec::new();
        for group in rows.groups("item", &recipe.item, on)?.into_values() {
            let mut ratings: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for row in group.into_iter().filter(|row| !values[*row].is_nan() && !matches!(who[*row], Cell::Null)) {
                let of_rater = ratings.entry(numbers[&who[row]]).or_default();
                of_rater.push(values[row]);
                if of_rater.len() > 1 && reading != Reading::Numbers {
                    bail!(
                        "`{}` has two ratings of one item by `{}`: add the columns that tell them apart to `item`",
                        recipe.value,
                        who[row].text()
                    );
                }
            }
            let mean = |(rater, values): (usize, Vec<f64>)| Some((rater, crate::statistics::mean(&values)?));
            items.push(ratings.into_iter().filter_map(mean).collect());
        }
        Ok(Self { raters: raters.iter().map(|cell| cell.text().into_owned()).collect(), items })
    }

    /// What each two raters share.
    pub fn pairs(&self) -> BTreeMap<(usize, usize), Vec<Shared>> {
        let mut pairs: BTreeMap<(usize, usize), Vec<Shared>> = BTreeMap::new();
        for (item, ratings) in self.items.iter().enumerate() {
            for (number, (b, second)) in ratings.iter().enumerate() {
                for (a, first) in &ratings[..number] {
                    pairs.entry((*a, *b)).or_default().push(Shared { item, first: *first, second: *second });
                }
            }
        }
        pairs
    }
}

/// Labels as numbers: those of equal texts are equal, in all columns. A number and the text that it is written as are one
/// label: a column that has `Tie` somewhere has `1` as a text.
fn labels(columns: &[&[Cell]]) -> Vec<Vec<f64>> {
    let present = columns.iter().flat_map(|cells| cells.iter()).filter(|cell| !matches!(cell, Cell::Null));
    let texts: BTreeSet<_> = present.map(Cell::text).collect();
    let texts: Vec<_> = texts.into_iter().collect();
    let number = |cell: &Cell| match cell {
        Cell::Null => f64::NAN,
        _ => texts.partition_point(|text| *text < cell.text()) as f64,
    };
    columns.iter().map(|cells| cells.iter().map(number).collect()).collect()
}

/// The columns of raters, with the one that they are held against at the end.
pub(super) fn with_reference(rows: &Rows<'_>, raters: &Names, to: Option<&String>) -> anyhow::Result<Vec<String>> {
    let mut names = rows.columns("raters", raters)?;
    if let Some(to) = to {
        rows.cells("to", to)?;
        names.retain(|name| name != to);
        names.push(to.clone());
    }
    Ok(names)
}
