//! OPT: learned positions from row 2 on, layer norms, biases, ReLU; the one of 350 million with its norms behind each half of
//! a block, and narrower vectors of tokens.

use super::{
    Activation, Block, Config, Layout, LinearName, Mlp, NormKind, Projections, Qkv, Residual, Result, Settings, Shape,
    linear,
};
use anyhow::ensure;

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    let hidden_size = json.number(&["hidden_size"])?;
    let heads = json.number(&["num_attention_heads"])?;
    let blocks = json.number(&["num_hidden_layers"])?;
    let shape = Shape {
        hidden_size,
        embedding_size: json.number_or(&["word_embed_proj_dim"], hidden_size)?,
        heads,
        kv_heads: heads,
        head_dim: hidden_size / heads,
        intermediate_size: json.number(&["ffn_dim"])?,
        vocab_size: json.number(&["vocab_size"])?,
        max_positions: json.number_or(&["max_position_embeddings"], 2048)?,
    };
    let affine = json.flag("layer_norm_elementwise_affine", true)?;
    ensure!(affine, "`layer_norm_elementwise_affine` is false, which is not supported");
    let mut layout = layout(json.flag("enable_bias", true)?);
    if shape.embedding_size != hidden_size {
        layout.projections = Some(Projections {
            input: linear("model.decoder.project_in"),
            output: linear("model.decoder.project_out"),
        });
    }
    let norm_before = json.flag("do_layer_norm_before", true)?;
    if !norm_before || json.flag("_remove_final_layer_norm", false)? {
        layout.norm = None;
    }
    if !norm_before {
        let block = &mut layout.block;
        block.attention_post_norm = block.attention_norm.take();
        block.mlp_post_norm = block.mlp_norm.take();
    }
    let mut config = Config::new(json, shape, blocks, layout, NormKind::Layer { bias: true }, 1e-5)?;
    if !norm_before {
        config.residual = Residual::SequentialNormed;
    }
    config.initializer_range = json.real_or("init_std", 0.02)?;
    config.activation = Activation::read(json.optional_text("activation_function")?.unwrap_or("relu"))?;
    config.tie_embeddings = json.flag("tie_word_embeddings", true)?;
    Ok(config)
}

fn layout(bias: bool) -> Layout {
    let linear_of = |name| LinearName { name, bias };
    Layout {
        // The oldest files begin with `decoder.`.
        prefix: "model.",
        embedding: "model.decoder.embed_tokens",
        embedding_norm: None,
        positions: Some(("model.decoder.embed_positions", 2)),
        projections: None,
        blocks: "model.decoder.layers",
        block: Block {
            attention_norm: Some("self_attn_layer_norm"),
            qkv: Qkv::Apart {
                q: linear_of("self_attn.q_proj"),
                k: linear_of("self_attn.k_proj"),
                v: linear_of("self_attn.v_proj"),
                norms: None,
            },
            o: linear_of("self_attn.out_proj"),
            attention_post_norm: None,
            mlp_norm: Some("final_layer_norm"),
            mlp: Mlp::Plain { up: linear_of("fc1"), down: linear_of("fc2") },
            mlp_post_norm: None,
        },
        norm: Some("model.decoder.final_layer_norm"),
        head: linear("lm_head"),
        conv1d: false,
        buffers: &[],
    }
}
