//! Exact match and F1 as SQuAD v1.1 measures answers to questions.

use super::answer_words::{AnswerWords, Words};
use super::{Answer, Better, Definition, Metric, NoParams, Plain, References, Scored, Scorer, Work};

const EXACT: Metric = Metric { name: "exact_match", range: (0.0, 100.0), better: Better::Higher };
const F1: Metric = Metric { name: "f1", range: (0.0, 100.0), better: Better::Higher };

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "squad",
    version: 1,
    summary: "exact match and F1 of words, 0 to 100, without case, punctuation and articles; the best of the references",
    source: "SQuAD v1.1's official script as in HF evaluate 0.4.6, `metrics/squad`; equal values",
    metrics: &[EXACT, F1],
    pooled: &[EXACT, F1],
    references: References::Some,
    read: super::read::<NoParams>,
    settings: super::settings::<NoParams>,
    work: Work::Rows(super::build_plain::<Squad>),
};

/// The scorer.
#[derive(Debug)]
pub struct Squad {
    words: AnswerWords,
    prediction: Words,
    reference: Words,
}

impl Plain for Squad {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { words: AnswerWords::new()?, prediction: Words::default(), reference: Words::default() })
    }
}

impl Scorer for Squad {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let Self { words, prediction, reference } = self;
        words.read(answer.prediction, prediction)?;
        let (mut exact, mut f1) = (0.0_f64, 0.0_f64);
        for text in answer.references {
            words.read(text, reference)?;
            exact = exact.max(f64::from(u8::from(prediction == reference)));
            f1 = f1.max(words.f1(prediction, reference));
        }
        Ok(Scored { values: vec![Some(100.0 * exact), Some(100.0 * f1)], counts: vec![1.0, exact, f1] })
    }

    fn pool(&self, sums: &[f64]) -> Vec<Option<f64>> {
        let [rows, exact, f1] = *sums else { return vec![None; 2] };
        [exact, f1].map(|sum| percent(sum, rows)).to_vec()
    }
}

/// 100 × `sum` / `rows`, in the order in which the scripts compute it; `None` without rows.
pub(super) fn percent(sum: f64, rows: f64) -> Option<f64> {
    (rows > 0.0).then(|| 100.0 * sum / rows)
}
