//! The words that count in the answer to a question, as SQuAD's scripts find them: lower case, without the punctuation of
//! ASCII, without articles.

use super::python_regex;
use super::text::is_space;
use super::words::{Counts, Vocabulary, f_measure};
use fancy_regex::Regex;
use std::borrow::Cow;

/// Finds words, and keeps their numbers from row to row.
#[derive(Debug)]
pub(super) struct AnswerWords {
    vocabulary: Vocabulary,
    counts: Counts,
    articles: Regex,
    /// The word at work.
    word: Vec<u8>,
}

/// What a byte of ASCII is to a text.
#[derive(Clone, Copy)]
enum Class {
    /// A letter or a digit.
    Word,
    /// A letter to make lower case.
    Capital,
    /// Left out.
    Punctuation,
    Space,
    /// Part of a word, but a boundary for articles; or no ASCII at all.
    Other,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 128 {
        #[expect(clippy::cast_possible_truncation, reason = "below 128")]
        let c = byte as u8;
        classes[byte] = match c {
            b'A'..=b'Z' => Class::Capital,
            b'a'..=b'z' | b'0'..=b'9' => Class::Word,
            b'\t'..=b'\r' | 0x1c..=0x1f | b' ' => Class::Space,
            _ if c.is_ascii_punctuation() => Class::Punctuation,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

impl AnswerWords {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            vocabulary: Vocabulary::default(),
            counts: Counts::default(),
            articles: python_regex::compile(r"\b(a|an|the)\b")?,
            word: Vec::new(),
        })
    }

    /// To be called before the texts of a row are read: numbers of earlier rows are worth nothing then.
    pub(super) fn begin_row(&mut self) {
        self.vocabulary.make_room();
    }

    /// Reads the words of `text` into `words`.
    pub(super) fn read(&mut self, text: &str, words: &mut Vec<u32>) -> anyhow::Result<()> {
        words.clear();
        self.word.clear();
        // Beyond ASCII, lower case is not a matter of single letters.
        let text: Cow<'_, str> = if text.is_ascii() { text.into() } else { text.to_lowercase().into() };
        let bytes = text.as_bytes();
        let (mut at, mut is_plain) = (0, true);
        while at < bytes.len() {
            let byte = bytes[at];
            match CLASSES[usize::from(byte)] {
                Class::Word => self.word.push(byte),
                Class::Capital => self.word.push(byte | 0x20),
                Class::Punctuation => {}
                Class::Space => self.end_word(&mut is_plain, words)?,
                Class::Other => {
                    let c = text[at..].chars().next().unwrap_or_default();
                    if is_space(c) {
                        self.end_word(&mut is_plain, words)?;
                    } else {
                        is_plain = false;
                        self.word.extend_from_slice(&bytes[at..at + c.len_utf8()]);
                    }
                    at += c.len_utf8() - 1;
                }
            }
            at += 1;
        }
        self.end_word(&mut is_plain, words)
    }

    fn end_word(&mut self, is_plain: &mut bool, words: &mut Vec<u32>) -> anyhow::Result<()> {
        if self.word.is_empty() {
            return Ok(());
        }
        if *is_plain {
            if !is_article(&self.word) {
                words.push(self.vocabulary.number(&self.word));
            }
        } else {
            // Articles may stand beside signs that are neither letters nor digits: `the—end` is `—end`.
            if self.word.split(|byte| !byte.is_ascii_alphanumeric()).any(is_article) {
                let text = String::from_utf8_lossy(&self.word);
                let text = python_regex::replace(&self.articles, &text, " ")?;
                let rest = text.split(' ').filter(|word| !word.is_empty());
                words.extend(rest.map(|word| self.vocabulary.number(word.as_bytes())));
            } else {
                words.push(self.vocabulary.number(&self.word));
            }
            *is_plain = true;
        }
        self.word.clear();
        Ok(())
    }

    /// F1 of the words that two texts share.
    pub(super) fn f1(&mut self, prediction: &[u32], reference: &[u32]) -> f64 {
        self.counts.fit(&self.vocabulary);
        f_measure(self.counts.shared(reference, prediction), prediction.len(), reference.len())
    }
}

fn is_article(word: &[u8]) -> bool {
    matches!(word, b"a" | b"an" | b"the")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same in the words of the script.
    fn slowly(text: &str, articles: &Regex) -> Vec<String> {
        let mut text = text.to_lowercase();
        text.retain(|c| !c.is_ascii_punctuation());
        let text = python_regex::replace(articles, &text, " ").unwrap();
        text.split(is_space).filter(|word| !word.is_empty()).map(str::to_string).collect()
    }

    fn check(words: &mut AnswerWords, text: &str) {
        let mut read = Vec::new();
        words.begin_row();
        words.read(text, &mut read).unwrap();
        let expected: Vec<u32> =
            slowly(text, &words.articles).iter().map(|word| words.vocabulary.number(word.as_bytes())).collect();
        assert_eq!(read, expected, "{text:?}");
    }

    #[test]
    fn words_are_those_of_the_script() {
        let mut words = AnswerWords::new().unwrap();
        for text in [
            "",
            "The  END, of-a\tstory.",
            "a",
            "an—the—a",
            "the\u{301} a\u{301}",
            "é-a b\u{1c}c",
            "a\0the\u{7f}b",
            "THE İ ΣΑΣ a_the",
            "the²",
            "the\u{85}a\u{a0}b",
            "Zürich’s the “an”",
            "𝐚 an𝐚 𝐚the",
            "e\u{301}a\u{301}the",
        ] {
            check(&mut words, text);
        }
    }

    #[test]
    fn every_character_is_what_it_is_to_the_script() {
        let mut words = AnswerWords::new().unwrap();
        for c in ('\0'..='\u{700}').chain('\u{1e00}'..='\u{2fff}').chain('\u{10a00}'..='\u{10b00}') {
            check(&mut words, &format!("x{c}the{c} an{c}a{c}"));
        }
    }
}
