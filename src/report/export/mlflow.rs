//! MLflow's file layout: `EXPERIMENT/RUN/{meta.yaml, params/, metrics/, tags/, artifacts/}`, a file per parameter, metric and tag.
//!
//! As `mlflow/store/tracking/file_store.py` reads it. Files and not SQLite, the other form that MLflow keeps on a disk:
//! a database has the version of one MLflow's tables and must be migrated for another, while every MLflow since 1.0 reads
//! these files, and `mlflow migrate-filestore` brings them into a database of the version at hand.

use super::{File, Series, Span};
use crate::key::Digest;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What MLflow calls a run: a training, or the scores of one model's answers.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it is called: `train.adapter[n=80]`. Unique.
    pub name: String,
    /// The name of the run below which it is shown.
    pub parent: Option<String>,
    /// When it was made.
    pub when: Span,
    /// Settings.
    pub params: BTreeMap<String, String>,
    /// What else is known of it.
    pub tags: BTreeMap<String, String>,
    /// Numbers.
    pub metrics: Vec<Series>,
    /// Files that are kept with it, by their names.
    pub artifacts: Vec<File>,
}

/// The files of an experiment with these runs. `root` is the address of the folder that they will lie in, as `file:///…`.
pub fn files(experiment: &str, runs: &[Run], root: &str) -> Vec<File> {
    let id = experiment_id(experiment);
    let begin = runs.iter().map(|run| run.when.begin).reduce(f64::min).unwrap_or_default();
    let meta = [
        ("artifact_location", quoted(&format!("{root}/{id}"))),
        ("creation_time", millis(begin).to_string()),
        ("experiment_id", quoted(&id)),
        ("last_update_time", millis(begin).to_string()),
        ("lifecycle_stage", "active".to_string()),
        ("name", quoted(experiment)),
    ];
    let mut files = vec![File::new(format!("{id}/meta.yaml"), yaml(&meta))];
    for run in runs {
        files.extend(files_of(run, experiment, &id, root));
    }
    files
}

fn files_of(run: &Run, experiment: &str, experiment_id: &str, root: &str) -> Vec<File> {
    let id = run_id(experiment, &run.name);
    let folder = format!("{experiment_id}/{id}");
    let meta = [
        ("artifact_uri", quoted(&format!("{root}/{folder}/artifacts"))),
        ("end_time", millis(run.when.end()).to_string()),
        ("entry_point_name", quoted("")),
        ("experiment_id", quoted(experiment_id)),
        ("lifecycle_stage", "active".to_string()),
        ("run_id", quoted(&id)),
        ("run_name", quoted(&run.name)),
        ("source_name", quoted("")),
        // A local program's, and it has finished.
        ("source_type", "4".to_string()),
        ("source_version", quoted("")),
        ("start_time", millis(run.when.begin).to_string()),
        ("status", "3".to_string()),
        ("tags", "[]".to_string()),
        ("user_id", quoted("")),
    ];
    let mut files = vec![File::new(format!("{folder}/meta.yaml"), yaml(&meta))];
    let mut add =
        |kind: &str, name: &str, bytes: Vec<u8>| files.push(File::new(format!("{folder}/{kind}/{name}"), bytes));
    for (name, value) in &run.params {
        add("params", &key(name), shortened(value, LONGEST_PARAM).into());
    }
    for series in &run.metrics {
        let mut lines = String::new();
        for point in &series.points {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{} {} {}", millis(point.time), point.value, point.step);
        }
        add("metrics", &key(&series.name), lines.into());
    }
    let parent = run.parent.as_ref().map(|parent| ("mlflow.parentRunId", run_id(experiment, parent)));
    let own = [("mlflow.runName", run.name.clone()), ("mlflow.source.name", "titer".to_string())];
    for (name, value) in own.into_iter().chain(parent) {
        add("tags", name, value.into());
    }
    for (name, value) in &run.tags {
        add("tags", &key(name), shortened(value, LONGEST_TAG).into());
    }
    for file in &run.artifacts {
        add("artifacts", &file.path, file.bytes.clone());
    }
    files
}

