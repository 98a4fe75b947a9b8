//! `config.json`: the shape of a model, in transformers' words.

use crate::engine::tokenizer::Tokenizer;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::Path;

/// Names of a block's linear layers, in order.
pub(super) const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Whether a target names a linear layer: by its whole name, or by the last parts of it.
pub fn is_target(name: &str, target: &str) -> bool {
    name == target || name.strip_suffix(target).is_some_and(|rest| rest.ends_with('.'))
}

/// Shape of a Llama-family model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of a token's vector.
    pub hidden_size: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest text in tokens.
    pub max_positions: usize,
    /// Base of the rotary position's wavelengths.
    pub rope_theta: f32,
    /// Epsilon of the RMS norms.
    pub norm_eps: f32,
    /// Whether the output layer is the embedding, transposed.
    pub tie_embeddings: bool,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
}

impl Config {
    /// Reads `config.json` of a folder in HF layout. Fails with the setting that is missing, odd or not supported.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let json: Value = serde_json::from_str(&text).with_context(|| format!("`{}` is no JSON", path.display()))?;
        Self::from_json(&json).with_context(|| format!("`{}` cannot be used", path.display()))
    }

    /// Reads the contents of a `config.json`.
    pub fn from_json(json: &Value) -> Result<Self> {
        match json["model_type"].as_str() {
            Some("llama") => {}
            Some(other) => bail!("unknown `model_type` `{other}`: known is `llama`"),
            None => bail!("`model_type` is missing"),
        }
        for setting in ["attention_bias", "mlp_bias"] {
            ensure!(!json[setting].as_bool().unwrap_or(false), "`{setting}` is true, which is not supported");
        }
        if let Some(activation) = json["hidden_act"].as_str().filter(|activation| *activation != "silu") {
            bail!("`hidden_act` is `{activation}`: known is `silu`");
        }
        let hidden_size = number(json, "hidden_size")?;
        let heads = number(json, "num_attention_heads")?;
        let config = Self {
            hidden_size,
            layers: number(json, "num_hidden_layers")?,
            heads,
            kv_heads: number_or(json, "num_key_value_heads", heads)?,
            head_dim: number_or(json, "head_dim", hidden_size / heads)?,
            intermediate_size: number(json, "intermediate_size")?,
            vocab_size: number(json, "vocab_size")?,
            max_positions: number_or(json, "max_position_embeddings", 2048)?,
            rope_theta: rope_theta(json)?,
            norm_eps: real_or(&json["rms_norm_eps"], 1e-6) as f32,
            tie_embeddings: json["tie_word_embeddings"].as_bool().unwrap_or(false),
            initializer_range: real_or(&json["initializer_range"], 0.02),
        };
        ensure!(config.head_dim.is_multiple_of(2), "`head_dim` is {}, an odd number", config.head_dim);
        ensure!(
            config.heads.is_multiple_of(config.kv_heads),
            "`num_key_value_heads` {} does not divide `num_attention_heads` {heads}",
            config.kv_heads
        );
        Ok(config)
    }

    /// The contents of `config.json` as transformers 5 writes them (and older ones read them), with the special tokens
    /// of a tokenizer.
    pub fn to_json(&self, tokenizer: &Tokenizer) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": tokenizer.bos(),
            "dtype": "float32",
            "eos_token_id": tokenizer.eos().first(),
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_positions,
            "mlp_bias": false,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pad_token_id": tokenizer.pad(),
            "rms_norm_eps": shortest(self.norm_eps),
            "rope_parameters": { "rope_theta": shortest(self.rope_theta), "rope_type": "default" },
            "rope_theta": shortest(self.rope_theta),
            "tie_word_embeddings": self.tie_embeddings,
            "use_cache": true,
            "vocab_size": self.vocab_size,
        })
    }

    /// Names of the linear layers of the blocks, in order: those that can carry an adapter.
    pub fn linear_names(&self) -> impl Iterator<Item = String> {
        (0..self.layers).flat_map(|block| LINEARS.map(|name| format!("model.layers.{block}.{name}")))
    }

    /// Inputs and outputs of the linear layer of a name.
    pub fn linear_widths(&self, name: &str) -> Option<(usize, usize)> {
        let (block, kind) = name.strip_prefix("model.layers.")?.split_once('.')?;
        if block.parse::<usize>().ok()? >= self.layers {
            return None;
        }
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        match kind {
            "self_attn.q_proj" => Some((hidden, self.query_width())),
            "self_attn.k_proj" | "self_attn.v_proj" => Some((hidden, self.kv_width())),
            "self_attn.o_proj" => Some((self.query_width(), hidden)),
            "mlp.gate_proj" | "mlp.up_proj" => Some((hidden, inner)),
            "mlp.down_proj" => Some((inner, hidden)),
            _ => None,
        }
    }

    /// Fails where a target names none of the linear layers.
    pub fn check_targets(&self, targets: &[String]) -> Result<()> {
        ensure!(!targets.is_empty(), "an adapter without a target");
        for target in targets {
            if !self.linear_names().any(|name| is_target(&name, target)) {
                let known = LINEARS.map(|name| name.rsplit('.').next().unwrap_or(name));
                bail!("the model has no linear layer `{target}`: it has {}", known.join(", "));
            }
        }
        Ok(())
    }

    /// Width of all query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads, and of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// The f64 whose shortest text is the f32's: 1e-5, not 0.000009999999747.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

