//! Inference with a cache of keys and values, on plain slices of numbers.
//!
//! Several sequences advance together, each by as many tokens as it has: whole prompts and single tokens stand one after
//! the other in one matrix, nothing is ever padded. Products go through [`matmul`](super::matmul), and everything else
//! works on one position of one sequence at a time, over its real length. So what a sequence gets does not depend on
//! which others advance with it, nor on the number of threads. Knows nothing of text or of when to stop.

use super::kernels::{self, Rope, Turn};
use super::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
use rayon::prelude::*;

/// A frozen linear layer as products want it: row-major `inputs × outputs`.
#[derive(Debug)]
pub(super) struct Linear {
    pub weight: Vec<f32>,
    pub inputs: usize,
    pub outputs: usize,
}

/// One block of the model. Layers that read the same input are one layer here.
#[derive(Debug)]
pub(super) struct Block {
    pub attention_norm: Vec<f32>,
    /// Queries of all heads, then keys, then values of all key-value heads.
    pub qkv: Linear,
    pub attention_out: Linear,
    pub mlp_norm: Vec<f32>,
    /// The gate, then what it is multiplied with.
    pub gate_up: Linear,
    pub down: Linear,
}

/// A model that can be run but not trained.
#[derive(Debug)]
pub struct Decoder {
    /// `vocabulary × hidden`.
    pub(super) embedding: Vec<f32>,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: Vec<f32>,
    pub(super) head: Linear,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) norm_eps: f32,
    pub(super) rope: Rope,
}

/// The keys and values of one sequence's positions so far.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// Per block, `positions × (kv_heads · head_dim)`.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    positions: usize,
}

impl Cache {
    /// How many positions it holds.
    pub fn positions(&self) -> usize {
        self.positions
    }
}

/// A sequence and the tokens by which it is to advance (at least one).
#[derive(Debug)]
pub struct Advance<'a> {
    /// What it has seen.
    pub cache: &'a mut Cache,
    /// What comes next.
    pub tokens: &'a [u32],
}

impl Decoder {
    /// Most positions that a sequence can have.
    pub fn context(&self) -> usize {
        self.rope.positions()
    }

    /// Rows of the embedding, and numbers in a row of logits.
    pub fn vocab_size(&self) -> usize {
        self.head.outputs
    }

