//! What was fetched from other machines: a record for each address, its files as objects, and a folder of links to them
//! under their names.
//!
//! ```text
//! fetched/ID/record.json      what was found there
//! fetched/ID/files/NAME       links to objects
//! fetched/partial/ID          files on their way
//! ```
//!
//! Addresses are pinned, so a record never grows old. It says the digests of bytes that have gone since (by a `gc`): keys
//! can be made of it, and only what reads the bytes must have them fetched again.

use super::action::rename_new;
use super::durable::Wait;
use super::error::{At, Result};
use super::object::Put;
use super::{Store, file, make_folder};
use crate::address::{Address, Extent, is_part};
use crate::key::Digest;
use crate::record::{FileEntry, folder_digest, read_format};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Version of the form of these records.
pub const FORMAT: u32 = 1;

const FOLDER: &str = "fetched";
const RECORD: &str = "record.json";

/// What was found at an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fetched {
    /// [`FORMAT`] of the program that wrote it.
    format: u32,
    /// The address without a digest.
    pub address: String,
    /// What of it was meant.
    pub extent: Extent,
    /// The files, sorted by name.
    pub files: Vec<FileEntry>,
}

impl Fetched {
    /// A record of files.
    pub fn new(address: &Address, extent: Extent, mut files: Vec<FileEntry>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { format: FORMAT, address: address.bare().to_string(), extent, files }
    }

    /// Digest of the file, or of the model as of a folder with its files.
    pub fn digest(&self) -> Digest {
        match (self.extent, self.files.as_slice()) {
            (Extent::File, [file]) => file.digest,
            (_, files) => folder_digest(files.iter().map(|file| (file.path.as_str(), file.digest, file.size))),
        }
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

impl Store {
    fn fetched_place(&self, address: &Address, extent: Extent) -> PathBuf {
        let id = Digest::of(format!("{extent:?} {}", address.bare()).as_bytes());
        self.root.join(FOLDER).join(id.to_string())
    }

    /// The record of an address, whether or not its bytes are still here. One that is damaged is passed over.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn fetched(&self, address: &Address, extent: Extent) -> Result<Option<Fetched>> {
        let path = self.fetched_record(address, extent);
        let Some(bytes) = file::read_if_there(&path)? else { return Ok(None) };
        Ok(read_fetched(&bytes).map_err(|reason| self.warn(format!("`{}` is not used: {reason}", path.display()))).ok())
    }

    /// Where the record of an address is, or would be.
    pub fn fetched_record(&self, address: &Address, extent: Extent) -> PathBuf {
        self.fetched_place(address, extent).join(RECORD)
    }

    /// Where the files of an address are, under their names.
    pub fn fetched_folder(&self, address: &Address, extent: Extent) -> PathBuf {
        self.fetched_place(address, extent).join("files")
    }

    /// Whether all bytes of a record are here.
    pub fn has_fetched(&self, fetched: &Fetched) -> bool {
        fetched.files.iter().all(|file| self.has(&file.digest, file.size))
    }

    /// Where a file is written while it is on its way; what is there already is its beginning.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn partial(&self, source: &str) -> Result<PathBuf> {
        self.must_be_writable()?;
        make_folder(&self.root.join(FOLDER))?;
        let folder = self.root.join(FOLDER).join("partial");
        make_folder(&folder)?;
        Ok(folder.join(Digest::of(source.as_bytes()).to_string()))
    }

