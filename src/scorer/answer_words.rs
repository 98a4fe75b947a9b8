//! The words that count in the answer to a question, as SQuAD's scripts find them: lower case, without the punctuation of
//! ASCII, without articles.

use super::python_regex;
use super::text::is_space;
use super::words::f_measure;
use fancy_regex::Regex;
use std::cmp::Ordering;

/// Finds words.
#[derive(Debug)]
pub(super) struct AnswerWords {
    articles: Regex,
    /// Words of one of two texts that are not shared yet.
    open: Vec<Word>,
}

/// The words of a text.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Their letters, one word after the other, and [`HEAD`] bytes of anything, so that every word's head can be read.
    letters: Vec<u8>,
    words: Vec<Word>,
}

/// A word: most are told apart by their first bytes alone, as one number.
#[derive(Clone, Copy, Debug)]
struct Word {
    /// The first [`HEAD`] bytes, or all of them.
    head: u64,
    start: usize,
    len: usize,
}

const HEAD: usize = size_of::<u64>();

/// Each of up to so many words is looked for in turn; more are sorted.
const FEW: usize = 64;

/// What becomes of a byte: the letter in lower case or the digit that it is, or [`NOTHING`], [`SPACE`] or [`OTHER`].
const PLAIN: [u8; 256] = {
    let mut plain = [OTHER; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        plain[byte as usize] = match byte {
            b'A'..=b'Z' => byte | 0x20,
            b'a'..=b'z' | b'0'..=b'9' => byte,
            b'\t'..=b'\r' | 0x1c..=0x1f | b' ' => SPACE,
            _ if byte.is_ascii_punctuation() => NOTHING,
            _ => OTHER,
        };
        byte += 1;
    }
    plain
};
/// Punctuation of ASCII, which is left out.
const NOTHING: u8 = 0;
const SPACE: u8 = 1;
/// Part of a word, but a boundary for articles; or no ASCII at all.
const OTHER: u8 = 2;

impl AnswerWords {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { articles: python_regex::compile(r"\b(a|an|the)\b")?, open: Vec::new() })
    }

    /// Reads the words of `text` into `words`.
    pub(super) fn read(&self, text: &str, words: &mut Words) -> anyhow::Result<()> {
        // A sigma is the one letter whose lower case depends on its neighbours.
        if text.contains('Σ') {
            return self.read(&text.to_lowercase(), words);
        }
        let bytes = text.as_bytes();
        words.words.clear();
        words.letters.clear();
        words.letters.resize(bytes.len() + HEAD, 0);
        let (mut start, mut end, mut is_plain) = (0, 0, true);
        let mut at = 0;
        while at < bytes.len() {
            let byte = PLAIN[usize::from(bytes[at])];
            at += 1;
            if byte > OTHER {
                words.letters[end] = byte;
                end += 1;
            } else if byte == SPACE {
                end = self.end_word(start, end, is_plain, words)?;
                (start, is_plain) = (end, true);
            } else if byte == OTHER {
                let c = text[at - 1..].chars().next().unwrap_or_default();
                at += c.len_utf8() - 1;
                if is_space(c) {
                    end = self.end_word(start, end, is_plain, words)?;
                    (start, is_plain) = (end, true);
                } else {
                    is_plain = false;
                    for c in c.to_lowercase() {
                        end += words.put(end, c, bytes.len() - at);
                    }
                }
            }
        }
        self.end_word(start, end, is_plain, words)?;
        Ok(())
    }

    /// Ends the word whose letters stand from `start` to `end`; where the next one starts.
    #[inline]
    fn end_word(&self, start: usize, end: usize, is_plain: bool, words: &mut Words) -> anyhow::Result<usize> {
        let word = &words.letters[start..end];
        if is_plain {
            if word.is_empty() || is_article(word) {
                return Ok(start);
            }
        } else if word.split(|byte| !byte.is_ascii_alphanumeric()).any(is_article) {
            // Articles may stand beside signs that are neither letters nor digits: `the—end` is `—end`.
            return self.end_with_articles(start, end, words);
        }
        words.push(start, end);
        Ok(end)
    }

    #[cold]
    fn end_with_articles(&self, start: usize, end: usize, words: &mut Words) -> anyhow::Result<usize> {
        let text = String::from_utf8_lossy(&words.letters[start..end]);
        let text = python_regex::replace(&self.articles, &text, " ")?;
        let mut end = start;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            words.letters[end..end + word.len()].copy_from_slice(word.as_bytes());
            words.push(end, end + word.len());
            end += word.len();
        }
        Ok(end)
    }

    /// F1 of the words that two texts share.
    pub(super) fn f1(&mut self, prediction: &Words, reference: &Words) -> f64 {
        f_measure(self.shared(prediction, reference), prediction.words.len(), reference.words.len())
    }

    /// How many words two texts share, each as often as it stands in both.
    fn shared(&mut self, one: &Words, other: &Words) -> usize {
        self.open.clear();
        self.open.extend_from_slice(&one.words);
        if self.open.len() <= FEW {
            let mut shared = 0;
            for word in &other.words {
                if let Some(found) = self.open.iter().position(|open| one.is_same(open, other, word)) {
                    self.open.swap_remove(found);
                    shared += 1;
                }
            }
            return shared;
        }
        self.open.sort_unstable_by(|word, next| one.compare(word, one, next));
        let mut others = other.words.clone();
        others.sort_unstable_by(|word, next| other.compare(word, other, next));
        let (mut open, mut others, mut shared) = (self.open.as_slice(), others.as_slice(), 0);
        while let ([word, open_rest @ ..], [of_other, others_rest @ ..]) = (open, others) {
            let order = one.compare(word, other, of_other);
            shared += usize::from(order.is_eq());
            open = if order.is_le() { open_rest } else { open };
            others = if order.is_ge() { others_rest } else { others };
        }
        shared
    }
}

