//! What a job needs of memory at least, so that one that cannot fit is refused before it begins, not killed after an hour.
//!
//! Of [`Need`] only what is certain counts: weights in single precision, and of trained ones a gradient and two moments.
//! What a batch needs comes on top of that ([`of_batch`]). And what the machine says of its memory.

mod group;

use super::model::{AdapterConfig, Config, Shape};
use crate::settings::Bytes;
use std::fs;

/// Bytes of a number.
const NUMBER: u64 = 4;
/// A gradient and AdamW's two moments.
const PER_TRAINED: u64 = 3;

/// What is certain to be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Bytes of the weights.
    pub weights: u64,
    /// Bytes of what is trained: its gradients and moments, and an adapter itself.
    pub training: u64,
}

impl Need {
    /// To answer with a model.
    pub fn to_answer(config: &Config) -> Self {
        // The output layer of a tied model is a copy.
        let tied = if config.tie_embeddings { config.shape.vocab_size * config.shape.embedding_size } else { 0 };
        Self { weights: NUMBER * (config.weights() + tied) as u64, training: 0 }
    }

    /// To train an adapter, or all weights.
    pub fn to_train(config: &Config, adapter: Option<&AdapterConfig>) -> Self {
        let Self { weights, .. } = Self::to_answer(config);
        let training = match adapter {
            None => PER_TRAINED * NUMBER * config.weights() as u64,
            Some(adapter) => (1 + PER_TRAINED) * NUMBER * pairs(config, adapter),
        };
        Self { weights, training }
    }

    /// The same with weights that are held in so many bits each.
    #[must_use]
    pub fn held_in(self, bits: u64) -> Self {
        Self { weights: self.weights / (8 * NUMBER) * bits, ..self }
    }

    /// Why it cannot be had from so much memory, if it cannot.
    pub fn too_much(self, memory: Option<u64>) -> Option<String> {
        let (memory, all) = (memory?, self.weights.saturating_add(self.training));
        if all <= memory {
            return None;
        }
        let of = if self.training == 0 {
            "its weights alone".to_string()
        } else {
            format!("{} of weights, {} of what is trained", Bytes(self.weights), Bytes(self.training))
        };
        Some(format!("needs at least {} of memory ({of}), and this machine has {}", Bytes(all), Bytes(memory)))
    }
}

/// About what the steps of a training need for a micro-batch besides [`Need`], where it has so many tokens of which so many
/// are predicted: what the backward pass reads of every block, or, where blocks are computed again, what goes from block
/// to block and all of one; and the logits with their gradient.
pub fn of_batch(config: &Config, tokens: u64, labels: u64, again: bool) -> u64 {
    let Shape { hidden_size, vocab_size, .. } = config.shape;
    let [hidden, vocab] = [hidden_size, vocab_size].map(|width| width as u64);
    let (queries, keys) = (config.query_width() as u64, config.kv_width() as u64);
    let block = BLOCK_VECTORS * hidden + 2 * queries + 2 * keys + MLP_VECTORS * config.shape.intermediate_size as u64;
    let blocks = config.layers.len() as u64;
    let kept = if again { blocks * hidden + block } else { blocks * block };
    // The backward pass holds gradients of about one block besides.
    NUMBER * (tokens * (kept + block) + 2 * labels * vocab)
}

/// Vectors as wide as a token that a block keeps for its backward pass: its input, two norms, what attention and the
/// feed-forward layer add, two sums.
const BLOCK_VECTORS: u64 = 7;
/// Vectors as wide as the feed-forward layer: the gate, what it lets through, the product.
const MLP_VECTORS: u64 = 3;

/// How many numbers an adapter's pairs of matrices hold.
fn pairs(config: &Config, adapter: &AdapterConfig) -> u64 {
    // What is wrong with an adapter's settings is said elsewhere.
    let Ok(selector) = adapter.selector() else { return 0 };
    let targets = config.linear_names().filter(|name| selector.is_target(name));
    let numbers = targets.filter_map(|name| {
        let (inputs, outputs) = config.linear_widths(&name)?;
        Some((selector.rank(&name) * (inputs + outputs)) as u64)
    });
    numbers.sum()
}

/// The memory of this machine, or what this process may have of it. `None` where nobody tells.
pub fn of_machine() -> Option<u64> {
    let all = of_file(MEMORY, "MemTotal:").map(|total| total + of_file(MEMORY, "SwapTotal:").unwrap_or(0));
    all.into_iter().chain(group::limited().iter().map(|group| group.limit)).min()
}

/// The memory that this process could still have: what of the machine's is free, or can be made free at once, and what
/// its control groups leave of it. `None` where nobody tells.
pub fn available() -> Option<u64> {
    let free = of_file(MEMORY, "MemAvailable:");
    free.into_iter().chain(group::limited().iter().map(|group| group.free)).min()
}

/// The most memory that this process ever held. `None` where nobody tells.
pub fn peak() -> Option<u64> {
    of_file("/proc/self/status", "VmHWM:")
}

/// Where Linux tells of the machine's memory.
const MEMORY: &str = "/proc/meminfo";

fn of_file(path: &str, name: &str) -> Option<u64> {
    field(&fs::read_to_string(path).ok()?, name)
}

/// A line of such a file, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::{Model, Targets};

    fn config() -> Config {
        let json = serde_json::json!({
            "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 12, "vocab_size": 16, "tie_word_embeddings": true,
        });
        Config::from_json(&json).unwrap()
    }

    #[test]
    fn what_is_certain_is_counted() {
        let config = config();
        let model = Model::random(&config, 1).unwrap();
        let count: usize = model.tensors().iter().map(|tensor| tensor.values.len()).sum();
        let weights = 4 * (count + 16 * 8) as u64;
        assert_eq!(Need::to_answer(&config), Need { weights, training: 0 });
        assert_eq!(Need::to_train(&config, None).training, 12 * count as u64);
        // Two layers, rank 2, of 8 → 8 and 12 → 8.
        let targets = Targets::Names(["q_proj".to_string(), "down_proj".to_string()].to_vec());
        let adapter = Need::to_train(&config, Some(&AdapterConfig { r: 2, targets, ..AdapterConfig::default() }));
        assert_eq!(adapter, Need { weights, training: 16 * 2 * 2 * (16 + 20) });
        assert_eq!(adapter.held_in(8).weights, weights / 4);
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        let need = Need { weights: 3 << 30, training: 1 << 30 };
        assert_eq!(need.too_much(Some(4 << 30)), None);
        assert_eq!(need.too_much(None), None);
        let words = need.too_much(Some(2 << 30)).unwrap();
        assert_eq!(
            words,
            "needs at least 4.0 GiB of memory (3.0 GiB of weights, 1.0 GiB of what is trained), and this machine has 2.0 GiB"
        );
        assert!(of_machine().is_none_or(|memory| memory > 1 << 20));
    }

    #[test]
    fn memory_is_read_from_the_systems_words() {
        assert_eq!(field("MemFree: 1 kB\nMemTotal:       2 kB\n", "MemTotal:"), Some(2048));
        let status = "Name:\ttiter\nVmPeak:\t  999 kB\nVmHWM:\t    2048 kB\nThreads:\t2\n";
        assert_eq!(field(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(field("Name:\ttiter\n", "VmHWM:"), None);
    }
}
