//! chrF and chrF++ as sacrebleu computes them, from 0 to 100.
//!
//! M. Popović, 'chrF: character n-gram F-score for automatic MT evaluation', 2015; with `word_order = 2` chrF++, 2017.

use super::grams::{Grams, Texts};
use super::signature::{add, case, signature, yes};
use super::text::{is_space, split};
use super::words::Vocabulary;
use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work};
use serde_json::json;
use std::borrow::Cow;

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "chrf",
    version: 1,
    summary: "chrF of 0 to 100: F-measure of the runs of one to six characters that stand in a reference, and chrF++",
    source: "sacrebleu 2.6.0, `CHRF`: equal values of each row (`sentence_score`) and of all rows together (`corpus_score`)",
    metrics: &[CHRF],
    pooled: &[CHRF],
    references: References::Some,
    read: super::read::<ChrfParams>,
    settings: super::settings::<ChrfParams>,
    work: Work::Rows(super::build::<ChrfParams>),
};

const CHRF: Metric = Metric { name: "chrf", range: (0.0, 100.0), better: Better::Higher };

crate::settings! {
    /// How chrF counts.
    pub struct ChrfParams {
        /// The most characters of a run that counts.
        char_order: usize = 6 => 1..=20,
        /// The most words of a run that counts; 2 makes it chrF++.
        word_order: usize = 0 => 0..=20,
        /// How many times as important recall is as precision.
        beta: f64 = 2.0 => 0.0..=1e6,
        /// Whether letters are made lower case.
        lowercase: bool = false,
        /// Whether white space counts as characters.
        whitespace: bool = false,
        /// Whether orders that a text is too short for count as 0, as in chrF++.py, Moses and NLTK.
        eps_smoothing: bool = false,
    }
}

impl Params for ChrfParams {
    type Scorer = Chrf;

    fn scorer(self) -> anyhow::Result<Chrf> {
        let orders = self.char_order + self.word_order;
        let (grams, shared) = (Grams::default(), vec![0; orders]);
        let (answer, reference) = (Text::default(), Text::default());
        Ok(Chrf { params: self, vocabulary: Vocabulary::default(), answer, reference, grams, shared })
    }
}

/// The scorer.
#[derive(Debug)]
pub struct Chrf {
    params: ChrfParams,
    vocabulary: Vocabulary,
    answer: Text,
    reference: Text,
    grams: Grams,
    /// Runs that match, by order: those of characters, then those of words.
    shared: Vec<u64>,
}

/// A text as numbers.
#[derive(Debug, Default)]
struct Text {
    chars: Texts,
    words: Texts,
}

impl Scorer for Chrf {
    /// Counts: for each order runs in the answer, in the reference, in both; and the number of references.
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        self.vocabulary.clear();
        self.answer.read(answer.prediction, &self.params, &mut self.vocabulary);
        let (mut best, mut best_counts) = (-1.0, Vec::new());
        for reference in answer.references {
            self.reference.read(reference, &self.params, &mut self.vocabulary);
            let counts = self.compare();
            let score = self.f_measure(&counts);
            if score > best {
                (best, best_counts) = (score, counts);
            }
        }
        best_counts.push(answer.references.len() as f64);
        Ok(Scored { values: vec![Some(best)], counts: best_counts })
    }

    fn add(&self, sums: &mut Vec<f64>, counts: &[f64], times: f64) {
        add(sums, counts, times);
    }

    fn pool(&self, sums: &[f64]) -> Vec<Option<f64>> {
        vec![(!sums.is_empty()).then(|| self.f_measure(sums))]
    }

    fn details(&self, sums: &[f64]) -> serde_json::Value {
        let ChrfParams { char_order, word_order, beta, lowercase, whitespace, eps_smoothing } = &self.params;
        let settings = [
            ("case", case(*lowercase)),
            ("eff", yes(!eps_smoothing)),
            ("nc", &char_order.to_string()),
            ("nw", &word_order.to_string()),
            ("space", yes(*whitespace)),
        ];
        json!({ "name": format!("chrF{beta}{}", "+".repeat(*word_order)), "signature": signature(sums, &settings) })
    }
}

impl Text {
    fn read(&mut self, text: &str, params: &ChrfParams, vocabulary: &mut Vocabulary) {
        let text = if params.lowercase { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) };
        self.chars.clear();
        self.chars.symbols.extend(text.chars().filter(|c| params.whitespace || !is_space(*c)).map(u32::from));
        self.chars.end();
        if params.word_order > 0 {
            self.words.clear();
            split(&text).for_each(|word| {
                let (first, last) = without_punctuation(word);
                self.words.symbols.push(vocabulary.number(first.as_bytes()));
                self.words.symbols.extend(last.map(|last| vocabulary.number(last.as_bytes())));
            });
            self.words.end();
        }
    }
}

/// A word without one punctuation character at its end, or else at its beginning, and that character in its place.
fn without_punctuation(word: &str) -> (&str, Option<&str>) {
    let is_mark = |c: u8| c.is_ascii_punctuation();
    match word.as_bytes() {
        [_] => (word, None),
        [.., last] if is_mark(*last) => (&word[..word.len() - 1], Some(&word[word.len() - 1..])),
        [first, ..] if is_mark(*first) => (&word[..1], Some(&word[1..])),
        _ => (word, None),
    }
}

impl Chrf {
    /// What the answer and the reference count.
    fn compare(&mut self) -> Vec<f64> {
        let (chars, words) = self.shared.split_at_mut(self.params.char_order);
        self.grams.shared(&self.answer.chars.symbols, &self.reference.chars, chars);
        self.grams.shared(&self.answer.words.symbols, &self.reference.words, words);
        let chars = (self.answer.chars.symbols.len(), self.reference.chars.symbols.len());
        let words = (self.answer.words.symbols.len(), self.reference.words.symbols.len());
        let lengths = std::iter::repeat_n(chars, self.params.char_order).enumerate();
        let lengths = lengths.chain(std::iter::repeat_n(words, self.params.word_order).enumerate());
        let mut counts = Vec::with_capacity(3 * self.shared.len() + 1);
        for ((more, (answer, reference)), shared) in lengths.zip(&self.shared) {
            let reference = reference.saturating_sub(more);
            let answer = if reference > 0 { answer.saturating_sub(more) } else { 0 };
            counts.extend([answer as f64, reference as f64, *shared as f64]);
        }
        counts
    }

    fn f_measure(&self, counts: &[f64]) -> f64 {
        const EPSILON: f64 = 1e-16;
        let factor = self.params.beta.powi(2);
        let (mut sum, mut precisions, mut recalls, mut orders) = (0.0, 0.0, 0.0, 0.0);
        for counts in counts.chunks_exact(3) {
            let [answer, reference, shared] = *counts else { continue };
            let precision = if answer > 0.0 { shared / answer } else { EPSILON };
            let recall = if reference > 0.0 { shared / reference } else { EPSILON };
            let denominator = factor * precision + recall;
            sum += if denominator > 0.0 { (1.0 + factor) * precision * recall / denominator } else { EPSILON };
            if answer > 0.0 && reference > 0.0 {
                precisions += precision;
                recalls += recall;
                orders += 1.0;
            }
        }
        if self.params.eps_smoothing {
            return 100.0 * sum / self.shared.len() as f64;
        }
        let (precision, recall) = if orders == 0.0 { (0.0, 0.0) } else { (precisions / orders, recalls / orders) };
        if precision + recall == 0.0 {
            return 0.0;
        }
        100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
    }
}
