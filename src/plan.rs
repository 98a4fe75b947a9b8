//! What would run, and why. Reads the store and the inputs' content; writes nothing.
//!
//! [`Resolver`] turns an instance and the records of what it reads into its key. [`plan`] asks it for every wanted
//! instance, in order, and says `cached`, `runs` (with the reason) or `waits` (its inputs do not exist yet).

use crate::diagnostic::{Diagnostic, Problems};
use crate::graph::upstream;
use crate::key::{Change, Digest, KeyDocument, KeyInput, difference};
use crate::manifest::{Pipeline, ResolvedInput, Source};
use crate::record::{FileEntry, Record, folder_digest};
use crate::stage::{Form, Input, Kind, Recipe};
use crate::store::Store;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a model folder that a run reads; whatever else lies there (weights in another format, a readme, a
/// repository's `.git`) changes no result.
const MODEL_FILES: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "unchanged.json",
];

/// The files that a tokenizer is read from.
const TOKENIZER_FILES: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

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

/// Where the bytes of an input are.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file or a folder of the person's.
    Path(PathBuf),
    /// A file in the store, under the name that it had in its output folder.
    Object(FileEntry),
    /// A folder of files in the store.
    Objects(Vec<FileEntry>),
}

/// The person's paths that were looked at, each once: hashing is the dear part.
type Found = Result<Vec<(PathBuf, String, Digest)>, Box<Diagnostic>>;

/// Turns instances into keys.
#[derive(Debug)]
pub struct Resolver<'a> {
    pipeline: &'a Pipeline,
    store: &'a Store,
    root: &'a Path,
    found: RefCell<BTreeMap<(u8, String), Found>>,
}

impl<'a> Resolver<'a> {
    /// Paths are relative to `root`.
    pub fn new(pipeline: &'a Pipeline, store: &'a Store, root: &'a Path) -> Self {
        Self { pipeline, store, root, found: RefCell::default() }
    }

    /// The inputs of an instance, with their content.
    ///
    /// # Errors
    /// What is missing or cannot be read, each at its place in the manifest.
    ///
    /// # Panics
    /// If an upstream instance has no record in `known`.
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
                    #[expect(clippy::expect_used, reason = "the schedule resolves a node after its inputs")]
                    let record = known[*instance].as_ref().expect("upstream record");
                    match self.output(input, *instance, output, record) {
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
        KeyDocument::new(recipe.kind().name(), recipe.kind().version(), inner(recipe), inputs)
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
                Place::Path(path) => {
                    Some(Input { role: material.role, labels: material.labels, name: material.name, path })
                }
                Place::Object(_) | Place::Objects(_) => None,
            })
            .collect()
    }

    /// Forgets the digests of the person's files, so that they are looked at again.
    pub fn forget(&self) {
        self.found.borrow_mut().clear();
    }

    fn find(&self, input: &ResolvedInput, path: &str) -> Result<Vec<Material>, Box<Diagnostic>> {
        let class = match input.form {
            Form::Model => 0,
            Form::Tokenizer => 1,
            _ => 2,
        };
        let mut cache = self.found.borrow_mut();
        let found = cache.entry((class, path.to_string())).or_insert_with(|| self.look(input.form, path));
        let is_glob = is_glob(path);
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
                        place: Place::Path(place.clone()),
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
        let full = self.root.join(path);
        let unreadable =
            |error: &dyn std::fmt::Display| Box::new(Diagnostic::new(format!("cannot read `{path}`: {error:#}")));
        match form {
            Form::Model | Form::Tokenizer => {
                if !full.is_dir() {
                    let what = if form == Form::Model { "model" } else { "tokenizer" };
                    let problem = Diagnostic::new(format!("there is no {what} folder `{path}`"));
                    return Err(Box::new(problem.hint(self.relative_to())));
                }
                let digest = self.folder(form, &full).map_err(|error| unreadable(&error))?;
                Ok(vec![(full, path.to_string(), digest)])
            }
            _ if is_glob(path) => {
                let files = self.glob(path).map_err(|error| unreadable(&error))?;
                if files.is_empty() {
                    return Err(Box::new(
                        Diagnostic::new(format!("no file matches `{path}`")).hint(self.relative_to()),
                    ));
                }
                let digest = |(full, name): (PathBuf, String)| {
                    let (digest, _) = self.store.digest_file(&full).map_err(|error| unreadable(&error))?;
                    Ok((full, name, digest))
                };
                files.into_iter().map(digest).collect()
            }
            _ => {
                if !full.is_file() {
                    let problem = Diagnostic::new(format!("there is no file `{path}`"));
                    return Err(Box::new(problem.hint(self.relative_to())));
                }
                let (digest, _) = self.store.digest_file(&full).map_err(|error| unreadable(&error))?;
                Ok(vec![(full, path.to_string(), digest)])
            }
        }
    }

    fn relative_to(&self) -> String {
        let root = std::path::absolute(self.root).unwrap_or_else(|_| self.root.to_path_buf());
        format!("paths are relative to `{}`", root.display())
    }

    fn glob(&self, pattern: &str) -> anyhow::Result<Vec<(PathBuf, String)>> {
        let full = self.root.join(pattern);
        let mut files = Vec::new();
        for path in glob::glob(&full.to_string_lossy())? {
            let path = path?;
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
            if is_read(form, &name) && entry.path().is_file() {
                let (digest, size) = self.store.digest_file(&entry.path())?;
                files.push(FileEntry { path: name, digest, size });
            }
        }
        if files.is_empty() {
            anyhow::bail!("the folder holds none of the files of a model (`config.json`, `tokenizer.json`, …)");
        }
        Ok(digest_of(&files))
    }

    fn output(
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
            let files: Vec<FileEntry> = made
                .files
                .iter()
                .map(|file| FileEntry { path: file_name(&file.path), ..file.clone() })
                .filter(|file| is_read(input.form, &file.path))
                .collect();
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
fn inner(recipe: &Recipe) -> serde_json::Value {
    let value = match recipe {
        Recipe::Mix(recipe) => serde_json::to_value(recipe),
        Recipe::Train(recipe) => serde_json::to_value(recipe),
        Recipe::Predict(recipe) => serde_json::to_value(recipe),
        Recipe::Score(recipe) => serde_json::to_value(recipe),
        Recipe::Aggregate(recipe) => serde_json::to_value(recipe),
    };
    #[expect(clippy::expect_used, reason = "recipes are plain data with string keys")]
    value.expect("a recipe becomes JSON")
}

fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_string()
}

