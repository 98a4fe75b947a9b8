//! Which rows a bootstrap draws, and which a jackknife leaves out, for statistics that need the rows themselves.

use crate::random::Random;

/// A jackknife leaves out single units, or as many blocks of them: it has to know how skewed the statistic is, not more.
const MOST_BLOCKS: usize = 1000;

/// What is drawn as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units<'a> {
    /// Rows, by their numbers.
    Rows(&'a [usize]),
    /// Clusters, such as runs, with all their rows.
    Clusters(&'a [Vec<usize>]),
    /// Clusters, and of each as many rows as it has, with replacement (A. C. Davison and D. V. Hinkley, 'Bootstrap Methods
    /// and their Application', 1997, section 3.8).
    Both(&'a [Vec<usize>]),
}

impl Units<'_> {
    /// How many units there are.
    pub fn count(self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Clusters(clusters) | Self::Both(clusters) => clusters.len(),
        }
    }

    /// The statistic of so many draws, each of as many units as there are, with replacement. None of fewer than two units.
    pub fn bootstrap(
        self,
        random: Random,
        draws: u64,
        mut statistic: impl FnMut(&[usize]) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let draws = if self.count() < 2 { 0 } else { draws };
        let mut rows = Vec::new();
        let draw = |number| {
            rows.clear();
            self.resample(random.part(number), &mut rows);
            statistic(&rows)
        };
        (0..draws).map(draw).collect()
    }

    fn resample(self, random: Random, rows: &mut Vec<usize>) {
        let count = self.count();
        for index in 0..count as u64 {
            let unit = random.below(index, count);
            match self {
                Self::Rows(all) => rows.push(all[unit]),
                Self::Clusters(clusters) => rows.extend(&clusters[unit]),
                Self::Both(clusters) => {
                    let (random, cluster) = (random.part(index), &clusters[unit]);
                    rows.extend((0..cluster.len() as u64).map(|row| cluster[random.below(row, cluster.len())]));
                }
            }
        }
    }

    /// The statistic without each unit in turn; of very many units, without each of 1,000 blocks of them.
    pub fn jackknife(self, mut statistic: impl FnMut(&[usize]) -> Option<f64>) -> Vec<Option<f64>> {
        let blocks = self.count().min(MOST_BLOCKS);
        let without = |block: usize| {
            let is_kept = |unit: &usize| unit % blocks != block;
            let kept = (0..self.count()).filter(is_kept);
            let rows: Vec<usize> = match self {
                Self::Rows(rows) => kept.map(|unit| rows[unit]).collect(),
                Self::Clusters(clusters) | Self::Both(clusters) => {
                    kept.flat_map(|unit| clusters[unit].clone()).collect()
                }
            };
            statistic(&rows)
        };
        (0..blocks).map(without).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{mean, std};

    /// The means of the draws from ten clusters of twenty rows each, whose values differ by 1 and by 3.
    fn spread(units: Units<'_>, values: &[f64]) -> f64 {
        let mean = |rows: &[usize]| mean(&rows.iter().map(|row| values[*row]).collect::<Vec<_>>());
        let draws = units.bootstrap(Random::new(3, "test"), 4000, mean);
        std(&draws.into_iter().flatten().collect::<Vec<_>>(), 1).unwrap()
    }

    #[test]
    fn a_draw_spreads_as_its_units_do() {
        let random = Random::new(1, "test");
        let clusters: Vec<Vec<usize>> = (0..10).map(|cluster| (20 * cluster..20 * cluster + 20).collect()).collect();
        let value = |row: usize| random.normal(row as u64 / 20) + 3.0 * random.normal(1000 + row as u64);
        let values: Vec<f64> = (0..200).map(value).collect();
        let rows: Vec<usize> = (0..200).collect();
        let of_clusters: Vec<f64> = clusters.iter().map(|rows| mean(&values[rows[0]..rows[0] + 20]).unwrap()).collect();
        let inner = |rows: &Vec<usize>| std(&values[rows[0]..rows[0] + 20], 0).unwrap().powi(2) / 20.0;
        let inner = mean(&clusters.iter().map(inner).collect::<Vec<_>>()).unwrap();
        let outer = std(&of_clusters, 0).unwrap().powi(2);
        for (units, variance) in [
            (Units::Rows(&rows), std(&values, 0).unwrap().powi(2) / 200.0),
            (Units::Clusters(&clusters), outer / 10.0),
            (Units::Both(&clusters), (outer + inner) / 10.0),
        ] {
            // 4,000 draws know a standard deviation to 1.1%.
            let ratio = spread(units, &values) / variance.sqrt();
            assert!((ratio - 1.0).abs() < 0.04, "{units:?}: {ratio}");
        }
    }

    #[test]
    fn a_jackknife_leaves_each_unit_out_once() {
        let clusters = [vec![0, 1], vec![2], vec![3, 4]];
        let sum = |rows: &[usize]| Some(rows.iter().sum::<usize>() as f64);
        assert_eq!(Units::Both(&clusters).jackknife(sum), [Some(9.0), Some(8.0), Some(3.0)]);
        let rows: Vec<usize> = (0..2500).collect();
        let left = Units::Rows(&rows).jackknife(|rows| Some(rows.len() as f64));
        assert_eq!((left.len(), left[0], left[999]), (1000, Some(2497.0), Some(2498.0)));
    }
}
