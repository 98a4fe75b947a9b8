//! The cache: objects by content, records by key, and what this host knows of files. Unaware of stages.
//!
//! ```text
//! VERSION                                   format of the cache
//! objects/ab/ab12…                          files by BLAKE3, read-only, never changed
//! actions/cd/cd34…/key.json                 what was hashed: BLAKE3 of this file is the key
//! actions/cd/cd34…/record.json              the first committed run of the key: the canonical one
//! actions/cd/cd34…/observations/1.json      further runs of it
//! pipelines/NAME.json                       keys of the last run, by instance
//! pipelines/NAME.manifest                   whose last run that was
//! local/HOST/stat.json                      digests of files that look untouched
//! local/HOST/objects.json                   how objects looked when their bytes were right
//! local/HOST/snapshots/                     runs that found nothing to do
//! local/HOST/unsynced/                      processes whose last commits may not be on the disk yet
//! quarantine/                               what was found damaged or was refused by a lock, to be looked at
//! runs/20261124T080153Z-0k3fz2.json         what a run was asked and did
//! history                                   the names of runs in the order in which they began
//! times/NAME.json                           what the work of a pipeline took
//! plans/DIGEST.json                         the keys of a run's instances
//! work/                                     scratch folders of live processes
//! claims/KEY                                who makes a key right now
//! claims/KEY.PROCESS                        who makes again a key that has been made
//! roots/PROCESS                             what a process relies on, so that no `gc` takes it away; what it has ended
//! pins/KEY.json                             what never goes
//! trash/                                    what a `gc` is about to delete
//! logs/KEY.log                              what a stage said when its result was made, or was to be made
//! logs/KEY.again.log                        what it said when it was done again last
//! unfinished/KEY/                           where the work of a key stood when it was stopped
//! rows/SCOPE/                               answers to single rows, of all work that differs in its rows only
//! ledger/                                   replies that were paid for; goes only if a `gc` is told so
//! fetched/ID/record.json                    what was fetched from a hub or a server
//! fetched/ID/files/                         the same under its names
//! fetched/partial/                          what is on its way from there
//! ```
//!
//! Whatever is written appears in one step, by a rename of something complete: a process that is killed leaves at most
//! scratch behind, which the next one removes. Objects are there before the record that names them; when they are on the
//! disk, says `durable`.

mod action;
mod apart;
mod begun;
mod check;
mod claim;
mod durable;
mod earlier;
mod error;
mod fetched;
mod file;
mod format;
pub mod gc;
mod object;
mod order;
mod pin;
mod pipelines;
mod process;
pub mod remote;
mod roots;
mod runs;
mod snapshot;
mod sound;
mod stat;
#[cfg(test)]
mod tests;
pub mod view;
mod work;

pub use action::Committed;
pub use check::{Flaw, Health};
pub use claim::{Claim, Watch};
pub use error::{Result, StoreError};
pub use fetched::Fetched;
pub use pin::Pin;
pub use process::Worker;
pub use remote::Remote;
pub use roots::Intended;
pub use runs::write_run;
pub use snapshot::{Facts, recall};
pub use work::WorkDir;

use crate::key::Digest;
use crate::record::{FileEntry, Record, folder_digest};
use error::At;
use rustix::fs::{Access, access};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How a cache is shared with other processes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the file system's locks are asked who lives. Without them hearts are watched, which takes longer.
    pub locks: bool,
    /// How long a process is waited for that shows no sign of life.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { locks: true, patience: Duration::from_secs(30) }
    }
}

impl Settings {
    /// Time between two beats of a process's heart: a few may come late before anybody loses patience.
    fn beat(&self) -> Duration {
        (self.patience / 10).clamp(Duration::from_millis(20), Duration::from_secs(2))
    }
}

/// A cache, opened. Safe to use from many threads, and beside other processes on the same cache.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Its name, under which this host's knowledge of files lies.
    host: String,
    /// Its name and boot, with which names of its processes begin.
    machine: String,
    settings: Settings,
    writable: bool,
    /// How the mark of the last sweep looked when the cache was opened.
    swept: Option<stat::Stat>,
    /// Read when the first file is hashed.
    stats: OnceLock<Mutex<stat::StatCache>>,
    /// Read when the first object is looked at.
    sound: OnceLock<Mutex<sound::Sound>>,
    /// What this process relies on; goes before its lease.
    roots: Mutex<Option<roots::Roots>>,
    /// Taken when the first scratch folder is needed.
    lease: Mutex<Option<Arc<work::Lease>>>,
    /// The note that says that some commits have not been waited for.
    unsynced: Mutex<Option<PathBuf>>,
    warnings: Mutex<Vec<String>>,
    /// A second cache, shared with others.
    remote: Option<Remote>,
}

