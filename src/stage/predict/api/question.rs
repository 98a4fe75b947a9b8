//! A row → what is sent to the API.

use super::{ApiRecipe, Limit, Omitted};
use crate::row::Row;
use crate::stage::chat::{Dialect, Message, messages};
use crate::stage::prompt::{Prompter, Template};
use anyhow::ensure;
use serde_json::{Map, Value, json};

/// Makes questions of rows.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    recipe: &'a ApiRecipe,
    /// None: rows become conversations.
    prompter: Option<Prompter>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(recipe: &'a ApiRecipe) -> anyhow::Result<Self> {
        let prompter = match &recipe.template {
            Template::Chat(_) => None,
            template => Some(Prompter::new(template, &Dialect::default())?),
        };
        Ok(Self { recipe, prompter })
    }

    /// The messages of a row; an answer at their end is left out.
    pub(super) fn messages(&self, row: &Row) -> anyhow::Result<Vec<Message>> {
        let mut messages = match &self.prompter {
            Some(prompter) => vec![Message::new("user", &prompter.prompt(row)?)],
            None => messages(row)?,
        };
        if messages.last().is_some_and(Message::is_answer) {
            messages.pop();
        }
        ensure!(!messages.is_empty(), "the row asks nothing: its `messages` are an answer only");
        if let Some(system) = &self.recipe.system
            && messages[0].role() != "system"
        {
            messages.insert(0, Message::new("system", system));
        }
        Ok(messages)
    }

    /// The body of the call for the so-manieth answer.
    #[cfg_attr(not(feature = "api"), allow(dead_code, reason = "nothing is sent without the network"))]
    pub(super) fn body(&self, messages: &[Message], sample: u32) -> Value {
        let ApiRecipe { model, max_new_tokens, limit, stop, sample: drawn, seed, body, omit, .. } = self.recipe;
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
}
