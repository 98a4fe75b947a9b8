//! What processes rely on, so that nobody takes it away from under them.
//!
//! A process adds a line to its file in `roots/` *before* it looks whether a result is there, and then looks for the mark
//! of a sweep. A collector sets its mark before it reads these files. So either the collector sees the line and leaves
//! the result alone, or the process sees the mark and waits until the sweep is over, which is short: then it looks. Who
//! planned before, without a line, asks [`Store::was_swept`] whether to look again.
//!
//! The file goes with its process. One that is left tells what a process needed that was killed: the collector counts it
//! as a run.

use super::claim::{Watch, bury, read};
use super::error::{At, Result};
use super::stat::Stat;
use super::{Store, file, lock, make_folder};
use crate::journal::State;
use crate::key::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the claim of who sweeps.
pub(super) const SWEEP: &str = "sweep";
/// Name of the file that tells of the last sweep.
const SWEPT: &str = "swept";

/// The file of what this process relies on. It is opened anew for each line: that is when network file systems let
/// others see it.
#[derive(Debug)]
pub(super) struct Roots {
    path: PathBuf,
}

impl Drop for Roots {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// How the file that tells of the last sweep looks; none if there was no sweep.
pub(super) fn last_sweep(root: &Path) -> Option<Stat> {
    fs::symlink_metadata(root.join(SWEPT)).ok().map(|metadata| Stat::of(&metadata))
}

impl Store {
    /// Says which pipeline the keys to come belong to.
    ///
    /// # Errors
    /// If the cache cannot be written. One that is read-only has no collector, and nothing to say to it.
    pub fn rely_for(&self, pipeline: &str) -> Result<()> {
        self.add_root(&format!("run {pipeline}\n"))
    }

    /// Keeps the results of these keys, as long as this process lives. To be called before they are looked at.
    ///
    /// # Errors
    /// As [`Store::rely_for`].
    pub fn rely_on(&self, keys: impl IntoIterator<Item = Digest>) -> Result<()> {
        let lines: String = keys.into_iter().map(|key| format!("key {key}\n")).collect();
        self.add_root(&lines)
    }

    /// As [`Store::rely_on`], with the names of the instances: if this process is killed, they tell what its run was
    /// about.
    ///
    /// # Errors
    /// As there.
    pub fn rely_on_named<'n>(&self, keys: impl IntoIterator<Item = (Digest, &'n str)>) -> Result<()> {
        let line = |(key, name): (Digest, &str)| match name.contains(char::is_control) {
            true => format!("key {key}\n"),
            false => format!("key {key} {name}\n"),
        };
        self.add_root(&keys.into_iter().map(line).collect::<String>())
    }

    /// Writes down that this process has brought an instance to its end, and how: `ran`, `fetched`, `shared`. What it has
    /// relied on from the start was there.
    ///
    /// # Errors
    /// As there.
    pub fn note_end(&self, instance: &str, key: &Digest, how: &str) -> Result<()> {
        if instance.contains(char::is_control) {
            return Ok(());
        }
        self.add_root(&format!("{how} {key} {instance}\n"))
    }

    /// Writes down that an instance failed, and why.
    ///
    /// # Errors
    /// As there.
    pub fn note_failure(&self, instance: &str, key: &Digest, message: &str) -> Result<()> {
        if instance.contains(char::is_control) {
            return Ok(());
        }
        self.add_root(&format!("failed {key} {instance}\t{}\n", message.replace(char::is_control, " ")))
    }

    /// Writes down which instances of a run have no key yet (`open`), and which it will make again though the cache has
    /// them.
    ///
    /// # Errors
    /// As there.
    pub fn note_plan(&self, open: &[String], again: &[String]) -> Result<()> {
        let words = [("open", open), ("again", again)];
        let lines = words.into_iter().flat_map(|(word, names)| names.iter().map(move |name| (word, name)));
        let lines = lines.filter(|(_, name)| !name.contains(char::is_control));
        self.add_root(&lines.map(|(word, name)| format!("{word} {name}\n")).collect::<String>())
    }

    /// As [`Store::rely_on`], for an object that no record names yet.
    ///
    /// # Errors
    /// As there.
    pub fn rely_on_object(&self, digest: &Digest) -> Result<()> {
        self.add_root(&format!("object {digest}\n"))
    }

    /// Whether results may have gone since the cache was opened.
    pub fn was_swept(&self) -> bool {
        last_sweep(&self.root) != self.swept
    }

    /// Whether results may have gone since a file was written.
    pub(super) fn was_swept_since(&self, path: &Path) -> bool {
        let written = |path: &Path| fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok();
        written(&self.root.join(SWEPT)).zip(written(path)).is_some_and(|(swept, file)| swept >= file)
    }

    /// What live processes are about to do; ask again later with the same `watches`.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn intended(&self, watches: &mut BTreeMap<String, Watch>) -> Result<Intended> {
        let mut intended = Intended::default();
        for entry in file::entries(&self.root.join("roots"))? {
            let Ok(owner) = entry.file_name().into_string() else { continue };
            let relied = self.relied(&owner)?.unwrap_or_default();
            if self.is_alive(&owner, watches.entry(owner.clone()).or_default()) {
                let pipeline = relied.pipeline.unwrap_or_default();
                let open = relied.again.into_iter().filter(|name| !relied.ends.contains_key(name));
                intended.again.extend(open.map(|name| (pipeline.clone(), name)));
                intended.keys.extend(relied.keys);
            }
        }
        Ok(intended)
    }

    /// What a process wrote down; none if that is gone.
    pub(super) fn relied(&self, process: &str) -> Result<Option<Relied>> {
        let text = file::read_if_there(&self.root.join("roots").join(process))?;
        Ok(text.map(|text| Relied::parse(&String::from_utf8_lossy(&text))))
    }

    fn add_root(&self, lines: &str) -> Result<()> {
        if lines.is_empty() || !self.writable {
            return Ok(());
        }
        {
            let mut roots = lock(&self.roots);
            let roots = match &mut *roots {
                Some(roots) => roots,
                none => none.insert(self.new_roots()?),
            };
            let file = File::options().append(true).open(&roots.path);
            // In one piece, so that nobody reads half a line but after a crash.
            file.and_then(|mut file| file.write_all(lines.as_bytes())).at("write", &roots.path)?;
        }
        self.wait_for_sweep()
    }

    fn new_roots(&self) -> Result<Roots> {
        let folder = self.root.join("roots");
        make_folder(&folder)?;
        let path = folder.join(self.lease()?.name());
        File::create_new(&path).at("write", &path)?;
        Ok(Roots { path })
    }

    /// Waits until nobody sweeps. A collector that is dead or stands still is not waited for; its mark goes, by which it
    /// knows.
    fn wait_for_sweep(&self) -> Result<()> {
        let path = self.root.join(SWEEP);
        let mut watch = Watch::default();
        while let Some(owner) = who(&path)? {
            if self.is_alive(&owner, &mut watch) {
                std::thread::sleep(Duration::from_millis(5));
            } else {
                self.end_sweep(&owner)?;
            }
        }
        Ok(())
    }

    /// Takes the mark of a sweep away, if it is still that of `owner`. Before, it is told that something was swept: who
    /// finds no mark must know of it.
    pub(super) fn end_sweep(&self, owner: &str) -> Result<()> {
        let temporary = self.temporary()?;
        // A new file looks new, and an empty one fits on a full disk.
        file::replace(&self.root.join(SWEPT), b"", &temporary)?;
        bury(&self.root.join(SWEEP), owner, &temporary.join(SWEEP)).map(|_| ())
    }
}

