//! Exact match and F1 as SQuAD v2.0 measures them, where the right answer may be that there is none.

use super::answer_words::{AnswerWords, Words};
use super::squad::percent;
use super::text::is_space;
use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work};
use crate::row;
use anyhow::Context as _;
use serde_json::json;

const fn metric(name: &'static str) -> Metric {
    Metric { name, range: (0.0, 100.0), better: Better::Higher }
}

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "squad_v2",
    version: 1,
    summary: "exact match and F1 of words, 0 to 100, where a question may have no answer",
    source: "SQuAD v2.0's official script as in HF evaluate 0.4.6, `metrics/squad_v2`; equal values",
    metrics: &[metric("exact"), metric("f1")],
    pooled: &[
        metric("exact"),
        metric("f1"),
        metric("HasAns_exact"),
        metric("HasAns_f1"),
        metric("NoAns_exact"),
        metric("NoAns_f1"),
        metric("best_exact"),
        metric("best_f1"),
    ],
    references: References::Any,
    read: super::read::<SquadV2Params>,
    settings: super::settings::<SquadV2Params>,
    work: Work::Rows(super::build::<SquadV2Params>),
};

crate::settings! {
    /// When a question counts as unanswered.
    pub struct SquadV2Params {
        /// Column with the model's probability, 0 to 1, that the question has no answer; without one it is 0 everywhere.
        no_answer_probability: Option<String> = None,
        /// Above this probability the answer does not count: the model is taken to have said that there is none.
        no_answer_threshold: f64 = 1.0 => 0.0..=1.0,
        /// Whether a reference of white space alone says that there is no answer, as no reference at all does.
        blank_is_no_answer: bool = true,
    }
}

impl Params for SquadV2Params {
    type Scorer = SquadV2;

    fn scorer(self) -> anyhow::Result<SquadV2> {
        Ok(SquadV2 {
            words: AnswerWords::new()?,
            prediction: Words::default(),
            reference: Words::default(),
            params: self,
        })
    }
}

/// The scorer.
#[derive(Debug)]
pub struct SquadV2 {
    words: AnswerWords,
    prediction: Words,
    reference: Words,
    params: SquadV2Params,
}

/// What a row counts.
struct Counted {
    has_answer: bool,
    /// What the values are at the threshold, 0 to 1.
    exact: f64,
    f1: f64,
    /// The model's probability that there is no answer.
    probability: f64,
    /// How the sum over rows changes if this one's answer counts, when all counted as unanswered before.
    exact_gain: f64,
    f1_gain: f64,
}

impl Counted {
    fn to_counts(&self) -> Vec<f64> {
        let has_answer = f64::from(u8::from(self.has_answer));
        vec![has_answer, self.exact, self.f1, self.probability, self.exact_gain, self.f1_gain]
    }

    fn of_counts(counts: &[f64]) -> Option<Self> {
        let [has_answer, exact, f1, probability, exact_gain, f1_gain] = *counts else { return None };
        Some(Self { has_answer: has_answer > 0.0, exact, f1, probability, exact_gain, f1_gain })
    }
}

/// Where the sums stand: rows, sum of exact, sum of F1; of all rows, of those with an answer, of those without.
const ALL: usize = 0;
const HAS_ANSWER: usize = 3;
const NO_ANSWER: usize = 6;
/// Behind them, how good a threshold could have made it. Without a column of probabilities: the gain in exact so far and
/// the best that it was, and the same of F1. With one, for each row: probability, gain in exact, gain in F1.
const GAINS: usize = 9;

