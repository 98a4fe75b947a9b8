//! Whether the largest micro-batch of a training fits into memory, and which would: said before the first step, not by the
//! kernel in the middle of the night.

use crate::engine::memory;
use crate::engine::model::Config;
use crate::engine::train::Sequence;
use crate::settings::Bytes;

/// Bytes of a number.
const NUMBER: u64 = 4;
/// A gradient and AdamW's two moments.
const PER_TRAINED: u64 = 3;

/// A training, as far as its memory goes.
pub(super) struct Room<'a> {
    pub config: &'a Config,
    pub sequences: &'a [Sequence<'a>],
    pub micro_batch: usize,
    /// Whether blocks are computed again.
    pub again: bool,
    /// Numbers that learn.
    pub trained: usize,
}

impl Room<'_> {
    /// What is said where so much free memory will hardly do. An estimate: it stops nothing.
    pub fn warning(&self, free: Option<u64>) -> Option<String> {
        let free = free?;
        let largest = self.micro_batch.min(self.sequences.len());
        let need = self.need(largest, self.again);
        if need <= free {
            return None;
        }
        let fits = |again| (1..largest).rev().find(|rows| self.need(*rows, again) <= free);
        let mut ways = Vec::new();
        ways.extend(fits(self.again).map(|rows| format!("`micro_batch_size = {rows}`")));
        if !self.again {
            let with = if self.need(largest, true) <= free { Some(largest) } else { fits(true) };
            ways.extend(with.map(|rows| match rows == largest {
                true => "`checkpoint_blocks = true`".to_string(),
                false => format!("`checkpoint_blocks = true` with `micro_batch_size = {rows}`"),
            }));
        }
        let advice = match ways.as_slice() {
            [] => "not even one row would fit".to_string(),
            ways => format!("{} would fit", ways.join(", or ")),
        };
        let of = format!("micro-batches of {largest} rows need up to {}", Bytes(need));
        Some(format!("{of} of memory besides the weights, and {} is free: {advice}", Bytes(free)))
    }

    /// For so many of the longest sequences, with what the optimiser remembers.
    fn need(&self, rows: usize, again: bool) -> u64 {
        let mut lengths: Vec<(u64, u64)> = self.sequences.iter().map(tokens_and_labels).collect();
        lengths.sort_unstable();
        let longest = lengths.iter().rev().take(rows);
        let (tokens, labels) = longest.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        memory::of_batch(self.config, tokens, labels, again) + PER_TRAINED * NUMBER * self.trained as u64
    }
}

fn tokens_and_labels(sequence: &Sequence<'_>) -> (u64, u64) {
    let rows = sequence.iter().map(|(_, example)| (example.ids.len() as u64, example.labels() as u64));
    rows.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::train::{Example, sequences};

    #[test]
    fn what_would_fit_is_said() {
        let json = serde_json::json!({
            "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 10, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 12, "vocab_size": 16,
        });
        let config = Config::from_json(&json).unwrap();
        let examples: Vec<Example> = (0..20).map(|_| Example::new(vec![1; 100], 50..100)).collect();
        let sequences = sequences(&examples, None);
        let room = |again| Room { config: &config, sequences: &sequences, micro_batch: 16, again, trained: 1000 };
        // Of a block a token keeps 7 · 8 + 2 · 8 + 2 · 4 + 3 · 12 numbers.
        let need = 4 * (1600 * (10 + 1) * 116 + 2 * 800 * 16) + 12_000;
        assert_eq!(room(false).warning(Some(need)), None);
        assert_eq!(room(false).warning(None), None);
        let said = room(false).warning(Some(need - 1)).unwrap();
        assert!(said.starts_with("micro-batches of 16 rows need up to 7.9 MiB"), "{said}");
        assert!(said.ends_with("`micro_batch_size = 15`, or `checkpoint_blocks = true` would fit"), "{said}");
        let said = room(false).warning(Some(need / 8)).unwrap();
        assert!(said.ends_with("or `checkpoint_blocks = true` with `micro_batch_size = 7` would fit"), "{said}");
        assert!(room(true).warning(Some(need / 8)).unwrap().ends_with("`micro_batch_size = 7` would fit"));
        assert!(room(false).warning(Some(1)).unwrap().ends_with("not even one row would fit"));
    }
}
