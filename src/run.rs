//! The loop of a run: asks the [`Schedule`] what is next, gives jobs to workers, commits what they made.
//!
//! Everything that a person sees goes through an [`Observer`]; nothing here prints. All changes of state are the
//! schedule's; all writing to the cache is the store's.

mod accept;
mod ends;
mod inputs;
mod job;
mod older;
mod recorder;
mod remember;
mod sharing;
mod tell;

pub use inputs::{quarantine_damaged, rely_on};
pub use recorder::Recorder;
pub use tell::{Finished, Observer, RunEvent, Summary};

use crate::diagnostic::Diagnostic;
use crate::exec::{Event, Local, Placement, Report};
use crate::graph::Graph;
use crate::key::Digest;
use crate::lock::Held;
use crate::manifest::{Instance, Pipeline};
use crate::plan::{History, Known, Plan, Resolver, Status};
use crate::record::Record;
use crate::resources::{Grant, Limits, Needs};
use crate::schedule::{Outcome, Schedule, State};
use crate::secrets::Secrets;
use crate::stage::Cause;
use crate::store::{Store, StoreError};
use ends::NEARLY_DONE;
use job::Running;
use sharing::Sharing;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// How a run is to be done.
#[derive(Debug)]
pub struct Options {
    /// The titer binary, for workers.
    pub program: PathBuf,
    /// What the jobs may use of the machine, all together.
    pub limits: Limits,
    /// The project's root, where commands are run.
    pub root: PathBuf,
    /// Values of the secrets that commands ask for.
    pub secrets: Secrets,
    /// Whether independent stages go on after a failure.
    pub keep_going: bool,
    /// The instances that run even if they are cached.
    pub forced: BTreeSet<usize>,
    /// The folder in which results are shown.
    pub out: PathBuf,
    /// What the run is for.
    pub purpose: Purpose,
    /// The lock that it must hold to.
    pub locked: Option<Held>,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To make what is not in the cache.
    Make,
    /// To do again what is in the cache: every instance reads what the cache has, not what this run makes, so that none
    /// waits for another; nothing is shown under `out/`, and nothing is remembered but observations.
    Audit,
}

/// Runs what `plan` says. `interrupted` may be set at any time from outside. A stage's failure is in the summary.
pub fn run(
    resolver: &Resolver<'_>,
    pipeline: &Pipeline,
    store: &Store,
    plan: Plan,
    options: &Options,
    observer: &mut dyn Observer,
    interrupted: &AtomicBool,
) -> Finished {
    let (started, begun) = (Instant::now(), SystemTime::now());
    let wanted: Vec<usize> = plan.entries.iter().map(|(node, _)| *node).collect();
    // A run with nothing to do needs no order.
    let is_work = !plan.is_empty();
    let history = if is_work { History::of(store, pipeline, &plan) } else { History::default() };
    let costs: Vec<u64> = pipeline.instances.iter().map(|instance| history.cost(instance)).collect();
    let has_gpus = options.limits.has_gpus();
    let needs = pipeline.instances.iter().map(|instance| Needs::of(&instance.recipe, &instance.demands, has_gpus));
    let nodes = pipeline.instances.len();
    let offers = plan.entries.iter().filter(|(_, status)| matches!(status, Status::Remote(_)));
    let offered = offers.map(|(node, _)| *node).collect();
    let outdated = older::outdated(&plan);
    // An audit makes everything itself.
    let is_sharing = options.purpose == Purpose::Make && is_work;
    let (upstream, planned, known) = match options.purpose {
        Purpose::Make => (Graph::of(pipeline).upstream(), plan.known, vec![None; nodes]),
        Purpose::Audit => (vec![Vec::new(); nodes], vec![None; nodes], plan.known),
    };
    let schedule = Schedule::new(upstream, &wanted, &costs, needs.collect(), &options.limits);
    // What a chatty stage says waits for being read, not in memory.
    let (sender, reports) = sync_channel(1024);
    std::thread::scope(|scope| {
        let mut runner = Runner {
            resolver,
            pipeline,
            store,
            options,
            observer,
            history,
            schedule,
            planned,
            known,
            keys: BTreeMap::new(),
            working: BTreeMap::new(),
            running: BTreeMap::new(),
            workers: Local::new(options.program.clone(), options.secrets.clone(), sender),
            sharing: if is_sharing { Sharing::start(scope, store, offered) } else { None },
            sent: 0,
            unsent: 0,
            till: store.till(),
            stopping: false,
            interrupted: None,
        };
        let was_interrupted = runner.go(&reports, interrupted);
        let was_interrupted = runner.send_rest(interrupted) || was_interrupted;
        runner.remember(is_work);
        let summary = Summary {
            counts: runner.schedule.counts(),
            sent: runner.sent,
            unsent: runner.unsent,
            hidden: runner.hide_older(&outdated, begun),
            interrupted: was_interrupted,
            seconds: started.elapsed().as_secs_f64(),
        };
        let Runner { keys, known, till, .. } = runner;
        let _ = std::fs::remove_file(till);
        Finished { summary, keys, known }
    })
}

