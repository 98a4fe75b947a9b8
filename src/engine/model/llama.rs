//! The weights of a Llama-family model: token embedding, blocks of attention and SwiGLU feed-forward, norm, output layer.

use super::config::LINEARS;
use super::{Adapter, Config, UNCHANGED};
use crate::engine::random::Random;
use crate::engine::weights::{NamedTensor, Weights, transpose};
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::sync::Arc;

/// A linear layer without bias: `y = x · weight`.
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
}

impl Linear {
    fn parameter(&mut self) -> Parameter<'_> {
        Parameter { name: self.name.clone(), shape: vec![self.inputs, self.outputs], values: &mut self.weight }
    }
}

/// One block: attention, then feed-forward, each added to what came in.
#[derive(Clone, Debug)]
pub struct Block {
    /// Weight of the RMS norm before attention.
    pub attention_norm: Arc<Vec<f32>>,
    /// Queries.
    pub q: Linear,
    /// Keys.
    pub k: Linear,
    /// Values.
    pub v: Linear,
    /// Attention's output.
    pub o: Linear,
    /// Weight of the RMS norm before the feed-forward layer.
    pub mlp_norm: Arc<Vec<f32>>,
    /// The gate of SwiGLU.
    pub gate: Linear,
    /// What the gate lets through.
    pub up: Linear,
    /// Back to the width of a token.
    pub down: Linear,
}

impl Block {
    /// The linear layers, in order.
    pub fn linears(&self) -> [&Linear; 7] {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down]
    }

    /// The linear layers, in order, to be changed.
    pub fn linears_mut(&mut self) -> [&mut Linear; 7] {
        [&mut self.q, &mut self.k, &mut self.v, &mut self.o, &mut self.gate, &mut self.up, &mut self.down]
    }
}

/// A weight of a model, to be changed.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// Name of its module in transformers.
    pub name: String,
    /// Its shape in memory.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub values: &'a mut Arc<Vec<f32>>,
}

/// A model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its shape.
    pub config: Config,
    /// Vectors of the tokens: `vocab_size × hidden_size`, row-major.
    pub embedding: Arc<Vec<f32>>,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// Weight of the last RMS norm.
    pub norm: Arc<Vec<f32>>,
    /// From vectors to logits. Of a tied model: the embedding, transposed.
    pub head: Linear,
}

impl Model {
    /// Reads a model from its layers: a base in HF layout, then the adapters on it, merged in order. A layer that says
    /// that its training left the base unchanged is passed over.
    pub fn load(layers: &[&Path]) -> Result<Self> {
        let Some((base, adapters)) = layers.split_first() else { bail!("a model without a layer") };
        let mut model = Self::load_base(base)?;
        for folder in adapters {
            if folder.join("adapter_config.json").exists() {
                Adapter::read(folder)?.merge_into(&mut model).with_context(|| {
                    format!("adapter `{}` does not fit its base `{}`", folder.display(), base.display())
                })?;
            } else if !folder.join(UNCHANGED).exists() {
                bail!("`{}` is no adapter: it has no `adapter_config.json`", folder.display());
            }
        }
        Ok(model)
    }

    fn load_base(folder: &Path) -> Result<Self> {
        let config = Config::read(folder)?;
        let mut weights = Weights::open_model(folder)?;
        let model = Self::build(&config, |name, shape| weights.take(name, shape))?;
        // Files of some makers carry the frequencies of rotary positions, and a tied output layer a second time.
        let tied = config.tie_embeddings;
        weights.ignore(|name| name.ends_with("rotary_emb.inv_freq") || (tied && name == "lm_head.weight"));
        if let Some((name, shape)) = weights.rest().next() {
            bail!("`{}` has a tensor `{name}` {shape:?} that a Llama model has not", folder.display());
        }
        Ok(model)
    }

    /// A new model: matrices of normal numbers, norms of ones. A tensor's numbers depend on the seed and its name alone.
    pub fn random(config: &Config, seed: u64) -> Result<Self> {
        Self::build(config, |name, shape| {
            let count: usize = shape.iter().product();
            if shape.len() == 1 {
                return Ok(vec![1.0; count]);
            }
            let random = Random::new(seed, &format!("init {name}"));
            Ok((0..count as u64).map(|index| (random.normal(index) * config.initializer_range) as f32).collect())
        })
    }

