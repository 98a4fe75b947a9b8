//! Encoders beside transformers, and the promise about bits.

use super::*;
use crate::engine::weights::{NamedTensor, write};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Made by `tests/references/make_encoders.py`.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders").join(name)
}

const MODELS: [&str; 6] = ["bert", "roberta", "mpnet", "deberta", "deberta_v2_conv", "deberta_v2_buckets"];

fn with_head(name: &str) -> Encoder {
    Encoder::load(&folder(name), Wanted { blocks: None, head: true }).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

/// The texts of a model's reference, each with its line.
fn reference(name: &str) -> Vec<(Text, Value)> {
    let lines: Value = serde_json::from_slice(&std::fs::read(folder(name).join("reference.json")).unwrap()).unwrap();
    let line = |line: &Value| (Text { ids: ids(&line["ids"]), types: ids(&line["types"]) }, line.clone());
    lines.as_array().unwrap().iter().map(line).collect()
}

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((actual - expected).abs() < 2e-5, "{what}: {actual} is not {expected}");
    }
}

#[test]
fn every_layer_and_every_head_is_that_of_transformers() {
    for name in MODELS {
        let encoder = with_head(name);
        for (text, line) in reference(name) {
            encoder.check(&text).unwrap();
            let (rows, mut layer) = (ids(&line["rows"]), 0);
            encoder.read_in_steps(&[&text], |states| {
                let width = states.len() / text.ids.len();
                for (row, expected) in rows.iter().zip(line["states"][layer].as_array().unwrap()) {
                    let what = format!("{name}, {} tokens, layer {layer}, token {row}", text.ids.len());
                    assert_close(&states[*row as usize * width..][..width], &numbers(expected), &what);
                }
                layer += 1;
            });
            assert_eq!(layer, 3);
            assert_close(&encoder.judge(&[&text])[0], &numbers(&line["labels"]), name);
        }
    }
}

#[test]
fn a_text_has_the_same_bits_alone_and_among_others_with_any_threads() {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for name in MODELS {
        let encoder = with_head(name);
        let texts: Vec<Text> = reference(name).into_iter().map(|(text, _)| text).collect();
        let many: Vec<&Text> = (0..7).flat_map(|_| &texts).collect();
        let read = |threads: usize, texts: &[&Text]| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&encoder.read(texts)))
        };
        let alone: Vec<Vec<u32>> = texts.iter().map(|text| read(1, &[text])).collect();
        let expected: Vec<u32> = (0..7).flat_map(|_| alone.iter().flatten().copied()).collect();
        for threads in [1, 2, 3] {
            assert!(read(threads, &many) == expected, "{name}, {threads} threads");
        }
        let judged: Vec<Vec<f32>> = texts.iter().flat_map(|text| encoder.judge(&[text])).collect();
        assert_eq!(encoder.judge(&many)[..texts.len()], judged, "{name}");
    }
}

#[test]
fn fewer_blocks_end_where_they_end() {
    let all = with_head("mpnet");
    let first = Encoder::load(&folder("mpnet"), Wanted { blocks: Some(1), head: false }).unwrap();
    let none = Encoder::load(&folder("mpnet"), Wanted { blocks: Some(0), head: false }).unwrap();
    let (text, _) = reference("mpnet").remove(1);
    let mut steps = Vec::new();
    all.read_in_steps(&[&text], |states| steps.push(states.to_vec()));
    assert_eq!((none.read(&[&text]), first.read(&[&text])), (steps[0].clone(), steps[1].clone()));
    let error = Encoder::load(&folder("mpnet"), Wanted { blocks: Some(3), head: false }).unwrap_err().to_string();
    assert_eq!(error, "the model has 2 blocks: there is no layer 3");
}

