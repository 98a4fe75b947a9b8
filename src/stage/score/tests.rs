//! How scorers are named in a manifest, and what a score stage writes.

use super::*;
use crate::diagnostic::{Problems, Sources};
use crate::settings;
use crate::stage::Kind;
use crate::stage::heard::Heard;
use crate::stage::{Earlier, Hints, Means};
use serde_json::json;
use tempfile::TempDir;

/// The scorers' names and recipes that `text` describes, or the rendered problems.
fn scorers(text: &str) -> Result<Vec<(String, ScoreRecipe)>, String> {
    let mut sources = Sources::default();
    let text = format!("predictions = \"predict.answers\"\n{text}");
    let file = sources.add("m.toml", &text);
    let mut problems = Problems::default();
    let value = settings::parse(&text, file, &mut problems).expect("syntax");
    let stages = crate::stage::decode(Kind::Score, value.as_table().unwrap(), value.span, &mut problems);
    let read = |stage: Stage| match stage.recipe {
        Recipe::Score(recipe) => (stage.part.unwrap().label().1.to_string(), recipe),
        other => panic!("{other:?}"),
    };
    match stages {
        Some(stages) if problems.is_empty() => Ok(stages.into_iter().map(read).collect()),
        _ => Err(problems.into_vec().iter().map(|problem| sources.render(problem)).collect()),
    }
}

#[test]
fn a_name_of_ones_own_is_not_in_the_recipe() {
    let listed = scorers("scorers = [\"exact_match\", \"rouge\"]").unwrap();
    let named = scorers("[scorers]\nem = \"exact_match\"\nown = { kind = \"rouge\", stemmer = false }").unwrap();
    assert_eq!(listed[0].1, named[0].1);
    assert_eq!(listed[1].1, named[1].1);
    let names = |scorers: &[(String, ScoreRecipe)]| scorers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&listed), ["exact_match", "rouge"]);
    assert_eq!(names(&named), ["em", "own"]);
    let stemmed = scorers("scorers = { own = { kind = \"rouge\", stemmer = true } }").unwrap();
    assert_ne!(stemmed[0].1, named[1].1);
}

#[test]
fn mistakes_are_shown_at_their_place() {
    let text = scorers("scorers = [\"exact_mach\", \"rouge\"]").unwrap_err();
    assert!(text.contains("unknown scorer `exact_mach`\n  --> m.toml:2:12"), "{text}");
    assert!(text.contains("hint: did you mean `exact_match`?"), "{text}");
    let text = scorers("[scorers]\na = { kind = \"ruge\" }\nb = { kind = \"rouge\", stem = true }").unwrap_err();
    assert!(text.contains("m.toml:3:14") && text.contains("did you mean `rouge`?"), "{text}");
    assert!(text.contains("unknown setting `stem`") && text.contains("m.toml:4:23"), "{text}");
    let text = scorers("scorers = { em = { kind = \"exact_match\", regexes_to_ignore = [\"(\"] } }").unwrap_err();
    assert!(text.contains("`(` is not a regular expression") && text.contains("m.toml:2:63"), "{text}");
    assert!(scorers("scorers = [\"rouge\", \"rouge\"]").unwrap_err().contains("scorer `rouge` is listed twice"));
    assert!(scorers("scorers = []").unwrap_err().contains("`scorers` is empty"));
    assert!(scorers("").unwrap_err().contains("`scorers` is missing"));
    assert!(scorers("scorers = { \"a/b\" = \"rouge\" }").unwrap_err().contains("`a/b` is no name of a scorer"));
}

/// The file of `rows` (JSON lines), as a score stage reads it.
fn answers(folder: &TempDir, rows: &str) -> Input {
    let path = folder.path().join("predictions.jsonl");
    std::fs::write(&path, rows).unwrap();
    let (role, name) = ("predictions".to_string(), "predict.answers".to_string());
    Input { role, labels: std::collections::BTreeMap::new(), name, path }
}

/// Scores `rows` (JSON lines) by `scorer` and gives `scores.jsonl` and `summary.json`.
fn score(scorer: &str, rows: &str) -> anyhow::Result<(String, String)> {
    score_by(&format!("[\"{scorer}\"]"), rows)
}

