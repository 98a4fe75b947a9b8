//! `titer set`: a manifest's text with some of its settings changed. Comments and layout stay; nothing is written here.
//!
//! A change that would bring a new mistake into the manifest is refused as a whole, with the mistakes at their places in
//! the text as it would be.

mod place;

use super::{Overrides, ReadText, extend};
use crate::diagnostic::{Diagnostic, Problems, Sources, Span};
use crate::stage::Kind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use toml_edit::{DocumentMut, Key, Value};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// `KEY=VALUE`, as the person wrote it: the value is TOML, else a bare text.
    Set(String),
    /// A key to be removed.
    Unset(String),
}

/// A manifest's new text.
#[derive(Debug)]
pub struct Edited {
    /// The text as it was.
    pub old: String,
    /// The text as it is to be.
    pub new: String,
    /// What was changed, in the order of the call.
    pub changes: Vec<Changed>,
    /// How many mistakes the manifest had before, and still has.
    pub mistakes: usize,
}

/// One changed setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its key.
    pub key: String,
    /// Its value before, as TOML; none if it was not set in this manifest or those that it extends.
    pub old: Option<String>,
    /// Its value now; none if it was removed.
    pub new: Option<String>,
    /// The manifest that this one extends and that has the setting; it is not changed, but overridden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<String>,
    /// The list that was copied from there: a list is replaced as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied: Option<String>,
}

/// An [`Edit`] that could be read.
struct Change {
    keys: Vec<Key>,
    /// None: it is removed.
    value: Option<Value>,
    span: Span,
}

impl Change {
    /// The first `count` parts of its key, as TOML writes them.
    fn key(&self, count: usize) -> String {
        let parts: Vec<String> = self.keys.iter().take(count).map(|key| key.display_repr().into_owned()).collect();
        parts.join(".")
    }

    fn path(&self) -> Vec<&str> {
        self.keys.iter().map(Key::get).collect()
    }
}

/// A manifest that the edited one extends.
struct Layer {
    name: String,
    document: DocumentMut,
}

/// The text of the manifest `name` with all `edits` applied.
///
/// # Errors
/// An edit that cannot be read or does not fit; the mistakes that the manifest would have and does not have now.
pub fn edit(name: &str, read: ReadText<'_>, edits: &[Edit], sources: &mut Sources) -> Result<Edited, Vec<Diagnostic>> {
    let old = read(name).map_err(|problem| vec![problem])?;
    let mut problems = Problems::default();
    let changes: Vec<Option<Change>> = edits.iter().map(|edit| parse(edit, sources, &mut problems)).collect();
    let Some(changes) = changes.into_iter().collect::<Option<Vec<_>>>() else { return Err(problems.into_vec()) };
    let mut document: DocumentMut = match old.parse() {
        Ok(document) => document,
        // What is wrong with it is said better where manifests are read.
        Err(error) => {
            let wrong = super::load(name, read, &Overrides::default(), sources).err();
            return Err(wrong.unwrap_or_else(|| vec![Diagnostic::new(error.message().to_string())]));
        }
    };
    let layers = layers(name, read, &document);
    let known = known_names(&document, &layers);
    let mut done = Vec::new();
    for change in &changes {
        match apply(change, &mut document, &layers) {
            Ok(changed) => done.push(changed),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems.into_vec());
    }
    let mut new = document.to_string();
    if old.contains("\r\n") {
        new = new.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    // The last line stays as it ended.
    if !old.ends_with('\n') {
        new.truncate(new.trim_end_matches(['\r', '\n']).len());
    }
    let mistakes = check(name, read, &new, &changes, &known, sources)?;
    Ok(Edited { old, new, changes: done, mistakes })
}

fn parse(edit: &Edit, sources: &mut Sources, problems: &mut Problems) -> Option<Change> {
    let (text, (key, value)) = match edit {
        Edit::Set(text) => (text, split(text)),
        Edit::Unset(text) => (text, (text.as_str(), None)),
    };
    let file = sources.add("set", text.as_str());
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
    let span = Span { file, start: 0, end: length(key) };
    let keys = match Key::parse(key) {
        Ok(keys) => keys,
        Err(_) => {
            let problem = Diagnostic::at(span, format!("`{key}` is no key"));
            problems.push(match key.contains('[') {
                true => problem.hint("a setting is the same for all instances of a stage, or has a placeholder: `{n}`"),
                false => problem.hint("a key is like `train.adapter.epochs`, an item of a list like `sources.0.take`"),
            });
            return None;
        }
    };
    let value = match (edit, value) {
        (Edit::Unset(_), _) => None,
        (Edit::Set(_), None) => {
            let problem = Diagnostic::at(span, format!("`{text}` is not `key=value`"));
            problems.push(problem.hint(format!("to remove it: `--unset {key}`")));
            return None;
        }
        (Edit::Set(_), Some(value)) => {
            let place = Span { file, start: length(text) - length(value), end: length(text) };
            Some(read_value(value, key, place, problems)?)
        }
    };
    Some(Change { keys, value, span })
}

/// `KEY` and `VALUE` of `KEY=VALUE`; an `=` in quotes belongs to the key.
fn split(text: &str) -> (&str, Option<&str>) {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '=') => return (text[..at].trim(), Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text.trim(), None)
}

