//! Values of the reference programs, row by row. `tests/golden/scorers/README.md` says how they were made.

use super::*;
use serde_json::{Value, json};
use std::path::PathBuf;

fn golden(name: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scorers").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Scores every row of `rows.jsonl` and gives `judge` the values beside the row's line of `name`.
fn compare(name: &str, scorer: &str, params: Value, judge: impl Fn(&Value, &[Option<f64>], &str)) {
    let scorer = find(scorer).unwrap().build(&params).unwrap();
    let (rows, expected) = (golden("rows.jsonl"), golden(name));
    assert_eq!((rows.len(), expected.len()), (400, 400));
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(row["id"], expected["id"]);
        let values = scorer.score_row(row["prediction"].as_str().unwrap(), row["output"].as_str().unwrap()).unwrap();
        judge(expected, &values, row["id"].as_str().unwrap());
    }
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
    let scorer = |strip: bool| {
        let params = json!({ "regexes_to_ignore": ["\\.$"], "ignore_case": false, "ignore_punctuation": false,
                             "ignore_numbers": false, "strip": strip });
        exact_match::DEFINITION.build(&params).unwrap()
    };
    assert_eq!(scorer(false).score_row(" yes .", "yes").unwrap(), [Some(0.0)]);
    // HF's numpy arrays forget NULs at the end.
    assert_eq!(scorer(false).score_row("yes\0\0", "yes").unwrap(), [Some(1.0)]);
    assert_eq!(scorer(true).score_row(" yes \u{1f}.", "yes").unwrap(), [Some(1.0)]);
}

#[test]
fn token_f1_equals_squad_s() {
    compare("squad.jsonl", "token_f1", json!({}), |expected, values, id| {
        let expected = expected["squad"]["f1"].as_f64().unwrap() / 100.0;
        // The reference is 100 × F1: one rounding to there, one back.
        assert!((values[0].unwrap() - expected).abs() <= 1e-12, "{id}: {values:?} {expected}");
    });
}

#[test]
fn names_are_unique_and_values_match_the_metrics() {
    for (number, definition) in ALL.iter().enumerate() {
        assert!(ALL[..number].iter().all(|other| other.name != definition.name));
        let table = crate::settings::Table::default();
        let mut problems = Problems::default();
        let span = crate::diagnostic::Span { file: 0, start: 0, end: 0 };
        let params = definition.read_params(&mut Fields::of_table(&table, span), &mut problems).unwrap();
        let values = definition.build(&params).unwrap().score_row("a b", "a c").unwrap();
        assert_eq!(values.len(), definition.metrics.len(), "{}", definition.name);
    }
}
