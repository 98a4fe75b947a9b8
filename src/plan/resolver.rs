//! From an instance to its key: which bytes it reads, wherever they lie.
//!
//! Knows the records of upstream instances, and asks the [`Finder`] for files; not what would run.

use super::finder::Finder;
use super::material::{Material, Place, digest_of, drop_pickles, is_read};
use crate::diagnostic::Diagnostic;
use crate::key::{KeyDocument, KeyInput};
use crate::manifest::{Pipeline, ResolvedInput, Source};
use crate::record::{FileEntry, Record};
use crate::stage::{Form, Input, Recipe};
use crate::store::{Facts, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The records of what has been made so far, by instance.
pub type Known = Vec<Option<Arc<Record>>>;

/// Turns instances into keys.
#[derive(Debug)]
pub struct Resolver<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) store: &'a Store,
    pub(super) finder: Finder<'a>,
}

impl<'a> Resolver<'a> {
    /// Paths are relative to `root`.
    pub fn new(pipeline: &'a Pipeline, store: &'a Store, root: &'a Path) -> Self {
        Self { pipeline, store, finder: Finder::new(pipeline, store, root) }
    }

    /// What was looked at of the person's files so far, taken out.
    pub fn take_facts(&self) -> Facts {
        self.finder.take_facts()
    }

    /// Forgets the digests of the person's files, so that they are looked at again.
    pub fn forget(&self) {
        self.finder.forget();
    }

    /// The inputs of an instance, with their content.
    ///
    /// # Errors
    /// What is missing or cannot be read, each at its place in the manifest; upstream instances without a record in
    /// `known` too.
    pub fn materials(&self, node: usize, known: &Known) -> Result<Vec<Material>, Vec<Diagnostic>> {
        let mut materials = Vec::new();
        let mut problems = Vec::new();
        for input in &self.pipeline.instances[node].inputs {
            match &input.source {
                Source::Path(path) => match self.finder.find(input, path) {
                    Ok(found) => materials.extend(found),
                    Err(problem) => problems.push(*problem),
                },
                Source::Output { instance, output } => {
                    let made = known[*instance].as_ref().ok_or_else(|| self.unmade(input, *instance));
                    match made.and_then(|record| self.output(input, *instance, output, record)) {
                        Ok(material) => materials.push(material),
                        Err(problem) => problems.push(problem),
                    }
                }
            }
        }
        if problems.is_empty() { Ok(materials) } else { Err(problems) }
    }

    /// What is hashed to the key of an instance with these inputs.
    ///
    /// # Panics
    /// Never: a recipe is plain data and always becomes JSON.
    pub fn document(&self, node: usize, materials: &[Material]) -> KeyDocument {
        let recipe = &self.pipeline.instances[node].recipe;
        let inputs = materials
            .iter()
            .map(|material| KeyInput {
                role: material.role.clone(),
                labels: material.labels.clone(),
                digest: material.digest,
            })
            .collect();
        KeyDocument::new(recipe.kind().name(), recipe.version(), recipe_json(recipe), inputs)
    }

    /// The inputs that a check may read before anything runs: those that are files already.
    pub fn existing_inputs(&self, node: usize) -> Vec<Input> {
        let instance = &self.pipeline.instances[node];
        let own = instance.inputs.iter().filter(|input| !input.inherited);
        let files = own.filter_map(|input| match &input.source {
            Source::Path(path) => self.finder.find(input, path).ok(),
            Source::Output { .. } => None,
        });
        let is_here = |file: &FileEntry| self.store.has(&file.digest, file.size);
        let existing = files.flatten().filter_map(|Material { role, labels, name, place, .. }| match place {
            // Of what is not fetched yet there is nothing to look at.
            Place::Fetched { files, .. } if !files.iter().all(is_here) => None,
            place => Some(Input { role, labels, name, path: place.into_existing()? }),
        });
        existing.collect()
    }

