//! Labels against scikit-learn.

use super::answers::{fields_equal, together};
use super::*;

/// What `-1`, which is no label, is as an answer.
const NO_LABEL: &str = "nothing of the kind";

/// A case of reference data as texts: the labels in scikit-learn's order, and pairs of answer and reference.
struct Case {
    labels: Vec<String>,
    texts: Vec<(String, String)>,
}

impl Case {
    fn of(case: &Value, rows: &BTreeMap<String, Value>) -> Self {
        let Some(ids) = case["ids"].as_array() else { return Self::of_numbers(case) };
        let mut labels: Vec<(i64, String)> = case["label_ids"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, number)| (number.as_i64().unwrap(), name.clone()))
            .collect();
        labels.sort();
        let text = |id: &Value, column: &str| rows[id.as_str().unwrap()][column].as_str().unwrap().to_string();
        let texts = ids.iter().map(|id| (text(id, "prediction"), text(id, "output"))).collect();
        Self { labels: labels.into_iter().map(|(_, name)| name).collect(), texts }
    }

    fn of_numbers(case: &Value) -> Self {
        let text = |number: &Value| match number.as_i64().unwrap() {
            -1 => NO_LABEL.to_string(),
            number => number.to_string(),
        };
        let numbers = |field: &str| case[field].as_array().unwrap().iter().map(text).collect::<Vec<_>>();
        let mut labels = numbers("labels_sorted");
        labels.retain(|label| label != NO_LABEL);
        Self { labels, texts: numbers("y_pred").into_iter().zip(numbers("y_true")).collect() }
    }

    /// What the scorer says of all rows, and of each.
    fn score(&self, params: Value) -> (Value, Vec<f64>) {
        let mut scorer = rows_scorer("labels", params);
        let scored: Vec<Scored> =
            self.texts.iter().map(|(prediction, reference)| score(&mut *scorer, prediction, reference)).collect();
        let values = scored.iter().map(|scored| scored.values[0].unwrap()).collect();
        (together("labels", &mut *scorer, scored.into_iter().map(|scored| scored.counts)), values)
    }
}

fn params(labels: &[String]) -> Value {
    json!({ "labels": labels, "aliases": {}, "find": "whole", "ignore_case": true })
}

#[test]
fn measures_equal_scikit_learn_s() {
    let rows = golden("rows.jsonl").into_iter().map(|row| (row["id"].as_str().unwrap().to_string(), row)).collect();
    for expected in golden("labels.jsonl") {
        let place = expected["name"].as_str().unwrap();
        let case = Case::of(&expected, &rows);
        let has_binary = expected["f1_binary"].is_number();
        let mut given = params(&case.labels);
        if has_binary && case.labels.contains(&"1".to_string()) {
            given["positive"] = "1".into();
        }
        let (said, values) = case.score(given);
        compare_measures(&expected, &said, place);
        let hits = expected["y_true"].as_array().unwrap().iter().zip(expected["y_pred"].as_array().unwrap());
        let hits: Vec<f64> = hits.map(|(right, predicted)| f64::from(u8::from(right == predicted))).collect();
        assert_eq!(values, hits, "{place}");
        // The same from the references alone.
        let mut met = json!({ "aliases": {}, "find": "whole", "ignore_case": true });
        if has_binary {
            met["positive"] = "1".into();
        }
        compare_measures(&expected, &case.score(met).0, place);
        if let Some(subset) = expected["labels_subset"].as_array() {
            let number = |label: &Value| label.as_i64().unwrap();
            let name = |label: &Value| match expected["label_ids"].as_object() {
                Some(ids) => ids.iter().find(|(_, id)| number(id) == number(label)).unwrap().0.clone(),
                None => label.to_string(),
            };
            let mut given = params(&case.labels);
            given["average_over"] = subset.iter().map(name).collect();
            let (said, _) = case.score(given);
            let field = |average: &str| expected[format!("f1_{average}_labels_subset")].clone();
            let expected =
                json!({ "f1_micro": field("micro"), "f1_macro": field("macro"), "f1_weighted": field("weighted") });
            fields_equal(&expected, &said, place);
        }
    }
}

fn compare_measures(expected: &Value, said: &Value, place: &str) {
    let mut fields = json!({ "kappa": expected["cohen_kappa"] });
    for field in ["accuracy", "balanced_accuracy", "matthews"] {
        fields[field] = expected[field].clone();
    }
    for measure in ["precision", "recall", "f1"] {
        for average in ["micro", "macro", "weighted"] {
            let field = format!("{measure}_{average}");
            fields[&field] = expected[&field].clone();
        }
        if !said[measure].is_null() {
            fields[measure] = expected[format!("{measure}_binary")].clone();
        }
    }
    fields_equal(&fields, said, place);
    let said_classes = said["classes"].as_array().unwrap();
    // Labels are in the same order, but what is none stands first there and last here.
    let numbers = expected["labels_sorted"].as_array().unwrap();
    let has_none = numbers[0] == -1;
    let place_of = |class: usize| match has_none {
        true if class == 0 => said_classes.len() - 1,
        true => class - 1,
        false => class,
    };
    for class in 0..numbers.len() {
        let per_class = |measure: &str| expected[format!("{measure}_per_class")][class].clone();
        let expected_class =
            json!({ "precision": per_class("precision"), "recall": per_class("recall"), "f1": per_class("f1") });
        fields_equal(&expected_class, &said_classes[place_of(class)], place);
        for other in 0..numbers.len() {
            let expected = expected["confusion"][class][other].as_f64();
            let said = said["confusion"][place_of(class)][place_of(other)].as_f64();
            assert_eq!(said, expected, "{place}: {class} for {other}");
        }
    }
}

#[test]
fn answers_that_are_no_label_do_not_become_one() {
    let mut scorer = rows_scorer("labels", json!({ "aliases": {}, "find": "whole", "ignore_case": false }));
    let mut counts = Vec::new();
    for (prediction, reference) in [("x y z", "b"), ("b", "a"), ("another", "a"), ("a.", "a")] {
        counts.push(score(&mut *scorer, prediction, reference).counts);
    }
    let said = together("labels", &mut *scorer, counts);
    assert_eq!(said["confusion"], json!([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]));
    assert_eq!(said["classes"][2]["label"], Value::Null);
    assert_eq!(said["no_label"], 0.5);
    assert_eq!(together("labels", &mut *scorer, [])["accuracy"], Value::Null);
}

#[test]
fn texts_of_another_kind_are_no_labels() {
    let mut scorer = rows_scorer("labels", json!({ "aliases": {}, "find": "whole", "ignore_case": true }));
    let mut met = |number: usize| {
        let (reference, row) = ([Cow::Owned(format!("text {number}"))], Row::new());
        scorer.score_row(&Answer { prediction: "", references: &reference, row: &row })
    };
    assert!((0..1000).all(|number| met(number).is_ok()) && met(7).is_ok());
    assert!(met(1000).unwrap_err().to_string().contains("more than 1000 different references"));
}
