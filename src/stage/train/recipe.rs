//! What can be set about a training, and how each setting is read.
//!
//! Defaults are those of the paper's LoRA runs (arXiv 2310.14103), with one exception that is said where it stands.

use crate::diagnostic::{Diagnostic, Problems};
use crate::prompt::Template;
use crate::settings::{Decode, Schema, Value, ValueKind, schema};
use crate::stage::{Dtype, Kind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

crate::settings! {
    /// Everything that can change a byte of a training's output, besides the rows and the base.
    pub struct TrainRecipe {
        /// The adapter's shape; absent: all weights are trained.
        lora: Option<LoraSettings> = None,
        /// The model's shape, where there is no base: its weights begin as random numbers.
        architecture: Option<Architecture> = None,
        /// The tokenizer's making, where there is no base.
        tokenizer: Option<TokenizerSettings> = None,
        /// The prompt around a row.
        template: Template = Template::default(),
        /// How the base's linear layers are held while an adapter learns on them; they are multiplied as f32.
        base_precision: Option<BasePrecision> = None,
        /// What goes through the model on a graphics card, and what a frozen base is held in there where `base_precision`
        /// does not say. By default f32; bf16 where the base's own weights have 16 bits. Weights that learn are f32 anyway,
        /// and on the processor everything is.
        dtype: Option<Dtype> = None,
        /// Which tokens the loss counts. The paper trains on all; answers only is what most of its readers expect.
        loss_on: LossOn = LossOn::Answer,
        /// Tokens of a row (prompt, answer and end) beyond this number are cut off; never more than a new model's
        /// `max_positions`.
        max_length: u32 = 512 => 2..=1_048_576,
        /// Passes over the rows; a fraction ends inside a pass.
        epochs: f64 = 3.0 => 0.0..=1e6,
        /// Optimiser steps, instead of `epochs`.
        max_steps: Option<u64> = None,
        /// Rows per optimiser step.
        batch_size: u32 = 128 => 1..=1_048_576,
        /// Rows that go through the model together; as many as make `batch_size` are accumulated.
        micro_batch_size: u32 = 32 => 1..=1_048_576,
        /// Whether rows are put together into sequences of up to `max_length` tokens, which then count as one of a batch.
        /// Rows still see themselves alone, from position 0 on; nothing is ever padded, so only the make-up of the steps
        /// changes.
        packing: Option<bool> = None,
        /// Whether rows of like length come into the same step.
        group_by_length: Option<bool> = None,
        /// Peak learning rate.
        learning_rate: f64 = 3e-4 => 0.0..=10.0,
        /// How the learning rate falls after the warm-up.
        schedule: Schedule = Schedule::Linear,
        /// Share of the peak that the cosine schedule ends at, instead of zero.
        learning_rate_floor: Option<f64> = None => 0.0..=1.0,
        /// How long the learning rate rises.
        warmup: Warmup = Warmup::Every(Every { epochs: 1.0, min: 4, max: Some(100) }),
        /// AdamW's weight decay (on matrices only, not on norms).
        weight_decay: f64 = 0.0 => 0.0..=10.0,
        /// AdamW's decay of the first and second moment.
        betas: Betas = Betas(0.9, 0.999),
        /// AdamW's epsilon.
        eps: f64 = 1e-8 => 1e-16..=1.0,
        /// Gradients are scaled down to this norm over all parameters; 0: never.
        max_grad_norm: f64 = 1.0 => 0.0..=1e6,
        /// Seed of the order of rows, of new weights and of dropout.
        seed: u64 = 42,
        /// Optimiser steps between two evaluations.
        evaluate_every: Every = Every { epochs: 1.0, min: 1, max: None },
        /// Only so many of the validation rows are evaluated on: the first.
        validation_first: Option<u64> = None => 1..=1_000_000_000,
        /// When to stop before the end.
        early_stopping: Option<EarlyStopping> = None,
        /// Which weights are kept in the end.
        keep: Keep = Keep::Best,
        /// How many checkpoints are kept besides: the weights at the last multiples of `evaluate_every`, and at the end. They
        /// are outputs, counted back: `train.NAME.checkpoint-1` is the last, `.checkpoint-2` the one before.
        checkpoints: Option<u32> = None => 1..=8,
        /// What to do when there is no row.
        when_empty: WhenEmpty = WhenEmpty::Error,
    }
}

impl TrainRecipe {
    /// Whether the output is a model of its own, not an adapter that needs its base.
    pub fn is_whole(&self) -> bool {
        self.lora.is_none()
    }

    /// The kind's outputs without the checkpoints that are not kept.
    pub fn outputs(&self) -> Vec<(&'static str, &'static str)> {
        let kept = |output: &str| Kind::checkpoint(output).is_none_or(|number| number <= self.checkpoints.unwrap_or(0));
        Kind::Train.outputs().iter().copied().filter(|(output, _)| kept(output)).collect()
    }
}

crate::settings! {
    /// LoRA (arXiv 2106.09685), as PEFT does it: `y = W x + alpha / r · B A dropout(x)`. Patterns are regular expressions
    /// for whole names of linear layers, or for their last parts.
    pub struct LoraSettings {
        /// Rank.
        r: u32 = 8 => 1..=4096,
        /// Scale, divided by the rank.
        alpha: f64 = 16.0 => 0.0..=1e6,
        /// Share of the adapter's inputs that are dropped.
        dropout: f64 = 0.05 => 0.0..=0.99,
        /// The linear layers that get an adapter: a list of names (the last part, `q_proj`, or more of it), a regular
        /// expression for whole names, or `all-linear`.
        targets: Targets = Targets::Names(["k_proj", "o_proj", "q_proj", "v_proj"].map(String::from).to_vec()),
        /// Whether alpha is divided by the rank's root (rsLoRA, arXiv 2312.03732).
        rslora: Option<bool> = None,
        /// Whether the size of each output's weights learns apart from their direction (DoRA, arXiv 2402.09353).
        dora: Option<bool> = None,
        /// Which of the base's biases learn along.
        bias: Option<Bias> = None,
        /// Other ranks for some layers, by patterns; the first in alphabetical order that fits counts.
        rank_pattern: Option<BTreeMap<String, Rank>> = None,
        /// Other alphas for some layers, likewise.
        alpha_pattern: Option<BTreeMap<String, f64>> = None,
        /// Modules that learn as a whole, and are kept as a whole beside the adapter: `embed_tokens`, `lm_head`.
        modules_to_save: Option<Vec<String>> = None,
    }
}

impl LoraSettings {
    /// One way to say one thing, so that equal trainings have equal keys.
    pub fn settle(&mut self) {
        self.rslora = self.rslora.filter(|on| *on);
        self.dora = self.dora.filter(|on| *on);
        self.bias = self.bias.filter(|bias| *bias != Bias::None);
        self.rank_pattern = self.rank_pattern.take().filter(|patterns| !patterns.is_empty());
        self.alpha_pattern = self.alpha_pattern.take().filter(|patterns| !patterns.is_empty());
        if let Some(modules) = &mut self.modules_to_save {
            modules.sort();
            modules.dedup();
        }
        self.modules_to_save = self.modules_to_save.take().filter(|modules| !modules.is_empty());
    }
}

/// A rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rank(pub u32);

impl Decode for Rank {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let rank = u32::decode(value, problems)?;
        if !(1..=4096).contains(&rank) {
            problems.at(value.span, format!("the rank is {rank}: expected 1 to 4096"));
            return None;
        }
        Some(Self(rank))
    }

    fn schema() -> Schema {
        json!({ "type": "integer", "minimum": 1, "maximum": 4096 })
    }
}

