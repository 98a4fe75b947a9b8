//! What a run keeps for the plans to come.

use super::{Purpose, Runner};
use crate::plan::past;
use crate::record::Record;
use crate::schedule::Outcome;

impl Runner<'_> {
    /// Writes down what has ended, for those who read of this run while it goes on, or after it was killed. Not knowing it
    /// costs history only.
    pub(super) fn note_end(&self, node: usize, record: &Record, outcome: Outcome) {
        let how = match outcome {
            Outcome::Cached => return,
            Outcome::Fetched => "fetched",
            Outcome::Ran => "ran",
            Outcome::Shared => "shared",
        };
        let _ = self.store.note_end(&self.pipeline.instances[node].id.to_string(), &record.key, how);
    }

    /// Writes down that an instance failed, if it came so far as to have a key.
    pub(super) fn note_failure(&self, node: usize, message: &str) {
        if let Some(key) = self.keys.get(&node) {
            let _ = self.store.note_failure(&self.pipeline.instances[node].id.to_string(), key, message);
        }
    }

    /// Keeps which instance had which key, for `why` and for the next plan. Not knowing it costs an explanation only.
    pub(super) fn remember(&self, is_work: bool) {
        if self.options.purpose == Purpose::Audit {
            return self.store.save();
        }
        let mut last = self.store.last_run(&self.pipeline.name).unwrap_or_default();
        last.extend(self.keys.iter().map(|(node, key)| (self.pipeline.instances[*node].id.to_string(), *key)));
        let _ = self.store.set_last_run(&self.pipeline.name, &last);
        if is_work {
            self.remember_times();
        }
        self.store.save();
    }

    /// Keeps what the results took, for plans of a time when they are gone.
    fn remember_times(&self) {
        let name = &self.pipeline.name;
        let mut times = self.store.times(name).unwrap_or_default();
        let mut has_learned = false;
        for (instance, record) in self.pipeline.instances.iter().zip(&self.known) {
            if let Some(past) = record.as_ref().and_then(|record| past(instance, record)) {
                has_learned |= times.learn(&instance.id.to_string(), past);
            }
        }
        if has_learned {
            let _ = self.store.set_times(name, &times);
        }
    }
}
