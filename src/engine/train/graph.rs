//! A model as a differentiable function of its trainable parameters.
//!
//! The parameters stand in an ordered list; everything else is frozen and has no gradient.

use super::batch::Batch;
use super::ops::{
    Activate, Add, AddBias, Attention, CrossEntropy, Dropout, FrozenLinear, FrozenNorm, FusedAttention, Gated,
    GatedFused, Lookup, LoraLinear, Norm as NormOp, Scale, SelectRows, TrainedLinear, TrainedNorm,
};
use crate::engine::model::{
    Adapter, AdapterConfig, Block, Config, Linear, Mlp, Model, Norm as ModelNorm, NormPlace, Pair, Place, QkNorms, Qkv,
    Residual, Walk, is_target,
};
use crate::engine::positions::{Fading, Rope};
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
    /// Whether weight decay applies: to matrices, not to norms and biases.
    pub decays: bool,
}

impl Parameter {
    fn new(name: String, shape: &[usize], values: Vec<f32>) -> Result<Self> {
        let var = Var::from_vec(values, shape, &Device::Cpu)?;
        Ok(Self { name, var, decays: shape.len() > 1 })
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

/// A norm, and whether it learns.
#[derive(Debug)]
enum Norm {
    Frozen { factors: Arc<Vec<f32>>, bias: Option<Arc<Vec<f32>>> },
    Trained { weight: Tensor, bias: Option<Tensor> },
}

/// A linear layer, and how it learns.
#[derive(Debug)]
enum Layer {
    Frozen {
        weight: Arc<Vec<f32>>,
        bias: Option<Arc<Vec<f32>>>,
        outputs: usize,
    },
    Lora {
        weight: Arc<Vec<f32>>,
        bias: Option<Arc<Vec<f32>>>,
        a: Tensor,
        b: Tensor,
        scale: f32,
        dropout: f64,
        random: Random,
    },
    Trained {
        weight: Tensor,
        bias: Option<Tensor>,
        transposed: bool,
    },
}

#[derive(Debug)]
enum Table {
    Frozen(Arc<Vec<f32>>),
    Trained(Tensor),
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
    blocks: Vec<Block<Norm, Layer>>,
    norm: Option<Norm>,
    head: Layer,
    ropes: Vec<Arc<Rope>>,
    fading: Option<Arc<Fading>>,
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

/// Parts of a graph whose weights all learn; gives out the parameters' tensors in their order.
struct AllLearn<I>(I);

impl<I: Iterator<Item = Tensor>> AllLearn<I> {
    fn next(&mut self) -> Tensor {
        // The order is that of `parameters_mut`.
        self.0.next().expect("one tensor per weight")
    }

    fn trained_norm(&mut self, norm: &ModelNorm) -> Norm {
        Norm::Trained { weight: self.next(), bias: norm.bias.is_some().then(|| self.next()) }
    }

    fn trained_linear(&mut self, linear: &Linear) -> Layer {
        Layer::Trained { weight: self.next(), bias: linear.bias.is_some().then(|| self.next()), transposed: false }
    }
}

impl<I: Iterator<Item = Tensor>> Walk<&ModelNorm, &Linear> for AllLearn<I> {
    type Norm = Norm;
    type Linear = Layer;

    fn norm(&mut self, norm: &ModelNorm, _: NormPlace) -> Result<Norm> {
        Ok(self.trained_norm(norm))
    }

    fn linear(&mut self, linear: &Linear, _: Place) -> Result<Layer> {
        Ok(self.trained_linear(linear))
    }
}

/// Parts of a graph in which adapters learn.
struct AdaptersLearn<'a, Start> {
    model: &'a Model,
    config: &'a AdapterConfig,
    seed: u64,
    start: Start,
    parameters: Vec<Parameter>,
    places: Vec<(String, usize, usize)>,
}

impl<Start: FnMut(&Linear) -> Result<Pair>> Walk<&ModelNorm, &Linear> for AdaptersLearn<'_, Start> {
    type Norm = Norm;
    type Linear = Layer;

    fn norm(&mut self, norm: &ModelNorm, _: NormPlace) -> Result<Norm> {
        let factors = match self.model.config.norm.factors(&norm.weight) {
            std::borrow::Cow::Borrowed(_) => norm.weight.clone(),
            std::borrow::Cow::Owned(factors) => Arc::new(factors),
        };
        Ok(Norm::Frozen { factors, bias: norm.bias.clone() })
    }

    fn linear(&mut self, linear: &Linear, _: Place) -> Result<Layer> {
        let config = self.config;
        if !config.targets.iter().any(|target| is_target(&linear.name, target)) {
            return Ok(frozen(linear));
        }
        let Pair { a, b, inputs, outputs } = (self.start)(linear)?;
        let a = Parameter::new(format!("{}.lora_A", linear.name), &[config.r, inputs], a)?;
        let b = Parameter::new(format!("{}.lora_B", linear.name), &[outputs, config.r], b)?;
        let layer = Layer::Lora {
            weight: linear.weight.clone(),
            bias: linear.bias.clone(),
            a: a.var.as_tensor().clone(),
            b: b.var.as_tensor().clone(),
            scale: config.scale(),
            dropout: config.dropout,
            random: Random::new(self.seed, &format!("dropout {}", linear.name)),
        };
        self.parameters.extend([a, b]);
        self.places.push((linear.name.clone(), inputs, outputs));
        Ok(layer)
    }
}

impl Graph {
    /// All weights of the model learn.
    pub fn whole(mut model: Model) -> Result<Self> {
        let mut parameters = Vec::new();
        for weight in model.parameters_mut() {
            let values = Arc::unwrap_or_clone(std::mem::take(weight.values));
            parameters.push(Parameter::new(weight.name, &weight.shape, values)?);
        }
        let mut learn = AllLearn(parameters.iter().map(|parameter| parameter.var.as_tensor().clone()));
        let embedding = learn.next();
        let positions = model.positions.as_ref().map(|_| Table::Trained(learn.next()));
        let embedding_norm = model.embedding_norm.as_ref().map(|norm| learn.trained_norm(norm));
        let blocks = model.blocks.iter().map(|block| block.as_ref().walk(&mut learn)).collect::<Result<_>>()?;
        let norm = model.norm.as_ref().map(|norm| learn.trained_norm(norm));
        let head = match model.config.tie_embeddings {
            true => Layer::Trained { weight: embedding.clone(), bias: None, transposed: true },
            false => learn.trained_linear(&model.head),
        };
        Ok(Self {
            ropes: ropes(&model.config),
            fading: fading(&model.config),
            config: model.config.clone(),
            embedding: Table::Trained(embedding),
            positions,
            embedding_norm,
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
        start: impl FnMut(&Linear) -> Result<Pair>,
    ) -> Result<Self> {
        model.config.check_targets(&config.targets)?;
        let (parameters, places) = (Vec::new(), Vec::new());
        let mut learn = AdaptersLearn { model, config: &config, seed, start, parameters, places };
        let embedding_norm = learn.optional(model.embedding_norm.as_ref())?;
        let blocks = model.blocks.iter().map(|block| block.as_ref().walk(&mut learn)).collect::<Result<_>>()?;
        let norm = learn.optional(model.norm.as_ref())?;
        let AdaptersLearn { parameters, places, .. } = learn;
        Ok(Self {
            ropes: ropes(&model.config),
            fading: fading(&model.config),
            config: model.config.clone(),
            embedding: Table::Frozen(model.embedding.clone()),
            positions: model.positions.clone().map(Table::Frozen),
            embedding_norm,
            blocks,
            norm,
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
                Trained::Adapter(Adapter { config, conv1d: self.config.layout.conv1d, pairs })
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
        let normed = self.norm(hidden, self.norm.as_ref())?;
        linear(&normed, &self.head, &|_| None)
    }

    /// The vectors of all tokens after the last block: `tokens × hidden_size`.
    fn hidden(&self, batch: &Batch, step: Option<u64>) -> Result<Tensor> {
        let mut x = self.embedded(batch)?;
        let tokens = |random: &Random| step.map(|step| token_generators(random.part(step), batch));
        for (block, layer) in self.blocks.iter().zip(&self.config.layers) {
            let attention = Attention {
                heads: self.config.heads,
                kv_heads: self.config.kv_heads,
                head_dim: self.config.head_dim,
                offsets: batch.offsets.clone(),
                scale: layer.scale,
                window: layer.window,
                rope: layer.rotary.map(|index| self.ropes[index].clone()),
                fading: self.fading.clone(),
            };
            let normed = self.norm(&x, block.attention_norm.as_ref())?;
            let seen = self.attend(&normed, &block.qkv, attention, &tokens)?;
            let seen = linear(&seen, &block.o, &tokens)?;
            let seen = self.norm(&seen, block.attention_post_norm.as_ref())?.apply_op2(&x, Add)?;
            let input = match self.config.residual {
                Residual::Sequential => self.norm(&seen, block.mlp_norm.as_ref())?,
                Residual::Parallel => self.norm(&x, block.mlp_norm.as_ref())?,
                Residual::ParallelShared => normed,
            };
            let done = self.feed_forward(&input, &block.mlp, &tokens)?;
            x = self.norm(&done, block.mlp_post_norm.as_ref())?.apply_op2(&seen, Add)?;
        }
        Ok(x)
    }

    /// The vectors of all tokens before the first block.
    fn embedded(&self, batch: &Batch) -> Result<Tensor> {
        let width = self.config.hidden_size;
        let mut x = rows_of(&self.embedding, batch.ids.clone(), width)?;
        if let Some(scale) = self.config.embedding_scale {
            x = x.apply_op1(Scale(scale))?;
        }
        if let (Some(table), Some((_, first))) = (&self.positions, self.config.layout.positions) {
            let rows = batch.offsets.windows(2).flat_map(|ends| (first..).take(ends[1] - ends[0]));
            let rows = rows.map(u32::try_from).collect::<Result<Vec<u32>, _>>()?;
            x = rows_of(table, Arc::new(rows), width)?.apply_op2(&x, Add)?;
        }
        self.norm(&x, self.embedding_norm.as_ref())
    }

    fn attend(&self, x: &Tensor, qkv: &Qkv<Norm, Layer>, attention: Attention, tokens: Tokens<'_>) -> Result<Tensor> {
        Ok(match qkv {
            Qkv::Apart { q, k, v, norms } => {
                let [q, k, v] = [q, k, v].map(|layer| linear(x, layer, tokens));
                let (mut q, mut k) = (q?, k?);
                if let Some(QkNorms { q: of_q, k: of_k, .. }) = norms {
                    (q, k) = (self.norm(&q, Some(of_q))?, self.norm(&k, Some(of_k))?);
                }
                q.apply_op3(&k, &v?, attention)?
            }
            Qkv::Fused(layer, order) => {
                linear(x, layer, tokens)?.apply_op1(FusedAttention { attention, order: *order })?
            }
        })
    }

    fn feed_forward(&self, x: &Tensor, mlp: &Mlp<Layer>, tokens: Tokens<'_>) -> Result<Tensor> {
        let activation = self.config.activation;
        let (inner, down) = match mlp {
            Mlp::Gated { gate, up, down } => {
                let [gate, up] = [gate, up].map(|layer| linear(x, layer, tokens));
                (gate?.apply_op2(&up?, Gated(activation))?, down)
            }
            Mlp::GatedFused { gate_up, down } => (linear(x, gate_up, tokens)?.apply_op1(GatedFused(activation))?, down),
            Mlp::Plain { up, down } => (linear(x, up, tokens)?.apply_op1(Activate(activation))?, down),
        };
        linear(&inner, down, tokens)
    }

    /// `x` itself where there is no norm.
    fn norm(&self, x: &Tensor, norm: Option<&Norm>) -> Result<Tensor> {
        let op = NormOp { kind: self.config.norm, eps: self.config.norm_eps };
        Ok(match norm {
            None => x.clone(),
            Some(Norm::Frozen { factors, bias }) => {
                x.apply_op1(FrozenNorm { norm: op, factors: factors.clone(), bias: bias.clone() })?
            }
            Some(Norm::Trained { weight, bias }) => {
                let normed = x.apply_op2(weight, TrainedNorm(op))?;
                match bias {
                    Some(bias) => normed.apply_op2(bias, AddBias)?,
                    None => normed,
                }
            }
        })
    }
}

/// Makes the generators of dropout, if something is to be dropped.
type Tokens<'a> = &'a dyn Fn(&Random) -> Option<Vec<Random>>;

fn linear(x: &Tensor, layer: &Layer, tokens: Tokens<'_>) -> Result<Tensor> {
    Ok(match layer {
        Layer::Frozen { weight, bias, outputs } => {
            x.apply_op1(FrozenLinear { weight: weight.clone(), bias: bias.clone(), outputs: *outputs })?
        }
        Layer::Trained { weight, bias, transposed } => {
            let y = x.apply_op2(weight, TrainedLinear { transposed: *transposed })?;
            match bias {
                Some(bias) => y.apply_op2(bias, AddBias)?,
                None => y,
            }
        }
        Layer::Lora { weight, bias, a, b, scale, dropout, random } => {
            let dropout = Some(*dropout).filter(|share| *share > 0.0);
            let dropout = dropout.and_then(|share| Some(Dropout { share, tokens: tokens(random)? }));
            let (weight, bias) = (weight.clone(), bias.clone());
            x.apply_op3(a, b, LoraLinear { weight, bias, scale: *scale, dropout })?
        }
    })
}

/// Some rows of a table that is `width` wide.
fn rows_of(table: &Table, ids: Arc<Vec<u32>>, width: usize) -> Result<Tensor> {
    Ok(match table {
        Table::Trained(table) => table.apply_op1(Lookup { ids })?,
        Table::Frozen(table) => {
            let rows = ids.iter().flat_map(|id| &table[*id as usize * width..][..width]).copied().collect();
            Tensor::from_vec::<_, f32>(rows, (ids.len(), width), &Device::Cpu)?
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
    Layer::Frozen { weight: linear.weight.clone(), bias: linear.bias.clone(), outputs: linear.outputs }
}

fn ropes(config: &Config) -> Vec<Arc<Rope>> {
    let rope = |rotary| Arc::new(Rope::new(rotary, config.head_dim, config.max_positions));
    config.rotaries.iter().map(rope).collect()
}

fn fading(config: &Config) -> Option<Arc<Fading>> {
    config.alibi.as_ref().map(|alibi| Arc::new(Fading::new(alibi, config.max_positions)))
}

#[cfg(test)]
mod tests;
