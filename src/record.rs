//! What happened when a stage ran: its outputs by content, and where, when and with what they were made.
//!
//! Knows the form only; [`crate::store`] keeps it. A record never enters a key.

use crate::key::{Digest, canonical};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// Version of the form of records.
pub const FORMAT: u32 = 1;

/// One run of one key. The key's document is kept beside it (`Store::document`), not in it, so that the many records
/// of a plan are read fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// The key.
    pub key: Digest,
    /// What came out, in the order in which the kind names its outputs.
    pub outputs: Vec<Output>,
    /// How it was made.
    pub run: RunInfo,
}

impl Record {
    /// The output of that name.
    pub fn output(&self, name: &str) -> Option<&Output> {
        self.outputs.iter().find(|output| output.name == name)
    }

    /// Digests of the outputs by name.
    pub fn digests(&self) -> BTreeMap<String, Digest> {
        self.outputs.iter().map(|output| (output.name.clone(), output.digest)).collect()
    }

    /// Names of the outputs whose bytes are not those of `other`, those that only one of them has included.
    pub fn differing(&self, other: &Record) -> Vec<String> {
        let unlike =
            |a: &Record, b: &Record, name: &str| a.output(name).map(|o| o.digest) != b.output(name).map(|o| o.digest);
        let mut names: Vec<String> = Vec::new();
        for output in self.outputs.iter().chain(&other.outputs) {
            if unlike(self, other, &output.name) && !names.contains(&output.name) {
                names.push(output.name.clone());
            }
        }
        names
    }

    /// Reads a record; `Err` says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        read_format(bytes, FORMAT)
    }
}

/// Reads something with a `format`, of which this program knows one; `Err` says what is wrong with it.
pub(crate) fn read_format<T: for<'de> Deserialize<'de>>(bytes: &[u8], known: u32) -> Result<T, String> {
    /// What every version has.
    #[derive(Deserialize)]
    struct Any {
        format: u32,
    }
    let format = serde_json::from_slice::<Any>(bytes).map_err(|error| error.to_string())?.format;
    if format != known {
        return Err(format!("it has format {format}, this titer reads format {known}"));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// One output: a file, or a folder with all that is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// What references call it: `train`, `model`.
    pub name: String,
    /// Its path in the stage's output folder; a folder ends with `/`.
    pub path: String,
    /// Of a file: its content. Of a folder: [`folder_digest`].
    pub digest: Digest,
    /// Its files, by path; one if the output is a file.
    pub files: Vec<FileEntry>,
}

impl Output {
    /// Whether the output is a folder.
    pub fn is_folder(&self) -> bool {
        self.path.ends_with('/')
    }
}

/// One file of an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path in the stage's output folder (in the folder itself, where a folder is an input), with `/` between parts.
    pub path: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
}

/// The digest of a folder: BLAKE3 of the canonical JSON `[[path, digest, size], …]` sorted by path, paths relative to
/// the folder itself, so that a folder has one digest wherever it stands.
pub fn folder_digest<'a>(files: impl IntoIterator<Item = (&'a str, Digest, u64)>) -> Digest {
    let mut files: Vec<(&str, Digest, u64)> = files.into_iter().collect();
    files.sort();
    Digest::of(canonical(&json!(files)).as_bytes())
}

/// Where, when and with what a stage ran. Shown to people; decides nothing but what `require` asks of the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The instance that it ran for, as it was called then.
    pub instance: String,
    /// Start, RFC 3339 in UTC.
    pub started: String,
    /// Duration in seconds.
    pub wall_seconds: f64,
    /// The machine.
    pub machine: Machine,
    /// The kind of device that did the arithmetic: `cpu`.
    pub device: String,
    /// Threads that it could use.
    pub threads: u32,
    /// Graphics cards that were its own, by the names that `CUDA_VISIBLE_DEVICES` knew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// How often it was started before it was done.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub tries: u32,
    /// Version of titer.
    pub program: String,
    /// What the stage warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Set if it did not run here, but was taken from elsewhere: what the other fields say is of the import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
}

