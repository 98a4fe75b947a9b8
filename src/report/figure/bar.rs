//! Bars: a value for each category, side by side for each series.

use super::data::Data;
use super::grid::{self, Around};
use super::line::{about, bounds, check_y_scale};
use super::{Axis, Figure, FigureKind, Kind, Mark, Place, Sample, Scale, Source};
use std::collections::BTreeSet;

pub(super) const KIND: Kind = Kind {
    kind: FigureKind::Bar,
    of: Source::Table,
    settings: &["y_scale", "value", "interval", "reference", "sort"],
    x: Place::Optional,
    y: Place::Metrics,
    build,
};

/// A bar is no narrower.
const LEAST_BAR: f64 = 4.0;

fn build(data: &Data<'_>) -> anyhow::Result<Figure> {
    let values = data.values()?;
    let categories = grid::categories(data, &values)?;
    let series = data.series(&values)?;
    let least = categories.labels.len() as f64 * (series.labels.len() as f64 * LEAST_BAR / 0.8);
    let panels = grid::panels(data, &values, least)?;
    let mut drafts = panels.drafts();
    let bounds = bounds(&values);
    let mut taken = BTreeSet::new();
    for (number, value) in values.iter().enumerate() {
        check_y_scale(data, value)?;
        let (panel, category, own) = (panels.of[number], categories.of[number], series.of[number]);
        if !taken.insert((panel, category, own)) {
            let x = data.recipe.x().unwrap_or_default();
            let place = [(x, categories.labels[category].as_str()), ("series", &series.labels[own])];
            return Err(grid::twice(data, &grid::place(&place)));
        }
        let (x, width) = grid::slot(category, own, series.labels.len());
        drafts[panel].reach_y(value, bounds);
        let interval = value.interval.map(|(low, high)| (low.max(bounds.0), high.min(bounds.1)));
        drafts[panel].marks.push(Mark::Bar { series: own, x, width: width * 0.94, y: value.value, interval });
    }
    for draft in &mut drafts {
        // A bar's length is its value.
        if data.recipe.y_scale != Scale::Log && !draft.y_values.is_empty() {
            draft.y_values.push(0.0);
        }
        draft.x = Some(Axis::of_names(categories.labels.clone()));
    }
    let around = Around {
        x_label: data.recipe.x().unwrap_or_default().to_string(),
        y_label: data.metrics_label(),
        about: about(data, &values),
        legend: grid::legend(&series, Sample::Area),
        least_width: least,
        ..Around::default()
    };
    panels.figure(data, &series, drafts, around)
}
