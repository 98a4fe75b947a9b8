//! What an encoder is made of: its widths, and the description of its family, from `config.json`.

use super::families;
use crate::engine::activation::Activation;
use crate::engine::model::{Settings, read_settings};
use anyhow::{Result, bail, ensure};
use serde_json::Value;
use std::path::Path;

/// Widths and counts that every family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width of a token's vector in the blocks.
    pub hidden_size: usize,
    /// Width of a token's vector in the embedding.
    pub embedding_size: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Blocks.
    pub blocks: usize,
}

impl Shape {
    /// Reads what all families call the same.
    pub(super) fn read(json: Settings<'_>) -> Result<Self> {
        let hidden_size = json.number(&["hidden_size"])?;
        let heads = json.number(&["num_attention_heads"])?;
        ensure!(
            hidden_size.is_multiple_of(heads),
            "`num_attention_heads` {heads} does not divide `hidden_size` {hidden_size}"
        );
        Ok(Self {
            hidden_size,
            embedding_size: hidden_size,
            heads,
            head_dim: hidden_size / heads,
            intermediate_size: json.number(&["intermediate_size"])?,
            vocab_size: json.number(&["vocab_size"])?,
            blocks: json.number(&["num_hidden_layers"])?,
        })
    }

    /// Width of all heads.
    pub fn all_heads(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// Vectors of positions that are learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Name of the module.
    pub name: &'static str,
    /// Its rows.
    pub rows: usize,
    /// The row of the first position.
    pub first: usize,
    /// A token that takes no position and has the row before the first.
    pub padding: Option<u32>,
}

/// What queries, keys and values are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qkv {
    /// A layer for each, with a bias.
    Apart {
        /// Queries.
        q: &'static str,
        /// Keys.
        k: &'static str,
        /// Values.
        v: &'static str,
    },
    /// One layer without a bias, head by head: its query, its key, its value; biases apart, none of the keys.
    Fused {
        /// The layer.
        all: &'static str,
        /// Bias of the queries.
        q_bias: &'static str,
        /// Bias of the values.
        v_bias: &'static str,
    },
}

/// The modules of a block, by their names within it. Both halves are added to what came in, and the sum is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What is asked, what answers, and what is heard.
    pub qkv: Qkv,
    /// Attention's output.
    pub o: &'static str,
    /// Norm behind attention.
    pub attention_norm: &'static str,
    /// What goes through the activation.
    pub up: &'static str,
    /// Back to the width of a token.
    pub down: &'static str,
    /// Norm behind the feed-forward layer.
    pub norm: &'static str,
}

/// The modules of a family, by their names in transformers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// What stands before the names of the encoder's modules in files of models that have more than the encoder.
    pub prefix: &'static str,
    /// Vectors of the tokens.
    pub embedding: &'static str,
    /// Vectors of the positions.
    pub positions: Option<Positions>,
    /// Vectors of the kinds of tokens (those of a first and of a second text), and how many kinds there are.
    pub types: Option<(&'static str, usize)>,
    /// From the width of tokens' vectors to that of the blocks, where they differ; it has no bias.
    pub projection: &'static str,
    /// Norm of the sum.
    pub embedding_norm: &'static str,
    /// What stands before a block's number.
    pub blocks: &'static str,
    /// A block.
    pub block: Block,
}

/// How the distance between two tokens counts in attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Relative {
    /// Not at all.
    None,
    /// A number for each head and class of distances is added to the scores (MPNet).
    Bias {
        /// Name of the table: classes × heads.
        name: &'static str,
        /// Its rows.
        rows: usize,
    },
    /// Queries and keys are multiplied with vectors of distances (DeBERTa).
    Disentangled(Disentangled),
}

/// Vectors of distances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disentangled {
    /// Name of their table.
    pub name: &'static str,
    /// Distances on each side; the table has twice as many rows.
    pub span: usize,
    /// Where far distances share rows: up to which distance.
    pub buckets: Option<usize>,
    /// Norm of the table.
    pub norm: Option<&'static str>,
    /// What makes keys of them, for the queries of tokens.
    pub keys: Option<Distances>,
    /// What makes queries of them, for the keys of tokens.
    pub queries: Option<Distances>,
}

/// What a query or key of a distance is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distances {
    /// What makes those of tokens.
    Shared,
    /// A layer of its own, by its name in the block, and whether it has a bias.
    Own(&'static str, bool),
}

/// A convolution over neighbouring tokens, beside the first block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convolution {
    /// Name of the layer.
    pub name: &'static str,
    /// Name of the norm behind it.
    pub norm: &'static str,
    /// Tokens that it sees at once.
    pub taps: usize,
    /// What its output goes through.
    pub activation: Activation,
}

/// What a text is judged by: two layers on the vector of its first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The first layer.
    pub dense: &'static str,
    /// Whether its name is one within the encoder.
    pub inside: bool,
    /// What its output goes through.
    pub activation: Activation,
    /// The second layer.
    pub out: &'static str,
    /// Its outputs.
    pub labels: usize,
}

/// An encoder without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Its widths and counts.
    pub shape: Shape,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Of the feed-forward layers.
    pub activation: Activation,
    /// What the product of query and key is multiplied by.
    pub scale: f32,
    /// How distances count.
    pub relative: Relative,
    /// Beside the first block.
    pub convolution: Option<Convolution>,
    /// The modules and their names.
    pub layout: Layout,
    /// What a text is judged by.
    pub head: Head,
}

impl Config {
    /// Reads `config.json` of a folder in HF layout. Fails with the setting that is missing, odd or not supported.
    pub fn read(folder: &Path) -> Result<Self> {
        read_settings(&folder.join("config.json"), Self::from_json)
    }

    /// Reads the contents of a `config.json`.
    pub fn from_json(json: &Value) -> Result<Self> {
        let Some(name) = json["model_type"].as_str() else { bail!("`model_type` is missing") };
        families::find(name)?(Settings(json))
    }

    /// An encoder with scores divided by the root of a head's width.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "models compute in f32")]
    pub(super) fn new(json: Settings<'_>, shape: Shape, layout: Layout, head: Head, norm_eps: f64) -> Result<Self> {
        json.refuse("is_decoder")?;
        json.refuse("add_cross_attention")?;
        Ok(Self {
            shape,
            norm_eps: json.real_or("layer_norm_eps", norm_eps)? as f32,
            activation: Activation::read(json.optional_text("hidden_act")?.unwrap_or("gelu"))?,
            scale: 1.0 / (shape.head_dim as f32).sqrt(),
            relative: Relative::None,
            convolution: None,
            layout,
            head,
        })
    }

    /// Most tokens of a text, where positions are learned.
    pub fn max_tokens(&self) -> Option<usize> {
        self.layout.positions.map(|positions| positions.rows - positions.first)
    }

    /// Fails where a text could have more tokens than the model has positions.
    ///
    /// # Errors
    /// Says both numbers.
    pub fn check_longest(&self, longest: Option<usize>) -> Result<()> {
        if let (Some(longest), Some(most)) = (longest, self.max_tokens()) {
            ensure!(longest <= most, "`max_tokens` is {longest}, and the model has {most} positions");
        }
        Ok(())
    }
}

/// How many labels a classifier has; two where nothing is said, as in transformers.
pub(super) fn labels(json: Settings<'_>) -> Result<usize> {
    let named = json.get("id2label").as_object().map_or(2, serde_json::Map::len);
    json.number_or(&["num_labels"], named)
}
