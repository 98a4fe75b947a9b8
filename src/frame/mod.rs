//! Rows as columns: what aggregates compute with, on Arrow's arrays, read from and written to Parquet.
//!
//! A column has one of four types: truth values, whole numbers, numbers, texts (held as a dictionary, since most are the
//! names of a few groups). Whatever else a file holds becomes one of them or is refused. Knows files and nothing of stages.

mod build;
mod codes;
mod expression;
mod join;
mod parquet;
mod read;
#[cfg(test)]
mod tests;

pub use build::Builder;
pub use codes::{Codes, Grouping};
pub use expression::{Evaluated, Formula};
pub use join::{Keys, outer};
pub use read::{Found, Rows, Wanted, read};

use crate::report::table::{Cell, Column, Table};
use anyhow::{Context as _, bail, ensure};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray, UInt32Array};
use arrow_schema::DataType;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Named columns of equally many rows.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    columns: Vec<(String, ArrayRef)>,
    rows: usize,
}

/// The four types of columns, in the order in which one can be taken for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Nothing but nulls.
    Null,
    /// True or false.
    Bool,
    /// Whole numbers.
    Int,
    /// Numbers.
    Float,
    /// Texts.
    Text,
}

impl Type {
    /// What an array of this crate holds.
    fn of(array: &ArrayRef) -> Self {
        match array.data_type() {
            DataType::Boolean => Type::Bool,
            DataType::Int64 => Type::Int,
            DataType::Float64 => Type::Float,
            DataType::Dictionary(..) => Type::Text,
            _ => Type::Null,
        }
    }

    /// The narrowest type that holds values of both.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Type::Null, other) | (other, Type::Null) => other,
            (Type::Int, Type::Float) | (Type::Float, Type::Int) => Type::Float,
            _ => Type::Text,
        }
    }
}

impl Frame {
    /// Columns of `rows` rows each.
    ///
    /// # Panics
    /// If a column has another length: a bug.
    pub fn new(columns: Vec<(String, ArrayRef)>, rows: usize) -> Self {
        assert!(columns.iter().all(|(_, array)| array.len() == rows), "columns of one length");
        Self { columns, rows }
    }

    /// The same cells.
    pub fn of_table(table: &Table) -> Self {
        let column = |column: &Column| {
            let mut builder = Builder::default();
            column.cells.iter().for_each(|cell| builder.push_cell(cell));
            (column.name.clone(), builder.finish().0)
        };
        Self::new(table.columns.iter().map(column).collect(), table.rows())
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The names of all columns.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.columns.iter().find(|(known, _)| known == name).map(|(_, array)| array)
    }

    /// Whether the column's cells are numbers, or there is nothing in it.
    pub fn is_numeric(&self, name: &str) -> bool {
        self.column(name).is_some_and(|array| matches!(Type::of(array), Type::Int | Type::Float | Type::Null))
    }

