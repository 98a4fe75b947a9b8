//! Rows → groups → the tidy table: one line per group and metric.

use super::recipe::{AggregateRecipe, Interval, ROW};
use super::sources::Gathered;
use super::unknown;
use crate::diagnostic::{Diagnostic, Problems};
use crate::frame::{Frame, Grouping};
use crate::report::table::{Cell, Column, Table};
use crate::settings::{Decode, Names, Schema, Value};
use crate::statistics::bootstrap::{self, Draws, dot};
use crate::statistics::{mean, quantile, summarise};
use anyhow::bail;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Columns behind those of the groups.
pub(super) const COLUMNS: [&str; 7] = ["metric", "count", "nulls", "mean", "std", "ci_low", "ci_high"];

/// A further statistic of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Quantity {
    /// The value in the middle.
    Median,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The sum of the values.
    Sum,
    /// The standard deviation divided by the square root of the count.
    StandardError,
    /// The value below which so many hundredths of the values lie, by linear interpolation.
    Quantile(f64),
}

impl Quantity {
    const WORDS: [&'static str; 6] = ["median", "min", "max", "sum", "standard_error", "q25"];

    /// Its value, if the values have one.
    fn of(&self, values: &[f64]) -> Option<f64> {
        let sorted = || {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted
        };
        match self {
            Self::Median => quantile(&sorted(), 0.5),
            Self::Min => values.iter().copied().reduce(f64::min),
            Self::Max => values.iter().copied().reduce(f64::max),
            Self::Sum => Some(values.iter().sum()),
            Self::StandardError => summarise(values).std.map(|std| std / (values.len() as f64).sqrt()),
            Self::Quantile(hundredths) => quantile(&sorted(), hundredths / 100.0),
        }
    }
}

impl TryFrom<String> for Quantity {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Ok(match word.as_str() {
            "median" => Self::Median,
            "min" => Self::Min,
            "max" => Self::Max,
            "sum" => Self::Sum,
            "standard_error" => Self::StandardError,
            _ => {
                let hundredths = word.strip_prefix('q').and_then(|digits| digits.parse::<f64>().ok());
                match hundredths.filter(|hundredths| (0.0..=100.0).contains(hundredths)) {
                    Some(hundredths) => Self::Quantile(hundredths),
                    None => return Err(format!("`{word}` is no statistic")),
                }
            }
        })
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        match quantity {
            Quantity::Median => "median".to_string(),
            Quantity::Min => "min".to_string(),
            Quantity::Max => "max".to_string(),
            Quantity::Sum => "sum".to_string(),
            Quantity::StandardError => "standard_error".to_string(),
            Quantity::Quantile(hundredths) => format!("q{hundredths}"),
        }
    }
}

impl Decode for Quantity {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let word = String::decode(value, problems)?;
        let found = Self::try_from(word.clone());
        if let Err(problem) = &found {
            let problem = Diagnostic::at(value.span, problem.clone()).suggest(&word, Self::WORDS);
            problems.push(problem.hint("known are median, min, max, sum, standard_error, and quantiles such as q25"));
        }
        found.ok()
    }

    fn schema() -> Schema {
        json!({ "type": "string", "pattern": "^(median|min|max|sum|standard_error|q[0-9]+([.][0-9]+)?)$" })
    }
}

/// What is known of a metric in a group.
#[derive(Debug)]
struct Line {
    group: usize,
    metric: String,
    count: usize,
    nulls: usize,
    mean: Option<f64>,
    std: Option<f64>,
    interval: Option<(f64, f64)>,
    /// Of each of the recipe's further statistics.
    further: Vec<Option<f64>>,
}

/// The table of the recipe's groups.
pub(super) fn tabulate(recipe: &AggregateRecipe, gathered: &Gathered) -> anyhow::Result<Table> {
    let frame = &gathered.frame;
    if frame.rows() == 0 {
        let blame = recipe.filter.as_ref().map_or(String::new(), |text| format!(" after `where = \"{text}\"`"));
        bail!("no row is left to aggregate{blame}");
    }
    let metrics = metrics(recipe, gathered)?;
    let by: Vec<&str> = recipe.by.0.iter().map(String::as_str).collect();
    let groups = frame.group(&by)?;
    let units = Units::of(recipe, frame, &groups)?;
    let mut lines = Vec::new();
    for metric in &metrics {
        units.lines_of(recipe, metric, &frame.numbers(metric)?, &mut lines);
    }
    for (name, (upper, lower)) in &recipe.ratios {
        let part = |metric: &String| match frame.column(metric) {
            Some(_) => frame.numbers(metric),
            None => {
                Err(unknown("`ratios`: the rows have no metric", metric, gathered.metrics.iter().map(String::as_str)))
            }
        };
        units.ratios(recipe, name, [&part(upper)?, &part(lower)?], &mut lines);
    }
    lines.sort_by_key(|line| line.group);
    Ok(table(recipe, frame, &groups, &lines))
}

