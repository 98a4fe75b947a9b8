//! What would run, and why. Reads the store and the inputs' content; writes nothing.
//!
//! [`Resolver`] turns an instance and the records of what it reads into its key. [`plan`] asks it for every wanted
//! instance, in order, and says `cached`, `runs` (with the reason) or `waits` (its inputs do not exist yet). What would
//! run is checked as far as it can be: [`Checks`].

mod absent;
mod calls;
mod checks;
mod columns;
mod elsewhere;
mod finder;
mod history;
mod material;
mod nearest;
mod offers;
mod outline;
mod reason;
mod resolver;
pub mod rows;

pub use absent::absent;
pub use calls::calls;
pub use checks::Checks;
pub use elsewhere::Elsewhere;
pub use history::{Basis, Cost, Estimate, History, past};
pub use material::{Material, Place, is_model_file};
pub use nearest::{AxisChange, Nearest, nearest};
pub use outline::{Open, Outline};
pub use reason::Reason;
pub use resolver::{Known, Resolver};

use crate::diagnostic::{Diagnostic, Problems};
use crate::graph::upstream;
use crate::key::Digest;
use crate::record::Record;
use offers::Offers;
use reason::Past;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a run would do with an instance.
#[derive(Clone, Debug)]
pub enum Status {
    /// Its outputs are in the cache.
    Cached(Arc<Record>),
    /// They are in the shared cache: a run fetches them.
    Remote(Arc<Record>),
    /// It would run.
    Runs(Reason),
    /// It reads what does not exist yet.
    Waits {
        /// The instances that would run before it.
        on: Vec<usize>,
        /// Whether it is cached if those make the same bytes as the last time.
        cached_unless_changed: bool,
    },
}

impl Status {
    /// Whether its outputs exist, here or in the shared cache.
    pub fn is_made(&self) -> bool {
        matches!(self, Self::Cached(_) | Self::Remote(_))
    }
}

/// The plan of a run.
#[derive(Debug)]
pub struct Plan {
    /// The wanted instances in order, each with what would happen.
    pub entries: Vec<(usize, Status)>,
    /// The keys that are known.
    pub keys: BTreeMap<usize, Digest>,
    /// The records of the cached instances.
    pub known: Known,
}

impl Plan {
    /// The records of all results that exist, here or in the shared cache: enough for the keys of what reads them.
    pub fn made(&self) -> Known {
        let mut made = self.known.clone();
        for (node, status) in &self.entries {
            if let Status::Remote(record) = status {
                made[*node] = Some(Arc::clone(record));
            }
        }
        made
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|(_, status)| matches!(status, Status::Cached(_)))
    }

    /// Whether anything would run, or might.
    pub fn runs(&self) -> bool {
        !self.entries.iter().all(|(_, status)| status.is_made())
    }
}

/// Plans a run of the `wanted` instances (in topological order); `forced` ones run even if they are cached.
///
/// # Errors
/// All inputs that are missing or cannot be read, and what the stages' own checks find in the instances that would run.
pub fn plan(resolver: &Resolver<'_>, wanted: &[usize], forced: &BTreeSet<usize>) -> Result<Plan, Vec<Diagnostic>> {
    let Resolver { pipeline, store, .. } = resolver;
    let last = store.last_run(&pipeline.name).unwrap_or_default();
    let mut problems = Problems::default();
    let mut checks = Checks::new(resolver);
    let nodes = pipeline.instances.len();
    let mut plan = Plan { entries: Vec::new(), keys: BTreeMap::new(), known: vec![None; nodes] };
    let mut offers = Offers::new(resolver, wanted, forced);
    let past = Past::new(store, &pipeline.name);
    // Records that are there now, or were made the last time by what would run now.
    let mut assumed: Known = vec![None; nodes];
    let mut fresh = vec![true; nodes];
    for &node in wanted {
        let instance = &pipeline.instances[node];
        let inputs: Vec<usize> = upstream(instance).collect();
        let stale: Vec<usize> = inputs.iter().copied().filter(|&input| !fresh[input]).collect();
        let before = last.get(&instance.id.to_string()).and_then(|key| store.get(key).ok().flatten()).map(Arc::new);
        let possible = inputs.iter().all(|&input| assumed[input].is_some());
        let resolved = match possible {
            true => match resolver.materials(node, &assumed) {
                Ok(materials) => Some(resolver.document(node, &materials)),
                Err(found) => {
                    found.into_iter().for_each(|problem| problems.push(problem));
                    None
                }
            },
            false => {
                resolver.missing(node).into_iter().for_each(|problem| problems.push(problem));
                None
            }
        };
        let record = resolved.as_ref().and_then(|document| {
            let key = document.key();
            plan.keys.insert(node, key);
            store.get(&key).ok().flatten().map(Arc::new)
        });
        let complete = record.clone().filter(|record| store.complete(record));
        let is_looked_for = complete.is_none() && stale.is_empty() && !forced.contains(&node);
        let offered = plan.keys.get(&node).filter(|_| is_looked_for).and_then(|key| offers.find(node, key, &assumed));
        let status = if !stale.is_empty() {
            Status::Waits { on: stale, cached_unless_changed: complete.is_some() && !forced.contains(&node) }
        } else if forced.contains(&node) {
            Status::Runs(Reason::Forced)
        } else if let Some(record) = complete.clone() {
            Status::Cached(record)
        } else if let Some(record) = offered.clone() {
            Status::Remote(record)
        } else {
            let (key, document) = (plan.keys.get(&node), resolved.as_ref());
            Status::Runs(past.reason(&instance.id.to_string(), key, document, record.is_some(), before.as_deref()))
        };
        if matches!(status, Status::Waits { .. }) {
            plan.keys.remove(&node);
        }
        if let Status::Cached(record) = &status {
            plan.known[node] = Some(Arc::clone(record));
        } else if !status.is_made() {
            fresh[node] = false;
            checks.run(node, &mut problems);
        }
        assumed[node] = complete.or(offered).or(before);
        plan.entries.push((node, status));
    }
    if problems.is_empty() { Ok(plan) } else { Err(problems.into_vec()) }
}
