//! Gemma and Gemma 3 (text): norms that multiply by `1 + weight`, tokens' vectors times the root of their width, a gate
//! of GELU; Gemma 3 with norms behind both halves of a block and of every head, and windows in most layers.

use super::{
    Absent, Activation, Config, Defaults, NormKind, QkNorms, Qkv, Result, Rotary, Settings, layer_types, llama_like,
};
use anyhow::ensure;

/// Gemma.
pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    let mut config = gemma_like(json, 8192)?;
    // The first configurations said `gelu` and meant its approximation; `hidden_activation` came to put that right.
    if json.get("hidden_activation").is_null() && json.get("hidden_act") == "gelu" {
        config.activation = Activation::GeluTanh;
    }
    Ok(config)
}

/// Gemma 3's language model.
#[expect(clippy::cast_possible_truncation, reason = "the model computes in f32")]
pub(super) fn read_3(json: Settings<'_>) -> Result<Config> {
    json.refuse("attn_logit_softcapping")?;
    json.refuse("final_logit_softcapping")?;
    let mut config = gemma_like(json, 131_072)?;
    let block = &mut config.layout.block;
    block.attention_post_norm = Some("post_attention_layernorm");
    block.mlp_norm = Some("pre_feedforward_layernorm");
    block.mlp_post_norm = Some("post_feedforward_layernorm");
    if let Qkv::Apart { norms, .. } = &mut block.qkv {
        *norms = Some(QkNorms { q: "self_attn.q_norm", k: "self_attn.k_norm", per_head: true });
    }

    config.rotaries = rotaries(json, &mut config)?;
    let scalar = json.real_or("query_pre_attn_scalar", 256.0)?;
    ensure!(scalar > 0.0, "`query_pre_attn_scalar` is {scalar}: expected a number above 0");
    let window = json.number_or(&["sliding_window"], 4096)?;
    let pattern = json.number_or(&["sliding_window_pattern", "_sliding_window_pattern"], 6)?;
    let sliding = layer_types(json, config.layers.len(), |index| (index + 1) % pattern != 0)?;
    for (layer, sliding) in config.layers.iter_mut().zip(sliding) {
        layer.scale = scalar.powf(-0.5) as f32;
        layer.rotary = Some(usize::from(sliding));
        layer.window = sliding.then_some(window);
    }
    Ok(config)
}

/// Rotary positions of layers that see everything, and of layers with a window.
fn rotaries(json: Settings<'_>, config: &mut Config) -> Result<Vec<Rotary>> {
    let (head_dim, positions) = (config.head_dim, config.max_positions);
    let full = Defaults { theta: 1_000_000.0, ..Defaults::default() };
    let local = Defaults { theta: json.real_or("rope_local_base_freq", 10_000.0)?, ..Defaults::default() };
    let tables = Settings(json.get("rope_parameters"));
    let of = |name: &str| Settings(tables.get(name));
    let (full, positions) = match tables.get("full_attention").is_object() {
        true => Rotary::of_table(json, of("full_attention"), head_dim, positions, full)?,
        false => Rotary::read(json, head_dim, positions, full)?,
    };
    config.max_positions = positions;
    let (local, _) = Rotary::of_table(json, of("sliding_attention"), head_dim, positions, local)?;
    Ok(vec![full, local])
}

#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
fn gemma_like(json: Settings<'_>, max_positions: usize) -> Result<Config> {
    json.refuse("use_bidirectional_attention")?;
    let mut config = llama_like(json, Absent { head_dim: Some(256), max_positions, norm_eps: 1e-6 })?;
    config.norm = NormKind::RmsPlusOne;
    config.embedding_scale = Some((config.hidden_size as f32).sqrt());
    config.tie_embeddings = json.flag("tie_word_embeddings", true)?;
    let activation = match json.optional_text("hidden_activation")? {
        None => json.optional_text("hidden_act")?,
        named => named,
    };
    config.activation = Activation::read(activation.unwrap_or("gelu_pytorch_tanh"))?;
    Ok(config)
}