/// Scores `rows` by the one scorer that `list` says.
fn score_by(list: &str, rows: &str) -> anyhow::Result<(String, String)> {
    let (folder, output) = (TempDir::new()?, TempDir::new()?);
    let inputs = [answers(&folder, rows)];
    let context = Context {
        inputs: &inputs,
        output: output.path(),
        hints: &Hints::default(),
        earlier: &Earlier::default(),
        means: &Means::default(),
        root: std::path::Path::new("."),
        events: &Heard::default(),
    };
    let recipes = scorers(&format!("scorers = {list}")).map_err(anyhow::Error::msg)?;
    execute(&recipes[0].1, &context)?;
    let read = |name: &str| std::fs::read_to_string(output.path().join(name));
    Ok((read("scores.jsonl")?, read("summary.json")?))
}

#[test]
fn columns_are_carried_along_but_for_texts() {
    let long = "x".repeat(201);
    let rows = format!(
        "{{\"id\":\"b\",\"instruction\":\"i\",\"input\":\"\",\"output\":\"yes\",\"task\":\"t\",\"prediction\":\"yes\"}}\n\
         {{\"id\":\"a\",\"output\":7,\"task\":\"u\",\"notes\":\"{long}\",\"prediction\":\"8\",\"k\":[1]}}\n"
    );
    let (scores, summary) = score("exact_match", &rows).unwrap();
    assert_eq!(
        scores,
        "{\"id\":\"b\",\"task\":\"t\",\"scores\":{\"exact_match\":1.0}}\n\
         {\"id\":\"a\",\"task\":\"u\",\"k\":[1],\"scores\":{\"exact_match\":0.0}}\n"
    );
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let metric = &summary["metrics"]["exact_match"];
    assert_eq!((&summary["rows"], &summary["scored"], &metric["count"]), (&json!(2), &json!(2), &json!(2)));
    // √(((1 − 0.5)² + (0 − 0.5)²) / 1 / 2), and a draw of two rows has both right, or wrong, one time in four.
    assert_eq!(
        (&metric["mean"], &metric["standard_error"], &metric["interval"]),
        (&json!(0.5), &json!(0.5), &json!([0.0, 1.0]))
    );
    assert_eq!(summary["intervals"]["unit"], "row");
}

#[test]
fn a_column_that_turns_out_to_be_long_is_in_no_row() {
    let long = "ü".repeat(201);
    let rows = format!(
        "{{\"id\":\"a\",\"output\":\"x\",\"n\":1,\"notes\":\"short\",\"prediction\":\"x\"}}\n\
         {{\"id\":\"b\",\"output\":\"x\",\"n\":2,\"notes\":\"{long}\",\"prediction\":\"y\"}}\n"
    );
    let (scores, _) = score("exact_match", &rows).unwrap();
    let expected = "{\"id\":\"a\",\"n\":1,\"scores\":{\"exact_match\":1.0}}\n{\"id\":\"b\",\"n\":2,\"scores\":{\"exact_match\":0.0}}\n";
    assert_eq!(scores, expected);
}

/// Four rows of two tasks by one scorer with more settings: the values, and the summary.
fn scoped(settings: &str) -> anyhow::Result<(Vec<Option<f64>>, serde_json::Value)> {
    let row = |id, task, prediction| {
        format!(
            "{{\"id\":{id},\"task\":\"{task}\",\"output\":[\"x\",\"y\"],\"gold\":\"z\",\"prediction\":\"{prediction}\"}}\n"
        )
    };
    let rows = [row(1, "s", "x"), row(2, "s", "y"), row(3, "s", "z"), row(4, "t", "z")].concat();
    let (scores, summary) = score_by(&format!("{{ em = {{ kind = \"exact_match\", {settings} }} }}"), &rows)?;
    let value = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["scores"]["exact_match"].as_f64();
    Ok((scores.lines().map(value).collect(), serde_json::from_str(&summary)?))
}

