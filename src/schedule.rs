//! The state of every stage instance during a run, and what may start next.
//!
//! A machine without threads and without a clock: [`crate::run`] feeds it what happened and asks what is next. One
//! function, `Schedule::set`, makes every change of a state and keeps the counters. Knows nodes and edges by number, and
//! what each needs of the machine; neither keys nor processes.

use crate::resources::{Grant, Limits, Needs, Pool};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Where one instance stands. The way is `Waiting → Ready → Queued → Running → Done`, with a short cut from `Ready` to
/// `Done` for what the cache has, one by `Fetching` for what the shared cache has, a way round by `Elsewhere` for what
/// another process makes, one back from `Running` by `Resting` for what is tried again, and `Failed` or `Blocked` at the
/// end of the bad ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not wanted in this run.
    Unwanted,
    /// Some of its inputs are not there yet.
    Waiting,
    /// All inputs are there; nobody has looked into the cache yet.
    Ready,
    /// Must run, and waits for a free slot.
    Queued,
    /// Must run, but another process is at it: its result will serve.
    Elsewhere,
    /// It is not in the cache; the shared one is asked for it.
    Fetching,
    /// Another instance with the same key is queued or running; its result will serve.
    Following {
        /// The one that works.
        leader: usize,
    },
    /// Working.
    Running,
    /// It failed and is tried again, but not yet.
    Resting,
    /// Its outputs are in the cache.
    Done(Outcome),
    /// Its work failed.
    Failed,
    /// Something upstream failed.
    Blocked,
}

/// How an instance came to its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They were in the cache.
    Cached,
    /// They came from the shared cache.
    Fetched,
    /// It ran.
    Ran,
    /// An instance with the same key ran.
    Shared,
}

/// How many instances stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that are wanted.
    pub wanted: usize,
    /// Done from the cache.
    pub cached: usize,
    /// Done from the shared cache.
    pub fetched: usize,
    /// Done by running.
    pub ran: usize,
    /// Done by another instance of the same key.
    pub shared: usize,
    /// Failed.
    pub failed: usize,
    /// Blocked by a failure.
    pub blocked: usize,
    /// Running.
    pub running: usize,
    /// Failed, and waiting for a new try.
    pub resting: usize,
    /// Looked for in the shared cache.
    pub fetching: usize,
}

/// The states of all instances of a run.
#[derive(Debug)]
pub struct Schedule {
    upstream: Vec<Vec<usize>>,
    downstream: Vec<Vec<usize>>,
    states: Vec<State>,
    /// Length of the longest way from the node to a target, in expected work, and the bytes that the node reads: longer
    /// ways start first, and of equal ones (nobody knows yet what they cost) those that read more.
    priority: Vec<(u64, u64)>,
    ready: BTreeSet<usize>,
    /// The most urgent first.
    queued: BTreeSet<(Reverse<(u64, u64)>, usize)>,
    elsewhere: BTreeSet<usize>,
    /// Who waits for the work of whom.
    followers: BTreeMap<usize, Vec<usize>>,
    counts: Counts,
    needs: Vec<Needs>,
    pool: Pool,
    grants: BTreeMap<usize, Grant>,
}

impl Schedule {
    /// `upstream[i]` are the nodes that node `i` reads; nodes are in topological order. `cost` is the expected work of
    /// a node in any unit, `needs` what it needs of the machine; `limits` is what that has.
    pub fn new(upstream: Vec<Vec<usize>>, wanted: &[usize], cost: &[u64], needs: Vec<Needs>, limits: &Limits) -> Self {
        let nodes = upstream.len();
        let mut downstream = vec![Vec::new(); nodes];
        for (node, inputs) in upstream.iter().enumerate() {
            for &input in inputs {
                downstream[input].push(node);
            }
        }
        let mut priority = vec![(0, 0); nodes];
        for node in (0..nodes).rev() {
            let below = downstream[node].iter().map(|&user| priority[user].0).max().unwrap_or(0);
            priority[node].0 = below + cost[node];
        }
        let mut schedule = Self {
            upstream,
            downstream,
            states: vec![State::Unwanted; nodes],
            priority,
            ready: BTreeSet::new(),
            queued: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            followers: BTreeMap::new(),
            counts: Counts::default(),
            needs,
            pool: Pool::new(limits),
            grants: BTreeMap::new(),
        };
        for &node in wanted {
            schedule.set(node, State::Waiting);
        }
        for &node in wanted {
            schedule.wake(node);
        }
        schedule
    }

