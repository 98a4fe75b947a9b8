//! Wilcoxon's signed-rank test (1945), as `scipy.stats.wilcoxon` does it by default.

use super::correlation::Tested;
use super::distribution::normal_p;
use super::rank::{Ties, order, ranks, ties};

/// Of more pairs than these, the p-value is the normal distribution's.
const MOST_EXACT: usize = 50;
/// Of more pairs than these, it is so too where sizes are equal or 0.
const MOST_TIED: usize = 13;

/// The test of paired differences, two-sided: differences of 0 are left out, and the statistic is the smaller of the sums of
/// ranks of both signs. The p-value is exact of few pairs, else the normal distribution's without continuity correction.
/// None where no difference is other than 0.
pub fn wilcoxon(differences: &[f64]) -> Option<Tested> {
    let moved: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    if moved.is_empty() {
        return None;
    }
    let sizes: Vec<f64> = moved.iter().map(|difference| difference.abs()).collect();
    let order = order(&sizes);
    let runs: Vec<usize> = ties(&sizes, &order).map(<[usize]>::len).collect();
    let ranks = ranks(&sizes, Ties::Average);
    let sum = |is_positive: bool| -> f64 {
        moved
            .iter()
            .zip(&ranks)
            .filter(|(difference, _)| (**difference > 0.0) == is_positive)
            .map(|(_, rank)| rank)
            .sum()
    };
    let (plus, minus) = (sum(true), sum(false));
    let is_plain = runs.len() == differences.len();
    let p = match differences.len() <= if is_plain { MOST_EXACT } else { MOST_TIED } {
        true => exact(&ranks, plus.min(minus)),
        false => {
            let n = moved.len() as f64;
            let tied: f64 = runs.iter().map(|run| (*run as f64).powi(3) - *run as f64).sum();
            let spread = (n * (n + 1.0) * (2.0 * n + 1.0) - tied / 2.0) / 24.0;
            normal_p((plus - n * (n + 1.0) / 4.0) / spread.sqrt())
        }
    };
    Some(Tested { value: plus.min(minus), p: Some(p) })
}

/// Twice the probability that ranks with random signs sum up to at most `least`.
fn exact(ranks: &[f64], least: f64) -> f64 {
    // Ranks are multiples of a half.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "twice a rank is a small whole number")]
    let twice = |rank: f64| (2.0 * rank).round() as usize;
    let most = twice(least);
    let mut chances = vec![0.0; most + 1];
    chances[0] = 1.0;
    for rank in ranks.iter().map(|rank| twice(*rank)) {
        for sum in (0..=most).rev() {
            let with = sum.checked_sub(rank).map_or(0.0, |rest| chances[rest]);
            chances[sum] = (chances[sum] + with) / 2.0;
        }
    }
    (2.0 * chances.iter().sum::<f64>()).min(1.0)
}
