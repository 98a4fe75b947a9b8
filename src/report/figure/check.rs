//! Mistakes in a figure's settings, each at its place, before anything is read.

use super::{FigureRecipe, Interval, KINDS, Place, Source};
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::settings::Value;

/// Settings that every kind knows.
const COMMON: &[&str] =
    &["kind", "name", "of", "where", "x", "y", "series", "panel", "levels", "width", "title", "x_label", "y_label"];

/// Checks a figure that is written at `item`, of an aggregate by the names `by`.
pub fn check(figure: &FigureRecipe, item: &Value, by: &[String], problems: &mut Problems) {
    let checker = Checker { figure, item, by };
    checker.settings(problems);
    checker.places(problems);
    checker.names(problems);
    checker.rest(problems);
    checker.references(problems);
    if let Some(name) = figure.name.as_ref().filter(|name| !is_name(name)) {
        problems.at(checker.place("name"), format!("`{name}` is no name: letters, digits, `_` and `-`"));
    }
    for (setting, text) in figure.expressions() {
        if let Err(error) = minijinja::Environment::new().compile_expression(text) {
            problems.at(checker.place(setting), format!("`{text}` is not an expression: {error}"));
        }
    }
}

struct Checker<'a> {
    figure: &'a FigureRecipe,
    item: &'a Value,
    by: &'a [String],
}

impl<'a> Checker<'a> {
    fn place(&self, setting: &str) -> Span {
        self.item.as_table().and_then(|table| table.get(setting)).map_or(self.item.span, |value| value.span)
    }

    fn is_written(&self, setting: &str) -> bool {
        self.item.as_table().is_some_and(|table| table.get(setting).is_some())
    }

    /// A setting that the kind does not know would do nothing.
    fn settings(&self, problems: &mut Problems) {
        let kind = self.figure.kind();
        let Some(table) = self.item.as_table() else { return };
        let foreign = |name: &&str| !COMMON.contains(name) && !kind.settings.contains(name);
        let known = |name: &&str| KINDS.iter().any(|kind| kind.settings.contains(name));
        for name in table.entries.iter().map(|(key, _)| key.name.as_str()).filter(foreign).filter(known) {
            let kinds: Vec<String> = (KINDS.iter().filter(|kind| kind.settings.contains(&name)))
                .map(|kind| format!("`{}`", word(kind.kind)))
                .collect();
            let problem = Diagnostic::at(self.place(name), format!("`{name}` means nothing for `{}`", word(kind.kind)));
            problems.push(problem.hint(format!("it is for {}", kinds.join(", "))));
        }
    }

    /// Each kind says what its `x` and `y` are.
    fn places(&self, problems: &mut Problems) {
        let kind = self.figure.kind();
        for (setting, place, names) in [("x", kind.x, &self.figure.x), ("y", kind.y, &self.figure.y)] {
            let count = names.0.len();
            let wrong = match place {
                Place::Column | Place::Metric if count != 1 => Some("must name one"),
                Place::Optional if count > 1 => Some("must name one"),
                Place::Metrics if count == 0 => Some("must name one or more"),
                Place::Absent if count > 0 => Some("must not be there"),
                _ => None,
            };
            let what = match place {
                Place::Metric | Place::Metrics => " (a metric)",
                Place::Column | Place::Optional => " (a column)",
                Place::Absent => "",
            };
            if let Some(wrong) = wrong {
                let text = format!("`{setting}` of a figure of kind `{}` {wrong}{what}", word(kind.kind));
                problems.at(self.place(setting), text);
            }
        }
        if self.figure.panel.0.len() > 2 {
            problems.at(self.place("panel"), "panels are made of one or two columns");
        }
    }

    /// Columns of the table are those of `by`; those of rows and statistics are known when these are.
    fn names(&self, problems: &mut Problems) {
        let columns = self.figure.named_columns();
        for (number, (setting, names)) in columns.iter().enumerate() {
            for name in &names.0 {
                if let Some((other, _)) = columns[..number].iter().find(|(_, names)| names.0.contains(name)) {
                    problems.at(self.place(setting), format!("`{name}` is both `{setting}` and `{other}`"));
                } else if self.figure.source() == Source::Table && !self.by.contains(name) && name != "metric" {
                    let problem = Diagnostic::at(self.place(setting), format!("`{name}` is not in `by`"));
                    problems.push(problem.suggest(name, self.by.iter().map(String::as_str)));
                }
            }
        }
    }

    /// Of the table every place must be one group, unless `where` sees to that.
    fn rest(&self, problems: &mut Problems) {
        let kind = self.figure.kind();
        let spread = kind.of == Source::Rows;
        if spread || self.figure.source() != Source::Table || self.figure.r#where.is_some() {
            return;
        }
        let columns = self.figure.named_columns();
        let named = |name: &&String| !columns.iter().any(|(_, names)| names.0.contains(name));
        if let Some(rest) = self.by.iter().find(named) {
            let problem = Diagnostic::at(self.item.span, format!("`{rest}` of `by` is in no setting of the figure"));
            problems.push(problem.hint(format!(
                "add `{rest}` to `series` or `panel`, so that its values are told apart, or pick one by `where`"
            )));
        }
    }

    fn references(&self, problems: &mut Problems) {
        for reference in &self.figure.reference.0 {
            match (reference.value, &reference.r#where, &reference.y) {
                (None, None, _) => {
                    let problem = "a reference line needs `where` (the rows whose mean it is) or `value`";
                    problems.at(self.place("reference"), problem);
                }
                (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                    problems.at(self.place("reference"), "a reference line with a `value` has neither `where` nor `y`");
                }
                _ => {}
            }
        }
        if matches!(self.figure.interval, Interval::Columns(_)) && self.figure.source() == Source::Rows {
            problems.at(self.place("interval"), "single rows have no intervals");
        }
        if self.figure.source() == Source::Rows && self.is_written("value") {
            problems.at(self.place("value"), "rows have a column for each metric: name it in `y`");
        }
        if self.figure.source() == Source::Rows && word(self.figure.kind) == "heatmap" {
            problems.at(self.place("of"), "a heatmap needs a table or statistics: a cell has one value");
        }
    }
}

/// A kind as it is written.
fn word(kind: super::FigureKind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_string)).unwrap_or_default()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
