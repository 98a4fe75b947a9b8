//! A model as a differentiable function of its trainable parameters.
//!
//! The parameters stand in an ordered list; everything else is frozen and has no gradient.

use super::batch::Batch;
use super::ops::{
    Add, Attention, CrossEntropy, Dropout, FrozenLinear, FrozenNorm, Lookup, LoraLinear, SelectRows, SwiGlu,
    TrainedLinear, TrainedNorm,
};
use crate::engine::kernels::Rope;
use crate::engine::model::{Adapter, AdapterConfig, Block, Config, Linear, Model, Pair, is_target};
use crate::engine::random::Random;
use crate::engine::weights::transpose;
use anyhow::Result;
use candle_core::{Device, Tensor, Var};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something that is trained.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in messages.
    pub name: String,
    /// Its numbers in the graph.
    pub var: Var,
    /// Whether weight decay applies: to matrices, not to norms.
    pub decays: bool,
}

impl Parameter {
    fn new(name: String, shape: &[usize], values: Vec<f32>) -> Result<Self> {
        let var = Var::from_vec(values, shape, &Device::Cpu)?;
        Ok(Self { name, var, decays: shape.len() > 1 })
    }
}

/// A vector, and whether it learns.
#[derive(Debug)]
enum Norm {
    Frozen(Arc<Vec<f32>>),
    Trained(Tensor),
}

/// A linear layer, and how it learns.
#[derive(Debug)]
enum Layer {
    Frozen { weight: Arc<Vec<f32>>, outputs: usize },
    Lora { weight: Arc<Vec<f32>>, a: Tensor, b: Tensor, scale: f32, dropout: f64, random: Random },
    Trained { weight: Tensor, transposed: bool },
}

#[derive(Debug)]
enum Table {
    Frozen(Arc<Vec<f32>>),
    Trained(Tensor),
}

#[derive(Debug)]
struct GraphBlock {
    attention_norm: Norm,
    q: Layer,
    k: Layer,
    v: Layer,
    o: Layer,
    mlp_norm: Norm,
    gate: Layer,
    up: Layer,
    down: Layer,
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
    blocks: Vec<GraphBlock>,
    norm: Norm,
    head: Layer,
    rope: Arc<Rope>,
    parameters: Vec<Parameter>,
    goal: Goal,
}

#[derive(Debug)]
enum Goal {
    /// The model, with its weights taken out.
    Model(Box<Model>),
    /// The adapter's settings, and the layers that it stands on: name, inputs, outputs.
    Adapter(AdapterConfig, Vec<(String, usize, usize)>),
}

impl Graph {
    /// All weights of the model learn.
    pub fn whole(mut model: Model) -> Result<Self> {
        let mut parameters = Vec::new();
        for weight in model.parameters_mut() {
            let values = Arc::unwrap_or_clone(std::mem::take(weight.values));
            parameters.push(Parameter::new(weight.name, &weight.shape, values)?);
        }
        let tied = model.config.tie_embeddings;
        // The order is that of `parameters_mut`.
        let mut tensors = parameters.iter().map(|parameter| parameter.var.as_tensor().clone());
        let mut next = || tensors.next().expect("one tensor per weight");
        let embedding = next();
        let trained = |weight| Layer::Trained { weight, transposed: false };
        let blocks = model
            .blocks
            .iter()
            .map(|_| GraphBlock {
                attention_norm: Norm::Trained(next()),
                q: trained(next()),
                k: trained(next()),
                v: trained(next()),
                o: trained(next()),
                mlp_norm: Norm::Trained(next()),
                gate: trained(next()),
                up: trained(next()),
                down: trained(next()),
            })
            .collect();
        let norm = Norm::Trained(next());
        let head = if tied { Layer::Trained { weight: embedding.clone(), transposed: true } } else { trained(next()) };
        drop(tensors);
        Ok(Self {
            rope: rope(&model.config),
            config: model.config.clone(),
            embedding: Table::Trained(embedding),
            blocks,
            norm,
            head,
            parameters,
            goal: Goal::Model(Box::new(model)),
        })
    }

