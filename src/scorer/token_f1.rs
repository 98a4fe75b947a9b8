//! Token F1 as SQuAD defines it.

use super::text::is_space;
use super::{Answer, Better, Definition, Metric, NoParams, Params, References, Scored, Scorer, Work, python_regex};
use fancy_regex::Regex;
use std::collections::BTreeMap;

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "token_f1",
    version: 1,
    summary: "F1 of the words that answer and reference share, without case, punctuation and articles",
    source: "SQuAD v1.1's official script as in HF evaluate 0.4.6, `metrics/squad`; its values / 100",
    metrics: &[Metric { name: "f1", range: (0.0, 1.0), better: Better::Higher }],
    pooled: &[],
    references: References::Some,
    read: super::read::<NoParams>,
    settings: super::settings::<NoParams>,
    work: Work::Rows(super::build::<NoParams>),
};

impl Params for NoParams {
    type Scorer = TokenF1;

    fn scorer(self) -> anyhow::Result<TokenF1> {
        Ok(TokenF1 { articles: python_regex::compile(r"\b(a|an|the)\b")? })
    }
}

/// The scorer.
#[derive(Debug)]
pub struct TokenF1 {
    articles: Regex,
}

impl Scorer for TokenF1 {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let prediction = self.words(answer.prediction)?;
        Ok(Scored::of(answer.best(|_, reference| Ok(f1(&prediction, &self.words(reference)?)))?))
    }
}

impl TokenF1 {
    /// The words that count: lower case, without ASCII punctuation and articles.
    fn words(&self, text: &str) -> anyhow::Result<Vec<String>> {
        let mut text = text.to_lowercase();
        text.retain(|c| !c.is_ascii_punctuation());
        let text = python_regex::replace(&self.articles, &text, " ")?;
        Ok(text.split(is_space).filter(|word| !word.is_empty()).map(str::to_string).collect())
    }
}

fn f1(prediction: &[String], reference: &[String]) -> f64 {
    let mut unmatched: BTreeMap<&str, usize> = BTreeMap::new();
    for token in reference {
        *unmatched.entry(token).or_default() += 1;
    }
    let mut common = 0_usize;
    for token in prediction {
        if let Some(left @ 1..) = unmatched.get_mut(token.as_str()) {
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
