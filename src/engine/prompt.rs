//! A row as tokens: prompts to answer, and examples to learn from.
//!
//! The prompt and the answer are tokenised apart and put one behind the other. So a row's prompt is the same tokens in
//! training and in prediction, whatever the answer begins with: tokenised together, a token could span the border, and
//! the model would be asked from a state that it never saw. The answer's own first token may carry a tokenizer's mark
//! for the beginning of a text; the model learns to write it, and decoding the answer alone removes it.
//!
//! A prompt that is too long loses the end of its *input* (then of its instruction), never the response marker.

use super::tokenizer::Tokenizer;
use crate::stage::prompt::{Prompter, Template};
use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

type Row = Map<String, Value>;

/// Turns rows into tokens by one tokenizer and one template.
#[derive(Debug)]
pub struct PromptEncoder<'a> {
    tokenizer: &'a Tokenizer,
    prompter: Prompter<'a>,
}

/// A row's prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Tokens: what the tokenizer puts before every text, then the rendered template.
    pub ids: Vec<u32>,
    /// Whether the end of the row's input was cut off.
    pub cut: bool,
}

/// A row to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Tokens: the prompt, the answer, the end-of-text token.
    pub ids: Vec<u32>,
    /// How many of them are the prompt: `ids[prompt_len..]` is what a model should answer.
    pub prompt_len: usize,
    /// Whether something was cut off.
    pub cut: bool,
}

impl<'a> PromptEncoder<'a> {
    /// Compiles the template.
    pub fn new(tokenizer: &'a Tokenizer, template: &'a Template) -> anyhow::Result<Self> {
        Ok(Self { tokenizer, prompter: Prompter::new(template)? })
    }

    /// The prompt of a row in at most `limit` tokens. Fails where the template needs a column that the row lacks, or
    /// where it has more than `limit` tokens with nothing in it.
    pub fn prompt(&self, row: &Row, limit: usize) -> anyhow::Result<Prompt> {
        if let Some(ids) = self.fitting(row, limit)? {
            return Ok(Prompt { ids, cut: false });
        }
        let mut row = row.clone();
        for column in ["input", "instruction"] {
            if let Some(ids) = self.shorten(&mut row, column, limit)? {
                return Ok(Prompt { ids, cut: true });
            }
        }
        bail!("the template alone has more than {limit} tokens")
    }

    /// A row's prompt, its `output` and the end of text in at most `limit` tokens. The prompt is shortened as in
    /// prediction to make room for the answer, but not below half of `limit`; an answer that is longer still loses its
    /// end, and then ends without an end-of-text token.
    pub fn example(&self, row: &Row, limit: usize) -> anyhow::Result<Example> {
        let answer = text(row, "output").context("the row has no `output` to learn from")?;
        let mut answer = self.tokenizer.encode(&answer)?;
        answer.extend(self.tokenizer.eos().first());
        let Prompt { mut ids, mut cut } = self.prompt(row, limit.saturating_sub(answer.len()).max(limit / 2))?;
        let prompt_len = ids.len();
        ids.append(&mut answer);
        cut |= ids.len() > limit;
        ids.truncate(limit);
        Ok(Example { ids, prompt_len, cut })
    }

    /// The row's prompt, if it has at most `limit` tokens.
    fn fitting(&self, row: &Row, limit: usize) -> anyhow::Result<Option<Vec<u32>>> {
        let mut ids = self.tokenizer.prefix().to_vec();
        ids.extend(self.tokenizer.encode(&self.prompter.prompt(row)?)?);
        Ok((ids.len() <= limit).then_some(ids))
    }

    /// Cuts the end off a column so that the prompt fits, and keeps as much of it as can be. `None` if the prompt is
    /// too long even with nothing in the column, which is how it is left then.
    fn shorten(&self, row: &mut Row, column: &str, limit: usize) -> anyhow::Result<Option<Vec<u32>>> {
        let Some(full) = text(row, column) else { return Ok(None) };
        // Byte positions after each character: `ends[k]` is where the first k characters end.
        let ends: Vec<usize> = full.char_indices().map(|(start, _)| start).chain([full.len()]).collect();
        let mut attempt = |kept: usize| {
            row.insert(column.to_string(), full[..ends[kept]].into());
            self.fitting(row, limit)
        };
        let Some(mut best) = attempt(0)? else { return Ok(None) };
        // Grow first, so that of a huge text only a part near the limit is ever tokenised.
        let (mut fits, mut too_long) = (0, limit.saturating_mul(4).max(1).min(ends.len() - 1));
        while too_long < ends.len() - 1
            && let Some(ids) = attempt(too_long)?
        {
            (best, fits) = (ids, too_long);
            too_long = (too_long * 2).min(ends.len() - 1);
        }
        while too_long - fits > 1 {
            let middle = fits + (too_long - fits) / 2;
            match attempt(middle)? {
                Some(ids) => (best, fits) = (ids, middle),
                None => too_long = middle,
            }
        }
        Ok(Some(best))
    }
}

/// The text of a column; `None` if it is absent or null. Other values are their JSON text.
fn text(row: &Row, column: &str) -> Option<String> {
    match row.get(column)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
