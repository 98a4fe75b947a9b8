//! What a stage's settings name: other stages and their outputs, files, expressions over columns.

use super::{Form, InputSpec, Kind, Pins};
use crate::address::Address;
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::settings::{At, Decode, Schema, Value, ValueKind, schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt;

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum InputSource {
    /// A file, a folder or a glob, relative to the project's root; or an [`Address`].
    Path(String),
    /// An output of a stage.
    Stage(Reference),
    /// An output of the first instance that the same stage falls apart into; nothing that is written in a manifest.
    Sibling(&'static str),
}

/// `mix.train[n=320,run=1].validation`: a stage, perhaps with axes pinned, perhaps one of its outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The kind of the stage.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Axes with the text of the value that they are pinned to.
    pub pins: Pins,
    /// The output, if one is named.
    pub output: Option<String>,
}

impl Reference {
    /// Reads `kind.name`, `kind.name[axis=value,…]`, each with or without `.output`. `Ok(None)` if the text does not
    /// begin like a reference (then it is a path); `Err` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let Some((head, rest)) = text.split_once('.') else { return Ok(None) };
        let Some(kind) = Kind::from_name(head) else { return Ok(None) };
        if has_folders(rest) {
            return Ok(None);
        }
        let (name, pins, tail) = match rest.split_once('[') {
            Some((name, rest)) => {
                let (pins, tail) = Pins::parse(rest)?;
                (name, pins, tail)
            }
            None => match rest.split_once('.') {
                Some((name, _)) => (name, Pins::default(), &rest[name.len()..]),
                None => (rest, Pins::default(), ""),
            },
        };
        let output = match tail.strip_prefix('.') {
            Some(output) => Some(output.to_string()),
            None if tail.is_empty() => None,
            None => return Err(format!("`{tail}` after the `]` of `{text}`: expected `.output`")),
        };
        if !is_name(name) {
            return Err(format!("`{name}` is no name of a stage: letters, digits, `_` and `-`"));
        }
        // Which it is may stand there only when placeholders are filled in: `train.a.checkpoint-{back}`.
        if let Some(output) = &output
            && !output.contains('{')
            && !kind.outputs().iter().any(|(known, _)| known == output)
        {
            let known: Vec<&str> = kind.outputs().iter().map(|(known, _)| *known).collect();
            return Err(format!("a {kind} stage has no output `{output}`: it has {}", known.join(", ")));
        }
        Ok(Some(Self { kind, name: name.to_string(), pins, output }))
    }

    /// `kind.name`, as stages are called.
    pub fn stage(&self) -> String {
        format!("{}.{}", self.kind, self.name)
    }
}

/// Whether a text has a `/` outside of its brackets, and so is a path: a pinned value may have one.
fn has_folders(text: &str) -> bool {
    match text.split_once('[') {
        None => text.contains('/'),
        Some((before, pins)) => {
            before.contains('/') || pins.rsplit_once(']').is_some_and(|(_, after)| after.contains('/'))
        }
    }
}

/// As it is read back.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.kind, self.name, self.pins)?;
        self.output.as_ref().map_or(Ok(()), |output| write!(f, ".{output}"))
    }
}

/// Whether `text` can be the name of a stage, an axis or a parameter.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// An address of another machine must say which bytes are meant.
pub(super) fn check_address(text: &str, span: Span) -> Result<(), Diagnostic> {
    let address = Address::parse(text).map_err(|problem| Diagnostic::at(span, problem))?;
    match address.unpinned() {
        None => Ok(()),
        Some(reason) => Err(Diagnostic::at(span, format!("`{text}` {reason}"))
            .hint(format!("`titer fetch {text}` fetches what is there now, and says the address to write"))),
    }
}

impl Decode for InputSource {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = String::decode(value, problems)?;
        match Reference::parse(&text) {
            Ok(Some(reference)) => Some(Self::Stage(reference)),
            Ok(None) if text.is_empty() => {
                problems.at(value.span, "a path is empty");
                None
            }
            Ok(None) if Address::is_meant(&text) => match check_address(&text, value.span) {
                Ok(()) => Some(Self::Path(text)),
                Err(problem) => {
                    problems.push(problem);
                    None
                }
            },
            Ok(None) => Some(Self::Path(text)),
            Err(message) => {
                problems.at(value.span, message);
                None
            }
        }
    }

    fn schema() -> Schema {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// A model as it is written: a folder or a stage, or a list of a base and the adapters on it; at least one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layers(Vec<At<InputSource>>);

impl Layers {
    /// The inputs that they are; all have one role.
    pub(super) fn inputs(self, role: &str) -> Vec<InputSpec> {
        self.0.into_iter().map(|source| InputSpec::new(role, Form::Model, source)).collect()
    }
}

impl Decode for Layers {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::Array(items) if items.is_empty() => {
                problems.at(value.span, "the list of models is empty");
                None
            }
            ValueKind::Array(_) => Vec::decode(value, problems).map(Self),
            _ => At::decode(value, problems).map(|source| Self(vec![source])),
        }
    }

    fn schema() -> Schema {
        schema::any_of([InputSource::schema(), schema::some(&InputSource::schema())])
    }
}

/// An expression over columns and axes, such as `n > 0`; its syntax is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(pub(super) String);

impl Decode for Expression {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = String::decode(value, problems)?;
        if let Err(error) = minijinja::Environment::new().compile_expression(&text) {
            problems.at(value.span, format!("`{text}` is not an expression: {error}"));
            return None;
        }
        Some(Self(text))
    }

    fn schema() -> Schema {
        String::schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_paths() {
        assert_eq!(Reference::parse("data/tasks/sst2.jsonl"), Ok(None));
        assert_eq!(Reference::parse("mix.d/rows.jsonl"), Ok(None));
        let plain = Reference::parse("mix.train").unwrap().unwrap();
        assert_eq!((plain.stage().as_str(), plain.output), ("mix.train", None));
        let full = Reference::parse("mix.train[n=320,run=1].validation").unwrap().unwrap();
        assert_eq!(full.pins.0, [("n".into(), "320".into()), ("run".into(), "1".into())]);
        assert_eq!(full.output.as_deref(), Some("validation"));
        assert!(Reference::parse("mix.train.valid").unwrap_err().contains("train, validation, test, stats"));
        assert!(Reference::parse("mix.train[n=320").is_err());
        let open = Reference::parse("train.a.checkpoint-{back}").unwrap().unwrap();
        assert_eq!((open.stage().as_str(), open.output.as_deref()), ("train.a", Some("checkpoint-{back}")));
        assert!(Reference::parse("train.a.checkpoint-9").unwrap_err().contains("it has model, metrics, summary"));
    }

    #[test]
    fn a_pinned_value_may_be_a_path() {
        for text in ["mix.train[file=data/a.jsonl]", r#"mix.train[file="a]/b.c"].test"#] {
            let reference = Reference::parse(text).unwrap().unwrap();
            assert_eq!(reference.to_string(), text);
        }
        assert_eq!(Reference::parse("mix.d[ab]/rows.jsonl"), Ok(None));
        assert!(Reference::parse("mix.train[file=a/b").unwrap_err().contains("does not end with `]`"));
    }
}
