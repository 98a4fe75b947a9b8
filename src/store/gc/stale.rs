//! What else nobody needs: logs of keys that are gone, what dead processes left behind, old plans and summaries.

use super::mark::{Action, Needed};
use super::runs::Source;
use super::{Condemned, Policy};
use crate::key::Digest;
use crate::store::Store;
use crate::store::claim::{owner, read};
use crate::store::error::Result;
use crate::store::file::{self, entries};
use crate::store::work::{Held, LOCK, held};
use crate::store::{earlier, snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A process of which nothing can be seen but that its heart has not beaten for so long is dead.
const DAY: Duration = Duration::from_secs(86_400);
/// What work left to later work is kept for so long after it was used last, unless a policy names another age.
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// A file or folder that would go.
#[derive(Clone, Debug, PartialEq)]
pub struct Leftover {
    /// What it is.
    pub what: What,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// Kinds of leftovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The log of work whose result is gone.
    Log,
    /// The claim of a dead process.
    Claim,
    /// What a dead process relied on, and no run that is kept.
    Roots,
    /// The scratch folder of a dead process.
    Work,
    /// What was found damaged, or was refused by a lock.
    Quarantine,
    /// The summary of a run.
    Run,
    /// A plan that no summary names.
    Plan,
    /// What a host remembered of a run with nothing to do.
    Snapshot,
    /// Where work stood that was stopped.
    Unfinished,
    /// Answers to single rows.
    Rows,
    /// What a collector that was stopped had moved.
    Trash,
    /// The beginning of a file that was to be fetched.
    Partial,
    /// Replies that were paid for.
    Ledger,
}

impl What {
    /// What people call so many of them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "logs",
            Self::Claim => "claims of dead processes",
            Self::Roots => "lists of dead processes",
            Self::Work => "work folders of dead processes",
            Self::Quarantine => "damaged or refused results in quarantine",
            Self::Run => "summaries of runs",
            Self::Plan => "plans of runs",
            Self::Snapshot => "memories of runs with nothing to do",
            Self::Unfinished => "checkpoints of unfinished work",
            Self::Rows => "collections of answers to rows",
            Self::Trash => "folders of a gc that was stopped",
            Self::Partial => "beginnings of files that were to be fetched",
            Self::Ledger => "files of replies that were paid for",
        }
    }
}

impl Leftover {
    pub(super) fn new(what: What, path: PathBuf) -> Self {
        let bytes = size(&path);
        Self { what, path, bytes }
    }

    /// What cannot be removed now is found again the next time.
    pub(super) fn remove(&self) {
        let _ = match self.path.is_dir() && !self.path.is_symlink() {
            true => fs::remove_dir_all(&self.path),
            false => fs::remove_file(&self.path),
        };
    }
}

/// Bytes of a file, or of all files in a folder; what cannot be read counts as nothing.
fn size(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum()
        }
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

impl Store {
    /// Whether a process has certainly ended. One that only stands still has not.
    pub(super) fn is_gone(&self, owner: &str) -> bool {
        let path = self.lock_file(owner);
        if self.is_of_this_host(owner) {
            match held(&path, &self.settings) {
                Held::No => return true,
                Held::Yes => return false,
                Held::Unknown => {}
            }
        }
        match fs::symlink_metadata(&path) {
            Err(error) => file::is_absent(&error),
            Ok(metadata) => self.has_rested(&metadata, DAY),
        }
    }

