//! Linear layers on a device: frozen matrices, held in few bits or as they are multiplied, and adapters on them.

use super::{Plain, given};
use crate::engine::held::{self, Held, NF4, NF4_BLOCK};
use crate::engine::train::ops::Dropout;
use crate::engine::train::parts::{Lora, Tokens};
use anyhow::Result;
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Device, Layout, MetalStorage, Shape, Storage, Tensor, bail,
};
use half::bf16;

/// A frozen matrix of `inputs × outputs`.
#[derive(Clone, Debug)]
pub struct Matrix {
    inputs: usize,
    outputs: usize,
    /// As it is multiplied.
    dtype: DType,
    form: Form,
}

/// How a matrix is held, as [`Held`] holds it.
#[derive(Clone, Debug)]
enum Form {
    /// As it is multiplied.
    Dense(Tensor),
    /// Codes plus 128, and a scale by output.
    Int8 { codes: Tensor, scales: Tensor },
    /// Two codes to a byte, the levels of both codes of every byte, and scales by block of the transposed matrix.
    Nf4 { codes: Tensor, levels: Tensor, scales: Tensor },
}

impl Matrix {
    /// Brings a matrix to a device.
    pub(super) fn new(held: &Held, plain: &Plain) -> Result<Self> {
        let (inputs, outputs) = (held.inputs(), held.outputs());
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &plain.device);
        // The type is changed in memory, so that a card never has to hold both.
        let dense = |tensor: Tensor| tensor.to_dtype(plain.dtype)?.to_device(&plain.device);
        let form = match held.numbers() {
            held::Numbers::F32(weight) => {
                Form::Dense(dense(Tensor::from_slice(weight, (inputs, outputs), &Device::Cpu)?)?)
            }
            held::Numbers::Bf16(weight) => {
                let weight: Vec<bf16> = weight.iter().map(|bits| bf16::from_bits(*bits)).collect();
                Form::Dense(dense(Tensor::from_vec(weight, (inputs, outputs), &Device::Cpu)?)?)
            }
            held::Numbers::Int8 { codes, scales } => {
                let codes: Vec<u8> = codes.iter().map(|code| code.cast_unsigned().wrapping_add(128)).collect();
                let codes = Tensor::from_vec(codes, (inputs, outputs), &plain.device)?;
                Form::Int8 { codes, scales: tensor(scales)? }
            }
            held::Numbers::Nf4 { codes, scales } => {
                let levels: Vec<f32> = (0..256).flat_map(|byte| [NF4[byte & 15], NF4[byte >> 4]]).collect();
                let codes = Tensor::from_slice(codes, codes.len(), &plain.device)?;
                Form::Nf4 { codes, levels: tensor(&levels)?.reshape((256, 2))?, scales: tensor(scales)? }
            }
        };
        Ok(Self { inputs, outputs, dtype: plain.dtype, form })
    }

    /// Bytes of its numbers.
    pub(super) fn bytes(&self) -> usize {
        let of = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        match &self.form {
            Form::Dense(weight) => of(weight),
            Form::Int8 { codes, scales } | Form::Nf4 { codes, scales, .. } => of(codes) + of(scales),
        }
    }

    /// As it is multiplied: `inputs × outputs`.
    fn dense(&self) -> candle_core::Result<Tensor> {
        let (inputs, outputs) = (self.inputs, self.outputs);
        match &self.form {
            Form::Dense(weight) => Ok(weight.clone()),
            Form::Int8 { codes, scales } => {
                (codes.to_dtype(DType::F32)? - 128.0)?.broadcast_mul(scales)?.to_dtype(self.dtype)
            }
            Form::Nf4 { codes, levels, scales } => {
                // candle takes the largest number of a type for none at all: of bytes that would be a pair of codes.
                let codes = codes.to_dtype(DType::U32)?;
                let weight = levels.index_select(&codes, 0)?.reshape((inputs, ()))?.narrow(1, 0, outputs)?;
                let scales = scales.unsqueeze(1)?.broadcast_as((scales.elem_count(), NF4_BLOCK))?;
                let scales = scales.flatten_all()?.narrow(0, 0, inputs * outputs)?.reshape((outputs, inputs))?;
                (weight * scales.t()?)?.to_dtype(self.dtype)
            }
        }
    }

    /// `x W`; the gradient is that of `x` alone.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if x.track_op() { Ok(x.apply_op1(self.clone())?) } else { Ok(x.matmul(&self.dense()?)?) }
    }

    /// `grad Wᵀ`.
    pub(super) fn apply_back(&self, grad: &Tensor) -> candle_core::Result<Tensor> {
        grad.matmul(&self.dense()?.t()?)
    }

    /// The Euclidean norm of every output's weights, with `scale · B · A` added to them.
    fn norms_with(&self, a: &Tensor, b: &Tensor, scale: f32) -> candle_core::Result<Tensor> {
        let added = (a.t()?.matmul(&b.t()?)? * f64::from(scale))?;
        (self.dense()?.to_dtype(DType::F32)? + added)?.sqr()?.sum(0)?.sqrt()
    }
}

