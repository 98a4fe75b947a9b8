//! A manifest and the folders around it, loaded and checked.

use super::args::{Manifest, Wanted};
use super::out;
use super::share::Share;
use crate::diagnostic::{Diagnostic, Problems, Sources};
use crate::graph::Graph;
use crate::manifest::{self, Overrides, Pipeline, select};
use crate::plan::{self, Checks, Plan, Resolver};
use crate::store::Store;
use anyhow::Context as _;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A loaded manifest. Its root is the folder that paths are relative to: the parent of `pipelines/` for a manifest that
/// lies there, else the manifest's own folder; so it does not matter where titer is called from.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) root: PathBuf,
    pub(super) pipeline: Pipeline,
    pub(super) sources: Sources,
    pub(super) store: Store,
}

/// What went wrong, for [`super::main`] to show.
#[derive(Debug)]
pub(super) enum Failure {
    /// Mistakes in the manifest or its data.
    Problems(Vec<Diagnostic>, Sources),
    /// The shared cache cannot be reached: why.
    Unreached(String),
    /// Anything else: the message.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl Project {
    pub(super) fn load(
        args: &Manifest,
        cache: Option<&Path>,
        shared: Option<&str>,
        share: Share,
    ) -> Result<Self, Failure> {
        let name = args.path.display().to_string();
        let mut sources = Sources::default();
        let overrides = Overrides {
            params: assignments("--set", &args.set)?,
            axes: assignments("--axis", &args.axis)?,
            variant: args.variant.clone(),
        };
        let pipeline = match manifest::load(&name, &read_text, &overrides, &mut sources) {
            Ok(pipeline) => pipeline,
            Err(problems) => return Err(Failure::Problems(problems, sources)),
        };
        let root = root_of(&args.path)?;
        let store = Store::open(cache.unwrap_or(&root.join("cache"))).map_err(anyhow::Error::from)?;
        let remote = match share.remote(shared, &pipeline.cache, &root) {
            Ok(remote) => remote,
            Err(problem) => return Err(Failure::Problems(vec![*problem], sources)),
        };
        Ok(Self { root, pipeline, sources, store: store.with_remote(remote) })
    }

    pub(super) fn resolver(&self) -> Resolver<'_> {
        Resolver::new(&self.pipeline, &self.store, &self.root)
    }

    /// The instances that a selector picks.
    pub(super) fn select(&self, selector: &str) -> Result<Vec<usize>, Failure> {
        select(&self.pipeline, selector).map_err(|problem| self.failure(vec![problem]))
    }

    /// The wanted instances with all that they need, and the forced ones.
    pub(super) fn wanted(&self, wanted: &Wanted) -> Result<(Vec<usize>, BTreeSet<usize>), Failure> {
        let pick = |selectors: &[String]| -> Result<BTreeSet<usize>, Failure> {
            let picked: Result<Vec<Vec<usize>>, Failure> = selectors.iter().map(|one| self.select(one)).collect();
            Ok(picked?.into_iter().flatten().collect())
        };
        let targets = match wanted.target.is_empty() {
            true => self.pipeline.targets.iter().copied().collect(),
            false => pick(&wanted.target)?,
        };
        let targets: Vec<usize> = targets.into_iter().collect();
        let nodes = Graph::of(&self.pipeline).closure(&targets);
        for selector in &wanted.force {
            if !self.select(selector)?.iter().any(|node| nodes.contains(node)) {
                let problem = Diagnostic::new(format!("`--force {selector}`: nothing that is to be made needs it"));
                return Err(self.failure(vec![problem.hint(format!("make it too: `-t {selector}`"))]));
            }
        }
        Ok((nodes, pick(&wanted.force)?))
    }

    pub(super) fn plan(&self, resolver: &Resolver<'_>, wanted: &Wanted) -> Result<(Plan, BTreeSet<usize>), Failure> {
        let (nodes, forced) = self.wanted(wanted)?;
        let plan = plan::plan(resolver, &nodes, &forced).map_err(|problems| self.failure(problems))?;
        self.tell_warnings();
        Ok((plan, forced))
    }

    /// Says what the store found damaged and passed over.
    pub(super) fn tell_warnings(&self) {
        for warning in self.store.take_warnings() {
            out::complain(format!("{} {warning}", out::styled(out::BOLD, "warning:")));
        }
    }

    /// Checks the data of every instance, cached or not.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let resolver = self.resolver();
        let mut problems = Problems::default();
        let mut checks = Checks::default();
        for node in 0..self.pipeline.instances.len() {
            resolver.missing(node).into_iter().for_each(|problem| problems.push(problem));
            checks.run(&resolver, node, &mut problems);
        }
        if problems.is_empty() { Ok(()) } else { Err(self.failure(problems.into_vec())) }
    }

    pub(super) fn failure(&self, problems: Vec<Diagnostic>) -> Failure {
        Failure::Problems(problems, self.sources.clone())
    }
}

fn read_text(path: &str) -> Result<String, Diagnostic> {
    let bytes = std::fs::read(path).map_err(|error| {
        let problem = Diagnostic::new(format!("cannot read the manifest `{path}`: {error}"));
        problem.hint("`titer init` writes one to start from")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        Diagnostic::in_file(path, Some(line), "the manifest is not UTF-8")
    })
}

fn root_of(manifest: &Path) -> anyhow::Result<PathBuf> {
    let full = std::path::absolute(manifest).with_context(|| format!("finding `{}`", manifest.display()))?;
    let folder = full.parent().unwrap_or(Path::new("/"));
    let root = match folder.file_name() {
        Some(name) if name == "pipelines" => folder.parent().unwrap_or(folder),
        _ => folder,
    };
    // Shorter in messages, and the same place.
    Ok(out::relative_to_here(root))
}

fn assignments(option: &str, given: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    given
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_string(), value.trim().to_string())),
            None => anyhow::bail!("`{option} {text}` is not `key=value`"),
        })
        .collect()
}
