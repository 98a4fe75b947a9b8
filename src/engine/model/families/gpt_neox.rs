//! GPT-NeoX (Pythia): layer norms, rotary positions on a part of each head, attention and feed-forward layer side by side.

use super::{
    Activation, Block, Config, Defaults, Layout, LinearName, Mlp, NormKind, Order, Qkv, Residual, Result, Rotary,
    Settings, Shape, biased, linear,
};

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    let hidden_size = json.number(&["hidden_size"])?;
    let heads = json.number(&["num_attention_heads"])?;
    let blocks = json.number(&["num_hidden_layers"])?;
    let shape = Shape {
        hidden_size,
        embedding_size: hidden_size,
        heads,
        kv_heads: heads,
        head_dim: hidden_size / heads,
        intermediate_size: json.number(&["intermediate_size"])?,
        vocab_size: json.number(&["vocab_size"])?,
        max_positions: json.number_or(&["max_position_embeddings"], 2048)?,
    };
    let bias = json.flag("attention_bias", true)?;
    let eps = json.real_or("layer_norm_eps", 1e-5)?;
    let defaults = Defaults {
        theta: json.real_or("rotary_emb_base", 10_000.0)?,
        share: json.real_or("rotary_pct", 0.25)?,
        ..Defaults::default()
    };
    let rotary = Rotary::read(json, shape.head_dim, shape.max_positions, defaults)?;
    let mut config =
        Config::new(json, shape, blocks, layout(bias), NormKind::Layer { bias: true }, eps)?.with_rotary(rotary);
    config.activation = Activation::read(json.optional_text("hidden_act")?.unwrap_or("gelu"))?;
    config.tie_embeddings = json.flag("tie_word_embeddings", false)?;
    if json.flag("use_parallel_residual", true)? {
        config.residual = Residual::Parallel;
    }
    Ok(config)
}

fn layout(bias: bool) -> Layout {
    Layout {
        prefix: "gpt_neox.",
        embedding: "gpt_neox.embed_in",
        embedding_norm: None,
        positions: None,
        projections: None,
        blocks: "gpt_neox.layers",
        block: Block {
            attention_norm: Some("input_layernorm"),
            qkv: Qkv::Fused(LinearName { name: "attention.query_key_value", bias }, Order::Groups),
            o: LinearName { name: "attention.dense", bias },
            attention_post_norm: None,
            mlp_norm: Some("post_attention_layernorm"),
            mlp: Mlp::Plain { up: biased("mlp.dense_h_to_4h"), down: biased("mlp.dense_4h_to_h") },
            mlp_post_norm: None,
        },
        norm: Some("gpt_neox.final_layer_norm"),
        head: linear("embed_out"),
        conv1d: false,
        buffers: &["attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"],
    }
}
