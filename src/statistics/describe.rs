//! Count, mean, standard deviation and confidence interval of one group's values.

use statrs::distribution::{Continuous, ContinuousCDF, StudentsT};

/// How sure a confidence interval is.
pub const CONFIDENCE: f64 = 0.95;

/// What is known of a mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many values.
    pub count: usize,
    /// Their mean; none of no values.
    pub mean: Option<f64>,
    /// Standard deviation of the sample (divided by count − 1); none of fewer than two values.
    pub std: Option<f64>,
    /// 95% confidence interval of the mean, Student's: mean ± t(0.975, count − 1) · std / √count; none of fewer than two
    /// values.
    pub interval: Option<(f64, f64)>,
}

/// Sums up `values`.
pub fn summarise(values: &[f64]) -> Summary {
    let Some(mean) = mean(values) else {
        return Summary { count: 0, mean: None, std: None, interval: None };
    };
    if values.len() < 2 {
        return Summary { count: 1, mean: Some(mean), std: None, interval: None };
    }
    let n = values.len() as f64;
    let std = deviation(values, mean, n - 1.0);
    let half = t_quantile(f64::midpoint(1.0, CONFIDENCE), n - 1.0) * std / n.sqrt();
    Summary { count: values.len(), mean: Some(mean), std: Some(std), interval: Some((mean - half, mean + half)) }
}

/// The standard deviation, the squares' sum divided by count − `ddof` ('delta degrees of freedom', as numpy calls it: 1
/// of a sample, 0 of all there is); none where nothing is left to divide by.
pub fn std(values: &[f64], ddof: usize) -> Option<f64> {
    (values.len() > ddof).then(|| Some(deviation(values, mean(values)?, (values.len() - ddof) as f64)))?
}

fn deviation(values: &[f64], mean: f64, freedom: f64) -> f64 {
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / freedom).sqrt()
}

/// The value in the middle, or the mean of the two there; none of no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// The arithmetic mean; none of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The value below which the part `probability` of sorted values lies, by linear interpolation between neighbours, as
/// numpy and pandas have it (R's type 7); none of no values.
pub fn quantile(sorted: &[f64], probability: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = probability.clamp(0.0, 1.0) * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let below = place.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    Some(low + (high - low) * (place - below as f64))
}

/// The quantile of Student's t distribution with `freedom` degrees.
fn t_quantile(probability: f64, freedom: f64) -> f64 {
    let Ok(distribution) = StudentsT::new(0.0, 1.0, freedom) else { return f64::NAN };
    // statrs finds the quantile to six digits where there are many degrees; its distribution function is better, and
    // two steps of Newton's bring the quantile to that.
    let newton = |t: f64| t - (distribution.cdf(t) - probability) / distribution.pdf(t);
    newton(newton(distribution.inverse_cdf(probability)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_equal_numpy_s() {
        // numpy 2.4: numpy.quantile([1, 2, 4, 8], p)
        for (probability, expected) in [(0.0, 1.0), (0.1, 1.3), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            let found = quantile(&[1.0, 2.0, 4.0, 8.0], probability).unwrap();
            assert!((found - expected).abs() < 1e-12, "{probability}: {found}");
        }
        assert_eq!((quantile(&[], 0.5), quantile(&[3.0], 0.9)), (None, Some(3.0)));
    }

    #[test]
    fn deviations_and_medians_equal_numpy_s() {
        // numpy 2.4: numpy.std([8, 1, 4, 2], ddof=…), numpy.median
        let values = [8.0, 1.0, 4.0, 2.0];
        assert_eq!(std(&values, 0), Some(2.680_951_323_690_902));
        assert_eq!(std(&values, 1), Some(3.095_695_936_834_452));
        assert_eq!((std(&values[..1], 1), std(&values[..1], 0), std(&[], 0)), (None, Some(0.0), None));
        assert_eq!((median(&values), median(&values[..3]), median(&[])), (Some(3.0), Some(4.0), None));
    }

    #[test]
    fn quantiles_equal_scipy_s() {
        // scipy 1.17: scipy.stats.t.ppf(0.975, freedom)
        for (freedom, expected) in T_QUANTILES {
            let found = t_quantile(0.975, *freedom);
            assert!((found / expected - 1.0).abs() < 1e-10, "{freedom}: {found} {expected}");
        }
    }

    const T_QUANTILES: &[(f64, f64)] = &[
        (1.0, 12.706204736174694),
        (2.0, 4.302652729749462),
        (3.0, 3.1824463052837078),
        (4.0, 2.7764451051977934),
        (9.0, 2.262157162798205),
        (29.0, 2.045229642132703),
        (399.0, 1.965927295920882),
        (99999.0, 1.9599877077718442),
    ];
}
