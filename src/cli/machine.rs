//! What this machine has for a run, and what a run needs of its environment.

use super::args::Machine;
use super::project::{Failure, Project};
use crate::diagnostic::{Diagnostic, Problems};
use crate::plan::{Plan, Status};
use crate::resources::{Cards, Limits, Needs};
use crate::secrets::Secrets;
use crate::settings::Bytes;
use crate::stage::{Demands, Device, Recipe};
use std::collections::BTreeSet;
use std::num::NonZeroU32;

/// What the jobs may use: what the call says, else the manifest, else all that is there. A manifest cannot give more
/// memory than the machine has.
pub(super) fn limits(manifest: &Limits, machine: &Machine) -> Limits {
    let processors = std::thread::available_parallelism().ok().and_then(|number| u32::try_from(number.get()).ok());
    let cpus = machine.jobs.or(manifest.cpus).or(processors.and_then(NonZeroU32::new));
    let memory = machine.memory.or(manifest.memory).into_iter().chain(all_memory()).min();
    // Where there is no card, nothing is said of cards; where none is asked for, none may be seen.
    let gpus = machine.gpus.clone().or_else(|| granted(manifest.gpus.clone(), preset_cards())).or_else(all_cards);
    Limits { cpus, memory, gpus, ..manifest.clone() }
}

#[cfg(target_os = "linux")]
fn all_memory() -> Option<Bytes> {
    let info = rustix::system::sysinfo();
    Some(Bytes(info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)))))
}

#[cfg(not(target_os = "linux"))]
fn all_memory() -> Option<Bytes> {
    None
}

/// The cards of `CUDA_VISIBLE_DEVICES`: those that somebody gave to this process.
#[expect(clippy::disallowed_methods, reason = "this is `cli`")]
fn preset_cards() -> Option<Cards> {
    std::env::var("CUDA_VISIBLE_DEVICES").ok().map(|preset| Cards::parse(&preset))
}

/// The cards that a manifest names, as far as they were given to this process: a manifest goes from machine to machine, and
/// the others belong to somebody else.
fn granted(named: Option<Cards>, preset: Option<Cards>) -> Option<Cards> {
    match (named, preset) {
        (Some(mut named), Some(preset)) => {
            named.0.retain(|card| preset.0.contains(card));
            Some(named)
        }
        (Some(named), None) => Some(named),
        // No card is said as where there is none.
        (None, preset) => preset.filter(|cards| !cards.0.is_empty()),
    }
}

/// The cards that the driver has made, if there are any, unless this process was given none.
fn all_cards() -> Option<Cards> {
    if preset_cards().is_some() {
        return None;
    }
    let number = |name: &str| name.strip_prefix("nvidia")?.parse::<u32>().ok();
    let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> = devices.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    (!numbers.is_empty()).then(|| Cards(numbers.iter().map(u32::to_string).collect()))
}

/// Refuses what could never start.
pub(super) fn check(project: &Project, open: &BTreeSet<usize>, limits: &Limits) -> Result<(), Failure> {
    let mut problems = Problems::default();
    for instance in open.iter().map(|node| &project.pipeline.instances[*node]) {
        let stage = instance.id.stage();
        let problem = |why: &str| Diagnostic::at(instance.span, format!("`{stage}` {why}"));
        if let Some(why) = Needs::of(&instance.recipe, &instance.demands, limits.has_gpus()).too_much(limits) {
            let hint = "ask for less, or change `[limits]`, `--memory`, `--gpus`, `CUDA_VISIBLE_DEVICES`";
            problems.push(problem(&why).hint(hint));
        } else if let Some(why) = cannot_be_had(&instance.recipe, &instance.demands, limits) {
            problems.push(problem(&why));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(project.failure(problems.into_vec())) }
}

/// Why what is required cannot be made here.
fn cannot_be_had(recipe: &Recipe, demands: &Demands, limits: &Limits) -> Option<String> {
    let device = demands.require.as_ref()?.device;
    if matches!(recipe, Recipe::Command(_)) {
        let gets_cards = Needs::of(recipe, demands, limits.has_gpus()).gpus > 0;
        return match (device, gets_cards) {
            (Device::Cpu, false) | (Device::Cuda, true) => None,
            (Device::Cpu, true) => Some("requires the device `cpu`, and asks for graphics cards".to_string()),
            (Device::Cuda, false) => Some("requires the device `cuda`, and asks for no graphics card".to_string()),
            (Device::Metal, _) => {
                Some("requires the device `metal`, and of a `command` nobody can tell that it uses it".to_string())
            }
        };
    }
    let is_built_for = match device {
        Device::Cpu => return None,
        Device::Cuda => cfg!(feature = "cuda"),
        Device::Metal => cfg!(feature = "metal"),
    };
    let name = device.name();
    match recipe {
        Recipe::Train(_) | Recipe::Predict(_) => (!is_built_for)
            .then(|| format!("requires the device `{name}`, and this titer was built without the feature `{name}`")),
        _ => Some(format!("requires the device `{name}`, and is always done by the processor")),
    }
}

/// Refuses results that are there, but were not made on the device that is required.
pub(super) fn check_made(project: &Project, plan: &Plan) -> Result<(), Failure> {
    let mut problems = Problems::default();
    for (node, status) in &plan.entries {
        let (Status::Cached(record) | Status::Remote(record)) = status else { continue };
        let instance = &project.pipeline.instances[*node];
        if let Some(why) = instance.demands.refuse(&record.run.device) {
            let problem = Diagnostic::at(instance.span, format!("`{}`: {why}", instance.id));
            problems.push(problem.hint("the first result of a key counts: take another cache, or leave out `require`"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(project.failure(problems.into_vec())) }
}

/// The values of the secrets that the pipeline names. Those that what will run asks for must be there.
#[expect(clippy::disallowed_methods, reason = "this is `cli`")]
pub(super) fn secrets(project: &Project, open: &BTreeSet<usize>) -> Result<Secrets, Failure> {
    let (mut secrets, mut problems) = (Secrets::new(), Problems::default());
    for (node, instance) in project.pipeline.instances.iter().enumerate() {
        for name in instance.hints.secrets.values() {
            match std::env::var(name) {
                Ok(value) => {
                    secrets.insert(name.clone(), value);
                }
                Err(_) if open.contains(&node) => {
                    let stage = instance.id.stage();
                    let message = format!("`{stage}` needs the environment variable `{name}`, which is not set");
                    problems
                        .push(Diagnostic::at(instance.span, message).hint(format!("`export {name}=…` and run again")));
                }
                Err(_) => {}
            }
        }
    }
    if problems.is_empty() { Ok(secrets) } else { Err(project.failure(problems.into_vec())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_gets_no_card_that_was_not_given_to_the_process() {
        let cards = |text: &str| Some(Cards::parse(text));
        assert_eq!(granted(cards("0,1,2"), cards("1,2,3")), cards("1,2"));
        assert_eq!(granted(cards("0,1"), cards("GPU-7f")), cards(""), "by another name it cannot be told");
        assert_eq!(granted(cards("0,1"), cards("")), cards(""));
        assert_eq!((granted(cards("0,1"), None), granted(None, cards("3"))), (cards("0,1"), cards("3")));
        assert_eq!((granted(None, cards("")), granted(None, None)), (None, None));
    }
}
