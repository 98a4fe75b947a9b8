//! Points of two metrics: how one goes with the other.

use super::data::{Data, Value};
use super::grid::{self, Around, Draft};
use super::line::{check_place, check_y_scale};
use super::{Entry, Figure, FigureKind, Kind, Mark, Place, Regression, Sample, Size, Source};
use anyhow::ensure;
use statrs::distribution::{ContinuousCDF as _, StudentsT};
use std::collections::BTreeMap;

pub(super) const KIND: Kind = Kind {
    kind: FigureKind::Scatter,
    of: Source::Rows,
    settings: &["scale", "y_scale", "value", "reference", "size", "regression", "edges"],
    x: Place::Metric,
    y: Place::Metric,
    build,
};

/// Radius of a point, and of the least and the greatest whose size says something.
const RADIUS: f64 = 2.3;
const LEAST_RADIUS: f64 = 1.6;
const GREATEST_RADIUS: f64 = 9.0;

/// More different points are laid on a grid of so many places along each axis, finer than a point.
const MANY: usize = 10_000;
const PLACES: f64 = 300.0;

/// Bars at an edge.
const BINS: usize = 20;

/// One point, and how many are equal.
struct Point {
    x: f64,
    y: f64,
    count: usize,
}

fn build(data: &Data<'_>) -> anyhow::Result<Figure> {
    ensure!(data.metrics.len() == 2 || data.table.rows() == 0, "`x` and `y` must be two different metrics, one each");
    let (xs, values) = pairs(data)?;
    let panels = grid::panels(data, &values, 0.0)?;
    let series = data.series(&values)?;
    let count = series.labels.len();
    let mut clouds: Vec<Vec<(f64, f64)>> = vec![Vec::new(); panels.count() * count];
    for ((number, value), x) in values.iter().enumerate().zip(&xs) {
        check_place(data.recipe.scale, "scale", &data.metrics[0], *x)?;
        check_y_scale(data, value)?;
        clouds[panels.of[number] * count + series.of[number]].push((*x, value.value));
    }
    let points: Vec<Vec<Point>> = clouds.iter().map(|cloud| distinct(cloud)).collect();
    let total: usize = points.iter().map(Vec::len).sum();
    let points = if total > MANY { clouds.iter().map(|cloud| distinct(&on_grid(cloud))).collect() } else { points };
    let most = points.iter().flatten().map(|point| point.count).max().unwrap_or(1);
    let mut drafts = panels.drafts();
    for (number, points) in points.iter().enumerate() {
        let draft = &mut drafts[number / count];
        draft.x_values.extend(points.iter().map(|point| point.x));
        draft.y_values.extend(points.iter().map(|point| point.y));
        draft.dots(points, number % count, data.recipe.size.map(|_| most));
    }
    for (number, cloud) in clouds.iter().enumerate() {
        if let Some(kind) = data.recipe.regression {
            drafts[number / count].marks.extend(regression(cloud, kind, number % count));
        }
    }
    if data.recipe.edges {
        for (panel, draft) in drafts.iter_mut().enumerate() {
            let own = clouds[panel * count..(panel + 1) * count].concat();
            draft.edges(&own);
        }
    }
    let mut legend = grid::legend(&series, |number| Sample::Dot(number, 3.5));
    if data.recipe.size == Some(Size::Count) && most > 1 {
        legend.extend(sizes(most));
    }
    let label = |metric: usize| data.metrics.get(metric).cloned().unwrap_or_default();
    let around =
        Around { x_label: label(0), y_label: label(1), about: about(data, total), legend, ..Around::default() };
    panels.figure(data, &series, drafts, around)
}

fn about(data: &Data<'_>, total: usize) -> String {
    let mut about = "Each point is one row.".to_string();
    if data.recipe.size.is_some() {
        about.push_str(" The area of a point is the number of equal ones.");
    }
    if total > MANY {
        about.push_str(" Points that cannot be told apart are drawn once.");
    }
    if data.recipe.regression.is_some() {
        about.push_str(" Lines are by least squares.");
    }
    if data.recipe.regression == Some(Regression::Band) {
        about.push_str(" Their bands are 95% confidence intervals of the mean.");
    }
    about
}

/// The first metric's numbers beside the values of the second, of rows that have both. In a tidy table the two are in
/// different rows, which have the same groups: the columns before that of the metric.
fn pairs(data: &Data<'_>) -> anyhow::Result<(Vec<f64>, Vec<Value>)> {
    let values = data.values()?;
    let columns = &data.table.columns;
    let keys = match data.recipe.source() {
        Source::Rows => 0,
        _ => columns.iter().position(|column| column.name == data.metric_name()).unwrap_or(0),
    };
    let key = |value: &Value| match data.recipe.source() {
        Source::Rows => (value.row, Vec::new()),
        _ => (0, columns[..keys].iter().map(|column| &column.cells[value.row]).collect::<Vec<_>>()),
    };
    let first: BTreeMap<_, f64> =
        values.iter().filter(|value| value.metric == 0).map(|value| (key(value), value.value)).collect();
    let with = values.iter().filter(|value| value.metric == 1);
    Ok(with.filter_map(|value| Some((*first.get(&key(value))?, *value))).unzip())
}

