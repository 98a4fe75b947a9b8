//! A row as tokens: prompts to answer, and examples to learn from.
//!
//! The prompt and the answer are tokenised apart and put one behind the other. So a row's prompt is the same tokens in
//! training and in prediction, whatever the answer begins with: tokenised together, a token could span the border, and
//! the model would be asked from a state that it never saw. The answer's own first token may carry a tokenizer's mark
//! for the beginning of a text; the model learns to write it, and decoding the answer alone removes it.
//!
//! A prompt that is too long loses the end of its *input* (then of its instruction), never the response marker; a
//! conversation loses its oldest turns, then the end of its last question.

use super::tokenizer::Tokenizer;
use crate::prompt::chat::{Message, Part as ChatPart, drop_oldest};
use crate::prompt::{Prompter, Template};
use crate::row::{self, Row};
use anyhow::{Context as _, bail};
use std::borrow::Cow;
use std::iter;
use std::ops::Range;

/// Turns rows into tokens by one tokenizer and one template.
#[derive(Debug)]
pub struct PromptEncoder<'a> {
    tokenizer: &'a Tokenizer,
    prompter: Prompter,
}

/// A row's prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Tokens: what the tokenizer puts before every text, then the rendered template; of a conversation the rendered
    /// template alone.
    pub ids: Vec<u32>,
    /// Whether the end of the row's input was cut off, or the beginning of its conversation.
    pub cut: bool,
}

/// A row to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Tokens: the prompt, the answer, the end-of-text token.
    pub ids: Vec<u32>,
    /// How many of them are the prompt: `ids[prompt_len..]` is what a model should answer.
    pub prompt_len: usize,
    /// All that the assistant says, in order; where only the last answer is asked for, that alone.
    pub answers: Vec<Range<usize>>,
    /// Whether something was cut off.
    pub cut: bool,
}

impl<'a> PromptEncoder<'a> {
    /// Compiles the template.
    pub fn new(tokenizer: &'a Tokenizer, template: &Template) -> anyhow::Result<Self> {
        Ok(Self { tokenizer, prompter: Prompter::new(template, tokenizer.dialect())? })
    }

    /// The prompt of a row in at most `limit` tokens. Fails where the template needs a column that the row lacks, or
    /// where it has more than `limit` tokens with nothing in it.
    pub fn prompt(&self, row: &Row, limit: usize) -> anyhow::Result<Prompt> {
        if let Prompter::Chat(chat) = &self.prompter {
            let fitting = |messages: &[Message]| {
                let ids = self.tokenizer.encode(&chat.prompt(messages)?)?;
                Ok((ids.len() <= limit).then_some(ids))
            };
            let (ids, cut) = fit(chat.messages(row)?, limit, fitting)?;
            return Ok(Prompt { ids, cut });
        }
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
        self.example_of(row, limit, false)
    }

    /// The same, with all that the assistant says in a conversation.
    pub fn conversation(&self, row: &Row, limit: usize) -> anyhow::Result<Example> {
        self.example_of(row, limit, true)
    }

    fn example_of(&self, row: &Row, limit: usize, all: bool) -> anyhow::Result<Example> {
        let room = |answer: usize| limit.saturating_sub(answer).max(limit / 2);
        if let Prompter::Chat(chat) = &self.prompter {
            let fitting = |messages: &[Message]| {
                let example = self.tokens(&chat.parts(messages, all)?)?;
                Ok((example.prompt_len <= room(example.ids.len() - example.prompt_len)).then_some(example))
            };
            let (mut example, cut) = fit(chat.messages(row)?, limit, fitting)?;
            example.cut = cut || example.ids.len() > limit;
            example.ids.truncate(limit);
            return Ok(example);
        }
        let mut answer = self.tokenizer.encode(&self.prompter.answer(row)?)?;
        answer.extend(self.tokenizer.eos().first());
        let Prompt { mut ids, mut cut } = self.prompt(row, room(answer.len()))?;
        let prompt_len = ids.len();
        ids.append(&mut answer);
        cut |= ids.len() > limit;
        ids.truncate(limit);
        let answers = iter::once(prompt_len..ids.len()).collect();
        Ok(Example { ids, prompt_len, answers, cut })
    }

    /// The parts of a conversation, tokenised apart.
    fn tokens(&self, parts: &[ChatPart]) -> anyhow::Result<Example> {
        let mut example = Example { ids: Vec::new(), prompt_len: 0, answers: Vec::new(), cut: false };
        for part in parts {
            let begin = example.ids.len();
            example.ids.extend(self.tokenizer.encode(&part.text)?);
            if part.is_said {
                example.prompt_len = begin;
                example.answers.push(begin..example.ids.len());
            }
        }
        Ok(example)
    }

    /// The token by which a conversation's template ends an answer, if it has one.
    pub fn end_of_answer(&self) -> anyhow::Result<Option<u32>> {
        let Prompter::Chat(chat) = &self.prompter else { return Ok(None) };
        let probe = Row::from_iter([(row::INSTRUCTION.to_string(), "a".into()), (row::OUTPUT.to_string(), "b".into())]);
        let parts = chat.parts(&chat.messages(&probe)?, false)?;
        let ids = self.tokenizer.encode(parts.last().map_or("", |part| &part.text))?;
        Ok(ids.into_iter().find(|id| self.tokenizer.is_special(*id)))
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
        shorten(&full, limit, |kept| {
            row.insert(column.to_string(), kept.into());
            self.fitting(row, limit)
        })
    }
}