    /// What is wrong with the paths of an instance, each at its place.
    pub fn missing(&self, node: usize) -> Vec<Diagnostic> {
        let own = self.pipeline.instances[node].inputs.iter().filter(|input| !input.inherited);
        own.filter_map(|input| match &input.source {
            Source::Path(path) => self.finder.find(input, path).err().map(|problem| *problem),
            Source::Output { .. } => None,
        })
        .collect()
    }

    /// The person's files that a path of an input names, if they are there.
    pub(super) fn files(&self, input: &ResolvedInput, path: &str) -> Option<Vec<PathBuf>> {
        let found = self.finder.find(input, path).ok()?;
        Some(found.into_iter().filter_map(|material| material.place.into_existing()).collect())
    }

    fn unmade(&self, input: &ResolvedInput, instance: usize) -> Diagnostic {
        let id = &self.pipeline.instances[instance].id;
        Diagnostic::at(input.span, format!("the result of `{id}` is not in the cache"))
            .hint("`titer run` makes it; if the shared cache has it, `titer pull` fetches it")
    }

    pub(super) fn output(
        &self,
        input: &ResolvedInput,
        instance: usize,
        output: &'static str,
        record: &Record,
    ) -> Result<Material, Diagnostic> {
        let id = &self.pipeline.instances[instance].id;
        let name = format!("{id}.{output}");
        let Some(made) = record.output(output) else {
            return Err(Diagnostic::at(input.span, format!("`{id}` has made no `{output}`")));
        };
        let (digest, place) = if made.is_folder() {
            let mut files: Vec<FileEntry> = made
                .files
                .iter()
                .map(|file| FileEntry { path: inside(&file.path), ..file.clone() })
                .filter(|file| is_read(input.form, &file.path))
                .collect();
            if input.form == Form::Model {
                drop_pickles(&mut files);
            }
            (digest_of(&files), Place::Objects(files))
        } else {
            let file = made.files.first().cloned();
            let Some(file) = file else {
                return Err(Diagnostic::at(
                    input.span,
                    format!("the record of `{id}` is damaged: `{output}` has no file"),
                ));
            };
            (file.digest, Place::Object(file))
        };
        Ok(Material { role: input.role.clone(), labels: input.labels.clone(), name, digest, place })
    }
}

/// The recipe without the name of its kind around it: the key document has that as a field of its own.
pub(super) fn recipe_json(recipe: &Recipe) -> serde_json::Value {
    let value = match recipe {
        Recipe::Mix(recipe) => serde_json::to_value(recipe),
        Recipe::Train(recipe) => serde_json::to_value(recipe),
        Recipe::Predict(recipe) => serde_json::to_value(recipe),
        Recipe::Api(recipe) => serde_json::to_value(recipe),
        Recipe::Score(recipe) => serde_json::to_value(recipe),
        Recipe::Aggregate(recipe) => serde_json::to_value(recipe),
        Recipe::Figure(recipe) => serde_json::to_value(recipe),
        Recipe::Command(recipe) => serde_json::to_value(recipe),
    };
    #[expect(clippy::expect_used, reason = "recipes are plain data with string keys")]
    value.expect("a recipe becomes JSON")
}

/// A file's path within the folder that is the output.
fn inside(path: &str) -> String {
    path.split_once('/').map_or(path, |(_, inside)| inside).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Sources;
    use crate::manifest::{Overrides, load};

    #[test]
    fn what_reads_an_unmade_result_has_no_key_and_a_message() {
        let text = "titer = 1\n[mix.a]\ncommand = [\"true\"]\n\
                    [mix.b]\ncommand = [\"true\", \"{input.of}\"]\ninputs = { of = \"mix.a\" }\n";
        let read = |_: &str| Ok(text.to_string());
        let pipeline = load("p.toml", &read, &Overrides::default(), &mut Sources::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        let resolver = Resolver::new(&pipeline, &store, folder.path());
        let reader = pipeline.instances.iter().position(|instance| !instance.inputs.is_empty()).unwrap();
        let problems = resolver.materials(reader, &vec![None; 2]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].message, "the result of `mix.a` is not in the cache");
    }
}