/// Most characters of a value, in MLflow.
const LONGEST_PARAM: usize = 6000;
const LONGEST_TAG: usize = 8000;

fn shortened(value: &str, most: usize) -> String {
    match value.char_indices().nth(most) {
        None => value.to_string(),
        Some(_) => value.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// A number as MLflow itself draws one at random.
fn experiment_id(name: &str) -> String {
    let digest = Digest::of(format!("experiment {name}").as_bytes());
    let bytes = digest.as_bytes().first_chunk().copied().unwrap_or_default();
    (u64::from_le_bytes(bytes) % 900_000_000_000_000_000 + 100_000_000_000_000_000).to_string()
}

fn run_id(experiment: &str, name: &str) -> String {
    Digest::of(format!("run {experiment} {name}").as_bytes()).to_string()[..32].to_string()
}

#[expect(clippy::cast_possible_truncation, reason = "a time of our age")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// A text of YAML: a string of JSON is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn yaml(entries: &[(&str, String)]) -> String {
    entries.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}

/// A name with the characters that MLflow takes. A `/` would make a folder of it.
fn key(name: &str) -> String {
    let taken = |c: char| if c.is_alphanumeric() || "_-. :".contains(c) { c } else { '_' };
    let name: String = name.chars().map(taken).collect();
    if name.starts_with('.') { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::super::Point;
    use super::*;

    fn run(name: &str, parent: Option<&str>) -> Run {
        let point =
            |step, value| Point { step, time: 1_700_000_000.5 + f64::from(u32::try_from(step).unwrap()), value };
        Run {
            name: name.into(),
            parent: parent.map(str::to_string),
            when: Span { begin: 1_700_000_000.25, seconds: 2.0 },
            params: [("lora.r".to_string(), "8".to_string()), ("../x".to_string(), "y".repeat(7000))].into(),
            tags: [("titer.device".to_string(), "cpu".to_string())].into(),
            metrics: vec![Series { name: "loss".into(), points: vec![point(1, 2.5), point(2, 1e-7)] }],
            artifacts: vec![File::new("summary.json", "{}")],
        }
    }

    #[test]
    fn a_run_lies_where_mlflow_looks_for_it() {
        let files =
            files("a \"b\"", &[run("train.a[n=1]", None), run("score.q[n=1]", Some("train.a[n=1]"))], "file:///x");
        let file = |end: &str| {
            let found: Vec<&File> = files.iter().filter(|file| file.path.ends_with(end)).collect();
            found.iter().map(|file| String::from_utf8(file.bytes.clone()).unwrap()).collect::<Vec<_>>()
        };
        let (experiment, train) = (experiment_id("a \"b\""), run_id("a \"b\"", "train.a[n=1]"));
        assert_eq!(file(&format!("{experiment}/meta.yaml"))[0].lines().last(), Some(r#"name: "a \"b\"""#));
        let meta = &file(&format!("{train}/meta.yaml"))[0];
        assert!(meta.contains("start_time: 1700000000250\n") && meta.contains("end_time: 1700000002250\n"), "{meta}");
        assert!(meta.contains(&format!("artifact_uri: \"file:///x/{experiment}/{train}/artifacts\"\n")), "{meta}");
        assert_eq!(file("metrics/loss")[0], "1700000001500 2.5 1\n1700000002500 0.0000001 2\n");
        assert_eq!(file("params/lora.r"), ["8", "8"]);
        assert_eq!(file("params/_.._x")[0].chars().count(), LONGEST_PARAM);
        assert_eq!(file("tags/mlflow.parentRunId"), [train]);
        assert_eq!(file("artifacts/summary.json"), ["{}", "{}"]);
        assert!(files.iter().all(|file| !file.path.contains("..") || file.path.contains("_.._")));
    }
}
