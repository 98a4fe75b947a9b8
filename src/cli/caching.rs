//! Where the cache is, and how it is shared with other processes.

use super::out;
use super::root::{root_here, root_of};
use crate::settings::Seconds;
use crate::store::{Settings, Store};
use anyhow::{Result, bail};
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
        let cache = root_here()?.join("cache");
        if is_cache(&cache) {
            return Ok(out::relative_to_here(&cache));
        }
        // Something may lie higher up that no mark leads to.
        let above = cache.ancestors().skip(2).map(|folder| folder.join("cache")).find(is_cache);
        let near = above.map(|above| format!(" (there is one in `{}`)", out::relative_to_here(&above).display()));
        let cache = out::relative_to_here(&cache);
        bail!(
            "there is no cache in `{}`{}; name a manifest, or the cache with `--cache DIR`",
            cache.display(),
            near.unwrap_or_default()
        );
    }

    /// Opens the cache in a folder to look at it; one that is not there is empty, and is not made.
    pub(super) fn look(&self, folder: &Path) -> Result<Store> {
        Ok(Store::look_with(folder, self.settings())?)
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
        Ok(Store::open_with(folder, self.settings())?)
    }

    fn settings(&self) -> Settings {
        let patience = self.patience.map_or(Settings::default().patience, Seconds::duration);
        Settings { locks: !self.no_locks, patience }
    }
}