impl Store {
    /// Opens the cache in the folder `root`, and makes it if it is not there. One that cannot be written is opened for
    /// reading.
    ///
    /// # Errors
    /// The folder can neither be found nor made; the cache has a newer format.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Settings::default())
    }

    /// As [`Store::open`], with settings.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(root: &Path, settings: Settings) -> Result<Self> {
        if !root.exists() {
            fs::create_dir_all(root).at("create", root)?;
        }
        Self::at(&fs::canonicalize(root).at("open", root)?, settings, true)
    }

    /// As [`Store::open_with`], but a cache that is not there is an empty one that nothing can be kept in, and is not
    /// made.
    ///
    /// # Errors
    /// As there.
    pub fn look_with(root: &Path, settings: Settings) -> Result<Self> {
        match root.join("VERSION").exists() {
            true => Self::open_with(root, settings),
            false => Self::at(&std::path::absolute(root).at("open", root)?, settings, false),
        }
    }

    fn at(root: &Path, settings: Settings, may_write: bool) -> Result<Self> {
        let root = root.to_path_buf();
        if root.exists() && !root.is_dir() {
            return Err(StoreError::Unfit { path: root, reason: "a cache is a folder" });
        }
        let found = format::read(&root)?;
        let writable = may_write && access(&root, Access::WRITE_OK | Access::EXEC_OK).is_ok();
        let (host, machine) = (host(), process::machine());
        if writable {
            for folder in ["objects", "actions", "claims", "pipelines", "work", "logs", "local"] {
                make_folder(&root.join(folder))?;
            }
            make_folder(&root.join("local").join(&host))?;
            work::remove_stale(&root.join("work"), &machine, &settings);
        }
        let swept = roots::last_sweep(&root);
        let (stats, sound, roots, lease, unsynced, warnings) = Default::default();
        let remote = None;
        let store = Self {
            root,
            host,
            machine,
            settings,
            writable,
            swept,
            stats,
            sound,
            roots,
            lease,
            unsynced,
            warnings,
            remote,
        };
        store.bring_up(found)?;
        if writable {
            store.recover()?;
        }
        Ok(store)
    }

    /// The cache's folder, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether results can be kept.
    pub fn writable(&self) -> bool {
        self.writable
    }

    fn must_be_writable(&self) -> Result<()> {
        if self.writable { Ok(()) } else { Err(StoreError::ReadOnly(self.root.clone())) }
    }

    /// What was found damaged and passed over since the last call; each for one line to the person.
    pub fn take_warnings(&self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut *lock(&self.warnings));
        warnings.extend(self.remote.iter().flat_map(Remote::take_complaints));
        warnings
    }

    fn warn(&self, message: String) {
        let mut warnings = lock(&self.warnings);
        if !warnings.contains(&message) {
            warnings.push(message);
        }
    }

    /// A new scratch folder in the cache, so that what is written there can be moved into it.
    pub fn work_dir(&self) -> Result<WorkDir> {
        WorkDir::new(self.lease()?)
    }

    /// The scratch folder of this process, for files that are about to be renamed.
    fn temporary(&self) -> Result<PathBuf> {
        Ok(self.lease()?.folder().to_path_buf())
    }

    fn lease(&self) -> Result<Arc<work::Lease>> {
        self.must_be_writable()?;
        let mut lease = lock(&self.lease);
        if let Some(lease) = &*lease {
            return Ok(Arc::clone(lease));
        }
        let taken = Arc::new(work::Lease::take(&self.root.join("work"), &self.machine, &self.settings)?);
        Ok(Arc::clone(lease.insert(taken)))
    }

    /// Digest and length of a file anywhere; read only if it may have changed since it was read last.
    pub fn digest_file(&self, path: &Path) -> Result<(Digest, u64)> {
        let resolved = fs::canonicalize(path).at("read", path)?;
        let stats = self.stats.get_or_init(|| Mutex::new(stat::StatCache::load(&self.stat_path())));
        lock(stats).digest(&resolved)
    }

    /// Reads every file that [`Store::digest_file`] is asked for from now on once, whatever its stat says: for an audit.
    pub fn distrust(&self) {
        lock(self.stats.get_or_init(|| Mutex::new(stat::StatCache::load(&self.stat_path())))).distrust();
    }

    /// Digest of a folder (see [`folder_digest`]) and its files, links in it followed, sorted by path.
    pub fn digest_folder(&self, path: &Path) -> Result<(Digest, Vec<FileEntry>)> {
        let mut files = Vec::new();
        for relative in files_below(path, Links::Follow)? {
            let (digest, size) = self.digest_file(&path.join(&relative))?;
            files.push(FileEntry { path: relative, digest, size });
        }
        let digest = folder_digest(files.iter().map(|file| (file.path.as_str(), file.digest, file.size)));
        Ok((digest, files))
    }

    fn local(&self) -> PathBuf {
        self.root.join("local").join(&self.host)
    }

    fn stat_path(&self) -> PathBuf {
        self.local().join("stat.json")
    }

    fn sound_path(&self) -> PathBuf {
        self.local().join("objects.json")
    }

    /// Waits until all that was committed is on the disk, and writes down what was hashed. A failure costs a look at it
    /// again, so it is none.
    pub fn save(&self) {
        self.sync_all();
        let stats = self.stats.get().map(lock).filter(|stats| stats.is_changed());
        let sound = self.sound.get().map(lock).filter(|sound| sound.is_changed());
        if stats.is_none() && sound.is_none() {
            return;
        }
        let Ok(temporary) = self.temporary() else { return };
        stats.map(|mut stats| stats.save(&self.stat_path(), &temporary));
        sound.map(|mut sound| {
            let path = self.sound_path();
            // Objects go in sweeps only: otherwise there is no need to look for each.
            if self.was_swept_since(&path) {
                sound.forget(|object| self.path(object).exists());
            }
            sound.save(&path, &temporary)
        });
    }

    /// Keeps the answer (one line) to a question, for [`recall`], as long as nothing changes of the facts that it rests
    /// on. `root` is the folder that most paths outside the cache lie in.
    pub fn remember(&self, question: &Digest, facts: &Facts, answer: &str, root: &Path) {
        if let (true, Ok(temporary)) = (self.writable, self.temporary()) {
            let (objects, actions) = (self.root.join("objects"), self.root.join("actions"));
            let bases: [&Path; 4] = [&objects, &actions, &self.root, root];
            snapshot::remember(&self.root, question, facts, answer, &bases, &temporary);
        }
    }

    /// Forgets all answers: something that no snapshot looks at is wrong. The next runs look for themselves.
    fn forget_snapshots(&self) {
        let _ = fs::remove_dir_all(self.local().join(snapshot::FOLDER));
    }

    /// Adds to `facts` that the records of these keys are there. Of many only their shelves are looked at, of which there
    /// are 256: a shelf tells of results that came or went, not of a record that was taken out of the folder of its key,
    /// which changes that folder alone. Looking at each of a thousand such folders makes a run with nothing to do 30%
    /// slower (`benches/README.md`); a record that is missing costs nothing until something else changes, and then its
    /// stage runs again.
    pub fn watch_records(&self, keys: &BTreeSet<Digest>, facts: &mut Facts) {
        const MANY: usize = 256;
        for action in keys.iter().map(|key| self.action(key)) {
            match action.parent().filter(|_| keys.len() > MANY) {
                Some(shelf) => facts.saw(shelf),
                None => facts.saw(action.join("record.json")),
            }
        }
    }

    /// Adds to `facts` that the record's objects are there as they are.
    pub fn watch(&self, record: &Record, facts: &mut Facts) {
        for file in record.outputs.iter().flat_map(|output| &output.files) {
            facts.saw(self.path(&file.digest));
        }
    }

    /// Where the log of the work is that made a key's result, or is to make it.
    pub fn log_path(&self, key: &Digest) -> PathBuf {
        self.root.join("logs").join(format!("{key}.log"))
    }

    /// Where the log of the last work is that made a key again whose result the cache has.
    pub fn again_log_path(&self, key: &Digest) -> PathBuf {
        self.root.join("logs").join(format!("{key}.again.log"))
    }
}

