//! The run with nothing to do, told without reading a manifest: see [`crate::store::Facts`].

use super::args::{Manifest, Wanted};
use super::project::{Project, root_of};
use crate::key::Digest;
use crate::plan::{Known, Resolver};
use crate::store::{self, view};
use serde_json::json;
use std::path::{Path, PathBuf};

/// All words of a call that can change what there is to do.
#[derive(Debug)]
pub(super) struct Question {
    digest: Digest,
    cache: PathBuf,
    /// Where results are shown, if it is known before the manifest is read.
    root: PathBuf,
}

impl Question {
    /// `None` for a call that runs what is cached.
    pub(super) fn of(manifest: &Manifest, wanted: &Wanted, cache: Option<&Path>) -> Option<Self> {
        if !wanted.force.is_empty() {
            return None;
        }
        let root = root_of(&manifest.path).ok()?;
        let path = std::path::absolute(&manifest.path).ok()?;
        let cache = cache.map_or_else(|| root.join("cache"), Path::to_path_buf);
        let Manifest { set, axis, variant, .. } = manifest;
        let words = json!([env!("CARGO_PKG_VERSION"), path.to_str()?, set, axis, variant, wanted.target]);
        Some(Self { digest: Digest::of(words.to_string().as_bytes()), cache, root })
    }

    /// The pipeline and how many of its instances are cached, if that is known to be all.
    pub(super) fn recall(&self) -> Option<(PathBuf, usize)> {
        let answer = store::recall(&self.cache, &self.digest)?;
        let (pipeline, cached): (String, usize) = serde_json::from_str(&answer).ok()?;
        Some((self.root.join("out").join(pipeline), cached))
    }

    /// Keeps that there was nothing to do, with all that this rests on: `known` are the records of what was wanted.
    pub(super) fn remember(&self, project: &Project, resolver: &Resolver<'_>, known: &Known) {
        let mut facts = resolver.take_facts();
        facts.extend(project.facts());
        let (Ok(program), Ok(root)) = (std::env::current_exe(), std::path::absolute(&project.root)) else { return };
        facts.saw(program);
        let out = root.join("out").join(&project.pipeline.name);
        for (instance, record) in project.pipeline.instances.iter().zip(known) {
            if let Some(record) = record {
                project.store.watch(record, &mut facts);
                view::watch(&out.join(instance.id.folder()), record, &mut facts);
            }
        }
        let answer = json!([project.pipeline.name, known.iter().flatten().count()]).to_string();
        project.store.remember(&self.digest, &facts, &answer, &root);
    }
}
