//! The runs that are remembered: which keys each had, whoever wrote it down.
//!
//! Three places tell of runs: a summary in `runs/` with its plan in `plans/`, the latest keys of a pipeline in
//! `pipelines/`, and what is left in `roots/` of a process that was killed, which the summary that it began names. They
//! are read leniently: of what is not understood, whatever looks like a digest counts as a key or a plan, so that nothing
//! goes by misunderstanding.

use super::Store;
use crate::key::Digest;
use crate::store::error::Result;
use crate::store::file::{self, entries};
use crate::store::order;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

/// A run that is over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PastRun {
    pub(super) pipeline: String,
    pub(super) at: Timestamp,
    /// What it is sorted by: its time, but never before that of a run that began earlier, whatever the clock said; and
    /// its place among the runs.
    rank: (Timestamp, usize),
    pub(super) keys: BTreeSet<Digest>,
    /// Whatever its summary names: the texts of manifests are kept as objects.
    pub(super) named: BTreeSet<Digest>,
    pub(super) source: Source,
}

impl PastRun {
    /// Whether a summary tells of this run, and it is later than another.
    pub(super) fn is_told_after(&self, other: &Self) -> bool {
        matches!(self.source, Source::Summary(..)) && self.at > other.at
    }
}

/// Who tells of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// The pipeline's latest keys, where no summary tells more.
    Latest,
    /// A summary, and the name of its plan.
    Summary(PathBuf, Option<String>),
    /// A summary that a live process has begun.
    Live,
    /// One whose process was killed, and what that relied on.
    Begun(PathBuf, PathBuf),
    /// A process that was killed, of which no summary tells.
    Killed(PathBuf),
    /// A summary that is not understood.
    Unread(PathBuf),
}

/// What gc reads of a run's summary.
#[derive(Deserialize)]
struct Summary {
    pipeline: String,
    /// RFC 3339.
    started: String,
    plan: Option<String>,
    /// Of a run that has not ended.
    process: Option<Owner>,
}

/// What gc reads of a process.
#[derive(Deserialize)]
struct Owner {
    name: String,
}

/// What live processes rely on.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) keys: BTreeSet<Digest>,
    pub(super) objects: BTreeSet<Digest>,
}

/// When a file was written last. What cannot be told was just now: so nothing goes by mistake.
pub(super) fn written(path: &Path) -> Timestamp {
    let time = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    time.ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_else(Timestamp::now)
}

