//! Greedy answers to prompts: which sequences advance together, which token comes next, when an answer ends.
//!
//! Prompts are taken in order of their length, as many at a time as asked for; a finished answer leaves its place to the
//! next prompt at once. None of it can be seen in the answers: see [`decoder`](super::decoder).

use super::decoder::{Advance, Cache, Decoder};
use super::tokenizer::Tokenizer;
use anyhow::bail;

/// Prompt tokens that may enter together, unless one prompt alone has more: bounds the memory of a step.
const ENTERING_TOKENS: usize = 4096;

/// When an answer ends, and how many are made together.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// Texts that end an answer.
    pub stop: &'a [String],
    /// Most sequences that advance together.
    pub batch_size: usize,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// The model said so, by its end-of-text token.
    Eos,
    /// A stop text appeared.
    Stop,
    /// There was no room for more: the limit of tokens, or the model's context.
    Length,
}

impl StopReason {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            StopReason::Eos => "eos",
            StopReason::Stop => "stop",
            StopReason::Length => "length",
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its text, up to the stop text if one appeared.
    pub text: String,
    /// Its tokens, those of the stop text among them, without the end-of-text token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
}

/// A sequence that is being continued.
struct Live {
    /// Which prompt it began with.
    prompt: usize,
    cache: Cache,
    /// What the model has not seen yet: the prompt at first, then the token chosen last.
    next: Vec<u32>,
    new: Vec<u32>,
}

