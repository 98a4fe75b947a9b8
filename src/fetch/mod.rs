//! Models and files of other machines, brought into the cache: from a hub of models, or from any server.
//!
//! Knows addresses, the store and the files that a model is made of; not stages, not pipelines.

mod hub;
#[cfg(test)]
mod tests;
mod web;

use crate::address::{Address, ENDPOINT, Extent, Place};
use crate::record::FileEntry;
use crate::store::{Fetched, Store};
use anyhow::{Context as _, bail, ensure};
use reqwest::Url;
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use web::{Trouble, Web, is_safe};

/// A secret; it shows itself nowhere.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes the value of a variable.
    ///
    /// # Errors
    /// If it cannot be a token.
    pub fn new(value: &str) -> anyhow::Result<Self> {
        let value = value.trim();
        ensure!(!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()), "it holds no token");
        Ok(Self(value.to_string()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How to fetch.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub's address.
    pub endpoint: Url,
    /// What opens the hub's closed doors.
    pub token: Option<Token>,
    /// The variable that the token comes from, for messages.
    pub token_name: String,
    /// The first pause before another try.
    pub pause: Duration,
    /// How long a server may be silent.
    pub silence: Duration,
}

impl Settings {
    /// Reads the hub's address.
    ///
    /// # Errors
    /// If it is none.
    pub fn new(endpoint: &str, token: Option<Token>, token_name: &str) -> anyhow::Result<Self> {
        let url = Url::parse(&format!("{}/", endpoint.trim_end_matches('/'))).ok();
        let endpoint = url
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty())
            .with_context(|| format!("`{endpoint}` is no address of a hub: `{ENDPOINT}`"))?;
        let token_name = token_name.to_string();
        Ok(Self { endpoint, token, token_name, pause: Duration::from_millis(500), silence: Duration::from_secs(60) })
    }

    /// The token, where it may go.
    fn token_for(&self, url: &Url) -> Option<&str> {
        let is_hub = url.origin() == self.endpoint.origin() && is_safe(url);
        self.token.as_ref().filter(|_| is_hub).map(|token| token.0.as_str())
    }
}

/// What is known of a file before it comes.
#[derive(Clone, Debug, Default)]
struct Expected {
    size: Option<u64>,
    /// In hexadecimal digits.
    sha256: Option<String>,
    /// Git's hash of the file as a blob.
    git: Option<String>,
}

/// A file that is to be fetched.
#[derive(Clone, Debug)]
struct Wanted {
    /// What readers call it.
    name: String,
    url: Url,
    expected: Expected,
}

/// How far a fetching is.
#[derive(Clone, Debug, Serialize)]
pub struct Told<'a> {
    /// The file on its way.
    pub file: &'a str,
    /// Bytes that are here, of all files.
    pub done: u64,
    /// Bytes in all, if that is known.
    pub total: Option<u64>,
}

/// Brings what is elsewhere into a cache.
#[derive(Debug)]
pub struct Fetcher<'a> {
    store: &'a Store,
    settings: Settings,
    web: Web,
    stop: Arc<AtomicBool>,
}

impl<'a> Fetcher<'a> {
    /// Fetches until `stop` is set.
    ///
    /// # Errors
    /// If the system gives no means for it.
    pub fn new(store: &'a Store, settings: Settings, stop: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let web = Web::new(settings.clone(), Arc::clone(&stop))?;
        Ok(Self { store, settings, web, stop })
    }

    /// The address with the commit that its branch is at now.
    ///
    /// # Errors
    /// If the hub does not know it, or cannot be asked.
    pub fn pin(&self, address: &Address) -> anyhow::Result<Address> {
        match &address.place {
            Place::Hub(repository) if !repository.is_pinned() => {
                let revision = Some(hub::Listing::read(self, address, repository)?.commit);
                let repository = crate::address::Repository { revision, ..repository.clone() };
                Ok(Address { place: Place::Hub(repository), ..address.clone() })
            }
            _ => Ok(address.clone()),
        }
    }

