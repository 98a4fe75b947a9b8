//! In what two files differ, and by how much: rows by their values, JSON by its paths, tensors by their elements, anything
//! else by its bytes.
//!
//! Knows files and their forms; not the cache, not stages. What cannot be read in the form that its name promises is
//! compared by bytes, so that a damaged file is a difference and no failure.

mod rows;
mod tensors;
#[cfg(test)]
mod tests;
mod values;

pub use tensors::{Tensor, Tensors};
pub use values::{Pair, Values};

use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

/// How two files differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// Files of rows: JSONL, CSV.
    Rows(Rows),
    /// JSON documents.
    Json(Values),
    /// Files of tensors: safetensors.
    Tensors(Tensors),
    /// Anything else.
    Bytes(Bytes),
}

/// How two files of rows differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rows {
    /// Rows of the old file.
    pub old: u64,
    /// Rows of the new file.
    pub new: u64,
    /// Rows, of those that both files have, that differ.
    pub differing: u64,
    /// The first that does, from 1.
    pub first: Option<u64>,
    /// How the values of all rows differ; the first pair is of the first row.
    pub values: Values,
}

/// How two files differ as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Length of the old file.
    pub old: u64,
    /// Length of the new file.
    pub new: u64,
    /// Where the first byte differs, from 0; the shorter length if one is the beginning of the other.
    pub offset: u64,
}

/// Compares two files. `name` is what they are called, and tells their form. `None`: they are equal.
///
/// # Errors
/// If one of them cannot be read.
pub fn files(name: &str, old: &Path, new: &Path) -> io::Result<Option<Difference>> {
    let Some(bytes) = bytes(old, new)? else { return Ok(None) };
    let by_form = match name.rsplit('.').next().unwrap_or_default() {
        "jsonl" => rows::json(old, new)?.map(Difference::Rows),
        "csv" => rows::csv(old, new)?.map(Difference::Rows),
        "json" => values::files(old, new)?.map(Difference::Json),
        "safetensors" => tensors::files(old, new)?.map(Difference::Tensors),
        _ => None,
    };
    Ok(Some(by_form.unwrap_or(Difference::Bytes(bytes))))
}

fn bytes(old: &Path, new: &Path) -> io::Result<Option<Bytes>> {
    let (old, new) = (File::open(old)?, File::open(new)?);
    let (old_size, new_size) = (old.metadata()?.len(), new.metadata()?.len());
    let (mut old, mut new) = (BufReader::with_capacity(1 << 16, old), BufReader::with_capacity(1 << 16, new));
    let mut offset = 0;
    loop {
        let (a, b) = (old.fill_buf()?, new.fill_buf()?);
        let both = a.len().min(b.len());
        if let Some(place) = (0..both).find(|&i| a[i] != b[i]) {
            return Ok(Some(Bytes { old: old_size, new: new_size, offset: offset + place as u64 }));
        }
        if both == 0 {
            return Ok((!a.is_empty() || !b.is_empty()).then_some(Bytes { old: old_size, new: new_size, offset }));
        }
        old.consume(both);
        new.consume(both);
        offset += both as u64;
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => rows.fmt(f),
            Self::Json(values) => values.fmt(f),
            Self::Tensors(tensors) => tensors.fmt(f),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, new, differing, first, values } = self;
        match first {
            Some(first) => write!(f, "{differing} of {old} rows differ, the first is row {first}: {values}")?,
            None => write!(f, "the rows that both have are equal")?,
        }
        if old == new { Ok(()) } else { write!(f, "; {old} rows → {new} rows") }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, new, offset } = self;
        match offset {
            offset if offset == old || offset == new => write!(f, "one is the beginning of the other")?,
            offset => write!(f, "byte {offset} is the first that differs")?,
        }
        if old == new { Ok(()) } else { write!(f, "; {old} bytes → {new} bytes") }
    }
}
