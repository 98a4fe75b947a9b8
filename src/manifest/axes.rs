//! `[axes]`: what an experiment varies.

use super::AxisValue;
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::settings::{Table, Value, ValueKind};
use crate::stage::{FIGURE, SCORER};

/// An axis of an experiment.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) name: String,
    pub(super) levels: Vec<Level>,
}

/// One value of an axis, perhaps with fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level {
    pub(super) value: AxisValue,
    pub(super) fields: Option<Table>,
}

impl Level {
    pub(super) fn as_value(&self, span: Span) -> Value {
        let kind = match &self.value {
            AxisValue::Boolean(flag) => ValueKind::Boolean(*flag),
            AxisValue::Integer(number) => ValueKind::Integer(*number),
            AxisValue::Float(number) => ValueKind::Float(*number),
            AxisValue::String(text) => ValueKind::String(text.clone()),
        };
        Value { kind, span }
    }
}

/// Reads `[axes]`, in the order of the text.
pub(super) fn read(table: &Table, problems: &mut Problems) -> Vec<Axis> {
    let mut axes = Vec::new();
    for (key, value) in &table.entries {
        if [SCORER, FIGURE].contains(&key.name.as_str()) {
            let problem = format!("an axis cannot be called `{}`: so the {0}s of a stage are called", key.name);
            problems.at(key.span, problem);
        } else if !crate::stage::is_name(&key.name) {
            problems.at(key.span, format!("`{}` is no name of an axis: letters, digits, `_` and `-`", key.name));
        }
        let levels = match &value.kind {
            ValueKind::Array(items) => list(items, problems),
            ValueKind::Table(fields) => named(fields, problems),
            _ => {
                // What was meant, so that what names the axis is not reported too.
                let items = meant(value);
                let list_of: Vec<String> = items.iter().map(|item| item.to_json().to_string()).collect();
                let message = format!("the axis `{}` is {}: expected a list of values", key.name, value.describe());
                let hint = format!("write `{} = [{}]`", key.name, list_of.join(", "));
                problems.push(Diagnostic::at(value.span, message).hint(hint));
                list(&items, problems)
            }
        };
        if levels.is_empty() && problems.is_empty() {
            problems.at(value.span, format!("the axis `{}` has no value", key.name));
        }
        axes.push(Axis { name: key.name.clone(), levels });
    }
    axes
}

/// The list that a person may have meant by a lone value: `"0, 20"` is two.
fn meant(value: &Value) -> Vec<Value> {
    let Some(text) = value.as_str() else { return vec![value.clone()] };
    let item = |word: &str| {
        let float = || word.parse().ok().filter(|number: &f64| number.is_finite()).map(ValueKind::Float);
        let kind = word.parse().ok().map(ValueKind::Integer).or_else(float);
        Value { kind: kind.unwrap_or_else(|| ValueKind::String(word.to_string())), span: value.span }
    };
    text.split(',').map(str::trim).map(item).collect()
}

fn list(items: &[Value], problems: &mut Problems) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for item in items {
        let value = match &item.kind {
            ValueKind::Boolean(flag) => AxisValue::Boolean(*flag),
            ValueKind::Integer(number) => AxisValue::Integer(*number),
            ValueKind::Float(number) if number.is_finite() => AxisValue::Float(*number),
            ValueKind::String(text) => AxisValue::String(text.clone()),
            _ => {
                problems.at(item.span, format!("{} cannot be the value of an axis", item.describe()));
                continue;
            }
        };
        // Equal as they are written: `1` and `"1"` would have one name.
        if !seen.insert(value.to_string()) {
            problems.at(item.span, format!("the value `{value}` stands twice in one axis"));
        }
        levels.push(Level { value, fields: None });
    }
    levels
}

fn named(fields: &Table, problems: &mut Problems) -> Vec<Level> {
    let mut levels = Vec::new();
    for (key, value) in &fields.entries {
        match value.as_table() {
            Some(own) => levels.push(Level { value: AxisValue::String(key.name.clone()), fields: Some(own.clone()) }),
            None => problems
                .at(value.span, format!("`{}` is {}: expected a table of its fields", key.name, value.describe())),
        }
    }
    levels
}