/// The different points of a cloud.
fn distinct(cloud: &[(f64, f64)]) -> Vec<Point> {
    let mut sorted = cloud.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let point = |equal: &[(f64, f64)]| Point { x: equal[0].0, y: equal[0].1, count: equal.len() };
    sorted.chunk_by(|a, b| a == b).map(point).collect()
}

/// The points at the nearest of a few hundred places along each axis.
fn on_grid(cloud: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let (x_ends, y_ends) = (ends(cloud.iter().map(|point| point.0)), ends(cloud.iter().map(|point| point.1)));
    let near = |value: f64, (low, high): (f64, f64)| {
        let step = (high - low) / PLACES;
        if step > 0.0 { low + ((value - low) / step).round() * step } else { value }
    };
    cloud.iter().map(|(x, y)| (near(*x, x_ends), near(*y, y_ends))).collect()
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// The radius of so many equal points where `most` are the most: areas are in proportion.
fn radius(count: usize, most: usize) -> f64 {
    (GREATEST_RADIUS * (count as f64 / most as f64).sqrt()).max(LEAST_RADIUS)
}

/// Three sizes for the legend.
fn sizes(most: usize) -> Vec<Entry> {
    let mut counts = vec![1, most.div_ceil(3), most];
    counts.dedup();
    let entry = |count: &usize| Entry { label: format!("{count}×"), sample: Sample::Size(radius(*count, most)) };
    counts.iter().map(entry).collect()
}

/// The line of least squares through a cloud, from its first to its last x, and the band of its mean. None where it is not
/// determined.
pub(super) fn regression(cloud: &[(f64, f64)], kind: Regression, series: usize) -> Vec<Mark> {
    let count = cloud.len() as f64;
    let mean = |part: fn(&(f64, f64)) -> f64| cloud.iter().map(part).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let squares: f64 = cloud.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = cloud.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / squares;
    if cloud.len() < 3 || !slope.is_finite() {
        return Vec::new();
    }
    let at = |x: f64| mean_y + slope * (x - mean_x);
    let (low, high) = ends(cloud.iter().map(|point| point.0));
    let line = Mark::Line { series, points: vec![(low, at(low)), (high, at(high))], markers: false };
    let rest: f64 = cloud.iter().map(|(x, y)| (y - at(*x)).powi(2)).sum();
    let Ok(student) = StudentsT::new(0.0, 1.0, count - 2.0) else { return vec![line] };
    if kind == Regression::Line {
        return vec![line];
    }
    let half = student.inverse_cdf(0.975) * (rest / (count - 2.0)).sqrt();
    let end = |step: u32| {
        let x = low + (high - low) * f64::from(step) / 40.0;
        let half = half * (1.0 / count + (x - mean_x).powi(2) / squares).sqrt();
        (x, at(x) - half, at(x) + half)
    };
    vec![Mark::Band { series, points: (0..=40).map(end).collect(), opacity: 0.16 }, line]
}

/// Bars that count values in equal bins: from, to and the share of the highest.
fn bins(values: &[f64]) -> Vec<(f64, f64, f64)> {
    let (low, high) = ends(values.iter().copied());
    let step = (high - low) / BINS as f64;
    if step <= 0.0 || !step.is_finite() {
        return Vec::new();
    }
    let mut counts = [0_usize; BINS];
    for value in values {
        counts[(((value - low) / step) as usize).min(BINS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let bin = |(number, count): (usize, &usize)| {
        (low + number as f64 * step, low + (number + 1) as f64 * step, *count as f64 / most)
    };
    counts.iter().enumerate().map(bin).collect()
}

impl Draft {
    fn dots(&mut self, points: &[Point], series: usize, most: Option<usize>) {
        let mark = |point: &Point| Mark::Dot {
            series,
            x: point.x,
            y: point.y,
            radius: most.map_or(RADIUS, |most| radius(point.count, most)),
        };
        self.marks.extend(points.iter().map(mark));
    }

    fn edges(&mut self, cloud: &[(f64, f64)]) {
        let [xs, ys] = [|point: &(f64, f64)| point.0, |point: &(f64, f64)| point.1]
            .map(|part| cloud.iter().map(part).collect::<Vec<f64>>());
        self.marks.push(Mark::Edges { along_x: bins(&xs), along_y: bins(&ys) });
    }
}
