//! Llama: RMS norms, rotary positions, grouped heads, SwiGLU.

use super::{Absent, Config, Mlp, Result, Settings, llama_like};

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    let mut config = llama_like(json, Absent { head_dim: None, max_positions: 2048, norm_eps: 1e-6 })?;
    if json.flag("mlp_bias", false)?
        && let Mlp::Gated { gate, up, down } = &mut config.layout.block.mlp
    {
        [gate, up, down].into_iter().for_each(|linear| linear.bias = true);
    }
    Ok(config)
}
