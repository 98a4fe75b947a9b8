//! Which device this process computes on.

use candle_core::Device;

/// The card that this process was given (of several the first): if this program was built for cards, and there is one that
/// works.
pub fn card() -> Option<Device> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = Device::new_cuda(0) {
        return Some(device);
    }
    #[cfg(feature = "metal")]
    if let Ok(device) = Device::new_metal(0) {
        return Some(device);
    }
    None
}

/// What records call a device.
pub fn name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

/// An error with advice, if it says that a card has no memory left.
pub fn advised(error: anyhow::Error, advice: &str) -> anyhow::Error {
    let message = format!("{error:#}").to_lowercase();
    if message.contains("out_of_memory") || message.contains("out of memory") {
        return error.context(format!("the card is out of memory: {advice}"));
    }
    error
}

/// The memory of a card that is free. `None` where nobody tells.
pub fn free_memory(device: &Device) -> Option<u64> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        let (free, _) = device.cuda_stream().context().mem_get_info().ok()?;
        return u64::try_from(free).ok();
    }
    let _ = device;
    None
}
