//! A row → the messages of a question.

use super::ApiRecipe;
use crate::prompt::chat::{Dialect, Message, messages, put_first};
use crate::prompt::{Prompter, Template};
use crate::row::Row;
use anyhow::ensure;

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
        put_first(self.recipe.system.as_deref(), &mut messages);
        Ok(messages)
    }
}