    /// Puts a column behind the others, or in the place of the one of that name.
    pub fn set(&mut self, name: &str, array: ArrayRef) {
        assert_eq!(array.len(), self.rows, "columns of one length");
        match self.columns.iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = array,
            None => self.columns.push((name.to_string(), array)),
        }
    }

    /// The same value in every row.
    pub fn set_all(&mut self, name: &str, value: &serde_json::Value) {
        let mut builder = Builder::default();
        builder.push(value);
        let rows = UInt32Array::from(vec![0; self.rows]);
        // One row, taken many times: the indices are within it.
        if let Ok(array) = arrow_select::take::take(&builder.finish().0, &rows, None) {
            self.set(name, array);
        }
    }

    /// Only the columns that are wanted, in their order.
    pub fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.columns.retain(|(name, _)| is_wanted(name));
    }

    /// Another name for a column.
    pub fn rename(&mut self, name: &str, to: &str) {
        if let Some((place, _)) = self.columns.iter_mut().find(|(known, _)| known == name) {
            *place = to.to_string();
        }
    }

    /// The rows that the mask keeps.
    pub fn filter(&self, mask: &[bool]) -> anyhow::Result<Self> {
        let mask = BooleanArray::from(mask.to_vec());
        let rows = mask.true_count();
        let filter = arrow_select::filter::FilterBuilder::new(&mask).optimize().build();
        let columns = self.columns.iter().map(|(name, array)| Ok((name.clone(), filter.filter(array)?)));
        Ok(Self { columns: columns.collect::<anyhow::Result<_>>()?, rows })
    }

    /// The rows of these numbers, in this order; nulls where there is none.
    pub fn take(&self, rows: &UInt32Array) -> anyhow::Result<Self> {
        let take = |array: &ArrayRef| arrow_select::take::take(array, rows, None);
        let columns = self.columns.iter().map(|(name, array)| Ok((name.clone(), take(array)?)));
        Ok(Self { columns: columns.collect::<anyhow::Result<_>>()?, rows: rows.len() })
    }

    /// The rows of all frames, one below the other: columns meet by their names, and have nulls where a frame has none of
    /// that name. Also the names of columns that had to become texts because frames differ in their type.
    pub fn stack(frames: &[Frame]) -> anyhow::Result<(Self, BTreeSet<String>)> {
        let mut names: Vec<&str> = Vec::new();
        for name in frames.iter().flat_map(Frame::names) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let (mut columns, mut mixed) = (Vec::new(), BTreeSet::new());
        for name in names {
            let present = || frames.iter().filter_map(|frame| frame.column(name));
            let common = present().map(Type::of).fold(Type::Null, Type::with);
            if common == Type::Text && present().any(|array| !matches!(Type::of(array), Type::Text | Type::Null)) {
                mixed.insert(name.to_string());
            }
            let part = |frame: &Frame| match frame.column(name) {
                Some(array) => as_type(array, common),
                None => nulls(common, frame.rows),
            };
            let parts: Vec<ArrayRef> = frames.iter().map(part).collect();
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            let joined = arrow_select::concat::concat(&parts).with_context(|| format!("column `{name}`"))?;
            columns.push((name.to_string(), joined));
        }
        Ok((Self { columns, rows: frames.iter().map(|frame| frame.rows).sum() }, mixed))
    }

    /// The numbers of a column; NaN where there is none. True is 1, false 0.
    ///
    /// # Errors
    /// If it holds texts: says in which row, and what.
    pub fn numbers(&self, name: &str) -> anyhow::Result<Vec<f64>> {
        let array = self.column(name).with_context(|| format!("there is no column `{name}`"))?;
        let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
        Ok(match Type::of(array) {
            Type::Null => vec![f64::NAN; self.rows],
            Type::Int => {
                array.as_primitive::<Int64Type>().iter().map(|value| number(value.map(|v| v as f64))).collect()
            }
            Type::Float => array.as_primitive::<Float64Type>().iter().map(number).collect(),
            Type::Bool => {
                array.as_boolean().iter().map(|value| number(value.map(|v| f64::from(u8::from(v))))).collect()
            }
            Type::Text => {
                let row = (0..self.rows).find(|row| array.is_valid(*row)).unwrap_or(0);
                bail!("`{name}` is {:?} in row {}: expected numbers", text(array, row).unwrap_or_default(), row + 1)
            }
        })
    }

    /// One cell.
    pub fn cell(&self, column: usize, row: usize) -> Cell {
        cell(&self.columns[column].1, row)
    }

    /// The same cells as a plain table.
    pub fn to_table(&self) -> Table {
        let column = |(name, array): &(String, ArrayRef)| Column {
            name: name.clone(),
            cells: (0..self.rows).map(|row| cell(array, row)).collect(),
        };
        Table { columns: self.columns.iter().map(column).collect() }
    }

    /// Each row's group by the values of these columns.
    ///
    /// # Errors
    /// A column that is not there.
    pub fn group(&self, names: &[&str]) -> anyhow::Result<Grouping> {
        ensure!(u32::try_from(self.rows).is_ok(), "{} rows are more than 4294967295", self.rows);
        let mut grouping = Grouping::whole(self.rows);
        for name in names {
            let array = self.column(name).with_context(|| format!("there is no column `{name}`"))?;
            grouping = grouping.split(&Codes::of(array));
        }
        Ok(grouping)
    }
}

/// One cell of a column; NaN is null.
fn cell(array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    match Type::of(array) {
        Type::Null => Cell::Null,
        Type::Bool => Cell::Bool(array.as_boolean().value(row)),
        Type::Int => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        Type::Float => match array.as_primitive::<Float64Type>().value(row) {
            value if value.is_nan() => Cell::Null,
            value => Cell::Float(value),
        },
        Type::Text => Cell::Text(text(array, row).unwrap_or_default().to_string()),
    }
}

/// A text of a dictionary.
fn text(array: &ArrayRef, row: usize) -> Option<&str> {
    let texts = array.as_dictionary_opt::<Int32Type>()?;
    let place = texts.key(row)?;
    Some(texts.values().as_string_opt::<i32>()?.value(place))
}

/// The array as one of a type that holds its values.
fn as_type(array: &ArrayRef, wanted: Type) -> ArrayRef {
    match (Type::of(array), wanted) {
        (found, wanted) if found == wanted => Arc::clone(array),
        (Type::Null, wanted) => nulls(wanted, array.len()),
        (Type::Int, Type::Float) => {
            Arc::new(array.as_primitive::<Int64Type>().unary::<_, Float64Type>(|value| value as f64))
        }
        _ => {
            let mut texts = arrow_array::builder::StringDictionaryBuilder::<Int32Type>::new();
            for row in 0..array.len() {
                match cell(array, row) {
                    Cell::Null => texts.append_null(),
                    found => texts.append_value(found.text()),
                }
            }
            Arc::new(texts.finish())
        }
    }
}

/// Nothing, as often as said.
fn nulls(wanted: Type, rows: usize) -> ArrayRef {
    match wanted {
        Type::Null => Arc::new(arrow_array::NullArray::new(rows)),
        Type::Bool => Arc::new(BooleanArray::new_null(rows)),
        Type::Int => Arc::new(Int64Array::new_null(rows)),
        Type::Float => Arc::new(Float64Array::new_null(rows)),
        Type::Text => {
            let no_texts: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
            Arc::new(DictionaryArray::<Int32Type>::new(arrow_array::Int32Array::new_null(rows), no_texts))
        }
    }
}

/// Known names as a message lists them.
pub fn list<'a>(names: impl Iterator<Item = &'a str>) -> Cow<'static, str> {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { Cow::Borrowed("none") } else { Cow::Owned(names.join(", ")) }
}
