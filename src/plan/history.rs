//! What like work has cost before: the records of last runs.

use super::{Plan, Status};
use crate::key::Digest;
use crate::manifest::{InstanceId, Pipeline};
use crate::record::Record;
use crate::stage::Kind;
use crate::store::Store;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What work costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Wall time.
    pub seconds: f64,
    /// Wall time, for each graphics card.
    pub gpu_seconds: f64,
    /// What its outputs take on the disk.
    pub bytes: f64,
}

impl Cost {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn of(record: &Record) -> Self {
        let seconds = record.run.wall_seconds;
        let files = record.outputs.iter().flat_map(|output| &output.files);
        let sizes: BTreeMap<Digest, u64> = files.map(|file| (file.digest, file.size)).collect();
        let bytes = sizes.values().sum::<u64>() as f64;
        Self { seconds, gpu_seconds: seconds * record.run.gpus.len() as f64, bytes }
    }

    fn add(&mut self, other: Cost) {
        self.seconds += other.seconds;
        self.gpu_seconds += other.gpu_seconds;
        self.bytes += other.bytes;
    }
}

/// What an expectation is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The instance itself, as it was the last time.
    Instance,
    /// The mean of the other instances of its stage.
    Stage,
    /// The mean of work of its kind, in any pipeline of the cache.
    Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mean {
    sum: Cost,
    count: u32,
}

impl Mean {
    fn add(&mut self, cost: Cost) {
        self.sum.add(cost);
        self.count += 1;
    }

    fn get(&self) -> Cost {
        let Mean { sum, count } = self;
        let count = f64::from(*count).max(1.0);
        Cost { seconds: sum.seconds / count, gpu_seconds: sum.gpu_seconds / count, bytes: sum.bytes / count }
    }
}

/// Costs of the last runs of a pipeline, by instance and by stage; and by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    instances: BTreeMap<String, Cost>,
    stages: BTreeMap<String, Mean>,
    kinds: BTreeMap<String, Mean>,
}

impl History {
    /// Reads what is known of a pipeline. What cannot be read is not known.
    pub fn read(store: &Store, pipeline: &str) -> Self {
        let mut history = Self::default();
        for (instance, key) in store.last_run(pipeline).unwrap_or_default() {
            // What was imported cost nothing here.
            if let Ok(Some(record)) = store.get(&key)
                && record.run.imported.is_none()
            {
                history.add(&instance, Cost::of(&record));
            }
        }
        history
    }

    /// Reads what is known of the other pipelines of the cache too, for the kinds that this one has not come to.
    pub fn widen(&mut self, store: &Store) {
        /// Records of one kind that are read: enough for a mean.
        const ENOUGH: u32 = 100;
        let (own, mut seen) = (self.kinds.clone(), BTreeSet::new());
        for (instance, key) in store.last_runs().into_iter().flatten() {
            let kind = kind_of(&instance);
            let known = self.kinds.get(kind).map_or(0, |mean| mean.count);
            if own.contains_key(kind) || known >= ENOUGH || !seen.insert(key) {
                continue;
            }
            if let Ok(Some(record)) = store.get(&key) {
                self.kinds.entry(kind.to_string()).or_default().add(Cost::of(&record));
            }
        }
    }

    fn add(&mut self, instance: &str, cost: Cost) {
        let stage = instance.split('[').next().unwrap_or(instance);
        self.stages.entry(stage.to_string()).or_default().add(cost);
        self.kinds.entry(kind_of(instance).to_string()).or_default().add(cost);
        self.instances.insert(instance.to_string(), cost);
    }

    /// What the instance cost the last time, else the mean of its stage, else that of its kind. `None` if there is
    /// nothing like it.
    pub fn expect(&self, id: &InstanceId) -> Option<(Cost, Basis)> {
        let own = self.instances.get(&id.to_string()).map(|cost| (*cost, Basis::Instance));
        own.or_else(|| self.stages.get(&id.stage()).map(|mean| (mean.get(), Basis::Stage)))
            .or_else(|| self.kinds.get(id.kind.name()).map(|mean| (mean.get(), Basis::Kind)))
    }

    /// Expected milliseconds for the order of a schedule; without history a guess for the kind.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time that is not negative")]
    pub fn cost(&self, id: &InstanceId) -> u64 {
        self.expect(id).map_or_else(|| guess(id.kind), |(cost, _)| (cost.seconds * 1000.0) as u64)
    }
}

fn kind_of(instance: &str) -> &str {
    instance.split('.').next().unwrap_or(instance)
}

/// Milliseconds of work that nobody has done yet: what trains or predicts is far dearer than the rest.
fn guess(kind: Kind) -> u64 {
    match kind {
        Kind::Train => 60_000,
        Kind::Predict => 10_000,
        Kind::Mix | Kind::Score | Kind::Aggregate => 100,
    }
}

/// What a plan is expected to cost, all stages one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// What will run, and what waits for it.
    pub work: Cost,
    /// What runs too if what it reads comes out otherwise than the last time.
    pub perhaps: Cost,
    /// How many instances are counted in one of the two.
    pub instances: usize,
    /// How many of them are only like others of their kind.
    pub by_kind: usize,
    /// How many instances will run that nothing is known of: they are in neither sum.
    pub unknown: usize,
}

impl Estimate {
    /// Adds up what a plan will cost; equal keys are one run.
    pub fn of(plan: &Plan, pipeline: &Pipeline, history: &History) -> Self {
        let mut estimate = Self::default();
        let mut seen = BTreeSet::new();
        for (node, status) in &plan.entries {
            let perhaps = match status {
                Status::Cached(_) | Status::Remote(_) => continue,
                Status::Runs(_) if plan.keys.get(node).is_some_and(|key| !seen.insert(*key)) => continue,
                Status::Runs(_) => false,
                Status::Waits { cached_unless_changed, .. } => *cached_unless_changed,
            };
            match history.expect(&pipeline.instances[*node].id) {
                Some((cost, basis)) => {
                    if perhaps {
                        estimate.perhaps.add(cost)
                    } else {
                        estimate.work.add(cost)
                    }
                    estimate.instances += 1;
                    estimate.by_kind += usize::from(basis == Basis::Kind);
                }
                None => estimate.unknown += 1,
            }
        }
        estimate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::AxisValue;

    fn id(n: i64) -> InstanceId {
        let axes = [("n".to_string(), AxisValue::Integer(n))].into();
        InstanceId { kind: Kind::Train, name: "adapter".into(), axes }
    }

    fn cost(seconds: f64) -> Cost {
        Cost { seconds, gpu_seconds: 2.0 * seconds, bytes: 10.0 * seconds }
    }

    #[test]
    fn an_instance_is_expected_to_cost_what_it_did_or_what_its_like_did() {
        let mut history = History::default();
        assert_eq!((history.expect(&id(1)), history.cost(&id(1))), (None, 60_000));
        history.add("train.other", cost(12.0));
        assert_eq!(history.expect(&id(1)), Some((cost(12.0), Basis::Kind)));
        history.add("train.adapter[n=1]", cost(2.0));
        history.add("train.adapter[n=2]", cost(4.0));
        assert_eq!(history.expect(&id(1)), Some((cost(2.0), Basis::Instance)));
        assert_eq!(history.expect(&id(7)), Some((cost(3.0), Basis::Stage)));
        assert_eq!(history.cost(&id(7)), 3000);
        history.add("mix.rows", cost(1.0));
        let other = InstanceId { name: "new".into(), ..id(1) };
        assert_eq!(history.expect(&other), Some((cost(6.0), Basis::Kind)), "a mix is nothing like it");
    }
}
