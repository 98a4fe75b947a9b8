//! What an instance asks of the machine and of the runner's patience. Cannot change a byte of the output, and so is in
//! no key.

use super::{Kind, Recipe};
use crate::settings::{Bytes, Seconds};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

crate::settings! {
    /// What every stage may say about how it is run.
    #[derive(Default)]
    pub struct Demands {
        /// Processors; by default an equal share of what is free.
        threads: Option<NonZeroU32> = None,
        /// Memory that is set aside for it.
        memory: Option<Bytes> = None,
        /// Graphics cards that it gets for itself. By default one for a `train` or `predict` with a `command`, or by a titer
        /// that was built for cards, where the machine has any.
        gpus: Option<u32> = None,
        /// What a result must have been made on; another one is refused, be it in the cache. Goes before that of the run.
        require: Option<Require> = None,
        /// Network slots, for work that calls an API. By default one where the `model` is an API, else none.
        network: Option<u32> = None,
        /// Work that takes longer is stopped.
        time_limit: Option<Seconds> = None,
        /// What is tried again.
        retry: Option<Retry> = None,
    }
}

crate::settings! {
    /// What a result must have been made on: `{ device = "cuda" }`.
    pub struct Require {
        /// The kind of device that did the arithmetic.
        device: Device,
    }
}

crate::words! {
    /// A kind of device.
    pub enum Device {
        /// The processor.
        Cpu = "cpu",
        /// A card of NVIDIA.
        Cuda = "cuda",
        /// A card of Apple.
        Metal = "metal",
    }
}

impl Require {
    /// Whether what a run requires is asked of the results of such work: cards may do its arithmetic.
    pub fn concerns(recipe: &Recipe) -> bool {
        match recipe {
            Recipe::Command(recipe) => matches!(recipe.kind, Kind::Train | Kind::Predict),
            Recipe::Train(_) | Recipe::Predict(_) => true,
            _ => false,
        }
    }
}

impl FromStr for Require {
    type Err = String;

    /// `device=cuda`
    fn from_str(text: &str) -> Result<Self, String> {
        let device =
            text.strip_prefix("device=").and_then(|name| Device::ALL.iter().find(|device| device.name() == name));
        let device = device.ok_or("expected `device=cpu`, `device=cuda` or `device=metal`")?;
        Ok(Self { device: *device })
    }
}

impl fmt::Display for Require {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device={}", self.device.name())
    }
}

impl Device {
    const ALL: [Self; 3] = [Self::Cpu, Self::Cuda, Self::Metal];

    /// Its name in manifests and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }
}

impl Demands {
    /// What there is against a result that was made on a device.
    pub fn refuse(&self, device: &str) -> Option<String> {
        let wanted = self.require.as_ref()?.device.name();
        (device != wanted).then(|| format!("its result was made on `{device}`, and `require` asks for `{wanted}`"))
    }
}

crate::settings! {
    /// When failed work is tried again: `{ times = 2, on = ["oom", "timeout"], wait = "10s" }`.
    pub struct Retry {
        /// How often at most.
        times: u32 = 2 => 1..=100,
        /// After which failures.
        on: Vec<Cause> = Cause::PASSING.to_vec(),
        /// Before the first new try; twice as long before every further one, an hour at most.
        wait: Seconds = Seconds(10.0),
    }
}

impl Retry {
    /// The pause before a new try, if there is one after `tries` that ended for this cause.
    pub fn pause(&self, tries: u32, cause: Cause) -> Option<Duration> {
        let again = tries <= self.times && self.on.contains(&cause);
        again.then(|| {
            Seconds((self.wait.0 * 2f64.powi(tries.saturating_sub(1).min(60).cast_signed())).min(3600.0)).duration()
        })
    }
}

crate::words! {
    /// Why work failed.
    pub enum Cause {
        /// It said what is wrong, or ended with an exit code.
        Error = "error",
        /// Memory ran out: killed by signal 9, as the kernel does it, or the end of its log says so.
        Oom = "oom",
        /// It took longer than its `time_limit`.
        Timeout = "timeout",
        /// It died of a signal other than 9.
        Crash = "crash",
        /// It asks to be tried again: exit code 75 (`EX_TEMPFAIL` of sysexits.h).
        Temporary = "temporary",
    }
}

impl Cause {
    /// Those that may be otherwise the next time.
    const PASSING: [Self; 4] = [Self::Oom, Self::Timeout, Self::Crash, Self::Temporary];

    /// Its name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Oom => "oom",
            Self::Timeout => "timeout",
            Self::Crash => "crash",
            Self::Temporary => "temporary",
        }
    }

    /// What an end without a word means, if `log` is the end of what was said before.
    pub fn of(code: Option<i32>, signal: Option<i32>, log: &str) -> Self {
        let log = log.to_ascii_lowercase();
        let memory = ["out of memory", "outofmemoryerror", "cannot allocate memory", "memoryerror"];
        match (code, signal) {
            (_, Some(9)) => Self::Oom,
            _ if memory.iter().any(|words| log.contains(words)) => Self::Oom,
            (_, Some(_)) => Self::Crash,
            (Some(75), _) => Self::Temporary,
            _ => Self::Error,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let retry = Retry { times: 3, on: vec![Cause::Oom], wait: Seconds(1500.0) };
        let pauses = [1, 2, 3, 4].map(|tries| retry.pause(tries, Cause::Oom).map(|pause| pause.as_secs()));
        assert_eq!(pauses, [Some(1500), Some(3000), Some(3600), None]);
        assert_eq!(retry.pause(1, Cause::Error), None);
    }

    #[test]
    fn results_of_other_devices_are_refused() {
        let demands = Demands { require: Some(Require { device: Device::Cuda }), ..Demands::default() };
        let message = demands.refuse("cpu").unwrap();
        assert_eq!(message, "its result was made on `cpu`, and `require` asks for `cuda`");
        assert_eq!((demands.refuse("cuda"), Demands::default().refuse("cpu")), (None, None));
    }

    #[test]
    fn what_a_call_requires_is_read_and_written() {
        for text in ["device=cpu", "device=cuda", "device=metal"] {
            assert_eq!(text.parse::<Require>().unwrap().to_string(), text);
        }
        for text in ["cuda", "device=tpu", "device = cuda", ""] {
            assert!(text.parse::<Require>().unwrap_err().contains("expected `device=cpu`"), "{text}");
        }
    }

    #[test]
    fn an_end_tells_its_cause() {
        assert_eq!(Cause::of(None, Some(9), ""), Cause::Oom);
        assert_eq!(Cause::of(Some(1), None, "torch.OutOfMemoryError: CUDA out of memory."), Cause::Oom);
        assert_eq!(Cause::of(None, Some(11), ""), Cause::Crash);
        assert_eq!(Cause::of(Some(75), None, ""), Cause::Temporary);
        assert_eq!(Cause::of(Some(1), None, "ValueError"), Cause::Error);
    }
}
