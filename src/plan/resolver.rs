//! From an instance to its key: which bytes it reads, wherever they lie.
//!
//! Knows the person's files and the records of upstream instances; not what would run.

use super::absent::Files;
use crate::address::{self, Address, Extent, is_pickle, is_weights};
use crate::diagnostic::{Diagnostic, Span};
use crate::key::{Digest, KeyDocument, KeyInput};
use crate::manifest::{Pipeline, ResolvedInput, Source};
use crate::record::{FileEntry, Record, folder_digest};
use crate::stage::{Form, Input, Recipe};
use crate::store::{Facts, Store};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The records of what has been made so far, by instance.
pub type Known = Vec<Option<Arc<Record>>>;

/// One input with its content.
#[derive(Clone, Debug)]
pub struct Material {
    /// See [`crate::stage::InputSpec::role`].
    pub role: String,
    /// See [`Input::labels`].
    pub labels: BTreeMap<String, serde_json::Value>,
    /// What messages call it.
    pub name: String,
    /// Digest of the file, or of the folder's listing.
    pub digest: Digest,
    /// Where its bytes are.
    pub place: Place,
}

impl Material {
    /// Its length in bytes as far as the store knows it; the person's own files count as nothing.
    pub fn size(&self) -> u64 {
        match &self.place {
            Place::Path(_) => 0,
            Place::Object(file) => file.size,
            Place::Objects(files) => files.iter().map(|file| file.size).sum(),
            Place::Fetched { files, .. } => files.iter().map(|file| file.size).sum(),
        }
    }
}

/// Where the bytes of an input are.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file or a folder of the person's.
    Path(PathBuf),
    /// A file in the store, under the name that it had in its output folder.
    Object(FileEntry),
    /// A folder of files in the store.
    Objects(Vec<FileEntry>),
    /// What was fetched from elsewhere: a file or a folder of links to objects, and the objects. None if only their digest
    /// is known.
    Fetched {
        /// The file or the folder.
        path: PathBuf,
        /// The objects.
        files: Vec<FileEntry>,
    },
}

/// The person's paths that were looked at, each once: hashing is the dear part.
type Found = Result<Vec<(Place, String, Digest)>, Box<Diagnostic>>;

/// Turns instances into keys.
#[derive(Debug)]
pub struct Resolver<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) store: &'a Store,
    root: &'a Path,
    found: RefCell<BTreeMap<(u8, String), Found>>,
    /// What was looked at of the person's files.
    facts: RefCell<Facts>,
}

impl<'a> Resolver<'a> {
    /// Paths are relative to `root`.
    pub fn new(pipeline: &'a Pipeline, store: &'a Store, root: &'a Path) -> Self {
        let facts = RefCell::new(Facts::begin());
        Self { pipeline, store, root, found: RefCell::default(), facts }
    }

