//! `titer init`: a commented manifest to start from, and its schema for editors.

use super::project::Failure;
use super::{Exit, out};
use anyhow::Context as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What `init` writes.
const MANIFEST: &str = include_str!("experiment.toml");

pub(super) fn write(path: &Path, json: bool) -> Result<Exit, Failure> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("creating the folder `{}`", folder.display()))?;
    }
    // Never over a file that is there.
    let mut file = match std::fs::File::create_new(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(anyhow::anyhow!("`{}` exists already; name another file", path.display()).into());
        }
        Err(error) => return Err(anyhow::anyhow!("cannot write `{}`: {error}", path.display()).into()),
    };
    file.write_all(MANIFEST.as_bytes()).with_context(|| format!("writing `{}`", path.display()))?;
    let schema = write_schema(path)?;
    if json {
        out::json(&serde_json::json!({ "written": path, "schema": schema }));
    } else {
        out::say(format!("wrote {}; point it at your data, then: titer check {}", path.display(), path.display()));
    }
    Ok(Exit::Done)
}

/// The schema that the manifest's first line names, beside it: editors with Taplo in them complete and check by it. One
/// of another version of titer is replaced, anything else of that name is left alone.
fn write_schema(manifest: &Path) -> anyhow::Result<PathBuf> {
    let path = manifest.with_file_name("titer.schema.json");
    let schema = crate::manifest::schema();
    let is_ours = match std::fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|there| there["title"] == schema["title"])
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("reading `{}`", path.display())),
    };
    if is_ours {
        let text = format!("{schema:#}\n");
        std::fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))?;
    }
    Ok(path)
}
