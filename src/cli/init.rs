//! `titer init`: a commented manifest to start from.

use super::project::Failure;
use super::{Exit, out};
use anyhow::Context as _;
use std::io::Write as _;
use std::path::Path;

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
    if json {
        out::json(&serde_json::json!({ "written": path }));
    } else {
        out::say(format!("wrote {}; point it at your data, then: titer check {}", path.display(), path.display()));
    }
    Ok(Exit::Done)
}
