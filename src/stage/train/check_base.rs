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
    let mut config = None;
    for input in inputs.iter().filter(|input| input.role.starts_with("base.")) {
        let result = match &config {
            // An adapter on a base that does not exist yet is looked at when it is used.
            None if input.role != "base.0" => break,
            None => check_model(recipe, input).map(|read| config = Some(read)),
            Some(config) => check_adapter(config, input),
        };
        if let Err(error) = result {
            problems.push(Diagnostic::new(format!("base `{}`: {error:#}", input.name)));
            break;
        }
    }
    problems
}

fn check_model(recipe: &TrainRecipe, input: &Input) -> anyhow::Result<Config> {
    let config = Config::read(&input.path)?;
    Weights::open_model(&input.path)?;
    Tokenizer::load(&input.path)?.check_fits(config.vocab_size)?;
    if let Some(lora) = &recipe.lora {
        config.check_targets(&lora.targets.0)?;
    }
    Ok(config)
}

fn check_adapter(config: &Config, input: &Input) -> anyhow::Result<()> {
    // A layer whose training left its base unchanged holds no adapter.
    if input.path.join("adapter_config.json").exists() {
        Adapter::read(&input.path)?.check_fits(config)
    } else {
        Ok(())
    }
}