    /// A new adapter learns: A is uniform within `±1/√inputs` and B zero, as PEFT has it. A number depends on the seed,
    /// the layer's name and its place alone.
    pub fn adapter(model: &Model, config: AdapterConfig, seed: u64) -> Result<Self> {
        let r = config.r;
        Self::with_pairs(model, config, seed, |linear| {
            let random = Random::new(seed, &format!("lora {}", linear.name));
            #[expect(clippy::cast_precision_loss, reason = "widths are small")]
            let bound = 1.0 / (linear.inputs as f64).sqrt();
            #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
            let number = |index| ((2.0 * random.uniform(index) - 1.0) * bound) as f32;
            let a = (0..(r * linear.inputs) as u64).map(number).collect();
            Ok(Pair { a, b: vec![0.0; linear.outputs * r], inputs: linear.inputs, outputs: linear.outputs })
        })
    }

    fn with_pairs(
        model: &Model,
        config: AdapterConfig,
        seed: u64,
        mut start: impl FnMut(&Linear) -> Result<Pair>,
    ) -> Result<Self> {
        model.config.check_targets(&config.targets)?;
        let r = config.r;
        let (mut parameters, mut places) = (Vec::new(), Vec::new());
        let mut layer = |linear: &Linear| -> Result<Layer> {
            if !config.targets.iter().any(|target| is_target(&linear.name, target)) {
                return Ok(frozen(linear));
            }
            let Pair { a, b, inputs, outputs } = start(linear)?;
            let a = Parameter::new(format!("{}.lora_A", linear.name), &[r, inputs], a)?;
            let b = Parameter::new(format!("{}.lora_B", linear.name), &[outputs, r], b)?;
            let layer = Layer::Lora {
                weight: linear.weight.clone(),
                a: a.var.as_tensor().clone(),
                b: b.var.as_tensor().clone(),
                scale: config.scale(),
                dropout: config.dropout,
                random: Random::new(seed, &format!("dropout {}", linear.name)),
            };
            parameters.extend([a, b]);
            places.push((linear.name.clone(), inputs, outputs));
            Ok(layer)
        };
        let mut block = |block: &Block| -> Result<GraphBlock> {
            Ok(GraphBlock {
                attention_norm: Norm::Frozen(block.attention_norm.clone()),
                q: layer(&block.q)?,
                k: layer(&block.k)?,
                v: layer(&block.v)?,
                o: layer(&block.o)?,
                mlp_norm: Norm::Frozen(block.mlp_norm.clone()),
                gate: layer(&block.gate)?,
                up: layer(&block.up)?,
                down: layer(&block.down)?,
            })
        };
        let blocks = model.blocks.iter().map(&mut block).collect::<Result<_>>()?;
        Ok(Self {
            rope: rope(&model.config),
            config: model.config.clone(),
            embedding: Table::Frozen(model.embedding.clone()),
            blocks,
            norm: Norm::Frozen(model.norm.clone()),
            head: frozen(&model.head),
            parameters,
            goal: Goal::Adapter(config, places),
        })
    }

    /// What is trained, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The result with these numbers for the parameters, in their order.
    pub fn finish(self, values: Vec<Vec<f32>>) -> Trained {
        match self.goal {
            Goal::Model(mut model) => {
                for (weight, values) in model.parameters_mut().into_iter().zip(values) {
                    *weight.values = Arc::new(values);
                }
                if model.config.tie_embeddings {
                    let (vocab, hidden) = (model.config.vocab_size, model.config.hidden_size);
                    model.head.weight = Arc::new(transpose(&model.embedding, vocab, hidden));
                }
                Trained::Model(model)
            }
            Goal::Adapter(config, places) => {
                let mut values = values.into_iter();
                let mut next = || values.next().expect("two matrices per layer");
                let pairs: BTreeMap<String, Pair> = places
                    .into_iter()
                    .map(|(name, inputs, outputs)| (name, Pair { a: next(), b: next(), inputs, outputs }))
                    .collect();
                Trained::Adapter(Adapter { config, pairs })
            }
        }
    }