impl Words {
    /// Whether the text has no words.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    fn push(&mut self, start: usize, end: usize) {
        let mut head = [0; HEAD];
        head.copy_from_slice(&self.letters[start..start + HEAD]);
        let len = end - start;
        // What stands behind a short word is not its own.
        let head = u64::from_be_bytes(head) >> (8 * HEAD.saturating_sub(len));
        self.words.push(Word { head, start, len });
    }

    /// Puts a letter at `end`, with room for `rest` bytes behind it; its length.
    fn put(&mut self, end: usize, c: char, rest: usize) -> usize {
        let len = c.len_utf8();
        // Lower case may be longer.
        if self.letters.len() < end + len + rest + HEAD {
            self.letters.resize(end + len + rest + HEAD, 0);
        }
        c.encode_utf8(&mut self.letters[end..]);
        len
    }

    fn is_same(&self, word: &Word, others: &Self, other: &Word) -> bool {
        word.head == other.head && word.len == other.len && (word.len <= HEAD || self.tail(word) == others.tail(other))
    }

    fn compare(&self, word: &Word, others: &Self, other: &Word) -> Ordering {
        let tails = || if word.len <= HEAD { Ordering::Equal } else { self.tail(word).cmp(others.tail(other)) };
        (word.head, word.len).cmp(&(other.head, other.len)).then_with(tails)
    }

    fn tail(&self, word: &Word) -> &[u8] {
        &self.letters[word.start + HEAD..word.start + word.len]
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.words.len() == other.words.len()
            && self.words.iter().zip(&other.words).all(|(word, of_other)| self.is_same(word, other, of_other))
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

    fn read(words: &AnswerWords, text: &str) -> Words {
        let mut read = Words::default();
        words.read(text, &mut read).unwrap();
        read
    }

    fn check(words: &AnswerWords, text: &str) {
        let read = read(words, text);
        let text_of = |word: &Word| str::from_utf8(&read.letters[word.start..word.start + word.len]).unwrap();
        let found: Vec<&str> = read.words.iter().map(text_of).collect();
        assert_eq!(found, slowly(text, &words.articles), "{text:?}");
    }

    #[test]
    fn words_are_those_of_the_script() {
        let words = AnswerWords::new().unwrap();
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
            check(&words, text);
        }
    }

    #[test]
    fn every_character_is_what_it_is_to_the_script() {
        let words = AnswerWords::new().unwrap();
        for c in ('\0'..='\u{700}').chain('\u{1e00}'..='\u{2fff}').chain('\u{10a00}'..='\u{10b00}') {
            check(&words, &format!("x{c}the{c} an{c}a{c}"));
        }
    }

    #[test]
    fn words_are_shared_as_often_as_both_have_them() {
        let mut words = AnswerWords::new().unwrap();
        let long = |word: &str| format!("{word}{}", "0123456789".repeat(3));
        // Words that differ in their heads, in their lengths and behind their heads, with what a stale head could hold.
        let known: Vec<String> = ["x", "y", "xy", "abcdefgh", "abcdefghi", "abcdefghj"]
            .into_iter()
            .flat_map(|word| [word.into(), long(word)])
            .collect();
        let text = |count: usize, seed: usize| {
            let picked = (0..count).map(|at| known[(at * at * seed + at / 3 + seed) % known.len()].as_str());
            picked.collect::<Vec<_>>()
        };
        for (left, right) in [(0, 3), (5, 5), (FEW, FEW + 40), (FEW + 1, 3), (FEW + 40, FEW), (200, 300)] {
            for seed in 1..6 {
                let (one, other) = (text(left, seed), text(right, seed + 3));
                let times = |text: &[&str], word: &str| text.iter().filter(|other| **other == word).count();
                let expected: usize = known.iter().map(|word| times(&one, word).min(times(&other, word))).sum();
                let (one, other) = (read(&words, &one.join(" ")), read(&words, &other.join(" ")));
                assert_eq!(words.shared(&one, &other), expected, "{left} {right} {seed}");
                assert_eq!(words.shared(&other, &one), expected, "{left} {right} {seed}");
                assert!(one == one && (one != other || left == right));
            }
        }
    }
}
