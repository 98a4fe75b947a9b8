//! K. Krippendorff's alpha ('Computing Krippendorff's Alpha-Reliability', 2011): agreement of any number of raters, with
//! gaps.

use super::rank::compare;

/// What can be said of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Whether they are equal.
    Nominal,
    /// Which is greater.
    Ordinal,
    /// How far they lie apart.
    Interval,
    /// How far they lie apart, against their size.
    Ratio,
}

/// Alpha of the values that each item's raters gave. An item with fewer than two says nothing. None where no values that
/// differ can be paired: no disagreement could be seen by chance either.
pub fn krippendorff(items: &[Vec<f64>], level: Level) -> Option<f64> {
    let items: Vec<&Vec<f64>> = items.iter().filter(|item| item.len() > 1).collect();
    let mut domain: Vec<f64> = items.iter().flat_map(|item| item.iter().copied()).collect();
    domain.sort_by(|a, b| compare(*a, *b));
    let counts: Vec<f64> = domain.chunk_by(|a, b| a == b).map(|run| run.len() as f64).collect();
    domain.dedup();
    let scale = Scale::new(level, &domain, &counts);
    let place = |value: &f64| domain.partition_point(|known| known < value);
    let mut seen = 0.0;
    for item in &items {
        let mut places: Vec<usize> = item.iter().map(place).collect();
        places.sort_unstable();
        seen += scale.between(&runs(&places)) / (item.len() as f64 - 1.0);
    }
    let all: Vec<(usize, f64)> = counts.iter().copied().enumerate().collect();
    let expected = scale.between(&all) / (counts.iter().sum::<f64>() - 1.0);
    (expected > 0.0).then(|| 1.0 - seen / expected)
}

/// Equal neighbours as one, with their number.
fn runs(places: &[usize]) -> Vec<(usize, f64)> {
    places.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as f64)).collect()
}

/// Distances of values, by their places in the domain.
struct Scale {
    level: Level,
    /// The values; of an ordinal scale, where their middles lie when all values are laid out in order.
    places: Vec<f64>,
}

impl Scale {
    fn new(level: Level, domain: &[f64], counts: &[f64]) -> Self {
        let middles = || {
            let mut before = 0.0;
            let middle = |count: &f64| {
                before += count;
                before - count / 2.0
            };
            counts.iter().map(middle).collect()
        };
        Self { level, places: if level == Level::Ordinal { middles() } else { domain.to_vec() } }
    }

    /// The sum of the distances of each two different values, each as often as it is there, in both directions.
    fn between(&self, values: &[(usize, f64)]) -> f64 {
        let mut sum = 0.0;
        for (number, (a, many)) in values.iter().enumerate() {
            sum += values[..number].iter().map(|(b, others)| many * others * self.distance(*a, *b)).sum::<f64>();
        }
        2.0 * sum
    }

    fn distance(&self, a: usize, b: usize) -> f64 {
        let (a, b) = (self.places[a], self.places[b]);
        match self.level {
            Level::Nominal => 1.0,
            Level::Ordinal | Level::Interval => (a - b).powi(2),
            Level::Ratio if a + b == 0.0 => 0.0,
            Level::Ratio => ((a - b) / (a + b)).powi(2),
        }
    }
}
