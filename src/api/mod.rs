//! Models behind OpenAI-compatible APIs: many questions at once, each paid for once.
//!
//! A [`Client`] sends [`Call`]s (`POST {base}/chat/completions`) and gives their replies back in order. Every reply goes into
//! the [`Ledger`] and onto the disk before anything is made of it, and what is in there is never asked again. Calls wait
//! for their turn (`pace`), are tried again where that may help (`trouble`), and stop before they cost too much
//! (`purse`). Knows neither rows nor stages.

mod ask;
mod client;
mod ledger;
mod pace;
mod purse;
mod reply;
mod shared;
mod trouble;

pub use ask::{Failure, Told};
pub use client::Client;
pub use ledger::Ledger;
pub use purse::Price;
pub use reply::Reply;
pub use shared::Till;

use crate::key::{Digest, canonical};
use crate::secrets::Secrets;
use serde_json::json;
use std::time::Duration;

/// How an API is spoken to. What stands here changes no reply, besides the endpoint.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its address, without `/chat/completions`.
    pub endpoint: String,
    /// What the ledger calls the model.
    pub model: String,
    /// The key, if there is one.
    pub key: Key,
    /// Calls that are on their way at once.
    pub concurrency: usize,
    /// Calls per second, of this client.
    pub requests_per_second: Option<f64>,
    /// Calls to the endpoint per minute, of all who use the ledger together.
    pub requests_per_minute: Option<f64>,
    /// Tokens of questions and answers per minute, likewise.
    pub tokens_per_minute: Option<f64>,
    /// A call that takes longer is given up, and made again.
    pub timeout: Duration,
    /// What tokens cost.
    pub price: Option<Price>,
    /// What all replies together may cost, those that are there already included.
    pub max_cost: Option<f64>,
    /// What all calls of the run may cost.
    pub till: Option<Till>,
    /// Before the first new try of a call.
    pub pause: Duration,
}

/// The key of an API, by the name of the variable that holds it.
#[derive(Clone, Default)]
pub struct Key(pub Secrets);

/// The name only.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What is sent: JSON with the model, the messages and the parameters.
    pub body: String,
    /// Its number among the calls with this body, of which each is to have a reply of its own.
    pub sample: u32,
    /// The most tokens that it can be counted as.
    pub most: Tokens,
}

/// Tokens of a question and its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The question's.
    pub input: u64,
    /// The answer's.
    pub output: u64,
}

impl Call {
    /// What the reply is found under in the ledger.
    pub fn key(&self, endpoint: &str) -> Digest {
        let all = json!({ "endpoint": endpoint, "body": self.body, "sample": self.sample });
        Digest::of(canonical(&all).as_bytes())
    }
}

#[cfg(test)]
mod tests;
