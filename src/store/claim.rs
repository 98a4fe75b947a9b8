//! Claims: who is making a key right now, so that another process waits for the result instead of making it too.
//!
//! A claim only saves work; what keeps the cache right is that the first commit of a key wins. So a claim that is lost
//! (its owner was paused, a network file system was slow) costs work done twice, never a wrong result.
//!
//! A claim is a file that names its owner's file in `work/`. On the owner's host that file's lock says whether it lives;
//! from other hosts its heartbeat is watched, on the watcher's own clock.

use super::Store;
use super::error::{At, Result};
use super::work::LOCK;
use crate::key::Digest;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An owner on another host whose heart has not beaten for so long is dead.
const PATIENCE: Duration = Duration::from_secs(15);

/// The right to make a key, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    owner: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|owner| owner == self.owner) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What a process has seen of another's claim.
#[derive(Debug)]
pub struct Watch {
    patience: Duration,
    /// Owner and heartbeat, and since when they are the same.
    seen: Option<(String, Instant)>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { patience: PATIENCE, seen: None }
    }
}

impl Store {
    /// Claims a key. `None`: somebody alive has it; ask again later with the same `watch`.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn claim(&self, key: &Digest, watch: &mut Watch) -> Result<Option<Claim>> {
        let own = self.lease()?;
        let path = self.root.join("claims").join(key.to_string());
        loop {
            match File::create_new(&path) {
                Ok(mut file) => {
                    file.write_all(own.name().as_bytes()).at("write", &path)?;
                    return Ok(Some(Claim { path, owner: own.name().to_string() }));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).at("write", &path),
            }
            let owner = match fs::read_to_string(&path) {
                Ok(owner) => owner,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at("read", &path),
            };
            if self.is_alive(&owner, watch) || !self.bury(&path, &owner)? {
                return Ok(None);
            }
        }
    }

    /// Whether somebody alive has claimed a key; ask again later with the same `watch`.
    ///
    /// # Errors
    /// If the claim cannot be read.
    pub fn is_claimed(&self, key: &Digest, watch: &mut Watch) -> Result<bool> {
        let path = self.root.join("claims").join(key.to_string());
        match fs::read_to_string(&path) {
            Ok(owner) => Ok(self.is_alive(&owner, watch)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).at("read", &path),
        }
    }

    fn is_alive(&self, owner: &str, watch: &mut Watch) -> bool {
        let file = self.root.join("work").join(format!("{owner}.{LOCK}"));
        if owner.starts_with(&format!("{}.", self.host)) {
            match File::open(&file).map(|file| file.try_lock()) {
                Ok(Ok(())) => return false,
                Ok(Err(TryLockError::WouldBlock)) => return true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
                // No locks here: the heart must do.
                Ok(Err(TryLockError::Error(_))) | Err(_) => {}
            }
        }
        let now = format!("{owner} {}", fs::read_to_string(&file).unwrap_or_default());
        match &watch.seen {
            Some((before, since)) if *before == now => since.elapsed() < watch.patience,
            _ => {
                watch.seen = Some((now, Instant::now()));
                true
            }
        }
    }

    /// Takes a dead owner's claim away. `false`: another process did so first, and has claimed the key itself.
    fn bury(&self, path: &Path, owner: &str) -> Result<bool> {
        let grave = self.work_dir()?;
        let moved = grave.path().join("claim");
        match fs::rename(path, &moved) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error).at("remove", path),
        }
        if fs::read_to_string(&moved).is_ok_and(|found| found == owner) {
            return Ok(true);
        }
        // A live claim was moved: back with it, unless there is a newer one by now.
        let _ = fs::hard_link(&moved, path);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Digest {
        Digest::of(b"key")
    }

    #[test]
    fn one_has_the_claim_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap());
        let mut watch = Watch::default();
        let claim = one.claim(&key(), &mut watch).unwrap().unwrap();
        assert!(two.claim(&key(), &mut watch).unwrap().is_none());
        assert!(two.is_claimed(&key(), &mut watch).unwrap());
        assert!(two.claim(&Digest::of(b"another"), &mut watch).unwrap().is_some());
        drop(claim);
        assert!(!two.is_claimed(&key(), &mut watch).unwrap());
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
        let store = Store::open(folder.path()).unwrap();
        let beat = folder.path().join("work/elsewhere.1.x.lock");
        fs::write(&beat, "1").unwrap();
        fs::write(folder.path().join("claims").join(key().to_string()), "elsewhere.1.x").unwrap();
        let mut watch = Watch { patience: Duration::ZERO, seen: None };
        assert!(store.claim(&key(), &mut watch).unwrap().is_none(), "seen for the first time");
        fs::write(&beat, "2").unwrap();
        assert!(store.claim(&key(), &mut watch).unwrap().is_none(), "it has beaten");
        assert!(store.claim(&key(), &mut watch).unwrap().is_some(), "it has not beaten again in time");
    }
}
