//! What work leaves to later work besides results: where an unfinished one stood, answers to single rows, and replies
//! that were paid for.
//!
//! The folders' contents are the stages'; here is only where they are and when they go.

use super::error::{At, Result};
use super::{Store, file};
use crate::key::Digest;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the work of keys stands.
pub(super) const UNFINISHED: &str = "unfinished";
/// Answers to rows.
pub(super) const ROWS: &str = "rows";
/// Replies that were paid for.
pub(super) const LEDGER: &str = "ledger";

impl Store {
    /// The folder for where the work of a key stands. It may not exist.
    pub fn unfinished(&self, key: &Digest) -> PathBuf {
        self.root.join(UNFINISHED).join(key.to_string())
    }

    /// The folder for answers to the rows of all work of a scope (see [`crate::key::KeyDocument::scope`]). It may not
    /// exist.
    pub fn rows(&self, scope: &Digest) -> PathBuf {
        self.root.join(ROWS).join(scope.to_string())
    }

    /// The folder of the replies that were paid for, of all work in the cache. It may not exist.
    pub fn ledger(&self) -> PathBuf {
        self.root.join(LEDGER)
    }

    /// A file where a run counts what it spends on APIs; nobody else has the name. It does not exist.
    pub fn till(&self) -> PathBuf {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let started = jiff::Timestamp::now().as_nanosecond();
        self.ledger().join("tills").join(format!("{started}-{}-{number}", std::process::id()))
    }

    /// The work of a key is done.
    pub(super) fn forget_unfinished(&self, key: &Digest) -> Result<()> {
        let folder = self.unfinished(key);
        match fs::remove_dir_all(&folder) {
            Err(error) if !file::is_absent(&error) => Err(error).at("remove", &folder),
            _ => Ok(()),
        }
    }
}
