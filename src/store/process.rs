//! Who is at work on the cache: this process by name, whether another lives, and what others make at this moment.

use super::claim::{Claim, owner, read, write_new};
use super::error::{At, Result};
use super::work::{Held, held};
use super::{Store, gc};
use super::{durable, file};
use crate::journal::Process;
use crate::key::Digest;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;

/// Somebody who makes a key at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Worker {
    /// The host that it runs on.
    pub host: String,
    /// Its number there; none if its name does not tell.
    pub pid: Option<u32>,
    /// Since when, RFC 3339 in UTC; none if that cannot be told.
    pub since: Option<String>,
    /// Whether it makes again what the cache has: forced, or for an audit.
    pub again: bool,
}

/// What a claim says.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) key: Digest,
    /// The name of the process that makes it.
    pub(super) owner: String,
    pub(super) since: Option<Timestamp>,
    again: bool,
}

impl Store {
    /// This process.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn process(&self) -> Result<Process> {
        let name = self.lease()?.name().to_string();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Process { name, host, pid: std::process::id() })
    }

    /// Whether a process lives, as far as one look can tell: of this host its lock does, of others their hearts, which
    /// must have beaten within the time that others have patience for.
    pub(super) fn lives(&self, name: &str) -> bool {
        let path = self.lock_file(name);
        match self.is_of_this_host(name).then(|| held(&path, &self.settings)) {
            Some(Held::Yes) => true,
            Some(Held::No) => false,
            Some(Held::Unknown) | None => {
                fs::symlink_metadata(&path).is_ok_and(|metadata| !self.has_rested(&metadata, self.settings.patience))
            }
        }
    }

    /// Shows others that this process makes a key again which the cache has. Any number of processes may.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn claim_again(&self, key: &Digest) -> Result<Claim> {
        let own = self.lease()?;
        let path = self.root.join("claims").join(format!("{key}.{}", own.name()));
        // One key is made by one process once at a time.
        match write_new(&path, own.name()) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error).at("write", &path),
            _ => {}
        }
        Ok(Claim::new(path, own.name().to_string(), own.folder().join(format!("again-{key}"))))
    }

    /// The keys that other live processes make at this moment.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn at_work(&self) -> Result<BTreeMap<Digest, Worker>> {
        let own = super::lock(&self.lease).as_ref().map(|lease| lease.name().to_string());
        let mut living: BTreeMap<String, bool> = BTreeMap::new();
        let mut found: BTreeMap<Digest, Worker> = BTreeMap::new();
        for Claimed { key, owner, since, again } in self.claimed()? {
            let is_other = own.as_ref() != Some(&owner);
            if !is_other || !*living.entry(owner.clone()).or_insert_with(|| self.lives(&owner)) {
                continue;
            }
            let worker = Worker { again, since: since.map(|since| since.to_string()), ..named(&owner) };
            // Who makes it for the first time tells more.
            if !again || !found.contains_key(&key) {
                found.insert(key, worker);
            }
        }
        Ok(found)
    }

    /// All claims of keys, those of dead processes too.
    pub(super) fn claimed(&self) -> Result<Vec<Claimed>> {
        let mut claims = Vec::new();
        for entry in file::entries(&self.root.join("claims"))? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let (key, again) = name.split_once('.').map_or((name.as_str(), false), |(key, _)| (key, true));
            // One that vanishes at this moment is no claim any more.
            let (Ok(key), Ok(token)) = (key.parse(), read(&entry.path())) else { continue };
            let since = fs::symlink_metadata(entry.path()).and_then(|metadata| metadata.modified()).ok();
            let since = since.and_then(|since| Timestamp::try_from(since).ok());
            claims.push(Claimed { key, owner: owner(&token).to_string(), since, again });
        }
        Ok(claims)
    }
}

/// What tells this host from others that share the cache: its name, and where boots have names the beginning of this one's.
/// Hosts that were made from one image have one name, and would take each other's processes for their own that have ended.
pub(super) fn machine() -> String {
    let boot = durable::boot().ok().and_then(|boot| boot.get(..8).map(|boot| format!("~{boot}")));
    super::host() + &boot.unwrap_or_default()
}

