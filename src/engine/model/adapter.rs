//! LoRA adapters in PEFT's files: `adapter_config.json` and `adapter_model.safetensors`.

mod config;

pub use config::{AdapterConfig, Biases, Selector, Targets};

use super::{Config, HeldLinear, Linear, Model, Norm, Part, Shape, settings};
use crate::engine::held::{Held, Precision};
use crate::engine::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
use crate::engine::weights::{NamedTensor, Weights, transpose, write};
use crate::random::Random;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What PEFT puts before the name of a module of the base.
const PREFIX: &str = "base_model.model.";

/// The matrices on one linear layer, row-major and as the files have them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// `r × inputs`.
    pub a: Vec<f32>,
    /// `outputs × r`.
    pub b: Vec<f32>,
    /// Width of the linear layer's input.
    pub inputs: usize,
    /// Width of the linear layer's output.
    pub outputs: usize,
    /// Of DoRA: the norm of each output's weights.
    pub magnitude: Option<Vec<f32>>,
}

impl Pair {
    /// Its rank.
    pub fn r(&self) -> usize {
        self.a.len() / self.inputs
    }
}

/// A tensor of the base that learned as a whole, as files have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// Shape.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// An adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Its settings.
    pub config: AdapterConfig,
    /// Whether its base has its matrices as `inputs × outputs` in its files (GPT-2's Conv1D); PEFT wants to know.
    pub conv1d: bool,
    /// Its matrices by the linear layer's name in the base.
    pub pairs: BTreeMap<String, Pair>,
    /// What stands in the place of the base's own tensors, by their names in the base.
    pub saved: BTreeMap<String, Saved>,
}

impl Adapter {
    /// A new adapter, which changes nothing: A is uniform within `±1/√inputs` and B zero, as PEFT has it. A number depends
    /// on the seed, the layer's name and its place alone.
    pub fn new(model: &Model<HeldLinear>, config: AdapterConfig, seed: u64) -> Result<Self> {
        config.check(&model.config)?;
        let mut config = config;
        config.modules_to_save = config.saved_modules(&model.config);
        let selector = config.selector()?;
        let layout = &model.config.layout;
        let mut adapter =
            Self { config: config.clone(), conv1d: layout.conv1d, pairs: BTreeMap::new(), saved: BTreeMap::new() };
        if config.targets == Targets::AllLinear {
            // What PEFT writes, too; it knows no such word in a file.
            let mut names = config::last_parts_of(model.config.linear_names());
            names.sort();
            adapter.config.targets = Targets::Names(names);
        }
        let Shape { hidden_size, embedding_size, .. } = model.config.shape;
        let positions =
            layout.positions.zip(model.positions.as_ref()).map(|((name, _), table)| (name, table, hidden_size));
        for (name, table, width) in [(layout.embedding, &model.embedding, embedding_size)].into_iter().chain(positions)
        {
            if selector.is_saved(name) {
                adapter.save_tensor(format!("{name}.weight"), vec![table.len() / width, width], table.to_vec());
            }
        }
        model.linears().for_each(|linear| adapter.begin_linear(linear, &selector, seed, layout.conv1d));
        model.norms().for_each(|norm| adapter.begin_norm(norm, &selector));
        if !model.config.tie_embeddings {
            adapter.begin_saved(&model.head, &selector, false);
        }
        Ok(adapter)
    }

    /// One that stands on nothing.
    pub(in crate::engine) fn none() -> Self {
        let config = AdapterConfig::default();
        Self { config, conv1d: false, pairs: BTreeMap::new(), saved: BTreeMap::new() }
    }

    fn save_tensor(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>) {
        self.saved.insert(name, Saved { shape, values });
    }

    fn begin_norm(&mut self, norm: &Norm, selector: &Selector<'_>) {
        if selector.is_saved(&norm.name) {
            self.save_tensor(format!("{}.weight", norm.name), vec![norm.weight.len()], norm.weight.to_vec());
        }
        self.begin_bias(&norm.name, norm.bias.as_deref(), selector);
    }

    fn begin_bias(&mut self, name: &str, bias: Option<&Vec<f32>>, selector: &Selector<'_>) {
        if let Some(bias) = bias.filter(|_| selector.learns_bias(name)) {
            self.save_tensor(format!("{name}.bias"), vec![bias.len()], bias.clone());
        }
    }

    fn begin_saved(&mut self, linear: &HeldLinear, selector: &Selector<'_>, conv1d: bool) {
        if selector.is_saved(&linear.name) {
            let (inputs, outputs) = (linear.weight.inputs(), linear.weight.outputs());
            let weight = linear.weight.rows(0..inputs);
            let (shape, values) = match conv1d {
                true => (vec![inputs, outputs], weight.into_owned()),
                false => (vec![outputs, inputs], transpose(&weight, inputs, outputs)),
            };
            self.save_tensor(format!("{}.weight", linear.name), shape, values);
        }
        self.begin_bias(&linear.name, linear.bias.as_deref(), selector);
    }

