//! What can be seen of a model before anything runs: its shape, the headers of its files, its tokenizer, and whether the
//! adapters on it fit.

use super::train::BasePrecision;
use super::{Dtype, Input};
use crate::diagnostic::Diagnostic;
use crate::engine::DType;
use crate::engine::held::Precision;
use crate::engine::memory::{self, Need};
use crate::engine::model::{Adapter, AdapterConfig, Config, UNCHANGED};
use crate::engine::tokenizer::Tokenizer;
use crate::engine::weights::Weights;

/// As the engine has it.
impl From<BasePrecision> for Precision {
    fn from(precision: BasePrecision) -> Self {
        match precision {
            BasePrecision::F32 => Self::F32,
            BasePrecision::Bf16 => Self::Bf16,
            BasePrecision::Int8 => Self::Int8,
            BasePrecision::Nf4 => Self::Nf4,
        }
    }
}

/// Problems of the layers `role.0`, `role.1`, …, as far as they exist. `new` are the settings of an adapter
/// that is to stand on them.
pub(super) fn check(role: &str, new: Option<&AdapterConfig>, inputs: &[Input]) -> Vec<Diagnostic> {
    let base = format!("{role}.0");
    let mut config = None;
    for input in inputs.iter().filter(|input| input.role.split_once('.').is_some_and(|(layer, _)| layer == role)) {
        let result = match &config {
            // An adapter on a base that does not exist yet is looked at when it is used.
            None if input.role != base => break,
            None => check_model(new, input).map(|read| config = Some(read)),
            Some(config) => check_adapter(config, input),
        };
        if let Err(error) = result {
            let problem = Diagnostic::new(format!("{role} `{}`: {error:#}", input.name));
            let is_adapter = input.role == base && input.path.join("adapter_config.json").exists();
            return vec![match is_adapter {
                true => problem.hint(format!("it is an adapter: write `{role} = [\"BASE\", \"{}\"]`", input.name)),
                false => problem,
            }];
        }
    }
    Vec::new()
}

/// A job that would need more memory than there is; `need` says of a model how much that is. `may_hold`: fewer bits of the
/// weights could be held than are.
pub(super) fn check_memory(
    role: &str,
    inputs: &[Input],
    may_hold: bool,
    need: impl Fn(&Config) -> Need,
) -> Option<Diagnostic> {
    let base = inputs.iter().find(|input| input.role == format!("{role}.0"))?;
    // What cannot be read is said elsewhere.
    let need = need(&Config::read(&base.path).ok()?);
    let memory = memory::of_machine();
    let problem = need.too_much(memory)?;
    // The most bits that fit.
    let mut all = [BasePrecision::Bf16, BasePrecision::Int8, BasePrecision::Nf4].into_iter().filter(|_| may_hold);
    let fits = all.find(|precision| need.held_in(precision.bits()).too_much(memory).is_none());
    let hint = match (fits, role) {
        (Some(precision), _) => format!("with `base_precision = \"{}\"` it would fit", precision.name()),
        (None, "base") => {
            "a smaller base fits, or a machine with more memory; `lora` trains few weights instead of all".to_string()
        }
        (None, _) => "a smaller model fits, or a machine with more memory".to_string(),
    };
    Some(Diagnostic::new(format!("{role} `{}` {problem}", base.name)).hint(hint))
}

/// A type of numbers as the engine calls it.
pub(super) fn type_of(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 => DType::F32,
        Dtype::Bf16 => DType::BF16,
        Dtype::F16 => DType::F16,
    }
}

fn check_model(new: Option<&AdapterConfig>, input: &Input) -> anyhow::Result<Config> {
    let config = Config::read(&input.path)?;
    Tokenizer::load(&input.path)?.check_fits(config.shape.vocab_size)?;
    config.check_weights(&Weights::open_model(&input.path)?, &input.path)?;
    if let Some(new) = new {
        new.check(&config)?;
    }
    Ok(config)
}

fn check_adapter(config: &Config, input: &Input) -> anyhow::Result<()> {
    // A layer whose training left its base unchanged holds no adapter.
    if input.path.join(UNCHANGED).exists() {
        return Ok(());
    }
    let has_adapter = input.path.join("adapter_config.json").exists();
    anyhow::ensure!(has_adapter, "it stands on another model, but is no adapter: it has no `adapter_config.json`");
    Adapter::read(&input.path)?.check_fits(config)
}
