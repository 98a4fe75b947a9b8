//! What positions do on a device: rotary ones turn queries and keys, others make scores fade with distance.

use super::Plain;
use crate::engine::model::{self, Config, Pairing, Shape};
use crate::engine::positions::{Fading, Rope};
use anyhow::Result;
use candle_core::{D, Device, Tensor};

/// Rotary positions and what fades with distance.
#[derive(Debug)]
pub struct Distances {
    turns: Vec<Turns>,
    /// By head and position: f32.
    fading: Option<Tensor>,
}

impl Distances {
    /// Those of a model.
    pub(super) fn new(config: &Config, plain: &Plain) -> Result<Self> {
        let positions = config.shape.max_positions;
        let turns = Rope::of(config).iter().map(|rope| Turns::new(rope, positions, plain)).collect::<Result<_>>()?;
        let of = |fading: Fading| Tensor::from_slice(fading.table(), (config.shape.heads, positions), &plain.device);
        Ok(Self { turns, fading: Fading::of(config).map(of).transpose()? })
    }

    /// The turns of a layer.
    pub(super) fn turns(&self, layer: &model::Layer) -> Option<&Turns> {
        layer.rotary.map(|index| &self.turns[index])
    }

    /// What is added to the scores of the first `end` keys: `1 × kv_heads × group × 1 × end`.
    pub(super) fn growth(&self, shape: &Shape, end: usize) -> candle_core::Result<Option<Tensor>> {
        let Some(fading) = &self.fading else { return Ok(None) };
        fading.narrow(1, 0, end)?.reshape((1, shape.kv_heads, shape.heads / shape.kv_heads, 1, end)).map(Some)
    }
}

/// Rotary positions of some layers.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    pairing: Pairing,
    /// `positions × 1 × pairs`, in the type of what goes through the model, as transformers has them.
    cos: Tensor,
    sin: Tensor,
}

impl Turns {
    fn new(rope: &Rope, positions: usize, plain: &Plain) -> Result<Self> {
        let (pairs, pairing) = rope.pairs();
        let table = Tensor::from_slice(rope.table(), (positions, 1, 2 * pairs), &Device::Cpu)?;
        let part = |from| table.narrow(2, from, pairs)?.contiguous()?.to_dtype(plain.dtype)?.to_device(&plain.device);
        Ok(Self { pairing, cos: part(0)?, sin: part(pairs)? })
    }

    /// Those of some positions, one after the other.
    pub(super) fn at(&self, positions: &Tensor) -> candle_core::Result<Self> {
        let [cos, sin] = [&self.cos, &self.sin].map(|table| table.index_select(positions, 0));
        Ok(Self { cos: cos?, sin: sin?, pairing: self.pairing })
    }

    /// Those of the first positions.
    pub(super) fn up_to(&self, end: usize) -> candle_core::Result<Self> {
        Ok(Self { cos: self.cos.narrow(0, 0, end)?, sin: self.sin.narrow(0, 0, end)?, pairing: self.pairing })
    }

    /// The other way round: the gradient.
    pub(super) fn back(&self) -> candle_core::Result<Self> {
        Ok(Self { sin: self.sin.neg()?, ..self.clone() })
    }

    /// Turns heads: `… × positions × heads × width`.
    pub(super) fn turn(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (pairs, width) = (self.cos.dim(D::Minus1)?, x.dim(D::Minus1)?);
        let turning = x.narrow(D::Minus1, 0, 2 * pairs)?;
        let turned = match self.pairing {
            Pairing::Halves => {
                let [first, second] = [0, pairs].map(|from| turning.narrow(D::Minus1, from, pairs));
                Tensor::cat(&self.turn_pairs(&first?, &second?)?, D::Minus1)?
            }
            Pairing::Neighbours => {
                let shape = turning.shape().clone();
                let mut paired = shape.dims().to_vec();
                paired.splice(paired.len() - 1.., [pairs, 2]);
                let paired = turning.reshape(paired)?;
                let [first, second] = [0, 1].map(|from| paired.narrow(D::Minus1, from, 1)?.squeeze(D::Minus1));
                Tensor::stack(&self.turn_pairs(&first?, &second?)?, D::Minus1)?.reshape(shape)?
            }
        };
        if 2 * pairs == width {
            return Ok(turned);
        }
        Tensor::cat(&[turned, x.narrow(D::Minus1, 2 * pairs, width - 2 * pairs)?], D::Minus1)
    }

    fn turn_pairs(&self, x: &Tensor, y: &Tensor) -> candle_core::Result<[Tensor; 2]> {
        let (cos, sin) = (&self.cos, &self.sin);
        let first = (x.broadcast_mul(cos)? - y.broadcast_mul(sin)?)?;
        Ok([first, (y.broadcast_mul(cos)? + x.broadcast_mul(sin)?)?])
    }
}
