//! Steps that compare two texts.

use super::super::python_literal;
use super::super::text::{is_space, places};
use serde_json::Value;

crate::words! {
    /// What makes an answer the same as its reference.
    pub enum Equal {
        /// Every character.
        Text = "text",
        /// The number that they are; see `tolerance`.
        Number = "number",
        /// The JSON that they are: the order of an object's names does not count, and `1` is `1.0`.
        Json = "json",
        /// The literal of Python that they are, as Python compares it: `1 == 1.0 == True`. Nothing is executed.
        Python = "python",
    }
}

crate::words! {
    /// How the reference stands in the answer.
    pub enum Contains {
        /// Anywhere.
        Text = "text",
        /// As a word, or words, of its own.
        Word = "word",
    }
}

/// A number: a sign that does not stand behind a letter or digit, digits with or without commas between thousands, a
/// fraction, an exponent.
pub(super) const NUMBER: &str =
    r"(?:(?<![\w.])[-+])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?";

/// How two texts are compared.
#[derive(Debug)]
pub(super) enum Compare {
    Equal { equal: Equal, absolute: f64, relative: f64 },
    Contains(Contains),
}

impl Compare {
    /// Whether the comparison holds; `None` if the reference is not what is compared.
    pub(super) fn holds(&self, prediction: &str, reference: &str) -> Option<bool> {
        match self {
            Compare::Equal { equal: Equal::Text, .. } => Some(prediction == reference),
            Compare::Equal { equal: Equal::Number, absolute, relative } => {
                let reference = number(reference)?;
                Some(number(prediction).is_some_and(|prediction| {
                    let distance = (prediction - reference).abs();
                    distance <= absolute.max(relative * reference.abs()) || prediction == reference
                }))
            }
            Compare::Equal { equal: Equal::Json, .. } => {
                let reference = serde_json::from_str(reference).ok()?;
                Some(serde_json::from_str(prediction).is_ok_and(|prediction| json_equal(&prediction, &reference)))
            }
            Compare::Equal { equal: Equal::Python, .. } => {
                let reference = python_literal::parse(reference).ok()?;
                Some(python_literal::parse(prediction).is_ok_and(|prediction| prediction == reference))
            }
            Compare::Contains(Contains::Text) => Some(prediction.contains(reference)),
            Compare::Contains(Contains::Word) => {
                Some(!reference.is_empty() && places(prediction, reference).next().is_some())
            }
        }
    }
}

/// The number that a text is.
fn number(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    // Names of what is no number are none here.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.,eE".contains(&byte));
    is_number.then(|| text.replace(',', "").parse().ok())?
}

fn json_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64() == other.as_f64() && !both_whole(one, other)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| json_equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(name, value): (&String, &Value)| other.get(name).is_some_and(|other| json_equal(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}

/// Whole numbers beyond 2^53 may be one float and yet two numbers.
fn both_whole(one: &serde_json::Number, other: &serde_json::Number) -> bool {
    let is_whole = |number: &serde_json::Number| number.is_i64() || number.is_u64();
    is_whole(one) && is_whole(other)
}
