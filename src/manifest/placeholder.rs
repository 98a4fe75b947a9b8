//! Placeholders: `{axis}`, `{axis.field}`, `{param}` in strings, and `$axis` in `where` expressions.
//!
//! Jinja's `{{ … }}` and `{% … %}` are left as they are, and after a backslash the braces are a text: `\{name}` is
//! `{name}`. A string that is one placeholder takes the value's type; a field that an axis value does not have leaves the
//! setting out. A value that is filled into the brackets of a reference is quoted there if it must be.

use super::axes::{Axis, Level};
use crate::diagnostic::{Diagnostic, Problems, Span, closest};
use crate::settings::{Table, Value, ValueKind};
use crate::stage::{Pins, Reference};
use std::collections::{BTreeMap, BTreeSet};

/// What the strings of a setting are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Text,
    /// An expression: `$name`, and values are literals.
    Expression,
    /// A command's argument: `{input.…}` and `{output}` are filled in when it is run.
    Argument,
}

impl Language {
    fn of(setting: &str) -> Self {
        match setting {
            "where" => Self::Expression,
            "command" => Self::Argument,
            _ => Self::Text,
        }
    }
}

/// A piece of a string.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    /// A placeholder's name, without braces or `$`.
    Name(&'a str),
}

/// What placeholders stand for: parameters, and one value of each axis.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    pub(super) params: BTreeMap<&'a str, &'a Value>,
    pub(super) levels: BTreeMap<&'a str, &'a Level>,
    /// All axes, those that the stage does not vary over too.
    pub(super) axes: Vec<&'a str>,
    /// What else may stand in the braces of a command's argument.
    pub(super) contract: Vec<String>,
}

/// The first names of all placeholders in a table (`target` of `{target.path}`), with where they stand.
pub(super) fn names(table: &Table) -> Vec<(String, Span)> {
    let first = |(path, span): (&str, Span)| (path.split('.').next().unwrap_or(path).to_string(), span);
    paths(table).into_iter().map(first).collect()
}

/// Reports fields that no value of their axis has, in any of `axes` of that name. One that some values lack leaves the
/// setting out there.
pub(super) fn check_fields(table: &Table, axes: &[&Axis], problems: &mut Problems) {
    for (path, span) in paths(table) {
        let Some((name, field)) = path.split_once('.') else { continue };
        let levels = axes.iter().filter(|axis| axis.name == name).flat_map(|axis| &axis.levels);
        let fields: Vec<&Table> = levels.filter_map(|level| level.fields.as_ref()).collect();
        if fields.is_empty() || fields.iter().any(|fields| field_of(fields, field).is_some()) {
            continue;
        }
        let known: BTreeSet<&str> =
            fields.iter().flat_map(|fields| &fields.entries).map(|(key, _)| key.name.as_str()).collect();
        let problem = Diagnostic::at(span, format!("no value of axis `{name}` has a field `{field}`"));
        problems.push(problem.suggest(field, known));
        problems.mute(span);
    }
}

/// The value at a path of fields, `a.b`.
fn field_of<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => table.get(path),
        Some((first, rest)) => field_of(table.get(first)?.as_table()?, rest),
    }
}

fn paths(table: &Table) -> Vec<(&str, Span)> {
    let mut found = Vec::new();
    for (key, value) in &table.entries {
        collect(value, Language::of(&key.name), &mut found);
    }
    found
}

fn collect<'a>(value: &'a Value, language: Language, found: &mut Vec<(&'a str, Span)>) {
    match &value.kind {
        ValueKind::String(text) => {
            for piece in pieces(text, language) {
                if let Piece::Name(name) = piece {
                    found.push((name, value.span));
                }
            }
        }
        ValueKind::Array(items) => items.iter().for_each(|item| collect(item, language, found)),
        ValueKind::Table(table) => found.extend(paths(table)),
        ValueKind::Integer(_) | ValueKind::Float(_) | ValueKind::Boolean(_) => {}
    }
}

/// Splits a string into text and placeholders.
fn pieces(text: &str, language: Language) -> Vec<Piece<'_>> {
    match language {
        Language::Text => string_pieces(text, |_| true),
        Language::Expression => expression_pieces(text),
        Language::Argument => string_pieces(text, |name| !crate::stage::command::is_contract(name)),
    }
}

