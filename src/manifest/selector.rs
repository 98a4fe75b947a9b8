//! Selectors: `train`, `train.adapter`, `train.adapter[n=80]` pick instances on the command line and in `targets`.

use super::{AxisValue, Instance, InstanceId, Pipeline};
use crate::diagnostic::{Diagnostic, closest};
use crate::stage::{Kind, Pins, quoted};
use std::collections::BTreeSet;
use std::fmt;

/// A pattern of instance names.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    kind: Kind,
    name: Option<String>,
    pins: Pins,
}

/// As it is read back.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, ".{name}"))?;
        write!(f, "{}", self.pins)
    }
}

impl Selector {
    /// Reads a selector; `Err` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (head, pins) = match text.split_once('[') {
            Some((head, rest)) => match Pins::parse(rest).map_err(|problem| format!("`{text}`: {problem}"))? {
                (pins, "") => (head, pins),
                (_, after) => {
                    let hint = "a value that holds `]` stands in quotes, and a selector names no output";
                    return Err(format!("`{after}` comes after the `]` of `{text}`: {hint}"));
                }
            },
            None => (text, Pins::default()),
        };
        let (kind, name) = match head.split_once('.') {
            Some((kind, name)) => (kind, Some(name.to_string())),
            None => (head, None),
        };
        let Some(kind) = Kind::from_name(kind) else {
            let known = Kind::ALL.map(Kind::name);
            let hint = closest(kind, known).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            return Err(format!("`{text}` does not begin with a kind of stage ({}){hint}", known.join(", ")));
        };
        Ok(Self { kind, name, pins })
    }

    /// Whether it picks what `other` names: an instance that a manifest may not have any more.
    pub fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.name.as_ref().is_none_or(|name| other.name.as_ref() == Some(name))
            && self.pins.0.iter().all(|pin| other.pins.0.contains(pin))
    }

    /// Whether the instance is picked.
    pub fn matches(&self, id: &InstanceId) -> bool {
        let is_called = |axis: &str, wanted: &str| id.axes.get(axis).is_some_and(|value| value.is_called(wanted));
        self.kind == id.kind
            && self.name.as_ref().is_none_or(|name| *name == id.name)
            && self.pins.0.iter().all(|(axis, wanted)| is_called(axis, wanted))
    }
}

/// The instances that a selector picks: at least one.
///
/// # Errors
/// If it cannot be read or picks nothing; with what it may have meant.
pub fn select(pipeline: &Pipeline, text: &str) -> Result<Vec<usize>, Diagnostic> {
    let selector = Selector::parse(text).map_err(|message| {
        // Its kind may have been left out.
        let head = text.split('[').next().unwrap_or(text);
        let stage = pipeline.stages.iter().find(|stage| stage.name == head);
        let problem = Diagnostic::new(message);
        stage.map_or(problem.clone(), |stage| problem.hint(format!("did you mean `{}.{}`?", stage.kind, stage.name)))
    })?;
    let matching = |instances: &[Instance]| -> Vec<usize> {
        (0..instances.len()).filter(|&node| selector.matches(&instances[node].id)).collect()
    };
    let picked = matching(&pipeline.instances);
    if !picked.is_empty() {
        return Ok(picked);
    }
    Err(picks_nothing(pipeline, text, &selector))
}

/// Which part of a selector is the wrong one.
fn picks_nothing(pipeline: &Pipeline, text: &str, selector: &Selector) -> Diagnostic {
    let problem = Diagnostic::new(format!("`{text}` picks no stage"));
    let head = text.split('[').next().unwrap_or(text);
    let of_stage: Vec<&InstanceId> = pipeline
        .instances
        .iter()
        .map(|instance| &instance.id)
        .filter(|id| id.kind == selector.kind && selector.name.as_ref().is_none_or(|name| *name == id.name))
        .collect();
    if of_stage.is_empty() {
        let stages: Vec<String> =
            pipeline.stages.iter().map(|stage| format!("{}.{}", stage.kind, stage.name)).collect();
        let named =
            stages.iter().find(|stage| text.strip_prefix(stage.as_str()).is_some_and(|rest| rest.starts_with('.')));
        return match named {
            Some(stage) => problem.hint(format!("a selector names no output: `{stage}`")),
            None => problem.suggest(head, stages.iter().map(String::as_str)),
        };
    }
    for (axis, wanted) in &selector.pins.0 {
        let values: BTreeSet<&AxisValue> = of_stage.iter().filter_map(|id| id.axes.get(axis)).collect();
        if values.is_empty() {
            let axes: BTreeSet<&str> = of_stage.iter().flat_map(|id| id.axes.keys()).map(String::as_str).collect();
            let problem = Diagnostic::new(format!("`{text}` picks no stage: `{head}` does not vary over `{axis}`"));
            return problem.suggest(axis, axes);
        }
        if !values.iter().any(|value| value.is_called(wanted)) {
            let values: Vec<String> = values.iter().map(|value| quoted(&value.to_string()).into_owned()).collect();
            let problem = Diagnostic::new(format!("`{text}` picks no stage: `{head}` has no `{axis}` of `{wanted}`"));
            return problem.suggest(wanted, values.iter().map(String::as_str));
        }
    }
    problem.hint(format!("these values do not come together; an instance is called like `{}`", of_stage[0]))
}
