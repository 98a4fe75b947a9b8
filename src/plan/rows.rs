//! What a change of an input means in rows, as far as is still known.
//!
//! The cache keeps what stages made, so two versions of it can be compared row by row. A person's own file is not kept: of
//! its old rows only that is known which the stage wrote down of them.

use super::{Known, Material, Place, Resolver};
use crate::diagnostic::Diagnostic;
use crate::key::{Change, Digest};
use crate::record::Record;
use crate::row::{self, ID};
use crate::stage::Kind;
use crate::store::Store;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file larger than this is not read to explain a change.
const LARGEST: u64 = 1 << 30;

/// A change, and what it is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The difference of the keys.
    pub change: Change,
    /// What the changed input is called now: a path, or an output of an instance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Its rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowChange>,
}

/// The rows of an input before and now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowChange {
    /// How many there were; none if that is not known any more.
    pub before: Option<u64>,
    /// How many there are.
    pub now: u64,
    /// Rows that are new, if both contents (or both lists of ids) are known.
    pub added: Option<u64>,
    /// Rows that are gone.
    pub removed: Option<u64>,
    /// Rows whose id stayed and whose other columns did not; they are not among those added and removed.
    pub changed: Option<u64>,
}

/// What `changes` of an instance mean. `before` is the record of its last run, `known` the records of what it reads.
///
/// # Errors
/// Inputs that are missing or cannot be read.
pub fn explain(
    resolver: &Resolver<'_>,
    node: usize,
    known: &Known,
    before: &Record,
    changes: &[Change],
) -> Result<Vec<Explained>, Vec<Diagnostic>> {
    let materials = resolver.materials(node, known)?;
    let kind = resolver.pipeline.instances[node].id.kind;
    let explained = changes.iter().map(|change| {
        let Change::Input { role, labels, old, new, .. } = change else {
            return Explained { change: change.clone(), names: Vec::new(), rows: None };
        };
        let is_meant = |material: &&Material| {
            material.role == *role && material.labels == *labels && Some(material.digest) == *new
        };
        let found: Vec<&Material> = materials.iter().filter(is_meant).take(1).collect();
        let rows = match (found.first(), old) {
            (Some(material), Some(old)) => of_content(resolver.store, material, old),
            _ => None,
        };
        let of_role = || materials.iter().filter(|material| material.role == *role);
        let rows = rows.or_else(|| of_record(resolver.store, kind, before, role, &of_role().collect::<Vec<_>>()));
        let names = found.iter().map(|material| material.name.clone()).collect();
        Explained { change: change.clone(), names, rows }
    });
    Ok(explained.collect())
}

/// Where the rows of an input are, and the name that tells their format. None for what is no file of rows.
pub(super) fn file_of(store: &Store, material: &Material) -> Option<(PathBuf, PathBuf)> {
    match &material.place {
        Place::Path(path) => path.is_file().then(|| (path.clone(), path.clone())),
        Place::Object(file) => Some((store.path(&file.digest), PathBuf::from(&file.path))),
        Place::Fetched { path, .. } => path.is_file().then(|| (path.clone(), path.clone())),
        Place::Objects(_) => None,
    }
}

/// The rows of a file: a digest of each, and its id if it has one. None if it is no file of rows, or too large.
fn read(path: &Path, like: &Path) -> Option<Vec<(Option<String>, Digest)>> {
    if std::fs::metadata(path).ok()?.len() > LARGEST {
        return None;
    }
    let rows = row::read_as(path, like, "").ok()?;
    rows.map(|item| item.ok().map(|(_, row)| (row::text(&row, ID).map(String::from), row::digest(&row)))).collect()
}

/// Both contents are there: what a stage made before is in the cache, if it was not removed.
fn of_content(store: &Store, material: &Material, old: &Digest) -> Option<RowChange> {
    let (path, like) = file_of(store, material)?;
    Some(compare(&read(&store.path(old), &like)?, &read(&path, &like)?))
}

fn compare(old: &[(Option<String>, Digest)], new: &[(Option<String>, Digest)]) -> RowChange {
    let count = |rows: &[(Option<String>, Digest)]| {
        let mut counts: BTreeMap<(Option<String>, Digest), u64> = BTreeMap::new();
        rows.iter().for_each(|row| *counts.entry(row.clone()).or_default() += 1);
        counts
    };
    let beyond = |one: &[(Option<String>, Digest)], other: &[(Option<String>, Digest)]| {
        let other = count(other);
        let mut found: Vec<Option<String>> = Vec::new();
        for (row, number) in count(one) {
            let more = number.saturating_sub(other.get(&row).copied().unwrap_or(0));
            found.extend((0..more).map(|_| row.0.clone()));
        }
        found
    };
    let (added, removed) = (beyond(new, old), beyond(old, new));
    let gone: BTreeSet<&String> = removed.iter().flatten().collect();
    let changed = added.iter().flatten().filter(|id| gone.contains(id)).count();
    RowChange {
        before: Some(old.len() as u64),
        now: new.len() as u64,
        added: Some((added.len() - changed) as u64),
        removed: Some(removed.len().saturating_sub(changed) as u64),
        changed: Some(changed as u64),
    }
}

