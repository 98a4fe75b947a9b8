//! Ranks, and the order that they come from.

use std::cmp::Ordering;

/// What rank equal values get, by pandas' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// The mean of the ranks that they share.
    Average,
    /// The least of them.
    Min,
    /// The greatest of them.
    Max,
    /// The least, and the next value gets the next number.
    Dense,
    /// Each its own, in the order in which they come.
    Ordinal,
}

/// The order of values; zeros of both signs are equal.
pub fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.total_cmp(&b))
}

/// The numbers of the values from the smallest to the greatest, equal ones in the order in which they come.
pub fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| compare(values[*a], values[*b]));
    order
}

/// Runs of equal values along `order`.
pub fn ties<'a>(values: &'a [f64], order: &'a [usize]) -> impl Iterator<Item = &'a [usize]> {
    order.chunk_by(|a, b| values[*a] == values[*b])
}

/// The ranks of values from 1, the smallest first; what is missing (NaN) has none and stays NaN.
pub fn ranks(values: &[f64], method: Ties) -> Vec<f64> {
    if let (Ties::Average, Some(ranks)) = (method, counted(values)) {
        return ranks;
    }
    let mut order = order(values);
    order.retain(|index| !values[*index].is_nan());
    let mut ranks = vec![f64::NAN; values.len()];
    let (mut before, mut distinct) = (0, 0);
    for run in ties(values, &order) {
        for (place, index) in run.iter().enumerate() {
            ranks[*index] = match method {
                Ties::Average => before as f64 + (run.len() as f64 + 1.0) / 2.0,
                Ties::Min => before as f64 + 1.0,
                Ties::Max => (before + run.len()) as f64,
                Ties::Dense => f64::from(distinct) + 1.0,
                Ties::Ordinal => (before + place) as f64 + 1.0,
            };
        }
        before += run.len();
        distinct += 1;
    }
    ranks
}

/// Average ranks without sorting, where all values are whole numbers that are small for so many: marks, labels, and ranks
/// of which some were drawn.
fn counted(values: &[f64]) -> Option<Vec<f64>> {
    let most = 2.0 * values.len() as f64;
    if !values.iter().all(|value| (0.0..most).contains(value) && value.fract() == 0.0) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and small")]
    let place = |value: &f64| *value as usize;
    let mut counts = vec![0.0; 2 * values.len()];
    values.iter().for_each(|value| counts[place(value)] += 1.0);
    let mut before = 0.0;
    for count in &mut counts {
        let run = *count;
        *count = before + (run + 1.0) / 2.0;
        before += run;
    }
    Some(values.iter().map(|value| counts[place(value)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_equal_pandas() {
        // pandas 3.1: Series([3, 1, NaN, 3, -0.0, 0.0, 3]).rank(method=…), `first` for ordinal
        const NAN: f64 = f64::NAN;
        let values = [3.0, 1.0, NAN, 3.0, -0.0, 0.0, 3.0];
        for (method, expected) in [
            (Ties::Average, [5.0, 3.0, NAN, 5.0, 1.5, 1.5, 5.0]),
            (Ties::Min, [4.0, 3.0, NAN, 4.0, 1.0, 1.0, 4.0]),
            (Ties::Max, [6.0, 3.0, NAN, 6.0, 2.0, 2.0, 6.0]),
            (Ties::Dense, [3.0, 2.0, NAN, 3.0, 1.0, 1.0, 3.0]),
            (Ties::Ordinal, [4.0, 3.0, NAN, 5.0, 1.0, 2.0, 6.0]),
        ] {
            // As texts: NaN is not equal to itself.
            assert_eq!(format!("{:?}", ranks(&values, method)), format!("{expected:?}"), "{method:?}");
        }
        assert!(ranks(&[], Ties::Average).is_empty());
    }

    #[test]
    fn whole_numbers_are_ranked_without_sorting() {
        let values: Vec<f64> = [3, 0, 3, 7, 1, 3, 0].map(f64::from).to_vec();
        let halves: Vec<f64> = values.iter().map(|value| value / 2.0).collect();
        assert_eq!(counted(&halves), None);
        assert_eq!(counted(&values), Some(ranks(&halves, Ties::Average)));
        for others in [[-1.0, 0.0], [4.0, 0.0], [f64::NAN, 0.0], [f64::INFINITY, 0.0]] {
            assert_eq!(counted(&others), None, "{others:?}");
        }
    }
}
