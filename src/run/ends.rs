//! How work ends that is not done: by its time limit, by the person, by failing; and how it begins again.

use super::{RunEvent, Runner};
use crate::plan::Basis;
use crate::schedule::State;
use crate::stage::{Cause, Recipe};
use std::time::{Duration, Instant};

/// How long a job that is stopped may take to end by itself, before it is killed.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// After Ctrl-C, work that is expected to end within this time is waited for.
pub(super) const NEARLY_DONE: Duration = Duration::from_secs(10);

impl Runner<'_> {
    /// Queues again what has rested long enough after a failure.
    pub(super) fn wake(&mut self) {
        let rested: Vec<(usize, u64)> = self
            .running
            .iter()
            .filter(|(_, running)| running.is_rested())
            .map(|(node, running)| (*node, running.size()))
            .collect();
        for (node, size) in rested {
            if let Some(running) = self.running.get_mut(&node) {
                running.wake();
            }
            self.schedule.queue(node, size);
        }
    }

    /// Stops what has taken too long: first by asking.
    pub(super) fn watch_the_clock(&mut self) {
        for (node, running) in &mut self.running {
            let limit = self.pipeline.instances[*node].demands.time_limit;
            match running.overdue(limit.map(|limit| limit.duration())) {
                Some(over) if over > LAST_WORDS => self.workers.end(*node),
                Some(_) if running.ask_once() => self.workers.ask_to_end(*node),
                _ => {}
            }
        }
    }

    /// The person wants it to end: what is nearly done may come to its end, the rest is stopped.
    pub(super) fn interrupt(&mut self) {
        self.interrupted = Some(Instant::now());
        if let Some(remote) = self.store.remote() {
            remote.stop();
        }
        let mut waited_for = 0;
        for node in self.running.keys().copied().collect::<Vec<_>>() {
            match self.schedule.state(node) {
                State::Running if self.is_nearly_done(node) => waited_for += 1,
                // It writes down where it stands.
                State::Running if self.pipeline.instances[node].recipe.goes_on() => {
                    self.workers.ask_to_end(node);
                    waited_for += 1;
                }
                State::Running => self.workers.end(node),
                // It rests after a failure: nothing is there to be stopped.
                State::Resting => self.schedule.queue(node, 0),
                _ => {}
            }
        }
        self.observer.stopping(waited_for);
    }

    fn is_nearly_done(&self, node: usize) -> bool {
        let instance = &self.pipeline.instances[node];
        let Some(running) = self.running.get(&node) else { return false };
        // What other stages took says nothing of when this one ends.
        let like = || self.history.expect(instance).filter(|(_, basis)| *basis != Basis::Kind);
        let expected = || Some((like()?.0.seconds - running.seconds()).max(0.0));
        let rest = running.expected_rest().or_else(expected);
        let is_light = !instance.recipe.is_heavy() && !matches!(instance.recipe, Recipe::Command(_));
        rest.map_or(is_light, |rest| rest <= NEARLY_DONE.as_secs_f64())
    }

    /// Its work ended, not by being done: perhaps it is tried again.
    pub(super) fn end_badly(&mut self, node: usize, cause: Cause, message: &str) {
        let Some(running) = self.running.get_mut(&node) else { return };
        if self.interrupted.is_some() {
            running.log("stopped");
            self.schedule.rest(node);
            self.schedule.queue(node, 0);
            return self.tell(node, &RunEvent::Stopped);
        }
        let demands = &self.pipeline.instances[node].demands;
        let message = match (cause, demands.time_limit) {
            (Cause::Timeout, Some(limit)) => format!("it took longer than its `time_limit` of {} s", limit.0),
            _ => message.to_string(),
        };
        running.log(&format!("error: {message}"));
        let pause = demands.retry.as_ref().and_then(|retry| retry.pause(running.tries(), cause));
        match pause.filter(|_| !self.stopping) {
            Some(pause) => {
                running.rest(pause);
                self.schedule.rest(node);
                self.tell(node, &RunEvent::Retries(cause, &message, pause));
            }
            None if running.tries() > 1 => {
                let message = format!("{message} (tries: {})", running.tries());
                self.fail(node, cause, &message, true);
            }
            None => self.fail(node, cause, &message, true),
        }
    }
}
