//! How a model is made: of the files of a base and of the adapters on it, of random numbers, of another's numbers.

use super::block::{NormPlace, Place, Walk};
use super::config::{LinearName, Projections, Shape};
use super::network::{HeldLinear, Linear, Model, Norm};
use super::{Adapter, Config, UNCHANGED};
use crate::engine::held::Precision;
use crate::engine::kernels::NormKind;
use crate::engine::weights::{Weights, transpose};
use crate::random::Random;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::sync::Arc;

impl Model {
    /// Reads a model from its layers: a base in HF layout, then the adapters on it, merged in order. A layer that says
    /// that its training left the base unchanged is passed over.
    pub fn load(layers: &[&Path]) -> Result<Self> {
        Self::load_with(layers, |linear, _| Ok(linear))
    }

    /// A new model: matrices of normal numbers, norms that change nothing, biases of zero. A tensor's numbers depend on
    /// the seed and its name alone.
    pub fn random(config: &Config, seed: u64) -> Result<Self> {
        Self::build(config, |name, shape| {
            let count: usize = shape.iter().product();
            if shape.len() == 1 {
                let zero = name.ends_with(".bias") || config.norm == NormKind::RmsPlusOne;
                return Ok(vec![if zero { 0.0 } else { 1.0 }; count]);
            }
            let random = Random::new(seed, &format!("init {name}"));
            Ok((0..count as u64).map(|index| (random.normal(index) * config.initializer_range) as f32).collect())
        })
    }

    /// Makes a model of tensors that `take` gives by name and shape, as the files have them.
    fn build(config: &Config, take: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<Self> {
        Self::build_with(config, take, |linear, _| Ok(linear))
    }
}

impl Model<HeldLinear> {
    /// The same as [`Model::load`], with the linear layers before the output layer held in a precision as they are read: the
    /// whole model is never there as f32. The output layer is held in at least 16 bits; embeddings, norms and biases are
    /// f32.
    pub fn load_held(layers: &[&Path], precision: Precision) -> Result<Self> {
        let of_head = if precision == Precision::F32 { Precision::F32 } else { Precision::Bf16 };
        let of = |inner| if inner { precision } else { of_head };
        Self::load_with(layers, |linear, inner| Ok(HeldLinear::new(linear, of(inner))))
    }
}

/// The same numbers, shared.
impl From<&Model> for Model<HeldLinear> {
    fn from(model: &Model) -> Self {
        let share = model.clone().map(|linear, _| Ok(HeldLinear::new(linear, Precision::F32)));
        share.expect("sharing cannot fail")
    }
}

/// Reads an adapter for a model; none where a training left its base unchanged.
pub(super) fn read_adapter(folder: &Path, config: &Config) -> Result<Option<Adapter>> {
    if !folder.join("adapter_config.json").exists() {
        ensure!(
            folder.join(UNCHANGED).exists(),
            "`{}` is no adapter: it has no `adapter_config.json`",
            folder.display()
        );
        return Ok(None);
    }
    let adapter = Adapter::read(folder)?;
    adapter.check_fits(config).with_context(|| format!("adapter `{}` does not fit its base", folder.display()))?;
    Ok(Some(adapter))
}

impl<L> Model<L> {
    /// Reads a base and the adapters on it; `finish` makes what is kept of each linear layer, adapters merged, and is told
    /// whether it can carry one: all but the output layer can.
    fn load_with(layers: &[&Path], mut finish: impl FnMut(Linear, bool) -> Result<L>) -> Result<Self> {
        let Some((base, folders)) = layers.split_first() else { bail!("a model without a layer") };
        let config = Config::read(base)?;
        let mut adapters = Vec::new();
        for folder in folders {
            adapters.extend(read_adapter(folder, &config)?);
        }
        let conv1d = config.layout.conv1d;
        let mut model = Self::load_base(base, config, |mut linear, inner| {
            for adapter in &adapters {
                adapter.merge_linear(&mut linear, conv1d && inner)?;
            }
            finish(linear, inner)
        })?;
        for adapter in &adapters {
            adapter.merge_rest(&mut model);
        }
        Ok(model)
    }

    fn load_base(folder: &Path, config: Config, finish: impl FnMut(Linear, bool) -> Result<L>) -> Result<Self> {
        let mut weights = Weights::open_model(folder)?;
        config.check_weights(&weights, folder)?;
        let left_out = weights.left_out(config.layout.prefix);
        let take = |name: &str, shape: &[usize]| weights.take(name.strip_prefix(left_out).unwrap_or(name), shape);
        Self::build_with(&config, take, finish)
    }