/// The metrics of the table: those that the recipe names, else all.
fn metrics(recipe: &AggregateRecipe, gathered: &Gathered) -> anyhow::Result<Vec<String>> {
    let frame = &gathered.frame;
    let known: Vec<String> = match (&recipe.metrics, gathered.metrics.is_empty()) {
        (None, false) => gathered.metrics.clone(),
        // Files: whatever is a number, but what tells rows apart and what groups are made of.
        (None, true) => {
            let named = recipe.keys().into_iter().map(|(_, name)| name).chain(gathered.key.iter().cloned());
            let named: BTreeSet<String> = named.collect();
            let is_key =
                |name: &str| named.contains(name) || recipe.join.iter().any(|join| join.0.iter().any(|j| j == name));
            frame.names().filter(|name| frame.is_numeric(name) && !is_key(name)).map(str::to_string).collect()
        }
        (Some(_), _) => {
            let others = frame.names().filter(|name| !gathered.metrics.iter().any(|metric| metric == name));
            gathered.metrics.iter().cloned().chain(others.map(str::to_string)).collect()
        }
    };
    let known: Vec<String> = known.into_iter().filter(|metric| frame.column(metric).is_some()).collect();
    let selected = select(recipe.metrics.as_ref(), &known)?;
    if selected.is_empty() && recipe.ratios.is_empty() {
        bail!("the rows have no metric: no scorer made one, and no column holds numbers");
    }
    Ok(selected)
}

/// What is counted: rows, or groups of rows that are averaged first.
struct Units<'a> {
    groups: &'a Grouping,
    /// Each row's unit, if rows are none. Units of one group stand together, groups in their order.
    fine: Option<Grouping>,
    /// The first unit of each group, and where the last group ends.
    firsts: Vec<usize>,
    /// Whether rows are drawn within units, too.
    is_nested: bool,
}

/// The rows' values, group after group, unit after unit.
struct Values<'a> {
    units: &'a Units<'a>,
    values: Vec<f64>,
    /// Where each unit (each group, if rows are units) begins in them, and where the last ends.
    offsets: Vec<usize>,
}

impl<'a> Units<'a> {
    fn of(recipe: &AggregateRecipe, frame: &Frame, groups: &'a Grouping) -> anyhow::Result<Self> {
        let outer = recipe.unit.0.first().filter(|unit| *unit != ROW);
        let by: Vec<&str> = recipe.by.0.iter().map(String::as_str).collect();
        let fine = outer.map(|unit| frame.group(&by.iter().copied().chain([unit.as_str()]).collect::<Vec<_>>()));
        let fine = fine.transpose()?;
        let mut firsts = vec![0; groups.count + 1];
        for row in fine.iter().flat_map(Grouping::firsts) {
            firsts[groups.groups[row] as usize + 1] += 1;
        }
        for group in 0..groups.count {
            firsts[group + 1] += firsts[group];
        }
        Ok(Self { groups, fine, firsts, is_nested: recipe.unit.0.len() > 1 })
    }

    fn gather(&'a self, values: &[f64]) -> Values<'a> {
        let (values, offsets) = self.fine.as_ref().unwrap_or(self.groups).gather(values);
        Values { units: self, values, offsets }
    }

    fn nulls(&self, values: &[f64]) -> Vec<usize> {
        let mut nulls = vec![0; self.groups.count];
        let missing = self.groups.groups.iter().zip(values).filter(|(_, value)| value.is_nan());
        missing.for_each(|(group, _)| nulls[*group as usize] += 1);
        nulls
    }

    fn lines_of(&self, recipe: &AggregateRecipe, metric: &str, values: &[f64], lines: &mut Vec<Line>) {
        let nulls = self.nulls(values);
        let values = self.gather(values);
        for (group, nulls) in nulls.into_iter().enumerate() {
            let units = values.means(group);
            let summary = summarise(&units);
            let interval = match recipe.interval {
                Interval::None => None,
                _ if self.is_nested => {
                    let drawn = bootstrap::nested_means(&values.clusters(group).collect::<Vec<_>>());
                    bootstrap::interval(drawn.into_iter().map(Some))
                }
                Interval::Student => summary.interval,
                Interval::Percentile => bootstrap::interval(drawn_means(&units)),
                Interval::Bca => {
                    summary.mean.and_then(|mean| bootstrap::bca(mean, drawn_means(&units), &left_out(&units)))
                }
            };
            let further = recipe.values.iter().map(|quantity| quantity.of(&units)).collect();
            let (mean, std, metric) = (summary.mean, summary.std, metric.to_string());
            lines.push(Line { group, metric, count: units.len(), nulls, mean, std, interval, further });
        }
    }

    /// The ratio of the means of two metrics, over the rows that have both; its interval is a bootstrap's, and it has no
    /// further statistics.
    fn ratios(&self, recipe: &AggregateRecipe, name: &str, [upper, lower]: [&[f64]; 2], lines: &mut Vec<Line>) {
        let both = |a: &[f64], b: &[f64]| -> Vec<f64> {
            a.iter().zip(b).map(|(a, b)| if b.is_nan() { f64::NAN } else { *a }).collect()
        };
        let (upper, lower) = (both(upper, lower), both(lower, upper));
        let nulls = self.nulls(&upper);
        let (upper, lower) = (self.gather(&upper), self.gather(&lower));
        for (group, nulls) in nulls.into_iter().enumerate() {
            let (upper, lower) = (upper.means(group), lower.means(group));
            let ratio = |upper: f64, lower: f64| Some(upper / lower).filter(|ratio| ratio.is_finite());
            let mean = ratio(upper.iter().sum(), lower.iter().sum());
            let drawn = || Draws::of(upper.len()).map(|weights| ratio(dot(weights, &upper), dot(weights, &lower)));
            let interval = if recipe.interval == Interval::None { None } else { bootstrap::interval(drawn()) };
            let (metric, further) = (name.to_string(), vec![None; recipe.values.len()]);
            lines.push(Line { group, metric, count: upper.len(), nulls, mean, std: None, interval, further });
        }
    }
}

impl Values<'_> {
    /// The values of each unit of a group.
    fn clusters(&self, group: usize) -> impl Iterator<Item = &[f64]> {
        let units = self.units.firsts[group]..self.units.firsts[group + 1];
        units.map(|unit| &self.values[self.offsets[unit]..self.offsets[unit + 1]])
    }

