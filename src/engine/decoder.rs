//! Inference with a cache of keys and values, on plain slices of numbers.
//!
//! Several sequences advance together, each by as many tokens as it has: whole prompts and single tokens stand one after
//! the other in one matrix, nothing is ever padded. Products go through [`matmul`](super::matmul), and everything else
//! works on one position of one sequence at a time, over its real length. So what a sequence gets does not depend on
//! which others advance with it, nor on the number of threads. Knows nothing of text or of when to stop.

use super::kernels::{self, Rope, Turn};
use super::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
use super::model::{Config, Linear, Model};
use rayon::prelude::*;
use std::sync::Arc;

/// One block of the model. Layers that read the same input are one layer here.
#[derive(Debug)]
struct Block {
    attention_norm: Arc<Vec<f32>>,
    /// Queries of all heads, then keys, then values of all key-value heads.
    qkv: Linear,
    attention_out: Linear,
    mlp_norm: Arc<Vec<f32>>,
    /// The gate, then what it lets through.
    gate_up: Linear,
    down: Linear,
}

/// A model that can be run but not trained.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    /// `vocabulary × hidden`.
    embedding: Arc<Vec<f32>>,
    blocks: Vec<Block>,
    norm: Arc<Vec<f32>>,
    head: Linear,
    rope: Rope,
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
    /// Makes a model ready to run.
    pub fn new(model: Model) -> Self {
        let Model { config, embedding, blocks, norm, head } = model;
        // Taken apart block by block, so that no more than one block's weights are there twice.
        let blocks = blocks.into_iter().map(|block| Block {
            qkv: side_by_side(&[&block.q, &block.k, &block.v]),
            gate_up: side_by_side(&[&block.gate, &block.up]),
            attention_norm: block.attention_norm,
            attention_out: block.o,
            mlp_norm: block.mlp_norm,
            down: block.down,
        });
        let rope = Rope::new(config.rope_theta, config.head_dim, config.max_positions);
        Self { blocks: blocks.collect(), config, embedding, norm, head, rope }
    }

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
        in_pool(|| {
            let all = self.hidden(sequences);
            let hidden = self.norm.len();
            // Only the last position of each sequence is asked for.
            let mut rows = Vec::with_capacity(sequences.len() * hidden);
            let mut end = 0;
            for sequence in sequences {
                end += sequence.tokens.len();
                rows.extend_from_slice(&all[(end - 1) * hidden..end * hidden]);
            }
            self.logits(&rows)
        })
    }

    /// Advances every sequence by its tokens. Returns the logits after every token of every sequence, row by row.
    pub fn advance_all(&self, sequences: &mut [Advance<'_>]) -> Vec<f32> {
        in_pool(|| {
            let rows = self.hidden(sequences);
            self.logits(&rows)
        })
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
            let qkv = apply(&block.qkv, &self.normalized(&x, &block.attention_norm));
            let mixed = self.attention(index, &qkv, sequences);
            multiply(&mut x, &mixed, &block.attention_out, Write::Add);
            let gate_up = apply(&block.gate_up, &self.normalized(&x, &block.mlp_norm));
            multiply(&mut x, &swiglu(&gate_up, block.down.inputs), &block.down, Write::Add);
        }
        for sequence in sequences {
            sequence.cache.positions += sequence.tokens.len();
        }
        x
    }

    fn logits(&self, rows: &[f32]) -> Vec<f32> {
        apply(&self.head, &self.normalized(rows, &self.norm))
    }

    fn normalized(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let width = weight.len();
        let mut out = vec![0.0; x.len()];
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            kernels::rms_norm(out, x, weight, self.config.norm_eps);
        }
        out
    }

    /// Puts new keys and values into the caches; returns what the heads see at each new position, side by side.
    fn attention(&self, block: usize, qkv: &[f32], sequences: &mut [Advance<'_>]) -> Vec<f32> {
        let (q_width, kv_width) =
            (self.config.heads * self.config.head_dim, self.config.kv_heads * self.config.head_dim);
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
        let (head_dim, kv_width) = (self.config.head_dim, self.config.kv_heads * self.config.head_dim);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let mut weights = vec![0.0; positions];
        let heads = queries.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim));
        for (head, (query, out)) in heads.enumerate() {
            let begin = head / (self.config.heads / self.config.kv_heads) * head_dim;
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

/// Does work on a thread of the current rayon pool: one change of threads for a whole step, not one for every product.
fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
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

fn apply(linear: &Linear, x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / linear.inputs * linear.outputs];
    multiply(&mut out, x, linear, Write::Set);
    out
}

fn multiply(out: &mut [f32], x: &[f32], linear: &Linear, write: Write) {
    let Linear { inputs, outputs, weight, .. } = linear;
    let rows = x.len() / inputs;
    let (x, weight) = (Matrix::new(x, rows, *inputs), Matrix::new(weight, *inputs, *outputs));
    matmul(MatrixMut::new(out, rows, *outputs), x, weight, 1.0, write, Threads::Pool);
}

/// Linear layers of the same input as one, whose outputs stand side by side.
fn side_by_side(linears: &[&Linear]) -> Linear {
    let inputs = linears[0].inputs;
    let outputs: usize = linears.iter().map(|linear| linear.outputs).sum();
    let mut weight = Vec::with_capacity(inputs * outputs);
    for row in 0..inputs {
        for linear in linears {
            weight.extend_from_slice(&linear.weight[row * linear.outputs..][..linear.outputs]);
        }
    }
    let name = linears.iter().map(|linear| linear.name.as_str()).collect::<Vec<_>>().join(" + ");
    Linear { name, inputs, outputs, weight: Arc::new(weight) }
}

#[cfg(test)]
mod tests;