impl Scorer for SquadV2 {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let probability = self.probability(answer)?;
        let Self { words, prediction, reference, params } = self;
        words.read(answer.prediction, prediction)?;
        // References of which nothing is left are none; if none is left, the right answer is empty.
        let (mut exact, mut f1, mut is_empty) = (0.0_f64, 0.0_f64, true);
        for text in answer.references {
            words.read(text, reference)?;
            if !reference.is_empty() {
                is_empty = false;
                exact = exact.max(f64::from(u8::from(prediction == reference)));
                f1 = f1.max(words.f1(prediction, reference));
            }
        }
        if is_empty {
            exact = f64::from(u8::from(prediction.is_empty()));
            f1 = exact;
        }
        let counts_as_answer = |text: &str| !params.blank_is_no_answer || text.contains(|c| !is_space(c));
        let has_answer = answer.references.iter().any(|text| counts_as_answer(text));
        let gain = |value: f64| match has_answer {
            true => value,
            false if answer.prediction.is_empty() => 0.0,
            false => -1.0,
        };
        let (exact_gain, f1_gain) = (gain(exact), gain(f1));
        if probability > params.no_answer_threshold {
            exact = f64::from(u8::from(!has_answer));
            f1 = exact;
        }
        let counted = Counted { has_answer, exact, f1, probability, exact_gain, f1_gain };
        Ok(Scored { values: vec![Some(100.0 * exact), Some(100.0 * f1)], counts: counted.to_counts() })
    }

    fn add(&self, sums: &mut Vec<f64>, counts: &[f64], times: f64) {
        let Some(counted) = Counted::of_counts(counts) else { return };
        let is_threshold_sought = self.params.no_answer_probability.is_some();
        if sums.is_empty() {
            sums.resize(if is_threshold_sought { GAINS } else { GAINS + 4 }, 0.0);
        }
        for part in [ALL, if counted.has_answer { HAS_ANSWER } else { NO_ANSWER }] {
            for (sum, value) in sums[part..].iter_mut().zip([1.0, counted.exact, counted.f1]) {
                *sum += times * value;
            }
        }
        let gains = [times * counted.exact_gain, times * counted.f1_gain];
        if is_threshold_sought {
            sums.extend([counted.probability, gains[0], gains[1]]);
        } else {
            for (best, gain) in sums[GAINS..].as_chunks_mut::<2>().0.iter_mut().zip(gains) {
                best[0] += gain;
                best[1] = best[1].max(best[0]);
            }
        }
    }

    fn pool(&self, sums: &[f64]) -> Vec<Option<f64>> {
        if sums.is_empty() {
            return vec![None; DEFINITION.pooled.len()];
        }
        let part = |part: usize| [1, 2].map(|value| percent(sums[part + value], sums[part]));
        let best = best(sums).map(|best| percent(sums[NO_ANSWER] + best.gain, sums[ALL]));
        [part(ALL), part(HAS_ANSWER), part(NO_ANSWER), best].concat()
    }

    fn details(&self, sums: &[f64]) -> serde_json::Value {
        if sums.is_empty() {
            return serde_json::Value::Null;
        }
        let [exact, f1] = best(sums).map(|best| best.threshold);
        json!({
            "total": sums[ALL],
            "HasAns_total": sums[HAS_ANSWER],
            "NoAns_total": sums[NO_ANSWER],
            "best_exact_thresh": exact,
            "best_f1_thresh": f1,
        })
    }
}

impl SquadV2 {
    fn probability(&self, answer: &Answer<'_>) -> anyhow::Result<f64> {
        let Some(column) = &self.params.no_answer_probability else { return Ok(0.0) };
        let value = answer.row.get(column);
        let value = value.with_context(|| row::lacks_named(answer.row, column, "no_answer_probability"))?;
        let number = value.as_f64().filter(|number| (0.0..=1.0).contains(number));
        number.with_context(|| format!("`{column}` is {value}: expected a probability, 0 to 1"))
    }
}

/// How much is won by counting answers up to the best threshold, over counting none.
#[derive(Clone, Copy, Default)]
struct Best {
    gain: f64,
    threshold: f64,
}

/// The best for exact and F1. Rows of one probability are taken in their order, one by one, as the script does it.
fn best(sums: &[f64]) -> [Best; 2] {
    let tail = &sums[GAINS..];
    if let [_, exact, _, f1] = *tail {
        return [exact, f1].map(|gain| Best { gain, threshold: 0.0 });
    }
    let mut rows: Vec<&[f64; 3]> = tail.as_chunks::<3>().0.iter().collect();
    rows.sort_by(|a, b| a[0].total_cmp(&b[0]));
    [1, 2].map(|value| {
        let (mut gain, mut best) = (0.0, Best::default());
        for row in &rows {
            gain += row[value];
            if gain > best.gain {
                best = Best { gain, threshold: row[0] };
            }
        }
        best
    })
}
