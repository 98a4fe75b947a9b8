//! Settings of an adapter, and which parts of a model they mean.

use super::Config;
use crate::engine::model::is_target;
use anyhow::{Context as _, Result, bail, ensure};
use fancy_regex::Regex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Settings of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Rank.
    pub r: usize,
    /// Scale, divided by the rank.
    pub alpha: f64,
    /// Dropout that it was trained with.
    pub dropout: f64,
    /// The linear layers that it stands on.
    pub targets: Targets,
    /// Whether alpha is divided by the rank's root (arXiv 2312.03732), not by the rank.
    pub rslora: bool,
    /// Whether size and direction of each output's weights learn apart (DoRA, arXiv 2402.09353).
    pub dora: bool,
    /// Which of the base's biases learn along.
    pub bias: Biases,
    /// Other ranks, by patterns of names; the first that fits counts.
    pub ranks: Vec<(String, usize)>,
    /// Other alphas, by patterns of names; the first that fits counts.
    pub alphas: Vec<(String, f64)>,
    /// Modules that learn as a whole, and are kept as a whole beside the adapter.
    pub modules_to_save: Vec<String>,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self {
            r: 8,
            alpha: 16.0,
            dropout: 0.0,
            targets: Targets::AllLinear,
            rslora: false,
            dora: false,
            bias: Biases::None,
            ranks: Vec::new(),
            alphas: Vec::new(),
            modules_to_save: Vec::new(),
        }
    }
}

/// Which linear layers an adapter stands on.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Those whose name ends with one of these; sorted.
    Names(Vec<String>),
    /// Those whose whole name a regular expression matches.
    Pattern(String),
    /// All of the blocks.
    AllLinear,
}

impl<T: Into<Vec<String>>> From<T> for Targets {
    fn from(names: T) -> Self {
        Self::Names(names.into())
    }
}

/// Which biases of the base learn along with an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Biases {
    /// None.
    None,
    /// All.
    All,
    /// Those of the layers that the adapter stands on.
    LoraOnly,
}

/// Settings of an adapter, ready to be asked about the modules of a model by their names.
#[derive(Debug)]
pub struct Selector<'a> {
    config: &'a AdapterConfig,
    targets: Option<Regex>,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
}

impl AdapterConfig {
    /// Makes the settings ready.
    pub fn selector(&self) -> Result<Selector<'_>> {
        Ok(Selector {
            config: self,
            targets: match &self.targets {
                Targets::Pattern(pattern) => Some(regex(r"\A(?:", pattern)?),
                Targets::Names(_) | Targets::AllLinear => None,
            },
            ranks: patterns(&self.ranks)?,
            alphas: patterns(&self.alphas)?,
        })
    }

    /// Fails where a name or a pattern means nothing in a model.
    pub fn check(&self, config: &Config) -> Result<()> {
        let selector = self.selector()?;
        let known = || last_parts(config.linear_names());
        match &self.targets {
            Targets::AllLinear => {}
            Targets::Names(names) => {
                ensure!(!names.is_empty(), "an adapter without a target");
                for target in names {
                    let found = config.linear_names().any(|name| is_target(&name, target));
                    ensure!(found, "the model has no linear layer `{target}`: it has {}", known());
                }
            }
            Targets::Pattern(pattern) => {
                let Some(example) = config.linear_names().next() else { bail!("the model has no linear layer") };
                ensure!(
                    config.linear_names().any(|name| selector.is_target(&name)),
                    "the pattern `{pattern}` matches no linear layer: it must match whole names like `{example}`, and \
                     their last parts are {}",
                    known()
                );
            }
        }
        let targeted: Vec<String> = config.linear_names().filter(|name| selector.is_target(name)).collect();
        let patterns = self.ranks.iter().map(|(pattern, _)| ("rank_pattern", pattern));
        for (setting, pattern) in patterns.chain(self.alphas.iter().map(|(pattern, _)| ("alpha_pattern", pattern))) {
            let regex = regex(PATTERN_START, pattern)?;
            ensure!(
                targeted.iter().any(|name| is_match(&regex, name)),
                "the pattern `{pattern}` of `{setting}` fits none of the layers that get an adapter: they are {}",
                last_parts(targeted.iter().cloned())
            );
        }
        self.check_saved(config)
    }

    /// The whole names of the modules to save. In a file they must be whole: PEFT takes `norm` for every module whose name
    /// ends so, `input_layernorm` among them.
    pub(super) fn saved_modules(&self, config: &Config) -> Vec<String> {
        let mut modules = modules(config);
        modules.retain(|name| self.modules_to_save.iter().any(|saved| is_target(name, saved)));
        modules
    }

    fn check_saved(&self, config: &Config) -> Result<()> {
        let modules = modules(config);
        let ends = [config.layout.embedding, config.layout.head.name].map(String::from);
        for wanted in &self.modules_to_save {
            let found: Vec<&String> = modules.iter().filter(|name| is_target(name, wanted)).collect();
            ensure!(
                !found.is_empty(),
                "the model has no module `{wanted}` to save: it has {}",
                last_parts(modules.iter().cloned())
            );
            ensure!(
                !config.tie_embeddings || found.iter().all(|name| !ends.contains(name)),
                "`{wanted}` cannot be saved by itself: the model's output layer is its embedding, transposed"
            );
        }
        Ok(())
    }
}

