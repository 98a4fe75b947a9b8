//! What differs between two pieces of work, two runs or two manifests: settings, inputs, outputs, metrics.
//!
//! Reads the store; runs and writes nothing.

mod files;
mod metrics;

pub use files::{FileDifference, files};
pub use metrics::{Metric, metrics};

use crate::journal::RunSummary;
use crate::key::{Change, Digest};
use crate::manifest::Pipeline;
use crate::plan::{Outline, Resolver};
use crate::record::Record;
use crate::store::{Result, Store};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One piece of work, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// Its key.
    pub key: Option<Digest>,
    /// What it is made of; of a key alone, the store knows it.
    pub outline: Option<Outline>,
}

/// The instances of a run or a manifest by name.
pub type Sides = BTreeMap<String, Side>;

impl Side {
    fn outline(&self, store: &Store) -> Result<Option<Outline>> {
        if self.outline.is_some() {
            return Ok(self.outline.clone());
        }
        let Some(key) = &self.key else { return Ok(None) };
        Ok(store.document(key)?.map(Outline::complete))
    }

    fn record(&self, store: &Store) -> Result<Option<Record>> {
        self.key.map_or(Ok(None), |key| store.get(&key))
    }

    fn is_known(&self) -> bool {
        self.key.is_some() || self.outline.is_some()
    }
}

/// The instances of a run, of one that has not ended those that it came to; none if its plan is gone from the store, or
/// damaged.
///
/// # Errors
/// If the store cannot be read.
pub fn of_run(store: &Store, run: &RunSummary) -> Result<Option<Sides>> {
    let Some(keys) = store.keys_of(run)? else { return Ok(None) };
    let mut sides: Sides = keys.into_iter().map(|(name, key)| (name, Side { key: Some(key), outline: None })).collect();
    // What was not reached has no key, but belongs to the pipeline.
    for name in run.instances.keys() {
        sides.entry(name.clone()).or_default();
    }
    Ok(Some(sides))
}

/// The instances of a manifest, made or not.
pub fn of_pipeline(pipeline: &Pipeline, resolver: &Resolver<'_>) -> Sides {
    let (outlines, _) = resolver.outlines();
    let side = |outline: Outline| Side { key: outline.key(), outline: Some(outline) };
    pipeline
        .instances
        .iter()
        .zip(outlines)
        .map(|(instance, outline)| (instance.id.to_string(), side(outline)))
        .collect()
}

/// In what two pieces of work differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// What they are made of.
    pub changes: Vec<Change>,
    /// What cannot be compared yet, as it has not been made.
    pub open: Vec<String>,
    /// Whether the cache no longer knows what one of them was made of.
    pub lost: bool,
    /// The outputs of both, by name.
    pub outputs: Vec<Outputs>,
    /// The metrics of both, if both were made.
    pub metrics: Vec<Metric>,
}

/// An output on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outputs {
    /// Its name.
    pub name: String,
    /// Digest of the old one; none if it was not made.
    pub old: Option<Digest>,
    /// Digest of the new one; none if it is not made.
    pub new: Option<Digest>,
}

impl Outputs {
    /// Whether both sides have made it, and not the same.
    pub fn both_differ(&self) -> bool {
        self.old.is_some() && self.new.is_some() && self.old != self.new
    }
}

/// Compares two pieces of work, each with the store that knows it.
///
/// # Errors
/// If a store cannot be read.
pub fn compare((old_store, old): (&Store, &Side), (new_store, new): (&Store, &Side)) -> Result<Difference> {
    let mut difference = Difference::default();
    if let (Some(old), Some(new)) = (old.outline(old_store)?, new.outline(new_store)?) {
        difference.changes = old.difference(&new);
        let open: BTreeSet<&String> = old.open.iter().chain(&new.open).map(|open| &open.name).collect();
        difference.open = open.into_iter().cloned().collect();
    } else {
        difference.lost = true;
    }
    let (old, new) = (old.record(old_store)?, new.record(new_store)?);
    let outputs = |record: &Option<Record>| -> BTreeMap<String, Digest> {
        record.iter().flat_map(|record| &record.outputs).map(|output| (output.name.clone(), output.digest)).collect()
    };
    let (before, after) = (outputs(&old), outputs(&new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    difference.outputs = names
        .into_iter()
        .map(|name| Outputs { name: name.clone(), old: before.get(name).copied(), new: after.get(name).copied() })
        .collect();
    if let (Some(old), Some(new)) = (old, new) {
        difference.metrics = metrics::pairs(&metrics(old_store, &old), &metrics(new_store, &new));
    }
    Ok(difference)
}

/// In what two sets of instances differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Instances of the new one only.
    pub added: Vec<String>,
    /// Instances of the old one only.
    pub removed: Vec<String>,
    /// Instances that differ; of their metrics those that do.
    pub changed: BTreeMap<String, Difference>,
    /// Instances of both that one of the two did not come to.
    pub unmade: Vec<String>,
    /// How many are equal, as far as they are known.
    pub equal: usize,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty() && self.unmade.is_empty()
    }
}

