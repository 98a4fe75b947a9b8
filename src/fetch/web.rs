//! Single files from servers: retried, resumed, redirected, proven.
//!
//! What the first answer leaves out the next one brings: a file on its way is appended to, across processes too. A secret
//! goes to the host that it is for, over TLS or to this machine, and to no other that a server may send one on to.

use super::{Expected, Settings};
use crate::address::is_this_machine;
use crate::http::{self, host};
use anyhow::Context as _;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_RANGE, LOCATION, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Servers in a row that one may be sent on to.
const MOST_REDIRECTS: usize = 10;
/// Tries in a row that brought nothing.
const MOST_TRIES: u32 = 5;
/// A server may ask for no longer pause than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Until it is seen that all is to stop.
const GLANCE: Duration = Duration::from_millis(50);
/// A longer answer is no description of a repository.
const LONGEST_ANSWER: usize = 64 << 20;

/// Why a file was not brought.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better the next time, after a pause.
    Passing(String, Option<Duration>),
    /// The server says no.
    Refused(StatusCode),
    /// It will go no better.
    Lasting(anyhow::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Lasting(error.into())
    }
}

impl Trouble {
    /// For people. `what` was to be brought.
    pub(super) fn explain(self, what: &str) -> anyhow::Error {
        match self {
            Self::Passing(reason, _) => anyhow::anyhow!("{what}: {reason}; what has come so far is kept: try again"),
            Self::Refused(status) => anyhow::anyhow!("{what}: the server answers {status}"),
            Self::Lasting(error) => error.context(what.to_string()),
        }
    }
}

/// Speaks with servers.
#[derive(Debug)]
pub(super) struct Web {
    client: Client,
    runtime: Runtime,
    settings: Settings,
    stop: Arc<AtomicBool>,
}

impl Web {
    pub(super) fn new(settings: Settings, stop: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let (client, runtime) = http::client()?;
        Ok(Self { client, runtime, settings, stop })
    }

    /// A short answer as a whole.
    pub(super) fn text(&self, url: &Url) -> Result<Vec<u8>, Trouble> {
        self.again(|web| {
            let mut text = Vec::new();
            web.wait(async {
                let mut response = web.ask(url, 0).await?;
                while let Some(piece) = web.piece(&mut response).await? {
                    text.extend_from_slice(&piece);
                    if text.len() > LONGEST_ANSWER {
                        return Err(Trouble::Lasting(anyhow::anyhow!("the answer does not end")));
                    }
                }
                Ok(())
            })?;
            Ok(text)
        })
    }

    /// Brings a file to a path, where its beginning may lie already, and proves it. `told` hears how many bytes are there.
    pub(super) fn download(
        &self,
        url: &Url,
        to: &Path,
        expected: &Expected,
        told: &mut dyn FnMut(u64),
    ) -> Result<(), Trouble> {
        let mut file = File::options().read(true).append(true).create(true).open(to)?;
        let resumed = file.metadata()?.len() > 0;
        self.fill(url, &mut file, expected, told)?;
        match prove(&mut file, expected)? {
            None => return Ok(()),
            // Its beginning may have been another file's.
            Some(_) if resumed => file.set_len(0)?,
            Some(reason) => return Err(wrong(to, reason)),
        }
        self.fill(url, &mut file, expected, told)?;
        prove(&mut file, expected)?.map_or(Ok(()), |reason| Err(wrong(to, reason)))
    }

