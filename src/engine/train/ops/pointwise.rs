//! What happens to each token, or each number, by itself: norms, activations, sums.

use super::{ROWS_PER_TASK, gradient, output, values, values_of};
use crate::engine::activation::Activation;
use crate::engine::kernels::{self, NormKind};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Numbers of one piece of work.
pub(super) const NUMBERS_PER_TASK: usize = 8192;

/// What a norm does to rows that are as wide as its weight: tokens, or heads. Without the bias.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Which norm.
    pub kind: NormKind,
    /// Added to the mean square.
    pub eps: f32,
}

impl Norm {
    fn forward(self, x: &[f32], factors: &[f32]) -> Vec<f32> {
        let width = factors.len();
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(width)
            .zip(x.par_chunks(width))
            .with_min_len(ROWS_PER_TASK)
            .for_each(|(y, x)| self.kind.apply(y, x, factors, self.eps));
        y
    }

    fn backward(self, x: &[f32], factors: &[f32], grad: &[f32]) -> Vec<f32> {
        let width = factors.len();
        let mut dx = vec![0.0; x.len()];
        dx.par_chunks_mut(width)
            .zip(x.par_chunks(width).zip(grad.par_chunks(width)))
            .with_min_len(ROWS_PER_TASK)
            .for_each(|(dx, (x, grad))| self.kind.backward(dx, x, factors, grad, self.eps));
        dx
    }
}

/// A norm that is not trained.
#[derive(Debug)]
pub struct FrozenNorm {
    /// What it does.
    pub norm: Norm,
    /// What normalised rows are multiplied by.
    pub factors: Arc<Vec<f32>>,
    /// Added to them.
    pub bias: Option<Arc<Vec<f32>>>,
}

impl CustomOp1 for FrozenNorm {
    fn name(&self) -> &'static str {
        "frozen-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = self.norm.forward(values(storage, layout)?, &self.factors);
        if let Some(bias) = &self.bias {
            kernels::add_to_rows(&mut y, bias);
        }
        output(y, layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        gradient(self.norm.backward(values_of(x).get()?, &self.factors, values_of(grad).get()?), x)
    }
}

/// A norm whose weight is trained; its bias is [`AddBias`].
#[derive(Debug)]
pub struct TrainedNorm(pub Norm);

impl CustomOp2 for TrainedNorm {
    fn name(&self) -> &'static str {
        "trained-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        output(self.0.forward(values(x, lx)?, &self.0.kind.factors(values(w, lw)?)), lx.shape())
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Norm { kind, eps } = self.0;
        let (x_values, w_values, grad) = (values_of(x), values_of(w), values_of(grad));
        let (x_slice, weight, grad) = (x_values.get()?, w_values.get()?, grad.get()?);
        let width = weight.len();
        let mut dw = vec![0.0; width];
        for (x, grad) in x_slice.chunks(width).zip(grad.chunks(width)) {
            kind.weight_backward(&mut dw, x, grad, eps);
        }
        Ok((gradient(self.0.backward(x_slice, &kind.factors(weight), grad), x)?, gradient(dw, w)?))
    }
}

/// `f(x)`.
#[derive(Debug)]
pub struct Activate(pub Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(NUMBERS_PER_TASK).zip(x.par_chunks(NUMBERS_PER_TASK)).for_each(|(y, x)| self.0.apply(y, x));
        output(y, layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (x_values, grad) = (values_of(x), values_of(grad));
        let (x_slice, grad) = (x_values.get()?, grad.get()?);
        let mut dx = vec![0.0; grad.len()];
        dx.par_chunks_mut(NUMBERS_PER_TASK)
            .zip(x_slice.par_chunks(NUMBERS_PER_TASK).zip(grad.par_chunks(NUMBERS_PER_TASK)))
            .for_each(|(dx, (x, grad))| self.0.apply_backward(dx, x, grad));
        gradient(dx, x)
    }
}

