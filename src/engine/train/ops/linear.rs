//! Linear layers: frozen, with an adapter, trained.

use super::{gradient, output, values, values_of};
use crate::engine::held::Held;
use crate::engine::kernels;
use crate::engine::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
use crate::random::Random;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// `out (+)= scale · a · b` on whole slices.
fn multiply(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, (rows, cols): (usize, usize), scale: f32, write: Write) {
    matmul(MatrixMut::new(out, rows, cols), a, b, scale, write, Threads::Pool);
}

/// `y = x W + b`, where W (`inputs × outputs`) and b are never trained: the gradient is that of `x` alone.
#[derive(Debug)]
pub struct FrozenLinear {
    /// `inputs × outputs`.
    pub weight: Arc<Held>,
    /// Where there is one.
    pub bias: Option<Arc<Vec<f32>>>,
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (m, n) = (layout.shape().dims2()?.0, self.weight.outputs());
        let mut y = vec![0.0; m * n];
        self.weight.apply(&mut y, values(storage, layout)?, Write::Set);
        if let Some(bias) = &self.bias {
            kernels::add_to_rows(&mut y, bias);
        }
        output(y, (m, n))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = vec![0.0; x.elem_count()];
        self.weight.apply_back(&mut dx, values_of(grad).get()?, Write::Set);
        gradient(dx, x)
    }
}

/// `y = x W` with W trained. W is `inputs × outputs`, or `outputs × inputs` where it is the embedding of a tied model.
#[derive(Debug)]
pub struct TrainedLinear {
    /// Whether W is `outputs × inputs`.
    pub transposed: bool,
}

impl TrainedLinear {
    fn weight<'a>(&self, weight: &'a [f32], k: usize, n: usize) -> Matrix<'a> {
        if self.transposed { Matrix::new(weight, n, k).t() } else { Matrix::new(weight, k, n) }
    }
}

impl CustomOp2 for TrainedLinear {
    fn name(&self) -> &'static str {
        "trained-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (m, k) = lx.shape().dims2()?;
        let n = lw.shape().elem_count() / k;
        let mut y = vec![0.0; m * n];
        let (x, weight) = (Matrix::new(values(x, lx)?, m, k), self.weight(values(w, lw)?, k, n));
        multiply(&mut y, x, weight, (m, n), 1.0, Write::Set);
        output(y, (m, n))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (m, k) = x.dims2()?;
        let n = w.elem_count() / k;
        let (x_values, w_values, grad) = (values_of(x), values_of(w), values_of(grad));
        let (x_matrix, grad) = (Matrix::new(x_values.get()?, m, k), Matrix::new(grad.get()?, m, n));
        let (mut dx, mut dw) = (vec![0.0; m * k], vec![0.0; k * n]);
        multiply(&mut dx, grad, self.weight(w_values.get()?, k, n).t(), (m, k), 1.0, Write::Set);
        if self.transposed {
            multiply(&mut dw, grad.t(), x_matrix, (n, k), 1.0, Write::Set);
        } else {
            multiply(&mut dw, x_matrix.t(), grad, (k, n), 1.0, Write::Set);
        }
        Ok((gradient(dx, x)?, gradient(dw, w)?))
    }
}

/// Dropout of a layer's input: which numbers fall out depends on seed, layer, step, row and position, and on nothing
/// else, so neither batches nor threads change it.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Share of the numbers that are dropped.
    pub share: f64,
    /// One generator per token.
    pub tokens: Vec<Random>,
}

impl Dropout {
    /// Draws of 16 bits below this fall out.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the share is from 0 to 1")]
    fn threshold(&self) -> u16 {
        (self.share * 65_536.0).round() as u16
    }

    /// What is left is multiplied by this.
    pub fn factor(&self) -> f32 {
        1.0 / (1.0 - f32::from(self.threshold()) / 65_536.0)
    }

    /// Ones where numbers of `tokens × width` stay, zeros where they fall out.
    pub fn kept(&self, width: usize) -> Vec<u8> {
        let (threshold, mut kept) = (self.threshold(), vec![0; self.tokens.len() * width]);
        let rows = kept.par_chunks_mut(width.max(1)).zip(&self.tokens);
        rows.with_min_len(super::ROWS_PER_TASK).for_each(|(kept, random)| {
            for (index, kept) in kept.chunks_mut(4).enumerate() {
                let draws = draws(random, index);
                kept.iter_mut().zip(draws).for_each(|(kept, draw)| *kept = u8::from(draw >= threshold));
            }
        });
        kept
    }

