//! What a model is made of: its widths, and the description of its family, from `config.json`.

use super::block::{Block, NormPlace, Part, Place};
use super::families;
use super::rotary::Rotary;
use super::settings::{self, Settings};
use crate::engine::activation::Activation;
use crate::engine::kernels::NormKind;
use crate::engine::tokenizer::Tokenizer;
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use std::path::Path;

/// Whether a target names a linear layer: by its whole name, or by the last parts of it.
pub fn is_target(name: &str, target: &str) -> bool {
    name == target || name.strip_suffix(target).is_some_and(|rest| rest.ends_with('.'))
}

/// A linear layer of a family's blocks: its name, and whether it has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearName {
    /// Name of the module in transformers, within its block.
    pub name: &'static str,
    /// Whether it has a bias.
    pub bias: bool,
}

/// What stands around the blocks of a model whose tokens have vectors of another width than its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projections<L> {
    /// From the width of tokens' vectors to that of the blocks.
    pub input: L,
    /// Back.
    pub output: L,
}

impl<L> Projections<L> {
    /// Both, to be changed.
    pub fn as_mut(&mut self) -> (&mut L, &mut L) {
        (&mut self.input, &mut self.output)
    }
}

/// The modules of a family, by their names in transformers.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// What files of some makers leave out before every name.
    pub prefix: &'static str,
    /// Vectors of the tokens.
    pub embedding: &'static str,
    /// Norm of those vectors.
    pub embedding_norm: Option<&'static str>,
    /// Vectors of the positions, and the row of the first position.
    pub positions: Option<(&'static str, usize)>,
    /// What stands around the blocks, where tokens' vectors have another width.
    pub projections: Option<Projections<LinearName>>,
    /// What stands before a block's number.
    pub blocks: &'static str,
    /// A block.
    pub block: Block<&'static str, LinearName>,
    /// The last norm.
    pub norm: Option<&'static str>,
    /// From vectors to logits, where it is not the embedding.
    pub head: LinearName,
    /// Whether files have all matrices but that of the head as `inputs × outputs` (GPT-2's Conv1D).
    pub conv1d: bool,
    /// How names of tensors end that stand in files but are no weights.
    pub buffers: &'static [&'static str],
}

/// How attention and feed-forward layer stand in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// One after the other, each added to what came in.
    Sequential,
    /// The same, with the norm behind each half not on what is added but on the sum.
    SequentialNormed,
    /// Both on what came into the block, each behind its own norm.
    Parallel,
    /// The same, behind one norm.
    ParallelShared,
}

/// What differs between the attention of blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// How many positions can be seen, the own one among them; all that came before, where there is no number.
    pub window: Option<usize>,
    /// Which of the model's rotary positions it has, if any.
    pub rotary: Option<usize>,
    /// What the product of query and key is multiplied by.
    pub scale: f32,
    /// What that comes near to and never reaches, where there is a number.
    pub cap: Option<f32>,
}

/// Attention that fades with distance (ALiBi, arXiv 2108.12409).
#[derive(Clone, Debug, PartialEq)]
pub struct Alibi {
    /// What a score grows by per position, by head.
    pub slopes: Vec<f32>,
    /// Whether slopes, positions and products are rounded to bfloat16.
    pub rounded: bool,
    /// What the growth is multiplied by.
    pub scale: f32,
}

/// Widths and counts that every family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width of a token's vector in the blocks.
    pub hidden_size: usize,
    /// Width of a token's vector in the embedding and before the output layer.
    pub embedding_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest text in tokens.
    pub max_positions: usize,
}

/// A model without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Its widths and counts.
    pub shape: Shape,
    /// The blocks, in order.
    pub layers: Vec<Layer>,
    /// Rotary positions of the layers.
    pub rotaries: Vec<Rotary>,
    /// Attention that fades with distance.
    pub alibi: Option<Alibi>,
    /// What the norms do.
    pub norm: NormKind,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Of the feed-forward layers.
    pub activation: Activation,
    /// How attention and feed-forward layer stand in a block.
    pub residual: Residual,
    /// What tokens' vectors are multiplied by.
    pub embedding_scale: Option<f32>,
    /// What logits come near to and never reach, where there is a number.
    pub logit_cap: Option<f32>,
    /// Whether the output layer is the embedding, transposed.
    pub tie_embeddings: bool,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    /// The modules and their names.
    pub layout: Layout,
    /// The contents of `config.json`.
    source: Value,
}

impl Config {
    /// Reads `config.json` of a folder in HF layout. Fails with the setting that is missing, odd or not supported.
    pub fn read(folder: &Path) -> Result<Self> {
        settings::read(&folder.join("config.json"), Self::from_json)
    }

