//! Lines with bands: how a metric changes with a number.

use super::data::{Data, Value};
use super::grid::{self, Around, Draft};
use super::{Figure, FigureKind, Kind, Mark, Place, Sample, Scale, Source};
use anyhow::bail;

pub(super) const KIND: Kind = Kind {
    kind: FigureKind::Line,
    of: Source::Table,
    settings: &["scale", "y_scale", "value", "interval", "reference"],
    x: Place::Column,
    y: Place::Metrics,
    build,
};

/// A value with its place on the x axis.
type Point = (f64, Value);

fn build(data: &Data<'_>) -> anyhow::Result<Figure> {
    let values = data.values()?;
    let x = data.recipe.x().unwrap_or_default();
    let panels = grid::panels(data, &values, 0.0)?;
    let series = data.series(&values)?;
    let mut lines: Vec<Vec<Point>> = vec![Vec::new(); panels.count() * series.labels.len()];
    for (number, value) in values.iter().enumerate() {
        let place = (data.number_of(x, value.row)?, *value);
        check_place(data.recipe.scale, "scale", x, place.0)?;
        check_y_scale(data, value)?;
        lines[panels.of[number] * series.labels.len() + series.of[number]].push(place);
    }
    let mut drafts = panels.drafts();
    let bounds = bounds(&values);
    for (number, points) in lines.iter_mut().enumerate() {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (panel, own) = (number / series.labels.len(), number % series.labels.len());
        if let Some(pair) = points.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let at = super::text::number(pair[0].0);
            let series_name = data.series_names().join(" · ");
            let place = [(x, at.as_str()), (&series_name, &series.labels[own]), ("panel", &panels.labels[panel])];
            return Err(grid::twice(data, &grid::place(&place)));
        }
        drafts[panel].reach(points, bounds);
        drafts[panel].bands(points, own, series.labels.len());
    }
    for (number, points) in lines.iter().enumerate().filter(|(_, points)| !points.is_empty()) {
        let (panel, own) = (number / series.labels.len(), number % series.labels.len());
        let points = points.iter().map(|(x, value)| (*x, value.value)).collect();
        drafts[panel].marks.push(Mark::Line { series: own, points, markers: true });
    }
    let around = Around {
        x_label: x.to_string(),
        y_label: data.metrics_label(),
        about: about(data, &values),
        legend: grid::legend(&series, Sample::Line),
        own_x_ticks: true,
        ..Around::default()
    };
    panels.figure(data, &series, drafts, around)
}

/// What the lines and bands are, in words.
pub(super) fn about(data: &Data<'_>, values: &[Value]) -> String {
    let intervals = match &data.recipe.interval {
        _ if values.iter().all(|value| value.interval.is_none()) => String::new(),
        super::Interval::Columns([low, high]) => format!(" The intervals are from {low} to {high}."),
        super::Interval::Shown(_) => " The intervals are 95% confidence intervals.".to_string(),
    };
    format!("Shown: {}.{intervals}", data.value_column())
}

/// Where all values lie within 0 to 1, as those of most metrics must, what an interval has outside is cut off.
pub(super) fn bounds(values: &[Value]) -> (f64, f64) {
    let within = values.iter().all(|value| (0.0..=1.0).contains(&value.value));
    if within { (0.0, 1.0) } else { (f64::NEG_INFINITY, f64::INFINITY) }
}

/// Nothing up to 0 has a place on a log scale. `setting` is that of the scale.
pub(super) fn check_place(scale: Scale, setting: &str, name: &str, value: f64) -> anyhow::Result<()> {
    if scale == Scale::Log && value <= 0.0 {
        let value = super::text::number(value);
        bail!("`{name}` is {value}, which has no place on a log scale: use `{setting} = \"symlog\"`");
    }
    Ok(())
}

pub(super) fn check_y_scale(data: &Data<'_>, value: &Value) -> anyhow::Result<()> {
    check_place(data.recipe.y_scale, "y_scale", &data.metrics[value.metric], value.value)
}

impl Draft {
    /// The axes must reach all points, and of their intervals what lies within `bounds`.
    fn reach(&mut self, points: &[Point], bounds: (f64, f64)) {
        for (x, value) in points {
            self.x_values.push(*x);
            self.reach_y(value, bounds);
        }
    }

    pub(super) fn reach_y(&mut self, value: &Value, bounds: (f64, f64)) {
        self.y_values.push(value.value);
        let ends = value.interval.into_iter().flat_map(|(low, high)| [low, high]);
        self.y_values.extend(ends.map(|end| end.max(bounds.0).min(bounds.1)));
    }

    /// The band of neighbouring points that have intervals; a bar for one that stands alone.
    fn bands(&mut self, points: &[Point], series: usize, count: usize) {
        // Many bands lie over each other: together they must not hide the lines.
        let opacity = match count {
            0..=2 => 0.16,
            3..=4 => 0.09,
            _ => 0.05,
        };
        for run in points.chunk_by(|a, b| a.1.interval.is_some() == b.1.interval.is_some()) {
            let ends: Vec<(f64, f64, f64)> =
                run.iter().filter_map(|(x, value)| value.interval.map(|(low, high)| (*x, low, high))).collect();
            match ends[..] {
                [] => {}
                [(x, low, high)] => self.marks.push(Mark::Interval { series, x, low, high }),
                _ => self.marks.push(Mark::Band { series, points: ends, opacity }),
            }
        }
    }
}
