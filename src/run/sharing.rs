//! A run's dealings with the shared cache: results come and go beside the work.

use super::{RunEvent, Runner};
use crate::key::{Digest, KeyDocument};
use crate::record::Record;
use crate::schedule::{Outcome, State};
use crate::stage::{Progress, Recipe};
use crate::store::Store;
use crate::store::remote::{Errand, Sent, Told, Transfers, Trouble};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::Scope;
use std::time::Duration;

/// What is under way between the two caches.
#[derive(Debug)]
pub(super) struct Sharing {
    transfers: Transfers,
    told: Receiver<Told>,
    pulls: bool,
    pushes: bool,
    fetching: usize,
    pub(super) sending: usize,
    /// Instances that the plan found there.
    offered: BTreeSet<usize>,
    /// Instances of which something has arrived.
    arriving: BTreeSet<usize>,
}

impl Sharing {
    /// None, if the store has no shared cache.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        store: &'scope Store,
        offered: BTreeSet<usize>,
    ) -> Option<Self> {
        let remote = store.remote()?;
        let (sender, told) = channel();
        let transfers = Transfers::start(scope, store, &sender);
        let (pulls, pushes) = (remote.pulls(), remote.pushes());
        Some(Self { transfers, told, pulls, pushes, fetching: 0, sending: 0, offered, arriving: BTreeSet::new() })
    }

    /// Looks for the result of an instance, if that is wanted; with `locked`, one with these outputs. The answer is a [`Told::Fetched`].
    pub(super) fn fetch(
        &mut self,
        node: usize,
        document: &KeyDocument,
        recipe: &Recipe,
        locked: Option<BTreeMap<String, Digest>>,
    ) -> bool {
        if self.pulls {
            let outputs = recipe.outputs();
            self.transfers.give(node, Errand::Fetch { document: document.clone(), outputs, locked });
            self.fetching += 1;
        }
        self.pulls
    }

    /// Sends what was made, if that is wanted. The answer is a [`Told::Sent`].
    pub(super) fn send(&mut self, node: usize, record: &Arc<Record>, recipe: &Recipe) {
        if self.pushes {
            let (record, outputs) = (Arc::clone(record), recipe.outputs());
            self.transfers.give(node, Errand::Send { record, outputs });
            self.sending += 1;
        }
    }

    /// The next word of a transfer; waits so long for it.
    pub(super) fn next(&mut self, wait: Duration) -> Option<Told> {
        let told = self.told.recv_timeout(wait).ok()?;
        match told {
            Told::Progress { .. } => {}
            Told::Fetched { .. } => self.fetching -= 1,
            Told::Sent { .. } => self.sending -= 1,
        }
        Some(told)
    }

    /// Whether this is the first that arrives of an instance.
    fn is_first(&mut self, node: usize) -> bool {
        self.arriving.insert(node)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.fetching + self.sending > 0
    }

    /// Whether the plan counted on a result from there.
    pub(super) fn was_offered(&self, node: usize) -> bool {
        self.offered.contains(&node)
    }
}

impl Runner<'_> {
    /// Takes what the shared cache has said; waits so long for the first word.
    pub(super) fn hear(&mut self, wait: Duration) {
        let mut wait = wait;
        while let Some(told) = self.sharing.as_mut().and_then(|sharing| sharing.next(wait)) {
            wait = Duration::ZERO;
            match told {
                Told::Progress { id, done, total } if self.schedule.state(id) == State::Fetching => {
                    if self.sharing.as_mut().is_some_and(|sharing| sharing.is_first(id)) {
                        self.tell(id, &RunEvent::Fetching(total));
                    }
                    let progress = Progress { done, total, unit: "bytes".to_string(), note: String::new() };
                    self.tell(id, &RunEvent::Progress(&progress));
                }
                Told::Progress { .. } => {}
                Told::Fetched { id, outcome, bytes } => self.fetched(id, outcome, bytes),
                Told::Sent { id, outcome, bytes } => self.sent(id, outcome, bytes),
            }
        }
    }

    /// The shared cache has given a result, or has none: then it is made here.
    fn fetched(&mut self, node: usize, outcome: Result<Option<Arc<Record>>, Trouble>, bytes: u64) {
        let reason = match outcome {
            Ok(Some(record)) => {
                self.finish(node, &record, &RunEvent::Fetched(bytes), Outcome::Fetched);
                return;
            }
            Err(trouble @ (Trouble::Refused(_) | Trouble::Local(_))) => Some(trouble.to_string()),
            // Of a cache that cannot be reached, the store tells once.
            Ok(None) | Err(Trouble::Unreachable(_) | Trouble::Stopped) => None,
        };
        if let Some(reason) = reason {
            self.tell(node, &RunEvent::Warned(&format!("not fetched: {reason}")));
        }
        if self.sharing.as_ref().is_some_and(|sharing| sharing.was_offered(node)) {
            // Keys were planned with this result; what is made instead may have other bytes.
            self.planned.fill(None);
        }
        if let Some(running) = self.running.get(&node) {
            self.schedule.queue(node, running.size());
        }
    }

    fn sent(&mut self, node: usize, outcome: Result<Sent, Trouble>, bytes: u64) {
        match outcome {
            Ok(Sent::Observation(differing)) if !differing.is_empty() => {
                self.sent += 1;
                let differing = differing.join(", ");
                let message = format!("the shared cache has another result, which differs in {differing}");
                self.tell(node, &RunEvent::Warned(&message));
            }
            Ok(_) => {
                self.sent += 1;
                self.tell(node, &RunEvent::Sent(bytes));
            }
            Err(trouble) => {
                self.unsent += 1;
                if let Trouble::Refused(_) | Trouble::Local(_) = trouble {
                    self.tell(node, &RunEvent::Warned(&format!("not sent to the shared cache: {trouble}")));
                }
            }
        }
    }

    /// Waits until all that was made is in the shared cache. Returns whether the person did not want to wait.
    pub(super) fn send_rest(&mut self, interrupted: &AtomicBool) -> bool {
        let mut announced = usize::MAX;
        loop {
            let is_interrupted = interrupted.load(Ordering::SeqCst);
            if is_interrupted && let Some(remote) = self.store.remote() {
                remote.stop();
            }
            let left = self.sharing.as_ref().map_or(0, |sharing| sharing.sending);
            if left == 0 {
                return is_interrupted;
            }
            if left < announced && !is_interrupted {
                self.observer.sending(left);
                announced = left;
            }
            self.hear(Duration::from_millis(50));
        }
    }
}