    /// The values of a group's units: of its rows, or the mean of each unit that has any.
    fn means(&self, group: usize) -> Cow<'_, [f64]> {
        match self.units.fine {
            None => Cow::Borrowed(&self.values[self.offsets[group]..self.offsets[group + 1]]),
            Some(_) => self.clusters(group).filter_map(mean).collect::<Vec<_>>().into(),
        }
    }
}

/// The means of a bootstrap's draws.
fn drawn_means(units: &[f64]) -> Vec<Option<f64>> {
    Draws::of(units.len()).map(|weights| {
        let drawn: f64 = weights.iter().sum();
        (drawn > 0.0).then(|| dot(weights, units) / drawn)
    })
}

/// The means without each unit in turn.
fn left_out(units: &[f64]) -> Vec<Option<f64>> {
    let (sum, rest) = (units.iter().sum::<f64>(), units.len() as f64 - 1.0);
    units.iter().map(|value| (rest > 0.0).then(|| (sum - value) / rest)).collect()
}

/// Lines as columns.
fn table(recipe: &AggregateRecipe, frame: &Frame, groups: &Grouping, lines: &[Line]) -> Table {
    let firsts = groups.firsts();
    let mut columns: Vec<Column> = Vec::new();
    for name in &recipe.by.0 {
        let place = frame.names().position(|known| known == name);
        let cell = |line: &Line| place.map_or(Cell::Null, |place| frame.cell(place, firsts[line.group]));
        columns.push(Column { name: name.clone(), cells: lines.iter().map(cell).collect() });
    }
    let float = |value: Option<f64>| value.map_or(Cell::Null, Cell::Float);
    let whole = |value: usize| Cell::Int(i64::try_from(value).unwrap_or(i64::MAX));
    let mut push = |name: &str, cell: &dyn Fn(&Line) -> Cell| {
        columns.push(Column { name: name.to_string(), cells: lines.iter().map(cell).collect() });
    };
    push("metric", &|line| Cell::Text(line.metric.clone()));
    push("count", &|line| whole(line.count));
    push("nulls", &|line| whole(line.nulls));
    push("mean", &|line| float(line.mean));
    push("std", &|line| float(line.std));
    push("ci_low", &|line| float(line.interval.map(|(low, _)| low)));
    push("ci_high", &|line| float(line.interval.map(|(_, high)| high)));
    for (place, quantity) in recipe.values.iter().enumerate() {
        push(&String::from(quantity.clone()), &|line| float(line.further[place]));
    }
    Table { columns }
}

/// The metrics that `names` means among `known`: a metric's name, or a scorer's for all of its metrics.
pub(super) fn select(names: Option<&Names>, known: &[String]) -> anyhow::Result<Vec<String>> {
    let Some(names) = names else { return Ok(known.to_vec()) };
    let mut selected: Vec<String> = Vec::new();
    for name in &names.0 {
        let mut found = select_one(name, known).peekable();
        if found.peek().is_none() {
            return Err(unknown("the rows have no metric", name, known.iter().map(String::as_str)));
        }
        selected.extend(found.filter(|metric| !selected.contains(metric)).cloned().collect::<Vec<_>>());
    }
    Ok(selected)
}

/// The metrics that one name means.
pub(super) fn select_one<'a>(name: &'a str, known: &'a [String]) -> impl Iterator<Item = &'a String> {
    known
        .iter()
        .filter(move |metric| metric.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}
