//! Violins: the density of the values of each category, with their quartiles.

use super::boxes::{Heap, heaps, spread};
use super::data::Data;
use super::kernel::Density;
use super::{Figure, FigureKind, Kind, Mark, Place, Source};

pub(super) const KIND: Kind = Kind {
    kind: FigureKind::Violin,
    of: Source::Rows,
    settings: &["y_scale", "value", "reference", "sort"],
    x: Place::Optional,
    y: Place::Metrics,
    build,
};

/// A violin is no narrower.
const LEAST_VIOLIN: f64 = 12.0;

/// Steps of an outline.
const STEPS: usize = 80;

fn build(data: &Data<'_>) -> anyhow::Result<Figure> {
    let heaps = heaps(data, LEAST_VIOLIN)?;
    let about = "Violins are densities (Gaussian kernels, Scott's rule) between the least and the greatest value, all \
                 equally wide; in them the quartiles and the median.";
    heaps.figure(data, violin, about)
}

/// The violin of a heap: a line across where all values are equal.
fn violin(heap: &Heap) -> Option<Mark> {
    let (five, _) = spread(&heap.values)?;
    let (low, high) = (*heap.values.first()?, *heap.values.last()?);
    let half = heap.width * 0.45;
    let outline = match Density::of(&heap.values) {
        Some(density) => {
            let curve = density.curve(low, high, STEPS);
            let most = curve.iter().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
            curve.into_iter().map(|(y, density)| (y, half * density / most)).collect()
        }
        None => vec![(low, half), (high, half)],
    };
    Some(Mark::Violin { series: heap.series, x: heap.x, outline, five })
}