/// A copy of a model whose tensors are changed.
fn changed(name: &str, change: impl Fn(&mut Vec<NamedTensor>)) -> tempfile::TempDir {
    let (copy, from) = (tempfile::tempdir().unwrap(), folder(name));
    std::fs::copy(from.join("config.json"), copy.path().join("config.json")).unwrap();
    let mut weights = crate::engine::weights::Weights::open_model(&from).unwrap();
    let names: Vec<(String, Vec<usize>)> = weights.rest().map(|(name, shape)| (name.into(), shape.to_vec())).collect();
    let tensor =
        |(name, shape): (String, Vec<usize>)| NamedTensor { values: weights.take(&name, &shape).unwrap(), name, shape };
    let mut tensors: Vec<NamedTensor> = names.into_iter().map(tensor).collect();
    change(&mut tensors);
    write(&copy.path().join("model.safetensors"), &tensors).unwrap();
    copy
}

fn vectors(folder: &Path) -> Vec<f32> {
    let (text, _) = reference("bert").remove(1);
    Encoder::load(folder, Wanted::default()).unwrap().read(&[&text])
}

#[test]
fn names_of_old_files_and_of_the_encoder_alone_are_known() {
    let expected = vectors(&folder("bert"));
    let old = changed("bert", |tensors| {
        for tensor in tensors {
            tensor.name =
                tensor.name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        }
    });
    assert_eq!(vectors(old.path()), expected);
    let alone = changed("bert", |tensors| {
        tensors.retain(|tensor| !tensor.name.starts_with("classifier"));
        tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replacen("bert.", "", 1));
        tensors.push(NamedTensor { name: "embeddings.position_ids".into(), shape: vec![1], values: vec![0.0] });
        tensors.push(NamedTensor { name: "cls.predictions.bias".into(), shape: vec![1], values: vec![0.0] });
    });
    assert_eq!(vectors(alone.path()), expected);
}

#[test]
fn what_is_no_encoder_is_refused_with_a_reason() {
    let error =
        |folder: &Path, head: bool| format!("{:#}", Encoder::load(folder, Wanted { blocks: None, head }).unwrap_err());
    let wrong = changed("bert", |tensors| {
        tensors
            .retain(|tensor| tensor.name != "bert.encoder.layer.1.output.dense.bias" && !tensor.name.starts_with("cl"));
        tensors[0].shape.insert(0, 1);
        tensors.push(NamedTensor { name: "bert.encoder.layer.2.x".into(), shape: vec![1], values: vec![0.0] });
    });
    let text = error(wrong.path(), false);
    assert!(text.contains("missing: `bert.encoder.layer.1.output.dense.bias` [16]; of other shapes: "), "{text}");
    assert!(text.contains("unknown: `bert.encoder.layer.2.x` [1]") && !text.contains("classifier"), "{text}");
    let text = error(wrong.path(), true);
    assert!(text.contains("`classifier.weight` [3, 16]"), "{text}");
    let config = |change: &[(&str, Value)]| {
        let text = std::fs::read(folder("deberta_v2_conv").join("config.json")).unwrap();
        let mut json: Value = serde_json::from_slice(&text).unwrap();
        change.iter().for_each(|(name, value)| json[*name] = value.clone());
        Config::from_json(&json).unwrap_err().to_string()
    };
    let text = config(&[("model_type", "deberta-v3".into())]);
    assert!(
        text.contains("`model_type` `deberta-v3` is no known encoder: did you mean `deberta-v2`? known are bert, "),
        "{text}"
    );
    assert!(config(&[("model_type", "llama".into())]).contains("`llama` is no encoder: it answers texts"));
    assert!(config(&[("pos_att_type", "c2p|p2p".into())]).contains("`pos_att_type` names `p2p`"));
    assert!(config(&[("conv_groups", 2.into())]).contains("`conv_groups` is 2, which is not supported"));
    assert!(config(&[("num_attention_heads", 3.into())]).contains("3 does not divide `hidden_size` 16"));
}

#[test]
fn texts_that_do_not_fit_are_refused() {
    let encoder = with_head("roberta");
    let text = |ids: Vec<u32>| Text { types: vec![0; ids.len()], ids };
    let error = |ids| encoder.check(&text(ids)).unwrap_err().to_string();
    assert!(error(vec![3; 39]).contains("39 tokens is too long for the model, which has 38 positions"));
    assert!(error(vec![3, 50]).contains("token 50 has no row in the embedding of 50 rows"));
    encoder.check(&text(vec![3; 38])).unwrap();
}
