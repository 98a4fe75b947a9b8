//! `titer export`: what other programs get to read. That they do was tried by hand with tensorboard 2.21, mlflow 3.17 and
//! lm_eval 0.4.13; here is held what they read.

use crate::project::{Project, tree};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Trainings and answers by commands, scored by titer.
fn project() -> Project {
    let project = Project::empty();
    let manifest = r#"titer = 1
name = "small"
targets = ["score.quality"]
[axes]
n = [1, 2]
[train.a]
command = ["sh", "-c", "mkdir $0/model; echo $1 > $0/model/weights; cat metrics.jsonl > $0/metrics.jsonl", "{output}", "{n}"]
outputs = ["model", "metrics"]
[predict.answers]
command = ["sh", "-c", "cat rows.jsonl > $0/predictions.jsonl", "{output}"]
model = "train.a"
data = "rows.jsonl"
[score.quality]
predictions = "predict.answers"
scorers = { em = "exact_match", overlap = "bleu" }
"#;
    project.write("pipelines/p.toml", manifest);
    let metrics = [
        json!({ "step": 1, "loss": 2.5 }),
        json!({ "step": 2, "loss": 1.5 }),
        json!({ "step": 2, "validation_loss": 2.0 }),
    ];
    project.write("metrics.jsonl", &metrics.map(|line| format!("{line}\n")).concat());
    let row = |id: &str, prediction: &str| {
        format!("{}\n", json!({ "id": id, "instruction": "q", "output": "a b c d", "prediction": prediction }))
    };
    project.write("rows.jsonl", &[row("r0", "a b c d"), row("r1", "a b")].concat());
    project
}

fn export(project: &Project, to: &str, folder: &str) -> String {
    let output = project.titer(&["export", "pipelines/p.toml", "--to", to, folder]);
    assert_eq!(output.code, 0, "{output:?}");
    output.out
}

/// The files of an export, by path.
fn written(project: &Project, folder: &str) -> BTreeMap<String, Vec<u8>> {
    tree(&project.path(folder)).into_iter().collect()
}

/// The one file whose path ends so.
fn file(project: &Project, folder: &str, end: &str) -> String {
    let files = written(project, folder);
    let found: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(end)).collect();
    assert_eq!(found.len(), 1, "{end} in {:?}", files.keys());
    String::from_utf8(found[0].1.clone()).unwrap()
}

#[test]
fn curves_go_to_tensorboard_and_equal_results_give_equal_bytes() {
    let project = project();
    project.run();
    let said = export(&project, "tensorboard", "export/one");
    assert!(said.contains("exported 2 results") && said.contains("tensorboard --logdir"), "{said}");
    export(&project, "tensorboard", "export/two");
    let files = written(&project, "export/one");
    assert_eq!(files, written(&project, "export/two"));
    let names: Vec<&str> =
        files.keys().filter_map(|name| name.split_once("/events.out.tfevents.")).map(|(run, _)| run).collect();
    assert_eq!(names, ["train.a/n=1", "train.a/n=2"]);
    // Records of a length, its checksum, so many bytes, theirs: the version, and an event for each line.
    let mut bytes = files.iter().find(|(name, _)| name.starts_with("train.a/n=1/")).unwrap().1.as_slice();
    let mut records = 0;
    while let Some((length, _)) = bytes.split_first_chunk::<8>() {
        bytes = &bytes[usize::try_from(u64::from_le_bytes(*length)).unwrap() + 16..];
        records += 1;
    }
    assert_eq!(records, 4);
}