    /// Whether a file was written so long ago, on the clock that stamped it: the clocks of hosts differ, and jump.
    pub(in crate::store) fn has_rested(&self, metadata: &Metadata, time: Duration) -> bool {
        let stamp = || tempfile::tempfile_in(self.temporary().ok()?).ok()?.metadata().ok()?.modified().ok();
        let now = stamp().unwrap_or_else(SystemTime::now);
        metadata.modified().is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > time))
    }

    fn is_old(&self, path: &Path, time: Duration) -> bool {
        fs::symlink_metadata(path).is_ok_and(|metadata| self.has_rested(&metadata, time))
    }

    /// Whether processes of other hosts are at work in this cache.
    pub(super) fn has_guests(&self) -> Result<bool> {
        let names =
            entries(&self.root.join("work"))?.into_iter().filter_map(|entry| entry.file_name().into_string().ok());
        let owners = names.filter_map(|name| Some(name.strip_suffix(LOCK)?.strip_suffix('.')?.to_string()));
        Ok(owners.into_iter().any(|owner| !self.is_of_this_host(&owner) && !self.is_gone(&owner)))
    }

    /// What would go besides results.
    pub(super) fn leftovers(
        &self,
        policy: &Policy,
        needed: &Needed,
        actions: &BTreeMap<Digest, Action>,
        going: &[Condemned],
    ) -> Result<Vec<Leftover>> {
        let going: BTreeSet<Digest> = going.iter().map(|result| result.key).collect();
        let mut paths: Vec<(What, PathBuf)> = Vec::new();
        for entry in entries(&self.root.join("logs"))? {
            let name = entry.file_name().into_string().unwrap_or_default();
            let key = name.split('.').next().and_then(|key| key.parse::<Digest>().ok());
            let is_needed =
                |key: &Digest| needed.keys.contains(key) || (actions.contains_key(key) && !going.contains(key));
            if key.is_some_and(|key| !is_needed(&key)) && self.is_old(&entry.path(), policy.grace) {
                paths.push((What::Log, entry.path()));
            }
        }
        for entry in entries(&self.root.join("claims"))? {
            // One that vanishes at this moment is no claim any more.
            if read(&entry.path()).is_ok_and(|token| self.is_gone(owner(&token))) {
                paths.push((What::Claim, entry.path()));
            }
        }
        paths.extend(self.dead_work()?.into_iter().map(|path| (What::Work, path)));
        if policy.quarantine {
            let damaged = entries(&self.root.join("quarantine"))?;
            paths.extend(damaged.into_iter().map(|entry| (What::Quarantine, entry.path())));
        }
        let partials = self.partials().into_iter().filter(|path| policy.fetched || self.is_old(path, DAY));
        paths.extend(partials.filter(|path| self.is_old(path, policy.grace)).map(|path| (What::Partial, path)));
        paths.extend(self.trash()?.into_iter().map(|path| (What::Trash, path)));
        paths.extend(self.old_runs(policy, needed)?);
        for (what, folder) in [(What::Unfinished, earlier::UNFINISHED), (What::Rows, earlier::ROWS)] {
            let age = policy.older_than.unwrap_or(MONTH).max(policy.grace);
            let folders = entries(&self.root.join(folder))?.into_iter().map(|entry| entry.path());
            let is_old = |folder: &PathBuf| {
                // The young end of what is in it: a folder does not change with its files.
                let files = entries(folder).unwrap_or_default();
                self.is_old(folder, age) && files.iter().all(|file| self.is_old(&file.path(), age))
            };
            paths.extend(folders.filter(is_old).map(|path| (what, path)));
        }
        if policy.ledger {
            // A young one may be written to.
            let files = entries(&self.ledger())?.into_iter().map(|entry| entry.path());
            paths.extend(files.filter(|path| self.is_old(path, policy.grace)).map(|path| (What::Ledger, path)));
        }
        for host in entries(&self.root.join("local"))? {
            let snapshots = entries(&host.path().join(snapshot::FOLDER))?.into_iter().map(|entry| entry.path());
            let old = snapshots.filter(|path| self.is_old(path, policy.grace));
            paths.extend(old.map(|path| (What::Snapshot, path)));
        }
        Ok(paths.into_iter().map(|(what, path)| Leftover::new(what, path)).collect())
    }

    /// What dead processes left in `work/`: where their locks could not be asked when another one started.
    fn dead_work(&self) -> Result<Vec<PathBuf>> {
        let mut dead = Vec::new();
        for entry in entries(&self.root.join("work"))? {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap_or_default());
            let is_dead = match name.rsplit_once('.') {
                Some((owner, "work" | LOCK)) => self.is_gone(owner),
                Some((_, "new")) => self.is_old(&path, DAY),
                _ => false,
            };
            if is_dead {
                dead.push(path);
            }
        }
        Ok(dead)
    }

    /// The trash of collectors that were stopped.
    pub(super) fn trash(&self) -> Result<Vec<PathBuf>> {
        let own = crate::store::lock(&self.lease).as_ref().map(|lease| lease.name().to_string());
        let is_own = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.zip(own.as_deref()).is_some_and(|(name, own)| name.starts_with(own))
        };
        let found = entries(&self.root.join("trash"))?.into_iter().map(|entry| entry.path());
        Ok(found.filter(|path| !is_own(path)).collect())
    }

    /// Summaries of runs that are not kept, plans that none of the rest names, lists of runs that were killed.
    fn old_runs(&self, policy: &Policy, needed: &Needed) -> Result<Vec<(What, PathBuf)>> {
        let mut old = Vec::new();
        let mut named: BTreeSet<&str> = BTreeSet::new();
        // By size alone nothing is known of runs.
        let judges = policy.keep_runs.is_some() || policy.older_than.is_some();
        let mut is_understood = true;
        for (run, kept) in needed.runs.iter().zip(&needed.kept) {
            match &run.source {
                Source::Summary(path, _) if policy.history && judges && !kept => old.push((What::Run, path.clone())),
                // A young one may be about to be written.
                Source::Unread(path) if policy.history && judges && !kept && self.is_old(path, policy.grace) => {
                    old.push((What::Run, path.clone()));
                }
                Source::Begun(path, roots) if judges && !kept => {
                    old.push((What::Roots, roots.clone()));
                    old.extend(policy.history.then(|| (What::Run, path.clone())));
                }
                Source::Summary(_, plan) => named.extend(plan.as_deref()),
                Source::Killed(path) if run.keys.is_empty() || (judges && !kept) => {
                    old.push((What::Roots, path.clone()))
                }
                Source::Unread(_) => is_understood = false,
                Source::Killed(_) | Source::Begun(..) | Source::Live | Source::Latest => {}
            }
        }
        if !is_understood {
            return Ok(old);
        }
        for entry in entries(&self.root.join("plans"))? {
            let name = entry.file_name().into_string().unwrap_or_default();
            let is_named = name.strip_suffix(".json").is_none_or(|name| named.contains(name));
            if !is_named && self.is_old(&entry.path(), policy.grace) {
                old.push((What::Plan, entry.path()));
            }
        }
        Ok(old)
    }
}
