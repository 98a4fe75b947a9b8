//! The conditions of aggregates, held against the rows behind their numbers.

use crate::row::Row;
use minijinja::value::Serde;
use minijinja::{Environment, Expression};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Steps that one evaluation may take, as where the aggregate does it.
const FUEL: u64 = 100_000;

/// Expressions borrow it.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment
});

/// An expression over axes and columns, such as `n > 0`.
pub(super) struct Condition {
    /// As it is written.
    pub(super) text: String,
    expression: Expression<'static, 'static>,
    names: BTreeSet<String>,
}

impl Condition {
    /// None if it cannot be read.
    pub(super) fn new(text: &str) -> Option<Self> {
        let expression = ENVIRONMENT.compile_expression_owned(text.to_string()).ok()?;
        let names = expression.undeclared_variables(false).into_iter().collect();
        Some(Self { text: text.to_string(), expression, names })
    }

    /// Whether a row is one of those that count; none if that cannot be told of it, as for a name that the aggregate has
    /// made itself.
    pub(super) fn holds(&self, axes: &Map<String, Value>, row: &Row) -> Option<bool> {
        let value = |name: &String| Some((name.clone(), axes.get(name).or_else(|| row.get(name))?.clone()));
        let values: BTreeMap<String, Value> = self.names.iter().map(value).collect::<Option<_>>()?;
        self.expression.eval(Serde(&values)).ok().map(|found| found.is_true())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_condition_holds_for_axes_and_columns_or_cannot_be_told() {
        let of = |value: Value| value.as_object().cloned().unwrap_or_default();
        let condition = Condition::new("n > 0 and task == 'a'").unwrap();
        assert_eq!(condition.holds(&of(json!({ "n": 20 })), &of(json!({ "task": "a" }))), Some(true));
        assert_eq!(condition.holds(&of(json!({ "n": 0 })), &of(json!({ "task": "a" }))), Some(false));
        assert_eq!(condition.holds(&of(json!({ "n": 20 })), &of(json!({ "derived": 1 }))), None);
        assert!(Condition::new("n >").is_none());
    }
}
