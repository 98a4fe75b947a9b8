//! MPNet: positions as in RoBERTa, and a bias by distance in all blocks.

use super::{
    BERT_LAYOUT, Block, Config, Layout, POSITIONS, Positions, Qkv, Relative, Result, Settings, Shape, ensure,
    roberta_head,
};
use crate::engine::encoder::relative::CLASSES;

/// Its code has the number, whatever the settings say.
const PADDING: u32 = 1;

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    let rows = json.number_or(&["max_position_embeddings"], 512)?;
    ensure!(rows > 2, "`max_position_embeddings` is {rows}, and the first position 2");
    let layout = Layout {
        prefix: "mpnet.",
        positions: Some(Positions { name: POSITIONS, rows, first: 2, padding: Some(PADDING) }),
        block: Block {
            qkv: Qkv::Apart { q: "attention.attn.q", k: "attention.attn.k", v: "attention.attn.v" },
            o: "attention.attn.o",
            attention_norm: "attention.LayerNorm",
            ..BERT_LAYOUT.block
        },
        ..BERT_LAYOUT
    };
    let mut config = Config::new(json, Shape::read(json)?, layout, roberta_head(json)?, 1e-12)?;
    let rows = json.number_or(&["relative_attention_num_buckets"], CLASSES)?;
    ensure!(rows >= CLASSES, "`relative_attention_num_buckets` is {rows}: at least {CLASSES} are needed");
    config.relative = Relative::Bias { name: "encoder.relative_attention_bias", rows };
    Ok(config)
}
