//! A look at all that is kept: every object is read, every record and key too.

use super::error::Result;
use super::{Store, file, gc};
use crate::key::{Digest, KeyDocument};
use crate::record::Record;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Objects that were read.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Keys whose records were read.
    pub keys: usize,
    /// What is wrong.
    pub flaws: Vec<Flaw>,
}

/// Something that is not as it was kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Flaw {
    /// An object has other bytes than its name says, or cannot be read: why, and for which instances it was made. It is in
    /// quarantine now, if the cache can be written.
    Damaged(Digest, String, Vec<String>),
    /// An object that records name is not there: for which instances it was made.
    Missing(Digest, Vec<String>),
    /// A record cannot be used: why. What made it runs again.
    Record(PathBuf, String),
    /// What was hashed to a key is lost or altered: its result is still used, but cannot be explained.
    Key(PathBuf),
}

/// The objects to be read, each with the instances that it was made for.
type Users = BTreeMap<Digest, Vec<String>>;

impl Store {
    /// Reads everything, or what belongs to `keys`, on so many threads; tells `progress` how many of how many bytes are
    /// read.
    ///
    /// # Errors
    /// If the cache cannot be listed, or what is damaged cannot be moved to the quarantine.
    pub fn check(
        &self,
        keys: Option<&BTreeSet<Digest>>,
        threads: usize,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Health> {
        let (mut health, mut users) = (Health::default(), Users::new());
        if let Some(keys) = keys {
            keys.iter().try_for_each(|key| self.check_key(key, &mut health, &mut users))?;
        } else {
            for (key, _) in gc::shelves(&self.root.join("actions"))? {
                self.check_key(&key, &mut health, &mut users)?;
            }
            // Those that no record names, too.
            for (object, _) in gc::shelves(&self.root.join("objects"))? {
                users.entry(object).or_default();
            }
        }
        let flaws = self.check_objects(&users, threads, progress, &mut health)?;
        health.flaws.extend(flaws);
        if !health.flaws.is_empty() {
            self.forget_snapshots();
        }
        Ok(health)
    }

    fn check_key(&self, key: &Digest, health: &mut Health, users: &mut Users) -> Result<()> {
        let folder = self.action(key);
        let path = folder.join("record.json");
        let Some(bytes) = file::read_if_there(&path)? else {
            // An empty folder, as a crash may leave it, is no record and needs none.
            let is_empty = fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none());
            if !is_empty {
                health.flaws.push(Flaw::Record(path, "it is missing".into()));
            }
            return Ok(());
        };
        health.keys += 1;
        match Record::parse(&bytes) {
            Err(reason) => health.flaws.push(Flaw::Record(path, reason)),
            Ok(record) if record.key != *key => health.flaws.push(Flaw::Record(path, "it is of another key".into())),
            Ok(record) => {
                for file in record.outputs.iter().flat_map(|output| &output.files) {
                    let names = users.entry(file.digest).or_default();
                    if !names.contains(&record.run.instance) {
                        names.push(record.run.instance.clone());
                    }
                }
            }
        }
        let path = folder.join("key.json");
        if file::read_if_there(&path)?.is_none_or(|bytes| Digest::of(&bytes) != *key) {
            health.flaws.push(Flaw::Key(path));
        }
        Ok(())
    }

    fn check_objects(
        &self,
        users: &Users,
        threads: usize,
        progress: &(dyn Fn(u64, u64) + Sync),
        health: &mut Health,
    ) -> Result<Vec<Flaw>> {
        let length = |object: &Digest| fs::symlink_metadata(self.path(object)).map_or(0, |metadata| metadata.len());
        let work: Vec<(&Digest, &Vec<String>, u64)> =
            users.iter().map(|(object, names)| (object, names, length(object))).collect();
        health.objects = work.len();
        health.bytes = work.iter().map(|(_, _, bytes)| bytes).sum();
        let (next, read) = (AtomicUsize::new(0), AtomicU64::new(0));
        let flaws = Mutex::new(BTreeMap::new());
        let one_thread = || -> Result<()> {
            while let Some((object, names, bytes)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(flaw) = self.check_object(object, names)? {
                    super::lock(&flaws).insert(**object, flaw);
                }
                progress(read.fetch_add(*bytes, Ordering::Relaxed) + bytes, health.bytes);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads.max(1)).map(|_| scope.spawn(one_thread)).collect();
            let own = one_thread();
            // A panic of a helper is one of this thread.
            let theirs = helpers
                .into_iter()
                .map(|helper| helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            theirs.fold(own, std::result::Result::and)
        })?;
        let flaws = flaws.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(flaws.into_values().collect())
    }

    fn check_object(&self, object: &Digest, names: &[String]) -> Result<Option<Flaw>> {
        let path = self.path(object);
        let is_there = || fs::symlink_metadata(&path).is_ok();
        if !is_there() {
            // Records and objects that a collector takes away meanwhile are not missing.
            return Ok((!names.is_empty() && !self.was_swept()).then(|| Flaw::Missing(*object, names.to_vec())));
        }
        match self.verify(object) {
            Ok(true) => Ok(None),
            Ok(false) if !is_there() && self.was_swept() => Ok(None),
            Ok(false) => Ok(Some(Flaw::Damaged(*object, "it has other bytes".into(), names.to_vec()))),
            Err(error) if is_there() => {
                if self.writable {
                    self.quarantine(&path)?;
                }
                Ok(Some(Flaw::Damaged(*object, error.to_string(), names.to_vec())))
            }
            Err(_) => Ok(None),
        }
    }

    /// Pipelines that have run.
    ///
    /// # Errors
    /// If the cache cannot be listed.
    pub fn pipelines(&self) -> Result<Vec<String>> {
        gc::pipelines(&self.root)
    }

    /// Instances of a pipeline that were made by its last run, and whose results are not whole any more.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn lost(&self, pipeline: &str) -> Result<Vec<String>> {
        let mut lost = Vec::new();
        for (instance, key) in self.last_run(pipeline)? {
            let was_made = self.action(&key).is_dir();
            if was_made && !self.get(&key)?.is_some_and(|record| self.complete(&record)) {
                lost.push(instance);
            }
        }
        Ok(lost)
    }

    /// Writes down again what was hashed to a key, if that is lost. Returns whether it was.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn mend_key(&self, document: &KeyDocument) -> Result<bool> {
        let (key, folder) = (document.key(), self.action(&document.key()));
        let path = folder.join("key.json");
        if !folder.is_dir() || file::read_if_there(&path)?.is_some_and(|bytes| Digest::of(&bytes) == key) {
            return Ok(false);
        }
        file::replace(&path, document.canonical().as_bytes(), &self.temporary()?)?;
        Ok(true)
    }
}
