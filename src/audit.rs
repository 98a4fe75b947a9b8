//! What an audit finds: whether what was done again came out as it was, and if not, where, by how much, and why perhaps.
//!
//! Knows records and the store; the work itself is [`crate::run`]'s ([`crate::run::Purpose::Audit`]).

use crate::diff::{FileDifference, files};
use crate::key::Digest;
use crate::record::{Record, RunInfo};
use crate::store::{Result, Store};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What became of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The same bytes came out.
    Same,
    /// Others did.
    Differs,
    /// The same bytes came out, but something of it was damaged in the cache.
    Damaged,
    /// It could not be done again.
    Failed,
    /// It is not in the cache, so there is nothing to compare with.
    Absent,
    /// The audit was stopped before.
    Unfinished,
}

/// What an audit finds about one instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The instance.
    pub instance: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it failed or is absent.
    pub message: Option<String>,
    /// What was damaged in the cache: files of its outputs, `key.json`.
    pub damaged: Vec<String>,
    /// The files that came out otherwise.
    pub files: Vec<FileDifference>,
    /// How it was made the first time.
    pub first: Option<RunInfo>,
    /// How it was made again.
    pub again: Option<RunInfo>,
    /// What was not the same both times; empty also if nothing differs in the outputs.
    pub suspects: Vec<Suspect>,
}

impl Finding {
    /// A finding without anything to say yet.
    pub fn new(instance: String, verdict: Verdict) -> Self {
        Self {
            instance,
            verdict,
            message: None,
            damaged: Vec::new(),
            files: Vec::new(),
            first: None,
            again: None,
            suspects: Vec::new(),
        }
    }

    /// Compares what was recorded with what was made again.
    ///
    /// # Errors
    /// If an output cannot be read.
    pub fn judge(&mut self, store: &Store, first: &Record, again: &Record) -> std::io::Result<()> {
        self.files = files((store, first), (store, again))?;
        self.first = Some(first.run.clone());
        self.again = Some(again.run.clone());
        self.verdict = match (self.files.is_empty(), self.damaged.is_empty()) {
            (false, _) => Verdict::Differs,
            (true, false) => Verdict::Damaged,
            (true, true) => Verdict::Same,
        };
        if self.verdict == Verdict::Differs {
            self.suspects = suspects(&first.run, &again.run);
        }
        Ok(())
    }
}

/// Something that was not the same both times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suspect {
    /// What.
    pub what: &'static str,
    /// The first time.
    pub old: String,
    /// Again.
    pub new: String,
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.what, self.old, self.new)
    }
}

/// The circumstances that differ, the likeliest cause first.
fn suspects(old: &RunInfo, new: &RunInfo) -> Vec<Suspect> {
    let number = |threads: u32| threads.to_string();
    let all = [
        ("program", old.program.clone(), new.program.clone()),
        ("device", old.device.clone(), new.device.clone()),
        ("CPU features", old.machine.cpu_features.clone(), new.machine.cpu_features.clone()),
        ("CPU", old.machine.cpu.clone(), new.machine.cpu.clone()),
        ("graphics cards", old.gpus.join(","), new.gpus.join(",")),
        ("operating system", old.machine.os.clone(), new.machine.os.clone()),
        ("host", old.machine.host.clone(), new.machine.host.clone()),
        ("threads", number(old.threads), number(new.threads)),
    ];
    all.into_iter().filter(|(_, old, new)| old != new).map(|(what, old, new)| Suspect { what, old, new }).collect()
}

/// What is damaged of a key's action: its document, the files of its outputs. Everything is read. Damaged files go to the
/// quarantine.
///
/// # Errors
/// If something cannot be read.
pub fn damaged(store: &Store, record: &Record) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if store.document(&record.key)?.is_none_or(|document| document.key() != record.key) {
        found.push("key.json".to_string());
    }
    let mut seen = BTreeSet::new();
    for file in record.outputs.iter().flat_map(|output| &output.files) {
        if seen.insert(file.digest) && !store.verify(&file.digest)? {
            found.push(file.path.clone());
        }
    }
    Ok(found)
}

