//! What was made and is not to be a result: weighed before it is kept, and set apart so that it can be looked at.

use super::action::{digest_of, list};
use super::error::{At, Result};
use super::{Store, file, make_folder};
use crate::key::Digest;
use crate::record::FileEntry;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

impl Store {
    /// Digests of the outputs in a work folder, by name, as [`Store::commit`] would record them. Nothing is kept.
    ///
    /// # Errors
    /// A promised output is missing or cannot be read.
    pub fn weigh(&self, folder: &Path, outputs: &[(&str, &str)]) -> Result<BTreeMap<String, Digest>> {
        let weigh = |(name, path): &(&str, &str)| {
            let entry = |file: String| {
                let full = folder.join(&file);
                let opened = File::open(&full).at("read", &full)?;
                let (digest, size) = file::hash_copy(opened, io::sink()).at("read", &full)?;
                Ok(FileEntry { path: file, digest, size })
            };
            let files: Vec<FileEntry> = list(folder, name, path)?.into_iter().map(entry).collect::<Result<_>>()?;
            Ok(((*name).to_string(), digest_of(path, &files)))
        };
        outputs.iter().map(weigh).collect()
    }

    /// Moves a work folder, whose outputs are not to be the result of `key`, to where a person can look at them, and
    /// returns where that is. An earlier one of the same key goes.
    ///
    /// # Errors
    /// If it cannot be moved.
    pub fn set_apart(&self, folder: &Path, key: &Digest) -> Result<PathBuf> {
        let ward = self.root.join("quarantine");
        make_folder(&ward)?;
        let place = ward.join(format!("refused-{}", key.short()));
        if place.exists() {
            fs::remove_dir_all(&place).at("remove", &place)?;
        }
        fs::rename(folder, &place).at("move", &place)?;
        Ok(place)
    }
}
