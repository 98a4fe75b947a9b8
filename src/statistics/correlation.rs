//! Correlations of pairs, with p-values.
//!
//! What is missing is NaN, and a pair with a missing side is left out, as pandas does it. A correlation of fewer than two
//! pairs, or of values that are all equal, is not defined: `None`, never 0.

use super::distribution::correlation_p;
use super::kendall;
use super::rank::{Ties, ranks};

/// A kind of correlation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correlation {
    /// Of the values: Pearson's r.
    Pearson,
    /// Of their ranks: Spearman's ρ, equal values with the mean of their ranks.
    Spearman,
    /// Of the order of each two pairs: Kendall's τ-b.
    Kendall,
}

/// A statistic with what a test says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tested {
    /// The statistic.
    pub value: f64,
    /// How likely one as far out is where there is nothing to be found, on either side (two-sided); none where that is not
    /// defined.
    pub p: Option<f64>,
}

impl Correlation {
    /// The correlation of two lists of one length.
    pub fn of(self, x: &[f64], y: &[f64]) -> Option<f64> {
        let (x, y) = complete(x, y);
        self.value(&x, &y)
    }

    /// The same with scipy's two-sided p-value: of Pearson's and Spearman's by Student's distribution, of Kendall's exactly
    /// where there are few pairs and no ties, else by the normal distribution.
    pub fn test(self, x: &[f64], y: &[f64]) -> Option<Tested> {
        let (x, y) = complete(x, y);
        let value = self.value(&x, &y)?;
        let p = match self {
            // Two points lie on a line, whatever they are.
            Self::Pearson if x.len() == 2 => Some(1.0),
            Self::Spearman if x.len() == 2 => None,
            Self::Pearson | Self::Spearman => Some(correlation_p(value, x.len())),
            Self::Kendall => kendall::Order::of(&x, &y).p(),
        };
        Some(Tested { value, p })
    }

    /// Of pairs that are complete.
    fn value(self, x: &[f64], y: &[f64]) -> Option<f64> {
        match self {
            Self::Pearson => pearson(x, y),
            Self::Spearman => spearman(x, y),
            Self::Kendall => kendall::Order::of(x, y).tau(),
        }
    }
}

/// The pairs of which both sides are there.
pub fn complete(x: &[f64], y: &[f64]) -> (Vec<f64>, Vec<f64>) {
    x.iter().zip(y).filter(|(x, y)| !x.is_nan() && !y.is_nan()).unzip()
}

/// Pearson's r of complete pairs; infinite values have none.
fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    product_moment(&centred(x)?, &centred(y)?)
}

/// Spearman's ρ of complete pairs.
fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    // Whole numbers whose sum is 0: sums of their products are exact, and so is a ρ of 1.
    let centred = |values: &[f64]| -> Vec<f64> {
        ranks(values, Ties::Average).iter().map(|rank| 2.0 * rank - (values.len() as f64 + 1.0)).collect()
    };
    product_moment(&centred(x), &centred(y))
}

fn product_moment(x: &[f64], y: &[f64]) -> Option<f64> {
    let sum = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
    let r = sum(x, y) / (sum(x, x) * sum(y, y)).sqrt();
    (!r.is_nan()).then(|| r.clamp(-1.0, 1.0))
}

/// The values less their mean, the farthest of them at a distance of 1. None of fewer than two values and of equal ones.
fn centred(values: &[f64]) -> Option<Vec<f64>> {
    let first = values.first()?;
    if values.iter().all(|value| value == first) {
        return None;
    }
    let count = values.len() as f64;
    // The difference to the first value first, and the mean of what rounding left: values that lie far from zero and near
    // each other keep their digits.
    let mut centred: Vec<f64> = values.iter().map(|value| value - first).collect();
    for _ in 0..2 {
        let mean = centred.iter().sum::<f64>() / count;
        centred.iter_mut().for_each(|value| *value -= mean);
    }
    // Squares of very large and very small numbers would leave the range.
    let most = centred.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    centred.iter_mut().for_each(|value| *value /= most);
    Some(centred)
}
