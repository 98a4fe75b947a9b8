//! The `model` of a prediction that is behind an API: a table with its address, its name and how it is asked.

use crate::address::is_this_machine;
use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::{Decode, Schema, Seconds, Value};
use crate::stage::command::{SECRET, secret_name};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

crate::form! {
    /// A model behind an OpenAI-compatible API.
    pub(in crate::stage) struct ApiModel {
        ..hints: ApiHints,
        /// The API's address, to which `/chat/completions` is added: `https://api.openai.com/v1`.
        api: Address,
        /// What the API calls the model.
        model: String,
        /// The key: `"{env:NAME}"`, from titer's own environment. It is written nowhere.
        key: Option<Secret>,
        /// Further parameters that are sent, as the API names them: `{ reasoning_effort = "low" }`.
        body: BTreeMap<String, Json> = BTreeMap::new(),
        /// Parameters that are not sent, for an API that does not take them: `["temperature", "seed"]`.
        omit: Vec<Omitted> = Vec::new(),
        /// What the API calls the limit of an answer's tokens.
        limit: Limit = Limit::MaxTokens,
    }
}

crate::settings! {
    /// How an API is asked, as far as that changes no answer.
    pub struct ApiHints {
        /// Questions that are on their way at once.
        concurrency: u32 = 8 => 1..=1024,
        /// Questions per minute to this address, of all predictions of the project together.
        requests_per_minute: Option<f64> = None => 0.001..=1e9,
        /// Tokens of questions and answers per minute, likewise.
        tokens_per_minute: Option<f64> = None => 0.001..=1e12,
        /// A question that is not answered within this time is asked again.
        timeout: Seconds = Seconds(120.0),
        /// What a million tokens cost.
        price: Option<Price> = None,
        /// What the answers of a prediction may cost, those that are in the ledger included; before it would cost more, it
        /// stops. Needs a `price`.
        max_cost: Option<f64> = None => 0.0..=1e9,
    }
}

crate::settings! {
    /// What a million tokens cost: `{ input = 0.15, output = 0.6 }`, in the currency of `max_cost`.
    pub struct Price {
        /// Tokens of questions.
        input: f64 => 0.0..=1e6,
        /// Tokens of answers.
        output: f64 => 0.0..=1e6,
    }
}

crate::words! {
    /// What APIs call the limit of an answer's tokens.
    pub enum Limit {
        /// As most do.
        MaxTokens = "max_tokens",
        /// As OpenAI's newer models want it.
        MaxCompletionTokens = "max_completion_tokens",
    }
}

crate::words! {
    /// Parameters that an API may not take.
    pub enum Omitted {
        /// The temperature.
        Temperature = "temperature",
        /// The seed.
        Seed = "seed",
        /// That one answer is wanted.
        N = "n",
        /// That the answer is wanted as a whole.
        Stream = "stream",
        /// The limit of the answer's tokens; `max_cost` cannot stand beside it.
        Limit = "limit",
    }
}

/// The address of an API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stage) struct Address(pub String);

impl Address {
    /// Whether a key may go there: over TLS, or on this machine.
    fn is_safe(&self) -> bool {
        let Some(rest) = self.0.strip_prefix("http://") else { return true };
        let host = rest.split('/').next().unwrap_or_default();
        let name = if host.starts_with('[') { host.split_inclusive(']').next() } else { host.split(':').next() };
        name.is_some_and(is_this_machine)
    }
}

impl Decode for Address {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        const END: &str = "/chat/completions";
        let text = String::decode(value, problems)?;
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let (problem, hint) = match rest {
            None | Some("") => ("is no address of an API", "it begins with `https://`: `https://api.openai.com/v1`"),
            Some(_) if text.contains('@') => ("holds a user or a password", "what is secret stands in `key`"),
            Some(rest) if rest.starts_with('/') || rest.contains(|c: char| c.is_whitespace() || "?#\\".contains(c)) => {
                ("is no address of an API", "it is a host and perhaps a path: `https://api.openai.com/v1`")
            }
            Some(_) if text.trim_end_matches('/').ends_with(END) => {
                ("ends with `/chat/completions`, which is added to it", "leave that away")
            }
            Some(_) => return Some(Self(text.trim_end_matches('/').to_string())),
        };
        // A password is not shown.
        let shown = if text.contains('@') { "the address".to_string() } else { format!("`{text}`") };
        problems.push(Diagnostic::at(value.span, format!("{shown} {problem}")).hint(hint));
        None
    }

    fn schema() -> Schema {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The name of a variable that holds a secret: `{env:NAME}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stage) struct Secret(pub String);

impl Decode for Secret {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = String::decode(value, problems)?;
        let name = secret_name(&text).map(|name| Self(name.to_string()));
        if name.is_none() {
            // What stands here may be the key itself.
            let message = if text.contains(SECRET) { "a secret is the whole value" } else { "a key cannot stand here" };
            let hint = "write `\"{env:NAME}\"`, and set the variable NAME of the environment to the key";
            problems.push(Diagnostic::at(value.span, message).hint(hint));
        }
        name
    }

    fn schema() -> Schema {
        json!({ "type": "string", "pattern": r"^\{env:[A-Za-z0-9_{.}-]+\}$" })
    }
}

/// Parameters that stand elsewhere.
const OWN: [(&str, &str); 12] = [
    ("model", "`model`"),
    ("messages", "`template` and `system`"),
    ("max_tokens", "`max_new_tokens`"),
    ("max_completion_tokens", "`max_new_tokens`, and `limit = \"max_completion_tokens\"`"),
    ("temperature", "`sample`"),
    ("top_p", "`sample`"),
    ("top_k", "`sample`"),
    ("min_p", "`sample`"),
    ("seed", "`seed`"),
    ("stop", "`stop`"),
    ("n", "`samples`"),
    ("stream", "nothing: answers are read as a whole"),
];

impl ApiModel {
    /// What cannot stand together, with what to do.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if self.key.is_some() && !self.api.is_safe() {
            let message = format!("a key would go to `{}` unencrypted", self.api.0);
            wrong.push((message, "use `https://`; without TLS a key goes to this machine only".to_string()));
        }
        for (name, instead) in OWN.iter().filter(|(name, _)| self.body.contains_key(*name)) {
            wrong.push((format!("`body` holds `{name}`"), format!("it is set by {instead}")));
        }
        if self.hints.max_cost.is_some() && self.hints.price.is_none() {
            let hint = "what a million tokens cost: `price = { input = 0.15, output = 0.6 }`";
            wrong.push(("`max_cost` needs a `price`".to_string(), hint.to_string()));
        }
        if self.hints.max_cost.is_some() && self.omit.contains(&Omitted::Limit) {
            let hint = "without a limit nobody knows what an answer may cost: leave out one of them";
            wrong.push(("`max_cost` stands beside `omit = [\"limit\"]`".to_string(), hint.to_string()));
        }
        wrong
    }
}
