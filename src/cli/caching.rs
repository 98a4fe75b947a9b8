//! Where the cache is, and how it is shared with other processes.

use super::out;
use super::project::root_of;
use crate::settings::Seconds;
use crate::store::{Settings, Store};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::FalseyValueParser;
use std::path::{Path, PathBuf};

/// What a call says of the cache.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Caching {
    /// The cache folder [default: `cache` in the project's root]
    #[arg(long, global = true, env = "TITER_CACHE", value_name = "DIR")]
    pub(super) cache: Option<PathBuf>,
    /// A second cache that machines share: a folder, `s3://bucket/prefix`, or `none` [default: `[cache] shared` of the
    /// manifest]
    #[arg(long, global = true, env = "TITER_SHARED", value_name = "ADDRESS")]
    pub(super) shared: Option<String>,
    /// Trust no lock of the file system: of what other processes do, only their heartbeats tell
    #[arg(long, global = true, hide = true, env = "TITER_NO_LOCKS", value_parser = FalseyValueParser::new())]
    no_locks: bool,
    /// How long a process is waited for that shows no sign of life
    #[arg(long, global = true, hide = true, env = "TITER_PATIENCE", value_name = "TIME")]
    patience: Option<Seconds>,
}

impl Caching {
    /// The cache of a manifest, which need not be read for that.
    pub(super) fn of(&self, manifest: &Path) -> Result<PathBuf> {
        self.cache.clone().map_or_else(|| Ok(root_of(manifest)?.join("cache")), Ok)
    }

    /// The cache that the call names, else that of the project around the current folder.
    pub(super) fn here(&self) -> Result<PathBuf> {
        let is_cache = |folder: &PathBuf| folder.join("VERSION").is_file();
        if let Some(cache) = &self.cache {
            if !is_cache(cache) {
                bail!("there is no cache in `{}`; name it with `--cache DIR`", cache.display());
            }
            return Ok(cache.clone());
        }
        let here = std::env::current_dir().context("finding the current folder")?;
        let found = here.ancestors().map(|folder| folder.join("cache")).find(is_cache);
        let cache = found.with_context(|| {
            let here = out::relative_to_here(&here.join("cache"));
            format!("there is no cache in `{}`; name a manifest, or the cache with `--cache DIR`", here.display())
        })?;
        Ok(out::relative_to_here(&cache))
    }

    /// The same, or where a cache of a project in the current folder would be.
    pub(super) fn here_or_new(&self) -> Result<PathBuf> {
        match (&self.cache, self.here()) {
            (Some(cache), _) => Ok(cache.clone()),
            (None, Err(_)) if Path::new("pipelines").is_dir() => Ok(PathBuf::from("cache")),
            (None, found) => found,
        }
    }

    /// Opens the cache in a folder.
    pub(super) fn open(&self, folder: &Path) -> Result<Store> {
        let patience = self.patience.map_or(Settings::default().patience, Seconds::duration);
        Ok(Store::open_with(folder, Settings { locks: !self.no_locks, patience })?)
    }
}
