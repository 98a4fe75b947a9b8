//! The parts of a graph: norms, linear layers, tables, each frozen or learning.

use crate::engine::held::Held;
use crate::engine::train::ops::{
    Add, AddBias, Dropout, FrozenLinear, FrozenNorm, Lookup, LoraLinear, Magnitude, Norm as NormOp, Split,
    TrainedLinear, TrainedNorm,
};
use crate::random::Random;
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// What is added to every row.
#[derive(Debug)]
pub(super) enum Bias {
    /// Nothing.
    None,
    /// What does not learn.
    Frozen(Arc<Vec<f32>>),
    /// What learns.
    Trained(Tensor),
}

impl Bias {
    pub fn frozen(bias: Option<&Arc<Vec<f32>>>) -> Self {
        bias.map_or(Self::None, |bias| Self::Frozen(bias.clone()))
    }

    /// What an operation can add by itself.
    fn to_fuse(&self) -> Option<Arc<Vec<f32>>> {
        match self {
            Self::Frozen(bias) => Some(bias.clone()),
            Self::None | Self::Trained(_) => None,
        }
    }

    /// Adds what [`Self::to_fuse`] leaves.
    fn add_trained(&self, y: Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Trained(bias) => y.apply_op2(bias, AddBias)?,
            Self::None | Self::Frozen(_) => y,
        })
    }

    /// Adds all.
    fn add(&self, y: Tensor) -> Result<Tensor> {
        match self {
            Self::Frozen(bias) => Ok(y.apply_op2(&Tensor::from_slice(bias, bias.len(), &Device::Cpu)?, AddBias)?),
            Self::None | Self::Trained(_) => self.add_trained(y),
        }
    }
}

/// A norm.
#[derive(Debug)]
pub(super) struct Norm {
    pub weight: NormWeight,
    pub bias: Bias,
}

#[derive(Debug)]
pub(super) enum NormWeight {
    /// What normalised rows are multiplied by.
    Frozen(Arc<Vec<f32>>),
    /// As files have it.
    Trained(Tensor),
}

impl Norm {
    pub fn apply(&self, x: &Tensor, norm: NormOp) -> Result<Tensor> {
        match &self.weight {
            NormWeight::Frozen(factors) => {
                let op = FrozenNorm { norm, factors: factors.clone(), bias: self.bias.to_fuse() };
                self.bias.add_trained(x.apply_op1(op)?)
            }
            NormWeight::Trained(weight) => self.bias.add(x.apply_op2(weight, TrainedNorm(norm))?),
        }
    }
}

/// A linear layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub weight: Weight,
    pub bias: Bias,
}

#[derive(Debug)]
pub(super) enum Weight {
    Frozen(Arc<Held>),
    Lora(Lora),
    Trained {
        weight: Tensor,
        /// Whether it is `outputs × inputs`.
        transposed: bool,
    },
}

/// An adapter on a frozen matrix.
#[derive(Debug)]
pub(super) struct Lora {
    pub weight: Arc<Held>,
    pub a: Tensor,
    pub b: Tensor,
    /// Of DoRA.
    pub magnitude: Option<Tensor>,
    pub scale: f32,
    pub dropout: f64,
    pub random: Random,
}

/// Makes the generators of dropout, if something is to be dropped.
pub(super) type Tokens<'a> = &'a dyn Fn(&Random) -> Option<Vec<Random>>;

impl Layer {
    /// The matrix, where nothing learns and nothing is added.
    pub fn frozen(&self) -> Option<&Arc<Held>> {
        match (&self.weight, &self.bias) {
            (Weight::Frozen(weight), Bias::None) => Some(weight),
            _ => None,
        }
    }

    pub fn apply(&self, x: &Tensor, tokens: Tokens<'_>) -> Result<Tensor> {
        match &self.weight {
            Weight::Frozen(weight) => {
                let op = FrozenLinear { weight: weight.clone(), bias: self.bias.to_fuse() };
                self.bias.add_trained(x.apply_op1(op)?)
            }
            Weight::Lora(lora) => self.bias.add_trained(lora.apply(x, self.bias.to_fuse(), tokens)?),
            Weight::Trained { weight, transposed } => {
                self.bias.add(x.apply_op2(weight, TrainedLinear { transposed: *transposed })?)
            }
        }
    }
}

impl Lora {
    fn apply(&self, x: &Tensor, bias: Option<Arc<Vec<f32>>>, tokens: Tokens<'_>) -> Result<Tensor> {
        let dropout = Some(self.dropout).filter(|share| *share > 0.0);
        let dropout = dropout.and_then(|share| Some(Dropout { share, tokens: tokens(&self.random)? }));
        let Self { weight, a, b, scale, .. } = self;
        let plain = |dropout, bias| LoraLinear { weight: weight.clone(), bias, scale: *scale, dropout };
        let Some(magnitude) = &self.magnitude else { return Ok(x.apply_op3(a, b, plain(dropout, bias))?) };

        let r = a.dims2()?.0;
        let norms = weight.norms_with(&numbers(a)?, &numbers(b)?, r, *scale);
        let sized = |x: &Tensor| x.apply_op3(a, b, plain(None, None))?.apply_op2(magnitude, Magnitude { norms, bias });
        let Some(dropout) = dropout.map(Arc::new) else { return Ok(sized(x)?) };
        // As PEFT does it: what falls out for the adapter still goes through the base, at the base's size.
        let split = |rest| x.apply_op1(Split { dropout: dropout.clone(), rest });
        let base = split(true)?.apply_op1(FrozenLinear { weight: weight.clone(), bias: None })?;
        Ok(sized(&split(false)?)?.apply_op2(&base, Add)?)
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// Vectors by number.
#[derive(Debug)]
pub(super) enum Table {
    Frozen(Arc<Vec<f32>>),
    Trained(Tensor),
}

impl Table {
    /// Some rows, each `width` wide.
    pub fn rows(&self, ids: Arc<Vec<u32>>, width: usize) -> Result<Tensor> {
        Ok(match self {
            Table::Trained(table) => table.apply_op1(Lookup { ids })?,
            Table::Frozen(table) => {
                let rows = ids.iter().flat_map(|id| &table[*id as usize * width..][..width]).copied().collect();
                Tensor::from_vec::<_, f32>(rows, (ids.len(), width), &Device::Cpu)?
            }
        })
    }
}
