//! Scratch folders that vanish with the process that uses them, even if it is killed.
//!
//! Each process has one folder in `work/` and beside it a lock file, locked as long as it lives. The system frees the
//! lock when the process ends, however it ends; the next process that finds it free removes the folder. Process
//! numbers would not do: they are given anew, and are equal in containers that share a cache.

use super::error::{At, Result};
use super::lock;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// Time between two beats of a process's heart.
const BEAT: Duration = Duration::from_secs(2);

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
    fn beat(file: File) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let mut count = 0u64;
            while stopped.recv_timeout(BEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
                count += 1;
                let _ = file.write_all_at(count.to_string().as_bytes(), 0);
            }
        });
        Self { _stop: stop }
    }
}

impl Lease {
    /// Makes the folder. `host` is part of its name, for [`remove_stale`].
    pub(super) fn take(work: &Path, host: &str) -> Result<Self> {
        // The lock file gets the name that others look for when it is locked already.
        let prefix = format!("{host}.{}.", std::process::id());
        let file = tempfile::Builder::new().prefix(&prefix).suffix(".new").tempfile_in(work).at("write", work)?;
        file.as_file().lock().at("lock", file.path())?;
        let (folder, lock) = (file.path().with_extension("work"), file.path().with_extension(LOCK));
        let file = file.persist(&lock).map_err(|error| error.error).at("write", &lock)?;
        let name = lock.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let heart = Heart::beat(file.try_clone().at("write", &lock)?);
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

/// Removes what processes of this host left behind when they were killed. Other hosts' locks may not be seen from here.
pub(super) fn remove_stale(work: &Path, host: &str) {
    let Ok(entries) = fs::read_dir(work) else { return };
    let prefix = format!("{host}.");
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix));
        if !is_ours || path.extension().is_none_or(|ending| ending != LOCK) {
            continue;
        }
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
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
