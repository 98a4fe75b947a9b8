//! The manifest as written: its top level, with variants and overrides applied.

use super::Overrides;
use super::axes::{self, Axis};
use crate::diagnostic::{Diagnostic, Problems, Sources, Span};
use crate::settings::{Decode, Key, Table, Value, ValueKind, parse};
use crate::stage::{Kind, is_name};

/// The version of the manifest language.
const FORMAT: i64 = 1;
/// The seed of manifests that name none.
const SEED: u64 = 42;

/// What stands at the top of a manifest.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) seed: u64,
    pub(super) targets: Option<Vec<(String, Span)>>,
    pub(super) axes: Vec<Axis>,
    pub(super) params: Table,
    pub(super) stages: Vec<StageText>,
}

/// A stage as written.
#[derive(Debug)]
pub(super) struct StageText {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Where its name stands.
    pub(super) span: Span,
    pub(super) table: Table,
}

/// Reads the top level. `None` if nothing can be made of it; other problems are reported and reading goes on.
pub(super) fn read(
    name: &str,
    text: &str,
    overrides: &Overrides,
    sources: &mut Sources,
    problems: &mut Problems,
) -> Option<Document> {
    let file = sources.add(name, text);
    let root = parse(text, file, problems)?;
    let root_span = Span { file, start: 0, end: 0 };
    let top = root.as_table()?;
    check_format(top, root_span, problems)?;
    check_known(top, problems);

    let mut axes = table_of(top, "axes", problems);
    let mut params = table_of(top, "params", problems);
    let mut targets = top.get("targets").cloned();
    if let Some(variant) = &overrides.variant {
        apply_variant(variant, top, &mut axes, &mut params, &mut targets, root_span, problems)?;
    }
    set_params(&mut params, overrides, sources, problems);
    let axes = axes::read(&axes, problems);
    for (key, _) in &params.entries {
        if axes.iter().any(|axis| axis.name == key.name) {
            problems.at(key.span, format!("`{}` is both a parameter and an axis", key.name));
        }
    }
    let stem = std::path::Path::new(name).file_stem().map_or("pipeline".into(), |stem| stem.to_string_lossy());
    Some(Document {
        name: top.get("name").and_then(|value| read_name(value, problems)).unwrap_or_else(|| stem.into_owned()),
        seed: top.get("seed").map_or(Some(SEED), |value| u64::decode(value, problems)).unwrap_or(SEED),
        targets: targets.and_then(|value| read_targets(&value, problems)),
        axes,
        params,
        stages: Kind::ALL.iter().flat_map(|kind| read_stages(*kind, top, problems)).collect(),
    })
}

fn check_format(top: &Table, span: Span, problems: &mut Problems) -> Option<()> {
    let Some(value) = top.get("titer") else {
        let problem = Diagnostic::at(span, "`titer` is missing: the version of the manifest language");
        problems.push(problem.hint(format!("begin with `titer = {FORMAT}`")));
        return None;
    };
    match value.kind {
        ValueKind::Integer(FORMAT) => Some(()),
        ValueKind::Integer(other) => {
            let problem = Diagnostic::at(value.span, format!("this titer does not know manifests of version {other}"));
            problems.push(problem.hint(format!("it reads `titer = {FORMAT}`; a newer titer may read more")));
            None
        }
        _ => {
            problems.at(value.span, format!("expected `titer = {FORMAT}`, found {}", value.describe()));
            None
        }
    }
}

fn check_known(top: &Table, problems: &mut Problems) {
    const TOP: [&str; 7] = ["titer", "name", "seed", "targets", "axes", "params", "variant"];
    let known = || TOP.into_iter().chain(Kind::ALL.iter().map(|kind| kind.name()));
    for (key, _) in &top.entries {
        if !known().any(|name| name == key.name) {
            let problem = Diagnostic::at(key.span, format!("unknown setting `{}`", key.name));
            problems.push(problem.suggest(&key.name, known()));
        }
    }
}

fn table_of(top: &Table, name: &str, problems: &mut Problems) -> Table {
    match top.get(name) {
        None => Table::default(),
        Some(Value { kind: ValueKind::Table(table), .. }) => table.clone(),
        Some(value) => {
            problems.at(value.span, format!("`{name}` is {}: expected a table", value.describe()));
            Table::default()
        }
    }
}

