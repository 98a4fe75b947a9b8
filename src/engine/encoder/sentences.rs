//! One vector for a text: the encoder and what comes behind it, as the files of sentence-transformers say.

use super::config::Config;
use super::load::Wanted;
use super::network::{Encoder, Layer, Text};
use super::rows;
use crate::engine::activation::Activation;
use crate::engine::tokenizer::Tokenizer;
use crate::engine::weights::{Weights, transpose};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens.
    Mean,
    /// The first token's.
    Cls,
    /// The greatest number at each place.
    Max,
    /// The sum over all tokens, divided by the root of their number.
    MeanSqrt,
    /// The last token's.
    Last,
}

/// What comes behind the encoder.
#[derive(Debug)]
enum Step {
    /// Several of them give several vectors, side by side.
    Pool(Vec<Pooling>),
    Dense(Layer, Option<Activation>),
    Normalize,
}

/// A model that gives one vector for a text.
#[derive(Debug)]
pub struct Sentences {
    encoder: Encoder,
    tokenizer: Tokenizer,
    steps: Vec<Step>,
    longest: Option<usize>,
    lower_case: bool,
}

/// Files that may say how long a text can be, the newest name first.
const SETTINGS: [&str; 4] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_camembert_config.json",
];

impl Sentences {
    /// Reads a model from a folder: of sentence-transformers, or of an encoder alone, whose tokens' mean is taken then.
    /// `pooling` and `longest` stand before what the files say.
    ///
    /// # Errors
    /// If it is none, or has a part that is not known.
    pub fn load(folder: &Path, pooling: Option<Pooling>, longest: Option<usize>) -> Result<Self> {
        let Around { encoder, tokenizer, steps, longest, lower_case, .. } = Around::read(folder, pooling, longest)?;
        let encoder = Encoder::load(&encoder, Wanted::default())?;
        Ok(Self { encoder, tokenizer, steps, longest, lower_case })
    }

    /// Looks at all files of a folder, at those of weights from outside only.
    ///
    /// # Errors
    /// Those of [`Self::load`].
    pub fn check(folder: &Path, pooling: Option<Pooling>, longest: Option<usize>) -> Result<()> {
        let Around { encoder, config, .. } = Around::read(folder, pooling, longest)?;
        config.check_weights(&Weights::open_model(&encoder)?, Wanted::default(), &encoder)
    }

    /// A text as the model sees it: one that is too long loses its end.
    ///
    /// # Errors
    /// If it cannot be tokenised.
    pub fn encode(&self, text: &str) -> Result<Text> {
        let (ids, types) = match self.lower_case {
            true => self.tokenizer.encode_marked(&text.to_lowercase(), None, self.longest)?,
            false => self.tokenizer.encode_marked(text, None, self.longest)?,
        };
        let text = Text { ids, types };
        self.encoder.check(&text)?;
        Ok(text)
    }

    /// The vectors of texts.
    pub fn embed(&self, texts: &[&Text]) -> Vec<Vec<f32>> {
        let (states, width) = (self.encoder.read(texts), self.encoder.config().shape.hidden_size);
        let mut rest = states.as_slice();
        let vectors = texts.iter().map(|text| {
            let (of_text, tail) = rest.split_at(text.ids.len() * width);
            rest = tail;
            self.steps.iter().fold(of_text.to_vec(), |vector, step| step.take(vector, width))
        });
        vectors.collect()
    }
}

impl Step {
    fn take(&self, vector: Vec<f32>, width: usize) -> Vec<f32> {
        match self {
            Self::Pool(poolings) => poolings.iter().flat_map(|pooling| pooling.take(&vector, width)).collect(),
            Self::Dense(layer, activation) => {
                let mut out = layer.product(&vector);
                match activation {
                    Some(activation) => rows::activate(&mut out, &layer.bias, *activation),
                    None => rows::add(&mut out, &layer.bias),
                }
                out
            }
            Self::Normalize => {
                let length = crate::engine::kernels::dot(&vector, &vector).sqrt().max(1e-12);
                vector.into_iter().map(|value| value / length).collect()
            }
        }
    }
}

