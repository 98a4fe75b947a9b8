//! TOML values that know where they stand.

use crate::diagnostic::{Diagnostic, Problems, Span};
use toml::de::{DeTable, DeValue};

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: ValueKind,
    /// Where it stands.
    pub span: Span,
}

/// What a value can be. Dates are read as strings: nothing here computes with them.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueKind {
    /// A string.
    String(String),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Boolean(bool),
    /// A list.
    Array(Vec<Value>),
    /// A table.
    Table(Table),
}

/// A key and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The key's text.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

/// A table in the order of its text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Keys and values; keys are unique.
    pub entries: Vec<(Key, Value)>,
}

impl Table {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
    }

    /// Sets `name` if it is not set.
    pub fn insert_missing(&mut self, name: &str, value: Value) {
        if self.get(name).is_none() {
            let span = value.span;
            self.entries.push((Key { name: name.to_string(), span }, value));
        }
    }
}

impl Value {
    /// The table that this value is, if it is one.
    pub fn as_table(&self) -> Option<&Table> {
        match &self.kind {
            ValueKind::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The string that this value is, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value as JSON, without places.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            ValueKind::String(text) => text.as_str().into(),
            ValueKind::Integer(number) => (*number).into(),
            ValueKind::Float(number) => (*number).into(),
            ValueKind::Boolean(flag) => (*flag).into(),
            ValueKind::Array(items) => items.iter().map(Value::to_json).collect(),
            ValueKind::Table(table) => {
                table.entries.iter().map(|(key, value)| (key.name.clone(), value.to_json())).collect()
            }
        }
    }

    /// What the value is, for a message: `a string`, `an integer`, …
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            ValueKind::String(_) => "a string",
            ValueKind::Integer(_) => "an integer",
            ValueKind::Float(_) => "a float",
            ValueKind::Boolean(_) => "a boolean",
            ValueKind::Array(_) => "a list",
            ValueKind::Table(_) => "a table",
        }
    }
}

/// Parses TOML text into a table value. Syntax errors go to `problems`; `None` if nothing can be read.
pub fn parse(text: &str, file: u32, problems: &mut Problems) -> Option<Value> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let failed = !errors.is_empty();
    let mut has_duplicate = false;
    let mut has_mistake = false;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().trim();
        if message.starts_with("duplicate key") {
            // The settings of a table that stands twice are duplicates too: the first one says it all.
            if !has_duplicate {
                let name = text.get(span.clone()).unwrap_or_default();
                let problem = Diagnostic::at(to_span(file, &span), format!("`{name}` stands twice in one table"));
                problems.push(problem.hint("give one of them another name"));
            }
            has_duplicate = true;
        } else if !has_mistake {
            // What comes after it may only be its echo.
            let problem = Diagnostic::at(to_span(file, &span), message.to_string());
            problems.push(match syntax_hint(text, span.start) {
                Some(hint) => problem.hint(hint),
                None => problem,
            });
            has_mistake = true;
        }
    }
    if failed {
        return None;
    }
    let span = to_span(file, &table.span());
    Some(Value { kind: ValueKind::Table(convert_table(table.get_ref(), file, problems)), span })
}

/// What may have been meant where TOML cannot be read.
fn syntax_hint(text: &str, at: usize) -> Option<String> {
    let before = text.get(..at)?;
    let line = text[before.rfind('\n').map_or(0, |end| end + 1)..].lines().next()?;
    if let Some(open) = open_list(before)
        && text[open..at].contains('\n')
    {
        let line = text[..open].matches('\n').count() + 1;
        return Some(format!("the list that begins in line {line} goes on here: is a `]` or a comma missing?"));
    }
    let (_, value) = line.split_once('=')?;
    let value = value.trim();
    let is_path = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    if let Some((name, _)) = value.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        && is_path(name)
    {
        return Some(format!("a placeholder stands in quotes: `\"{{{name}}}\"`"));
    }
    let is_bare_list = value.contains(',') && !value.starts_with(['[', '{', '"', '\'']);
    is_bare_list.then(|| format!("a list stands in brackets: `[{value}]`"))
}

/// Where the last `[` is that has no `]`.
fn open_list(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    let (mut quote, mut comment) = (None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (_, '\n') => (quote, comment) = (None, false),
            _ if comment => {}
            (Some(opened), _) => quote = Some(opened).filter(|opened| *opened != c),
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') => comment = true,
            (None, '[') => open.push(at),
            (None, ']') => drop(open.pop()),
            _ => {}
        }
    }
    open.pop()
}

fn convert_table(table: &DeTable<'_>, file: u32, problems: &mut Problems) -> Table {
    let mut entries: Vec<(Key, Value)> = table
        .iter()
        .map(|(key, value)| {
            let key = Key { name: key.get_ref().to_string(), span: to_span(file, &key.span()) };
            let value = Value {
                kind: convert(value.get_ref(), to_span(file, &value.span()), problems),
                span: to_span(file, &value.span()),
            };
            (key, value)
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.span.start);
    Table { entries }
}

fn convert(value: &DeValue<'_>, span: Span, problems: &mut Problems) -> ValueKind {
    match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => ValueKind::Integer(number),
            Err(_) => {
                problems.at(span, format!("`{}` does not fit into 64 bits", number.as_str()));
                ValueKind::Integer(0)
            }
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => ValueKind::Float(number),
            Err(_) => {
                problems.at(span, format!("`{}` is not a number", number.as_str()));
                ValueKind::Float(0.0)
            }
        },
        DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
        DeValue::Datetime(date) => ValueKind::String(date.to_string()),
        DeValue::Array(items) => ValueKind::Array(
            items
                .iter()
                .map(|item| {
                    let span = to_span(span.file, &item.span());
                    Value { kind: convert(item.get_ref(), span, problems), span }
                })
                .collect(),
        ),
        DeValue::Table(table) => ValueKind::Table(convert_table(table, span.file, problems)),
    }
}

fn to_span(file: u32, range: &std::ops::Range<usize>) -> Span {
    let clamp = |position: usize| u32::try_from(position).unwrap_or(u32::MAX);
    Span { file, start: clamp(range.start), end: clamp(range.end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_syntax_is_one_problem_with_a_hint() {
        for (text, hint) in [
            ("seed = {run}\n", "a placeholder stands in quotes: `\"{run}\"`"),
            ("n = 1, 2\n", "a list stands in brackets: `[1, 2]`"),
            ("a = 1\nn = [1, \"]\", # ]\nrun = [1, 2]\n", "the list that begins in line 2 goes on here"),
        ] {
            let mut problems = Problems::default();
            assert!(parse(text, 0, &mut problems).is_none());
            let problems = problems.into_vec();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].hint.as_ref().is_some_and(|found| found.contains(hint)), "{problems:?}");
        }
    }
}
