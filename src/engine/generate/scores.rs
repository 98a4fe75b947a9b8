//! What a token's score becomes before one is chosen: transformers' logits processors and warpers, by its definitions and
//! in its order.

use crate::engine::kernels;
use anyhow::{bail, ensure};

/// What depends on the tokens so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Constraints {
    /// What the scores of tokens that were seen are divided by (multiplied with, where they are negative).
    pub repetition_penalty: Option<f32>,
    /// Length of sequences of tokens that may not occur twice.
    pub no_repeat_ngram: Option<usize>,
    /// Tokens of an answer before which nothing may end it.
    pub min_new_tokens: usize,
}

impl Constraints {
    /// Changes the scores of what may follow a prompt and an answer so far; `ends` are the tokens that end an answer.
    pub(super) fn apply(
        &self,
        scores: &mut [f32],
        prompt: &[u32],
        answer: &[u32],
        ends: impl Iterator<Item = u32>,
    ) -> anyhow::Result<()> {
        let tokens = || prompt.iter().chain(answer).copied();
        if let Some(penalty) = self.repetition_penalty {
            let mut seen: Vec<u32> = tokens().collect();
            seen.sort_unstable();
            seen.dedup();
            for token in seen {
                let Some(score) = scores.get_mut(token as usize) else { continue };
                *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
            }
        }
        let mut forbid = |token: u32| {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = f32::NEG_INFINITY;
            }
        };
        if let Some(length) = self.no_repeat_ngram {
            let all: Vec<u32> = tokens().collect();
            let begun = &all[(all.len() + 1).saturating_sub(length)..];
            for window in all.windows(length).filter(|window| window[..length - 1] == *begun) {
                forbid(window[length - 1]);
            }
        }
        if answer.len() < self.min_new_tokens {
            ends.for_each(forbid);
        }
        ensure!(
            scores.iter().any(|score| *score > f32::NEG_INFINITY),
            "no token may follow: `no_repeat_ngram` and `min_new_tokens` forbid all of them"
        );
        Ok(())
    }

    /// Whether anything depends on the tokens so far, after so many new ones.
    pub(super) fn bind(&self, new: usize) -> bool {
        self.repetition_penalty.is_some() || self.no_repeat_ngram.is_some() || new < self.min_new_tokens
    }
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What scores are divided by.
    pub temperature: f32,
    /// Only so many of the likeliest tokens can be drawn.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens whose probabilities together reach this can be drawn.
    pub top_p: Option<f64>,
    /// Only tokens with at least this part of the likeliest one's probability can be drawn.
    pub min_p: Option<f64>,
    /// The draws' seed.
    pub seed: u64,
}

/// A token that can be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub token: u32,
    score: f32,
    /// Its probability, but for a factor that all have in common.
    pub weight: f64,
}

impl Sampling {
    /// The tokens that can be drawn, in order.
    pub(super) fn options(&self, scores: &[f32]) -> anyhow::Result<Vec<Choice>> {
        let largest = largest(scores)?.1 / self.temperature;
        let option = |(token, score): (u32, &f32)| {
            let score = score / self.temperature;
            let weight = f64::from(kernels::exp(score - largest));
            (score > f32::NEG_INFINITY).then_some(Choice { token, score, weight })
        };
        let mut options: Vec<Choice> = (0..).zip(scores).filter_map(option).collect();
        if let Some(k) = self.top_k
            && k < options.len()
        {
            let mut order: Vec<f32> = options.iter().map(|option| option.score).collect();
            let (_, last, _) = order.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            let last = *last;
            options.retain(|option| option.score >= last);
        }
        if let Some(p) = self.top_p {
            keep_top_p(&mut options, p);
        }
        if let Some(p) = self.min_p {
            options.retain(|option| option.weight >= p);
        }
        Ok(options)
    }

    /// The token that a number between 0 and 1 draws.
    pub(super) fn draw(&self, scores: &[f32], uniform: f64) -> anyhow::Result<u32> {
        let options = self.options(scores)?;
        let mut left = uniform * options.iter().map(|option| option.weight).sum::<f64>();
        let drawn = options.iter().find(|option| {
            left -= option.weight;
            left < 0.0
        });
        // Rounding can leave a rest behind the last.
        match drawn.or(options.last()) {
            Some(option) => Ok(option.token),
            None => bail!("no token can be drawn"),
        }
    }
}

/// Keeps the likeliest tokens: without those whose probabilities, from the smallest on, together stay within `1 - p`.
#[expect(clippy::cast_precision_loss, reason = "vocabularies are far below 2^52")]
fn keep_top_p(options: &mut Vec<Choice>, p: f64) {
    let room = (1.0 - p) * options.iter().map(|option| option.weight).sum::<f64>();
    // Those with less than their share of the room fit into it together: they need not be sorted. The likeliest, whose
    // weight is 1, always stays.
    let share = (room / options.len() as f64).min(1.0);
    let is_small = |option: &Choice| option.weight < share;
    let mut sum: f64 = options.iter().filter(|option| is_small(option)).map(|option| option.weight).sum();
    let mut rest: Vec<Choice> = options.iter().filter(|option| !is_small(option)).copied().collect();
    rest.sort_unstable_by(|a, b| a.score.total_cmp(&b.score).then(a.token.cmp(&b.token)));
    let gone = rest.iter().take_while(|option| {
        sum += option.weight;
        sum <= room
    });
    let gone = gone.count().min(rest.len().saturating_sub(1));
    rest.drain(..gone);
    rest.sort_unstable_by_key(|option| option.token);
    *options = rest;
}