    /// What was looked at of the person's files so far, taken out.
    pub fn take_facts(&self) -> Facts {
        self.facts.replace(Facts::begin())
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
                Source::Path(path) => match self.find(input, path) {
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
            Source::Path(path) => self.find(input, path).ok(),
            Source::Output { .. } => None,
        });
        files
            .flatten()
            .filter_map(|material| match material.place {
                // Of what is not fetched yet there is nothing to look at.
                Place::Fetched { ref files, .. }
                    if !files.iter().all(|file| self.store.has(&file.digest, file.size)) =>
                {
                    None
                }
                Place::Fetched { files, .. } if files.is_empty() => None,
                Place::Path(path) | Place::Fetched { path, .. } => {
                    Some(Input { role: material.role, labels: material.labels, name: material.name, path })
                }
                Place::Object(_) | Place::Objects(_) => None,
            })
            .collect()
    }

    /// What is wrong with the paths of an instance, each at its place.
    pub fn missing(&self, node: usize) -> Vec<Diagnostic> {
        let own = self.pipeline.instances[node].inputs.iter().filter(|input| !input.inherited);
        own.filter_map(|input| match &input.source {
            Source::Path(path) => self.find(input, path).err().map(|problem| *problem),
            Source::Output { .. } => None,
        })
        .collect()
    }

    /// The person's files that a path of an input names, if they are there.
    pub(super) fn files(&self, input: &ResolvedInput, path: &str) -> Option<Vec<PathBuf>> {
        let found = self.find(input, path).ok()?;
        let file = |material: Material| match material.place {
            Place::Fetched { files, .. } if files.is_empty() => None,
            Place::Path(path) | Place::Fetched { path, .. } => Some(path),
            Place::Object(_) | Place::Objects(_) => None,
        };
        Some(found.into_iter().filter_map(file).collect())
    }

    /// Forgets the digests of the person's files, so that they are looked at again.
    pub fn forget(&self) {
        self.found.borrow_mut().clear();
    }

    pub(super) fn find(&self, input: &ResolvedInput, path: &str) -> Result<Vec<Material>, Box<Diagnostic>> {
        let class = match input.form {
            Form::Model => 0,
            Form::Tokenizer => 1,
            Form::Argument => 2,
            Form::Any => 3,
            _ => 4,
        };
        let mut cache = self.found.borrow_mut();
        let found = cache.entry((class, path.to_string())).or_insert_with(|| self.look(input.form, path));
        let is_glob = input.form != Form::Argument && !Address::is_meant(path) && is_glob(path);
        match found {
            Ok(files) => Ok(files
                .iter()
                .map(|(place, name, digest)| {
                    let mut labels = input.labels.clone();
                    if is_glob {
                        labels.insert("path".to_string(), name.as_str().into());
                    }
                    Material {
                        role: input.role.clone(),
                        labels,
                        name: name.clone(),
                        digest: *digest,
                        place: place.clone(),
                    }
                })
                .collect()),
            Err(problem) => {
                let mut problem = problem.clone();
                problem.place = Some(crate::diagnostic::Place::Span(input.span));
                Err(problem)
            }
        }
    }

    fn look(&self, form: Form, path: &str) -> Found {
        if form != Form::Argument && Address::is_meant(path) {
            return self.look_elsewhere(form, path);
        }
        let found = self.look_here(form, path)?;
        Ok(found.into_iter().map(|(path, name, digest)| (Place::Path(path), name, digest)).collect())
    }

    /// What was fetched from an address; the digest is known without it if the address says it.
    fn look_elsewhere(&self, form: Form, text: &str) -> Found {
        let address = Address::parse(text).map_err(Diagnostic::new)?;
        let extent = extent(form, &address);
        let unreadable = |error: &dyn std::fmt::Display| Diagnostic::new(format!("cannot read `{text}`: {error:#}"));
        self.saw(&self.store.fetched_record(&address, extent));
        let fetched = self.store.fetched(&address, extent).map_err(|error| unreadable(&error))?;
        let folder = self.store.fetched_folder(&address, extent);
        let path = if extent == Extent::File { folder.join(address.name()) } else { folder };
        let (digest, files) = match (fetched, address.digest) {
            (Some(fetched), Some(digest)) if extent != Extent::Tokenizer && fetched.digest() != digest => {
                let problem = format!("`{}` has another digest: {}, not {digest}", address.bare(), fetched.digest());
                return Err(Box::new(Diagnostic::new(problem)));
            }
            (Some(fetched), _) => {
                let files: Vec<FileEntry> =
                    fetched.files.into_iter().filter(|file| is_read(form, &file.path)).collect();
                (if extent == Extent::File { files[0].digest } else { digest_of(&files) }, files)
            }
            (None, Some(digest)) if form != Form::Tokenizer => (digest, Vec::new()),
            (None, _) => {
                let problem = Diagnostic::new(format!("`{text}` has not been fetched yet"));
                return Err(Box::new(
                    problem.hint("`titer run` fetches what it needs; `titer fetch` fetches it alone"),
                ));
            }
        };
        Ok(vec![(Place::Fetched { path, files }, text.to_string(), digest)])
    }

    /// What an instance reads of other machines: where from, and whether it is here.
    pub fn elsewhere(&self, node: usize) -> Vec<Elsewhere> {
        let mut found = Vec::new();
        for input in &self.pipeline.instances[node].inputs {
            if let Source::Path(path) = &input.source
                && input.form != Form::Argument
                && Address::is_meant(path)
                && let Ok(address) = Address::parse(path)
            {
                let extent = extent(input.form, &address);
                let fetched = self.store.fetched(&address, extent).ok().flatten();
                let is_here = fetched.as_ref().is_some_and(|fetched| self.store.has_fetched(fetched));
                let is_known = fetched.is_some() || (address.digest.is_some() && input.form != Form::Tokenizer);
                let files = fetched.map(|fetched| fetched.files).unwrap_or_default();
                found.push(Elsewhere { address, extent, span: input.span, files, is_here, is_known });
            }
        }
        found
    }

    fn look_here(&self, form: Form, path: &str) -> Result<Vec<(PathBuf, String, Digest)>, Box<Diagnostic>> {
        let full = self.root.join(path);
        let unreadable =
            |error: &dyn std::fmt::Display| Box::new(Diagnostic::new(format!("cannot read `{path}`: {error:#}")));
        let files = Files { root: self.root, pipeline: Some(self.pipeline) };
        let is_pattern = !matches!(form, Form::Model | Form::Tokenizer | Form::Argument)
            && is_glob(path)
            && !(form == Form::Any && full.is_dir());
        if !is_pattern && let Some(problem) = files.absent(form, path) {
            return Err(Box::new(problem));
        }
        match form {
            _ if is_pattern => {
                let found = self.glob(path).map_err(|error| unreadable(&error))?;
                if found.is_empty() {
                    return Err(Box::new(files.no_match(path)));
                }
                let digest = |(full, name): (PathBuf, String)| {
                    let (digest, _) = self.store.digest_file(&full).map_err(|error| unreadable(&error))?;
                    Ok((full, name, digest))
                };
                found.into_iter().map(digest).collect()
            }
            Form::Model | Form::Tokenizer => {
                self.saw(&full);
                let digest = self.folder(form, &full).map_err(|error| unreadable(&error))?;
                Ok(vec![(full, path.to_string(), digest)])
            }
            // No file is called by several lines.
            Form::Argument if path.contains('\n') => Ok(Vec::new()),
            Form::Argument if !full.is_file() => {
                self.saw(&full);
                Ok(Vec::new())
            }
            Form::Any if full.is_dir() => {
                self.saw_below(&full, usize::MAX);
                let (digest, _) = self.store.digest_folder(&full).map_err(|error| unreadable(&error))?;
                Ok(vec![(full, path.to_string(), digest)])
            }
            _ => {
                self.saw(&full);
                let (digest, _) = self.store.digest_file(&full).map_err(|error| unreadable(&error))?;
                Ok(vec![(full, path.to_string(), digest)])
            }
        }
    }

    /// Keeps that a path was looked at: what is there, or that nothing is.
    fn saw(&self, path: &Path) {
        let mut facts = self.facts.borrow_mut();
        match std::path::absolute(path) {
            Ok(path) if path.exists() => facts.saw(path),
            Ok(path) => facts.missed(path),
            Err(_) => facts.spoil(),
        }
    }

    /// The same of a folder and all below it, so many folders deep.
    fn saw_below(&self, folder: &Path, depth: usize) {
        /// A look at more than these costs more than it saves.
        const MOST: usize = 10_000;
        let mut open = vec![(folder.to_path_buf(), depth)];
        let mut count = 0;
        while let Some((path, depth)) = open.pop() {
            count += 1;
            self.saw(&path);
            if count > MOST {
                return self.facts.borrow_mut().spoil();
            }
            if depth > 0
                && let Ok(entries) = std::fs::read_dir(&path)
            {
                open.extend(entries.flatten().map(|entry| (entry.path(), depth - 1)));
            }
        }
    }

    fn glob(&self, pattern: &str) -> anyhow::Result<Vec<(PathBuf, String)>> {
        let full = self.root.join(pattern);
        let parts: Vec<&str> = pattern.split('/').collect();
        let plain = parts.iter().take_while(|part| !is_glob(part)).count();
        let depth = if pattern.contains("**") { usize::MAX } else { parts.len() - plain - 1 };
        self.saw_below(&self.root.join(parts[..plain].join("/")), depth);
        let mut files = Vec::new();
        for path in glob::glob(&full.to_string_lossy())? {
            let path = path?;
            self.saw(&path);
            if path.is_file() {
                let name = path.strip_prefix(self.root).unwrap_or(&path).to_string_lossy().into_owned();
                files.push((path, name));
            }
        }
        files.sort_by(|a, b| a.1.cmp(&b.1));
        Ok(files)
    }

    fn folder(&self, form: Form, folder: &Path) -> anyhow::Result<Digest> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_read(form, &name) {
                // A link that leads nowhere may lead somewhere later.
                self.saw(&entry.path());
            }
            if is_read(form, &name) && entry.path().is_file() {
                let (digest, size) = self.store.digest_file(&entry.path())?;
                files.push(FileEntry { path: name, digest, size });
            }
        }
        drop_pickles(&mut files);
        if files.is_empty() {
            anyhow::bail!("the folder holds none of the files of a model (`config.json`, `tokenizer.json`, …)");
        }
        Ok(digest_of(&files))
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
                .map(|file| FileEntry { path: file_name(&file.path), ..file.clone() })
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

