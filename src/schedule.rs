//! The state of every stage instance during a run, and what may start next.
//!
//! A machine without threads and without a clock: [`crate::run`] feeds it what happened and asks what is next. One
//! function, `Schedule::set`, makes every change of a state and keeps the counters. Knows nodes and edges by number;
//! neither keys nor processes.

use std::collections::BTreeSet;

/// Where one instance stands. The way is `Waiting → Ready → Queued → Running → Done`, with a short cut from `Ready` to
/// `Done` for what the cache has, a way round by `Elsewhere` for what another process makes, and `Failed` or `Blocked`
/// at the end of the bad ways.
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
    /// Another instance with the same key is queued or running; its result will serve.
    Following {
        /// The one that works.
        leader: usize,
    },
    /// Working, on that many slots.
    Running {
        /// How many of the run's slots it holds.
        slots: usize,
    },
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
    queued: BTreeSet<usize>,
    elsewhere: BTreeSet<usize>,
    counts: Counts,
    slots: usize,
    free: usize,
}

impl Schedule {
    /// `upstream[i]` are the nodes that node `i` reads; nodes are in topological order. `cost` is the expected work of
    /// a node in any unit. `slots` is how much may run at once.
    pub fn new(upstream: Vec<Vec<usize>>, wanted: &[usize], cost: &[u64], slots: usize) -> Self {
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
        let slots = slots.max(1);
        let mut schedule = Self {
            upstream,
            downstream,
            states: vec![State::Unwanted; nodes],
            priority,
            ready: BTreeSet::new(),
            queued: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            counts: Counts::default(),
            slots,
            free: slots,
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

    /// The queued instance with the longest way before it, and the slots that it may take: an equal share of what is
    /// free, so that a lone training has all processors and many have one each. `None` if nothing is queued or free.
    pub fn next_queued(&self) -> Option<(usize, usize)> {
        if self.free == 0 {
            return None;
        }
        let node = self.queued.iter().copied().max_by_key(|&node| (self.priority[node], usize::MAX - node))?;
        Some((node, (self.free / self.queued.len()).max(1)))
    }

    /// Whether something is running.
    pub fn is_busy(&self) -> bool {
        self.free < self.slots
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

    /// The node's result will be that of another, which makes the same key.
    pub fn follow(&mut self, node: usize, leader: usize) {
        self.set(node, State::Following { leader });
    }

    /// The node has started on `slots`.
    pub fn start(&mut self, node: usize, slots: usize) {
        self.set(node, State::Running { slots });
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
        let follows = |node: &usize| self.states[*node] == State::Following { leader };
        (leader + 1..self.states.len()).chain(0..leader).filter(follows).collect()
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
                self.queued.remove(&node);
            }
            State::Elsewhere => {
                self.elsewhere.remove(&node);
            }
            State::Running { slots } => {
                self.free += slots;
                self.counts.running -= 1;
            }
            State::Waiting | State::Following { .. } => {}
            State::Done(_) | State::Failed | State::Blocked => {
                debug_assert!(false, "node {node} has ended and cannot become {state:?}");
            }
        }
        match state {
            State::Ready => {
                self.ready.insert(node);
            }
            State::Queued => {
                self.queued.insert(node);
            }
            State::Elsewhere => {
                self.elsewhere.insert(node);
            }
            State::Running { slots } => {
                self.free -= slots;
                self.counts.running += 1;
            }
            State::Done(Outcome::Cached) => self.counts.cached += 1,
            State::Done(Outcome::Ran) => self.counts.ran += 1,
            State::Done(Outcome::Shared) => self.counts.shared += 1,
            State::Failed => self.counts.failed += 1,
            State::Blocked => self.counts.blocked += 1,
            State::Unwanted | State::Waiting | State::Following { .. } => {}
        }
        self.states[node] = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 → 1 → 3, 0 → 2 → 3 (a diamond).
    fn diamond(slots: usize) -> Schedule {
        Schedule::new(vec![vec![], vec![0], vec![0], vec![1, 2]], &[0, 1, 2, 3], &[1, 1, 5, 1], slots)
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
        assert_eq!(schedule.next_queued(), Some((0, 4)), "a lone node takes all");
        schedule.start(0, 4);
        assert_eq!(schedule.next_queued(), None);
        schedule.done(0, Outcome::Ran);
        schedule.queue(1, 9);
        schedule.queue(2, 0);
        assert_eq!(schedule.next_queued(), Some((2, 2)));
        schedule.start(2, 2);
        assert_eq!(schedule.next_queued(), Some((1, 2)));
    }

    #[test]
    fn of_equal_ways_the_one_that_reads_more_starts_first() {
        let mut schedule = Schedule::new(vec![vec![], vec![], vec![]], &[0, 1, 2], &[1, 1, 1], 1);
        for (node, size) in [(0, 5), (1, 7), (2, 7)] {
            schedule.queue(node, size);
        }
        assert_eq!(schedule.next_queued(), Some((1, 1)));
    }

    #[test]
    fn equal_keys_are_one_run() {
        let mut schedule = diamond(1);
        schedule.done(0, Outcome::Cached);
        schedule.queue(1, 0);
        schedule.follow(2, 1);
        schedule.start(1, 1);
        assert_eq!(schedule.done(1, Outcome::Ran), [2]);
        assert_eq!(schedule.state(2), State::Done(Outcome::Shared));
        assert_eq!(schedule.next_ready(), Some(3));
    }

    #[test]
    fn a_failure_blocks_what_needs_it_and_nothing_else() {
        let mut schedule = diamond(2);
        schedule.done(0, Outcome::Cached);
        schedule.queue(1, 0);
        schedule.start(1, 1);
        assert_eq!(schedule.fail(1), [3]);
        assert_eq!(schedule.state(2), State::Ready);
        assert_eq!(schedule.counts().blocked, 1);
        assert!(!schedule.is_busy());
    }

    #[test]
    fn what_nobody_asked_for_stays_out() {
        let schedule = Schedule::new(vec![vec![], vec![0], vec![0]], &[0, 1], &[1, 1, 1], 1);
        assert_eq!(schedule.state(2), State::Unwanted);
        assert_eq!(schedule.counts().wanted, 2);
    }
}
