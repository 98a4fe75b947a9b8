//! Answers to questions and error rates against HF evaluate and jiwer: rows, several references, and all rows together.

use super::*;

/// A row of reference data with its references.
struct Given {
    prediction: String,
    references: Vec<String>,
}

impl Given {
    fn of(row: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let references = match row["references"].as_array() {
            Some(references) => references.iter().map(text).collect(),
            None => vec![text(&row["output"])],
        };
        Self { prediction: text(&row["prediction"]), references }
    }

    fn score(&self, scorer: &mut dyn Scorer) -> Scored {
        let references: Vec<Cow<'_, str>> = self.references.iter().map(|text| Cow::Borrowed(text.as_str())).collect();
        let row = Row::new();
        scorer.score_row(&Answer { prediction: &self.prediction, references: &references, row: &row }).unwrap()
    }
}

/// What the scorer of that name says of all rows together, by the names of its metrics, with its details.
pub(super) fn together(name: &str, scorer: &mut dyn Scorer, counts: impl IntoIterator<Item = Vec<f64>>) -> Value {
    let mut sums = Vec::new();
    for counts in counts {
        scorer.add(&mut sums, &counts, 1.0);
    }
    let names = find(name).unwrap().pooled.iter().map(|metric| metric.name.to_string());
    let mut said: serde_json::Map<String, Value> =
        names.zip(scorer.pool(&sums)).map(|(name, value)| (name, json!(value))).collect();
    if let Value::Object(details) = scorer.details(&sums) {
        said.extend(details);
    }
    Value::Object(said)
}

/// Holds every field of `expected` against what was said.
#[track_caller]
pub(super) fn fields_equal(expected: &Value, said: &Value, place: &str) {
    for (field, expected) in expected.as_object().unwrap() {
        let (expected, said) = (expected.as_f64(), said[field].as_f64());
        let is_close = match (expected, said) {
            (Some(expected), Some(said)) => (expected - said).abs() <= 1e-12 * expected.abs(),
            (expected, said) => expected == said,
        };
        assert!(is_close, "{place} {field}: {said:?} is not {expected:?}");
    }
}

/// Values of one row by the names of the scorer's metrics.
fn row_values(name: &str, scored: &Scored) -> Value {
    let names = find(name).unwrap().metrics.iter().map(|metric| metric.name.to_string());
    Value::Object(names.zip(&scored.values).map(|(name, value)| (name, json!(value))).collect())
}

fn squad_v2_params(blank_is_no_answer: bool) -> Value {
    json!({ "no_answer_threshold": 1.0, "blank_is_no_answer": blank_is_no_answer })
}

/// Rows of `rows.jsonl` by their ids.
fn rows() -> BTreeMap<String, Given> {
    golden("rows.jsonl").iter().map(|row| (row["id"].as_str().unwrap().to_string(), Given::of(row))).collect()
}

#[test]
fn squad_equals_hf_evaluate() {
    let rows = rows();
    let (mut v1, mut v2) = (rows_scorer("squad", json!({})), rows_scorer("squad_v2", squad_v2_params(false)));
    for expected in golden("squad.jsonl") {
        let id = expected["id"].as_str().unwrap();
        let given = &rows[id];
        let scored = given.score(&mut *v1);
        // Bit for bit.
        assert_eq!(row_values("squad", &scored), expected["squad"], "{id}");
        fields_equal(&expected["squad"], &together("squad", &mut *v1, [scored.counts]), id);
        let scored = given.score(&mut *v2);
        assert_eq!(scored.values[0], expected["squad_v2"]["exact"].as_f64(), "{id}");
        assert_eq!(scored.values[1], expected["squad_v2"]["f1"].as_f64(), "{id}");
        fields_equal(&expected["squad_v2"], &together("squad_v2", &mut *v2, [scored.counts]), id);
        if expected["squad_v2_noanswer_ref"].is_object() {
            let given = Given { prediction: given.prediction.clone(), references: Vec::new() };
            let scored = given.score(&mut *v2);
            fields_equal(&expected["squad_v2_noanswer_ref"], &together("squad_v2", &mut *v2, [scored.counts]), id);
        }
    }
}