/// What the name of a process tells: `HOST~BOOT.PID.RANDOM`, without `~BOOT` where boots have no names.
fn named(name: &str) -> Worker {
    let mut parts = name.rsplitn(3, '.').skip(1);
    let pid = parts.next().and_then(|pid| pid.parse().ok());
    let machine = parts.next().unwrap_or(name);
    let host = gc::plain(machine.split_once('~').map_or(machine, |(host, _)| host));
    Worker { host, pid, since: None, again: false }
}

#[cfg(test)]
mod tests {
    use super::super::tests::store;
    use super::super::{Settings, Watch};
    use super::*;
    use std::time::Duration;

    #[test]
    fn others_see_what_a_process_makes_and_again_makes_until_it_ends() {
        let (_folder, store) = store();
        let other = Store::open(store.root()).unwrap();
        let (new, old) = (Digest::of(b"new"), Digest::of(b"old"));
        let claim = store.claim(&new, &mut Watch::default()).unwrap().unwrap();
        let again = store.claim_again(&old).unwrap();
        assert!(again.is_held() && store.at_work().unwrap().is_empty(), "it is not another");
        let seen = other.at_work().unwrap();
        assert_eq!(seen.keys().collect::<Vec<_>>().len(), 2);
        assert!(!seen[&new].again && seen[&old].again && seen[&new].since.is_some());
        assert_eq!(seen[&new].pid, Some(std::process::id()));
        assert_eq!(seen[&new].host, rustix::system::uname().nodename().to_string_lossy());
        assert!(other.claim(&old, &mut Watch::default()).unwrap().is_some(), "it hinders nobody");
        drop((claim, again));
        assert!(other.at_work().unwrap().is_empty());
        std::mem::forget(store.claim(&new, &mut Watch::default()).unwrap());
        drop(store);
        assert!(other.at_work().unwrap().is_empty(), "the dead make nothing");
    }

    #[test]
    fn a_process_of_another_host_lives_by_its_heart() {
        let (_folder, first) = store();
        let quick = Settings { patience: Duration::from_millis(50), ..Settings::default() };
        let store = Store::open_with(first.root(), quick).unwrap();
        assert!(!store.lives("elsewhere.1.x"));
        let lock = store.lock_file("elsewhere.1.x");
        fs::write(&lock, "1").unwrap();
        assert!(store.lives("elsewhere.1.x"));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!store.lives("elsewhere.1.x"));
        assert!(store.lives(&first.process().unwrap().name));
    }

    #[test]
    fn hosts_of_one_name_do_not_ask_each_other_s_locks() {
        let (_folder, first) = store();
        let quick = Settings { patience: Duration::from_millis(50), ..Settings::default() };
        let host = first.host.clone();
        let other = Store { machine: format!("{host}~00000000"), ..Store::open_with(first.root(), quick).unwrap() };
        let claim = first.claim(&Digest::of(b"key"), &mut Watch::default()).unwrap().unwrap();
        // As on a file system whose locks are not seen on other hosts: nobody holds it, but the heart beats.
        let lock = first.lock_file(&first.process().unwrap().name);
        fs::write(&lock, "1").unwrap();
        let mut watch = Watch::default();
        assert!(other.claim(&Digest::of(b"key"), &mut watch).unwrap().is_none());
        assert!(other.lives(&first.process().unwrap().name) && claim.is_held());
        let worker = other.at_work().unwrap().into_values().next().unwrap();
        assert_eq!(worker.host, rustix::system::uname().nodename().to_string_lossy());
    }

    #[test]
    fn the_name_of_a_process_tells_its_host_and_number() {
        let worker = named("a.b%20c.41.xyz");
        assert_eq!((worker.host.as_str(), worker.pid), ("a.b c", Some(41)));
        assert_eq!((named("a~0a1b.41.x").host.as_str(), named("a~0a1b.41.x").pid), ("a", Some(41)));
        assert_eq!((named("odd").host.as_str(), named("odd").pid), ("odd", None));
    }
}
