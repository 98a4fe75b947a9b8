//! A model as a differentiable function of its trainable parameters.
//!
//! The parameters stand in an ordered list; everything else is frozen and has no gradient.

mod arithmetic;
mod build;
mod fused;
pub(in crate::engine) mod parts;

pub use arithmetic::{Arithmetic, Heads, Sight};
pub use fused::Fused;

use self::build::Slot;
use self::parts::{Layer, Norm, Table, Tokens};
use super::batch::Batch;
use super::numbers::Numbers;
use super::ops::Norm as NormOp;
use crate::engine::model::{Adapter, Block, Config, Model, Projections, QkNorms, Qkv, Residual, Shape};
use crate::random::Random;
use anyhow::{Context as _, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use std::sync::Arc;

/// Something that is trained.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in messages.
    pub name: String,
    /// Its numbers in the graph.
    pub var: Var,
    /// Whether weight decay applies: not to norms and biases.
    pub decays: bool,
}

impl Parameter {
    fn new(name: String, shape: &[usize], values: Vec<f32>, decays: bool, device: &Device) -> Result<Self> {
        Ok(Self { name, var: Var::from_vec(values, shape, device)?, decays })
    }

    /// Gives it other numbers.
    pub(super) fn set(&self, values: &Numbers) -> Result<()> {
        let tensor = match values {
            Numbers::Host(values) => &Tensor::from_slice(values, self.var.shape(), self.var.device())?,
            Numbers::Device(tensor) => tensor,
        };
        Ok(self.var.set(tensor)?)
    }
}

/// What a training makes.
#[derive(Clone, Debug)]
pub enum Trained {
    /// A model of its own.
    Model(Box<Model>),
    /// An adapter on the model that it began with.
    Adapter(Adapter),
}

/// A model that learns.
#[derive(Debug)]
pub struct Graph<S: Arithmetic = Fused> {
    arithmetic: S,
    config: Config,
    embedding: Table<S>,
    positions: Option<Table<S>>,
    embedding_norm: Option<Norm<S>>,
    projections: Option<Projections<Layer<S>>>,
    blocks: Vec<Block<Norm<S>, Layer<S>>>,
    norm: Option<Norm<S>>,
    head: Layer<S>,
    distances: S::Distances,
    parameters: Vec<Parameter>,
    checkpoint: bool,
    goal: Goal,
}

#[derive(Debug)]
enum Goal {
    /// Nothing: no weight learns.
    None,
    /// The model, with its weights taken out.
    Model(Box<Model>),
    /// The adapter, with its numbers taken out, and what the parameters are in it.
    Adapter(Box<Adapter>, Vec<Slot>),
}

/// A batch on its way through the model.
struct Way<'a, S: Arithmetic> {
    batch: &'a Batch,
    rows: S::Rows,
    /// The step of training; without it nothing is dropped.
    step: Option<u64>,
}

impl<S: Arithmetic> Way<'_, S> {
    /// The generators of a layer's dropout.
    fn tokens(&self, random: &Random) -> Option<Vec<Random>> {
        Some(token_generators(random.part(self.step?), self.batch))
    }
}

impl<S: Arithmetic> Graph<S> {
    /// What is trained, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The numbers of the parameters, where the optimiser works on them.
    pub(super) fn values(&self) -> Result<Vec<Numbers>> {
        self.parameters.iter().map(|parameter| self.arithmetic.numbers(&parameter.var)).collect()
    }

    /// Numbers of a parameter, brought to where the optimiser works.
    pub(super) fn place(&self, numbers: &Numbers, parameter: &Parameter) -> Result<Numbers> {
        let values = numbers.host()?;
        self.arithmetic.numbers(&Tensor::from_slice(&values, parameter.var.shape(), parameter.var.device())?)
    }

