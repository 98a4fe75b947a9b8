//! GPT-2: learned positions, layer norms, biases, matrices that files have as `inputs × outputs`.

use super::{Activation, Block, Config, Layout, Mlp, NormKind, Order, Qkv, Result, Settings, Shape, biased, linear};

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    json.refuse("add_cross_attention")?;
    let hidden_size = json.number(&["n_embd", "hidden_size"])?;
    let heads = json.number(&["n_head", "num_attention_heads"])?;
    let blocks = json.number(&["n_layer", "num_hidden_layers"])?;
    let shape = Shape {
        hidden_size,
        embedding_size: hidden_size,
        heads,
        kv_heads: heads,
        head_dim: hidden_size / heads,
        intermediate_size: json.number_or(&["n_inner"], 4 * hidden_size)?,
        vocab_size: json.number(&["vocab_size"])?,
        max_positions: json.number_or(&["n_positions", "max_position_embeddings"], 1024)?,
    };
    let eps = json.real_or("layer_norm_epsilon", 1e-5)?;
    let mut config = Config::new(json, shape, blocks, layout(), NormKind::Layer { bias: true }, eps)?;
    let scaled = json.flag("scale_attn_weights", true)?;
    let by_layer = json.flag("scale_attn_by_inverse_layer_idx", false)?;
    for (layer, number) in config.layers.iter_mut().zip(1u16..) {
        layer.scale = if scaled { layer.scale } else { 1.0 };
        layer.scale /= if by_layer { f32::from(number) } else { 1.0 };
    }
    config.activation = Activation::read(json.optional_text("activation_function")?.unwrap_or("gelu_new"))?;
    config.tie_embeddings = json.flag("tie_word_embeddings", true)?;
    Ok(config)
}

fn layout() -> Layout {
    Layout {
        prefix: "transformer.",
        embedding: "transformer.wte",
        embedding_norm: None,
        positions: Some(("transformer.wpe", 0)),
        projections: None,
        blocks: "transformer.h",
        block: Block {
            attention_norm: Some("ln_1"),
            qkv: Qkv::Fused(biased("attn.c_attn"), Order::Parts),
            o: biased("attn.c_proj"),
            attention_post_norm: None,
            mlp_norm: Some("ln_2"),
            mlp: Mlp::Plain { up: biased("mlp.c_fc"), down: biased("mlp.c_proj") },
            mlp_post_norm: None,
        },
        norm: Some("transformer.ln_f"),
        head: linear("lm_head"),
        conv1d: true,
        buffers: &["attn.bias", "attn.masked_bias"],
    }
}
