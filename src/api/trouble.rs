//! What goes wrong with calls: whether it may go better the next time, and when that is.

use crate::http;
use crate::key::Digest;
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::time::Duration;

/// Tries of a call whose server says that it should be tried again, or falls silent.
const MOST_TRIES: u32 = 10;
/// Tries of one that comes to no server, or back with what nobody asked for.
const FEW_TRIES: u32 = 5;
/// Between two tries, unless a server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A server that asks for a longer pause is not waited for.
const MOST_PATIENCE: Duration = Duration::from_secs(600);

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Trouble {
    /// It may go better the next time.
    Passing(Passing),
    /// It will go no better; whether that lies in this one question.
    Lasting { reason: String, of_question: bool },
    /// It was not asked, as another has failed.
    Skipped,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Passing {
    pub(super) reason: String,
    /// So long the server wants to be left alone.
    pub(super) pause: Option<Duration>,
    /// Whether the answer may have been made, and so be charged.
    pub(super) charged: bool,
    pub(super) most_tries: u32,
}

impl Trouble {
    pub(super) fn lasting(reason: impl Into<String>) -> Self {
        Self::Lasting { reason: reason.into(), of_question: false }
    }

    /// No server was found.
    pub(super) fn unreached(reason: String) -> Self {
        Self::Passing(Passing { reason, pause: None, charged: false, most_tries: FEW_TRIES })
    }

    /// The server has not answered, or not to the end.
    pub(super) fn silence(reason: String) -> Self {
        Self::Passing(Passing { reason, pause: None, charged: true, most_tries: MOST_TRIES })
    }

    /// The server has said what is no answer.
    pub(super) fn garbage(reason: String) -> Self {
        Self::Passing(Passing { reason, pause: None, charged: true, most_tries: FEW_TRIES })
    }

    /// A status that is no success. `key` is what the key is called.
    pub(super) fn of_status(
        host: &str,
        status: StatusCode,
        headers: &HeaderMap,
        text: &str,
        key: Option<&str>,
        now: Timestamp,
    ) -> Self {
        let said = said(text);
        let reason = |hint: &str| {
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
            format!("`{host}` answers {status}{said}{hint}")
        };
        let is_passing = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT);
        // The word of OpenAI for an account without money.
        if is_passing && !text.contains("insufficient_quota") {
            let pause = http::retry_after(headers, now);
            if pause.is_some_and(|pause| pause > MOST_PATIENCE) {
                let seconds = pause.unwrap_or_default().as_secs();
                return Self::lasting(reason(&format!("it asks to be left alone for {seconds} s: run again then")));
            }
            return Self::Passing(Passing { reason: reason(""), pause, charged: false, most_tries: MOST_TRIES });
        }
        let hint = match (status, key) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(key)) => {
                format!("it does not take the key in the environment variable `{key}`")
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
                "it wants a key: `key = \"{env:NAME}\"` beside `api`".to_string()
            }
            (StatusCode::NOT_FOUND, _) => "look at `api` (its address without `/chat/completions`) and `model`".into(),
            (StatusCode::TOO_MANY_REQUESTS, _) => "the account has no money left".to_string(),
            _ if status.is_redirection() => "it sends on to another address: write that as `api`".to_string(),
            _ => String::new(),
        };
        let of_question = matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
        Self::Lasting { reason: reason(&hint), of_question }
    }
}

impl Passing {
    /// The pause before the next try of a call: what the server asks for, else one that doubles, up to a half shorter, so
    /// that calls that failed together do not come back together. `None`: it was tried often enough.
    pub(super) fn pause(&self, first: Duration, tries: u32, call: &Digest) -> Option<Duration> {
        if tries >= self.most_tries {
            return None;
        }
        let doubled = (first * 2u32.pow(tries.saturating_sub(1).min(16))).min(LONGEST_PAUSE);
        let digest = blake3::hash(format!("{call} {tries}").as_bytes());
        let jitter = f64::from(digest.as_bytes()[0]) / 512.0;
        Some(self.pause.map_or(doubled.mul_f64(1.0 - jitter), |asked| asked + doubled.mul_f64(jitter)))
    }
}

