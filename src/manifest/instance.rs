//! Concrete stages: what a manifest says, once for every combination of axis values.

use super::CacheSettings;
use crate::diagnostic::Span;
use crate::key::Digest;
use crate::resources::Limits;
use crate::stage::{Demands, Form, Hints, Kind, Pins, Recipe};
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

/// `train.adapter[n=80,run=1]`: what an instance is called, in the form in which a selector picks it. Never part of a key.
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
        let parts: Vec<String> = self.axes.iter().map(|(axis, value)| format!("{axis}={}", file_name(value))).collect();
        if parts.is_empty() { stage } else { stage.join(shortened(parts.join(","))) }
    }

    fn pins(&self) -> Pins {
        Pins(self.axes.iter().map(|(axis, value)| (axis.clone(), value.to_string())).collect())
    }
}

/// A value as a part of a file's name: what a file system may not like, and what stands between values, is written as `%`
/// and its bytes in hexadecimal digits, so that two values never share a name.
fn file_name(value: &AxisValue) -> String {
    let write = |c: char| match c.is_alphanumeric() || "._-+ ".contains(c) {
        true => c.to_string(),
        false => c.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect(),
    };
    value.to_string().chars().map(write).collect()
}

/// A name that a file system takes: one that is too long ends in a digest of all of it, after a sign that no other has.
fn shortened(name: String) -> String {
    /// Bytes of a name in most file systems, with room for what is added on the way.
    const LONGEST: usize = 200;
    if name.len() <= LONGEST {
        return name;
    }
    let beginning: String = name
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= LONGEST - 40).then_some(c)
        })
        .collect();
    format!("{beginning}~{}", &Digest::of(name.as_bytes()).to_string()[..32])
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.kind, self.name, self.pins())
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
    use super::super::Selector;
    use super::*;
    use std::collections::BTreeSet;

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
        let odd =
            ["a/b", "a%2fb", "a", "A", "a,b", "a=b", "a b", "\u{2f1}", "/1", "", ".", "..", "\"", "\n", "\u{202e}"];
        let long = ["x", "y"].map(|end| format!("{}{end}", "é".repeat(300)));
        let folders: BTreeSet<PathBuf> = odd.into_iter().chain(long.iter().map(String::as_str)).map(of).collect();
        assert_eq!(folders.len(), odd.len() + 2, "{folders:?}");
        for folder in folders {
            let name = folder.strip_prefix("train.adapter").unwrap().to_str().unwrap().to_string();
            assert!(!name.contains(['/', '"', '\n']) && name.len() <= 200, "{name}");
        }
        // What stands between axes is not what stands in their values.
        let two = |x: &str, y: &str| id(&[("x", AxisValue::String(x.into())), ("y", AxisValue::String(y.into()))]);
        assert_ne!(two("a,y=b", "c").folder(), two("a", "b,y=c").folder());
    }

    #[test]
    fn a_name_is_what_a_selector_picks() {
        for value in ["a,b", "a]", "[", "x=y", " a ", "", "\"q\"", "it's", "a/b.jsonl", "\\", "two\nlines", "é"] {
            let named = id(&[("t", AxisValue::String(value.into())), ("n", AxisValue::Integer(1))]);
            let selector = Selector::parse(&named.to_string()).unwrap_or_else(|error| panic!("{named}: {error}"));
            assert!(selector.matches(&named), "{named}");
            assert_eq!(selector.to_string(), named.to_string());
        }
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
