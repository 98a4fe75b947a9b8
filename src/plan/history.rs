//! What like work has cost before.

use super::{Plan, Status};
use crate::journal::{Past, Times};
use crate::manifest::{Instance, Pipeline};
use crate::record::Record;
use crate::stage::{Kind, Recipe};
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
    fn of(past: &Past) -> Self {
        let Past { seconds, gpus, bytes, .. } = past;
        Self { seconds: *seconds, gpu_seconds: seconds * f64::from(*gpus), bytes: *bytes as f64 }
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

/// A name, and whether another program does the work: what a `command` takes says nothing of titer's own work, nor the
/// other way round.
type Like = (String, bool);

/// Costs of past work of a pipeline, by instance and by stage; and by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    instances: BTreeMap<Like, Cost>,
    stages: BTreeMap<Like, Mean>,
    kinds: BTreeMap<Like, Mean>,
}

impl History {
    /// What is known of a pipeline: what its work took in runs that have ended, and what the plan finds in the cache, be it
    /// of a run that goes on. What cannot be read is not known.
    pub fn of(store: &Store, pipeline: &Pipeline, plan: &Plan) -> Self {
        let mut times = past_times(store, &pipeline.name);
        for (instance, record) in pipeline.instances.iter().zip(&plan.known) {
            if let Some(past) = record.as_ref().and_then(|record| past(instance, record)) {
                times.instances.insert(instance.id.to_string(), past);
            }
        }
        let mut history = Self::default();
        times.instances.iter().for_each(|(instance, past)| history.add(instance, past));
        history
    }

    /// Reads what is known of the other pipelines of the cache too, for the kinds that this one has not come to.
    pub fn widen(&mut self, store: &Store) {
        let (own, mut seen) = (self.kinds.clone(), BTreeSet::new());
        for pipeline in store.pipelines().unwrap_or_default() {
            for (instance, past) in past_times(store, &pipeline).instances {
                let kind = (kind_of(&instance).to_string(), past.command);
                if !own.contains_key(&kind) && seen.insert(past.key) {
                    self.kinds.entry(kind).or_default().add(Cost::of(&past));
                }
            }
        }
    }

    /// Adds what was made just now.
    pub fn learn(&mut self, instance: &Instance, record: &Record) {
        if let Some(past) = past(instance, record) {
            self.add(&instance.id.to_string(), &past);
        }
    }

    fn add(&mut self, instance: &str, past: &Past) {
        let cost = Cost::of(past);
        let like = |name: &str| (name.to_string(), past.command);
        let stage = instance.split('[').next().unwrap_or(instance);
        self.stages.entry(like(stage)).or_default().add(cost);
        self.kinds.entry(like(kind_of(instance))).or_default().add(cost);
        self.instances.insert(like(instance), cost);
    }

    /// What the instance cost the last time, else the mean of its stage, else that of its kind. `None` if there is
    /// nothing like it.
    pub fn expect(&self, instance: &Instance) -> Option<(Cost, Basis)> {
        let Instance { id, recipe, .. } = instance;
        let like = |name: String| (name, is_command(recipe));
        let own = self.instances.get(&like(id.to_string())).map(|cost| (*cost, Basis::Instance));
        own.or_else(|| self.stages.get(&like(id.stage())).map(|mean| (mean.get(), Basis::Stage)))
            .or_else(|| self.kinds.get(&like(id.kind.name().to_string())).map(|mean| (mean.get(), Basis::Kind)))
    }

    /// Expected milliseconds for the order of a schedule; without history a guess for the kind.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time that is not negative")]
    pub fn cost(&self, instance: &Instance) -> u64 {
        self.expect(instance).map_or_else(|| guess(instance.id.kind), |(cost, _)| (cost.seconds * 1000.0) as u64)
    }
}

/// What the record of an instance tells of its cost; none if it was imported.
pub fn past(instance: &Instance, record: &Record) -> Option<Past> {
    Past::of(record, is_command(&instance.recipe))
}

fn is_command(recipe: &Recipe) -> bool {
    matches!(recipe, Recipe::Command(_))
}

/// The table of a pipeline; of a cache that has none yet, what the records of its last run tell.
fn past_times(store: &Store, pipeline: &str) -> Times {
    let mut times = store.times(pipeline).unwrap_or_default();
    if times.instances.is_empty() {
        for (instance, key) in store.last_run(pipeline).unwrap_or_default() {
            let Ok(Some(record)) = store.get(&key) else { continue };
            let document = store.document(&key).ok().flatten();
            let command = document.is_some_and(|document| document.recipe.get("command").is_some());
            times.instances.extend(Past::of(&record, command).map(|past| (instance, past)));
        }
    }
    times
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
            match history.expect(&pipeline.instances[*node]) {
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
    use crate::diagnostic::Sources;
    use crate::key::Digest;
    use crate::manifest::{Overrides, load};

    /// Four trainings by commands, and a mix of titer's own.
    const MANIFEST: &str = "titer = 1\n[axes]\nn = [1, 2, 7]\n[train.adapter]\ncommand = [\"true\", \"{n}\"]\n\
                            [train.new]\ncommand = [\"true\"]\n[mix.rows]\nsources = [{ path = \"rows\" }]\n";

    fn past(seconds: f64, command: bool) -> Past {
        Past { key: Digest::of(b"key"), seconds, gpus: 2, bytes: 10, command }
    }

    fn cost(seconds: f64) -> Cost {
        Cost { seconds, gpu_seconds: 2.0 * seconds, bytes: 10.0 }
    }

    #[test]
    fn an_instance_is_expected_to_cost_what_it_did_or_what_its_like_did() {
        let read = |_: &str| Ok(MANIFEST.to_string());
        let pipeline = load("p.toml", &read, &Overrides::default(), &mut Sources::default()).unwrap();
        let of = |name: &str| pipeline.instances.iter().find(|instance| instance.id.to_string() == name).unwrap();
        let (one, seven) = (of("train.adapter[n=1]"), of("train.adapter[n=7]"));
        let mut history = History::default();
        assert_eq!((history.expect(one), history.cost(one)), (None, 60_000));
        history.add("train.other", &past(9.0, false));
        history.add("train.adapter[n=1]", &past(9.0, false));
        assert_eq!(history.expect(one), None, "titer's own training, though it had the same name");
        history.add("train.other", &past(12.0, true));
        assert_eq!(history.expect(one), Some((cost(12.0), Basis::Kind)));
        history.add("train.adapter[n=1]", &past(2.0, true));
        history.add("train.adapter[n=2]", &past(4.0, true));
        assert_eq!(history.expect(one), Some((cost(2.0), Basis::Instance)));
        assert_eq!(history.expect(seven), Some((cost(3.0), Basis::Stage)));
        assert_eq!(history.cost(seven), 3000);
        history.add("mix.rows", &past(1.0, true));
        assert_eq!(history.expect(of("train.new")), Some((cost(6.0), Basis::Kind)), "a mix is nothing like it");
        assert_eq!(history.expect(of("mix.rows")), None, "what a command took");
    }
}
