//! When the next call may begin: so many requests and tokens per minute, evenly spread, and pauses that a server asks for.
//!
//! Pure: the time is told. Servers count in windows of their own, some of a second; what is spread evenly is right in all of
//! them.

use std::time::{Duration, Instant};

/// The times of calls.
#[derive(Debug)]
pub(super) struct Pace {
    per_request: Duration,
    per_token: Duration,
    /// No call begins before any of these.
    next_request: Instant,
    next_tokens: Instant,
    held: Instant,
}

impl Pace {
    pub(super) fn new(requests_per_second: Option<f64>, tokens_per_minute: Option<f64>, now: Instant) -> Self {
        let each = |rate: Option<f64>, span: f64| {
            rate.and_then(|rate| Duration::try_from_secs_f64(span / rate).ok()).unwrap_or(Duration::ZERO)
        };
        let (per_request, per_token) = (each(requests_per_second, 1.0), each(tokens_per_minute, 60.0));
        Self { per_request, per_token, next_request: now, next_tokens: now, held: now }
    }

    /// How long a call has to wait.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        self.next_request.max(self.next_tokens).max(self.held).saturating_duration_since(now)
    }

    /// A call begins, which may have so many tokens.
    pub(super) fn begin(&mut self, now: Instant, tokens: u64) {
        self.next_request = self.next_request.max(now) + self.per_request;
        self.next_tokens = self.next_tokens.max(now) + self.time_of(tokens);
    }

    /// It had fewer.
    pub(super) fn settle(&mut self, expected: u64, tokens: u64) {
        let time = self.time_of(expected.saturating_sub(tokens));
        self.next_tokens = self.next_tokens.checked_sub(time).unwrap_or(self.next_tokens);
    }

    /// The server wants to be left alone for a while.
    pub(super) fn hold(&mut self, until: Instant) {
        self.held = self.held.max(until);
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn time_of(&self, tokens: u64) -> Duration {
        Duration::try_from_secs_f64(self.per_token.as_secs_f64() * tokens as f64).unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn requests_are_spread_evenly() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(2.0), None, start);
        let mut now = start;
        for number in 0..10 {
            now += pace.delay(now);
            assert_eq!(now - start, SECOND / 2 * number);
            pace.begin(now, 1000);
        }
        // What was not used is not saved up.
        now += 100 * SECOND;
        pace.begin(now, 0);
        assert_eq!(pace.delay(now), SECOND / 2);
    }

    #[test]
    fn tokens_are_counted_before_and_settled_after() {
        let start = Instant::now();
        let mut pace = Pace::new(None, Some(600.0), start);
        pace.begin(start, 100);
        assert_eq!(pace.delay(start).as_secs_f64().round(), 10.0);
        pace.settle(100, 40);
        assert_eq!(pace.delay(start).as_secs_f64().round(), 4.0);
        pace.settle(40, 90);
        assert_eq!(pace.delay(start).as_secs_f64().round(), 4.0, "more than was expected is not taken back");
    }

    #[test]
    fn a_server_can_ask_for_a_pause() {
        let start = Instant::now();
        let mut pace = Pace::new(None, None, start);
        assert_eq!(pace.delay(start), Duration::ZERO);
        pace.hold(start + 3 * SECOND);
        pace.hold(start + SECOND);
        assert_eq!(pace.delay(start + SECOND), 2 * SECOND);
    }
}
