//! Which columns the rows of an instance may have, as far as that can be seen before anything runs: what an aggregate
//! groups by must be an axis or one of them.
//!
//! A row carries its columns all the way, so the files at the beginning tell. What another program makes, or has made
//! (an import), may have any.

use super::Resolver;
use crate::diagnostic::Diagnostic;
use crate::key::Digest;
use crate::manifest::{ResolvedInput, Source};
use crate::row;
use crate::stage::{Recipe, SCORER, aggregate, predict, score};
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// A file is read up to about so many bytes; a longer one may have any column.
const LARGEST: u64 = 64 << 20;
/// Names that a message lists.
const LISTED: usize = 16;

/// What was looked up, each once.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    resolver: &'a Resolver<'a>,
    nodes: RefCell<BTreeMap<(usize, String), bool>>,
    files: RefCell<BTreeMap<(String, String), bool>>,
    /// Keys of the last run.
    last: OnceCell<BTreeMap<String, Digest>>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(resolver: &'a Resolver<'a>) -> Self {
        Self { resolver, nodes: RefCell::default(), files: RefCell::default(), last: OnceCell::new() }
    }

    /// What an aggregate names that no score can have.
    pub(super) fn check(&self, node: usize) -> Vec<Diagnostic> {
        let instance = &self.resolver.pipeline.instances[node];
        let Recipe::Aggregate(recipe) = &instance.recipe else { return Vec::new() };
        let axes: BTreeSet<&str> = instance
            .inputs
            .iter()
            .flat_map(|input| input.labels.keys())
            .map(String::as_str)
            .filter(|axis| *axis != SCORER)
            .collect();
        let scorers = || instance.inputs.iter().filter_map(|input| input.labels.get(SCORER)?.as_str());
        let is_metric = |name: &str| scorers().any(|scorer| name.split('.').next() == Some(scorer));
        let is_unknown = |name: &str| {
            !axes.contains(name)
                && !is_metric(name)
                && !instance.inputs.iter().any(|input| self.input_may_have(input, name))
        };
        let unknown = aggregate::names(recipe).into_iter().filter(|(_, name)| is_unknown(name));
        unknown
            .map(|(setting, name)| {
                let mut known: BTreeSet<String> = axes.iter().map(ToString::to_string).collect();
                instance.inputs.iter().for_each(|input| self.collect(input, &mut known));
                known.retain(|known| !score::NEVER_CARRIED.contains(&known.as_str()));
                let message =
                    format!("`{setting}` names `{name}`, which is neither an axis nor a column of the scored rows");
                let problem = Diagnostic::at(instance.span, message);
                match known.is_empty() {
                    true => problem.hint("they have none but their texts, which are not carried into the scores"),
                    false => problem.suggest(&name, known.iter().map(String::as_str).take(LISTED)),
                }
            })
            .collect()
    }

    fn input_may_have(&self, input: &ResolvedInput, name: &str) -> bool {
        match &input.source {
            Source::Output { instance, .. } => self.may_have(*instance, name),
            Source::Path(path) => {
                let asked = (path.clone(), name.to_string());
                if let Some(known) = self.files.borrow().get(&asked) {
                    return *known;
                }
                // What is not there has been said.
                let files = self.resolver.files(input, path);
                let has = files.is_none_or(|files| files.iter().any(|file| file_may_have(file, name)));
                self.files.borrow_mut().insert(asked, has);
                has
            }
        }
    }

    fn may_have(&self, node: usize, name: &str) -> bool {
        let asked = (node, name.to_string());
        if let Some(known) = self.nodes.borrow().get(&asked) {
            return *known;
        }
        let inputs = |role: &str| self.inputs(node, role).any(|input| self.input_may_have(input, name));
        let has = self.was_imported(node)
            || match &self.resolver.pipeline.instances[node].recipe {
                Recipe::Mix(recipe) => recipe.sources.iter().enumerate().any(|(number, source)| {
                    let is_bound = source.bind.as_ref().is_some_and(|bind| bind.contains(&format!("<{name}>")));
                    let is_given = source.columns.contains_key(name) || source.set.contains_key(name);
                    is_bound || is_given || inputs(&format!("source.{number}"))
                }),
                Recipe::Predict(_) | Recipe::Api(_) => predict::COLUMNS.contains(&name) || inputs("data"),
                Recipe::Score(_) => !score::NEVER_CARRIED.contains(&name) && inputs("predictions"),
                Recipe::Train(_) | Recipe::Aggregate(_) | Recipe::Figure(_) | Recipe::Command(_) => true,
            };
        self.nodes.borrow_mut().insert(asked, has);
        has
    }

    fn inputs(&self, node: usize, role: &str) -> impl Iterator<Item = &'a ResolvedInput> {
        let instances = &self.resolver.pipeline.instances;
        instances[node].inputs.iter().filter(move |input| input.role == role)
    }

    fn was_imported(&self, node: usize) -> bool {
        let Resolver { pipeline, store, .. } = self.resolver;
        let last = self.last.get_or_init(|| store.last_run(&pipeline.name).unwrap_or_default());
        let key = last.get(&pipeline.instances[node].id.to_string());
        let record = key.and_then(|key| store.get(key).ok().flatten());
        record.is_some_and(|record| record.run.imported.is_some())
    }

    /// Columns of the first rows, for a message.
    fn collect(&self, input: &ResolvedInput, known: &mut BTreeSet<String>) {
        match &input.source {
            Source::Output { instance, .. } => {
                let node = &self.resolver.pipeline.instances[*instance];
                if let Recipe::Mix(recipe) = &node.recipe {
                    let given = recipe.sources.iter().flat_map(|source| source.columns.keys().chain(source.set.keys()));
                    known.extend(given.cloned());
                }
                let reads_rows = |input: &&ResolvedInput| {
                    ["data", "predictions"].contains(&input.role.as_str()) || input.role.starts_with("source.")
                };
                node.inputs.iter().filter(reads_rows).for_each(|input| self.collect(input, known));
            }
            Source::Path(path) => {
                for file in self.resolver.files(input, path).into_iter().flatten() {
                    let first = row::read(&file, "").ok().and_then(|mut rows| rows.next()?.ok());
                    known.extend(first.into_iter().flat_map(|(_, row)| row.into_iter().map(|(name, _)| name)));
                }
            }
        }
    }
}

fn file_may_have(path: &std::path::Path, name: &str) -> bool {
    let is_long = std::fs::metadata(path).map_or(true, |metadata| metadata.len() > LARGEST);
    let Ok(rows) = row::read(path, "") else { return true };
    // A row that cannot be read is reported by who reads it.
    is_long || rows.into_iter().any(|row| row.map_or(true, |(_, row)| row.contains_key(name)))
}
