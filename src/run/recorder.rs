//! Listens to a run for its summary, and passes on what it hears.

use super::{Finished, Observer, RunEvent};
use crate::journal::{Entry, PlanDocument, RunState, RunSummary, State};
use crate::key::Digest;
use crate::manifest::Pipeline;
use crate::record::Record;
use crate::store::{Result, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// An observer in front of another.
pub struct Recorder<'a> {
    observer: &'a mut dyn Observer,
    entries: BTreeMap<usize, Entry>,
    begun: BTreeMap<usize, Instant>,
    observed: BTreeMap<usize, Record>,
}

impl<'a> Recorder<'a> {
    /// Everything goes on to `observer`.
    pub fn new(observer: &'a mut dyn Observer) -> Self {
        Self { observer, entries: BTreeMap::new(), begun: BTreeMap::new(), observed: BTreeMap::new() }
    }

    /// What became of the instances that were not simply cached.
    pub fn entries(&self) -> &BTreeMap<usize, Entry> {
        &self.entries
    }

    /// The runs of keys that had been made before.
    pub fn observed(&self) -> &BTreeMap<usize, Record> {
        &self.observed
    }

    /// Fills in what the run of the `wanted` instances was, and keeps their plan.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn fill(
        self,
        summary: &mut RunSummary,
        pipeline: &Pipeline,
        wanted: &[usize],
        finished: &Finished,
        store: &Store,
    ) -> Result<()> {
        let name = |node: usize| pipeline.instances[node].id.to_string();
        let keys = finished.keys.iter().map(|(node, key)| (name(*node), *key)).collect();
        let mut entries = self.entries;
        for &node in wanted.iter().filter(|node| finished.known[**node].is_none()) {
            let entry = entries.entry(node).or_default();
            // It warned of something, and did not start.
            if entry.state == State::Cached {
                entry.state = State::Unfinished;
            }
        }
        let is_cached = |node: &&usize| entries.get(node).is_none_or(|entry| entry.state == State::Cached);
        summary.saved_seconds = saved(wanted.iter().filter(is_cached), finished);
        summary.instances = entries.into_iter().map(|(node, entry)| (name(node), entry)).collect();
        summary.counts = finished.summary.ends();
        (summary.state, summary.process) = (RunState::Ended, None);
        summary.interrupted = finished.summary.interrupted;
        summary.seconds = finished.summary.seconds;
        summary.plan = Some(store.write_plan(&PlanDocument::new(&pipeline.name, keys))?);
        Ok(())
    }

    fn ended(&mut self, node: usize, state: State, seconds: Option<f64>) -> &mut Entry {
        let entry = self.entries.entry(node).or_default();
        entry.state = state;
        entry.seconds = seconds;
        entry
    }

    fn note(&mut self, node: usize, event: &RunEvent<'_>) {
        let elapsed = self.begun.get(&node).map(|begun| begun.elapsed().as_secs_f64());
        match event {
            RunEvent::Started(_, device) => {
                self.begun.insert(node, Instant::now());
                let entry = self.entries.entry(node).or_default();
                entry.started = Some(jiff::Timestamp::now().to_string());
                entry.device = Some((*device).to_string());
                entry.tries += 1;
            }
            RunEvent::ComputesOn(device) => {
                self.entries.entry(node).or_default().device = Some((*device).to_string());
            }
            RunEvent::Warned(message) => {
                // What has not started and warns, was mostly cached: its results could not be shown.
                let cached = || Entry { state: State::Cached, ..Entry::default() };
                self.entries.entry(node).or_insert_with(cached).warnings.push((*message).to_string());
            }
            RunEvent::Ran(seconds) => {
                self.ended(node, State::Ran, Some(*seconds));
            }
            RunEvent::Observed(seconds, differing, record) => {
                self.ended(node, State::Observed, Some(*seconds)).differing = differing.to_vec();
                self.observed.insert(node, (*record).clone());
            }
            RunEvent::Fetched(_) => {
                self.ended(node, State::Fetched, None);
            }
            RunEvent::Shared => {
                self.ended(node, State::Shared, None);
            }
            RunEvent::Failed(cause, message, _) => {
                let entry = self.ended(node, State::Failed, elapsed);
                (entry.cause, entry.message) = (Some(*cause), Some((*message).to_string()));
            }
            RunEvent::Blocked => {
                self.ended(node, State::Blocked, None);
            }
            RunEvent::Stopped => {
                self.ended(node, State::Unfinished, elapsed);
            }
            RunEvent::Cached
            | RunEvent::Progress(_)
            | RunEvent::Fetching(_)
            | RunEvent::Sent(_)
            | RunEvent::Elsewhere
            | RunEvent::Retries(..) => {}
        }
    }
}

impl Observer for Recorder<'_> {
    fn event(&mut self, node: usize, event: &RunEvent<'_>) {
        self.note(node, event);
        self.observer.event(node, event);
    }

    fn stopping(&mut self, waited_for: usize) {
        self.observer.stopping(waited_for);
    }

    fn sending(&mut self, left: usize) {
        self.observer.sending(left);
    }
}

/// What the making of cached results took, equal keys once.
fn saved<'n>(cached: impl Iterator<Item = &'n usize>, finished: &Finished) -> f64 {
    let mut seen: BTreeSet<Digest> = BTreeSet::new();
    let records = cached.filter_map(|node| finished.known[*node].as_ref());
    records.filter(|record| seen.insert(record.key)).fold(0.0, |sum, record| sum + record.run.wall_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Sources;
    use crate::journal::Asked;
    use crate::manifest::{Overrides, load};
    use crate::run::Summary;

    struct Deaf;

    impl Observer for Deaf {
        fn event(&mut self, _: usize, _: &RunEvent<'_>) {}
        fn stopping(&mut self, _: usize) {}
        fn sending(&mut self, _: usize) {}
    }

    #[test]
    fn what_warned_and_never_started_is_unfinished() {
        let text = "titer = 1\n[mix.a]\ncommand = [\"true\"]\n[mix.b]\ncommand = [\"true\"]\n";
        let read = |_: &str| Ok(text.to_string());
        let pipeline = load("p.toml", &read, &Overrides::default(), &mut Sources::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        let mut deaf = Deaf;
        let mut recorder = Recorder::new(&mut deaf);
        recorder.event(0, &RunEvent::Warned("not fetched: it lies"));
        let finished = Finished {
            summary: Summary::default(),
            keys: BTreeMap::new(),
            known: vec![None; pipeline.instances.len()],
        };
        let mut summary = RunSummary::begin("p", "p.toml", Asked::default());
        recorder.fill(&mut summary, &pipeline, &[0, 1], &finished, &store).unwrap();
        assert_eq!(summary.instances.len(), 2);
        assert!(summary.instances.values().all(|entry| entry.state == State::Unfinished), "{summary:?}");
        assert_eq!(summary.instances[&pipeline.instances[0].id.to_string()].warnings, ["not fetched: it lies"]);
    }
}
