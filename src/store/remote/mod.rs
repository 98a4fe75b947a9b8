//! A second cache that machines share: a folder of a network file system, or a part of an S3-compatible bucket.
//!
//! ```text
//! VERSION                                       format of what lies here
//! objects/ab/ab12…                              files by BLAKE3
//! actions/cd/cd34…/key.json                     what was hashed
//! actions/cd/cd34…/record.json                  the first complete run: the canonical one
//! actions/cd/cd34…/observations/DIGEST.json     further runs, named by BLAKE3 of their own text: none meets another
//! incoming/                                     (folders only) files on their way
//! ```
//!
//! A run's objects come first, then its `key.json`, then its record, which is made only if there is none: whoever finds
//! a record finds all that it names. There are no locks.
//!
//! Nothing that comes from there is believed. An object is hashed while it arrives and refused at the first byte too
//! many; a record must be of its key and promise what the stage promises (`inspect`). What is refused is made here, and
//! the local cache never sees it. That a record maps a key to the *right* bytes cannot be seen: who may write to a shared
//! cache is trusted.
//!
//! Of a cache that cannot be reached the person is told once; it is not asked again then.

mod address;
mod backend;
#[cfg(feature = "s3")]
mod bucket;
mod carry;
mod folder;
mod inspect;
#[cfg(test)]
mod tests;
mod transfers;

pub use address::{Address, Credentials};
pub use carry::Sent;
pub use transfers::{Errand, Told, Transfers};

use super::{Store, StoreError, lock};
use crate::key::Digest;
use crate::record::Record;
use backend::{Backend, Reached, Stop, Unreachable};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Version of the layout.
const FORMAT: u32 = 1;
/// Bytes of a record or of what was hashed to a key.
const LONGEST_TEXT: usize = 64 << 20;
/// Files that are asked for or carried at once.
pub(super) const AT_ONCE: usize = 8;
/// So many failures in a row are enough of a place that has answered before; of another, one.
const PATIENCE: u32 = 3;
/// That a key is not there is believed for so long.
const FORGET: Duration = Duration::from_secs(30);

/// Why something was not fetched or sent.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The shared cache cannot be reached, or lets nobody in.
    #[error("{0}")]
    Unreachable(String),
    /// What lies there, or here, is not what it says it is.
    #[error("{0}")]
    Refused(String),
    /// The person stopped it.
    #[error("stopped")]
    Stopped,
    /// The local cache did not do its part.
    #[error(transparent)]
    Local(#[from] StoreError),
}

type Outcome<T> = Result<T, Trouble>;

/// A shared cache. Opened when it is first asked.
#[derive(Debug)]
pub struct Remote {
    address: Address,
    credentials: Credentials,
    pulls: bool,
    pushes: bool,
    backend: OnceLock<Result<Box<dyn Backend>, String>>,
    stop: Arc<Stop>,
    health: Mutex<Health>,
    /// What was asked for lately.
    asked: Mutex<BTreeMap<Digest, Answer>>,
    /// Whether its `VERSION` is there.
    marked: Mutex<bool>,
    /// Objects that are there for sure.
    present: Mutex<BTreeSet<Digest>>,
    complaints: Mutex<Vec<String>>,
}

/// What was found of a key, and when.
#[derive(Clone, Debug)]
struct Answer {
    when: Instant,
    record: Option<Arc<Record>>,
}

/// How well the place has answered.
#[derive(Debug, Default)]
struct Health {
    has_worked: bool,
    failures: u32,
}

