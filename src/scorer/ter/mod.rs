//! Translation edit rate as sacrebleu computes it, in percent.
//!
//! M. Snover et al., 'A study of translation edit rate with targeted human annotation', 2006: how many words must be put
//! in, taken out, replaced or shifted (runs of them, in one piece) to make the answer a reference. Which shifts are made is
//! a heuristic, tercom's; sacrebleu's 'lib_ter' is a version of it with limits of its own, and those are kept.

mod distance;
mod shift;

use super::cut::{self, Cut, is_asian_mark};
use super::grams::Texts;
use super::signature::{add, case, signature, whole, yes};
use super::text::split;
use super::words::Vocabulary;
use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work};
use serde_json::json;
use shift::Shifter;
use std::borrow::Cow;

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "ter",
    version: 1,
    summary: "translation edit rate, in percent: edits and shifts of words per word of the reference",
    source: "sacrebleu 2.6.0, `TER`: equal values of each row (`sentence_score`) and of all rows together (`corpus_score`)",
    metrics: &[TER],
    pooled: &[TER],
    references: References::Some,
    read: super::read::<TerParams>,
    settings: super::settings::<TerParams>,
    work: Work::Rows(super::build::<TerParams>),
};

const TER: Metric = Metric { name: "ter", range: (0.0, f64::INFINITY), better: Better::Lower };

crate::settings! {
    /// How texts are cut into words.
    pub struct TerParams {
        /// Whether punctuation is cut off words, as tercom's normalisation does.
        normalized: bool = false,
        /// Whether punctuation is removed.
        no_punct: bool = false,
        /// Whether `normalized` makes Chinese characters words, and `no_punct` removes Asian punctuation too.
        asian_support: bool = false,
        /// Whether upper case differs from lower case.
        case_sensitive: bool = false,
    }
}

impl Params for TerParams {
    type Scorer = Ter;

    fn scorer(self) -> anyhow::Result<Ter> {
        let (vocabulary, answer, references) = (Vocabulary::default(), Vec::new(), Texts::default());
        Ok(Ter { params: self, vocabulary, answer, references, shifter: Shifter::default() })
    }
}

/// The scorer.
#[derive(Debug)]
pub struct Ter {
    params: TerParams,
    vocabulary: Vocabulary,
    answer: Vec<u32>,
    references: Texts,
    shifter: Shifter,
}

impl Scorer for Ter {
    /// Counts: the edits of the reference that needs fewest, the mean length of the references, and their number.
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        self.vocabulary.clear();
        self.answer.clear();
        self.references.clear();
        self.params.words(answer.prediction, &mut |word| self.answer.push(self.vocabulary.number(word.as_bytes())));
        for reference in answer.references {
            let reference = self.params.reference(reference);
            self.params
                .words(&reference, &mut |word| self.references.symbols.push(self.vocabulary.number(word.as_bytes())));
            self.references.end();
        }
        let edits = self.references.iter().map(|reference| self.shifter.edits(&self.answer, reference)).min();
        let references = answer.references.len() as f64;
        let length = self.references.symbols.len() as f64 / references;
        let counts = vec![edits.unwrap_or(0) as f64, length, references];
        Ok(Scored { values: self.pool(&counts), counts })
    }

    fn add(&self, sums: &mut Vec<f64>, counts: &[f64], times: f64) {
        add(sums, counts, times);
    }

    fn pool(&self, sums: &[f64]) -> Vec<Option<f64>> {
        let [edits, length, _] = *sums else { return vec![None] };
        let rate = match (edits > 0.0, length > 0.0) {
            (_, true) => edits / length,
            (true, false) => 1.0,
            (false, false) => 0.0,
        };
        vec![Some(100.0 * rate)]
    }

    fn details(&self, sums: &[f64]) -> serde_json::Value {
        let [edits, length, _] = *sums else { return serde_json::Value::Null };
        let settings = [
            ("case", case(!self.params.case_sensitive)),
            ("tok", "tercom"),
            ("norm", yes(self.params.normalized)),
            ("punct", yes(!self.params.no_punct)),
            ("asian", yes(self.params.asian_support)),
        ];
        json!({ "num_edits": whole(edits), "ref_length": length, "signature": signature(sums, &settings) })
    }
}

impl TerParams {
    /// A reference as it is cut: sacrebleu normalises references twice, and answers once.
    fn reference<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.normalized {
            return Cow::Borrowed(text);
        }
        let mut words = Vec::new();
        self.words(text, &mut |word| words.push(word.to_string()));
        Cow::Owned(words.join(" "))
    }

    fn words(&self, text: &str, word: &mut dyn FnMut(&str)) {
        let text = cut::trimmed(text);
        let text = if self.case_sensitive { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) };
        let mut kept = |piece: &str| match self.no_punct && piece.contains(|c| self.is_removed(c)) {
            true => {
                let piece = piece.replace(|c| self.is_removed(c), "");
                if !piece.is_empty() {
                    word(&piece);
                }
            }
            false => word(piece),
        };
        match (self.normalized, self.asian_support) {
            (false, _) => split(&text).for_each(kept),
            (true, false) => Cut::Tercom.words(&cut::unescaped_tercom(&text), &mut kept),
            (true, true) => Cut::TercomAsian.words(&cut::unescaped_tercom(&text), &mut kept),
        }
    }

    fn is_removed(&self, c: char) -> bool {
        matches!(c, '.' | ',' | '?' | ':' | ';' | '!' | '"' | '(' | ')') || self.asian_support && is_asian_mark(c)
    }
}
