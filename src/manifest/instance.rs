//! Concrete stages: what a manifest says, once for every combination of axis values.

use super::CacheSettings;
use crate::diagnostic::Span;
use crate::resources::Limits;
use crate::stage::{Demands, Form, Hints, Kind, Recipe};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A checked pipeline: all references resolved, all placeholders filled in.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its name; results are shown in `out/NAME/`.
    pub name: String,
    /// All instances, inputs before their users.
    pub instances: Vec<Instance>,
    /// What is made when nobody says what.
    pub targets: Vec<usize>,
    /// The stages in the order of the text.
    pub stages: Vec<StageSummary>,
    /// What its jobs may use at once.
    pub limits: Limits,
    /// Where its results are shared.
    pub cache: CacheSettings,
}

/// A stage at a glance.
#[derive(Clone, Debug)]
pub struct StageSummary {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The axes that it varies over, in the order of the manifest.
    pub axes: Vec<String>,
    /// How many instances it has.
    pub instances: usize,
}

/// One piece of work.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What it is called.
    pub id: InstanceId,
    /// What is to be done.
    pub recipe: Recipe,
    /// How, as far as it does not matter.
    pub hints: Hints,
    /// What it asks of the machine.
    pub demands: Demands,
    /// With what.
    pub inputs: Vec<ResolvedInput>,
    /// Where the stage stands in the manifest.
    pub span: Span,
}

/// An input whose source is known.
#[derive(Clone, Debug)]
pub struct ResolvedInput {
    /// See [`crate::stage::InputSpec::role`].
    pub role: String,
    /// In what form it is read.
    pub form: Form,
    /// See [`crate::stage::Input::labels`].
    pub labels: BTreeMap<String, serde_json::Value>,
    /// Where it comes from.
    pub source: Source,
    /// Whether it came along with a model, from the stage that made that: there it is checked and reported.
    pub inherited: bool,
    /// Where the manifest says so.
    pub span: Span,
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A path relative to the project's root.
    Path(String),
    /// An output of another instance.
    Output {
        /// Its place in [`Pipeline::instances`].
        instance: usize,
        /// The output's name.
        output: &'static str,
    },
}

/// `train.adapter[n=80,run=1]`: what an instance is called. Never part of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceId {
    /// The stage's kind.
    pub kind: Kind,
    /// The stage's name.
    pub name: String,
    /// Its axis values, and `scorer` for a score.
    pub axes: BTreeMap<String, AxisValue>,
}

impl InstanceId {
    /// `kind.name`.
    pub fn stage(&self) -> String {
        format!("{}.{}", self.kind, self.name)
    }

    /// The folder in which the results are shown: `train.adapter/n=80,run=1`.
    pub fn folder(&self) -> PathBuf {
        let stage = PathBuf::from(self.stage());
        if self.axes.is_empty() { stage } else { stage.join(file_name(&self.coordinates())) }
    }

    fn coordinates(&self) -> String {
        let parts: Vec<String> = self.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
        parts.join(",")
    }
}

/// A text as the name of a file: what a file system may not like is written as `%` and its code, so that two texts never
/// share a name.
fn file_name(text: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || "=,._-+ ".contains(c);
    text.chars().map(|c| if safe(c) { c.to_string() } else { format!("%{:02x}", u32::from(c)) }).collect()
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.name)?;
        if self.axes.is_empty() { Ok(()) } else { write!(f, "[{}]", self.coordinates()) }
    }
}

/// A value of an axis.
#[derive(Clone, Debug)]
pub enum AxisValue {
    /// `true`, `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any finite number.
    Float(f64),
    /// A text, or the name of a value with fields.
    String(String),
}

impl AxisValue {
    /// The value as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Boolean(flag) => (*flag).into(),
            Self::Integer(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::String(text) => text.as_str().into(),
        }
    }

    /// Whether a person's text names this value: as it is shown, or the same number written otherwise (`1e-3`, `1.0`).
    pub fn is_called(&self, text: &str) -> bool {
        match self {
            Self::Integer(_) | Self::Float(_) if self.to_string() != text => {
                text.parse::<f64>().is_ok_and(|number| number.is_finite() && number == self.number())
            }
            _ => self.to_string() == text,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Boolean(_) => 0,
            Self::Integer(_) | Self::Float(_) => 1,
            Self::String(_) => 2,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "only for the order of numbers of both kinds")]
    fn number(&self) -> f64 {
        match self {
            Self::Integer(number) => *number as f64,
            Self::Float(number) => *number,
            Self::Boolean(_) | Self::String(_) => 0.0,
        }
    }
}

impl fmt::Display for AxisValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(flag) => write!(f, "{flag}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::String(text) => f.write_str(text),
        }
    }
}

/// Numbers by size, then texts by letter; `1` and `1.0` are equal, as they are written alike.
impl Ord for AxisValue {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()).then(self.number().total_cmp(&other.number())),
        }
    }
}

impl PartialOrd for AxisValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for AxisValue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for AxisValue {}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(axes: &[(&str, AxisValue)]) -> InstanceId {
        let axes = axes.iter().map(|(axis, value)| ((*axis).to_string(), value.clone())).collect();
        InstanceId { kind: Kind::Train, name: "adapter".into(), axes }
    }

    #[test]
    fn an_instance_is_called_by_its_axes() {
        let named = id(&[("run", AxisValue::Integer(1)), ("n", AxisValue::Integer(80))]);
        assert_eq!(named.to_string(), "train.adapter[n=80,run=1]");
        assert_eq!(named.folder(), PathBuf::from("train.adapter/n=80,run=1"));
        assert_eq!(id(&[]).to_string(), "train.adapter");
    }

    #[test]
    fn folders_are_safe_and_distinct() {
        let of = |text: &str| id(&[("target", AxisValue::String(text.into()))]).folder();
        assert_eq!(of("a/../b"), PathBuf::from("train.adapter/target=a%2f..%2fb"));
        assert_ne!(of("a/b"), of("a%2fb"));
    }

    #[test]
    fn a_number_may_be_written_otherwise() {
        assert!(AxisValue::Float(1e-10).is_called("1e-10") && AxisValue::Float(0.001).is_called("0.001"));
        assert!(AxisValue::Integer(1).is_called("1.0") && AxisValue::Float(1.0).is_called("1"));
        assert!(!AxisValue::Integer(1).is_called("2") && !AxisValue::Integer(1).is_called("one"));
        assert!(!AxisValue::String("1".into()).is_called("1.0") && AxisValue::Boolean(true).is_called("true"));
    }

    #[test]
    fn numbers_order_as_numbers() {
        let mut values =
            [AxisValue::Integer(100), AxisValue::Float(0.5), AxisValue::String("a".into()), AxisValue::Integer(20)];
        values.sort();
        assert_eq!(values.map(|value| value.to_string()), ["0.5", "20", "100", "a"]);
        assert_eq!(AxisValue::Integer(1), AxisValue::Float(1.0));
    }
}
