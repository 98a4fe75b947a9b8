//! What a run tells: while it goes, and when it has ended.

use crate::journal;
use crate::key::Digest;
use crate::plan::Known;
use crate::record::Record;
use crate::schedule::Counts;
use crate::stage::{Cause, Progress};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What a run tells while it goes.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// An instance's outputs were in the cache.
    Cached,
    /// The shared cache has it; so many bytes are on their way.
    Fetching(u64),
    /// It came from the shared cache, and so many bytes with it.
    Fetched(u64),
    /// It is in the shared cache now; so many bytes were sent.
    Sent(u64),
    /// It has started, on that many threads and, as far as is known yet, on this kind of device.
    Started(usize, &'a str),
    /// The kind of device that does its arithmetic, where it is not the processor.
    ComputesOn(&'a str),
    /// How far it is.
    Progress(&'a Progress),
    /// Something that the person should know.
    Warned(&'a str),
    /// It ran in that many seconds.
    Ran(f64),
    /// It ran although its key was made before: an observation. The outputs that differ from the canonical ones.
    Observed(f64, &'a [String], &'a Record),
    /// Another process is making it; the run waits for that.
    Elsewhere,
    /// Another instance with the same key ran, or another process made it.
    Shared,
    /// It failed and is tried again after a pause: why, in a word and in many.
    Retries(Cause, &'a str, Duration),
    /// It failed: why, in a word and in many, and where its log is, if it has one.
    Failed(Cause, &'a str, Option<&'a Path>),
    /// The person stopped the run, and with it this.
    Stopped,
    /// Something that it reads failed.
    Blocked,
}

/// Who is told.
pub trait Observer {
    /// Something happened to an instance.
    fn event(&mut self, node: usize, event: &RunEvent<'_>);

    /// The person stopped the run; so many jobs are nearly done and are waited for.
    fn stopping(&mut self, waited_for: usize);

    /// All work is done; so many results are still on their way to the shared cache.
    fn sending(&mut self, left: usize);
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many instances ended how.
    pub counts: Counts,
    /// Results that were made and sent to the shared cache.
    pub sent: usize,
    /// Results that were made and could not be sent.
    pub unsent: usize,
    /// Whether the person stopped it.
    pub interrupted: bool,
    /// How many instances showed an older result, and have none now.
    pub hidden: usize,
    /// Wall time.
    pub seconds: f64,
}

impl Summary {
    /// How many instances ended how.
    pub fn ends(&self) -> journal::Counts {
        let Counts { wanted, cached, fetched, ran, shared, failed, blocked, .. } = self.counts;
        let unfinished = wanted - cached - fetched - ran - shared - failed - blocked;
        journal::Counts { wanted, cached, fetched, ran, shared, failed, blocked, unfinished }
    }
}

/// What is known after a run.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub summary: Summary,
    /// The key of every instance that got so far.
    pub keys: BTreeMap<usize, Digest>,
    /// The records of what is done.
    pub known: Known,
}

impl Finished {
    /// Whether all that was wanted is there.
    pub fn is_complete(&self) -> bool {
        let ends = self.summary.ends();
        !self.summary.interrupted && ends.failed + ends.blocked + ends.unfinished == 0
    }
}