/// `is_ours`: whether a placeholder of that name is filled in here.
fn string_pieces(text: &str, is_ours: impl Fn(&str) -> bool) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|offset| at + offset) {
        let rest = &text[open + 1..];
        let closing = match rest.chars().next() {
            Some('{') => Some("}}"),
            Some('%') => Some("%}"),
            Some('#') => Some("#}"),
            _ => None,
        };
        if let Some(closing) = closing {
            at = rest.find(closing).map_or(text.len(), |end| open + 1 + end + closing.len());
            continue;
        }
        match rest.find('}') {
            Some(end) if is_path(&rest[..end]) && is_ours(&rest[..end]) && text[..open].ends_with('\\') => {
                pieces.push(Piece::Text(&text[start..open - 1]));
                start = open;
                at = open + 1 + end + 1;
            }
            Some(end) if is_path(&rest[..end]) && is_ours(&rest[..end]) => {
                if start < open {
                    pieces.push(Piece::Text(&text[start..open]));
                }
                pieces.push(Piece::Name(&rest[..end]));
                at = open + 1 + end + 1;
                start = at;
            }
            _ => at = open + 1,
        }
    }
    if start < text.len() {
        pieces.push(Piece::Text(&text[start..]));
    }
    pieces
}

fn expression_pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut quote = None;
    let mut skip_to = 0;
    for (at, c) in text.char_indices() {
        if at < skip_to {
            continue;
        }
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '$') => {
                let tail = &text[at + 1..];
                let end = tail.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))).unwrap_or(tail.len());
                let name = tail[..end].trim_end_matches('.');
                if is_path(name) {
                    if start < at {
                        pieces.push(Piece::Text(&text[start..at]));
                    }
                    pieces.push(Piece::Name(name));
                    skip_to = at + 1 + name.len();
                    start = skip_to;
                }
            }
            _ => {}
        }
    }
    if start < text.len() {
        pieces.push(Piece::Text(&text[start..]));
    }
    pieces
}

fn is_path(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.split('.').all(crate::stage::is_name)
}

/// Fills in all placeholders of a table.
pub(super) fn fill(table: &Table, scope: &Scope<'_>, problems: &mut Problems) -> Table {
    let entries = table
        .entries
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), fill_value(value, Language::of(&key.name), scope, problems)?)));
    Table { entries: entries.collect() }
}

/// `None`: the value is a field that is not there, and leaves its setting out.
fn fill_value(value: &Value, language: Language, scope: &Scope<'_>, problems: &mut Problems) -> Option<Value> {
    let kind = match &value.kind {
        ValueKind::String(text) => return fill_string(text, value.span, language, scope, problems),
        ValueKind::Array(items) => {
            ValueKind::Array(items.iter().filter_map(|item| fill_value(item, language, scope, problems)).collect())
        }
        ValueKind::Table(table) => ValueKind::Table(fill(table, scope, problems)),
        other => other.clone(),
    };
    Some(Value { kind, span: value.span })
}

/// A string with a mistake stays as it is written, and what follows from that is not said.
fn fill_string(
    text: &str,
    span: Span,
    language: Language,
    scope: &Scope<'_>,
    problems: &mut Problems,
) -> Option<Value> {
    let as_written = || Value { kind: ValueKind::String(text.to_string()), span };
    if problems.is_muted(span) {
        return Some(as_written());
    }
    let before = problems.len();
    let filled = match Reference::parse(text) {
        Ok(Some(reference)) if language == Language::Text && !reference.pins.0.is_empty() => {
            fill_pins(reference, span, scope, problems)
        }
        _ => fill_pieces(&pieces(text, language), span, language, scope, problems),
    };
    if problems.len() == before {
        return filled;
    }
    problems.mute(span);
    Some(as_written())
}

fn fill_pins(reference: Reference, span: Span, scope: &Scope<'_>, problems: &mut Problems) -> Option<Value> {
    let mut fill = |text: &str| {
        let mut pieces = pieces(text, Language::Text);
        // So that a lone placeholder becomes a text too.
        pieces.push(Piece::Text(""));
        let filled = fill_pieces(&pieces, span, Language::Text, scope, problems)?;
        filled.as_str().map(String::from)
    };
    let pins: Option<Vec<(String, String)>> =
        reference.pins.0.iter().map(|(axis, value)| Some((fill(axis)?, fill(value)?))).collect();
    let filled = Reference { pins: Pins(pins?), ..reference };
    Some(Value { kind: ValueKind::String(filled.to_string()), span })
}

