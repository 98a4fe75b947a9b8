//! What a model is in memory, and its weights one by one: as files have them, and to be changed.

use super::Config;
use super::block::{Block, NormPlace, Part, Place, Walk};
use super::config::{Projections, Shape};
use crate::engine::held::{Held, Precision};
use crate::engine::weights::{NamedTensor, transpose};
use anyhow::{Result, bail, ensure};
use std::sync::Arc;

/// A linear layer: `y = x · weight + bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Name of the module in transformers: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// Width of `x`.
    pub inputs: usize,
    /// Width of `y`.
    pub outputs: usize,
    /// `inputs × outputs`, row-major.
    pub weight: Arc<Vec<f32>>,
    /// Where there is one.
    pub bias: Option<Arc<Vec<f32>>>,
}

/// A linear layer that never changes.
#[derive(Clone, Debug)]
pub struct HeldLinear {
    /// Name of the module in transformers.
    pub name: String,
    /// Its matrix.
    pub weight: Arc<Held>,
    /// Where there is one.
    pub bias: Option<Arc<Vec<f32>>>,
}

impl HeldLinear {
    pub(super) fn new(linear: Linear, precision: Precision) -> Self {
        let Linear { name, inputs, outputs, weight, bias } = linear;
        Self { name, weight: Arc::new(Held::new(weight, inputs, outputs, precision)), bias }
    }
}

/// A norm of a token's vector, or of parts of it.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Name of the module in transformers.
    pub name: String,
    /// As the files have it.
    pub weight: Arc<Vec<f32>>,
    /// Where there is one.
    pub bias: Option<Arc<Vec<f32>>>,
}

/// A weight of a model, to be changed.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// Name of its module in transformers; with `.bias` behind it for a bias.
    pub name: String,
    /// Its shape in memory.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub values: &'a mut Arc<Vec<f32>>,
}

impl Linear {
    fn parameters(&mut self) -> impl Iterator<Item = Parameter<'_>> {
        let Self { name, inputs, outputs, weight, bias } = self;
        let of_bias = bias.as_mut().map(|bias| vector(format!("{name}.bias"), bias));
        let weight = Parameter { name: name.clone(), shape: vec![*inputs, *outputs], values: weight };
        [weight].into_iter().chain(of_bias)
    }

    /// Its tensors as files have them; those of GPT-2 have the matrix as it is in memory.
    fn tensors(&self, conv1d: bool) -> impl Iterator<Item = NamedTensor> {
        let Self { name, inputs, outputs, weight, bias } = self;
        let (shape, values) = match conv1d {
            true => (vec![*inputs, *outputs], weight.to_vec()),
            false => (vec![*outputs, *inputs], transpose(weight, *inputs, *outputs)),
        };
        let bias = bias.as_deref().map(|bias| tensor(format!("{name}.bias"), vec![*outputs], bias));
        [NamedTensor { name: format!("{name}.weight"), shape, values }].into_iter().chain(bias)
    }
}

impl Norm {
    fn parameters(&mut self) -> impl Iterator<Item = Parameter<'_>> {
        let of_bias = self.bias.as_mut().map(|bias| vector(format!("{}.bias", self.name), bias));
        [vector(self.name.clone(), &mut self.weight)].into_iter().chain(of_bias)
    }

    fn tensors(&self) -> impl Iterator<Item = NamedTensor> {
        let of = |name: &str, values: &[f32]| tensor(format!("{}.{name}", self.name), vec![values.len()], values);
        let bias = self.bias.as_deref().map(|bias| of("bias", bias));
        [of("weight", &self.weight)].into_iter().chain(bias)
    }
}

fn vector(name: String, values: &mut Arc<Vec<f32>>) -> Parameter<'_> {
    Parameter { name, shape: vec![values.len()], values }
}

fn tensor(name: String, shape: Vec<usize>, values: &[f32]) -> NamedTensor {
    NamedTensor { name, shape, values: values.to_vec() }
}

/// A model, with its linear layers as numbers or as they are held.
#[derive(Clone, Debug)]
pub struct Model<L = Linear> {
    /// Its shape.
    pub config: Config,
    /// Vectors of the tokens: `vocab_size × embedding_size`, row-major.
    pub embedding: Arc<Vec<f32>>,
    /// Vectors of the positions, where they are learned; rows as in the file.
    pub positions: Option<Arc<Vec<f32>>>,
    /// Norm of the sum.
    pub embedding_norm: Option<Norm>,
    /// What stands around the blocks, where tokens' vectors have another width.
    pub projections: Option<Projections<L>>,
    /// The blocks, in order.
    pub blocks: Vec<Block<Norm, L>>,
    /// The last norm.
    pub norm: Option<Norm>,
    /// From vectors to logits. Of a tied model: the embedding, transposed.
    pub head: L,
}

/// Makes something of linear layers, and leaves norms alone.
struct Each<F>(F);

impl<L, M, F: FnMut(L) -> Result<M>> Walk<Norm, L> for Each<F> {
    type Norm = Norm;
    type Linear = M;

    fn norm(&mut self, norm: Norm, _: NormPlace) -> Result<Norm> {
        Ok(norm)
    }

    fn linear(&mut self, linear: L, _: Place) -> Result<M> {
        (self.0)(linear)
    }
}

