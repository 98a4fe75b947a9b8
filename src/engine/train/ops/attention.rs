//! Causal attention, each row of a batch by itself.
//!
//! Nothing of the size of the scores is kept: the gradient computes them again.

use super::{gradient, output, values, values_of};
use crate::engine::kernels;
use crate::engine::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
use crate::engine::model::Order;
use crate::engine::positions::{Fading, Rope, Turn};
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::borrow::Cow;
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
    /// What the product of query and key is multiplied by.
    pub scale: f32,
    /// What that comes near to and never reaches.
    pub cap: Option<f32>,
    /// How many positions a query sees, its own among them; all before it, where there is no number.
    pub window: Option<usize>,
    /// Angles by position within a row.
    pub rope: Option<Arc<Rope>>,
    /// What fades with distance.
    pub fading: Option<Arc<Fading>>,
}

/// One head's keys and values of one row, and where its queries lie in the row.
struct Head<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    query: usize,
    key: usize,
}

/// Scores of a block of queries, their gradient, and the slopes of what caps them.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    dscores: Vec<f32>,
    slopes: Vec<f32>,
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

    /// The first key that the query at a position sees.
    fn first_key(&self, query: usize) -> usize {
        self.window.map_or(0, |window| (query + 1).saturating_sub(window))
    }

    /// Queries or keys at their positions.
    fn turned<'a>(&self, x: &'a [f32], width: usize, turn: Turn) -> Cow<'a, [f32]> {
        let Some(rope) = &self.rope else { return x.into() };
        let mut x = x.to_vec();
        self.rows(&mut x, width).into_par_iter().for_each(|row| {
            for (position, token) in row.chunks_mut(width).enumerate() {
                rope.rotate(token, position, turn);
            }
        });
        x.into()
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

    /// Probabilities of queries `from..to` over keys `first..to`: `(to - from) × (to - first)`. Where scores are capped,
    /// `slopes` get the slopes of that.
    fn probabilities<'a>(
        &self,
        head: &Head<'_>,
        scores: &'a mut Vec<f32>,
        slopes: Option<&mut Vec<f32>>,
        [first, from, to]: [usize; 3],
    ) -> &'a mut [f32] {
        let keys = to - first;
        scores.resize(((to - from) * keys).max(scores.len()), 0.0);
        let scores = &mut scores[..(to - from) * keys];
        let q = self.head_of(head.q, from, to, head.query, self.query_width());
        let k = self.head_of(head.k, first, to, head.key, self.key_width());
        let out = MatrixMut::new(scores, to - from, keys);
        matmul(out, q, k.t(), self.scale, Write::Set, Threads::Caller);
        if let Some(cap) = self.cap {
            kernels::soft_cap(scores, cap);
            if let Some(slopes) = slopes {
                slopes.clear();
                slopes.extend(scores.iter().map(|score| kernels::soft_cap_slope(*score, cap)));
            }
        }
        for (query, row) in (from..to).zip(scores.chunks_mut(keys)) {
            let (seen, future) = row.split_at_mut(query + 1 - first);
            let (past, seen) = seen.split_at_mut(self.first_key(query) - first);
            if let Some(fading) = &self.fading {
                fading.add(seen, head.query, first + past.len());
            }
            kernels::softmax(seen);
            past.fill(0.0);
            future.fill(0.0);
        }
        scores
    }

    fn forward_head(&self, head: &Head<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let tokens = out.len() / self.query_width();
        for from in (0..tokens).step_by(QUERIES) {
            let (first, to) = (self.first_key(from), (from + QUERIES).min(tokens));
            let p = self.probabilities(head, &mut scratch.scores, None, [first, from, to]);
            let p = Matrix::new(p, to - from, to - first);
            let v = self.head_of(head.v, first, to, head.key, self.key_width());
            let out = self.head_of_mut(out, from, to, head.query, self.query_width());
            matmul(out, p, v, 1.0, Write::Set, Threads::Caller);
        }
    }

    fn backward_head(&self, head: &Head<'_>, grad: &[f32], [dq, dk, dv]: [&mut [f32]; 3], scratch: &mut Scratch) {
        let (query_width, key_width) = (self.query_width(), self.key_width());
        let tokens = grad.len() / query_width;
        for from in (0..tokens).step_by(QUERIES) {
            let (first, to) = (self.first_key(from), (from + QUERIES).min(tokens));
            let (queries, keys) = (to - from, to - first);
            let p = self.probabilities(head, &mut scratch.scores, Some(&mut scratch.slopes), [first, from, to]);
            let grad = self.head_of(grad, from, to, head.query, query_width);
            let v = self.head_of(head.v, first, to, head.key, key_width);
            scratch.dscores.resize((queries * keys).max(scratch.dscores.len()), 0.0);
            let ds = &mut scratch.dscores[..queries * keys];
            matmul(MatrixMut::new(ds, queries, keys), grad, v.t(), 1.0, Write::Set, Threads::Caller);
            let dv = self.head_of_mut(dv, first, to, head.key, key_width);
            matmul(dv, Matrix::new(p, queries, keys).t(), grad, 1.0, Write::Add, Threads::Caller);
            // The softmax's gradient: p · (dp - Σ p · dp).
            for (ds, p) in ds.chunks_mut(keys).zip(p.chunks(keys)) {
                let along = kernels::dot(ds, p);
                ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = p * (*ds - along));
            }
            if self.cap.is_some() {
                ds.iter_mut().zip(&scratch.slopes).for_each(|(ds, slope)| *ds *= slope);
            }
            let ds = Matrix::new(ds, queries, keys);
            let k = self.head_of(head.k, first, to, head.key, key_width);
            let q = self.head_of(head.q, from, to, head.query, query_width);
            let dq = self.head_of_mut(dq, from, to, head.query, query_width);
            matmul(dq, ds, k, self.scale, Write::Set, Threads::Caller);
            let dk = self.head_of_mut(dk, first, to, head.key, key_width);
            matmul(dk, ds.t(), q, self.scale, Write::Add, Threads::Caller);
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

    fn forward(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let q = self.turned(q, self.query_width(), Turn::Forward);
        let k = self.turned(k, self.key_width(), Turn::Forward);
        let mut out = vec![0.0; q.len()];
        let rows = self.rows(&mut out, self.query_width());
        rows.into_par_iter().enumerate().for_each_init(Scratch::default, |scratch, (row, out)| {
            for head in self.heads_of_row([&q, &k, v], row) {
                self.forward_head(&head, out, scratch);
            }
        });
        out
    }

    /// Gradients by queries, keys and values.
    fn backward(&self, q: &[f32], k: &[f32], v: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
        let (query_width, key_width) = (self.query_width(), self.key_width());
        let q = self.turned(q, query_width, Turn::Forward);
        let k = self.turned(k, key_width, Turn::Forward);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; k.len()]);
        let rows = self.rows(&mut dq, query_width).into_par_iter();
        let rows = rows.zip(self.rows(&mut dk, key_width)).zip(self.rows(&mut dv, key_width)).enumerate();
        rows.for_each_init(Scratch::default, |scratch, (row, ((dq, dk), dv))| {
            let grad = &grad[self.offsets[row] * query_width..self.offsets[row + 1] * query_width];
            for head in self.heads_of_row([&q, &k, v], row) {
                self.backward_head(&head, grad, [&mut *dq, &mut *dk, &mut *dv], scratch);
            }
        });
        let dq = self.turned(&dq, query_width, Turn::Backward).into_owned();
        let dk = self.turned(&dk, key_width, Turn::Backward).into_owned();
        [dq, dk, dv]
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
        output(self.forward(values(q, lq)?, values(k, lk)?, values(v, lv)?), lq.shape())
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (q_values, k_values, v_values, grad) = (values_of(q), values_of(k), values_of(v), values_of(grad));
        let [dq, dk, dv] = self.backward(q_values.get()?, k_values.get()?, v_values.get()?, grad.get()?);
        Ok((gradient(dq, q)?, gradient(dk, k)?, gradient(dv, v)?))
    }
}

