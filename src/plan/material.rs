//! Inputs with their content: what is read, and where it lies.

use crate::address::{Extent, is_pickle, is_weights};
use crate::key::Digest;
use crate::record::{FileEntry, folder_digest};
use crate::scorer::meteor::wordnet::WordNet;
use crate::stage::Form;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One input with its content.
#[derive(Clone, Debug)]
pub struct Material {
    /// See [`crate::stage::InputSpec::role`].
    pub role: String,
    /// See [`crate::stage::Input::labels`].
    pub labels: BTreeMap<String, serde_json::Value>,
    /// What messages call it.
    pub name: String,
    /// Digest of the file, or of the folder's listing.
    pub digest: Digest,
    /// Where its bytes are.
    pub place: Place,
}

impl Material {
    /// Its length in bytes as far as the store knows it; the person's own files count as nothing.
    pub fn size(&self) -> u64 {
        match &self.place {
            Place::Path(_) => 0,
            Place::Object(file) => file.size,
            Place::Objects(files) => files.iter().map(|file| file.size).sum(),
            Place::Fetched { files, .. } => files.iter().map(|file| file.size).sum(),
        }
    }
}

/// Where the bytes of an input are.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file or a folder of the person's.
    Path(PathBuf),
    /// A file in the store, under the name that it had in its output folder.
    Object(FileEntry),
    /// A folder of files in the store.
    Objects(Vec<FileEntry>),
    /// What was fetched from elsewhere: a file or a folder of links to objects, and the objects; no objects if only
    /// their digest is known.
    Fetched {
        /// The file or the folder.
        path: PathBuf,
        /// The objects.
        files: Vec<FileEntry>,
    },
}

impl Place {
    /// The file or the folder, if it is one before anything runs: results are none yet, nor is what was not fetched.
    pub(super) fn into_existing(self) -> Option<PathBuf> {
        match self {
            Self::Fetched { files, .. } if files.is_empty() => None,
            Self::Path(path) | Self::Fetched { path, .. } => Some(path),
            Self::Object(_) | Self::Objects(_) => None,
        }
    }
}

/// Whether a file of a model's folder is one that a run reads.
pub fn is_model_file(name: &str) -> bool {
    is_read(Form::Model, name)
}

/// Whether a file of an input's folder is read in a form.
pub(super) fn is_read(form: Form, name: &str) -> bool {
    match form {
        Form::Tokenizer => Extent::Tokenizer.reads(name),
        Form::Model => Extent::Model.reads(name),
        Form::WordNet => WordNet::files().any(|file| file == name),
        _ => true,
    }
}

/// Weights in pickles are not read where there are others.
pub(super) fn drop_pickles(files: &mut Vec<FileEntry>) {
    if files.iter().any(|file| is_weights(&file.path)) {
        files.retain(|file| !is_pickle(&file.path));
    }
}

/// The digest of a folder with these files.
pub(super) fn digest_of(files: &[FileEntry]) -> Digest {
    folder_digest(files.iter().map(|file| (file.path.as_str(), file.digest, file.size)))
}
