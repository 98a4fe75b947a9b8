//! What can be seen of rows before anything runs: whether they can be read, whether a template can be filled with them, and
//! whether they have what is asked of them.

use super::Input;
use crate::diagnostic::Diagnostic;
use crate::prompt::chat::{ChatSettings, Dialect};
use crate::prompt::{Prompter, Template};
use crate::row::{self, Row};
use std::path::Path;

/// Rows of a file that are looked at before anything runs.
const CHECKED_ROWS: usize = 1000;

/// The first row of a file that cannot be read, or with which something is `wrong`.
pub(super) fn check_each(input: &Input, wrong: impl Fn(&Row) -> anyhow::Result<()>) -> Result<(), Diagnostic> {
    for item in row::read(&input.path, &input.name)?.take(CHECKED_ROWS) {
        let (line, row) = item?;
        wrong(&row).map_err(|error| {
            let hint = format!("the row has the columns {}", row::columns(&row));
            Diagnostic::in_file(&input.name, Some(line), format!("{error:#}")).hint(hint)
        })?;
    }
    Ok(())
}

/// What a row must have besides what the template asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Needed<'a> {
    /// An answer to learn from.
    Answer,
    /// These columns.
    Columns(&'a [&'a str]),
}

/// The first row of a file that cannot be read, that the template cannot be filled with, or that has not what is needed. A
/// model's chat template is looked at if its folder is there.
pub(super) fn check_rows(
    template: &Template,
    model: Option<&Path>,
    input: &Input,
    needed: Needed<'_>,
) -> Option<Diagnostic> {
    let prompter = match (model, template) {
        (None, Template::Chat(ChatSettings { text: None, .. })) => return None,
        (Some(model), Template::Chat(_)) => Dialect::read(model),
        _ => Ok(Dialect::default()),
    };
    let prompter = match prompter.and_then(|dialect| Prompter::new(template, &dialect)) {
        Ok(prompter) => prompter,
        Err(error) => return Some(Diagnostic::new(format!("the template cannot be used: {error:#}"))),
    };
    let wrong = |row: &Row| {
        prompter.prompt(row)?;
        match needed {
            Needed::Answer => prompter.answer(row).map(drop),
            Needed::Columns(columns) => has(row, columns),
        }
    };
    check_each(input, wrong).err()
}

fn has(row: &Row, columns: &[&str]) -> anyhow::Result<()> {
    match columns.iter().find(|column| row.get(**column).is_none_or(serde_json::Value::is_null)) {
        Some(column) => anyhow::bail!("the row has no `{column}`"),
        None => Ok(()),
    }
}
