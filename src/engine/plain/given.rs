//! Steps with a value that is there already, and a gradient that is given: both are made of operations that every device
//! has. What lies between value and arguments is not kept.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, MetalStorage, Result, Shape, Storage, Tensor,
    bail,
};
use std::sync::{Mutex, PoisonError};

/// The gradient of one argument by that of the value.
type Back<const ARGUMENTS: usize> = Box<dyn Fn(&Tensor) -> Result<[Option<Tensor>; ARGUMENTS]> + Send + Sync>;

struct Given<const ARGUMENTS: usize> {
    /// Given away when the graph asks for it: the graph has a copy of its own.
    value: Mutex<Option<Tensor>>,
    back: Back<ARGUMENTS>,
}

impl<const ARGUMENTS: usize> Given<ARGUMENTS> {
    fn new(
        value: Tensor,
        back: impl Fn(&Tensor) -> Result<[Option<Tensor>; ARGUMENTS]> + Send + Sync + 'static,
    ) -> Result<Self> {
        let is_whole = matches!(value.layout().contiguous_offsets(), Some((0, _)));
        let value = if is_whole { value.detach() } else { value.detach().force_contiguous()? };
        Ok(Self { value: Mutex::new(Some(value)), back: Box::new(back) })
    }

    fn storage(&self) -> Result<(Storage, Shape)> {
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(value) = value else { bail!("a value was asked for a second time") };
        let (storage, layout) = value.storage_and_layout();
        Ok((storage.try_clone(layout)?, value.shape().clone()))
    }

    fn on_cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.storage()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => bail!("the value is on another device than its arguments"),
        }
    }

    fn on_cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.storage()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => bail!("the value is on another device than its arguments"),
        }
    }

    fn on_metal(&self) -> Result<(MetalStorage, Shape)> {
        match self.storage()? {
            (Storage::Metal(storage), shape) => Ok((storage, shape)),
            _ => bail!("the value is on another device than its arguments"),
        }
    }
}

const NAME: &str = "given";

impl CustomOp1 for Given<1> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.on_metal()
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [of_x] = (self.back)(grad)?;
        Ok(of_x)
    }
}

impl CustomOp2 for Given<2> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.on_metal()
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.back)(grad)?.into())
    }
}

impl CustomOp3 for Given<3> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.on_metal()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((self.back)(grad)?.into())
    }
}

/// `value`, as a step from `x` with this gradient.
pub(super) fn one(
    x: &Tensor,
    value: Tensor,
    back: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !x.track_op() {
        return Ok(value);
    }
    x.apply_op1(Given::new(value, move |grad| Ok([Some(back(grad)?)]))?)
}

/// The same from two arguments.
pub(super) fn two(
    [x, y]: [&Tensor; 2],
    value: Tensor,
    back: impl Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !x.track_op() && !y.track_op() {
        return Ok(value);
    }
    x.apply_op2(y, Given::new(value, back)?)
}

/// The same from three arguments.
pub(super) fn three(
    [x, y, z]: [&Tensor; 3],
    value: Tensor,
    back: impl Fn(&Tensor) -> Result<[Option<Tensor>; 3]> + Send + Sync + 'static,
) -> Result<Tensor> {
    if ![x, y, z].iter().any(|argument| argument.track_op()) {
        return Ok(value);
    }
    x.apply_op3(y, z, Given::new(value, back)?)
}
