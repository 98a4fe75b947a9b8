//! Scratch folders that vanish with the process that uses them, even if it is killed.
//!
//! Each process has one folder in `work/` and beside it a lock file, locked as long as it lives. The system frees the
//! lock when the process ends, however it ends; the next process that finds it free removes the folder. Process
//! numbers would not do: they are given anew, and are equal in containers that share a cache.
//!
//! Some network file systems have no locks. There, and from other hosts, a process is known to live by its heart: it
//! counts in the lock file, and who waits for it watches the count on a clock of its own ([`super::Watch`]).

use super::Settings;
use super::error::{At, Result};
use super::lock;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

/// What stands in the file of a process that could not lock it.
const UNLOCKED: &str = "unlocked";

/// Ending of the lock files of live (or killed) processes.
pub(super) const LOCK: &str = "lock";

/// A process's own folder in `work/`.
#[derive(Debug)]
pub(super) struct Lease {
    folder: PathBuf,
    lock: PathBuf,
    /// Its name without the ending: the process's name in claims.
    name: String,
    /// Scratch folders that are done with.
    left: Mutex<Vec<PathBuf>>,
    /// Holds the lock while open.
    _file: File,
    /// Beats until it is dropped.
    _heart: Heart,
}

/// A thread that counts in the lock file, so that other hosts see that the process lives.
#[derive(Debug)]
struct Heart {
    _stop: mpsc::Sender<()>,
}

impl Heart {
    fn beat(file: File, beat: Duration, words: &'static str) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let mut count = 0u64;
            while stopped.recv_timeout(beat) == Err(mpsc::RecvTimeoutError::Timeout) {
                count += 1;
                // On a full disk a new time must do.
                if file.write_all_at(format!("{words}{count}").as_bytes(), 0).is_err() {
                    let _ = file.set_modified(SystemTime::now());
                }
            }
        });
        Self { _stop: stop }
    }
}

impl Lease {
    /// Makes the folder. Its name begins with the `machine`'s, for [`remove_stale`].
    pub(super) fn take(work: &Path, machine: &str, settings: &Settings) -> Result<Self> {
        // The lock file gets the name that others look for when it is locked already.
        let prefix = format!("{machine}.{}.", std::process::id());
        let file = tempfile::Builder::new().prefix(&prefix).suffix(".new").tempfile_in(work).at("write", work)?;
        // Where there are no locks, the file says so: a lock that works again a moment later must not tell that we died.
        let words = if settings.locks && file.as_file().lock().is_ok() { "" } else { UNLOCKED };
        file.as_file().write_all_at(words.as_bytes(), 0).at("write", file.path())?;
        let (folder, lock) = (file.path().with_extension("work"), file.path().with_extension(LOCK));
        let file = file.persist(&lock).map_err(|error| error.error).at("write", &lock)?;
        let name = lock.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let heart = Heart::beat(file.try_clone().at("write", &lock)?, settings.beat(), words);
        let lease = Self { folder, lock, name, left: Mutex::default(), _file: file, _heart: heart };
        fs::create_dir(&lease.folder).at("write", &lease.folder)?;
        Ok(lease)
    }

    /// What the process is called in claims.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A scratch folder is done with. What takes room goes at once, the rest with many others: ext4 passes over all that
    /// was deleted in the last seconds whenever it makes a file, which would be half of what a small job costs.
    fn leave(&self, folder: PathBuf) {
        const MOST: usize = 2000;
        free(&folder);
        let mut left = lock(&self.left);
        left.push(folder);
        if left.len() > MOST {
            left.drain(..).for_each(|folder| drop(fs::remove_dir_all(folder)));
        }
    }
}

/// Removes the files below a folder that are worth it.
fn free(folder: &Path) {
    const LARGE: u64 = 16 << 10;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => free(&entry.path()),
            Ok(kind) if kind.is_file() && entry.metadata().is_ok_and(|metadata| metadata.len() > LARGE) => {
                let _ = fs::remove_file(entry.path());
            }
            _ => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What cannot be removed now is removed as stale later.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(&self.lock);
    }
}

/// What can be seen of a process's heart: it differs after each beat.
pub(super) fn heart(path: &Path) -> String {
    let time = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    format!("{} {time:?}", fs::read_to_string(path).unwrap_or_default())
}

/// What a process's lock says of it. Only the locks of this host can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It lives, though it may stand still.
    Yes,
    /// It has ended.
    No,
    /// There are no locks here: its heart must do.
    Unknown,
}

/// Asks a lock file of this host.
pub(super) fn held(path: &Path, settings: &Settings) -> Held {
    let asked = File::open(path).and_then(|file| Ok((io::read_to_string(&file)?, file)));
    match asked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Held::No,
        Ok((words, file)) if settings.locks && !words.starts_with(UNLOCKED) => match file.try_lock() {
            Ok(()) => Held::No,
            Err(TryLockError::WouldBlock) => Held::Yes,
            Err(TryLockError::Error(_)) => Held::Unknown,
        },
        _ => Held::Unknown,
    }
}

/// Removes what processes of this host left behind when they were killed. Other hosts' locks may not be seen from here.
pub(super) fn remove_stale(work: &Path, machine: &str, settings: &Settings) {
    let Ok(entries) = fs::read_dir(work) else { return };
    let prefix = format!("{machine}.");
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix));
        if is_ours && path.extension().is_some_and(|ending| ending == LOCK) && held(&path, settings) == Held::No {
            let _ = fs::remove_dir_all(path.with_extension("work"));
            let _ = fs::remove_file(&path);
        }
    }
}

/// A new, empty folder in the cache. When this value is dropped, its content is worth nothing any more, and it goes; if the
/// process dies, by a later run.
#[derive(Debug)]
pub struct WorkDir {
    folder: PathBuf,
    lease: Arc<Lease>,
}

impl WorkDir {
    /// A folder of its own within the process's folder.
    pub(super) fn new(lease: Arc<Lease>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("job-").tempdir_in(lease.folder()).at("write", lease.folder())?;
        Ok(Self { folder: folder.keep(), lease })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        self.lease.leave(std::mem::take(&mut self.folder));
    }
}
