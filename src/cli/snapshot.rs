//! The run with nothing to do, told without reading a manifest: see [`crate::store::Facts`].

use super::args::{Manifest, Wanted};
use super::caching::Caching;
use super::project::Project;
use super::root::root_of;
use crate::journal::RunSummary;
use crate::key::Digest;
use crate::lock;
use crate::plan::{Known, Resolver};
use crate::store::{self, view};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// All words of a call that can change what there is to do.
#[derive(Debug)]
pub(super) struct Question {
    digest: Digest,
    cache: PathBuf,
    /// The project's.
    root: PathBuf,
}

impl Question {
    /// `None` for a call that runs what is cached.
    pub(super) fn of(manifest: &Manifest, wanted: &Wanted, caching: &Caching) -> Option<Self> {
        if !wanted.force.is_empty() {
            return None;
        }
        let path = std::path::absolute(&manifest.path).ok()?;
        // Another build may see more to do.
        let program = std::env::current_exe().ok()?;
        // Another root is another project.
        let root = root_of(&manifest.path).ok()?;
        let place = std::path::absolute(&root).ok()?;
        let words =
            json!([program.to_str()?, path.to_str()?, place.to_str()?, manifest.overrides.asked(), wanted.target]);
        let cache = caching.of(&manifest.path).ok()?;
        Some(Self { digest: Digest::of(words.to_string().as_bytes()), cache, root })
    }

    /// The run that began at `started`, if it is known that there is nothing to do. Its summary is kept as well as can be.
    pub(super) fn recall(&self, started: Instant) -> Option<RunSummary> {
        let answer = store::recall(&self.cache, &self.digest)?;
        let last: RunSummary = serde_json::from_str(&answer).ok()?;
        let mut run = last.again();
        run.seconds = started.elapsed().as_secs_f64();
        let _ = store::write_run(&self.cache, &run);
        Some(run)
    }

    /// The folder in which results are shown.
    pub(super) fn out(&self, pipeline: &str) -> PathBuf {
        self.root.join("out").join(pipeline)
    }

    /// Keeps that a run had nothing to do, with all that this rests on: `known` are the records of what was wanted.
    pub(super) fn remember(&self, project: &Project, resolver: &Resolver<'_>, known: &Known, run: &RunSummary) {
        // What was warned of must be said again.
        if project.has_warned() {
            return;
        }
        let mut facts = resolver.take_facts();
        facts.extend(project.facts());
        let (Ok(program), Ok(root)) = (std::env::current_exe(), std::path::absolute(&project.root)) else { return };
        facts.saw(program);
        match std::path::absolute(lock::path_beside(&project.manifest)) {
            Ok(path) if path.exists() => facts.saw(path),
            Ok(path) => facts.missed(path),
            Err(_) => return,
        }
        let out = root.join("out").join(&project.pipeline.name);
        let keys = known.iter().flatten().map(|record| record.key).collect();
        project.store.watch_records(&keys, &mut facts);
        for (instance, record) in project.pipeline.instances.iter().zip(known) {
            if let Some(record) = record {
                project.store.watch(record, &mut facts);
                view::watch(&out.join(instance.id.folder()), record, &mut facts);
            }
        }
        if let Ok(answer) = serde_json::to_string(run) {
            project.store.remember(&self.digest, &facts, &answer, &root);
        }
    }
}