    /// Reads the contents of a `config.json`.
    pub fn from_json(json: &Value) -> Result<Self> {
        let Some(name) = json["model_type"].as_str() else { bail!("`model_type` is missing") };
        let config = families::find(name)?(Settings(json))?;
        let Shape { heads, kv_heads, .. } = config.shape;
        ensure!(
            heads.is_multiple_of(kv_heads),
            "`num_key_value_heads` {kv_heads} does not divide `num_attention_heads` {heads}"
        );
        Ok(config)
    }

    /// A model of `blocks` blocks that are all alike, with scores divided by the root of a head's width, without positions.
    #[expect(clippy::cast_precision_loss, reason = "a head is far narrower than 2^24")]
    pub(super) fn new(
        json: Settings<'_>,
        shape: Shape,
        blocks: usize,
        layout: Layout,
        norm: NormKind,
        norm_eps: f64,
    ) -> Result<Self> {
        let layer = Layer { window: None, rotary: None, scale: 1.0 / (shape.head_dim as f32).sqrt(), cap: None };
        #[expect(clippy::cast_possible_truncation, reason = "the model computes in f32")]
        let norm_eps = norm_eps as f32;
        Ok(Self {
            shape,
            layers: vec![layer; blocks],
            rotaries: Vec::new(),
            alibi: None,
            norm,
            norm_eps,
            activation: Activation::Silu,
            residual: Residual::Sequential,
            embedding_scale: None,
            logit_cap: None,
            tie_embeddings: false,
            initializer_range: json.real_or("initializer_range", 0.02)?,
            layout,
            source: json.0.clone(),
        })
    }

    /// Gives all layers the same rotary positions.
    pub(super) fn with_rotary(mut self, (rotary, positions): (Rotary, usize)) -> Self {
        self.rotaries = vec![rotary];
        self.shape.max_positions = positions;
        self.layers.iter_mut().for_each(|layer| layer.rotary = Some(0));
        self
    }

    /// The contents of `config.json` for the weights as titer writes them: as it was read, but for their type.
    pub fn to_json(&self) -> Value {
        let mut json = self.source.clone();
        if let Some(table) = json.as_object_mut() {
            table.shift_remove("torch_dtype");
            table.insert("dtype".to_string(), json!("float32"));
        }
        json
    }

    /// Names of the linear layers between embedding and output layer, in order: those that can carry an adapter.
    pub fn linear_names(&self) -> impl Iterator<Item = String> {
        let linears: Vec<&str> = self.linears().into_iter().map(|(linear, _)| linear.name).collect();
        let blocks = self.layout.blocks;
        let of_blocks = (0..self.layers.len())
            .flat_map(move |block| linears.clone().into_iter().map(move |name| format!("{blocks}.{block}.{name}")));
        let around = |which: fn(Projections<LinearName>) -> LinearName| {
            self.layout.projections.map(|around| which(around).name.to_string())
        };
        let (input, output) = (around(|around| around.input), around(|around| around.output));
        input.into_iter().chain(of_blocks).chain(output)
    }

    /// Inputs and outputs of the linear layer of a name.
    pub fn linear_widths(&self, name: &str) -> Option<(usize, usize)> {
        if let Some(Projections { input, output }) = self.layout.projections {
            let Shape { hidden_size, embedding_size, .. } = self.shape;
            match name {
                _ if name == input.name => return Some((embedding_size, hidden_size)),
                _ if name == output.name => return Some((hidden_size, embedding_size)),
                _ => {}
            }
        }
        let (block, name) = name.strip_prefix(self.layout.blocks)?.strip_prefix('.')?.split_once('.')?;
        if block.parse::<usize>().ok()? >= self.layers.len() {
            return None;
        }
        let (_, place) = self.linears().into_iter().find(|(linear, _)| linear.name == name)?;
        Some(self.widths(place))
    }

    /// The linear layers of a block, in order.
    fn linears(&self) -> Vec<(LinearName, Place)> {
        let parts = self.layout.block.clone().parts();
        let linear = |part| match part {
            Part::Linear(linear, place) => Some((linear, place)),
            Part::Norm(_) => None,
        };
        parts.into_iter().filter_map(linear).collect()
    }

    /// Inputs and outputs of a linear layer.
    pub fn widths(&self, place: Place) -> (usize, usize) {
        let (hidden, inner) = (self.shape.hidden_size, self.shape.intermediate_size);
        let (query, kv) = (self.query_width(), self.kv_width());
        match place {
            Place::Q => (hidden, query),
            Place::Kv => (hidden, kv),
            Place::Qkv => (hidden, query + 2 * kv),
            Place::O => (query, hidden),
            Place::Up => (hidden, inner),
            Place::GateUp => (hidden, 2 * inner),
            Place::Down => (inner, hidden),
        }
    }

