//! Linear layers as a decoder has them: those of the same input are one, whose outputs stand side by side.
//!
//! Plain numbers are put into one matrix. What is held in fewer bits stays as it is, and shares its memory with whoever
//! else has it; what an adapter adds is computed beside it.

use crate::engine::kernels;
use crate::engine::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
use crate::engine::model::{Adapted, Linear};
use std::sync::Arc;

/// A linear layer that a decoder can be made of.
pub trait Layer: Sized {
    /// Layers of the same input as one.
    fn side_by_side(layers: Vec<Self>) -> Product;

    /// One whose output is `heads`, each so wide, of the layer's own heads.
    fn sorted(self, heads: &[usize], width: usize) -> Product;
}

/// `x · weight + bias`.
#[derive(Debug)]
pub struct Product {
    parts: Vec<Adapted>,
    bias: Option<Arc<Vec<f32>>>,
    /// What becomes of the output: such heads of the product's, each so wide.
    heads: Option<(Vec<usize>, usize)>,
}

impl Product {
    fn new(parts: Vec<Adapted>) -> Self {
        let bias = parts.iter().any(|part| part.base.bias.is_some()).then(|| {
            let of = |part: &Adapted| match &part.base.bias {
                Some(bias) => bias.to_vec(),
                None => vec![0.0; part.base.weight.outputs()],
            };
            Arc::new(parts.iter().flat_map(of).collect())
        });
        Self { parts, bias, heads: None }
    }

    /// Width of `x`.
    pub(super) fn inputs(&self) -> usize {
        self.parts.first().map_or(0, |part| part.base.weight.inputs())
    }

    /// Width of the product.
    pub(super) fn outputs(&self) -> usize {
        self.parts.iter().map(|part| part.base.weight.outputs()).sum()
    }

    /// The product, for rows of `x`.
    pub(super) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / self.inputs() * self.outputs()];
        self.multiply(&mut out, x, Write::Set);
        let Some((heads, width)) = &self.heads else { return out };
        let rows = out.chunks_exact(self.outputs());
        rows.flat_map(|row| heads.iter().flat_map(|head| &row[head * width..][..*width])).copied().collect()
    }

    /// `out (+)=` the product, its heads as they are.
    pub(super) fn multiply(&self, out: &mut [f32], x: &[f32], write: Write) {
        let (width, mut begin) = (self.outputs(), 0);
        for part in &self.parts {
            multiply(part, &mut out[begin..], width, x, write);
            begin += part.base.weight.outputs();
        }
        if let Some(bias) = &self.bias {
            kernels::add_to_rows(out, bias);
        }
    }
}

/// The same of one part, without its bias, into rows that begin `stride` numbers apart.
fn multiply(part: &Adapted, out: &mut [f32], stride: usize, x: &[f32], write: Write) {
    let weight = &part.base.weight;
    let (inputs, outputs) = (weight.inputs(), weight.outputs());
    let rows = x.len() / inputs;
    let Some(beside) = &part.beside else { return weight.apply_to(out, stride, x, write) };
    let mut low = vec![0.0; rows * beside.r];
    let a = Matrix::new(&beside.a, inputs, beside.r);
    matmul(MatrixMut::new(&mut low, rows, beside.r), Matrix::new(x, rows, inputs), a, 1.0, Write::Set, Threads::Pool);
    let add = |out: MatrixMut<'_>| {
        let (low, b) = (Matrix::new(&low, rows, beside.r), Matrix::new(&beside.b, beside.r, outputs));
        matmul(out, low, b, beside.scale, Write::Add, Threads::Pool);
    };
    let Some(factors) = &beside.factors else {
        weight.apply_to(out, stride, x, write);
        return add(MatrixMut::strided(out, rows, outputs, stride));
    };
    let mut sum = vec![0.0; rows * outputs];
    weight.apply_to(&mut sum, outputs, x, Write::Set);
    add(MatrixMut::new(&mut sum, rows, outputs));
    for (out, sum) in out.chunks_mut(stride).zip(sum.chunks_exact(outputs)) {
        for ((out, sum), factor) in out.iter_mut().zip(sum).zip(factors) {
            *out = if write == Write::Add { *out + sum * factor } else { sum * factor };
        }
    }
}

/// Plain numbers, put into one matrix.
impl Layer for Linear {
    fn side_by_side(layers: Vec<Self>) -> Product {
        Product::new(vec![Adapted::from(fused(layers))])
    }

    fn sorted(self, heads: &[usize], width: usize) -> Product {
        let sorted = |rows: &[f32]| {
            let row = |row: &[f32]| -> Vec<f32> {
                heads.iter().flat_map(|head| &row[head * width..][..width]).copied().collect()
            };
            Arc::new(rows.chunks_exact(self.outputs).flat_map(row).collect::<Vec<f32>>())
        };
        let (weight, bias) = (sorted(&self.weight), self.bias.as_ref().map(|bias| sorted(bias)));
        Self::side_by_side(vec![Self { weight, bias, ..self }])
    }
}

fn fused(mut layers: Vec<Linear>) -> Linear {
    if layers.len() == 1 {
        return layers.remove(0);
    }
    let inputs = layers[0].inputs;
    let outputs: usize = layers.iter().map(|layer| layer.outputs).sum();
    let mut weight = Vec::with_capacity(inputs * outputs);
    for row in 0..inputs {
        for layer in &layers {
            weight.extend_from_slice(&layer.weight[row * layer.outputs..][..layer.outputs]);
        }
    }
    let bias = layers.iter().any(|layer| layer.bias.is_some()).then(|| {
        let of = |layer: &Linear| layer.bias.as_deref().cloned().unwrap_or_else(|| vec![0.0; layer.outputs]);
        Arc::new(layers.iter().flat_map(of).collect())
    });
    let name = layers.iter().map(|layer| layer.name.as_str()).collect::<Vec<_>>().join(" + ");
    Linear { name, inputs, outputs, weight: Arc::new(weight), bias }
}

/// What is held stays where it is.
impl Layer for Adapted {
    fn side_by_side(layers: Vec<Self>) -> Product {
        Product::new(layers)
    }

    fn sorted(self, heads: &[usize], width: usize) -> Product {
        Product { heads: Some((heads.to_vec(), width)), ..Product::new(vec![self]) }
    }
}