    /// Whether the backward pass computes each block again, so that between the passes only what goes from block to block
    /// is kept. The same bits, in less memory and more time.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoint: bool) -> Self {
        self.checkpoint = checkpoint;
        self
    }

    fn way<'a>(&self, batch: &'a Batch, step: Option<u64>) -> Result<Way<'a, S>> {
        Ok(Way { batch, rows: self.arithmetic.rows(batch)?, step })
    }

    /// `scale · Σ` of the cross-entropy over the batch's labels: a scalar. `step` is that of training; without it
    /// nothing is dropped.
    pub fn loss(&self, batch: &Batch, scale: f64, step: Option<u64>) -> Result<Tensor> {
        let way = self.way(batch, step)?;
        self.loss_of(&self.hidden(&way)?, &way, scale)
    }

    /// The same, of the vectors after the last block.
    fn loss_of(&self, hidden: &Tensor, way: &Way<'_, S>, scale: f64) -> Result<Tensor> {
        let batch = way.batch;
        let asked = self.arithmetic.select(hidden, &batch.asked)?;
        let tokens = |random: &Random| {
            let all = way.tokens(random)?;
            Some(batch.asked.iter().map(|row| all[*row as usize]).collect())
        };
        let logits = self.logits(&asked, &tokens)?;
        self.arithmetic.cross_entropy(&logits, &batch.labels, scale)
    }

    /// The loss of a step, and its gradients by the parameters, in their order. A parameter that the loss does not reach is
    /// a mistake in the graph, and would silently learn nothing.
    pub fn gradients(&self, batch: &Batch, scale: f64, step: u64) -> Result<(f32, Vec<Numbers>)> {
        let mut grads = vec![None; self.parameters.len()];
        let loss = if self.checkpoint {
            self.backward_by_block(&self.way(batch, Some(step))?, scale, &mut grads)?
        } else {
            let loss = self.loss(batch, scale, Some(step))?;
            self.take(&loss.backward()?, &mut grads)?;
            loss
        };
        let named = self.parameters.iter().zip(grads);
        let grads =
            named.map(|(parameter, grad)| grad.with_context(|| format!("no gradient reaches `{}`", parameter.name)));
        Ok((loss.to_scalar::<f32>()?, grads.collect::<Result<_>>()?))
    }

    /// Adds the gradients of one backward pass.
    fn take(&self, store: &GradStore, grads: &mut [Option<Numbers>]) -> Result<()> {
        for (parameter, sum) in self.parameters.iter().zip(grads) {
            let Some(grad) = store.get(&parameter.var) else { continue };
            let grad = self.arithmetic.numbers(grad)?;
            match sum {
                None => *sum = Some(grad),
                Some(sum) => sum.add(&grad)?,
            }
        }
        Ok(())
    }

    /// Goes forward without keeping what is inside of the blocks, then backward block by block, each computed again.
    fn backward_by_block(&self, way: &Way<'_, S>, scale: f64, grads: &mut [Option<Numbers>]) -> Result<Tensor> {
        let embedded = self.embedded(way)?;
        // What goes into each block, and whether something before it learns.
        let mut inputs = vec![(embedded.detach(), embedded.track_op())];
        for index in 0..self.blocks.len() {
            let (x, learns) = &inputs[index];
            let out = self.block(index, x, way)?;
            let learns = *learns || out.track_op();
            inputs.push((out.detach(), learns));
        }
        let last = inputs.pop().map(|(x, learns)| entry(&x, learns)).context("a model has blocks")??;
        let loss = self.loss_of(&last, way, scale)?;
        let mut store = loss.backward()?;
        self.take(&store, grads)?;
        let mut grad = store.remove(&last);
        for index in (0..self.blocks.len()).rev() {
            let Some(of_output) = grad.take() else { return Ok(loss) };
            let (x, learns) = inputs.pop().context("a block has an input")?;
            let x = entry(&x, learns)?;
            let mut store = self.arithmetic.seed(&self.block(index, &x, way)?, of_output)?.backward()?;
            self.take(&store, grads)?;
            grad = store.remove(&x);
        }
        if let Some(grad) = grad {
            self.take(&self.arithmetic.seed(&embedded, grad)?.backward()?, grads)?;
        }
        Ok(loss)
    }

    /// The first place of a forward pass where a number is not finite.
    pub fn first_not_finite(&self, batch: &Batch, step: Option<u64>) -> Result<Option<String>> {
        let is_wrong = |x: &Tensor| -> Result<bool> {
            let values = x.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            Ok(values.iter().any(|value| !value.is_finite()))
        };
        for Parameter { name, var, .. } in &self.parameters {
            if is_wrong(var)? {
                return Ok(Some(format!("the weights of `{name}`")));
            }
        }
        let way = self.way(batch, step)?;
        let mut x = self.embedded(&way)?.detach();
        if is_wrong(&x)? {
            return Ok(Some("the embedding".to_string()));
        }
        for index in 0..self.blocks.len() {
            x = self.block(index, &x, &way)?.detach();
            if is_wrong(&x)? {
                return Ok(Some(format!("the output of block `{}.{index}`", self.config.layout.blocks)));
            }
        }
        Ok(is_wrong(&self.logits(&x, &|_| None)?)?.then(|| "the logits".to_string()))
    }

    /// The logits of vectors after the last block.
    pub(in crate::engine) fn logits(&self, hidden: &Tensor, tokens: Tokens<'_>) -> Result<Tensor> {
        let mut x = self.norm(hidden, self.norm.as_ref())?;
        if let Some(around) = &self.projections {
            x = self.arithmetic.linear(&x, &around.output, tokens)?;
        }
        let logits = self.arithmetic.linear(&x, &self.head, &|_| None)?;
        match self.config.logit_cap {
            None => Ok(logits),
            Some(cap) => self.arithmetic.soft_cap(&logits, cap),
        }
    }

    /// The vectors of all tokens after the last block: `tokens × hidden_size`.
    fn hidden(&self, way: &Way<'_, S>) -> Result<Tensor> {
        let mut x = self.embedded(way)?;
        for index in 0..self.blocks.len() {
            x = self.block(index, &x, way)?;
        }
        Ok(x)
    }

    /// One block of a batch.
    fn block(&self, index: usize, x: &Tensor, way: &Way<'_, S>) -> Result<Tensor> {
        let (shape, layer, distances) = (&self.config.shape, &self.config.layers[index], &self.distances);
        let sight = Sight { shape, layer, distances, rows: &way.rows };
        self.block_with(index, x, &|heads| self.arithmetic.attend(heads, &sight), &|random| way.tokens(random))
    }

    /// One block; `attend` says what every head sees at every token.
    pub(in crate::engine) fn block_with(
        &self,
        index: usize,
        x: &Tensor,
        attend: &dyn Fn(Heads) -> Result<Tensor>,
        tokens: Tokens<'_>,
    ) -> Result<Tensor> {
        let block = &self.blocks[index];
        let normed = self.norm(x, block.attention_norm.as_ref())?;
        let seen = attend(self.heads(&normed, &block.qkv, tokens)?)?;
        let seen = self.arithmetic.linear(&seen, &block.o, tokens)?;
        let seen = self.sum(&seen, x, block.attention_post_norm.as_ref())?;
        let input = match self.config.residual {
            Residual::Sequential | Residual::SequentialNormed => self.norm(&seen, block.mlp_norm.as_ref())?,
            Residual::Parallel => self.norm(x, block.mlp_norm.as_ref())?,
            Residual::ParallelShared => normed,
        };
        let done = self.arithmetic.feed_forward(&input, &block.mlp, self.config.activation, tokens)?;
        self.sum(&done, &seen, block.mlp_post_norm.as_ref())
    }

    /// `norm(y) + x`, or the norm of the sum.
    fn sum(&self, y: &Tensor, x: &Tensor, norm: Option<&Norm<S>>) -> Result<Tensor> {
        match self.config.residual {
            Residual::SequentialNormed => self.norm(&self.arithmetic.add(y, x)?, norm),
            _ => self.arithmetic.add(&self.norm(y, norm)?, x),
        }
    }

    /// The vectors of all tokens before the first block.
    fn embedded(&self, way: &Way<'_, S>) -> Result<Tensor> {
        let positions = way.batch.offsets.windows(2).flat_map(|ends| 0..ends[1] - ends[0]);
        self.embed(&way.batch.ids, positions, &|random| way.tokens(random))
    }

    /// The vectors of tokens at positions.
    pub(in crate::engine) fn embed(
        &self,
        ids: &Arc<Vec<u32>>,
        positions: impl Iterator<Item = usize>,
        tokens: Tokens<'_>,
    ) -> Result<Tensor> {
        let Shape { hidden_size, embedding_size, .. } = self.config.shape;
        let mut x = self.arithmetic.lookup(&self.embedding, ids, embedding_size)?;
        if let Some(scale) = self.config.embedding_scale {
            x = self.arithmetic.scale(&x, scale)?;
        }
        if let Some(around) = &self.projections {
            x = self.arithmetic.linear(&x, &around.input, tokens)?;
        }
        if let (Some(table), Some((_, first))) = (&self.positions, self.config.layout.positions) {
            let rows = positions.map(|position| u32::try_from(first + position));
            let rows = Arc::new(rows.collect::<Result<Vec<u32>, _>>()?);
            x = self.arithmetic.add(&self.arithmetic.lookup(table, &rows, hidden_size)?, &x)?;
        }
        self.norm(&x, self.embedding_norm.as_ref())
    }

    fn heads(&self, x: &Tensor, qkv: &Qkv<Norm<S>, Layer<S>>, tokens: Tokens<'_>) -> Result<Heads> {
        Ok(match qkv {
            Qkv::Apart { q, k, v, norms } => {
                let [q, k, v] = [q, k, v].map(|layer| self.arithmetic.linear(x, layer, tokens));
                let (mut q, mut k) = (q?, k?);
                if let Some(QkNorms { q: of_q, k: of_k, .. }) = norms {
                    (q, k) = (self.norm(&q, Some(of_q))?, self.norm(&k, Some(of_k))?);
                }
                Heads::Apart([q, k, v?])
            }
            Qkv::Fused(layer, order) => Heads::Fused(self.arithmetic.linear(x, layer, tokens)?, *order),
        })
    }

    /// `x` itself where there is no norm.
    fn norm(&self, x: &Tensor, norm: Option<&Norm<S>>) -> Result<Tensor> {
        let op = NormOp { kind: self.config.norm, eps: self.config.norm_eps };
        norm.map_or_else(|| Ok(x.clone()), |norm| self.arithmetic.norm(x, norm, op))
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        self.arithmetic.device()
    }

    /// The shape of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What positions do.
    pub(in crate::engine) fn distances(&self) -> &S::Distances {
        &self.distances
    }
}

/// Where a part of the graph begins: with a variable, whose gradient is asked for, if something before it learns.
fn entry(x: &Tensor, learns: bool) -> Result<Tensor> {
    Ok(if learns { Var::from_tensor(x)?.as_tensor().clone() } else { x.clone() })
}

/// One generator per token of a batch, by row and position.
fn token_generators(random: Random, batch: &Batch) -> Vec<Random> {
    let rows = batch.names.iter().zip(batch.offsets.windows(2));
    rows.flat_map(|(name, ends)| {
        let row = random.part(*name);
        (0..(ends[1] - ends[0]) as u64).map(move |position| row.part(position))
    })
    .collect()
}

#[cfg(test)]
mod tests;
