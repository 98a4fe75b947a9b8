//! What is asked of outputs before they become the result of their key.

use super::Runner;

impl Runner<'_> {
    /// What the lock, or the stage itself, has against outputs that are about to become the result of their key. They are
    /// set apart: in the cache they would be the result for everybody. What is made beside a result is an observation, and
    /// may be kept.
    pub(super) fn refused(&self, node: usize) -> Option<String> {
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
}
