//! Messages → what is sent to the API.

use super::{ApiRecipe, Limit, Omitted};
use crate::prompt::chat::Message;
use serde_json::{Map, Value, json};

/// The body of the call for the so-manieth answer.
pub(super) fn body(recipe: &ApiRecipe, messages: &[Message], sample: u32) -> Value {
    let ApiRecipe { model, max_new_tokens, limit, stop, sample: drawn, seed, body, omit, .. } = recipe;
    let mut parameters = Map::new();
    let mut set = |name: &str, value: Value| {
        parameters.insert(name.to_string(), value);
    };
    set("model", model.as_str().into());
    set("messages", json!(messages));
    let wants = |parameter: Omitted| !omit.contains(&parameter);
    if wants(Omitted::Limit) {
        let name = match limit {
            Limit::MaxTokens => "max_tokens",
            Limit::MaxCompletionTokens => "max_completion_tokens",
        };
        set(name, (*max_new_tokens).into());
    }
    if wants(Omitted::Temperature) {
        set("temperature", drawn.as_ref().map_or(0.0, |drawn| drawn.temperature).into());
    }
    if let Some(drawn) = drawn {
        drawn.top_p.into_iter().for_each(|top_p| set("top_p", top_p.into()));
        drawn.top_k.into_iter().for_each(|top_k| set("top_k", top_k.into()));
        drawn.min_p.into_iter().for_each(|min_p| set("min_p", min_p.into()));
    }
    if let Some(seed) = seed {
        set("seed", seed.wrapping_add(sample.into()).into());
    }
    if !stop.0.is_empty() {
        set("stop", json!(stop.0));
    }
    if wants(Omitted::N) {
        set("n", 1.into());
    }
    if wants(Omitted::Stream) {
        set("stream", false.into());
    }
    body.iter().for_each(|(name, value)| set(name, value.clone()));
    Value::Object(parameters)
}
