//! Actions: what came out of a key. The first complete run is canonical, every further one an observation beside it.

use super::durable::{self, Wait};
use super::error::{At, Result, StoreError};
use super::object::Put;
use super::{Links, Store, file, files_below};
use crate::key::{Digest, KeyDocument};
use crate::record::{self, FileEntry, Output, Record, RunInfo, folder_digest};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a link is no output.
pub(super) const LINK: &str =
    "it is a symbolic link, and only files are kept: let the stage write or copy (`cp -L`) what it points to";

/// What became of a commit.
#[derive(Clone, Debug, PartialEq)]
pub enum Committed {
    /// It is the canonical run of its key.
    Canonical(Record),
    /// There was one before, which stays.
    Observation {
        /// The canonical run, whose outputs are to be used.
        canonical: Record,
        /// This run.
        observed: Box<Record>,
        /// Names of the outputs whose bytes are others than the canonical ones; empty if all are equal.
        differing: Vec<String>,
    },
}

impl Committed {
    /// The canonical record of the key.
    pub fn record(&self) -> &Record {
        match self {
            Committed::Canonical(record) | Committed::Observation { canonical: record, .. } => record,
        }
    }
}

impl Store {
    /// The canonical record of a key. One that cannot be read counts as absent, with a warning.
    pub fn get(&self, key: &Digest) -> Result<Option<Record>> {
        let path = self.action(key).join("record.json");
        let record = self.read_record(&path)?;
        if record.as_ref().is_some_and(|record| record.key != *key) {
            self.warn(format!("record `{}` is not used: it is of another key", path.display()));
            return Ok(None);
        }
        Ok(record)
    }

    /// Whether all of a record's files are in the cache, with their lengths and untouched since they were made. If not,
    /// the key is not cached.
    pub fn complete(&self, record: &Record) -> bool {
        record.outputs.iter().flat_map(|output| &output.files).all(|file| self.looks_sound(&file.digest, file.size))
    }

