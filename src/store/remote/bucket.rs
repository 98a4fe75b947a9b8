//! A shared cache in an S3-compatible store, by `object_store`.
//!
//! The only room with a runtime: one thread waits for the network; whoever asks does the rest on its own thread, so that
//! hashing one object keeps no other waiting.

use super::address::Credentials;
use super::backend::{Backend, Reached, Stop, Unreachable};
use futures_util::StreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode, RetryConfig,
    WriteMultipart,
};
use std::future::Future;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// To find a server.
const CONNECT: Duration = Duration::from_secs(5);
/// To get the first answer, with all tries.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// Without a byte of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// In which a request is tried again.
const RETRIES: Duration = Duration::from_secs(30);
/// Until a thread sees that it is to stop.
const GLANCE: Duration = Duration::from_millis(50);
/// Longer objects are sent in parts, of this length.
const PART: u64 = 8 << 20;
/// Parts of an object that a store takes.
const MOST_PARTS: u64 = 9_000;
/// Parts of an object under way at once.
const PARTS_AT_ONCE: usize = 3;

/// A part of a bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    store: AmazonS3,
    prefix: String,
    credentials: Credentials,
    stop: Arc<Stop>,
    runtime: Handle,
    /// The store knows no condition for writing: it is looked before.
    is_simple: AtomicBool,
    /// Ends the runtime's thread when dropped.
    _end: oneshot::Sender<()>,
}

impl Bucket {
    /// Finds out whether the bucket answers.
    pub(super) fn open(name: &str, prefix: &str, credentials: &Credentials, stop: Arc<Stop>) -> Reached<Self> {
        // One that another part of the program chose is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failed = |error: &dyn std::error::Error| Unreachable(credentials.mask(&error.to_string()));
        check(credentials)?;
        let store = builder(name, credentials).build().map_err(|error| failed(&error))?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let _ = runtime.block_on(ended);
        });
        let bucket = Self {
            store,
            prefix: prefix.to_string(),
            credentials: credentials.clone(),
            stop,
            runtime: handle,
            is_simple: AtomicBool::new(false),
            _end: end,
        };
        let first = async { tokio::time::timeout(FIRST_ANSWER, bucket.store.head(&bucket.path("VERSION"))).await };
        match bucket.wait(first)? {
            Ok(Ok(_) | Err(Error::NotFound { .. })) => Ok(bucket),
            Ok(Err(error)) => Err(bucket.explain(&error)),
            Err(_) => Err(Unreachable(format!("no answer in {} s", FIRST_ANSWER.as_secs()))),
        }
    }

    fn path(&self, path: &str) -> Path {
        if self.prefix.is_empty() { Path::from(path) } else { Path::from(format!("{}/{path}", self.prefix)) }
    }

    /// Waits for the network on this thread, until that is to stop.
    fn wait<T>(&self, work: impl Future<Output = T>) -> Reached<T> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => Ok(done),
                () = self.stopped() => Err(Unreachable("stopped".to_string())),
            }
        })
    }

    async fn stopped(&self) {
        while !self.stop.is_set() {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// A message for people: short, and without what a server repeats of the keys.
    fn explain(&self, error: &Error) -> Unreachable {
        let whole = error.to_string();
        let message = match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                "access denied; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights on the bucket".to_string()
            }
            _ if whole.contains("NoSuchBucket") => "there is no such bucket".to_string(),
            // Of a file that is not there nobody complains.
            Error::NotFound { .. } => "it answers 404: there is no such bucket, or no S3 server".to_string(),
            _ => shortened(&root_of(error)),
        };
        Unreachable(self.credentials.mask(&message))
    }

    async fn upload(&self, path: &Path, from: &mut dyn Read, size: u64) -> Result<(), Error> {
        let part = usize::try_from(PART.max(size / MOST_PARTS + 1)).unwrap_or(usize::MAX);
        if size <= PART {
            let content = read_part(from, part)?;
            // The end of the source is where it proves its bytes.
            read_part(from, 1)?;
            return self.store.put(path, content.into()).await.map(|_| ());
        }
        let upload: Box<dyn MultipartUpload> = self.store.put_multipart(path).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
        let sent = async {
            loop {
                let content = read_part(from, part)?;
                if content.is_empty() {
                    return Ok(());
                }
                upload.wait_for_capacity(PARTS_AT_ONCE).await?;
                upload.put(content.into());
            }
        };
        match sent.await {
            Ok(()) => upload.finish().await.map(|_| ()),
            Err(error) => {
                // Parts that no file is made of would be paid for.
                let _ = tokio::time::timeout(CONNECT, upload.abort()).await;
                Err(error)
            }
        }
    }
}

