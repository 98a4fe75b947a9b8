//! Values in an order, and values against others.

/// Exponential smoothing: each value is `weight` of what is there and the rest of what was before, as pandas'
/// `ewm(alpha=weight, adjust=False).mean()` has it. (TensorBoard's smoothing is 1 − `weight`, and it makes the first values
/// less dependent on the very first.) A missing value (NaN) repeats what was before, and the next one then weighs more, as
/// if time had passed.
pub fn smooth(values: &[f64], weight: f64) -> Vec<f64> {
    let (mut smoothed, mut past) = (f64::NAN, 1.0);
    let mut next = |value: f64| {
        past *= 1.0 - weight;
        if smoothed.is_nan() {
            (smoothed, past) = (value, 1.0);
        } else if !value.is_nan() {
            smoothed = (past * smoothed + weight * value) / (past + weight);
            past = 1.0;
        }
        smoothed
    };
    values.iter().map(|value| next(*value)).collect()
}

/// By what part of `from` the value has grown: (to − from) / from. Not defined from 0.
pub fn relative(from: f64, to: f64) -> Option<f64> {
    let gain = (to - from) / from;
    gain.is_finite().then_some(gain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_equals_pandas() {
        // pandas 3.1: Series([…]).ewm(alpha=0.1, adjust=False).mean()
        const NAN: f64 = f64::NAN;
        let expected = [NAN, 3.0, 2.8, 2.8, 2.8, 3.427261761158022, 3.78453558504222];
        let smoothed = smooth(&[NAN, 3.0, 1.0, NAN, NAN, 8.0, 7.0], 0.1);
        assert!(smoothed[0].is_nan());
        for (found, expected) in smoothed.iter().zip(expected).skip(1) {
            assert!((found - expected).abs() < 1e-14, "{smoothed:?}");
        }
    }

    #[test]
    fn a_gain_from_nothing_is_not_defined() {
        assert_eq!((relative(4.0, 5.0), relative(-4.0, -5.0)), (Some(0.25), Some(0.25)));
        assert_eq!((relative(0.0, 5.0), relative(0.0, 0.0), relative(f64::NAN, 1.0)), (None, None, None));
    }
}
