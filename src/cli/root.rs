//! The root of a project: the folder that paths in its manifests are relative to, with `cache/` and `out/` in it.
//!
//! One rule for all commands. From the manifest's folder upwards (from the current folder, where a command is given no
//! manifest), the root is the nearest folder that holds
//!
//! - a folder `pipelines`: so it is found from `pipelines/`, `pipelines/more/`, `experiments/deep/` and `data/` alike; or
//! - a file `.titer-root`, for a project that keeps its manifests elsewhere, or lies within another.
//!
//! What lies above the top of a git repository is no part of the project. Where nothing marks a root, it is the folder
//! itself. Nothing that a run makes has a say: a cache that is removed moves no path.

use super::out;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// The folder and the file that mark a root.
const PIPELINES: &str = "pipelines";
const MARKER: &str = ".titer-root";

/// The root of the project that a manifest belongs to.
pub(super) fn root_of(manifest: &Path) -> anyhow::Result<PathBuf> {
    let full = std::path::absolute(manifest).with_context(|| format!("finding `{}`", manifest.display()))?;
    let folder = full.parent().unwrap_or(Path::new("/"));
    // Shorter in messages, and the same place.
    Ok(out::relative_to_here(root_above(folder)))
}

/// The root of the project around the current folder, absolute.
pub(super) fn root_here() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("finding the current folder")?;
    Ok(root_above(&here).to_path_buf())
}

fn root_above(folder: &Path) -> &Path {
    for above in folder.ancestors() {
        if above.join(PIPELINES).is_dir() || above.join(MARKER).is_file() {
            return above;
        }
        if above.join(".git").exists() {
            break;
        }
    }
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mark_counts_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in
            ["p/pipelines/more", "p/exp/deep", "p/data", "p/inner", "p/repo/.git", "p/repo/exp", "q/exp/cache"]
        {
            std::fs::create_dir_all(path(folder)).unwrap();
        }
        std::fs::write(path("p/inner/.titer-root"), "").unwrap();
        std::fs::write(path("q/exp/cache/VERSION"), "1\n").unwrap();
        for (folder, root) in [
            ("p", "p"),
            ("p/pipelines", "p"),
            ("p/pipelines/more", "p"),
            ("p/exp/deep", "p"),
            ("p/data", "p"),
            ("p/inner", "p/inner"),
            ("p/repo", "p/repo"),
            ("p/repo/exp", "p/repo/exp"),
            ("q/exp", "q/exp"),
            ("q/exp/cache", "q/exp/cache"),
        ] {
            assert_eq!(root_above(&path(folder)), path(root), "{folder}");
        }
    }
}
