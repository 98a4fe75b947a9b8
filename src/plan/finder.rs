//! What lies at the paths that inputs name: the person's files, with their digests.
//!
//! Knows files, and which form they are read in; not instances.

use super::absent::Files;
use super::material::{Material, Place, digest_of, drop_pickles, is_read};
use crate::address::{Address, is_part_folder};
use crate::diagnostic::Diagnostic;
use crate::key::Digest;
use crate::manifest::{Pipeline, ResolvedInput};
use crate::record::FileEntry;
use crate::stage::Form;
use crate::store::{Facts, Store};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a path names: where each file is, what messages call it, and its digest.
pub(super) type Found = Result<Vec<(Place, String, Digest)>, Box<Diagnostic>>;

/// Finds files and their digests.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    /// For what messages suggest.
    pipeline: &'a Pipeline,
    pub(super) store: &'a Store,
    root: &'a Path,
    /// The paths that were looked at, each once: hashing is the dear part.
    found: RefCell<BTreeMap<(u8, String), Found>>,
    /// What was looked at of the person's files.
    facts: RefCell<Facts>,
}

impl<'a> Finder<'a> {
    /// Paths are relative to `root`.
    pub(super) fn new(pipeline: &'a Pipeline, store: &'a Store, root: &'a Path) -> Self {
        Self { pipeline, store, root, found: RefCell::default(), facts: RefCell::new(Facts::begin()) }
    }

    /// What was looked at so far, taken out.
    pub(super) fn take_facts(&self) -> Facts {
        self.facts.replace(Facts::begin())
    }

    /// Forgets the digests, so that the files are looked at again.
    pub(super) fn forget(&self) {
        self.found.borrow_mut().clear();
    }

    /// What a path of an input names.
    pub(super) fn find(&self, input: &ResolvedInput, path: &str) -> Result<Vec<Material>, Box<Diagnostic>> {
        let class = match input.form {
            Form::Model => 0,
            Form::Tokenizer => 1,
            Form::Argument => 2,
            Form::Any => 3,
            Form::WordNet => 4,
            _ => 5,
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

    fn look_here(&self, form: Form, path: &str) -> Result<Vec<(PathBuf, String, Digest)>, Box<Diagnostic>> {
        let full = self.root.join(path);
        let unreadable =
            |error: &dyn std::fmt::Display| Box::new(Diagnostic::new(format!("cannot read `{path}`: {error:#}")));
        let files = Files { root: self.root, pipeline: Some(self.pipeline) };
        let is_pattern = may_be_glob(form) && is_glob(path) && !(form == Form::Any && full.is_dir());
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
            Form::Model | Form::Tokenizer | Form::WordNet => {
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
    pub(super) fn saw(&self, path: &Path) {
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

    /// The files of a folder that are read in a form, and those of its parts' folders; `prefix` stands before their names.
    fn files_of(&self, form: Form, folder: &Path, prefix: &str, files: &mut Vec<FileEntry>) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let (entry, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
            let name = format!("{prefix}{}", entry.to_string_lossy());
            if form == Form::Model && prefix.is_empty() && is_part_folder(&name) && path.is_dir() {
                self.saw(&path);
                self.files_of(form, &path, &format!("{name}/"), files)?;
            }
            if is_read(form, &name) {
                // A link that leads nowhere may lead somewhere later.
                self.saw(&path);
            }
            if is_read(form, &name) && path.is_file() {
                let (digest, size) = self.store.digest_file(&path)?;
                files.push(FileEntry { path: name, digest, size });
            }
        }
        Ok(())
    }

    fn folder(&self, form: Form, folder: &Path) -> anyhow::Result<Digest> {
        let mut files = Vec::new();
        self.files_of(form, folder, "", &mut files)?;
        drop_pickles(&mut files);
        if files.is_empty() {
            let (what, such) = match form {
                Form::WordNet => ("a WordNet 3.0", "`index.noun`, `data.noun`"),
                _ => ("a model", "`config.json`, `tokenizer.json`"),
            };
            anyhow::bail!("the folder holds none of the files of {what} ({such}, …)");
        }
        Ok(digest_of(&files))
    }
}

/// Whether a pattern may stand for the path of such an input.
pub(super) fn may_be_glob(form: Form) -> bool {
    !matches!(form, Form::Model | Form::Tokenizer | Form::WordNet | Form::Argument)
}

pub(super) fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}