impl Remote {
    /// The shared cache at an address. `pulls`: results are looked for there; `pushes`: what is made is sent there.
    pub fn new(address: Address, credentials: Credentials, pulls: bool, pushes: bool) -> Self {
        Self {
            address,
            credentials,
            pulls,
            pushes,
            backend: OnceLock::new(),
            stop: Arc::default(),
            health: Mutex::default(),
            asked: Mutex::default(),
            marked: Mutex::default(),
            present: Mutex::default(),
            complaints: Mutex::default(),
        }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether results are looked for there.
    pub fn pulls(&self) -> bool {
        self.pulls
    }

    /// Whether what is made is sent there.
    pub fn pushes(&self) -> bool {
        self.pushes
    }

    /// Ends transfers early; from now on nothing is asked of the place.
    pub fn stop(&self) {
        self.stop.set();
    }

    /// Whether the place answers.
    ///
    /// # Errors
    /// Why it does not.
    pub fn reach(&self) -> Result<(), Trouble> {
        self.backend().map(|_| ())
    }

    pub(super) fn take_complaints(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.complaints))
    }

    fn complain(&self, message: String) {
        lock(&self.complaints).push(message);
    }

    fn backend(&self) -> Outcome<&dyn Backend> {
        if self.stop.is_set() {
            return Err(Trouble::Stopped);
        }
        let opened = self.backend.get_or_init(|| {
            self.connect().map_err(|Unreachable(message)| {
                let message = format!("the shared cache `{}` is not used: {message}", self.address);
                if !self.stop.is_set() {
                    self.complain(message.clone());
                }
                message
            })
        });
        match opened {
            Err(message) => Err(Trouble::Unreachable(message.clone())),
            Ok(_) if lock(&self.health).is_down() => {
                Err(Trouble::Unreachable(format!("the shared cache `{}` is not asked any more", self.address)))
            }
            Ok(backend) => Ok(&**backend),
        }
    }

    fn connect(&self) -> Reached<Box<dyn Backend>> {
        let backend: Box<dyn Backend> = match &self.address {
            Address::Folder(path) => Box::new(folder::Folder::open(path)?),
            #[cfg(feature = "s3")]
            Address::Bucket { bucket, prefix } => {
                Box::new(bucket::Bucket::open(bucket, prefix, &self.credentials, Arc::clone(&self.stop))?)
            }
            #[cfg(not(feature = "s3"))]
            Address::Bucket { .. } => {
                return Err(Unreachable("this titer was built without the feature `s3`".to_string()));
            }
        };
        let mut version = Limited { bytes: Vec::new(), limit: 64, is_full: false };
        if backend.read("VERSION", &mut version)? {
            let text = String::from_utf8_lossy(&version.bytes).trim().to_string();
            match text.parse::<u32>() {
                Ok(found) if found > FORMAT => {
                    return Err(Unreachable(format!(
                        "it has format {found}, this titer knows format {FORMAT}; use a newer titer"
                    )));
                }
                Ok(_) => {}
                Err(_) => return Err(Unreachable("its `VERSION` is none of titer's".to_string())),
            }
        }
        lock(&self.health).has_worked = true;
        Ok(backend)
    }

    /// Asks the place for something, and remembers how well it answers.
    fn ask<T>(&self, what: impl FnOnce(&dyn Backend) -> Reached<T>) -> Outcome<T> {
        let answer = what(self.backend()?);
        if self.stop.is_set() {
            return Err(Trouble::Stopped);
        }
        let mut health = lock(&self.health);
        match answer {
            Ok(answer) => {
                *health = Health { has_worked: true, failures: 0 };
                Ok(answer)
            }
            Err(Unreachable(message)) => {
                let message = self.credentials.mask(&message);
                health.failures += 1;
                // Transfers that were under way fail too, and say nothing new.
                if health.failures == if health.has_worked { PATIENCE } else { 1 } {
                    self.complain(format!("the shared cache `{}` is not asked any more: {message}", self.address));
                }
                Err(Trouble::Unreachable(message))
            }
        }
    }

    /// The whole of a small file.
    fn text(&self, path: &str) -> Outcome<Option<Vec<u8>>> {
        let mut text = Limited { bytes: Vec::new(), limit: LONGEST_TEXT, is_full: false };
        let is_there = self.ask(|place| place.read(path, &mut text))?;
        match text.is_full {
            true => Err(Trouble::Refused(format!("`{path}` there is longer than any that titer makes"))),
            false => Ok(is_there.then_some(text.bytes)),
        }
    }

    /// The canonical record of a key that would make `outputs` (their names and paths); none if it is not there, cannot
    /// be believed (which is complained of) or results are not looked for there. Of a key that was asked for just now
    /// the answer is known.
    pub fn record(&self, key: &Digest, outputs: &[(&str, &str)]) -> Option<Arc<Record>> {
        if !self.pulls {
            return None;
        }
        if let Some(Answer { when, record }) = lock(&self.asked).get(key)
            && (record.is_some() || when.elapsed() < FORGET)
        {
            return record.clone();
        }
        let found = match self.canonical(key, outputs) {
            Ok(found) => found.map(Arc::new),
            Err(Trouble::Refused(reason)) => {
                self.complain(format!("the shared cache's record of key {} is not used: {reason}", key.short()));
                None
            }
            Err(_) => return None,
        };
        self.remember(key, found.clone());
        found
    }

    /// Asks for many records at once, so that [`Remote::record`] knows the answers.
    pub fn ask_ahead(&self, keys: &[(Digest, Vec<(&'static str, &'static str)>)]) {
        let next = Mutex::new(keys.iter());
        std::thread::scope(|scope| {
            for _ in 0..keys.len().min(AT_ONCE) {
                scope.spawn(|| {
                    loop {
                        // The lock is held for the taking only.
                        let taken = lock(&next).next();
                        let Some((key, outputs)) = taken else { return };
                        self.record(key, outputs);
                    }
                });
            }
        });
    }

    fn canonical(&self, key: &Digest, outputs: &[(&str, &str)]) -> Outcome<Option<Record>> {
        let Some(text) = self.text(&record_path(key))? else { return Ok(None) };
        inspect::record(&text, key, outputs).map(Some).map_err(Trouble::Refused)
    }

    /// Forgets that a record was there: what it names is not what it says.
    fn disbelieve(&self, key: &Digest) {
        self.remember(key, None);
    }

    fn remember(&self, key: &Digest, record: Option<Arc<Record>>) {
        lock(&self.asked).insert(*key, Answer { when: Instant::now(), record });
    }
}

impl Health {
    fn is_down(&self) -> bool {
        self.failures >= if self.has_worked { PATIENCE } else { 1 }
    }
}

fn object_path(digest: &Digest) -> String {
    let name = digest.to_string();
    format!("objects/{}/{name}", &name[..2])
}

fn action_path(key: &Digest, file: &str) -> String {
    let name = key.to_string();
    format!("actions/{}/{name}/{file}", &name[..2])
}

fn record_path(key: &Digest) -> String {
    action_path(key, "record.json")
}

/// Bytes in memory, so many and no more.
struct Limited {
    bytes: Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl Write for Limited {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > self.limit {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store {
    /// Adds a shared cache.
    #[must_use]
    pub fn with_remote(mut self, remote: Option<Remote>) -> Self {
        self.remote = remote;
        self
    }

    /// The shared cache, if there is one.
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }
}
