//! Token F1 as SQuAD defines it.

use super::text::{is_punctuation, is_space};
use super::{Better, Definition, Metric, Params, Scorer};
use std::collections::BTreeMap;

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "token_f1",
    version: 1,
    summary: "F1 of the words that answer and reference share, without case, punctuation and articles",
    source: "SQuAD v1.1's official script as in HF evaluate 0.4.6, `metrics/squad`; its values / 100",
    metrics: &[Metric { name: "f1", range: (0.0, 1.0), better: Better::Higher }],
    read: super::read::<TokenF1Params>,
    build: super::build::<TokenF1Params>,
};

crate::settings! {
    /// SQuAD's F1 has no parameters.
    pub struct TokenF1Params {}
}

impl Params for TokenF1Params {
    type Scorer = TokenF1;

    fn scorer(self) -> anyhow::Result<TokenF1> {
        Ok(TokenF1)
    }
}

/// The scorer.
#[derive(Debug)]
pub struct TokenF1;

impl Scorer for TokenF1 {
    fn score_row(&self, prediction: &str, reference: &str) -> Vec<Option<f64>> {
        vec![Some(f1(&normalise(prediction), &normalise(reference)))]
    }
}

fn f1(prediction: &[String], reference: &[String]) -> f64 {
    let mut unmatched: BTreeMap<&str, usize> = BTreeMap::new();
    for token in reference {
        *unmatched.entry(token).or_default() += 1;
    }
    let mut common = 0usize;
    for token in prediction {
        if let Some(left) = unmatched.get_mut(token.as_str())
            && *left > 0
        {
            *left -= 1;
            common += 1;
        }
    }
    if common == 0 {
        return 0.0;
    }
    let ratio = |whole: usize| common as f64 / whole as f64;
    let (precision, recall) = (ratio(prediction.len()), ratio(reference.len()));
    2.0 * precision * recall / (precision + recall)
}

/// The words that count: lower case, no ASCII punctuation, no `a`, `an`, `the`.
fn normalise(text: &str) -> Vec<String> {
    let text: String = text.to_lowercase().chars().filter(|c| !is_punctuation(*c)).collect();
    text.split(is_space).map(str::to_string).collect()
}
