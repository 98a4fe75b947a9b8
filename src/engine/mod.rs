//! Models that learn and answer: the only room that knows candle and tokenizers (feature `candle`).
//!
//! Everything is f32 on the CPU. Rows of a batch stand one after the other, never padded; all matrix products go through
//! [`matmul`], all row arithmetic through [`kernels`], and both keep a row's bits apart from its neighbours and from the
//! number of threads. Knows no stages, manifests or caches: plain values in, models and numbers out.

pub mod decoder;
pub mod generate;
pub mod kernels;
pub mod matmul;
pub mod model;
pub mod prompt;
pub mod random;
pub mod tokenizer;
pub mod train;
pub mod weights;
