//! Amounts with units, as people write them: `"90s"`, `"2 h"`, `"8 GiB"`.

use super::{Decode, Schema, Value, ValueKind, schema};
use crate::diagnostic::{Diagnostic, Problems};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Units of time in seconds, the shortest name first.
const TIMES: [(&str, f64); 10] = [
    ("ms", 0.001),
    ("s", 1.0),
    ("sec", 1.0),
    ("m", 60.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("hours", 3600.0),
    ("d", 86_400.0),
    ("days", 86_400.0),
    ("weeks", 604_800.0),
];

/// Units of memory in bytes: powers of ten, and with an `i` of two (IEC 80000-13).
const SIZES: [(&str, f64); 9] = [
    ("b", 1.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("tib", 1_099_511_627_776.0),
];

/// A span of time in seconds: a number, or a text with a unit.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(pub f64);

impl Seconds {
    /// As the standard library has it.
    pub fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }
}

/// A number of bytes: a number, or a text with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let mut number = self.0 as f64;
        let mut unit = "bytes";
        for larger in ["KiB", "MiB", "GiB", "TiB"] {
            if number < 1024.0 {
                break;
            }
            number /= 1024.0;
            unit = larger;
        }
        match unit {
            "bytes" => write!(f, "{} bytes", self.0),
            _ if number < 10.0 => write!(f, "{number:.1} {unit}"),
            _ => write!(f, "{number:.0} {unit}"),
        }
    }
}

/// The number and the factor of its unit. `None`: it is neither.
fn amount(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = (text[..split].parse::<f64>().ok()?, text[split..].trim().to_ascii_lowercase());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some(number * factor)
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A thousand years are more than anybody waits, and fit into every clock.
        amount(text, &TIMES)
            .filter(|seconds| *seconds < 3.2e10)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no span of time: for example `90s`, `10 min`, `2h`, `30d`"))
    }
}

impl FromStr for Bytes {
    type Err = String;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "looked at before")]
    fn from_str(text: &str) -> Result<Self, String> {
        amount(text, &SIZES)
            .filter(|bytes| *bytes < 1e18)
            .map(|bytes| Self(bytes as u64))
            .ok_or_else(|| format!("`{text}` is no size: for example `500 MB`, `8 GiB`"))
    }
}

/// Reads a text by `FromStr`; the message is its error.
fn by_text<T: FromStr<Err = String>>(text: &str, value: &Value, problems: &mut Problems) -> Option<T> {
    match text.parse() {
        Ok(amount) => Some(amount),
        Err(message) => {
            problems.push(Diagnostic::at(value.span, message));
            None
        }
    }
}

impl Decode for Seconds {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::String(text) => by_text(text, value, problems),
            _ => by_text(&format!("{}s", f64::decode(value, problems)?), value, problems),
        }
    }

    fn schema() -> Schema {
        let number = json!({ "type": "number", "minimum": 0, "description": "Seconds." });
        let text = json!({ "type": "string", "description": "With a unit: `90s`, `10 min`, `2h`, `30d`." });
        schema::any_of([number, text])
    }
}

impl Decode for Bytes {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::String(text) => by_text(text, value, problems),
            _ => u64::decode(value, problems).map(Self),
        }
    }

    fn schema() -> Schema {
        let number = schema::described(u64::schema(), &["Bytes."]);
        let text = json!({ "type": "string", "description": "With a unit: `500 MB`, `8 GiB`." });
        schema::any_of([number, text])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        let seconds = |text: &str| text.parse::<Seconds>().map(|seconds| seconds.0);
        assert_eq!(seconds("90s"), Ok(90.0));
        assert_eq!(seconds(" 1.5 h"), Ok(5400.0));
        assert_eq!(seconds("30d"), Ok(2_592_000.0));
        for bad in ["", "h", "5", "5 parsecs", "-1s", "1e400s", "99999999 weeks"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!("8 GiB".parse(), Ok(Bytes(8 << 30)));
        assert_eq!("500MB".parse(), Ok(Bytes(500_000_000)));
        assert!("8".parse::<Bytes>().is_err() && "999999999 TB".parse::<Bytes>().is_err());
    }

    #[test]
    fn bytes_are_shown_short() {
        assert_eq!([Bytes(12), Bytes(1536), Bytes(48 << 20)].map(|b| b.to_string()), ["12 bytes", "1.5 KiB", "48 MiB"]);
    }
}
