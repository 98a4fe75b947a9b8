//! Attention within texts: every token of a text sees every other.

use super::config::{Config, Relative};
use super::network::{Encoder, Heard, Sides, Table, each};
use super::relative::Rows;
use super::rows;
use crate::engine::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
use rayon::prelude::*;

/// What the blocks of an encoder have in common for the same texts.
pub(super) struct Attention<'a> {
    config: &'a Config,
    /// MPNet's numbers by class of distance and head.
    bias: &'a [f32],
    /// Which rows of tables distances have.
    rows: Rows,
    lengths: &'a [usize],
    /// Queries, keys and values; what the heads see, head by head, and side by side. Kept from block to block.
    qkv: Vec<f32>,
    apart: Vec<f32>,
    mixed: Vec<f32>,
}

/// What a thread needs besides, kept from text to text.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    keys: Vec<f32>,
    queries: Vec<f32>,
}

impl<'a> Attention<'a> {
    /// For texts of these lengths.
    pub(super) fn new(encoder: &'a Encoder, lengths: &'a [usize]) -> Self {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let rows = match &encoder.config.relative {
            Relative::None => Rows::default(),
            Relative::Bias { .. } => Rows::of_bias(longest),
            Relative::Disentangled(table) => Rows::of_table(longest, table),
        };
        let (qkv, apart, mixed) = Default::default();
        Self { config: &encoder.config, bias: &encoder.bias, rows, lengths, qkv, apart, mixed }
    }

    /// What the heads see at each position of tokens' vectors, side by side.
    pub(super) fn mix(&mut self, heard: &Heard, x: &[f32]) -> &[f32] {
        let mut qkv = std::mem::take(&mut self.qkv);
        heard.qkv.product_into(&mut qkv, x);
        each(&mut qkv, heard.qkv.outputs, |rows| rows::add(rows, &heard.qkv.bias));
        let (heads, width) = (self.config.shape.heads, self.config.shape.head_dim);
        let all = heads * width;
        // Head by head of each text, so that each is a piece of its own.
        let mut apart = std::mem::take(&mut self.apart);
        apart.resize(qkv.len() / 3, 0.0);
        let (mut rest_in, mut rest_out) = (qkv.as_slice(), apart.as_mut_slice());
        let mut work = Vec::with_capacity(self.lengths.len() * heads);
        for length in self.lengths.iter().filter(|length| **length > 0) {
            let (text, tail) = rest_in.split_at(length * 3 * all);
            let (out, tail_out) = rest_out.split_at_mut(length * all);
            (rest_in, rest_out) = (tail, tail_out);
            work.extend(out.chunks_exact_mut(length * width).enumerate().map(|(head, out)| (text, head, out)));
        }
        work.into_par_iter().for_each_init(Scratch::default, |scratch, (text, head, out)| {
            self.head(text, head, heard.sides.as_ref(), scratch, out);
        });
        self.side_by_side(&apart);
        (self.qkv, self.apart) = (qkv, apart);
        &self.mixed
    }

    /// One head of one text: queries, keys and values stand side by side in the rows of `text`.
    fn head(&self, text: &[f32], head: usize, sides: Option<&Sides>, scratch: &mut Scratch, out: &mut [f32]) {
        let (heads, width) = (self.config.shape.heads, self.config.shape.head_dim);
        let (all, tokens) = (heads * width, out.len() / width);
        let part = |part: usize| Matrix::strided(&text[part * all + head * width..], tokens, width, 3 * all);
        let [q, k, v] = [0, 1, 2].map(part);
        let Scratch { scores, keys, queries } = scratch;
        scores.resize(tokens * tokens, 0.0);
        matmul(MatrixMut::new(scores, tokens, tokens), q, k.t(), 1.0, Write::Set, Threads::Caller);
        if let Some(sides) = sides {
            let range = self.rows.range(tokens);
            let (first, count) = (*range.start(), range.end() - range.start() + 1);
            let product = |out: &mut Vec<f32>, x: Matrix<'_>, table: &Option<Table>| {
                let Some(Table(vectors)) = table else { return };
                let vectors = Matrix::strided(&vectors[first * all + head * width..], count, width, all);
                out.resize(tokens * count, 0.0);
                matmul(MatrixMut::new(out, tokens, count), x, vectors.t(), 1.0, Write::Set, Threads::Caller);
            };
            product(keys, q, &sides.keys);
            product(queries, k, &sides.queries);
            for (query, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                let rows = self.rows.of_query(query, tokens).iter().rev().map(|row| row - first);
                if sides.keys.is_some() {
                    let seen = &keys[query * count..][..count];
                    scores.iter_mut().zip(rows.clone()).for_each(|(score, row)| *score += seen[row]);
                }
                if sides.queries.is_some() {
                    let seen = queries.chunks_exact(count);
                    scores.iter_mut().zip(rows).zip(seen).for_each(|((score, row), seen)| *score += seen[row]);
                }
            }
        }
        let mut scale = self.config.scale;
        if !self.bias.is_empty() {
            // What is added is not multiplied.
            let of_class = |row: &usize| self.bias[row * heads + head];
            for (query, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                let rows = self.rows.of_query(query, tokens).iter().rev();
                scores.iter_mut().zip(rows).for_each(|(score, row)| *score = *score * scale + of_class(row));
            }
            scale = 1.0;
        }
        rows::softmax(scores, tokens, scale);
        let weights = Matrix::new(scores, tokens, tokens);
        matmul(MatrixMut::new(out, tokens, width), weights, v, 1.0, Write::Set, Threads::Caller);
    }

    /// The heads of each token, side by side.
    fn side_by_side(&mut self, apart: &[f32]) {
        let (heads, width) = (self.config.shape.heads, self.config.shape.head_dim);
        let out = &mut self.mixed;
        out.clear();
        let mut rest = apart;
        for length in self.lengths {
            let (text, tail) = rest.split_at(length * heads * width);
            rest = tail;
            for token in 0..*length {
                for head in 0..heads {
                    out.extend_from_slice(&text[(head * length + token) * width..][..width]);
                }
            }
        }
    }
}