/// What `fitting` makes of a conversation that fits: the whole, else without its oldest turns, else without the end of the
/// last question; and whether something was cut off.
fn fit<T>(
    mut messages: Vec<Message>,
    limit: usize,
    fitting: impl Fn(&[Message]) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<(T, bool)> {
    let mut cut = false;
    loop {
        if let Some(made) = fitting(&messages)? {
            return Ok((made, cut));
        }
        cut = true;
        if !drop_oldest(&mut messages) {
            break;
        }
    }
    let question = messages.iter().rposition(|message| message.role() == "user" && message.content().is_some());
    let made = match question {
        None => None,
        Some(question) => {
            let full = messages[question].content().unwrap_or_default().to_string();
            shorten(&full, limit, |kept| {
                messages[question].0.insert("content".to_string(), kept.into());
                fitting(&messages)
            })?
        }
    };
    let made = made.with_context(|| format!("the chat template alone has more than {limit} tokens"))?;
    Ok((made, true))
}

/// Tries a text with its end cut off, and keeps as much of it as fits. `None` if nothing does.
fn shorten<T>(
    full: &str,
    limit: usize,
    mut fitting: impl FnMut(&str) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    // Byte positions after each character: `ends[k]` is where the first k characters end.
    let ends: Vec<usize> = full.char_indices().map(|(start, _)| start).chain([full.len()]).collect();
    let mut attempt = |kept: usize| fitting(&full[..ends[kept]]);
    let Some(mut best) = attempt(0)? else { return Ok(None) };
    // Grow first, so that of a huge text only a part near the limit is ever tokenised.
    let (mut fits, mut too_long) = (0, limit.saturating_mul(4).max(1).min(ends.len() - 1));
    while too_long < ends.len() - 1
        && let Some(made) = attempt(too_long)?
    {
        (best, fits) = (made, too_long);
        too_long = (too_long * 2).min(ends.len() - 1);
    }
    while too_long - fits > 1 {
        let middle = fits + (too_long - fits) / 2;
        match attempt(middle)? {
            Some(made) => (best, fits) = (made, middle),
            None => too_long = middle,
        }
    }
    Ok(Some(best))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::chat::ChatSettings;
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

    const CHAT: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}\
                        {% if add_generation_prompt %}<assistant>{% endif %}";

    fn chat() -> Template {
        Template::Chat(ChatSettings { text: Some(CHAT.to_string()), ..ChatSettings::default() })
    }

    fn turns(count: usize, words: usize) -> Value {
        let of = |role: &str, n: usize| json!({"role": role, "content": format!("{role}{n} ").repeat(words)});
        (0..count).flat_map(|n| [of("user", n), of("assistant", n)]).collect()
    }

    #[test]
    fn a_conversation_is_learned_turn_by_turn() {
        let tokenizer = tokenizer();
        let encoder = PromptEncoder::new(&tokenizer, &chat()).unwrap();
        let row = row(json!({"messages": turns(2, 1)}));
        let example = encoder.conversation(&row, 512).unwrap();
        // Special tokens are left out by decoding; the end of a turn is one.
        let said: Vec<String> =
            example.answers.iter().map(|answer| decode(&tokenizer, &example.ids[answer.clone()])).collect();
        assert_eq!(said, ["assistant0 ", "assistant1 "]);
        assert!(example.answers.iter().all(|answer| example.ids[answer.end - 1] == 2), "each with its end");
        let last = encoder.example(&row, 512).unwrap();
        assert_eq!((&last.ids[last.prompt_len..], last.answers.len()), (&example.ids[example.prompt_len..], 1));
        assert_eq!(encoder.prompt(&row, 512).unwrap().ids, last.ids[..last.prompt_len]);
        assert_ne!(example.ids[0], 1, "a chat template writes what stands first");
        assert_eq!(encoder.end_of_answer().unwrap(), Some(2));
    }

    #[test]
    fn a_long_conversation_loses_its_oldest_turns_then_the_end_of_its_question() {
        let tokenizer = tokenizer();
        let encoder = PromptEncoder::new(&tokenizer, &chat()).unwrap();
        let long = row(json!({"messages": turns(6, 4)}));
        let whole = encoder.example(&long, 10_000).unwrap();
        let limit = whole.ids.len() / 2;
        let example = encoder.conversation(&long, limit).unwrap();
        let text = decode(&tokenizer, &example.ids);
        assert!(example.cut && example.ids.len() <= limit && !text.contains("user0"), "{text}");
        assert!(text.contains("assistant4 ") && text.ends_with("assistant5 "), "{text}");
        assert!(encoder.prompt(&long, limit).unwrap().cut);
        let lone = row(json!({"instruction": "q".repeat(300), "output": "the answer"}));
        let example = encoder.example(&lone, 100).unwrap();
        let text = decode(&tokenizer, &example.ids);
        assert!(example.cut && example.ids.len() <= 100 && text.starts_with("<user>qqq"), "{text}");
        assert!(text.ends_with("<assistant>the answer"), "{text}");
        let error = encoder.prompt(&lone, 5).unwrap_err().to_string();
        assert!(error.contains("the chat template alone has more than 5 tokens"), "{error}");
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
