//! What can be seen of a base before anything runs: its shape, the headers of its files, its tokenizer.

use super::TrainRecipe;
use crate::diagnostic::Diagnostic;
use crate::engine::model::{Adapter, Config};
use crate::engine::tokenizer::Tokenizer;
use crate::engine::weights::Weights;
use crate::stage::Input;

/// Problems of the base and of the adapters on it, as far as they exist.
pub(super) fn check(recipe: &TrainRecipe, inputs: &[Input]) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for input in inputs.iter().filter(|input| input.role.starts_with("base.")) {
        let result = if input.role == "base.0" { check_model(recipe, input) } else { check_adapter(input) };
        if let Err(error) = result {
            problems.push(Diagnostic::new(format!("base `{}`: {error:#}", input.name)));
        }
    }
    problems
}

fn check_model(recipe: &TrainRecipe, input: &Input) -> anyhow::Result<()> {
    let config = Config::read(&input.path)?;
    Weights::open_model(&input.path)?;
    Tokenizer::load(&input.path)?.check_fits(config.vocab_size)?;
    match &recipe.lora {
        Some(lora) => config.check_targets(&lora.targets.0),
        None => Ok(()),
    }
}

fn check_adapter(input: &Input) -> anyhow::Result<()> {
    if input.path.join("adapter_config.json").exists() { Adapter::read(&input.path).map(|_| ()) } else { Ok(()) }
}
