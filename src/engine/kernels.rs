//! The arithmetic of single rows: norms, softmax, and their gradients.
//!
//! Each function works on the row that it is given, in an order that only the row's length fixes. So a row's bits depend
//! neither on its neighbours nor on threads. Training and prediction share them.

use std::borrow::Cow;

/// Numbers that are summed side by side, so that the compiler can use vector registers.
pub const LANES: usize = 16;

/// `Σ a[i] · b[i]`.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// `e^x` to about 2 units in the last place, without branches (the polynomial of Cephes' `expf`). The same bits on every
/// machine, which the C library's `expf` does not promise.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // ln 2 in two parts, the first with few enough bits that its products are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    // Adding 1.5 · 2^23 rounds to a whole number, and leaves that number in the lowest bits.
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    (p * r * r + r + 1.0) * power
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `cap · tanh(x / cap)` of every number: small ones stay as they are, and none is larger than the cap.
pub fn soft_cap(row: &mut [f32], cap: f32) {
    let scale = 2.0 / cap;
    row.iter_mut().for_each(|x| *x = cap * (2.0 * sigmoid(scale * *x) - 1.0));
}

/// The slope of [`soft_cap`] where it gave `y`.
pub fn soft_cap_slope(y: f32, cap: f32) -> f32 {
    let tanh = y / cap;
    1.0 - tanh * tanh
}

// What is inlined always becomes part of functions that are compiled for wider registers.

/// Replaces scores by their softmax; returns the logarithm of the sum of their exponentials.
#[inline(always)]
pub fn softmax(row: &mut [f32]) -> f32 {
    let max = row.iter().fold(f32::NEG_INFINITY, |max, value| max.max(*value));
    let mut lanes = [0.0f32; LANES];
    for chunk in row.chunks_mut(LANES) {
        for (value, lane) in chunk.iter_mut().zip(&mut lanes) {
            *value = exp(*value - max);
            *lane += *value;
        }
    }
    let sum: f32 = lanes.iter().sum();
    let scale = 1.0 / sum;
    row.iter_mut().for_each(|value| *value *= scale);
    max + sum.ln()
}

/// The logarithm of the sum of the exponentials of a row.
pub fn log_sum_exp(row: &[f32]) -> f32 {
    let max = row.iter().fold(f32::NEG_INFINITY, |max, value| max.max(*value));
    let mut lanes = [0.0f32; LANES];
    for chunk in row.chunks(LANES) {
        for (value, lane) in chunk.iter().zip(&mut lanes) {
            *lane += exp(*value - max);
        }
    }
    max + lanes.iter().sum::<f32>().ln()
}

/// `1 / sqrt(mean(x²) + eps)`.
#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

/// RMS norm of one row: `weight · x / sqrt(mean(x²) + eps)`.
fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let scale = inverse_rms(x, eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = weight * (x * scale);
    }
}

/// Gradient of [`rms_norm`] by `x`.
#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
fn rms_norm_backward(dx: &mut [f32], x: &[f32], weight: &[f32], grad: &[f32], eps: f32) {
    let scale = inverse_rms(x, eps);
    for ((dx, grad), weight) in dx.iter_mut().zip(grad).zip(weight) {
        *dx = grad * weight;
    }
    let along = dot(dx, x) * scale * scale * scale / x.len() as f32;
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = *dx * scale - x * along;
    }
}

/// Adds the gradient of [`rms_norm`] by its weight.
fn rms_norm_weight_backward(dweight: &mut [f32], x: &[f32], grad: &[f32], eps: f32) {
    let scale = inverse_rms(x, eps);
    for ((dweight, x), grad) in dweight.iter_mut().zip(x).zip(grad) {
        *dweight += grad * (x * scale);
    }
}

/// What a norm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `weight · x / sqrt(mean(x²) + eps)`.
    Rms,
    /// The same with `1 + weight`.
    RmsPlusOne,
    /// `weight · (x - mean(x)) / sqrt(variance(x) + eps)`, and a bias where there is one.
    Layer {
        /// Whether there is one.
        bias: bool,
    },
}

impl NormKind {
    /// What a row is multiplied by: the weight of a file, or one more.
    pub fn factors(self, weight: &[f32]) -> Cow<'_, [f32]> {
        match self {
            NormKind::RmsPlusOne => weight.iter().map(|weight| 1.0 + weight).collect(),
            NormKind::Rms | NormKind::Layer { .. } => weight.into(),
        }
    }

    /// The norm of one row, without the bias; `factors` are those of [`Self::factors`].
    #[inline(always)]
    pub fn apply(self, out: &mut [f32], x: &[f32], factors: &[f32], eps: f32) {
        match self {
            NormKind::Rms | NormKind::RmsPlusOne => rms_norm(out, x, factors, eps),
            NormKind::Layer { .. } => layer_norm(out, x, factors, eps),
        }
    }

    /// Gradient of [`Self::apply`] by `x`.
    #[inline]
    pub fn backward(self, dx: &mut [f32], x: &[f32], factors: &[f32], grad: &[f32], eps: f32) {
        match self {
            NormKind::Rms | NormKind::RmsPlusOne => rms_norm_backward(dx, x, factors, grad, eps),
            NormKind::Layer { .. } => layer_norm_backward(dx, x, factors, grad, eps),
        }
    }

    /// Adds the gradient of [`Self::apply`] by the weight.
    #[inline]
    pub fn weight_backward(self, dweight: &mut [f32], x: &[f32], grad: &[f32], eps: f32) {
        match self {
            NormKind::Rms | NormKind::RmsPlusOne => rms_norm_weight_backward(dweight, x, grad, eps),
            NormKind::Layer { .. } => layer_norm_weight_backward(dweight, x, grad, eps),
        }
    }
}