#[test]
fn only_the_rows_that_are_asked_for_are_scored() {
    let values = |settings| scoped(settings).unwrap().0;
    assert_eq!(values("first = 9"), [Some(1.0), Some(1.0), Some(0.0), Some(0.0)], "each of the references is right");
    assert_eq!(values("first = 1"), [Some(1.0), None, None, None]);
    assert_eq!(values("first = 1, first_per = \"task\""), [Some(1.0), None, None, Some(0.0)]);
    assert_eq!(values("where = \"id > 2\", first = 1"), [None, None, Some(0.0), None]);
    assert_eq!(values("reference = \"gold\""), [Some(0.0), Some(0.0), Some(1.0), Some(1.0)]);
    let (_, summary) = scoped("where = \"id > 2\"").unwrap();
    assert_eq!((&summary["rows"], &summary["scored"]), (&json!(4), &json!(2)));
    let failure = |settings| format!("{:#}", scoped(settings).unwrap_err());
    assert!(failure("reference = \"golden\"").contains("predict.answers:1: the row has no `golden`"));
    assert!(failure("first = 1, first_per = \"tusk\"").contains("no `tusk`, which `first_per` names"));
    let text = scorers("scorers = { em = { kind = \"exact_match\", first_per = \"task\" } }").unwrap_err();
    assert!(text.contains("`first_per = \"task\"` stands without `first`"), "{text}");
    let text = scorers("scorers = { em = { kind = \"exact_match\", where = \"id >\" } }").unwrap_err();
    assert!(text.contains("`id >` is not an expression"), "{text}");
}

#[test]
fn rows_of_a_cluster_are_drawn_together() {
    let (_, single) = scoped("first = 9").unwrap();
    let (_, together) = scoped("cluster = \"task\"").unwrap();
    assert_eq!(together["intervals"]["unit"], "task");
    assert_eq!((&single["intervals"]["units"], &together["intervals"]["units"]), (&json!(4), &json!(2)));
    let metric = |summary: &serde_json::Value, name: &str| summary["metrics"]["exact_match"][name].clone();
    assert_eq!(metric(&single, "mean"), metric(&together, "mean"));
    // By hand: the residuals of the clusters are 2 − 3/2 and 0 − 1/2; √(2/1 · (0.5² + 0.5²)) / 4 = 0.25.
    assert_eq!(metric(&together, "standard_error"), json!(0.25));
    // A draw has both clusters, or one of them twice: means of 0.5, 2/3 and 0.
    assert_eq!(metric(&together, "interval"), json!([0.0, 2.0 / 3.0]));
}

#[test]
fn a_row_that_cannot_be_scored_is_named() {
    let row = "{\"id\":\"a\",\"output\":\"x\",\"prediction\":\"y\"}\n";
    let failure = |rows: String| format!("{:#}", score("rouge", &rows).unwrap_err());
    let message = failure(format!("{row}{{\"id\":\"b\",\"output\":\"x\"}}\n"));
    assert_eq!(message, "predict.answers:2: the row has no `prediction`: it has `id`, `output`");
    let message = failure(format!("{row}{{\"id\":\"b\",\"output\":null,\"prediction\":\"\"}}\n"));
    assert!(message.contains("predict.answers:2: the row has no `output`"), "{message}");
    let message = failure("{\"id\":\"b\",\"output\":\"\",\"prediction\":\"\",\"scores\":1}\n".to_string());
    assert!(message.contains("predict.answers:1: a column is named `scores`"), "{message}");
}

#[test]
fn a_file_without_answers_is_found_before_anything_runs() {
    let folder = TempDir::new().unwrap();
    let recipe = &scorers("scorers = [\"rouge\"]").unwrap()[0].1;
    let row = "{\"id\":\"a\",\"output\":\"x\",\"prediction\":\"y\"}\n";
    assert_eq!(check(recipe, &[answers(&folder, row)]), []);
    let found = check(recipe, &[answers(&folder, &format!("{row}{{\"id\":\"b\",\"output\":\"x\"}}\n"))]);
    let message = "the row has no `prediction`: it has `id`, `output`";
    assert_eq!(found, [Diagnostic::in_file("predict.answers", Some(2), message)]);
}
