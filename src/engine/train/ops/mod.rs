//! The differentiable steps of a model, as candle operations with gradients of their own.
//!
//! candle's plain operations would do, but cost more: they compute gradients of frozen weights, and keep every
//! intermediate. Here a step is what has one natural gradient. Every tensor is `tokens × width` and contiguous; the rows of
//! a batch stand one after the other. Sums over tokens are taken in their order, so threads change no bit.

mod attention;
mod dora;
mod linear;
mod loss;
mod mlp;
mod pointwise;

pub use attention::{Attention, FusedAttention};
pub use dora::{Magnitude, Seed, Split};
pub use linear::{Dropout, FrozenLinear, LoraLinear, TrainedLinear};
pub use loss::{CrossEntropy, Lookup, SelectRows};
pub use mlp::FrozenGated;
pub use pointwise::{Activate, Add, AddBias, FrozenNorm, Gated, GatedFused, Norm, Scale, SoftCap, TrainedNorm};

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, Tensor, bail};
use std::ops::Deref;

/// Rows of one piece of work: enough to be worth a thread's while, few enough to spread.
const ROWS_PER_TASK: usize = 32;

/// The numbers of a contiguous tensor on the CPU, as an operation's argument.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((begin, end)) => Ok(&storage.as_slice::<f32>()?[begin..end]),
        None => bail!("a tensor is not contiguous"),
    }
}

/// The same of a tensor, for as long as this value lives.
struct Values<'a, Guard> {
    storage: Guard,
    layout: &'a Layout,
}

fn values_of(tensor: &Tensor) -> Values<'_, impl Deref<Target = Storage>> {
    let (storage, layout) = tensor.storage_and_layout();
    Values { storage, layout }
}

impl<Guard: Deref<Target = Storage>> Values<'_, Guard> {
    fn get(&self) -> Result<&[f32]> {
        match &*self.storage {
            Storage::Cpu(storage) => values(storage, self.layout),
            _ => bail!("a tensor is not on the CPU"),
        }
    }
}

/// What an operation gives back.
fn output(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// A gradient, shaped like what it is the gradient of.
fn gradient(values: Vec<f32>, like: &Tensor) -> Result<Option<Tensor>> {
    Tensor::from_vec(values, like.shape(), like.device()).map(Some)
}

#[cfg(test)]
mod tests;
