//! Scorers that read texts by a model, through the program: what names them, what is kept, what is refused.

use crate::project::Project;
use std::fs;
use std::path::{Path, PathBuf};

const STAGE: &str = r#"titer = 1
name = "judged"
[score.quality]
predictions = "data/answers.jsonl"
[score.quality.scorers]
near = { kind = "sbert", model = "models/bert" }
bert = { kind = "bertscore", model = "models/bert", layer = 3, baseline = "data/baseline.csv" }
good = { kind = "reward", model = "models/reward" }
"#;

fn rows(changed: Option<usize>) -> String {
    let row = |i: usize| {
        let answer = if changed == Some(i) { "Something else." } else { "The river is quiet." };
        format!(
            "{{\"id\":\"r{i}\",\"instruction\":\"Say {i}.\",\"output\":\"A quiet river {i}.\",\"prediction\":\"{answer}\"}}\n"
        )
    };
    (0..8).map(row).collect()
}

/// A model's folder with its files.
fn copy(project: &Project, from: &Path, to: &str) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        project.write_bytes(&format!("{to}/{name}"), &fs::read(entry.path()).unwrap());
    }
}

fn project() -> Project {
    let project = Project::empty();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scorers/tiny");
    copy(&project, &tiny.join("bert"), "models/bert");
    copy(&project, &tiny.join("debertav2-reward"), "models/reward");
    project.write_bytes("data/baseline.csv", &fs::read(tiny.join("baseline_made_up.csv")).unwrap());
    project.write("data/answers.jsonl", &rows(None));
    project.write("pipelines/p.toml", STAGE);
    project
}

/// How many rows are kept, of all scorers.
fn kept(project: &Project) -> usize {
    fn lines(folder: PathBuf) -> usize {
        let of = |path: PathBuf| match path.is_dir() {
            true => lines(path),
            false => fs::read_to_string(&path).unwrap().lines().count(),
        };
        fs::read_dir(folder).unwrap().map(|entry| of(entry.unwrap().path())).sum()
    }
    lines(project.path("cache/rows"))
}

#[test]
fn one_changed_answer_costs_one_row_of_each_scorer() {
    let project = project();
    assert_eq!(project.run().len(), 3);
    let scores = |name: &str| project.read(&format!("out/judged/score.quality/scorer={name}/scores.jsonl"));
    let before = ["near", "bert", "good"].map(scores);
    assert!(before[2].starts_with("{\"id\":\"r0\",\"scores\":{\"reward\":"), "{}", before[2]);
    assert_eq!(kept(&project), 24);
    project.write("data/answers.jsonl", &rows(Some(5)));
    assert_eq!(project.run().len(), 3);
    assert_eq!(kept(&project), 27);
    for (before, name) in before.iter().zip(["near", "bert", "good"]) {
        let after = scores(name);
        let differ = before.lines().zip(after.lines()).filter(|(before, after)| before != after).count();
        assert_eq!(differ, 1, "{name}");
    }
    // Which rows are scored is no matter of what is said of one.
    project.edit("pipelines/p.toml", "model = \"models/reward\"", "model = \"models/reward\", first = 3");
    assert_eq!(project.run().len(), 1);
    assert_eq!(kept(&project), 27);
    assert!(
        scores("good").lines().nth(3).unwrap().contains("{\"reward\":null,\"reference_reward\":null"),
        "{}",
        scores("good")
    );
}

#[test]
fn another_scorer_runs_none_again_and_other_weights_run_theirs() {
    let project = project();
    project.run();
    project.edit(
        "pipelines/p.toml",
        "[score.quality.scorers]",
        "[score.quality.scorers]\nfirst = { kind = \"sbert\", model = \"models/bert\", pooling = \"cls\" }",
    );
    assert_eq!(project.run(), ["score.quality[scorer=first]"]);
    // A part's settings are the model's.
    project.write(
        "models/bert/modules.json",
        r#"[{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]"#,
    );
    project.write(
        "models/bert/1_Pooling/config.json",
        r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#,
    );
    assert_eq!(project.run().len(), 3);
    let scores = |name: &str| project.read(&format!("out/judged/score.quality/scorer={name}/scores.jsonl"));
    assert_eq!(scores("near"), scores("first"));
    project.write("models/bert/1_Pooling/config.json", r#"{"pooling_mode": "max"}"#);
    project.run();
    assert_ne!(scores("near"), scores("first"));
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    for (from, to, expected) in [
        ("layer = 3, ", "", "`layer` is missing: bert_score's table has none for `bert`"),
        ("layer = 3", "layer = 5", "model `models/bert`: the model has 4 blocks: there is no layer 5"),
        ("\"sbert\", model = \"models/bert\"", "\"sbert\"", "`model` is missing"),
        ("models/reward", "models/bert", "the model tells 2 labels apart"),
        ("models/reward", "models/rewrad", "models/rewrad"),
        ("data/baseline.csv", "data/basline.csv", "data/basline.csv"),
        ("\"sbert\", ", "\"sbert\", poling = \"cls\", ", "unknown setting `poling`"),
    ] {
        let project = project();
        project.edit("pipelines/p.toml", from, to);
        project.refuses(&["check", "pipelines/p.toml"], 2, &[expected]);
    }
    let project = project();
    project.write("data/answers.jsonl", "{\"id\":\"a\",\"prediction\":\"x\",\"output\":\"y\"}\n");
    project.refuses(
        &["check", "pipelines/p.toml"],
        2,
        &["the row has no `instruction`: it has `id`, `prediction`, `output`"],
    );
    let text = project.read("models/bert/config.json").replace("\"bert\"", "\"albert\"");
    project.write("models/bert/config.json", &text);
    project.refuses(&["check", "pipelines/p.toml"], 2, &["`model_type` `albert` is no known encoder"]);
}
