//! What is kept of a pipeline from one run to the next: its keys, whose results are shown, and what its work took.

use super::error::{At, Result};
use super::{Store, file, make_folder};
use crate::journal::Times;
use crate::key::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

impl Store {
    /// Keys of a pipeline's last run by instance; empty if there was none.
    pub fn last_run(&self, pipeline: &str) -> Result<BTreeMap<String, Digest>> {
        let path = self.pipeline_path(pipeline);
        let Some(bytes) = file::read_if_there(&path)? else { return Ok(BTreeMap::new()) };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            self.warn(format!("`{}` is damaged and not used: {error}", path.display()));
            BTreeMap::new()
        }))
    }

    /// Keys of the last runs of all pipelines by instance. What cannot be read is left out.
    pub fn last_runs(&self) -> Vec<BTreeMap<String, Digest>> {
        let entries = fs::read_dir(self.root.join("pipelines")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths.iter().filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect()
    }

    /// Keeps the keys of a pipeline's last run; writes nothing if they are those of the run before.
    pub fn set_last_run(&self, pipeline: &str, keys: &BTreeMap<String, Digest>) -> Result<()> {
        let path = self.pipeline_path(pipeline);
        let mut text = serde_json::to_vec_pretty(keys).map_err(io::Error::other).at("write", &path)?;
        text.push(b'\n');
        if file::read_if_there(&path)?.is_some_and(|old| old == text) {
            return Ok(());
        }
        file::replace(&path, &text, &self.temporary()?)
    }

    /// The manifest that a pipeline's results are shown for, as it was called the last time.
    pub fn owner(&self, pipeline: &str) -> Option<String> {
        fs::read_to_string(self.owner_path(pipeline)).ok().map(|text| text.trim_end().to_string())
    }

    /// Keeps that.
    pub fn set_owner(&self, pipeline: &str, manifest: &str) -> Result<()> {
        file::replace(&self.owner_path(pipeline), format!("{manifest}\n").as_bytes(), &self.temporary()?)
    }

    fn owner_path(&self, pipeline: &str) -> PathBuf {
        self.pipeline_path(pipeline).with_extension("manifest")
    }

    pub(super) fn pipeline_path(&self, pipeline: &str) -> PathBuf {
        self.root.join("pipelines").join(format!("{}.json", file::path_part(pipeline)))
    }

    /// What the work of a pipeline took. A table that cannot be read counts as empty, with a warning.
    pub fn times(&self, pipeline: &str) -> Result<Times> {
        let path = self.times_path(pipeline);
        let Some(bytes) = file::read_if_there(&path)? else { return Ok(Times::default()) };
        Ok(Times::parse(&bytes).unwrap_or_else(|reason| {
            self.warn(format!("`{}` is damaged and not used: {reason}", path.display()));
            Times::default()
        }))
    }

    /// Keeps what the work of a pipeline took.
    pub fn set_times(&self, pipeline: &str, times: &Times) -> Result<()> {
        let path = self.times_path(pipeline);
        make_folder(&self.root.join("times"))?;
        let text = serde_json::to_vec(times).map_err(io::Error::other).at("write", &path)?;
        file::replace(&path, &text, &self.temporary()?)
    }

    fn times_path(&self, pipeline: &str) -> PathBuf {
        self.root.join("times").join(format!("{}.json", file::path_part(pipeline)))
    }
}
