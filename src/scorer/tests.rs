//! Values of the reference programs, row by row. `tests/golden/scorers/README.md` says how they were made.

mod answers;
mod heuristics;
mod labels;
mod overlap;

use super::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The lines of a file of reference values: of the folder that `TITER_GOLDEN_SCORERS` names, so that other rows of the
/// same kind can be run through the tests, else of those that lie here.
pub(super) fn golden(name: &str) -> Vec<Value> {
    let here = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scorers");
    let folder = std::env::var_os("TITER_GOLDEN_SCORERS").map_or_else(here, PathBuf::from);
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A scorer that looks at rows, ready.
fn rows_scorer(name: &str, params: Value) -> Box<dyn Scorer> {
    match find(name).unwrap().work {
        Work::Rows(build) => build(params).unwrap(),
        Work::WithFolder(with_folder) => (with_folder.build)(params, None).unwrap(),
        Work::Program(build) => build(params, Path::new("")).unwrap(),
        Work::Model(_) | Work::Judge => panic!("{name} does not look at rows one by one"),
    }
}

/// What a scorer says of two texts.
fn score(scorer: &mut dyn Scorer, prediction: &str, reference: &str) -> Scored {
    let (references, row) = ([Cow::Borrowed(reference)], Row::new());
    scorer.score_row(&Answer { prediction, references: &references, row: &row }).unwrap()
}

/// Scores every row of `rows.jsonl` that has a line in the file `name` and gives `judge` the values beside that line.
fn compare(name: &str, scorer: &str, params: Value, judge: impl Fn(&Value, &[Option<f64>], &str)) {
    let mut scorer = rows_scorer(scorer, params);
    let expected = golden(name);
    let expected: BTreeMap<&str, &Value> = expected.iter().map(|line| (line["id"].as_str().unwrap(), line)).collect();
    let mut compared = 0;
    for row in golden("rows.jsonl") {
        let id = row["id"].as_str().unwrap();
        let Some(expected) = expected.get(id) else { continue };
        let scored = score(&mut *scorer, row["prediction"].as_str().unwrap(), row["output"].as_str().unwrap());
        judge(expected, &scored.values, id);
        compared += 1;
    }
    assert!(compared >= 100, "{name}: {compared} rows");
}

#[test]
fn rouge_equals_rouge_score() {
    for (variant, stemmer) in [("nostem", false), ("stem", true)] {
        compare("rouge.jsonl", "rouge", json!({ "stemmer": stemmer }), |expected, values, id| {
            for (metric, value) in rouge::DEFINITION.metrics.iter().zip(values) {
                // Bit for bit: the same divisions in the same order.
                assert_eq!(*value, expected[variant][metric.name]["f"].as_f64(), "{id} {variant} {}", metric.name);
            }
        });
    }
}

#[test]
fn stems_equal_nltk_s() {
    let stems = golden("stems.jsonl");
    assert!(stems.len() > 2000);
    for pair in stems {
        let word = pair["word"].as_str().unwrap();
        assert_eq!(porter::stem(word), pair["stem"].as_str().unwrap(), "{word}");
    }
}

#[test]
fn exact_match_equals_hf_evaluate() {
    let params = |regexes: &[&str], case: bool, punctuation: bool, numbers: bool| {
        json!({ "regexes_to_ignore": regexes, "ignore_case": case, "ignore_punctuation": punctuation,
                "ignore_numbers": numbers, "strip": false })
    };
    let variants = [
        ("default", params(&[], false, false, false)),
        ("case", params(&[], true, false, false)),
        ("punct", params(&[], false, true, false)),
        ("numbers", params(&[], false, false, true)),
        ("case_punct", params(&[], true, true, false)),
        ("all", params(&[], true, true, true)),
        ("re_the", params(&["the ", "yell"], true, true, false)),
        ("re_space", params(&[r"\s+"], false, false, false)),
        ("re_nonword", params(&[r"[^\w\s]", r"^\s+|\s+$"], true, false, false)),
        ("re_answer", params(&[r"(?i)(the )?answer( is)?:?\s*", r"\.$"], true, false, false)),
        ("re_digits", params(&[r"\d+(\.\d+)?", r"\b(a|an|the)\b"], false, false, false)),
    ];
    for (variant, params) in variants {
        compare("exact_match.jsonl", "exact_match", params, |expected, values, id| {
            let expected = if expected[variant].as_bool().unwrap() { 1.0 } else { 0.0 };
            assert_eq!(values, [Some(expected)], "{id} {variant}");
        });
    }
}

#[test]
fn exact_match_may_strip_white_space_last() {
    let score = |strip: bool, prediction: &str| {
        let params = json!({ "regexes_to_ignore": ["\\.$"], "ignore_case": false, "ignore_punctuation": false,
                             "ignore_numbers": false, "strip": strip });
        score(&mut *rows_scorer("exact_match", params), prediction, "yes").values
    };
    assert_eq!(score(false, " yes ."), [Some(0.0)]);
    // HF's numpy arrays forget NULs at the end.
    assert_eq!(score(false, "yes\0\0"), [Some(1.0)]);
    assert_eq!(score(true, " yes \u{1f}."), [Some(1.0)]);
}

#[test]
fn the_best_reference_counts() {
    let references = ["a dog".into(), "the cat sat".into()];
    for (name, params) in
        [("exact_match", exact_match_params()), ("rouge", json!({ "stemmer": false })), ("token_f1", json!({}))]
    {
        let row = Row::new();
        let answer = Answer { prediction: "the cat sat", references: &references, row: &row };
        let scored = rows_scorer(name, params).score_row(&answer).unwrap();
        assert!(scored.values.iter().all(|value| *value == Some(1.0)), "{name}: {scored:?}");
    }
}

fn exact_match_params() -> Value {
    json!({ "regexes_to_ignore": [], "ignore_case": false, "ignore_punctuation": false, "ignore_numbers": false,
            "strip": false })
}

#[test]
fn token_f1_equals_squad_s() {
    compare("squad.jsonl", "token_f1", json!({}), |expected, values, id| {
        let expected = expected["squad"]["f1"].as_f64().unwrap() / 100.0;
        // The reference is 100 × F1: one rounding to there, one back.
        assert!((values[0].unwrap() - expected).abs() <= 1e-12, "{id}: {values:?} {expected}");
    });
}

/// The parameters of a scorer that a manifest gives no more of than it must.
fn default_params(definition: &Definition) -> Value {
    let mut problems = Problems::default();
    let settings = match definition.name {
        "command" => {
            r#"command = ["sh", "-c", "while read -r line; do echo '{\"a\": 1, \"b\": 2}'; done"]
            metrics = ["a", "b"]"#
        }
        "rules" => "steps = [{ equal = \"text\" }]",
        _ => "",
    };
    let settings = crate::settings::parse(settings, 0, &mut problems).unwrap();
    definition.read_params(&mut Fields::of(&settings, &mut problems).unwrap(), &mut problems).unwrap()
}

/// A scorer that looks at rows, with those parameters.
fn default_scorer(name: &str) -> Box<dyn Scorer> {
    rows_scorer(name, default_params(find(name).unwrap()))
}

#[cfg(feature = "candle")]
mod models;

#[test]
fn names_are_unique_and_values_match_the_metrics() {
    for (number, definition) in ALL.iter().enumerate() {
        assert!(ALL[..number].iter().all(|other| other.name != definition.name));
        // Those by models are beside their references, and judges have none.
        if matches!(definition.work, Work::Model(_) | Work::Judge) {
            continue;
        }
        let names = definition.metric_names(&default_params(definition));
        let mut scorer = default_scorer(definition.name);
        let scored = score(&mut *scorer, "a b", "a c");
        assert_eq!(scored.values.len(), names.len(), "{}", definition.name);
        let mut sums = Vec::new();
        scorer.add(&mut sums, &scored.counts, 1.0);
        assert_eq!(scorer.pool(&sums).len(), definition.pooled.len(), "{}", definition.name);
    }
}