impl Selector<'_> {
    /// Whether a linear layer gets an adapter. What is saved as a whole does not.
    pub fn is_target(&self, name: &str) -> bool {
        let targeted = match (&self.config.targets, &self.targets) {
            (Targets::Names(names), _) => names.iter().any(|target| is_target(name, target)),
            (Targets::AllLinear, _) => true,
            (Targets::Pattern(_), regex) => regex.as_ref().is_some_and(|regex| is_match(regex, name)),
        };
        targeted && !self.is_saved(name)
    }

    /// Whether a module learns as a whole, as PEFT sees it: by the end of its name.
    pub fn is_saved(&self, name: &str) -> bool {
        self.config.modules_to_save.iter().any(|saved| name.ends_with(saved.as_str()))
    }

    /// Whether a module's bias learns.
    pub fn learns_bias(&self, name: &str) -> bool {
        match self.config.bias {
            _ if self.is_saved(name) => true,
            Biases::None => false,
            Biases::All => true,
            Biases::LoraOnly => self.is_target(name),
        }
    }

    /// The rank on a linear layer.
    pub fn rank(&self, name: &str) -> usize {
        first(&self.ranks, name).unwrap_or(self.config.r)
    }

    /// What `B · A` is multiplied by on a linear layer.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "ranks are small")]
    pub fn scale(&self, name: &str) -> f32 {
        let (alpha, r) = (first(&self.alphas, name).unwrap_or(self.config.alpha), self.rank(name) as f64);
        (alpha / if self.config.rslora { r.sqrt() } else { r }) as f32
    }
}

/// PEFT's `re.match(rf"(.*\.)?({key})$", name)`.
const PATTERN_START: &str = r"\A(?:.*\.)?(?:";

fn regex(start: &str, pattern: &str) -> Result<Regex> {
    Regex::new(&format!(r"{start}{pattern})\z")).with_context(|| format!("`{pattern}` is not a regular expression"))
}

fn patterns<T: Copy>(patterns: &[(String, T)]) -> Result<Vec<(Regex, T)>> {
    patterns.iter().map(|(pattern, value)| Ok((regex(PATTERN_START, pattern)?, *value))).collect()
}

/// A pattern that gives up on a name does not match it.
fn is_match(regex: &Regex, name: &str) -> bool {
    regex.is_match(name).unwrap_or(false)
}

fn first<T: Copy>(patterns: &[(Regex, T)], name: &str) -> Option<T> {
    patterns.iter().find(|(regex, _)| is_match(regex, name)).map(|(_, value)| *value)
}

/// Names of all modules with weights, each once.
fn modules(config: &Config) -> Vec<String> {
    let mut modules = vec![config.layout.embedding.to_string(), config.layout.head.name.to_string()];
    for tensor in tensor_shapes(config).keys() {
        if let Some((module, _)) =
            tensor.rsplit_once('.').filter(|(module, _)| !modules.iter().any(|known| known == module))
        {
            modules.push(module.to_string());
        }
    }
    modules
}

/// The tensors of a model that an adapter can replace, with their shapes in files. The two ends of a tied model are not
/// among them.
pub(super) fn tensor_shapes(config: &Config) -> BTreeMap<String, Vec<usize>> {
    let mut shapes: BTreeMap<String, Vec<usize>> = config.tensors().into_iter().collect();
    if config.tie_embeddings {
        shapes.remove(&format!("{}.weight", config.layout.embedding));
    }
    shapes
}

