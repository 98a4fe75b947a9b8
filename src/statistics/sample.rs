//! A statistic of small random samples, drawn again and again.
//!
//! What does a correlation of ten rows look like? Draws for which the statistic is not defined are passed over and counted.

use crate::random::Random;
use std::collections::BTreeSet;

/// How samples are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// How many samples: of each group, or in all where each is of one group at random.
    pub draws: u64,
    /// Rows in each.
    pub size: usize,
    /// Whether a row can be drawn twice. If not, a group of fewer rows than `size` has no samples: its draws count as not
    /// defined.
    pub replace: bool,
    /// Whether each draw takes one group at random, not every group in turn.
    pub one_group: bool,
}

impl Sampling {
    /// The statistic of each draw, of the numbers of its rows. A group is a list of row numbers; one list of all rows
    /// makes samples of the whole.
    pub fn map(
        &self,
        random: Random,
        groups: &[Vec<usize>],
        mut statistic: impl FnMut(&[usize]) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let mut drawn = |random: Random, group: &[usize]| statistic(&self.draw(random, group)?);
        if groups.is_empty() {
            return Vec::new();
        }
        if self.one_group {
            let one = |draw| {
                let random = random.part(draw);
                drawn(random.part(1), &groups[random.below(0, groups.len())])
            };
            return (0..self.draws).map(one).collect();
        }
        let parts = (0..).map(|number| random.part(number)).zip(groups);
        let each = parts.flat_map(|(random, group)| (0..self.draws).map(move |draw| (random.part(draw), group)));
        each.map(|(random, group)| drawn(random, group)).collect()
    }

    /// Rows of one sample: none where there are too few.
    fn draw(&self, random: Random, group: &[usize]) -> Option<Vec<usize>> {
        if group.is_empty() || (!self.replace && group.len() < self.size) {
            return None;
        }
        let numbers = match self.replace {
            true => (0..self.size as u64).map(|index| random.below(index, group.len())).collect(),
            false => distinct(random, self.size, group.len()),
        };
        Some(numbers.into_iter().map(|number| group[number]).collect())
    }
}

/// `size` different numbers of `0..count`, each set of them as likely as another: R. W. Floyd's algorithm (J. Bentley,
/// 'Programming Pearls', 1987).
fn distinct(random: Random, size: usize, count: usize) -> Vec<usize> {
    let mut taken = BTreeSet::new();
    for last in count - size..count {
        let number = random.below(last as u64, last + 1);
        if !taken.insert(number) {
            taken.insert(last);
        }
    }
    taken.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Sampling = Sampling { draws: 10_000, size: 3, replace: false, one_group: false };

    fn samples(sampling: &Sampling, seed: u64, groups: &[Vec<usize>]) -> (Vec<Vec<usize>>, usize) {
        let mut samples = Vec::new();
        let values = sampling.map(Random::new(seed, "test"), groups, |rows| {
            samples.push(rows.to_vec());
            Some(0.0)
        });
        (samples, values.iter().filter(|value| value.is_none()).count())
    }

    #[test]
    fn every_set_without_replacement_is_as_likely() {
        let (samples, _) = samples(&TEN, 1, &[(0..5).collect()]);
        let mut counts = std::collections::BTreeMap::new();
        for sample in &samples {
            *counts.entry(sample).or_insert(0) += 1;
        }
        // Ten sets of three out of five, 1,000 times each: a standard deviation of 30.
        assert_eq!(counts.len(), 10);
        assert!(counts.values().all(|count| (880..1120).contains(count)), "{counts:?}");
    }

    #[test]
    fn with_replacement_a_row_comes_again() {
        let (samples, _) = samples(&Sampling { replace: true, size: 8, ..TEN }, 1, &[vec![4, 5, 6]]);
        assert_eq!(samples.len(), 10_000);
        let count = |row: usize| samples.iter().flatten().filter(|drawn| **drawn == row).count();
        // 80,000 / 3, with a standard deviation of 133.
        assert!([4, 5, 6].iter().all(|row| count(*row).abs_diff(26_667) < 600));
    }

    #[test]
    fn groups_are_drawn_from_in_turn_or_at_random() {
        let groups = [vec![0, 1, 2, 3], vec![10, 11], vec![20, 21, 22]];
        let (each, missed) = samples(&TEN, 1, &groups);
        assert_eq!((each.len(), missed), (20_000, 10_000));
        assert!(each.iter().all(|sample| sample.iter().all(|row| row / 10 == sample[0] / 10)));
        let (one, missed) = samples(&Sampling { one_group: true, ..TEN }, 1, &groups);
        assert_eq!(one.len() + missed, 10_000);
        // A third, with a standard deviation of 47.
        assert!(missed.abs_diff(3333) < 200, "{missed}");
    }

    #[test]
    fn a_seed_always_gives_the_same_draws() {
        let groups = [(0..100).collect()];
        let of = |seed| samples(&Sampling { draws: 2, ..TEN }, seed, &groups).0;
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        // Fixed: a manifest must give the same numbers next year.
        assert_eq!(of(7), [[10, 15, 40], [13, 43, 73]]);
    }
}
