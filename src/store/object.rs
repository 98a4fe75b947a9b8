//! Objects: files named by the digest of their content, read-only, never changed.

use super::durable::Wait;
use super::error::{At, Result, StoreError};
use super::sound::{Looks, Sound};
use super::stat::{self, Stat};
use super::{Store, file, lock};
use crate::key::Digest;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

impl Store {
    /// Where the object of that digest is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("objects").join(&name[..2]).join(name)
    }

    /// Whether the object is there, with that length. Its content is not read: see [`Store::is_sound`].
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::symlink_metadata(self.path(digest)).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    }

    /// Whether the object is there with that length, and nothing that this host knows speaks against its bytes. It is
    /// read only if it was touched since it was found sound.
    pub(super) fn looks_sound(&self, digest: &Digest, size: u64) -> bool {
        let path = self.path(digest);
        let Ok(metadata) = fs::symlink_metadata(&path) else { return false };
        if !metadata.is_file() || metadata.len() != size {
            return false;
        }
        let looks = lock(self.sound()).looks(digest, Stat::of(&metadata), false);
        looks != Looks::Touched || self.reads_as(digest, &path).unwrap_or(true)
    }

    /// Whether the object is there and has the bytes that its name says, proven by its stat or by reading it. What is
    /// not as it should be goes to `quarantine/` (if the cache is writable), so that the next run makes it anew.
    ///
    /// # Errors
    /// If it cannot be read or moved.
    pub fn is_sound(&self, digest: &Digest) -> Result<bool> {
        match fs::symlink_metadata(self.path(digest)) {
            Err(error) if file::is_absent(&error) => return Ok(false),
            Ok(metadata) if lock(self.sound()).looks(digest, Stat::of(&metadata), true) == Looks::Untouched => {
                return Ok(true);
            }
            _ => {}
        }
        self.verify(digest)
    }

    /// As [`Store::is_sound`], but by reading in any case.
    ///
    /// # Errors
    /// If it cannot be read or moved.
    pub fn verify(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        match fs::symlink_metadata(&path) {
            Err(error) if file::is_absent(&error) => return Ok(false),
            // A folder or a link in its place is damage too.
            Ok(metadata) if metadata.is_file() && self.reads_as(digest, &path)? => return Ok(true),
            _ => {}
        }
        if self.writable {
            self.quarantine(&path)?;
        }
        Ok(false)
    }

    /// Reads an object, says whether its bytes are those of its name, and keeps what was found.
    fn reads_as(&self, digest: &Digest, path: &Path) -> Result<bool> {
        let begun = stat::now();
        let mut opened = File::open(path).at("read", path)?;
        let before = Stat::of(&opened.metadata().at("read", path)?);
        let (found, _) = file::hash_copy(&mut opened, io::sink()).at("read", path)?;
        let after = Stat::of(&opened.metadata().at("read", path)?);
        if found != *digest {
            // What was known of it stays, so that it looks touched until it is made again.
            self.warn(format!("object {digest} was changed or damaged after it was made; what made it runs again"));
        } else if before == after {
            lock(self.sound()).keep(*digest, after, begun);
        }
        Ok(found == *digest)
    }

    /// Moves something damaged out of the way, to be looked at, and returns where it is now.
    pub(super) fn quarantine(&self, path: &Path) -> Result<PathBuf> {
        let ward = self.root.join("quarantine");
        super::make_folder(&ward)?;
        let name = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('/', "-");
        for number in 1.. {
            let place = ward.join(format!("{name}.{number}"));
            if fs::symlink_metadata(&place).is_err() {
                fs::rename(path, &place).at("move to quarantine", path)?;
                return Ok(place);
            }
        }
        unreachable!("numbers do not end")
    }

    pub(super) fn sound(&self) -> &Mutex<Sound> {
        self.sound.get_or_init(|| Mutex::new(Sound::load(&self.sound_path())))
    }
}

/// Files on their way into the cache; their folders are synced together at the end.
#[derive(Debug)]
pub(super) struct Put<'a> {
    store: &'a Store,
    temporary: PathBuf,
    folders: BTreeSet<PathBuf>,
    wait: Wait,
}

impl<'a> Put<'a> {
    pub(super) fn new(store: &'a Store, wait: Wait) -> Result<Self> {
        Ok(Self { store, temporary: store.temporary()?, folders: BTreeSet::new(), wait })
    }

    /// Copies a file in. The copy has its last name when its first one would be removed.
    pub(super) fn copy(&mut self, path: &Path) -> Result<(Digest, u64)> {
        let from = File::open(path).at("read", path)?;
        let mut to = tempfile::NamedTempFile::new_in(&self.temporary).at("write", &self.temporary)?;
        let (digest, size) = file::hash_copy(from, &mut to).at("copy into the cache", path)?;
        self.publish(to.as_file(), to.path(), digest)?;
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
        match self.publish(&from, path, digest) {
            Err(StoreError::Io { cause, .. }) if cause.kind() == io::ErrorKind::CrossesDevices => self.copy(path),
            published => published.map(|()| (digest, size)),
        }
    }

    /// Gives a complete file its name among the objects. A sound object that is there already is kept.
    pub(super) fn publish(&mut self, opened: &File, path: &Path, digest: Digest) -> Result<()> {
        let object = self.store.path(&digest);
        self.store.rely_on_object(&digest)?;
        if fs::symlink_metadata(&object).is_ok() && self.store.is_sound(&digest)? {
            return Ok(());
        }
        if let Some(folder) = object.parent() {
            fs::create_dir_all(folder).at("write", folder)?;
            self.folders.insert(folder.to_path_buf());
        }
        file::make_read_only(opened).at("write", path)?;
        if self.wait == Wait::Now {
            opened.sync_all().at("write", path)?;
        }
        let begun = stat::now();
        fs::rename(path, &object).at("write", &object)?;
        // Seen too early to prove anything, but a later write will show.
        let metadata = opened.metadata().at("read", &object)?;
        lock(self.store.sound()).keep(digest, Stat::of(&metadata), begun);
        Ok(())
    }

    /// Waits until all names are on the disk, if that is to be waited for.
    pub(super) fn sync(&self) -> Result<()> {
        if self.wait == Wait::Now && !self.folders.is_empty() {
            self.folders.iter().try_for_each(|folder| file::sync_folder(folder))?;
            file::sync_folder(&self.store.root.join("objects"))?;
        }
        Ok(())
    }
}