    /// The state of a node.
    pub fn state(&self, node: usize) -> State {
        self.states[node]
    }

    /// How many stand where.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Any instance that is ready to be looked up in the cache.
    pub fn next_ready(&self) -> Option<usize> {
        self.ready.first().copied()
    }

    /// The queued instance with the longest way before it that finds what it needs, and what it gets: of processors an
    /// equal share of what is free, so that a lone training has all of them and many have one each. What a more urgent
    /// one waits for is kept for that. `None`: nothing can start now.
    pub fn next_queued(&self) -> Option<(usize, Grant)> {
        if self.queued.is_empty() || self.pool.is_exhausted() {
            return None;
        }
        let mut left = self.pool.clone();
        for &(_, node) in &self.queued {
            if let Some(grant) = left.offer(&self.needs[node], self.queued.len()) {
                return Some((node, grant));
            }
            left.reserve(&self.needs[node]);
            if left.is_exhausted() {
                break;
            }
        }
        None
    }

    /// Whether something is running, will be tried again, or is on its way from the shared cache.
    pub fn is_busy(&self) -> bool {
        self.counts.running > 0 || self.counts.resting > 0 || self.counts.fetching > 0
    }

    /// What a running node holds.
    pub fn grant(&self, node: usize) -> Option<&Grant> {
        self.grants.get(&node)
    }

    /// The node must run, and reads so many bytes.
    pub fn queue(&mut self, node: usize, size: u64) {
        self.priority[node].1 = size;
        self.set(node, State::Queued);
    }

    /// Another process is making the node's result.
    pub fn elsewhere(&mut self, node: usize) {
        self.set(node, State::Elsewhere);
    }

    /// The nodes that other processes are making.
    pub fn all_elsewhere(&self) -> Vec<usize> {
        self.elsewhere.iter().copied().collect()
    }

    /// The shared cache is asked for the node's result.
    pub fn fetch(&mut self, node: usize) {
        self.set(node, State::Fetching);
    }

    /// The node's result will be that of another, which makes the same key.
    pub fn follow(&mut self, node: usize, leader: usize) {
        self.set(node, State::Following { leader });
    }

    /// The node has started with what it was offered.
    pub fn start(&mut self, node: usize, grant: Grant) {
        self.pool.take(&grant);
        self.grants.insert(node, grant);
        self.set(node, State::Running);
    }

    /// The running node failed, and will be queued again later.
    pub fn rest(&mut self, node: usize) {
        self.set(node, State::Resting);
    }

    /// The node's outputs are there. Returns the followers that are done with it.
    pub fn done(&mut self, node: usize, outcome: Outcome) -> Vec<usize> {
        let followers = self.followers(node);
        self.set(node, State::Done(outcome));
        for &follower in &followers {
            self.set(follower, State::Done(Outcome::Shared));
        }
        for done in followers.iter().chain([&node]) {
            for user in self.downstream[*done].clone() {
                self.wake(user);
            }
        }
        followers
    }

    /// The node failed; its followers fail with it, and everything downstream is blocked. Returns the blocked ones.
    pub fn fail(&mut self, node: usize) -> Vec<usize> {
        let mut failed = self.followers(node);
        failed.push(node);
        let mut blocked = Vec::new();
        let mut open = Vec::new();
        for &node in &failed {
            self.set(node, State::Failed);
            open.extend(self.downstream[node].iter().copied());
        }
        while let Some(node) = open.pop() {
            if self.states[node] == State::Waiting {
                self.set(node, State::Blocked);
                blocked.push(node);
                open.extend(self.downstream[node].iter().copied());
            }
        }
        blocked.sort_unstable();
        blocked
    }

    /// The nodes that wait for the work of `leader`, as it is theirs too.
    pub fn followers(&self, leader: usize) -> Vec<usize> {
        self.followers.get(&leader).cloned().unwrap_or_default()
    }

