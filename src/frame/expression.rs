//! Expressions over the columns of a frame: Jinja's, as everywhere in manifests, with the nulls of statistics.
//!
//! What names a column that is null in a row has no value there (`row.NAME` may be asked for nulls: `row.em is none`), nor
//! has what divides by zero or takes the logarithm of a negative number.

use super::{Builder, Frame, list};
use crate::diagnostic::closest;
use crate::report::table::Cell;
use anyhow::{Context as _, anyhow, bail};
use arrow_array::ArrayRef;
use minijinja::value::{Enumerator, Object};
use minijinja::{Environment, Error, ErrorKind, Expression, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Steps that one evaluation may take: far more than an expression needs, and an end to one that has none.
const FUEL: u64 = 100_000;
/// What names the row itself.
const ROW: &str = "row";

/// An expression with the columns that it names.
#[derive(Debug)]
pub struct Formula {
    text: String,
    environment: Environment<'static>,
    /// The columns that it names.
    names: BTreeSet<String>,
}

/// What became of a formula in each row.
#[derive(Debug)]
pub struct Evaluated {
    /// A value per row.
    pub values: Vec<Cell>,
    /// Rows in which it failed, though it did not in others; and how it did first.
    pub failed: usize,
    /// The first failure.
    pub failure: Option<String>,
}

impl Formula {
    /// Reads an expression.
    ///
    /// # Errors
    /// It is none.
    pub fn new(text: &str) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.add_function("log", |x: f64| finite(x.ln()));
        environment.add_function("log10", |x: f64| finite(x.log10()));
        environment.add_function("exp", |x: f64| finite(x.exp()));
        environment.add_function("sqrt", |x: f64| finite(x.sqrt()));
        environment.add_function("number", |value: Value| match value.as_str() {
            Some(text) => text.trim().parse::<f64>().ok().filter(|x| x.is_finite()).map(Value::from),
            None => Some(value).filter(Value::is_number),
        });
        let expression = environment.compile_expression(text).map_err(|error| anyhow!("`{text}`: {error}"))?;
        let known: BTreeSet<String> = environment.globals().map(|(name, _)| name.to_string()).collect();
        let is_column = |name: &String| {
            let head = name.split('.').next().unwrap_or_default();
            head != ROW && !known.contains(head)
        };
        let names = expression.undeclared_variables(true).into_iter().filter(is_column).collect();
        drop(expression);
        Ok(Self { text: text.to_string(), environment, names })
    }

    /// The columns that it names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Its value in each row.
    ///
    /// # Errors
    /// It names what is no column, or has a value in no row because it fails in all.
    pub fn evaluate(&self, frame: &Frame) -> anyhow::Result<Evaluated> {
        let expression = self.environment.compile_expression(&self.text)?;
        let column = |name: &String| {
            frame.column(name).ok_or_else(|| {
                let near = closest(name, frame.names()).map(|near| format!(": did you mean `{near}`?"));
                let known = || format!(": known are {}", list(frame.names()));
                anyhow!("`{}` names `{name}`, which is no column{}", self.text, near.unwrap_or_else(known))
            })
        };
        let named: Vec<&ArrayRef> = self.names.iter().map(column).collect::<anyhow::Result<_>>()?;
        let columns = Arc::new(frame.clone());
        let mut found = Evaluated { values: Vec::with_capacity(frame.rows()), failed: 0, failure: None };
        let mut tried = 0;
        for row in 0..frame.rows() {
            if named.iter().any(|array| super::cell(array, row) == Cell::Null) {
                found.values.push(Cell::Null);
                continue;
            }
            tried += 1;
            match evaluate_row(&expression, &columns, row) {
                Ok(cell) => found.values.push(cell),
                Err(error) => {
                    found.failed += 1;
                    found.failure.get_or_insert_with(|| format!("`{}` in row {}: {error}", self.text, row + 1));
                    found.values.push(Cell::Null);
                }
            }
        }
        match &found.failure {
            Some(failure) if found.failed == tried => bail!("{failure}"),
            _ => Ok(found),
        }
    }

    /// The rows in which it is true.
    ///
    /// # Errors
    /// As [`Formula::evaluate`].
    pub fn mask(&self, frame: &Frame) -> anyhow::Result<Vec<bool>> {
        let found = self.evaluate(frame)?;
        let is_true = |cell: &Cell| match cell {
            Cell::Null => false,
            Cell::Bool(value) => *value,
            Cell::Int(value) => *value != 0,
            Cell::Float(value) => *value != 0.0,
            Cell::Text(text) => !text.is_empty(),
        };
        Ok(found.values.iter().map(is_true).collect())
    }
}

impl Evaluated {
    /// Its values, and those of `other` where it has none.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (value, other) in self.values.iter_mut().zip(other.values) {
            if *value == Cell::Null {
                *value = other;
            }
        }
        self
    }

    /// The values as a column.
    pub fn column(&self) -> ArrayRef {
        let mut builder = Builder::default();
        self.values.iter().for_each(|cell| builder.push_cell(cell));
        builder.finish().0
    }
}

fn finite(value: f64) -> Result<f64, Error> {
    if value.is_finite() { Ok(value) } else { Err(Error::new(ErrorKind::InvalidOperation, "the result is no number")) }
}

fn evaluate_row(expression: &Expression<'_, '_>, frame: &Arc<Frame>, row: usize) -> anyhow::Result<Cell> {
    let value =
        expression.eval(Value::from_object(RowView { frame: Arc::clone(frame), row, prefix: String::new() }))?;
    cell_of(&value)
}

fn cell_of(value: &Value) -> anyhow::Result<Cell> {
    if value.is_none() || value.is_undefined() {
        return Ok(Cell::Null);
    }
    if let Some(text) = value.as_str() {
        return Ok(Cell::Text(text.to_string()));
    }
    if value.is_number() {
        return Ok(match value.as_i64().filter(|_| value.is_integer()) {
            Some(whole) => Cell::Int(whole),
            None => Cell::Float(f64::try_from(value.clone()).context("the number is too great")?),
        });
    }
    match bool::try_from(value.clone()) {
        Ok(value) => Ok(Cell::Bool(value)),
        Err(_) => bail!("the value is a {}: expected a number, a text or a truth value", value.kind()),
    }
}

/// A row as expressions see it: `gpt4.score` is the column of that name.
#[derive(Debug)]
struct RowView {
    frame: Arc<Frame>,
    row: usize,
    /// What stands before, with its dot.
    prefix: String,
}

impl Object for RowView {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        if self.prefix.is_empty() && key == ROW && self.frame.column(ROW).is_none() {
            return Some(Value::from_dyn_object(Arc::clone(self)));
        }
        let name = format!("{}{key}", self.prefix);
        if let Some(array) = self.frame.column(&name) {
            return Some(match super::cell(array, self.row) {
                Cell::Null => Value::from(()),
                Cell::Bool(value) => value.into(),
                Cell::Int(value) => value.into(),
                Cell::Float(value) => value.into(),
                Cell::Text(text) => text.into(),
            });
        }
        let prefix = format!("{name}.");
        let is_there = self.frame.names().any(|known| known.starts_with(&prefix));
        is_there.then(|| Value::from_object(RowView { frame: Arc::clone(&self.frame), row: self.row, prefix }))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}
