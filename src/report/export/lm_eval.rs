//! Results as lm-evaluation-harness keeps them: per model a folder with `results_DATE.json` and a `samples_TASK_DATE.jsonl` for
//! every task.
//!
//! As `lm_eval/loggers/evaluation_tracker.py` of version 0.4 writes them, for whom reads such files: tables, leaderboards,
//! viewers of samples. A metric has the filter `none`, as answers are scored as they are.

use super::{File, Span};
use serde_json::{Map, Value, json};

/// The scores of one model.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// What the model is called.
    pub model: String,
    /// Where it came from, and what it was asked with.
    pub config: Map<String, Value>,
    /// When it was evaluated.
    pub when: Span,
    /// What it was evaluated on.
    pub tasks: Vec<Task>,
}

/// One task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The version of how it is scored.
    pub version: u32,
    /// How it is scored.
    pub config: Value,
    /// What came out.
    pub metrics: Vec<Metric>,
    /// All rows, and those that were scored.
    pub rows: (u64, u64),
    /// The rows.
    pub samples: Vec<Sample>,
}

/// One number of a task.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its value, if it is defined.
    pub value: Option<f64>,
    /// How sure it is.
    pub standard_error: Option<f64>,
    /// Which way is good; `None`: nobody says.
    pub higher_is_better: Option<bool>,
}

/// One row of a task.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The row.
    pub doc: Map<String, Value>,
    /// What would have been right.
    pub target: Value,
    /// What was answered.
    pub answer: String,
    /// Its scores by metric.
    pub scores: Vec<(String, Option<f64>)>,
}

/// The files of these evaluations.
pub fn files(evaluations: &[Evaluation]) -> Vec<File> {
    let mut files = Vec::new();
    for evaluation in evaluations {
        let (folder, date) = (sanitized(&evaluation.model), date(evaluation.when.end()));
        let results = serde_json::to_vec_pretty(&results(evaluation)).unwrap_or_default();
        files.push(File::new(format!("{folder}/results_{date}.json"), results));
        for task in &evaluation.tasks {
            let lines: String =
                (0..).zip(&task.samples).map(|(id, row)| format!("{}\n", sample(id, row, task))).collect();
            files.push(File::new(format!("{folder}/samples_{}_{date}.jsonl", sanitized(&task.name)), lines));
        }
    }
    files
}

fn results(evaluation: &Evaluation) -> Value {
    let by_task = |of: &dyn Fn(&Task) -> Value| -> Value {
        let entries = evaluation.tasks.iter().map(|task| (task.name.clone(), of(task)));
        Value::Object(entries.collect())
    };
    json!({
        "results": by_task(&numbers),
        "group_subtasks": by_task(&|_| json!([])),
        "configs": by_task(&|task| task.config.clone()),
        "versions": by_task(&|task| task.version.into()),
        "n-shot": by_task(&|_| 0.into()),
        "higher_is_better": by_task(&|task| {
            let known = task.metrics.iter().filter_map(|metric| Some((metric.name.clone(), metric.higher_is_better?.into())));
            Value::Object(known.collect())
        }),
        "n-samples": by_task(&|task| json!({ "original": task.rows.0, "effective": task.rows.1 })),
        "config": evaluation.config,
        "date": evaluation.when.begin,
        "model_source": "titer",
        "model_name": evaluation.model,
        "model_name_sanitized": sanitized(&evaluation.model),
        "start_time": evaluation.when.begin,
        "end_time": evaluation.when.end(),
        "total_evaluation_time_seconds": evaluation.when.seconds.to_string(),
    })
}

/// What is not defined is left out: the readers of these files expect numbers.
fn numbers(task: &Task) -> Value {
    let mut numbers = Map::new();
    numbers.insert("alias".into(), task.name.clone().into());
    for metric in &task.metrics {
        let Some(value) = metric.value else { continue };
        let error = metric.standard_error.map_or_else(|| "N/A".into(), Value::from);
        numbers.insert(format!("{},{FILTER}", metric.name), value.into());
        numbers.insert(format!("{}_stderr,{FILTER}", metric.name), error);
    }
    Value::Object(numbers)
}