/// All mistakes are reported, not the first alone.
fn fill_pieces(
    pieces: &[Piece<'_>],
    span: Span,
    language: Language,
    scope: &Scope<'_>,
    problems: &mut Problems,
) -> Option<Value> {
    let expression = language == Language::Expression;
    if let ([Piece::Name(name)], false) = (pieces, expression) {
        let found = scope.look_up(name, span, language, problems)?;
        return Some(respan(found, span));
    }
    let mut filled = Some(String::new());
    for piece in pieces {
        let part = match piece {
            Piece::Text(text) => Some((*text).to_string()),
            Piece::Name(name) => scope.look_up(name, span, language, problems).and_then(|found| {
                match (&found.kind, expression) {
                    (ValueKind::Array(_) | ValueKind::Table(_), false) => {
                        let what = found.describe();
                        problems.at(span, format!("`{{{name}}}` is {what} and cannot stand inside a text"));
                        None
                    }
                    (ValueKind::String(text), false) => Some(text.clone()),
                    // JSON literals are literals of the expression language too.
                    _ => Some(found.to_json().to_string()),
                }
            }),
        };
        filled = filled.zip(part).map(|(filled, part)| filled + &part);
    }
    Some(Value { kind: ValueKind::String(filled?), span })
}

/// The value at another place: messages about it show the placeholder, which the person can see and change.
fn respan(value: Value, span: Span) -> Value {
    let kind = match value.kind {
        ValueKind::Array(items) => ValueKind::Array(items.into_iter().map(|item| respan(item, span)).collect()),
        ValueKind::Table(table) => ValueKind::Table(Table {
            entries: table.entries.into_iter().map(|(key, value)| (key, respan(value, span))).collect(),
        }),
        other => other,
    };
    Value { kind, span }
}

impl Scope<'_> {
    fn unknown(&self, path: &str, span: Span, language: Language) -> Diagnostic {
        let first = path.split('.').next().unwrap_or(path);
        let known: BTreeSet<&str> =
            self.params.keys().chain(self.levels.keys()).copied().chain(self.axes.iter().copied()).collect();
        let written = if language == Language::Expression { format!("${path}") } else { format!("{{{path}}}") };
        let problem = Diagnostic::at(span, format!("`{written}` is neither an axis nor a parameter"));
        if closest(first, known.iter().copied()).is_some() || language == Language::Expression {
            return problem.suggest(first, known);
        }
        let contract = if language == Language::Argument { self.contract.as_slice() } else { &[] };
        let known = known.into_iter().chain(contract.iter().map(String::as_str));
        let problem = problem.suggest(path, known);
        let told = problem.hint.clone();
        if told.as_ref().is_some_and(|hint| hint.starts_with("did you mean")) {
            return problem;
        }
        // A word of a shell or a program, perhaps.
        let literal = format!("where the braces are meant, write `\\{written}` (in double quotes `\\\\{written}`)");
        let told = told.map(|told| format!("{told}; ")).unwrap_or_default();
        let shell =
            if language == Language::Argument { format!("a shell's variable is `${path}`; ") } else { String::new() };
        problem.hint(format!("{told}{shell}{literal}"))
    }

    /// `None`: a problem was reported, or the field is not there.
    fn look_up(&self, path: &str, span: Span, language: Language, problems: &mut Problems) -> Option<Value> {
        let (first, field) = path.split_once('.').map_or((path, None), |(first, field)| (first, Some(field)));
        if let Some(value) = self.params.get(first) {
            if field.is_none() {
                return Some((*value).clone());
            }
            problems.at(span, format!("the parameter `{first}` has no fields"));
            return None;
        }
        let Some(level) = self.levels.get(first) else {
            problems.push(self.unknown(path, span, language));
            return None;
        };
        let Some(field) = field else { return Some(level.as_value(span)) };
        let Some(fields) = &level.fields else {
            problems.at(span, format!("the values of axis `{first}` have no fields"));
            return None;
        };
        field_of(fields, field).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Sources;
    use crate::settings::parse;

    fn filled(stage: &str) -> (serde_json::Value, Vec<String>) {
        let mut problems = Problems::default();
        let mut sources = Sources::default();
        let text = "base = \"models/tiny\"\n[fields]\npath = \"d.jsonl\"\ncolumns = { output = \"y\" }\n";
        let file = sources.add("axes", text);
        let values = parse(text, file, &mut problems).unwrap();
        let file = sources.add("stage", stage);
        let stage = parse(stage, file, &mut problems).unwrap();
        let table = values.as_table().unwrap();
        let target = Level {
            value: super::super::AxisValue::String("sst2".into()),
            fields: table.get("fields").unwrap().as_table().cloned(),
        };
        let n = Level { value: super::super::AxisValue::Integer(20), fields: None };
        let scope = Scope {
            params: [("base", table.get("base").unwrap())].into(),
            levels: [("target", &target), ("n", &n)].into(),
            axes: vec!["run"],
            contract: vec!["input.data".into(), "output".into()],
        };
        let value =
            Value { kind: ValueKind::Table(fill(stage.as_table().unwrap(), &scope, &mut problems)), span: stage.span };
        (value.to_json(), problems.into_vec().iter().map(|problem| sources.render(problem)).collect())
    }

    #[test]
    fn a_lone_placeholder_takes_the_type_and_an_absent_field_leaves_the_setting_out() {
        let (json, problems) = filled(
            "take = \"{n}\"\npath = \"x/{target}/{target.path}\"\ncolumns = \"{target.columns}\"\nwhere = \"a == $target and b != '$n' and c < $n\"\ninstruction = \"{target.instruction}\"\nbase = \"{base}\"\nprompt = \"{{ instruction }} {% if x %}{n}\"",
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            json,
            serde_json::json!({
                "take": 20, "path": "x/sst2/d.jsonl", "columns": { "output": "y" },
                "where": "a == \"sst2\" and b != '$n' and c < 20", "base": "models/tiny",
                "prompt": "{{ instruction }} {% if x %}20",
            })
        );
    }

    #[test]
    fn what_a_placeholder_cannot_mean_is_said() {
        let (_, problems) = filled("a = \"{m}\"\nb = \"{n.x}\"\nc = \"x{target.columns}\"");
        let text = problems.join("");
        assert!(
            text.contains("`{m}` is neither an axis nor a parameter")
                && text.contains("known are `base`, `n`, `run`, `target`"),
            "{text}"
        );
        assert!(text.contains("the values of axis `n` have no fields"), "{text}");
        assert!(text.contains("a table and cannot stand inside a text"), "{text}");
    }

    #[test]
    fn braces_can_be_meant() {
        let (json, problems) = filled(
            r#"
a = '\{HOME}/{n}'
command = ['sh', '-c', 'echo \{x} \{output} {output}']
b = '\frac{n}{{ n }}'
"#,
        );
        assert!(problems.is_empty(), "{problems:?}");
        // What is the contract's is filled in when the command runs, and its backslash with it.
        assert_eq!(
            json,
            serde_json::json!({
                "a": "{HOME}/20", "command": ["sh", "-c", r"echo {x} \{output} {output}"], "b": r"\frac20{{ n }}",
            })
        );
        let (_, problems) = filled("command = ['cp', '{outpt}', '{input_data}', '${HOME}/{m}']\na = '{o}'");
        let text = problems.join("");
        for hint in [
            "did you mean `output`?",
            "did you mean `input.data`?",
            r"a shell's variable is `$HOME`; where the braces are meant, write `\{HOME}` (in double quotes `\\{HOME}`)",
            "`{m}` is neither",
            r"known are `base`, `n`, `run`, `target`; where the braces are meant, write `\{o}`",
        ] {
            assert!(text.contains(hint), "{hint} is not in {text}");
        }
    }

    #[test]
    fn a_value_in_the_brackets_of_a_reference_is_quoted() {
        let mut problems = Problems::default();
        let odd = Level { value: super::super::AxisValue::String("a,b]".into()), fields: None };
        let scope = Scope { levels: [("x", &odd)].into(), ..Scope::default() };
        let stage = parse("data = 'mix.a[x={x},n=1].test'\nother = 'mix.a [x={x}]'", 0, &mut problems).unwrap();
        let filled = fill(stage.as_table().unwrap(), &scope, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(filled.get("data").unwrap().as_str(), Some("mix.a[x=\"a,b]\",n=1].test"));
        assert_eq!(filled.get("other").unwrap().as_str(), Some("mix.a [x=a,b]]"));
    }

    #[test]
    fn names_are_found_wherever_they_stand() {
        let mut problems = Problems::default();
        let stage =
            parse("a = [{ b = \"x{n}\" }]\nwhere = \"$target.path == 'y'\"\nc = \"{{ no }}\"", 0, &mut problems)
                .unwrap();
        let names: Vec<String> = names(stage.as_table().unwrap()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["n", "target"]);
    }
}