    /// `scale · Σ` of the cross-entropy over the batch's labels: a scalar. `step` is that of training; without it
    /// nothing is dropped.
    pub fn loss(&self, batch: &Batch, scale: f64, step: Option<u64>) -> Result<Tensor> {
        let hidden = self.hidden(batch, step)?;
        let asked = hidden.apply_op1(SelectRows { rows: batch.asked.clone() })?;
        let logits = self.logits(&asked)?;
        Ok(logits.apply_op1(CrossEntropy { labels: batch.labels.clone(), scale })?)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let normed = self.norm(hidden, &self.norm)?;
        linear(&normed, &self.head, &|_| None)
    }

    /// The vectors of all tokens after the last block: `tokens × hidden_size`.
    fn hidden(&self, batch: &Batch, step: Option<u64>) -> Result<Tensor> {
        let width = self.config.hidden_size;
        let mut x = match &self.embedding {
            Table::Trained(table) => table.apply_op1(Lookup { ids: batch.ids.clone() })?,
            Table::Frozen(table) => {
                let rows = batch.ids.iter().flat_map(|id| &table[*id as usize * width..][..width]).copied().collect();
                Tensor::from_vec::<_, f32>(rows, (batch.ids.len(), width), &Device::Cpu)?
            }
        };
        let attention = Attention {
            heads: self.config.heads,
            kv_heads: self.config.kv_heads,
            head_dim: self.config.head_dim,
            offsets: batch.offsets.clone(),
            rope: self.rope.clone(),
        };
        let tokens = |random: &Random| step.map(|step| token_generators(random.part(step), batch));
        for block in &self.blocks {
            let normed = self.norm(&x, &block.attention_norm)?;
            let [q, k, v] = [&block.q, &block.k, &block.v].map(|layer| linear(&normed, layer, &tokens));
            let seen = q?.apply_op3(&k?, &v?, attention.clone())?;
            x = linear(&seen, &block.o, &tokens)?.apply_op2(&x, Add)?;
            let normed = self.norm(&x, &block.mlp_norm)?;
            let [gate, up] = [&block.gate, &block.up].map(|layer| linear(&normed, layer, &tokens));
            let inner = gate?.apply_op2(&up?, SwiGlu)?;
            x = linear(&inner, &block.down, &tokens)?.apply_op2(&x, Add)?;
        }
        Ok(x)
    }

    fn norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        let eps = self.config.norm_eps;
        Ok(match norm {
            Norm::Frozen(weight) => x.apply_op1(FrozenNorm { weight: weight.clone(), eps })?,
            Norm::Trained(weight) => x.apply_op2(weight, TrainedNorm { eps })?,
        })
    }
}

/// `tokens` makes the generators of dropout, if something is to be dropped.
fn linear(x: &Tensor, layer: &Layer, tokens: &dyn Fn(&Random) -> Option<Vec<Random>>) -> Result<Tensor> {
    Ok(match layer {
        Layer::Frozen { weight, outputs } => x.apply_op1(FrozenLinear { weight: weight.clone(), outputs: *outputs })?,
        Layer::Trained { weight, transposed } => x.apply_op2(weight, TrainedLinear { transposed: *transposed })?,
        Layer::Lora { weight, a, b, scale, dropout, random } => {
            let dropout = Some(*dropout).filter(|share| *share > 0.0);
            let dropout = dropout.and_then(|share| Some(Dropout { share, tokens: tokens(random)? }));
            x.apply_op3(a, b, LoraLinear { weight: weight.clone(), scale: *scale, dropout })?
        }
    })
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

fn frozen(linear: &Linear) -> Layer {
    Layer::Frozen { weight: linear.weight.clone(), outputs: linear.outputs }
}

fn rope(config: &Config) -> Arc<Rope> {
    Arc::new(Rope::new(config.rope_theta, config.head_dim, config.max_positions))
}

#[cfg(test)]
mod tests;
