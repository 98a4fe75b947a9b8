//! Inference with a cache of keys and values, on plain slices of numbers.
//!
//! Several sequences advance together, each by as many tokens as it has: whole prompts and single tokens stand one after
//! the other in one matrix, nothing is ever padded. Products go through [`matmul`](super::matmul), and everything else
//! works on one position of one sequence at a time, over its real length. So what a sequence gets does not depend on
//! which others advance with it, nor on the number of threads. Knows nothing of text or of when to stop.

mod advances;
mod cache;
mod product;

pub use advances::Advances;
pub use cache::Cache;

use super::kernels;
use super::matmul::Write;
use super::model::{self, Config, Layer, Mlp, Model, Order, Projections, Qkv, Residual, Shape};
use super::positions::{Fading, Rope, Turn};
use cache::{Heads, Query};
use product::Product;
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;

/// A norm, with what normalised rows are multiplied by.
#[derive(Debug)]
struct Norm {
    factors: Vec<f32>,
    bias: Option<Arc<Vec<f32>>>,
}

/// One block of the model. Layers that read the same input are one layer here.
#[derive(Debug)]
struct Block {
    layer: Layer,
    attention_norm: Option<Norm>,
    /// Queries of all heads, then keys, then values of all key-value heads.
    qkv: Product,
    /// Of queries and keys; as wide as all of them, or as a head.
    qk_norms: Option<[Norm; 2]>,
    attention_out: Product,
    attention_post_norm: Option<Norm>,
    mlp_norm: Option<Norm>,
    /// What goes through the activation; behind it what that lets through, where it is a gate.
    up: Product,
    gated: bool,
    down: Product,
    mlp_post_norm: Option<Norm>,
}

/// Rows of logits that are there at a time where all rows are asked for.
const LOGIT_ROWS: usize = 64;

/// The logarithm of a token's probability.
pub fn log_probability(logits: &[f32], token: u32) -> f32 {
    logits[token as usize] - kernels::log_sum_exp(logits)
}

/// A model that can be run but not trained.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    /// `vocabulary × hidden`.
    embedding: Arc<Vec<f32>>,
    positions: Option<Arc<Vec<f32>>>,
    embedding_norm: Option<Norm>,
    projections: Option<Projections<Product>>,
    blocks: Vec<Block>,
    norm: Option<Norm>,
    head: Product,
    ropes: Vec<Rope>,
    fading: Option<Fading>,
}

/// A sequence and the tokens by which it is to advance (at least one).
#[derive(Debug)]
pub struct Advance<'a, C = Cache> {
    /// What it has seen.
    pub cache: &'a mut C,
    /// What comes next.
    pub tokens: &'a [u32],
}

impl Decoder {
    /// Makes a model ready to run: one of plain numbers, or one that is held, with an adapter beside it.
    pub fn new<L: product::Layer>(model: Model<L>) -> Self {
        let Model { config, embedding, positions, embedding_norm, projections, blocks, norm, head } = model;
        let projections =
            projections.map(|Projections { input, output }| Projections { input: alone(input), output: alone(output) });
        // Taken apart block by block, so that no more than one block's weights are there twice.
        let blocks = blocks.into_iter().zip(&config.layers).map(|(block, layer)| Block::new(block, *layer, &config));
        Self {
            blocks: blocks.collect(),
            positions,
            embedding_norm: embedding_norm.map(|norm| Norm::new(&norm, &config)),
            projections,
            norm: norm.map(|norm| Norm::new(&norm, &config)),
            ropes: Rope::of(&config),
            fading: Fading::of(&config),
            config,
            embedding,
            head: alone(head),
        }
    }

    /// Most positions that a sequence can have.
    pub fn context(&self) -> usize {
        self.config.shape.max_positions
    }

    /// Rows of the embedding, and numbers in a row of logits.
    pub fn vocab_size(&self) -> usize {
        self.head.outputs()
    }