/// The linear layers that get an adapter. Names are at least one, sorted, each once, so that their order is no part of a
/// key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "serde_json::Value", try_from = "serde_json::Value")]
pub enum Targets {
    /// Those whose name ends with one of these.
    Names(Vec<String>),
    /// Those whose whole name matches a regular expression.
    Pattern(String),
    /// All of the blocks.
    AllLinear,
}

/// The word for all of the blocks' linear layers.
const ALL_LINEAR: &str = "all-linear";

impl From<Targets> for serde_json::Value {
    fn from(targets: Targets) -> Self {
        match targets {
            Targets::Names(names) => json!(names),
            Targets::Pattern(pattern) => json!(pattern),
            Targets::AllLinear => json!(ALL_LINEAR),
        }
    }
}

impl TryFrom<serde_json::Value> for Targets {
    type Error = serde_json::Error;

    fn try_from(json: serde_json::Value) -> Result<Self, Self::Error> {
        match json.as_str() {
            Some(ALL_LINEAR) => Ok(Self::AllLinear),
            Some(pattern) => Ok(Self::Pattern(pattern.to_string())),
            None => serde_json::from_value(json).map(Self::Names),
        }
    }
}

impl Decode for Targets {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        if let Some(text) = value.as_str() {
            if text == ALL_LINEAR {
                return Some(Self::AllLinear);
            }
            return match fancy_regex::Regex::new(text) {
                Ok(_) if !text.is_empty() => Some(Self::Pattern(text.to_string())),
                Ok(_) => {
                    problems.at(value.span, "`targets` names no linear layer");
                    None
                }
                Err(error) => {
                    problems.at(value.span, format!("`targets` is not a regular expression: {error}"));
                    None
                }
            };
        }
        let mut names = Vec::<String>::decode(value, problems)?;
        names.sort();
        names.dedup();
        if names.is_empty() || names.iter().any(String::is_empty) {
            problems.at(value.span, "`targets` names no linear layer");
            return None;
        }
        Some(Self::Names(names))
    }

    fn schema() -> Schema {
        let name = json!({ "type": "string", "minLength": 1 });
        schema::any_of([schema::some(&name), name])
    }
}

