//! How far each piece of work is, and what it took.

use super::Survey;
use crate::journal::{Counts, Entry, RunState, RunSummary, State};
use crate::key::Digest;
use crate::plan::Status;
use crate::record::Record;
use crate::report::page::{Instance, Run};
use crate::store::{Result, Worker};
use std::collections::BTreeMap;

/// A run at a glance.
pub(super) fn run(run: &RunSummary) -> Run {
    let Counts { cached, fetched, ran, shared, failed, blocked, unfinished, .. } = run.counts;
    let counts = [
        ("cached", cached),
        ("fetched", fetched),
        ("ran", ran),
        ("shared", shared),
        ("failed", failed),
        ("blocked", blocked),
        ("unfinished", unfinished),
    ];
    let state = match run.state {
        RunState::Running => "running",
        RunState::Killed => "killed",
        RunState::Ended => "ended",
    };
    let git = run.git.as_ref().map(|git| {
        let changes = if git.dirty { ", with changes that are not committed" } else { "" };
        format!("{}{changes}", git.commit.get(..12).unwrap_or(&git.commit))
    });
    Run {
        id: run.id.clone(),
        started: run.started.clone(),
        seconds: run.seconds,
        outcome: run.outcome().to_string(),
        state: state.to_string(),
        counts: counts.into_iter().map(|(name, number)| (name.to_string(), number)).collect(),
        saved_seconds: run.saved_seconds,
        host: run.machine.as_ref().map(|machine| machine.host.clone()),
        cpu: run.machine.as_ref().map(|machine| machine.cpu.clone()),
        titer: run.titer.clone(),
        git,
    }
}

impl Survey<'_> {
    /// All pieces of work, those of the last run with what it did to them.
    pub(super) fn instances(&mut self) -> Result<Vec<Instance>> {
        let store = self.subject.store;
        let workers = store.at_work()?;
        let keys = self.subject.run.map(|run| store.keys_of(run)).transpose()?.flatten().unwrap_or_default();
        let wanted = self.subject.plan.map(|plan| plan.entries.iter().map(|(node, _)| *node).collect::<Vec<_>>());
        let nodes = wanted.unwrap_or_else(|| (0..self.known.len()).collect());
        Ok(nodes.into_iter().map(|node| self.instance(node, &workers, &keys)).collect())
    }

    fn instance(&self, node: usize, workers: &BTreeMap<Digest, Worker>, of_run: &BTreeMap<String, Digest>) -> Instance {
        let name = self.name(node);
        let key = self.keys.get(&node);
        // What the last run did counts only if it did it to this very work.
        let entry = self.subject.run.and_then(|run| run.instances.get(&name));
        let entry = entry.filter(|_| match (key, of_run.get(&name)) {
            (Some(key), Some(then)) => key == then,
            _ => true,
        });
        let record = self.known[node].as_deref();
        let is_at_work = key.is_some_and(|key| workers.contains_key(key));
        let (state, message) = self.state(node, entry, is_at_work);
        let shown = Instance {
            stage: self.subject.pipeline.instances[node].id.stage(),
            key: key.map(ToString::to_string),
            state,
            message,
            tries: entry.map_or(1, |entry| entry.tries),
            differing: entry.map(|entry| entry.differing.clone()).unwrap_or_default(),
            name,
            ..Instance::default()
        };
        match record {
            Some(record) => of_record(shown, record),
            None => Instance {
                seconds: entry.and_then(|entry| entry.seconds),
                started: entry.and_then(|entry| entry.started.clone()),
                device: entry.and_then(|entry| entry.device.clone()),
                warnings: entry.map(|entry| entry.warnings.clone()).unwrap_or_default(),
                ..shown
            },
        }
    }

    /// How far it is, in a word or two, and what there is to say of that.
    fn state(&self, node: usize, entry: Option<&Entry>, is_at_work: bool) -> (String, Option<String>) {
        let of_run = entry.map_or("cached", |entry| entry.state.name());
        let failed = || entry.filter(|entry| matches!(entry.state, State::Failed | State::Blocked));
        let plain = |word: &str| (word.to_string(), None);
        if is_at_work {
            return plain("running");
        }
        match self.status(node) {
            Some(Status::Cached(_)) => match entry.map(|entry| entry.state) {
                Some(State::Failed | State::Blocked | State::Unfinished | State::Running) => plain("cached"),
                _ => plain(of_run),
            },
            Some(Status::Remote(_)) => plain("in the shared cache"),
            None if self.known[node].is_some() => plain(of_run),
            _ if failed().is_some() => (of_run.to_string(), failed().and_then(|entry| entry.message.clone())),
            Some(Status::Runs(reason)) => ("will run".to_string(), Some(reason.to_string())),
            Some(Status::Waits { on, cached_unless_changed }) => {
                let first = on.first().map(|node| self.name(*node)).unwrap_or_default();
                let more = if on.len() > 1 { format!(" and {} more", on.len() - 1) } else { String::new() };
                let words = match cached_unless_changed {
                    true => format!("cached unless {first}{more} changes"),
                    false => format!("for {first}{more}"),
                };
                ("waits".to_string(), Some(words))
            }
            None => plain("will run"),
        }
    }
}

/// Adds how the result was made.
fn of_record(instance: Instance, record: &Record) -> Instance {
    let run = &record.run;
    Instance {
        seconds: Some(run.wall_seconds),
        started: Some(run.started.clone()),
        device: Some(run.device.clone()),
        gpus: run.gpus.join(", "),
        host: Some(run.machine.host.clone()),
        cpu: Some(run.machine.cpu.clone()),
        tries: run.tries,
        imported: run.imported.is_some(),
        warnings: run.warnings.clone(),
        ..instance
    }
}
