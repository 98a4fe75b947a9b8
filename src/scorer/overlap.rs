//! What BLEU counts: the n-grams of words that an answer shares with its references.

use super::Answer;
use super::grams::{Grams, Texts};
use super::words::Vocabulary;

/// Counts word n-grams, row after row.
#[derive(Debug)]
pub(super) struct Overlap {
    vocabulary: Vocabulary,
    answer: Vec<u32>,
    references: Texts,
    grams: Grams,
    /// How many n-grams of each order are shared.
    pub(super) shared: Vec<u64>,
    /// How many words each reference has.
    pub(super) lengths: Vec<usize>,
}

impl Overlap {
    /// For n-grams of up to `orders` words.
    pub(super) fn new(orders: usize) -> Self {
        Self {
            vocabulary: Vocabulary::default(),
            answer: Vec::new(),
            references: Texts::default(),
            grams: Grams::default(),
            shared: vec![0; orders],
            lengths: Vec::new(),
        }
    }

    /// Reads a row, whose texts `words` takes apart: each word goes to its second argument. Gives the number of words of
    /// the answer.
    pub(super) fn read(&mut self, answer: &Answer<'_>, words: impl Fn(&str, &mut dyn FnMut(&str))) -> usize {
        self.vocabulary.clear();
        self.answer.clear();
        self.references.clear();
        self.lengths.clear();
        words(answer.prediction, &mut |word| self.answer.push(self.vocabulary.number(word.as_bytes())));
        for reference in answer.references {
            words(reference, &mut |word| self.references.symbols.push(self.vocabulary.number(word.as_bytes())));
            self.lengths.push(self.references.end());
        }
        self.grams.shared(&self.answer, &self.references, &mut self.shared);
        self.answer.len()
    }

    /// How many n-grams of each order a text of so many words has.
    pub(super) fn totals(&self, words: usize) -> impl Iterator<Item = usize> {
        (0..self.shared.len()).map(move |more| words.saturating_sub(more))
    }
}
