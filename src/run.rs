//! The loop of a run: asks the [`Schedule`] what is next, gives jobs to workers, commits what they made.
//!
//! Everything that a person sees goes through an [`Observer`]; nothing here prints. All changes of state are the
//! schedule's; all writing to the cache is the store's.

mod inputs;
mod job;
mod older;
mod recorder;
mod sharing;

pub use inputs::{quarantine_damaged, rely_on};
pub use recorder::Recorder;

use crate::diagnostic::Diagnostic;
use crate::exec::{Event, Local, Placement, Report, Secrets};
use crate::graph::Graph;
use crate::journal;
use crate::key::Digest;
use crate::lock::Held;
use crate::manifest::Pipeline;
use crate::plan::{History, Known, Plan, Resolver, Status};
use crate::record::Record;
use crate::resources::{Grant, Limits, Needs};
use crate::schedule::{Counts, Outcome, Schedule, State};
use crate::stage::{Cause, Progress, Recipe};
use crate::store::{Committed, Store, StoreError, view};
use job::Running;
use sharing::Sharing;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
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

/// What a run tells while it goes.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// An instance's outputs were in the cache.
    Cached,
    /// The shared cache has it; so many bytes are on their way.
    Fetching(u64),
    /// It came from the shared cache, and so many bytes with it.
    Fetched(u64),
    /// It is in the shared cache now; so many bytes were sent.
    Sent(u64),
    /// It has started, on that many threads and these graphics cards.
    Started(usize, &'a [String]),
    /// How far it is.
    Progress(&'a Progress),
    /// Something that the person should know.
    Warned(&'a str),
    /// It ran in that many seconds.
    Ran(f64),
    /// It ran although its key was made before: an observation. The outputs that differ from the canonical ones.
    Observed(f64, &'a [String], &'a Record),
    /// Another process is making it; the run waits for that.
    Elsewhere,
    /// Another instance with the same key ran, or another process made it.
    Shared,
    /// It failed and is tried again after a pause: why, in a word and in many.
    Retries(Cause, &'a str, Duration),
    /// It failed: why, and where its log is, if it has one.
    Failed(&'a str, Option<&'a Path>),
    /// The person stopped the run, and with it this.
    Stopped,
    /// Something that it reads failed.
    Blocked,
}

/// Who is told.
pub trait Observer {
    /// Something happened to an instance.
    fn event(&mut self, node: usize, event: &RunEvent<'_>);

    /// The person stopped the run; so many jobs are nearly done and are waited for.
    fn stopping(&mut self, waited_for: usize);

    /// All work is done; so many results are still on their way to the shared cache.
    fn sending(&mut self, left: usize);
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many instances ended how.
    pub counts: Counts,
    /// Results that were made and sent to the shared cache.
    pub sent: usize,
    /// Results that were made and could not be sent.
    pub unsent: usize,
    /// Whether the person stopped it.
    pub interrupted: bool,
    /// How many instances showed an older result, and have none now.
    pub hidden: usize,
    /// Wall time.
    pub seconds: f64,
}

impl Summary {
    /// How many instances ended how.
    pub fn ends(&self) -> journal::Counts {
        let Counts { wanted, cached, fetched, ran, shared, failed, blocked, .. } = self.counts;
        let unfinished = wanted - cached - fetched - ran - shared - failed - blocked;
        journal::Counts { wanted, cached, fetched, ran, shared, failed, blocked, unfinished }
    }
}

/// What is known after a run.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub summary: Summary,
    /// The key of every instance that got so far.
    pub keys: BTreeMap<usize, Digest>,
    /// The records of what is done.
    pub known: Known,
}

impl Finished {
    /// Whether all that was wanted is there.
    pub fn is_complete(&self) -> bool {
        let ends = self.summary.ends();
        !self.summary.interrupted && ends.failed + ends.blocked + ends.unfinished == 0
    }
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
    let history = if plan.is_empty() { History::default() } else { History::read(store, &pipeline.name) };
    let costs: Vec<u64> = pipeline.instances.iter().map(|instance| history.cost(&instance.id)).collect();
    let has_gpus = options.has_gpus();
    let needs = pipeline.instances.iter().map(|instance| Needs::of(&instance.recipe, &instance.demands, has_gpus));
    let nodes = pipeline.instances.len();
    let offers = plan.entries.iter().filter(|(_, status)| matches!(status, Status::Remote(_)));
    let offered = offers.map(|(node, _)| *node).collect();
    // An audit makes everything itself.
    let is_sharing = options.purpose == Purpose::Make && !plan.is_empty();
    let (upstream, planned, known) = match options.purpose {
        Purpose::Make => (Graph::of(pipeline).upstream(), plan.known, vec![None; nodes]),
        Purpose::Audit => (vec![Vec::new(); nodes], vec![None; nodes], plan.known),
    };
    let schedule = Schedule::new(upstream, &wanted, &costs, needs.collect(), &options.limits);
    let (sender, reports) = channel();
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
            stopping: false,
            interrupted: None,
        };
        let was_interrupted = runner.go(&reports, interrupted);
        let was_interrupted = runner.send_rest(interrupted) || was_interrupted;
        runner.remember();
        let summary = Summary {
            counts: runner.schedule.counts(),
            sent: runner.sent,
            unsent: runner.unsent,
            hidden: runner.hide_older(&wanted, begun),
            interrupted: was_interrupted,
            seconds: started.elapsed().as_secs_f64(),
        };
        let Runner { keys, known, .. } = runner;
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
    /// After a failure without `keep_going`: nothing new starts, what runs is waited for.
    stopping: bool,
    /// Since when the person wants it to end.
    interrupted: Option<Instant>,
}

/// How long a job that is stopped may take to end by itself, before it is killed.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// After Ctrl-C, work that is expected to end within this time is waited for.
const NEARLY_DONE: Duration = Duration::from_secs(10);

impl Options {
    fn has_gpus(&self) -> bool {
        self.limits.gpus.as_ref().is_some_and(|cards| !cards.0.is_empty())
    }
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
            return self.finish(node, &record, &RunEvent::Cached, Outcome::Cached);
        }
        let materials = match self.resolver.materials(node, &self.known) {
            Ok(materials) => materials,
            Err(problems) => return self.fail(node, &words(&problems), false),
        };
        let document = self.resolver.document(node, &materials);
        let key = document.key();
        self.keys.insert(node, key);
        if let Err(error) = self.store.rely_on([key]) {
            return self.fail(node, &error.to_string(), false);
        }
        if let Some(message) = self.locked(node, |held, name| held.refuses_key(name, &key)) {
            return self.fail(node, &message, false);
        }
        if let Some(&leader) = self.working.get(&key) {
            return self.schedule.follow(node, leader);
        }
        match self.made(node, &key) {
            Ok(Some(record)) => return self.finish(node, &record, &RunEvent::Cached, Outcome::Cached),
            Ok(None) => {}
            Err(error) => return self.fail(node, &error.to_string(), false),
        }
        self.working.insert(key, node);
        let running = Running::new(document, materials);
        let is_forced = self.options.forced.contains(&node);
        let recipe = &self.pipeline.instances[node].recipe;
        let mut sharing = self.sharing.as_mut().filter(|_| !is_forced);
        match sharing.as_mut().is_some_and(|sharing| sharing.fetch(node, &running.document, recipe)) {
            true => self.schedule.fetch(node),
            false => self.schedule.queue(node, running.size()),
        }
        self.running.insert(node, running);
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
        if self.options.forced.contains(&node) || running.is_claimed() {
            return true;
        }
        let claimed = running.claim(&key, self.store);
        // Only now: the other process may have finished between the first look and the claim.
        match (claimed, self.made(node, &key)) {
            (Err(error), _) => self.fail(node, &format!("{error:#}"), false),
            (_, Ok(Some(record))) => self.finish(node, &record, &RunEvent::Shared, Outcome::Shared),
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
        let Some(running) = self.running.get_mut(&node) else { return };
        let instance = &self.pipeline.instances[node];
        let placement = Placement {
            threads: instance.demands.threads.map_or(grant.cpus, |threads| threads.get() as usize),
            gpus: self.options.has_gpus().then(|| grant.gpus.clone()),
            requests_per_second: instance.demands.network.and_then(|slots| self.options.limits.rate(slots)),
        };
        match running.start(node, instance, self.store, &self.workers, &self.options.root, &placement) {
            Ok(()) => {
                self.schedule.start(node, grant);
                let cards = placement.gpus.as_deref().unwrap_or_default();
                self.tell(node, &RunEvent::Started(placement.threads, cards));
            }
            Err(error) => self.fail(node, &format!("{error:#}"), false),
        }
    }

    /// Queues again what has rested long enough after a failure.
    fn wake(&mut self) {
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
    fn watch_the_clock(&mut self) {
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
    fn interrupt(&mut self) {
        self.interrupted = Some(Instant::now());
        if let Some(remote) = self.store.remote() {
            remote.stop();
        }
        let mut waited_for = 0;
        for node in self.running.keys().copied().collect::<Vec<_>>() {
            match self.schedule.state(node) {
                State::Running if self.is_nearly_done(node) => waited_for += 1,
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
        let expected = || Some((self.history.expect(&instance.id)?.0.seconds - running.seconds()).max(0.0));
        let rest = running.expected_rest().or_else(expected);
        let is_light = !instance.recipe.is_heavy() && !matches!(instance.recipe, Recipe::Command(_));
        rest.map_or(is_light, |rest| rest <= NEARLY_DONE.as_secs_f64())
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
            Event::Warn(message) => {
                running.warn(&message);
                self.tell(node, &RunEvent::Warned(&message));
            }
            Event::Log(message) => running.log(&message),
            Event::Done if running.was_asked() => self.end_badly(node, Cause::Timeout, ""),
            Event::Done => self.commit(node),
            Event::Failed { cause, message } => {
                let cause = if running.was_asked() { Cause::Timeout } else { cause };
                self.end_badly(node, cause, &message);
            }
        }
    }

    /// Its work ended, not by being done: perhaps it is tried again.
    fn end_badly(&mut self, node: usize, cause: Cause, message: &str) {
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
                self.fail(node, &message, true);
            }
            None => self.fail(node, &message, true),
        }
    }

    fn commit(&mut self, node: usize) {
        // A file of the person's that changed under the worker's hands would give a result under a wrong key.
        self.resolver.forget();
        let unchanged = self.resolver.materials(node, &self.known).ok();
        let Some(running) = self.running.get(&node) else { return };
        if unchanged.is_none_or(|materials| self.resolver.document(node, &materials) != running.document) {
            return self.fail(node, "an input file was changed while it was read; run again", true);
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
        let Some(running) = self.running.get(&node) else { return };
        match running.commit(&self.pipeline.instances[node], self.store) {
            Ok(Committed::Canonical(record)) => {
                let record = Arc::new(record);
                self.finish(node, &record, &RunEvent::Ran(seconds), Outcome::Ran);
                if let Some(sharing) = &mut self.sharing {
                    sharing.send(node, &record);
                }
            }
            Ok(Committed::Observation { canonical, observed, differing }) => {
                if let Some(message) = self.locked(node, |held, name| held.refuses_outputs(name, &observed)) {
                    return self.fail(node, &message, true);
                }
                let event = RunEvent::Observed(seconds, &differing, &observed);
                self.finish(node, &Arc::new(canonical), &event, Outcome::Ran);
            }
            Err(error) => self.fail(node, &format!("{error:#}"), true),
        }
    }

    fn finish(&mut self, node: usize, record: &Arc<Record>, event: &RunEvent<'_>, outcome: Outcome) {
        self.keys.insert(node, record.key);
        if let Some(message) = self.locked(node, |held, name| held.refuses_outputs(name, record)) {
            return self.fail(node, &message, false);
        }
        self.release(node);
        let followers = self.schedule.done(node, outcome);
        self.settle(node, record, event);
        for follower in followers {
            self.settle(follower, record, &RunEvent::Shared);
        }
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

    /// `has_log`: the work had begun, and what it said is kept.
    fn fail(&mut self, node: usize, message: &str, has_log: bool) {
        self.release(node);
        self.stopping = !self.options.keep_going;
        let log = self.keys.get(&node).filter(|_| has_log).map(|key| self.store.log_path(key));
        let followers = self.schedule.followers(node);
        let blocked = self.schedule.fail(node);
        for failed in followers.into_iter().chain([node]) {
            self.tell(failed, &RunEvent::Failed(message, log.as_deref()));
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

    /// Keeps which instance had which key, for `why` and for the next plan. Not knowing it costs an explanation only.
    fn remember(&self) {
        if self.options.purpose == Purpose::Audit {
            return self.store.save();
        }
        let mut last = self.store.last_run(&self.pipeline.name).unwrap_or_default();
        last.extend(self.keys.iter().map(|(node, key)| (self.pipeline.instances[*node].id.to_string(), *key)));
        let _ = self.store.set_last_run(&self.pipeline.name, &last);
        self.store.save();
    }
}

fn words(problems: &[Diagnostic]) -> String {
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    messages.join("; ")
}
