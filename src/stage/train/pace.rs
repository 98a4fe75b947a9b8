//! How fast a training is, and how much memory it takes: what depends on the machine, and stands in no output.

use crate::engine::memory;
use std::time::Instant;

/// Counts tokens against the clock.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tokens that went through the model.
    pub tokens: u64,
    started: Instant,
    flops_per_token: f64,
}

impl Pace {
    /// Of a model of so many weights, of which some are trained. A token costs two operations per weight forward, two
    /// backward to what came before, and two more for the gradient of a weight: 6 N where all learn. Attention's own
    /// products, and what is computed again, do not count (arXiv 2204.02311).
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn new(weights: usize, trained: usize) -> Self {
        let flops_per_token = 4.0 * weights as f64 + 2.0 * trained as f64;
        Self { tokens: 0, started: Instant::now(), flops_per_token }
    }

    /// Tokens per second since the start.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.started.elapsed().as_secs_f64().max(1e-3)
    }

    /// Speed, work and memory as a person reads them. No share of the machine's peak: nobody knows that of a CPU.
    pub fn in_full(&self) -> String {
        let speed = self.tokens_per_second();
        let work = speed * self.flops_per_token / 1e9;
        let memory = memory::peak().map_or(String::new(), |bytes| format!(", {} MiB at most", bytes >> 20));
        format!("{speed:.0} tokens/s, {work:.1} GFLOP/s{memory}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_training_costs_six_operations_per_weight() {
        let mut pace = Pace::new(1_000_000, 1_000_000);
        assert_eq!(pace.flops_per_token, 6e6);
        pace.tokens = 10;
        assert!(pace.in_full().contains("tokens/s") && pace.in_full().contains("GFLOP/s"));
    }
}
