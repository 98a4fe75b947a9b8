//! Names: one, or a list of them.

use super::{Decode, Schema, Value, ValueKind, schema};
use crate::diagnostic::Problems;
use serde::{Deserialize, Serialize};

/// Names: in a manifest one string, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Names(pub Vec<String>);

impl Decode for Names {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let names = match &value.kind {
            ValueKind::String(name) => vec![name.clone()],
            _ => Vec::decode(value, problems)?,
        };
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            problems.at(value.span, format!("`{}` is named twice", twice.1));
            return None;
        }
        Some(Self(names))
    }

    fn schema() -> Schema {
        schema::any_of([String::schema(), schema::list(&String::schema())])
    }
}