/// TOML, else a bare text. What begins like TOML and is none is a slip.
fn read_value(text: &str, key: &str, span: Span, problems: &mut Problems) -> Option<Value> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        let problem = Diagnostic::at(span, format!("`{key}` gets no value"));
        problems.push(problem.hint(format!("an empty text is `{key}='\"\"'`; to remove it: `--unset {key}`")));
        return None;
    }
    match trimmed.parse::<Value>() {
        Ok(value) => Some(value),
        Err(error) => {
            let begins_like_toml = trimmed.starts_with(['"', '\'', '['])
                || trimmed.starts_with('{') && trimmed.contains('=')
                || trimmed.contains('\n');
            if begins_like_toml {
                let message = error.message().lines().next().unwrap_or_default().to_string();
                let problem = Diagnostic::at(span, format!("`{trimmed}` is no TOML: {message}"));
                problems.push(problem.hint("has the shell taken its quotes? put the whole argument in '…'"));
                return None;
            }
            Some(trimmed.into())
        }
    }
}

/// The manifests that this one extends, the nearest first. What is wrong with them is said when they are loaded.
fn layers(name: &str, read: ReadText<'_>, document: &DocumentMut) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    let base_of = |name: &str, document: &DocumentMut| {
        let base = document.get(extend::EXTENDS)?.as_str()?;
        Some(extend::base_path(name, base))
    };
    let mut next = base_of(name, document);
    while let Some(base) = next {
        if base == name || layers.iter().any(|layer| layer.name == base) {
            break;
        }
        let Some(document) = read(&base).ok().and_then(|text| text.parse::<DocumentMut>().ok()) else { break };
        next = base_of(&base, &document);
        layers.push(Layer { name: base, document });
    }
    layers
}

fn apply(change: &Change, document: &mut DocumentMut, layers: &[Layer]) -> Result<Changed, Diagnostic> {
    let path = change.path();
    let here = place::find(document.as_item(), &path);
    let below = || layers.iter().find_map(|layer| Some((layer, place::find(layer.document.as_item(), &path)?)));
    let mut changed = Changed {
        key: change.key(path.len()),
        old: here.or_else(|| below().map(|(_, step)| step)).map(|step| step.shown()),
        new: change.value.as_ref().map(|value| value.clone().decorated("", "").to_string()),
        overrides: None,
        copied: None,
    };
    let at = |problem: String| Diagnostic::at(change.span, problem);
    let Some(value) = &change.value else {
        return match (here.is_some(), below()) {
            (true, _) => {
                place::remove(document.as_item_mut(), &path).map_err(at)?;
                Ok(changed)
            }
            (false, Some((layer, _))) => {
                let problem = at(format!("`{}` is not set here, but in `{}`", changed.key, layer.name));
                Err(problem.hint("what a manifest extends cannot be unset in it: give it another value"))
            }
            (false, None) => {
                let near = place::siblings(document.as_item(), &path);
                let near = near.iter().map(String::as_str);
                Err(at(format!("`{}` is not set", changed.key)).suggest(path.last().unwrap_or(&""), near))
            }
        };
    };
    if here.is_none()
        && let Some((layer, _)) = below()
    {
        changed.overrides = Some(layer.name.clone());
    }
    // A list is not merged: a change inside of one that only a manifest below has, needs a copy of it here.
    if let Some((layer, count)) = list_below(document, layers, &path) {
        let list = place::find(layer.document.as_item(), &path[..count]).map(|step| step.value());
        if let Some(list) = list {
            changed.copied = Some(change.key(count));
            changed.overrides = Some(layer.name.clone());
            place::set(document.as_item_mut(), &change.keys[..count], list).map_err(at)?;
        }
    }
    place::set(document.as_item_mut(), &change.keys, value.clone()).map_err(at)?;
    Ok(changed)
}

