//! Claims: who is making a key right now, so that another process waits for the result instead of making it too.
//!
//! A claim only saves work; what keeps the cache right is that the first commit of a key wins. So a claim that is lost
//! (its owner was paused, a network file system was slow) costs work done twice, never a wrong result.
//!
//! A claim is a link that leads nowhere: its target names the owner's file in `work/`, and a number that makes every claim
//! another one. So it is made in one step, and on a full disk too. On the owner's host that file's lock says whether it
//! has ended. What has not (or cannot be asked: other hosts, file systems without locks) is watched: one whose heart has
//! not beaten for a while, on the watcher's own clock, stands still, and its claim is taken. When it wakes it sees that the
//! claim is not its own any more, and leaves the new owner's alone.

use super::Store;
use super::error::{At, Result};
use super::work::{Held, LOCK, heart, held};
use crate::key::Digest;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The right to make a key, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// What the file says as long as the claim is held.
    token: String,
    /// A name of its own for what is about to be removed.
    grave: PathBuf,
}

impl Claim {
    /// A claim that stands at `path` and says `token`.
    pub(super) fn new(path: PathBuf, token: String, grave: PathBuf) -> Self {
        Self { path, token, grave }
    }

    /// Whether it is still held: while this process stood still, another may have taken it.
    pub fn is_held(&self) -> bool {
        read(&self.path).is_ok_and(|token| token == self.token)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_held() {
            let _ = bury(&self.path, &self.token, &self.grave);
        }
    }
}

/// What a process has seen of another's heart.
#[derive(Debug, Default)]
pub struct Watch {
    /// Owner and heartbeat, and since when they are the same.
    seen: Option<(String, Instant)>,
    /// Whether it was seen to beat.
    has_changed: bool,
}

impl Watch {
    /// Whether something still changes: the first look, and then for `patience` after each change.
    fn changes(&mut self, now: String, patience: Duration) -> bool {
        match &self.seen {
            Some((before, since)) if *before == now => since.elapsed() < patience,
            before => {
                self.has_changed = before.is_some();
                self.seen = Some((now, Instant::now()));
                true
            }
        }
    }
}

