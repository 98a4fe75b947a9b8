//! Token F1 as SQuAD defines it.

use super::answer_words::{AnswerWords, Words};
use super::{Answer, Better, Definition, Metric, NoParams, Plain, References, Scored, Scorer, Work};

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
    work: Work::Rows(super::build_plain::<TokenF1>),
};

/// The scorer.
#[derive(Debug)]
pub struct TokenF1 {
    words: AnswerWords,
    prediction: Words,
    reference: Words,
}

impl Scorer for TokenF1 {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        Ok(Scored::of(self.value(answer)?))
    }
}

impl Plain for TokenF1 {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { words: AnswerWords::new()?, prediction: Words::default(), reference: Words::default() })
    }
}

impl TokenF1 {
    /// The best F1 over the references.
    pub(super) fn value(&mut self, answer: &Answer<'_>) -> anyhow::Result<Option<f64>> {
        let Self { words, prediction, reference } = self;
        words.read(answer.prediction, prediction)?;
        answer.best(|_, text| {
            words.read(text, reference)?;
            Ok(words.f1(prediction, reference))
        })
    }
}
