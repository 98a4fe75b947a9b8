//! The stat cache: files that were hashed before and look untouched are not read again.
//!
//! An entry is trusted only if device, inode, size, mtime and ctime are the same *and* both times were clearly past
//! when the file was read. Otherwise it may have been rewritten afterwards within the same tick of the file system's
//! clock, which no stat would show (git calls such an entry racy). Local to a host; losing it costs reading again.

use super::error::{At, Result};
use super::file;
use crate::key::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The kernel stamps files with a clock that lags behind by up to one tick: 10 ms where it ticks 100 times a second.
const TICK_NS: i128 = 20_000_000;
/// A time without a fraction comes from a file system that counts in whole seconds, or two (FAT).
const COARSE_TICK_NS: i128 = 2_000_000_000;
const SECOND_NS: i128 = 1_000_000_000;

/// What a stat tells of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stat {
    device: u64,
    inode: u64,
    size: u64,
    /// Nanoseconds since 1970.
    mtime: i128,
    /// Nanoseconds since 1970.
    ctime: i128,
}

impl Stat {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * SECOND_NS + i128::from(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The same of the system's own form.
    #[allow(clippy::unnecessary_cast, reason = "the types differ from system to system")]
    pub(super) fn from_raw(raw: &rustix::fs::Stat) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * SECOND_NS + i128::from(rest);
        Self {
            device: raw.st_dev as u64,
            inode: raw.st_ino as u64,
            size: raw.st_size as u64,
            mtime: nanoseconds(raw.st_mtime as i64, raw.st_mtime_nsec as i64),
            ctime: nanoseconds(raw.st_ctime as i64, raw.st_ctime_nsec as i64),
        }
    }

    /// Adds its bytes to `bytes`.
    pub(super) fn write_to(&self, bytes: &mut Vec<u8>) {
        [self.device, self.inode, self.size].iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        [self.mtime, self.ctime].iter().for_each(|time| bytes.extend_from_slice(&time.to_le_bytes()));
    }

    /// Whether this may be a copy of a file that looked like `other`: another file of the same length and time.
    pub(super) fn is_copy_of(&self, other: &Self) -> bool {
        (self.device, self.inode) != (other.device, other.inode) && (self.size, self.mtime) == (other.size, other.mtime)
    }

    /// When the file was touched last, in nanoseconds since 1970.
    pub(super) fn changed_at(&self) -> i128 {
        self.ctime
    }

    /// Whether the file was touched last before that time, in nanoseconds since 1970.
    pub(super) fn is_before(&self, time: i128) -> bool {
        self.ctime < time
    }

    /// Whether a file that was read from the moment `now` on cannot have changed since without a new time.
    pub(super) fn is_settled(&self, now: i128) -> bool {
        [self.mtime, self.ctime].into_iter().all(|time| {
            let tick = if time % SECOND_NS == 0 { COARSE_TICK_NS } else { TICK_NS };
            time + tick < now
        })
    }
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i128)
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    stat: Stat,
    digest: Digest,
}

/// Digests of files by path.
#[derive(Debug, Default)]
pub(super) struct StatCache {
    entries: BTreeMap<PathBuf, Entry>,
    changed: bool,
    /// If stats are not to be trusted: the files that were read by this process, each once.
    read: Option<BTreeSet<PathBuf>>,
}

impl StatCache {
    /// Reads the cache at `path`; one that is missing or damaged is empty.
    pub(super) fn load(path: &Path) -> Self {
        let entries = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { entries, changed: false, read: None }
    }

    /// Reads each file that is asked for from now on, whatever its stat says.
    pub(super) fn distrust(&mut self) {
        self.read = Some(BTreeSet::new());
    }

