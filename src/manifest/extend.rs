//! `extends = "base.toml"`: a manifest built on another. Tables are merged by key, anything else is replaced; values keep
//! their places, so that messages point into the right file.

use super::ReadText;
use crate::diagnostic::{Diagnostic, Place, Problems, Sources, Span};
use crate::settings::{Table, Value, ValueKind, parse};

/// The setting that names the manifest below.
pub(super) const EXTENDS: &str = "extends";

/// A manifest's top level, all that it extends merged in. `None`: a problem was reported.
pub(super) fn read(name: &str, text: ReadText<'_>, sources: &mut Sources, problems: &mut Problems) -> Option<Table> {
    layer(name, None, &[], text, sources, problems)
}

fn layer(
    name: &str,
    named_at: Option<Span>,
    above: &[&str],
    read: ReadText<'_>,
    sources: &mut Sources,
    problems: &mut Problems,
) -> Option<Table> {
    if above.contains(&name) {
        let mut way: Vec<&str> = above.iter().copied().skip_while(|above| *above != name).collect();
        way.push(name);
        let message = format!("the manifests extend each other in a circle: {}", way.join(" → "));
        problems.push(Diagnostic { place: named_at.map(Place::Span), ..Diagnostic::new(message) });
        return None;
    }
    let text = match read(name) {
        Ok(text) => text,
        Err(problem) => {
            let place = named_at.map(Place::Span).or(problem.place.clone());
            problems.push(Diagnostic { place, ..problem });
            return None;
        }
    };
    let file = sources.add(name, text.as_str());
    let Value { kind: ValueKind::Table(mut top), .. } = parse(&text, file, problems)? else { return None };
    super::document::check_format(&top, Span { file, start: 0, end: 0 }, problems)?;
    let Some(place) = top.entries.iter().position(|(key, _)| key.name == EXTENDS) else {
        return Some(top);
    };
    let (_, value) = top.entries.remove(place);
    let Some(base) = value.as_str() else {
        problems.at(value.span, format!("`{EXTENDS}` is {}: expected the path of a manifest", value.describe()));
        return None;
    };
    let base = base_path(name, base);
    let above = [above, &[name]].concat();
    let below = layer(&base, Some(value.span), &above, read, sources, problems)?;
    Some(merge(below, top))
}

/// The path of the manifest that `name` calls `base`.
pub(super) fn base_path(name: &str, base: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, _)) if !base.starts_with('/') => format!("{folder}/{base}"),
        _ => base.to_string(),
    }
}

fn merge(mut base: Table, own: Table) -> Table {
    for (key, value) in own.entries {
        match base.entries.iter_mut().find(|(known, _)| known.name == key.name) {
            Some((known, old)) => {
                *known = key;
                let was = std::mem::replace(&mut old.kind, ValueKind::Boolean(false));
                *old = match (was, value) {
                    (ValueKind::Table(was), Value { kind: ValueKind::Table(own), span }) => {
                        Value { kind: ValueKind::Table(merge(was, own)), span }
                    }
                    (_, value) => value,
                };
            }
            None => base.entries.push((key, value)),
        }
    }
    base
}
