//! Models that learn and answer: the only room that knows candle and tokenizers (feature `candle`).
//!
//! On the processor everything is f32. Rows of a batch stand one after the other, never padded; all matrix products go
//! through [`matmul`], all row arithmetic through [`kernels`], and both keep a row's bits apart from its neighbours and from
//! the number of threads. Other devices have [`plain`] operations, over the same description of a model
//! ([`train::Arithmetic`]). Knows no stages, manifests or caches: plain values in, models and numbers out.

pub mod activation;
pub mod decoder;
pub mod encoder;
pub mod generate;
pub mod held;
pub mod kernels;
pub mod matmul;
pub mod memory;
pub mod model;
mod pickle;
pub mod plain;
pub mod positions;
pub mod prompt;
pub mod tokenizer;
pub mod train;
pub mod weights;

/// The type of the numbers in weights and in what goes through a model.
pub use candle_core::DType;

/// A real checkpoint of 260,000 parameters, for tests: the folder that `TITER_STORIES260K` names, else the one beside the
/// project. `None`, said aloud, where there is none.
#[cfg(test)]
#[expect(clippy::print_stderr, reason = "a test that looks at nothing must say so")]
fn stories260k() -> Option<std::path::PathBuf> {
    let beside = || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/stories260K-hf");
    let folder = std::env::var_os("TITER_STORIES260K").map_or_else(beside, std::path::PathBuf::from);
    if folder.join("model.safetensors").exists() {
        return Some(folder);
    }
    eprintln!("skipped: no model in `{}`; set TITER_STORIES260K", folder.display());
    None
}