    /// Brings what is at an address, if it is not here, and keeps a record of it.
    ///
    /// # Errors
    /// If there is no such thing, it cannot be reached or read, or has other bytes than it should.
    pub fn fetch(&self, address: &Address, extent: Extent, told: &mut dyn FnMut(&Told<'_>)) -> anyhow::Result<Fetched> {
        if let Some(found) = self.store.fetched(address, extent)?.filter(|found| self.store.has_fetched(found)) {
            return Ok(found);
        }
        let wanted = match &address.place {
            Place::Hub(repository) => hub::files(self, address, repository, extent)?,
            Place::Web(url) => {
                let url = Url::parse(url).with_context(|| format!("`{url}` is no address"))?;
                match extent {
                    Extent::File => vec![self.alone(address, url)],
                    _ => return self.folder(address, &url, extent, told),
                }
            }
        };
        let total = wanted.iter().map(|file| file.expected.size).sum::<Option<u64>>();
        let (mut files, mut done) = (Vec::new(), 0);
        for file in &wanted {
            let tell = &mut |length| told(&Told { file: &file.name, done: done + length, total });
            let entry = self.bring(address, file, tell)?;
            let entry = entry.with_context(|| format!("`{address}`: the hub lists `{}`, but has it not", file.name))?;
            done += entry.size;
            files.push(entry);
        }
        self.keep(address, extent, files)
    }

    /// A file on any server.
    fn alone(&self, address: &Address, url: Url) -> Wanted {
        Wanted { name: address.name().to_string(), url, expected: Expected::default() }
    }

    /// A model on a server that lists nothing: its files are asked for by their names.
    fn folder(
        &self,
        address: &Address,
        url: &Url,
        extent: Extent,
        told: &mut dyn FnMut(&Told<'_>),
    ) -> anyhow::Result<Fetched> {
        let mut files: Vec<FileEntry> = Vec::new();
        let mut done = 0;
        let mut get = |name: &str| -> anyhow::Result<Option<FileEntry>> {
            let mut url = url.clone();
            let path = format!("{}/{name}", url.path().trim_end_matches('/'));
            url.set_path(&path);
            let file = Wanted { name: name.to_string(), url, expected: Expected::default() };
            let entry = self.bring(address, &file, &mut |length| {
                told(&Told { file: name, done: done + length, total: None });
            })?;
            done += entry.as_ref().map_or(0, |entry| entry.size);
            Ok(entry)
        };
        for name in hub::SMALL_FILES {
            files.extend(get(name)?);
        }
        let has = |files: &[FileEntry], name: &str| files.iter().any(|file| file.path == name);
        if !has(&files, "config.json") && !has(&files, "adapter_config.json") {
            bail!("`{address}` is no model: there is no `config.json`");
        }
        for (single, index) in hub::WEIGHTS {
            if let Some(file) = get(single)? {
                files.push(file);
                break;
            }
            if let Some(file) = get(index)? {
                for shard in self.shards(address, &file)? {
                    let found = get(&shard)?;
                    files.push(
                        found.with_context(|| format!("`{address}`: `{index}` names `{shard}`, which is not there"))?,
                    );
                }
                files.push(file);
                break;
            }
        }
        self.keep(address, extent, files)
    }

    /// The shards that an index names.
    fn shards(&self, address: &Address, index: &FileEntry) -> anyhow::Result<Vec<String>> {
        let text = std::fs::read(self.store.path(&index.digest))?;
        let names = crate::tensors::shards(&text).map_err(anyhow::Error::msg);
        names.with_context(|| format!("`{address}`: `{}` cannot be used", index.path))
    }

    /// Brings one file; none if it is not there.
    fn bring(&self, address: &Address, file: &Wanted, told: &mut dyn FnMut(u64)) -> anyhow::Result<Option<FileEntry>> {
        if let Some(entry) = self.known(address, &file.name)? {
            return Ok(Some(entry));
        }
        let partial = self.store.partial(&format!("{} {}", address.bare(), file.name))?;
        let _turn = self.turn(&partial)?;
        // Another process may have brought it meanwhile.
        if let Some(entry) = self.known(address, &file.name)? {
            return Ok(Some(entry));
        }
        match self.web.download(&file.url, &partial, &file.expected, told) {
            Ok(()) => {}
            Err(Trouble::Refused(status)) if status.as_u16() == 404 => {
                let _ = std::fs::remove_file(&partial);
                return match (&address.place, file.name == address.name()) {
                    (Place::Web(_), true) => bail!("`{address}` is not there (404 Not Found)"),
                    _ => Ok(None),
                };
            }
            Err(trouble) => return Err(self.explain(trouble, address, &file.name)),
        }
        Ok(Some(self.store.keep_file(&partial, &file.name)?))
    }

    /// A file that came with another part of the same address.
    fn known(&self, address: &Address, name: &str) -> anyhow::Result<Option<FileEntry>> {
        for extent in [Extent::Model, Extent::Tokenizer, Extent::File] {
            let files = self.store.fetched(address, extent)?.map(|fetched| fetched.files).unwrap_or_default();
            let entry = files.into_iter().find(|file| file.path == name && self.store.has(&file.digest, file.size));
            if entry.is_some() {
                return Ok(entry);
            }
        }
        Ok(None)
    }

    /// One process at a time brings a file. Where files cannot be locked, luck must do: it is proven in the end.
    fn turn(&self, partial: &Path) -> anyhow::Result<Option<File>> {
        let lock = partial.with_extension("lock");
        let file = File::create(&lock).with_context(|| format!("cannot write `{}`", lock.display()))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(std::fs::TryLockError::WouldBlock) if !self.stop.load(Ordering::SeqCst) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(_) => return Ok(None),
            }
        }
    }

    /// Keeps a record, if the bytes are those of the address.
    fn keep(&self, address: &Address, extent: Extent, files: Vec<FileEntry>) -> anyhow::Result<Fetched> {
        let fetched = Fetched::new(address, extent, files);
        // Of a tokenizer alone the digest of the model says nothing; a hub has proven each of its files.
        if let Some(digest) = address.digest.filter(|_| extent != Extent::Tokenizer) {
            let found = fetched.digest();
            ensure!(
                found == digest,
                "`{}` has other bytes than its digest says: {found}, not {digest}",
                address.bare()
            );
        }
        self.store.keep_fetched(address, &fetched)?;
        Ok(fetched)
    }

    /// For people: what was wrong, and what can be done about it.
    fn explain(&self, trouble: Trouble, address: &Address, file: &str) -> anyhow::Error {
        let what = if file == address.name() { format!("`{address}`") } else { format!("`{address}` ({file})") };
        let is_hub = matches!(address.place, Place::Hub(_));
        match trouble {
            Trouble::Refused(status) if is_hub && matches!(status.as_u16(), 401 | 403) => {
                let name = &self.settings.token_name;
                let token = match &self.settings.token {
                    None => format!("{name} holds no token that could be shown"),
                    Some(_) => format!("the token in {name} does not open it"),
                };
                anyhow::anyhow!(
                    "{what}: the hub answers {status}: it is not there, or not for everybody, and {token}; models with \
                     terms want them accepted on their page first"
                )
            }
            Trouble::Refused(status) if is_hub && status.as_u16() == 404 => {
                anyhow::anyhow!("{what}: the hub knows no such repository or revision (404)")
            }
            trouble => trouble.explain(&what),
        }
    }
}
