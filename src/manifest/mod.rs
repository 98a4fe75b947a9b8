//! Manifests: text → checked pipeline of concrete instances, or all mistakes at once.
//!
//! The way is one: the document as written, with what it extends (`extend`, `document`), its axes and placeholders filled in per combination of axis
//! values (`expand`), each instance's references resolved to other instances (`resolve`). Knows no files but the
//! manifest's text; what a stage's settings mean is [`crate::stage`]'s.

mod axes;
mod cache;
mod document;
pub mod edit;
mod expand;
mod extend;
mod instance;
mod placeholder;
mod resolve;
mod schema;
mod selector;

pub use cache::CacheSettings;
pub use instance::{AxisValue, Instance, InstanceId, Pipeline, ResolvedInput, Source, StageSummary};
pub use schema::schema;
pub use selector::{Selector, select};

use crate::diagnostic::{Diagnostic, Problems, Sources, Span};
use crate::stage::{Form, Require};

/// What the command line changes of a manifest.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Parameters and their new values: TOML, or a bare text.
    pub params: Vec<(String, String)>,
    /// Axes and the values that they have instead, separated by commas; of an axis with fields, those that stay.
    pub axes: Vec<(String, String)>,
    /// The `[variant.NAME]` to use.
    pub variant: Option<String>,
    /// What results must have been made on, instead of what the manifest says of all.
    pub require: Option<Require>,
}

/// Reads the text of a manifest; `Err` says why it cannot be read.
pub type ReadText<'a> = &'a dyn Fn(&str) -> Result<String, Diagnostic>;

/// A manifest with mistakes.
#[derive(Clone, Debug)]
pub struct Refused {
    /// All of them, in the order of their places.
    pub problems: Vec<Diagnostic>,
    /// The files that its stages name, as far as they could be read, for who wants to look whether they are there.
    pub paths: Vec<NamedPath>,
}

/// A path that a stage reads.
#[derive(Clone, Debug)]
pub struct NamedPath {
    /// In what form.
    pub form: Form,
    /// Relative to the project's root.
    pub path: String,
    /// Where the manifest says so.
    pub span: Span,
}

/// Loads the manifest at the path `name` and those that it extends. Its stem is the pipeline's name where the text
/// gives none.
///
/// # Errors
/// All mistakes, in the order of their places.
pub fn load(
    name: &str,
    read: ReadText<'_>,
    overrides: &Overrides,
    sources: &mut Sources,
) -> Result<Pipeline, Vec<Diagnostic>> {
    load_or_tell(name, read, overrides, sources).map_err(|refused| refused.problems)
}

/// As [`load`], for who looks at the person's files too.
///
/// # Errors
/// If there are mistakes.
pub fn load_or_tell(
    name: &str,
    read: ReadText<'_>,
    overrides: &Overrides,
    sources: &mut Sources,
) -> Result<Pipeline, Refused> {
    let (mut problems, mut paths) = (Problems::default(), Vec::new());
    let pipeline = document::read(name, read, overrides, sources, &mut problems)
        .and_then(|document| expand::expand(&document, &mut paths, &mut problems));
    match pipeline {
        Some(pipeline) if problems.is_empty() => Ok(pipeline),
        _ => Err(Refused { problems: problems.into_vec(), paths }),
    }
}

#[cfg(test)]
mod tests;