crate::words! {
    /// Which biases of the base learn along with an adapter.
    pub enum Bias {
        /// None.
        None = "none",
        /// All.
        All = "all",
        /// Those of the layers that the adapter stands on.
        LoraOnly = "lora_only",
    }
}

crate::words! {
    /// How frozen linear layers are held. The output layer is held in 16 bits where they are not f32; embeddings, norms
    /// and biases always are.
    pub enum BasePrecision {
        /// As they are multiplied.
        F32 = "f32",
        /// Rounded to bfloat16.
        Bf16 = "bf16",
        /// In 8 bits, with a scale for each output.
        Int8 = "int8",
        /// In the 4 bits of NF4, with a scale for each 64 weights (arXiv 2305.14314).
        Nf4 = "nf4",
    }
}

impl BasePrecision {
    /// Its word in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Nf4 => "nf4",
        }
    }

    /// Bits of a weight.
    pub fn bits(self) -> u64 {
        match self {
            Self::F32 => 32,
            Self::Bf16 => 16,
            Self::Int8 => 8,
            Self::Nf4 => 4,
        }
    }
}

crate::settings! {
    /// Shape of a new Llama-family model.
    pub struct Architecture {
        /// Width of a token's vector.
        hidden_size: u32 => 2..=65_536,
        /// Blocks of attention and feed-forward.
        layers: u32 => 1..=1024,
        /// Query heads; must divide `hidden_size` into an even width.
        heads: u32 => 1..=1024,
        /// Key and value heads; must divide `heads`, and is `heads` where absent.
        kv_heads: Option<u32> = None,
        /// Width of the feed-forward layer.
        intermediate_size: u32 => 1..=1_048_576,
        /// Longest row in tokens.
        max_positions: u32 = 512 => 2..=1_048_576,
        /// Base of the rotary position's wavelengths.
        rope_theta: f64 = 10_000.0 => 1.0..=1e9,
        /// Whether the output layer is the embedding, transposed.
        tie_embeddings: bool = true,
        /// Epsilon of the RMS norms.
        norm_eps: f64 = 1e-5 => 1e-12..=1.0,
        /// Standard deviation of new weights.
        initializer_range: f64 = 0.02 => 0.0..=10.0,
    }
}

crate::settings! {
    /// A tokenizer that is trained on the rows' prompts and answers.
    pub struct TokenizerSettings {
        /// Entries of the byte-level BPE vocabulary: 256 bytes, three special tokens, merges.
        bpe: u32 => 259..=1_000_000,
    }
}

crate::settings! {
    /// When to stop before the last step.
    pub struct EarlyStopping {
        /// Evaluations in a row that may fail to improve on the best.
        patience: u32 = 1 => 1..=1_000_000,
    }
}

/// A number of optimiser steps, said in epochs and bounded; the bounds are in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Every {
    /// Passes over the rows.
    pub epochs: f64,
    /// At least so many steps.
    pub min: u64,
    /// At most so many steps.
    pub max: Option<u64>,
}

