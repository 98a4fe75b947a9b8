//! Files → frames: rows of JSONL, JSON, CSV and TSV (also with gzip), and Parquet.

use super::{Builder, Frame, Type, parquet};
use crate::row;
use anyhow::Context as _;
use arrow_array::ArrayRef;
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int32Type;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which columns of a file are read.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// All.
    All,
    /// Those of these names, as far as they are there; a name stands for all that begin with it and a dot, too.
    Some(&'a BTreeSet<String>),
}

impl Wanted<'_> {
    pub(super) fn has(self, name: &str) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Some(names) => {
                names.contains(name) || name.match_indices('.').any(|(end, _)| names.contains(&name[..end]))
            }
        }
    }
}

/// A file's rows.
#[derive(Debug)]
pub struct Found {
    /// The wanted columns.
    pub frame: Frame,
    /// The names of all columns that the file has.
    pub names: BTreeSet<String>,
    /// Those that hold values of different kinds, and are texts therefore.
    pub mixed: BTreeSet<String>,
}

/// Reads a file by the ending of its name. Tables within rows become columns with a dot: `scores.em`; a `.json` file may be
/// one table of such, which is one row. Texts of CSV files that are all numbers are numbers; empty ones are nulls.
///
/// # Errors
/// It cannot be opened or has another form than its name says; a row cannot be read.
pub fn read(path: &Path, name: &str, wanted: Wanted<'_>) -> anyhow::Result<Found> {
    let ending = |text: &str, ending: &str| text.to_lowercase().ends_with(ending);
    let file = path.to_string_lossy();
    if ending(&file, ".parquet") {
        return parquet::read(path, wanted).with_context(|| name.to_string());
    }
    if ending(&file, ".json")
        && let Some(row) = one_row(path)
    {
        let mut rows = Rows::default();
        rows.add(&row, wanted);
        return Ok(rows.finish(false));
    }
    let is_csv = [".csv", ".tsv", ".csv.gz", ".tsv.gz"].iter().any(|known| ending(&file, known));
    let mut rows = Rows::default();
    for item in row::read(path, name)? {
        let (_, row) = item?;
        rows.add(&row, wanted);
    }
    Ok(rows.finish(is_csv))
}

/// A `.json` file that is one table, such as a summary. A table of this program's own is rows.
fn one_row(path: &Path) -> Option<row::Row> {
    match serde_json::from_slice(&std::fs::read(path).ok()?).ok()? {
        Value::Object(row) => Some(row),
        _ => None,
    }
}

/// Rows while they are read: columns that grow.
#[derive(Debug, Default)]
pub struct Rows {
    columns: Vec<Builder>,
    places: BTreeMap<String, usize>,
    order: Vec<String>,
    names: BTreeSet<String>,
    rows: usize,
}

impl Rows {
    /// One more row.
    pub fn add(&mut self, row: &row::Row, wanted: Wanted<'_>) {
        for (name, value) in row {
            self.add_value(name, value, wanted);
        }
        self.end_row();
    }

    /// Ends a row: what was not given is null.
    pub fn end_row(&mut self) {
        self.rows += 1;
    }

    /// A value of the row that has not ended.
    pub fn add_value(&mut self, name: &str, value: &Value, wanted: Wanted<'_>) {
        if let Value::Object(inner) = value {
            for (below, value) in inner {
                self.add_value(&format!("{name}.{below}"), value, wanted);
            }
            return;
        }
        if !self.names.contains(name) {
            self.names.insert(name.to_string());
        }
        if !wanted.has(name) {
            return;
        }
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => {
                self.places.insert(name.to_string(), self.columns.len());
                self.order.push(name.to_string());
                self.columns.push(Builder::default());
                self.columns.len() - 1
            }
        };
        let column = &mut self.columns[place];
        column.pad(self.rows);
        // A name that stands twice in one row counts once.
        if column.len() == self.rows {
            column.push(value);
        }
    }

    /// The columns; texts of CSV files that are all numbers become numbers.
    pub fn finish(self, is_csv: bool) -> Found {
        let (mut columns, mut mixed) = (Vec::new(), BTreeSet::new());
        for (name, mut column) in self.order.into_iter().zip(self.columns) {
            column.pad(self.rows);
            let (array, is_mixed) = column.finish();
            if is_mixed {
                mixed.insert(name.clone());
            }
            columns.push((name, if is_csv { of_texts(array) } else { array }));
        }
        Found { frame: Frame::new(columns, self.rows), names: self.names, mixed }
    }
}

/// A column of texts as one of numbers, if they all are; empty texts are nulls.
fn of_texts(array: ArrayRef) -> ArrayRef {
    if Type::of(&array) != Type::Text {
        return array;
    }
    let texts = array.as_dictionary::<Int32Type>();
    let values = texts.values().as_string::<i32>();
    // A number that is written in another way (`007`) is a name.
    let number = |text: &str| -> Option<Value> {
        match text.parse::<i64>() {
            Ok(value) => (value.to_string() == text).then(|| value.into()),
            Err(_) => text.parse::<f64>().ok().filter(|value| value.is_finite()).map(Value::from),
        }
    };
    let parsed: Vec<Option<Value>> =
        values.iter().flatten().map(|text| if text.is_empty() { Some(Value::Null) } else { number(text) }).collect();
    let are_numbers = parsed.iter().all(Option::is_some);
    let mut builder = Builder::default();
    for key in texts.keys() {
        let key = key.map(|key| key as usize);
        match key {
            Some(key) if are_numbers => builder.push(parsed[key].as_ref().unwrap_or(&Value::Null)),
            Some(key) if !values.value(key).is_empty() => builder.push_text(values.value(key)),
            _ => builder.push_null(),
        }
    }
    builder.finish().0
}