/// Where a result comes from that was made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Name of the file or folder, without the way to it.
    pub from: String,
    /// What the person says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl RunInfo {
    /// Of work that begins here and now, on one thread of the processor.
    pub fn begin(instance: &str) -> Self {
        Self {
            instance: instance.to_string(),
            started: jiff::Timestamp::now().to_string(),
            wall_seconds: 0.0,
            machine: Machine::here(),
            device: "cpu".to_string(),
            threads: 1,
            gpus: Vec::new(),
            tries: 1,
            program: env!("CARGO_PKG_VERSION").to_string(),
            warnings: Vec::new(),
            imported: None,
        }
    }

    /// Who made it and when, in words: `made by …`, `imported from …`.
    pub fn origin(&self) -> String {
        match &self.imported {
            None => format!("made by `{}` at {}", self.instance, moment(&self.started)),
            Some(Imported { from, note }) => {
                let note = note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
                format!("imported from `{from}`{note} for `{}` at {}", self.instance, moment(&self.started))
            }
        }
    }
}

/// A moment in RFC 3339 as people read it: nobody counts the parts of a second.
pub fn moment(time: &str) -> String {
    let parsed = time.parse::<jiff::Timestamp>();
    parsed.map_or_else(|_| time.to_string(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_once(tries: &u32) -> bool {
    *tries == 1
}

/// A computer, as far as it can matter to the bytes of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Host name.
    pub host: String,
    /// Operating system and its release.
    pub os: String,
    /// Model name of the processor.
    pub cpu: String,
    /// Instruction sets that arithmetic kernels choose by: `avx2 fma`.
    pub cpu_features: String,
}

impl Machine {
    /// The machine that this program runs on.
    pub fn here() -> Self {
        let system = rustix::system::uname();
        Self {
            host: system.nodename().to_string_lossy().into_owned(),
            os: format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy()),
            cpu: cpu_model().unwrap_or_else(|| std::env::consts::ARCH.to_string()),
            cpu_features: cpu_features().join(" "),
        }
    }
}

/// Linux tells the processor's name in a file; elsewhere the architecture must do.
fn cpu_model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    [
        ("avx", std::is_x86_feature_detected!("avx")),
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
    ]
    .into_iter()
    .filter_map(|(name, has)| has.then_some(name))
    .collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outputs: &[(&str, &str)]) -> Record {
        let output = |(name, content): &(&str, &str)| Output {
            name: (*name).into(),
            path: format!("{name}.jsonl"),
            digest: Digest::of(content.as_bytes()),
            files: vec![],
        };
        Record {
            format: FORMAT,
            key: Digest::of(b"key"),
            outputs: outputs.iter().map(output).collect(),
            run: RunInfo { wall_seconds: 0.1, threads: 2, ..RunInfo::begin("mix.train[n=20]") },
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_other_formats_are_refused() {
        let record = record(&[("train", "rows")]);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(Record::parse(text.as_bytes()), Ok(record));
        assert!(Record::parse(&text.as_bytes()[..text.len() / 2]).is_err());
        assert_eq!(
            Record::parse(br#"{"format":2,"what":"else"}"#),
            Err("it has format 2, this titer reads format 1".to_string())
        );
    }

    #[test]
    fn people_read_whole_seconds() {
        assert_eq!(moment("2026-01-02T03:04:05.123456789Z"), "2026-01-02T03:04:05Z");
        assert_eq!(moment("2026-01-02T04:04:05+01:00"), "2026-01-02T03:04:05Z");
        assert_eq!(moment("once"), "once");
    }

    #[test]
    fn outputs_that_differ_are_named() {
        let one = record(&[("train", "a"), ("test", "b"), ("stats", "c")]);
        let two = record(&[("train", "a"), ("test", "B"), ("extra", "d")]);
        assert_eq!(one.differing(&two), ["test", "stats", "extra"]);
        assert!(one.differing(&one).is_empty());
    }

    #[test]
    fn a_folder_has_one_digest_whatever_the_order_of_its_listing() {
        let (a, b) = (("a.json", Digest::of(b"1"), 1), ("b/c", Digest::of(b"2"), 1));
        assert_eq!(folder_digest([a, b]), folder_digest([b, a]));
        assert_ne!(folder_digest([a, b]), folder_digest([a]));
        let text = format!(r#"[["a.json","{}",1]]"#, Digest::of(b"1"));
        assert_eq!(folder_digest([a]), Digest::of(text.as_bytes()));
    }
}
