//! Whose a pipeline's name is. Two manifests of one name would take each other's results out of `out/NAME`, and be one
//! section of the lock.

use super::project::{Failure, Project, from_root, read_text};
use crate::diagnostic::{Diagnostic, Sources};
use crate::manifest::{self, Overrides};
use std::fs;
use std::path::Path;

/// Takes the name for the project's manifest.
///
/// # Errors
/// If another manifest has it, which is still there and is still called so.
pub(super) fn claim(project: &Project) -> Result<(), Failure> {
    let Project { root, manifest, store, pipeline, .. } = project;
    let (name, own) = (&pipeline.name, from_root(root, manifest));
    let before = store.owner(name);
    if before.as_ref() == Some(&own) {
        return Ok(());
    }
    if let Some(before) = before.filter(|before| is_another(&root.join(before), manifest, name)) {
        let out = root.join("out").join(name);
        let message = format!(
            "`{before}` is called `{name}` too: both would show their results in `{}`, and be locked as one",
            out.display()
        );
        let problem = Diagnostic::in_file(manifest, None, message);
        let hint = format!("give one of them another name: `name = \"{name}-2\"`");
        return Err(project.failure(vec![problem.hint(hint)]));
    }
    // Not being able to costs the other one this message.
    let _ = store.set_owner(name, &own);
    Ok(())
}

/// Whether there is such a manifest, and it is another one of that name. Of one with mistakes that is not known, and it
/// is believed to be so.
fn is_another(other: &Path, own: &Path, name: &str) -> bool {
    let place = |path: &Path| fs::canonicalize(path).ok();
    let read = |path: &str| read_text(path);
    let load = || manifest::load(&other.display().to_string(), &read, &Overrides::default(), &mut Sources::default());
    other.is_file() && place(other) != place(own) && load().map_or(true, |pipeline| pipeline.name == name)
}
