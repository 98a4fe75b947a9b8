//! What happens to each token, or each number, by itself; and the loss.

use super::linear::Matrix;
use super::{Plain, given};
use crate::engine::activation::Activation;
use crate::engine::kernels::NormKind;
use crate::engine::train::ops::Norm as NormOp;
use anyhow::Result;
use candle_core::{D, DType, Tensor};

/// Rows brought to one size: what they are then, and what they were multiplied by.
fn normalised(x: &Tensor, op: NormOp) -> candle_core::Result<(Tensor, Tensor)> {
    let x = match op.kind {
        NormKind::Rms | NormKind::RmsPlusOne => x.clone(),
        NormKind::Layer { .. } => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
    };
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(op.eps))?.sqrt()?.recip()?;
    Ok((x.broadcast_mul(&scale)?, scale))
}

/// `x` as rows of f32 that are `width` wide.
fn rows_of(x: &Tensor, width: usize) -> candle_core::Result<Tensor> {
    x.reshape(((), width))?.to_dtype(DType::F32)
}

/// A norm that is not trained.
pub(super) fn frozen_norm(x: &Tensor, factors: &Tensor, bias: Option<&Tensor>, op: NormOp) -> Result<Tensor> {
    let (shape, dtype, width) = (x.shape().clone(), x.dtype(), factors.elem_count());
    let x_alone = x.detach();
    let (normed, _) = normalised(&rows_of(&x_alone, width)?, op)?;
    let mut y = normed.broadcast_mul(factors)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(bias)?;
    }
    let (value, factors) = (y.to_dtype(dtype)?.reshape(&shape)?, factors.clone());
    Ok(given::one(x, value, move |grad| {
        let (normed, scale) = normalised(&rows_of(&x_alone, width)?, op)?;
        let grad = rows_of(grad, width)?.broadcast_mul(&factors)?;
        let along = (&grad * &normed)?.mean_keepdim(D::Minus1)?;
        let mut dx = (&grad - normed.broadcast_mul(&along)?)?;
        if let NormKind::Layer { .. } = op.kind {
            dx = dx.broadcast_sub(&grad.mean_keepdim(D::Minus1)?)?;
        }
        dx.broadcast_mul(&scale)?.to_dtype(dtype)?.reshape(&shape)
    })?)
}

/// A norm whose weight is trained, without its bias.
pub(super) fn trained_norm(x: &Tensor, weight: &Tensor, op: NormOp) -> Result<Tensor> {
    let (normed, _) = normalised(&rows_of(x, weight.elem_count())?, op)?;
    let factors = match op.kind {
        NormKind::RmsPlusOne => (weight + 1.0)?,
        NormKind::Rms | NormKind::Layer { .. } => weight.clone(),
    };
    Ok(normed.broadcast_mul(&factors)?.to_dtype(x.dtype())?.reshape(x.shape())?)
}

fn value(f: Activation, x: &Tensor) -> candle_core::Result<Tensor> {
    match f {
        Activation::Silu => x.silu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
    }
}

fn sigmoid(x: &Tensor) -> candle_core::Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// The slope at `x`, which is f32.
fn slope(f: Activation, x: &Tensor) -> candle_core::Result<Tensor> {
    // `s + g · x · g'` of `x · g(x)`, with the share `g` that goes through.
    match f {
        Activation::Silu => {
            let share = sigmoid(x)?;
            let rest = (1.0 - &share)?;
            &share + ((x * &share)? * rest)?
        }
        Activation::Gelu => {
            let share = ((x / std::f64::consts::SQRT_2)?.erf()? + 1.0)?.affine(0.5, 0.0)?;
            let density = ((x.sqr()? * -0.5)?.exp()? / std::f64::consts::TAU.sqrt())?;
            share + (x * density)?
        }
        Activation::GeluTanh => {
            // As `engine::activation` has it: `0.5 · (1 + tanh(y))` is `sigmoid(2y)`.
            let (root, cube) = (2.0 * (2.0 / std::f64::consts::PI).sqrt(), 0.044_715);
            let square = x.sqr()?;
            let share = sigmoid(&(x * (square.affine(cube, 1.0)? * root)?)?)?;
            let inner = (square.affine(3.0 * cube, 1.0)? * root)?;
            let rest = (1.0 - &share)?;
            &share + ((x * &share)? * (rest * inner)?)?
        }
        Activation::Relu => x.gt(0f32)?.to_dtype(x.dtype()),
        Activation::Tanh => 1.0 - x.tanh()?.sqr()?,
    }
}