#[test]
fn trainings_and_scores_are_runs_of_mlflow() {
    let project = project();
    project.run();
    export(&project, "mlflow", "export/ml flow");
    let files = written(&project, "export/ml flow");
    let meta: Vec<&String> =
        files.keys().filter(|name| name.ends_with("/meta.yaml") && name.matches('/').count() == 2).collect();
    assert_eq!(meta.len(), 4, "{:?}", files.keys());
    let run = |name: &str| {
        let found =
            meta.iter().find(|meta| String::from_utf8_lossy(&files[**meta]).contains(&format!("run_name: \"{name}\"")));
        found.unwrap_or_else(|| panic!("{name}")).trim_end_matches("meta.yaml").to_string()
    };
    let read = |path: String| String::from_utf8(files.get(&path).unwrap_or_else(|| panic!("{path}")).clone()).unwrap();
    let (train, score) = (run("train.a[n=1]"), run("score.quality[n=1]"));
    assert_eq!(read(format!("{train}params/n")), "1");
    let losses = read(format!("{train}metrics/loss"));
    let losses: Vec<&str> = losses.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(losses, ["2.5 1", "1.5 2"]);
    assert!(read(format!("{train}meta.yaml")).contains("/export/ml%20flow/"));
    assert_eq!(read(format!("{train}artifacts/metrics.jsonl")), project.read("metrics.jsonl"));
    let parent = read(format!("{score}tags/mlflow.parentRunId"));
    assert!(train.ends_with(&format!("/{parent}/")), "{parent} is not {train}");
    assert!(read(format!("{score}metrics/em")).ends_with(" 0.5 0\n"));
    assert_eq!(read(format!("{score}params/overlap.scorer")), "bleu");
    let summary: Value = serde_json::from_str(&read(format!("{score}artifacts/overlap/summary.json"))).unwrap();
    let pooled = summary["pooled"]["bleu"]["value"].as_f64().unwrap();
    assert!(read(format!("{score}metrics/overlap.bleu.pooled")).contains(&format!(" {pooled} 0")));
}

#[test]
fn scores_have_the_shape_of_the_harness_by_model_and_task() {
    let project = project();
    project.run();
    export(&project, "lm-eval", "export");
    let files = written(&project, "export");
    let result = files.iter().find(|(name, _)| name.starts_with("train.a__n=1__/results_")).unwrap().1;
    let result: Value = serde_json::from_slice(result).unwrap();
    assert_eq!(result["results"]["quality"]["em,none"], 0.5);
    assert_eq!(result["results"]["quality"]["em_stderr,none"], 0.5);
    assert_eq!((&result["model_name"], &result["config"]["model"]), (&json!("train.a[n=1]"), &json!("train.a[n=1]")));
    assert_eq!(result["n-samples"]["quality"], json!({ "original": 2, "effective": 2 }));
    assert_eq!(result["higher_is_better"]["quality"]["em"], json!(true));
    assert_eq!(result["configs"]["quality"]["scorers"]["overlap"]["scorer"], "bleu");
    let samples = files.iter().find(|(name, _)| name.starts_with("train.a__n=2__/samples_quality_")).unwrap().1;
    let rows: Vec<Value> =
        String::from_utf8_lossy(samples).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[1]["doc"]["id"], &rows[1]["target"], &rows[1]["em"]),
        (&json!("r1"), &json!("a b c d"), &json!(0.0))
    );
    assert_eq!(rows[1]["filtered_resps"], json!(["a b"]));
}

#[test]
fn what_is_not_there_is_said_and_a_foreign_folder_left_alone() {
    let project = project();
    let call = ["export", "pipelines/p.toml", "--to", "tensorboard", "export"];
    project.refuses(&call, 2, &["no result of a train is in the cache", "`titer run pipelines/p.toml` makes them"]);
    assert!(!project.path("export").exists());
    assert_eq!(project.titer(&["run", "pipelines/p.toml", "-t", "train.a[n=1]"]).code, 0);
    let output = project.titer(&call);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(format!("{}{}", output.out, output.err).contains("`train.a[n=2]` first"), "{output:?}");
    let other = ["export", "pipelines/p.toml", "--to", "mlflow", "export"];
    project.refuses(&other, 2, &["`export` is an export to tensorboard: name another folder for mlflow"]);
    project.refuses(&[&call[..4], &["."]].concat(), 2, &["`.` holds what `titer export` has not written"]);
    project.refuses(&[&call[..4], &["rows.jsonl"]].concat(), 2, &["`rows.jsonl` cannot be written to as a folder"]);
    let mixes = Project::answers();
    mixes.run();
    mixes.refuses(&call, 2, &["makes nothing that `tensorboard` shows: no result of a train"]);
    // What was made since is in the next export, and what is the same is not touched.
    project.run();
    let before = written(&project, "export");
    export(&project, "tensorboard", "export");
    let after = written(&project, "export");
    assert!(after.len() == before.len() + 1 && file(&project, "export", "titer-export.json").contains("n=2"));
}
