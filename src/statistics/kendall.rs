//! Kendall's τ-b in O(n log n): W. R. Knight, 'A Computer Method for Calculating Kendall's Tau with Ungrouped Data', 1966.

use super::distribution::normal_p;
use super::rank::compare;
use std::cmp::Ordering;

/// Up to so many pairs without ties, the p-value is exact.
const FEW: usize = 33;

/// How each two of the pairs stand to each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    count: usize,
    /// Two pairs that are the other way round in y than in x.
    discordant: u64,
    /// Two pairs with equal x and y.
    both: u64,
    x: Tied,
    y: Tied,
}

/// Sums over the runs of equal values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tied {
    /// Σ t(t−1)/2
    pairs: u64,
    /// Σ t(t−1)(t−2)
    thirds: f64,
    /// Σ t(t−1)(2t+5)
    spread: f64,
}

impl Order {
    /// Of complete pairs.
    pub fn of(x: &[f64], y: &[f64]) -> Self {
        let mut pairs: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
        pairs.sort_by(|a, b| compare(a.0, b.0).then_with(|| compare(a.1, b.1)));
        let both = pairs.chunk_by(|a, b| a == b).map(|run| two_of(run.len())).sum();
        let x = Tied::of(pairs.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len));
        let mut y: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        let discordant = sort(&mut y, &mut vec![0.0; pairs.len()]);
        let y = Tied::of(y.chunk_by(|a, b| a == b).map(<[_]>::len));
        Self { count: pairs.len(), discordant, both, x, y }
    }

    /// τ-b; none of fewer than two pairs, or where all x or all y are equal.
    pub fn tau(&self) -> Option<f64> {
        let all = two_of(self.count);
        if self.x.pairs == all || self.y.pairs == all {
            return None;
        }
        let root = |tied: Tied| ((all - tied.pairs) as f64).sqrt();
        Some((self.surplus() / root(self.x) / root(self.y)).clamp(-1.0, 1.0))
    }

    /// Concordant less discordant ones.
    fn surplus(&self) -> f64 {
        let untied = two_of(self.count) + self.both - self.x.pairs - self.y.pairs;
        untied as f64 - 2.0 * self.discordant as f64
    }

    /// The two-sided p-value as scipy's `method='auto'` has it; none where τ is not defined.
    pub fn p(&self) -> Option<f64> {
        self.tau()?;
        let less = self.discordant.min(two_of(self.count) - self.discordant);
        let is_tied = self.x.pairs > 0 || self.y.pairs > 0;
        Some(match !is_tied && (self.count <= FEW || less <= 1) {
            true => exact(self.count, less),
            false => normal_p(self.surplus() / self.variance().sqrt()),
        })
    }

    /// The variance of [`surplus`](Self::surplus) where x and y have nothing to do with each other (M. G. Kendall, 'Rank
    /// Correlation Methods', 1970).
    fn variance(&self) -> f64 {
        let n = self.count as f64;
        let m = n * (n - 1.0);
        (m * (2.0 * n + 5.0) - self.x.spread - self.y.spread) / 18.0
            + 2.0 * self.x.pairs as f64 * self.y.pairs as f64 / m
            + self.x.thirds * self.y.thirds / (9.0 * m * (n - 2.0))
    }
}

impl Tied {
    fn of(runs: impl Iterator<Item = usize>) -> Self {
        runs.filter(|run| *run > 1).fold(Self::default(), |sum, run| {
            let t = run as f64;
            Self {
                pairs: sum.pairs + two_of(run),
                thirds: sum.thirds + t * (t - 1.0) * (t - 2.0),
                spread: sum.spread + t * (t - 1.0) * (2.0 * t + 5.0),
            }
        })
    }
}

/// In how many ways two can be taken out of so many.
fn two_of(count: usize) -> u64 {
    let count = count as u64;
    count * count.saturating_sub(1) / 2
}

/// Sorts by merging and tells how many neighbours a bubble sort would have swapped.
fn sort(values: &mut [f64], spare: &mut [f64]) -> u64 {
    let half = values.len() / 2;
    if half == 0 {
        return 0;
    }
    let (left, right) = values.split_at_mut(half);
    let mut swaps = sort(left, spare) + sort(right, spare);
    let (mut l, mut r) = (0, 0);
    for place in &mut spare[..left.len() + right.len()] {
        let is_left = r == right.len() || (l < left.len() && compare(left[l], right[r]) != Ordering::Greater);
        if is_left {
            *place = left[l];
            l += 1;
        } else {
            *place = right[r];
            r += 1;
            swaps += (left.len() - l) as u64;
        }
    }
    let sorted = &spare[..values.len()];
    values.copy_from_slice(sorted);
    swaps
}

/// How likely at most `less` of all pairs are discordant, or at most `less` are concordant: from the number of
/// permutations of so many inversions (M. G. Kendall, 1970, as in scipy).
fn exact(count: usize, less: u64) -> f64 {
    let all = two_of(count);
    if 2 * less == all {
        return 1.0;
    }
    // Of n ≥ 171 the factorial is no float, and the probability none but 0.
    let factorial = |n: usize| (1..=n).map(|factor| factor as f64).product::<f64>();
    match less {
        0 => 2.0 / factorial(count),
        1 => 2.0 / factorial(count - 1),
        _ => {
            let mut ways = vec![0.0; usize::try_from(less).unwrap_or(usize::MAX) + 1];
            ways[0] = 1.0;
            for items in 2..=count {
                add_item(&mut ways, items);
            }
            2.0 * ways.iter().sum::<f64>() / factorial(count)
        }
    }
}

/// Permutations of one item more: it can stand in `items` places, and brings 0 to `items − 1` inversions.
fn add_item(ways: &mut [f64], items: usize) {
    let fewer = ways.to_vec();
    let mut sum = 0.0;
    for (inversions, ways) in ways.iter_mut().enumerate() {
        sum += fewer[inversions];
        if inversions >= items {
            sum -= fewer[inversions - items];
        }
        *ways = sum;
    }
}
