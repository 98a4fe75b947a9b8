//! A whole gated feed-forward layer of which nothing learns.

use super::pointwise::{NUMBERS_PER_TASK, gated};
use super::{gradient, output, values, values_of};
use crate::engine::activation::Activation;
use crate::engine::held::Held;
use crate::engine::matmul::Write;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// `y = (f(x G) · (x U)) D` with frozen matrices and no biases: one step of the graph instead of four. What lies between is
/// kept here from the forward pass to the backward pass and no longer, and the product, which nobody asks for again, not
/// at all.
#[derive(Debug)]
pub struct FrozenGated {
    /// G.
    gate: Arc<Held>,
    /// U.
    up: Arc<Held>,
    /// D.
    down: Arc<Held>,
    /// f.
    activation: Activation,
    /// `x G` and `x U`.
    between: Mutex<Option<[Vec<f32>; 2]>>,
}

impl FrozenGated {
    /// Nothing is kept yet.
    pub fn new([gate, up, down]: [&Arc<Held>; 3], activation: Activation) -> Self {
        let [gate, up, down] = [gate, up, down].map(Arc::clone);
        Self { gate, up, down, activation, between: Mutex::new(None) }
    }

    fn between(&self, x: &[f32], tokens: usize) -> [Vec<f32>; 2] {
        [&self.gate, &self.up].map(|weight| {
            let mut y = vec![0.0; tokens * weight.outputs()];
            weight.apply(&mut y, x, Write::Set);
            y
        })
    }
}

impl CustomOp1 for FrozenGated {
    fn name(&self) -> &'static str {
        "frozen-gated"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let tokens = layout.shape().dims2()?.0;
        let [gate, up] = self.between(values(storage, layout)?, tokens);
        let inner = gated(self.activation, &gate, &up);
        let mut y = vec![0.0; tokens * self.down.outputs()];
        self.down.apply(&mut y, &inner, Write::Set);
        *self.between.lock().unwrap_or_else(PoisonError::into_inner) = Some([gate, up]);
        output(y, (tokens, self.down.outputs()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let tokens = x.dims2()?.0;
        let kept = self.between.lock().unwrap_or_else(PoisonError::into_inner).take();
        let [mut gate, mut up] = match kept {
            Some(between) => between,
            // A second backward pass.
            None => self.between(values_of(x).get()?, tokens),
        };
        let mut inner = vec![0.0; gate.len()];
        self.down.apply_back(&mut inner, values_of(grad).get()?, Write::Set);
        gate.par_chunks_mut(NUMBERS_PER_TASK)
            .zip(up.par_chunks_mut(NUMBERS_PER_TASK))
            .zip(inner.par_chunks(NUMBERS_PER_TASK))
            .for_each(|((gate, up), grad)| self.activation.gated_backward_in_place(gate, up, grad));
        drop(inner);
        // Summed as a graph of single steps sums them, so that the bits are its bits.
        let (mut dx, mut other) = (vec![0.0; x.elem_count()], vec![0.0; x.elem_count()]);
        self.gate.apply_back(&mut dx, &gate, Write::Set);
        self.up.apply_back(&mut other, &up, Write::Set);
        dx.par_chunks_mut(NUMBERS_PER_TASK)
            .zip(other.par_chunks(NUMBERS_PER_TASK))
            .for_each(|(dx, other)| dx.iter_mut().zip(other).for_each(|(dx, other)| *dx += other));
        gradient(dx, x)
    }
}