    /// Appends what is missing.
    fn fill(&self, url: &Url, file: &mut File, expected: &Expected, told: &mut dyn FnMut(u64)) -> Result<(), Trouble> {
        let mut length = file.metadata()?.len();
        let mut fails = 0;
        loop {
            if expected.size.is_some_and(|size| size == length) {
                return Ok(());
            }
            if expected.size.is_some_and(|size| size < length) {
                file.set_len(0)?;
                length = 0;
            }
            match self.append(url, file, length, expected.size, told) {
                Ok(()) => return Ok(()),
                Err(Trouble::Passing(reason, pause)) => {
                    let before = std::mem::replace(&mut length, file.metadata()?.len());
                    fails = if length > before { 1 } else { fails + 1 };
                    if fails >= MOST_TRIES {
                        return Err(Trouble::Passing(reason, pause));
                    }
                    self.rest(fails, pause)?;
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn append(
        &self,
        url: &Url,
        file: &mut File,
        from: u64,
        size: Option<u64>,
        told: &mut dyn FnMut(u64),
    ) -> Result<(), Trouble> {
        self.wait(async {
            let mut response = match self.ask(url, from).await {
                // There is nothing behind what is here; whether that is the whole is proven later.
                Err(Trouble::Refused(StatusCode::RANGE_NOT_SATISFIABLE)) if size.is_none() => return Ok(()),
                Err(Trouble::Refused(StatusCode::RANGE_NOT_SATISFIABLE)) => {
                    file.set_len(0)?;
                    return Err(Trouble::Passing("the file is shorter there than it was said to be".into(), None));
                }
                asked => asked?,
            };
            let mut length = from;
            if from > 0 && !continues(&response, from) {
                file.set_len(0)?;
                length = 0;
            }
            while let Some(piece) = self.piece(&mut response).await? {
                file.write_all(&piece)?;
                length += piece.len() as u64;
                if let Some(size) = size.filter(|size| length > *size) {
                    file.set_len(0)?;
                    return Err(Trouble::Lasting(anyhow::anyhow!("it is longer than the {size} bytes that were said")));
                }
                told(length);
            }
            match size {
                Some(size) if length < size => {
                    Err(Trouble::Passing(format!("it ended after {length} of {size} bytes"), None))
                }
                _ => Ok(()),
            }
        })
    }

    /// Asks for a file from a byte on, wherever it has gone.
    async fn ask(&self, url: &Url, from: u64) -> Result<Response, Trouble> {
        let mut url = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.client.get(url.clone()).header(ACCEPT, "*/*");
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(token) = self.settings.token_for(&url) {
                request = request.bearer_auth(token);
            }
            let response = match tokio::time::timeout(self.settings.silence, request.send()).await {
                Ok(answer) => answer.map_err(|error| self.passing(&url, &error))?,
                Err(_) => return Err(Trouble::Passing(self.silent(&url), None)),
            };
            let status = response.status();
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            match location {
                Some(location) if status.is_redirection() => {
                    let next = url.join(location).context("the server sends on to what is no address");
                    let next = next.map_err(Trouble::Lasting)?;
                    if !is_as_safe(&url, &next) {
                        let (from, to) = (host(&url), host(&next));
                        return Err(Trouble::Lasting(anyhow::anyhow!("`{from}` sends on to `{to}` without TLS")));
                    }
                    url = next;
                }
                _ if status.is_success() => return Ok(response),
                _ if is_passing(status) => {
                    let pause = http::retry_after(response.headers(), Timestamp::now());
                    let pause = pause.map(|pause| pause.min(LONGEST_PAUSE));
                    return Err(Trouble::Passing(format!("`{}` answers {status}", host(&url)), pause));
                }
                _ => return Err(Trouble::Refused(status)),
            }
        }
        Err(Trouble::Lasting(anyhow::anyhow!("the servers send on in a circle")))
    }

    async fn piece(&self, response: &mut Response) -> Result<Option<Vec<u8>>, Trouble> {
        let url = response.url().clone();
        match tokio::time::timeout(self.settings.silence, response.chunk()).await {
            Ok(piece) => Ok(piece.map_err(|error| self.passing(&url, &error))?.map(|piece| piece.to_vec())),
            Err(_) => Err(Trouble::Passing(self.silent(&url), None)),
        }
    }

    fn silent(&self, url: &Url) -> String {
        format!("`{}` has been silent for {} s", host(url), self.settings.silence.as_secs_f32())
    }

    fn passing(&self, url: &Url, error: &reqwest::Error) -> Trouble {
        let reason = http::causes(error).last().map_or_else(String::new, ToString::to_string);
        Trouble::Passing(format!("`{}` cannot be reached: {reason}", host(url)), None)
    }

    /// Tries until it goes, or will not go.
    fn again<T>(&self, mut attempt: impl FnMut(&Self) -> Result<T, Trouble>) -> Result<T, Trouble> {
        for fails in 1.. {
            match attempt(self) {
                Err(Trouble::Passing(_, pause)) if fails < MOST_TRIES => self.rest(fails, pause)?,
                ended => return ended,
            }
        }
        unreachable!("numbers do not end")
    }

    /// A pause that grows with the number of failures, unless the server names one.
    fn rest(&self, fails: u32, pause: Option<Duration>) -> Result<(), Trouble> {
        let pause = pause.unwrap_or(self.settings.pause * 2u32.pow(fails - 1)).min(LONGEST_PAUSE);
        self.wait(async {
            tokio::time::sleep(pause).await;
            Ok(())
        })
    }

    /// Waits for the network, until that is to stop.
    fn wait<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = self.stopped() => Err(Trouble::Lasting(anyhow::anyhow!("stopped; what has come so far is kept"))),
            }
        })
    }

    async fn stopped(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            tokio::time::sleep(GLANCE).await;
        }
    }
}