/// The last parts of names, each once, in order.
pub(super) fn last_parts_of(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for name in names {
        let last = name.rsplit('.').next().unwrap_or(&name).to_string();
        if !known.contains(&last) {
            known.push(last);
        }
    }
    known
}

fn last_parts(names: impl Iterator<Item = String>) -> String {
    last_parts_of(names).join(", ")
}

/// `adapter_config.json`, such that PEFT reads it.
pub(super) fn to_json(config: &AdapterConfig, conv1d: bool) -> Value {
    let targets = match &config.targets {
        Targets::Names(names) => json!(names),
        Targets::Pattern(pattern) => json!(pattern),
        Targets::AllLinear => json!("all-linear"),
    };
    let saved = &config.modules_to_save;
    let bias = match config.bias {
        Biases::None => "none",
        Biases::All => "all",
        Biases::LoraOnly => "lora_only",
    };
    let mut json = json!({
        "base_model_name_or_path": null,
        "bias": bias,
        "fan_in_fan_out": conv1d,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
        "peft_type": "LORA",
        "r": config.r,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
        "use_dora": config.dora,
        "use_rslora": config.rslora,
    });
    if !config.ranks.is_empty() {
        json["rank_pattern"] =
            config.ranks.iter().cloned().map(|(name, r)| (name, json!(r))).collect::<Map<_, _>>().into();
    }
    if !config.alphas.is_empty() {
        let alphas = config.alphas.iter().cloned().map(|(name, alpha)| (name, json!(alpha)));
        json["alpha_pattern"] = alphas.collect::<Map<_, _>>().into();
    }
    json
}

/// Reads an `adapter_config.json`; what would change the meaning of the matrices and is not known is refused.
pub(super) fn from_json(json: &Value) -> Result<AdapterConfig> {
    let kind = &json["peft_type"];
    ensure!(kind == "LORA", "`peft_type` is `{kind}`: known is `LORA`");
    for setting in ["lora_bias", "use_qalora"] {
        ensure!(json[setting] != true, "`{setting}` is true, which is not supported");
    }
    let known = ["layer_replication", "trainable_token_indices", "target_parameters", "alora_invocation_tokens"];
    for setting in known.into_iter().chain(["use_bdlora", "kasa_config", "velora_config", "monteclora_config"]) {
        let value = &json[setting];
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty) || *value == json!([]);
        ensure!(empty, "`{setting}` is set, which is not supported");
    }
    let positive = |value: &Value| value.as_u64().and_then(|r| usize::try_from(r).ok()).filter(|r| *r > 0);
    let mut targets = names(&json["target_modules"]);
    targets.sort();
    Ok(AdapterConfig {
        r: positive(&json["r"]).context("`r` is missing")?,
        alpha: json["lora_alpha"].as_f64().context("`lora_alpha` is missing")?,
        dropout: json["lora_dropout"].as_f64().unwrap_or(0.0),
        targets: match &json["target_modules"] {
            Value::String(all) if all.eq_ignore_ascii_case("all-linear") => Targets::AllLinear,
            Value::String(pattern) => Targets::Pattern(pattern.clone()),
            _ => Targets::Names(targets),
        },
        rslora: json["use_rslora"] == true,
        dora: json["use_dora"] == true,
        bias: match &json["bias"] {
            Value::Null => Biases::None,
            Value::String(bias) if bias == "none" => Biases::None,
            Value::String(bias) if bias == "all" => Biases::All,
            Value::String(bias) if bias == "lora_only" => Biases::LoraOnly,
            other => bail!("`bias` is `{other}`: known are `none`, `all` and `lora_only`"),
        },
        ranks: pattern(json, "rank_pattern", positive)?,
        alphas: pattern(json, "alpha_pattern", Value::as_f64)?,
        modules_to_save: names(&json["modules_to_save"]),
    })
}

fn names(json: &Value) -> Vec<String> {
    json.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
}

fn pattern<T>(json: &Value, setting: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Vec<(String, T)>> {
    let entries = json[setting].as_object().into_iter().flatten();
    let entry = |(name, value): (&String, &Value)| match read(value) {
        Some(value) => Ok((name.clone(), value)),
        None => bail!("`{setting}` says `{value}` of `{name}`, which is not supported"),
    };
    entries.map(entry).collect()
}