/// The name of this host, as a part of a path.
fn host() -> String {
    file::path_part(&rustix::system::uname().nodename().to_string_lossy())
}

/// A lock on plain data: a panic elsewhere leaves nothing in it half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates a folder if it is not there; cheaper than `create_dir_all` where the folder above is known to be.
fn make_folder(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error).at("create", path),
        _ => Ok(()),
    }
}

/// What a link in a folder means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    /// The file or folder that it points to.
    Follow,
    /// A mistake.
    Refuse,
}

/// All files below a folder, as paths with `/` relative to it, sorted.
fn files_below(folder: &Path, links: Links) -> Result<Vec<String>> {
    /// A link that leads back up would never end.
    const DEEPEST: usize = 32;
    let unfit = |path: &Path, reason| StoreError::Unfit { path: path.to_path_buf(), reason };
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        if depth > DEEPEST {
            return Err(unfit(&folder, "it lies too many folders deep; does a link lead back up?"));
        }
        for entry in fs::read_dir(&folder).at("read", &folder)? {
            let path = entry.at("read", &folder)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(unfit(&path, "its name is not UTF-8"));
            };
            let relative = format!("{prefix}{name}");
            let metadata = match links {
                Links::Follow => fs::metadata(&path).at("read", &path)?,
                Links::Refuse => fs::symlink_metadata(&path).at("read", &path)?,
            };
            if metadata.is_dir() {
                folders.push((path, format!("{relative}/"), depth + 1));
            } else if metadata.is_file() {
                files.push(relative);
            } else if metadata.is_symlink() {
                return Err(unfit(&path, action::LINK));
            } else {
                return Err(unfit(&path, "it is neither a file nor a folder"));
            }
        }
    }
    files.sort();
    Ok(files)
}
