//! Where an answer ends.

use super::{Answer, StopReason};
use crate::engine::tokenizer::Tokenizer;

/// What can end an answer, besides its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endings<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Texts that end an answer.
    pub texts: &'a [String],
    /// Tokens that end an answer, besides the end-of-text tokens.
    pub tokens: &'a [u32],
}

/// The end of an answer.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub stop: StopReason,
    /// Tokens that are part of the answer.
    kept: usize,
    /// Its text, if that is not just what its tokens say.
    text: Option<String>,
}

impl Endings<'_> {
    /// Tokens that end an answer.
    pub fn all_tokens(&self) -> impl Iterator<Item = u32> + Clone {
        self.tokenizer.eos().iter().chain(self.tokens).copied()
    }

    /// The end, if an answer of at most `most` tokens ends with the last of `tokens`.
    pub fn at(&self, tokens: &[u32], most: usize) -> anyhow::Result<Option<End>> {
        let Some(last) = tokens.last() else { return Ok(None) };
        let end = |stop, kept, text| Ok(Some(End { stop, kept, text }));
        if self.tokenizer.eos().contains(last) {
            return end(StopReason::Eos, tokens.len() - 1, None);
        }
        if self.tokens.contains(last) {
            return end(StopReason::Stop, tokens.len() - 1, None);
        }
        if let Some(text) = stopped(self.tokenizer, tokens, self.texts)? {
            return end(StopReason::Stop, tokens.len(), Some(text));
        }
        if tokens.len() >= most { end(StopReason::Length, tokens.len(), None) } else { Ok(None) }
    }

    /// The answer that ends so.
    pub fn answer(&self, mut tokens: Vec<u32>, log_probabilities: Vec<f32>, end: End) -> anyhow::Result<Answer> {
        tokens.truncate(end.kept);
        let text = match end.text {
            Some(text) => text,
            None => self.tokenizer.decode(&tokens)?,
        };
        Ok(Answer { text, tokens, stop: end.stop, log_probabilities })
    }
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
    fn tokens_texts_and_limits_end_answers() {
        let bytes = bytes();
        let (texts, period) = (vec!["##".to_string()], bytes.encode(".").unwrap());
        let endings = Endings { tokenizer: &bytes, texts: &texts, tokens: &period };
        let at = |text: &str, extra: &[u32], most| {
            let tokens = [bytes.encode(text).unwrap(), extra.to_vec()].concat();
            let end = endings.at(&tokens, most).unwrap()?;
            let answer = endings.answer(tokens, Vec::new(), end).unwrap();
            Some((answer.text, answer.tokens.len(), answer.stop))
        };
        let ended = |text: &str, tokens, stop| Some((text.to_string(), tokens, stop));
        assert_eq!(at("yes", &[], 4), None);
        assert_eq!(at("yes", &[], 3), ended("yes", 3, StopReason::Length));
        assert_eq!(at("yes", &[2], 4), ended("yes", 3, StopReason::Eos));
        assert_eq!(at("yes.", &[], 9), ended("yes", 3, StopReason::Stop));
        assert_eq!(at("yes##", &[], 9), ended("yes", 5, StopReason::Stop));
        assert_eq!(endings.all_tokens().collect::<Vec<_>>(), [2, period[0]]);
    }
}
