//! BLOOM: layer norms, also of tokens' vectors, ALiBi, queries, keys and values of a head side by side.

use super::{
    Activation, Block, Config, Layout, Mlp, NormKind, Order, Qkv, Result, Settings, Shape, alibi_slopes, biased, linear,
};
use crate::engine::model::Alibi;

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    json.refuse("apply_residual_connection_post_layernorm")?;
    let hidden_size = json.number(&["hidden_size", "n_embed"])?;
    let heads = json.number(&["n_head", "num_attention_heads"])?;
    let blocks = json.number(&["n_layer", "num_hidden_layers"])?;
    let shape = Shape {
        hidden_size,
        embedding_size: hidden_size,
        heads,
        kv_heads: heads,
        head_dim: hidden_size / heads,
        intermediate_size: 4 * hidden_size,
        vocab_size: json.number(&["vocab_size"])?,
        // The model knows no end; this is how long the texts were that it learned from.
        max_positions: json.number_or(&["seq_length"], 2048)?,
    };
    let eps = json.real_or("layer_norm_epsilon", 1e-5)?;
    let mut config = Config::new(json, shape, blocks, layout(), NormKind::Layer { bias: true }, eps)?;
    config.alibi = Some(Alibi { slopes: alibi_slopes(heads), rounded: false, scale: 1.0 });
    config.activation = Activation::GeluTanh;
    config.tie_embeddings = json.flag("tie_word_embeddings", true)?;
    Ok(config)
}

fn layout() -> Layout {
    Layout {
        prefix: "transformer.",
        embedding: "transformer.word_embeddings",
        embedding_norm: Some("transformer.word_embeddings_layernorm"),
        positions: None,
        projections: None,
        blocks: "transformer.h",
        block: Block {
            attention_norm: Some("input_layernorm"),
            qkv: Qkv::Fused(biased("self_attention.query_key_value"), Order::Groups),
            o: biased("self_attention.dense"),
            attention_post_norm: None,
            mlp_norm: Some("post_attention_layernorm"),
            mlp: Mlp::Plain { up: biased("mlp.dense_h_to_4h"), down: biased("mlp.dense_4h_to_h") },
            mlp_post_norm: None,
        },
        norm: Some("transformer.ln_f"),
        head: linear("lm_head"),
        conv1d: false,
        buffers: &[],
    }
}
