//! BLEU as HF evaluate computes it: a number from 0 to 1, and none where a text has no word.
//!
//! K. Papineni et al., 'BLEU: a method for automatic evaluation of machine translation', 2002. For a score between
//! systems of translation, `sacrebleu` is what people quote; the words are the same here and there, smoothing is not.

use super::overlap::Overlap;
use super::signature::whole;
use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work, cut};
use serde_json::json;

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "bleu",
    version: 1,
    summary: "BLEU of 0 to 1: runs of one to four words that stand in a reference, geometric mean, with brevity penalty",
    source: "HF evaluate 0.4.6, `metrics/bleu` (`tokenizer_13a`); equal values, null where that divides by zero",
    metrics: &[BLEU],
    pooled: &[BLEU],
    references: References::Some,
    read: super::read::<BleuParams>,
    settings: super::settings::<BleuParams>,
    work: Work::Rows(super::build::<BleuParams>),
};

const BLEU: Metric = Metric { name: "bleu", range: (0.0, 1.0), better: Better::Higher };

crate::settings! {
    /// How BLEU counts.
    pub struct BleuParams {
        /// The most words of a run that counts.
        max_order: usize = 4 => 1..=20,
        /// Whether 1 is added to every count (C.-Y. Lin and F. J. Och 2004).
        smooth: bool = false,
    }
}

impl Params for BleuParams {
    type Scorer = Bleu;

    fn scorer(self) -> anyhow::Result<Bleu> {
        Ok(Bleu { overlap: Overlap::new(self.max_order), params: self })
    }
}

/// The scorer.
#[derive(Debug)]
pub struct Bleu {
    overlap: Overlap,
    params: BleuParams,
}

impl Scorer for Bleu {
    /// Counts: the words of the answer, those of its shortest reference, runs that match by order, runs by order.
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let length = self.overlap.read(answer, |text, word| {
            cut::Cut::V13a.words(&cut::unescaped_13a(text), word);
        });
        let reference = self.overlap.lengths.iter().min().copied().unwrap_or(0);
        let mut counts = vec![length as f64, reference as f64];
        counts.extend(self.overlap.shared.iter().map(|count| *count as f64));
        counts.extend(self.overlap.totals(length).map(|count| count as f64));
        Ok(Scored { values: self.pool(&counts), counts })
    }

    fn pool(&self, sums: &[f64]) -> Vec<Option<f64>> {
        vec![self.bleu(sums)]
    }

    fn details(&self, sums: &[f64]) -> serde_json::Value {
        let [length, reference, ..] = *sums else { return serde_json::Value::Null };
        json!({
            "precisions": self.precisions(sums).collect::<Vec<_>>(),
            "brevity_penalty": (length > 0.0 && reference > 0.0).then(|| brevity_penalty(length, reference)),
            "length_ratio": (reference > 0.0).then_some(length / reference),
            "translation_length": whole(length),
            "reference_length": whole(reference),
        })
    }
}

impl Bleu {
    fn precisions(&self, sums: &[f64]) -> impl Iterator<Item = f64> {
        let (matches, totals) = sums[2..].split_at(self.params.max_order);
        let smooth = self.params.smooth;
        matches.iter().zip(totals).map(move |(matches, total)| match smooth {
            true => (matches + 1.0) / (total + 1.0),
            false if *total > 0.0 => matches / total,
            false => 0.0,
        })
    }

    fn bleu(&self, sums: &[f64]) -> Option<f64> {
        let [length, reference, ..] = *sums else { return None };
        if length == 0.0 || reference == 0.0 {
            return None;
        }
        let mut sum = 0.0;
        for precision in self.precisions(sums) {
            if precision <= 0.0 {
                return Some(0.0);
            }
            sum += 1.0 / self.params.max_order as f64 * precision.ln();
        }
        Some(sum.exp() * brevity_penalty(length, reference))
    }
}

fn brevity_penalty(length: f64, reference: f64) -> f64 {
    let ratio = length / reference;
    if ratio > 1.0 { 1.0 } else { (1.0 - 1.0 / ratio).exp() }
}