    fn begin_linear(&mut self, linear: &HeldLinear, selector: &Selector<'_>, seed: u64, conv1d: bool) {
        self.begin_saved(linear, selector, conv1d);
        if !selector.is_target(&linear.name) {
            return;
        }
        let (inputs, outputs) = (linear.weight.inputs(), linear.weight.outputs());
        let (random, r) = (Random::new(seed, &format!("lora {}", linear.name)), selector.rank(&linear.name));
        #[expect(clippy::cast_precision_loss, reason = "widths are small")]
        let bound = 1.0 / (inputs as f64).sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let number = |index| ((2.0 * random.uniform(index) - 1.0) * bound) as f32;
        let a: Vec<f32> = (0..(r * inputs) as u64).map(number).collect();
        let b = vec![0.0; outputs * r];
        let magnitude = self.config.dora.then(|| linear.weight.norms_with(&a, &b, r, 0.0));
        self.pairs.insert(linear.name.clone(), Pair { a, b, inputs, outputs, magnitude });
    }

    /// Reads a folder in PEFT's layout.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("adapter_config.json");
        let read = |json: &Value| Ok((config::from_json(json)?, json["fan_in_fan_out"] == true));
        let (config, conv1d) = settings::read(&path, read)?;
        let selector = config.selector().with_context(|| format!("`{}` cannot be used", path.display()))?;
        let file = folder.join("adapter_model.safetensors");
        let mut weights = Weights::open(std::slice::from_ref(&file))?;
        let shapes: BTreeMap<String, Vec<usize>> =
            weights.rest().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect();
        let (mut pairs, mut saved) = (BTreeMap::new(), BTreeMap::new());
        for (name, shape) in &shapes {
            let Some(inner) = name.strip_prefix(PREFIX) else { continue };
            if let (Some(linear), [_, inputs]) = (inner.strip_suffix(".lora_A.weight"), shape.as_slice()) {
                let name_of_b = format!("{PREFIX}{linear}.lora_B.weight");
                let outputs = shapes.get(&name_of_b).and_then(|shape| shape.first()).copied().unwrap_or(0);
                let r = selector.rank(linear);
                let a = weights.take(name, &[r, *inputs])?;
                let b = weights.take(&name_of_b, &[outputs, r])?;
                let magnitude = format!("{PREFIX}{linear}.lora_magnitude_vector");
                let magnitude = if config.dora { Some(weights.take(&magnitude, &[outputs])?) } else { None };
                pairs.insert(linear.to_string(), Pair { a, b, inputs: *inputs, outputs, magnitude });
                continue;
            }
            // PEFT has the bias of a layer with an adapter under its inner layer.
            let tensor = inner.replace(".base_layer.", ".");
            let (module, _) = tensor.rsplit_once('.').unwrap_or_default();
            let is_bias = tensor.ends_with(".bias") && selector.learns_bias(module);
            if is_bias || selector.is_saved(module) {
                let values = weights.take(name, shape)?;
                saved.insert(tensor, Saved { shape: shape.clone(), values });
            }
        }
        if let Some((name, _)) = weights.rest().next() {
            bail!("`{}` has a tensor `{name}`, which is no part of a LoRA adapter on linear layers", file.display());
        }
        ensure!(!pairs.is_empty(), "`{}` holds no adapter", file.display());
        Ok(Self { config, conv1d, pairs, saved })
    }

    /// Fails where the adapter stands on a linear layer that the model has not, or has in other widths.
    pub fn check_fits(&self, config: &Config) -> Result<()> {
        for (name, pair) in &self.pairs {
            let Some((inputs, outputs)) = config.linear_widths(name) else {
                bail!("the model has no linear layer `{name}`");
            };
            ensure!(
                (pair.inputs, pair.outputs) == (inputs, outputs),
                "linear layer `{name}` has {inputs} inputs and {outputs} outputs, the adapter's {} and {}",
                pair.inputs,
                pair.outputs
            );
        }
        let shapes = config::tensor_shapes(config);
        for (name, saved) in &self.saved {
            let Some(shape) = shapes.get(name) else {
                bail!("the model has no tensor `{name}` of its own that the adapter could replace");
            };
            ensure!(*shape == saved.shape, "tensor `{name}` has shape {shape:?}, the adapter's {:?}", saved.shape);
        }
        Ok(())
    }

    /// Makes the adapter a part of the model's own weights, as [`Model::load`] does while it reads them.
    #[cfg(test)]
    pub(crate) fn merge_into(&self, model: &mut Model) -> Result<()> {
        self.check_fits(&model.config)?;
        let conv1d = model.config.layout.conv1d;
        for linear in model.linears_mut() {
            self.merge_linear(linear, conv1d)?;
        }
        self.merge_linear(&mut model.head, false)?;
        self.merge_rest(model);
        Ok(())
    }

    /// Of one linear layer: adds `scale · B · A` to its weights, brings them to the size that DoRA learned, and puts what
    /// was saved in its place. `conv1d`: files have its matrix as it is in memory.
    pub(super) fn merge_linear(&self, linear: &mut Linear, conv1d: bool) -> Result<()> {
        let (inputs, outputs) = (linear.inputs, linear.outputs);
        if let Some(weight) = self.saved_weight(&linear.name, (inputs, outputs), conv1d) {
            linear.weight = Arc::new(weight);
        }
        if let Some(bias) = self.saved_bias(&linear.name) {
            linear.bias = Some(Arc::new(bias));
        }
        let Some(pair) = self.pairs.get(&linear.name) else { return Ok(()) };
        let (r, scale) = (pair.r(), self.config.selector()?.scale(&linear.name));
        let factors: Option<Vec<f32>> = pair.magnitude.as_ref().map(|magnitude| {
            let held = Held::new(linear.weight.clone(), inputs, outputs, Precision::F32);
            let norms = held.norms_with(&pair.a, &pair.b, r, scale);
            magnitude.iter().zip(&norms).map(|(magnitude, norm)| magnitude / norm).collect()
        });
        let (a, b) = (Matrix::new(&pair.a, r, inputs), Matrix::new(&pair.b, outputs, r));
        let weight = Arc::make_mut(&mut linear.weight);
        matmul(MatrixMut::new(weight, inputs, outputs), a.t(), b.t(), scale, Write::Add, Threads::Pool);
        if let Some(factors) = factors {
            for row in weight.chunks_exact_mut(outputs) {
                row.iter_mut().zip(&factors).for_each(|(weight, factor)| *weight *= factor);
            }
        }
        Ok(())
    }

    /// What was saved in the place of a linear layer's matrix, as it is in memory.
    pub(super) fn saved_weight(&self, name: &str, widths: (usize, usize), conv1d: bool) -> Option<Vec<f32>> {
        let values = &self.saved.get(&format!("{name}.weight"))?.values;
        let (inputs, outputs) = widths;
        Some(if conv1d { values.clone() } else { transpose(values, outputs, inputs) })
    }

    /// What was saved in the place of a linear layer's bias.
    pub(super) fn saved_bias(&self, name: &str) -> Option<Vec<f32>> {
        self.saved.get(&format!("{name}.bias")).map(|saved| saved.values.clone())
    }

    /// Puts what was saved in the place of embeddings and norms.
    pub(super) fn merge_rest<L>(&self, model: &mut Model<L>) {
        let Model { config, embedding, positions, embedding_norm, blocks, norm, .. } = model;
        let layout = &config.layout;
        let replace = |name: String, values: &mut Arc<Vec<f32>>| {
            if let Some(saved) = self.saved.get(&name) {
                *values = Arc::new(saved.values.clone());
            }
        };
        replace(format!("{}.weight", layout.embedding), embedding);
        if let (Some((name, _)), Some(positions)) = (layout.positions, positions) {
            replace(format!("{name}.weight"), positions);
        }
        let of_blocks = blocks.iter_mut().flat_map(|block| block.as_mut().parts()).filter_map(Part::norm);
        for norm in of_blocks.chain(embedding_norm).chain(norm) {
            replace(format!("{}.weight", norm.name), &mut norm.weight);
            if let Some(bias) = &mut norm.bias {
                replace(format!("{}.bias", norm.name), bias);
            }
        }
    }

    /// Writes the folder's two files, such that PEFT reads them. They name no path of this machine.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut tensors = Vec::new();
        for (name, pair) in &self.pairs {
            let mut tensor = |end: &str, shape: &[usize], values: &[f32]| {
                let name = format!("{PREFIX}{name}.{end}");
                tensors.push(NamedTensor { name, shape: shape.to_vec(), values: values.to_vec() });
            };
            tensor("lora_A.weight", &[pair.r(), pair.inputs], &pair.a);
            tensor("lora_B.weight", &[pair.outputs, pair.r()], &pair.b);
            if let Some(magnitude) = &pair.magnitude {
                tensor("lora_magnitude_vector", &[pair.outputs], magnitude);
            }
        }
        for (name, saved) in &self.saved {
            let name = match name.rsplit_once('.') {
                Some((module, tensor)) if self.pairs.contains_key(module) => format!("{module}.base_layer.{tensor}"),
                _ => name.clone(),
            };
            let (shape, values) = (saved.shape.clone(), saved.values.clone());
            tensors.push(NamedTensor { name: format!("{PREFIX}{name}"), shape, values });
        }
        write(&folder.join("adapter_model.safetensors"), &tensors)?;
        let path = folder.join("adapter_config.json");
        let text = serde_json::to_string_pretty(&config::to_json(&self.config, self.conv1d))? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }
}

#[cfg(test)]
mod tests;
