//! A row as tokens: prompts to answer, and examples to learn from.
//!
//! The prompt and the answer are tokenised apart and put one behind the other. So a row's prompt is the same tokens in
//! training and in prediction, whatever the answer begins with: tokenised together, a token could span the border, and
//! the model would be asked from a state that it never saw. The answer's own first token may carry a tokenizer's mark
//! for the beginning of a text; the model learns to write it, and decoding the answer alone removes it.
//!
//! A prompt that is too long loses the end of its *input* (then of its instruction), never the response marker.

use super::tokenizer::Tokenizer;
use crate::row::{self, Row};
use crate::stage::prompt::{Prompter, Template};
use anyhow::{Context as _, bail};
use std::borrow::Cow;

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
        for column in [row::INPUT, row::INSTRUCTION] {
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
        let answer = row::text(row, row::OUTPUT).context("the row has no `output` to learn from")?;
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
        let Some(full) = row::text(row, column).map(Cow::into_owned) else { return Ok(None) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::train_bpe(["### Instruction:\n### Input:\n\n### Response:\n a b c"; 3].iter(), 300).unwrap()
    }

    fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> String {
        tokenizer.decode(ids).unwrap()
    }

    #[test]
    fn the_prompt_of_an_example_is_the_prompt_of_prediction() {
        let tokenizer = tokenizer();
        let encoder = PromptEncoder::new(&tokenizer, &Template::AlpacaShort).unwrap();
        // The answer begins with what the prompt ends with: tokenised together, `\n\n` would be one token.
        let row = row(json!({"instruction": "Say it.", "input": "a b", "output": "\n\nc"}));
        let prompt = encoder.prompt(&row, 512).unwrap();
        let example = encoder.example(&row, 512).unwrap();
        assert_eq!(example.ids[..example.prompt_len], prompt.ids);
        assert_eq!(prompt.ids[0], 1, "the beginning-of-text token comes first");
        assert_eq!(decode(&tokenizer, &prompt.ids), "### Instruction:\nSay it.\n\n### Input:\na b\n\n### Response:\n");
        let answer = &example.ids[example.prompt_len..];
        assert_eq!((decode(&tokenizer, answer).as_str(), answer.last()), ("\n\nc", Some(&2)));
        assert!(!prompt.cut && !example.cut);
    }

    #[test]
    fn a_long_input_loses_its_end_and_the_response_marker_stays() {
        let tokenizer = tokenizer();
        let encoder = PromptEncoder::new(&tokenizer, &Template::AlpacaShort).unwrap();
        let input: String = (0..400).map(|i| format!("{i} ")).collect();
        let row = row(json!({"instruction": "Add.", "input": input, "output": "7"}));
        let whole = encoder.prompt(&row, 100_000).unwrap();
        assert!(!whole.cut && whole.ids.len() > 1000);
        for limit in [40, 64, 333] {
            let prompt = encoder.prompt(&row, limit).unwrap();
            let text = decode(&tokenizer, &prompt.ids);
            assert!(prompt.cut && prompt.ids.len() <= limit, "{limit}: {}", prompt.ids.len());
            assert!(prompt.ids.len() + 3 > limit, "{limit}: as much as can be is kept: {}", prompt.ids.len());
            assert!(text.starts_with("### Instruction:\nAdd.\n\n### Input:\n0 1 2 "), "{text}");
            assert!(text.ends_with("\n\n### Response:\n"), "{text}");
        }
    }

    #[test]
    fn a_long_instruction_is_cut_once_the_input_is_gone() {
        let tokenizer = tokenizer();
        let encoder = PromptEncoder::new(&tokenizer, &Template::AlpacaShort).unwrap();
        let row = row(json!({"instruction": "ü".repeat(500), "input": "x y z"}));
        let prompt = encoder.prompt(&row, 60).unwrap();
        let text = decode(&tokenizer, &prompt.ids);
        assert!(
            prompt.cut && text.starts_with("### Instruction:\nüü") && text.ends_with("ü\n\n### Response:\n"),
            "{text}"
        );
        let error = encoder.prompt(&row, 5).unwrap_err().to_string();
        assert!(error.contains("more than 5 tokens"), "{error}");
    }

    #[test]
    fn an_example_keeps_its_answer_rather_than_its_whole_input() {
        let tokenizer = tokenizer();
        let encoder = PromptEncoder::new(&tokenizer, &Template::AlpacaShort).unwrap();
        let row = row(json!({"instruction": "Go.", "input": "q".repeat(300), "output": "the answer"}));
        let example = encoder.example(&row, 100).unwrap();
        assert!(example.cut && example.ids.len() <= 100);
        assert_eq!(decode(&tokenizer, &example.ids[example.prompt_len..]), "the answer");
        // An answer that is longer than the room loses its end, and with it the end-of-text token.
        let mut row = row;
        row.insert("output".into(), "r".repeat(300).into());
        let example = encoder.example(&row, 100).unwrap();
        assert!(example.cut && example.ids.len() == 100 && example.prompt_len <= 50, "{}", example.prompt_len);
        assert_ne!(example.ids.last(), Some(&2));
    }

    #[test]
    fn what_is_missing_is_named() {
        let tokenizer = tokenizer();
        let encoder = PromptEncoder::new(&tokenizer, &Template::AlpacaShort).unwrap();
        let error = encoder.example(&row(json!({"instruction": "Go."})), 100).unwrap_err().to_string();
        assert!(error.contains("no `output`"), "{error}");
        assert!(encoder.prompt(&row(json!({"input": "x"})), 100).is_err());
    }
}
