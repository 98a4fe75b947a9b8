//! Replies that were paid for, of all work in a cache: kept for ever, on the disk before they are used.
//!
//! ```text
//! ledger/paid-XXXXXX.jsonl    a line for each reply that a process got (the form is that of `appended`)
//! ledger/turns/KEY            held by who asks for that reply at this moment
//! ```
//!
//! A reply is found under the digest of all that was asked. What fails is not in here. Files are read as they grow, so that
//! a reply that one process gets is there for the others.

use crate::appended;
use crate::key::Digest;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A line of it.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// Who answered.
    endpoint: String,
    model: String,
    /// When.
    at: String,
    /// What the server said.
    reply: Value,
}

/// The ledger of a cache, opened. Safe to use from many threads, and beside other processes.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    places: BTreeMap<Digest, Place>,
    /// How far each file was read.
    read: BTreeMap<PathBuf, u64>,
    /// The file of this process.
    own: Option<(File, PathBuf)>,
}

#[derive(Clone, Debug)]
struct Place {
    file: PathBuf,
    begin: u64,
    length: usize,
}

/// The right to ask for a reply; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    _file: File,
}

impl Ledger {
    /// Opens the ledger in a folder, which need not exist.
    ///
    /// # Errors
    /// If a file cannot be read: what is in it would be paid for again.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let ledger = Self { folder: folder.to_path_buf(), state: Mutex::default() };
        ledger.refresh()?;
        Ok(ledger)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many replies there are.
    pub fn count(&self) -> usize {
        self.state().places.len()
    }

    /// The reply to a call of this key. One that was damaged or removed meanwhile is none.
    pub fn get(&self, key: &Digest) -> Option<Value> {
        let place = self.state().places.get(key).cloned()?;
        let mut line = vec![0; place.length];
        File::open(&place.file).ok()?.read_exact_at(&mut line, place.begin).ok()?;
        let (_, entry) = appended::read(&line).filter(|(found, _)| found == key)?;
        serde_json::from_value::<Entry>(entry).ok().map(|entry| entry.reply)
    }

    /// Looks for what processes have added.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn refresh(&self) -> anyhow::Result<()> {
        let mut state = self.state();
        for path in appended::files(&self.folder) {
            let from = state.read.get(&path).copied().unwrap_or(0);
            let reading = || format!("reading the ledger `{}`", path.display());
            let grown = match fs::metadata(&path) {
                Ok(metadata) => metadata.len() > from,
                // A `gc` may take it away.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                Err(error) => return Err(error).with_context(reading),
            };
            if grown {
                let mut text = Vec::new();
                let mut file = File::open(&path).with_context(reading)?;
                file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut text)).with_context(reading)?;
                state.index(&path, from, &text);
            }
        }
        Ok(())
    }

    /// Keeps a reply; it is on the disk then.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&self, key: &Digest, endpoint: &str, model: &str, reply: &Value) -> anyhow::Result<()> {
        let at = jiff::Timestamp::now().to_string();
        let entry = Entry { endpoint: endpoint.into(), model: model.into(), at, reply: reply.clone() };
        let line = appended::line(key, &serde_json::to_value(entry)?);
        let mut state = self.state();
        let written = state.append(&self.folder, key, &line);
        if written.is_err() {
            // Half a line may stand there.
            state.own = None;
        }
        written.with_context(|| format!("writing the ledger in `{}`", self.folder.display()))
    }

    /// The right to ask for the reply of this key, unless somebody has it: another process, or another thread.
    pub(super) fn try_turn(&self, key: &Digest) -> anyhow::Result<Option<Turn>> {
        let folder = self.folder.join("turns");
        let taking = || format!("writing to the ledger in `{}`", self.folder.display());
        fs::create_dir_all(&folder).with_context(taking)?;
        let path = folder.join(key.to_string());
        loop {
            let file = File::options().write(true).create(true).truncate(false).open(&path).with_context(taking)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                // Where there are no locks, a call may be made twice at the same moment.
                Err(TryLockError::Error(_)) | Ok(()) => {}
            }
            // Who had it before may have removed it between the opening and the locking.
            let inode = file.metadata().with_context(taking)?.ino();
            if fs::metadata(&path).is_ok_and(|metadata| metadata.ino() == inode) {
                return Ok(Some(Turn { path, _file: file }));
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the lock goes.
        let _ = fs::remove_file(&self.path);
    }
}