    fn wake(&mut self, node: usize) {
        let done = |input: &usize| matches!(self.states[*input], State::Done(_));
        if self.states[node] == State::Waiting && self.upstream[node].iter().all(done) {
            self.set(node, State::Ready);
        }
    }

    /// The one place where a state changes.
    fn set(&mut self, node: usize, state: State) {
        match self.states[node] {
            State::Unwanted => self.counts.wanted += 1,
            State::Ready => {
                self.ready.remove(&node);
            }
            State::Queued => {
                self.queued.remove(&(Reverse(self.priority[node]), node));
            }
            State::Elsewhere => {
                self.elsewhere.remove(&node);
            }
            State::Running => {
                if let Some(grant) = self.grants.remove(&node) {
                    self.pool.give_back(grant);
                }
                self.counts.running -= 1;
            }
            State::Resting => self.counts.resting -= 1,
            State::Fetching => self.counts.fetching -= 1,
            State::Following { leader } => {
                if let Some(followers) = self.followers.get_mut(&leader) {
                    followers.retain(|follower| *follower != node);
                }
            }
            State::Waiting => {}
            State::Done(_) | State::Failed | State::Blocked => {
                debug_assert!(false, "node {node} has ended and cannot become {state:?}");
            }
        }
        match state {
            State::Ready => {
                self.ready.insert(node);
            }
            State::Queued => {
                self.queued.insert((Reverse(self.priority[node]), node));
            }
            State::Elsewhere => {
                self.elsewhere.insert(node);
            }
            State::Running => self.counts.running += 1,
            State::Resting => self.counts.resting += 1,
            State::Fetching => self.counts.fetching += 1,
            State::Following { leader } => self.followers.entry(leader).or_default().push(node),
            State::Done(Outcome::Cached) => self.counts.cached += 1,
            State::Done(Outcome::Fetched) => self.counts.fetched += 1,
            State::Done(Outcome::Ran) => self.counts.ran += 1,
            State::Done(Outcome::Shared) => self.counts.shared += 1,
            State::Failed => self.counts.failed += 1,
            State::Blocked => self.counts.blocked += 1,
            State::Unwanted | State::Waiting => {}
        }
        self.states[node] = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Cards;
    use crate::stage::Kind;
    use std::num::NonZeroU32;

    const NEEDS: Needs = Needs { kind: Kind::Mix, cpus: None, memory: 0, gpus: 0, network: 0 };

    fn schedule(upstream: Vec<Vec<usize>>, wanted: &[usize], cost: &[u64], cpus: u32) -> Schedule {
        let needs = vec![NEEDS; upstream.len()];
        Schedule::new(upstream, wanted, cost, needs, &Limits { cpus: NonZeroU32::new(cpus), ..Limits::default() })
    }

    /// The next node and its processors.
    fn next(schedule: &Schedule) -> Option<(usize, usize)> {
        schedule.next_queued().map(|(node, grant)| (node, grant.cpus))
    }

    fn start(schedule: &mut Schedule) -> usize {
        let (node, grant) = schedule.next_queued().unwrap();
        schedule.start(node, grant);
        node
    }

    /// 0 → 1 → 3, 0 → 2 → 3 (a diamond).
    fn diamond(slots: u32) -> Schedule {
        schedule(vec![vec![], vec![0], vec![0], vec![1, 2]], &[0, 1, 2, 3], &[1, 1, 5, 1], slots)
    }

    #[test]
    fn what_is_cached_wakes_what_reads_it() {
        let mut schedule = diamond(2);
        assert_eq!(schedule.next_ready(), Some(0));
        schedule.done(0, Outcome::Cached);
        assert_eq!(schedule.next_ready(), Some(1));
        schedule.done(1, Outcome::Cached);
        assert_eq!(schedule.state(3), State::Waiting, "2 is not done");
        schedule.done(2, Outcome::Cached);
        assert_eq!(schedule.next_ready(), Some(3));
        schedule.done(3, Outcome::Cached);
        assert_eq!(schedule.counts(), Counts { wanted: 4, cached: 4, ..Counts::default() });
    }

    #[test]
    fn the_longest_way_starts_first_and_slots_are_shared() {
        let mut schedule = diamond(4);
        schedule.queue(0, 0);
        assert_eq!(next(&schedule), Some((0, 4)), "a lone node takes all");
        start(&mut schedule);
        assert_eq!(next(&schedule), None);
        schedule.done(0, Outcome::Ran);
        schedule.queue(1, 9);
        schedule.queue(2, 0);
        assert_eq!(next(&schedule), Some((2, 2)));
        start(&mut schedule);
        assert_eq!(next(&schedule), Some((1, 2)));
    }

    #[test]
    fn of_equal_ways_the_one_that_reads_more_starts_first() {
        let mut schedule = schedule(vec![vec![], vec![], vec![]], &[0, 1, 2], &[1, 1, 1], 1);
        for (node, size) in [(0, 5), (1, 7), (2, 7)] {
            schedule.queue(node, size);
        }
        assert_eq!(next(&schedule), Some((1, 1)));
    }

    #[test]
    fn a_large_job_is_not_overtaken_for_ever_and_others_pass_it() {
        let needs = |gpus| Needs { gpus, ..NEEDS };
        let limits = Limits { cpus: NonZeroU32::new(8), gpus: Some(Cards::parse("0,1")), ..Limits::default() };
        let needs = vec![needs(1), needs(2), needs(1), needs(0)];
        let mut schedule = Schedule::new(vec![vec![]; 4], &[0, 1, 2, 3], &[9, 5, 2, 1], needs, &limits);
        (0..4).for_each(|node| schedule.queue(node, 0));
        assert_eq!(start(&mut schedule), 0);
        assert_eq!(start(&mut schedule), 3, "needs no card; 1 waits for two, and 2 must not take the one that is free");
        assert_eq!(next(&schedule), None);
        schedule.done(0, Outcome::Ran);
        assert_eq!(start(&mut schedule), 1);
    }

    #[test]
    fn what_is_tried_again_holds_nothing_meanwhile() {
        let mut schedule = diamond(1);
        schedule.queue(0, 0);
        start(&mut schedule);
        schedule.rest(0);
        assert!(schedule.is_busy() && schedule.next_queued().is_none());
        assert_eq!((schedule.counts().running, schedule.counts().resting), (0, 1));
        schedule.queue(0, 0);
        assert_eq!(next(&schedule), Some((0, 1)));
    }

    #[test]
    fn what_is_looked_for_elsewhere_takes_no_processor_and_may_run_after_all() {
        let mut schedule = diamond(1);
        schedule.fetch(0);
        assert!(schedule.is_busy() && schedule.next_ready().is_none() && schedule.next_queued().is_none());
        schedule.done(0, Outcome::Fetched);
        schedule.fetch(1);
        schedule.queue(2, 0);
        assert_eq!(start(&mut schedule), 2, "beside it");
        schedule.done(2, Outcome::Ran);
        schedule.queue(1, 0);
        assert_eq!(start(&mut schedule), 1);
        assert_eq!((schedule.counts().fetched, schedule.counts().fetching), (1, 0));
    }

    #[test]
    fn equal_keys_are_one_run() {
        let mut schedule = diamond(1);
        schedule.done(0, Outcome::Cached);
        schedule.queue(1, 0);
        schedule.follow(2, 1);
        start(&mut schedule);
        assert_eq!(schedule.done(1, Outcome::Ran), [2]);
        assert_eq!(schedule.state(2), State::Done(Outcome::Shared));
        assert_eq!(schedule.next_ready(), Some(3));
    }

    #[test]
    fn a_failure_blocks_what_needs_it_and_nothing_else() {
        let mut schedule = diamond(2);
        schedule.done(0, Outcome::Cached);
        schedule.queue(1, 0);
        start(&mut schedule);
        assert_eq!(schedule.fail(1), [3]);
        assert_eq!(schedule.state(2), State::Ready);
        assert_eq!(schedule.counts().blocked, 1);
        assert!(!schedule.is_busy());
    }

    #[test]
    fn what_nobody_asked_for_stays_out() {
        let schedule = schedule(vec![vec![], vec![0], vec![0]], &[0, 1], &[1, 1, 1], 1);
        assert_eq!(schedule.state(2), State::Unwanted);
        assert_eq!(schedule.counts().wanted, 2);
    }
}
