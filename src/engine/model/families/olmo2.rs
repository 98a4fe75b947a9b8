//! OLMo 2: Llama with its norms behind attention and feed-forward layer, and norms of all queries and of all keys.

use super::{Absent, Config, QkNorms, Qkv, Result, Settings, llama_like};

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    let mut config = llama_like(json, Absent { head_dim: None, max_positions: 2048, norm_eps: 1e-5 })?;
    let block = &mut config.layout.block;
    block.attention_norm = None;
    block.attention_post_norm = Some("post_attention_layernorm");
    block.mlp_norm = None;
    block.mlp_post_norm = Some("post_feedforward_layernorm");
    if let Qkv::Apart { norms, .. } = &mut block.qkv {
        *norms = Some(QkNorms { q: "self_attn.q_norm", k: "self_attn.k_norm", per_head: false });
    }
    Ok(config)
}
