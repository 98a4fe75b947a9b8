//! Objects: files named by the digest of their content, read-only, never changed.

use super::Store;
use super::error::{At, Result, StoreError};
use super::file;
use crate::key::Digest;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

impl Store {
    /// Where the object of that digest is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("objects").join(&name[..2]).join(name)
    }

    /// Whether the object is there, with that length. Its content is not read: see [`Store::verify`].
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::symlink_metadata(self.path(digest)).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    }

    /// Reads the object again and says whether it is what its name says. One that is not is removed (if the cache is
    /// writable), so that the next run makes it anew.
    pub fn verify(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        let found = match file::hash(&path) {
            Ok((found, _)) => found,
            Err(StoreError::Io { cause, .. }) if file::is_absent(&cause) => return Ok(false),
            Err(error) => return Err(error),
        };
        if found != *digest && self.writable {
            fs::remove_file(&path).at("remove", &path)?;
        }
        Ok(found == *digest)
    }

    /// Copies a file into the cache and returns its digest and length.
    pub fn put_file(&self, path: &Path) -> Result<(Digest, u64)> {
        let mut put = Put::new(self)?;
        let entry = put.copy(path)?;
        put.sync()?;
        Ok(entry)
    }
}

/// Files on their way into the cache; their folders are synced together at the end.
#[derive(Debug)]
pub(super) struct Put<'a> {
    store: &'a Store,
    temporary: PathBuf,
    folders: BTreeSet<PathBuf>,
}

impl<'a> Put<'a> {
    pub(super) fn new(store: &'a Store) -> Result<Self> {
        Ok(Self { store, temporary: store.temporary()?, folders: BTreeSet::new() })
    }

    /// Copies a file in. The copy has its last name when its first one would be removed.
    pub(super) fn copy(&mut self, path: &Path) -> Result<(Digest, u64)> {
        let from = File::open(path).at("read", path)?;
        let mut to = tempfile::NamedTempFile::new_in(&self.temporary).at("write", &self.temporary)?;
        let (digest, size) = file::hash_copy(from, &mut to).at("copy into the cache", path)?;
        self.publish(to.as_file(), to.path(), digest, size)?;
        Ok((digest, size))
    }

    /// Moves a file in that a stage wrote into a work folder. If it cannot be moved, or has another name elsewhere
    /// through which it could be changed, it is copied.
    pub(super) fn adopt(&mut self, path: &Path) -> Result<(Digest, u64)> {
        let from = File::open(path).at("read", path)?;
        if from.metadata().at("read", path)?.nlink() != 1 {
            return self.copy(path);
        }
        let (digest, size) = file::hash_copy(&from, io::sink()).at("read", path)?;
        match self.publish(&from, path, digest, size) {
            Err(StoreError::Io { cause, .. }) if cause.kind() == io::ErrorKind::CrossesDevices => self.copy(path),
            published => published.map(|()| (digest, size)),
        }
    }

    /// Gives a complete file its name among the objects. An object that is there already is kept, a truncated one replaced.
    fn publish(&mut self, opened: &File, path: &Path, digest: Digest, size: u64) -> Result<()> {
        if self.store.has(&digest, size) {
            return Ok(());
        }
        let object = self.store.path(&digest);
        if let Some(folder) = object.parent() {
            fs::create_dir_all(folder).at("write", folder)?;
            self.folders.insert(folder.to_path_buf());
        }
        file::make_read_only(opened).at("write", path)?;
        opened.sync_all().at("write", path)?;
        fs::rename(path, &object).at("write", &object)
    }

    /// Waits until all names are on the disk.
    pub(super) fn sync(&self) -> Result<()> {
        if !self.folders.is_empty() {
            self.folders.iter().try_for_each(|folder| file::sync_folder(folder))?;
            file::sync_folder(&self.store.root.join("objects"))?;
        }
        Ok(())
    }
}
