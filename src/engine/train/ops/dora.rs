//! What DoRA adds to an adapter: dropout as a step of its own, and outputs brought to a learned size.

use super::linear::Dropout;
use super::{gradient, output, values, values_of};
use crate::engine::kernels;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use std::sync::Arc;

/// What is left of the numbers, or what fell out of them: together they are `x`. Both are their own gradients.
#[derive(Debug)]
pub struct Split {
    /// Which numbers stay.
    pub dropout: Arc<Dropout>,
    /// Whether it gives `x - dropout(x)`.
    pub rest: bool,
}

impl Split {
    fn of(&self, x: &[f32]) -> Vec<f32> {
        let mut kept = self.dropout.apply(x);
        if self.rest {
            kept.iter_mut().zip(x).for_each(|(kept, x)| *kept = x - *kept);
        }
        kept
    }
}

impl CustomOp1 for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        output(self.of(values(storage, layout)?), layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        gradient(self.of(values_of(grad).get()?), x)
    }
}

/// `y = v · m / norms + b` by output, with m trained. The norms move with the weights, but have no gradient, as in PEFT.
#[derive(Debug)]
pub struct Magnitude {
    /// The norms of the outputs' weights as they are now.
    pub norms: Vec<f32>,
    /// Where there is one.
    pub bias: Option<Arc<Vec<f32>>>,
}

impl Magnitude {
    fn scaled(&self, v: &[f32], m: &[f32]) -> Vec<f32> {
        let factors: Vec<f32> = m.iter().zip(&self.norms).map(|(m, norm)| m / norm).collect();
        let row = |row: &[f32]| -> Vec<f32> { row.iter().zip(&factors).map(|(v, factor)| v * factor).collect() };
        v.chunks_exact(factors.len()).flat_map(row).collect()
    }
}

impl CustomOp2 for Magnitude {
    fn name(&self) -> &'static str {
        "magnitude"
    }

    fn cpu_fwd(&self, v: &CpuStorage, lv: &Layout, m: &CpuStorage, lm: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = self.scaled(values(v, lv)?, values(m, lm)?);
        if let Some(bias) = &self.bias {
            kernels::add_to_rows(&mut y, bias);
        }
        output(y, lv.shape())
    }

    fn bwd(&self, v: &Tensor, m: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (v_values, m_values, grad) = (values_of(v), values_of(m), values_of(grad));
        let (v_slice, grad) = (v_values.get()?, grad.get()?);
        let n = self.norms.len();
        let mut dm = vec![0.0; n];
        for (v, grad) in v_slice.chunks_exact(n).zip(grad.chunks_exact(n)) {
            dm.iter_mut().zip(v).zip(grad).for_each(|((dm, v), grad)| *dm += grad * v);
        }
        dm.iter_mut().zip(&self.norms).for_each(|(dm, norm)| *dm /= norm);
        Ok((gradient(self.scaled(grad, m_values.get()?), v)?, gradient(dm, m)?))
    }
}

/// A number whose gradient by `x` is given: where the backward pass begins again, in the middle of a model.
#[derive(Debug)]
pub struct Seed(pub Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        output(vec![0.0], ())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}
