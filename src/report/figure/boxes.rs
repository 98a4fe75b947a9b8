//! Boxes: how the values of each category are spread.

use super::data::{Data, Groups};
use super::grid::{self, Around, Panels};
use super::line::check_y_scale;
use super::{Axis, Figure, FigureKind, Five, Kind, Mark, Place, Sample, Source};

pub(super) const KIND: Kind = Kind {
    kind: FigureKind::Box,
    of: Source::Rows,
    settings: &["y_scale", "value", "reference", "sort"],
    x: Place::Optional,
    y: Place::Metrics,
    build,
};

/// A box is no narrower.
const LEAST_BOX: f64 = 8.0;

/// How far a whisker reaches at most: this times the distance of the quartiles (Tukey; matplotlib's `whis`).
const REACH: f64 = 1.5;

/// The values of one series of a category.
pub(super) struct Heap {
    pub(super) panel: usize,
    pub(super) series: usize,
    pub(super) x: f64,
    pub(super) width: f64,
    /// By size.
    pub(super) values: Vec<f64>,
}

/// Values in heaps.
pub(super) struct Heaps {
    pub(super) panels: Panels,
    pub(super) series: Groups,
    pub(super) names: Vec<String>,
    pub(super) heaps: Vec<Heap>,
    pub(super) least_width: f64,
}

fn build(data: &Data<'_>) -> anyhow::Result<Figure> {
    let heaps = heaps(data, LEAST_BOX)?;
    let mark = |heap: &Heap| {
        let (five, outliers) = spread(&heap.values)?;
        Some(Mark::Box { series: heap.series, x: heap.x, width: heap.width * 0.8, five, outliers })
    };
    let about = "Boxes reach from the first to the third quartile, with the median in them; whiskers to the last value \
                 within 1.5 of that length; circles are values beyond.";
    heaps.figure(data, mark, about)
}

/// The values of each panel, category and series.
pub(super) fn heaps(data: &Data<'_>, least: f64) -> anyhow::Result<Heaps> {
    let values = data.values()?;
    let categories = grid::categories(data, &values)?;
    let series = data.series(&values)?;
    let (names, count) = (categories.labels.len(), series.labels.len());
    let least_width = (names * count) as f64 * least / 0.8;
    let panels = grid::panels(data, &values, least_width)?;
    let mut heaps: Vec<Vec<f64>> = vec![Vec::new(); panels.count() * names * count];
    for (number, value) in values.iter().enumerate() {
        check_y_scale(data, value)?;
        let place = (panels.of[number] * names + categories.of[number]) * count + series.of[number];
        heaps[place].push(value.value);
    }
    let heap = |(place, mut values): (usize, Vec<f64>)| {
        values.sort_by(f64::total_cmp);
        let (x, width) = grid::slot(place / count % names, place % count, count);
        Heap { panel: place / count / names, series: place % count, x, width, values }
    };
    let heaps = heaps.into_iter().enumerate().filter(|(_, values)| !values.is_empty()).map(heap).collect();
    Ok(Heaps { panels, series, names: categories.labels, heaps, least_width })
}

impl Heaps {
    pub(super) fn figure(
        self,
        data: &Data<'_>,
        mark: impl Fn(&Heap) -> Option<Mark>,
        about: &str,
    ) -> anyhow::Result<Figure> {
        let mut drafts = self.panels.drafts();
        for heap in &self.heaps {
            let draft = &mut drafts[heap.panel];
            draft.y_values.extend(heap.values.first().into_iter().chain(heap.values.last()));
            draft.marks.extend(mark(heap));
        }
        for draft in &mut drafts {
            draft.x = Some(Axis::of_names(self.names.clone()));
        }
        let around = Around {
            x_label: data.recipe.x().unwrap_or_default().to_string(),
            y_label: data.metrics_label(),
            about: about.to_string(),
            legend: grid::legend(&self.series, Sample::Area),
            least_width: self.least_width,
            ..Around::default()
        };
        self.panels.figure(data, &self.series, drafts, around)
    }
}

/// The lines of the box of `values`, which are sorted, and the values beyond its whiskers; as matplotlib's `boxplot_stats`.
pub(super) fn spread(values: &[f64]) -> Option<(Five, Vec<f64>)> {
    let [q1, median, q3] = [0.25, 0.5, 0.75].map(|part| quantile(values, part));
    let (q1, median, q3) = (q1?, median?, q3?);
    let (least, most) = (q1 - REACH * (q3 - q1), q3 + REACH * (q3 - q1));
    let high = values.iter().rev().copied().find(|value| *value <= most).filter(|value| *value >= q3).unwrap_or(q3);
    let low = values.iter().copied().find(|value| *value >= least).filter(|value| *value <= q1).unwrap_or(q1);
    let outliers = values.iter().copied().filter(|value| *value < low || *value > high).collect();
    Some((Five { low, q1, median, q3, high }, outliers))
}

/// The quantile of sorted values, linear between two of them (numpy's default; Hyndman and Fan's type 7).
pub(super) fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let place = part * (values.len().checked_sub(1)?) as f64;
    let (low, share) = (place.floor() as usize, place.fract());
    let (a, b) = (values[low], values[(low + 1).min(values.len() - 1)]);
    Some(a + (b - a) * share)
}