    /// Makes a model of tensors that `take` gives by name and shape, as the files have them (`outputs × inputs`).
    fn build(config: &Config, mut take: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<Self> {
        let Config { hidden_size: hidden, intermediate_size: inner, vocab_size: vocab, .. } = *config;
        let (query, kv) = (config.query_width(), config.kv_width());
        let embedding = take("model.embed_tokens.weight", &[vocab, hidden])?;
        let mut blocks = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let prefix = format!("model.layers.{index}");
            let mut linear = |name: &str, inputs: usize, outputs: usize| -> Result<Linear> {
                let name = format!("{prefix}.{name}");
                let weight = take(&format!("{name}.weight"), &[outputs, inputs])?;
                Ok(Linear { name, inputs, outputs, weight: Arc::new(transpose(&weight, outputs, inputs)) })
            };
            let [q, k, v, o, gate, up, down] = LINEARS;
            let [q, k, v] = [(q, query), (k, kv), (v, kv)].map(|(name, width)| linear(name, hidden, width));
            let o = linear(o, query, hidden);
            let [gate, up] = [gate, up].map(|name| linear(name, hidden, inner));
            let down = linear(down, inner, hidden);
            let [attention_norm, mlp_norm] = ["input_layernorm", "post_attention_layernorm"]
                .map(|name| take(&format!("{prefix}.{name}.weight"), &[hidden]).map(Arc::new));
            blocks.push(Block {
                attention_norm: attention_norm?,
                q: q?,
                k: k?,
                v: v?,
                o: o?,
                mlp_norm: mlp_norm?,
                gate: gate?,
                up: up?,
                down: down?,
            });
        }
        let norm = take("model.norm.weight", &[hidden])?;
        let head = if config.tie_embeddings {
            transpose(&embedding, vocab, hidden)
        } else {
            transpose(&take("lm_head.weight", &[vocab, hidden])?, vocab, hidden)
        };
        Ok(Self {
            config: config.clone(),
            embedding: Arc::new(embedding),
            blocks,
            norm: Arc::new(norm),
            head: Linear { name: "lm_head".to_string(), inputs: hidden, outputs: vocab, weight: Arc::new(head) },
        })
    }

    /// The tensors as files have them, in order.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        let vector = |name: String, values: &[f32]| NamedTensor {
            name: format!("{name}.weight"),
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        let matrix = |linear: &Linear| NamedTensor {
            name: format!("{}.weight", linear.name),
            shape: vec![linear.outputs, linear.inputs],
            values: transpose(&linear.weight, linear.inputs, linear.outputs),
        };
        let mut tensors = vec![NamedTensor {
            name: "model.embed_tokens.weight".to_string(),
            shape: vec![self.config.vocab_size, self.config.hidden_size],
            values: self.embedding.to_vec(),
        }];
        for (index, block) in self.blocks.iter().enumerate() {
            tensors.push(vector(format!("model.layers.{index}.input_layernorm"), &block.attention_norm));
            tensors.push(vector(format!("model.layers.{index}.post_attention_layernorm"), &block.mlp_norm));
            tensors.extend(block.linears().map(matrix));
        }
        tensors.push(vector("model.norm".to_string(), &self.norm));
        if !self.config.tie_embeddings {
            tensors.push(matrix(&self.head));
        }
        tensors
    }

    /// Every weight that a training of the whole model changes, in order, as it is kept in memory. The output layer of a
    /// tied model is not among them: it is the embedding's copy.
    pub fn parameters_mut(&mut self) -> Vec<Parameter<'_>> {
        let Self { config, embedding, blocks, norm, head } = self;
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let vector = |name: String, values| Parameter { name, shape: vec![hidden], values };
        let mut list =
            vec![Parameter { name: "model.embed_tokens".to_string(), shape: vec![vocab, hidden], values: embedding }];
        for (index, block) in blocks.iter_mut().enumerate() {
            let Block { attention_norm, q, k, v, o, mlp_norm, gate, up, down } = block;
            list.push(vector(format!("model.layers.{index}.input_layernorm"), attention_norm));
            list.extend([q, k, v, o].map(Linear::parameter));
            list.push(vector(format!("model.layers.{index}.post_attention_layernorm"), mlp_norm));
            list.extend([gate, up, down].map(Linear::parameter));
        }
        list.push(vector("model.norm".to_string(), norm));
        if !config.tie_embeddings {
            list.push(head.parameter());
        }
        list
    }

    /// The linear layers of the blocks, in order: those that can carry an adapter.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(Block::linears)
    }

    /// The same, to be changed.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut)
    }

    /// Fails where a token has no row in the embedding, or a text has more tokens than the model has positions.
    pub fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let rows = self.config.vocab_size;
        ensure!(ids.len() <= self.config.max_positions, "a text of {} tokens is too long for the model", ids.len());
        match ids.iter().find(|id| **id as usize >= rows) {
            Some(id) => bail!("token {id} has no row in the embedding of {rows} rows: tokenizer and model do not fit"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::weights::write;

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
        tensors[3].name = "model.layers.0.self_attn.q_proj.bias".to_string();
        assert!(error(&tensors).unwrap_err().contains("no tensor `model.layers.0.self_attn.q_proj.weight`"));
        tensors = Model::random(&config(true), 3).unwrap().tensors();
        tensors.push(NamedTensor { name: "model.extra".into(), shape: vec![1], values: vec![0.0] });
        assert!(error(&tensors).unwrap_err().contains("`model.extra` [1]"));
    }
}