/// Attention over the output of one layer, in which queries, keys and values stand in some order.
#[derive(Clone, Debug)]
pub struct FusedAttention {
    /// What is done with them.
    pub attention: Attention,
    /// How they stand.
    pub order: Order,
}

impl FusedAttention {
    /// Heads of a token's row, and how many of them are queries, then keys, then values.
    fn heads(&self) -> (Vec<usize>, [usize; 3]) {
        let Attention { heads, kv_heads, .. } = self.attention;
        (self.order.heads(heads, kv_heads), [heads, kv_heads, kv_heads])
    }

    /// Queries, keys and values.
    fn apart(&self, qkv: &[f32]) -> [Vec<f32>; 3] {
        let (order, counts) = self.heads();
        let head_dim = self.attention.head_dim;
        let mut rest = order.as_slice();
        counts.map(|count| {
            let (part, tail) = rest.split_at(count);
            rest = tail;
            let rows = qkv.chunks_exact(order.len() * head_dim);
            rows.flat_map(|row| part.iter().flat_map(|head| &row[head * head_dim..][..head_dim])).copied().collect()
        })
    }

    /// The reverse of [`Self::apart`].
    fn together(&self, parts: &[Vec<f32>; 3]) -> Vec<f32> {
        let (order, counts) = self.heads();
        let head_dim = self.attention.head_dim;
        let width = order.len() * head_dim;
        let mut qkv = vec![0.0; parts.iter().map(Vec::len).sum()];
        let mut rest = order.as_slice();
        for (part, count) in parts.iter().zip(counts) {
            let (places, tail) = rest.split_at(count);
            rest = tail;
            for (row, part) in qkv.chunks_exact_mut(width).zip(part.chunks_exact(count * head_dim)) {
                for (place, head) in places.iter().zip(part.chunks_exact(head_dim)) {
                    row[place * head_dim..][..head_dim].copy_from_slice(head);
                }
            }
        }
        qkv
    }
}

impl CustomOp1 for FusedAttention {
    fn name(&self) -> &'static str {
        "fused-attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let [q, k, v] = self.apart(values(storage, layout)?);
        output(self.attention.forward(&q, &k, &v), (layout.shape().dims2()?.0, self.attention.query_width()))
    }

    fn bwd(&self, qkv: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [q, k, v] = self.apart(values_of(qkv).get()?);
        gradient(self.together(&self.attention.backward(&q, &k, &v, values_of(grad).get()?)), qkv)
    }
}
