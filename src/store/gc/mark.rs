//! What is in the cache, what of it is needed, and what may go.

use super::runs::{PastRun, Source, words, written};
use super::{Condemned, Policy, Survey};
use crate::key::Digest;
use crate::record::Record;
use crate::store::Store;
use crate::store::error::Result;
use crate::store::file::{self, entries};
use crate::store::stat::{Stat, now};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What is kept of a key.
#[derive(Debug)]
pub(super) struct Action {
    instance: String,
    made: Timestamp,
    /// The objects that its runs name.
    pub(super) objects: BTreeSet<Digest>,
}

impl Action {
    /// Reads the folder of a key. Of a record that cannot be read (a newer titer's, a damaged one) whatever looks like a
    /// digest counts as an object of it.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let record_path = folder.join("record.json");
        let mut action = Self { instance: String::new(), made: written(&record_path), objects: BTreeSet::new() };
        if let Some(record) = action.add(&record_path)? {
            action.instance = record.run.instance;
        } else {
            action.made = written(folder);
        }
        for observation in entries(&folder.join("observations"))? {
            action.add(&observation.path())?;
        }
        Ok(action)
    }

    fn add(&mut self, path: &Path) -> Result<Option<Record>> {
        let Some(bytes) = file::read_if_there(path)? else { return Ok(None) };
        match Record::parse(&bytes) {
            Ok(record) => {
                self.objects.extend(record.outputs.iter().flat_map(|output| &output.files).map(|file| file.digest));
                Ok(Some(record))
            }
            Err(_) => {
                self.objects.extend(words(&bytes));
                Ok(None)
            }
        }
    }
}

/// All files in the two layers of a folder of the cache: `objects/ab/ab12…`.
pub(in crate::store) fn shelves(folder: &Path) -> Result<Vec<(Digest, fs::DirEntry)>> {
    let mut found = Vec::new();
    for shelf in entries(folder)? {
        for entry in entries(&shelf.path())? {
            if let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                found.push((digest, entry));
            }
        }
    }
    Ok(found)
}

impl Store {
    pub(super) fn actions(&self) -> Result<BTreeMap<Digest, Action>> {
        let found = shelves(&self.root.join("actions"))?;
        found.into_iter().map(|(key, entry)| Ok((key, Action::read(&entry.path())?))).collect()
    }

    /// The lengths of all objects, and whether each has been there for some time.
    fn objects(&self, grace: Duration) -> Result<BTreeMap<Digest, (u64, bool)>> {
        let newest = now() - i128::try_from(grace.as_nanos()).unwrap_or(i128::MAX / 2);
        let mut objects = BTreeMap::new();
        for (digest, entry) in shelves(&self.root.join("objects"))? {
            // One that vanishes under the eyes of this process is not there.
            if let Ok(metadata) = entry.metadata() {
                objects.insert(digest, (metadata.len(), Stat::of(&metadata).is_before(newest)));
            }
        }
        Ok(objects)
    }
}

/// What must stay.
#[derive(Debug)]
pub(super) struct Needed {
    pub(super) keys: BTreeSet<Digest>,
    /// Objects that no record needs to name.
    pub(super) objects: BTreeSet<Digest>,
    pub(super) runs: Vec<PastRun>,
    /// Which of the runs are kept.
    pub(super) kept: Vec<bool>,
    since: Timestamp,
}

impl Needed {
    /// The order matters: see [`Store::live`].
    pub(super) fn find(store: &Store, policy: &Policy) -> Result<Self> {
        let live = store.live()?;
        let runs = store.past_runs()?;
        let since = match policy.older_than {
            Some(age) => before(age),
            None => Timestamp::MAX,
        };
        let mut kept = vec![false; runs.len()];
        let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
        for (run, kept) in runs.iter().zip(&mut kept) {
            let place = match &run.source {
                // It tells of the latest run of each instance, which need not be one run.
                Source::Latest => 1,
                // What it needs its process says itself; its summary stays.
                Source::Live => 1,
                // Whose it is is not known.
                Source::Unread(_) if policy.history => runs.iter().filter(|other| other.is_told_after(run)).count() + 1,
                Source::Unread(_) => 1,
                Source::Summary(_, plan) => counts.entry(&run.pipeline).or_default().place(plan.as_deref()),
                Source::Killed(_) | Source::Begun(..) => counts.entry(&run.pipeline).or_default().place(None),
            };
            let is_live = run.source == Source::Live;
            *kept = is_live || policy.keep_runs.is_some_and(|number| place <= number) || run.at >= since;
        }
        let mut keys = live.keys.clone();
        keys.extend(store.pins()?.iter().map(|pin| pin.key));
        keys.extend(runs.iter().zip(&kept).filter(|(_, kept)| **kept).flat_map(|(run, _)| &run.keys));
        let mut objects = live.objects;
        if !policy.fetched {
            objects.extend(store.all_fetched()?.iter().flat_map(|(_, fetched)| &fetched.files).map(|file| file.digest));
        }
        for (run, kept) in runs.iter().zip(&kept) {
            if *kept || !policy.history {
                objects.extend(&run.named);
            }
        }
        Ok(Self { keys, objects, runs, kept, since })
    }

