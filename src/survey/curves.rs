//! How trainings went, from their `metrics.jsonl`.

use super::{Survey, one_file};
use crate::report::page::Curve;
use crate::stage::Kind;
use serde::Deserialize;

/// Points of a curve: more cannot be told apart on a page.
const POINTS: usize = 400;

/// What a line says, as far as a curve shows it.
#[derive(Deserialize)]
struct Line {
    step: f64,
    loss: Option<f64>,
    validation_loss: Option<f64>,
    #[serde(default)]
    best: bool,
}

impl Survey<'_> {
    pub(super) fn curves(&mut self) -> Vec<Curve> {
        let mut curves = Vec::new();
        for (node, record) in self.made(Kind::Train) {
            let Some(file) = record.output("metrics").and_then(one_file) else { continue };
            let Some(text) = self.text(node, file) else { continue };
            let curve = curve(self.name(node), &text);
            if !curve.loss.is_empty() || !curve.validation.is_empty() {
                curves.push(curve);
            }
        }
        curves
    }
}

/// Lines of another form, as a command may write them, are passed over.
fn curve(instance: String, text: &str) -> Curve {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let mut curve = Curve { instance, ..Curve::default() };
    for Line { step, loss, validation_loss, best } in lines {
        curve.loss.extend(loss.map(|loss| (step, loss)));
        curve.validation.extend(validation_loss.map(|loss| (step, loss, best)));
    }
    curve.loss = thinned(&curve.loss);
    curve
}

/// Means of runs of points, if there are too many.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let run = points.len().div_ceil(POINTS).max(1);
    let mean =
        |points: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    points.chunks(run).map(|points| (mean(points, |point| point.0), mean(points, |point| point.1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_both_kinds_are_told_apart_and_other_lines_passed_over() {
        let text = "{\"step\":1,\"loss\":2.5,\"tokens\":9}\nnoise\n{\"step\":1,\"validation_loss\":3,\"best\":true}\n{\"step\":2}\n";
        let found = curve("train.a".to_string(), text);
        assert_eq!((found.loss, found.validation), (vec![(1.0, 2.5)], vec![(1.0, 3.0, true)]));
    }

    #[test]
    fn a_long_curve_keeps_its_mean() {
        let points: Vec<(f64, f64)> = (0..2000).map(|step| (f64::from(step), f64::from(step % 5))).collect();
        let few = thinned(&points);
        assert_eq!((few.len(), few[0], few[399]), (400, (2.0, 2.0), (1997.0, 2.0)));
        assert_eq!(thinned(&points[..7]), points[..7]);
        assert!(thinned(&[]).is_empty());
    }
}
