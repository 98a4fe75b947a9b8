//! The families of models: each a description, in its own file, of the modules that it has and of what its `config.json`
//! says, and one line in the table here. What the parts do is the engine's, and the same for all.

mod bloom;
mod falcon;
mod gemma;
mod gpt2;
mod gpt_neox;
mod llama;
mod mistral;
mod olmo2;
mod opt;
mod phi3;
mod qwen;

use super::block::{Block, Mlp, Order, QkNorms, Qkv};
use super::config::{Config, Layout, LinearName, Projections, Residual, Shape};
use super::rotary::{Defaults, Rotary};
use super::settings::Settings;
use crate::diagnostic::closest;
use crate::engine::activation::Activation;
use crate::engine::kernels::NormKind;
use anyhow::{Context as _, Result, anyhow, bail, ensure};

/// Makes a description of a `config.json`.
type Read = fn(Settings<'_>) -> Result<Config>;

/// By `model_type`.
const FAMILIES: &[(&str, Read)] = &[
    ("bloom", bloom::read),
    ("falcon", falcon::read),
    ("gemma", gemma::read),
    ("gemma2", gemma::read_2),
    ("gemma3_text", gemma::read_3),
    ("gpt2", gpt2::read),
    ("gpt_neox", gpt_neox::read),
    ("llama", llama::read),
    ("mistral", mistral::read),
    ("olmo2", olmo2::read),
    ("opt", opt::read),
    ("phi3", phi3::read),
    ("qwen2", qwen::read_2),
    ("qwen3", qwen::read_3),
];

/// The family of a `model_type`.
pub(super) fn find(name: &str) -> Result<Read> {
    let names = || FAMILIES.iter().map(|(name, _)| *name);
    let family = FAMILIES.iter().find(|(family, _)| *family == name);
    family.map(|(_, read)| *read).ok_or_else(|| {
        let near = closest(name, names()).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        anyhow!("unknown `model_type` `{name}`: {near}known are {}", names().collect::<Vec<_>>().join(", "))
    })
}

/// Whether a `model_type` is one of these.
pub(in crate::engine) fn is_decoder(name: &str) -> bool {
    FAMILIES.iter().any(|(family, _)| *family == name)
}

/// A linear layer without a bias.
const fn linear(name: &'static str) -> LinearName {
    LinearName { name, bias: false }
}

/// A linear layer with a bias.
const fn biased(name: &'static str) -> LinearName {
    LinearName { name, bias: true }
}

/// Modules as Llama has them; what many families vary.
fn llama_layout() -> Layout {
    Layout {
        prefix: "model.",
        embedding: "model.embed_tokens",
        embedding_norm: None,
        positions: None,
        projections: None,
        blocks: "model.layers",
        block: Block {
            attention_norm: Some("input_layernorm"),
            qkv: Qkv::Apart {
                q: linear("self_attn.q_proj"),
                k: linear("self_attn.k_proj"),
                v: linear("self_attn.v_proj"),
                norms: None,
            },
            o: linear("self_attn.o_proj"),
            attention_post_norm: None,
            mlp_norm: Some("post_attention_layernorm"),
            mlp: Mlp::Gated { gate: linear("mlp.gate_proj"), up: linear("mlp.up_proj"), down: linear("mlp.down_proj") },
            mlp_post_norm: None,
        },
        norm: Some("model.norm"),
        head: linear("lm_head"),
        conv1d: false,
        buffers: &["rotary_emb.inv_freq"],
    }
}

/// What transformers takes where a `config.json` is silent.
struct Absent {
    /// Width of a head; its share of the tokens' width where there is no number.
    head_dim: Option<usize>,
    max_positions: usize,
    norm_eps: f64,
}

/// A model with Llama's modules and settings, whose attention layers have biases where `attention_bias` says so.
fn llama_like(json: Settings<'_>, absent: Absent) -> Result<Config> {
    let hidden_size = json.number(&["hidden_size"])?;
    let heads = json.number(&["num_attention_heads"])?;
    let blocks = json.number(&["num_hidden_layers"])?;
    let shape = Shape {
        hidden_size,
        embedding_size: hidden_size,
        heads,
        kv_heads: json.number_or(&["num_key_value_heads"], heads)?,
        head_dim: json.number_or(&["head_dim"], absent.head_dim.unwrap_or(hidden_size / heads))?,
        intermediate_size: json.number(&["intermediate_size"])?,
        vocab_size: json.number(&["vocab_size"])?,
        max_positions: json.number_or(&["max_position_embeddings"], absent.max_positions)?,
    };
    let rotary = Rotary::read(json, shape.head_dim, shape.max_positions, Defaults::default())?;
    let eps = json.real_or("rms_norm_eps", absent.norm_eps)?;
    let mut config = Config::new(json, shape, blocks, llama_layout(), NormKind::Rms, eps)?.with_rotary(rotary);
    config.activation = Activation::read(json.optional_text("hidden_act")?.unwrap_or("silu"))?;
    config.tie_embeddings = json.flag("tie_word_embeddings", false)?;
    let bias = json.flag("attention_bias", false)?;
    let block = &mut config.layout.block;
    block.o.bias = bias;
    if let Qkv::Apart { q, k, v, .. } = &mut block.qkv {
        [q, k, v].into_iter().for_each(|linear| linear.bias = bias);
    }
    Ok(config)
}

/// Which layers have a window: as `layer_types` says, else by their index.
fn layer_types(json: Settings<'_>, layers: usize, sliding: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    let types = json.get("layer_types");
    if types.is_null() {
        return Ok((0..layers).map(sliding).collect());
    }
    let types = types.as_array().context("`layer_types` is no list")?;
    ensure!(types.len() == layers, "`layer_types` has {} entries for {layers} layers", types.len());
    let is_sliding = |kind: &serde_json::Value| match kind.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => bail!("`layer_types` holds `{kind}`: known are full_attention and sliding_attention"),
    };
    types.iter().map(is_sliding).collect()
}

/// The slopes of ALiBi: a geometric series; where the number of heads is no power of 2, with every other number of the
/// next finer series behind it.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "heads are few, models are f32")]
fn alibi_slopes(heads: usize) -> Vec<f32> {
    let series = |count: usize| {
        let base = (-8.0 / count as f64).exp2() as f32;
        (1..=count).map(move |power| base.powf(power as f32))
    };
    let power_of_2 = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    series(power_of_2).chain(series(2 * power_of_2).step_by(2)).take(heads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_paper() {
        let assert_close = |heads: usize, expected: &[f32]| {
            let slopes = alibi_slopes(heads);
            assert_eq!(slopes.len(), heads);
            for (slope, expected) in slopes.iter().zip(expected) {
                assert!((slope - expected).abs() < 1e-7, "{slopes:?}");
            }
        };
        assert_close(8, &[0.5, 0.25, 0.125]);
        assert_close(6, &[0.25, 0.062_5, 0.015_625, 0.003_906_25, 0.5, 0.125]);
    }
}
