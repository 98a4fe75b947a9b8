//! Exports: results in the forms that other programs read. Values in, files out; what lies where is the caller's business.
//!
//! Nothing of the clock or the machine gets in but what a record says, so the same results give the same bytes.

pub mod lm_eval;
pub mod mlflow;
pub mod tensorboard;

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path in the folder of the export, with `/` between parts.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl File {
    /// A file of that content.
    pub fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: bytes.into() }
    }
}

/// When something was made: seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    /// The beginning.
    pub begin: f64,
    /// How long it took.
    pub seconds: f64,
}

impl Span {
    /// The end.
    pub fn end(self) -> f64 {
        self.begin + self.seconds
    }
}

/// A number that changes with the steps of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is: `loss`.
    pub name: String,
    /// Its values, in order.
    pub points: Vec<Point>,
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The step of the training.
    pub step: u64,
    /// When: seconds since 1970.
    pub time: f64,
    /// The value.
    pub value: f64,
}

/// The curves of a training: every number in the lines of its `metrics.jsonl` that stands beside a `step`. The lines hold
/// no times, so that they are the same in every run; they are laid out evenly over the time that the work took.
pub fn curves(lines: &[Map<String, Value>], when: Span) -> Vec<Series> {
    let mut series: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    let count = lines.len() as f64;
    for (number, line) in (1_u32..).zip(lines) {
        let Some(step) = line.get("step").and_then(Value::as_u64) else { continue };
        let time = when.begin + when.seconds * f64::from(number) / count;
        for (name, value) in line.iter().filter(|(name, _)| *name != "step") {
            if let Some(value) = value.as_f64() {
                series.entry(name).or_default().push(Point { step, time, value });
            }
        }
    }
    series.into_iter().map(|(name, points)| Series { name: name.to_string(), points }).collect()
}

/// What a tree of settings holds, each under the path to it (`lora.r`); a list is one value.
pub fn flattened(settings: &Value) -> BTreeMap<String, String> {
    fn add(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(entries) => {
                for (name, value) in entries {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    add(&path, value, found);
                }
            }
            Value::Null => {}
            Value::String(text) => drop(found.insert(path.to_string(), text.clone())),
            other => drop(found.insert(path.to_string(), other.to_string())),
        }
    }
    let mut found = BTreeMap::new();
    add("", settings, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn curves_are_the_numbers_beside_a_step() {
        let lines = [
            json!({ "step": 1, "epoch": 0.5, "loss": 2.0, "grad_norm": null }),
            json!({ "step": 1, "validation_loss": 1.5, "best": true }),
            json!({ "loss": 3.0 }),
            json!({ "step": 2, "epoch": 1.0, "loss": 1.0 }),
        ];
        let lines: Vec<_> = lines.iter().map(|line| line.as_object().unwrap().clone()).collect();
        let series = curves(&lines, Span { begin: 100.0, seconds: 8.0 });
        let names: Vec<&str> = series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["epoch", "loss", "validation_loss"]);
        let point = |step, time, value| Point { step, time, value };
        assert_eq!(series[1].points, [point(1, 102.0, 2.0), point(2, 108.0, 1.0)]);
        assert_eq!(series[2].points, [point(1, 104.0, 1.5)]);
        assert!(curves(&[], Span::default()).is_empty());
    }

    #[test]
    fn settings_are_named_by_their_path() {
        let settings = json!({ "lora": { "r": 8, "targets": ["q", "v"] }, "keep": "last", "none": null, "on": true });
        let expected = [("keep", "last"), ("lora.r", "8"), ("lora.targets", r#"["q","v"]"#), ("on", "true")];
        assert_eq!(flattened(&settings), expected.map(|(name, value)| (name.to_string(), value.to_string())).into());
    }
}
