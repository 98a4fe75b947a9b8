//! The values of all scored rows, summed up: means with standard errors and intervals, and the metrics of all rows together.

use crate::scorer::{Definition, Metric, Scored, Scorer};
use crate::statistics::bootstrap::{Draws, dot, interval};
use crate::statistics::{self, CONFIDENCE};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What the scored rows have.
#[derive(Debug)]
pub(super) struct Sums {
    /// Per metric, a value of each scored row; `None` where it says nothing of it.
    values: Vec<Vec<Option<f64>>>,
    /// What the rows add to the metrics of all of them, one row's counts after the other's.
    counts: Vec<f64>,
    /// Scored rows.
    rows: usize,
    /// The unit of each row, where rows belong together.
    units: Vec<usize>,
    clusters: BTreeMap<String, usize>,
}

impl Sums {
    /// Of no rows yet.
    pub(super) fn new(metrics: usize) -> Self {
        let values = vec![Vec::new(); metrics];
        Self { values, counts: Vec::new(), rows: 0, units: Vec::new(), clusters: BTreeMap::new() }
    }

    /// One more row, which belongs to the rows of `cluster`, if there is one.
    pub(super) fn add(&mut self, scored: &Scored, cluster: Option<String>) {
        for (values, value) in self.values.iter_mut().zip(&scored.values) {
            values.push(*value);
        }
        self.counts.extend(&scored.counts);
        self.rows += 1;
        if let Some(cluster) = cluster {
            let next = self.clusters.len();
            self.units.push(*self.clusters.entry(cluster).or_insert(next));
        }
    }

    /// The summary. `unit` is the column whose values tell which rows belong together.
    pub(super) fn summary(
        &self,
        metrics: &[String],
        definition: &Definition,
        scorer: Option<&dyn Scorer>,
        rows: usize,
        unit: Option<&str>,
    ) -> Value {
        let units = if unit.is_some() { self.clusters.len() } else { self.rows };
        let draws = Draws::of(units);
        let metrics: Map<String, Value> = metrics.iter().cloned().zip(self.means(draws)).collect();
        let mut summary = json!({
            "rows": rows,
            "scored": self.rows,
            "intervals": {
                "method": "percentile bootstrap",
                "confidence": CONFIDENCE,
                "draws": draws.count(),
                "unit": unit.unwrap_or("row"),
                "units": units,
            },
            "metrics": metrics,
        });
        let Some(scorer) = scorer else { return summary };
        if !definition.pooled.is_empty() {
            summary["pooled"] = self.pooled(definition.pooled, scorer, draws).into();
        }
        let details = scorer.details(&self.sum(scorer, |_| 1.0));
        if !details.is_null() {
            summary["details"] = details;
        }
        summary
    }

    /// Per metric: how many rows have a value, their mean and how sure it is.
    fn means(&self, draws: Draws) -> Vec<Value> {
        let columns: Vec<Column> = self.values.iter().map(|values| self.column(values)).collect();
        let drawn = draws.map(|weights| columns.iter().map(|column| column.mean(weights)).collect::<Vec<_>>());
        let describe = |(number, (values, column)): (usize, (&Vec<Option<f64>>, &Column))| {
            let present: Vec<f64> = values.iter().copied().flatten().collect();
            let interval = interval(drawn.iter().map(|means| means[number]));
            json!({
                "count": present.len(),
                "nulls": values.len() - present.len(),
                "mean": statistics::mean(&present),
                "standard_error": column.standard_error(present.len()),
                "interval": interval.map(|(low, high)| [low, high]),
            })
        };
        self.values.iter().zip(&columns).enumerate().map(describe).collect()
    }

    /// Sums of one metric over the rows of each unit.
    fn column(&self, values: &[Option<f64>]) -> Column {
        let units = if self.units.is_empty() { values.len() } else { self.clusters.len() };
        let mut column = Column { sums: vec![0.0; units], counts: vec![0.0; units] };
        for (row, value) in values.iter().enumerate() {
            if let Some(value) = value {
                let unit = self.units.get(row).copied().unwrap_or(row);
                column.sums[unit] += value;
                column.counts[unit] += 1.0;
            }
        }
        column
    }

    /// The metrics of all rows together.
    fn pooled(&self, metrics: &[Metric], scorer: &dyn Scorer, draws: Draws) -> Map<String, Value> {
        let values = scorer.pool(&self.sum(scorer, |_| 1.0));
        let weight = |weights: &[f64], row: usize| weights[self.units.get(row).copied().unwrap_or(row)];
        let drawn = draws.map(|weights| scorer.pool(&self.sum(scorer, |row| weight(weights, row))));
        let describe = |(number, metric): (usize, &Metric)| {
            let drawn = || drawn.iter().map(|values| values.get(number).copied().flatten());
            let summary = json!({
                "value": values.get(number).copied().flatten(),
                "standard_error": statistics::summarise(&drawn().flatten().collect::<Vec<_>>()).std,
                "interval": interval(drawn()).map(|(low, high)| [low, high]),
            });
            (metric.name.to_string(), summary)
        };
        metrics.iter().enumerate().map(describe).collect()
    }

    /// What the rows count together, each so many times as `weight` says.
    fn sum(&self, scorer: &dyn Scorer, weight: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut sums = Vec::new();
        let Some(width) = self.counts.len().checked_div(self.rows).filter(|width| *width > 0) else { return sums };
        for (row, counts) in self.counts.chunks(width).enumerate() {
            let weight = weight(row);
            if weight > 0.0 {
                scorer.add(&mut sums, counts, weight);
            }
        }
        sums
    }
}

/// One metric, per unit.
#[derive(Debug)]
struct Column {
    /// The sum of its rows' values, and how many have one.
    sums: Vec<f64>,
    counts: Vec<f64>,
}

impl Column {
    /// The mean over rows, units weighted.
    fn mean(&self, weights: &[f64]) -> Option<f64> {
        let count = dot(weights, &self.counts);
        (count > 0.0).then(|| dot(weights, &self.sums) / count)
    }

    /// The standard error of the mean over `rows` rows, of units that are independent of each other (the sandwich estimator
    /// of a ratio; where every unit is one row it is the standard deviation divided by √rows).
    fn standard_error(&self, rows: usize) -> Option<f64> {
        let units = self.counts.iter().filter(|count| **count > 0.0).count() as f64;
        if units < 2.0 {
            return None;
        }
        let mean = self.sums.iter().sum::<f64>() / rows as f64;
        let squares = self.sums.iter().zip(&self.counts).map(|(sum, count)| (sum - count * mean).powi(2));
        Some((units / (units - 1.0) * squares.sum::<f64>()).sqrt() / rows as f64)
    }
}
