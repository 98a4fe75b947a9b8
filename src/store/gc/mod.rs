//! The collector: frees what nobody needs any more, beside running processes.
//!
//! Needed is what the last runs of each pipeline used, what was used within an age, what is pinned, and what live
//! processes rely on (`store::roots`). The rest goes, in this order, so that a kill at any moment loses nothing:
//!
//! 1. a mark is set (`sweep`): from now on, who would rely on something more waits;
//! 2. what is needed is found (`mark`);
//! 3. records, then objects, that are not are moved to `trash/`;
//! 4. what is needed is found again: what became so meanwhile (of a process that did not see the mark in time, on a
//!    network file system) goes back;
//! 5. that something was swept is told to those who have planned meanwhile, the mark goes, and the trash is deleted.
//!
//! A collector that was killed leaves its trash, with which the next one begins at 4. One that was paused, so that others
//! lost patience and took its mark away, puts everything back.

mod mark;
mod runs;
mod stale;
mod sweep;
#[cfg(test)]
mod tests;

pub(super) use mark::shelves;
pub(super) use runs::{pipelines, plain};
pub use stale::{Leftover, What};

use super::Store;
use crate::key::Digest;
use jiff::Timestamp;
use std::time::Duration;

/// What is kept besides pins and what live processes rely on. What none of these keeps may go.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What so many last runs of each pipeline used.
    pub keep_runs: Option<usize>,
    /// What was made or used within this time.
    pub older_than: Option<Duration>,
    /// Of the rest, only so much goes, least recently used first, as it takes to make the objects fit.
    pub max_size: Option<u64>,
    /// Whether what was found damaged goes.
    pub quarantine: bool,
    /// Whether the summaries of runs that are not kept go, and the manifests that only they name.
    pub history: bool,
    /// Whether what was fetched from elsewhere goes, as far as no live process relies on it.
    pub fetched: bool,
    /// Whether the replies go that were paid for.
    pub ledger: bool,
    /// What no record names may be about to be named: it stays for so long.
    pub grace: Duration,
    /// How long others get to see the mark of a sweep. By default as long as network file systems hide it, if processes
    /// of other hosts are at work, else not at all.
    pub wait: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            keep_runs: Some(5),
            older_than: None,
            max_size: None,
            quarantine: false,
            history: false,
            fetched: false,
            ledger: false,
            grace: Duration::from_secs(3600),
            wait: None,
        }
    }
}

/// What would go, and what would stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Results, the least recently used first.
    pub results: Vec<Condemned>,
    /// Objects that no record names, and their lengths.
    pub orphans: Vec<(Digest, u64)>,
    /// Other files.
    pub leftovers: Vec<Leftover>,
    /// Bytes of all objects.
    pub size: u64,
    /// Bytes of the objects that stay.
    pub kept: u64,
    /// Results that stay.
    pub kept_results: usize,
}

impl Survey {
    /// Bytes that would be free.
    pub fn bytes(&self) -> u64 {
        let objects =
            self.results.iter().map(|result| result.bytes).chain(self.orphans.iter().map(|(_, bytes)| *bytes));
        objects.chain(self.leftovers.iter().map(|leftover| leftover.bytes)).sum()
    }

    /// Whether nothing would go.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty() && self.orphans.is_empty() && self.leftovers.is_empty()
    }
}

/// A result that would go.
#[derive(Clone, Debug, PartialEq)]
pub struct Condemned {
    /// Its key.
    pub key: Digest,
    /// The pipeline that used it last, if that is known.
    pub pipeline: Option<String>,
    /// What it was called when it was made; empty if its record cannot be read.
    pub instance: String,
    /// When it was made or used last.
    pub last_used: Timestamp,
    /// Bytes that nothing else needs.
    pub bytes: u64,
    /// The objects that nothing else needs.
    pub objects: Vec<Digest>,
}
