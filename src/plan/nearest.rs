//! What a new instance is like: the one of its stage that was made before and differs in the fewest axes, by the least.

use super::{Known, Resolver};
use crate::key::{Change, Digest, difference};
use crate::manifest::InstanceId;
use crate::stage::Pins;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// An instance that was made before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nearest {
    /// What it is called.
    pub instance: String,
    /// From its axes to those of the new one.
    pub axes: Vec<AxisChange>,
    /// From its key to that of the new one, if that is known.
    pub changes: Vec<Change>,
}

/// An axis on which two instances differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AxisChange {
    /// The axis.
    pub axis: String,
    /// The value of the one that was made; none if it did not vary over the axis.
    pub old: Option<String>,
    /// The value of the new one.
    pub new: Option<String>,
}

impl fmt::Display for AxisChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_string());
        write!(f, "{}: {} → {}", self.axis, shown(&self.old), shown(&self.new))
    }
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self.axes.iter().map(ToString::to_string).collect();
        write!(f, "{} against `{}`", axes.join(", "), self.instance)
    }
}

impl AxisChange {
    /// How far apart the values are: numbers by their difference, others by being others.
    fn width(&self) -> f64 {
        let number = |value: &Option<String>| value.as_ref().and_then(|value| value.parse::<f64>().ok());
        match (number(&self.old), number(&self.new)) {
            (Some(old), Some(new)) => (new - old).abs(),
            _ => f64::MAX / 1e3,
        }
    }
}

/// The nearest instance of its stage to one that has not been made. `made` are the keys of those that were, by name; `known`
/// are the records of what it reads. None if there is none, or nothing but the name differs.
pub fn nearest(
    resolver: &Resolver<'_>,
    node: usize,
    made: &BTreeMap<String, Digest>,
    known: &Known,
) -> Option<Nearest> {
    let id = &resolver.pipeline.instances[node].id;
    let apart = made.iter().filter_map(|(name, key)| Some((name, key, axes(id, name)?)));
    let mut apart: Vec<_> = apart.filter(|(_, _, axes)| !axes.is_empty()).collect();
    let width = |axes: &[AxisChange]| axes.iter().map(AxisChange::width).sum::<f64>();
    apart.sort_by(|(_, _, a), (_, _, b)| a.len().cmp(&b.len()).then(width(a).total_cmp(&width(b))));
    let (name, old, axes) = apart
        .into_iter()
        .find_map(|(name, key, axes)| Some((name, resolver.store.document(key).ok().flatten()?, axes)))?;
    let materials = resolver.materials(node, known).ok();
    let changes = materials.map(|materials| difference(&old, &resolver.document(node, &materials)));
    Some(Nearest { instance: name.clone(), axes, changes: changes.unwrap_or_default() })
}

/// From the axes of the instance that is called `name` to those of `id`; none if it is of another stage.
fn axes(id: &InstanceId, name: &str) -> Option<Vec<AxisChange>> {
    let rest = name.strip_prefix(&id.stage())?;
    let pins = match rest.strip_prefix('[') {
        Some(rest) => Pins::parse(rest).ok().filter(|(_, after)| after.is_empty())?.0,
        None if rest.is_empty() => Pins::default(),
        None => return None,
    };
    let old: BTreeMap<String, String> = pins.0.into_iter().collect();
    let new: BTreeMap<String, String> = id.axes.iter().map(|(axis, value)| (axis.clone(), value.to_string())).collect();
    let axes: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change =
        |axis: &String| AxisChange { axis: axis.clone(), old: old.get(axis).cloned(), new: new.get(axis).cloned() };
    Some(axes.into_iter().map(change).filter(|change| change.old != change.new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::AxisValue;
    use crate::stage::Kind;

    #[test]
    fn axes_are_compared_by_name_and_numbers_by_their_distance() {
        let axes_of = [("n".to_string(), AxisValue::Integer(100)), ("run".to_string(), AxisValue::Integer(1))].into();
        let id = InstanceId { kind: Kind::Mix, name: "rows".into(), axes: axes_of };
        let shown = |name: &str| {
            axes(&id, name).map(|axes| axes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        };
        assert_eq!(shown("mix.rows[n=80,run=1]").as_deref(), Some("n: 80 → 100"));
        assert_eq!(shown("mix.rows[n=80]").as_deref(), Some("n: 80 → 100, run: – → 1"));
        assert_eq!(shown("mix.rows").as_deref(), Some("n: – → 100, run: – → 1"));
        assert_eq!(shown("mix.rows[n=100,run=1]").as_deref(), Some(""));
        assert_eq!((shown("mix.rows2[n=80]"), shown("mix.row[n=80]")), (None, None));
        let width = |name: &str| axes(&id, name).unwrap()[0].width();
        assert!(width("mix.rows[n=80,run=1]") < width("mix.rows[n=20,run=1]"));
        assert!(width("mix.rows[n=20,run=1]") < width("mix.rows[n=big,run=1]"));
    }
}
