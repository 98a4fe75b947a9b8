//! An encoder in memory, and the way of texts through it.
//!
//! Texts stand one after the other in one matrix, nothing is ever padded. Products go through
//! [`matmul`](crate::engine::matmul), attention works on one text at a time and everything else on one row at a time; so
//! what a text gets does not depend on which others go with it, nor on the number of threads.

use super::attention::Attention;
use super::config::{Config, Positions};
use super::rows::{self, Norm};
use crate::engine::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
use rayon::prelude::*;

/// A text as a model sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text {
    /// Tokens, the special ones among them.
    pub ids: Vec<u32>,
    /// Of which kind each is: of the first text, or of the second.
    pub types: Vec<u32>,
}

/// A linear layer: `y = x · weight + bias`.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// `inputs × outputs`, row-major.
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// What a token asks, answers and says.
#[derive(Debug)]
pub(super) struct Heard {
    /// Queries, keys and values of all heads.
    pub qkv: Layer,
    /// What distances ask and answer.
    pub sides: Option<Sides>,
}

/// Keys and queries of distances.
#[derive(Debug)]
pub(super) struct Sides {
    pub keys: Option<Table>,
    pub queries: Option<Table>,
}

/// Vectors of distances, of all heads side by side.
#[derive(Debug)]
pub(super) struct Table(pub Vec<f32>);

/// One block.
#[derive(Debug)]
pub(super) struct Block {
    pub heard: Heard,
    pub o: Layer,
    pub attention_norm: Norm,
    pub up: Layer,
    pub down: Layer,
    pub norm: Norm,
}

/// The convolution beside the first block.
#[derive(Debug)]
pub(super) struct Convolve {
    /// Its inputs are those of all taps, side by side.
    pub layer: Layer,
    pub norm: Norm,
}

/// An encoder, ready to read texts.
#[derive(Debug)]
pub struct Encoder {
    pub(super) config: Config,
    pub(super) embedding: Vec<f32>,
    pub(super) positions: Vec<f32>,
    pub(super) types: Vec<f32>,
    pub(super) projection: Option<Layer>,
    pub(super) embedding_norm: Norm,
    pub(super) blocks: Vec<Block>,
    pub(super) convolution: Option<Convolve>,
    /// MPNet's numbers by class of distance and head.
    pub(super) bias: Vec<f32>,
    pub(super) head: Option<[Layer; 2]>,
}

/// Rows that one thread takes at a time.
const ROWS: usize = 32;

impl Encoder {
    /// Its description.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The vectors of all tokens of all texts, one after the other, behind the last block.
    ///
    /// # Panics
    /// On tokens outside the vocabulary and texts that are too long: the caller's duty, see [`Self::check`].
    pub fn read(&self, texts: &[&Text]) -> Vec<f32> {
        self.read_in_steps(texts, |_| {})
    }

    /// The same; says the vectors before the first block and behind each one.
    pub fn read_in_steps(&self, texts: &[&Text], mut seen: impl FnMut(&[f32]) + Send) -> Vec<f32> {
        // One change of threads for all of it, not one for every product.
        rayon::scope(|_| {
            let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
            let mut x = self.embedded(texts);
            let mut attention = Attention::new(self, &lengths);
            // Kept from block to block: fresh memory costs more than what is written to it.
            let mut inner = Vec::new();
            seen(&x);
            for (index, block) in self.blocks.iter().enumerate() {
                let convolved = self.convolution.as_ref().filter(|_| index == 0).map(|layer| (layer, x.clone()));
                let mixed = attention.mix(&block.heard, &x);
                block.o.add_to(&mut x, mixed);
                normalize(&mut x, &block.o.bias, &block.attention_norm);
                block.up.product_into(&mut inner, &x);
                let activation = self.config.activation;
                each(&mut inner, block.up.outputs, |rows| rows::activate(rows, &block.up.bias, activation));
                block.down.add_to(&mut x, &inner);
                normalize(&mut x, &block.down.bias, &block.norm);
                if let Some((layer, before)) = convolved {
                    self.convolve(layer, &before, &mut x, &lengths);
                }
                seen(&x);
            }
            x
        })
    }

    /// What a text is judged to be, by the vector of its first token; one number for each label.
    ///
    /// # Panics
    /// If the encoder was read without its head.
    pub fn judge(&self, texts: &[&Text]) -> Vec<Vec<f32>> {
        let all = self.read(texts);
        let [dense, out] = self.head.as_ref().expect("a head that was asked for");
        let hidden = self.config.shape.hidden_size;
        let mut row = 0;
        let judged = texts.iter().map(|text| {
            let mut inner = dense.product(&all[row * hidden..][..hidden]);
            row += text.ids.len();
            rows::activate(&mut inner, &dense.bias, self.config.head.activation);
            let mut labels = out.product(&inner);
            rows::add(&mut labels, &out.bias);
            labels
        });
        judged.collect()
    }

