//! LoRA adapters in PEFT's files: `adapter_config.json` and `adapter_model.safetensors`.

use super::{Config, Model};
use crate::engine::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
use crate::engine::weights::{NamedTensor, Weights, write};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What PEFT puts before the name of a module of the base.
const PREFIX: &str = "base_model.model.";

/// Settings of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Rank.
    pub r: usize,
    /// Scale, divided by the rank.
    pub alpha: f64,
    /// Dropout that it was trained with.
    pub dropout: f64,
    /// Names of the modules that it stands on, as they were asked for; sorted.
    pub targets: Vec<String>,
}

impl AdapterConfig {
    /// What `B · A` is multiplied by.
    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    pub fn scale(&self) -> f32 {
        (self.alpha / self.r as f64) as f32
    }
}

/// The two matrices on one linear layer, row-major and as the files have them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// `r × inputs`.
    pub a: Vec<f32>,
    /// `outputs × r`.
    pub b: Vec<f32>,
    /// Width of the linear layer's input.
    pub inputs: usize,
    /// Width of the linear layer's output.
    pub outputs: usize,
}

/// An adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Its settings.
    pub config: AdapterConfig,
    /// Whether its base has its matrices as `inputs × outputs` in its files (GPT-2's Conv1D); PEFT wants to know.
    pub conv1d: bool,
    /// Its matrices by the linear layer's name in the base.
    pub pairs: BTreeMap<String, Pair>,
}

impl Adapter {
    /// Reads a folder in PEFT's layout.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("adapter_config.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let json: Value = serde_json::from_str(&text).with_context(|| format!("`{}` is no JSON", path.display()))?;
        let config = config_from_json(&json).with_context(|| format!("`{}` cannot be used", path.display()))?;
        let file = folder.join("adapter_model.safetensors");
        let mut weights = Weights::open(std::slice::from_ref(&file))?;
        let shapes: BTreeMap<String, Vec<usize>> =
            weights.rest().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect();
        let mut pairs = BTreeMap::new();
        for (name, shape) in &shapes {
            let (Some(linear), [_, inputs]) =
                (name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(".lora_A.weight")), shape.as_slice())
            else {
                continue;
            };
            let name_of_b = format!("{PREFIX}{linear}.lora_B.weight");
            let outputs = shapes.get(&name_of_b).and_then(|shape| shape.first()).copied().unwrap_or(0);
            let a = weights.take(name, &[config.r, *inputs])?;
            let b = weights.take(&name_of_b, &[outputs, config.r])?;
            pairs.insert(linear.to_string(), Pair { a, b, inputs: *inputs, outputs });
        }
        if let Some((name, _)) = weights.rest().next() {
            bail!("`{}` has a tensor `{name}`, which is no part of a LoRA adapter on linear layers", file.display());
        }
        ensure!(!pairs.is_empty(), "`{}` holds no adapter", file.display());
        Ok(Self { config, conv1d: json["fan_in_fan_out"] == true, pairs })
    }

    /// Fails where the adapter stands on a linear layer that the model has not, or has in other widths.
    pub fn check_fits(&self, config: &Config) -> Result<()> {
        for (name, pair) in &self.pairs {
            let Some((inputs, outputs)) = config.linear_widths(name) else {
                bail!("the model has no linear layer `{name}`");
            };
            ensure!(
                (pair.inputs, pair.outputs) == (inputs, outputs),
                "linear layer `{name}` has {inputs} inputs and {outputs} outputs, the adapter's {} and {}",
                pair.inputs,
                pair.outputs
            );
        }
        Ok(())
    }

    /// Adds `scale · B · A` to the linear layers that it stands on.
    pub fn merge_into(&self, model: &mut Model) -> Result<()> {
        self.check_fits(&model.config)?;
        let r = self.config.r;
        for linear in model.linears_mut() {
            let Some(pair) = self.pairs.get(&linear.name) else { continue };
            let (inputs, outputs) = (linear.inputs, linear.outputs);
            let (a, b) = (Matrix::new(&pair.a, r, inputs), Matrix::new(&pair.b, outputs, r));
            let weight = Arc::make_mut(&mut linear.weight);
            let out = MatrixMut::new(weight, inputs, outputs);
            matmul(out, a.t(), b.t(), self.config.scale(), Write::Add, Threads::Pool);
        }
        Ok(())
    }

    /// Writes the folder's two files, such that PEFT reads them. They name no path of this machine.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let r = self.config.r;
        let mut tensors = Vec::new();
        for (name, pair) in &self.pairs {
            let tensor = |matrix: &str, shape: [usize; 2], values: &[f32]| NamedTensor {
                name: format!("{PREFIX}{name}.lora_{matrix}.weight"),
                shape: shape.to_vec(),
                values: values.to_vec(),
            };
            tensors.push(tensor("A", [r, pair.inputs], &pair.a));
            tensors.push(tensor("B", [pair.outputs, r], &pair.b));
        }
        write(&folder.join("adapter_model.safetensors"), &tensors)?;
        let path = folder.join("adapter_config.json");
        let text = serde_json::to_string_pretty(&config_to_json(&self.config, self.conv1d))? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }
}