    /// Takes a file of [`Store::partial`] in as an object; `name` is what readers call it.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn keep_file(&self, path: &Path, name: &str) -> Result<FileEntry> {
        let mut put = Put::new(self, Wait::Now)?;
        let (digest, size) = put.adopt(path)?;
        put.sync()?;
        Ok(FileEntry { path: name.to_string(), digest, size })
    }

    /// Keeps a record whose files are objects already, in the place of an earlier one.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn keep_fetched(&self, address: &Address, fetched: &Fetched) -> Result<()> {
        let place = self.fetched_place(address, fetched.extent);
        let new = tempfile::Builder::new().prefix("fetched-").tempdir_in(self.temporary()?).at("write", &place)?;
        let files = new.path().join("files");
        make_folder(&files)?;
        for entry in &fetched.files {
            let link = files.join(&entry.path);
            let object = self.path(&entry.digest);
            // A part of a model has a folder of its own.
            let deep = entry.path.matches('/').count();
            if let Some(parent) = link.parent().filter(|_| deep > 0) {
                std::fs::create_dir_all(parent).at("write", parent)?;
            }
            let up = "../".repeat(3 + deep);
            let target = Path::new(&up).join(object.strip_prefix(&self.root).unwrap_or(&object));
            std::os::unix::fs::symlink(target, &link).at("write", &link)?;
        }
        let mut text = serde_json::to_vec_pretty(fetched).map_err(io::Error::other).at("write", &place)?;
        text.push(b'\n');
        file::write_synced(&new.path().join(RECORD), &text)?;
        make_folder(&self.root.join(FOLDER))?;
        // Two processes that fetch the same write the same: whoever is last.
        while rename_new(new.path(), &place)? {
            let old = tempfile::Builder::new().prefix("old-").tempdir_in(self.temporary()?).at("write", &place)?;
            match fs::rename(&place, old.path().join("fetched")) {
                Err(error) if !file::is_absent(&error) => return Err(error).at("replace", &place),
                _ => {}
            }
        }
        file::sync_folder(&self.root.join(FOLDER))
    }

    /// All records, with their folders.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn all_fetched(&self) -> Result<Vec<(PathBuf, Fetched)>> {
        let folder = self.root.join(FOLDER);
        let mut found = Vec::new();
        for entry in file::entries(&folder)? {
            let place = entry.path();
            if let Some(bytes) = file::read_if_there(&place.join(RECORD))?
                && let Ok(fetched) = read_fetched(&bytes)
            {
                found.push((place, fetched));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Files on their way, perhaps for ever.
    pub(super) fn partials(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join(FOLDER).join("partial")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }
}

fn read_fetched(bytes: &[u8]) -> std::result::Result<Fetched, String> {
    let fetched: Fetched = read_format(bytes, FORMAT)?;
    let is_name = |name: &str| Path::new(name).file_name() == Some(name.as_ref());
    match fetched.files.iter().find(|file| !is_name(&file.path) && !is_part(&file.path)) {
        Some(file) => Err(format!("it names the file `{}`", file.path)),
        None if fetched.files.is_empty() => Err("it names no file".to_string()),
        None => Ok(fetched),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::store;
    use super::*;

    #[test]
    fn what_was_fetched_is_known_and_found_under_its_names() {
        let (_folder, store) = store();
        let address = Address::parse("https://lab.org/model/").unwrap();
        assert_eq!(store.fetched(&address, Extent::Model).unwrap(), None);
        let partial = store.partial("https://lab.org/model/config.json").unwrap();
        fs::write(&partial, "{}").unwrap();
        let entry = store.keep_file(&partial, "config.json").unwrap();
        assert_eq!((entry.digest, entry.size), (Digest::of(b"{}"), 2));
        assert!(!partial.exists(), "it was moved");
        let part = FileEntry { path: "1_Pooling/config.json".to_string(), ..entry.clone() };
        let fetched = Fetched::new(&address, Extent::Model, vec![entry.clone(), part]);
        store.keep_fetched(&address, &fetched).unwrap();
        store.keep_fetched(&address, &fetched).unwrap();
        let pinned = Address { digest: Some(Digest::of(b"any")), ..address.clone() };
        assert_eq!(store.fetched(&pinned, Extent::Model).unwrap(), Some(fetched.clone()), "known without the digest");
        assert_eq!(store.fetched(&address, Extent::File).unwrap(), None);
        let shown = store.fetched_folder(&address, Extent::Model);
        assert_eq!(fs::read_to_string(shown.join("config.json")).unwrap(), "{}");
        assert_eq!(fs::read_to_string(shown.join("1_Pooling/config.json")).unwrap(), "{}", "a part of a model");
        assert_eq!(store.all_fetched().unwrap().len(), 1);
        assert!(store.has_fetched(&fetched));
        fs::remove_file(store.path(&entry.digest)).unwrap();
        assert!(!store.has_fetched(&fetched));
        assert_eq!(store.fetched(&address, Extent::Model).unwrap(), Some(fetched), "its digest is still known");
    }

    #[test]
    fn a_record_that_leads_out_of_its_folder_is_not_used() {
        let (_folder, store) = store();
        let address = Address::parse("https://lab.org/rows.jsonl").unwrap();
        let path = store.fetched_record(&address, Extent::File);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for name in ["../../VERSION", "..", "", "../config.json", "1_x/../config.json"] {
            let entry = FileEntry { path: name.to_string(), digest: Digest::of(b""), size: 0 };
            let fetched = Fetched::new(&address, Extent::File, vec![entry]);
            fs::write(&path, serde_json::to_vec(&fetched).unwrap()).unwrap();
            assert_eq!(store.fetched(&address, Extent::File).unwrap(), None);
            assert_eq!(store.take_warnings().len(), 1);
        }
    }
}
