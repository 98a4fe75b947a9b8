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
        let columns = read(rows, "raters", names, on, reading)?;
        let ratings = |place: usize| {
            let each = columns.iter().enumerate().map(|(rater, column)| (rater, column[place]));
            each.filter(|(_, rating)| !rating.is_nan()).collect()
        };
        Ok(Self { raters: names.to_vec(), items: (0..on.len()).map(ratings).collect() })
    }

    /// Of rows: each is a rating.
    pub fn of_rows(rows: &Rows<'_>, recipe: &Ratings, on: &[usize], reading: Reading) -> anyhow::Result<Self> {
        let values = read(rows, "value", std::slice::from_ref(&recipe.value), on, reading)?.remove(0);
        let who = rows.cells("rater", &recipe.rater)?;
        let raters: BTreeSet<&Cell> = on.iter().map(|row| &who[*row]).filter(|who| **who != Cell::Null).collect();
        let numbers: BTreeMap<&Cell, usize> = raters.iter().enumerate().map(|(number, cell)| (*cell, number)).collect();
        let mut items = Vec::new();
        for places in rows.places("item", &recipe.item, on)? {
            let mut ratings: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for place in places.into_iter().filter(|place| !values[*place].is_nan()) {
                let Some(rater) = numbers.get(&who[on[place]]) else { continue };
                let of_rater = ratings.entry(*rater).or_default();
                of_rater.push(values[place]);
                if of_rater.len() > 1 && reading != Reading::Numbers {
                    bail!(
                        "`{}` has two ratings of one item by `{}`: add the columns that tell them apart to `item`",
                        recipe.value,
                        who[on[place]].text()
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

/// Some rows of columns as numbers, NaN where there is nothing. Labels get numbers from 0, in all columns the same. A number
/// and the text that it is written as are one label: a column that has `Tie` somewhere has `1` as a text.
fn read(
    rows: &Rows<'_>,
    setting: &str,
    names: &[String],
    on: &[usize],
    reading: Reading,
) -> anyhow::Result<Vec<Vec<f64>>> {
    if reading != Reading::Labels {
        return names.iter().map(|name| rows.numbers(setting, name, on)).collect();
    }
    let columns = names.iter().map(|name| rows.cells(setting, name)).collect::<anyhow::Result<Vec<_>>>()?;
    let present =
        columns.iter().flat_map(|cells| on.iter().map(|row| &cells[*row])).filter(|cell| **cell != Cell::Null);
    let texts: BTreeSet<_> = present.map(Cell::text).collect();
    let texts: Vec<_> = texts.into_iter().collect();
    let number = |cell: &Cell| match cell {
        Cell::Null => f64::NAN,
        _ => texts.partition_point(|text| *text < cell.text()) as f64,
    };
    Ok(columns.iter().map(|cells| on.iter().map(|row| number(&cells[*row])).collect()).collect())
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
