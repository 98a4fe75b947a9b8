//! In what two keys differ, setting by setting and input by input, and how that is said.

use super::{Digest, KeyDocument, KeyInput, canonical};
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One difference between two key documents.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Another form of keys: the program was changed.
    Format {
        /// Before.
        old: u32,
        /// Now.
        new: u32,
    },
    /// Another kind of stage.
    Kind {
        /// Before.
        old: String,
        /// Now.
        new: String,
    },
    /// The kind does its work in another way than it did.
    Version {
        /// Before.
        old: u32,
        /// Now.
        new: u32,
    },
    /// A setting.
    Setting {
        /// Where in the recipe: `lora.r`, `sources.0.take`; empty for the recipe as a whole.
        path: String,
        /// Before; none if it was not set.
        old: Option<Json>,
        /// Now; none if it is not set.
        new: Option<Json>,
    },
    /// The content of an input; an input that came or went.
    Input {
        /// Its role.
        role: String,
        /// Its labels.
        labels: BTreeMap<String, Json>,
        /// Its place, from 0, among inputs of the same role and labels, where there are several.
        index: Option<usize>,
        /// Before; none if there was no such input.
        old: Option<Digest>,
        /// Now; none if there is no such input.
        new: Option<Digest>,
    },
    /// The same inputs of one role in another order.
    Order {
        /// The role.
        role: String,
    },
}

/// In what two documents differ; empty if and only if their keys are equal.
pub fn difference(old: &KeyDocument, new: &KeyDocument) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.format != new.format {
        changes.push(Change::Format { old: old.format, new: new.format });
    }
    if old.kind != new.kind {
        changes.push(Change::Kind { old: old.kind.clone(), new: new.kind.clone() });
    }
    if old.version != new.version {
        changes.push(Change::Version { old: old.version, new: new.version });
    }
    setting_changes("", Some(&old.recipe), Some(&new.recipe), &mut changes);
    input_changes(&old.inputs, &new.inputs, &mut changes);
    changes
}

fn setting_changes(path: &str, old: Option<&Json>, new: Option<&Json>, changes: &mut Vec<Change>) {
    let below = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
    match (old, new) {
        (Some(Json::Object(old)), Some(Json::Object(new))) => {
            for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let old = old.get(name).filter(|value| !value.is_null());
                let new = new.get(name).filter(|value| !value.is_null());
                setting_changes(&below(name), old, new, changes);
            }
        }
        // Lists of tables (a mix's sources) are compared item by item, lists of plain values as wholes.
        (Some(Json::Array(old)), Some(Json::Array(new)))
            if !old.is_empty() && !new.is_empty() && old.iter().chain(new).all(Json::is_object) =>
        {
            for i in 0..old.len().max(new.len()) {
                setting_changes(&below(&i.to_string()), old.get(i), new.get(i), changes);
            }
        }
        _ if old.map(canonical) != new.map(canonical) => {
            changes.push(Change::Setting { path: path.to_string(), old: old.cloned(), new: new.cloned() });
        }
        _ => {}
    }
}

fn input_changes(old: &[KeyInput], new: &[KeyInput], changes: &mut Vec<Change>) {
    let roles: BTreeSet<&str> = old.iter().chain(new).map(|input| input.role.as_str()).collect();
    for role in roles {
        let of_role = |inputs: &'_ [KeyInput]| -> Vec<KeyInput> {
            inputs.iter().filter(|input| input.role == role).cloned().collect()
        };
        let (old, new) = (of_role(old), of_role(new));
        if old == new {
            continue;
        }
        let (before, after) = (by_labels(&old), by_labels(&new));
        let found = changes.len();
        for labels in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            let digests = |side: &'_ BTreeMap<String, Vec<KeyInput>>| side.get(labels).cloned().unwrap_or_default();
            let (before, after) = (digests(&before), digests(&after));
            let count = before.len().max(after.len());
            for i in 0..count {
                let (old, new) = (before.get(i), after.get(i));
                let Some(either) = new.or(old) else { continue };
                if old.map(|input| input.digest) != new.map(|input| input.digest) {
                    changes.push(Change::Input {
                        role: role.to_string(),
                        labels: either.labels.clone(),
                        index: (count > 1).then_some(i),
                        old: old.map(|input| input.digest),
                        new: new.map(|input| input.digest),
                    });
                }
            }
        }
        if changes.len() == found {
            changes.push(Change::Order { role: role.to_string() });
        }
    }
}

/// Inputs by the text of their labels, each list in order.
fn by_labels(inputs: &[KeyInput]) -> BTreeMap<String, Vec<KeyInput>> {
    let mut groups: BTreeMap<String, Vec<KeyInput>> = BTreeMap::new();
    for input in inputs {
        groups.entry(label_text(&input.labels)).or_default().push(input.clone());
    }
    groups
}

/// `n=20,run=1`
fn label_text(labels: &BTreeMap<String, Json>) -> String {
    let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
    parts.join(",")
}

/// A value as a person writes it: strings without quotes.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => canonical(other),
    }
}

