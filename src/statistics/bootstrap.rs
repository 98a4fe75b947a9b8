//! The bootstrap: how far would a statistic lie from here if other rows of the same kind had been drawn?
//!
//! B. Efron, 'Bootstrap Methods: Another Look at the Jackknife', 1979. A draw takes as many *units* (rows, or clusters of
//! rows that belong together) as there are, with replacement, and the statistic is computed again; the interval lies between
//! percentiles of the draws. Many units are weighted by independent Poisson(1) numbers instead (N. Chamandy et al.,
//! 'Estimating Uncertainty for Massive Data Streams', 2012): the same to all the digits that matter, and memory is read in
//! order.

use crate::random::Random;
use crate::statistics::distribution::{normal_below, normal_quantile};
use crate::statistics::{CONFIDENCE, mean, quantile};

/// Draws, unless there are very many units.
const DRAWS: u64 = 1000;
/// Units that are weighted in all, at most: a million units are drawn 200 times.
const MOST_WEIGHED: u64 = 200_000_000;
/// From so many units on, weights are Poisson's.
const MANY: usize = 4096;

/// The draws from a number of units: the same for the same number, every time.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    units: usize,
    random: Random,
}

impl Draws {
    /// The draws from so many units.
    pub fn of(units: usize) -> Self {
        Self { units, random: Random::new(units as u64, "bootstrap") }
    }

    /// How many draws there are: none from fewer than two units.
    pub fn count(self) -> u64 {
        if self.units < 2 { 0 } else { DRAWS.min(MOST_WEIGHED / self.units as u64).max(100) }
    }

    /// How often each unit was drawn in draw `number`, one weight for each.
    pub fn weigh(self, number: u64, weights: &mut [f64]) {
        let random = self.random.part(number);
        match self.units < MANY {
            true => resample(random, weights),
            false => poisson(random, weights),
        }
    }

    /// The statistic of each draw, which `statistic` computes from the weights.
    pub fn map<T>(self, mut statistic: impl FnMut(&[f64]) -> T) -> Vec<T> {
        let mut weights = vec![0.0; self.units];
        let mut draw = |number| {
            self.weigh(number, &mut weights);
            statistic(&weights)
        };
        (0..self.count()).map(&mut draw).collect()
    }
}

/// The mean of the clusters' means in each draw of as many clusters as there are, and of each as many of its values, both
/// with replacement (A. C. Davison and D. V. Hinkley, 'Bootstrap Methods and their Application', 1997, section 3.8).
/// Clusters without values are passed over; none of fewer than two others.
pub fn nested_means(clusters: &[&[f64]]) -> Vec<f64> {
    let clusters: Vec<&[f64]> = clusters.iter().copied().filter(|values| !values.is_empty()).collect();
    let values: u64 = clusters.iter().map(|values| values.len() as u64).sum();
    let draws = if clusters.len() < 2 { 0 } else { DRAWS.min(MOST_WEIGHED / values).max(100) };
    let random = Random::new(values, "nested bootstrap");
    let drawn_mean = |random: Random, values: &[f64]| {
        let drawn = (0..values.len() as u64).map(|index| values[random.below(index, values.len())]);
        drawn.sum::<f64>() / values.len() as f64
    };
    let draw = |number| {
        let random = random.part(number);
        let cluster = |index: u64| drawn_mean(random.part(index), clusters[random.below(index, clusters.len())]);
        (0..clusters.len() as u64).map(cluster).sum::<f64>() / clusters.len() as f64
    };
    (0..draws).map(draw).collect()
}

/// As many units as there are, with replacement.
fn resample(random: Random, weights: &mut [f64]) {
    weights.fill(0.0);
    for index in 0..weights.len() as u64 {
        weights[random.below(index, weights.len())] += 1.0;
    }
}

/// 65,536 times the probability that a Poisson(1) number is at most 0, 1, 2, …
const AT_MOST: [u16; 8] = [24109, 48219, 60273, 64292, 65296, 65497, 65531, 65535];

fn poisson(random: Random, weights: &mut [f64]) {
    for (index, weights) in weights.chunks_mut(4).enumerate() {
        let bits = random.bits(index as u64);
        for (part, weight) in weights.iter_mut().enumerate() {
            #[expect(clippy::cast_possible_truncation, reason = "one quarter of the bits")]
            let uniform = (bits >> (16 * part)) as u16;
            *weight = f64::from(AT_MOST.iter().map(|bound| u8::from(uniform >= *bound)).sum::<u8>());
        }
    }
}

