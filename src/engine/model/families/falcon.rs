//! Falcon in its three styles: 7B (one key head, one norm), 40B (grouped heads, a norm for each half of a block) and RW
//! (ALiBi, one half of a block after the other).

use super::{
    Activation, Block, Config, Defaults, Layout, LinearName, Mlp, NormKind, Order, Qkv, Residual, Result, Rotary,
    Settings, Shape, alibi_slopes, linear,
};
use crate::engine::model::Alibi;

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    let hidden_size = json.number(&["hidden_size"])?;
    let heads = json.number(&["num_attention_heads", "n_head"])?;
    let new = json.flag("new_decoder_architecture", false)?;
    let blocks = json.number(&["num_hidden_layers", "n_layer"])?;
    let shape = Shape {
        hidden_size,
        embedding_size: hidden_size,
        heads,
        kv_heads: match json.flag("multi_query", true)? {
            _ if new => json.number_or(&["num_kv_heads", "n_head_kv"], heads)?,
            true => 1,
            false => heads,
        },
        head_dim: hidden_size / heads,
        intermediate_size: json.number_or(&["ffn_hidden_size"], 4 * hidden_size)?,
        vocab_size: json.number(&["vocab_size"])?,
        max_positions: json.number_or(&["max_position_embeddings"], 2048)?,
    };
    let parallel = json.flag("parallel_attn", true)?;
    let norms = json.number_or(&["num_ln_in_parallel_attn"], if new { 2 } else { 1 })?;
    let residual = match (new || parallel, parallel && new && norms == 2) {
        (_, true) => Residual::Parallel,
        (true, _) => Residual::ParallelShared,
        (false, _) => Residual::Sequential,
    };
    let layout = layout(json.flag("bias", false)?, residual);
    let eps = json.real_or("layer_norm_epsilon", 1e-5)?;
    let mut config = Config::new(json, shape, blocks, layout, NormKind::Layer { bias: true }, eps)?;
    if json.flag("alibi", false)? {
        // transformers rounds to bfloat16 whatever the weights are, and divides the growth like the scores.
        let scale = config.layers[0].scale;
        config.alibi = Some(Alibi { slopes: alibi_slopes(heads), rounded: true, scale });
    } else {
        let rotary = Rotary::read(json, shape.head_dim, shape.max_positions, Defaults::default())?;
        config = config.with_rotary(rotary);
    }
    config.residual = residual;
    config.activation = Activation::read(json.optional_text("activation")?.unwrap_or("gelu"))?;
    config.tie_embeddings = json.flag("tie_word_embeddings", true)?;
    Ok(config)
}

fn layout(bias: bool, residual: Residual) -> Layout {
    let (attention_norm, mlp_norm) = match residual {
        Residual::Parallel => ("ln_attn", Some("ln_mlp")),
        Residual::ParallelShared => ("input_layernorm", None),
        _ => ("input_layernorm", Some("post_attention_layernorm")),
    };
    let linear_of = |name| LinearName { name, bias };
    Layout {
        prefix: "transformer.",
        embedding: "transformer.word_embeddings",
        embedding_norm: None,
        positions: None,
        projections: None,
        blocks: "transformer.h",
        block: Block {
            attention_norm: Some(attention_norm),
            qkv: Qkv::Fused(linear_of("self_attention.query_key_value"), Order::Groups),
            o: linear_of("self_attention.dense"),
            attention_post_norm: None,
            mlp_norm,
            mlp: Mlp::Plain { up: linear_of("mlp.dense_h_to_4h"), down: linear_of("mlp.dense_4h_to_h") },
            mlp_post_norm: None,
        },
        norm: Some("transformer.ln_f"),
        head: linear("lm_head"),
        conv1d: false,
        buffers: &["rotary_emb.inv_freq"],
    }
}
