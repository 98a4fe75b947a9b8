//! JSON values side by side: what is the first that differs, and how far numbers are apart.

use serde::Serialize;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;

/// How values differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Values {
    /// How many single values differ.
    pub differing: u64,
    /// How many of these are numbers on both sides.
    pub numbers: u64,
    /// The largest absolute difference of two numbers.
    pub largest_absolute: f64,
    /// The largest difference of two numbers, divided by the larger of their sizes.
    pub largest_relative: f64,
    /// The first two that differ.
    pub first: Option<Pair>,
}

/// Two values at one place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Where: `scores.em`; empty for a document as a whole.
    pub path: String,
    /// Before; none if it was not there.
    pub old: Option<Json>,
    /// Now; none if it is not there.
    pub new: Option<Json>,
}

/// Compares two JSON documents. `None`: one of them is none.
pub(super) fn files(old: &Path, new: &Path) -> io::Result<Option<Values>> {
    let (old, new) = (std::fs::read(old)?, std::fs::read(new)?);
    let (Ok(old), Ok(new)) = (serde_json::from_slice::<Json>(&old), serde_json::from_slice::<Json>(&new)) else {
        return Ok(None);
    };
    let mut values = Values::default();
    values.compare("", Some(&old), Some(&new));
    // The same values, written otherwise: then the bytes are all there is to say.
    Ok((values.differing > 0).then_some(values))
}

impl Values {
    /// Counts what differs between two values.
    pub(super) fn compare(&mut self, path: &str, old: Option<&Json>, new: Option<&Json>) {
        let below = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        match (old, new) {
            (Some(Json::Object(old)), Some(Json::Object(new))) => {
                let mut seen = BTreeSet::new();
                for name in old.keys().chain(new.keys()).filter(|name| seen.insert(name.as_str())) {
                    self.compare(&below(name), old.get(name), new.get(name));
                }
            }
            (Some(Json::Array(old)), Some(Json::Array(new))) => {
                for i in 0..old.len().max(new.len()) {
                    self.compare(&below(&i.to_string()), old.get(i), new.get(i));
                }
            }
            (old, new) if old != new => {
                self.differing += 1;
                if let (Some(old), Some(new)) = (old.and_then(Json::as_f64), new.and_then(Json::as_f64)) {
                    self.numbers += 1;
                    self.measure(old, new);
                }
                let pair = || Pair { path: path.to_string(), old: old.cloned(), new: new.cloned() };
                self.first.get_or_insert_with(pair);
            }
            _ => {}
        }
    }

    fn measure(&mut self, old: f64, new: f64) {
        let (absolute, relative) = apart(old, new);
        self.largest_absolute = self.largest_absolute.max(absolute);
        self.largest_relative = self.largest_relative.max(relative);
    }
}

/// How far two numbers are apart: absolutely, and relative to the larger of their sizes.
pub(super) fn apart(old: f64, new: f64) -> (f64, f64) {
    let (absolute, size) = ((old - new).abs(), old.abs().max(new.abs()));
    (absolute, if size > 0.0 { absolute / size } else { 0.0 })
}

/// A value for one line of a message.
fn shown(value: Option<&Json>) -> String {
    const LONGEST: usize = 60;
    let text = value.map_or_else(|| "nothing".to_string(), ToString::to_string);
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Pair { path, old, new }) = &self.first {
            let (old, new) = (shown(old.as_ref()), shown(new.as_ref()));
            let path = if path.is_empty() { String::new() } else { format!("`{path}` ") };
            // Two long texts may differ beyond what is shown.
            if old == new { write!(f, "{path}differs")? } else { write!(f, "{path}{old} → {new}")? }
        }
        if self.differing > 1 {
            write!(f, ", {} values in all", self.differing)?;
        }
        if self.numbers > 0 {
            let Self { largest_absolute, largest_relative, .. } = self;
            write!(f, ", numbers by at most {largest_absolute:.3e} ({largest_relative:.3e} of their size)")?;
        }
        Ok(())
    }
}
