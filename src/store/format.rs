//! The format of a cache: its number stands in `VERSION`; a newer one is refused, an older one is brought up.
//!
//! A new folder or a new field that may be absent needs no new format: folders appear when they are needed, and readers
//! pass over what they do not know. What older programs would misread does: then [`FORMAT`] goes up, and a step is added
//! to [`STEPS`]. Records and keys have format numbers of their own, so that one can be read without all others.

use super::error::{Result, StoreError};
use super::{Store, file};
use std::path::Path;

/// The format that this program writes.
pub(super) const FORMAT: u32 = 1;

/// Brings the cache in a folder from one format to the next. It may be stopped at any point, and is then done again: so
/// it must take its own half-done work for what it is, and remove what is old last.
type Step = fn(&Path) -> Result<()>;

/// The formats that can be brought up, each with its step. Format 1 is the first that was ever written.
const STEPS: &[(u32, Step)] = &[];

/// The format of the cache in a folder; `None` if it is new.
///
/// # Errors
/// If it is newer than this program, or none of titer's.
pub(super) fn read(root: &Path) -> Result<Option<u32>> {
    let Some(bytes) = file::read_if_there(&root.join("VERSION"))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes).trim().to_string();
    let unknown = |found| StoreError::Unknown { root: root.to_path_buf(), found };
    match text.parse::<u32>() {
        Ok(found) if found > FORMAT => Err(StoreError::Newer { root: root.to_path_buf(), found: text, known: FORMAT }),
        Ok(found) if found < FORMAT && first(STEPS) > found => Err(unknown(text)),
        Ok(found) => Ok(Some(found)),
        Err(_) => Err(unknown(text)),
    }
}

fn first(steps: &[(u32, Step)]) -> u32 {
    steps.first().map_or(FORMAT, |(from, _)| *from)
}

impl Store {
    /// Brings the cache to this program's format, if it has another.
    ///
    /// # Errors
    /// If a step fails; the cache is then as usable by the older program as before.
    pub(super) fn bring_up(&self, found: Option<u32>) -> Result<()> {
        self.bring_up_to(found, FORMAT, STEPS)
    }

    fn bring_up_to(&self, found: Option<u32>, format: u32, steps: &[(u32, Step)]) -> Result<()> {
        if found == Some(format) || !self.writable {
            return Ok(());
        }
        let write = |format: u32| {
            let path = self.root.join("VERSION");
            file::replace(&path, format!("{format}\n").as_bytes(), &self.root.join("work"))
        };
        if found.is_none() {
            return write(format);
        }
        // One process at a time; another may just have done it.
        let _turn = self.turn("format")?;
        let bytes = file::read_if_there(&self.root.join("VERSION"))?.unwrap_or_default();
        let mut now = String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(format);
        for (from, step) in steps {
            if *from == now && now < format {
                step(&self.root)?;
                now += 1;
                write(now)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::At;
    use super::super::tests::store;
    use super::*;
    use std::fs;

    /// Two formats that never were: one file, then two, each with a line more.
    const HISTORY: &[(u32, Step)] = &[
        (1, |root| fs::write(root.join("two"), "of one\n").at("write", root)),
        (2, |root| match fs::read_to_string(root.join("two")) {
            Ok(text) => fs::write(root.join("three"), text + "of two\n").at("write", root),
            Err(error) => Err(error).at("read", root),
        }),
    ];

    fn version(store: &Store) -> String {
        fs::read_to_string(store.root().join("VERSION")).unwrap()
    }

    #[test]
    fn an_older_cache_is_brought_up_step_by_step() {
        let (_folder, store) = store();
        assert_eq!(version(&store), "1\n");
        store.bring_up_to(Some(1), 3, HISTORY).unwrap();
        assert_eq!(version(&store), "3\n");
        assert_eq!(fs::read_to_string(store.root().join("three")).unwrap(), "of one\nof two\n");
        // Another process that had read the old number finds it done.
        fs::remove_file(store.root().join("three")).unwrap();
        store.bring_up_to(Some(1), 3, HISTORY).unwrap();
        assert!(!store.root().join("three").exists());
    }

    #[test]
    fn a_step_that_fails_is_done_again_and_those_before_it_are_not() {
        let (_folder, store) = store();
        store.bring_up_to(Some(1), 2, HISTORY).unwrap();
        fs::remove_file(store.root().join("two")).unwrap();
        store.bring_up_to(Some(2), 3, HISTORY).unwrap_err();
        assert_eq!(version(&store), "2\n");
        fs::write(store.root().join("two"), "").unwrap();
        store.bring_up_to(Some(2), 3, HISTORY).unwrap();
        assert_eq!(version(&store), "3\n");
    }

    #[test]
    fn a_newer_cache_and_one_of_somebody_else_are_refused() {
        let (_folder, store) = store();
        let refused = |text: &str| {
            fs::write(store.root().join("VERSION"), text).unwrap();
            Store::open(store.root()).unwrap_err().to_string()
        };
        assert!(refused("2\n").contains("has format `2`, this titer knows format 1"));
        assert!(refused("0\n").contains("`0`, which no titer has written"));
        assert!(refused("postgres 16\n").contains("`postgres 16`"));
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_read_as_it_is() {
        let (_folder, store) = store();
        let read_only = Store { writable: false, ..Store::open(store.root()).unwrap() };
        read_only.bring_up_to(Some(1), 3, HISTORY).unwrap();
        assert_eq!(version(&store), "1\n");
    }
}
