//! A manifest and the folders around it, loaded and checked.

use super::args::{self, Manifest, Wanted};
use super::caching::Caching;
use super::out;
use super::root::root_of;
use super::share::Share;
use crate::diagnostic::{Diagnostic, Problems, Sources};
use crate::graph::Graph;
use crate::manifest::{self, Overrides, Pipeline, Refused, select};
use crate::plan::{self, Checks, Plan, Resolver};
use crate::store::{Facts, Store};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A loaded manifest. Where its root is, says [`super::root`]; so it does not matter where titer is called from.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) root: PathBuf,
    /// The manifest's path.
    pub(super) manifest: PathBuf,
    /// What the call changes of it.
    pub(super) overrides: args::Overrides,
    pub(super) pipeline: Pipeline,
    pub(super) sources: Sources,
    pub(super) store: Store,
    /// The manifests that were read.
    facts: Facts,
    /// Whether something was found damaged.
    warned: Cell<bool>,
}

/// What a command does with the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It reads what is there.
    Look,
    /// It keeps something: the cache is made if it is not there.
    Make,
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
    /// For a command that only looks: a cache that is not there is none, and is not made.
    pub(super) fn load(args: &Manifest, caching: &Caching) -> Result<Self, Failure> {
        Self::load_for(args, caching, Share::AsWritten, Access::Look)
    }

    /// For a command that does this with the caches.
    pub(super) fn load_for(args: &Manifest, caching: &Caching, share: Share, access: Access) -> Result<Self, Failure> {
        let name = args.path.display().to_string();
        let mut sources = Sources::default();
        let facts = RefCell::new(Facts::begin());
        let read = |path: &str| {
            std::path::absolute(path).map_or_else(|_| facts.borrow_mut().spoil(), |path| facts.borrow_mut().saw(path));
            read_text(path)
        };
        let overrides = Overrides {
            params: assignments("--set", &args.overrides.set)?,
            axes: assignments("--axis", &args.overrides.axis)?,
            variant: args.overrides.variant.clone(),
            require: args.overrides.require.clone(),
        };
        let root = root_of(&args.path)?;
        let pipeline = match manifest::load_or_tell(&name, &read, &overrides, &mut sources) {
            Ok(pipeline) => pipeline,
            Err(Refused { problems: mut all, paths }) => {
                all.extend(plan::absent(&root, &paths));
                let mut problems = Problems::default();
                all.into_iter().for_each(|problem| problems.push(problem));
                return Err(Failure::Problems(problems.into_vec(), sources));
            }
        };
        let remote = match share.remote(caching.shared.as_deref(), &pipeline.cache, &root) {
            Ok(remote) => remote,
            Err(problem) => return Err(Failure::Problems(vec![*problem], sources)),
        };
        let cache = caching.of(&args.path)?;
        let store = match access {
            Access::Look => caching.look(&cache)?,
            Access::Make => caching.open(&cache)?,
        };
        let store = store.with_remote(remote);
        let (manifest, overrides) = (args.path.clone(), args.overrides.clone());
        Ok(Self {
            root,
            manifest,
            overrides,
            pipeline,
            sources,
            store,
            facts: facts.into_inner(),
            warned: Cell::new(false),
        })
    }

    /// The manifest's text and those that it extends, by path as seen from the root.
    pub(super) fn texts(&self) -> impl Iterator<Item = (String, &str)> {
        // What the command line sets is a text too, and is called by its option.
        let files = self.sources.iter().filter(|(name, _)| !name.starts_with("--"));
        files.map(|(name, text)| (from_root(&self.root, name.as_ref()), text))
    }

    pub(super) fn resolver(&self) -> Resolver<'_> {
        Resolver::new(&self.pipeline, &self.store, &self.root)
    }

    /// That the manifests were read as they are.
    pub(super) fn facts(&self) -> Facts {
        self.facts.clone()
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

    /// Whether the store has found something damaged.
    pub(super) fn has_warned(&self) -> bool {
        self.tell_warnings();
        self.warned.get()
    }

    /// Says what the store found damaged and passed over.
    pub(super) fn tell_warnings(&self) {
        let warnings = self.store.take_warnings();
        self.warned.set(self.warned.get() || !warnings.is_empty());
        for warning in warnings {
            out::warn(warning);
        }
    }

    /// Checks the data of every instance, cached or not.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let resolver = self.resolver();
        let mut problems = Problems::default();
        let mut checks = Checks::new(&resolver);
        for node in 0..self.pipeline.instances.len() {
            resolver.missing(node).into_iter().for_each(|problem| problems.push(problem));
            checks.run(node, &mut problems);
        }
        if problems.is_empty() { Ok(()) } else { Err(self.failure(problems.into_vec())) }
    }

    pub(super) fn failure(&self, problems: Vec<Diagnostic>) -> Failure {
        Failure::Problems(problems, self.sources.clone())
    }
}

/// A text longer than this is no manifest: it is refused before memory goes.
const LONGEST_MANIFEST: u64 = 16 << 20;

pub(super) fn read_text(path: &str) -> Result<String, Diagnostic> {
    let unreadable =
        |error: &dyn std::fmt::Display| Diagnostic::new(format!("cannot read the manifest `{path}`: {error}"));
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let problem = Diagnostic::new(format!("there is no manifest `{path}`"));
            problem.hint(match manifests_in(Path::new(path).parent()) {
                Some(known) => format!("there are {known}"),
                None => "`titer init` writes one to start from".to_string(),
            })
        }
        _ => unreadable(&error),
    })?;
    if metadata.is_dir() {
        let problem = unreadable(&"it is a folder");
        return Err(match manifests_in(Some(Path::new(path))) {
            Some(known) => problem.hint(format!("name a manifest in it: {known}")),
            None => problem,
        });
    }
    if metadata.len() > LONGEST_MANIFEST {
        let most = crate::settings::Bytes(LONGEST_MANIFEST);
        let problem = unreadable(&format!("it has {}, more than {most}", crate::settings::Bytes(metadata.len())));
        return Err(problem.hint("rows and long lists of values belong in files of data"));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(&error))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        Diagnostic::in_file(path, Some(line), "the manifest is not UTF-8")
    })
}

/// The first manifests of a folder, for a hint.
fn manifests_in(folder: Option<&Path>) -> Option<String> {
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml") && !path.ends_with("Cargo.toml"))
        .map(|path| format!("`{}`", path.strip_prefix("./").unwrap_or(&path).display()))
        .collect();
    names.sort();
    names.truncate(5);
    (!names.is_empty()).then(|| names.join(", "))
}

/// A path as seen from a project's root, if it lies there.
pub(super) fn from_root(root: &Path, path: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let (root, path) = (absolute(root), absolute(path));
    // `absolute` keeps a `.` at the beginning only.
    path.strip_prefix(&root).unwrap_or(&path).display().to_string()
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
