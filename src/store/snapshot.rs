//! Snapshots: a memory of a question that was answered by looking at files, so that as long as all of them look as they
//! did, the answer is known without parsing, hashing or planning anything.
//!
//! A snapshot names every path that the answer rested on and holds one digest of how they looked. It is a text:
//!
//! ```text
//! BLAKE3 of all that follows
//! the answer, one line of JSON
//! BLAKE3 of how the paths looked
//! number of absent paths
//! number of bases, then the bases: absolute folders
//! base path          for each path: the number of its base, and the path from there; absent ones first
//! ```
//!
//! It is local to a host and disposable: one that is missing, damaged or of another form answers nothing.

use super::file;
use super::stat::{self, Stat};
use crate::key::Digest;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Paths whose looks are digested together. Part of the form of a snapshot: the digest is one of these digests.
const CHUNK: usize = 512;
/// The folder of snapshots among what a host knows.
pub(super) const FOLDER: &str = "snapshots";

/// What an answer rests on, gathered from the moment at which the looking began.
#[derive(Clone, Debug)]
pub struct Facts {
    begun: i128,
    present: BTreeSet<PathBuf>,
    absent: BTreeSet<PathBuf>,
    /// Whether something was looked at that cannot be watched.
    spoilt: bool,
}

impl Facts {
    /// Looking begins now: what changes from here on is too young to be remembered.
    pub fn begin() -> Self {
        Self { begun: stat::now(), present: BTreeSet::new(), absent: BTreeSet::new(), spoilt: false }
    }

    /// A file or folder was looked at: its content, or for a folder the names in it.
    pub fn saw(&mut self, path: impl Into<PathBuf>) {
        self.present.insert(path.into());
    }

    /// There was nothing at this path.
    pub fn missed(&mut self, path: impl Into<PathBuf>) {
        self.absent.insert(path.into());
    }

    /// All of another's facts too.
    pub fn extend(&mut self, other: Facts) {
        self.begun = self.begun.min(other.begun);
        self.present.extend(other.present);
        self.absent.extend(other.absent);
        self.spoilt |= other.spoilt;
    }

    /// Something was looked at that is no path: the answer cannot be remembered.
    pub fn spoil(&mut self) {
        self.spoilt = true;
    }
}

/// The file of a question in a cache.
fn place(cache: &Path, question: &Digest) -> PathBuf {
    cache.join("local").join(super::host()).join(FOLDER).join(question.to_string())
}

/// The answer to a question, if it was remembered and everything that it rested on looks as it did then.
pub fn recall(cache: &Path, question: &Digest) -> Option<String> {
    let text = fs::read_to_string(place(cache, question)).ok()?;
    let (digest, rest) = text.split_once('\n')?;
    if Digest::of(rest.as_bytes()).to_string() != digest {
        return None;
    }
    let mut lines = rest.lines();
    let answer = lines.next()?;
    let looks = lines.next()?;
    let absent: usize = lines.next()?.parse().ok()?;
    let count: usize = lines.next()?.parse().ok()?;
    let bases: Option<Vec<OwnedFd>> = (0..count).map(|_| open(lines.next()?)).collect();
    let bases = bases?;
    let paths: Option<Vec<(&OwnedFd, &str)>> = lines
        .map(|line| {
            let (base, path) = line.split_once(' ')?;
            Some((bases.get(base.parse::<usize>().ok()?)?, path))
        })
        .collect();
    let found = digest_looks(&paths?, absent, None)?;
    (found.to_string() == looks).then(|| answer.to_string())
}

/// Keeps the answer (one line) to a question. Keeps nothing if something that it rests on is younger than the looking, or cannot
/// be written down. A failure costs the answer being found again, so it is none.
pub fn remember(cache: &Path, question: &Digest, facts: &Facts, answer: &str, bases: &[&Path], temporary: &Path) {
    if facts.spoilt || answer.contains('\n') {
        return;
    }
    let Some(text) = write(facts, answer, bases) else { return };
    let path = place(cache, question);
    let digest = Digest::of(text.as_bytes());
    let _ = path.parent().map(fs::create_dir_all);
    let _ = file::replace(&path, format!("{digest}\n{text}").as_bytes(), temporary);
}

fn write(facts: &Facts, answer: &str, bases: &[&Path]) -> Option<String> {
    // Relative to an open folder, a path is shorter for the kernel to walk.
    let mut bases: Vec<&Path> = bases.iter().copied().filter(|base| base.is_absolute() && base.is_dir()).collect();
    bases.sort_by_key(|base| std::cmp::Reverse(base.as_os_str().len()));
    bases.push(Path::new("/"));
    let opened: Option<Vec<OwnedFd>> = bases.iter().map(|base| open(base.to_str()?)).collect();
    let opened = opened?;
    let mut text = String::new();
    let mut paths = Vec::new();
    for path in facts.absent.iter().chain(&facts.present) {
        let mut below = bases.iter().map(|base| path.strip_prefix(base)).enumerate();
        let (number, rest) = below.find_map(|(number, rest)| Some((number, rest.ok()?.to_str()?)))?;
        if rest.contains('\n') {
            return None;
        }
        let rest = if rest.is_empty() { "." } else { rest };
        let _ = writeln!(text, "{number} {rest}");
        paths.push((&opened[number], rest));
    }
    let looks = digest_looks(&paths, facts.absent.len(), Some(facts.begun))?;
    let mut head = format!("{answer}\n{looks}\n{}\n{}\n", facts.absent.len(), bases.len());
    for base in bases {
        let _ = writeln!(head, "{}", base.to_str()?);
    }
    Some(head + &text)
}

