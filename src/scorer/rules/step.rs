//! A step as the manifest says it: one thing to do, and how.

use super::super::python_regex::Pattern;
use super::change::{Change, Normal, Which};
use super::compare::{Compare, Contains, Equal};
use crate::diagnostic::Problems;
use crate::settings::{Decode, Schema, Value, ValueKind, schema};
use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};

crate::settings! {
    /// One step: exactly one of `normalise`, `remove`, `capture`, `take`, `first_of`, `equal` and `contains`.
    pub struct StepSettings {
        /// Takes away what does not count: `"case"`, or a list such as `["case", "punctuation", "articles", "space"]`.
        normalise: Option<Normals> = None,
        /// Takes away all that this Python regular expression matches.
        remove: Option<Pattern> = None,
        /// Goes on with what the first group of this Python regular expression captures, or with all of its match.
        capture: Option<Pattern> = None,
        /// Goes on with a part of the text.
        take: Option<Take> = None,
        /// Goes on with the one of these words that stands first (or last) in the text; in capitals or not.
        first_of: Option<Vec<String>> = None,
        /// Compares: whether answer and reference are the same.
        equal: Option<Equal> = None,
        /// Compares: whether the reference stands in the answer.
        contains: Option<Contains> = None,
        /// Of several matches, parts or words: the first or the last.
        which: Option<Which> = None,
        /// Whose text is changed; by default both.
        on: Option<Side> = None,
        /// How far two numbers may lie apart.
        tolerance: Option<f64> = None => 0.0..=f64::MAX,
        /// How far they may lie apart, as a part of the reference: `0.01` is one percent.
        relative: Option<f64> = None => 0.0..=f64::MAX,
    }
}

crate::words! {
    /// A part of a text.
    pub enum Take {
        /// A number, as `equal = "number"` reads it.
        Number = "number",
        /// A word: what stands between white space, without punctuation around it.
        Word = "word",
        /// A line that is not blank, without white space around it.
        Line = "line",
    }
}

crate::words! {
    /// Whose text a step changes.
    pub enum Side {
        /// The answer's.
        Prediction = "prediction",
        /// The reference's.
        Reference = "reference",
        /// Both.
        Both = "both",
    }
}

/// One way to normalise, or a list of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Normals(Vec<Normal>);

impl Decode for Normals {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match value.kind {
            ValueKind::Array(_) => Vec::decode(value, problems).map(Self),
            _ => Normal::decode(value, problems).map(|normal| Self(vec![normal])),
        }
    }

    fn schema() -> Schema {
        schema::any_of([Normal::schema(), schema::some(&Normal::schema())])
    }
}

/// A step that is known to make sense.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Step(StepSettings);

/// What a step does.
pub(super) enum Action {
    Change(Side, Change),
    Compare(Compare),
}

impl Decode for Step {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let step = Self(StepSettings::decode(value, problems)?);
        match step.action() {
            Ok(_) => Some(step),
            Err(error) => {
                problems.at(value.span, format!("{error:#}"));
                None
            }
        }
    }

    fn schema() -> Schema {
        StepSettings::schema()
    }
}

impl Step {
    /// What is to be done.
    ///
    /// # Errors
    /// If that is nothing or more than one thing, or something is said that has no meaning for it.
    pub(super) fn action(&self) -> anyhow::Result<Action> {
        let step = &self.0;
        let which = step.which.unwrap_or(Which::First);
        let mut actions: Vec<(&str, Action)> = Vec::new();
        let mut change = |name, change| actions.push((name, Action::Change(step.on.unwrap_or(Side::Both), change)));
        if let Some(normals) = &step.normalise {
            ensure!(!normals.0.is_empty(), "`normalise` is empty");
            change("normalise", Change::normalise(&normals.0)?);
        }
        if let Some(pattern) = &step.remove {
            change("remove", Change::Remove(pattern.compile()?));
        }
        if let Some(pattern) = &step.capture {
            change("capture", Change::Capture(pattern.compile()?, which));
        }
        if let Some(part) = step.take {
            change("take", Change::take(part, which)?);
        }
        if let Some(words) = &step.first_of {
            change("first_of", Change::first_of(words, which)?);
        }
        if let Some(equal) = step.equal {
            let (absolute, relative) = (step.tolerance.unwrap_or(0.0), step.relative.unwrap_or(0.0));
            actions.push(("equal", Action::Compare(Compare::Equal { equal, absolute, relative })));
        }
        if let Some(contains) = step.contains {
            actions.push(("contains", Action::Compare(Compare::Contains(contains))));
        }
        ensure!(
            actions.len() < 2,
            "a step does one thing, not `{}` and `{}`: make two of it",
            actions[0].0,
            actions[1].0
        );
        let Some((name, action)) = actions.pop() else {
            bail!("a step does one of `normalise`, `remove`, `capture`, `take`, `first_of`, `equal`, `contains`");
        };
        let is_number = step.equal == Some(Equal::Number);
        for (said, is_said, has_meaning) in [
            ("which", step.which.is_some(), ["capture", "take", "first_of"].contains(&name)),
            ("on", step.on.is_some(), matches!(action, Action::Change(..))),
            ("tolerance", step.tolerance.is_some(), is_number),
            ("relative", step.relative.is_some(), is_number),
        ] {
            ensure!(
                !is_said || has_meaning,
                "`{said}` has no meaning beside `{name}`{}",
                match said {
                    "tolerance" | "relative" => ": it is for `equal = \"number\"`",
                    _ => "",
                }
            );
        }
        Ok(action)
    }
}
