//! Values, one after the other → a column of the narrowest type that holds them all.

use super::{Type, as_type, nulls};
use crate::report::table::Cell;
use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringDictionaryBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{Array as _, ArrayRef};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// A column while it grows.
#[derive(Default)]
pub struct Builder {
    state: State,
    /// Values of different kinds met: the column has become one of texts.
    mixed: bool,
}

enum State {
    /// So many nulls.
    Null(usize),
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringDictionaryBuilder<Int32Type>),
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a column of {} values", self.len())
    }
}

impl Default for State {
    fn default() -> Self {
        State::Null(0)
    }
}

impl Builder {
    /// How many values there are.
    pub fn len(&self) -> usize {
        use arrow_array::builder::ArrayBuilder as _;
        match &self.state {
            State::Null(count) => *count,
            State::Bool(builder) => builder.len(),
            State::Int(builder) => builder.len(),
            State::Float(builder) => builder.len(),
            State::Text(builder) => builder.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nulls until there are `length` values.
    pub fn pad(&mut self, length: usize) {
        while self.len() < length {
            self.push_null();
        }
    }

    /// One more value of JSON; lists and tables become texts.
    pub fn push(&mut self, value: &Value) {
        match value {
            Value::Null => self.push_null(),
            Value::Bool(value) => self.push_cell(&Cell::Bool(*value)),
            Value::Number(number) => match number.as_i64() {
                Some(value) => self.push_cell(&Cell::Int(value)),
                None => self.push_cell(&Cell::Float(number.as_f64().unwrap_or(f64::NAN))),
            },
            Value::String(text) => self.push_text(text),
            Value::Array(_) | Value::Object(_) => self.push_text(&value.to_string()),
        }
    }

    /// One more cell.
    pub fn push_cell(&mut self, cell: &Cell) {
        match (cell, &mut self.state) {
            (Cell::Null, _) => self.push_null(),
            (Cell::Bool(value), State::Bool(builder)) => builder.append_value(*value),
            (Cell::Int(value), State::Int(builder)) => builder.append_value(*value),
            (Cell::Int(value), State::Float(builder)) => builder.append_value(*value as f64),
            (Cell::Float(value), State::Float(builder)) => builder.append_value(*value),
            (Cell::Text(text), _) => self.push_text(text),
            (other, State::Text(_)) => {
                self.mixed = true;
                self.push_text(&other.text());
            }
            (other, _) => {
                self.widen(match other {
                    Cell::Bool(_) => Type::Bool,
                    Cell::Int(_) => Type::Int,
                    Cell::Float(_) => Type::Float,
                    Cell::Text(_) | Cell::Null => Type::Text,
                });
                self.push_cell(cell);
            }
        }
    }

    /// One more text.
    pub fn push_text(&mut self, text: &str) {
        if !matches!(self.state, State::Text(_)) {
            self.widen(Type::Text);
        }
        if let State::Text(builder) = &mut self.state {
            builder.append_value(text);
        }
    }

    /// One more null.
    pub fn push_null(&mut self) {
        match &mut self.state {
            State::Null(count) => *count += 1,
            State::Bool(builder) => builder.append_null(),
            State::Int(builder) => builder.append_null(),
            State::Float(builder) => builder.append_null(),
            State::Text(builder) => builder.append_null(),
        }
    }

    /// The column, and whether it holds values of different kinds as texts.
    pub fn finish(self) -> (ArrayRef, bool) {
        let array: ArrayRef = match self.state {
            State::Null(count) => nulls(Type::Null, count),
            State::Bool(mut builder) => Arc::new(builder.finish()),
            State::Int(mut builder) => Arc::new(builder.finish()),
            State::Float(mut builder) => Arc::new(builder.finish()),
            State::Text(mut builder) => Arc::new(builder.finish()),
        };
        (array, self.mixed)
    }

    /// The values so far in a type that also holds values of `other`.
    fn widen(&mut self, other: Type) {
        let before = std::mem::take(self);
        let was_mixed = before.mixed;
        let (array, _) = before.finish();
        let found = Type::of(&array);
        let wanted = found.with(other);
        let is_mixed = wanted == Type::Text && (!matches!(found, Type::Null | Type::Text) || other != Type::Text);
        *self = Self { state: State::of(&as_type(&array, wanted), wanted), mixed: was_mixed || is_mixed };
    }
}

impl State {
    /// A builder that begins with the values of an array of that type.
    fn of(array: &ArrayRef, wanted: Type) -> Self {
        let mut begun = Builder {
            state: match wanted {
                Type::Null => State::Null(0),
                Type::Bool => State::Bool(BooleanBuilder::new()),
                Type::Int => State::Int(Int64Builder::new()),
                Type::Float => State::Float(Float64Builder::new()),
                Type::Text => State::Text(StringDictionaryBuilder::new()),
            },
            mixed: false,
        };
        for row in 0..array.len() {
            begun.push_cell(&super::cell(array, row));
        }
        begun.state
    }
}
