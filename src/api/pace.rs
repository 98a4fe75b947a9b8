//! When the next call may begin: so many requests and tokens per minute, evenly spread, and pauses that a server asks for.
//!
//! Pure: the time is told, as what has passed since some moment. Servers count in windows of their own, some of a second;
//! what is spread evenly is right in all of them.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// No call waits longer than this for what is written down: the clock may have been wrong.
const LONGEST: Duration = Duration::from_secs(3600);

/// How fast calls may follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    per_request: Duration,
    per_token: Duration,
}

/// No call begins before any of these, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Times {
    request: u64,
    tokens: u64,
    held: u64,
}

impl Pace {
    pub(super) fn new(requests_per_second: Option<f64>, tokens_per_minute: Option<f64>) -> Self {
        let each = |rate: Option<f64>, span: f64| {
            rate.and_then(|rate| Duration::try_from_secs_f64(span / rate).ok()).unwrap_or(Duration::ZERO)
        };
        Self { per_request: each(requests_per_second, 1.0), per_token: each(tokens_per_minute, 60.0) }
    }

    /// How long a call has to wait.
    pub(super) fn delay(&self, times: &Times, now: Duration) -> Duration {
        let Times { request, tokens, held } = *times;
        // A pace that asks for nothing does not wait for others' either.
        let request = if self.per_request.is_zero() { 0 } else { request };
        let tokens = if self.per_token.is_zero() { 0 } else { tokens };
        Duration::from_micros(request.max(tokens).max(held)).saturating_sub(now)
    }

    /// A call begins, which may have so many tokens.
    pub(super) fn begin(&self, times: &mut Times, now: Duration, tokens: u64) {
        let after = |time: u64, more: Duration| time.max(micros(now)).saturating_add(micros(more));
        times.request = after(times.request, self.per_request);
        times.tokens = after(times.tokens, self.time_of(tokens));
    }

    /// It had fewer.
    pub(super) fn settle(&self, times: &mut Times, expected: u64, tokens: u64) {
        times.tokens = times.tokens.saturating_sub(micros(self.time_of(expected.saturating_sub(tokens))));
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn time_of(&self, tokens: u64) -> Duration {
        Duration::try_from_secs_f64(self.per_token.as_secs_f64() * tokens as f64).unwrap_or(Duration::ZERO)
    }
}

impl Times {
    /// The server wants to be left alone for a while.
    pub(super) fn hold(&mut self, until: Duration) {
        self.held = self.held.max(micros(until));
    }

    /// Nothing that is written down is further away than an hour.
    pub(super) fn bound(&mut self, now: Duration) {
        let last = micros(now + LONGEST);
        for time in [&mut self.request, &mut self.tokens, &mut self.held] {
            *time = (*time).min(last);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// Some moment.
    const START: Duration = Duration::from_secs(1_600_000_000);

    #[test]
    fn requests_are_spread_evenly() {
        let (pace, mut times) = (Pace::new(Some(2.0), None), Times::default());
        let mut now = START;
        for number in 0..10 {
            now += pace.delay(&times, now);
            assert_eq!(now - START, SECOND / 2 * number);
            pace.begin(&mut times, now, 1000);
        }
        // What was not used is not saved up.
        now += 100 * SECOND;
        pace.begin(&mut times, now, 0);
        assert_eq!(pace.delay(&times, now), SECOND / 2);
    }

    #[test]
    fn tokens_are_counted_before_and_settled_after() {
        let (pace, mut times) = (Pace::new(None, Some(600.0)), Times::default());
        pace.begin(&mut times, START, 100);
        assert_eq!(pace.delay(&times, START).as_secs_f64().round(), 10.0);
        pace.settle(&mut times, 100, 40);
        assert_eq!(pace.delay(&times, START).as_secs_f64().round(), 4.0);
        pace.settle(&mut times, 40, 90);
        assert_eq!(pace.delay(&times, START).as_secs_f64().round(), 4.0, "more than was expected is not taken back");
    }

    #[test]
    fn a_server_can_ask_for_a_pause() {
        let (pace, mut times) = (Pace::new(None, None), Times::default());
        assert_eq!(pace.delay(&times, START), Duration::ZERO);
        times.hold(START + 3 * SECOND);
        times.hold(START + SECOND);
        assert_eq!(pace.delay(&times, START + SECOND), 2 * SECOND);
        times.hold(START + 9000 * SECOND);
        times.bound(START);
        assert_eq!(pace.delay(&times, START), LONGEST);
    }
}
