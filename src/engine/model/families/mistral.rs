//! Mistral: Llama that sees no further back than its window.

use super::{Absent, Config, Result, Settings, llama_like};

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    let mut config = llama_like(json, Absent { head_dim: None, max_positions: 131_072, norm_eps: 1e-6 })?;
    let window = json.optional_number("sliding_window")?;
    config.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(config)
}