fn is_read(form: Form, name: &str) -> bool {
    let tokenizer = TOKENIZER_FILES.contains(&name);
    match form {
        Form::Tokenizer => tokenizer,
        Form::Model => {
            let shard = name.starts_with("model") && name.ends_with(".safetensors");
            tokenizer || shard || MODEL_FILES.contains(&name)
        }
        _ => true,
    }
}

/// What a run would do with an instance.
#[derive(Clone, Debug)]
pub enum Status {
    /// Its outputs are in the cache.
    Cached(Arc<Record>),
    /// It would run.
    Runs(Reason),
    /// It reads what does not exist yet.
    Waits {
        /// The instances that would run before it.
        on: Vec<usize>,
        /// Whether it is cached if those make the same bytes as the last time.
        cached_unless_changed: bool,
    },
}

/// Why an instance would run.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// It has never run in this pipeline, under this name.
    New,
    /// What it is made of differs from the last time.
    Changed(Vec<Change>),
    /// The person asked for it.
    Forced,
    /// The same work was begun before, and failed or was stopped.
    Unfinished,
    /// It was made before, but (some of) its outputs are gone from the cache.
    Lost,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::Forced => f.write_str("forced"),
            Self::Unfinished => f.write_str("did not finish the last time"),
            Self::Lost => f.write_str("its outputs are gone from the cache"),
            Self::Changed(changes) => {
                let shown: Vec<String> = changes.iter().take(3).map(ToString::to_string).collect();
                let more = changes.len().saturating_sub(3);
                write!(f, "{}", shown.join(", "))?;
                if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
        }
    }
}

/// The plan of a run.
#[derive(Debug)]
pub struct Plan {
    /// The wanted instances in order, each with what would happen.
    pub entries: Vec<(usize, Status)>,
    /// The keys that are known.
    pub keys: BTreeMap<usize, Digest>,
    /// The records of the cached instances.
    pub known: Known,
}

impl Plan {
    /// Whether nothing would run.
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|(_, status)| matches!(status, Status::Cached(_)))
    }
}

