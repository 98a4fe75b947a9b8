//! `titer.lock`: what each stage was made of and what came out, beside the manifest and under git, so that a reviewer
//! sees what a change of the manifest did to the results, and another machine can be held to them.
//!
//! One file serves all manifests of a folder. It is TOML with a fact on each line, sorted:
//!
//! ```toml
//! lock = 1
//!
//! [pipeline.fractions."train.adapter[n=80]"]
//! recipe = "5b0c…"
//! key = "91d2…"
//! outputs.model = "77aa…"
//! ```
//!
//! `key` is what the cache knows the work by: it covers the bytes that are read, also those that another stage has
//! made. These may be others on another kind of device, and then all keys downstream are. `recipe` covers only what a
//! person decides: the settings, the content of the person's own files, and which output of which stage is read; so it
//! is the same everywhere. Of stages that are all locked, equal recipes and equal outputs give equal keys.
//!
//! Knows the form and the comparison; not stages, not the cache.

use crate::key::Digest;
use crate::record::Record;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The file's name.
pub const NAME: &str = "titer.lock";

/// Version of the form.
pub const FORMAT: u32 = 1;

const HEAD: &str = "# What each stage was made of, and what came out. Written by titer: keep it in git; `titer run --locked` holds to it.\n";

/// What is locked of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// Digest of what a person decides; see [`crate::plan::Resolver::recipe_digest`].
    pub recipe: Digest,
    /// The key.
    pub key: Digest,
    /// Digests of the outputs by name.
    #[serde(default)]
    pub outputs: BTreeMap<String, Digest>,
}

impl Locked {
    /// What is to be locked of an instance with this record.
    pub fn new(recipe: Digest, record: &Record) -> Self {
        Self { recipe, key: record.key, outputs: record.digests() }
    }
}

/// The instances of a pipeline by name.
pub type Section = BTreeMap<String, Locked>;

/// A lock file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    pipelines: BTreeMap<String, Section>,
}

impl Lock {
    /// Reads the file at `path`; one that is not there locks nothing.
    ///
    /// # Errors
    /// If it cannot be read: the message says where, and what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("the lock `{}` cannot be read: {error}", path.display())),
        };
        Self::parse(&text).map_err(|reason| {
            format!(
                "the lock `{}` cannot be read: {reason}; put it right (a merge in git?), or remove it and run again",
                path.display()
            )
        })
    }

    /// Reads a text; `Err` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Any {
            lock: u32,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Text {
            #[serde(rename = "lock")]
            _format: u32,
            #[serde(default)]
            pipeline: BTreeMap<String, Section>,
        }
        let wrong = |error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!("line {line}: {}", error.message())
        };
        let format = toml::from_str::<Any>(text).map_err(wrong)?.lock;
        if format != FORMAT {
            return Err(format!("it has format {format}, this titer reads format {FORMAT}"));
        }
        Ok(Self { pipelines: toml::from_str::<Text>(text).map_err(wrong)?.pipeline })
    }

    /// The text of the file.
    pub fn render(&self) -> String {
        let mut text = format!("{HEAD}lock = {FORMAT}\n");
        for (pipeline, section) in &self.pipelines {
            for (instance, locked) in section {
                // Writing to a string cannot fail.
                let _ = write!(text, "\n[pipeline.{}.{}]\n", key(pipeline), key(instance));
                let _ = writeln!(text, "recipe = \"{}\"\nkey = \"{}\"", locked.recipe, locked.key);
                for (output, digest) in &locked.outputs {
                    let _ = writeln!(text, "outputs.{} = \"{digest}\"", key(output));
                }
            }
        }
        text
    }

    /// What is locked of a pipeline.
    pub fn section(&self, pipeline: &str) -> Section {
        self.pipelines.get(pipeline).cloned().unwrap_or_default()
    }

    /// Locks what was `made`, and forgets those of the pipeline's instances that are not among `all`.
    pub fn update(&mut self, pipeline: &str, made: Section, all: &BTreeSet<String>) {
        let section = self.pipelines.entry(pipeline.to_string()).or_default();
        section.retain(|instance, _| all.contains(instance));
        section.extend(made);
    }
}

