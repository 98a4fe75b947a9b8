//! Arithmetic of f32 on the processor, by operations of our own.

use super::arithmetic::{Arithmetic, Heads, Sight};
use super::parts::{Bias, Layer, Lora, Norm, NormWeight, Table, Tokens, Weight};
use crate::engine::activation::Activation;
use crate::engine::held::Held;
use crate::engine::model::{Config, Shape};
use crate::engine::positions::{Fading, Rope};
use crate::engine::train::batch::Batch;
use crate::engine::train::numbers::Numbers;
use crate::engine::train::ops::{
    Activate, Add, AddBias, Attention, CrossEntropy, Dropout, FrozenGated, FrozenLinear, FrozenNorm, FusedAttention,
    Gated, GatedFused, Lookup, LoraLinear, Magnitude, Norm as NormOp, Scale, Seed, SelectRows, SoftCap, Split,
    TrainedLinear, TrainedNorm,
};
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// Operations of our own, on the processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fused;

/// Rotary positions and what fades with distance.
#[derive(Debug)]
pub struct Distances {
    ropes: Vec<Arc<Rope>>,
    fading: Option<Arc<Fading>>,
}

impl Arithmetic for Fused {
    type Vector = Arc<Vec<f32>>;
    type Matrix = Arc<Held>;
    type Distances = Distances;
    /// Where each row begins, and where the last one ends.
    type Rows = Arc<Vec<usize>>;

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn vector(&self, values: &Arc<Vec<f32>>, _: &[usize]) -> Result<Arc<Vec<f32>>> {
        Ok(values.clone())
    }

    fn matrix(&self, held: &Arc<Held>) -> Result<Arc<Held>> {
        Ok(held.clone())
    }

    fn bytes(matrix: &Arc<Held>) -> usize {
        Held::bytes(matrix)
    }

    fn distances(&self, config: &Config) -> Result<Distances> {
        let ropes = Rope::of(config).into_iter().map(Arc::new).collect();
        Ok(Distances { ropes, fading: Fading::of(config).map(Arc::new) })
    }

    fn rows(&self, batch: &Batch) -> Result<Arc<Vec<usize>>> {
        Ok(batch.offsets.clone())
    }

    fn numbers(&self, tensor: &Tensor) -> Result<Numbers> {
        Ok(Numbers::Host(tensor.flatten_all()?.to_vec1()?))
    }

    fn lookup(&self, table: &Table<Self>, ids: &Arc<Vec<u32>>, width: usize) -> Result<Tensor> {
        Ok(match table {
            Table::Trained(table) => table.apply_op1(Lookup { ids: ids.clone() })?,
            Table::Frozen(table) => {
                let rows = ids.iter().flat_map(|id| &table[*id as usize * width..][..width]).copied().collect();
                Tensor::from_vec::<_, f32>(rows, (ids.len(), width), &Device::Cpu)?
            }
        })
    }

    fn select(&self, x: &Tensor, rows: &Arc<Vec<u32>>) -> Result<Tensor> {
        Ok(x.apply_op1(SelectRows { rows: rows.clone() })?)
    }

    fn norm(&self, x: &Tensor, norm: &Norm<Self>, op: NormOp) -> Result<Tensor> {
        match &norm.weight {
            NormWeight::Frozen(factors) => {
                let op = FrozenNorm { norm: op, factors: factors.clone(), bias: to_fuse(&norm.bias) };
                add_trained(&norm.bias, x.apply_op1(op)?)
            }
            NormWeight::Trained(weight) => add_all(&norm.bias, x.apply_op2(weight, TrainedNorm(op))?),
        }
    }

    fn linear(&self, x: &Tensor, layer: &Layer<Self>, tokens: Tokens<'_>) -> Result<Tensor> {
        let bias = &layer.bias;
        match &layer.weight {
            Weight::Frozen(weight) => {
                let op = FrozenLinear { weight: weight.clone(), bias: to_fuse(bias) };
                add_trained(bias, x.apply_op1(op)?)
            }
            Weight::Lora(lora) => add_trained(bias, adapted(lora, x, to_fuse(bias), tokens)?),
            Weight::Trained { weight, transposed } => {
                add_all(bias, x.apply_op2(weight, TrainedLinear { transposed: *transposed })?)
            }
        }
    }