/// Compares two sets of instances, each with the store that knows it. In one store equal keys are one run, and are not
/// looked into; two stores may have made other bytes of one key.
///
/// # Errors
/// If a store cannot be read.
pub fn compare_all((old_store, old): (&Store, &Sides), (new_store, new): (&Store, &Sides)) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    let one_store = old_store.root() == new_store.root();
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if one_store && old.key.is_some() && old.key == new.key => comparison.equal += 1,
            (Some(old), Some(new)) if !old.is_known() || !new.is_known() => comparison.unmade.push(name.clone()),
            (Some(old), Some(new)) => {
                let mut difference = compare((old_store, old), (new_store, new))?;
                difference.metrics.retain(Metric::differs);
                let same_key = old.key.is_some() && old.key == new.key;
                let other_bytes = same_key && difference.outputs.iter().any(Outputs::both_differ);
                if other_bytes || !difference.changes.is_empty() || (difference.lost && !same_key) {
                    comparison.changed.insert(name.clone(), difference);
                } else {
                    comparison.equal += 1;
                }
            }
            (None, _) => comparison.added.push(name.clone()),
            (_, None) => comparison.removed.push(name.clone()),
        }
    }
    Ok(comparison)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Asked, Entry, PlanDocument};
    use crate::key::KeyDocument;
    use crate::record::RunInfo;
    use serde_json::{Value, json};

    struct Cache {
        folder: tempfile::TempDir,
        store: Store,
    }

    impl Cache {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            Self { folder, store }
        }

        /// Commits a piece of work with a summary.
        fn made(&self, recipe: Value, summary: &Value) -> Digest {
            let document = KeyDocument::new("score", 1, recipe, vec![]);
            let output = self.folder.path().join("made");
            std::fs::create_dir_all(&output).unwrap();
            std::fs::write(output.join("summary.json"), summary.to_string()).unwrap();
            let run = RunInfo::begin("score.a");
            self.store.commit(&output, &[("summary", "summary.json")], &document, run).unwrap();
            document.key()
        }
    }

    fn side(key: Digest) -> Side {
        Side { key: Some(key), outline: None }
    }

    #[test]
    fn two_pieces_of_work_are_compared_in_settings_outputs_and_metrics() {
        let cache = Cache::new();
        let old = cache.made(json!({"lora": {"r": 8}}), &json!({"metrics": {"em": {"mean": 0.5}}, "rows": 4}));
        let new = cache.made(json!({"lora": {"r": 16}}), &json!({"metrics": {"em": {"mean": 0.75}}, "rows": 4}));
        let found = compare((&cache.store, &side(old)), (&cache.store, &side(new))).unwrap();
        assert_eq!(found.changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["lora.r: 8 → 16"]);
        assert!(found.outputs[0].name == "summary" && found.outputs[0].old != found.outputs[0].new);
        let metric = |name: &str, old, new| Metric { name: name.into(), old: Some(old), new: Some(new) };
        assert_eq!(found.metrics, [metric("metrics.em.mean", 0.5, 0.75), metric("rows", 4.0, 4.0)]);
        assert!(!found.lost && found.open.is_empty());
        let lost = compare((&cache.store, &side(old)), (&cache.store, &side(Digest::of(b"gone")))).unwrap();
        assert!(lost.lost && lost.changes.is_empty() && lost.outputs[0].new.is_none());
    }

    #[test]
    fn two_runs_are_compared_by_their_instances() {
        let cache = Cache::new();
        let (a, b) = (cache.made(json!({"n": 1}), &json!({"x": 1})), cache.made(json!({"n": 2}), &json!({"x": 1})));
        let run = |instances: &[(&str, Digest)], blocked: &[&str]| {
            let plan = instances.iter().map(|(name, key)| (name.to_string(), *key)).collect();
            let mut run = RunSummary::begin("p", "p.toml", Asked::default());
            run.plan = Some(cache.store.write_plan(&PlanDocument::new("p", plan)).unwrap());
            run.instances = blocked.iter().map(|name| (name.to_string(), Entry::default())).collect();
            of_run(&cache.store, &run).unwrap().unwrap()
        };
        let old = run(&[("score.a", a), ("score.b", a), ("score.gone", a), ("score.stopped", a)], &[]);
        let new = run(&[("score.a", a), ("score.b", b), ("score.new", a)], &["score.stopped"]);
        let found = compare_all((&cache.store, &old), (&cache.store, &new)).unwrap();
        assert_eq!((found.added, found.removed, found.equal), (vec!["score.new".into()], vec!["score.gone".into()], 1));
        assert_eq!(found.unmade, ["score.stopped"]);
        assert_eq!(found.changed.keys().collect::<Vec<_>>(), ["score.b"]);
        assert!(found.changed["score.b"].metrics.is_empty(), "x is the same");
        assert!(compare_all((&cache.store, &old), (&cache.store, &old)).unwrap().is_empty());
    }

    #[test]
    fn two_caches_may_have_other_bytes_of_one_key() {
        let (one, two) = (Cache::new(), Cache::new());
        let key = one.made(json!({"n": 1}), &json!({"x": 1}));
        let same = one.made(json!({"n": 2}), &json!({"x": 1}));
        assert_eq!(
            (two.made(json!({"n": 1}), &json!({"x": 2})), two.made(json!({"n": 2}), &json!({"x": 1}))),
            (key, same)
        );
        let sides: Sides = [("score.a".to_string(), side(key)), ("score.b".to_string(), side(same))].into();
        let found = compare_all((&one.store, &sides), (&two.store, &sides)).unwrap();
        assert_eq!(found.changed.keys().collect::<Vec<_>>(), ["score.a"]);
        assert_eq!((found.changed["score.a"].metrics.len(), found.equal), (1, 1));
    }
}