fn sample(id: u64, row: &Sample, task: &Task) -> Value {
    let target = row.target.as_str().map_or_else(|| row.target.to_string(), str::to_string);
    let metrics: Vec<&str> = task.metrics.iter().map(|metric| metric.name.as_str()).collect();
    let mut sample = json!({
        "doc_id": id,
        "doc": row.doc,
        "target": target,
        "arguments": {},
        "resps": [[row.answer]],
        "filtered_resps": [row.answer],
        "filter": FILTER,
        "metrics": metrics,
    });
    for (name, score) in &row.scores {
        sample[name] = json!(score);
    }
    sample
}

const FILTER: &str = "none";

/// A name as a part of a file's, as `lm_eval.utils.sanitize_model_name` makes it.
fn sanitized(name: &str) -> String {
    let mut out = String::new();
    let mut before = false;
    for c in name.chars() {
        let is_bad = "\"<>:/|\\?*[]".contains(c);
        match (is_bad, before) {
            (false, _) => out.push(c),
            (true, false) => out.push_str("__"),
            (true, true) => {}
        }
        before = is_bad;
    }
    out
}

/// A moment as Python's `datetime.isoformat` writes it, with `-` for `:`.
fn date(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a time of our age")]
    let moment = jiff::Timestamp::from_microsecond((seconds * 1e6).round() as i64).unwrap_or_default();
    moment.strftime("%Y-%m-%dT%H-%M-%S.%6f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_names_and_the_shape_of_the_harness() {
        let metric = |name: &str, value, standard_error| Metric {
            name: name.into(),
            value,
            standard_error,
            higher_is_better: Some(true),
        };
        let sample = Sample {
            doc: json!({ "instruction": "q" }).as_object().unwrap().clone(),
            target: json!(["a", "b"]),
            answer: "a".into(),
            scores: vec![("em".into(), Some(1.0)), ("none".into(), None)],
        };
        let task = Task {
            name: "quality".into(),
            version: 2,
            config: json!({ "em": { "scorer": "exact_match" } }),
            metrics: vec![
                metric("em", Some(0.5), Some(0.125)),
                metric("f1", Some(1.0), None),
                metric("none", None, None),
            ],
            rows: (4, 2),
            samples: vec![sample],
        };
        let evaluation = Evaluation {
            model: "train.a[n=1]/x".into(),
            config: Map::new(),
            when: Span { begin: 1_700_000_000.0, seconds: 1.5 },
            tasks: vec![task],
        };
        let files = files(&[evaluation]);
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "train.a__n=1__x/results_2023-11-14T22-13-21.500000.json",
                "train.a__n=1__x/samples_quality_2023-11-14T22-13-21.500000.jsonl",
            ]
        );
        let results: Value = serde_json::from_slice(&files[0].bytes).unwrap();
        let expected = json!({
            "alias": "quality", "em,none": 0.5, "em_stderr,none": 0.125, "f1,none": 1.0, "f1_stderr,none": "N/A",
        });
        assert_eq!(results["results"]["quality"], expected);
        assert_eq!(results["n-samples"]["quality"], json!({ "original": 4, "effective": 2 }));
        assert_eq!(results["higher_is_better"]["quality"]["em"], true);
        assert_eq!((&results["versions"]["quality"], &results["n-shot"]["quality"]), (&json!(2), &json!(0)));
        let sample: Value = serde_json::from_slice(&files[1].bytes).unwrap();
        assert_eq!((&sample["target"], &sample["resps"]), (&json!(r#"["a","b"]"#), &json!([["a"]])));
        assert_eq!((&sample["em"], &sample["none"]), (&json!(1.0), &Value::Null));
    }
}
