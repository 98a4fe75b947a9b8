//! BERT, and what is trained on its shape (MiniLM, SimCSE, BGE, …).

use super::{
    Activation, BERT_LAYOUT, Config, Head, Layout, POSITIONS, Positions, Result, Settings, Shape, TYPES, ensure, labels,
};

pub(super) fn read(json: Settings<'_>) -> Result<Config> {
    absolute_positions(json)?;
    let rows = json.number_or(&["max_position_embeddings"], 512)?;
    let layout = Layout {
        positions: Some(Positions { name: POSITIONS, rows, first: 0, padding: None }),
        types: Some((TYPES, json.number_or(&["type_vocab_size"], 2)?)),
        ..BERT_LAYOUT
    };
    let head = Head {
        dense: "pooler.dense",
        inside: true,
        activation: Activation::Tanh,
        out: "classifier",
        labels: labels(json)?,
    };
    Config::new(json, Shape::read(json)?, layout, head, 1e-12)
}

/// Fails on the two old variants whose attention has relative positions.
pub(super) fn absolute_positions(json: Settings<'_>) -> Result<()> {
    let kind = json.optional_text("position_embedding_type")?.unwrap_or("absolute");
    ensure!(kind == "absolute", "`position_embedding_type` is `{kind}`, which is not supported");
    Ok(())
}