/// `f(x)`.
pub(super) fn activate(x: &Tensor, f: Activation) -> Result<Tensor> {
    let alone = x.detach();
    Ok(given::one(x, value(f, &alone)?, move |grad| {
        (grad.to_dtype(DType::F32)? * slope(f, &alone.to_dtype(DType::F32)?)?)?.to_dtype(grad.dtype())
    })?)
}

/// `f(gate) · up`.
pub(super) fn gated(gate: &Tensor, up: &Tensor, f: Activation) -> Result<Tensor> {
    let (gate_alone, up_alone) = (gate.detach(), up.detach());
    let y = (value(f, &gate_alone)? * &up_alone)?;
    Ok(given::two([gate, up], y, move |grad| Ok(gated_back(&gate_alone, &up_alone, f, grad)?.map(Some)))?)
}

/// Gradients of [`gated`] by `gate` and `up`.
fn gated_back(gate: &Tensor, up: &Tensor, f: Activation, grad: &Tensor) -> candle_core::Result<[Tensor; 2]> {
    let slope = slope(f, &gate.to_dtype(DType::F32)?)?;
    let of_gate = ((grad * up)?.to_dtype(DType::F32)? * slope)?.to_dtype(grad.dtype())?;
    Ok([of_gate, (grad * value(f, gate)?)?])
}

/// A whole gated feed-forward layer of which nothing learns. The product in its middle, which is as wide as gate and up,
/// is not kept.
pub(super) fn frozen_gated(x: &Tensor, [gate, up, down]: [&Matrix; 3], f: Activation) -> Result<Tensor> {
    let alone = x.detach();
    let (of_gate, of_up) = (gate.apply(&alone)?, up.apply(&alone)?);
    let y = down.apply(&(value(f, &of_gate)? * &of_up)?)?;
    let (gate, up, down) = (gate.clone(), up.clone(), down.clone());
    Ok(given::one(x, y, move |grad| {
        let [dgate, dup] = gated_back(&of_gate, &of_up, f, &down.apply_back(grad)?)?;
        gate.apply_back(&dgate)? + up.apply_back(&dup)?
    })?)
}

/// Some rows of `x`; none comes twice.
pub(super) fn select(x: &Tensor, rows: &[u32], plain: &Plain) -> Result<Tensor> {
    let (count, width) = x.dims2()?;
    let value = x.detach().index_select(&plain.ids(rows)?, 0)?;
    // Backward every row looks where it went; those that went nowhere find a row of zeros behind the last.
    let nowhere = u32::try_from(rows.len())?;
    let mut places = vec![nowhere; count];
    for (place, row) in (0..).zip(rows) {
        places[*row as usize] = place;
    }
    let places = plain.ids(&places)?;
    Ok(given::one(x, value, move |grad| {
        let zeros = Tensor::zeros((1, width), grad.dtype(), grad.device())?;
        Tensor::cat(&[grad, &zeros], 0)?.index_select(&places, 0)
    })?)
}

/// The logarithm of the sum of the exponentials of every row.
pub(super) fn log_sum_exp(rows: &Tensor) -> candle_core::Result<Tensor> {
    let max = rows.max_keepdim(D::Minus1)?;
    rows.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?.log()? + max
}

/// `scale · Σ -log softmax(logits)[label]` over the rows of `logits`.
pub(super) fn cross_entropy(logits: &Tensor, labels: &Tensor, scale: f64) -> Result<Tensor> {
    let (alone, labels) = (logits.detach(), labels.unsqueeze(1)?);
    let rows = alone.to_dtype(DType::F32)?;
    let losses = (log_sum_exp(&rows)? - rows.gather(&labels, 1)?)?;
    let value = (losses.sum_all()? * scale)?;
    drop(rows);
    Ok(given::one(logits, value, move |grad| {
        let rows = alone.to_dtype(DType::F32)?;
        let shares = rows.broadcast_sub(&log_sum_exp(&rows)?)?.exp()?;
        let one_less = Tensor::full(-1f32, labels.shape(), labels.device())?;
        let dlogits = (shares.scatter_add(&labels, &one_less, 1)? * scale)?;
        dlogits.broadcast_mul(&grad.to_dtype(DType::F32)?)?.to_dtype(alone.dtype())
    })?)
}
