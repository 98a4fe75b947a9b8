//! What happens to each token, or each number, by itself: norms, SwiGLU, sums.

use super::{ROWS_PER_TASK, gradient, output, values, values_of};
use crate::engine::kernels;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Numbers of one piece of work.
const NUMBERS_PER_TASK: usize = 8192;

fn norm_forward(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(width)
        .zip(x.par_chunks(width))
        .with_min_len(ROWS_PER_TASK)
        .for_each(|(y, x)| kernels::rms_norm(y, x, weight, eps));
    y
}

fn norm_backward(x: &[f32], weight: &[f32], grad: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    let mut dx = vec![0.0; x.len()];
    dx.par_chunks_mut(width)
        .zip(x.par_chunks(width).zip(grad.par_chunks(width)))
        .with_min_len(ROWS_PER_TASK)
        .for_each(|(dx, (x, grad))| kernels::rms_norm_backward(dx, x, weight, grad, eps));
    dx
}

/// RMS norm whose weight is not trained.
#[derive(Debug)]
pub struct FrozenNorm {
    /// The weight.
    pub weight: Arc<Vec<f32>>,
    /// Added to the mean square.
    pub eps: f32,
}

impl CustomOp1 for FrozenNorm {
    fn name(&self) -> &'static str {
        "frozen-rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        output(norm_forward(values(storage, layout)?, &self.weight, self.eps), layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        gradient(norm_backward(values_of(x).get()?, &self.weight, values_of(grad).get()?, self.eps), x)
    }
}

/// RMS norm whose weight is trained.
#[derive(Debug)]
pub struct TrainedNorm {
    /// Added to the mean square.
    pub eps: f32,
}

impl CustomOp2 for TrainedNorm {
    fn name(&self) -> &'static str {
        "trained-rms-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        output(norm_forward(values(x, lx)?, values(w, lw)?, self.eps), lx.shape())
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (x_values, w_values, grad) = (values_of(x), values_of(w), values_of(grad));
        let (x_slice, weight, grad) = (x_values.get()?, w_values.get()?, grad.get()?);
        let width = weight.len();
        let mut dw = vec![0.0; width];
        for (x, grad) in x_slice.chunks(width).zip(grad.chunks(width)) {
            kernels::rms_norm_weight_backward(&mut dw, x, grad, self.eps);
        }
        Ok((gradient(norm_backward(x_slice, weight, grad, self.eps), x)?, gradient(dw, w)?))
    }
}

/// `silu(gate) · up`.
#[derive(Debug)]
pub struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, gate: &CpuStorage, lg: &Layout, up: &CpuStorage, lu: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (values(gate, lg)?, values(up, lu)?);
        let mut y = vec![0.0; gate.len()];
        y.par_chunks_mut(NUMBERS_PER_TASK)
            .zip(gate.par_chunks(NUMBERS_PER_TASK).zip(up.par_chunks(NUMBERS_PER_TASK)))
            .for_each(|(y, (gate, up))| kernels::swiglu(y, gate, up));
        output(y, lg.shape())
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (gate_values, up_values, grad) = (values_of(gate), values_of(up), values_of(grad));
        let (gate_slice, up_slice, grad) = (gate_values.get()?, up_values.get()?, grad.get()?);
        let (mut dgate, mut dup) = (vec![0.0; grad.len()], vec![0.0; grad.len()]);
        let inputs = gate_slice.par_chunks(NUMBERS_PER_TASK).zip(up_slice.par_chunks(NUMBERS_PER_TASK));
        dgate
            .par_chunks_mut(NUMBERS_PER_TASK)
            .zip(dup.par_chunks_mut(NUMBERS_PER_TASK))
            .zip(inputs.zip(grad.par_chunks(NUMBERS_PER_TASK)))
            .for_each(|((dgate, dup), ((gate, up), grad))| kernels::swiglu_backward(dgate, dup, gate, up, grad));
        Ok((gradient(dgate, gate)?, gradient(dup, up)?))
    }
}

/// The sum of two tensors. (candle's own runs on a pool of threads that no setting of a training reaches.)
#[derive(Debug)]
pub struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(&self, a: &CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let sum = values(a, la)?.iter().zip(values(b, lb)?).map(|(a, b)| a + b).collect();
        output(sum, la.shape())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.clone()), Some(grad.clone())))
    }
}