impl Store {
    /// Claims a key. `None`: somebody alive has it; ask again later with the same `watch`.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn claim(&self, key: &Digest, watch: &mut Watch) -> Result<Option<Claim>> {
        self.claim_named(&key.to_string(), watch)
    }

    /// Claims something that has a name among the claims.
    pub(super) fn claim_named(&self, name: &str, watch: &mut Watch) -> Result<Option<Claim>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let own = self.lease()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let token = format!("{} {number}", own.name());
        let grave = own.folder().join(format!("claim-{number}"));
        let path = self.root.join("claims").join(name);
        loop {
            match write_new(&path, &token) {
                Ok(()) => return Ok(Some(Claim::new(path, token, grave))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).at("write", &path),
            }
            let other = match read(&path) {
                Ok(other) => other,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at("read", &path),
            };
            if self.is_alive(owner(&other), watch) || !bury(&path, &other, &grave)? {
                return Ok(None);
            }
        }
    }

    /// Claims a key within the time after which a dead owner is known to be dead. `None`: its owner lives.
    ///
    /// # Errors
    /// As [`Store::claim`].
    pub fn claim_in_time(&self, key: &Digest) -> Result<Option<Claim>> {
        self.claim_named_in_time(&key.to_string())
    }

    /// As [`Store::claim_in_time`], for something that has a name among the claims.
    pub(super) fn claim_named_in_time(&self, name: &str) -> Result<Option<Claim>> {
        let (mut watch, begun) = (Watch::default(), Instant::now());
        loop {
            let claim = self.claim_named(name, &mut watch)?;
            let is_over = watch.has_changed || begun.elapsed() > self.settings.patience + Duration::from_secs(1);
            if claim.is_some() || is_over {
                return Ok(claim);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a claim that others hold for a moment only.
    pub(super) fn turn(&self, name: &str) -> Result<Claim> {
        let mut watch = Watch::default();
        loop {
            if let Some(claim) = self.claim_named(name, &mut watch)? {
                return Ok(claim);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a process lives and does not stand still, as far as can be seen from here.
    pub(super) fn is_alive(&self, owner: &str, watch: &mut Watch) -> bool {
        let file = self.lock_file(owner);
        if self.is_of_this_host(owner) && held(&file, &self.settings) == Held::No {
            return false;
        }
        watch.changes(format!("{owner} {}", heart(&file)), self.settings.patience)
    }

    /// Whether a process runs on this host since its last start: only then can its lock be asked.
    pub(super) fn is_of_this_host(&self, owner: &str) -> bool {
        owner.strip_prefix(&self.machine).is_some_and(|rest| rest.starts_with('.'))
    }

    pub(super) fn lock_file(&self, owner: &str) -> PathBuf {
        self.root.join("work").join(format!("{owner}.{LOCK}"))
    }
}

/// The name of a claim's owner.
pub(super) fn owner(token: &str) -> &str {
    token.split(' ').next().unwrap_or(token)
}

/// Says a token under a name that is not taken. Where there are no links, a file says it.
pub(super) fn write_new(path: &Path, token: &str) -> io::Result<()> {
    match symlink(token, path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
            File::create_new(path)?.write_all(token.as_bytes())
        }
        done => done,
    }
}

/// What a claim says.
pub(super) fn read(path: &Path) -> io::Result<String> {
    match fs::read_link(path) {
        Ok(token) => Ok(token.to_string_lossy().into_owned()),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => fs::read_to_string(path),
        Err(error) => Err(error),
    }
}

/// Takes a claim away that says `token`. `false`: it says something else by now, and stays.
pub(super) fn bury(path: &Path, token: &str, grave: &Path) -> Result<bool> {
    if read(path).is_ok_and(|found| found != token) {
        return Ok(false);
    }
    match fs::rename(path, grave) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error).at("remove", path),
    }
    let is_it = read(grave).is_ok_and(|found| found == token);
    if !is_it {
        // A live claim was moved: back with it, unless there is a newer one by now.
        let _ = fs::hard_link(grave, path);
    }
    let _ = fs::remove_file(grave);
    Ok(is_it)
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn key() -> Digest {
        Digest::of(b"key")
    }

    fn open(folder: &tempfile::TempDir, locks: bool, patience: Duration) -> Store {
        Store::open_with(folder.path(), Settings { locks, patience }).unwrap()
    }

    #[test]
    fn one_has_the_claim_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap());
        let mut watch = Watch::default();
        let claim = one.claim(&key(), &mut watch).unwrap().unwrap();
        assert!(claim.is_held());
        assert!(two.claim(&key(), &mut watch).unwrap().is_none());
        assert!(two.at_work().unwrap().contains_key(&key()));
        assert!(two.claim(&Digest::of(b"another"), &mut watch).unwrap().is_some());
        drop(claim);
        assert!(!two.at_work().unwrap().contains_key(&key()));
        assert!(two.claim(&key(), &mut watch).unwrap().is_some());
    }

    #[test]
    fn a_dead_owner_on_this_host_is_noticed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap());
        std::mem::forget(one.claim(&key(), &mut Watch::default()).unwrap().unwrap());
        assert!(two.claim(&key(), &mut Watch::default()).unwrap().is_none());
        // Its lock goes with it, as when it is killed.
        drop(one);
        assert!(two.claim(&key(), &mut Watch::default()).unwrap().is_some());
    }

    #[test]
    fn an_owner_elsewhere_lives_as_long_as_its_heart_beats() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder, true, Duration::ZERO);
        let beat = folder.path().join("work/elsewhere.1.x.lock");
        fs::write(&beat, "1").unwrap();
        fs::write(folder.path().join("claims").join(key().to_string()), "elsewhere.1.x 0").unwrap();
        let mut watch = Watch::default();
        assert!(store.claim(&key(), &mut watch).unwrap().is_none(), "seen for the first time");
        fs::write(&beat, "2").unwrap();
        assert!(store.claim(&key(), &mut watch).unwrap().is_none(), "it has beaten");
        assert!(store.claim(&key(), &mut watch).unwrap().is_some(), "it has not beaten again in time");
    }

    #[test]
    fn an_owner_that_stood_still_sees_that_its_claim_was_taken_and_leaves_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        // Its lock is held, as that of a process that was stopped is; its heart does not beat in time.
        let (one, two) = (open(&folder, true, Duration::from_secs(600)), open(&folder, true, Duration::ZERO));
        let first = one.claim(&key(), &mut Watch::default()).unwrap().unwrap();
        let mut watch = Watch::default();
        assert!(two.claim(&key(), &mut watch).unwrap().is_none());
        let second = two.claim(&key(), &mut watch).unwrap().unwrap();
        assert!(!first.is_held() && second.is_held());
        drop(first);
        assert!(second.is_held(), "the new owner is not disturbed");
        assert!(one.claim(&key(), &mut Watch::default()).unwrap().is_none());
        drop(second);
        assert!(one.claim(&key(), &mut Watch::default()).unwrap().is_some());
    }

    #[test]
    fn a_dead_owner_elsewhere_is_waited_for_and_a_live_one_is_known_by_its_heart() {
        let folder = tempfile::tempdir().unwrap();
        let (live, two) =
            (open(&folder, true, Duration::from_millis(200)), open(&folder, true, Duration::from_millis(200)));
        write_new(&folder.path().join("claims").join(key().to_string()), "elsewhere.1.gone 0").unwrap();
        let claim = live.claim_in_time(&key()).unwrap();
        assert!(claim.is_some());
        assert!(two.claim_in_time(&key()).unwrap().is_none());
        // It does not take all of the time.
        let patient = open(&folder, true, Duration::from_secs(100_000));
        assert!(patient.claim_in_time(&key()).unwrap().is_none());
    }

    #[test]
    fn only_what_says_the_token_is_buried() {
        let folder = tempfile::tempdir().unwrap();
        let (path, grave) = (folder.path().join("claim"), folder.path().join("grave"));
        write_new(&path, "new 1").unwrap();
        assert!(!bury(&path, "old 1", &grave).unwrap());
        assert_eq!(read(&path).unwrap(), "new 1");
        assert!(bury(&path, "new 1", &grave).unwrap());
        assert!(read(&path).is_err() && read(&grave).is_err());
    }

    #[test]
    fn without_locks_the_heart_decides_on_this_host_too() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (open(&folder, false, Duration::from_secs(600)), open(&folder, true, Duration::ZERO));
        let claim = one.claim(&key(), &mut Watch::default()).unwrap().unwrap();
        // The second one could lock the file, which tells nothing: its owner had no locks.
        let mut watch = Watch::default();
        assert!(two.claim(&key(), &mut watch).unwrap().is_none());
        assert_eq!(held(&one.lock_file(owner(&claim.token)), &two.settings), Held::Unknown);
        Store::open(folder.path()).unwrap();
        assert!(claim.is_held() && one.temporary().unwrap().exists(), "its folder is not taken for a dead one's");
        assert!(two.claim(&key(), &mut watch).unwrap().is_some());
    }
}