/// Whether a secret may go to a server, and whether one may be sent on from there: over TLS, or on this machine.
pub(super) fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || url.host_str().is_some_and(is_this_machine)
}

fn is_as_safe(from: &Url, to: &Url) -> bool {
    matches!(to.scheme(), "http" | "https") && (from.scheme() != "https" || to.scheme() == "https")
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// Whether an answer goes on at that byte.
fn continues(response: &Response, from: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

fn wrong(path: &Path, reason: String) -> Trouble {
    let _ = std::fs::remove_file(path);
    Trouble::Lasting(anyhow::anyhow!("it has come with other bytes than the hub says: {reason}"))
}

/// What speaks against a file, if anything does.
fn prove(file: &mut File, expected: &Expected) -> io::Result<Option<String>> {
    let length = file.metadata()?.len();
    if let Some(size) = expected.size.filter(|size| *size != length) {
        return Ok(Some(format!("{length} bytes, not {size}")));
    }
    let mut hashes = Vec::new();
    if let Some(sha256) = &expected.sha256 {
        hashes.push(("SHA-256", sha256, Context::new(&SHA256)));
    }
    if let Some(git) = &expected.git {
        let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(format!("blob {length}\0").as_bytes());
        hashes.push(("git's hash", git, hash));
    }
    if hashes.is_empty() {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hashes.iter_mut().for_each(|(.., hash)| hash.update(&buffer[..read])),
        }
    }
    for (name, expected, hash) in hashes {
        let found: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if !found.eq_ignore_ascii_case(expected) {
            return Ok(Some(format!("{name} {found}, not {expected}")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_proven_by_length_and_hashes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello\n").unwrap();
        let expected = |size: u64, sha256: Option<&str>, git: Option<&str>| Expected {
            size: Some(size),
            sha256: sha256.map(String::from),
            git: git.map(String::from),
        };
        // `printf 'hello\n' | sha256sum`, `printf 'hello\n' | git hash-object --stdin`
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert_eq!(prove(&mut file, &expected(6, Some(sha256), Some(git))).unwrap(), None);
        assert_eq!(prove(&mut file, &expected(7, None, None)).unwrap().unwrap(), "6 bytes, not 7");
        let reason = prove(&mut file, &expected(6, Some(git), None)).unwrap().unwrap();
        assert!(reason.starts_with("SHA-256 5891") && reason.ends_with(git), "{reason}");
        let reason = prove(&mut file, &expected(6, None, Some(sha256))).unwrap().unwrap();
        assert!(reason.starts_with("git's hash ce01"), "{reason}");
    }

    #[test]
    fn nobody_is_sent_on_from_tls_to_none() {
        let safe = |from: &str, to: &str| is_as_safe(&from.parse().unwrap(), &to.parse().unwrap());
        assert!(safe("https://a/", "https://b/") && safe("http://a/", "https://b/") && safe("http://a/", "http://b/"));
        assert!(!safe("https://a/", "http://b/") && !safe("http://a/", "file:///etc/passwd"));
    }
}