/// What a server says is wrong, short.
fn said(text: &str) -> String {
    const LONGEST: usize = 300;
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let places = ["/error/message", "/error", "/message", "/detail"];
    let message = places.iter().find_map(|place| value.pointer(place)?.as_str());
    let message: String = message.unwrap_or(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = message.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if shown.len() < message.len() { format!("{shown} …") } else { shown }
}

/// The beginning of what a server said in place of an answer.
pub(super) fn beginning(text: &str) -> String {
    match said(text).as_str() {
        "" => "nothing".to_string(),
        text => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::RETRY_AFTER;

    fn of(status: u16, pause: &str, text: &str) -> Trouble {
        let mut headers = HeaderMap::new();
        if !pause.is_empty() {
            headers.insert(RETRY_AFTER, pause.parse().unwrap());
        }
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        Trouble::of_status("h", StatusCode::from_u16(status).unwrap(), &headers, text, Some("KEY"), now)
    }

    fn pause(value: &str) -> Option<Duration> {
        let Trouble::Passing(passing) = of(429, value, "") else { panic!("{value}") };
        passing.pause
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_a_date() {
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(pause("Tue, 24 Nov 2026 12:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(pause("Tue, 24 Nov 2026 11:00:00 GMT"), Some(Duration::ZERO));
        for none in ["", "soon", "-1e999"] {
            assert!(pause(none).is_none_or(|pause| pause.is_zero()), "{none}");
        }
        let long = of(503, "3600", "");
        assert!(matches!(&long, Trouble::Lasting { reason, .. } if reason.contains("for 3600 s")), "{long:?}");
    }

    #[test]
    fn pauses_double_and_differ_from_call_to_call() {
        let passing = |pause| Passing { reason: String::new(), pause, charged: false, most_tries: 12 };
        let first = Duration::from_secs(1);
        let pauses = |key: &[u8]| -> Vec<f64> {
            let key = Digest::of(key);
            (1..12).map(|tries| passing(None).pause(first, tries, &key).unwrap().as_secs_f64()).collect()
        };
        for (number, pause) in pauses(b"a").into_iter().enumerate() {
            let whole = f64::from(1 << number).min(60.0);
            assert!(pause > whole / 2.0 && pause <= whole, "{number}: {pause}");
        }
        assert_ne!(pauses(b"a"), pauses(b"b"));
        assert_eq!(passing(None).pause(first, 12, &Digest::of(b"a")), None);
        let asked = Duration::from_secs(20);
        assert!(passing(Some(asked)).pause(first, 1, &Digest::of(b"a")).unwrap() >= asked, "never sooner");
    }

    #[test]
    fn what_will_go_no_better_is_said_with_what_to_do() {
        for (status, text, expected) in [
            (
                401,
                r#"{"error": {"message": "bad key"}}"#,
                "`h` answers 401 Unauthorized: bad key; it does not take the key in the environment variable `KEY`",
            ),
            (404, "", "`h` answers 404 Not Found; look at `api`"),
            (400, r#"{"error": "no such parameter"}"#, "`h` answers 400 Bad Request: no such parameter"),
            (307, "", "it sends on to another address"),
            (
                429,
                r#"{"error": {"code": "insufficient_quota", "message": "pay"}}"#,
                "pay; the account has no money left",
            ),
        ] {
            let Trouble::Lasting { reason, of_question } = of(status, "", text) else { panic!("{status}") };
            assert!(reason.contains(expected), "{reason}");
            assert_eq!(of_question, status == 400);
        }
        for status in [408, 409, 429, 500, 502, 503, 529] {
            assert!(
                matches!(of(status, "", "busy\u{1b}[31m"), Trouble::Passing(passing) if !passing.reason.contains('\u{1b}'))
            );
        }
        let long = said(&"x".repeat(1000));
        assert!(long.len() < 310 && long.ends_with('…'));
    }
}
