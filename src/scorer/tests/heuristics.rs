//! The paper's heuristics against the paper's methods.

use super::*;

const RULES: [(&str, &str); 8] = [
    ("mnli", "mnli"),
    ("qnli", "qnli"),
    ("sst2", "sst2"),
    ("stsb", "stsb"),
    ("conll", "conll"),
    ("xsum", "xsum"),
    ("squad", "squad"),
    ("default", "default_cli"),
];

/// What the rule says of two texts.
fn value(rule: &str, prediction: &str, reference: &str) -> Option<f64> {
    score(&mut *rows_scorer("paper", json!({ "rule": rule })), prediction, reference).values[0]
}

#[test]
fn heuristics_equal_the_paper_s() {
    for (rule, field) in RULES {
        compare("heuristics.jsonl", "paper", json!({ "rule": rule }), |expected, values, id| {
            let expected = match &expected[field] {
                Value::Bool(holds) => Some(f64::from(u8::from(*holds))),
                // An error.
                Value::Object(_) => None,
                number => Some(number.as_f64().unwrap()),
            };
            assert_eq!(values, [expected], "{id} {rule}");
        });
    }
}

#[test]
fn each_row_may_name_its_rule() {
    let mut scorer = rows_scorer("paper", json!({ "by": "task", "else": "default" }));
    let mut score = |task: Value, prediction: &str, reference: &str| {
        let row = Row::from_iter([("task".to_string(), task)]);
        let answer = Answer { prediction, references: &[reference.into()], row: &row };
        scorer.score_row(&answer).map(|scored| scored.values[0]).map_err(|error| error.to_string())
    };
    assert_eq!(score("sst2".into(), "It is negative", "negative"), Ok(Some(1.0)));
    assert_eq!(score("squadv2".into(), "the red house", "a house"), Ok(Some(2.0 / 3.0)));
    assert_eq!(score("other".into(), "It is so, yes.", "YES"), Ok(Some(1.0)));
    assert_eq!(score(Value::Null, "", ""), Err("the row has no `task`, which `by` names: it has `task`".to_string()));
    let mut scorer = rows_scorer("paper", json!({ "by": "task" }));
    let row = Row::from_iter([("task".to_string(), "other".into())]);
    let answer = Answer { prediction: "a", references: &["a".into()], row: &row };
    assert_eq!(scorer.score_row(&answer).unwrap().values, [None]);
}

#[test]
fn numbers_are_read_as_python_reads_them() {
    for (prediction, reference, expected) in [
        ("about ３.５", "3.5", Some(1.0)),
        ("𝟛.𝟝", " 3_5e-1\n", Some(1.0)),
        ("٣", "3", Some(1.0)),
        ("-5", "5", Some(1.0)),
        ("-5.0", "5", Some(0.0)),
        ("1", "one", None),
        ("1", "\u{3000}1\n", Some(1.0)),
        ("1", "\u{1c}1", None),
        ("1", "1__0", None),
        ("1", "_1", None),
        ("1", "NaN", Some(0.0)),
        ("none", "one", Some(0.0)),
        ("99999999999999999999", "1e20", Some(1.0)),
    ] {
        assert_eq!(value("stsb", prediction, reference), expected, "{prediction} {reference}");
    }
}

#[test]
fn a_label_far_behind_is_not_looked_for() {
    let far = |characters: usize| value("mnli", &format!("{}neutral", "é".repeat(characters)), "neutral");
    assert_eq!((far(9_999), far(10_000)), (Some(1.0), Some(0.0)));
}

#[test]
fn the_answer_is_never_executed() {
    assert_eq!(value("conll", "__import__('os').getcwd()", "{}"), Some(0.0));
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    assert_eq!(value("conll", &deep, "[]"), Some(0.0));
}
