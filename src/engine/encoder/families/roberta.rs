//! RoBERTa and XLM-RoBERTa: BERT whose positions begin behind the padding token's number.

use super::bert::absolute_positions;
use super::{BERT_LAYOUT, Config, Layout, POSITIONS, Positions, Result, Settings, Shape, TYPES, ensure, roberta_head};

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    absolute_positions(json)?;
    // Zero is a token, too.
    let padding = json.get("pad_token_id").as_u64().unwrap_or(1);
    let first = usize::try_from(padding)? + 1;
    let rows = json.number_or(&["max_position_embeddings"], 512)?;
    ensure!(rows > first, "`max_position_embeddings` is {rows}, and the first position {first}");
    let layout = Layout {
        prefix: "roberta.",
        positions: Some(Positions { name: POSITIONS, rows, first, padding: Some(u32::try_from(padding)?) }),
        types: Some((TYPES, json.number_or(&["type_vocab_size"], 2)?)),
        ..BERT_LAYOUT
    };
    Config::new(json, Shape::read(json)?, layout, roberta_head(json)?, 1e-12)
}