fn open(base: &str) -> Option<OwnedFd> {
    openat(CWD, base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// One digest of how all paths look; the first `absent` must not be there, all others must. With `begun`, what was
/// changed since then counts as unfit. `None`: something is not as it must be.
fn digest_looks(paths: &[(&OwnedFd, &str)], absent: usize, begun: Option<i128>) -> Option<Digest> {
    let chunk = |number: usize, paths: &[(&OwnedFd, &str)]| -> Option<Digest> {
        let mut looks = Vec::with_capacity(paths.len() * 56);
        for (place, (base, path)) in paths.iter().enumerate() {
            let is_absent = number * CHUNK + place < absent;
            match statat(base, *path, AtFlags::empty()) {
                Ok(found) if !is_absent => {
                    let found = Stat::from_raw(&found);
                    if begun.is_some_and(|begun| !found.is_settled(begun)) {
                        return None;
                    }
                    found.write_to(&mut looks);
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) if is_absent => {}
                _ => return None,
            }
        }
        Some(Digest::of(&looks))
    };
    // Half of the time is the kernel's, and that can be had twice at once.
    let chunks: Vec<(usize, &[(&OwnedFd, &str)])> = paths.chunks(CHUNK).enumerate().collect();
    let (left, right) = chunks.split_at(chunks.len() / 2);
    let digest_all = |chunks: &[(usize, &[(&OwnedFd, &str)])]| -> Option<Vec<Digest>> {
        chunks.iter().map(|(number, paths)| chunk(*number, paths)).collect()
    };
    let (left, right) = std::thread::scope(|scope| {
        let left = (!left.is_empty()).then(|| scope.spawn(|| digest_all(left)));
        let right = digest_all(right);
        (left.map_or(Some(Vec::new()), |left| left.join().ok().flatten()), right)
    });
    let digests: Vec<u8> = left?.iter().chain(&right?).flat_map(|digest| *digest.as_bytes()).collect();
    Some(Digest::of(&digests))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Desk {
        dir: tempfile::TempDir,
    }

    impl Desk {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("work")).unwrap();
            fs::create_dir(dir.path().join("data")).unwrap();
            for number in 0..3 {
                fs::write(dir.path().join(format!("data/{number}")), "rows").unwrap();
            }
            Self { dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Facts about all that is there, begun when it had settled.
        fn facts(&self) -> Facts {
            std::thread::sleep(Duration::from_millis(30));
            let mut facts = Facts::begin();
            ["data", "data/0", "data/1", "data/2"].iter().for_each(|name| facts.saw(self.path(name)));
            facts.missed(self.path("data/none"));
            facts
        }

        fn remember(&self, facts: &Facts) {
            remember(self.dir.path(), &question(), facts, "42", &[&self.path("data")], &self.path("work"));
        }

        fn recall(&self) -> Option<String> {
            recall(self.dir.path(), &question())
        }
    }

    fn question() -> Digest {
        Digest::of(b"question")
    }

    #[test]
    fn an_answer_is_known_as_long_as_nothing_changes() {
        let desk = Desk::new();
        assert_eq!(desk.recall(), None);
        desk.remember(&desk.facts());
        assert_eq!(desk.recall().as_deref(), Some("42"));
        assert_eq!(recall(desk.dir.path(), &Digest::of(b"another")), None);
    }

    #[test]
    fn any_change_is_seen() {
        let changes: [fn(&Desk); 5] = [
            |desk| fs::write(desk.path("data/1"), "rows").unwrap(),
            |desk| fs::remove_file(desk.path("data/2")).unwrap(),
            |desk| fs::write(desk.path("data/new"), "").unwrap(),
            |desk| fs::write(desk.path("data/none"), "").unwrap(),
            |desk| {
                fs::rename(desk.path("data"), desk.path("old")).unwrap();
                fs::create_dir(desk.path("data")).unwrap();
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let desk = Desk::new();
            desk.remember(&desk.facts());
            assert!(desk.recall().is_some());
            change(&desk);
            assert_eq!(desk.recall(), None, "change {number}");
        }
    }

    #[test]
    fn what_changed_while_it_was_looked_at_is_not_remembered() {
        let desk = Desk::new();
        let facts = desk.facts();
        fs::write(desk.path("data/1"), "ROWS").unwrap();
        desk.remember(&facts);
        assert_eq!(desk.recall(), None, "a file of this moment");
        let mut facts = desk.facts();
        facts.missed(desk.path("data/0"));
        desk.remember(&facts);
        assert_eq!(desk.recall(), None, "a file that came to be");
        let mut facts = desk.facts();
        facts.spoil();
        desk.remember(&facts);
        assert_eq!(desk.recall(), None, "what cannot be watched");
    }

    #[test]
    fn a_damaged_snapshot_answers_nothing() {
        let desk = Desk::new();
        desk.remember(&desk.facts());
        let path = place(desk.dir.path(), &question());
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [text.replacen("42", "43", 1), text[..text.len() - 2].to_string(), String::new()] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(desk.recall(), None);
        }
        fs::write(&path, text).unwrap();
        assert_eq!(desk.recall().as_deref(), Some("42"));
    }

    #[test]
    fn many_paths_are_looked_at_in_chunks() {
        let desk = Desk::new();
        for number in 0..3 * CHUNK {
            fs::write(desk.path(&format!("data/x{number}")), "").unwrap();
        }
        let mut facts = desk.facts();
        (0..3 * CHUNK).for_each(|number| facts.saw(desk.path(&format!("data/x{number}"))));
        (0..CHUNK).for_each(|number| facts.missed(desk.path(&format!("data/y{number}"))));
        desk.remember(&facts);
        assert!(desk.recall().is_some());
        fs::write(desk.path(&format!("data/x{}", 3 * CHUNK - 1)), "x").unwrap();
        assert_eq!(desk.recall(), None);
    }
}
