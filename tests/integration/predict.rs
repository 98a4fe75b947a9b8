//! Prediction through the program: several answers to a row, and settings that cannot be.

use crate::project::Project;
use std::path::Path;

/// A model's folder and rows to answer with it.
fn project(stages: &str) -> Project {
    let project = Project::empty();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/engine/llama");
    for file in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        project.write_bytes(&format!("models/tiny/{file}"), &std::fs::read(model.join(file)).unwrap());
    }
    let row = |i: usize| format!("{{\"id\":\"r{i}\",\"instruction\":\"Label {i}.\",\"output\":\"positive\"}}\n");
    project.write("data/exam.jsonl", &(0..6).map(row).collect::<String>());
    project.write("pipelines/p.toml", &format!("titer = 1\nname = \"tiny\"\nseed = 5\n{stages}"));
    project
}

#[test]
fn several_answers_to_a_row_are_scored_and_counted_one_by_one() {
    let project = project(
        r#"
[predict.answers]
model = "models/tiny"
data = "data/exam.jsonl"
max_new_tokens = 6
sample = { temperature = 0.8, top_k = 40 }
samples = 3

[score.quality]
predictions = "predict.answers"
scorers = ["exact_match", "rouge"]

[aggregate.table]
from = "score.quality"
by = ["sample"]
"#,
    );
    project.run();
    let table = project.read("out/tiny/aggregate.table/table.csv");
    // A line for each number of a sample and metric, of six rows each.
    let lines: Vec<&str> = table.lines().skip(1).filter(|line| line.contains("exact_match")).collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines.iter().all(|line| line.contains(",6,")), "{table}");
    let predictions = project.read("out/tiny/predict.answers/predictions.jsonl");
    assert_eq!(predictions.lines().count(), 18);
    // The manifest's seed is the seed of the draws; of greedy answers there is none.
    project.edit("pipelines/p.toml", "seed = 5", "seed = 6");
    assert!(project.run().contains(&"predict.answers".to_string()));
    assert_ne!(project.read("out/tiny/predict.answers/predictions.jsonl"), predictions);
    project.edit("pipelines/p.toml", "sample = { temperature = 0.8, top_k = 40 }\nsamples = 3\n", "");
    project.edit("pipelines/p.toml", "by = [\"sample\"]", "by = []");
    project.run();
    project.edit("pipelines/p.toml", "seed = 6", "seed = 7");
    assert!(project.run().is_empty());
}

#[test]
fn settings_of_a_prediction_that_cannot_be_are_shown_before_anything_runs() {
    let stage = "[predict.answers]\nmodel = \"models/tiny\"\ndata = \"data/exam.jsonl\"\n";
    for (settings, expected) in [
        ("sample = {}\nbeams = 2", "`sample` and `beams` stand together"),
        ("stop_tokens = [\"<|eot_id|>\"]", "`<|eot_id|>` is no token of the model"),
        ("candidates = { column = \"labels\" }", "the row has no `labels`"),
    ] {
        let project = project(&format!("{stage}{settings}\n"));
        project.refuses(&["check", "pipelines/p.toml"], 2, &[expected]);
    }
}
