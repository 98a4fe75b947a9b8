//! What a row gets: columns behind its own; columns of an earlier prediction are replaced.

use super::{CandidateSettings, LogProbabilities, Measure, PredictRecipe};
use crate::engine::generate::Answer;
use crate::engine::kernels;
use crate::row::{self, Row, put};
use serde_json::json;

/// Number of a row's answer, where it has several.
const SAMPLE: &str = "sample";

/// Adds an answer.
pub(super) fn answer(row: &mut Row, recipe: &PredictRecipe, prompt_tokens: usize, number: usize, answer: &Answer) {
    let text = if recipe.strip { answer.text.trim() } else { &answer.text };
    put(row, row::PREDICTION, text.into());
    put(row, "prompt_tokens", prompt_tokens.into());
    put(row, "new_tokens", answer.tokens.len().into());
    put(row, "stop_reason", answer.stop.name().into());
    if recipe.samples.is_some() {
        put(row, SAMPLE, number.into());
    }
    if let Some(kept) = recipe.log_probabilities {
        let values = &answer.log_probabilities;
        put(row, "log_probability", sum(values).into());
        put(row, "mean_log_probability", mean(values).into());
        if kept == LogProbabilities::Tokens {
            put(row, "token_log_probabilities", values.iter().map(|value| f64::from(*value)).collect());
        }
    }
}

/// Adds the likeliest candidate (the first of equal ones) and all that it was compared with.
pub(super) fn choice(
    row: &mut Row,
    settings: &CandidateSettings,
    prompt_tokens: usize,
    candidates: &[(String, Vec<u32>)],
    values: &[Vec<f32>],
) {
    let measure = |values: &Vec<f32>| match settings.by {
        Measure::Sum => sum(values),
        Measure::Mean => mean(values),
    };
    let measures: Vec<f64> = values.iter().map(measure).collect();
    #[expect(clippy::cast_possible_truncation, reason = "they were sums of such numbers")]
    let mut shares: Vec<f32> = measures.iter().map(|measure| *measure as f32).collect();
    kernels::softmax(&mut shares);
    let best = (0..measures.len()).reduce(|best, other| if measures[other] > measures[best] { other } else { best });
    let Some(best) = best else { return };
    put(row, row::PREDICTION, candidates[best].0.as_str().into());
    put(row, "prompt_tokens", prompt_tokens.into());
    let all = candidates.iter().zip(values).zip(&shares).map(|(((text, ids), values), share)| {
        json!({ "text": text, "log_probability": sum(values), "tokens": ids.len(), "share": share })
    });
    put(row, "candidates", all.collect());
}

/// Adds how likely a given text is; nothing can be said of one without tokens.
pub(super) fn reference(row: &mut Row, values: &[f32]) {
    put(row, "reference_tokens", values.len().into());
    put(row, "reference_log_probability", sum(values).into());
    put(row, "perplexity", perplexity(sum(values), values.len()).into());
}

/// `e` to the power of the mean negative log-probability.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "four digits would do")]
pub(super) fn perplexity(sum: f64, count: usize) -> Option<f64> {
    // The engine's own exponential has the same bits on every machine.
    (count > 0).then(|| f64::from(kernels::exp((-sum / count as f64) as f32)))
}

pub(super) fn sum(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "answers are short")]
fn mean(values: &[f32]) -> f64 {
    sum(values) / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::generate::StopReason;
    use crate::stage::predict::tests::recipe;
    use serde_json::Value;

    fn found(text: &str) -> Answer {
        let log_probabilities = vec![-0.5, -1.0, -0.25];
        Answer { text: text.to_string(), tokens: vec![7, 8], stop: StopReason::Stop, log_probabilities }
    }

    fn answered(row: &Value, settings: &str, text: &str) -> String {
        let mut row = row.as_object().unwrap().clone();
        answer(&mut row, &recipe(settings), 3, 1, &found(text));
        serde_json::to_string(&row).unwrap()
    }

    #[test]
    fn what_is_new_stands_behind_the_rows_own_columns() {
        let expected = r#"{"b":1,"a":2,"prediction":"yes","prompt_tokens":3,"new_tokens":2,"stop_reason":"stop"}"#;
        assert_eq!(answered(&json!({"b": 1, "a": 2}), "", "yes"), expected);
        let earlier = json!({"b": 1, "prediction": "no", "stop_reason": "eos", "a": 2});
        assert_eq!(answered(&earlier, "", "yes"), expected);
        let more = answered(&json!({}), "samples = 2\nsample = {}\nlog_probabilities = \"tokens\"", "yes");
        let tail = r#""stop_reason":"stop","sample":1,"log_probability":-1.75,"mean_log_probability":-0.5833333333333334,"token_log_probabilities":[-0.5,-1.0,-0.25]}"#;
        assert!(more.ends_with(tail), "{more}");
    }

    #[test]
    fn white_space_around_an_answer_is_removed_where_asked() {
        assert!(answered(&json!({}), "", "\n a b \n").contains(r#""prediction":"a b""#));
        assert!(answered(&json!({}), "strip = false", "\n a b \n").contains(r#""prediction":"\n a b \n""#));
    }

    #[test]
    fn the_likeliest_candidate_is_the_prediction() {
        let candidates = [("long one".to_string(), vec![1, 2, 3]), ("no".to_string(), vec![4])];
        let values = [vec![-0.5, -0.5, -0.5], vec![-1.0]];
        let chosen = |by| {
            let settings = CandidateSettings { texts: None, column: None, by, end_of_text: false };
            let mut row = Row::new();
            choice(&mut row, &settings, 9, &candidates, &values);
            row
        };
        assert_eq!(chosen(Measure::Mean)["prediction"], "long one");
        let row = chosen(Measure::Sum);
        assert_eq!((&row["prediction"], &row["prompt_tokens"]), (&"no".into(), &9.into()));
        let first = &row["candidates"][0];
        assert_eq!((&first["log_probability"], &first["tokens"]), (&(-1.5).into(), &3.into()));
        // 1 / (1 + e^0.5)
        assert!((first["share"].as_f64().unwrap() - 0.377_540_67).abs() < 1e-6);
    }

    #[test]
    fn perplexity_is_the_mean_number_of_choices() {
        let mut row = Row::new();
        reference(&mut row, &[0.25f32.ln(); 3]);
        assert!((row["perplexity"].as_f64().unwrap() - 4.0).abs() < 1e-5);
        reference(&mut row, &[]);
        assert_eq!((&row["perplexity"], &row["reference_tokens"]), (&Value::Null, &0.into()));
    }
}
