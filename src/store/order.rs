//! The order in which runs began, which no clock can be trusted with: clocks are set back.
//!
//! `history` has a line for each run, added when the run begins. Names that no line tells of (older than this file, or
//! lost where a network file system let two processes write at once) stand where their time puts them among the others.

use super::error::{At, Result};
use super::file;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

const FILE: &str = "history";

/// Adds a run. In one small write at the end, so that of two processes none loses its line.
pub(super) fn add(root: &Path, id: &str) -> Result<()> {
    let path = root.join(FILE);
    let file = File::options().append(true).create(true).open(&path);
    file.and_then(|mut file| file.write_all(format!("{id}\n").as_bytes())).at("write", &path)
}

/// The places of runs in that order, from 1; of a name that stands there twice, the last one.
pub(super) fn places(root: &Path) -> Result<BTreeMap<String, usize>> {
    let text = file::read_if_there(&root.join(FILE))?.unwrap_or_default();
    Ok(numbered(&String::from_utf8_lossy(&text)))
}

fn numbered(lines: &str) -> BTreeMap<String, usize> {
    lines.lines().zip(1..).map(|(name, place)| (name.to_string(), place)).collect()
}

/// Puts names, sorted, into the order in which their runs began.
pub(super) fn sort(root: &Path, names: Vec<String>) -> Result<Vec<String>> {
    Ok(arrange(names, &places(root)?))
}

fn arrange(names: Vec<String>, places: &BTreeMap<String, usize>) -> Vec<String> {
    let place = |name: &str| places.get(name).copied();
    let (mut told, untold): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| place(name).is_some());
    told.sort_by_key(|name| place(name));
    let mut untold = untold.into_iter().peekable();
    let mut ordered = Vec::new();
    for name in told {
        while let Some(older) = untold.next_if(|other| *other < name) {
            ordered.push(older);
        }
        ordered.push(name);
    }
    ordered.extend(untold);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(names: &[&str], lines: &str) -> Vec<String> {
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.sort();
        arrange(names, &numbered(lines))
    }

    #[test]
    fn runs_stand_in_the_order_of_their_begins_whatever_the_clock_said() {
        assert_eq!(
            arranged(&["2026-a", "2099-b", "2026-c"], "2026-a\n2099-b\n2026-c\n"),
            ["2026-a", "2099-b", "2026-c"]
        );
        assert_eq!(arranged(&["2027", "2026"], ""), ["2026", "2027"], "an older cache knows times only");
        let found = arranged(&["2025", "2026-a", "2026-b", "2030"], "2026-a\ngone\n2030\n2026-c");
        assert_eq!(found, ["2025", "2026-a", "2026-b", "2030"], "what no line tells of, by its time");
    }

    #[test]
    fn lines_are_added() {
        let folder = tempfile::tempdir().unwrap();
        ["b", "a"].iter().for_each(|id| add(folder.path(), id).unwrap());
        assert_eq!(sort(folder.path(), vec!["a".into(), "b".into()]).unwrap(), ["b", "a"]);
    }
}
