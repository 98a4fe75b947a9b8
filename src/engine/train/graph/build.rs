//! How graphs are made of models, and what they are made into again.

use super::parts::{Bias, Layer, Lora, Norm, NormWeight, Table, Weight};
use super::{Arithmetic, Fused, Goal, Graph, Parameter, Trained};
use crate::engine::model::{
    Adapter, AdapterConfig, Config, HeldLinear, Linear, Model, Norm as ModelNorm, NormPlace, Part, Place, Projections,
    Shape, Walk,
};
use crate::engine::weights::transpose;
use crate::random::Random;
use anyhow::{Result, bail};
use candle_core::Tensor;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

/// Parts of a graph whose weights all learn; gives out the parameters' tensors in their order.
struct AllLearn<I, S> {
    tensors: I,
    arithmetic: PhantomData<S>,
}

impl<I: Iterator<Item = Tensor>, S: Arithmetic> AllLearn<I, S> {
    fn next(&mut self) -> Tensor {
        // The order is that of `parameters_mut`.
        self.tensors.next().expect("one tensor per weight")
    }

    fn bias(&mut self, is_there: bool) -> Bias<S> {
        if is_there { Bias::Trained(self.next()) } else { Bias::None }
    }

    fn trained_norm(&mut self, norm: &ModelNorm) -> Norm<S> {
        Norm { weight: NormWeight::Trained(self.next()), bias: self.bias(norm.bias.is_some()) }
    }

    fn trained_linear(&mut self, linear: &Linear) -> Layer<S> {
        let weight = Weight::Trained { weight: self.next(), transposed: false };
        Layer { weight, bias: self.bias(linear.bias.is_some()) }
    }
}

impl<I: Iterator<Item = Tensor>, S: Arithmetic> Walk<&ModelNorm, &Linear> for AllLearn<I, S> {
    type Norm = Norm<S>;
    type Linear = Layer<S>;

    fn norm(&mut self, norm: &ModelNorm, _: NormPlace) -> Result<Norm<S>> {
        Ok(self.trained_norm(norm))
    }

    fn linear(&mut self, linear: &Linear, _: Place) -> Result<Layer<S>> {
        Ok(self.trained_linear(linear))
    }
}

/// What a parameter is in an adapter.
#[derive(Debug)]
pub(super) enum Slot {
    /// A of a linear layer.
    A(String),
    /// B of a linear layer.
    B(String),
    /// The magnitude of a linear layer.
    Magnitude(String),
    /// A tensor of the base, and its shape in memory where files have it transposed.
    Saved(String, Option<(usize, usize)>),
}

impl Slot {
    /// Where its numbers stand.
    fn of<'a>(&self, adapter: &'a mut Adapter) -> Option<&'a mut Vec<f32>> {
        match self {
            Self::A(name) => adapter.pairs.get_mut(name).map(|pair| &mut pair.a),
            Self::B(name) => adapter.pairs.get_mut(name).map(|pair| &mut pair.b),
            Self::Magnitude(name) => adapter.pairs.get_mut(name).and_then(|pair| pair.magnitude.as_mut()),
            Self::Saved(name, _) => adapter.saved.get_mut(name).map(|saved| &mut saved.values),
        }
    }
}

/// Parts of a graph in which an adapter learns. Its numbers are taken out of it.
struct AdapterLearns<'a, S> {
    arithmetic: &'a S,
    config: &'a Config,
    adapter: &'a mut Adapter,
    settings: AdapterConfig,
    seed: u64,
    /// Whether what it gives is followed for its gradient.
    learns: bool,
    parameters: Vec<Parameter>,
    slots: Vec<Slot>,
}

