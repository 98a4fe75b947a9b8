//! The manifest as written: its top level, with variants and overrides applied.

use super::axes::{self, Axis};
use super::cache::CacheSettings;
use super::extend;
use super::schema::{TOP, VARIANT};
use super::{Overrides, ReadText};
use crate::diagnostic::{Diagnostic, Problems, Sources, Span};
use crate::resources::Limits;
use crate::settings::{Decode, Key, Table, Value, ValueKind, parse};
use crate::stage::command::SECRET;
use crate::stage::{self, Kind, Require, is_name};
use std::collections::BTreeMap;

/// The version of the manifest language.
pub(super) const FORMAT: i64 = 1;
/// The seed of manifests that name none.
const SEED: u64 = 42;

/// What stands at the top of a manifest.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) seed: u64,
    pub(super) targets: Option<Vec<(String, Span)>>,
    pub(super) axes: Vec<Axis>,
    /// The axes before a variant or the command line changed them.
    pub(super) written_axes: Vec<Axis>,
    pub(super) params: Table,
    pub(super) limits: Limits,
    /// What the results of trainings and predictions must have been made on, where a stage does not say it.
    pub(super) require: Option<Require>,
    pub(super) cache: CacheSettings,
    pub(super) stages: Vec<StageText>,
    /// Where in `stages` each is.
    pub(super) places: BTreeMap<(Kind, String), usize>,
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
    text: ReadText<'_>,
    overrides: &Overrides,
    sources: &mut Sources,
    problems: &mut Problems,
) -> Option<Document> {
    let top = &extend::read(name, text, sources, problems)?;
    check_known(top, problems);

    let mut axes = table_of(top, "axes", problems);
    // Mistakes in them are reported where they are used.
    let written_axes = axes::read(&axes, &mut Problems::default());
    let mut params = table_of(top, "params", problems);
    let mut targets = top.get("targets").cloned();
    if let Some(variant) = &overrides.variant {
        apply_variant(variant, top, &mut axes, &mut params, &mut targets, problems)?;
    }
    set_params(&mut params, overrides, sources, problems);
    set_axes(&mut axes, overrides, sources, problems);
    refuse_secrets(top, problems);
    let axes = axes::read(&axes, problems);
    for (key, _) in &params.entries {
        if axes.iter().any(|axis| axis.name == key.name) {
            problems.at(key.span, format!("`{}` is both a parameter and an axis", key.name));
        }
    }
    let stages = read_all_stages(top, problems);
    let place = |(place, stage): (usize, &StageText)| ((stage.kind, stage.name.clone()), place);
    let stem = std::path::Path::new(name).file_stem().map_or("pipeline".into(), |stem| stem.to_string_lossy());
    Some(Document {
        name: top.get("name").and_then(|value| read_name(value, problems)).unwrap_or_else(|| stem.into_owned()),
        seed: top.get("seed").map_or(Some(SEED), |value| u64::decode(value, problems)).unwrap_or(SEED),
        targets: targets.and_then(|value| read_targets(&value, problems)),
        axes,
        written_axes,
        params,
        limits: top.get("limits").and_then(|value| Limits::decode(value, problems)).unwrap_or_default(),
        require: overrides.require.clone().or_else(|| Require::decode(top.get("require")?, problems)),
        cache: top.get("cache").and_then(|value| CacheSettings::decode(value, problems)).unwrap_or_default(),
        places: stages.iter().enumerate().map(place).collect(),
        stages,
    })
}

/// The `titer = 1` that every manifest begins with.
pub(super) fn check_format(top: &Table, span: Span, problems: &mut Problems) -> Option<()> {
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
    let known = || TOP.iter().map(|(name, ..)| *name).chain(Kind::ALL.iter().map(|kind| kind.name()));
    for (key, _) in &top.entries {
        if !known().any(|name| name == key.name) {
            let problem = Diagnostic::at(key.span, format!("unknown setting `{}`", key.name));
            problems.push(problem.suggest(&key.name, known()));
        }
    }
}

/// Where in a stage's settings a secret may stand, since it enters no key there: in the `env` of a `command`, and as the
/// `key` of an API; `*` stands for every name. A stage to which such a setting is unknown refuses it itself.
const SECRET_SETTINGS: [&[&str]; 3] = [&["env"], &["model", "key"], &["scorers", "*", "model", "key"]];

