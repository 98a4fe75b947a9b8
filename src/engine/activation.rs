//! The functions of feed-forward layers, one number at a time, and their slopes.

use super::kernels::{exp, sigmoid};
use anyhow::{Result, bail};

/// A function of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// `x · Φ(x)`, with the normal distribution's Φ.
    Gelu,
    /// The same with a hyperbolic tangent in the place of Φ (arXiv 1606.08415).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// By its name in transformers.
    pub fn read(name: &str) -> Result<Self> {
        Ok(match name {
            "silu" | "swish" => Self::Silu,
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" => Self::GeluTanh,
            "relu" => Self::Relu,
            "tanh" => Self::Tanh,
            _ => bail!("the activation is `{name}`: known are silu, gelu, gelu_new, gelu_pytorch_tanh, relu and tanh"),
        })
    }

    /// `out = f(x)`.
    #[inline(always)]
    pub fn apply(self, out: &mut [f32], x: &[f32]) {
        #[inline(always)]
        fn each(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
            for (out, x) in out.iter_mut().zip(x) {
                *out = f(*x);
            }
        }
        match self {
            Self::Silu => each(out, x, silu),
            Self::Gelu => each(out, x, gelu),
            Self::GeluTanh => each(out, x, gelu_tanh),
            Self::Relu => each(out, x, relu),
            Self::Tanh => each(out, x, tanh),
        }
    }

    /// Gradient of [`Self::apply`].
    pub fn apply_backward(self, dx: &mut [f32], x: &[f32], grad: &[f32]) {
        fn each(dx: &mut [f32], x: &[f32], grad: &[f32], slope: impl Fn(f32) -> (f32, f32)) {
            for ((dx, x), grad) in dx.iter_mut().zip(x).zip(grad) {
                *dx = grad * slope(*x).1;
            }
        }
        match self {
            Self::Silu => each(dx, x, grad, silu_slope),
            Self::Gelu => each(dx, x, grad, gelu_slope),
            Self::GeluTanh => each(dx, x, grad, gelu_tanh_slope),
            Self::Relu => each(dx, x, grad, relu_slope),
            Self::Tanh => each(dx, x, grad, tanh_slope),
        }
    }

    /// `out = f(gate) · up`.
    pub fn gated(self, out: &mut [f32], gate: &[f32], up: &[f32]) {
        fn each(out: &mut [f32], gate: &[f32], up: &[f32], f: impl Fn(f32) -> f32) {
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = f(*gate) * up;
            }
        }
        match self {
            Self::Silu => each(out, gate, up, silu),
            Self::Gelu => each(out, gate, up, gelu),
            Self::GeluTanh => each(out, gate, up, gelu_tanh),
            Self::Relu => each(out, gate, up, relu),
            Self::Tanh => each(out, gate, up, tanh),
        }
    }

    /// Gradients of [`Self::gated`] by `gate` and `up`.
    pub fn gated_backward(self, dgate: &mut [f32], dup: &mut [f32], gate: &[f32], up: &[f32], grad: &[f32]) {
        dgate.copy_from_slice(gate);
        dup.copy_from_slice(up);
        self.gated_backward_in_place(dgate, dup, grad);
    }

    /// The same in the places of `gate` and `up`.
    pub fn gated_backward_in_place(self, gate: &mut [f32], up: &mut [f32], grad: &[f32]) {
        fn each(gate: &mut [f32], up: &mut [f32], grad: &[f32], slope: impl Fn(f32) -> (f32, f32)) {
            for ((gate, up), grad) in gate.iter_mut().zip(up).zip(grad) {
                let (value, slope) = slope(*gate);
                *gate = grad * *up * slope;
                *up = grad * value;
            }
        }
        match self {
            Self::Silu => each(gate, up, grad, silu_slope),
            Self::Gelu => each(gate, up, grad, gelu_slope),
            Self::GeluTanh => each(gate, up, grad, gelu_tanh_slope),
            Self::Relu => each(gate, up, grad, relu_slope),
            Self::Tanh => each(gate, up, grad, tanh_slope),
        }
    }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline]
fn silu_slope(x: f32) -> (f32, f32) {
    let sigmoid = sigmoid(x);
    let silu = x * sigmoid;
    (silu, sigmoid + silu * (1.0 - sigmoid))
}