fn apply_variant(
    name: &str,
    top: &Table,
    axes: &mut Table,
    params: &mut Table,
    targets: &mut Option<Value>,
    span: Span,
    problems: &mut Problems,
) -> Option<()> {
    let variants = table_of(top, "variant", problems);
    let Some(variant) = variants.get(name) else {
        let known: Vec<&str> = variants.entries.iter().map(|(key, _)| key.name.as_str()).collect();
        let problem = Diagnostic::at(span, format!("there is no `[variant.{name}]`"));
        problems.push(problem.suggest(name, known));
        return None;
    };
    let Some(table) = variant.as_table() else {
        problems.at(variant.span, format!("`variant.{name}` is {}: expected a table", variant.describe()));
        return None;
    };
    for (key, value) in &table.entries {
        match key.name.as_str() {
            "axes" => merge(axes, &table_of(table, "axes", problems), "axis", problems),
            "params" => merge(params, &table_of(table, "params", problems), "parameter", problems),
            "targets" => *targets = Some(value.clone()),
            other => {
                let problem = Diagnostic::at(key.span, format!("a variant cannot set `{other}`"));
                problems.push(problem.suggest(other, ["axes", "params", "targets"]));
            }
        }
    }
    Some(())
}

fn merge(table: &mut Table, changes: &Table, what: &str, problems: &mut Problems) {
    for (key, value) in &changes.entries {
        replace(table, key, value.clone(), what, problems);
    }
}

fn replace(table: &mut Table, key: &Key, value: Value, what: &str, problems: &mut Problems) {
    if let Some((_, old)) = table.entries.iter_mut().find(|(known, _)| known.name == key.name) {
        *old = value;
        return;
    }
    let problem = Diagnostic::at(key.span, format!("there is no {what} `{}`", key.name));
    problems.push(problem.suggest(&key.name, table.entries.iter().map(|(known, _)| known.name.as_str())));
}

/// Applies `--set`. Each is a small text of its own, so that messages can show it.
fn set_params(params: &mut Table, overrides: &Overrides, sources: &mut Sources, problems: &mut Problems) {
    for (name, text) in &overrides.params {
        let as_toml = format!("{name} = {text}");
        let quiet = parse(&as_toml, sources.add("--set", as_toml.as_str()), &mut Problems::default());
        let entry = quiet.and_then(|value| match value.kind {
            ValueKind::Table(mut table) if table.entries.len() == 1 => table.entries.pop(),
            _ => None,
        });
        let (key, value) = entry.unwrap_or_else(|| {
            let file = sources.add("--set", format!("{name}={text}"));
            let end = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
            let span = Span { file, start: 0, end: end(name.len()) };
            let value = Span { file, start: end(name.len() + 1), end: end(name.len() + 1 + text.len()) };
            (Key { name: name.clone(), span }, Value { kind: ValueKind::String(text.clone()), span: value })
        });
        replace(params, &key, value, "parameter", problems);
    }
}

fn read_name(value: &Value, problems: &mut Problems) -> Option<String> {
    let name = String::decode(value, problems)?;
    if !is_name(&name) {
        problems.at(value.span, format!("`{name}` cannot name a folder: letters, digits, `_` and `-`"));
        return None;
    }
    Some(name)
}

fn read_targets(value: &Value, problems: &mut Problems) -> Option<Vec<(String, Span)>> {
    let ValueKind::Array(items) = &value.kind else {
        problems.at(value.span, format!("`targets` is {}: expected a list", value.describe()));
        return None;
    };
    items.iter().map(|item| Some((String::decode(item, problems)?, item.span))).collect()
}

fn read_stages(kind: Kind, top: &Table, problems: &mut Problems) -> Vec<StageText> {
    let mut stages = Vec::new();
    for (key, value) in &table_of(top, kind.name(), problems).entries {
        match &value.kind {
            ValueKind::Table(table) if is_name(&key.name) => {
                stages.push(StageText { kind, name: key.name.clone(), span: key.span, table: table.clone() });
            }
            ValueKind::Table(_) => {
                problems.at(key.span, format!("`{}` is no name of a stage: letters, digits, `_` and `-`", key.name));
            }
            _ => {
                let problem = Diagnostic::at(value.span, format!("`{kind}.{}` is {}", key.name, value.describe()));
                problems.push(problem.hint(format!("a stage has a name and a table: `[{kind}.NAME]`")));
            }
        }
    }
    stages
}