impl Store {
    /// What live processes rely on. To be asked before the runs: one that ends meanwhile is in either.
    pub(super) fn live(&self) -> Result<Live> {
        let mut live = Live::default();
        for entry in entries(&self.root.join("roots"))? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !self.is_gone(&name) {
                let relied = self.relied(&name)?.unwrap_or_default();
                live.keys.extend(relied.keys);
                live.objects.extend(relied.objects);
            }
        }
        Ok(live)
    }

    /// All runs that are remembered, the latest of each pipeline first.
    pub(super) fn past_runs(&self) -> Result<Vec<PastRun>> {
        let mut runs = Vec::new();
        let mut plans: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
        let mut told: BTreeMap<String, Timestamp> = BTreeMap::new();
        let mut begun: BTreeSet<String> = BTreeSet::new();
        let places = order::places(&self.root)?;
        for entry in entries(&self.root.join("runs"))? {
            let path = entry.path();
            let place = path.file_stem().and_then(|id| places.get(id.to_str()?).copied()).unwrap_or(0);
            let Some(bytes) = file::read_if_there(&path)? else { continue };
            let Ok(summary) = serde_json::from_slice::<Summary>(&bytes) else {
                let mut keys = digests(&bytes);
                for name in keys.clone() {
                    keys.extend(self.plan_keys(&name.to_string())?);
                }
                let (at, named) = (written(&path), keys.clone());
                let source = Source::Unread(path);
                runs.push(PastRun { pipeline: String::new(), at, rank: (at, place), keys, named, source });
                continue;
            };
            let at = summary.started.parse().unwrap_or_else(|_| written(&path));
            let (rank, named) = ((at, place), digests(&bytes));
            if let Some(Owner { name }) = summary.process {
                let (keys, source) = match self.is_gone(&name) {
                    true => (
                        self.relied(&name)?.unwrap_or_default().keys,
                        Source::Begun(path, self.root.join("roots").join(&name)),
                    ),
                    false => (Vec::new(), Source::Live),
                };
                let keys = keys.into_iter().collect();
                runs.push(PastRun { pipeline: summary.pipeline, at, rank, keys, named, source });
                begun.insert(name);
                continue;
            }
            let keys = match &summary.plan {
                None => BTreeSet::new(),
                Some(name) => match plans.get(name) {
                    Some(keys) => keys.clone(),
                    None => plans.entry(name.clone()).or_insert(self.plan_keys(name)?).clone(),
                },
            };
            if !keys.is_empty() {
                let last = told.entry(summary.pipeline.clone()).or_insert(Timestamp::MIN);
                *last = (*last).max(written(&path));
            }
            let source = Source::Summary(path, summary.plan);
            runs.push(PastRun { pipeline: summary.pipeline, at, rank, keys, named, source });
        }
        rank(&mut runs);
        for entry in entries(&self.root.join("pipelines"))? {
            let path = entry.path();
            let Some(pipeline) = pipeline_of(&entry) else { continue };
            // A run writes its summary after these keys, among which instances stay that the manifest has no more. Newer
            // ones come of an import, or of a run without a summary.
            if told.get(&pipeline).is_some_and(|told| *told >= written(&path)) {
                continue;
            }
            let keys = digests(&file::read_if_there(&path)?.unwrap_or_default());
            let at = written(&path);
            runs.push(PastRun { pipeline, at, rank: (at, 0), keys, named: BTreeSet::new(), source: Source::Latest });
        }
        for entry in entries(&self.root.join("roots"))? {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if !begun.contains(&name) && self.is_gone(&name) {
                let relied = self.relied(&name)?.unwrap_or_default();
                let keys = relied.keys.into_iter().collect();
                let (pipeline, at, named) = (relied.pipeline.unwrap_or_default(), written(&path), BTreeSet::new());
                runs.push(PastRun { pipeline, at, rank: (at, 0), keys, named, source: Source::Killed(path) });
            }
        }
        runs.sort_by(|a, b| a.pipeline.cmp(&b.pipeline).then(b.rank.cmp(&a.rank)));
        Ok(runs)
    }

    fn plan_keys(&self, name: &str) -> Result<BTreeSet<Digest>> {
        // A name of another form is no file in this folder.
        if name.contains('/') {
            return Ok(BTreeSet::new());
        }
        let path = self.root.join("plans").join(format!("{name}.json"));
        Ok(digests(&file::read_if_there(&path)?.unwrap_or_default()))
    }
}

/// Lets no run come before one that began earlier, as far as their order is known.
fn rank(runs: &mut [PastRun]) {
    let mut known: Vec<&mut PastRun> = runs.iter_mut().filter(|run| run.rank.1 > 0).collect();
    known.sort_by_key(|run| run.rank.1);
    let mut latest = Timestamp::MIN;
    for run in known {
        latest = latest.max(run.at);
        run.rank.0 = latest;
    }
}

/// The pipelines whose latest keys are known.
pub(in crate::store) fn pipelines(root: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = entries(&root.join("pipelines"))?.iter().filter_map(pipeline_of).collect();
    names.sort();
    Ok(names)
}

fn pipeline_of(entry: &DirEntry) -> Option<String> {
    Some(plain(entry.file_name().to_str()?.strip_suffix(".json")?))
}

