//! The folder of an export: a new one, or that of an earlier export, which is replaced file by file. What others put into it
//! stays; a folder that is not ours is never written to.

use crate::report::export::File;
use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path};

/// Says that the folder is one of ours, and which files in it are.
const MARKER: &str = "titer-export.json";

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    to: String,
    files: BTreeSet<String>,
}

/// Writes the files of an export.
pub(super) fn write(folder: &Path, to: &str, files: &[File]) -> anyhow::Result<()> {
    let shown = folder.display();
    let earlier = earlier(folder, to)?;
    let new: BTreeSet<String> = files.iter().map(|file| file.path.clone()).collect();
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{shown}`"))?;
    // What is killed on the way is still known as an export.
    mark(folder, to, earlier.union(&new).cloned().collect())?;
    for file in files {
        let path = folder.join(&file.path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| replace(&path, &file.bytes));
        written.with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    for path in earlier.difference(&new).filter(|path| is_below(path)) {
        remove(folder, path);
    }
    mark(folder, to, new)
}

/// The files of an earlier export to the same program.
fn earlier(folder: &Path, to: &str) -> anyhow::Result<BTreeSet<String>> {
    let shown = folder.display();
    let is_empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("`{shown}` cannot be written to as a folder")),
    };
    if is_empty {
        return Ok(BTreeSet::new());
    }
    let marker = fs::read(folder.join(MARKER)).ok().and_then(|bytes| serde_json::from_slice::<Marker>(&bytes).ok());
    let Some(marker) = marker else {
        bail!("`{shown}` holds what `titer export` has not written: name a new folder");
    };
    ensure!(marker.to == to, "`{shown}` is an export to {}: name another folder for {to}", marker.to);
    Ok(marker.files)
}

fn mark(folder: &Path, to: &str, files: BTreeSet<String>) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(&Marker { format: 1, to: to.to_string(), files })?;
    replace(&folder.join(MARKER), &text).with_context(|| format!("cannot write to `{}`", folder.display()))
}

/// Whoever reads the folder meanwhile sees a file as it was or as it is, never half of it.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".titer-").tempfile_in(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    // Temporary files are for their owner alone; these are to be read like any other.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Takes away what this export has no more, with the folders that are empty then.
fn remove(folder: &Path, path: &str) {
    let _ = fs::remove_file(folder.join(path));
    let parents = Path::new(path).ancestors().skip(1).take_while(|parent| !parent.as_os_str().is_empty());
    for parent in parents {
        if fs::remove_dir(folder.join(parent)).is_err() {
            break;
        }
    }
}

/// A list that somebody else has written must not lead out of the folder.
fn is_below(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = glob::glob(&format!("{}/**/*", folder.display()))
            .unwrap()
            .flatten()
            .filter(|path| path.is_file())
            .map(|path| path.strip_prefix(folder).unwrap().display().to_string())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_export_is_replaced_and_what_others_wrote_stays() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        write(&folder, "x", &[File::new("one/1", "1"), File::new("two/2", "2")]).unwrap();
        assert_eq!(names(&folder), ["one/1", "titer-export.json", "two/2"]);
        fs::write(folder.join("two/note"), "mine").unwrap();
        write(&folder, "x", &[File::new("one/1", "new")]).unwrap();
        assert_eq!(names(&folder), ["one/1", "titer-export.json", "two/note"]);
        assert_eq!(fs::read_to_string(folder.join("one/1")).unwrap(), "new");
        let error = write(&folder, "y", &[]).unwrap_err().to_string();
        assert!(error.contains("is an export to x: name another folder for y"), "{error}");
    }

    #[test]
    fn a_foreign_folder_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("thesis"), "all").unwrap();
        let error = write(base.path(), "x", &[File::new("thesis", "")]).unwrap_err().to_string();
        assert!(error.contains("holds what `titer export` has not written: name a new folder"), "{error}");
        assert_eq!(fs::read_to_string(base.path().join("thesis")).unwrap(), "all");
        let error = format!("{:#}", write(&base.path().join("thesis"), "x", &[]).unwrap_err());
        assert!(error.contains("cannot be written to as a folder"), "{error}");
        // A list that lies takes nothing away elsewhere.
        let folder = base.path().join("export");
        fs::create_dir(&folder).unwrap();
        mark(&folder, "x", ["../thesis".to_string(), "/etc/none".to_string()].into()).unwrap();
        write(&folder, "x", &[]).unwrap();
        assert_eq!(names(base.path()), ["export/titer-export.json", "thesis"]);
    }
}