#[test]
fn squad_takes_the_best_of_several_references() {
    let expected = golden("multiref_scores.jsonl");
    let expected: BTreeMap<&str, &Value> = expected.iter().map(|line| (line["id"].as_str().unwrap(), line)).collect();
    let (mut v1, mut v2) = (rows_scorer("squad", json!({})), rows_scorer("squad_v2", squad_v2_params(false)));
    let mut rouges = [false, true].map(|stemmer| rows_scorer("rouge", json!({ "stemmer": stemmer })));
    for row in golden("multiref.jsonl") {
        let id = row["id"].as_str().unwrap();
        let given = Given::of(&row);
        assert_eq!(row_values("squad", &given.score(&mut *v1)), expected[id]["squad"], "{id}");
        let counts = given.score(&mut *v2).counts;
        fields_equal(&expected[id]["squad_v2"], &together("squad_v2", &mut *v2, [counts]), id);
        for (rouge, variant) in rouges.iter_mut().zip(["nostem", "stem"]) {
            for (metric, value) in rouge::DEFINITION.metrics.iter().zip(given.score(&mut **rouge).values) {
                let expected = &expected[id]["rouge"][variant][metric.name]["f"];
                assert_eq!(value, expected.as_f64(), "{id} {variant} {}", metric.name);
            }
        }
    }
}

#[test]
fn error_rates_equal_jiwer_s() {
    let rows = rows();
    for (name, mut scorer) in ["wer", "cer"].map(|name| (name, rows_scorer(name, json!({})))) {
        for expected in golden("wer_cer.jsonl") {
            let id = expected["id"].as_str().unwrap();
            let scored = rows[id].score(&mut *scorer);
            let expected = &expected[name];
            assert_eq!(scored.values, [expected["rate"].as_f64()], "{id} {name}");
            let counts: Vec<f64> = ["S", "D", "I", "H"].map(|kind| expected[kind].as_f64().unwrap()).to_vec();
            assert_eq!(scored.counts, counts, "{id} {name}");
        }
    }
}

#[test]
fn all_rows_together_equal_hf_evaluate() {
    let rows = rows();
    let mut compared = 0;
    for group in golden("corpus.jsonl") {
        let ids: Vec<&str> = group["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        let place = group["group"].as_str().unwrap();
        let said = |name: &str, params: Value| {
            let mut scorer = rows_scorer(name, params);
            let counts: Vec<Vec<f64>> = ids.iter().map(|id| rows[*id].score(&mut *scorer).counts).collect();
            together(name, &mut *scorer, counts)
        };
        fields_equal(&group["squad"], &said("squad", json!({})), place);
        fields_equal(&group["squad_v2"], &said("squad_v2", squad_v2_params(true)), place);
        fields_equal(&json!({ "wer": group["wer"] }), &said("wer", json!({})), place);
        fields_equal(&json!({ "cer": group["cer"] }), &said("cer", json!({})), place);
        compared += 1;
    }
    assert!(compared > 3, "{compared} groups");
}

/// Counted by hand, as the script says: answers count from the lowest probability on, one more at a time.
#[test]
fn squad_v2_finds_the_best_threshold() {
    let params = json!({ "no_answer_probability": "p", "no_answer_threshold": 0.5, "blank_is_no_answer": true });
    let mut scorer = rows_scorer("squad_v2", params);
    let rows = [
        ("the red house", vec!["red house", "house"], 0.1),
        ("a dog", vec!["cat"], 0.2),
        ("blue", vec![], 0.3),
        ("green tree", vec!["tree"], 0.4),
        ("", vec![" "], 0.9),
        ("sea", vec!["sea"], 0.8),
    ];
    let mut counts = Vec::new();
    for (prediction, references, probability) in rows {
        let row = Row::from_iter([("p".to_string(), json!(probability))]);
        let references: Vec<Cow<'_, str>> = references.into_iter().map(Cow::Borrowed).collect();
        let answer = Answer { prediction, references: &references, row: &row };
        counts.push(scorer.score_row(&answer).unwrap().counts);
    }
    let said = together("squad_v2", &mut *scorer, counts);
    let expected = json!({
        "exact": 100.0 * 2.0 / 6.0, "f1": 100.0 * (1.0 + 2.0 / 3.0 + 1.0) / 6.0, "total": 6,
        "HasAns_exact": 25.0, "HasAns_f1": 100.0 * (1.0 + 2.0 / 3.0) / 4.0, "HasAns_total": 4,
        "NoAns_exact": 50.0, "NoAns_f1": 50.0, "NoAns_total": 2,
        "best_exact": 50.0, "best_exact_thresh": 0.1,
        "best_f1": 100.0 * (2.0 + 1.0 - 1.0 + 2.0 / 3.0 + 1.0) / 6.0, "best_f1_thresh": 0.8,
    });
    fields_equal(&expected, &said, "threshold");
    let row = Row::from_iter([("p".to_string(), json!(1.5))]);
    let error = scorer.score_row(&Answer { prediction: "", references: &[], row: &row }).unwrap_err();
    assert_eq!(error.to_string(), "`p` is 1.5: expected a probability, 0 to 1");
}