impl Every {
    /// The number of steps, where an epoch has `steps_per_epoch`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; casts saturate")]
    pub fn steps(&self, steps_per_epoch: f64) -> u64 {
        let steps = (self.epochs * steps_per_epoch).round() as u64;
        steps.max(self.min).min(self.max.unwrap_or(u64::MAX))
    }
}

crate::form! {
    /// A number of optimiser steps, said in epochs.
    struct EveryForm {
        /// Passes over the rows.
        epochs: f64 = 1.0 => 0.0..=1e6,
        /// At least so many steps.
        min: u64 = 1 => 1..=1_000_000_000,
        /// At most so many steps.
        max: Option<u64>,
    }
}

impl Decode for Every {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let EveryForm { epochs, min, max } = EveryForm::decode(value, problems)?;
        if max.is_some_and(|max| max < min) {
            problems.at(value.span, "`max` is less than `min`");
            return None;
        }
        Some(Self { epochs, min, max })
    }

    fn schema() -> Schema {
        EveryForm::schema()
    }
}

/// How long the learning rate rises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warmup {
    /// So many optimiser steps.
    Steps(u64),
    /// This share of all steps.
    Ratio(f64),
    /// So many epochs, bounded.
    Every(Every),
}

crate::form! {
    /// A share of all steps.
    struct RatioForm {
        /// The share.
        ratio: f64 => 0.0..=1.0,
    }
}

impl Decode for Warmup {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::Integer(_) => u64::decode(value, problems).map(Self::Steps),
            ValueKind::Table(table) if table.get("ratio").is_some() => {
                RatioForm::decode(value, problems).map(|form| Self::Ratio(form.ratio))
            }
            ValueKind::Table(_) => Every::decode(value, problems).map(Self::Every),
            _ => {
                let problem = format!("expected a number of steps or a table, found {}", value.describe());
                problems.push(
                    Diagnostic::at(value.span, problem)
                        .hint("write `10`, `{ ratio = 0.05 }` or `{ epochs = 1, min = 4, max = 100 }`"),
                );
                None
            }
        }
    }

    fn schema() -> Schema {
        let steps = schema::described(u64::schema(), &["So many optimiser steps."]);
        schema::any_of([steps, RatioForm::schema(), Every::schema()])
    }

    fn written(&self) -> serde_json::Value {
        match self {
            Self::Steps(steps) => json!(steps),
            Self::Ratio(ratio) => json!({ "ratio": ratio }),
            Self::Every(every) => every.written(),
        }
    }
}

/// AdamW's `beta1` and `beta2`, each at least 0 and below 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Betas(pub f64, pub f64);

impl Decode for Betas {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match Vec::<f64>::decode(value, problems)?.as_slice() {
            [first, second] if [first, second].iter().all(|beta| (0.0..1.0).contains(*beta)) => {
                Some(Self(*first, *second))
            }
            _ => {
                problems.at(value.span, "`betas` are two numbers, at least 0 and below 1");
                None
            }
        }
    }

    fn schema() -> Schema {
        let beta = json!({ "type": "number", "minimum": 0, "maximum": 1, "exclusiveMaximum": true });
        json!({ "type": "array", "items": beta, "minItems": 2, "maxItems": 2 })
    }
}

crate::words! {
    /// Which tokens the loss counts.
    pub enum LossOn {
        /// Those of the answer, and the end after it.
        Answer = "answer",
        /// Those of the prompt too.
        All = "all",
        /// Those of all that the assistant says in a conversation (`template = "chat"`).
        Assistant = "assistant",
    }
}

crate::words! {
    /// How the learning rate falls after the warm-up.
    pub enum Schedule {
        /// In a straight line to zero at the last step.
        Linear = "linear",
        /// In half a cosine to zero at the last step.
        Cosine = "cosine",
        /// Not at all.
        Constant = "constant",
    }
}

crate::words! {
    /// Which weights are kept in the end.
    pub enum Keep {
        /// Those of the lowest evaluation loss; the last where nothing is evaluated.
        Best = "best",
        /// Those of the last step.
        Last = "last",
    }
}

crate::words! {
    /// What to do when there is no row.
    pub enum WhenEmpty {
        /// Nothing: the result is the base.
        Base = "base",
        /// Fail.
        Error = "error",
    }
}
