//! Gemma, Gemma 2 and Gemma 3 (text): norms that multiply by `1 + weight`, tokens' vectors times the root of their width, a
//! gate of GELU; from Gemma 2 on with norms also behind both halves of a block, and windows in some layers. Gemma 2 caps
//! scores and logits, Gemma 3 has a norm of every head.

use super::{
    Absent, Activation, Config, Defaults, NormKind, QkNorms, Qkv, Result, Rotary, Settings, Shape, layer_types,
    llama_like,
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

/// Gemma 2.
pub(super) fn read_2(json: Settings<'_>) -> Result<Config> {
    let mut config = windowed(json, 8192, 2)?;
    let cap = cap(json, "attn_logit_softcapping", Some(50.0))?;
    config.layers.iter_mut().for_each(|layer| layer.cap = cap);
    config.logit_cap = self::cap(json, "final_logit_softcapping", Some(30.0))?;
    Ok(config)
}

/// Gemma 3's language model.
pub(super) fn read_3(json: Settings<'_>) -> Result<Config> {
    json.refuse("attn_logit_softcapping")?;
    let mut config = windowed(json, 131_072, 6)?;
    config.logit_cap = cap(json, "final_logit_softcapping", None)?;
    if let Qkv::Apart { norms, .. } = &mut config.layout.block.qkv {
        *norms = Some(QkNorms { q: "self_attn.q_norm", k: "self_attn.k_norm", per_head: true });
    }
    config.rotaries = rotaries(json, &mut config)?;
    for layer in &mut config.layers {
        layer.rotary = Some(usize::from(layer.window.is_some()));
    }
    Ok(config)
}

/// What scores or logits come near to: a number, `null` for nothing, or what stands for it where it is missing.
#[expect(clippy::cast_possible_truncation, reason = "the model computes in f32")]
fn cap(json: Settings<'_>, name: &str, absent: Option<f32>) -> Result<Option<f32>> {
    let cap = match json.optional_real(name)? {
        None if json.has(name) => None,
        None => absent,
        Some(cap) => Some(cap as f32),
    };
    ensure!(cap.is_none_or(|cap| cap > 0.0), "`{name}` is {}: expected a number above 0", json.get(name));
    Ok(cap)
}

/// What came with Gemma 2: norms behind both halves of a block, and a window in all layers but every `full`th.
#[expect(clippy::cast_possible_truncation, reason = "the model computes in f32")]
fn windowed(json: Settings<'_>, max_positions: usize, full: usize) -> Result<Config> {
    let mut config = gemma_like(json, max_positions)?;
    let block = &mut config.layout.block;
    block.attention_post_norm = Some("post_attention_layernorm");
    block.mlp_norm = Some("pre_feedforward_layernorm");
    block.mlp_post_norm = Some("post_feedforward_layernorm");

    let scalar = json.real_or("query_pre_attn_scalar", 256.0)?;
    ensure!(scalar > 0.0, "`query_pre_attn_scalar` is {scalar}: expected a number above 0");
    let window = json.number_or(&["sliding_window"], 4096)?;
    let full = json.number_or(&["sliding_window_pattern", "_sliding_window_pattern"], full)?;
    let sliding = layer_types(json, config.layers.len(), |index| (index + 1) % full != 0)?;
    for (layer, sliding) in config.layers.iter_mut().zip(sliding) {
        layer.scale = scalar.powf(-0.5) as f32;
        layer.window = sliding.then_some(window);
    }
    Ok(config)
}

/// Rotary positions of layers that see everything, and of layers with a window.
fn rotaries(json: Settings<'_>, config: &mut Config) -> Result<Vec<Rotary>> {
    let Shape { head_dim, max_positions: positions, .. } = config.shape;
    let full = Defaults { theta: 1_000_000.0, ..Defaults::default() };
    let local = Defaults { theta: json.real_or("rope_local_base_freq", 10_000.0)?, ..Defaults::default() };
    let tables = Settings(json.get("rope_parameters"));
    let of = |name: &str| Settings(tables.get(name));
    let (full, positions) = match tables.get("full_attention").is_object() {
        true => Rotary::of_table(json, of("full_attention"), head_dim, positions, full)?,
        false => Rotary::read(json, head_dim, positions, full)?,
    };
    config.shape.max_positions = positions;
    let (local, _) = Rotary::of_table(json, of("sliding_attention"), head_dim, positions, local)?;
    Ok(vec![full, local])
}

#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
fn gemma_like(json: Settings<'_>, max_positions: usize) -> Result<Config> {
    json.refuse("use_bidirectional_attention")?;
    let mut config = llama_like(json, Absent { head_dim: Some(256), max_positions, norm_eps: 1e-6 })?;
    config.norm = NormKind::RmsPlusOne;
    config.embedding_scale = Some((config.shape.hidden_size as f32).sqrt());
    config.tie_embeddings = json.flag("tie_word_embeddings", true)?;
    let activation = match json.optional_text("hidden_activation")? {
        None => json.optional_text("hidden_act")?,
        named => named,
    };
    config.activation = Activation::read(activation.unwrap_or("gelu_pytorch_tanh"))?;
    Ok(config)
}