fn config_to_json(config: &AdapterConfig, conv1d: bool) -> Value {
    json!({
        "base_model_name_or_path": null,
        "bias": "none",
        "fan_in_fan_out": conv1d,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": config.r,
        "target_modules": config.targets,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    })
}

fn config_from_json(json: &Value) -> Result<AdapterConfig> {
    let kind = &json["peft_type"];
    ensure!(kind == "LORA", "`peft_type` is `{kind}`: known is `LORA`");
    // Each of these would change what the matrices mean.
    for setting in ["use_rslora", "use_dora", "lora_bias"] {
        ensure!(json[setting] != true, "`{setting}` is true, which is not supported");
    }
    for setting in ["rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication"] {
        let value = &json[setting];
        let empty = value.is_null() || value.as_object().is_some_and(|map| map.is_empty()) || *value == json!([]);
        ensure!(empty, "`{setting}` is set, which is not supported");
    }
    ensure!(json["bias"].is_null() || json["bias"] == "none", "`bias` is not `none`, which is not supported");
    let r = json["r"].as_u64().and_then(|r| usize::try_from(r).ok()).filter(|r| *r > 0).context("`r` is missing")?;
    let alpha = json["lora_alpha"].as_f64().context("`lora_alpha` is missing")?;
    let dropout = json["lora_dropout"].as_f64().unwrap_or(0.0);
    let mut targets: Vec<String> = match &json["target_modules"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(String::from).collect(),
        Value::String(pattern) => vec![pattern.clone()],
        _ => Vec::new(),
    };
    targets.sort();
    Ok(AdapterConfig { r, alpha, dropout, targets })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "model.layers.1.mlp.down_proj";

    fn model() -> Model {
        let json = json!({
            "model_type": "llama", "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 6, "vocab_size": 16,
        });
        Model::random(&Config::from_json(&json).unwrap(), 3).unwrap()
    }

    fn adapter() -> Adapter {
        let config = AdapterConfig { r: 2, alpha: 3.0, dropout: 0.05, targets: vec!["down_proj".to_string()] };
        let pair = Pair {
            a: (0..12).map(|i| i as f32 / 8.0).collect(),
            b: (0..8).map(|i| i as f32 - 3.0).collect(),
            inputs: 6,
            outputs: 4,
        };
        Adapter { config, conv1d: false, pairs: [(NAME.to_string(), pair)].into() }
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
        for (setting, value) in [("use_rslora", json!(true)), ("rank_pattern", json!({"a": 4})), ("bias", json!("all"))]
        {
            let mut json = config_to_json(&adapter().config, false);
            json[setting] = value;
            assert!(format!("{:#}", config_from_json(&json).unwrap_err()).contains(setting));
        }
    }
}