/// Answers every prompt (none of them empty, all within the decoder's context and vocabulary), in the order of the
/// prompts. `finished` is called with how many answers and new tokens there are, whenever answers were finished.
pub fn generate(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    prompts: &[Vec<u32>],
    limits: Limits<'_>,
    mut finished: impl FnMut(usize, usize),
) -> anyhow::Result<Vec<Answer>> {
    let mut waiting: Vec<usize> = (0..prompts.len()).collect();
    // Taken from the end: the shortest first.
    waiting.sort_by_key(|prompt| std::cmp::Reverse((prompts[*prompt].len(), *prompt)));
    let mut answers: Vec<Option<Answer>> = vec![None; prompts.len()];
    let (mut live, mut done, mut tokens) = (Vec::new(), 0, 0);
    loop {
        let mut entering = 0;
        while live.len() < limits.batch_size.max(1)
            && let Some(prompt) =
                waiting.pop_if(|prompt| entering == 0 || entering + prompts[*prompt].len() <= ENTERING_TOKENS)
        {
            entering += prompts[prompt].len();
            live.push(Live { prompt, cache: Cache::default(), next: prompts[prompt].clone(), new: Vec::new() });
        }
        if live.is_empty() {
            break;
        }
        let mut advances: Vec<Advance<'_>> =
            live.iter_mut().map(|live: &mut Live| Advance { cache: &mut live.cache, tokens: &live.next }).collect();
        let logits = decoder.advance(&mut advances);
        let before = done;
        let mut still = Vec::with_capacity(live.len());
        for (mut live, logits) in live.into_iter().zip(logits.chunks_exact(decoder.vocab_size())) {
            match live.take(greedy(logits)?, decoder, tokenizer, limits)? {
                None => still.push(live),
                Some(answer) => {
                    tokens += answer.tokens.len();
                    done += 1;
                    answers[live.prompt] = Some(answer);
                }
            }
        }
        live = still;
        if done > before {
            finished(done, tokens);
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

impl Live {
    /// Takes the next token. Returns the answer if it ends here.
    fn take(
        &mut self,
        token: u32,
        decoder: &Decoder,
        tokenizer: &Tokenizer,
        limits: Limits<'_>,
    ) -> anyhow::Result<Option<Answer>> {
        if tokenizer.eos().contains(&token) {
            return Ok(Some(self.answer(tokenizer.decode(&self.new)?, StopReason::Eos)));
        }
        self.new.push(token);
        if let Some(text) = stopped(tokenizer, &self.new, limits.stop)? {
            return Ok(Some(self.answer(text, StopReason::Stop)));
        }
        if self.new.len() >= limits.max_new_tokens || self.cache.positions() >= decoder.context() {
            return Ok(Some(self.answer(tokenizer.decode(&self.new)?, StopReason::Length)));
        }
        self.next = vec![token];
        Ok(None)
    }

    fn answer(&mut self, text: String, stop: StopReason) -> Answer {
        Answer { text, tokens: std::mem::take(&mut self.new), stop }
    }
}

/// The first of the largest logits.
fn greedy(logits: &[f32]) -> anyhow::Result<u32> {
    let (mut best, mut largest) = (0, f32::NEG_INFINITY);
    for (token, logit) in (0..).zip(logits) {
        if *logit > largest {
            (best, largest) = (token, *logit);
        }
    }
    if !largest.is_finite() {
        bail!("the model's output is not a number: its weights hold infinite or undefined values, or overflow");
    }
    Ok(best)
}

/// The text before the first stop text, if one appeared with the last of `tokens`.
fn stopped(tokenizer: &Tokenizer, tokens: &[u32], stop: &[String]) -> anyhow::Result<Option<String>> {
    let Some(longest) = stop.iter().map(String::len).max() else { return Ok(None) };
    // A token is at least one byte of text, so a stop text that ends with the last token lies within that many tokens.
    // A few more, so that a character of several bytes and a decoder's care for a text's beginning stay outside.
    let tail = tokenizer.decode(&tokens[tokens.len().saturating_sub(longest + 4)..])?;
    if !stop.iter().any(|stop| tail.contains(stop)) {
        return Ok(None);
    }
    let text = tokenizer.decode(tokens)?;
    let first = stop.iter().filter_map(|stop| text.find(stop)).min();
    Ok(first.map(|end| text[..end].to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer without merges: every byte is a token.
    fn bytes() -> Tokenizer {
        Tokenizer::train_bpe([""].iter(), crate::engine::tokenizer::MIN_VOCAB).unwrap()
    }

    /// The text and the number of tokens at which an answer that would go on as `text` is stopped.
    fn stop_at(tokenizer: &Tokenizer, text: &str, stop: &[&str]) -> Option<(String, usize)> {
        let stop: Vec<String> = stop.iter().map(ToString::to_string).collect();
        let tokens = tokenizer.encode(text).unwrap();
        (1..=tokens.len()).find_map(|count| Some((stopped(tokenizer, &tokens[..count], &stop).unwrap()?, count)))
    }

    #[test]
    fn a_stop_text_is_found_across_tokens_and_left_out() {
        let bytes = bytes();
        let found = |text: &str, count| Some((text.to_string(), count));
        assert_eq!(stop_at(&bytes, "yes\n### Instruction", &["###"]), found("yes\n", 7));
        assert_eq!(stop_at(&bytes, "## no # ##", &["###"]), None);
        assert_eq!(stop_at(&bytes, "grün, größer", &["größ", "END"]), found("grün, ", 13));
        assert_eq!(stop_at(&bytes, "ab", &[]), None);
        // The first of several, by where it stands.
        assert_eq!(stop_at(&bytes, "a b c", &["c", "b"]), found("a ", 3));
        // A token that holds more than the stop text: what is before it stays, what is behind it goes.
        let words = Tokenizer::train_bpe(["no###yes"; 9].iter(), 270).unwrap();
        assert!(words.count("no###yes").unwrap() < 4);
        assert_eq!(stop_at(&words, "no###yes", &["###"]).unwrap().0, "no");
    }

    #[test]
    fn a_stop_text_longer_than_any_window_is_found_in_a_long_answer() {
        let bytes = bytes();
        let stop = "🦀 the end of the answer 🦀";
        let text = format!("{}{stop}", "x".repeat(300));
        assert_eq!(stop_at(&bytes, &text, &[stop]), Some(("x".repeat(300), text.len())));
    }

    #[test]
    fn the_first_of_equal_logits_is_taken_and_nonsense_is_refused() {
        assert_eq!(greedy(&[0.5, 2.0, 2.0, -1.0]).unwrap(), 1);
        assert_eq!(greedy(&[f32::NEG_INFINITY, -3.0]).unwrap(), 1);
        assert!(greedy(&[f32::NAN, f32::NAN]).is_err());
        assert!(greedy(&[0.0, f32::INFINITY]).is_err());
    }
}