fn digest_of(files: &[FileEntry]) -> Digest {
    folder_digest(files.iter().map(|file| (file.path.as_str(), file.digest, file.size)))
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
        Recipe::Command(recipe) => serde_json::to_value(recipe),
    };
    #[expect(clippy::expect_used, reason = "recipes are plain data with string keys")]
    value.expect("a recipe becomes JSON")
}

pub(super) fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_string()
}

/// Whether a file of a model's folder is one that a run reads.
pub fn is_model_file(name: &str) -> bool {
    is_read(Form::Model, name)
}

fn is_read(form: Form, name: &str) -> bool {
    match form {
        Form::Tokenizer => Extent::Tokenizer.reads(name),
        Form::Model => Extent::Model.reads(name),
        _ => true,
    }
}

/// Weights in pickles are not read where there are others.
fn drop_pickles(files: &mut Vec<FileEntry>) {
    if files.iter().any(|file| is_weights(&file.path)) {
        files.retain(|file| !is_pickle(&file.path));
    }
}

/// What of an address is read in a form. A server that lists nothing is asked for a whole model.
fn extent(form: Form, address: &Address) -> Extent {
    match (form, &address.place) {
        (Form::Tokenizer, address::Place::Hub(_)) => Extent::Tokenizer,
        (Form::Model | Form::Tokenizer, _) => Extent::Model,
        _ => Extent::File,
    }
}

/// Something that is read of another machine.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// Where.
    pub address: Address,
    /// What of it.
    pub extent: Extent,
    /// Where the manifest says so.
    pub span: Span,
    /// Its files, if it was fetched.
    pub files: Vec<FileEntry>,
    /// Whether their bytes are in the cache.
    pub is_here: bool,
    /// Whether its digest is known.
    pub is_known: bool,
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