struct Runner<'a> {
    resolver: &'a Resolver<'a>,
    pipeline: &'a Pipeline,
    store: &'a Store,
    options: &'a Options,
    observer: &'a mut dyn Observer,
    history: History,
    schedule: Schedule,
    /// Records that the plan found.
    planned: Known,
    /// Records of what is done in this run.
    known: Known,
    /// The key of every instance that got so far.
    keys: BTreeMap<usize, Digest>,
    /// Which instance makes a key, of those queued or running.
    working: BTreeMap<Digest, usize>,
    running: BTreeMap<usize, Running>,
    workers: Local,
    /// The shared cache.
    sharing: Option<Sharing>,
    sent: usize,
    unsent: usize,
    /// Where what it spends on APIs is counted, if that is limited.
    till: PathBuf,
    /// After a failure without `keep_going`: nothing new starts, what runs is waited for.
    stopping: bool,
    /// Since when the person wants it to end.
    interrupted: Option<Instant>,
}

impl Runner<'_> {
    /// Returns whether it was interrupted.
    fn go(&mut self, reports: &Receiver<Report>, interrupted: &AtomicBool) -> bool {
        loop {
            if interrupted.load(Ordering::SeqCst) && self.interrupted.is_none() {
                self.interrupt();
            }
            if let Some(since) = self.interrupted {
                if !self.schedule.is_busy() || since.elapsed() > NEARLY_DONE {
                    self.workers.kill();
                    return true;
                }
            } else {
                while let Some(node) = self.schedule.next_ready() {
                    self.look_up(node);
                }
                self.wake();
                while !self.stopping
                    && let Some((node, grant)) = self.schedule.next_queued()
                {
                    self.start(node, grant);
                }
                // A start may have found that another process has made it: what reads it is ready now.
                if self.schedule.next_ready().is_some() {
                    continue;
                }
                let elsewhere = self.schedule.all_elsewhere();
                if !self.schedule.is_busy() && (self.stopping || elsewhere.is_empty()) {
                    return false;
                }
                elsewhere.into_iter().for_each(|node| self.look_elsewhere(node));
            }
            self.watch_the_clock();
            self.hear(Duration::ZERO);
            // There are two to listen to, in turn, as long as something is on its way.
            let is_busy = self.sharing.as_ref().is_some_and(Sharing::is_busy);
            match reports.recv_timeout(Duration::from_millis(if is_busy { 2 } else { 50 })) {
                Ok(report) => self.report(report),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// A ready instance: its key is known now; is its result?
    fn look_up(&mut self, node: usize) {
        if let Some(record) = self.planned[node].take() {
            self.finish(node, &record, &RunEvent::Cached, Outcome::Cached);
            return;
        }
        let materials = match self.resolver.materials(node, &self.known) {
            Ok(materials) => materials,
            Err(problems) => return self.fail(node, Cause::Error, &words(&problems), false),
        };
        let document = self.resolver.document(node, &materials);
        let key = document.key();
        self.keys.insert(node, key);
        let name = self.pipeline.instances[node].id.to_string();
        if let Err(error) = self.store.rely_on_named([(key, name.as_str())]) {
            return self.fail(node, Cause::Error, &error.to_string(), false);
        }
        if let Some(message) = self.locked(node, |held, name| held.refuses_key(name, &key)) {
            return self.fail(node, Cause::Error, &message, false);
        }
        if let Some(&leader) = self.working.get(&key) {
            return self.follow(node, leader);
        }
        match self.made(node, &key) {
            Ok(Some(record)) => {
                self.finish(node, &record, &RunEvent::Cached, Outcome::Cached);
                return;
            }
            Ok(None) => {}
            Err(error) => return self.fail(node, Cause::Error, &error.to_string(), false),
        }
        self.working.insert(key, node);
        let is_forced = self.options.forced.contains(&node);
        let running = Running::new(document, materials, is_forced);
        let instance = &self.pipeline.instances[node];
        let held = self.options.locked.as_ref();
        let locked = held.and_then(|held| held.outputs(&instance.id.to_string())).cloned();
        let mut sharing = self.sharing.as_mut().filter(|_| !is_forced && !self.stopping);
        match sharing.as_mut().is_some_and(|sharing| sharing.fetch(node, &running.document, &instance.recipe, locked)) {
            true => self.schedule.fetch(node),
            false => self.schedule.queue(node, running.size()),
        }
        self.running.insert(node, running);
    }

    /// Another instance makes the key. Of two that have not begun, the one that requires a device does it, so that the
    /// result is one for both.
    fn follow(&mut self, node: usize, leader: usize) {
        let requires = |node: usize| self.pipeline.instances[node].demands.require.is_some();
        let has_begun = self.schedule.state(leader) != State::Queued || self.options.forced.contains(&leader);
        if has_begun || requires(leader) || !requires(node) {
            return self.schedule.follow(node, leader);
        }
        let Some(running) = self.running.remove(&leader) else { return };
        self.working.insert(running.document.key(), node);
        self.schedule.queue(node, running.size());
        self.running.insert(node, running);
        for other in self.schedule.followers(leader).into_iter().chain([leader]) {
            self.schedule.follow(other, node);
        }
    }

    /// Another process was at it: has it finished, or gone away?
    fn look_elsewhere(&mut self, node: usize) {
        if !self.is_free(node) {
            return;
        }
        if let Some(running) = self.running.get(&node) {
            self.schedule.queue(node, running.size());
        }
    }

    /// Whether this process may make the node. If another has made it meanwhile, the node is done with that.
    fn is_free(&mut self, node: usize) -> bool {
        let Some(running) = self.running.get_mut(&node) else { return false };
        let key = running.document.key();
        // A forced run is an observation, which any number of processes may make.
        if self.options.forced.contains(&node) {
            return match running.claim_again(self.store) {
                Ok(()) => true,
                Err(error) => {
                    self.fail(node, Cause::Error, &format!("{error:#}"), false);
                    false
                }
            };
        }
        if running.is_claimed() {
            return true;
        }
        let claimed = running.claim(&key, self.store);
        // Only now: the other process may have finished between the first look and the claim.
        match (claimed, self.made(node, &key)) {
            (Err(error), _) => self.fail(node, Cause::Error, &format!("{error:#}"), false),
            (_, Ok(Some(record))) => {
                self.finish(node, &record, &RunEvent::Shared, Outcome::Shared);
            }
            (Ok(claimed), _) => return claimed,
        }
        false
    }

    /// The record of a key that is in the cache with all its outputs, unless it is to be made again.
    fn made(&self, node: usize, key: &Digest) -> Result<Option<Arc<Record>>, StoreError> {
        if self.options.forced.contains(&node) {
            return Ok(None);
        }
        let record = self.store.get(key)?;
        Ok(record.filter(|record| self.store.complete(record)).map(Arc::new))
    }

    fn start(&mut self, node: usize, grant: Grant) {
        if !self.is_free(node) {
            if self.schedule.state(node) == State::Queued {
                self.schedule.elsewhere(node);
                self.tell(node, &RunEvent::Elsewhere);
            }
            return;
        }
        let instance = &self.pipeline.instances[node];
        let (requests_per_second, max_cost) = (self.rate(instance), self.max_cost(instance));
        let Some(running) = self.running.get_mut(&node) else { return };
        let placement = Placement {
            threads: instance.demands.threads.map_or(grant.cpus, |threads| threads.get() as usize),
            gpus: self.options.limits.gpus.is_some().then(|| grant.gpus.clone()),
            requests_per_second,
            max_cost,
        };
        match running.start(node, instance, self.store, &self.workers, &self.options.root, &placement) {
            Ok(()) => {
                let device = running.device().to_string();
                self.schedule.start(node, grant);
                self.tell(node, &RunEvent::Started(placement.threads, &device));
            }
            Err(error) => self.fail(node, Cause::Error, &format!("{error:#}"), false),
        }
    }

    /// What the run may spend, for who spends it.
    fn max_cost(&self, instance: &Instance) -> Option<(f64, PathBuf)> {
        let most = self.options.limits.max_cost.filter(|_| instance.recipe.asks_an_api())?;
        Some((most, std::path::absolute(&self.till).ok()?))
    }

    /// Its share of the requests to APIs, if it has network slots.
    fn rate(&self, instance: &Instance) -> Option<f64> {
        let slots = Needs::of(&instance.recipe, &instance.demands, self.options.limits.has_gpus()).network;
        let slots = u32::try_from(slots).ok().filter(|slots| *slots > 0)?;
        self.options.limits.rate(slots)
    }

    fn report(&mut self, Report { node, event }: Report) {
        let Some(running) = self.running.get_mut(&node) else { return };
        match event {
            Event::Progress(progress) => {
                self.tell(node, &RunEvent::Progress(&progress));
                if let Some(running) = self.running.get_mut(&node) {
                    running.progress(progress);
                }
            }
            Event::Warn(message) => self.warn(node, &message),
            Event::Log(message) => running.log(&message),
            Event::Device(device) => {
                running.computes_on(&device);
                self.tell(node, &RunEvent::ComputesOn(&device));
            }
            Event::Done if running.was_asked() => self.end_badly(node, Cause::Timeout, ""),
            Event::Done => self.commit(node),
            Event::Failed { cause, message } => {
                let cause = if running.was_asked() { Cause::Timeout } else { cause };
                self.end_badly(node, cause, &message);
            }
        }
    }

    fn warn(&mut self, node: usize, message: &str) {
        if let Some(running) = self.running.get_mut(&node) {
            running.warn(message);
            self.tell(node, &RunEvent::Warned(message));
        }
    }

    /// `has_log`: the work had begun, and what it said is kept.
    fn fail(&mut self, node: usize, cause: Cause, message: &str, has_log: bool) {
        let log = self.running.get(&node).filter(|_| has_log).and_then(Running::log_path).map(Path::to_path_buf);
        let failed: Vec<usize> = self.schedule.followers(node).into_iter().chain([node]).collect();
        failed.iter().for_each(|failed| self.note_failure(*failed, message));
        self.release(node);
        self.stopping = !self.options.keep_going;
        let blocked = self.schedule.fail(node);
        for failed in failed {
            self.tell(failed, &RunEvent::Failed(cause, message, log.as_deref()));
        }
        for node in blocked {
            self.tell(node, &RunEvent::Blocked);
        }
    }

    /// What the lock, if the run must hold to one, has against an instance.
    fn locked(&self, node: usize, refuses: impl Fn(&Held, &str) -> Option<String>) -> Option<String> {
        refuses(self.options.locked.as_ref()?, &self.pipeline.instances[node].id.to_string())
    }

    fn release(&mut self, node: usize) {
        self.running.remove(&node);
        if let Some(key) = self.keys.get(&node)
            && self.working.get(key) == Some(&node)
        {
            self.working.remove(key);
        }
    }

    fn tell(&mut self, node: usize, event: &RunEvent<'_>) {
        self.observer.event(node, event);
    }
}

fn words(problems: &[Diagnostic]) -> String {
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    messages.join("; ")
}
