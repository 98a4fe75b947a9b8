//! Correlations of columns, and of raters who share items.

use super::line::Line;
use super::raters::{Rated, Reading};
use super::recipe::{CorrelationKind, CorrelationRecipe, Pairs, Ratings, SampleRecipe};
use super::rows::Rows;
use crate::random::Random;
use crate::statistics::{Averaged, Sampling, Ties, averaged, bootstrap, complete, mean, ranks};
use std::collections::BTreeMap;

/// Pairs of numbers, by their places, and how they are grouped.
struct Data {
    x: Vec<f64>,
    y: Vec<f64>,
    /// The group of each place that correlations are computed within.
    within: Option<Vec<usize>>,
    /// The group of each place whose means are correlated.
    means_of: Option<Vec<usize>>,
    /// How many groups there are to compute within, with those that have no pair.
    groups: usize,
}

/// The lines of one group of rows.
pub(super) fn lines(recipe: &CorrelationRecipe, rows: &Rows<'_>, on: &[usize]) -> anyhow::Result<Vec<Line>> {
    match &recipe.of {
        Pairs::Columns(x, y) => {
            let x = rows.columns("x", x)?;
            match y {
                Some(y) => {
                    let y = rows.columns("y", y)?;
                    let pairs = x.iter().flat_map(|x| y.iter().map(move |y| (x, y)));
                    let mut columns = Columns::new(recipe, rows, on);
                    pairs.map(|(x, y)| columns.line(x, y)).collect()
                }
                None => matrix(&mut Columns::new(recipe, rows, on), &x),
            }
        }
        Pairs::Raters(ratings) => Ok(vec![of_raters(recipe, ratings, rows, on)?]),
    }
}

/// Each two of the columns, both ways round, and each with itself.
fn matrix(columns: &mut Columns<'_>, names: &[String]) -> anyhow::Result<Vec<Line>> {
    let mut found: BTreeMap<(usize, usize), Line> = BTreeMap::new();
    for (a, x) in names.iter().enumerate() {
        for (b, y) in names.iter().enumerate().skip(a) {
            let line = columns.line(x, y)?;
            // A correlation does not know which side is which.
            found.insert((b, a), Line { x: line.y.clone(), y: line.x.clone(), ..line.clone() });
            found.insert((a, b), line);
        }
    }
    Ok(found.into_values().collect())
}

/// The columns of one group of rows; each is read once.
struct Columns<'a> {
    recipe: &'a CorrelationRecipe,
    rows: &'a Rows<'a>,
    on: &'a [usize],
    read: BTreeMap<String, Vec<f64>>,
}

impl<'a> Columns<'a> {
    fn new(recipe: &'a CorrelationRecipe, rows: &'a Rows<'a>, on: &'a [usize]) -> Self {
        Self { recipe, rows, on, read: BTreeMap::new() }
    }

    fn read(&mut self, setting: &str, name: &str) -> anyhow::Result<()> {
        if !self.read.contains_key(name) {
            self.read.insert(name.to_string(), self.rows.numbers(setting, name, self.on)?);
        }
        Ok(())
    }

    fn line(&mut self, x: &str, y: &str) -> anyhow::Result<Line> {
        self.read("x", x)?;
        self.read("y", y)?;
        let (recipe, rows) = (self.recipe, self.rows);
        let (all_x, all_y) = (&self.read[x], &self.read[y]);
        let is_complete = |place: &usize| !all_x[*place].is_nan() && !all_y[*place].is_nan();
        let complete = (0..self.on.len()).filter(is_complete);
        let count = complete.clone().count();
        // A group's mean is of all that the column has there, whatever the other has.
        let places: Vec<usize> = match recipe.means_of.0.is_empty() {
            true => complete.collect(),
            false => (0..self.on.len()).collect(),
        };
        let origins: Vec<usize> = places.iter().map(|place| self.on[*place]).collect();
        let within = (!recipe.within.0.is_empty()).then(|| rows.codes("within", &recipe.within, &origins));
        let means_of = (!recipe.means_of.0.is_empty()).then(|| rows.codes("means_of", &recipe.means_of, &origins));
        let data = Data {
            x: places.iter().map(|place| all_x[*place]).collect(),
            y: places.iter().map(|place| all_y[*place]).collect(),
            within: within.transpose()?,
            means_of: means_of.transpose()?,
            groups: rows.places("within", &recipe.within, self.on)?.len(),
        };
        let data = data.ranked(recipe);
        let mut line = match &recipe.sample {
            Some(sample) => sampled(recipe, sample, &data, &rows.places("sample.group", &sample.group, &origins)?),
            None => whole(recipe, &data),
        };
        if let (Some(interval), None) = (&recipe.interval, &recipe.sample) {
            line.interval = rows.interval(interval, &origins, |places| data.value(recipe, places).mean)?;
        }
        Ok(Line { x: Some(x.to_string()), y: Some(y.to_string()), count, ..line })
    }
}