impl State {
    /// Takes in what was read of a file from a place on; a last line without its end is left for later.
    fn index(&mut self, path: &Path, from: u64, text: &[u8]) {
        let mut begin = 0;
        while let Some(length) = text[begin..].iter().position(|byte| *byte == b'\n') {
            if let Some(key) = appended::key(&text[begin..begin + length]) {
                self.places.entry(key).or_insert(Place {
                    file: path.to_path_buf(),
                    begin: from + begin as u64,
                    length,
                });
            }
            begin += length + 1;
        }
        self.read.insert(path.to_path_buf(), from + begin as u64);
    }

    fn append(&mut self, folder: &Path, key: &Digest, line: &str) -> std::io::Result<()> {
        let (file, path) = match &mut self.own {
            Some(own) => own,
            None => {
                let own = appended::create(folder, "paid-")?;
                // Its name must be on the disk, too.
                File::open(folder)?.sync_all()?;
                self.own.insert(own)
            }
        };
        let begin = file.metadata()?.len();
        file.write_all(line.as_bytes())?;
        file.sync_data()?;
        let path = path.clone();
        self.read.insert(path.clone(), begin + line.len() as u64);
        self.places.entry(*key).or_insert(Place { file: path, begin, length: line.len() - 1 });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(number: u32) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    fn keep(ledger: &Ledger, number: u32, reply: &Value) {
        ledger.keep(&key(number), "https://a/v1", "m", reply).unwrap();
    }

    #[test]
    fn a_reply_is_there_for_others_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("ledger");
        let (one, other) = (Ledger::open(&folder).unwrap(), Ledger::open(&folder).unwrap());
        let reply = json!({ "id": 1.5e-7, "text": "grün\n" });
        keep(&one, 1, &reply);
        keep(&one, 2, &json!(null));
        assert_eq!((one.get(&key(1)), other.get(&key(1))), (Some(reply.clone()), None));
        other.refresh().unwrap();
        assert_eq!((other.get(&key(1)), other.count()), (Some(reply.clone()), 2));
        keep(&other, 3, &reply);
        one.refresh().unwrap();
        one.refresh().unwrap();
        assert_eq!((one.get(&key(3)), one.count()), (Some(reply), 3));
        assert_eq!(appended::files(&folder).len(), 2, "a file for each");
    }

    #[test]
    fn a_line_that_is_not_whole_is_no_reply() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).unwrap();
        (1..=3).for_each(|number| keep(&ledger, number, &json!("right")));
        let path = appended::files(folder.path()).remove(0);
        let text = fs::read_to_string(&path).unwrap();
        // As a kill leaves it, and completed later, as it is seen while it is written.
        fs::write(&path, &text[..text.len() - 3]).unwrap();
        let reader = Ledger::open(folder.path()).unwrap();
        assert_eq!(reader.count(), 2);
        fs::write(&path, &text).unwrap();
        reader.refresh().unwrap();
        assert_eq!(reader.count(), 3);
        fs::write(&path, text.replacen("right", "wrong", 1)).unwrap();
        assert_eq!(Ledger::open(folder.path()).unwrap().count(), 2);
        assert_eq!(reader.get(&key(1)), None, "damaged after it was found");
    }

    #[test]
    fn one_asks_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Ledger::open(folder.path()).unwrap(), Ledger::open(folder.path()).unwrap());
        let turn = one.try_turn(&key(1)).unwrap().unwrap();
        assert!(one.try_turn(&key(1)).unwrap().is_none() && other.try_turn(&key(1)).unwrap().is_none());
        assert!(other.try_turn(&key(2)).unwrap().is_some());
        drop(turn);
        assert!(other.try_turn(&key(1)).unwrap().is_some());
        assert_eq!(fs::read_dir(folder.path().join("turns")).unwrap().count(), 0, "nothing is left behind");
    }
}