/// Mean, and `1 / sqrt(variance + eps)`.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mut sums = [0.0f32; LANES];
    for chunk in x.chunks(LANES) {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    let mean = sums.iter().sum::<f32>() / width;
    let mut squares = [0.0f32; LANES];
    for chunk in x.chunks(LANES) {
        for (square, x) in squares.iter_mut().zip(chunk) {
            *square += (x - mean) * (x - mean);
        }
    }
    (mean, 1.0 / (squares.iter().sum::<f32>() / width + eps).sqrt())
}

#[inline(always)]
fn layer_norm(out: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let (mean, scale) = moments(x, eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = weight * ((x - mean) * scale);
    }
}

#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
fn layer_norm_backward(dx: &mut [f32], x: &[f32], weight: &[f32], grad: &[f32], eps: f32) {
    let (mean, scale) = moments(x, eps);
    let width = x.len() as f32;
    for ((dx, grad), weight) in dx.iter_mut().zip(grad).zip(weight) {
        *dx = grad * weight;
    }
    let even = dx.iter().sum::<f32>() / width;
    let along = dx.iter().zip(x).map(|(dx, x)| dx * (x - mean)).sum::<f32>() * scale * scale / width;
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = (*dx - even - (x - mean) * along) * scale;
    }
}

fn layer_norm_weight_backward(dweight: &mut [f32], x: &[f32], grad: &[f32], eps: f32) {
    let (mean, scale) = moments(x, eps);
    for ((dweight, x), grad) in dweight.iter_mut().zip(x).zip(grad) {
        *dweight += grad * ((x - mean) * scale);
    }
}

/// `row += bias` for every row.
#[inline(always)]
pub fn add_to_rows(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The derivative of `f` at `x` by central differences in each coordinate.
    fn slope(x: &[f32], f: impl Fn(&[f32]) -> f64) -> Vec<f32> {
        let step = 1e-2f32;
        (0..x.len())
            .map(|i| {
                let mut moved = x.to_vec();
                moved[i] = x[i] + step;
                let above = f(&moved);
                moved[i] = x[i] - step;
                ((above - f(&moved)) / f64::from(2.0 * step)) as f32
            })
            .collect()
    }

    fn wave(count: usize, phase: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.7 + phase).sin()).collect()
    }

    /// Central differences with this step are good to about 1e-3 on these functions.
    fn assert_close(actual: &[f32], expected: &[f32]) {
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((actual - expected).abs() < 2e-3, "{actual} is not {expected}");
        }
    }

    fn weighted(out: &[f32], grad: &[f32]) -> f64 {
        out.iter().zip(grad).map(|(out, grad)| f64::from(*out) * f64::from(*grad)).sum()
    }

    #[test]
    fn exp_is_the_exponential() {
        for i in -860..=880 {
            let x = i as f32 / 10.0;
            let expected = f64::from(x).exp();
            // 3 units in the last place.
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 3.6e-7, "exp({x})");
        }
    }

    #[test]
    fn softmax_sums_to_one_at_any_length() {
        for length in [1, 2, 15, 16, 17, 100] {
            let mut row = wave(length, 0.3);
            let expected: Vec<f64> = row.iter().map(|x| f64::from(*x).exp()).collect();
            let sum: f64 = expected.iter().sum();
            assert!((f64::from(log_sum_exp(&row)) - sum.ln()).abs() < 1e-5);
            assert!((f64::from(softmax(&mut row)) - sum.ln()).abs() < 1e-5);
            for (row, expected) in row.iter().zip(&expected) {
                assert!((f64::from(*row) - expected / sum).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn gradients_are_the_slopes() {
        let (x, weight, grad) = (wave(19, 0.1), wave(19, 1.0), wave(19, 2.0));
        let kinds = [NormKind::Rms, NormKind::RmsPlusOne, NormKind::Layer { bias: false }];
        for kind in kinds {
            let norm = |x: &[f32], weight: &[f32]| {
                let mut out = vec![0.0; x.len()];
                kind.apply(&mut out, x, &kind.factors(weight), 1e-5);
                weighted(&out, &grad)
            };
            let mut dx = vec![0.0; 19];
            kind.backward(&mut dx, &x, &kind.factors(&weight), &grad, 1e-5);
            assert_close(&dx, &slope(&x, |x| norm(x, &weight)));
            let mut dweight = vec![0.0; 19];
            kind.weight_backward(&mut dweight, &x, &grad, 1e-5);
            assert_close(&dweight, &slope(&weight, |weight| norm(&x, weight)));
        }
    }

    #[test]
    fn caps_are_those_of_a_tangent() {
        let x = wave(40, 0.2).into_iter().map(|x| 30.0 * x).chain([0.0, 1e-3, 500.0, -500.0]);
        for x in x {
            let (mut y, tanh) = ([x], (f64::from(x) / 12.0).tanh());
            soft_cap(&mut y, 12.0);
            assert!((f64::from(y[0]) - 12.0 * tanh).abs() < 3e-6, "{x}: {}", y[0]);
            assert!((f64::from(soft_cap_slope(y[0], 12.0)) - (1.0 - tanh * tanh)).abs() < 1e-6, "{x}");
        }
    }

    #[test]
    fn a_layer_norm_has_mean_0_and_deviation_1() {
        let mut out = vec![0.0; 19];
        NormKind::Layer { bias: true }.apply(&mut out, &wave(19, 0.1), &[1.0; 19], 0.0);
        assert!(out.iter().sum::<f32>().abs() < 1e-5);
        assert!((out.iter().map(|x| x * x).sum::<f32>() - 19.0).abs() < 1e-4);
    }
}