/// `f(gate) · up`, number by number.
pub(super) fn gated(f: Activation, gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; gate.len()];
    y.par_chunks_mut(NUMBERS_PER_TASK)
        .zip(gate.par_chunks(NUMBERS_PER_TASK).zip(up.par_chunks(NUMBERS_PER_TASK)))
        .for_each(|(y, (gate, up))| f.gated(y, gate, up));
    y
}

/// `f(gate) · up`.
#[derive(Debug)]
pub struct Gated(pub Activation);

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(&self, gate: &CpuStorage, lg: &Layout, up: &CpuStorage, lu: &Layout) -> Result<(CpuStorage, Shape)> {
        output(gated(self.0, values(gate, lg)?, values(up, lu)?), lg.shape())
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
            .for_each(|((dgate, dup), ((gate, up), grad))| self.0.gated_backward(dgate, dup, gate, up, grad));
        Ok((gradient(dgate, gate)?, gradient(dup, up)?))
    }
}

/// `f(gate) · up` of rows that hold the gate, then as many numbers to multiply.
#[derive(Debug)]
pub struct GatedFused(pub Activation);

impl CustomOp1 for GatedFused {
    fn name(&self) -> &'static str {
        "gated-fused"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (tokens, width) = layout.shape().dims2()?;
        let inner = width / 2;
        let mut y = vec![0.0; tokens * inner];
        let rows = y.par_chunks_mut(inner).zip(values(storage, layout)?.par_chunks(width));
        rows.with_min_len(ROWS_PER_TASK).for_each(|(y, x)| self.0.gated(y, &x[..inner], &x[inner..]));
        output(y, (tokens, inner))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = x.dims2()?.1;
        let inner = width / 2;
        let (x_values, grad) = (values_of(x), values_of(grad));
        let (x_slice, grad) = (x_values.get()?, grad.get()?);
        let mut dx = vec![0.0; x_slice.len()];
        let rows = dx.par_chunks_mut(width).zip(x_slice.par_chunks(width).zip(grad.par_chunks(inner)));
        rows.with_min_len(ROWS_PER_TASK).for_each(|(dx, (x, grad))| {
            let (dgate, dup) = dx.split_at_mut(inner);
            self.0.gated_backward(dgate, dup, &x[..inner], &x[inner..], grad);
        });
        gradient(dx, x)
    }
}

/// Every row and a trained vector.
#[derive(Debug)]
pub struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = values(x, lx)?.to_vec();
        kernels::add_to_rows(&mut y, values(b, lb)?);
        output(y, lx.shape())
    }

    fn bwd(&self, _: &Tensor, b: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut db = vec![0.0; b.elem_count()];
        for row in values_of(grad).get()?.chunks_exact(db.len()) {
            db.iter_mut().zip(row).for_each(|(db, grad)| *db += grad);
        }
        Ok((Some(grad.clone()), gradient(db, b)?))
    }
}

/// Every number times the same one.
#[derive(Debug)]
pub struct Scale(pub f32);

impl Scale {
    fn of(&self, x: &[f32]) -> Vec<f32> {
        x.iter().map(|x| x * self.0).collect()
    }
}

impl CustomOp1 for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        output(self.of(values(storage, layout)?), layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        gradient(self.of(values_of(grad).get()?), x)
    }
}

/// `cap · tanh(x / cap)`.
#[derive(Debug)]
pub struct SoftCap(pub f32);

impl CustomOp1 for SoftCap {
    fn name(&self) -> &'static str {
        "soft-cap"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = values(storage, layout)?.to_vec();
        y.par_chunks_mut(NUMBERS_PER_TASK).for_each(|y| kernels::soft_cap(y, self.0));
        output(y, layout.shape())
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (y_values, grad) = (values_of(y), values_of(grad));
        let of = |(y, grad): (&f32, &f32)| grad * kernels::soft_cap_slope(*y, self.0);
        gradient(y_values.get()?.iter().zip(grad.get()?).map(of).collect(), x)
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