/// Plans a run of the `wanted` instances (in topological order); `forced` ones run even if they are cached.
///
/// # Errors
/// All inputs that are missing or cannot be read, and what the stages' own checks find in the instances that would run.
pub fn plan(resolver: &Resolver<'_>, wanted: &[usize], forced: &BTreeSet<usize>) -> Result<Plan, Vec<Diagnostic>> {
    let Resolver { pipeline, store, .. } = resolver;
    let last = store.last_run(&pipeline.name).unwrap_or_default();
    let mut problems = Problems::default();
    let mut checks = Checks::default();
    let nodes = pipeline.instances.len();
    let mut plan = Plan { entries: Vec::new(), keys: BTreeMap::new(), known: vec![None; nodes] };
    // Records that are there now, or were made the last time by what would run now.
    let mut assumed: Known = vec![None; nodes];
    let mut fresh = vec![true; nodes];
    for &node in wanted {
        let instance = &pipeline.instances[node];
        let inputs: Vec<usize> = upstream(instance).collect();
        let stale: Vec<usize> = inputs.iter().copied().filter(|&input| !fresh[input]).collect();
        let before = last.get(&instance.id.to_string()).and_then(|key| store.get(key).ok().flatten()).map(Arc::new);
        let possible = inputs.iter().all(|&input| assumed[input].is_some());
        let resolved = match possible {
            true => match resolver.materials(node, &assumed) {
                Ok(materials) => Some(resolver.document(node, &materials)),
                Err(found) => {
                    found.into_iter().for_each(|problem| problems.push(problem));
                    None
                }
            },
            false => {
                missing_paths(resolver, node, &mut problems);
                None
            }
        };
        let record = resolved.as_ref().and_then(|document| {
            let key = document.key();
            plan.keys.insert(node, key);
            store.get(&key).ok().flatten().map(Arc::new)
        });
        let complete = record.clone().filter(|record| store.complete(record));
        let status = if !stale.is_empty() {
            Status::Waits { on: stale, cached_unless_changed: complete.is_some() && !forced.contains(&node) }
        } else if forced.contains(&node) {
            Status::Runs(Reason::Forced)
        } else if let Some(record) = complete.clone() {
            Status::Cached(record)
        } else {
            let key = plan.keys.get(&node);
            Status::Runs(match (&resolved, &before) {
                _ if record.is_some() => Reason::Lost,
                (Some(document), Some(before)) => match store.document(&before.key).ok().flatten() {
                    Some(old) => Reason::Changed(difference(&old, document)),
                    None => Reason::New,
                },
                _ if key.is_some_and(|key| store.log_path(key).exists()) => Reason::Unfinished,
                _ => Reason::New,
            })
        };
        if matches!(status, Status::Waits { .. }) {
            plan.keys.remove(&node);
        }
        if let Status::Cached(record) = &status {
            plan.known[node] = Some(Arc::clone(record));
        } else {
            fresh[node] = false;
            checks.run(resolver, node, &mut problems);
        }
        assumed[node] = complete.or(before);
        plan.entries.push((node, status));
    }
    if problems.is_empty() { Ok(plan) } else { Err(problems.into_vec()) }
}

/// Reports the paths of an instance that are not there.
pub fn missing_paths(resolver: &Resolver<'_>, node: usize, problems: &mut Problems) {
    for input in resolver.pipeline.instances[node].inputs.iter().filter(|input| !input.inherited) {
        if let Source::Path(path) = &input.source
            && let Err(problem) = resolver.find(input, path)
        {
            problems.push(*problem);
        }
    }
}

/// The stages' own checks, each distinct one once.
#[derive(Debug, Default)]
pub struct Checks {
    done: BTreeSet<String>,
}

impl Checks {
    /// Checks one instance.
    pub fn run(&mut self, resolver: &Resolver<'_>, node: usize, problems: &mut Problems) {
        let instance = &resolver.pipeline.instances[node];
        let inputs = resolver.existing_inputs(node);
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        if !self.done.insert(format!("{}{names:?}", inner(&instance.recipe))) {
            return;
        }
        let axes = resolver.pipeline.stages.iter().flat_map(|stage| &stage.axes).map(String::as_str).collect();
        for mut problem in crate::stage::check(&instance.recipe, &inputs, &axes) {
            if problem.place.is_none() {
                problem.place = Some(crate::diagnostic::Place::Span(instance.span));
            }
            problems.push(problem);
        }
    }
}

/// Expected work of a kind, in rough units: what trains or predicts is far dearer than the rest.
pub fn cost(kind: Kind) -> u64 {
    match kind {
        Kind::Train => 100,
        Kind::Predict => 20,
        Kind::Score => 2,
        Kind::Mix | Kind::Aggregate => 1,
    }
}
