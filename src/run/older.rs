//! What the view shows of instances that a run did not make.

use super::{RunEvent, Runner};
use crate::key::Digest;
use crate::plan::{Plan, Reason, Status};
use crate::store::view;
use std::collections::BTreeSet;
use std::time::SystemTime;

/// The instances whose older results are of an older manifest or of older data: what has changed, and what reads it. What is
/// only done again is not.
pub(super) fn outdated(plan: &Plan) -> BTreeSet<usize> {
    let mut outdated = BTreeSet::new();
    for (node, status) in &plan.entries {
        let is_outdated = match status {
            Status::Cached(_) | Status::Remote(_) => false,
            Status::Runs(reason) => *reason != Reason::Forced,
            Status::Waits { on, .. } => on.iter().any(|input| outdated.contains(input)),
        };
        if is_outdated {
            outdated.insert(*node);
        }
    }
    outdated
}

impl Runner<'_> {
    /// Takes out of the view what outdated instances show that were not made now: it is of an older manifest, or of older data.
    /// What another process has put there since the run began stays. Returns how many there were.
    pub(super) fn hide_older(&mut self, outdated: &BTreeSet<usize>, begun: SystemTime) -> usize {
        let mut hidden = 0;
        for &node in outdated {
            let is_current =
                |key: &Digest| self.store.get(key).ok().flatten().is_some_and(|it| self.store.complete(&it));
            let is_made = self.known[node].is_some() || self.planned[node].is_some();
            if is_made || self.keys.get(&node).is_some_and(is_current) {
                continue;
            }
            match view::hide(self.store, &self.options.out.join(self.pipeline.instances[node].id.folder()), begun) {
                Ok(was_there) => hidden += usize::from(was_there),
                Err(error) => {
                    self.tell(node, &RunEvent::Warned(&format!("its older result is still shown: {error:#}")))
                }
            }
        }
        hidden
    }
}
