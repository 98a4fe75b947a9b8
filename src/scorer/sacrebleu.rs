//! BLEU as sacrebleu computes it, from 0 to 100, with the signature that says how.
//!
//! M. Post, 'A call for clarity in reporting BLEU scores', 2018; smoothing as in B. Chen and C. Cherry, 'A systematic
//! comparison of smoothing techniques for sentence-level BLEU', 2014.

use super::cut::{self, Cut};
use super::overlap::Overlap;
use super::signature::{add, case, signature, whole};
use super::text::{is_space, split};
use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work};
use serde_json::json;
use std::borrow::Cow;

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "sacrebleu",
    version: 1,
    summary: "BLEU of 0 to 100: runs of one to four words that stand in a reference, with tokenizer and smoothing of choice",
    source: "sacrebleu 2.6.0, `BLEU`: equal values of each row (`sentence_score`) and of all rows together (`corpus_score`)",
    metrics: &[BLEU],
    pooled: &[BLEU],
    references: References::Some,
    read: super::read::<SacrebleuParams>,
    settings: super::settings::<SacrebleuParams>,
    work: Work::Rows(super::build::<SacrebleuParams>),
};

const BLEU: Metric = Metric { name: "bleu", range: (0.0, 100.0), better: Better::Higher };

crate::settings! {
    /// How sacrebleu counts.
    pub struct SacrebleuParams {
        /// How texts are cut into words.
        tokenize: Tokenizer = Tokenizer::V13a,
        /// What is done where no run of some length matches.
        smooth_method: Smoothing = Smoothing::Exp,
        /// The value of `floor` (0.1 if not given) or `add-k` (1).
        smooth_value: Option<f64> = None => 0.0..=1e6,
        /// The most words of a run that counts.
        max_ngram_order: usize = 4 => 1..=20,
        /// Whether letters are made lower case.
        lowercase: bool = false,
        /// Whether a row's score looks at no longer runs than its answer has. The score of all rows together, as
        /// sacrebleu's, always looks at all.
        effective_order: bool = true,
    }
}

crate::words! {
    /// How a text is cut into words.
    pub enum Tokenizer {
        /// As mteval-v13a does: for languages with Latin letters.
        V13a = "13a",
        /// As mteval-v14 does: by Unicode's punctuation and symbols.
        Intl = "intl",
        /// Chinese characters one by one, the rest as `13a`.
        Zh = "zh",
        /// Every character is a word.
        Char = "char",
        /// At white space only.
        None = "none",
    }
}

crate::words! {
    /// What stands for the precision of an order in which nothing matches.
    pub enum Smoothing {
        /// 0: so is the score.
        None = "none",
        /// A small number of matches.
        Floor = "floor",
        /// Nothing, but something is added to all counts above the first order.
        AddK = "add-k",
        /// 1/2, 1/4, 1/8 … of a match.
        Exp = "exp",
    }
}

impl Params for SacrebleuParams {
    type Scorer = Sacrebleu;

    fn scorer(self) -> anyhow::Result<Sacrebleu> {
        Ok(Sacrebleu { overlap: Overlap::new(self.max_ngram_order), params: self })
    }
}

/// The scorer.
#[derive(Debug)]
pub struct Sacrebleu {
    overlap: Overlap,
    params: SacrebleuParams,
}

