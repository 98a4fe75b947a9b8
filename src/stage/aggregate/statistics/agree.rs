//! Agreement of raters.

use super::line::Line;
use super::raters::{Rated, Reading, Shared, with_reference};
use super::recipe::{AgreementKind, AgreementRecipe, Raters};
use super::rows::Rows;
use crate::statistics::{averaged, cohen_kappa, fleiss_kappa, krippendorff};

/// The lines of one group of rows.
pub(super) fn lines(recipe: &AgreementRecipe, rows: &Rows<'_>, on: &[usize]) -> anyhow::Result<Vec<Line>> {
    let reading = if recipe.needs_numbers() { Reading::LoneNumbers } else { Reading::Labels };
    let is_of_two = matches!(recipe.kind, AgreementKind::Accuracy | AgreementKind::Cohen);
    match &recipe.of {
        Raters::Columns(names, to) => {
            let names = with_reference(rows, names, to.as_ref())?;
            let rated = Rated::of_columns(rows, &names, on, reading)?;
            match is_of_two {
                true => each_two(recipe, rows, on, &rated, to.is_some()),
                false => Ok(vec![all_columns(recipe, rows, on, &rated)?]),
            }
        }
        Raters::Long(ratings) => {
            let rated = Rated::of_rows(rows, ratings, on, reading)?;
            let line = match is_of_two {
                true => mean_of_two(recipe, &rated, ratings.min_shared),
                false => together(recipe, &rated).0,
            };
            Ok(vec![Line { x: Some(ratings.value.clone()), y: Some(ratings.rater.clone()), ..line }])
        }
    }
}

/// The line of all raters, each with a column.
fn all_columns(recipe: &AgreementRecipe, rows: &Rows<'_>, on: &[usize], rated: &Rated) -> anyhow::Result<Line> {
    let (mut line, kept) = together(recipe, rated);
    if let Some(interval) = &recipe.interval {
        let origins: Vec<usize> = kept.iter().map(|item| on[*item]).collect();
        let of_places = |places: &[usize]| value(recipe, rated, places.iter().map(|place| kept[*place]));
        line.interval = rows.interval(interval, &origins, of_places)?;
    }
    Ok(line)
}

/// The mean over each two raters who share so many items.
fn mean_of_two(recipe: &AgreementRecipe, rated: &Rated, min_shared: usize) -> Line {
    let pairs = rated.pairs();
    let pairs = || pairs.values().filter(|shared| shared.len() >= min_shared);
    let mean = averaged(pairs().map(|shared| of_two(recipe, shared.iter())));
    Line {
        value: mean.mean,
        groups: Some(mean.defined),
        undefined: Some(mean.undefined),
        count: pairs().map(Vec::len).sum(),
        ..Line::default()
    }
}

/// A line for each two raters, or for each with the last.
fn each_two(
    recipe: &AgreementRecipe,
    rows: &Rows<'_>,
    on: &[usize],
    rated: &Rated,
    to_last: bool,
) -> anyhow::Result<Vec<Line>> {
    let pairs = rated.pairs();
    let last = rated.raters.len() - 1;
    let mut lines = Vec::new();
    for second in 0..rated.raters.len() {
        for first in (0..second).filter(|_| !to_last || second == last) {
            let shared = pairs.get(&(first, second)).map_or(&[][..], Vec::as_slice);
            let of_places = |places: &[usize]| of_two(recipe, places.iter().map(|place| &shared[*place]));
            let origins: Vec<usize> = shared.iter().map(|shared| on[shared.item]).collect();
            let interval = recipe.interval.as_ref().map(|interval| rows.interval(interval, &origins, of_places));
            lines.push(Line {
                x: Some(rated.raters[first].clone()),
                y: Some(rated.raters[second].clone()),
                value: of_two(recipe, shared.iter()),
                interval: interval.transpose()?.flatten(),
                count: shared.len(),
                ..Line::default()
            });
        }
    }
    Ok(lines)
}

/// Agreement of two raters.
fn of_two<'a>(recipe: &AgreementRecipe, shared: impl Iterator<Item = &'a Shared> + Clone) -> Option<f64> {
    if recipe.kind == AgreementKind::Accuracy {
        let equal: Vec<f64> = shared.map(|two| f64::from(u8::from(two.first == two.second))).collect();
        return crate::statistics::mean(&equal);
    }
    // Categories are those that the two use, in order.
    let mut known: Vec<f64> = shared.clone().flat_map(|two| [two.first, two.second]).collect();
    known.sort_by(f64::total_cmp);
    known.dedup();
    let place = |value: f64| known.partition_point(|other| *other < value);
    let pairs: Vec<(usize, usize)> = shared.map(|two| (place(two.first), place(two.second))).collect();
    cohen_kappa(&pairs, recipe.weights())
}

/// Agreement of all raters, with the items that count.
fn together(recipe: &AgreementRecipe, rated: &Rated) -> (Line, Vec<usize>) {
    let most = rated.items.iter().map(Vec::len).max().unwrap_or(0);
    let least = if recipe.kind == AgreementKind::Fleiss { most } else { 2 };
    let kept: Vec<usize> = (0..rated.items.len()).filter(|item| rated.items[*item].len() >= least).collect();
    let line = Line {
        value: value(recipe, rated, kept.iter().copied()),
        count: kept.len(),
        groups: Some(rated.raters.len()),
        undefined: Some(rated.items.len() - kept.len()),
        ..Line::default()
    };
    (line, kept)
}

fn value(recipe: &AgreementRecipe, rated: &Rated, items: impl Iterator<Item = usize>) -> Option<f64> {
    let values = items.map(|item| rated.items[item].iter().map(|(_, rating)| *rating).collect::<Vec<f64>>());
    if recipe.kind != AgreementKind::Fleiss {
        return krippendorff(&values.collect::<Vec<_>>(), recipe.level());
    }
    // Labels are numbers from 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the number of a label")]
    let counts = |values: Vec<f64>| {
        let mut counts = Vec::new();
        for label in values.into_iter().map(|label| label as usize) {
            counts.resize(counts.len().max(label + 1), 0);
            counts[label] += 1;
        }
        counts
    };
    fleiss_kappa(&values.map(counts).collect::<Vec<_>>())
}
