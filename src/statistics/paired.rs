//! Is one system better than another on the same rows? Tests of paired differences, all two-sided.
//!
//! A difference is one row's value of the one system less that of the other; rows that miss one of them must be left out
//! before.

use super::correlation::Tested;
use super::describe::{mean, std};
use super::distribution::{coin_at_most, normal_p, student_p};
use crate::random::Random;

/// Up to so many differences other than 0, the permutation test takes every pattern of signs.
const FEW: usize = 20;

/// Student's t test of paired values, as `scipy.stats.ttest_rel` has it. None of fewer than two differences, and where all
/// are 0.
pub fn student(differences: &[f64]) -> Option<Tested> {
    let count = differences.len() as f64;
    let t = mean(differences)? / (std(differences, 1)? / count.sqrt());
    (!t.is_nan()).then(|| Tested { value: t, p: Some(student_p(t, count - 1.0)) })
}

/// McNemar's test of how many rows only the one and only the other system got right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum McNemar {
    /// By the binomial distribution; the statistic is the smaller of the two numbers.
    Exact,
    /// By the χ² distribution with continuity correction: (|a − b| − 1)² / (a + b).
    Corrected,
}

impl McNemar {
    /// As `statsmodels.stats.contingency_tables.mcnemar` has it. None where the systems differ on no row.
    pub fn test(self, only_one: u64, only_other: u64) -> Option<Tested> {
        let (less, all) = (only_one.min(only_other), only_one + only_other);
        (all > 0).then(|| match self {
            Self::Exact => Tested { value: less as f64, p: Some((2.0 * coin_at_most(less, all)).min(1.0)) },
            Self::Corrected => {
                let value = (only_one.abs_diff(only_other) as f64 - 1.0).powi(2) / all as f64;
                Tested { value, p: Some(normal_p(value.sqrt())) }
            }
        })
    }
}

/// The permutation test of the mean difference: had the systems been alike, each difference could as well have had the
/// other sign. Of at most 20 differences other than 0, all patterns of signs count; of more, `draws` random ones, and the
/// p-value is (b + 1) / (draws + 1) (B. Phipson and G. K. Smyth, 2010), never 0. None of no differences.
pub fn permutation(differences: &[f64], random: Random, draws: u64) -> Option<Tested> {
    let value = mean(differences)?;
    let sizes: Vec<f64> = differences.iter().map(|difference| difference.abs()).filter(|size| *size > 0.0).collect();
    let sum: f64 = differences.iter().sum();
    // Sums of equal sizes in another order must not seem smaller.
    let bound = sum.abs() - 1e-12 * sizes.iter().sum::<f64>();
    let p = match sizes.len() <= FEW {
        true => {
            let patterns = 1u64 << sizes.len();
            (0..patterns).filter(|signs| flipped(&sizes, |_| *signs).abs() >= bound).count() as f64 / patterns as f64
        }
        false => {
            let is_as_far = |draw: &u64| {
                let random = random.part(*draw);
                flipped(&sizes, |word| random.bits(word)).abs() >= bound
            };
            ((0..draws).filter(is_as_far).count() as f64 + 1.0) / (draws as f64 + 1.0)
        }
    };
    Some(Tested { value, p: Some(p) })
}

/// The sum of sizes with signs: one bit each, 64 in a word.
fn flipped(sizes: &[f64], signs: impl Fn(u64) -> u64) -> f64 {
    let mut sum = 0.0;
    for (word, sizes) in sizes.chunks(64).enumerate() {
        let signs = signs(word as u64);
        for (bit, size) in sizes.iter().enumerate() {
            // The bit becomes the sign of the float.
            sum += f64::from_bits(size.to_bits() ^ ((signs >> bit) << 63));
        }
    }
    sum
}

/// The p-value of a paired bootstrap: `draws` are the differences of the two systems' scores in each draw of rows, `value`
/// that of all rows.
///
/// The draws are moved so that their mean is 0, and the p-value is the part of them that then lies farther from 0 than
/// `value`, (b + 1) / (n + 1): the test of sacrebleu's `--paired-bs` (S. Riezler and J. T. Maxwell, 2005), two-sided.
/// P. Koehn's of 2004, the part of draws in which the better system is not better, is about half of it.
pub fn bootstrap_p(value: f64, draws: &[f64]) -> Option<f64> {
    let centre = mean(draws)?;
    let beyond = draws.iter().filter(|draw| (*draw - centre).abs() > value.abs()).count();
    Some((beyond as f64 + 1.0) / (draws.len() as f64 + 1.0))
}

/// p-values of one family of tests, adjusted by S. Holm's method of 1979, as statsmodels' `multipletests(method="holm")`
/// has it: a test is significant at a level if its adjusted p-value is at most that.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut adjusted, mut most) = (vec![0.0; p.len()], 0.0);
    for (place, index) in order.into_iter().enumerate() {
        most = (p[index] * (p.len() - place) as f64).clamp(most, 1.0);
        adjusted[index] = most;
    }
    adjusted
}
