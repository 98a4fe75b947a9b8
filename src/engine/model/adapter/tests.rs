//! Adapters through their files, into models, and refused.

use super::*;
use serde_json::json;

const NAME: &str = "model.layers.1.mlp.down_proj";

fn model() -> Model {
    let json = json!({
        "model_type": "llama", "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 6, "vocab_size": 16,
    });
    Model::random(&Config::from_json(&json).unwrap(), 3).unwrap()
}

fn adapter() -> Adapter {
    let config = AdapterConfig {
        r: 2,
        alpha: 3.0,
        dropout: 0.05,
        targets: vec!["down_proj".to_string()].into(),
        ..AdapterConfig::default()
    };
    let pair = Pair {
        a: (0..12).map(|i| i as f32 / 8.0).collect(),
        b: (0..8).map(|i| i as f32 - 3.0).collect(),
        inputs: 6,
        outputs: 4,
        magnitude: None,
    };
    Adapter { config, conv1d: false, pairs: [(NAME.to_string(), pair)].into(), saved: BTreeMap::new() }
}

#[test]
fn an_adapter_survives_its_files() {
    let folder = tempfile::tempdir().unwrap();
    adapter().save(folder.path()).unwrap();
    assert_eq!(Adapter::read(folder.path()).unwrap(), adapter());
}

#[test]
fn merging_adds_the_scaled_product() {
    let (before, adapter) = (model(), adapter());
    let mut after = before.clone();
    adapter.merge_into(&mut after).unwrap();
    let pair = &adapter.pairs[NAME];
    for (old, new) in before.linears().zip(after.linears()) {
        for input in 0..old.inputs {
            for output in 0..old.outputs {
                let product = || (0..2).map(|i| pair.b[output * 2 + i] * pair.a[i * 6 + input]).sum::<f32>();
                let added = if old.name == NAME { 1.5 * product() } else { 0.0 };
                let index = input * old.outputs + output;
                assert!((new.weight[index] - old.weight[index] - added).abs() < 1e-5, "{}", old.name);
            }
        }
    }
}

#[test]
fn an_adapter_for_another_model_is_refused() {
    let mut other = adapter();
    other.pairs.get_mut(NAME).unwrap().inputs = 5;
    let error = format!("{:#}", other.merge_into(&mut model()).unwrap_err());
    assert!(error.contains("has 6 inputs and 4 outputs, the adapter's 5 and 4"), "{error}");
    let pair = adapter().pairs.remove(NAME).unwrap();
    let stray = Adapter { pairs: [("model.layers.7.mlp.down_proj".to_string(), pair)].into(), ..adapter() };
    let error = format!("{:#}", stray.merge_into(&mut model()).unwrap_err());
    assert!(error.contains("no linear layer `model.layers.7.mlp.down_proj`"), "{error}");
}

#[test]
fn settings_that_would_change_the_meaning_are_refused() {
    let cases = [
        ("lora_bias", json!(true)),
        ("layer_replication", json!([[0, 1]])),
        ("bias", json!("some")),
        ("rank_pattern", json!({ "q_proj": 0 })),
        ("peft_type", json!("IA3")),
    ];
    for (setting, value) in cases {
        let mut json = config::to_json(&adapter().config, false);
        json[setting] = value;
        assert!(format!("{:#}", config::from_json(&json).unwrap_err()).contains(setting));
    }
}