/// `rope_theta` stands at the top (transformers 4) or in `rope_parameters` (5). Scaled positions are refused, not ignored.
fn rope_theta(json: &Value) -> Result<f32> {
    for table in ["rope_parameters", "rope_scaling"] {
        let kind = json[table]["rope_type"].as_str().or(json[table]["type"].as_str());
        if let Some(kind) = kind.filter(|kind| *kind != "default") {
            bail!("`{table}` asks for scaled rotary positions (`{kind}`), which are not supported");
        }
    }
    let theta = [&json["rope_parameters"]["rope_theta"], &json["rope_theta"]].into_iter().find_map(Value::as_f64);
    Ok(theta.unwrap_or(10_000.0) as f32)
}

fn number(json: &Value, setting: &str) -> Result<usize> {
    let value = &json[setting];
    ensure!(!value.is_null(), "`{setting}` is missing");
    match value.as_u64().and_then(|number| usize::try_from(number).ok()) {
        Some(number) if (1..=1 << 24).contains(&number) => Ok(number),
        _ => bail!("`{setting}` is `{value}`: expected a whole number of 1 to {}", 1 << 24),
    }
}

fn number_or(json: &Value, setting: &str, default: usize) -> Result<usize> {
    if json[setting].is_null() { Ok(default) } else { number(json, setting) }
}

fn real_or(value: &Value, default: f64) -> f64 {
    value.as_f64().unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama() -> Value {
        json!({
            "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 5, "num_attention_heads": 8,
            "num_key_value_heads": 4, "intermediate_size": 172, "vocab_size": 512, "rms_norm_eps": 1e-5,
        })
    }

    #[test]
    fn theta_is_found_at_both_places() {
        let mut json = llama();
        assert_eq!(Config::from_json(&json).unwrap().rope_theta, 10_000.0);
        json["rope_theta"] = json!(5e5);
        assert_eq!(Config::from_json(&json).unwrap().rope_theta, 500_000.0);
        json["rope_parameters"] = json!({ "rope_theta": 1e6, "rope_type": "default" });
        assert_eq!(Config::from_json(&json).unwrap().rope_theta, 1_000_000.0);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cases = [
            ("model_type", json!("mamba"), "`mamba`"),
            ("attention_bias", json!(true), "`attention_bias`"),
            ("hidden_act", json!("gelu"), "`gelu`"),
            ("rope_scaling", json!({ "type": "linear", "factor": 2.0 }), "`linear`"),
            ("rope_parameters", json!({ "rope_type": "llama3" }), "`llama3`"),
            ("hidden_size", json!(-3), "`hidden_size` is `-3`"),
            ("vocab_size", Value::Null, "`vocab_size` is missing"),
            ("num_key_value_heads", json!(3), "does not divide"),
            ("num_attention_heads", json!(0), "`num_attention_heads` is `0`"),
        ];
        for (setting, value, expected) in cases {
            let mut json = llama();
            json[setting] = value;
            let error = format!("{:#}", Config::from_json(&json).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