impl Model {
    /// The tensors as files have them, in order.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        let Self { config, embedding, positions, embedding_norm, projections, blocks, norm, head } = self;
        let (Shape { hidden_size, embedding_size, .. }, conv1d) = (config.shape, config.layout.conv1d);
        let table = |name: &str, values: &[f32], width: usize| {
            tensor(format!("{name}.weight"), vec![values.len() / width, width], values)
        };
        let mut tensors = vec![table(config.layout.embedding, embedding, embedding_size)];
        if let (Some((name, _)), Some(positions)) = (config.layout.positions, positions) {
            tensors.push(table(name, positions, hidden_size));
        }
        tensors.extend(embedding_norm.iter().flat_map(Norm::tensors));
        tensors.extend(projections.iter().flat_map(|around| around.input.tensors(conv1d)));
        for part in blocks.iter().flat_map(|block| block.as_ref().parts()) {
            match part {
                Part::Norm(norm) => tensors.extend(norm.tensors()),
                Part::Linear(linear, _) => tensors.extend(linear.tensors(conv1d)),
            }
        }
        tensors.extend(norm.iter().flat_map(Norm::tensors));
        tensors.extend(projections.iter().flat_map(|around| around.output.tensors(conv1d)));
        if !config.tie_embeddings {
            tensors.extend(head.tensors(false));
        }
        tensors
    }

    /// Every weight that a training of the whole model changes, in order, as it is kept in memory. The output layer of a
    /// tied model is not among them: it is the embedding's copy.
    pub fn parameters_mut(&mut self) -> Vec<Parameter<'_>> {
        let Self { config, embedding, positions, embedding_norm, projections, blocks, norm, head } = self;
        fn table<'a>(name: &str, values: &'a mut Arc<Vec<f32>>, width: usize) -> Parameter<'a> {
            Parameter { name: name.to_string(), shape: vec![values.len() / width, width], values }
        }
        let Shape { hidden_size, embedding_size, .. } = config.shape;
        let mut list = vec![table(config.layout.embedding, embedding, embedding_size)];
        if let (Some((name, _)), Some(positions)) = (config.layout.positions, positions) {
            list.push(table(name, positions, hidden_size));
        }
        list.extend(embedding_norm.iter_mut().flat_map(Norm::parameters));
        let (input, output) = projections.as_mut().map(Projections::as_mut).unzip();
        list.extend(input.into_iter().flat_map(Linear::parameters));
        for part in blocks.iter_mut().flat_map(|block| block.as_mut().parts()) {
            match part {
                Part::Norm(norm) => list.extend(norm.parameters()),
                Part::Linear(linear, _) => list.extend(linear.parameters()),
            }
        }
        list.extend(norm.iter_mut().flat_map(Norm::parameters));
        list.extend(output.into_iter().flat_map(Linear::parameters));
        if !config.tie_embeddings {
            list.extend(head.parameters());
        }
        list
    }
}

impl<L> Model<L> {
    /// The same model with something made of every linear layer; `make` is told whether it can carry an adapter: all but
    /// the output layer can.
    pub(super) fn map<M>(self, mut make: impl FnMut(L, bool) -> Result<M>) -> Result<Model<M>> {
        let Self { config, embedding, positions, embedding_norm, projections, blocks, norm, head } = self;
        let projections = match projections {
            None => None,
            Some(Projections { input, output }) => {
                Some(Projections { input: make(input, true)?, output: make(output, true)? })
            }
        };
        let mut each = Each(|linear| make(linear, true));
        let blocks = blocks.into_iter().map(|block| block.walk(&mut each)).collect::<Result<_>>()?;
        let head = make(head, false)?;
        Ok(Model { config, embedding, positions, embedding_norm, projections, blocks, norm, head })
    }

    /// The linear layers between embedding and output layer, in order: those that can carry an adapter.
    pub fn linears(&self) -> impl Iterator<Item = &L> {
        let (input, output) = self.projections.as_ref().map(|around| (&around.input, &around.output)).unzip();
        let of_blocks = self.blocks.iter().flat_map(|block| block.as_ref().parts()).filter_map(Part::linear);
        input.into_iter().chain(of_blocks).chain(output)
    }

    /// All norms.
    pub fn norms(&self) -> impl Iterator<Item = &Norm> {
        let of_blocks = self.blocks.iter().flat_map(|block| block.as_ref().parts()).filter_map(Part::norm);
        self.embedding_norm.iter().chain(of_blocks).chain(&self.norm)
    }

    /// The linear layers, to be changed.
    #[cfg(test)]
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut L> {
        let (input, output) = self.projections.as_mut().map(Projections::as_mut).unzip();
        let of_blocks = self.blocks.iter_mut().flat_map(|block| block.as_mut().parts()).filter_map(Part::linear);
        input.into_iter().chain(of_blocks).chain(output)
    }

    /// Fails where a token has no row in the embedding, or a text has more tokens than the model has positions.
    pub fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let Shape { vocab_size: rows, max_positions, .. } = self.config.shape;
        ensure!(ids.len() <= max_positions, "a text of {} tokens is too long for the model", ids.len());
        match ids.iter().find(|id| **id as usize >= rows) {
            Some(id) => bail!("token {id} has no row in the embedding of {rows} rows: tokenizer and model do not fit"),
            None => Ok(()),
        }
    }
}
