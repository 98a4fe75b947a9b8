//! Beam search as transformers does it (5.23, `GenerationMixin._beam_search`), for one prompt.
//!
//! Every step the likeliest continuations of all beams are looked at: more of them than there are beams, so that enough
//! are left when some end. Those that end among the first are kept as answers, ranked by their score over a power of
//! their length; the rest go on.

use super::ending::End;
use super::{Answer, Job, Lane};
use crate::engine::decoder::Advances;
use crate::engine::kernels;
use anyhow::ensure;

/// How beams are searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BeamSearch {
    /// Beams that go on together.
    pub width: usize,
    /// An answer's score is the sum of its log-probabilities over its length to this power.
    pub length_penalty: f64,
    /// When the search ends.
    pub early_stopping: EarlyStopping,
}

/// When a search with as many answers as beams ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyStopping {
    /// At once.
    Always,
    /// When the best beam, as long as it is, scores no better than the worst answer.
    Likely,
    /// When no beam can become better, however long.
    Never,
}

/// An answer that has ended.
#[derive(Debug)]
struct Finished {
    score: f32,
    tokens: Vec<u32>,
    log_probabilities: Vec<f32>,
    end: End,
}

/// A continuation of one of the beams.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    /// Sum of the log-probabilities.
    total: f32,
    lane: usize,
    token: u32,
}

/// The search behind one prompt.
#[derive(Debug, Default)]
pub(super) struct Beams {
    /// Sums of log-probabilities of the beams, best first.
    totals: Vec<f32>,
    /// Best first.
    finished: Vec<Finished>,
}

impl Beams {
    /// Takes the logits of every beam. Returns whether the search has ended.
    pub fn step<D: Advances>(
        &mut self,
        search: &BeamSearch,
        job: &Job<'_, D>,
        prompt: &[u32],
        lanes: &mut Vec<Lane<D::Cache>>,
        logits: &[f32],
    ) -> anyhow::Result<bool> {
        self.totals.resize(lanes.len(), 0.0);
        let (rows, most) = (logits.len() / lanes.len(), job.most(prompt));
        let ends = job.endings.all_tokens().count();
        let mut best = Best { most: search.width * (1 + ends).max(2), list: Vec::new() };
        for (lane, (logits, total)) in logits.chunks_exact(rows).zip(&self.totals).enumerate() {
            for (token, score) in (0..).zip(scores(job, prompt, &lanes[lane], logits)?) {
                best.offer(Candidate { total: score + total, lane, token });
            }
        }
        let (mut next, mut totals, mut all_ended) = (Vec::with_capacity(search.width), Vec::new(), true);
        for (rank, Candidate { total, lane, token }) in best.list.into_iter().enumerate() {
            let parent = &lanes[lane];
            let logits = &logits[lane * rows..][..rows];
            let tokens = [parent.tokens.as_slice(), &[token]].concat();
            match job.endings.at(&tokens, most)? {
                Some(end) if rank < search.width => {
                    let score = total / length_factor(tokens.len(), search);
                    let mut log_probabilities = parent.log_probabilities.clone();
                    log_probabilities.extend(job.log_probability(logits, token));
                    self.finished.push(Finished { score, tokens, log_probabilities, end });
                }
                Some(_) => {}
                None => {
                    all_ended = false;
                    if next.len() < search.width {
                        let mut lane = parent.clone();
                        lane.take(token, logits, job);
                        next.push(lane);
                        totals.push(total);
                    }
                }
            }
        }
        // Of equal ones the earlier stays.
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(search.width);
        (*lanes, self.totals) = (next, totals);
        Ok(all_ended || self.has_ended(search, lanes.first().map_or(0, |lane| lane.tokens.len()), most))
    }

    /// Whether what has ended is good enough, where beams go on that have `length` tokens and can have `most`.
    fn has_ended(&self, search: &BeamSearch, length: usize, most: usize) -> bool {
        let (Some(best), true) = (self.totals.first(), self.finished.len() == search.width) else { return false };
        let worst = self.finished.last().map_or(f32::NEG_INFINITY, |finished| finished.score);
        let length = match search.early_stopping {
            EarlyStopping::Always => return true,
            EarlyStopping::Never if search.length_penalty > 0.0 => most,
            EarlyStopping::Likely | EarlyStopping::Never => length,
        };
        // Scores are negative: a longer beam may divide by more.
        best / length_factor(length, search) <= worst
    }

    /// The best answers, best first.
    pub fn answers<D>(self, job: &Job<'_, D>) -> anyhow::Result<Vec<Answer>> {
        let best = self.finished.into_iter().take(job.settings.answers);
        best.map(|found| job.endings.answer(found.tokens, found.log_probabilities, found.end)).collect()
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "lengths are small")]
fn length_factor(length: usize, search: &BeamSearch) -> f32 {
    (length as f64).powf(search.length_penalty) as f32
}

/// Log-probabilities of the next token, as the constraints leave them.
fn scores<D: Advances>(
    job: &Job<'_, D>,
    prompt: &[u32],
    lane: &Lane<D::Cache>,
    logits: &[f32],
) -> anyhow::Result<Vec<f32>> {
    let all = kernels::log_sum_exp(logits);
    ensure!(all.is_finite(), super::NO_NUMBER);
    let mut scores: Vec<f32> = logits.iter().map(|logit| logit - all).collect();
    if job.settings.constraints.bind(lane.tokens.len()) {
        job.settings.constraints.apply(&mut scores, prompt, &lane.tokens, job.endings.all_tokens())?;
    }
    Ok(scores)
}

/// The best of many candidates, best first; of equal ones the first that was offered.
struct Best {
    most: usize,
    list: Vec<Candidate>,
}

impl Best {
    fn offer(&mut self, candidate: Candidate) {
        let is_full = self.list.len() == self.most;
        if candidate.total == f32::NEG_INFINITY || (is_full && candidate.total <= self.list[self.most - 1].total) {
            return;
        }
        let place = self.list.partition_point(|other| other.total >= candidate.total);
        self.list.truncate(self.most - usize::from(is_full));
        self.list.insert(place, candidate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_in_order_and_the_first_of_equals() {
        let mut best = Best { most: 3, list: Vec::new() };
        for (token, total) in (0..).zip([-3.0, -1.0, f32::NEG_INFINITY, -1.0, -2.0, -2.0, -5.0]) {
            best.offer(Candidate { total, lane: 0, token });
        }
        assert_eq!(best.list.iter().map(|candidate| candidate.token).collect::<Vec<_>>(), [1, 3, 4]);
    }
}