    /// Drops numbers of `x` (`tokens × width`) and scales the others up. The gradient is the same function.
    pub(super) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let width = x.len() / self.tokens.len().max(1);
        let (threshold, scale) = (self.threshold(), self.factor());
        let mut out = vec![0.0; x.len()];
        let rows = out.par_chunks_mut(width).zip(x.par_chunks(width)).zip(&self.tokens);
        rows.with_min_len(super::ROWS_PER_TASK).for_each(|((out, x), random)| {
            let factors = |index: usize| draws(random, index).map(|draw| if draw < threshold { 0.0 } else { scale });
            let (out, out_rest) = out.as_chunks_mut::<4>();
            let (x, x_rest) = x.as_chunks::<4>();
            for (index, (out, x)) in out.iter_mut().zip(x).enumerate() {
                let factors = factors(index);
                *out = std::array::from_fn(|lane| x[lane] * factors[lane]);
            }
            for ((out, x), factor) in out_rest.iter_mut().zip(x_rest).zip(factors(x.len())) {
                *out = x * factor;
            }
        });
        out
    }
}

/// One draw of 64 bits serves four neighbours.
#[expect(clippy::cast_possible_truncation, reason = "each takes its 16 bits")]
fn draws(random: &Random, index: usize) -> [u16; 4] {
    let bits = random.bits(index as u64);
    [0, 16, 32, 48].map(|shift| (bits >> shift) as u16)
}

/// `y = x W + b + scale · dropout(x) Aᵀ Bᵀ` with W and b frozen, A (`r × inputs`) and B (`outputs × r`) trained.
#[derive(Debug)]
pub struct LoraLinear {
    /// `inputs × outputs`.
    pub weight: Arc<Held>,
    /// Where there is one.
    pub bias: Option<Arc<Vec<f32>>>,
    /// What the product of B and A is multiplied by.
    pub scale: f32,
    /// Absent in evaluation.
    pub dropout: Option<Dropout>,
}

impl LoraLinear {
    /// `dropout(x)`; a second vector only where something is dropped.
    fn dropped<'a>(&self, x: &'a [f32]) -> std::borrow::Cow<'a, [f32]> {
        match &self.dropout {
            Some(dropout) => dropout.apply(x).into(),
            None => x.into(),
        }
    }
}

impl CustomOp3 for LoraLinear {
    fn name(&self) -> &'static str {
        "lora-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (m, k) = lx.shape().dims2()?;
        let (n, r) = lb.shape().dims2()?;
        let x = values(x, lx)?;
        let (a, b) = (Matrix::new(values(a, la)?, r, k), Matrix::new(values(b, lb)?, n, r));
        let (mut y, mut u) = (vec![0.0; m * n], vec![0.0; m * r]);
        self.weight.apply(&mut y, x, Write::Set);
        multiply(&mut u, Matrix::new(&self.dropped(x), m, k), a.t(), (m, r), 1.0, Write::Set);
        multiply(&mut y, Matrix::new(&u, m, r), b.t(), (m, n), self.scale, Write::Add);
        if let Some(bias) = &self.bias {
            kernels::add_to_rows(&mut y, bias);
        }
        output(y, (m, n))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (m, k) = x.dims2()?;
        let (n, r) = b.dims2()?;
        let (x_values, a_values, b_values, grad) = (values_of(x), values_of(a), values_of(b), values_of(grad));
        let dropped = self.dropped(x_values.get()?);
        let dropped = Matrix::new(&dropped, m, k);
        let (a_matrix, b_matrix) = (Matrix::new(a_values.get()?, r, k), Matrix::new(b_values.get()?, n, r));
        let grad_slice = grad.get()?;
        let grad = Matrix::new(grad_slice, m, n);
        let (mut u, mut du) = (vec![0.0; m * r], vec![0.0; m * r]);
        multiply(&mut u, dropped, a_matrix.t(), (m, r), 1.0, Write::Set);
        multiply(&mut du, grad, b_matrix, (m, r), self.scale, Write::Set);
        let (u, du) = (Matrix::new(&u, m, r), Matrix::new(&du, m, r));

        let (mut da, mut db) = (vec![0.0; r * k], vec![0.0; n * r]);
        multiply(&mut da, du.t(), dropped, (r, k), 1.0, Write::Set);
        multiply(&mut db, grad.t(), u, (n, r), self.scale, Write::Set);

        if !x.track_op() {
            // The first block of an adapter: nothing before it learns.
            return Ok((None, gradient(da, a)?, gradient(db, b)?));
        }
        let mut dx = vec![0.0; m * k];
        multiply(&mut dx, du, a_matrix, (m, k), 1.0, Write::Set);
        if let Some(dropout) = &self.dropout {
            dx = dropout.apply(&dx);
        }
        self.weight.apply_back(&mut dx, grad_slice, Write::Add);
        Ok((gradient(dx, x)?, gradient(da, a)?, gradient(db, b)?))
    }
}