/// Picks `number` of some work, spread over the stages, by its key: the same ones whenever the work is the same, and no
/// place in a manifest is favoured. Of each piece of work `stage` is the stage and `key` the key.
pub fn sample<T>(work: Vec<T>, number: usize, stage: impl Fn(&T) -> String, key: impl Fn(&T) -> Digest) -> Vec<T> {
    let mut stages: BTreeMap<String, Vec<(Digest, T)>> = BTreeMap::new();
    for one in work {
        stages.entry(stage(&one)).or_default().push((Digest::of(key(&one).as_bytes()), one));
    }
    // Stage by stage, then the next of each.
    let mut ranked: Vec<(usize, Digest, T)> = Vec::new();
    for mut of_stage in stages.into_values() {
        of_stage.sort_by_key(|(rank, _)| *rank);
        ranked.extend(of_stage.into_iter().enumerate().map(|(turn, (rank, one))| (turn, rank, one)));
    }
    ranked.sort_by_key(|(turn, rank, _)| (*turn, *rank));
    ranked.into_iter().take(number).map(|(_, _, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyDocument;
    use crate::store::Committed;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt as _;

    fn commit(store: &Store, text: &str, threads: u32) -> Committed {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.jsonl"), text).unwrap();
        let document = KeyDocument::new("mix", 1, json!({}), vec![]);
        let run = RunInfo { threads, ..RunInfo::begin("mix.a") };
        store.commit(folder.path(), &[("train", "train.jsonl")], &document, run).unwrap()
    }

    fn made(store: &Store, texts: [&str; 2]) -> (Record, Record) {
        let first = commit(store, texts[0], 1).record().clone();
        match commit(store, texts[1], 2) {
            Committed::Observation { observed, .. } => (first, *observed),
            canonical => panic!("{canonical:?}"),
        }
    }

    #[test]
    fn equal_bytes_are_the_same_whatever_the_circumstances() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (first, again) = made(&store, ["{\"a\":1}\n", "{\"a\":1}\n"]);
        let mut finding = Finding::new("mix.a".into(), Verdict::Unfinished);
        finding.judge(&store, &first, &again).unwrap();
        assert_eq!((finding.verdict, finding.suspects.len(), finding.files.len()), (Verdict::Same, 0, 0));
        finding.damaged.push("key.json".into());
        finding.judge(&store, &first, &again).unwrap();
        assert_eq!(finding.verdict, Verdict::Damaged);
    }

    #[test]
    fn other_bytes_differ_with_what_was_not_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (first, again) = made(&store, ["{\"a\":1}\n", "{\"a\":2}\n"]);
        let mut finding = Finding::new("mix.a".into(), Verdict::Unfinished);
        finding.judge(&store, &first, &again).unwrap();
        assert_eq!(finding.verdict, Verdict::Differs);
        let text = finding.files[0].to_string();
        assert!(text.starts_with("train.jsonl: 1 of 1 rows differ, the first is row 1: `a` 1 → 2"), "{text}");
        assert_eq!(finding.suspects, [Suspect { what: "threads", old: "1".into(), new: "2".into() }]);
        std::fs::remove_file(store.path(&first.outputs[0].digest)).unwrap();
        finding.judge(&store, &first, &again).unwrap();
        assert!(finding.files[0].to_string().contains("gone from the cache"));
    }

    #[test]
    fn damage_is_found_by_reading() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let record = commit(&store, "rows", 1).record().clone();
        assert!(damaged(&store, &record).unwrap().is_empty());
        let object = store.path(&record.outputs[0].digest);
        std::fs::set_permissions(&object, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&object, "sowr").unwrap();
        let key = record.key.to_string();
        std::fs::write(folder.path().join("actions").join(&key[..2]).join(&key).join("key.json"), "{}").unwrap();
        assert_eq!(damaged(&store, &record).unwrap(), ["key.json", "train.jsonl"]);
    }

    #[test]
    fn a_sample_is_the_same_each_time_and_has_some_of_every_stage() {
        let work = || -> Vec<(String, Digest)> {
            let one = |stage: &str, i: u32| (stage.to_string(), Digest::of(format!("{stage} {i}").as_bytes()));
            (0..50).map(|i| one("mix.a", i)).chain((0..2).map(|i| one("train.b", i))).collect()
        };
        let pick = |work, number| sample(work, number, |one: &(String, Digest)| one.0.clone(), |one| one.1);
        let picked = pick(work(), 3);
        assert_eq!(picked, pick(work().into_iter().rev().collect(), 3));
        let stages: BTreeSet<&String> = picked.iter().map(|(stage, _)| stage).collect();
        assert_eq!((picked.len(), stages.len()), (3, 2));
        assert_eq!(pick(work(), 99).len(), 52);
        assert!(pick(work(), 20).iter().any(|one| !work()[..20].contains(one)), "not the first ones");
    }
}