impl<S: Arithmetic> AdapterLearns<'_, S> {
    /// A parameter that begins with the numbers of a slot.
    fn parameter(&mut self, slot: Slot, name: String, shape: &[usize], decays: bool) -> Result<Option<Tensor>> {
        let Some(values) = slot.of(self.adapter).map(std::mem::take) else { return Ok(None) };
        let values = match &slot {
            Slot::Saved(_, Some((inputs, outputs))) => transpose(&values, *outputs, *inputs),
            _ => values,
        };
        let parameter = Parameter::new(name, shape, values, decays, self.arithmetic.device())?;
        let var = &parameter.var;
        let tensor = if self.learns { var.as_tensor().clone() } else { var.as_detached_tensor() };
        self.parameters.push(parameter);
        self.slots.push(slot);
        Ok(Some(tensor))
    }

    /// A tensor of the base that learns as a whole, if it is one.
    fn saved(&mut self, tensor: String, shape: &[usize], transposed: bool) -> Result<Option<Tensor>> {
        let transposed = match shape {
            [inputs, outputs] if transposed => Some((*inputs, *outputs)),
            _ => None,
        };
        let name = tensor.strip_suffix(".weight").unwrap_or(&tensor).to_string();
        self.parameter(Slot::Saved(tensor, transposed), name, shape, shape.len() > 1)
    }

    fn table(&mut self, name: &str, table: &Arc<Vec<f32>>, width: usize) -> Result<Table<S>> {
        let shape = [table.len() / width, width];
        Ok(match self.saved(format!("{name}.weight"), &shape, false)? {
            Some(saved) => Table::Trained(saved),
            None => Table::Frozen(self.arithmetic.vector(table, &shape)?),
        })
    }

    fn bias(&mut self, name: &str, bias: Option<&Arc<Vec<f32>>>) -> Result<Bias<S>> {
        let Some(values) = bias else { return Ok(Bias::None) };
        Ok(match self.saved(format!("{name}.bias"), &[values.len()], false)? {
            Some(saved) => Bias::Trained(saved),
            None => Bias::Frozen(self.arithmetic.vector(values, &[values.len()])?),
        })
    }

    fn lora(&mut self, linear: &HeldLinear) -> Result<Weight<S>> {
        let (name, weight) = (&linear.name, self.arithmetic.matrix(&linear.weight)?);
        let (inputs, outputs) = (linear.weight.inputs(), linear.weight.outputs());
        let Some(r) = self.adapter.pairs.get(name).map(|pair| pair.r()) else { return Ok(Weight::Frozen(weight)) };
        let a = self.parameter(Slot::A(name.clone()), format!("{name}.lora_A"), &[r, inputs], true)?;
        let b = self.parameter(Slot::B(name.clone()), format!("{name}.lora_B"), &[outputs, r], true)?;
        // transformers decays all that is called neither bias nor norm.
        let magnitude = format!("{name}.lora_magnitude_vector");
        let magnitude = self.parameter(Slot::Magnitude(name.clone()), magnitude, &[outputs], true)?;
        let (Some(a), Some(b)) = (a, b) else { return Ok(Weight::Frozen(weight)) };
        Ok(Weight::Lora(Lora {
            weight,
            a,
            b,
            magnitude,
            scale: self.settings.selector()?.scale(name),
            dropout: self.settings.dropout,
            random: Random::new(self.seed, &format!("dropout {name}")),
        }))
    }

    fn linear_of(&mut self, linear: &HeldLinear, conv1d: bool) -> Result<Layer<S>> {
        let (inputs, outputs) = (linear.weight.inputs(), linear.weight.outputs());
        let saved = self.saved(format!("{}.weight", linear.name), &[inputs, outputs], !conv1d)?;
        let weight = match saved {
            Some(weight) => Weight::Trained { weight, transposed: false },
            None => self.lora(linear)?,
        };
        Ok(Layer { weight, bias: self.bias(&linear.name, linear.bias.as_ref())? })
    }
}

impl<S: Arithmetic> Walk<&ModelNorm, &HeldLinear> for AdapterLearns<'_, S> {
    type Norm = Norm<S>;
    type Linear = Layer<S>;

    fn norm(&mut self, norm: &ModelNorm, _: NormPlace) -> Result<Norm<S>> {
        let width = [norm.weight.len()];
        let weight = match self.saved(format!("{}.weight", norm.name), &width, false)? {
            Some(weight) => NormWeight::Trained(weight),
            None => NormWeight::Frozen(match self.config.norm.factors(&norm.weight) {
                Cow::Borrowed(_) => self.arithmetic.vector(&norm.weight, &width)?,
                Cow::Owned(factors) => self.arithmetic.vector(&Arc::new(factors), &width)?,
            }),
        };
        Ok(Norm { weight, bias: self.bias(&norm.name, norm.bias.as_ref())? })
    }

    fn linear(&mut self, linear: &HeldLinear, _: Place) -> Result<Layer<S>> {
        self.linear_of(linear, self.config.layout.conv1d)
    }
}