/// Two values of a setting for one line of a message. Of long ones, what is around the first difference.
fn shown(old: Option<&Json>, new: Option<&Json>) -> [String; 2] {
    const LONGEST: usize = 60;
    const BEFORE: usize = 20;
    let texts = [old, new]
        .map(|value| -> Vec<char> { value.map_or_else(|| "not set".to_string(), canonical).chars().collect() });
    let equal = texts[0].iter().zip(&texts[1]).take_while(|(old, new)| old == new).count();
    let is_long = texts.iter().any(|text| text.len() > LONGEST);
    let start = if is_long && equal > BEFORE + 1 { equal - BEFORE } else { 0 };
    texts.map(|text| {
        let rest = text.len() - start;
        let shown = text[start..].iter().take(if rest > LONGEST { LONGEST - 1 } else { rest });
        (start > 0).then_some(&'…').into_iter().chain(shown).chain((rest > LONGEST).then_some(&'…')).collect()
    })
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Format { old, new } => write!(f, "format of keys: {old} → {new}"),
            Change::Kind { old, new } => write!(f, "kind: {old} → {new}"),
            Change::Version { old, new } => write!(f, "version of the kind: {old} → {new}"),
            Change::Setting { path, old, new } => {
                let path = if path.is_empty() { "recipe" } else { path };
                let [old, new] = shown(old.as_ref(), new.as_ref());
                write!(f, "{path}: {old} → {new}")
            }
            Change::Input { role, labels, index, old, new } => {
                f.write_str(role)?;
                if !labels.is_empty() {
                    write!(f, "[{}]", label_text(labels))?;
                }
                if let Some(index) = index {
                    write!(f, " ({})", index + 1)?;
                }
                f.write_str(match (old, new) {
                    (None, _) => ": added",
                    (_, None) => ": removed",
                    _ => ": content changed",
                })
            }
            Change::Order { role } => write!(f, "{role}: same inputs in another order"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{document, input};
    use super::*;
    use serde_json::json;

    fn lines(old: &KeyDocument, new: &KeyDocument) -> Vec<String> {
        let lines: Vec<String> = difference(old, new).iter().map(ToString::to_string).collect();
        assert_eq!(lines.is_empty(), old.key() == new.key(), "a difference is shown exactly if the keys differ");
        lines
    }

    #[test]
    fn settings_are_compared_by_path() {
        let old = document(json!({"lora": {"r": 8, "on": ["q"]}, "sources": [{"take": 80}], "gone": 1}), vec![]);
        let new = document(
            json!({"lora": {"r": 8, "on": ["q", "v"]}, "sources": [{"take": 100}, {"take": 3}], "unset": null}),
            vec![],
        );
        assert_eq!(
            lines(&old, &new),
            [
                "gone: 1 → not set",
                r#"lora.on: ["q"] → ["q","v"]"#,
                "sources.0.take: 80 → 100",
                r#"sources.1: not set → {"take":3}"#
            ]
        );
        let long = |end: &str| document(json!({"template": format!("{}{end}", "x".repeat(100))}), vec![]);
        let [a, b] = ["a", "b"].map(|end| format!("…{}{end}\"", "x".repeat(20)));
        assert_eq!(lines(&long("a"), &long("b")), [format!("template: {a} → {b}")]);
        let rest = "y".repeat(100);
        let [a, b] = ["a", "b"].map(|begin| format!("\"{begin}{}…", "y".repeat(57)));
        let early = |begin: &str| document(json!({"template": format!("{begin}{rest}")}), vec![]);
        assert_eq!(lines(&early("a"), &early("b")), [format!("template: {a} → {b}")]);
        let longer = lines(&document(json!({"t": rest}), vec![]), &document(json!({"t": format!("{rest}é")}), vec![]));
        let y = "y".repeat(20);
        assert_eq!(longer, [format!("t: …{y}\" → …{y}é\"")]);
        assert!(lines(&old, &old).is_empty());
        // Null is 'not set' in an object, but a value of its own in a list.
        assert!(lines(&document(json!({"a": null}), vec![]), &document(json!({}), vec![])).is_empty());
        assert_eq!(lines(&document(json!([{}]), vec![]), &document(json!([{}, null]), vec![])).len(), 1);
        assert_eq!(
            lines(&document(json!({}), vec![]), &KeyDocument::new("mix", 2, json!({}), vec![])),
            ["kind: train → mix", "version of the kind: 1 → 2"]
        );
    }

    #[test]
    fn inputs_are_compared_by_role_and_labels() {
        let old = document(
            json!({}),
            vec![
                input("source.0", json!({}), "a"),
                input("source.0", json!({}), "b"),
                input("scores", json!({"n": 20}), "x"),
                input("scores", json!({"n": 80}), "y"),
            ],
        );
        let new = document(
            json!({}),
            vec![
                input("source.0", json!({}), "a"),
                input("source.0", json!({}), "c"),
                input("scores", json!({"n": 80}), "y"),
                input("scores", json!({"n": "big"}), "x"),
                input("base", json!({}), "w"),
            ],
        );
        assert_eq!(
            lines(&old, &new),
            ["base: added", "scores[n=20]: removed", "scores[n=big]: added", "source.0 (2): content changed"]
        );
        let mut swapped = old.clone();
        swapped.inputs.swap(0, 1);
        assert_eq!(lines(&old, &swapped), ["scores: same inputs in another order"]);
    }
}