/// The first list on the way that only a manifest below has, and how many keys lead to it.
fn list_below<'l>(document: &DocumentMut, layers: &'l [Layer], path: &[&str]) -> Option<(&'l Layer, usize)> {
    (1..path.len()).find_map(|count| {
        let way = &path[..count];
        if place::find(document.as_item(), way).is_some() {
            return None;
        }
        let found = |layer: &&Layer| place::find(layer.document.as_item(), way).is_some();
        let layer = layers.iter().find(found)?;
        place::find(layer.document.as_item(), way)?.is_list().then_some((layer, count))
    })
}

/// The stages, parameters and axes of a manifest before it is changed.
type Known = BTreeSet<(String, String)>;

fn known_names(document: &DocumentMut, layers: &[Layer]) -> Known {
    let documents = layers.iter().map(|layer| &layer.document).chain([document]);
    let mut known = Known::new();
    for (table, item) in documents.flat_map(|document| document.iter()) {
        let names = item.as_table_like().into_iter().flat_map(toml_edit::TableLike::iter);
        known.extend(names.map(|(name, _)| (table.to_string(), name.to_string())));
    }
    known
}

/// The mistakes that are there before and after; `Err`: those that are new.
fn check(
    name: &str,
    read: ReadText<'_>,
    new: &str,
    changes: &[Change],
    known: &Known,
    sources: &mut Sources,
) -> Result<usize, Vec<Diagnostic>> {
    let with_new = |path: &str| if path == name { Ok(new.to_string()) } else { read(path) };
    let mut before: BTreeMap<String, usize> = BTreeMap::new();
    let mut old_mistakes = 0;
    let mut fresh = Problems::default();
    for variant in variants(changes) {
        let overrides = Overrides { variant, ..Overrides::default() };
        let old = super::load(name, read, &overrides, &mut Sources::default()).err().unwrap_or_default();
        old.into_iter().for_each(|problem| *before.entry(problem.message).or_default() += 1);
        for problem in super::load(name, &with_new, &overrides, sources).err().unwrap_or_default() {
            match before.get_mut(&problem.message).filter(|count| **count > 0) {
                Some(count) => {
                    *count -= 1;
                    old_mistakes += 1;
                }
                None => fresh.push(problem),
            }
        }
    }
    let is_wrong = !fresh.is_empty();
    for change in changes {
        if let Some(problem) = misnamed(change, new, known, is_wrong) {
            fresh.push(problem);
        }
    }
    if fresh.is_empty() { Ok(old_mistakes) } else { Err(fresh.into_vec()) }
}

/// The manifest without a variant, and each variant that a change is in.
fn variants(changes: &[Change]) -> BTreeSet<Option<String>> {
    let of = |change: &Change| match change.path()[..] {
        ["variant", name, ..] => Some(name.to_string()),
        _ => None,
    };
    changes.iter().map(of).chain([None]).collect()
}

/// A new stage that is wrong, and a new parameter or axis that nothing uses, are slips of the fingers.
fn misnamed(change: &Change, new: &str, known: &Known, is_wrong: bool) -> Option<Diagnostic> {
    let path = change.path();
    let [table, name, ..] = path[..] else { return None };
    change.value.as_ref()?;
    if known.contains(&(table.to_string(), name.to_string())) {
        return None;
    }
    let names = || known.iter().filter(|(of, _)| of == table).map(|(_, name)| name.as_str());
    if Kind::from_name(table).is_some() {
        let problem = Diagnostic::at(change.span, format!("there is no stage `{table}.{name}` yet"));
        return is_wrong.then(|| problem.suggest(name, names()));
    }
    let is_used = [format!("{{{name}}}"), format!("{{{name}."), format!("${name}"), format!("\"{name}\"")]
        .iter()
        .any(|text| new.contains(text));
    if !["params", "axes"].contains(&table) || is_used {
        return None;
    }
    let what = if table == "params" { "parameter" } else { "axis" };
    let problem = Diagnostic::at(change.span, format!("there is no {what} `{name}`, and nothing names it"));
    let near = crate::diagnostic::closest(name, names());
    Some(match near {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => {
            problem.hint(format!("to add one, set what is to use it in the same call: `mix.train.seed={{{name}}}`"))
        }
    })
}

#[cfg(test)]
mod tests;
