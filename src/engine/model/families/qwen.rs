//! Qwen 2 and 3: Llama with biases on queries, keys and values (2), or with norms of every head (3); later layers may
//! have a window.

use super::{Absent, Config, QkNorms, Qkv, Result, Settings, layer_types, llama_like};

/// Qwen 2 and 2.5.
pub(super) fn read_2(json: Settings<'_>) -> Result<Config> {
    let mut config = windowed(json, None)?;
    if let Qkv::Apart { q, k, v, .. } = &mut config.layout.block.qkv {
        [q, k, v].into_iter().for_each(|linear| linear.bias = true);
    }
    Ok(config)
}

/// Qwen 3.
pub(super) fn read_3(json: Settings<'_>) -> Result<Config> {
    let mut config = windowed(json, Some(128))?;
    if let Qkv::Apart { norms, .. } = &mut config.layout.block.qkv {
        *norms = Some(QkNorms { q: "self_attn.q_norm", k: "self_attn.k_norm", per_head: true });
    }
    Ok(config)
}

fn windowed(json: Settings<'_>, head_dim: Option<usize>) -> Result<Config> {
    let mut config = llama_like(json, Absent { head_dim, max_positions: 32_768, norm_eps: 1e-6 })?;
    if !json.flag("use_sliding_window", false)? {
        return Ok(config);
    }
    let Some(window) = json.optional_number("sliding_window")? else { return Ok(config) };
    // Zero is a number here: all layers have the window.
    let full = json.get("max_window_layers").as_u64().unwrap_or(28);
    let sliding = layer_types(json, config.layers.len(), |index| index as u64 >= full)?;
    for (layer, sliding) in config.layers.iter_mut().zip(sliding) {
        layer.window = sliding.then_some(window);
    }
    Ok(config)
}
