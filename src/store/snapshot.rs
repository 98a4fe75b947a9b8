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
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Paths that are worth a thread.
const CHUNK: usize = 512;
/// The folder of snapshots among what a host knows.
pub(super) const FOLDER: &str = "snapshots";

/// What an answer rests on, gathered from the moment at which the looking began.
#[derive(Clone, Debug)]
pub struct Facts {
    begun: i128,
    /// How each path looked; none if it was not there after all.
    present: BTreeMap<PathBuf, Option<Stat>>,
    absent: BTreeSet<PathBuf>,
    /// Whether something was looked at that cannot be watched.
    spoilt: bool,
}

impl Facts {
    /// Looking begins now: what changes from here on is too young to be remembered.
    pub fn begin() -> Self {
        Self { begun: stat::now(), present: BTreeMap::new(), absent: BTreeSet::new(), spoilt: false }
    }

    /// A file or folder is looked at: its content, or for a folder the names in it. To be called before.
    pub fn saw(&mut self, path: impl Into<PathBuf>) {
        let path = path.into();
        self.present.entry(path).or_insert_with_key(|path| Some(Stat::of(&fs::metadata(path).ok()?)));
    }

    /// There was nothing at this path.
    pub fn missed(&mut self, path: impl Into<PathBuf>) {
        self.absent.insert(path.into());
    }

    /// All of another's facts too.
    pub fn extend(&mut self, other: Facts) {
        self.begun = self.begun.min(other.begun);
        // What was seen first counts.
        for (path, stat) in other.present {
            self.present.entry(path).or_insert(stat);
        }
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
    let found = digest_looks(&paths?, absent)?;
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
    for path in facts.absent.iter().chain(facts.present.keys()) {
        let mut below = bases.iter().map(|base| path.strip_prefix(base)).enumerate();
        let (number, rest) = below.find_map(|(number, rest)| Some((number, rest.ok()?.to_str()?)))?;
        if rest.contains('\n') {
            return None;
        }
        let rest = if rest.is_empty() { "." } else { rest };
        let _ = writeln!(text, "{number} {rest}");
        paths.push((&opened[number], rest));
    }
    // Nothing may have changed since it was looked at, nor while it was.
    let stats: Option<Vec<Stat>> = facts.present.values().copied().collect();
    let stats = stats.filter(|stats| stats.iter().all(|stat| stat.is_settled(facts.begun)))?;
    let looks = digest_looks(&paths, facts.absent.len())?;
    if looks != digest_of(&[vec![None; facts.absent.len()], stats.into_iter().map(Some).collect()].concat()) {
        return None;
    }
    let mut head = format!("{answer}\n{looks}\n{}\n{}\n", facts.absent.len(), bases.len());
    for base in bases {
        let _ = writeln!(head, "{}", base.to_str()?);
    }
    Some(head + &text)
}

fn open(base: &str) -> Option<OwnedFd> {
    openat(CWD, base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// One digest of how all paths look; the first `absent` must not be there, all others must. `None`: something is not as
/// it must be.
fn digest_looks(paths: &[(&OwnedFd, &str)], absent: usize) -> Option<Digest> {
    let look = |(place, (base, path)): (usize, &(&OwnedFd, &str))| match statat(base, *path, AtFlags::empty()) {
        Ok(found) if place >= absent => Some(Some(Stat::from_raw(&found))),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) if place < absent => Some(None),
        _ => None,
    };
    let look_at = |from: usize, paths: &[(&OwnedFd, &str)]| -> Option<Vec<Option<Stat>>> {
        paths.iter().enumerate().map(|(place, path)| look((from + place, path))).collect()
    };
    // Most of the time is the kernel's, and that can be had twice at once.
    let half = if paths.len() < 2 * CHUNK { paths.len() } else { paths.len() / 2 };
    let (left, right) = paths.split_at(half);
    let (left, right) = std::thread::scope(|scope| {
        let right = (!right.is_empty()).then(|| scope.spawn(|| look_at(half, right)));
        (look_at(0, left), right.map_or(Some(Vec::new()), |right| right.join().ok().flatten()))
    });
    Some(digest_of(&[left?, right?].concat()))
}

fn digest_of(looks: &[Option<Stat>]) -> Digest {
    let mut bytes = Vec::with_capacity(looks.len() * 56);
    looks.iter().flatten().for_each(|stat| stat.write_to(&mut bytes));
    Digest::of(&bytes)
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
        let facts = desk.facts();
        // Its own times stay: only another file, of another device or number, can be in its place.
        fs::rename(desk.path("data"), desk.path("old")).unwrap();
        std::os::unix::fs::symlink(desk.path("older"), desk.path("data")).unwrap();
        fs::create_dir(desk.path("older")).unwrap();
        for number in 0..3 {
            fs::write(desk.path(&format!("older/{number}")), "rows").unwrap();
        }
        std::thread::sleep(Duration::from_millis(30));
        desk.remember(&Facts { begun: stat::now(), ..facts });
        assert_eq!(desk.recall(), None, "another folder by the same name");
        fs::remove_file(desk.path("data")).unwrap();
        fs::rename(desk.path("old"), desk.path("data")).unwrap();
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
    fn many_paths_are_looked_at_by_two_threads() {
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