    /// Width of a norm.
    pub fn norm_width(&self, place: NormPlace) -> usize {
        match place {
            NormPlace::Token => self.shape.hidden_size,
            NormPlace::Queries => self.query_width(),
            NormPlace::Keys => self.kv_width(),
            NormPlace::Head => self.shape.head_dim,
        }
    }

    /// Width of all query heads.
    pub fn query_width(&self) -> usize {
        self.shape.heads * self.shape.head_dim
    }

    /// Width of all key heads, and of all value heads.
    pub fn kv_width(&self) -> usize {
        self.shape.kv_heads * self.shape.head_dim
    }
}

/// A new Llama's settings, from which its `config.json` is made.
#[derive(Clone, Copy, Debug)]
pub struct NewLlama {
    /// Width of a token's vector.
    pub hidden_size: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Longest text in tokens.
    pub max_positions: usize,
    /// Base of the rotary position's wavelengths.
    pub rope_theta: f64,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// Whether the output layer is the embedding, transposed.
    pub tie_embeddings: bool,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
}

impl NewLlama {
    /// The shape of a new model, with `config.json` as transformers 5 writes it (and older ones read it).
    pub fn config(&self, tokenizer: &Tokenizer) -> Result<Config> {
        Config::from_json(&json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": tokenizer.bos(),
            "dtype": "float32",
            "eos_token_id": tokenizer.eos().first(),
            "head_dim": self.hidden_size / self.heads,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_positions,
            "mlp_bias": false,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pad_token_id": tokenizer.pad(),
            "rms_norm_eps": shortest(self.norm_eps),
            "rope_parameters": { "rope_theta": shortest(self.rope_theta), "rope_type": "default" },
            "rope_theta": shortest(self.rope_theta),
            "tie_word_embeddings": self.tie_embeddings,
            "use_cache": true,
            "vocab_size": tokenizer.vocab_size(),
        }))
    }
}

/// The f64 whose shortest text is that of the number as f32: 1e-5, not 0.000009999999747.
#[expect(clippy::cast_possible_truncation, reason = "the model computes in f32")]
fn shortest(value: f64) -> f64 {
    let value = value as f32;
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama() -> Value {
        json!({
            "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 5, "num_attention_heads": 8,
            "num_key_value_heads": 4, "intermediate_size": 172, "vocab_size": 512, "rms_norm_eps": 1e-5,
        })
    }

    #[test]
    fn theta_is_found_at_both_places() {
        let mut json = llama();
        // Heads of 8 numbers: the second pair's frequency is 1 / theta^(1/4).
        let theta = |json: &Value| Config::from_json(json).unwrap().rotaries[0].frequencies[1].powi(-4).round();
        assert_eq!(theta(&json), 10_000.0);
        json["rope_theta"] = json!(160_000.0);
        assert_eq!(theta(&json), 160_000.0);
        json["rope_parameters"] = json!({ "rope_theta": 6561.0, "rope_type": "default" });
        assert_eq!(theta(&json), 6561.0);
    }

    #[test]
    fn a_config_is_written_as_it_was_read() {
        let mut json = llama();
        json["torch_dtype"] = json!("bfloat16");
        json["of_somebody_else"] = json!([1, { "a": null }]);
        let mut expected = json.clone();
        expected.as_object_mut().unwrap().shift_remove("torch_dtype");
        expected["dtype"] = json!("float32");
        assert_eq!(Config::from_json(&json).unwrap().to_json(), expected);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cases = [
            ("model_type", json!("lama"), "unknown `model_type` `lama`: did you mean `llama`?"),
            ("model_type", json!("mamba"), "unknown `model_type` `mamba`: known are "),
            ("attention_bias", json!("yes"), "`attention_bias` is `\"yes\"`"),
            ("hidden_act", json!("softplus"), "`softplus`"),
            ("rope_parameters", json!({ "rope_type": "spiral" }), "`spiral`"),
            ("hidden_size", json!(-3), "`hidden_size` is `-3`"),
            ("vocab_size", Value::Null, "`vocab_size` is missing"),
            ("num_key_value_heads", json!(3), "does not divide"),
            ("num_attention_heads", json!(0), "`num_attention_heads` is `0`"),
        ];
        for (setting, value, expected) in cases {
            let mut json = llama();
            json[setting] = value;
            let error = format!("{:#}", Config::from_json(&json).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