/// A matrix product where the matrix is: the storage of a device knows how.
fn product<S: BackendStorage>(x: &S, lx: &Layout, w: &S, lw: &Layout) -> candle_core::Result<(S, Shape)> {
    let ((m, k), n) = (lx.shape().dims2()?, lw.shape().dims2()?.1);
    Ok((x.matmul(w, (1, m, n, k), lx, lw)?, (m, n).into()))
}

/// candle's own product would compute the gradient of the matrix, too, and keep it.
impl CustomOp1 for Matrix {
    fn name(&self) -> &'static str {
        "frozen-matrix"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let weight = self.dense()?;
        let (storage, lw) = weight.storage_and_layout();
        match &*storage {
            Storage::Cpu(w) => product(x, lx, w, lw),
            _ => bail!("a matrix is not on the processor"),
        }
    }

    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let weight = self.dense()?;
        let (storage, lw) = weight.storage_and_layout();
        match &*storage {
            Storage::Cuda(w) => product(x, lx, w, lw),
            _ => bail!("a matrix is not on the card"),
        }
    }

    fn metal_fwd(&self, x: &MetalStorage, lx: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
        let weight = self.dense()?;
        let (storage, lw) = weight.storage_and_layout();
        match &*storage {
            Storage::Metal(w) => product(x, lx, w, lw),
            _ => bail!("a matrix is not on the card"),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        self.apply_back(grad).map(Some)
    }
}

/// A frozen matrix with its adapter, without bias.
pub(super) fn adapted(lora: &Lora<Plain>, x: &Tensor, tokens: Tokens<'_>, plain: &Plain) -> Result<Tensor> {
    let dropout = Some(lora.dropout).filter(|share| *share > 0.0);
    let dropout = dropout.and_then(|share| Some(Dropout { share, tokens: tokens(&lora.random)? }));
    let kept = dropout.map(|dropout| Kept::new(&dropout, x, plain)).transpose()?;
    let Some(magnitude) = &lora.magnitude else { return with_adapter(lora, x, kept) };
    let norms = lora.weight.norms_with(&lora.a.detach(), &lora.b.detach(), lora.scale)?;
    let sized = |y: Tensor| y.broadcast_mul(&(magnitude / &norms)?.to_dtype(x.dtype())?);
    let Some(kept) = kept else { return Ok(sized(with_adapter(lora, x, None)?)?) };
    // As PEFT does it: what falls out for the adapter still goes through the base, at the base's size.
    let left = kept.left_of(x)?;
    let base = lora.weight.apply(&(x - &left)?)?;
    Ok((sized(with_adapter(lora, &left, None)?)? + base)?)
}

/// Which inputs of an adapter do not fall out, and what they are multiplied by.
struct Kept {
    /// `tokens × inputs` of zeros and ones.
    mask: Tensor,
    factor: f64,
}

impl Kept {
    fn new(dropout: &Dropout, x: &Tensor, plain: &Plain) -> Result<Self> {
        let (tokens, inputs) = x.dims2()?;
        let mask = Tensor::from_vec(dropout.kept(inputs), (tokens, inputs), &plain.device)?;
        Ok(Self { mask, factor: f64::from(dropout.factor()) })
    }

    /// `x` as it is where nothing falls out, zeros elsewhere.
    fn masked(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x * self.mask.to_dtype(x.dtype())?
    }

    /// What dropout leaves of `x`.
    fn left_of(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.masked(x)? * self.factor
    }
}

/// `x W + scale · dropout(x) Aᵀ Bᵀ`.
fn with_adapter(lora: &Lora<Plain>, x: &Tensor, kept: Option<Kept>) -> Result<Tensor> {
    let (dtype, of_x_is_asked) = (x.dtype(), x.track_op());
    let (weight, scale) = (lora.weight.clone(), f64::from(lora.scale));
    // Dropout's factor is one for all: it goes to the few numbers in the middle.
    let through = kept.as_ref().map_or(1.0, |kept| kept.factor);
    let masked = move |x: &Tensor| kept.as_ref().map_or_else(|| Ok(x.clone()), |kept| kept.masked(x));
    let [alone, a, b] = [x, &lora.a, &lora.b].map(Tensor::detach);
    let (a, b) = (a.to_dtype(dtype)?, b.to_dtype(dtype)?);
    let value = {
        let inner = (masked(&alone)?.matmul(&a.t()?)? * (through * scale))?;
        (weight.apply(&alone)? + inner.matmul(&b.t()?)?)?
    };
    Ok(given::three([x, &lora.a, &lora.b], value, move |grad| {
        let left = masked(&alone)?;
        let inner = (left.matmul(&a.t()?)? * (through * scale))?;
        let of_inner = (grad.matmul(&b)? * (through * scale))?;
        let of_a = of_inner.t()?.matmul(&left)?.to_dtype(DType::F32)?;
        let of_b = grad.t()?.matmul(&inner)?.to_dtype(DType::F32)?;
        // In the first block of an adapter nothing before it learns.
        let of_x = of_x_is_asked.then(|| weight.apply_back(grad)? + masked(&of_inner.matmul(&a)?)?).transpose()?;
        Ok([of_x, Some(of_a), Some(of_b)])
    })?)
}
