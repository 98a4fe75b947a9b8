//! Densities: how often which values are, as curves.

use super::data::Data;
use super::grid::{self, Around};
use super::kernel::Density;
use super::{Figure, FigureKind, Kind, Mark, Place, Sample, Source, text};

pub(super) const KIND: Kind = Kind {
    kind: FigureKind::Density,
    of: Source::Rows,
    settings: &["value"],
    x: Place::Metrics,
    y: Place::Absent,
    build,
};

/// Steps of a curve.
const STEPS: usize = 160;

/// How far a curve goes beyond its values, in standard deviations of a kernel: three leave nothing to see.
const BEYOND: f64 = 3.0;

fn build(data: &Data<'_>) -> anyhow::Result<Figure> {
    let values = data.values()?;
    let panels = grid::panels(data, &values, 0.0)?;
    let series = data.series(&values)?;
    let count = series.labels.len();
    let mut heaps: Vec<Vec<f64>> = vec![Vec::new(); panels.count() * count];
    for (number, value) in values.iter().enumerate() {
        heaps[panels.of[number] * count + series.of[number]].push(value.value);
    }
    let mut drafts = panels.drafts();
    let mut without = Vec::new();
    for (number, heap) in heaps.iter_mut().enumerate().filter(|(_, heap)| !heap.is_empty()) {
        let (draft, own) = (&mut drafts[number / count], number % count);
        heap.sort_by(f64::total_cmp);
        let Some(density) = Density::of(heap) else {
            draft.x_values.push(heap[0]);
            draft.marks.push(Mark::Upright { series: own, x: heap[0] });
            without.push(text::number(heap[0]));
            continue;
        };
        let beyond = BEYOND * density.width();
        let points = density.curve(heap[0] - beyond, heap[heap.len() - 1] + beyond, STEPS);
        draft.x_values.extend([points[0].0, points[points.len() - 1].0]);
        draft.y_values.extend(points.iter().map(|(_, y)| *y).chain([0.0]));
        draft.marks.push(Mark::Hill { series: own, points: points.clone() });
        draft.marks.push(Mark::Line { series: own, points, markers: false });
    }
    let spikes = match without.len() {
        0 => String::new(),
        _ => format!(" Equal values have no density; lines stand at them: {}.", without.join(", ")),
    };
    let around = Around {
        x_label: data.metrics_label(),
        y_label: "density".to_string(),
        about: format!("Densities by Gaussian kernels, their width by Scott's rule.{spikes}"),
        legend: grid::legend(&series, Sample::Curve),
        flush: true,
        ..Around::default()
    };
    panels.figure(data, &series, drafts, around)
}
