//! The files of two results side by side.

use crate::compare::{self, Difference};
use crate::key::Digest;
use crate::record::{FileEntry, Record};
use crate::store::Store;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

/// A file in which two results differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileDifference {
    /// Its path in the output folder.
    pub path: String,
    /// Digest of the old one; none if there was no such file.
    pub old: Option<Digest>,
    /// Digest of the new one; none if there is no such file.
    pub new: Option<Digest>,
    /// In what they differ; none if the bytes of one are not there.
    pub difference: Option<Difference>,
}

impl fmt::Display for FileDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match (&self.difference, self.old, self.new) {
            (Some(difference), ..) => difference.fmt(f),
            (None, Some(_), None) => f.write_str("is no longer made"),
            (None, None, _) => f.write_str("was not made before"),
            (None, Some(old), Some(new)) => {
                write!(f, "{} → {}; the old bytes are gone from the cache", old.short(), new.short())
            }
        }
    }
}

/// The files in which two results differ, each in its store.
///
/// # Errors
/// If a file cannot be read.
pub fn files(old: (&Store, &Record), new: (&Store, &Record)) -> io::Result<Vec<FileDifference>> {
    let (before, after) = (by_path(old.1), by_path(new.1));
    let mut found = Vec::new();
    for path in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let (a, b) = (before.get(path), after.get(path));
        let (a_digest, b_digest) = (a.map(|file| file.digest), b.map(|file| file.digest));
        if a_digest == b_digest {
            continue;
        }
        let there =
            |store: &Store, file: &FileEntry| store.has(&file.digest, file.size).then(|| store.path(&file.digest));
        let paths = a.and_then(|file| there(old.0, file)).zip(b.and_then(|file| there(new.0, file)));
        let difference = paths.map_or(Ok(None), |(a, b)| compare::files(path, &a, &b))?;
        found.push(FileDifference { path: (*path).to_string(), old: a_digest, new: b_digest, difference });
    }
    Ok(found)
}

fn by_path(record: &Record) -> BTreeMap<&str, &FileEntry> {
    record.outputs.iter().flat_map(|output| &output.files).map(|file| (file.path.as_str(), file)).collect()
}