/// What raters who share items make of them: each two are a group.
fn of_raters(recipe: &CorrelationRecipe, ratings: &Ratings, rows: &Rows<'_>, on: &[usize]) -> anyhow::Result<Line> {
    let pairs = Rated::of_rows(rows, ratings, on, Reading::Numbers)?.pairs();
    let pairs: Vec<_> = pairs.into_values().filter(|shared| shared.len() >= ratings.min_shared).collect();
    let each = || pairs.iter().enumerate().flat_map(|(pair, shared)| shared.iter().map(move |two| (pair, two)));
    let data = Data {
        x: each().map(|(_, two)| two.first).collect(),
        y: each().map(|(_, two)| two.second).collect(),
        within: Some(each().map(|(pair, _)| pair).collect()),
        means_of: None,
        groups: pairs.len(),
    };
    let line = match &recipe.sample {
        Some(sample) => {
            let mut groups = vec![Vec::new(); pairs.len()];
            each().enumerate().for_each(|(place, (pair, _))| groups[pair].push(place));
            sampled(recipe, sample, &data, &groups)
        }
        None => whole(recipe, &data),
    };
    let (x, y) = (Some(ratings.value.clone()), Some(ratings.rater.clone()));
    Ok(Line { x, y, count: data.x.len(), groups: line.groups.or(Some(pairs.len())), ..line })
}

/// The correlation of all pairs.
fn whole(recipe: &CorrelationRecipe, data: &Data) -> Line {
    let all: Vec<usize> = (0..data.x.len()).collect();
    if data.within.is_none() {
        let (x, y) = data.sides(&all);
        let test = recipe.kind.function().test(&x, &y);
        let groups = data.means_of.is_some().then(|| complete(&x, &y).0.len());
        let (value, p) = (test.map(|test| test.value), test.and_then(|test| test.p));
        return Line { value, p, groups, ..Line::default() };
    }
    let mean = data.value(recipe, &all);
    let undefined = Some(data.groups - mean.defined);
    Line { value: mean.mean, groups: Some(mean.defined), undefined, ..Line::default() }
}

/// The mean over random samples out of groups.
fn sampled(recipe: &CorrelationRecipe, sample: &SampleRecipe, data: &Data, groups: &[Vec<usize>]) -> Line {
    let sampling =
        Sampling { draws: sample.draws, size: sample.size, replace: sample.replace, one_group: sample.one_group };
    let random = Random::new(sample.seed, "statistics sample");
    let values = sampling.map(random, groups, |places| data.value(recipe, places).mean);
    let mean = averaged(values.iter().copied());
    Line {
        value: mean.mean,
        draws: Some(values.len() as u64),
        undefined: Some(mean.undefined),
        interval: recipe.interval.as_ref().and_then(|_| bootstrap::interval(values)),
        ..Line::default()
    }
}

impl Data {
    /// The same for Spearman's correlation, and quicker where many draws are made: ranks in place of values.
    fn ranked(mut self, recipe: &CorrelationRecipe) -> Self {
        if recipe.kind != CorrelationKind::Spearman || self.means_of.is_some() {
            return self;
        }
        let all: Vec<usize> = (0..self.x.len()).collect();
        let places = self.within.as_ref().map_or(all.clone(), |groups| sorted(&all, groups));
        let is_one = |a: &usize, b: &usize| self.within.as_ref().is_none_or(|groups| groups[*a] == groups[*b]);
        for side in [&mut self.x, &mut self.y] {
            for places in places.chunk_by(is_one) {
                let values: Vec<f64> = places.iter().map(|place| side[*place]).collect();
                let ranks = ranks(&values, Ties::Dense);
                places.iter().zip(ranks).for_each(|(place, rank)| side[*place] = rank);
            }
        }
        self
    }

    /// The correlation of some places, or its mean over the groups that they lie in.
    fn value(&self, recipe: &CorrelationRecipe, places: &[usize]) -> Averaged {
        let correlation = |places: &[usize]| {
            let (x, y) = self.sides(places);
            recipe.kind.function().of(&x, &y)
        };
        match &self.within {
            None => averaged([correlation(places)]),
            Some(groups) => {
                let sorted = sorted(places, groups);
                averaged(sorted.chunk_by(|a, b| groups[*a] == groups[*b]).map(correlation))
            }
        }
    }

    /// Both sides of what is correlated.
    fn sides(&self, places: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let side =
            |values: &[f64], places: &[usize]| -> Vec<f64> { places.iter().map(|place| values[*place]).collect() };
        let Some(groups) = &self.means_of else { return (side(&self.x, places), side(&self.y, places)) };
        let sorted = sorted(places, groups);
        let of_group = |values: &[f64], places: &[usize]| {
            let present: Vec<f64> = side(values, places).into_iter().filter(|value| !value.is_nan()).collect();
            mean(&present).unwrap_or(f64::NAN)
        };
        let means = sorted.chunk_by(|a, b| groups[*a] == groups[*b]);
        means.map(|places| (of_group(&self.x, places), of_group(&self.y, places))).unzip()
    }
}

/// Places in the order of their groups, which are numbers: sorted by counting, as each of many draws needs it.
fn sorted(places: &[usize], groups: &[usize]) -> Vec<usize> {
    let count = places.iter().map(|place| groups[*place] + 1).max().unwrap_or(0);
    let mut ends = vec![0; count];
    places.iter().for_each(|place| ends[groups[*place]] += 1);
    let mut end = 0;
    for place in &mut ends {
        end += *place;
        *place = end;
    }
    let mut sorted = vec![0; places.len()];
    for place in places.iter().rev() {
        let end = &mut ends[groups[*place]];
        *end -= 1;
        sorted[*end] = *place;
    }
    sorted
}
