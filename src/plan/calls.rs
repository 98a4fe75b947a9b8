//! How often a run would ask an API: what it costs, as far as it is known.

use super::rows::file_of;
use super::{Known, Resolver};
use crate::row;
use crate::stage::Recipe;

/// The most calls that an instance makes when it runs: one for each answer. Those whose replies are in the ledger are not
/// made. `known` are the records of what it reads; none, if it asks no API or its rows are not known yet.
pub fn calls(resolver: &Resolver<'_>, node: usize, known: &Known) -> Option<u64> {
    let Recipe::Api(recipe) = &resolver.pipeline.instances[node].recipe else { return None };
    let materials = resolver.materials(node, known).ok()?;
    let mut rows = 0;
    for material in materials.iter().filter(|material| material.role == "data") {
        let (path, like) = file_of(resolver.store, material)?;
        rows += row::read_as(&path, &like, &material.name).ok()?.count() as u64;
    }
    Some(rows * u64::from(recipe.samples.unwrap_or(1)))
}
