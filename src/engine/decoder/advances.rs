//! What answering asks of a model, wherever it is computed.

use super::{Advance, Cache, Decoder};
use anyhow::Result;
use std::fmt::Debug;

/// A model that sequences advance through.
pub trait Advances: Debug + Sync {
    /// What a sequence has seen. A copy is cheap.
    type Cache: Clone + Debug + Default + Send + Sync;

    /// Most positions that a sequence can have.
    fn context(&self) -> usize;

    /// Numbers in a row of logits.
    fn vocab_size(&self) -> usize;

    /// Rows of the embedding.
    fn embedding_rows(&self) -> usize;

    /// Bytes of a cache of so many positions.
    fn cache_bytes(&self, positions: usize) -> usize;

    /// Advances every sequence by its tokens. Returns, row by row, the logits after each sequence's last token.
    fn advance(&self, sequences: &mut [Advance<'_, Self::Cache>]) -> Result<Vec<f32>>;

    /// Advances every sequence by its tokens. Returns, sequence by sequence, the logarithms of the probabilities of the
    /// tokens `next`, which stand behind the last of its tokens: as many of the last as there are in `next`.
    fn advance_towards(&self, sequences: &mut [Advance<'_, Self::Cache>], next: &[&[u32]]) -> Result<Vec<Vec<f32>>>;
}

impl Advances for Decoder {
    type Cache = Cache;

    fn context(&self) -> usize {
        Self::context(self)
    }

    fn vocab_size(&self) -> usize {
        Self::vocab_size(self)
    }

    fn embedding_rows(&self) -> usize {
        Self::embedding_rows(self)
    }

    fn cache_bytes(&self, positions: usize) -> usize {
        Self::cache_bytes(self, positions)
    }

    fn advance(&self, sequences: &mut [Advance<'_>]) -> Result<Vec<f32>> {
        Ok(Self::advance(self, sequences))
    }

    fn advance_towards(&self, sequences: &mut [Advance<'_>], next: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        Ok(Self::advance_towards(self, sequences, next))
    }
}
