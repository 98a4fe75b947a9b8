//! The end of work that succeeded: what is asked of its outputs before they become the result of their key, and who has it
//! then.

use super::job::Running;
use super::{Purpose, RunEvent, Runner};
use crate::record::Record;
use crate::schedule::Outcome;
use crate::stage::Cause;
use crate::store::{Committed, view};
use std::sync::Arc;

impl Runner<'_> {
    /// The work of a node is done: what it made becomes the result of its key, or an observation beside it.
    pub(super) fn commit(&mut self, node: usize) {
        // A file of the person's that changed under the worker's hands would give a result under a wrong key.
        self.resolver.forget();
        let unchanged = self.resolver.materials(node, &self.known).ok();
        let Some(running) = self.running.get(&node) else { return };
        if unchanged.is_none_or(|materials| self.resolver.document(node, &materials) != running.document) {
            return self.fail(node, Cause::Error, "an input file was changed while it was read; run again", true);
        }
        let seconds = running.seconds();
        if running.was_overtaken() {
            self.tell(
                node,
                &RunEvent::Warned(
                    "this process stood still, and another titer took over: of the two results the first one counts",
                ),
            );
        }
        if self.running.get(&node).is_some_and(Running::wastes_cards) {
            self.warn(node, "it got graphics cards that titer could not use: the processor did the work");
        }
        if let Some(message) = self.refused(node) {
            return self.fail(node, Cause::Error, &message, true);
        }
        let Some(running) = self.running.get(&node) else { return };
        match running.commit(&self.pipeline.instances[node], self.store) {
            Ok(Committed::Canonical(record)) => {
                let record = Arc::new(record);
                self.history.learn(&self.pipeline.instances[node], &record);
                let is_accepted = self.finish(node, &record, &RunEvent::Ran(seconds), Outcome::Ran);
                if let Some(sharing) = self.sharing.as_mut().filter(|_| is_accepted) {
                    sharing.send(node, &record, &self.pipeline.instances[node].recipe);
                }
            }
            Ok(Committed::Observation { canonical, observed, differing }) => {
                if let Some(message) = self.locked(node, |held, name| held.refuses_outputs(name, &observed.digests())) {
                    return self.fail(node, Cause::Error, &message, true);
                }
                let event = RunEvent::Observed(seconds, &differing, &observed);
                self.finish(node, &Arc::new(canonical), &event, Outcome::Ran);
            }
            Err(error) => self.fail(node, Cause::Error, &format!("{error:#}"), true),
        }
    }

    /// What the lock, or the stage itself, has against outputs that are about to become the result of their key. They are
    /// set apart: in the cache they would be the result for everybody. What is made beside a result is an observation, and
    /// may be kept.
    fn refused(&self, node: usize) -> Option<String> {
        let instance = &self.pipeline.instances[node];
        let running = self.running.get(&node)?;
        let key = running.document.key();
        if self.store.get(&key).ok()?.is_some_and(|record| self.store.complete(&record)) {
            return None;
        }
        let by_lock = || {
            let held = self.options.locked.as_ref()?;
            held.outputs(&instance.id.to_string())?;
            // What cannot be read is said at the commit.
            held.refuses_outputs(&instance.id.to_string(), &running.weigh(instance, self.store).ok()?)
        };
        let message = instance.demands.refuse(running.device()).or_else(by_lock)?;
        Some(match running.set_apart(self.store) {
            Ok(place) => format!("{message}; what was made is kept in `{}`, and is no result", place.display()),
            Err(error) => format!("{message}; what was made could not be kept: {error:#}"),
        })
    }

    /// The instance is done with this record, unless the lock or the stage refuses it: then it has failed. Returns whether
    /// it is done.
    pub(super) fn finish(&mut self, node: usize, record: &Arc<Record>, event: &RunEvent<'_>, outcome: Outcome) -> bool {
        self.keys.insert(node, record.key);
        let by_lock = self.locked(node, |held, name| held.refuses_outputs(name, &record.digests()));
        let by_stage = || self.pipeline.instances[node].demands.refuse(&record.run.device);
        if let Some(message) = by_lock.or_else(by_stage) {
            self.fail(node, Cause::Error, &message, false);
            return false;
        }
        self.note_end(node, record, outcome);
        self.release(node);
        for follower in self.schedule.followers(node) {
            if let Some(message) = self.pipeline.instances[follower].demands.refuse(&record.run.device) {
                let leader = &self.pipeline.instances[node].id;
                let message = format!("{message}; it is that of `{leader}`, which has the same key");
                self.fail(follower, Cause::Error, &message, false);
            }
        }
        let followers = self.schedule.done(node, outcome);
        self.settle(node, record, event);
        for follower in followers {
            self.note_end(follower, record, Outcome::Shared);
            self.settle(follower, record, &RunEvent::Shared);
        }
        true
    }

    /// The outputs of an instance are there: others may read them, and the person finds them under `out/`.
    fn settle(&mut self, node: usize, record: &Arc<Record>, event: &RunEvent<'_>) {
        self.known[node] = Some(Arc::clone(record));
        self.tell(node, event);
        if self.options.purpose == Purpose::Audit {
            return;
        }
        let folder = self.options.out.join(self.pipeline.instances[node].id.folder());
        if let Err(error) = view::show(self.store, &folder, record) {
            self.tell(node, &RunEvent::Warned(&format!("cannot show the results: {error:#}")));
        }
    }
}
