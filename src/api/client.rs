//! One call over HTTP: a question out, a chat completion back, or what went wrong.

use super::reply::Reply;
use super::trouble::{Trouble, beginning};
use super::{Call, Ledger, Settings};
use crate::http;
use crate::secrets::Mask;
use anyhow::{Context as _, bail};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, Url};
use serde_json::Value;
use tokio::runtime::Runtime;

/// A longer reply is none.
const LONGEST_REPLY: usize = 16 << 20;

/// Speaks with an API.
#[derive(Debug)]
pub struct Client {
    client: reqwest::Client,
    pub(super) runtime: Runtime,
    pub(super) settings: Settings,
    pub(super) ledger: Ledger,
    url: Url,
    /// `Bearer KEY`; shows itself to nobody.
    authorization: Option<HeaderValue>,
    mask: Mask,
}

impl Client {
    /// A client whose replies are kept in `ledger`. Nothing is sent yet.
    ///
    /// # Errors
    /// If the endpoint is no address, or the key none that can be sent.
    pub fn new(settings: Settings, ledger: Ledger) -> anyhow::Result<Self> {
        let (client, runtime) = http::client()?;
        let url = format!("{}/chat/completions", settings.endpoint.trim_end_matches('/'));
        let url = Url::parse(&url).with_context(|| format!("`{}` is no address", settings.endpoint))?;
        let authorization = match settings.key.0.iter().next() {
            None => None,
            Some((name, value)) => match HeaderValue::from_str(&format!("Bearer {value}")) {
                Ok(mut header) if !value.is_empty() => {
                    header.set_sensitive(true);
                    Some(header)
                }
                _ => {
                    bail!("what stands in the environment variable `{name}` is no key: it is empty, or cannot be sent")
                }
            },
        };
        let mask = Mask::of_keys(&settings.key.0);
        Ok(Self { client, runtime, settings, ledger, url, authorization, mask })
    }

    fn host(&self) -> String {
        http::host(&self.url)
    }

    /// Makes a call once. The reply can be read as [`Reply`].
    pub(super) async fn post(&self, call: &Call) -> Result<(Value, Reply), Trouble> {
        let timeout = self.settings.timeout;
        match tokio::time::timeout(timeout, self.exchange(call)).await {
            Ok(result) => result.map_err(|trouble| self.masked(trouble)),
            Err(_) => {
                let seconds = timeout.as_secs_f64();
                Err(Trouble::silence(format!("`{}` has not answered within {seconds} s (`timeout`)", self.host())))
            }
        }
    }

    async fn exchange(&self, call: &Call) -> Result<(Value, Reply), Trouble> {
        let mut request = self.client.post(self.url.clone()).body(call.body.clone());
        request = request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let mut response = request.send().await.map_err(|error| self.broken(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = self.text(&mut response).await?;
        if !status.is_success() {
            let key = self.settings.key.0.keys().next().map(String::as_str);
            // Before it is shortened: a part of a key is found by nobody.
            let text = self.mask.hide(text);
            let now = jiff::Timestamp::now();
            return Err(Trouble::of_status(&self.host(), status, &headers, &text, key, now));
        }
        let content = headers.get(CONTENT_TYPE).and_then(|content| content.to_str().ok()).unwrap_or_default();
        if content.starts_with("text/event-stream") || text.trim_start().starts_with("data:") {
            let reason = format!("`{}` streams its answers, though it is asked not to (`stream = false`)", self.host());
            return Err(Trouble::lasting(format!("{reason}: titer reads whole answers only")));
        }
        if let Some(name) = self.mask.held_in(&text) {
            let reason = format!("an answer of `{}` holds the secret `{name}`: it is not kept", self.host());
            return Err(Trouble::lasting(reason));
        }
        let garbage = |reason: &str| {
            let said = beginning(&text);
            Trouble::garbage(format!("`{}` answers with what is no chat completion ({reason}): {said}", self.host()))
        };
        let value: Value = serde_json::from_str(&text).map_err(|_| garbage("it is no JSON"))?;
        let reply = Reply::read(&value).map_err(|reason| garbage(&reason))?;
        Ok((value, reply))
    }

    async fn text(&self, response: &mut Response) -> Result<String, Trouble> {
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.broken(&error))? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > LONGEST_REPLY {
                return Err(Trouble::lasting(format!("an answer of `{}` does not end", self.host())));
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What a broken connection means.
    fn broken(&self, error: &reqwest::Error) -> Trouble {
        let causes = http::causes(error);
        let is_tls = causes.clone().any(|error| error.is::<rustls::Error>());
        let reason = causes.last().map_or_else(String::new, ToString::to_string);
        let host = self.host();
        match (is_tls, error.is_connect()) {
            (true, true) => Trouble::lasting(format!("no safe connection to `{host}` (TLS): {reason}")),
            (_, true) => Trouble::unreached(format!("`{host}` cannot be reached: {reason}")),
            _ => Trouble::silence(format!("the connection to `{host}` broke: {reason}")),
        }
    }

    /// A server may say a key that it does not like.
    fn masked(&self, trouble: Trouble) -> Trouble {
        match trouble {
            Trouble::Passing(mut passing) => {
                passing.reason = self.mask.hide(passing.reason);
                Trouble::Passing(passing)
            }
            Trouble::Lasting { reason, of_question } => {
                Trouble::Lasting { reason: self.mask.hide(reason), of_question }
            }
            Trouble::Skipped => Trouble::Skipped,
        }
    }
}
