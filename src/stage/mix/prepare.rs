//! One row of a source → one row of the mix: columns, instruction, filter.

use super::recipe::{Instruction, SourceRecipe};
use crate::row::{self, ID, INPUT, INSTRUCTION, OUTPUT, Row};
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::Value;
use std::collections::BTreeSet;

/// Steps that a template or an expression may take for one row: far more than an honest one needs.
const FUEL: u64 = 100_000;
const TEMPLATE: &str = "instruction";
const FILTER: &str = "where";

/// What is done to each row of a source. Templates come from the person's files, but their includes are not followed,
/// and their steps are counted.
#[derive(Debug)]
pub(super) struct Preparation<'a> {
    source: &'a SourceRecipe,
    environment: Environment<'static>,
    bind: Option<regex::Regex>,
}

impl<'a> Preparation<'a> {
    /// `template` is the text of the instruction's template, if it has one.
    pub(super) fn new(source: &'a SourceRecipe, template: Option<String>) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        if let Some(text) = template {
            environment.add_template_owned(TEMPLATE, text).map_err(|error| template_error(&error))?;
        }
        if let Some(filter) = &source.filter {
            // As a template, because an environment keeps no expressions; it says `keep` or nothing.
            let text = format!("{{{{ 'keep' if ({filter}) else '' }}}}");
            environment.add_template_owned(FILTER, text).map_err(|error| format!("`where`: {error:#}"))?;
        }
        let bind = source.bind.as_deref().map(regex::Regex::new).transpose().map_err(|error| error.to_string())?;
        Ok(Self { source, environment, bind })
    }

    /// The columns that the file's path gives. `path` is as the person wrote the glob.
    pub(super) fn bound(&self, path: &str) -> Result<Row, String> {
        let mut columns = Row::new();
        if let Some(bind) = &self.bind {
            let found = bind.captures(path).ok_or_else(|| format!("`bind` does not match the path `{path}`"))?;
            for name in bind.capture_names().flatten() {
                if let Some(text) = found.name(name) {
                    columns.insert(name.to_string(), text.as_str().into());
                }
            }
        }
        Ok(columns)
    }

    /// The row as the mix writes it: id, instruction, input, output, then the other columns in the file's order.
    /// `None` if `where` leaves it out.
    pub(super) fn row(&self, original: Row, bound: &Row) -> Result<Option<Row>, String> {
        let mut row = original.clone();
        self.map_columns(&original, &mut row)?;
        row.extend(bound.clone());
        row.extend(self.source.set.iter().map(|(name, value)| (name.clone(), value.clone())));
        if self.source.filter.is_some() {
            let keep = self.render(FILTER, &row).map_err(|error| self.filter_error(&error, &row))?;
            if keep.is_empty() {
                return Ok(None);
            }
        }
        crate::prompt::chat::fill_in(&mut row, self.source.instruction.is_none()).map_err(|error| error.to_string())?;
        let instruction = self.instruction(&original, &row)?;
        let output = need(&row, OUTPUT)?;
        let input = row::text(&row, INPUT).unwrap_or_default().into_owned();
        let given = row::text(&row, ID).map(std::borrow::Cow::into_owned);
        let mut ordered = Row::new();
        if let Some(id) = given {
            ordered.insert(ID.to_string(), id.into());
        }
        for (name, text) in [(INSTRUCTION, instruction), (INPUT, input), (OUTPUT, output)] {
            ordered.insert(name.to_string(), text.into());
        }
        ordered.extend(row.into_iter().filter(|(name, _)| ![ID, INSTRUCTION, INPUT, OUTPUT].contains(&name.as_str())));
        if !ordered.contains_key(ID) {
            let id = row::id(&ordered);
            ordered.shift_insert(0, ID.to_string(), id.into());
        }
        Ok(Some(ordered))
    }

    /// A column that is not there is called by its name, which minijinja's message does not do.
    fn filter_error(&self, error: &minijinja::Error, row: &Row) -> String {
        let filter = self.source.filter.as_deref().unwrap_or_default();
        let names: BTreeSet<String> = match self.environment.compile_expression(filter) {
            Ok(expression) => expression.undeclared_variables(false).into_iter().collect(),
            Err(_) => BTreeSet::new(),
        };
        match names.iter().find(|name| !row.contains_key(*name)) {
            Some(name) if error.kind() == ErrorKind::UndefinedError => format!("`where`: {}", no_column(row, name)),
            _ => format!("`where`: {error:#}"),
        }
    }

    fn map_columns(&self, original: &Row, row: &mut Row) -> Result<(), String> {
        let columns = &self.source.columns;
        for (ours, theirs) in columns {
            let value = look_up(original, theirs).ok_or_else(|| no_column(original, theirs))?;
            row.insert(ours.clone(), value.clone());
        }
        // A column that goes by another name now is not there twice.
        for theirs in columns.values().filter(|theirs| !columns.contains_key(*theirs)) {
            row.shift_remove(theirs);
        }
        Ok(())
    }

    fn instruction(&self, original: &Row, row: &Row) -> Result<String, String> {
        match &self.source.instruction {
            None => need(row, INSTRUCTION),
            Some(Instruction::Literal(text)) => Ok(text.clone()),
            Some(Instruction::Column(column)) => {
                let value = look_up(row, column).or_else(|| look_up(original, column));
                match value {
                    Some(Value::String(text)) => Ok(text.clone()),
                    Some(Value::Null) | None => Err(no_column(row, column)),
                    Some(other) => Ok(other.to_string()),
                }
            }
            Some(Instruction::Template) => {
                // Templates may use the file's own names for columns, and ours.
                let mut all = original.clone();
                all.extend(row.clone());
                self.render(TEMPLATE, &all).map_err(|error| template_error(&error))
            }
        }
    }

    fn render(&self, name: &str, row: &Row) -> Result<String, minijinja::Error> {
        self.environment.get_template(name)?.render(Serde(row))
    }
}

fn template_error(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(" (its line {line})")).unwrap_or_default();
    format!("the instruction's template cannot be rendered{line}: {error:#}")
}

fn need(row: &Row, column: &str) -> Result<String, String> {
    row::text(row, column).map(std::borrow::Cow::into_owned).ok_or_else(|| no_column(row, column))
}

fn no_column(row: &Row, column: &str) -> String {
    format!("the column `{column}` is missing; there are {}", row::columns(row))
}

/// A column, or with dots a value inside objects.
fn look_up<'a>(row: &'a Row, path: &str) -> Option<&'a Value> {
    if let Some(value) = row.get(path) {
        return Some(value);
    }
    let mut parts = path.split('.');
    let first = row.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}
