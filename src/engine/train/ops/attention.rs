//! Causal attention with rotary positions, each row of a batch by itself.
//!
//! Nothing of the size of the scores is kept: the gradient computes them again.

use super::{gradient, output, values, values_of};
use crate::engine::kernels::{self, Rope, Turn};
use crate::engine::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Queries whose scores are computed together; they need keys up to the last of them only.
const QUERIES: usize = 64;

/// Attention over queries (`tokens × heads · head_dim`), keys and values (`tokens × kv_heads · head_dim`).
#[derive(Clone, Debug)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Where each row of the batch begins, and where the last one ends.
    pub offsets: Arc<Vec<usize>>,
    /// Angles by position within a row.
    pub rope: Arc<Rope>,
}

/// One head's keys and values of one row, and where its queries lie in the row.
struct Head<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    query: usize,
    key: usize,
}

/// Scores of a block of queries, and their gradient.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    dscores: Vec<f32>,
}

impl Attention {
    fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The row's matrix of one head.
    fn head_of<'a>(&self, row: &'a [f32], from: usize, to: usize, head: usize, width: usize) -> Matrix<'a> {
        Matrix::strided(&row[from * width + head * self.head_dim..], to - from, self.head_dim, width)
    }

    fn head_of_mut<'a>(&self, row: &'a mut [f32], from: usize, to: usize, head: usize, width: usize) -> MatrixMut<'a> {
        MatrixMut::strided(&mut row[from * width + head * self.head_dim..], to - from, self.head_dim, width)
    }

    #[expect(clippy::cast_precision_loss, reason = "widths are small")]
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Queries or keys at their positions.
    fn turned(&self, x: &[f32], width: usize, turn: Turn) -> Vec<f32> {
        let mut x = x.to_vec();
        self.rows(&mut x, width).into_par_iter().for_each(|row| {
            for (position, token) in row.chunks_mut(width).enumerate() {
                self.rope.rotate(token, position, turn);
            }
        });
        x
    }

    /// The rows of a batch, cut apart.
    fn rows<'a>(&self, mut all: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
        self.offsets
            .windows(2)
            .map(|ends| {
                let (row, rest) = std::mem::take(&mut all).split_at_mut((ends[1] - ends[0]) * width);
                all = rest;
                row
            })
            .collect()
    }

    /// Probabilities of queries `from..to` over keys `0..to`: `(to - from) × to`.
    fn probabilities<'a>(&self, head: &Head<'_>, scores: &'a mut Vec<f32>, from: usize, to: usize) -> &'a mut [f32] {
        scores.resize(((to - from) * to).max(scores.len()), 0.0);
        let scores = &mut scores[..(to - from) * to];
        let q = self.head_of(head.q, from, to, head.query, self.query_width());
        let k = self.head_of(head.k, 0, to, head.key, self.key_width());
        let out = MatrixMut::new(scores, to - from, to);
        matmul(out, q, k.t(), self.scale(), Write::Set, Threads::Caller);
        for (index, row) in scores.chunks_mut(to).enumerate() {
            let (seen, future) = row.split_at_mut(from + index + 1);
            kernels::softmax(seen);
            future.fill(0.0);
        }
        scores
    }

    fn forward_head(&self, head: &Head<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let tokens = out.len() / self.query_width();
        for from in (0..tokens).step_by(QUERIES) {
            let to = (from + QUERIES).min(tokens);
            let p = Matrix::new(self.probabilities(head, &mut scratch.scores, from, to), to - from, to);
            let v = self.head_of(head.v, 0, to, head.key, self.key_width());
            let out = self.head_of_mut(out, from, to, head.query, self.query_width());
            matmul(out, p, v, 1.0, Write::Set, Threads::Caller);
        }
    }

    fn backward_head(&self, head: &Head<'_>, grad: &[f32], [dq, dk, dv]: [&mut [f32]; 3], scratch: &mut Scratch) {
        let (query_width, key_width) = (self.query_width(), self.key_width());
        let tokens = grad.len() / query_width;
        for from in (0..tokens).step_by(QUERIES) {
            let to = (from + QUERIES).min(tokens);
            let queries = to - from;
            let p = self.probabilities(head, &mut scratch.scores, from, to);
            let grad = self.head_of(grad, from, to, head.query, query_width);
            let v = self.head_of(head.v, 0, to, head.key, key_width);
            scratch.dscores.resize((queries * to).max(scratch.dscores.len()), 0.0);
            let ds = &mut scratch.dscores[..queries * to];
            matmul(MatrixMut::new(ds, queries, to), grad, v.t(), 1.0, Write::Set, Threads::Caller);
            let dv = self.head_of_mut(dv, 0, to, head.key, key_width);
            matmul(dv, Matrix::new(p, queries, to).t(), grad, 1.0, Write::Add, Threads::Caller);
            // The softmax's gradient: p · (dp - Σ p · dp).
            for (ds, p) in ds.chunks_mut(to).zip(p.chunks(to)) {
                let along = kernels::dot(ds, p);
                ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = p * (*ds - along));
            }
            let ds = Matrix::new(ds, queries, to);
            let k = self.head_of(head.k, 0, to, head.key, key_width);
            let q = self.head_of(head.q, from, to, head.query, query_width);
            let dq = self.head_of_mut(dq, from, to, head.query, query_width);
            matmul(dq, ds, k, self.scale(), Write::Set, Threads::Caller);
            let dk = self.head_of_mut(dk, 0, to, head.key, key_width);
            matmul(dk, ds.t(), q, self.scale(), Write::Add, Threads::Caller);
        }
    }

    /// Every head of row number `row`.
    fn heads_of_row<'a>(&self, [q, k, v]: [&'a [f32]; 3], row: usize) -> impl Iterator<Item = Head<'a>> {
        let (begin, end) = (self.offsets[row], self.offsets[row + 1]);
        let (query_width, key_width) = (self.query_width(), self.key_width());
        let group = self.heads / self.kv_heads;
        (0..self.heads).map(move |query| Head {
            q: &q[begin * query_width..end * query_width],
            k: &k[begin * key_width..end * key_width],
            v: &v[begin * key_width..end * key_width],
            query,
            key: query / group,
        })
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let q = self.turned(values(q, lq)?, self.query_width(), Turn::Forward);
        let k = self.turned(values(k, lk)?, self.key_width(), Turn::Forward);
        let v = values(v, lv)?;
        let mut out = vec![0.0; q.len()];
        let rows = self.rows(&mut out, self.query_width());
        rows.into_par_iter().enumerate().for_each_init(Scratch::default, |scratch, (row, out)| {
            for head in self.heads_of_row([&q, &k, v], row) {
                self.forward_head(&head, out, scratch);
            }
        });
        output(out, lq.shape())
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (query_width, key_width) = (self.query_width(), self.key_width());
        let q_turned = self.turned(values_of(q).get()?, query_width, Turn::Forward);
        let k_turned = self.turned(values_of(k).get()?, key_width, Turn::Forward);
        let (v_values, grad) = (values_of(v), values_of(grad));
        let (v_slice, grad) = (v_values.get()?, grad.get()?);
        let (mut dq, mut dk, mut dv) =
            (vec![0.0; q_turned.len()], vec![0.0; k_turned.len()], vec![0.0; k_turned.len()]);
        let rows = self.rows(&mut dq, query_width).into_par_iter();
        let rows = rows.zip(self.rows(&mut dk, key_width)).zip(self.rows(&mut dv, key_width)).enumerate();
        rows.for_each_init(Scratch::default, |scratch, (row, ((dq, dk), dv))| {
            let grad = &grad[self.offsets[row] * query_width..self.offsets[row + 1] * query_width];
            for head in self.heads_of_row([&q_turned, &k_turned, v_slice], row) {
                self.backward_head(&head, grad, [&mut *dq, &mut *dk, &mut *dv], scratch);
            }
        });
        let dq = self.turned(&dq, query_width, Turn::Backward);
        let dk = self.turned(&dk, key_width, Turn::Backward);
        Ok((gradient(dq, q)?, gradient(dk, k)?, gradient(dv, v)?))
    }
}