    /// Advances every sequence by its tokens. Returns, row by row, the logits after each sequence's last token.
    ///
    /// # Panics
    /// On tokens outside the vocabulary and on positions beyond the context: the caller's duty.
    pub fn advance(&self, sequences: &mut [Advance<'_>]) -> Vec<f32> {
        let last = self.hidden(sequences);
        let hidden = self.norm.len();
        // Only the last position of each sequence is asked for.
        let mut rows = Vec::with_capacity(sequences.len() * hidden);
        let mut end = 0;
        for sequence in sequences {
            end += sequence.tokens.len();
            rows.extend_from_slice(&last[(end - 1) * hidden..end * hidden]);
        }
        self.logits(&rows)
    }

    /// Advances every sequence by its tokens. Returns the logits after every token of every sequence, row by row.
    pub fn advance_all(&self, sequences: &mut [Advance<'_>]) -> Vec<f32> {
        let rows = self.hidden(sequences);
        self.logits(&rows)
    }

    /// The last block's output at every position.
    fn hidden(&self, sequences: &mut [Advance<'_>]) -> Vec<f32> {
        let hidden = self.norm.len();
        let tokens = sequences.iter().flat_map(|sequence| sequence.tokens);
        let mut x: Vec<f32> =
            tokens.flat_map(|token| &self.embedding[*token as usize * hidden..][..hidden]).copied().collect();
        for sequence in &mut *sequences {
            sequence.cache.keys.resize_with(self.blocks.len(), Vec::new);
            sequence.cache.values.resize_with(self.blocks.len(), Vec::new);
        }
        for (index, block) in self.blocks.iter().enumerate() {
            let qkv = block.qkv.of(&self.normalized(&x, &block.attention_norm));
            let mixed = self.attention(index, &qkv, sequences);
            block.attention_out.add_to(&mut x, &mixed);
            let gate_up = block.gate_up.of(&self.normalized(&x, &block.mlp_norm));
            block.down.add_to(&mut x, &swiglu(&gate_up, block.down.inputs));
        }
        for sequence in sequences {
            sequence.cache.positions += sequence.tokens.len();
        }
        x
    }

    fn logits(&self, rows: &[f32]) -> Vec<f32> {
        self.head.of(&self.normalized(rows, &self.norm))
    }

    fn normalized(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let width = weight.len();
        let mut out = vec![0.0; x.len()];
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            kernels::rms_norm(out, x, weight, self.norm_eps);
        }
        out
    }

    /// Puts new keys and values into the caches; returns what the heads see at each new position, side by side.
    fn attention(&self, block: usize, qkv: &[f32], sequences: &mut [Advance<'_>]) -> Vec<f32> {
        let (q_width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let width = q_width + 2 * kv_width;
        let mut mixed = vec![0.0; qkv.len() / width * q_width];
        // Each sequence takes its part of both matrices along.
        let (mut rest_in, mut rest_out) = (qkv, mixed.as_mut_slice());
        let mut work = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let (qkv, tail) = rest_in.split_at(sequence.tokens.len() * width);
            let (out, tail_out) = rest_out.split_at_mut(sequence.tokens.len() * q_width);
            (rest_in, rest_out) = (tail, tail_out);
            work.push((sequence, qkv, out));
        }
        work.into_par_iter().for_each(|(sequence, qkv, out)| {
            let start = sequence.cache.positions;
            let (keys, values) = (&mut sequence.cache.keys[block], &mut sequence.cache.values[block]);
            for (offset, row) in qkv.chunks_exact(width).enumerate() {
                values.extend_from_slice(&row[q_width + kv_width..]);
                keys.extend_from_slice(&row[q_width..q_width + kv_width]);
                let new = keys.len() - kv_width;
                self.rope.rotate(&mut keys[new..], start + offset, Turn::Forward);
            }
            let rows = qkv.par_chunks_exact(width).zip(out.par_chunks_exact_mut(q_width));
            rows.enumerate().for_each(|(offset, (row, out))| {
                let mut queries = row[..q_width].to_vec();
                self.rope.rotate(&mut queries, start + offset, Turn::Forward);
                self.attend(&queries, keys, values, start + offset + 1, out);
            });
        });
        mixed
    }

    /// What every head of one position sees of the first `positions` keys and values.
    #[expect(clippy::cast_precision_loss, reason = "a head is far narrower than 2^24")]
    fn attend(&self, queries: &[f32], keys: &[f32], values: &[f32], positions: usize, out: &mut [f32]) {
        let (head_dim, kv_width) = (self.head_dim, self.kv_heads * self.head_dim);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let mut weights = vec![0.0; positions];
        let heads = queries.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim));
        for (head, (query, out)) in heads.enumerate() {
            let begin = head / (self.heads / self.kv_heads) * head_dim;
            let of = |matrix| head_rows(matrix, begin, head_dim, kv_width);
            for (weight, key) in weights.iter_mut().zip(of(keys)) {
                *weight = kernels::dot(query, key) * scale;
            }
            kernels::softmax(&mut weights);
            for (weight, value) in weights.iter().zip(of(values)) {
                for (out, value) in out.iter_mut().zip(value) {
                    *out += weight * value;
                }
            }
        }
    }
}

/// One head's part of each row of a matrix.
fn head_rows(matrix: &[f32], begin: usize, head_dim: usize, width: usize) -> impl Iterator<Item = &[f32]> {
    matrix.chunks_exact(width).map(move |row| &row[begin..begin + head_dim])
}

/// `silu(gate) · up` for rows that hold the gate, then as many numbers to multiply.
fn swiglu(gate_up: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; gate_up.len() / 2];
    let rows = out.par_chunks_exact_mut(width).zip(gate_up.par_chunks_exact(2 * width));
    rows.with_min_len(16).for_each(|(out, row)| kernels::swiglu(out, &row[..width], &row[width..]));
    out
}

impl Linear {
    fn of(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        let mut out = vec![0.0; rows * self.outputs];
        self.product(&mut out, x, Write::Set);
        out
    }

    fn add_to(&self, out: &mut [f32], x: &[f32]) {
        self.product(out, x, Write::Add);
    }

    fn product(&self, out: &mut [f32], x: &[f32], write: Write) {
        let rows = x.len() / self.inputs;
        let (x, weight) = (Matrix::new(x, rows, self.inputs), Matrix::new(&self.weight, self.inputs, self.outputs));
        matmul(MatrixMut::new(out, rows, self.outputs), x, weight, 1.0, write, Threads::Pool);
    }
}
