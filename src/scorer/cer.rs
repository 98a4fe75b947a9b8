//! Character error rate, as jiwer computes it.

use super::text::is_space;
use super::wer::{self, Rates};
use super::{Answer, Better, Definition, Metric, NoParams, Plain, References, Scored, Scorer, Work};

const CER: Metric = Metric { name: "cer", range: (0.0, f64::INFINITY), better: Better::Lower };

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "cer",
    version: 1,
    summary: "character error rate: characters substituted, deleted and inserted, per character of the reference",
    source: "jiwer 4.0.0 with its default transforms, which HF evaluate calls; equal values",
    metrics: &[CER],
    pooled: &[CER],
    references: References::Some,
    read: super::read::<NoParams>,
    settings: super::settings::<NoParams>,
    work: Work::Rows(super::build_plain::<Cer>),
};

/// The scorer.
#[derive(Debug)]
pub struct Cer {
    rates: Rates,
}

impl Plain for Cer {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { rates: Rates::default() })
    }
}

impl Scorer for Cer {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        Ok(self.rates.score(answer, |text, characters| {
            characters.extend(text.trim_matches(is_space).chars().map(u32::from));
        }))
    }

    fn pool(&self, sums: &[f64]) -> Vec<Option<f64>> {
        vec![wer::rate(sums)]
    }

    fn details(&self, sums: &[f64]) -> serde_json::Value {
        wer::details(sums)
    }
}
