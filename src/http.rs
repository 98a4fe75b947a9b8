//! What all that speaks HTTP has in common: how a client is set up, and what is said of a server that fails.
//!
//! Knows neither hubs nor APIs.

use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use std::error::Error;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// To find a server.
const CONNECT: Duration = Duration::from_secs(10);

/// A client that lets no server send it on, and what its calls run on.
pub(crate) fn client() -> anyhow::Result<(Client, Runtime)> {
    // One that another part of the program chose is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT);
    let client = client.user_agent(concat!("titer/", env!("CARGO_PKG_VERSION"))).build()?;
    Ok((client, Builder::new_current_thread().enable_all().build()?))
}

/// The host of an address, which is no secret.
pub(crate) fn host(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// An error and what it comes from; what stands last is the reason alone: an address may hold a signature.
pub(crate) fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> + Clone {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |error| inner(*error))
}

/// What an error is about. The system's errors hide what they hold from `source`.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// The pause that a server asks for: a number of seconds, or a moment.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    }
    let moment = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    // A moment that has passed asks for nothing.
    Some(Duration::try_from(moment.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_number_of_seconds_or_a_moment() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let pause = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, now).map(|pause| pause.as_secs_f64())
        };
        assert_eq!(pause("7"), Some(7.0));
        assert_eq!(pause("0.5"), Some(0.5));
        assert_eq!(pause("Tue, 24 Nov 2026 12:01:30 GMT"), Some(90.0));
        assert_eq!(pause("Tue, 24 Nov 2026 11:00:00 GMT"), Some(0.0));
        assert_eq!(pause("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
