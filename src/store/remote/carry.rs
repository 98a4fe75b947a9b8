//! One object or one record on its way between the two caches, looked at while it passes.

use super::super::action::to_json;
use super::super::durable::Wait;
use super::super::error::At;
use super::super::object::Put;
use super::super::{Store, lock};
use super::backend::Stop;
use super::{FORMAT, Outcome, Remote, Trouble, action_path, object_path, record_path};
use crate::key::{Digest, KeyDocument};
use crate::record::{FileEntry, Record};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// What became of a record that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is the canonical one of its key there.
    Canonical,
    /// It was there already.
    Known,
    /// There is another one, which stays; this was kept beside it. The outputs whose bytes differ.
    Observation(Vec<String>),
}

impl Remote {
    /// Fetches an object into the local cache, unless that has it. `told` gets the number of bytes of each piece.
    pub(super) fn fetch_object(&self, store: &Store, file: &FileEntry, told: &dyn Fn(u64)) -> Outcome<()> {
        store.rely_on_object(&file.digest)?;
        if store.looks_sound(&file.digest, file.size) {
            return Ok(());
        }
        let folder = store.temporary()?;
        let temporary = tempfile::NamedTempFile::new_in(&folder).at("write", &folder)?;
        let mut arriving = Arriving::new(temporary.as_file(), file.size, &self.stop, told);
        let is_there = self.ask(|place| place.read(&object_path(&file.digest), &mut arriving))?;
        let Arriving { hasher, size, refused, .. } = arriving;
        match refused {
            Some(Refusal::Wrong) => return Err(lie(file, "is longer than its record says")),
            Some(Refusal::Stopped) => return Err(Trouble::Stopped),
            Some(Refusal::Disk(cause)) => return Err(cause).at("write", &folder).map_err(Trouble::Local),
            None if !is_there => return Err(lie(file, "is missing")),
            None if size < file.size => {
                return Err(lie(file, &format!("is cut off after {size} of {} bytes", file.size)));
            }
            None if Digest::from(hasher.finalize()) != file.digest => {
                return Err(lie(file, "has not the bytes that its name says"));
            }
            None => {}
        }
        let mut put = Put::new(store, Wait::Now)?;
        put.publish(temporary.as_file(), temporary.path(), file.digest)?;
        Ok(put.sync()?)
    }

    /// Keeps a record whose objects have been fetched; returns the canonical one of the local cache. `document` is what
    /// was hashed here; the shared cache must have the same.
    pub(super) fn accept(&self, store: &Store, record: &Record, document: &KeyDocument) -> Outcome<Record> {
        if let Some(known) = store.get(&record.key)?
            && known == *record
            && store.complete(record)
        {
            return Ok(known);
        }
        match self.text(&action_path(&record.key, "key.json"))? {
            Some(text) if Digest::of(&text) == record.key => {}
            Some(_) => {
                return Err(Trouble::Refused("its `key.json` in the shared cache is of another key".to_string()));
            }
            None => return Err(Trouble::Refused("its `key.json` is missing in the shared cache".to_string())),
        }
        Ok(store.commit_record(record.clone(), document, Wait::Now)?.record().clone())
    }

    /// Sends an object, unless it is there. Its bytes are hashed on their way. `told` gets the number of bytes of
    /// each piece.
    pub(super) fn send_object(&self, store: &Store, file: &FileEntry, told: &dyn Fn(u64)) -> Outcome<()> {
        let path = object_path(&file.digest);
        if lock(&self.present).contains(&file.digest) {
            return Ok(());
        }
        if self.ask(|place| place.size(&path))? != Some(file.size) {
            self.mark()?;
            let local = store.path(&file.digest);
            let mut leaving = Leaving::new(File::open(&local).at("read", &local)?, file, &self.stop, told);
            let written = self.ask(|place| match place.write(&path, &mut leaving, file.size) {
                // The place is not to blame.
                Err(_) if leaving.refused.is_some() => Ok(()),
                written => written,
            });
            match leaving.refused {
                Some(Refusal::Stopped) => return Err(Trouble::Stopped),
                Some(Refusal::Disk(cause)) => return Err(cause).at("read", &local).map_err(Trouble::Local),
                Some(Refusal::Wrong) => {
                    // It goes to the quarantine.
                    store.verify(&file.digest)?;
                    let message = format!("object {} of `{}` is damaged here; run again", file.digest, file.path);
                    return Err(Trouble::Refused(message));
                }
                None => written?,
            }
        }
        lock(&self.present).insert(file.digest);
        Ok(())
    }