impl Graph {
    /// All weights of the model learn, on the processor.
    pub fn whole(model: Model) -> Result<Self> {
        Self::whole_by(Fused, model)
    }

    /// A new adapter learns, on the processor.
    pub fn adapter(model: impl Into<Model<HeldLinear>>, config: AdapterConfig, seed: u64) -> Result<Self> {
        Self::adapter_by(Fused, model, config, seed)
    }

    /// An adapter learns on from where it is, on the processor; the seed is that of dropout.
    pub fn with_adapter(model: impl Into<Model<HeldLinear>>, adapter: Adapter, seed: u64) -> Result<Self> {
        Self::with_adapter_by(Fused, model, adapter, seed)
    }
}

impl<S: Arithmetic> Graph<S> {
    /// All weights of the model learn.
    pub fn whole_by(arithmetic: S, mut model: Model) -> Result<Self> {
        let mut parameters = Vec::new();
        for weight in model.parameters_mut() {
            let values = Arc::unwrap_or_clone(std::mem::take(weight.values));
            let decays = weight.shape.len() > 1;
            parameters.push(Parameter::new(weight.name, &weight.shape, values, decays, arithmetic.device())?);
        }
        let tensors = parameters.iter().map(|parameter| parameter.var.as_tensor().clone());
        let mut learn = AllLearn { tensors, arithmetic: PhantomData };
        let embedding = learn.next();
        let positions = model.positions.as_ref().map(|_| Table::Trained(learn.next()));
        let embedding_norm = model.embedding_norm.as_ref().map(|norm| learn.trained_norm(norm));
        let around = model.projections.as_ref();
        let input = around.map(|around| learn.trained_linear(&around.input));
        let blocks = model.blocks.iter().map(|block| block.as_ref().walk(&mut learn)).collect::<Result<_>>()?;
        let norm = model.norm.as_ref().map(|norm| learn.trained_norm(norm));
        let output = around.map(|around| learn.trained_linear(&around.output));
        let head = match model.config.tie_embeddings {
            true => Layer { weight: Weight::Trained { weight: embedding.clone(), transposed: true }, bias: Bias::None },
            false => learn.trained_linear(&model.head),
        };
        Ok(Self {
            distances: arithmetic.distances(&model.config)?,
            arithmetic,
            config: model.config.clone(),
            embedding: Table::Trained(embedding),
            positions,
            embedding_norm,
            projections: input.zip(output).map(|(input, output)| Projections { input, output }),
            blocks,
            norm,
            head,
            parameters,
            checkpoint: false,
            goal: Goal::Model(Box::new(model)),
        })
    }

    /// A new adapter learns.
    pub fn adapter_by(
        arithmetic: S,
        model: impl Into<Model<HeldLinear>>,
        config: AdapterConfig,
        seed: u64,
    ) -> Result<Self> {
        let model = model.into();
        let adapter = Adapter::new(&model, config, seed)?;
        Self::with_adapter_by(arithmetic, model, adapter, seed)
    }

    /// An adapter learns on from where it is; the seed is that of dropout.
    pub fn with_adapter_by(
        arithmetic: S,
        model: impl Into<Model<HeldLinear>>,
        mut adapter: Adapter,
        seed: u64,
    ) -> Result<Self> {
        let model = model.into();
        adapter.check_fits(&model.config)?;
        let (mut graph, slots) = Self::under(arithmetic, model, &mut adapter, seed, true)?;
        graph.goal = Goal::Adapter(Box::new(adapter), slots);
        Ok(graph)
    }

