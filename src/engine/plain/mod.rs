//! Models on any device, by operations that every device has: cards, and the processor as the oracle of its own faster
//! operations.
//!
//! Values are made of candle's operations. Where candle's gradient of a step would keep or compute what nobody asks for
//! (the gradient of a frozen matrix, the scores of attention), the step's gradient is given, of the same operations. Weights
//! that learn are f32; what goes through a model has the type that it is asked for, and sums over many numbers (norms,
//! softmax, loss) are f32 in any case. No promise about bits: a card's own products decide.

mod attention;
mod cache;
mod decoder;
pub mod device;
mod given;
mod linear;
mod pointwise;
mod turns;

pub use cache::Pages;
pub use decoder::DeviceDecoder;

use super::activation::Activation;
use super::held::{Held, Precision};
use super::model::Config;
use super::train::ops::Norm as NormOp;
use super::train::parts::{Bias, Layer, Norm, NormWeight, Table, Tokens, Weight};
use super::train::{Arithmetic, Batch, Heads, Numbers, Sight};
use anyhow::Result;
use attention::Rows;
use candle_core::{DType, Device, Tensor};
use linear::Matrix;
use std::sync::Arc;
use turns::Distances;

/// A device, and the type of what goes through a model on it.
#[derive(Clone, Debug)]
pub struct Plain {
    /// Where.
    pub device: Device,
    /// F32, BF16 or F16.
    pub dtype: DType,
}

impl Plain {
    /// The card of this process; it computes in the type that is `wanted`, or, where none is, in what `usual` says.
    /// `None`: there is no card.
    pub fn on_card(wanted: Option<DType>, usual: impl FnOnce() -> Option<DType>) -> Option<Self> {
        let device = device::card()?;
        Some(Self { device, dtype: wanted.or_else(usual).unwrap_or(DType::F32) })
    }

    /// How a base is best held on its way to the device: what goes through a model in bf16 need not be f32 in memory before.
    pub fn precision(&self) -> Precision {
        if self.dtype == DType::BF16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// Whole numbers on the device.
    fn ids(&self, ids: &[u32]) -> Result<Tensor> {
        Ok(Tensor::from_slice(ids, ids.len(), &self.device)?)
    }

    /// A bias, added; the gradient of a frozen one is not asked for.
    fn biased(&self, y: Tensor, bias: &Bias<Self>) -> Result<Tensor> {
        Ok(match bias {
            Bias::None => y,
            Bias::Frozen(bias) => {
                let value = y.detach().broadcast_add(&bias.to_dtype(y.dtype())?)?;
                given::one(&y, value, |grad| Ok(grad.clone()))?
            }
            Bias::Trained(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?)?,
        })
    }
}

impl Arithmetic for Plain {
    /// Vectors are f32, tables what goes through the model.
    type Vector = Tensor;
    type Matrix = Matrix;
    type Distances = Distances;
    type Rows = Rows;

    fn device(&self) -> &Device {
        &self.device
    }

    fn vector(&self, values: &Arc<Vec<f32>>, shape: &[usize]) -> Result<Tensor> {
        let tensor = Tensor::from_slice(values, shape, &Device::Cpu)?;
        let dtype = if shape.len() > 1 { self.dtype } else { DType::F32 };
        Ok(tensor.to_dtype(dtype)?.to_device(&self.device)?)
    }

    fn matrix(&self, held: &Arc<Held>) -> Result<Matrix> {
        Matrix::new(held, self)
    }

    fn bytes(matrix: &Matrix) -> usize {
        matrix.bytes()
    }

    fn distances(&self, config: &Config) -> Result<Distances> {
        Distances::new(config, self)
    }

    fn rows(&self, batch: &Batch) -> Result<Rows> {
        Rows::new(&batch.offsets, self)
    }

    fn numbers(&self, tensor: &Tensor) -> Result<Numbers> {
        Ok(Numbers::Device(tensor.detach().to_dtype(DType::F32)?))
    }

    fn lookup(&self, table: &Table<Self>, ids: &Arc<Vec<u32>>, _: usize) -> Result<Tensor> {
        let (Table::Frozen(table) | Table::Trained(table)) = table;
        Ok(table.index_select(&self.ids(ids)?, 0)?.to_dtype(self.dtype)?)
    }

    fn select(&self, x: &Tensor, rows: &Arc<Vec<u32>>) -> Result<Tensor> {
        pointwise::select(x, rows, self)
    }

    fn norm(&self, x: &Tensor, norm: &Norm<Self>, op: NormOp) -> Result<Tensor> {
        match (&norm.weight, &norm.bias) {
            (NormWeight::Frozen(factors), Bias::None) => pointwise::frozen_norm(x, factors, None, op),
            (NormWeight::Frozen(factors), Bias::Frozen(bias)) => pointwise::frozen_norm(x, factors, Some(bias), op),
            (NormWeight::Frozen(factors), Bias::Trained(_)) => {
                self.biased(pointwise::frozen_norm(x, factors, None, op)?, &norm.bias)
            }
            (NormWeight::Trained(weight), _) => self.biased(pointwise::trained_norm(x, weight, op)?, &norm.bias),
        }
    }

    fn linear(&self, x: &Tensor, layer: &Layer<Self>, tokens: Tokens<'_>) -> Result<Tensor> {
        let y = match &layer.weight {
            Weight::Frozen(matrix) => matrix.apply(x)?,
            Weight::Lora(lora) => linear::adapted(lora, x, tokens, self)?,
            Weight::Trained { weight, transposed } => {
                let weight = if *transposed { weight.t()? } else { weight.clone() };
                x.matmul(&weight.to_dtype(x.dtype())?)?
            }
        };
        self.biased(y, &layer.bias)
    }

    fn attend(&self, heads: Heads, sight: &Sight<'_, Self>) -> Result<Tensor> {
        attention::attend(heads, sight)
    }

    fn activate(&self, x: &Tensor, f: Activation) -> Result<Tensor> {
        pointwise::activate(x, f)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor, f: Activation) -> Result<Tensor> {
        pointwise::gated(gate, up, f)
    }

    fn gated_fused(&self, x: &Tensor, f: Activation) -> Result<Tensor> {
        let inner = x.dims2()?.1 / 2;
        pointwise::gated(&x.narrow(1, 0, inner)?.contiguous()?, &x.narrow(1, inner, inner)?.contiguous()?, f)
    }

    fn frozen_gated(&self, x: &Tensor, matrices: [&Matrix; 3], f: Activation) -> Result<Tensor> {
        pointwise::frozen_gated(x, matrices, f)
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok((a + b)?)
    }

    fn scale(&self, x: &Tensor, by: f32) -> Result<Tensor> {
        Ok((x * f64::from(by))?)
    }

    fn soft_cap(&self, x: &Tensor, cap: f32) -> Result<Tensor> {
        let cap = f64::from(cap);
        Ok(((x.to_dtype(DType::F32)? / cap)?.tanh()? * cap)?)
    }

    fn cross_entropy(&self, logits: &Tensor, labels: &Arc<Vec<u32>>, scale: f64) -> Result<Tensor> {
        pointwise::cross_entropy(logits, &self.ids(labels)?, scale)
    }

    fn seed(&self, x: &Tensor, gradient: Tensor) -> Result<Tensor> {
        let value = Tensor::zeros((), x.dtype(), x.device())?;
        Ok(given::one(x, value, move |_| Ok(gradient.clone()))?)
    }
}