/// Who sweeps.
pub(super) fn who(mark: &Path) -> Result<Option<String>> {
    match read(mark) {
        Ok(owner) => Ok(Some(owner)),
        Err(error) if file::is_absent(&error) => Ok(None),
        Err(error) => Err(error).at("read", mark),
    }
}

/// What live processes are about to do.
#[derive(Debug, Default)]
pub struct Intended {
    /// The keys that they count on.
    pub keys: BTreeSet<Digest>,
    /// The instances, with their pipelines, that they will make again or are making again, though the cache has them.
    pub again: BTreeSet<(String, String)>,
}

/// What a file in `roots/` says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Relied {
    pub(super) pipeline: Option<String>,
    pub(super) keys: Vec<Digest>,
    /// The keys of instances, as far as they have names; the last word counts.
    pub(super) names: BTreeMap<String, Digest>,
    /// The instances that the process brought to their ends, and how.
    pub(super) ends: BTreeMap<String, State>,
    /// Why instances failed.
    pub(super) failures: BTreeMap<String, String>,
    /// What is made again though the cache has it.
    pub(super) again: Vec<String>,
    /// The instances of the run that had no key when it began.
    pub(super) open: Vec<String>,
    pub(super) objects: Vec<Digest>,
}

impl Relied {
    pub(super) fn parse(text: &str) -> Self {
        let mut relied = Self::default();
        for (word, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            let (digest, name) = rest.split_once(' ').map_or((rest, None), |(digest, name)| (digest, Some(name)));
            match (word, digest.parse()) {
                ("run", _) => relied.pipeline = Some(rest.to_string()),
                ("open", _) => relied.open.push(rest.to_string()),
                ("again", _) => relied.again.push(rest.to_string()),
                ("key", Ok(key)) => {
                    relied.keys.push(key);
                    relied.names.extend(name.map(|name| (name.to_string(), key)));
                }
                ("object", Ok(object)) => relied.objects.push(object),
                ("ran", Ok(_)) => relied.ends.extend(name.map(|name| (name.to_string(), State::Ran))),
                ("fetched", Ok(_)) => relied.ends.extend(name.map(|name| (name.to_string(), State::Fetched))),
                ("shared", Ok(_)) => relied.ends.extend(name.map(|name| (name.to_string(), State::Shared))),
                ("failed", Ok(_)) => {
                    if let Some((name, message)) = name.and_then(|name| name.split_once('\t')) {
                        relied.ends.insert(name.to_string(), State::Failed);
                        relied.failures.insert(name.to_string(), message.to_string());
                    }
                }
                // The last line of a process that was killed may be half a line.
                _ => {}
            }
        }
        relied
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::claim::write_new;
    use super::super::tests::store;
    use super::*;

    fn roots(store: &Store) -> Vec<Relied> {
        let Ok(entries) = fs::read_dir(store.root().join("roots")) else { return Vec::new() };
        entries.map(|entry| Relied::parse(&fs::read_to_string(entry.unwrap().path()).unwrap())).collect()
    }

    #[test]
    fn what_a_process_relies_on_stands_in_its_file_as_long_as_it_lives() {
        let (_folder, store) = store();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        store.rely_on([]).unwrap();
        assert!(roots(&store).is_empty(), "nothing needs no file");
        store.rely_for("my pipeline").unwrap();
        store.rely_on([a, b]).unwrap();
        store.rely_on_object(&b).unwrap();
        store.rely_on_named([(b, "mix.b[n=a b]"), (a, "mix.\nkey")]).unwrap();
        store.note_end("mix.b[n=a b]", &b, "fetched").unwrap();
        store.note_end("mix.c", &b, "in some way that is not known").unwrap();
        let (names, ends) =
            ([("mix.b[n=a b]".to_string(), b)].into(), [("mix.b[n=a b]".into(), State::Fetched)].into());
        let (pipeline, keys) = (Some("my pipeline".into()), vec![a, b, b, a]);
        assert_eq!(roots(&store), [Relied { pipeline, keys, names, ends, objects: vec![b], ..Relied::default() }]);
        let other = Store::open(store.root()).unwrap();
        drop(store);
        assert!(roots(&other).is_empty());
    }

    #[test]
    fn a_key_is_relied_on_as_long_as_a_process_lives_that_counts_on_it() {
        let (_folder, store) = store();
        let (key, mut watches) = (Digest::of(b"a"), BTreeMap::new());
        let settings = Settings { patience: Duration::ZERO, ..Settings::default() };
        let other = Store::open_with(store.root(), settings).unwrap();
        let mut keys = || other.intended(&mut watches).unwrap().keys;
        assert!(keys().is_empty());
        store.rely_on([key]).unwrap();
        assert_eq!(keys(), [key].into());
        drop(store);
        assert!(keys().is_empty());
        fs::write(other.root().join("roots/elsewhere.1.x"), format!("key {key}\n")).unwrap();
        assert_eq!(keys(), [key].into(), "seen for the first time");
        assert!(keys().is_empty(), "its heart has not beaten since");
    }

    #[test]
    fn what_is_to_be_made_again_is_told_until_it_has_ended() {
        let (_folder, store) = store();
        let again = || store.intended(&mut BTreeMap::new()).unwrap().again;
        let key = Digest::of(b"a");
        store.rely_for("p").unwrap();
        store.note_plan(&["mix.c".into()], &["mix.a".into(), "mix.b".into(), "mix.\n".into()]).unwrap();
        assert_eq!(again(), ["mix.a", "mix.b"].map(|name| ("p".to_string(), name.to_string())).into());
        store.note_end("mix.a", &key, "ran").unwrap();
        store.note_failure("mix.b", &key, "it\nfell").unwrap();
        assert!(again().is_empty());
        assert_eq!(roots(&store)[0].failures, [("mix.b".to_string(), "it fell".to_string())].into());
    }

    #[test]
    fn half_a_line_is_passed_over() {
        let text = format!("run p\nkey {}\nkey 0123", Digest::of(b"a"));
        assert_eq!(Relied::parse(&text).keys, [Digest::of(b"a")]);
    }

    #[test]
    fn a_sweep_is_waited_for_unless_its_collector_is_gone_or_stands_still() {
        let (_folder, store) = store();
        let mark = store.root().join(SWEEP);
        let dead = format!("{}.4194304.gone", store.host);
        write_new(&mark, &dead).unwrap();
        store.rely_on([Digest::of(b"a")]).unwrap();
        assert!(who(&mark).unwrap().is_none());

        let collector = Store::open(store.root()).unwrap();
        write_new(&mark, collector.lease().unwrap().name()).unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| store.rely_on([Digest::of(b"b")]));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waits.is_finished());
            fs::remove_file(&mark).unwrap();
            waits.join().unwrap().unwrap();
        });

        let settings = Settings { patience: Duration::ZERO, ..Settings::default() };
        let impatient = Store::open_with(store.root(), settings).unwrap();
        write_new(&mark, collector.lease().unwrap().name()).unwrap();
        impatient.rely_on([Digest::of(b"c")]).unwrap();
        assert!(who(&mark).unwrap().is_none(), "by which the collector knows");
    }
}