    /// Whether the results of a key must stay.
    pub(super) fn keeps(&self, key: &Digest, action: &Action) -> bool {
        self.keys.contains(key) || action.made >= self.since
    }
}

/// The runs of a pipeline that were counted so far, the latest first.
#[derive(Default)]
struct Count<'a> {
    all: usize,
    /// Those of one plan in a row, which keep the same results, count as one.
    distinct: usize,
    plan: Option<&'a str>,
}

impl<'a> Count<'a> {
    /// The place of the next run. One that repeats a plan adds nothing to what the later one keeps: its summary stays only
    /// if it is among the last ones itself.
    fn place(&mut self, plan: Option<&'a str>) -> usize {
        self.all += 1;
        if plan.is_some() && plan == self.plan {
            return self.all;
        }
        self.distinct += 1;
        self.plan = plan.or(self.plan);
        self.distinct
    }
}

/// The moment that lies so far back.
pub(super) fn before(age: Duration) -> Timestamp {
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN)
}

impl Store {
    /// Looks what would go; changes nothing.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn survey(&self, policy: &Policy) -> Result<Survey> {
        let needed = Needed::find(self, policy)?;
        let actions = self.actions()?;
        let objects = self.objects(policy.grace)?;
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        actions.values().flat_map(|action| &action.objects).for_each(|object| *users.entry(*object).or_default() += 1);
        let bytes = |object: &Digest| objects.get(object).map_or(0, |(bytes, _)| *bytes);

        let is_orphan = |object: &&Digest| !users.contains_key(*object) && !needed.objects.contains(*object);
        let orphans: Vec<Digest> = objects
            .iter()
            .filter(|(_, (_, settled))| *settled)
            .map(|(object, _)| object)
            .filter(is_orphan)
            .copied()
            .collect();
        let size: u64 = objects.values().map(|(bytes, _)| bytes).sum();
        let mut survey = Survey { size, kept: size, ..Survey::default() };
        survey.kept -= orphans.iter().map(bytes).sum::<u64>();
        survey.orphans = orphans.into_iter().map(|object| (object, bytes(&object))).collect();

        let uses = Uses::of(&needed.runs);
        let mut candidates: Vec<Condemned> = actions
            .iter()
            .filter(|(key, action)| !needed.keeps(key, action))
            .map(|(key, action)| uses.condemn(*key, action))
            .collect();
        candidates.sort_by_key(|candidate| candidate.last_used);
        for mut candidate in candidates {
            if policy.max_size.is_some_and(|limit| survey.kept <= limit) {
                break;
            }
            for object in actions.get(&candidate.key).iter().flat_map(|action| &action.objects) {
                let left = users.entry(*object).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 && objects.contains_key(object) && !needed.objects.contains(object) {
                    candidate.bytes += bytes(object);
                    candidate.objects.push(*object);
                }
            }
            survey.kept -= candidate.bytes;
            survey.results.push(candidate);
        }
        survey.leftovers = self.leftovers(policy, &needed, &actions, &survey.results)?;
        survey.kept_results = actions.len() - survey.results.len();
        Ok(survey)
    }
}

/// Which pipeline used a key last, and when.
struct Uses<'a>(BTreeMap<Digest, (Timestamp, &'a str)>);

impl<'a> Uses<'a> {
    fn of(runs: &'a [PastRun]) -> Self {
        let mut uses: BTreeMap<Digest, (Timestamp, &str)> = BTreeMap::new();
        for run in runs {
            for key in &run.keys {
                let last = uses.entry(*key).or_insert((run.at, &run.pipeline));
                *last = (*last).max((run.at, &run.pipeline));
            }
        }
        Self(uses)
    }

    fn condemn(&self, key: Digest, action: &Action) -> Condemned {
        let (at, pipeline) = self.0.get(&key).copied().unwrap_or((action.made, ""));
        Condemned {
            key,
            pipeline: (!pipeline.is_empty()).then(|| pipeline.to_string()),
            instance: action.instance.clone(),
            last_used: at.max(action.made),
            bytes: 0,
            objects: Vec::new(),
        }
    }
}
