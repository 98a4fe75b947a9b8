//! What is known of an instance before all that it reads has been made: enough to compare two pipelines, or a pipeline
//! with its lock.

use super::resolver::recipe_json;
use super::{Known, Resolver};
use crate::diagnostic::Diagnostic;
use crate::key::{Change, Digest, KeyDocument, KeyInput, canonical, difference};
use crate::manifest::{ResolvedInput, Source};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A key document, perhaps with gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// The document; inputs that are not known yet are missing in it.
    pub document: KeyDocument,
    /// What is missing.
    pub open: Vec<Open>,
}

/// An input whose content is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    role: String,
    labels: BTreeMap<String, Json>,
    /// What it will be: `mix.train[n=20].train`, or a path that cannot be read.
    pub name: String,
}

impl Outline {
    /// Of something that was made: nothing is missing.
    pub fn complete(document: KeyDocument) -> Self {
        Self { document, open: Vec::new() }
    }

    /// The key, if all is known.
    pub fn key(&self) -> Option<Digest> {
        self.open.is_empty().then(|| self.document.key())
    }

    /// In what two differ, as far as both are known.
    pub fn difference(&self, new: &Outline) -> Vec<Change> {
        let is_open = |input: &KeyInput| {
            self.open.iter().chain(&new.open).any(|open| open.role == input.role && open.labels == input.labels)
        };
        let known = |document: &KeyDocument| KeyDocument {
            inputs: document.inputs.iter().filter(|input| !is_open(input)).cloned().collect(),
            ..document.clone()
        };
        difference(&known(&self.document), &known(&new.document))
    }
}

impl Resolver<'_> {
    /// What can be said of an instance when `known` is made.
    pub fn outline(&self, node: usize, known: &Known) -> Outline {
        let (mut materials, mut open) = (Vec::new(), Vec::new());
        let missing = |input: &ResolvedInput, name: &str| Open {
            role: input.role.clone(),
            labels: input.labels.clone(),
            name: name.to_string(),
        };
        for input in &self.pipeline.instances[node].inputs {
            match &input.source {
                Source::Path(path) => match self.finder.find(input, path) {
                    Ok(found) => materials.extend(found),
                    Err(_) => open.push(missing(input, path)),
                },
                Source::Output { instance, output } => {
                    let record = known[*instance].as_ref();
                    match record.and_then(|record| self.output(input, *instance, output, record).ok()) {
                        Some(material) => materials.push(material),
                        None => open.push(missing(input, &self.output_name(*instance, output))),
                    }
                }
            }
        }
        Outline { document: self.document(node, &materials), open }
    }

    /// The outlines of all instances, and the records of those that are in the cache.
    pub fn outlines(&self) -> (Vec<Outline>, Known) {
        let nodes = self.pipeline.instances.len();
        let mut outlines = Vec::with_capacity(nodes);
        let mut known: Known = vec![None; nodes];
        for node in 0..nodes {
            let outline = self.outline(node, &known);
            known[node] = outline.key().and_then(|key| self.store.get(&key).ok().flatten()).map(Arc::new);
            outlines.push(outline);
        }
        (outlines, known)
    }

    /// Digest of all that a person decides about an instance: its settings, the content of the files that are the
    /// person's own, and which outputs of which instances it reads. It does not depend on what those hold, so it is the
    /// same on every kind of device, and is known before anything runs.
    ///
    /// # Errors
    /// What is missing or cannot be read.
    pub fn recipe_digest(&self, node: usize) -> Result<Digest, Diagnostic> {
        let instance = &self.pipeline.instances[node];
        let mut inputs = Vec::new();
        for input in &instance.inputs {
            match &input.source {
                Source::Path(path) => {
                    for found in self.finder.find(input, path).map_err(|problem| *problem)? {
                        inputs.push((
                            input.role.as_str(),
                            json!({ "role": found.role, "labels": found.labels, "digest": found.digest }),
                        ));
                    }
                }
                Source::Output { instance, output } => {
                    let from = self.output_name(*instance, output);
                    inputs.push((
                        input.role.as_str(),
                        json!({ "role": input.role, "labels": input.labels, "from": from }),
                    ));
                }
            }
        }
        // As in a key: the order of roles does not matter, the order within a role does.
        inputs.sort_by_key(|(role, _)| *role);
        let recipe = &instance.recipe;
        let document = json!({
            "format": crate::key::FORMAT,
            "kind": recipe.kind().name(),
            "version": recipe.version(),
            "recipe": recipe_json(recipe),
            "inputs": inputs.into_iter().map(|(_, input)| input).collect::<Vec<_>>(),
        });
        Ok(Digest::of(canonical(&document).as_bytes()))
    }

    fn output_name(&self, instance: usize, output: &str) -> String {
        format!("{}.{output}", self.pipeline.instances[instance].id)
    }
}
