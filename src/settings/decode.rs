//! How single values are read.

use super::{Schema, Value, ValueKind, schema};
use crate::diagnostic::{Problems, Span};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// A type that can be read from a value. Problems are reported at the value's place.
pub trait Decode: Sized {
    /// Reads `value`; `None` if a problem was reported.
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self>;

    /// What stands for a setting that is not there, if that is allowed.
    fn absent() -> Option<Self> {
        None
    }

    /// Everything that [`Decode::decode`] takes, and of the rest as much as can be said.
    fn schema() -> Schema;

    /// How it is written in a manifest, where that is not how a key writes it.
    fn written(&self) -> serde_json::Value
    where
        Self: Serialize,
    {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// A setting with its place, for what is only found wrong beside others.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// The setting.
    pub value: T,
    /// Where its value stands.
    pub span: Span,
}

impl<T: Decode> Decode for At<T> {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        Some(Self { value: T::decode(value, problems)?, span: value.span })
    }

    fn schema() -> Schema {
        T::schema()
    }
}

fn mismatch<T>(value: &Value, wanted: &str, problems: &mut Problems) -> Option<T> {
    problems.at(value.span, format!("expected {wanted}, found {}", value.describe()));
    None
}

impl Decode for String {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::String(text) => Some(text.clone()),
            _ => mismatch(value, "a string", problems),
        }
    }

    fn schema() -> Schema {
        json!({ "type": "string" })
    }
}

impl Decode for bool {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match value.kind {
            ValueKind::Boolean(flag) => Some(flag),
            _ => mismatch(value, "true or false", problems),
        }
    }

    fn schema() -> Schema {
        json!({ "type": "boolean" })
    }
}

impl Decode for f64 {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match value.kind {
            ValueKind::Float(number) if number.is_finite() => Some(number),
            #[expect(clippy::cast_precision_loss, reason = "settings are far below 2^53")]
            ValueKind::Integer(number) => Some(number as f64),
            _ => mismatch(value, "a finite number", problems),
        }
    }

    fn schema() -> Schema {
        json!({ "type": "number" })
    }
}

impl Decode for i64 {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match value.kind {
            ValueKind::Integer(number) => Some(number),
            _ => mismatch(value, "an integer", problems),
        }
    }

    fn schema() -> Schema {
        json!({ "type": "integer" })
    }
}

macro_rules! unsigned {
    ($($ty:ty),*) => {$(
        impl Decode for $ty {
            fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
                match value.kind {
                    ValueKind::Integer(number) => match <$ty>::try_from(number) {
                        Ok(number) => Some(number),
                        Err(_) => {
                            problems.at(value.span, format!("`{number}` is out of range: expected 0 to {}", <$ty>::MAX));
                            None
                        }
                    },
                    _ => mismatch(value, "an integer", problems),
                }
            }

            fn schema() -> Schema {
                // TOML's integers have 64 bits, with their sign.
                json!({ "type": "integer", "minimum": 0, "maximum": i64::try_from(<$ty>::MAX).unwrap_or(i64::MAX) })
            }
        }
    )*};
}
unsigned!(u8, u32, u64, usize);

impl Decode for std::num::NonZeroU32 {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let number = Self::new(u32::decode(value, problems)?);
        if number.is_none() {
            problems.at(value.span, "`0` is out of range: expected 1 or more");
        }
        number
    }

    fn schema() -> Schema {
        json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        T::decode(value, problems).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn schema() -> Schema {
        T::schema()
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::Array(items) => {
                let read: Vec<Option<T>> = items.iter().map(|item| T::decode(item, problems)).collect();
                read.into_iter().collect()
            }
            _ => mismatch(value, "a list", problems),
        }
    }

    fn schema() -> Schema {
        schema::list(&T::schema())
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::Table(table) => {
                let read: Vec<Option<(String, T)>> = table
                    .entries
                    .iter()
                    .map(|(key, value)| Some((key.name.clone(), T::decode(value, problems)?)))
                    .collect();
                read.into_iter().collect()
            }
            _ => mismatch(value, "a table", problems),
        }
    }

    fn schema() -> Schema {
        schema::map(&T::schema())
    }
}

impl Decode for serde_json::Value {
    fn decode(value: &Value, _: &mut Problems) -> Option<Self> {
        Some(value.to_json())
    }

    fn schema() -> Schema {
        json!({})
    }
}