    /// What was hashed to a key; none if it is not there or is not what the key says.
    pub fn document(&self, key: &Digest) -> Result<Option<KeyDocument>> {
        let path = self.action(key).join("key.json");
        let Some(bytes) = file::read_if_there(&path)? else { return Ok(None) };
        if Digest::of(&bytes) != *key {
            self.warn(format!("`{}` is damaged and not used", path.display()));
            return Ok(None);
        }
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// Runs of a key after the canonical one, in order.
    pub fn observations(&self, key: &Digest) -> Result<Vec<Record>> {
        let folder = self.action(key).join("observations");
        let mut found = Vec::new();
        for number in 1.. {
            let path = folder.join(format!("{number}.json"));
            if !path.exists() {
                break;
            }
            found.extend(self.read_record(&path)?);
        }
        Ok(found)
    }

    /// Keeps the outputs of a run: first its files, then the record. `outputs` are names and paths in `folder`, those
    /// of folders with `/` at the end. Files are moved out of `folder` where that can be done.
    ///
    /// # Errors
    /// A promised output is missing or cannot be kept; the cache is read-only; the disk is full. Nothing of the run is
    /// in the cache then, but perhaps objects that no record names.
    pub fn commit(
        &self,
        folder: &Path,
        outputs: &[(&str, &str)],
        document: &KeyDocument,
        run: RunInfo,
    ) -> Result<Committed> {
        self.must_be_writable()?;
        if !fs::symlink_metadata(folder).at("read", folder)?.is_dir() {
            return Err(StoreError::Unfit {
                path: folder.to_path_buf(),
                reason: "it is not the folder that was given",
            });
        }
        // Looked at before anything is moved, so that a stage that failed to keep its promise keeps its files.
        let listed = outputs.iter().map(|(name, path)| list(folder, name, path)).collect::<Result<Vec<_>>>()?;
        let wait = self.wait_for(run.wall_seconds);
        let mut put = Put::new(self, wait)?;
        let mut kept: Vec<Output> = Vec::new();
        for ((name, path), files) in outputs.iter().zip(listed) {
            let mut entries = Vec::new();
            for file in files {
                // A file that is part of two outputs has been moved already.
                let earlier = kept.iter().flat_map(|output| &output.files).find(|entry| entry.path == file);
                entries.push(match earlier {
                    Some(entry) => entry.clone(),
                    None => {
                        let (digest, size) = put.adopt(&folder.join(&file))?;
                        FileEntry { path: file, digest, size }
                    }
                });
            }
            kept.push(Output {
                name: (*name).into(),
                path: (*path).into(),
                digest: digest_of(path, &entries),
                files: entries,
            });
        }
        put.sync()?;
        let record = Record { format: record::FORMAT, key: document.key(), outputs: kept, run };
        let committed = self.commit_record(record, document, wait)?;
        self.forget_unfinished(&document.key())?;
        Ok(committed)
    }

    pub(super) fn commit_record(&self, record: Record, document: &KeyDocument, wait: Wait) -> Result<Committed> {
        let action = self.action(&record.key);
        self.rely_on([record.key])?;
        let text = to_json(&record, &action)?;
        let new = tempfile::Builder::new().prefix("action-").tempdir_in(self.temporary()?).at("write", &action)?;
        let sync = |folder: &Path| if wait == Wait::Now { file::sync_folder(folder) } else { Ok(()) };
        durable::write_new(&new.path().join("key.json"), document.canonical().as_bytes(), wait)?;
        durable::write_new(&new.path().join("record.json"), &text, wait)?;
        sync(new.path())?;
        let shelf = self.root.join("actions").join(&record.key.to_string()[..2]);
        fs::create_dir_all(&shelf).at("write", &shelf)?;

        let mut taken = match rename_new(new.path(), &action) {
            // Some network file systems have other words for a name that is taken.
            Err(_) if self.has_complete(&record.key)? => true,
            renamed => renamed?,
        };
        if taken && !self.has_complete(&record.key)? {
            taken = self.supersede(&record.key, new.path())?;
        }
        if !taken {
            sync(&shelf)?;
            sync(&self.root.join("actions"))?;
            return Ok(Committed::Canonical(record));
        }
        let Some(canonical) = self.get(&record.key)? else {
            let cause = io::Error::new(io::ErrorKind::NotFound, "another process removed it");
            return Err(cause).at("read", &action);
        };
        self.observe(&action, &text)?;
        let differing = record.differing(&canonical);
        Ok(Committed::Observation { canonical, observed: Box::new(record), differing })
    }

    fn has_complete(&self, key: &Digest) -> Result<bool> {
        Ok(self.get(key)?.is_some_and(|record| self.complete(&record)))
    }

    /// Puts the action folder `new` in the place of one whose record is damaged or whose objects are lost: such a key
    /// could never be cached again. Returns whether another process has just done so. The old runs become observations.
    fn supersede(&self, key: &Digest, new: &Path) -> Result<bool> {
        let _turn = self.turn("supersede")?;
        if self.has_complete(key)? {
            return Ok(true);
        }
        let action = self.action(key);
        let mut runs: Vec<Record> = self.get(key)?.into_iter().collect();
        runs.extend(self.observations(key)?);
        for run in runs {
            self.observe(new, &to_json(&run, new)?)?;
        }
        let old = tempfile::Builder::new().prefix("old-").tempdir_in(self.temporary()?).at("write", &action)?;
        fs::rename(&action, old.path().join("action")).at("replace", &action)?;
        rename_new(new, &action)
    }

    /// Adds a record to the observations of an action folder, under the first free number.
    fn observe(&self, action: &Path, text: &[u8]) -> Result<()> {
        let folder = action.join("observations");
        super::make_folder(&folder)?;
        let mut file = tempfile::NamedTempFile::new_in(self.temporary()?).at("write", &folder)?;
        file.write_all(text).and_then(|()| file.as_file().sync_all()).at("write", &folder)?;
        for number in 1.. {
            let path = folder.join(format!("{number}.json"));
            match file.persist_noclobber(&path) {
                Ok(_) => break,
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => file = error.file,
                Err(error) => return Err(error.error).at("write", &path),
            }
        }
        file::sync_folder(&folder)
    }

    pub(super) fn action(&self, key: &Digest) -> PathBuf {
        let name = key.to_string();
        self.root.join("actions").join(&name[..2]).join(name)
    }

    fn read_record(&self, path: &Path) -> Result<Option<Record>> {
        let Some(bytes) = file::read_if_there(path)? else { return Ok(None) };
        match Record::parse(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(reason) => {
                self.warn(format!("record `{}` is not used: {reason}", path.display()));
                Ok(None)
            }
        }
    }
}

/// Paths of an output's files in `folder`.
pub(super) fn list(folder: &Path, name: &str, path: &str) -> Result<Vec<String>> {
    let full = folder.join(path.trim_end_matches('/'));
    let missing = || StoreError::MissingOutput { name: name.to_string(), path: path.to_string() };
    let metadata = match fs::symlink_metadata(&full) {
        Ok(metadata) => metadata,
        Err(error) if file::is_absent(&error) => return Err(missing()),
        Err(error) => return Err(error).at("read", &full),
    };
    let is_folder = path.ends_with('/');
    if is_folder && metadata.is_dir() {
        Ok(files_below(&full, Links::Refuse)?.into_iter().map(|file| format!("{path}{file}")).collect())
    } else if !is_folder && metadata.is_file() {
        Ok(vec![path.to_string()])
    } else {
        let reason = if metadata.is_symlink() {
            LINK
        } else if is_folder {
            "a folder was promised"
        } else {
            "a file was promised"
        };
        Err(StoreError::Unfit { path: full, reason })
    }
}

/// The digest of an output with these files.
pub(super) fn digest_of(path: &str, files: &[FileEntry]) -> Digest {
    match files {
        [file] if !path.ends_with('/') => file.digest,
        _ => folder_digest(
            files.iter().map(|file| (file.path.strip_prefix(path).unwrap_or(&file.path), file.digest, file.size)),
        ),
    }
}

/// A record as it is written at `path`.
pub(super) fn to_json(record: &Record, path: &Path) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(record).map_err(io::Error::other).at("write", path)?;
    text.push(b'\n');
    Ok(text)
}

/// Renames a folder; returns whether its new name was taken, by a folder with something in it.
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<bool> {
    match fs::rename(from, to) {
        Ok(()) => Ok(false),
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            Ok(true)
        }
        Err(error) => Err(error).at("write", to),
    }
}