/// What the last run wrote down of the rows that it read.
fn of_record(store: &Store, kind: Kind, before: &Record, role: &str, now: &[&Material]) -> Option<RowChange> {
    let mut rows = Vec::new();
    for material in now {
        let (path, like) = file_of(store, material)?;
        rows.extend(read(&path, &like)?);
    }
    let output = |name: &str| Some(store.path(&before.output(name)?.files.first()?.digest));
    let summary = |name: &str, place: &str| {
        let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(output(name)?).ok()?).ok()?;
        summary.pointer(place)?.as_u64()
    };
    let number = rows.len() as u64;
    // A row of these for each row that was read, with its id.
    let written = |name: &str| read(&output(name)?, Path::new("rows.jsonl"));
    let ids = |rows: &[(Option<String>, Digest)]| -> Option<Vec<(Option<String>, Digest)>> {
        rows.iter().map(|(id, _)| Some((id.clone(), Digest::of(id.as_ref()?.as_bytes())))).collect()
    };
    let before = match (kind, role) {
        (Kind::Mix, role) => {
            let source = role.strip_prefix("source.").filter(|number| number.parse::<usize>().is_ok())?;
            summary("stats", &format!("/sources/{source}/read"))
        }
        (Kind::Train, "data") => summary("summary", "/rows"),
        (Kind::Predict, "data") | (Kind::Score, "predictions") => {
            let old = written(if kind == Kind::Predict { "predictions" } else { "scores" })?;
            match (ids(&old), ids(&rows)) {
                (Some(old), Some(new)) => return Some(RowChange { changed: None, ..compare(&old, &new) }),
                _ => Some(old.len() as u64),
            }
        }
        _ => None,
    };
    Some(RowChange { before, now: number, ..RowChange::default() })
}

impl std::fmt::Display for RowChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.before {
            Some(before) if before == self.now => write!(f, "{before} rows as before")?,
            Some(before) => write!(f, "{before} → {} rows", self.now)?,
            None => write!(f, "{} rows now", self.now)?,
        }
        let parts = [(self.added, "added"), (self.removed, "removed"), (self.changed, "changed")];
        for (number, word) in parts.iter().filter_map(|(number, word)| Some(((*number)?, word))) {
            if number > 0 {
                write!(f, ", {number} {word}")?;
            }
        }
        match self {
            Self { added: Some(0), removed: Some(0), changed: Some(0), .. } => {
                f.write_str(", in another order or form")
            }
            Self { added: Some(0), removed: Some(0), changed: None, .. } => f.write_str(", with the same ids"),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Explained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.change)?;
        let names = self.names.join(", ");
        match (&self.rows, names.is_empty()) {
            (Some(rows), false) => write!(f, " ({names}: {rows})"),
            (Some(rows), true) => write!(f, " ({rows})"),
            (None, false) => write!(f, " ({names})"),
            (None, true) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[(&str, &str)]) -> Vec<(Option<String>, Digest)> {
        let id = |id: &str| (!id.is_empty()).then(|| id.to_string());
        texts.iter().map(|(name, text)| (id(name), Digest::of(text.as_bytes()))).collect()
    }

    fn words(old: &[(&str, &str)], new: &[(&str, &str)]) -> String {
        compare(&rows(old), &rows(new)).to_string()
    }

    #[test]
    fn rows_are_compared_as_a_bag() {
        assert_eq!(
            words(&[("", "a"), ("", "b")], &[("", "b"), ("", "a")]),
            "2 rows as before, in another order or form"
        );
        assert_eq!(
            words(&[("", "a"), ("", "a")], &[("", "a"), ("", "b"), ("", "c")]),
            "2 → 3 rows, 2 added, 1 removed"
        );
        assert_eq!(words(&[], &[("", "a")]), "0 → 1 rows, 1 added");
    }

    #[test]
    fn a_row_with_an_id_is_changed_not_removed_and_added() {
        assert_eq!(
            words(&[("1", "a"), ("2", "b"), ("3", "c")], &[("1", "a"), ("2", "B"), ("4", "d")]),
            "3 rows as before, 1 added, 1 removed, 1 changed"
        );
    }
}
