//! What this host knows of objects: how each looked when its bytes were last those of its name.
//!
//! An object never changes, so that any change of its stat is a reason to read it again: somebody wrote to it through a
//! link under `out/`, as root or after a `chmod`. Reading all objects before each use would cost more than most stages.

use super::error::{At, Result};
use super::file;
use super::stat::Stat;
use crate::key::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    stat: Stat,
    /// Whether a later write must show in the stat. One that was seen right after it was made may have been written in
    /// the same tick of the clock.
    settled: bool,
}

/// How an object looks, next to what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    /// As when it was found sound.
    Untouched,
    /// This host has not read it, or another file of the same time and length stands in its place (a cache that was
    /// moved or copied): nothing speaks against it.
    Unknown,
    /// It was written, or its owner or mode changed.
    Touched,
}

/// The objects that this host has found sound.
#[derive(Debug, Default)]
pub(super) struct Sound {
    entries: BTreeMap<Digest, Entry>,
    changed: bool,
}

impl Sound {
    /// Reads what was kept at `path`; if that is missing or damaged, nothing is known.
    pub(super) fn load(path: &Path) -> Self {
        let entries = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { entries, changed: false }
    }

    /// Compares an object with what is known of it. With `strictly`, only what proves that its bytes are those of its
    /// name counts as untouched.
    pub(super) fn looks(&self, digest: &Digest, now: Stat, strictly: bool) -> Looks {
        match self.entries.get(digest) {
            None => Looks::Unknown,
            Some(entry) if entry.stat == now && (entry.settled || !strictly) => Looks::Untouched,
            Some(entry) if entry.stat == now || now.is_copy_of(&entry.stat) => Looks::Unknown,
            Some(_) => Looks::Touched,
        }
    }

    /// The object had these bytes when it looked so. `read_from` is when reading began, in nanoseconds since 1970.
    pub(super) fn keep(&mut self, digest: Digest, stat: Stat, read_from: i128) {
        let entry = Entry { stat, settled: stat.is_settled(read_from) };
        self.changed |= self.entries.insert(digest, entry) != Some(entry);
    }

    /// Forgets objects that are not there any more.
    pub(super) fn forget(&mut self, is_there: impl Fn(&Digest) -> bool) {
        self.entries.retain(|digest, _| is_there(digest));
    }

    /// Writes what is known to `path`.
    pub(super) fn save(&mut self, path: &Path, temporary: &Path) -> Result<()> {
        let text = serde_json::to_vec(&self.entries).map_err(io::Error::other).at("write", path)?;
        file::replace(path, &text, temporary)?;
        self.changed = false;
        Ok(())
    }

    /// Whether there is something to save.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }
}

#[cfg(test)]
mod tests {
    use super::super::stat::now;
    use super::*;

    #[test]
    fn only_a_file_that_settled_before_it_was_read_is_proven_by_its_stat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        fs::write(&path, "bytes").unwrap();
        let (digest, stat) = (Digest::of(b"bytes"), Stat::of(&fs::metadata(&path).unwrap()));
        let mut sound = Sound::default();
        assert_eq!(sound.looks(&digest, stat, false), Looks::Unknown);
        sound.keep(digest, stat, now());
        assert_eq!(sound.looks(&digest, stat, false), Looks::Untouched);
        assert_eq!(sound.looks(&digest, stat, true), Looks::Unknown, "it was written at this moment");
        sound.keep(digest, stat, now() + 3_000_000_000);
        assert_eq!(sound.looks(&digest, stat, true), Looks::Untouched);
    }

    #[test]
    fn a_changed_mode_is_a_touch_and_a_copy_is_not() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("object"), folder.path().join("copy"));
        fs::write(&path, "bytes").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let digest = Digest::of(b"bytes");
        let mut sound = Sound::default();
        sound.keep(digest, Stat::of(&metadata), now());
        fs::copy(&path, &copy).unwrap();
        fs::File::options().write(true).open(&copy).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
        assert_eq!(sound.looks(&digest, Stat::of(&fs::metadata(&copy).unwrap()), false), Looks::Unknown);
        // The change time has a coarse clock.
        std::thread::sleep(std::time::Duration::from_millis(25));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(sound.looks(&digest, Stat::of(&fs::metadata(&path).unwrap()), false), Looks::Touched);
    }

    #[test]
    fn what_is_known_is_there_in_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let (path, saved) = (folder.path().join("object"), folder.path().join("objects.json"));
        fs::write(&path, "bytes").unwrap();
        let (digest, stat) = (Digest::of(b"bytes"), Stat::of(&fs::metadata(&path).unwrap()));
        let mut sound = Sound::load(&saved);
        sound.keep(digest, stat, now());
        sound.save(&saved, folder.path()).unwrap();
        let sound = Sound::load(&saved);
        assert_eq!(sound.looks(&digest, stat, false), Looks::Untouched);
        assert!(!sound.is_changed());
    }
}
