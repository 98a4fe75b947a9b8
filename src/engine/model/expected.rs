//! The tensors that the files of a model must hold, and what speaks against those that they do hold: all of it at once, from
//! headers alone.

use super::Config;
use super::block::{NormPlace, Place, Walk};
use super::config::{LinearName, Shape};
use crate::engine::kernels::NormKind;
use crate::engine::weights::{Misfits, Weights};
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;

impl Config {
    /// Names and shapes of the tensors of such a model, as files have them, in order.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (Shape { hidden_size: hidden, embedding_size, vocab_size, .. }, layout) = (self.shape, &self.layout);
        let mut list = List { config: self, prefix: String::new(), tensors: Vec::new() };
        list.add(&format!("{}.weight", layout.embedding), vec![vocab_size, embedding_size]);
        if let Some((name, first)) = layout.positions {
            list.add(&format!("{name}.weight"), vec![self.shape.max_positions + first, hidden]);
        }
        list.add_norm(layout.embedding_norm);
        if let Some(around) = layout.projections {
            list.add_linear(around.input, (embedding_size, hidden), layout.conv1d);
        }
        for index in 0..self.layers.len() {
            list.prefix = format!("{}.{index}.", layout.blocks);
            // A list takes everything.
            let _ = layout.block.clone().walk(&mut list);
        }
        list.prefix.clear();
        list.add_norm(layout.norm);
        if let Some(around) = layout.projections {
            list.add_linear(around.output, (hidden, embedding_size), layout.conv1d);
        }
        if !self.tie_embeddings {
            list.add_linear(layout.head, (embedding_size, vocab_size), false);
        }
        list.tensors
    }

    /// How many numbers they hold.
    pub fn weights(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Whether a tensor may stand in files and is no weight: a buffer, or a tied output layer a second time.
    pub(super) fn is_spare(&self, name: &str) -> bool {
        let layout = &self.layout;
        let is_tied = || self.tie_embeddings && name.strip_suffix(".weight") == Some(layout.head.name);
        layout.buffers.iter().any(|end| name.ends_with(end)) || is_tied()
    }

    /// Fails where tensors are missing, have other shapes, or belong to another model.
    pub fn check_weights(&self, weights: &Weights, folder: &Path) -> Result<()> {
        let mut rest: BTreeMap<&str, &[usize]> = weights.rest().collect();
        let (left_out, mut misfits) = (weights.left_out(self.layout.prefix), Misfits::default());
        for (name, shape) in self.tensors() {
            match rest.remove(name.strip_prefix(left_out).unwrap_or(&name)) {
                None => misfits.missing.push(format!("`{name}` {shape:?}")),
                Some(found) if found != shape => {
                    misfits.of_other_shapes.push(format!("`{name}` is {found:?}, not {shape:?}"));
                }
                Some(_) => {}
            }
        }
        let unknown = rest.iter().filter(|(name, _)| !self.is_spare(name));
        misfits.unknown = unknown.map(|(name, shape)| format!("`{name}` {shape:?}")).collect();
        misfits.refuse(folder)
    }
}

struct List<'a> {
    config: &'a Config,
    prefix: String,
    tensors: Vec<(String, Vec<usize>)>,
}

impl List<'_> {
    fn add(&mut self, name: &str, shape: Vec<usize>) {
        self.tensors.push((format!("{}{name}", self.prefix), shape));
    }

    fn add_linear(&mut self, LinearName { name, bias }: LinearName, (inputs, outputs): (usize, usize), conv1d: bool) {
        let shape = if conv1d { vec![inputs, outputs] } else { vec![outputs, inputs] };
        self.add(&format!("{name}.weight"), shape);
        if bias {
            self.add(&format!("{name}.bias"), vec![outputs]);
        }
    }

    fn add_norm(&mut self, name: Option<&'static str>) {
        // A list takes everything.
        let _ = self.optional(name);
    }
}

impl Walk<&'static str, LinearName> for List<'_> {
    type Norm = ();
    type Linear = ();

    fn norm(&mut self, name: &'static str, place: NormPlace) -> Result<()> {
        let width = self.config.norm_width(place);
        self.add(&format!("{name}.weight"), vec![width]);
        if matches!(self.config.norm, NormKind::Layer { bias: true }) {
            self.add(&format!("{name}.bias"), vec![width]);
        }
        Ok(())
    }

    fn linear(&mut self, linear: LinearName, place: Place) -> Result<()> {
        self.add_linear(linear, self.config.widths(place), self.config.layout.conv1d);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Model;
    use crate::engine::model::Config;
    use crate::engine::weights::{NamedTensor, Weights, write};
    use serde_json::{Value, json};

    fn small(model_type: &str, more: &Value) -> Value {
        let mut json = json!({
            "model_type": model_type, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 12, "vocab_size": 16, "n_embd": 8, "n_head": 2,
            "n_layer": 2, "n_positions": 16, "ffn_dim": 12, "max_position_embeddings": 16,
        });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json
    }

    #[test]
    fn the_list_is_that_of_a_model_that_was_made() {
        for (family, more) in [
            ("llama", json!({ "attention_bias": true })),
            ("gemma3_text", json!({})),
            ("gpt2", json!({})),
            ("opt", json!({})),
            ("opt", json!({ "word_embed_proj_dim": 4, "do_layer_norm_before": false })),
            ("opt", json!({ "word_embed_proj_dim": 4, "tie_word_embeddings": false })),
            ("gemma2", json!({})),
            ("gpt_neox", json!({ "rotary_pct": 0.5 })),
            ("olmo2", json!({})),
            ("phi3", json!({ "tie_word_embeddings": false })),
        ] {
            let config = Config::from_json(&small(family, &more)).unwrap();
            let tensors = Model::random(&config, 1).unwrap().tensors();
            let made: Vec<_> = tensors.into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
            assert_eq!(config.tensors(), made, "{family}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let config = Config::from_json(&small("llama", &json!({}))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let message = |tensors: &[NamedTensor]| {
            write(&path, tensors).unwrap();
            let weights = Weights::open_model(folder.path()).unwrap();
            config.check_weights(&weights, folder.path()).map_err(|error| error.to_string())
        };
        let whole = Model::random(&config, 3).unwrap().tensors();
        assert_eq!(message(&whole), Ok(()));
        let mut wrong = whole.clone();
        wrong.retain(|tensor| !tensor.name.starts_with("model.layers.1."));
        wrong[0].shape = vec![8, 16];
        wrong.push(NamedTensor { name: "visual.patch".into(), shape: vec![1], values: vec![0.0] });
        let message_of = |text: &str| assert!(message(&wrong).unwrap_err().contains(text), "{:?}", message(&wrong));
        message_of("missing: `model.layers.1.input_layernorm.weight` [8], ");
        message_of(" and 5 more; ");
        message_of("of other shapes: `model.embed_tokens.weight` is [8, 16], not [16, 8]; ");
        message_of("unknown: `visual.patch` [1]");
        // What is inside of the outermost module only, and buffers of old versions.
        let mut inner = whole;
        inner.iter_mut().for_each(|tensor| tensor.name = tensor.name.trim_start_matches("model.").to_string());
        inner.push(NamedTensor { name: "layers.0.rotary_emb.inv_freq".into(), shape: vec![1], values: vec![0.0] });
        assert_eq!(message(&inner), Ok(()));
    }
}