/// A key of TOML, quoted where it must be.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_bare { name.to_string() } else { toml::Value::from(name).to_string() }
}

/// Where the lock of a manifest is.
pub fn path_beside(manifest: &Path) -> PathBuf {
    manifest.with_file_name(NAME)
}

/// Locks in the file at `path` what was made; touches nothing if that is what it says. Returns whether it was written.
///
/// # Errors
/// If the file cannot be read or written: the message says why.
pub fn write(path: &Path, pipeline: &str, made: Section, all: &BTreeSet<String>) -> Result<bool, String> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // A run of another manifest may write the same file. Where folders cannot be locked, luck must do.
    let _guard = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
    let old = Lock::read(path)?;
    let mut new = old.clone();
    new.update(pipeline, made, all);
    if new == old {
        return Ok(false);
    }
    let temporary = folder.join(format!(".{NAME}.{}", std::process::id()));
    let written = fs::write(&temporary, new.render()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map(|()| true).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

/// To what a run holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// To what a person decides: another kind of device may make other bytes of it.
    Recipe,
    /// To every byte.
    All,
}

/// The lock of a pipeline, and how strictly a run holds to it.
#[derive(Clone, Debug)]
pub struct Held {
    strictness: Strictness,
    section: Section,
}

impl Held {
    /// Holds to a section.
    pub fn new(strictness: Strictness, section: Section) -> Self {
        Self { strictness, section }
    }

    /// What is locked of an instance.
    pub fn get(&self, instance: &str) -> Option<&Locked> {
        self.section.get(instance)
    }

    /// What speaks against doing what a person has decided.
    pub fn refuses_recipe(&self, instance: &str, recipe: &Digest) -> Option<String> {
        match self.get(instance) {
            None => Some("is not in the lock".to_string()),
            Some(locked) if locked.recipe != *recipe => Some("is not what was locked".to_string()),
            Some(_) => None,
        }
    }

    /// What speaks against a key.
    pub fn refuses_key(&self, instance: &str, key: &Digest) -> Option<String> {
        let locked = self.strict(instance)?;
        let (old, new) = (locked.key.short(), key.short());
        (locked.key != *key).then(|| format!("its key is not the locked one: {old} → {new}"))
    }

    /// The outputs that an instance must have, if it is held to every byte.
    pub fn outputs(&self, instance: &str) -> Option<&BTreeMap<String, Digest>> {
        Some(&self.strict(instance)?.outputs)
    }

    /// What speaks against outputs with these digests.
    pub fn refuses_outputs(&self, instance: &str, made: &BTreeMap<String, Digest>) -> Option<String> {
        let locked = self.strict(instance)?;
        let names: BTreeSet<&String> = locked.outputs.keys().chain(made.keys()).collect();
        let short = |digest: Option<&Digest>| digest.map_or_else(|| "none".to_string(), Digest::short);
        let differing: Vec<String> = names
            .into_iter()
            .map(|name| (name, locked.outputs.get(name), made.get(name)))
            .filter(|(_, old, new)| old != new)
            .map(|(name, old, new)| format!("`{name}`: {} → {}", short(old), short(new)))
            .collect();
        let list = differing.join(", ");
        (!differing.is_empty()).then(|| format!("its outputs are not the locked ones: {list}"))
    }

