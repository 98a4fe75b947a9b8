//! A look at what jobs will read, before anything runs: what is damaged is made again by the same run.

use crate::key::Digest;
use crate::manifest::{Pipeline, Source};
use crate::plan::{Plan, Status};
use crate::store::{Store, StoreError};
use std::collections::BTreeSet;

/// Tells collectors that the plan counts on its results, and others what it will make again (`forced`). Returns whether
/// some may have gone since the cache was opened: the plan is to be made anew then.
///
/// # Errors
/// If the cache cannot be written.
pub fn rely_on(pipeline: &Pipeline, store: &Store, plan: &Plan, forced: &BTreeSet<usize>) -> Result<bool, StoreError> {
    let name = |node: &usize| pipeline.instances[*node].id.to_string();
    let last = store.last_run(&pipeline.name)?;
    store.rely_for(&pipeline.name)?;
    // What waits for others may come out as it did the last time.
    store.rely_on(last.values().copied())?;
    let names: Vec<(Digest, String)> = plan.keys.iter().map(|(node, key)| (*key, name(node))).collect();
    store.rely_on_named(names.iter().map(|(key, name)| (*key, name.as_str())))?;
    let open = plan.entries.iter().map(|(node, _)| node).filter(|node| !plan.keys.contains_key(node));
    store.note_plan(&open.map(name).collect::<Vec<_>>(), &forced.iter().map(name).collect::<Vec<_>>())?;
    Ok(store.was_swept())
}

/// Proves the cached objects that the instances which will run read, and moves damaged ones to the quarantine. Returns
/// whether there was one: the plan must be made anew then, and ends with what made it.
///
/// # Errors
/// If an object cannot be read.
pub fn quarantine_damaged(pipeline: &Pipeline, store: &Store, plan: &Plan) -> Result<bool, StoreError> {
    if !store.writable() {
        return Ok(false);
    }
    let mut seen = BTreeSet::new();
    let mut damaged = false;
    for (node, status) in &plan.entries {
        // What may turn out to be cached reads nothing; if it runs, its job looks again.
        if matches!(status, Status::Cached(_) | Status::Remote(_) | Status::Waits { cached_unless_changed: true, .. }) {
            continue;
        }
        for input in &pipeline.instances[*node].inputs {
            let Source::Output { instance, output } = &input.source else { continue };
            let Some(made) = plan.known[*instance].as_ref().and_then(|record| record.output(output)) else { continue };
            for file in made.files.iter().filter(|file| seen.insert(file.digest)) {
                damaged |= !store.is_sound(&file.digest)?;
            }
        }
    }
    Ok(damaged)
}
