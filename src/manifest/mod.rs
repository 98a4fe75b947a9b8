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

use crate::diagnostic::{Diagnostic, Problems, Sources};

/// What the command line changes of a manifest.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Parameters and their new values: TOML, or a bare text.
    pub params: Vec<(String, String)>,
    /// Axes and the values that they have instead, separated by commas; of an axis with fields, those that stay.
    pub axes: Vec<(String, String)>,
    /// The `[variant.NAME]` to use.
    pub variant: Option<String>,
}

/// Reads the text of a manifest; `Err` says why it cannot be read.
pub type ReadText<'a> = &'a dyn Fn(&str) -> Result<String, Diagnostic>;

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
    let mut problems = Problems::default();
    let pipeline = document::read(name, read, overrides, sources, &mut problems)
        .and_then(|document| expand::expand(&document, &mut problems));
    match pipeline {
        Some(pipeline) if problems.is_empty() => Ok(pipeline),
        _ => Err(problems.into_vec()),
    }
}

#[cfg(test)]
mod tests;
