//! Rows: ordered JSON objects, read from and written to files. A row carries all its columns through a pipeline, with an
//! id. Knows file formats; not what a column means.

mod read;
mod write;

pub use read::{ReadError, read, read_all, read_as};
pub use write::Writer;

use crate::key::{Digest, canonical};
use serde_json::Value;
use std::borrow::Cow;

/// A row: columns in the order of the file.
pub type Row = serde_json::Map<String, Value>;

/// Column of the row's id.
pub const ID: &str = "id";
/// Column of what the model is told to do.
pub const INSTRUCTION: &str = "instruction";
/// Column of what it is told to do it with; may be empty.
pub const INPUT: &str = "input";
/// Column of the right answer.
pub const OUTPUT: &str = "output";
/// Column of the model's answer.
pub const PREDICTION: &str = "prediction";

/// The row's content as a digest: the order of its columns does not matter.
pub fn digest(row: &Row) -> Digest {
    Digest::of(canonical(&Value::Object(row.clone())).as_bytes())
}

/// The row's id: its `id` column, else the first 16 hex digits of its digest.
pub fn id(row: &Row) -> String {
    match text(row, ID) {
        Some(id) => id.into_owned(),
        None => digest(row).to_string()[..16].to_string(),
    }
}

/// A column as text: a string as it is, a number or a boolean as JSON writes it. `None` if it is absent or null.
pub fn text<'a>(row: &'a Row, column: &str) -> Option<Cow<'a, str>> {
    match row.get(column)? {
        Value::Null => None,
        Value::String(text) => Some(Cow::Borrowed(text)),
        other => Some(Cow::Owned(other.to_string())),
    }
}

/// Says that a row lacks a column that it needs, and what it has.
pub fn lacks(row: &Row, column: &str) -> String {
    format!("the row has no `{column}`: it has {}", columns(row))
}

/// The same of a column that a setting names.
pub fn lacks_named(row: &Row, column: &str, setting: &str) -> String {
    format!("the row has no `{column}`, which `{setting}` names: it has {}", columns(row))
}

/// Adds a column behind the others, in the place of an earlier one of that name.
pub fn put(row: &mut Row, column: &str, value: Value) {
    row.shift_remove(column);
    row.insert(column.to_string(), value);
}

/// The names of a row's columns, for messages.
pub fn columns(row: &Row) -> String {
    let names: Vec<String> = row.keys().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no columns".to_string() } else { names.join(", ") }
}
