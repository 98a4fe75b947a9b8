//! How the steps of a model are computed: what a graph asks for, whoever computes it.
//!
//! There are two answers. [`Fused`](super::fused::Fused) has operations of its own for f32 on the processor, and keeps the
//! contract of its bits; [`Plain`](crate::engine::plain::Plain) uses operations that every device has. A graph is one and
//! the same over both.

use super::parts::{Layer, Norm, Table, Tokens};
use crate::engine::activation::Activation;
use crate::engine::held::Held;
use crate::engine::model::{self, Config, Mlp, Order, Shape};
use crate::engine::train::batch::Batch;
use crate::engine::train::numbers::Numbers;
use crate::engine::train::ops::Norm as NormOp;
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::fmt::Debug;
use std::sync::Arc;

/// Queries, keys and values as linear layers give them, token by token.
#[derive(Debug)]
pub enum Heads {
    /// Each by itself.
    Apart([Tensor; 3]),
    /// In one tensor.
    Fused(Tensor, Order),
}

/// What the tokens of a batch see of each other in one block.
#[derive(Debug)]
pub struct Sight<'a, S: Arithmetic> {
    /// Widths and counts.
    pub shape: &'a Shape,
    /// What is special to the block.
    pub layer: &'a model::Layer,
    /// What positions do.
    pub distances: &'a S::Distances,
    /// Which tokens stand in one row.
    pub rows: &'a S::Rows,
}

/// Computes the steps of a model. Every tensor is `tokens × width`; the rows of a batch stand one after the other.
pub trait Arithmetic: Clone + Debug + Send + Sync + 'static {
    /// Numbers that do not learn: of a norm, of a bias, of a table.
    type Vector: Debug + Send + Sync;
    /// A matrix that does not learn.
    type Matrix: Debug + Send + Sync;
    /// Rotary positions and what fades with distance.
    type Distances: Debug + Send + Sync;
    /// How the tokens of a batch stand in rows.
    type Rows: Debug;

    /// Where tensors are.
    fn device(&self) -> &Device;
    /// Numbers that do not learn, in this shape.
    fn vector(&self, values: &Arc<Vec<f32>>, shape: &[usize]) -> Result<Self::Vector>;
    /// A matrix that does not learn.
    fn matrix(&self, held: &Arc<Held>) -> Result<Self::Matrix>;
    /// Bytes of a matrix.
    fn bytes(matrix: &Self::Matrix) -> usize;
    /// Those of a model.
    fn distances(&self, config: &Config) -> Result<Self::Distances>;
    /// Those of a batch.
    fn rows(&self, batch: &Batch) -> Result<Self::Rows>;
    /// A tensor's numbers, where an optimiser works on them.
    fn numbers(&self, tensor: &Tensor) -> Result<Numbers>;

    /// Some rows of a table, each `width` wide.
    fn lookup(&self, table: &Table<Self>, ids: &Arc<Vec<u32>>, width: usize) -> Result<Tensor>;
    /// Some tokens of a batch, in order; none comes twice.
    fn select(&self, x: &Tensor, rows: &Arc<Vec<u32>>) -> Result<Tensor>;
    /// A norm of rows that are as wide as its weight.
    fn norm(&self, x: &Tensor, norm: &Norm<Self>, op: NormOp) -> Result<Tensor>;
    /// A linear layer.
    fn linear(&self, x: &Tensor, layer: &Layer<Self>, tokens: Tokens<'_>) -> Result<Tensor>;
    /// What every head sees at every token, side by side.
    fn attend(&self, heads: Heads, sight: &Sight<'_, Self>) -> Result<Tensor>;
    /// `f(x)`.
    fn activate(&self, x: &Tensor, f: Activation) -> Result<Tensor>;
    /// `f(gate) · up`.
    fn gated(&self, gate: &Tensor, up: &Tensor, f: Activation) -> Result<Tensor>;
    /// `f(gate) · up` of rows that hold the gate, then as many numbers to multiply.
    fn gated_fused(&self, x: &Tensor, f: Activation) -> Result<Tensor>;
    /// A whole gated feed-forward layer of which nothing learns: gate, up and down.
    fn frozen_gated(&self, x: &Tensor, matrices: [&Self::Matrix; 3], f: Activation) -> Result<Tensor>;
    /// A sum.
    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;
    /// A product with one number.
    fn scale(&self, x: &Tensor, by: f32) -> Result<Tensor>;
    /// `cap · tanh(x / cap)`.
    fn soft_cap(&self, x: &Tensor, cap: f32) -> Result<Tensor>;
    /// `scale · Σ -log softmax(logits)[label]` over the rows of `logits`: an f32 scalar.
    fn cross_entropy(&self, logits: &Tensor, labels: &Arc<Vec<u32>>, scale: f64) -> Result<Tensor>;
    /// A number whose gradient by `x` is given: where the backward pass begins again, in the middle of a model.
    fn seed(&self, x: &Tensor, gradient: Tensor) -> Result<Tensor>;

    /// A feed-forward layer.
    fn feed_forward(&self, x: &Tensor, mlp: &Mlp<Layer<Self>>, f: Activation, tokens: Tokens<'_>) -> Result<Tensor> {
        if let Mlp::Gated { gate, up, down } = mlp
            && let (Some(gate), Some(up), Some(down)) = (gate.frozen(), up.frozen(), down.frozen())
        {
            return self.frozen_gated(x, [gate, up, down], f);
        }
        let (inner, down) = match mlp {
            Mlp::Gated { gate, up, down } => {
                let [gate, up] = [gate, up].map(|layer| self.linear(x, layer, tokens));
                (self.gated(&gate?, &up?, f)?, down)
            }
            Mlp::GatedFused { gate_up, down } => (self.gated_fused(&self.linear(x, gate_up, tokens)?, f)?, down),
            Mlp::Plain { up, down } => (self.activate(&self.linear(x, up, tokens)?, f)?, down),
        };
        self.linear(&inner, down, tokens)
    }
}
