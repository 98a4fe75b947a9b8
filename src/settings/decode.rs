//! How single values are read.

use super::{Value, ValueKind};
use crate::diagnostic::Problems;
use std::collections::BTreeMap;

/// A type that can be read from a value. Problems are reported at the value's place.
pub trait Decode: Sized {
    /// Reads `value`; `None` if a problem was reported.
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self>;

    /// What stands for a setting that is not there, if that is allowed.
    fn absent() -> Option<Self> {
        None
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
}

impl Decode for bool {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match value.kind {
            ValueKind::Boolean(flag) => Some(flag),
            _ => mismatch(value, "true or false", problems),
        }
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
}

impl Decode for i64 {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match value.kind {
            ValueKind::Integer(number) => Some(number),
            _ => mismatch(value, "an integer", problems),
        }
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
}

impl<T: Decode> Decode for Option<T> {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        T::decode(value, problems).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
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
}

impl Decode for serde_json::Value {
    fn decode(value: &Value, _: &mut Problems) -> Option<Self> {
        Some(value.to_json())
    }
}
