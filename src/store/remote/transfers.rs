//! Fetching and sending in the background: whoever gives an errand goes on, and is told how it ended.
//!
//! An errand is one record with its objects. The objects of all errands share a few threads, those of a begun errand go
//! first, and no two threads carry the same object. What was carried stays where it is when the rest is not: a transfer
//! that is stopped goes on the next time with what is missing.

use super::{AT_ONCE, Outcome, Remote, Sent, Trouble};
use crate::key::{Digest, KeyDocument};
use crate::record::{FileEntry, Record};
use crate::store::{Store, lock};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Time between two words on how far an errand is.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What is to be carried.
#[derive(Debug)]
pub enum Errand {
    /// The result of a key, from the shared cache to the local one.
    Fetch {
        /// What is hashed to the key.
        document: KeyDocument,
        /// Names and paths of the outputs that the stage promises.
        outputs: Vec<(&'static str, &'static str)>,
        /// Digests that the outputs must have, by name: another result is not fetched.
        locked: Option<BTreeMap<String, Digest>>,
    },
    /// A result, from the local cache to the shared one.
    Send {
        /// The result.
        record: Arc<Record>,
        /// Names and paths of the outputs that the stage promises.
        outputs: Vec<(&'static str, &'static str)>,
    },
}

/// What is heard of an errand, by the number that it was given under. All but `Progress` is its last word.
#[derive(Debug)]
pub enum Told {
    /// So many bytes of so many are through.
    Progress {
        /// The errand.
        id: usize,
        /// Bytes that are there.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It is in the local cache, after so many bytes; none: the shared cache does not have it.
    Fetched {
        /// The errand.
        id: usize,
        /// The record that counts, or why there is none.
        outcome: Result<Option<Arc<Record>>, Trouble>,
        /// Bytes that were fetched.
        bytes: u64,
    },
    /// It is in the shared cache, after so many bytes.
    Sent {
        /// The errand.
        id: usize,
        /// What became of it there.
        outcome: Result<Sent, Trouble>,
        /// Bytes that were sent.
        bytes: u64,
    },
}

/// Threads that carry. They end when this is dropped; what has not begun then is left.
#[derive(Debug)]
pub struct Transfers {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    tasks: VecDeque<Task>,
    /// Objects that are being carried.
    busy: BTreeSet<Digest>,
    is_closed: bool,
}

#[derive(Debug)]
enum Task {
    Begin(Arc<Bundle>),
    Object(Arc<Bundle>, FileEntry),
}

/// An errand that is under way.
#[derive(Debug)]
struct Bundle {
    id: usize,
    errand: Errand,
    state: Mutex<State>,
    done: AtomicU64,
    moved: AtomicU64,
}

#[derive(Debug)]
struct State {
    record: Option<Arc<Record>>,
    /// Objects that are not through.
    left: usize,
    total: u64,
    told: Instant,
    trouble: Option<Trouble>,
}

impl Transfers {
    /// Starts the threads, for the shared cache of `store`. Words on errands go to `told`.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, store: &'scope Store, told: &Sender<Told>) -> Self {
        let queue = Arc::new(Queue::default());
        if let Some(remote) = store.remote() {
            for _ in 0..AT_ONCE {
                let carrier = Carrier { store, remote, queue: Arc::clone(&queue), told: told.clone() };
                scope.spawn(move || carrier.work());
            }
        }
        Self { queue }
    }

    /// Gives an errand, under a number that nothing else under way has.
    pub fn give(&self, id: usize, errand: Errand) {
        let state = State { record: None, left: 0, total: 0, told: Instant::now(), trouble: None };
        let (done, moved) = Default::default();
        let bundle = Arc::new(Bundle { id, errand, state: Mutex::new(state), done, moved });
        lock(&self.queue.inner).tasks.push_back(Task::Begin(bundle));
        self.queue.changed.notify_one();
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        lock(&self.queue.inner).is_closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    /// The next task whose object nobody carries; waits for one. `None`: no more will come.
    fn take(&self) -> Option<Task> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.is_closed {
                return None;
            }
            let is_free = |task: &Task| match task {
                Task::Begin(_) => true,
                Task::Object(_, file) => !inner.busy.contains(&file.digest),
            };
            if let Some(task) = inner.tasks.iter().position(is_free).and_then(|place| inner.tasks.remove(place)) {
                if let Task::Object(_, file) = &task {
                    inner.busy.insert(file.digest);
                }
                return Some(task);
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put_first(&self, tasks: Vec<Task>) {
        let mut inner = lock(&self.inner);
        tasks.into_iter().rev().for_each(|task| inner.tasks.push_front(task));
        self.changed.notify_all();
    }

    fn release(&self, digest: &Digest) {
        lock(&self.inner).busy.remove(digest);
        self.changed.notify_all();
    }
}

/// One thread.
struct Carrier<'a> {
    store: &'a Store,
    remote: &'a Remote,
    queue: Arc<Queue>,
    told: Sender<Told>,
}

impl Carrier<'_> {
    fn work(&self) {
        while let Some(task) = self.queue.take() {
            match task {
                Task::Begin(bundle) => self.begin(&bundle),
                Task::Object(bundle, file) => {
                    let has_failed = lock(&bundle.state).trouble.is_some();
                    let carried = if has_failed { Ok(()) } else { self.carry(&bundle, &file) };
                    self.queue.release(&file.digest);
                    let mut state = lock(&bundle.state);
                    state.left -= 1;
                    if let Err(trouble) = carried {
                        state.trouble.get_or_insert(trouble);
                    }
                    let is_last = state.left == 0;
                    drop(state);
                    if is_last {
                        self.end(&bundle);
                    }
                }
            }
        }
    }