    /// Digest and length of the file at `path` (resolved: no links, no `..`).
    pub(super) fn digest(&mut self, path: &Path) -> Result<(Digest, u64)> {
        let mut opened = File::open(path).at("read", path)?;
        let before = Stat::of(&opened.metadata().at("read", path)?);
        let is_trusted = self.read.as_mut().is_none_or(|read| !read.insert(path.to_path_buf()));
        if let Some(entry) = self.entries.get(path)
            && entry.stat == before
            && is_trusted
        {
            return Ok((entry.digest, before.size));
        }
        let now = now();
        let (digest, size) = file::hash_copy(&mut opened, io::sink()).at("read", path)?;
        let after = Stat::of(&opened.metadata().at("read", path)?);
        // A path that is not UTF-8 could not be saved.
        let can_be_kept = before == after && before.size == size && path.to_str().is_some();
        if can_be_kept && before.is_settled(now) {
            self.entries.insert(path.to_path_buf(), Entry { stat: before, digest });
            self.changed = true;
        } else if self.entries.remove(path).is_some() {
            self.changed = true;
        }
        Ok((digest, size))
    }

    /// Writes the cache to `path` if it has changed, without entries of files that are gone.
    pub(super) fn save(&mut self, path: &Path, temporary: &Path) -> Result<()> {
        if self.changed {
            self.entries.retain(|path, _| path.exists());
            let text = serde_json::to_vec(&self.entries).map_err(io::Error::other).at("write", path)?;
            file::replace(path, &text, temporary)?;
            self.changed = false;
        }
        Ok(())
    }

    /// Whether there is something to save.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::FileTimes;
    use std::time::Duration;

    /// Writes a file whose mtime is long past. Its ctime cannot be set, so tests that need a settled file wait for it.
    fn write_old(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        let past = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(past)).unwrap();
    }

    fn settle() {
        std::thread::sleep(Duration::from_nanos(TICK_NS as u64 + 5_000_000));
    }

    #[test]
    fn a_settled_file_is_read_once_and_a_touched_one_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        write_old(&path, "rows");
        settle();
        let mut cache = StatCache::default();
        let digest = cache.digest(&path).unwrap();
        assert_eq!(digest, (Digest::of(b"rows"), 4));
        // A wrong digest in the entry shows whether the entry or the file was asked.
        cache.entries.get_mut(&path).unwrap().digest = Digest::of(b"from the cache");
        let saved = folder.path().join("stat.json");
        cache.save(&saved, folder.path()).unwrap();
        let mut cache = StatCache::load(&saved);
        assert_eq!(cache.digest(&path).unwrap().0, Digest::of(b"from the cache"));
        cache.distrust();
        assert_eq!(cache.digest(&path).unwrap(), digest, "an audit reads");
        write_old(&path, "rows");
        assert_eq!(cache.digest(&path).unwrap(), digest, "touched, same content: read again, same digest");
    }

    #[test]
    fn a_file_rewritten_within_one_tick_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let mut cache = StatCache::default();
        // Some of these rewrites fall into one tick: equal size, inode, mtime and ctime.
        for i in 0..300 {
            let content = format!("{i:03}");
            fs::write(&path, &content).unwrap();
            assert_eq!(cache.digest(&path).unwrap().0, Digest::of(content.as_bytes()));
        }
        assert!(cache.entries.is_empty(), "a file of this moment is not trusted");
    }

    #[test]
    fn what_is_settled_depends_on_the_clock_of_the_file_system() {
        let stat = |mtime, ctime| Stat { device: 1, inode: 2, size: 3, mtime, ctime };
        let now = 10 * SECOND_NS;
        assert!(stat(now - TICK_NS - 1, now - TICK_NS - 1).is_settled(now));
        assert!(!stat(now - TICK_NS, now - TICK_NS - 1).is_settled(now));
        assert!(!stat(now - TICK_NS - 1, now - TICK_NS).is_settled(now));
        assert!(!stat(now - SECOND_NS, now - SECOND_NS).is_settled(now), "whole seconds need two of them");
        assert!(!stat(now + 1, 5).is_settled(now), "a time in the future is never settled");
    }

    #[test]
    fn a_damaged_cache_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stat.json");
        fs::write(&path, "{\"/a\": {\"stat\"").unwrap();
        assert!(StatCache::load(&path).entries.is_empty());
    }
}
