//! What all that speaks HTTP has in common: how a client is set up, and what is said of a server that fails.
//!
//! Knows neither hubs nor APIs.

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