    /// Sends a record whose objects are there, after what was hashed to its key. Its stage promises `outputs`.
    pub(super) fn send_record(&self, store: &Store, record: &Record, outputs: &[(&str, &str)]) -> Outcome<Sent> {
        let key = &record.key;
        let Some(document) = store.document(key)? else {
            return Err(Trouble::Refused("its `key.json` is missing in this cache; run it again".to_string()));
        };
        self.mark()?;
        let key_path = action_path(key, "key.json");
        let hashed = document.canonical();
        if !self.ask(|place| place.create(&key_path, hashed.as_bytes()))?
            && self.text(&key_path)?.is_none_or(|found| found != hashed.as_bytes())
        {
            self.replace(&key_path, hashed.as_bytes())?;
        }
        let path = record_path(key);
        let text = to_json(record, Path::new(&path))?;
        if self.ask(|place| place.create(&path, &text))? {
            return Ok(Sent::Canonical);
        }
        match self.canonical(key, outputs) {
            Ok(Some(found)) if found == *record => Ok(Sent::Known),
            Ok(Some(found)) if self.has_all(&found)? => {
                self.observe(key, &text)?;
                Ok(Sent::Observation(record.differing(&found)))
            }
            // It could never be fetched.
            Ok(Some(lost)) => {
                self.observe(key, &to_json(&lost, Path::new(&path))?)?;
                self.replace(&path, &text)?;
                Ok(Sent::Canonical)
            }
            Ok(None) | Err(Trouble::Refused(_)) => {
                self.replace(&path, &text)?;
                Ok(Sent::Canonical)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Whether all objects of a record are there, as far as their lengths tell.
    fn has_all(&self, record: &Record) -> Outcome<bool> {
        for file in record.outputs.iter().flat_map(|output| &output.files) {
            if self.ask(|place| place.size(&object_path(&file.digest)))? != Some(file.size) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn observe(&self, key: &Digest, text: &[u8]) -> Outcome<()> {
        let name = format!("observations/{}.json", Digest::of(text));
        self.ask(|place| place.create(&action_path(key, &name), text)).map(|_| ())
    }

    fn replace(&self, path: &str, mut text: &[u8]) -> Outcome<()> {
        let size = text.len() as u64;
        self.ask(|place| place.write(path, &mut text, size))
    }

    /// Says which format the place has, before anything is put there.
    fn mark(&self) -> Outcome<()> {
        let mut is_marked = lock(&self.marked);
        if !*is_marked {
            self.ask(|place| place.create("VERSION", format!("{FORMAT}\n").as_bytes()))?;
            *is_marked = true;
        }
        Ok(())
    }
}

fn lie(file: &FileEntry, what: &str) -> Trouble {
    Trouble::Refused(format!(
        "object {} of `{}` {what} in the shared cache; remove it there, and `titer push` mends it",
        file.digest, file.path
    ))
}

/// Why a transfer was broken off on this side.
#[derive(Debug)]
enum Refusal {
    /// Other bytes than there should be, or too many.
    Wrong,
    Stopped,
    Disk(io::Error),
}

/// An object that arrives: written to a file and hashed, never longer than it should be.
struct Arriving<'a> {
    file: &'a File,
    hasher: blake3::Hasher,
    size: u64,
    limit: u64,
    stop: &'a Stop,
    told: &'a dyn Fn(u64),
    refused: Option<Refusal>,
}

impl<'a> Arriving<'a> {
    fn new(file: &'a File, limit: u64, stop: &'a Stop, told: &'a dyn Fn(u64)) -> Self {
        Self { file, hasher: blake3::Hasher::new(), size: 0, limit, stop, told, refused: None }
    }
}

impl Write for Arriving<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let size = self.size + piece.len() as u64;
        let refused = if self.stop.is_set() {
            Refusal::Stopped
        } else if size > self.limit {
            Refusal::Wrong
        } else if let Err(cause) = self.file.write_all(piece) {
            Refusal::Disk(cause)
        } else {
            self.hasher.update(piece);
            self.size = size;
            (self.told)(piece.len() as u64);
            return Ok(piece.len());
        };
        self.refused = Some(refused);
        Err(io::Error::other("refused"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An object that leaves: read from its file and hashed; at its end it fails unless the bytes are those of its name.
struct Leaving<'a> {
    file: File,
    hasher: blake3::Hasher,
    left: u64,
    digest: Digest,
    stop: &'a Stop,
    told: &'a dyn Fn(u64),
    refused: Option<Refusal>,
}

impl<'a> Leaving<'a> {
    fn new(file: File, entry: &FileEntry, stop: &'a Stop, told: &'a dyn Fn(u64)) -> Self {
        Self { file, hasher: blake3::Hasher::new(), left: entry.size, digest: entry.digest, stop, told, refused: None }
    }

    fn refuse(&mut self, refused: Refusal) -> io::Result<usize> {
        self.refused = Some(refused);
        Err(io::Error::other("refused"))
    }
}

impl Read for Leaving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_set() {
            return self.refuse(Refusal::Stopped);
        }
        match self.file.read(buffer) {
            Ok(0) if self.left > 0 || Digest::from(self.hasher.finalize()) != self.digest => {
                self.refuse(Refusal::Wrong)
            }
            Ok(0) => Ok(0),
            Ok(n) if n as u64 > self.left => self.refuse(Refusal::Wrong),
            Ok(n) => {
                self.hasher.update(&buffer[..n]);
                self.left -= n as u64;
                (self.told)(n as u64);
                Ok(n)
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Err(cause),
            Err(cause) => self.refuse(Refusal::Disk(cause)),
        }
    }
}