impl Backend for Bucket {
    fn size(&self, path: &str) -> Reached<Option<u64>> {
        match self.wait(self.store.head(&self.path(path)))? {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn read(&self, path: &str, to: &mut dyn Write) -> Reached<bool> {
        let path = self.path(path);
        let read = async {
            let mut pieces = match self.store.get(&path).await {
                Ok(found) => found.into_stream(),
                Err(Error::NotFound { source, .. }) if !source.to_string().contains("NoSuchBucket") => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            while let Some(piece) = pieces.next().await {
                // Whoever refuses a piece knows why.
                if to.write_all(&piece?).is_err() {
                    break;
                }
            }
            Ok(true)
        };
        self.wait(read)?.map_err(|error| self.explain(&error))
    }

    fn write(&self, path: &str, from: &mut dyn Read, size: u64) -> Reached<()> {
        // Not given up in the middle: a source that is to stop fails, and the parts are removed.
        let written = self.runtime.block_on(self.upload(&self.path(path), from, size));
        written.map_err(|error| self.explain(&error))
    }

    fn create(&self, path: &str, content: &[u8]) -> Reached<bool> {
        let full = self.path(path);
        if !self.is_simple.load(Ordering::Relaxed) {
            let put = self.store.put_opts(&full, content.to_vec().into(), PutMode::Create.into());
            match self.wait(put)? {
                Ok(_) => return Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => return Ok(false),
                Err(error) if !is_unknown_there(&error) => return Err(self.explain(&error)),
                Err(_) => self.is_simple.store(true, Ordering::Relaxed),
            }
        }
        if self.size(path)?.is_some() {
            return Ok(false);
        }
        let put = self.store.put(&full, content.to_vec().into());
        self.wait(put)?.map(|_| true).map_err(|error| self.explain(&error))
    }
}

/// Looks for what `object_store` would stumble over.
fn check(credentials: &Credentials) -> Reached<()> {
    for (name, value) in credentials.iter() {
        let is_address = ENDPOINTS.contains(&name);
        let is_web = || reqwest::Url::parse(value).is_ok_and(|url| url.has_host() && url.scheme().starts_with("http"));
        if is_address && !is_web() {
            return Err(Unreachable(format!("{name} is no address of a server: `https://…` is expected")));
        }
        let is_region = matches!(name, "AWS_REGION" | "AWS_DEFAULT_REGION");
        let is_plain =
            |byte: u8| byte.is_ascii_graphic() && (!is_region || byte.is_ascii_alphanumeric() || byte == b'-');
        if (is_region || SOURCES.contains(&name) || SECRET.contains(&name)) && !value.bytes().all(is_plain) {
            return Err(Unreachable(format!("{name} has characters that cannot stand there; was it cut or quoted?")));
        }
    }
    if SOURCES.iter().any(|name| credentials.get(name).is_some()) {
        return Ok(());
    }
    Err(Unreachable(
        "there are no keys for it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SKIP_SIGNATURE=true for a \
         public bucket, AWS_METADATA_ENDPOINT for the role of a machine)"
            .to_string(),
    ))
}

/// Variables that say where the server is.
const ENDPOINTS: [&str; 3] = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"];
/// Variables by which one gets in, each alone or with others.
const SOURCES: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
    "AWS_SKIP_SIGNATURE",
];
const SECRET: [&str; 2] = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// What the `AWS_…` variables say, as other programs understand them.
fn builder(name: &str, credentials: &Credentials) -> AmazonS3Builder {
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 3,
        retry_timeout: RETRIES,
    };
    let is_open = |name: &str| credentials.get(name).is_some_and(|url| url.starts_with("http://"));
    let client = ClientOptions::new()
        .with_connect_timeout(CONNECT)
        .with_timeout_disabled()
        .with_read_timeout(SILENCE)
        // Somebody wrote `http://` there and means it.
        .with_allow_http(ENDPOINTS.into_iter().any(is_open));
    let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry);
    for (name, value) in credentials.iter() {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    builder.with_bucket_name(name)
}

/// So many bytes, fewer only at the end.
fn read_part(from: &mut dyn Read, length: usize) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    let read = from.take(length as u64).read_to_end(&mut content);
    read.map_err(|error| Error::Generic { store: "S3", source: Box::new(error) })?;
    Ok(content)
}

/// Whether a store does not know how to write on a condition.
fn is_unknown_there(error: &Error) -> bool {
    let text = error.to_string();
    matches!(error, Error::NotImplemented { .. } | Error::NotSupported { .. })
        || text.contains("NotImplemented")
        || text.contains("501 Not Implemented")
}

/// The last of the reasons.
fn root_of(error: &Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 240;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST { line } else { line.chars().take(LONGEST - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(variables: &[(&str, &str)]) -> String {
        let all = variables.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string()));
        check(&Credentials::new(all)).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_cannot_be_meant_is_said_before_it_is_used() {
        let key = ("AWS_ACCESS_KEY_ID", "AKIA");
        assert_eq!(verdict(&[key, ("AWS_SECRET_ACCESS_KEY", "a/b+c="), ("AWS_ENDPOINT_URL", "http://[::1]:9000")]), "");
        assert_eq!(verdict(&[("AWS_SKIP_SIGNATURE", "true")]), "");
        assert!(verdict(&[("AWS_SECRET_ACCESS_KEY", "x")]).contains("there are no keys"));
        for address in ["nonsense", "127.0.0.1:9000", "ftp://lab", "http://", "https:// "] {
            assert!(verdict(&[key, ("AWS_ENDPOINT_URL", address)]).contains("is no address of a server"), "{address}");
        }
        for (name, value) in
            [("AWS_REGION", "eu west"), ("AWS_SECRET_ACCESS_KEY", "hid\nden"), ("AWS_SESSION_TOKEN", "ü")]
        {
            let message = verdict(&[key, (name, value)]);
            assert!(message.starts_with(name) && !message.contains(value), "{message}");
        }
    }
}
