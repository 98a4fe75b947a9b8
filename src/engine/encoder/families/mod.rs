//! The families of encoders: each a description, in its own file, of the modules that it has and of what its `config.json`
//! says, and one line in the table here. What the parts do is the same for all.

mod bert;
mod deberta;
mod mpnet;
mod roberta;

use super::config::{
    Block, Config, Convolution, Disentangled, Distances, Head, Layout, Positions, Qkv, Relative, Shape, labels,
};
use crate::diagnostic::closest;
use crate::engine::activation::Activation;
use crate::engine::model::{Settings, is_decoder};
use anyhow::{Result, anyhow, bail, ensure};

/// Makes a description of a `config.json`.
type Read = fn(Settings<'_>) -> Result<Config>;

/// By `model_type`.
const FAMILIES: &[(&str, Read)] = &[
    ("bert", bert::read),
    ("deberta", deberta::read_1),
    ("deberta-v2", deberta::read_2),
    ("mpnet", mpnet::read),
    ("roberta", roberta::read),
    ("xlm-roberta", roberta::read),
];

/// The family of a `model_type`.
pub(super) fn find(name: &str) -> Result<Read> {
    let names = || FAMILIES.iter().map(|(name, _)| *name);
    let family = FAMILIES.iter().find(|(family, _)| *family == name);
    family.map(|(_, read)| *read).ok_or_else(|| {
        let near = closest(name, names()).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        let what = if is_decoder(name) { "is no encoder: it answers texts" } else { "is no known encoder" };
        anyhow!("`model_type` `{name}` {what}: {near}known are {}", names().collect::<Vec<_>>().join(", "))
    })
}

/// The modules of a block as BERT has them.
const BERT_BLOCK: Block = Block {
    qkv: Qkv::Apart { q: "attention.self.query", k: "attention.self.key", v: "attention.self.value" },
    o: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
};

/// Modules as BERT has them; what the other families vary.
const BERT_LAYOUT: Layout = Layout {
    prefix: "bert.",
    embedding: "embeddings.word_embeddings",
    positions: None,
    types: None,
    projection: "embeddings.embed_proj",
    embedding_norm: "embeddings.LayerNorm",
    blocks: "encoder.layer",
    block: BERT_BLOCK,
};

/// Where BERT has the vectors of positions.
const POSITIONS: &str = "embeddings.position_embeddings";
/// Where BERT has the vectors of the kinds of tokens.
const TYPES: &str = "embeddings.token_type_embeddings";

/// RoBERTa's head, which others took over.
fn roberta_head(json: Settings<'_>) -> Result<Head> {
    Ok(Head {
        dense: "classifier.dense",
        inside: false,
        activation: Activation::Tanh,
        out: "classifier.out_proj",
        labels: labels(json)?,
    })
}