fn refuse_secrets(top: &Table, problems: &mut Problems) {
    /// `allowed`: the paths, from here on, at which a secret may stand.
    fn search(value: &Value, allowed: &[&[&str]], problems: &mut Problems) {
        if allowed.iter().any(|path| path.is_empty()) {
            return;
        }
        match &value.kind {
            ValueKind::String(text) if text.contains(SECRET) => {
                let problem = Diagnostic::at(value.span, "a secret cannot stand here: it would be written down");
                problems.push(
                    problem.hint("it may stand in the `env` of a stage with a `command`, and as the `key` of an API"),
                );
            }
            ValueKind::Array(items) => items.iter().for_each(|item| search(item, &[], problems)),
            ValueKind::Table(table) => {
                for (key, value) in &table.entries {
                    let below = allowed.iter().filter_map(|path| path.split_first());
                    let here = below.filter(|(name, _)| ["*", key.name.as_str()].contains(name));
                    search(value, &here.map(|(_, rest)| rest).collect::<Vec<_>>(), problems);
                }
            }
            _ => {}
        }
    }
    for (key, value) in &top.entries {
        match value.as_table() {
            Some(stages) if key.name == "defaults" || Kind::from_name(&key.name).is_some() => {
                let stages = stages.entries.iter().filter(|(_, stage)| stage.as_table().is_some());
                stages.for_each(|(_, stage)| search(stage, &SECRET_SETTINGS, problems));
            }
            _ => search(value, &[], problems),
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
    problems: &mut Problems,
) -> Option<()> {
    let variants = table_of(top, "variant", problems);
    let Some(variant) = variants.get(name) else {
        let known: Vec<&str> = variants.entries.iter().map(|(key, _)| key.name.as_str()).collect();
        problems.push(match known.is_empty() {
            true => Diagnostic::new(format!("there is no variant `{name}`: the manifest has no `[variant.NAME]`")),
            false => Diagnostic::new(format!("there is no `[variant.{name}]`")).suggest(name, known),
        });
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
                problems.push(problem.suggest(other, VARIANT.iter().map(|(name, ..)| *name)));
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
    if table.entries.is_empty() {
        return problems.push(problem.hint(format!("the manifest has no {what} at all")));
    }
    problems.push(problem.suggest(&key.name, table.entries.iter().map(|(known, _)| known.name.as_str())));
}

/// Applies `--set`.
fn set_params(params: &mut Table, overrides: &Overrides, sources: &mut Sources, problems: &mut Problems) {
    for (name, text) in &overrides.params {
        let (key, value) = assignment("--set", name, text, None::<fn() -> Vec<String>>, sources);
        replace(params, &key, value, "parameter", problems);
    }
}

/// Applies `--axis`. An axis with fields keeps the values that are named.
fn set_axes(axes: &mut Table, overrides: &Overrides, sources: &mut Sources, problems: &mut Problems) {
    for (name, text) in &overrides.axes {
        let list = format!("[{text}]");
        let words = || text.split(',').map(|word| word.trim().to_string()).collect();
        let (key, mut value) = assignment("--axis", name, &list, Some(words), sources);
        if let (Some(Value { kind: ValueKind::Table(fields), .. }), ValueKind::Array(wanted)) =
            (axes.get(name), &value.kind)
        {
            let mut kept = Table::default();
            for item in wanted {
                let text = item.as_str().map_or_else(|| item.to_json().to_string(), String::from);
                match fields.entries.iter().find(|(key, _)| key.name == text) {
                    Some(entry) => kept.entries.push(entry.clone()),
                    None => {
                        let problem = Diagnostic::at(item.span, format!("`{text}` is no value of axis `{name}`"));
                        problems.push(problem.suggest(&text, fields.entries.iter().map(|(key, _)| key.name.as_str())));
                    }
                }
            }
            value.kind = ValueKind::Table(kept);
        }
        replace(axes, &key, value, "axis", problems);
    }
}

/// A key and its value from the command line: TOML, else a text (or, with `words`, a list of texts). Each is a small
/// text of its own, so that messages can show it.
fn assignment(
    option: &str,
    name: &str,
    text: &str,
    words: Option<impl Fn() -> Vec<String>>,
    sources: &mut Sources,
) -> (Key, Value) {
    let as_toml = format!("{name} = {text}");
    let parsed = parse(&as_toml, sources.add(option, as_toml.as_str()), &mut Problems::default());
    let entry = parsed.and_then(|value| match value.kind {
        // More than one line of TOML is no value.
        ValueKind::Table(mut table) if table.entries.len() == 1 => table.entries.pop(),
        _ => None,
    });
    entry.unwrap_or_else(|| {
        let file = sources.add(option, format!("{name}={text}"));
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let span = Span { file, start: 0, end: length(name) };
        let place = Span { file, start: length(name) + 1, end: length(name) + 1 + length(text) };
        let string = |text: String| Value { kind: ValueKind::String(text), span: place };
        let value = match words {
            Some(words) => Value { kind: ValueKind::Array(words().into_iter().map(string).collect()), span: place },
            None => string(text.to_string()),
        };
        (Key { name: name.to_string(), span }, value)
    })
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

fn read_all_stages(top: &Table, problems: &mut Problems) -> Vec<StageText> {
    let defaults = table_of(top, "defaults", problems);
    for (key, _) in &defaults.entries {
        if Kind::from_name(&key.name).is_none() {
            let problem = Diagnostic::at(key.span, format!("`defaults.{}` is no kind of stage", key.name));
            problems.push(problem.suggest(&key.name, Kind::ALL.map(Kind::name)));
        }
    }
    let mut stages: Vec<StageText> = Vec::new();
    for kind in Kind::ALL {
        let shared = table_of(&defaults, kind.name(), problems);
        stages.extend(read_stages(kind, top, problems).into_iter().map(|mut stage| {
            // What only the built-in work can be told says nothing to a command, nor to an API.
            let narrower = if shared.entries.is_empty() { None } else { stage::narrower_settings(kind, &stage.table) };
            let takes = |name: &str| narrower.as_ref().is_none_or(|known| known.contains(&name));
            for (key, value) in shared.entries.iter().filter(|(key, _)| takes(&key.name)) {
                stage.table.insert_missing(&key.name, value.clone());
            }
            stage
        }));
    }
    stages
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