    fn attend(&self, heads: Heads, sight: &Sight<'_, Self>) -> Result<Tensor> {
        let (Shape { heads: queries, kv_heads, head_dim, .. }, layer) = (*sight.shape, sight.layer);
        let attention = Attention {
            heads: queries,
            kv_heads,
            head_dim,
            offsets: sight.rows.clone(),
            scale: layer.scale,
            cap: layer.cap,
            window: layer.window,
            rope: layer.rotary.map(|index| sight.distances.ropes[index].clone()),
            fading: sight.distances.fading.clone(),
        };
        Ok(match heads {
            Heads::Apart([q, k, v]) => q.apply_op3(&k, &v, attention)?,
            Heads::Fused(qkv, order) => qkv.apply_op1(FusedAttention { attention, order })?,
        })
    }

    fn activate(&self, x: &Tensor, f: Activation) -> Result<Tensor> {
        Ok(x.apply_op1(Activate(f))?)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor, f: Activation) -> Result<Tensor> {
        Ok(gate.apply_op2(up, Gated(f))?)
    }

    fn gated_fused(&self, x: &Tensor, f: Activation) -> Result<Tensor> {
        Ok(x.apply_op1(GatedFused(f))?)
    }

    fn frozen_gated(&self, x: &Tensor, matrices: [&Arc<Held>; 3], f: Activation) -> Result<Tensor> {
        Ok(x.apply_op1(FrozenGated::new(matrices, f))?)
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(a.apply_op2(b, Add)?)
    }

    fn scale(&self, x: &Tensor, by: f32) -> Result<Tensor> {
        Ok(x.apply_op1(Scale(by))?)
    }

    fn soft_cap(&self, x: &Tensor, cap: f32) -> Result<Tensor> {
        Ok(x.apply_op1(SoftCap(cap))?)
    }

    fn cross_entropy(&self, logits: &Tensor, labels: &Arc<Vec<u32>>, scale: f64) -> Result<Tensor> {
        Ok(logits.apply_op1(CrossEntropy { labels: labels.clone(), scale })?)
    }

    fn seed(&self, x: &Tensor, gradient: Tensor) -> Result<Tensor> {
        Ok(x.apply_op1(Seed(gradient))?)
    }
}

/// What of a bias an operation can add by itself.
fn to_fuse(bias: &Bias<Fused>) -> Option<Arc<Vec<f32>>> {
    match bias {
        Bias::Frozen(bias) => Some(bias.clone()),
        Bias::None | Bias::Trained(_) => None,
    }
}

/// Adds what [`to_fuse`] leaves.
fn add_trained(bias: &Bias<Fused>, y: Tensor) -> Result<Tensor> {
    Ok(match bias {
        Bias::Trained(bias) => y.apply_op2(bias, AddBias)?,
        Bias::None | Bias::Frozen(_) => y,
    })
}

/// Adds all of a bias.
fn add_all(bias: &Bias<Fused>, y: Tensor) -> Result<Tensor> {
    match bias {
        Bias::Frozen(bias) => Ok(y.apply_op2(&Tensor::from_slice(bias, bias.len(), &Device::Cpu)?, AddBias)?),
        Bias::None | Bias::Trained(_) => add_trained(bias, y),
    }
}

/// A frozen matrix with its adapter.
fn adapted(lora: &Lora<Fused>, x: &Tensor, bias: Option<Arc<Vec<f32>>>, tokens: Tokens<'_>) -> Result<Tensor> {
    let dropout = Some(lora.dropout).filter(|share| *share > 0.0);
    let dropout = dropout.and_then(|share| Some(Dropout { share, tokens: tokens(&lora.random)? }));
    let Lora { weight, a, b, scale, .. } = lora;
    let plain = |dropout, bias| LoraLinear { weight: weight.clone(), bias, scale: *scale, dropout };
    let Some(magnitude) = &lora.magnitude else { return Ok(x.apply_op3(a, b, plain(dropout, bias))?) };

    let r = a.dims2()?.0;
    let norms = weight.norms_with(&numbers(a)?, &numbers(b)?, r, *scale);
    let sized = |x: &Tensor| x.apply_op3(a, b, plain(None, None))?.apply_op2(magnitude, Magnitude { norms, bias });
    let Some(dropout) = dropout.map(Arc::new) else { return Ok(sized(x)?) };
    // As PEFT does it: what falls out for the adapter still goes through the base, at the base's size.
    let split = |rest| x.apply_op1(Split { dropout: dropout.clone(), rest });
    let base = split(true)?.apply_op1(FrozenLinear { weight: weight.clone(), bias: None })?;
    Ok(sized(&split(false)?)?.apply_op2(&base, Add)?)
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}