/// The error function to about 1 unit in the last place, without branches (N. Juffa's polynomials).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let (t, s) = (x.abs(), x * x);
    let r = -1.728_534_7e-5 * t + 3.831_971_3e-4;
    let u = -3.883_964_4e-3 * t + 2.425_462_2e-2;
    let r = ((r * s + u) * t - 1.067_778_8e-1) * t - 6.348_467e-1;
    let far = (1.0 - exp((r * t - 1.287_175_1e-1) * t - t)).copysign(x);
    let r = ((-5.967_617e-4 * s + 4.991_194_2e-3) * s - 2.676_813_5e-2) * s + 1.128_199_25e-1;
    let near = ((r * s - 3.761_253_4e-1) * s + 1.283_791_7e-1) * x + x;
    if t > 0.927_734_4 { far } else { near }
}

/// Φ of the normal distribution.
#[inline(always)]
fn normal(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    x * normal(x)
}

#[inline]
fn gelu_slope(x: f32) -> (f32, f32) {
    /// `1 / √(2π)`.
    const DENSITY: f32 = 0.398_942_3;
    let share = normal(x);
    (x * share, share + x * DENSITY * exp(-0.5 * x * x))
}

/// `0.5 · (1 + tanh(y))` is `sigmoid(2y)`.
const TWICE_ROOT: f32 = 2.0 * 0.797_884_6;
const CUBE: f32 = 0.044_715;

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    x * sigmoid(TWICE_ROOT * (x + CUBE * x * x * x))
}

#[inline]
fn gelu_tanh_slope(x: f32) -> (f32, f32) {
    let share = sigmoid(TWICE_ROOT * (x + CUBE * x * x * x));
    let value = x * share;
    (value, share + value * (1.0 - share) * TWICE_ROOT * (1.0 + 3.0 * CUBE * x * x))
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    x.max(0.0)
}

#[inline]
fn relu_slope(x: f32) -> (f32, f32) {
    (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 })
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

#[inline]
fn tanh_slope(x: f32) -> (f32, f32) {
    let tanh = tanh(x);
    (tanh, 1.0 - tanh * tanh)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 5] =
        [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Tanh];

    fn value(activation: Activation, x: f32) -> f64 {
        let mut out = [0.0];
        activation.apply(&mut out, &[x]);
        f64::from(out[0])
    }

    #[test]
    fn values_are_those_of_torch() {
        // torch.nn.functional's definitions at 1.3, -0.7 and 3, worked out in double precision.
        let expected = [
            (Activation::Silu, [1.021_585_5, -0.232_268_6, 2.857_722_4]),
            (Activation::Gelu, [1.174_159_4, -0.169_374_6, 2.995_950_3]),
            (Activation::GeluTanh, [1.173_929_0, -0.169_429_9, 2.996_362_6]),
            (Activation::Relu, [1.3, 0.0, 3.0]),
            (Activation::Tanh, [0.861_723_2, -0.604_367_8, 0.995_054_8]),
        ];
        for (activation, values) in expected {
            for (x, expected) in [1.3, -0.7, 3.0].into_iter().zip(values) {
                let actual = value(activation, x);
                assert!((actual - expected).abs() < 1e-6, "{activation:?}({x}): {actual} is not {expected}");
            }
        }
    }

    #[test]
    fn gradients_are_the_slopes() {
        let x: Vec<f32> = (0..37).map(|i| i as f32 / 5.0 - 3.5).collect();
        let (up, grad) = (vec![0.7; x.len()], vec![-1.5; x.len()]);
        for activation in ALL {
            let mut dx = vec![0.0; x.len()];
            activation.apply_backward(&mut dx, &x, &grad);
            let (mut dgate, mut dup) = (dx.clone(), dx.clone());
            activation.gated_backward(&mut dgate, &mut dup, &x, &up, &grad);
            for (i, x) in x.iter().enumerate() {
                let slope = (value(activation, x + 1e-2) - value(activation, x - 1e-2)) / 2e-2;
                assert!((f64::from(dx[i]) + 1.5 * slope).abs() < 1e-3, "{activation:?}({x})");
                assert!((f64::from(dgate[i]) + 1.5 * 0.7 * slope).abs() < 1e-3, "{activation:?}({x})");
                assert!((f64::from(dup[i]) + 1.5 * value(activation, *x)).abs() < 1e-5, "{activation:?}({x})");
            }
        }
    }

    #[test]
    fn erf_is_the_error_function() {
        // To ten digits, from tables.
        for (x, expected) in [(0.1, 0.112_462_916), (0.5, 0.520_499_878), (1.0, 0.842_700_793), (2.0, 0.995_322_265)] {
            assert!((f64::from(erf(x)) - expected).abs() < 1e-7, "erf({x})");
            assert!((f64::from(erf(-x)) + expected).abs() < 1e-7, "erf(-{x})");
        }
    }
}