impl Scorer for Sacrebleu {
    /// Counts: the words of the answer, those of the reference closest in length, runs that match by order, runs by order,
    /// and the number of references.
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let SacrebleuParams { tokenize, lowercase, .. } = self.params;
        let length = self.overlap.read(answer, |text, word| {
            let text = if lowercase { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) };
            tokenize.words(cut::trimmed(&text), word);
        });
        let closest = self.overlap.lengths.iter().min_by_key(|other| (length.abs_diff(**other), **other));
        let mut counts = vec![length as f64, closest.copied().unwrap_or(0) as f64];
        counts.extend(self.overlap.shared.iter().map(|count| *count as f64));
        counts.extend(self.overlap.totals(length).map(|count| count as f64));
        counts.push(answer.references.len() as f64);
        let score = self.bleu(&counts, self.params.effective_order).map(|bleu| bleu.score);
        Ok(Scored { values: vec![score], counts })
    }

    fn add(&self, sums: &mut Vec<f64>, counts: &[f64], times: f64) {
        add(sums, counts, times);
    }

    fn pool(&self, sums: &[f64]) -> Vec<Option<f64>> {
        vec![self.bleu(sums, false).map(|bleu| bleu.score)]
    }

    fn details(&self, sums: &[f64]) -> serde_json::Value {
        let Some(bleu) = self.bleu(sums, false) else { return serde_json::Value::Null };
        let SacrebleuParams { tokenize, smooth_method, lowercase, .. } = self.params;
        let smoothing = match smooth_method {
            Smoothing::None => "none".to_string(),
            Smoothing::Exp => "exp".to_string(),
            Smoothing::Floor => format!("floor[{:.2}]", self.smooth_value()),
            Smoothing::AddK => format!("add-k[{:.2}]", self.smooth_value()),
        };
        let settings = [("case", case(lowercase)), ("eff", "no"), ("tok", tokenize.name()), ("smooth", &smoothing)];
        json!({
            "counts": bleu.matches.into_iter().map(whole).collect::<Vec<_>>(),
            "totals": bleu.totals.into_iter().map(whole).collect::<Vec<_>>(),
            "precisions": bleu.precisions,
            "bp": bleu.brevity_penalty,
            "sys_len": whole(sums[0]),
            "ref_len": whole(sums[1]),
            "signature": signature(sums, &settings),
        })
    }
}

impl Tokenizer {
    fn name(self) -> &'static str {
        match self {
            Self::V13a => "13a",
            Self::Intl => "intl",
            Self::Zh => "zh",
            Self::Char => "char",
            Self::None => "none",
        }
    }

    fn words(self, text: &str, word: &mut dyn FnMut(&str)) {
        match self {
            Self::V13a => Cut::V13a.words(&cut::unescaped_13a(text), word),
            Self::Intl => Cut::International.words(text, word),
            Self::Zh => Cut::Chinese.words(text.trim_start_matches(is_space), word),
            Self::Char => {
                let chars = text.char_indices().filter(|(_, c)| !is_space(*c));
                chars.for_each(|(at, c)| word(&text[at..at + c.len_utf8()]));
            }
            Self::None => split(text).for_each(word),
        }
    }
}

/// A score and what it is made of, by order where there are several.
struct Parts {
    score: f64,
    /// Runs that match and runs in all, with what smoothing adds.
    matches: Vec<f64>,
    totals: Vec<f64>,
    precisions: Vec<f64>,
    brevity_penalty: f64,
}

/// What stands for the logarithm of 0.
const LOG_OF_ZERO: f64 = -9_999_999_999.0;

impl Sacrebleu {
    fn smooth_value(&self) -> f64 {
        let default = if self.params.smooth_method == Smoothing::Floor { 0.1 } else { 1.0 };
        self.params.smooth_value.unwrap_or(default)
    }

    /// The score of what was counted; nothing without a row.
    fn bleu(&self, sums: &[f64], effective_order: bool) -> Option<Parts> {
        let [length, reference, ref counts @ .., _] = *sums else { return None };
        let (method, value, orders) = (self.params.smooth_method, self.smooth_value(), self.params.max_ngram_order);
        let brevity_penalty = match length {
            _ if length >= reference => 1.0,
            0.0 => 0.0,
            _ => (1.0 - reference / length).exp(),
        };
        let (mut matches, mut totals) = (counts[..orders].to_vec(), counts[orders..].to_vec());
        let mut precisions = vec![0.0; orders];
        if matches.iter().all(|count| *count == 0.0) {
            return Some(Parts { score: 0.0, matches, totals, precisions, brevity_penalty });
        }
        let (mut exponential, mut last) = (1.0, orders);
        for n in 0..orders {
            if method == Smoothing::AddK && n > 0 {
                matches[n] += value;
                totals[n] += value;
            }
            if totals[n] == 0.0 {
                break;
            }
            if effective_order {
                last = n + 1;
            }
            precisions[n] = match method {
                _ if matches[n] != 0.0 => 100.0 * matches[n] / totals[n],
                Smoothing::Exp => {
                    exponential *= 2.0;
                    100.0 / (exponential * totals[n])
                }
                Smoothing::Floor => 100.0 * value / totals[n],
                Smoothing::None | Smoothing::AddK => 0.0,
            };
        }
        let log = |precision: &f64| if *precision == 0.0 { LOG_OF_ZERO } else { precision.ln() };
        let mean = precisions[..last].iter().map(log).sum::<f64>() / last as f64;
        Some(Parts { score: brevity_penalty * mean.exp(), matches, totals, precisions, brevity_penalty })
    }
}