impl Pooling {
    /// One vector of the rows of `states`; a text without tokens has nothing.
    #[expect(clippy::cast_precision_loss, reason = "a text has far fewer than 2^24 tokens")]
    fn take(self, states: &[f32], width: usize) -> Vec<f32> {
        let mut rows = states.chunks_exact(width);
        let count = rows.len() as f32;
        let Some(first) = rows.next() else { return vec![0.0; width] };
        let fold = |add: fn(f32, f32) -> f32| {
            let mut all = first.to_vec();
            rows.clone().for_each(|row| all.iter_mut().zip(row).for_each(|(all, value)| *all = add(*all, *value)));
            all
        };
        let divided = |by: f32| fold(|a, b| a + b).into_iter().map(|value| value / by).collect();
        match self {
            Self::Cls => first.to_vec(),
            Self::Last => rows.next_back().unwrap_or(first).to_vec(),
            Self::Max => fold(f32::max),
            Self::Mean => divided(count),
            Self::MeanSqrt => divided(count.sqrt()),
        }
    }
}

/// All of a model but its encoder's weights.
struct Around {
    /// The encoder's folder.
    encoder: PathBuf,
    config: Config,
    tokenizer: Tokenizer,
    steps: Vec<Step>,
    longest: Option<usize>,
    lower_case: bool,
}

impl Around {
    fn read(folder: &Path, pooling: Option<Pooling>, longest: Option<usize>) -> Result<Self> {
        let modules = Modules::read(folder)?;
        let encoder = folder.join(&modules.encoder);
        let (config, tokenizer) = (Config::read(&encoder)?, Tokenizer::load(&encoder)?);
        tokenizer.check_fits(config.shape.vocab_size)?;
        let settings = SETTINGS.iter().find_map(|name| json(&encoder.join(name)).transpose()).transpose()?;
        let settings = settings.unwrap_or_default();
        let of_file = settings["max_seq_length"].as_u64().and_then(|most| usize::try_from(most).ok());
        let of_model = [tokenizer.longest(), config.max_tokens()].into_iter().flatten().min();
        let longest = longest.or(of_file).or(of_model);
        config.check_longest(longest)?;
        let mut width = config.shape.hidden_size;
        let mut steps = Vec::new();
        for (kind, path) in &modules.rest {
            let step = match kind.as_str() {
                "Pooling" => Step::Pool(match pooling {
                    Some(pooling) => vec![pooling],
                    None => poolings(&folder.join(path).join("config.json"))?,
                }),
                "Dense" => dense(&folder.join(path), width)?,
                "Normalize" => Step::Normalize,
                other => bail!("`{MODULES}` names a module `{other}`: known are Pooling, Dense and Normalize"),
            };
            width = match &step {
                Step::Pool(poolings) => width * poolings.len(),
                Step::Dense(layer, _) => layer.outputs,
                Step::Normalize => width,
            };
            steps.push(step);
        }
        if !matches!(steps.first(), Some(Step::Pool(_))) {
            steps.insert(0, Step::Pool(vec![pooling.unwrap_or(Pooling::Mean)]));
        }
        let lower_case = settings["do_lower_case"].as_bool().unwrap_or(false);
        Ok(Self { encoder, config, tokenizer, steps, longest, lower_case })
    }
}

/// The file that says which parts there are.
const MODULES: &str = "modules.json";

/// The parts of a model: where the encoder lies, and what comes behind it, by kind and folder.
struct Modules {
    encoder: String,
    rest: Vec<(String, String)>,
}

