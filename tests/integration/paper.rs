//! The paper's experiments as manifests. Their data are others' and not in the project: without them, all that may be wrong
//! is that files are not there. What they reproduce is tested where `TITER_TEST_DATA` names the folder with the data.

use crate::project::Project;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A project with the manifests, and nothing else.
fn paper() -> Project {
    let project = Project::empty();
    for (name, text) in manifests() {
        project.write(&name, &text);
    }
    project
}

/// The manifests by their paths in a project, sorted.
fn manifests() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/paper");
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
    names.sort();
    let read = |name: &String| std::fs::read_to_string(folder.join(name)).unwrap();
    names.iter().map(|name| (format!("pipelines/paper/{name}"), read(name))).collect()
}

#[test]
fn nothing_is_wrong_with_a_manifest_but_that_its_files_are_elsewhere() {
    const ABSENT: [&str; 4] =
        ["there is no file `", "there is no model folder `", "there is no tokenizer folder `", "no file matches `"];
    let project = paper();
    let manifests = manifests();
    assert!(manifests.len() >= 14, "{}", manifests.len());
    for (name, text) in manifests {
        assert!(text.starts_with("#:schema ../titer.schema.json\n"), "{name}");
        let variants: &[&[&str]] =
            if text.contains("[variant.smoke") { &[&[], &["--variant", "smoke"]] } else { &[&[]] };
        for variant in variants {
            let args = [&["check", &name], *variant].concat();
            let output = project.command(&args).env("OPENAI_API_KEY", "none").output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let errors: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
            assert!(!errors.is_empty(), "{name}: the data cannot be there:\n{said}");
            let other = errors.iter().find(|error| !ABSENT.iter().any(|absent| error.starts_with(absent)));
            assert_eq!(other, None, "{name} {variant:?}:\n{said}");
        }
    }
}

/// The folder with the data; says that the test is skipped if there is none.
#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn shared(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("TITER_TEST_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!(
            "{test}: skipped: set `TITER_TEST_DATA` to the folder with `data/derived` and `data/reference_values.json`"
        );
    }
    folder
}

fn reference(shared: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(shared.join("data/reference_values.json")).unwrap()).unwrap()
}

/// Runs a manifest, with some changes, on the data and returns the rows of a table that it makes.
fn table_of(shared: &Path, (name, changes): (&str, &str), table: &str) -> Vec<Value> {
    let project = paper();
    let text = format!("titer = 1\nextends = \"{name}.toml\"\nname = \"tried\"\n{changes}");
    project.write("pipelines/paper/tried.toml", &text);
    let data = format!("data={}", shared.join("data/derived").display());
    let output = project.titer(&["run", "pipelines/paper/tried.toml", "--set", &data]);
    assert_eq!(output.code, 0, "{output:?}");
    let table: Value = serde_json::from_str(&project.read(&format!("out/tried/{table}.json"))).unwrap();
    let columns = table["columns"].as_array().unwrap();
    let row = |row: &Value| {
        let cells = columns.iter().zip(row.as_array().unwrap());
        cells.map(|(column, cell)| (column.as_str().unwrap().to_string(), cell.clone())).collect()
    };
    table["rows"].as_array().unwrap().iter().map(row).collect()
}

/// The row with these values.
fn find<'a>(rows: &'a [Value], wanted: &[(&str, &str)]) -> &'a Value {
    let is_it = |row: &&Value| wanted.iter().all(|(column, value)| row[*column] == **value);
    rows.iter().find(is_it).unwrap_or_else(|| panic!("no row has {wanted:?}"))
}

fn assert_near(found: &Value, expected: &Value, tolerance: f64, what: &str) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected}");
}

#[test]
fn experiment_0_correlates_the_stored_scores_as_scipy_does() {
    let Some(shared) = shared("experiment 0") else { return };
    // Without what needs models and judges: the columns of the file are there all the same.
    let changes = "targets = [\"aggregate.agreement\"]\n\
                    [params]\nscores = [\"rouge_1_f_score\", \"rouge_2_f_score\", \"rouge_l_f_score\", \"rouge_1_recall\", \
                    \"rouge_2_recall\", \"bert_f_score\", \"bert_recall_score\", \"mover_score\", \"js-2\", \"rouge\"]\n\
                    own = [\"rouge\"]\n[score.rules]\npredictions = \"mix.summaries\"\nscorers = { rouge = \"rouge\" }\n\
                    [aggregate.agreement]\nfrom = \"score.rules\"\nmetrics = [\"human\", \"rouge\"]\nfigures = []\n\
                    columns = { gpt4_tenths = \"1\" }\n\
                    [aggregate.agreement.statistics.between_scores]\nx = [\"human\", \"rouge.rouge1\"]\n";
    let rows = table_of(&shared, ("exp0", changes), "aggregate.agreement/statistics");
    let expected = &reference(&shared)["realsumm_abs"];
    let kinds = [
        ("pearson", "pearson"),
        ("spearman", "spearman"),
        ("kendall", "kendall_b"),
        ("pearson_of_systems", "system_pearson"),
        ("kendall_of_systems", "system_kendall_b"),
    ];
    let mut compared = 0;
    for (score, expected) in expected.as_object().unwrap().iter().filter(|(_, expected)| expected.is_object()) {
        for (statistic, key) in kinds {
            let row = find(&rows, &[("statistic", statistic), ("x", score)]);
            assert_near(&row["value"], &expected[key], 1e-9, &format!("{statistic} of {score}"));
            compared += 1;
        }
    }
    assert_eq!(compared, 45);
    // Our ROUGE is not ROUGE-1.5.5 with its stems: nearly the same order.
    for (ours, stored) in [("rouge.rouge1", "rouge_1_f_score"), ("rouge.rouge2", "rouge_2_f_score")] {
        let value = &find(&rows, &[("statistic", "spearman"), ("x", ours)])["value"];
        assert_near(value, &expected[stored]["spearman"], 0.02, ours);
    }
}

#[test]
fn alpaca_eval_s_win_rates_are_the_leaderboard_s() {
    let Some(shared) = shared("AlpacaEval") else { return };
    let rows = table_of(&shared, ("alpaca_eval", ""), "aggregate.win_rate/table");
    let reference = reference(&shared);
    let expected = reference["alpaca_eval_v1"]["win_rate"].as_object().unwrap();
    assert!(expected.len() >= 50);
    for (model, expected) in expected {
        let row = find(&rows, &[("folder", model), ("metric", "win_rate")]);
        // The leaderboard has six digits.
        assert_near(&row["mean"], expected, 5.000_001e-7, model);
    }
}

#[test]
fn pandalm_s_annotators_and_judges_agree_as_they_should() {
    let Some(shared) = shared("PandaLM") else { return };
    let rows = table_of(&shared, ("pandalm", ""), "aggregate.agreement/statistics");
    let expected = &reference(&shared)["pandalm"];
    let pairs = [("annotator1", "annotator2"), ("annotator1", "annotator3"), ("annotator2", "annotator3")];
    for (pair, (x, y)) in pairs.into_iter().enumerate() {
        let row = find(&rows, &[("statistic", "kappa"), ("x", x), ("y", y)]);
        assert_near(&row["value"], &expected["cohen_kappa_pairs"][pair], 1e-12, x);
    }
    for judge in ["gpt35", "pandalm7b"] {
        let row = find(&rows, &[("statistic", "accuracy"), ("x", judge)]);
        assert_near(&row["value"], &expected[format!("{judge}_accuracy")], 1e-12, judge);
    }
}
