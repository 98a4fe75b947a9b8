//! A model as a differentiable function of its trainable parameters.
//!
//! The parameters stand in an ordered list; everything else is frozen and has no gradient.

mod build;
mod parts;

use self::build::Slot;
use self::parts::{Layer, Norm, Table, Tokens};
use super::batch::Batch;
use super::ops::{
    Activate, Add, Attention, CrossEntropy, FrozenGated, FusedAttention, Gated, GatedFused, Norm as NormOp, Scale,
    Seed, SelectRows, SoftCap,
};
use crate::engine::model::{Adapter, Block, Config, Mlp, Model, Projections, QkNorms, Qkv, Residual, Shape};
use crate::engine::positions::{Fading, Rope};
use crate::random::Random;
use anyhow::{Context as _, Result};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
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
    fn new(name: String, shape: &[usize], values: Vec<f32>, decays: bool) -> Result<Self> {
        Ok(Self { name, var: Var::from_vec(values, shape, &Device::Cpu)?, decays })
    }

    /// Gives it other numbers.
    pub(super) fn set(&self, values: &[f32]) -> Result<()> {
        Ok(self.var.set(&Tensor::from_slice(values, self.var.shape(), self.var.device())?)?)
    }

    /// Its numbers.
    pub(super) fn values(&self) -> Vec<f32> {
        // It is made of a vector of f32 a few lines above.
        self.var.flatten_all().and_then(|flat| flat.to_vec1()).expect("parameters are f32 on the CPU")
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
pub struct Graph {
    config: Config,
    embedding: Table,
    positions: Option<Table>,
    embedding_norm: Option<Norm>,
    projections: Option<Projections<Layer>>,
    blocks: Vec<Block<Norm, Layer>>,
    norm: Option<Norm>,
    head: Layer,
    ropes: Vec<Arc<Rope>>,
    fading: Option<Arc<Fading>>,
    parameters: Vec<Parameter>,
    checkpoint: bool,
    goal: Goal,
}

#[derive(Debug)]
enum Goal {
    /// The model, with its weights taken out.
    Model(Box<Model>),
    /// The adapter, with its numbers taken out, and what the parameters are in it.
    Adapter(Box<Adapter>, Vec<Slot>),
}

impl Graph {
    /// The shape of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is trained, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Whether the backward pass computes each block again, so that between the passes only what goes from block to block
    /// is kept. The same bits, in less memory and more time.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoint: bool) -> Self {
        self.checkpoint = checkpoint;
        self
    }

    /// `scale · Σ` of the cross-entropy over the batch's labels: a scalar. `step` is that of training; without it
    /// nothing is dropped.
    pub fn loss(&self, batch: &Batch, scale: f64, step: Option<u64>) -> Result<Tensor> {
        self.loss_of(&self.hidden(batch, step)?, batch, scale, step)
    }

    /// The same, of the vectors after the last block.
    fn loss_of(&self, hidden: &Tensor, batch: &Batch, scale: f64, step: Option<u64>) -> Result<Tensor> {
        let asked = hidden.apply_op1(SelectRows { rows: batch.asked.clone() })?;
        let tokens = |random: &Random| {
            let all = token_generators(random.part(step?), batch);
            Some(batch.asked.iter().map(|row| all[*row as usize]).collect())
        };
        let logits = self.logits(&asked, &tokens)?;
        Ok(logits.apply_op1(CrossEntropy { labels: batch.labels.clone(), scale })?)
    }

    /// The loss of a step, and its gradients by the parameters, in their order. A parameter that the loss does not reach is
    /// a mistake in the graph, and would silently learn nothing.
    pub fn gradients(&self, batch: &Batch, scale: f64, step: u64) -> Result<(f32, Vec<Vec<f32>>)> {
        let mut grads = vec![None; self.parameters.len()];
        let loss = if self.checkpoint {
            self.backward_by_block(batch, scale, step, &mut grads)?
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
    fn take(&self, store: &GradStore, grads: &mut [Option<Vec<f32>>]) -> Result<()> {
        for (parameter, sum) in self.parameters.iter().zip(grads) {
            let Some(grad) = store.get(&parameter.var) else { continue };
            let grad = grad.flatten_all()?.to_vec1::<f32>()?;
            match sum {
                None => *sum = Some(grad),
                Some(sum) => sum.iter_mut().zip(&grad).for_each(|(sum, grad)| *sum += grad),
            }
        }
        Ok(())
    }

    /// Goes forward without keeping what is inside of the blocks, then backward block by block, each computed again.
    fn backward_by_block(
        &self,
        batch: &Batch,
        scale: f64,
        step: u64,
        grads: &mut [Option<Vec<f32>>],
    ) -> Result<Tensor> {
        let embedded = self.embedded(batch, Some(step))?;
        // What goes into each block, and whether something before it learns.
        let mut inputs = vec![(embedded.detach(), embedded.track_op())];
        for index in 0..self.blocks.len() {
            let (x, learns) = &inputs[index];
            let out = self.block(index, x, batch, Some(step))?;
            let learns = *learns || out.track_op();
            inputs.push((out.detach(), learns));
        }
        let last = inputs.pop().map(|(x, learns)| entry(&x, learns)).context("a model has blocks")??;
        let loss = self.loss_of(&last, batch, scale, Some(step))?;
        let mut store = loss.backward()?;
        self.take(&store, grads)?;
        let mut grad = store.remove(&last);
        for index in (0..self.blocks.len()).rev() {
            let Some(of_output) = grad.take() else { return Ok(loss) };
            let (x, learns) = inputs.pop().context("a block has an input")?;
            let x = entry(&x, learns)?;
            let mut store = self.block(index, &x, batch, Some(step))?.apply_op1(Seed(of_output))?.backward()?;
            self.take(&store, grads)?;
            grad = store.remove(&x);
        }
        if let Some(grad) = grad {
            self.take(&embedded.apply_op1(Seed(grad))?.backward()?, grads)?;
        }
        Ok(loss)
    }

    /// The first place of a forward pass where a number is not finite.
    pub fn first_not_finite(&self, batch: &Batch, step: Option<u64>) -> Result<Option<String>> {
        let is_wrong = |x: &Tensor| -> Result<bool> {
            Ok(x.flatten_all()?.to_vec1::<f32>()?.iter().any(|value| !value.is_finite()))
        };
        for Parameter { name, var, .. } in &self.parameters {
            if is_wrong(var)? {
                return Ok(Some(format!("the weights of `{name}`")));
            }
        }
        let mut x = self.embedded(batch, step)?.detach();
        if is_wrong(&x)? {
            return Ok(Some("the embedding".to_string()));
        }
        for index in 0..self.blocks.len() {
            x = self.block(index, &x, batch, step)?.detach();
            if is_wrong(&x)? {
                return Ok(Some(format!("the output of block `{}.{index}`", self.config.layout.blocks)));
            }
        }
        Ok(is_wrong(&self.logits(&x, &|_| None)?)?.then(|| "the logits".to_string()))
    }

    /// The logits of vectors after the last block.
    fn logits(&self, hidden: &Tensor, tokens: Tokens<'_>) -> Result<Tensor> {
        let mut x = self.norm(hidden, self.norm.as_ref())?;
        if let Some(around) = &self.projections {
            x = around.output.apply(&x, tokens)?;
        }
        let logits = self.head.apply(&x, &|_| None)?;
        match self.config.logit_cap {
            None => Ok(logits),
            Some(cap) => Ok(logits.apply_op1(SoftCap(cap))?),
        }
    }

    /// The vectors of all tokens after the last block: `tokens × hidden_size`.
    fn hidden(&self, batch: &Batch, step: Option<u64>) -> Result<Tensor> {
        let mut x = self.embedded(batch, step)?;
        for index in 0..self.blocks.len() {
            x = self.block(index, &x, batch, step)?;
        }
        Ok(x)
    }

    /// One block.
    fn block(&self, index: usize, x: &Tensor, batch: &Batch, step: Option<u64>) -> Result<Tensor> {
        let (block, layer) = (&self.blocks[index], &self.config.layers[index]);
        let tokens = |random: &Random| step.map(|step| token_generators(random.part(step), batch));
        let Shape { heads, kv_heads, head_dim, .. } = self.config.shape;
        let attention = Attention {
            heads,
            kv_heads,
            head_dim,
            offsets: batch.offsets.clone(),
            scale: layer.scale,
            cap: layer.cap,
            window: layer.window,
            rope: layer.rotary.map(|index| self.ropes[index].clone()),
            fading: self.fading.clone(),
        };
        let normed = self.norm(x, block.attention_norm.as_ref())?;
        let seen = self.attend(&normed, &block.qkv, attention, &tokens)?;
        let seen = block.o.apply(&seen, &tokens)?;
        let seen = self.sum(&seen, x, block.attention_post_norm.as_ref())?;
        let input = match self.config.residual {
            Residual::Sequential | Residual::SequentialNormed => self.norm(&seen, block.mlp_norm.as_ref())?,
            Residual::Parallel => self.norm(x, block.mlp_norm.as_ref())?,
            Residual::ParallelShared => normed,
        };
        let done = self.feed_forward(&input, &block.mlp, &tokens)?;
        self.sum(&done, &seen, block.mlp_post_norm.as_ref())
    }

    /// `norm(y) + x`, or the norm of the sum.
    fn sum(&self, y: &Tensor, x: &Tensor, norm: Option<&Norm>) -> Result<Tensor> {
        match self.config.residual {
            Residual::SequentialNormed => self.norm(&y.apply_op2(x, Add)?, norm),
            _ => Ok(self.norm(y, norm)?.apply_op2(x, Add)?),
        }
    }

    /// The vectors of all tokens before the first block.
    fn embedded(&self, batch: &Batch, step: Option<u64>) -> Result<Tensor> {
        let Shape { hidden_size, embedding_size, .. } = self.config.shape;
        let mut x = self.embedding.rows(batch.ids.clone(), embedding_size)?;
        if let Some(scale) = self.config.embedding_scale {
            x = x.apply_op1(Scale(scale))?;
        }
        if let Some(around) = &self.projections {
            x = around.input.apply(&x, &|random| Some(token_generators(random.part(step?), batch)))?;
        }
        if let (Some(table), Some((_, first))) = (&self.positions, self.config.layout.positions) {
            let rows = batch.offsets.windows(2).flat_map(|ends| (first..).take(ends[1] - ends[0]));
            let rows = rows.map(u32::try_from).collect::<Result<Vec<u32>, _>>()?;
            x = table.rows(Arc::new(rows), hidden_size)?.apply_op2(&x, Add)?;
        }
        self.norm(&x, self.embedding_norm.as_ref())
    }

    fn attend(&self, x: &Tensor, qkv: &Qkv<Norm, Layer>, attention: Attention, tokens: Tokens<'_>) -> Result<Tensor> {
        Ok(match qkv {
            Qkv::Apart { q, k, v, norms } => {
                let [q, k, v] = [q, k, v].map(|layer| layer.apply(x, tokens));
                let (mut q, mut k) = (q?, k?);
                if let Some(QkNorms { q: of_q, k: of_k, .. }) = norms {
                    (q, k) = (self.norm(&q, Some(of_q))?, self.norm(&k, Some(of_k))?);
                }
                q.apply_op3(&k, &v?, attention)?
            }
            Qkv::Fused(layer, order) => {
                layer.apply(x, tokens)?.apply_op1(FusedAttention { attention, order: *order })?
            }
        })
    }

    fn feed_forward(&self, x: &Tensor, mlp: &Mlp<Layer>, tokens: Tokens<'_>) -> Result<Tensor> {
        let activation = self.config.activation;
        if let Mlp::Gated { gate, up, down } = mlp
            && let (Some(gate), Some(up), Some(down)) = (gate.frozen(), up.frozen(), down.frozen())
        {
            return Ok(x.apply_op1(FrozenGated::new([gate, up, down], activation))?);
        }
        let (inner, down) = match mlp {
            Mlp::Gated { gate, up, down } => {
                let [gate, up] = [gate, up].map(|layer| layer.apply(x, tokens));
                (gate?.apply_op2(&up?, Gated(activation))?, down)
            }
            Mlp::GatedFused { gate_up, down } => (gate_up.apply(x, tokens)?.apply_op1(GatedFused(activation))?, down),
            Mlp::Plain { up, down } => (up.apply(x, tokens)?.apply_op1(Activate(activation))?, down),
        };
        down.apply(&inner, tokens)
    }

    /// `x` itself where there is no norm.
    fn norm(&self, x: &Tensor, norm: Option<&Norm>) -> Result<Tensor> {
        let op = NormOp { kind: self.config.norm, eps: self.config.norm_eps };
        norm.map_or_else(|| Ok(x.clone()), |norm| norm.apply(x, op))
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