    fn strict(&self, instance: &str) -> Option<&Locked> {
        self.get(instance).filter(|_| self.strictness == Strictness::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{FORMAT as RECORD, Output, RunInfo};

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn record(key: &str, output: &str) -> Record {
        let output = Output { name: "train".into(), path: "train.jsonl".into(), digest: digest(output), files: vec![] };
        Record { format: RECORD, key: digest(key), outputs: vec![output], run: RunInfo::begin("mix.a") }
    }

    fn made(instances: &[(&str, &str)]) -> Section {
        let one = |(name, text): &(&str, &str)| (name.to_string(), Locked::new(digest("recipe"), &record(text, text)));
        instances.iter().map(one).collect()
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_text_is_sorted_with_a_fact_a_line_and_read_back() {
        let mut lock = Lock::default();
        let odd = "mix.a[t=\"q\\\"]";
        lock.update("my pipe", made(&[("mix.b", "b"), (odd, "a")]), &names(&["mix.b", odd]));
        let text = lock.render();
        assert_eq!(Lock::parse(&text), Ok(lock));
        let expected = format!(
            "\n[pipeline.\"my pipe\".\"mix.b\"]\nrecipe = \"{}\"\nkey = \"{}\"\noutputs.train = \"{}\"\n",
            digest("recipe"),
            digest("b"),
            digest("b")
        );
        assert!(text.ends_with(&expected), "{text}");
        assert!(text.find("mix.a") < text.find("mix.b"));
    }

    #[test]
    fn what_is_no_lock_is_said_with_its_line() {
        let conflict = "lock = 1\n<<<<<<< ours\n";
        assert!(Lock::parse(conflict).unwrap_err().starts_with("line 2: "));
        assert_eq!(Lock::parse("lock = 2\nother = 1\n").unwrap_err(), "it has format 2, this titer reads format 1");
        let short = "lock = 1\n[pipeline.p.\"mix.a\"]\nrecipe = \"ab\"\nkey = \"ab\"\n";
        assert!(Lock::parse(short).unwrap_err().contains("`ab` is not a digest"));
        assert!(Lock::parse("lock = 1\npipelines = {}\n").is_err());
    }

    #[test]
    fn only_what_was_made_is_locked_anew_and_what_is_gone_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let all = names(&["mix.a", "mix.b"]);
        assert_eq!(write(&path, "p", made(&[("mix.a", "1"), ("mix.b", "1")]), &all), Ok(true));
        assert_eq!(write(&path, "q", made(&[("mix.a", "q")]), &all), Ok(true));
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(write(&path, "p", made(&[("mix.a", "1")]), &all), Ok(false), "nothing new");
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert_eq!(write(&path, "p", made(&[("mix.a", "2")]), &all), Ok(true));
        let lock = Lock::read(&path).unwrap();
        assert_eq!(lock.section("p"), made(&[("mix.a", "2"), ("mix.b", "1")]));
        assert_eq!(write(&path, "p", made(&[("mix.a", "2")]), &names(&["mix.a"])), Ok(true));
        let lock = Lock::read(&path).unwrap();
        assert_eq!((lock.section("p"), lock.section("q")), (made(&[("mix.a", "2")]), made(&[("mix.a", "q")])));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no scratch is left");
    }

    #[test]
    fn a_damaged_lock_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        fs::write(&path, "lock = 1\n=======\n").unwrap();
        assert!(write(&path, "p", made(&[("mix.a", "1")]), &names(&["mix.a"])).unwrap_err().contains("line 2"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "lock = 1\n=======\n");
    }

    #[test]
    fn a_strict_run_holds_to_keys_and_bytes_and_another_to_recipes() {
        let strict = Held::new(Strictness::All, made(&[("mix.a", "1")]));
        let loose = Held { strictness: Strictness::Recipe, ..strict.clone() };
        for held in [&strict, &loose] {
            assert_eq!(held.refuses_recipe("mix.a", &digest("recipe")), None);
            assert!(held.refuses_recipe("mix.a", &digest("other")).is_some());
            assert!(held.refuses_recipe("mix.new", &digest("recipe")).is_some());
        }
        assert_eq!(strict.refuses_key("mix.a", &digest("1")), None);
        assert!(strict.refuses_key("mix.a", &digest("2")).unwrap().contains(&digest("2").short()));
        assert_eq!(strict.refuses_outputs("mix.a", &record("1", "1").digests()), None);
        assert!(strict.refuses_outputs("mix.a", &record("1", "2").digests()).unwrap().contains("`train`"));
        assert_eq!(
            (loose.refuses_key("mix.a", &digest("2")), loose.refuses_outputs("mix.a", &record("1", "2").digests())),
            (None, None)
        );
    }
}
