//! When results are on the disk, and what is done about a host that lost its power before.
//!
//! Waiting for the disk costs tens of milliseconds a stage, far more than most mixes and scores: so what took long is synced
//! when it is committed, and what took less is synced with all others at the end of the run. Before the first commit
//! that is not synced a process leaves a *note* in `local/HOST/unsynced/` with the name of this boot of the system. A
//! note of another boot is found after a crash of the host: then every object that is not older than the note is read
//! before anything is trusted, and what is not what its name says goes to the quarantine. Killed processes lose nothing by
//! it: what they wrote is the system's.

use super::error::{At, Result};
use super::stat::Stat;
use super::work::{Held, held};
use super::{Store, file};
use crate::key::Digest;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Work that took less than this is not worth a wait for the disk.
const CHEAP: Duration = Duration::from_secs(1);
/// The folder of notes among what a host knows.
const FOLDER: &str = "unsynced";
/// Nanoseconds by which the clock that stamps files may lag: some count in twos of seconds.
const LAG_NS: i128 = 2_000_000_000;

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until all is on the disk.
    Now,
    /// The end of the run does.
    Later,
}

impl Store {
    /// How work that took so many seconds is committed.
    pub(super) fn wait_for(&self, seconds: f64) -> Wait {
        if seconds >= CHEAP.as_secs_f64() || self.note_unsynced().is_err() { Wait::Now } else { Wait::Later }
    }

    /// Leaves the note, once. Fails where boots have no names: there every commit waits.
    fn note_unsynced(&self) -> Result<()> {
        let mut note = super::lock(&self.unsynced);
        if note.is_none() {
            let folder = self.local().join(FOLDER);
            fs::create_dir_all(&folder).at("create", &folder)?;
            let path = folder.join(self.lease()?.name());
            // Whole from the first moment: others may read it.
            let new = self.temporary()?.join("note");
            file::write_synced(&new, boot().at("read", &path)?.as_bytes())?;
            fs::rename(&new, &path).at("write", &path)?;
            for above in [folder.as_path(), &self.local(), &self.root.join("local"), &self.root] {
                file::sync_folder(above)?;
            }
            *note = Some(path);
        }
        Ok(())
    }

    /// Waits until all that was committed is on the disk, and takes the note away, and those of processes that have died
    /// meanwhile.
    pub(super) fn sync_all(&self) {
        let mut note = super::lock(&self.unsynced);
        let Some(own) = &*note else { return };
        let dead: Vec<PathBuf> = self.notes().into_iter().filter(|path| self.is_of_a_dead_process(path)).collect();
        if File::open(&self.root).is_ok_and(|root| sync_file_system(&root).is_ok()) {
            dead.iter().chain([own]).for_each(|path| drop(fs::remove_file(path)));
            *note = None;
        }
    }

