//! `titer clean`: takes results out of `out/`, never out of the cache.

use super::Exit;
use super::out::{self, CALM, styled};
use super::project::{Failure, Project};
use crate::store::view;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

/// What is cleaned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Everything, not only what is old.
    pub(super) all: bool,
    /// The last keys of instances that are gone, too.
    pub(super) forget: bool,
    /// Nothing: it is only said.
    pub(super) dry: bool,
}

pub(super) fn run(project: &Project, extent: Extent, as_json: bool) -> Result<Exit, Failure> {
    let Project { root, pipeline, store, .. } = project;
    let out = root.join("out").join(&pipeline.name);
    let keep = match extent.all {
        true => BTreeSet::new(),
        false => pipeline.instances.iter().map(|instance| instance.id.folder()).collect(),
    };
    let cleaned = view::clean(store, &out, &keep, extent.dry).map_err(anyhow::Error::from)?;
    let forgotten = if extent.forget { forget(project, extent.dry)? } else { Vec::new() };
    if as_json {
        let folder =
            |one: &view::Cleaned| json!({ "folder": out.join(&one.folder), "files": one.files, "left": one.left });
        let folders: Vec<Json> = cleaned.iter().map(folder).collect();
        out::json(&json!({ "cleaned": !extent.dry, "folders": folders, "forgotten": forgotten }));
        return Ok(Exit::Done);
    }
    for one in &cleaned {
        let files = styled(CALM, format!("files: {}", one.files));
        out::say(format!("{}  {files}", out::relative_to_here(&out.join(&one.folder)).display()));
        for left in &one.left {
            out::say(format!("  `{}` stays: it was changed", out::relative_to_here(left).display()));
        }
    }
    let would = if extent.dry { "would take out" } else { "took out" };
    match cleaned.len() {
        0 => out::say(format!("nothing to clean in `{}`", out::relative_to_here(&out).display())),
        number => out::say(format!("{would} the results of {number} instances; nothing went from the cache")),
    }
    if extent.forget {
        let would = if extent.dry { "would let" } else { "let" };
        out::say(format!("{would} go of the last results of {} instances; `titer gc` may free them", forgotten.len()));
    }
    Ok(Exit::Done)
}

/// Takes instances that the manifest does not have any more out of the list of a pipeline's last keys.
fn forget(project: &Project, dry: bool) -> Result<Vec<String>, Failure> {
    let Project { pipeline, store, .. } = project;
    let names: BTreeSet<String> = pipeline.instances.iter().map(|instance| instance.id.to_string()).collect();
    let last = store.last_run(&pipeline.name).map_err(anyhow::Error::from)?;
    let (stay, go): (Vec<_>, Vec<_>) = last.into_iter().partition(|(name, _)| names.contains(name));
    if !dry && !go.is_empty() {
        store.set_last_run(&pipeline.name, &stay.into_iter().collect()).map_err(anyhow::Error::from)?;
    }
    Ok(go.into_iter().map(|(name, _)| name).collect())
}
