//! Whose a pipeline's name is. Two manifests of one name would take each other's results out of `out/NAME`, and be one
//! section of the lock.

use super::project::{Failure, Project, from_root, read_text};
use crate::diagnostic::{Diagnostic, Sources};
use crate::manifest;
use std::fs;
use std::path::{Path, PathBuf};

/// The file in `out/NAME` that says whose results are there.
const OWNER: &str = ".manifest";

/// Takes the folder in which the project's results are shown for its manifest.
///
/// # Errors
/// If another manifest has it, which is still there and still has that name.
pub(super) fn claim(project: &Project) -> Result<(), Failure> {
    let name = &project.pipeline.name;
    let folder = folder(&project.root, name);
    let own = from_root(&project.root, &project.manifest);
    let before = fs::read_to_string(folder.join(OWNER)).unwrap_or_default();
    let before = before.trim_end();
    if before == own {
        return Ok(());
    }
    let other = project.root.join(before);
    if !before.is_empty() && !is_same(&other, &project.manifest) && is_called(&other, name) {
        let message = format!(
            "`{before}` is called `{name}` too: both would show their results in `{}`, and be locked as one",
            folder.display()
        );
        let problem = Diagnostic::in_file(&project.manifest, None, message);
        return Err(
            project.failure(vec![problem.hint(format!("give one of them another name: `name = \"{name}-2\"`"))])
        );
    }
    // Not being able to costs the next one this message.
    let _ = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(OWNER), format!("{own}\n")));
    Ok(())
}

/// Lets go of the folder.
pub(super) fn release(project: &Project) {
    let _ = fs::remove_file(folder(&project.root, &project.pipeline.name).join(OWNER));
}

fn folder(root: &Path, name: &str) -> PathBuf {
    root.join("out").join(name)
}

fn is_same(one: &Path, other: &Path) -> bool {
    fs::canonicalize(one).ok().zip(fs::canonicalize(other).ok()).is_some_and(|(one, other)| one == other)
}

/// Whether there is a manifest with that name; of one with mistakes that is not known, and it is believed to be so.
fn is_called(manifest: &Path, name: &str) -> bool {
    let read = |path: &str| read_text(path);
    let loaded = manifest::load(
        &manifest.display().to_string(),
        &read,
        &manifest::Overrides::default(),
        &mut Sources::default(),
    );
    manifest.is_file() && loaded.map_or(true, |pipeline| pipeline.name == name)
}