    fn notes(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.local().join(FOLDER)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    fn is_of_a_dead_process(&self, note: &Path) -> bool {
        let owner = note.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        held(&self.lock_file(owner), &self.settings) == Held::No
    }

    /// Looks for notes of another boot, and proves the objects that are not older than the oldest of them.
    ///
    /// # Errors
    /// If an object cannot be read or moved.
    pub(super) fn recover(&self) -> Result<()> {
        let Ok(boot) = boot() else { return Ok(()) };
        let mut stale: Vec<(PathBuf, Stat)> = Vec::new();
        for path in self.notes() {
            // One that is gone was taken away by its process, which has synced what it tells of.
            if let (Some(left_by), Ok(metadata)) = (file::read_if_there(&path)?, fs::metadata(&path))
                && left_by != boot.as_bytes()
            {
                stale.push((path, Stat::of(&metadata)));
            }
        }
        if let Some(since) = stale.iter().map(|(_, note)| note.changed_at()).min() {
            self.prove_since(since - LAG_NS)?;
            for (path, _) in stale {
                match fs::remove_file(&path) {
                    Err(error) if !file::is_absent(&error) => return Err(error).at("remove", &path),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// `since`: nanoseconds since 1970. The time of the last change is the system's; that of the content may be any.
    fn prove_since(&self, since: i128) -> Result<()> {
        let objects = self.root.join("objects");
        for shelf in fs::read_dir(&objects).at("read", &objects)?.flatten() {
            let shelf = shelf.path();
            for entry in fs::read_dir(&shelf).at("read", &shelf)?.flatten() {
                let is_young = entry.metadata().is_ok_and(|metadata| !Stat::of(&metadata).is_before(since));
                let name = entry.file_name();
                if let (true, Some(Ok(digest))) = (is_young, name.to_str().map(str::parse::<Digest>)) {
                    self.verify(&digest)?;
                }
            }
        }
        Ok(())
    }
}

/// The name of this boot of the system.
#[cfg(target_os = "linux")]
pub(super) fn boot() -> std::io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
}

#[cfg(not(target_os = "linux"))]
pub(super) fn boot() -> std::io::Result<String> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn sync_file_system(folder: &File) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(folder)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_folder: &File) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Writes a new file.
pub(super) fn write_new(path: &Path, content: &[u8], wait: Wait) -> Result<()> {
    match wait {
        Wait::Now => file::write_synced(path, content),
        Wait::Later => {
            let mut made = File::create_new(path).at("write", path)?;
            std::io::Write::write_all(&mut made, content).at("write", path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{committed, document, run_info, store};
    use super::*;
    use crate::record::RunInfo;

    /// A commit of work that took so many seconds; returns the object of its file.
    fn commit(store: &Store, seconds: f64) -> PathBuf {
        let work = store.work_dir().unwrap();
        fs::write(work.path().join("rows"), format!("{seconds}")).unwrap();
        let run = RunInfo { wall_seconds: seconds, ..run_info() };
        let made = store.commit(work.path(), &[("rows", "rows")], &document(7), run).unwrap();
        store.path(&made.record().outputs[0].digest)
    }

    #[test]
    fn cheap_work_leaves_a_note_until_all_is_synced() {
        let (_folder, store) = store();
        committed(&store, "took long");
        assert!(store.notes().is_empty());
        commit(&store, 0.1);
        assert_eq!(store.notes().len(), 1);
        store.save();
        assert!(store.notes().is_empty());
    }

    #[test]
    fn after_a_crash_of_the_host_young_objects_are_proven() {
        let (folder, store) = store();
        let object = commit(&store, 0.1);
        let note = store.notes().remove(0);
        let cache = store.root().to_path_buf();
        let local = store.local();
        // As a crash leaves it: the name and the length are there, the bytes are not, and nobody remembers how it looked.
        std::mem::forget(store);
        fs::remove_file(&object).unwrap();
        fs::write(&object, [0; 3]).unwrap();
        let _ = fs::remove_file(local.join("objects.json"));
        drop(Store::open(&cache).unwrap());
        assert!(object.exists(), "the system has not been started anew");
        fs::write(&note, "another boot").unwrap();
        let store = Store::open(&cache).unwrap();
        assert!(!object.exists() && !note.exists());
        assert!(store.take_warnings()[0].contains("was changed or damaged"));
        drop(folder);
    }

    #[test]
    fn an_old_time_of_the_content_hides_nothing() {
        let (_folder, store) = store();
        let object = commit(&store, 0.1);
        let note = store.notes().remove(0);
        fs::remove_file(&object).unwrap();
        fs::write(&object, [0; 3]).unwrap();
        // As `cp -p` and `tar` leave it.
        File::options().write(true).open(&object).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        fs::write(&note, "another boot").unwrap();
        store.recover().unwrap();
        assert!(!object.exists() && !note.exists());
    }

    #[test]
    fn what_is_older_than_the_note_is_not_read() {
        let (_folder, store) = store();
        let object = commit(&store, 0.1);
        fs::remove_file(&object).unwrap();
        fs::write(&object, [0; 3]).unwrap();
        let since = Stat::of(&fs::metadata(&object).unwrap()).changed_at();
        store.prove_since(since + 1).unwrap();
        assert!(object.exists());
        store.prove_since(since).unwrap();
        assert!(!object.exists());
    }

    #[test]
    fn notes_of_processes_that_died_go_with_the_next_sync() {
        let (_folder, store) = store();
        commit(&store, 0.1);
        let path = store.notes()[0].with_file_name(format!("{}.4194304.gone", store.host));
        fs::write(&path, boot().unwrap()).unwrap();
        let other = Store::open(store.root()).unwrap();
        assert_eq!(other.notes().len(), 2, "they are of this boot");
        store.save();
        assert!(store.notes().is_empty());
    }
}
