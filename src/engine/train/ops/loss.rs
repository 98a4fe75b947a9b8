//! The two ends of a model: tokens in, loss out.

use super::{gradient, output, values, values_of};
use crate::engine::kernels;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Rows of a table by number; the gradient adds up where a number comes twice, in the order of the tokens.
#[derive(Debug)]
pub struct Lookup {
    /// Numbers of the rows.
    pub ids: Arc<Vec<u32>>,
}

impl CustomOp1 for Lookup {
    fn name(&self) -> &'static str {
        "lookup"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = layout.shape().dims2()?.1;
        let table = values(storage, layout)?;
        let rows = self.ids.iter().flat_map(|id| &table[*id as usize * width..][..width]).copied().collect();
        output(rows, (self.ids.len(), width))
    }

    fn bwd(&self, table: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = table.dims2()?;
        let mut dtable = vec![0.0; rows * width];
        for (id, grad) in self.ids.iter().zip(values_of(grad).get()?.chunks(width)) {
            let row = &mut dtable[*id as usize * width..][..width];
            row.iter_mut().zip(grad).for_each(|(row, grad)| *row += grad);
        }
        gradient(dtable, table)
    }
}

/// Some of the tokens of a batch, in order: those that a loss is counted for.
#[derive(Debug)]
pub struct SelectRows {
    /// Which; none comes twice.
    pub rows: Arc<Vec<u32>>,
}

impl CustomOp1 for SelectRows {
    fn name(&self) -> &'static str {
        "select-rows"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = layout.shape().dims2()?.1;
        let x = values(storage, layout)?;
        let rows = self.rows.iter().flat_map(|row| &x[*row as usize * width..][..width]).copied().collect();
        output(rows, (self.rows.len(), width))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = x.dims2()?.1;
        let mut dx = vec![0.0; x.elem_count()];
        for (row, grad) in self.rows.iter().zip(values_of(grad).get()?.chunks(width)) {
            dx[*row as usize * width..][..width].copy_from_slice(grad);
        }
        gradient(dx, x)
    }
}

/// `scale · Σ -log softmax(logits)[label]` over the rows of `logits`.
#[derive(Debug)]
pub struct CrossEntropy {
    /// The right token of each row.
    pub labels: Arc<Vec<u32>>,
    /// One divided by the number of labels of the whole batch, of which this may be a part.
    pub scale: f64,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    #[expect(clippy::cast_possible_truncation, reason = "a loss is kept as f32, like everything in the graph")]
    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = layout.shape().dims2()?.1;
        let losses: Vec<f64> = values(storage, layout)?
            .par_chunks(width)
            .zip(self.labels.par_iter())
            .map(|(row, label)| f64::from(kernels::log_sum_exp(row) - row[*label as usize]))
            .collect();
        output(vec![(losses.iter().sum::<f64>() * self.scale) as f32], ())
    }

    #[expect(clippy::cast_possible_truncation, reason = "a gradient is kept as f32")]
    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = logits.dims2()?.1;
        let scale = grad.to_scalar::<f32>()? * self.scale as f32;
        let mut dlogits = values_of(logits).get()?.to_vec();
        dlogits.par_chunks_mut(width).zip(self.labels.par_iter()).for_each(|(row, label)| {
            kernels::softmax(row);
            row[*label as usize] -= 1.0;
            row.iter_mut().for_each(|value| *value *= scale);
        });
        gradient(dlogits, logits)
    }
}
