//! What can go wrong with the cache, said so that a person can act on it.

use crate::key::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused something.
    #[error("{}", explain(doing, path, cause))]
    Io {
        /// What was tried: `write`, `read`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// Something was to be written into a cache that can only be read.
    #[error("cache `{}` is read-only: results cannot be kept; make it writable or use another cache", .0.display())]
    ReadOnly(PathBuf),
    /// The cache was made by a later version of the program.
    #[error("cache `{}` has format `{found}`, this titer knows format {known}; use a newer titer or another cache", root.display())]
    Newer {
        /// The cache.
        root: PathBuf,
        /// What its `VERSION` says.
        found: String,
        /// What this program writes.
        known: u32,
    },
    /// The folder holds something else, or a cache whose `VERSION` was damaged.
    #[error("`{}` is no cache of titer: its `VERSION` says `{found}`, which no titer has written; use another folder", root.display())]
    Unknown {
        /// The folder.
        root: PathBuf,
        /// What its `VERSION` says.
        found: String,
    },
    /// Another process is freeing space.
    #[error("another `titer gc` is at work in cache `{}`; wait until it has ended", .0.display())]
    Busy(PathBuf),
    /// Others have lost patience with this process.
    #[error("this process stood still for so long that others went on without it; nothing was freed, run it again")]
    Overtaken,
    /// A pin that does not say what it keeps.
    #[error("the pin `{}` cannot be read: {reason}; remove it, and pin again what it kept", path.display())]
    BadPin {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The stage did not write what its kind promises.
    #[error("output `{name}` is missing: the stage wrote no `{path}`")]
    MissingOutput {
        /// The output.
        name: String,
        /// Its path in the output folder.
        path: String,
    },
    /// An output is neither a file nor a folder of files, or has a name that cannot be kept.
    #[error("`{}` cannot be kept: {reason}", path.display())]
    Unfit {
        /// What it is.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// An object that a record names is gone.
    #[error("object {digest} is missing in the cache; run again to make `{file}` anew")]
    MissingObject {
        /// Its digest.
        digest: Digest,
        /// The output file whose content it is.
        file: String,
    },
    /// Something that is not titer's stands where a result should be shown.
    #[error("`{}` was not made by titer and is left alone; move it away to see the result there", .0.display())]
    Foreign(PathBuf),
}

fn explain(doing: &str, path: &Path, cause: &io::Error) -> String {
    let path = path.display();
    match cause.kind() {
        io::ErrorKind::StorageFull => {
            format!(
                "cannot {doing} `{path}`: the disk is full; free some space and run again, finished stages are kept"
            )
        }
        io::ErrorKind::QuotaExceeded => format!(
            "cannot {doing} `{path}`: the disk quota is used up; free some space and run again, finished stages are kept"
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("cannot {doing} `{path}`: the file system is read-only; use another folder")
        }
        io::ErrorKind::PermissionDenied => {
            format!("cannot {doing} `{path}`: permission denied; check the owner and the mode of it and its folder")
        }
        _ => format!("cannot {doing} `{path}`: {cause}"),
    }
}

/// Adds to an I/O error what was tried on what.
pub(super) trait At<T> {
    /// `doing` is a verb in its plain form: `write`.
    fn at(self, doing: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T> {
        self.map_err(|cause| StoreError::Io { doing, path: path.to_path_buf(), cause })
    }
}
