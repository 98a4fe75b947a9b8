//! How often a run would ask an API: what it costs, as far as it is known.

use super::rows::file_of;
use super::{Known, Resolver};
use crate::row;

/// The most calls that an instance makes when it runs: one for each answer. Those whose replies are in the ledger are not
/// made. `known` are the records of what it reads; none, if it asks no API or its rows are not known yet.
pub fn calls(resolver: &Resolver<'_>, node: usize, known: &Known) -> Option<u64> {
    let recipe = &resolver.pipeline.instances[node].recipe;
    recipe.api()?;
    let materials = resolver.materials(node, known).ok()?;
    let mut rows = Vec::new();
    for material in materials.iter().filter(|material| ["data", "predictions"].contains(&material.role.as_str())) {
        let (path, like) = file_of(resolver.store, material)?;
        rows.push(row::read_as(&path, &like, &material.name).ok()?);
    }
    recipe.calls(rows.into_iter().flatten().filter_map(|item| item.ok().map(|(_, row)| row)))
}