    /// Nothing learns, not even the adapter, if there is one.
    pub fn frozen_by(arithmetic: S, model: impl Into<Model<HeldLinear>>, adapter: Option<Adapter>) -> Result<Self> {
        let model = model.into();
        let mut adapter = adapter.unwrap_or_else(Adapter::none);
        adapter.check_fits(&model.config)?;
        Ok(Self::under(arithmetic, model, &mut adapter, 0, false)?.0)
    }

    /// A model under an adapter, whose numbers are taken out.
    fn under(
        arithmetic: S,
        model: Model<HeldLinear>,
        adapter: &mut Adapter,
        seed: u64,
        learns: bool,
    ) -> Result<(Self, Vec<Slot>)> {
        let Model { config, embedding, positions, embedding_norm, projections, blocks, norm, head } = model;
        let settings = adapter.config.clone();
        let (parameters, slots) = (Vec::new(), Vec::new());
        let mut learn = AdapterLearns {
            arithmetic: &arithmetic,
            config: &config,
            adapter,
            settings,
            seed,
            learns,
            parameters,
            slots,
        };
        let embedding = learn.table(config.layout.embedding, &embedding, config.shape.embedding_size)?;
        let positions = match (config.layout.positions, &positions) {
            (Some((name, _)), Some(table)) => Some(learn.table(name, table, config.shape.hidden_size)?),
            _ => None,
        };
        let embedding_norm = learn.optional(embedding_norm.as_ref())?;
        let (conv1d, around) = (config.layout.conv1d, projections.as_ref());
        let input = around.map(|around| learn.linear_of(&around.input, conv1d)).transpose()?;
        // Block by block, so that on a device no more than one block's weights are there twice.
        let blocks = blocks.into_iter().map(|block| block.as_ref().walk(&mut learn)).collect::<Result<_>>()?;
        let norm = learn.optional(norm.as_ref())?;
        let output = around.map(|around| learn.linear_of(&around.output, conv1d)).transpose()?;
        let head = learn.linear_of(&head, false)?;
        let AdapterLearns { parameters, slots, .. } = learn;
        let graph = Self {
            distances: arithmetic.distances(&config)?,
            arithmetic,
            config,
            embedding,
            positions,
            embedding_norm,
            projections: input.zip(output).map(|(input, output)| Projections { input, output }),
            blocks,
            norm,
            head,
            parameters,
            checkpoint: false,
            goal: Goal::None,
        };
        Ok((graph, slots))
    }

    /// The result with these numbers for the parameters, in their order.
    pub fn finish(&self, values: Vec<Vec<f32>>) -> Result<Trained> {
        Ok(match &self.goal {
            Goal::None => bail!("a graph in which nothing learns makes nothing"),
            Goal::Model(model) => {
                let mut model = model.clone();
                for (weight, values) in model.parameters_mut().into_iter().zip(values) {
                    *weight.values = Arc::new(values);
                }
                if model.config.tie_embeddings {
                    let Shape { vocab_size, embedding_size, .. } = model.config.shape;
                    model.head.weight = Arc::new(transpose(&model.embedding, vocab_size, embedding_size));
                }
                Trained::Model(model)
            }
            Goal::Adapter(adapter, slots) => {
                let mut adapter = adapter.clone();
                for (slot, values) in slots.iter().zip(values) {
                    let values = match slot {
                        Slot::Saved(_, Some((inputs, outputs))) => transpose(&values, *inputs, *outputs),
                        _ => values,
                    };
                    if let Some(place) = slot.of(&mut adapter) {
                        *place = values;
                    }
                }
                Trained::Adapter(*adapter)
            }
        })
    }

    /// Bytes of the linear layers that do not learn.
    pub fn frozen_bytes(&self) -> usize {
        let bytes = |weight: &Weight<S>| match weight {
            Weight::Frozen(matrix) | Weight::Lora(Lora { weight: matrix, .. }) => S::bytes(matrix),
            Weight::Trained { .. } => 0,
        };
        let linears = self.blocks.iter().flat_map(|block| block.as_ref().parts()).filter_map(Part::linear);
        let around = self.projections.iter().flat_map(|around| [&around.input, &around.output]);
        linears.chain(around).chain([&self.head]).map(|layer| bytes(&layer.weight)).sum()
    }
}