/// The first of the largest scores, and that score.
fn largest(scores: &[f32]) -> anyhow::Result<(u32, f32)> {
    let (mut best, mut largest) = (0, f32::NEG_INFINITY);
    for (token, score) in (0..).zip(scores) {
        if *score > largest {
            (best, largest) = (token, *score);
        }
    }
    if !largest.is_finite() {
        bail!(super::NO_NUMBER);
    }
    Ok((best, largest))
}

/// The first of the tokens with the largest score.
pub(super) fn greedy(scores: &[f32]) -> anyhow::Result<u32> {
    largest(scores).map(|(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const PLAIN: Sampling = Sampling { temperature: 1.0, top_k: None, top_p: None, min_p: None, seed: 0 };

    #[test]
    fn the_first_of_equal_scores_is_taken_and_nonsense_is_refused() {
        assert_eq!(greedy(&[0.5, 2.0, 2.0, -1.0]).unwrap(), 1);
        assert_eq!(greedy(&[f32::NEG_INFINITY, -3.0]).unwrap(), 1);
        for nonsense in [[f32::NAN; 2], [0.0, f32::INFINITY]] {
            assert!(greedy(&nonsense).is_err() && PLAIN.draw(&nonsense, 0.5).is_err());
        }
    }

    /// `tests/golden/sampling.json`: transformers' processors and warpers on the scores of 64 tokens.
    #[test]
    fn scores_become_what_transformers_makes_of_them() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sampling.json");
        let cases: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(cases.len() > 20);
        for case in cases {
            let numbers = |name: &str| -> Vec<f32> {
                let list = case[name].as_array().unwrap().iter();
                // JSON has no infinity: `null` is a token that cannot be drawn.
                list.map(|number| number.as_f64().map_or(f32::NEG_INFINITY, |number| number as f32)).collect()
            };
            let ids = |name: &str| serde_json::from_value::<Vec<u32>>(case[name].clone()).unwrap();
            let setting = |name: &str| case["settings"][name].as_f64();
            let constraints = Constraints {
                repetition_penalty: setting("repetition_penalty").map(|penalty| penalty as f32),
                no_repeat_ngram: setting("no_repeat_ngram_size").map(|length| length as usize),
                min_new_tokens: setting("min_new_tokens").map_or(0, |count| count as usize),
            };
            let mut scores = numbers("scores");
            let (prompt, answer) = (ids("prompt"), ids("answer"));
            constraints.apply(&mut scores, &prompt, &answer, [2].into_iter()).unwrap();
            let sampling = Sampling {
                temperature: setting("temperature").unwrap_or(1.0) as f32,
                top_k: setting("top_k").map(|k| k as usize),
                top_p: setting("top_p"),
                min_p: setting("min_p"),
                seed: 0,
            };
            let options = sampling.options(&scores).unwrap();
            let total: f64 = options.iter().map(|option| option.weight).sum();
            let expected = numbers("probabilities");
            let mut actual = vec![0.0; expected.len()];
            for option in &options {
                actual[option.token as usize] = (option.weight / total) as f32;
            }
            for (token, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
                // What underflows to 0 there may be the smallest number here.
                let can = |probability: f32| probability > 1e-30;
                let same = can(*actual) == can(*expected) && (actual - expected).abs() < 1e-6;
                assert!(same, "token {token}: {actual} is not {expected}: {}", case["settings"]);
            }
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let scores = [0.0, 1.0, -1.0, 2.0, f32::NEG_INFINITY];
        let sampling = Sampling { top_k: Some(3), ..PLAIN };
        let options = sampling.options(&scores).unwrap();
        assert_eq!(options.iter().map(|option| option.token).collect::<Vec<_>>(), [0, 1, 3]);
        let total: f64 = options.iter().map(|option| option.weight).sum();
        let (random, draws) = (Random::new(5, "draws"), 20_000);
        let mut counts = [0u32; 5];
        for index in 0..draws {
            counts[sampling.draw(&scores, random.uniform(index)).unwrap() as usize] += 1;
        }
        for option in &options {
            let (expected, count) = (option.weight / total, f64::from(counts[option.token as usize]) / draws as f64);
            // Four standard errors.
            let error = 4.0 * (expected * (1.0 - expected) / draws as f64).sqrt();
            assert!((count - expected).abs() < error, "token {}: {count} is not {expected}", option.token);
        }
        assert_eq!((counts[2], counts[4]), (0, 0));
        assert_eq!((sampling.draw(&scores, 0.0).unwrap(), sampling.draw(&scores, 1.0 - 1e-16).unwrap()), (0, 3));
    }

    #[test]
    fn however_narrow_the_choice_one_token_is_left() {
        for scores in [vec![1.0; 7], vec![3.0], vec![0.1, 0.2, 0.3]] {
            for sampling in [
                Sampling { top_p: Some(0.0), ..PLAIN },
                Sampling { top_k: Some(1), top_p: Some(0.0), min_p: Some(1.0), ..PLAIN },
            ] {
                assert_eq!(sampling.options(&scores).unwrap().len(), 1, "{sampling:?}");
            }
        }
    }

    #[test]
    fn what_forbids_every_token_is_said() {
        let constraints = Constraints { no_repeat_ngram: Some(1), ..Constraints::default() };
        let error = constraints.apply(&mut [1.0, 2.0], &[0], &[1], [].into_iter()).unwrap_err().to_string();
        assert!(error.contains("`no_repeat_ngram`"), "{error}");
    }
}