impl Modules {
    fn read(folder: &Path) -> Result<Self> {
        let Some(value) = json(&folder.join(MODULES))? else {
            return Ok(Self { encoder: String::new(), rest: Vec::new() });
        };
        let parts = value.as_array().with_context(|| format!("`{MODULES}` is no list"))?;
        let text = |part: &Value, name: &str| part[name].as_str().unwrap_or_default().to_string();
        let mut parts = parts.iter().map(|part| {
            let (kind, path) = (text(part, "type"), text(part, "path"));
            // A folder beside the file, or the same one.
            ensure!(
                path.is_empty() || !path.contains(['/', '\\']) && path != "..",
                "`{MODULES}` names a path `{path}`"
            );
            Ok((kind.rsplit('.').next().unwrap_or_default().to_string(), path))
        });
        let (kind, encoder) = parts.next().with_context(|| format!("`{MODULES}` is empty"))??;
        ensure!(kind == "Transformer", "`{MODULES}` begins with a module `{kind}`: only Transformer is known");
        Ok(Self { encoder, rest: parts.collect::<Result<_>>()? })
    }
}

/// The contents of a JSON file, if it is there.
fn json(path: &Path) -> Result<Option<Value>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("`{}` is no JSON", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

/// What is pooled: named since sentence-transformers 5, before that a switch for each.
fn poolings(path: &Path) -> Result<Vec<Pooling>> {
    let value = json(path)?.with_context(|| format!("cannot read `{}`: it is not there", path.display()))?;
    let named: Vec<&str> = match &value["pooling_mode"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => {
            let switches = value.as_object().into_iter().flatten();
            let on = switches.filter(|(_, switch)| **switch == Value::Bool(true));
            on.filter_map(|(name, _)| name.strip_prefix("pooling_mode_")).collect()
        }
    };
    let known = |name: &str| {
        Ok(match name {
            "mean" | "mean_tokens" => Pooling::Mean,
            "cls" | "cls_token" => Pooling::Cls,
            "max" | "max_tokens" => Pooling::Max,
            "mean_sqrt_len_tokens" => Pooling::MeanSqrt,
            "lasttoken" => Pooling::Last,
            other => bail!("`{}` asks for a pooling `{other}`, which is not supported", path.display()),
        })
    };
    let found: Vec<Pooling> = named.into_iter().map(known).collect::<Result<_>>()?;
    ensure!(!found.is_empty(), "`{}` names no pooling", path.display());
    Ok(found)
}

/// A linear layer behind the pooling.
fn dense(folder: &Path, width: usize) -> Result<Step> {
    let path = folder.join("config.json");
    let value = json(&path)?.with_context(|| format!("cannot read `{}`: it is not there", path.display()))?;
    let number = |name: &str| value[name].as_u64().and_then(|number| usize::try_from(number).ok());
    let (inputs, outputs) = (number("in_features"), number("out_features"));
    let (Some(inputs), Some(outputs)) = (inputs, outputs) else {
        bail!("`{}` has no `in_features` and `out_features`", path.display())
    };
    ensure!(inputs == width, "`{}`: `in_features` is {inputs}, not {width}", path.display());
    let name = value["activation_function"].as_str().unwrap_or("Tanh").rsplit('.').next().unwrap_or_default();
    let activation = match name {
        "Identity" => None,
        "Tanh" => Some(Activation::Tanh),
        "GELU" => Some(Activation::Gelu),
        "ReLU" => Some(Activation::Relu),
        "SiLU" => Some(Activation::Silu),
        other => bail!("`{}` has the activation `{other}`, which is not supported", path.display()),
    };
    let mut weights = Weights::open_model(folder)?;
    let weight = transpose(&weights.take("linear.weight", &[outputs, inputs])?, outputs, inputs);
    let bias = match value["bias"].as_bool().unwrap_or(true) {
        true => weights.take("linear.bias", &[outputs])?,
        false => vec![0.0; outputs],
    };
    Ok(Step::Dense(Layer { inputs, outputs, weight, bias }, activation))
}