/// All digests that a JSON document holds as values: in a plan, the keys of its instances. More than those would only
/// keep more.
fn digests(json: &[u8]) -> BTreeSet<Digest> {
    fn collect(value: &Json, found: &mut BTreeSet<Digest>) {
        match value {
            Json::String(text) => found.extend(text.parse::<Digest>()),
            Json::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Json::Object(entries) => entries.values().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    match serde_json::from_slice(json) {
        Ok(value) => collect(&value, &mut found),
        Err(_) => found.extend(words(json)),
    }
    found
}

/// Whatever looks like a digest in a text.
pub(super) fn words(text: &[u8]) -> Vec<Digest> {
    let words = text.split(|byte| !byte.is_ascii_hexdigit());
    words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok()).collect()
}

/// The name that [`file::path_part`] made a part of a path of.
pub(in crate::store) fn plain(part: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), part.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        match code {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::store;
    use super::*;
    use serde_json::json;

    #[test]
    fn names_come_back_from_paths() {
        for name in ["fractions", "a/b", "ä %2f", "..", "%"] {
            assert_eq!(plain(&file::path_part(name)), name);
        }
    }

    #[test]
    fn runs_are_read_from_all_three_places_and_what_is_damaged_keeps_what_it_names() {
        let (_folder, store) = store();
        let keys: Vec<Digest> = (0..4).map(|i| Digest::of(&[i])).collect();
        store.set_last_run("a/b", &BTreeMap::from([("mix.x".to_string(), keys[0])])).unwrap();
        for folder in ["runs", "plans", "roots"] {
            fs::create_dir_all(store.root().join(folder)).unwrap();
        }
        let write = |name: &str, text: String| fs::write(store.root().join(name), text).unwrap();
        write("plans/p.json", json!({"format": 1, "instances": {"mix.x": keys[1], "mix.y": null}}).to_string());
        let summary =
            |started: &str| json!({"pipeline": "a/b", "started": started, "plan": "p", "more": 1}).to_string();
        write("runs/20260101T000000Z-a.json", summary("2026-01-01T00:00:00Z"));
        write("runs/20260102T000000Z-b.json", summary("2026-01-02T00:00:00Z"));
        write("runs/other.json", json!({"version": 9, "of": keys[3]}).to_string());
        write(&format!("roots/{}.4194304.x", store.host), format!("run a/b\nkey {}\nkey 01", keys[2]));
        write("pipelines/bad.json", format!("{{\"mix.x\": \"{}\", \"mix", keys[1]));
        store.rely_on([keys[3]]).unwrap();

        let (unread, runs): (Vec<PastRun>, Vec<PastRun>) =
            store.past_runs().unwrap().into_iter().partition(|run| matches!(run.source, Source::Unread(_)));
        let told: Vec<(&str, Vec<Digest>)> =
            runs.iter().map(|run| (run.pipeline.as_str(), run.keys.iter().copied().collect())).collect();
        let summaries = [("a/b", vec![keys[1]]), ("a/b", vec![keys[1]])];
        assert_eq!(told[..3], [&[("a/b", vec![keys[2]])], &summaries[..]].concat(), "the older ones come last");
        assert_eq!(told[3..], [("bad", vec![keys[1]])], "the summaries tell more than the latest keys");
        assert_eq!(unread.iter().map(|run| &run.keys).collect::<Vec<_>>(), [&BTreeSet::from([keys[3]])]);
        // Time is coarse.
        std::thread::sleep(std::time::Duration::from_millis(25));
        store.set_last_run("a/b", &BTreeMap::from([("mix.x".to_string(), keys[3])])).unwrap();
        let latest = store.past_runs().unwrap().into_iter().find(|run| run.source == Source::Latest);
        assert_eq!(latest.unwrap().keys, BTreeSet::from([keys[3]]), "an import, of which no summary tells");
        let live = store.live().unwrap();
        assert_eq!(live.keys, BTreeSet::from([keys[3]]), "a live process is no run yet");
    }
}