    /// Rows of the embedding.
    pub fn embedding_rows(&self) -> usize {
        self.config.shape.vocab_size
    }

    /// Advances every sequence by its tokens. Returns, row by row, the logits after each sequence's last token.
    ///
    /// # Panics
    /// On tokens outside the vocabulary and on positions beyond the context: the caller's duty.
    pub fn advance(&self, sequences: &mut [Advance<'_>]) -> Vec<f32> {
        in_pool(|| {
            let all = self.hidden(sequences);
            let hidden = self.config.shape.hidden_size;
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
    #[cfg(test)]
    pub(super) fn advance_all(&self, sequences: &mut [Advance<'_>]) -> Vec<f32> {
        in_pool(|| {
            let rows = self.hidden(sequences);
            self.logits(&rows)
        })
    }

    /// Advances every sequence by its tokens. Returns, sequence by sequence, the logarithms of the probabilities of the
    /// tokens `next`, which stand behind the last of its tokens: as many of the last as there are in `next`.
    pub fn advance_towards(&self, sequences: &mut [Advance<'_>], next: &[&[u32]]) -> Vec<Vec<f32>> {
        in_pool(|| {
            let all = self.hidden(sequences);
            let hidden = self.config.shape.hidden_size;
            let (mut rows, mut wanted, mut end) = (Vec::new(), Vec::new(), 0);
            for (sequence, next) in sequences.iter().zip(next) {
                end += sequence.tokens.len();
                rows.extend_from_slice(&all[(end - next.len()) * hidden..end * hidden]);
                wanted.extend_from_slice(next);
            }
            let mut values = Vec::with_capacity(wanted.len());
            // A row of logits is as long as the vocabulary: never all rows at once.
            for (rows, wanted) in rows.chunks(LOGIT_ROWS * hidden).zip(wanted.chunks(LOGIT_ROWS)) {
                let logits = self.logits(rows);
                let of = |(row, token): (&[f32], &u32)| log_probability(row, *token);
                values.par_extend(logits.par_chunks_exact(self.vocab_size()).zip(wanted).map(of));
            }
            let mut values = values.into_iter();
            next.iter().map(|next| values.by_ref().take(next.len()).collect()).collect()
        })
    }

    /// Bytes of a cache of so many positions.
    pub fn cache_bytes(&self, positions: usize) -> usize {
        Cache::bytes(self.heads(), self.config.layers.iter().map(|layer| layer.window), positions)
    }

    /// The last block's output at every position.
    fn hidden(&self, sequences: &mut [Advance<'_>]) -> Vec<f32> {
        let mut x = self.embedded(sequences);
        for sequence in &mut *sequences {
            sequence.cache.layers.resize_with(self.blocks.len(), Default::default);
        }
        for (index, block) in self.blocks.iter().enumerate() {
            let normed = self.normalized(&x, block.attention_norm.as_ref());
            let mut qkv = block.qkv.apply(&normed);
            self.normalize_heads(&mut qkv, block);
            let mixed = self.attention(index, &qkv, sequences);
            // In a parallel block the feed-forward layer does not see what attention adds.
            let input = match self.config.residual {
                Residual::Sequential | Residual::SequentialNormed => None,
                Residual::Parallel => Some(self.normalized(&x, block.mlp_norm.as_ref()).into_owned()),
                Residual::ParallelShared => Some(normed.into_owned()),
            };
            self.add(&mut x, &mixed, &block.attention_out, block.attention_post_norm.as_ref());
            let up = match input {
                Some(input) => block.up.apply(&input),
                None => block.up.apply(&self.normalized(&x, block.mlp_norm.as_ref())),
            };
            let inner = self.activated(up, block);
            self.add(&mut x, &inner, &block.down, block.mlp_post_norm.as_ref());
        }
        for sequence in sequences {
            sequence.cache.positions += sequence.tokens.len();
        }
        x
    }

    /// The vectors of all new tokens.
    fn embedded(&self, sequences: &[Advance<'_>]) -> Vec<f32> {
        let Shape { hidden_size: hidden, embedding_size: width, .. } = self.config.shape;
        let tokens = sequences.iter().flat_map(|sequence| sequence.tokens);
        let mut x: Vec<f32> =
            tokens.flat_map(|token| &self.embedding[*token as usize * width..][..width]).copied().collect();
        if let Some(scale) = self.config.embedding_scale {
            x.iter_mut().for_each(|x| *x *= scale);
        }
        if let Some(around) = &self.projections {
            x = around.input.apply(&x);
        }
        if let (Some(table), Some((_, first))) = (&self.positions, self.config.layout.positions) {
            let positions = sequences.iter().flat_map(|sequence| {
                let begin = sequence.cache.positions;
                begin..begin + sequence.tokens.len()
            });
            for (x, position) in x.chunks_exact_mut(hidden).zip(positions) {
                let vector = &table[(first + position) * hidden..][..hidden];
                x.iter_mut().zip(vector).for_each(|(x, value)| *x += value);
            }
        }
        match &self.embedding_norm {
            Some(norm) => self.normalized(&x, Some(norm)).into_owned(),
            None => x,
        }
    }

    fn logits(&self, rows: &[f32]) -> Vec<f32> {
        let mut rows = self.normalized(rows, self.norm.as_ref());
        if let Some(around) = &self.projections {
            rows = around.output.apply(&rows).into();
        }
        let mut logits = self.head.apply(&rows);
        if let Some(cap) = self.config.logit_cap {
            logits.par_chunks_exact_mut(self.vocab_size()).for_each(|row| kernels::soft_cap(row, cap));
        }
        logits
    }

    /// `x` itself where there is no norm.
    fn normalized<'a>(&self, x: &'a [f32], norm: Option<&Norm>) -> Cow<'a, [f32]> {
        let Some(norm) = norm else { return x.into() };
        let width = norm.factors.len();
        let mut out = vec![0.0; x.len()];
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            self.config.norm.apply(out, x, &norm.factors, self.config.norm_eps);
        }
        if let Some(bias) = &norm.bias {
            kernels::add_to_rows(&mut out, bias);
        }
        out.into()
    }

    /// Normalises queries and keys, where the block does.
    fn normalize_heads(&self, qkv: &mut [f32], block: &Block) {
        let Some([of_q, of_k]) = &block.qk_norms else { return };
        let (q_width, kv_width) = (self.config.query_width(), self.config.kv_width());
        for row in qkv.chunks_exact_mut(q_width + 2 * kv_width) {
            let (q, rest) = row.split_at_mut(q_width);
            for (part, norm) in [(q, of_q), (&mut rest[..kv_width], of_k)] {
                let normed = self.normalized(part, Some(norm)).into_owned();
                part.copy_from_slice(&normed);
            }
        }
    }

    /// `x += norm(y · linear)`, or the norm of the sum.
    fn add(&self, x: &mut Vec<f32>, y: &[f32], linear: &Product, norm: Option<&Norm>) {
        match (norm, self.config.residual) {
            (None, _) => linear.multiply(x, y, Write::Add),
            (Some(_), Residual::SequentialNormed) => {
                linear.multiply(x, y, Write::Add);
                *x = self.normalized(x, norm).into_owned();
            }
            (Some(_), _) => {
                let y = linear.apply(y);
                x.iter_mut().zip(&*self.normalized(&y, norm)).for_each(|(x, y)| *x += y);
            }
        }
    }

    /// What of the feed-forward layer's rows goes down again.
    fn activated(&self, up: Vec<f32>, block: &Block) -> Vec<f32> {
        let (activation, width) = (self.config.activation, block.down.inputs());
        let mut out = vec![0.0; up.len() / block.up.outputs() * width];
        let rows = out.par_chunks_exact_mut(width).zip(up.par_chunks_exact(block.up.outputs())).with_min_len(16);
        match block.gated {
            true => rows.for_each(|(out, row)| activation.gated(out, &row[..width], &row[width..])),
            false => rows.for_each(|(out, row)| activation.apply(out, row)),
        }
        out
    }

    /// Puts new keys and values into the caches; returns what the heads see at each new position, side by side.
    fn attention(&self, block: usize, qkv: &[f32], sequences: &mut [Advance<'_>]) -> Vec<f32> {
        let (q_width, kv_width) = (self.config.query_width(), self.config.kv_width());
        let layer = &self.blocks[block].layer;
        let rope = layer.rotary.map(|index| &self.ropes[index]);
        let turned = |row: &[f32], turned: &mut Vec<f32>, position: usize| {
            turned.clear();
            turned.extend_from_slice(row);
            if let Some(rope) = rope {
                rope.rotate(turned, position, Turn::Forward);
            }
        };
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
            let seen = &mut sequence.cache.layers[block];
            let mut key = Vec::new();
            for (offset, row) in qkv.chunks_exact(width).enumerate() {
                turned(&row[q_width..q_width + kv_width], &mut key, start + offset);
                seen.push(self.heads(), start + offset, &key, &row[q_width + kv_width..]);
            }
            let rows = qkv.par_chunks_exact(width).zip(out.par_chunks_exact_mut(q_width)).enumerate();
            rows.for_each_init(Default::default, |(queries, scores), (offset, (row, out))| {
                turned(&row[..q_width], queries, start + offset);
                let end = start + offset + 1;
                let first = layer.window.map_or(0, |window| end.saturating_sub(window));
                let fading = self.fading.as_ref();
                let Layer { scale, cap, .. } = *layer;
                let query = Query { heads: self.heads(), queries, seen: first..end, scale, cap, fading };
                query.ask(seen, scores, out);
            });
            if let Some(window) = layer.window {
                seen.forget(start + sequence.tokens.len(), window);
            }
        });
        mixed
    }

    fn heads(&self) -> Heads {
        Heads { queries: self.config.shape.heads, keys: self.config.shape.kv_heads, width: self.config.shape.head_dim }
    }
}

impl Norm {
    fn new(norm: &model::Norm, config: &Config) -> Self {
        Self { factors: config.norm.factors(&norm.weight).into_owned(), bias: norm.bias.clone() }
    }
}

impl Block {
    fn new<L: product::Layer>(block: model::Block<model::Norm, L>, layer: Layer, config: &Config) -> Self {
        let norm = |norm: model::Norm| Norm::new(&norm, config);
        let (qkv, qk_norms) = match block.qkv {
            Qkv::Apart { q, k, v, norms } => {
                (L::side_by_side(vec![q, k, v]), norms.map(|norms| [norm(norms.q), norm(norms.k)]))
            }
            Qkv::Fused(linear, Order::Parts) => (alone(linear), None),
            Qkv::Fused(linear, order) => {
                let Shape { heads, kv_heads, head_dim, .. } = config.shape;
                (linear.sorted(&order.heads(heads, kv_heads), head_dim), None)
            }
        };
        let (up, gated, down) = match block.mlp {
            Mlp::Gated { gate, up, down } => (L::side_by_side(vec![gate, up]), true, down),
            Mlp::GatedFused { gate_up, down } => (alone(gate_up), true, down),
            Mlp::Plain { up, down } => (alone(up), false, down),
        };
        Self {
            layer,
            attention_norm: block.attention_norm.map(norm),
            qkv,
            qk_norms,
            attention_out: alone(block.o),
            attention_post_norm: block.attention_post_norm.map(norm),
            mlp_norm: block.mlp_norm.map(norm),
            up,
            gated,
            down: alone(down),
            mlp_post_norm: block.mlp_post_norm.map(norm),
        }
    }
}

/// Does work on a thread of the current rayon pool: one change of threads for a whole step, not one for every product.
fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

fn alone<L: product::Layer>(layer: L) -> Product {
    L::side_by_side(vec![layer])
}

#[cfg(test)]
mod tests;
