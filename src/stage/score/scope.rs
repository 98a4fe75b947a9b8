//! Which rows a scorer looks at, what stands for right in them, and which rows belong together.

use crate::row::{self, Row};
use crate::scorer::{Answer, References};
use crate::stage::reference::Expression;
use minijinja::Environment;
use minijinja::value::Serde;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

crate::settings! {
    /// Settings that every scorer takes: which rows it scores, against what, and how they are summed up.
    #[derive(Default)]
    pub struct Scope {
        /// Only the first so many rows are scored; the others get no value (null).
        first: Option<u64> = None,
        /// The first rows of each value of this column, instead of the first of all.
        first_per: Option<String> = None,
        /// Which rows are scored: an expression over columns, such as `task == 'sst2'`. It is asked before rows are counted.
        r#where: Option<Expression> = None,
        /// The column of what is right: a text, or a list of texts of which each is right; by default `output`.
        reference: Option<String> = None,
        /// A column whose values tell which rows belong together (answers to one question, of one author): intervals take
        /// all rows of a value, or none.
        cluster: Option<String> = None,
    }
}

impl Scope {
    /// Whether every row is scored, as if nothing was said.
    pub(super) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// What a scorer is asked about a row, or what the row lacks.
    pub(super) fn texts<'a>(&self, row: &'a Row, needed: References) -> Result<Texts<'a>, String> {
        let prediction = row::text(row, row::PREDICTION).ok_or_else(|| row::lacks(row, row::PREDICTION))?;
        let column = self.reference.as_deref().unwrap_or(row::OUTPUT);
        let references = match needed {
            References::Unread => Vec::new(),
            References::Some | References::Any => references(row, column)?.ok_or_else(|| row::lacks(row, column))?,
        };
        if needed == References::Some && references.is_empty() {
            return Err(format!("`{column}` is an empty list: a text is needed to compare with"));
        }
        Ok(Texts { prediction, references })
    }

    /// What the row lacks, if it is scored.
    pub(super) fn check(&self, row: &Row, needed: References) -> Result<(), String> {
        self.texts(row, needed)?;
        self.cluster(row).map(drop)
    }

    /// Which rows the row belongs to, for intervals; `None` if each stands for itself.
    pub(super) fn cluster(&self, row: &Row) -> Result<Option<String>, String> {
        let Some(column) = &self.cluster else { return Ok(None) };
        let value = row.get(column).ok_or_else(|| row::lacks_named(row, column, "cluster"))?;
        Ok(Some(value.to_string()))
    }
}

/// The texts of a row.
#[derive(Debug)]
pub(super) struct Texts<'a> {
    prediction: Cow<'a, str>,
    references: Vec<Cow<'a, str>>,
}

impl Texts<'_> {
    /// As a scorer sees them, with their row.
    pub(super) fn answer<'a>(&'a self, row: &'a Row) -> Answer<'a> {
        Answer { prediction: &self.prediction, references: &self.references, row }
    }
}

/// What is right: a text, a list of texts, or (as in SQuAD's files) an object with such a list called `text`.
fn references<'a>(row: &'a Row, column: &str) -> Result<Option<Vec<Cow<'a, str>>>, String> {
    let list = match row.get(column) {
        Some(Value::Array(items)) => items,
        Some(Value::Object(object)) => match object.get("text") {
            Some(Value::Array(items)) => items,
            _ => return Err(format!("`{column}` is an object without a list `text`")),
        },
        _ => return Ok(row::text(row, column).map(|text| vec![text])),
    };
    let text = |item: &'a Value| match item {
        Value::String(text) => Ok(Cow::Borrowed(text.as_str())),
        Value::Number(number) => Ok(Cow::Owned(number.to_string())),
        other => Err(format!("`{column}` holds {other}: expected texts")),
    };
    list.iter().map(text).collect::<Result<_, _>>().map(Some)
}

/// Steps that an expression may take for a row: one that never ends is a mistake.
const FUEL: u64 = 100_000;

/// Where expressions are evaluated.
pub(super) fn environment<'a>() -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment
}

/// Says of one row after the other whether it is scored.
#[derive(Debug)]
pub(super) struct Chooser<'a> {
    scope: &'a Scope,
    /// The scope's expression, whose syntax was seen to be right when the manifest was read.
    filter: Option<minijinja::Expression<'a, 'a>>,
    taken: BTreeMap<String, u64>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(scope: &'a Scope, environment: &'a Environment<'a>) -> Self {
        let filter = scope.r#where.as_ref().and_then(|filter| environment.compile_expression(&filter.0).ok());
        Self { scope, filter, taken: BTreeMap::new() }
    }

    /// Whether the next row is scored.
    pub(super) fn takes(&mut self, row: &Row) -> Result<bool, String> {
        if let Some(filter) = &self.filter {
            let value =
                filter.eval(Serde(row)).map_err(|error| format!("`where` cannot be asked of the row: {error}"))?;
            if !value.is_true() {
                return Ok(false);
            }
        }
        let Some(first) = self.scope.first else { return Ok(true) };
        let group = match &self.scope.first_per {
            None => String::new(),
            Some(column) => {
                let value = row.get(column).map(Value::to_string);
                value.ok_or_else(|| row::lacks_named(row, column, "first_per"))?
            }
        };
        let taken = self.taken.entry(group).or_default();
        *taken += 1;
        Ok(*taken <= first)
    }
}
