//! Paths at which there is nothing, or something else: what is said of them.

use super::finder::{is_glob, may_be_glob};
use crate::address::Address;
use crate::diagnostic::{Diagnostic, Place, closest};
use crate::manifest::{NamedPath, Pipeline};
use crate::stage::Form;
use std::path::Path;

/// The files of a project, and the stages that a path may have been meant to name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files<'a> {
    pub(super) root: &'a Path,
    /// None, if it has mistakes.
    pub(super) pipeline: Option<&'a Pipeline>,
}

/// What is wrong with the paths that a manifest with mistakes names, as far as a look at the disk tells: nothing is read.
pub fn absent(root: &Path, paths: &[NamedPath]) -> Vec<Diagnostic> {
    let files = Files { root, pipeline: None };
    let problem = |named: &NamedPath| {
        let problem = match is_glob(&named.path) && may_be_glob(named.form) {
            true => glob::glob(&root.join(&named.path).to_string_lossy())
                .is_ok_and(|mut found| found.next().is_none())
                .then(|| files.no_match(&named.path)),
            false => files.absent(named.form, &named.path),
        };
        problem.map(|problem| Diagnostic { place: Some(Place::Span(named.span)), ..problem })
    };
    // What is elsewhere is not looked for on the disk.
    let is_here = |named: &&NamedPath| named.form == Form::Argument || !Address::is_meant(&named.path);
    paths.iter().filter(is_here).filter_map(problem).collect()
}

impl Files<'_> {
    /// What is wrong with a path that is no glob. `None`: what is read in this form is there.
    pub(super) fn absent(&self, form: Form, path: &str) -> Option<Diagnostic> {
        let full = self.root.join(path);
        match form {
            Form::Model | Form::Tokenizer | Form::WordNet if !full.is_dir() => {
                let what = match form {
                    Form::Model => "model",
                    Form::Tokenizer => "tokenizer",
                    _ => "WordNet",
                };
                let problem = Diagnostic::new(format!("there is no {what} folder `{path}`"));
                Some(problem.hint(self.not_found(path)))
            }
            // A word of a command that is no file of the project is only a word.
            Form::Model | Form::Tokenizer | Form::WordNet | Form::Argument => None,
            Form::Any if full.is_dir() => None,
            _ if full.is_dir() => {
                let problem = Diagnostic::new(format!("`{path}` is a folder: expected a file"));
                let files = format!("{}/*.jsonl", path.trim_end_matches('/'));
                Some(problem.hint(format!("where a glob may stand, it names its files: `{files}`")))
            }
            _ if !full.is_file() => {
                Some(Diagnostic::new(format!("there is no file `{path}`")).hint(self.not_found(path)))
            }
            _ => None,
        }
    }

    pub(super) fn no_match(&self, pattern: &str) -> Diagnostic {
        Diagnostic::new(format!("no file matches `{pattern}`")).hint(self.relative_to())
    }

    /// What may have been meant by a path that is not there.
    fn not_found(&self, path: &str) -> String {
        if path.starts_with('~') {
            return "`~` is known to shells only: write the whole path".to_string();
        }
        let stages = self.pipeline.iter().flat_map(|pipeline| &pipeline.stages);
        let stages: Vec<String> = stages.map(|stage| format!("{}.{}", stage.kind, stage.name)).collect();
        let called = |stage: &&str| stage.split('.').any(|part| part == path);
        let near = || closest(path, stages.iter().map(String::as_str));
        let stage = stages.iter().map(String::as_str).find(called).or_else(near).filter(|_| !path.contains('/'));
        match stage {
            Some(stage) => format!("did you mean the stage `{stage}`? {}", self.relative_to()),
            None => self.relative_to(),
        }
    }

    fn relative_to(&self) -> String {
        let root = std::path::absolute(self.root).unwrap_or_else(|_| self.root.to_path_buf());
        format!("paths are relative to `{}`", root.display())
    }
}