/// Σ weight · value, in an order that depends on neither compiler nor processor.
pub fn dot(weights: &[f64], values: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    let (weights, values) = (weights.chunks_exact(LANES), values.chunks_exact(LANES));
    let rest = weights.remainder().iter().zip(values.remainder());
    let rest: f64 = rest.map(|(weight, value)| weight * value).sum();
    for (weights, values) in weights.zip(values) {
        for lane in 0..LANES {
            lanes[lane] += weights[lane] * values[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// The percentile interval that holds 95% of the draws; draws for which the statistic is not defined are passed over.
/// `None` of fewer than two.
pub fn interval(draws: impl IntoIterator<Item = Option<f64>>) -> Option<(f64, f64)> {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    between(&defined(draws), tail, 1.0 - tail)
}

/// The BCa interval (bias-corrected and accelerated) of 95%: percentiles of the draws that make good for the bias and for
/// a spread that changes with the value; `jackknife` has the statistic without each unit in turn. B. Efron, 'Better
/// Bootstrap Confidence Intervals', 1987, in the form of `scipy.stats.bootstrap`: a draw equal to `value` counts half.
///
/// `None` of fewer than two draws, and where the draws all lie on one side of the value or none differs from another.
pub fn bca(value: f64, draws: impl IntoIterator<Item = Option<f64>>, jackknife: &[Option<f64>]) -> Option<(f64, f64)> {
    let (draws, left_out) = (defined(draws), defined(jackknife.iter().copied()));
    let count = |is_counted: &dyn Fn(&f64) -> bool| draws.iter().filter(|draw| is_counted(draw)).count() as f64;
    let below = (count(&|draw| *draw < value) + count(&|draw| *draw <= value)) / (2.0 * draws.len() as f64);
    let bias = normal_quantile(below);
    let centre = mean(&left_out)?;
    let moment = |power: i32| left_out.iter().map(|without| (centre - without).powi(power)).sum::<f64>();
    let acceleration = moment(3) / moment(2).powf(1.5) / 6.0;
    let end = |probability: f64| {
        let shifted = bias + normal_quantile(probability);
        normal_below(bias + shifted / (1.0 - acceleration * shifted))
    };
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let (low, high) = (end(tail), end(1.0 - tail));
    (low.is_finite() && high.is_finite()).then(|| between(&draws, low, high))?
}

/// What is defined, sorted.
fn defined(values: impl IntoIterator<Item = Option<f64>>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().flatten().filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Two quantiles of sorted draws; `None` of fewer than two draws.
fn between(draws: &[f64], low: f64, high: f64) -> Option<(f64, f64)> {
    (draws.len() > 1).then(|| Some((quantile(draws, low)?, quantile(draws, high)?)))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::std;

    #[test]
    fn nested_draws_spread_as_clusters_and_values_do() {
        let random = Random::new(2, "test");
        let value = |cluster: u64, row: u64| random.normal(cluster) + 0.5 * random.normal(1000 + 100 * cluster + row);
        let clusters: Vec<Vec<f64>> =
            (0..20).map(|cluster| (0..10).map(|row| value(cluster, row)).collect()).chain([Vec::new()]).collect();
        let means: Vec<f64> = clusters.iter().filter_map(|values| mean(values)).collect();
        let inner = |values: &Vec<f64>| std(values, 0).map(|std| std * std / values.len() as f64);
        let inner = mean(&clusters.iter().filter_map(inner).collect::<Vec<_>>()).unwrap();
        let expected = ((std(&means, 0).unwrap().powi(2) + inner) / 20.0).sqrt();
        // 1,000 draws know a standard deviation to 2.2%.
        let found = std(&nested_means(&clusters.iter().map(Vec::as_slice).collect::<Vec<_>>()), 1).unwrap();
        assert!((found / expected - 1.0).abs() < 0.08, "{found} {expected}");
        assert!(nested_means(&[&clusters[0]]).is_empty());
    }

    #[test]
    fn few_units_are_drawn_with_replacement() {
        let draws = Draws::of(10);
        assert_eq!(draws.count(), 1000);
        let sums = draws.map(|weights| (weights.iter().sum::<f64>(), weights[3]));
        assert!(sums.iter().all(|(all, _)| *all == 10.0));
        // Binomial(10, 0.1) has a variance of 0.9, so 1,000 of them a mean within 0.12 of 1 but for once in 10,000.
        let mean = sums.iter().map(|(_, third)| third).sum::<f64>() / 1000.0;
        assert!((mean - 1.0).abs() < 0.12, "{mean}");
        assert_eq!(Draws::of(1).count(), 0);
    }

    #[test]
    fn many_units_have_poisson_s_weights() {
        let mut weights = vec![0.0; 100_000];
        Draws::of(weights.len()).weigh(7, &mut weights);
        let moment = |power: i32| weights.iter().map(|weight| weight.powi(power)).sum::<f64>() / weights.len() as f64;
        // Mean and variance are 1; of so many, each lies within 0.02 of it.
        assert!((moment(1) - 1.0).abs() < 0.02, "{}", moment(1));
        assert!((moment(2) - 2.0).abs() < 0.05, "{}", moment(2));
        assert_eq!(Draws::of(1_000_000).count(), 200);
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_normal_distribution() {
        for count in [500, 20_000] {
            let random = Random::new(1, "test");
            let values: Vec<f64> = (0..count).map(|index| random.normal(index)).collect();
            let mean = |weights: &[f64]| Some(dot(weights, &values) / weights.iter().sum::<f64>());
            let (low, high) = interval(Draws::of(values.len()).map(mean)).unwrap();
            let width = (high - low) * (count as f64).sqrt();
            // 2 · 1.96, and 1,000 draws know a percentile to about 3%.
            assert!((width / 3.92 - 1.0).abs() < 0.12, "{count}: {width}");
        }
    }

    #[test]
    fn percentiles_lie_between_neighbours() {
        let draws = (0..=1000).map(|number| Some(f64::from(number))).chain([None, Some(f64::NAN)]);
        let (low, high) = interval(draws).unwrap();
        assert!((low - 25.0).abs() < 1e-9 && (high - 975.0).abs() < 1e-9, "{low} {high}");
        assert_eq!(interval([Some(1.0), None]), None);
    }
}