    /// Makes a model of tensors that `take` gives by name and shape, as the files have them.
    fn build_with(
        config: &Config,
        take: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>,
        finish: impl FnMut(Linear, bool) -> Result<L>,
    ) -> Result<Self> {
        let Shape { hidden_size: hidden, embedding_size: width, vocab_size: vocab, max_positions, .. } = config.shape;
        let layout = &config.layout;
        let mut builder = Builder { config, take, finish, prefix: String::new() };
        let embedding = (builder.take)(&format!("{}.weight", layout.embedding), &[vocab, width])?;
        let positions = match layout.positions {
            None => None,
            Some((name, first)) => {
                Some(Arc::new((builder.take)(&format!("{name}.weight"), &[max_positions + first, hidden])?))
            }
        };
        let embedding_norm = builder.optional(layout.embedding_norm)?;
        let around = layout.projections;
        let input = around.map(|around| builder.inner(around.input, (width, hidden))).transpose()?;
        let mut blocks = Vec::with_capacity(config.layers.len());
        for index in 0..config.layers.len() {
            builder.prefix = format!("{}.{index}.", layout.blocks);
            blocks.push(layout.block.clone().walk(&mut builder)?);
        }
        builder.prefix.clear();
        let norm = builder.optional(layout.norm)?;
        let output = around.map(|around| builder.inner(around.output, (hidden, width))).transpose()?;
        let head = if config.tie_embeddings {
            let weight = Arc::new(transpose(&embedding, vocab, width));
            Linear { name: layout.head.name.to_string(), inputs: width, outputs: vocab, weight, bias: None }
        } else {
            builder.linear_of(layout.head, (width, vocab), false)?
        };
        let head = (builder.finish)(head, false)?;
        Ok(Self {
            config: config.clone(),
            embedding: Arc::new(embedding),
            positions,
            embedding_norm,
            projections: input.zip(output).map(|(input, output)| Projections { input, output }),
            blocks,
            norm,
            head,
        })
    }
}

/// Makes weights of names.
struct Builder<'a, Take, Finish> {
    config: &'a Config,
    take: Take,
    /// What becomes of a linear layer; whether it is one of a block.
    finish: Finish,
    /// What stands before the names.
    prefix: String,
}

impl<Take: FnMut(&str, &[usize]) -> Result<Vec<f32>>, Finish> Builder<'_, Take, Finish> {
    fn vector(&mut self, name: &str, width: usize) -> Result<Arc<Vec<f32>>> {
        (self.take)(name, &[width]).map(Arc::new)
    }

    fn linear_of(
        &mut self,
        LinearName { name, bias }: LinearName,
        widths: (usize, usize),
        conv1d: bool,
    ) -> Result<Linear> {
        let (inputs, outputs) = widths;
        let name = format!("{}{name}", self.prefix);
        let weight = format!("{name}.weight");
        let weight = match conv1d {
            true => (self.take)(&weight, &[inputs, outputs])?,
            false => transpose(&(self.take)(&weight, &[outputs, inputs])?, outputs, inputs),
        };
        let bias = if bias { Some(self.vector(&format!("{name}.bias"), outputs)?) } else { None };
        Ok(Linear { name, inputs, outputs, weight: Arc::new(weight), bias })
    }
}

impl<L, Take, Finish> Builder<'_, Take, Finish>
where
    Take: FnMut(&str, &[usize]) -> Result<Vec<f32>>,
    Finish: FnMut(Linear, bool) -> Result<L>,
{
    /// A linear layer that can carry an adapter.
    fn inner(&mut self, linear: LinearName, widths: (usize, usize)) -> Result<L> {
        let linear = self.linear_of(linear, widths, self.config.layout.conv1d)?;
        (self.finish)(linear, true)
    }
}

impl<L, Take, Finish> Walk<&'static str, LinearName> for Builder<'_, Take, Finish>
where
    Take: FnMut(&str, &[usize]) -> Result<Vec<f32>>,
    Finish: FnMut(Linear, bool) -> Result<L>,
{
    type Norm = Norm;
    type Linear = L;

    fn norm(&mut self, name: &'static str, place: NormPlace) -> Result<Norm> {
        let name = format!("{}{name}", self.prefix);
        let width = self.config.norm_width(place);
        let weight = self.vector(&format!("{name}.weight"), width)?;
        let bias = match self.config.norm {
            NormKind::Layer { bias: true } => Some(self.vector(&format!("{name}.bias"), width)?),
            _ => None,
        };
        Ok(Norm { name, weight, bias })
    }

    fn linear(&mut self, linear: LinearName, place: Place) -> Result<L> {
        self.inner(linear, self.config.widths(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::weights::{NamedTensor, write};

    fn config(tie_embeddings: bool) -> Config {
        let json = serde_json::json!({
            "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 12, "vocab_size": 16, "tie_word_embeddings": tie_embeddings,
        });
        Config::from_json(&json).unwrap()
    }

    #[test]
    fn tensors_survive_the_way_through_a_model() {
        for tied in [true, false] {
            let model = Model::random(&config(tied), 3).unwrap();
            let tensors = model.tensors();
            let again = Model::build(&model.config, |name, shape| {
                let tensor = tensors.iter().find(|tensor| tensor.name == name).context(name.to_string())?;
                assert_eq!(tensor.shape, shape, "{name}");
                Ok(tensor.values.clone())
            });
            assert_eq!(again.unwrap().tensors(), tensors);
            assert_eq!(tensors.len(), 1 + 2 * 9 + 1 + usize::from(!tied));
        }
    }

    #[test]
    fn missing_and_unknown_tensors_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let config_json = serde_json::json!({
            "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 12, "vocab_size": 16, "tie_word_embeddings": true,
        });
        std::fs::write(folder.path().join("config.json"), config_json.to_string()).unwrap();
        let file = folder.path().join("model.safetensors");
        let error = |tensors: &[NamedTensor]| {
            write(&file, tensors).unwrap();
            Model::load(&[folder.path()]).map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        let mut tensors = Model::random(&config(true), 3).unwrap().tensors();
        assert_eq!(error(&tensors), Ok(()));
        tensors[2].name = "model.layers.0.self_attn.q_proj.bias".to_string();
        assert!(
            error(&tensors)
                .unwrap_err()
                .contains("missing: `model.layers.0.self_attn.q_proj.weight` [8, 8]; unknown: ")
        );
        tensors = Model::random(&config(true), 3).unwrap().tensors();
        tensors.push(NamedTensor { name: "model.extra".into(), shape: vec![1], values: vec![0.0] });
        assert!(error(&tensors).unwrap_err().contains("unknown: `model.extra` [1]"));
    }
}