    /// Fails where a token has no row in the embedding, or a text has more tokens than the model has positions.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, text: &Text) -> anyhow::Result<()> {
        let rows = self.config.shape.vocab_size;
        if let Some(most) = self.config.max_tokens() {
            anyhow::ensure!(
                text.ids.len() <= most,
                "a text of {} tokens is too long for the model, which has {most} positions: set `max_tokens`",
                text.ids.len()
            );
        }
        if let Some(id) = text.ids.iter().find(|id| **id as usize >= rows) {
            anyhow::bail!("token {id} has no row in the embedding of {rows} rows: tokenizer and model do not fit");
        }
        Ok(())
    }

    /// The vectors of all tokens before the first block.
    fn embedded(&self, texts: &[&Text]) -> Vec<f32> {
        let width = self.config.shape.embedding_size;
        let kinds = self.config.layout.types.map_or(0, |(_, rows)| rows);
        let mut x = Vec::with_capacity(texts.iter().map(|text| text.ids.len()).sum::<usize>() * width);
        for text in texts {
            let mut place = 0;
            for (index, id) in text.ids.iter().enumerate() {
                let begin = x.len();
                x.extend_from_slice(&self.embedding[*id as usize * width..][..width]);
                let row = &mut x[begin..];
                let mut add = |table: &[f32], number: usize| {
                    row.iter_mut().zip(&table[number * width..][..width]).for_each(|(x, value)| *x += value);
                };
                if kinds > 0 {
                    // A model of one kind sees no second text.
                    let kind = text.types.get(index).map_or(0, |kind| *kind as usize);
                    add(&self.types, kind.min(kinds - 1));
                }
                if let Some(Positions { first, padding, .. }) = self.config.layout.positions {
                    if padding == Some(*id) {
                        add(&self.positions, first - 1);
                    } else {
                        add(&self.positions, first + place);
                        place += 1;
                    }
                }
            }
        }
        if let Some(projection) = &self.projection {
            x = projection.product(&x);
        }
        normalize(&mut x, &[], &self.embedding_norm);
        x
    }

    /// Adds what a convolution over `before` gives to `x`, and normalises that.
    fn convolve(&self, Convolve { layer, norm }: &Convolve, before: &[f32], x: &mut [f32], lengths: &[usize]) {
        let Some(convolution) = self.config.convolution else { return };
        let (hidden, side) = (self.config.shape.hidden_size, convolution.taps / 2);
        let mut taps = vec![0.0; x.len() * convolution.taps];
        let mut first = 0;
        for length in lengths {
            for position in 0..*length {
                let row = &mut taps[(first + position) * layer.inputs..][..layer.inputs];
                for (tap, row) in row.chunks_exact_mut(hidden).enumerate() {
                    // Beyond the ends of a text all is zero.
                    if let Some(at) = (position + tap).checked_sub(side).filter(|at| at < length) {
                        row.copy_from_slice(&before[(first + at) * hidden..][..hidden]);
                    }
                }
            }
            first += length;
        }
        let mut out = layer.product(&taps);
        each(&mut out, hidden, |rows| rows::activate(rows, &layer.bias, convolution.activation));
        x.iter_mut().zip(&out).for_each(|(x, out)| *x += out);
        normalize(x, &[], norm);
    }
}

impl Layer {
    /// `x · weight`: without the bias, which the next step over the rows adds.
    pub(super) fn product(&self, x: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        self.product_into(&mut out, x);
        out
    }

    /// The same into a buffer, of which all is overwritten.
    pub(super) fn product_into(&self, out: &mut Vec<f32>, x: &[f32]) {
        out.resize(x.len() / self.inputs * self.outputs, 0.0);
        self.multiply(out, x, Write::Set);
    }

    /// `out += x · weight`.
    fn add_to(&self, out: &mut [f32], x: &[f32]) {
        self.multiply(out, x, Write::Add);
    }

    fn multiply(&self, out: &mut [f32], x: &[f32], write: Write) {
        let Self { inputs, outputs, weight, .. } = self;
        let rows = x.len() / inputs;
        let (x, weight) = (Matrix::new(x, rows, *inputs), Matrix::new(weight, *inputs, *outputs));
        matmul(MatrixMut::new(out, rows, *outputs), x, weight, 1.0, write, Threads::Pool);
    }

    /// Layers of the same input as one, whose outputs stand side by side.
    pub(super) fn side_by_side(layers: &[Self]) -> Self {
        let inputs = layers[0].inputs;
        let mut weight = Vec::with_capacity(layers.iter().map(|layer| layer.weight.len()).sum());
        for row in 0..inputs {
            for layer in layers.iter().filter(|layer| !layer.weight.is_empty()) {
                weight.extend_from_slice(&layer.weight[row * layer.outputs..][..layer.outputs]);
            }
        }
        let bias = layers.iter().flat_map(|layer| &layer.bias).copied().collect();
        Self { inputs, outputs: layers.iter().map(|layer| layer.outputs).sum(), weight, bias }
    }
}

impl Table {
    /// What a layer makes of the vectors of distances.
    pub(super) fn of(layer: &Layer, vectors: &[f32]) -> Self {
        if vectors.is_empty() {
            return Self(Vec::new());
        }
        let mut rows = layer.product(vectors);
        rows::add(&mut rows, &layer.bias);
        Self(rows)
    }
}

/// Does work on groups of rows, on all threads.
pub(super) fn each(rows: &mut [f32], width: usize, work: impl Fn(&mut [f32]) + Send + Sync) {
    rows.par_chunks_mut(ROWS * width).for_each(work);
}

fn normalize(rows: &mut [f32], bias: &[f32], norm: &Norm) {
    each(rows, norm.weight.len(), |rows| rows::normalize(rows, bias, norm));
}
