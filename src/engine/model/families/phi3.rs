//! Phi 3: Llama with one layer for queries, keys and values, and one for the gate and what it lets through.

use super::{Absent, Config, Mlp, Order, Qkv, Result, Settings, linear, llama_like};

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    let mut config = llama_like(json, Absent { head_dim: None, max_positions: 4096, norm_eps: 1e-5 })?;
    let block = &mut config.layout.block;
    block.qkv = Qkv::Fused(linear("self_attn.qkv_proj"), Order::Parts);
    block.mlp = Mlp::GatedFused { gate_up: linear("mlp.gate_up_proj"), down: linear("mlp.down_proj") };
    block.o.bias = false;
    let window = json.optional_number("sliding_window")?;
    config.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(config)
}