    fn begin(&self, bundle: &Arc<Bundle>) {
        let record = match &bundle.errand {
            Errand::Fetch { document, outputs, locked } => {
                let record = self.remote.record(&document.key(), outputs);
                record.filter(|record| match locked {
                    Some(locked) if *locked != record.digests() => {
                        let message = "the shared cache has other outputs than the lock".to_string();
                        lock(&bundle.state).trouble = Some(Trouble::Refused(message));
                        false
                    }
                    _ => true,
                })
            }
            Errand::Send { record, .. } => Some(Arc::clone(record)),
        };
        let mut seen = BTreeSet::new();
        let files = record.iter().flat_map(|record| &record.outputs).flat_map(|output| &output.files);
        let files: Vec<FileEntry> = files.filter(|file| seen.insert(file.digest)).cloned().collect();
        let mut state = lock(&bundle.state);
        state.record = record;
        state.left = files.len();
        state.total = files.iter().map(|file| file.size).sum();
        drop(state);
        match files.is_empty() {
            true => self.end(bundle),
            false => {
                self.queue.put_first(files.into_iter().map(|file| Task::Object(Arc::clone(bundle), file)).collect());
            }
        }
    }

    fn carry(&self, bundle: &Bundle, file: &FileEntry) -> Outcome<()> {
        let passed = AtomicU64::new(0);
        let told = |bytes: u64| {
            passed.fetch_add(bytes, Ordering::Relaxed);
            bundle.moved.fetch_add(bytes, Ordering::Relaxed);
            self.advance(bundle, bytes);
        };
        match bundle.errand {
            Errand::Fetch { .. } => self.remote.fetch_object(self.store, file, &told)?,
            Errand::Send { .. } => self.remote.send_object(self.store, file, &told)?,
        }
        // What was there already.
        self.advance(bundle, file.size - passed.into_inner().min(file.size));
        Ok(())
    }

    fn advance(&self, bundle: &Bundle, bytes: u64) {
        let done = bundle.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut state = lock(&bundle.state);
        if state.told.elapsed() >= TELL_EVERY {
            state.told = Instant::now();
            let _ = self.told.send(Told::Progress { id: bundle.id, done, total: state.total });
        }
    }

    /// All objects are through, or one is not.
    fn end(&self, bundle: &Bundle) {
        let (trouble, record) = {
            let mut state = lock(&bundle.state);
            (state.trouble.take(), state.record.take())
        };
        let (id, bytes) = (bundle.id, bundle.moved.load(Ordering::Relaxed));
        let last = match &bundle.errand {
            Errand::Fetch { document, .. } => {
                Told::Fetched { id, outcome: self.keep(trouble, record, document), bytes }
            }
            Errand::Send { record, outputs } => {
                let outcome = trouble.map_or_else(|| self.remote.send_record(self.store, record, outputs), Err);
                Told::Sent { id, outcome, bytes }
            }
        };
        let _ = self.told.send(last);
    }

    fn keep(
        &self,
        trouble: Option<Trouble>,
        record: Option<Arc<Record>>,
        document: &KeyDocument,
    ) -> Outcome<Option<Arc<Record>>> {
        let Some(record) = record else { return trouble.map_or(Ok(None), Err) };
        let kept = trouble.map_or_else(|| self.remote.accept(self.store, &record, document), Err);
        if let Err(Trouble::Refused(_)) = kept {
            self.remote.disbelieve(&record.key);
        }
        kept.map(|kept| Some(Arc::new(kept)))
    }
}
