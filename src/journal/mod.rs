//! What a run leaves behind: what it was asked to do, what it did, and of which keys its pipeline was made.
//!
//! Knows the forms only; [`crate::store`] keeps them. A thousand runs of one pipeline have one [`PlanDocument`] and a
//! short [`RunSummary`] each: what was simply cached is in the plan, and has no line of its own in the summary.

mod git;
mod times;

pub use git::{Revision, revision};
pub use times::{Past, Times};

use crate::key::{Digest, canonical};
use crate::record::{Machine, read_format};
use crate::stage::Cause;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the forms in this room.
pub const FORMAT: u32 = 1;

/// One run of one pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// What the run is called; see [`id`].
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The manifest, as seen from the project's root.
    pub manifest: String,
    /// What the call asked for besides.
    pub asked: Asked,
    /// Start, RFC 3339 in UTC.
    pub started: String,
    /// Wall time.
    pub seconds: f64,
    /// Whether it has ended.
    #[serde(default)]
    pub state: RunState,
    /// Who does it, as long as it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Whether the person stopped it.
    pub interrupted: bool,
    /// How many instances ended how.
    pub counts: Counts,
    /// Digest of the [`PlanDocument`].
    pub plan: Option<Digest>,
    /// The machine; none if nothing was to be done.
    pub machine: Option<Machine>,
    /// Version of titer.
    pub titer: String,
    /// The project's revision when the run began; none if there is no git, or nothing was to be done.
    pub git: Option<Revision>,
    /// Seconds that the cached results took when they were made.
    pub saved_seconds: f64,
    /// The texts that the pipeline was read from, by path: objects of the store.
    pub manifests: BTreeMap<String, Digest>,
    /// The instances that were not simply cached, by name.
    pub instances: BTreeMap<String, Entry>,
}

/// Whether a run has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It goes on. So its summary says from its begin on, and for ever if nobody lives to write another.
    Running,
    /// It says so, but its process is gone. Found by who reads it (`Store::run`), never written.
    Killed,
    /// It came to its end.
    #[default]
    Ended,
}

/// A process that uses the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// What it is called in the cache: its lock is `work/NAME.lock`.
    pub name: String,
    /// The host that it runs on.
    pub host: String,
    /// Its number there.
    pub pid: u32,
}

/// What the command line changes of a manifest, as the person wrote it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// `--variant`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `--set`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// `--axis`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub axis: Vec<String>,
    /// `--require`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<String>,
    /// `--target`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// `--force`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub force: Vec<String>,
}

impl Asked {
    /// Whether the pipeline is the one that the manifest says, unchanged.
    pub fn is_as_written(&self) -> bool {
        self.variant.is_none() && self.set.is_empty() && self.axis.is_empty()
    }

    /// The options, as on a command line.
    pub fn words(&self) -> Vec<String> {
        let variant: Vec<String> = self.variant.iter().cloned().collect();
        let require: Vec<String> = self.require.iter().cloned().collect();
        let options = [
            ("--variant", &variant),
            ("--set", &self.set),
            ("--axis", &self.axis),
            ("--require", &require),
            ("-t", &self.targets),
            ("-f", &self.force),
        ];
        options
            .iter()
            .flat_map(|(option, values)| values.iter().map(move |value| format!("{option} {value}")))
            .collect()
    }
}

/// How many instances ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All that were wanted.
    pub wanted: usize,
    /// Done from the cache.
    pub cached: usize,
    /// Done by fetching from the shared cache.
    #[serde(default)]
    pub fetched: usize,
    /// Done by running.
    pub ran: usize,
    /// Done by another instance, or another process, with the same key.
    pub shared: usize,
    /// Failed.
    pub failed: usize,
    /// Not run, as something that they read failed.
    pub blocked: usize,
    /// Not started or stopped.
    pub unfinished: usize,
}

impl Counts {
    /// How a run that was not interrupted ended, in a word.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self { failed: 1.., .. } => "failed",
            Self { ran: 0, fetched: 0, shared: 0, .. } => "nothing to do",
            _ => "done",
        }
    }
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was cached, but there is something to say about it.
    Cached,
    /// It ran.
    Ran,
    /// It ran although its key had been made before.
    Observed,
    /// It was fetched from the shared cache.
    Fetched,
    /// Another instance or process made the same key.
    Shared,
    /// It failed.
    Failed,
    /// Something that it reads failed.
    Blocked,
    /// Somebody is at it; only in the summary of a run that goes on.
    Running,
    /// It was not started, or stopped.
    #[default]
    Unfinished,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Cached => "cached",
            State::Ran => "ran",
            State::Observed => "ran again",
            State::Fetched => "fetched",
            State::Shared => "shared",
            State::Failed => "failed",
            State::Blocked => "blocked",
            State::Running => "running",
            State::Unfinished => "unfinished",
        }
    }
}

/// What became of an instance that was not simply cached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// How it ended.
    pub state: State,
    /// Its last start, RFC 3339 in UTC; none if it never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// How long its last try took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The kind of device that it had: `cpu`, `cuda`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// How often it was started.
    #[serde(default)]
    pub tries: u32,
    /// What it warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What kind of failure it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The outputs that were not those of the first run of the same key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differing: Vec<String>,
}

impl RunSummary {
    /// The summary of a run that begins now and finds, as this one did, that there is nothing to do.
    pub fn again(&self) -> Self {
        let Self { id, started, .. } = Self::begin(&self.pipeline, &self.manifest, Asked::default());
        Self { id, started, ..self.clone() }
    }

    /// The summary of a run that begins now, and has done nothing yet.
    pub fn begin(pipeline: &str, manifest: &str, asked: Asked) -> Self {
        let now = Timestamp::now();
        Self {
            format: FORMAT,
            id: id(now, std::process::id()),
            pipeline: pipeline.to_string(),
            manifest: manifest.to_string(),
            asked,
            started: now.to_string(),
            seconds: 0.0,
            state: RunState::Ended,
            process: None,
            interrupted: false,
            counts: Counts::default(),
            plan: None,
            machine: None,
            titer: env!("CARGO_PKG_VERSION").to_string(),
            git: None,
            saved_seconds: 0.0,
            manifests: BTreeMap::new(),
            instances: BTreeMap::new(),
        }
    }

    /// How it ended, in a word.
    pub fn outcome(&self) -> &'static str {
        match self.state {
            RunState::Running => "running",
            RunState::Killed => "killed",
            RunState::Ended if self.interrupted => "interrupted",
            RunState::Ended => self.counts.outcome(),
        }
    }

    /// Reads a summary; `Err` says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        read_format(bytes, FORMAT)
    }
}

/// The keys of a pipeline's instances, as far as they are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanDocument {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// Keys by the instances' names.
    pub instances: BTreeMap<String, Digest>,
}

impl PlanDocument {
    /// A document of this [`FORMAT`].
    pub fn new(pipeline: &str, instances: BTreeMap<String, Digest>) -> Self {
        Self { format: FORMAT, pipeline: pipeline.to_string(), instances }
    }

    /// The text that is hashed and kept: [`canonical`] JSON.
    pub fn canonical(&self) -> String {
        // Cannot fail: names are strings, digests become strings.
        canonical(&serde_json::to_value(self).unwrap_or_default())
    }

    /// Reads a document; `Err` says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        read_format(bytes, FORMAT)
    }
}

/// The name of a run: its start in UTC, then six characters that keep runs of one second in order (four) and runs of one
/// moment apart (two): `20261124T080153Z-0k3fz2`.
pub fn id(start: Timestamp, process: u32) -> String {
    /// 36⁴ parts of a second.
    const PARTS: i64 = 1_679_616;
    let part = i64::from(start.subsec_nanosecond()).max(0) * PARTS / 1_000_000_000;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let owner = Digest::of(format!("{host} {process}").as_bytes()).as_bytes()[..4]
        .iter()
        .fold(0, |number, byte| (number << 8) | i64::from(*byte));
    format!("{}-{}{}", start.strftime("%Y%m%dT%H%M%SZ"), base_36(part, 4), base_36(owner, 2))
}

/// The last digits of a number.
fn base_36(mut number: i64, digits: usize) -> String {
    let mut text = Vec::new();
    for _ in 0..digits {
        text.push(char::from_digit(u32::try_from(number % 36).unwrap_or(0), 36).unwrap_or('0'));
        number /= 36;
    }
    text.iter().rev().collect()
}

/// Whether a text may be (the beginning of) the name of a run: `last`, `last~2`, `20261124`.
pub fn looks_like_id(text: &str) -> bool {
    let is_stamp = text.len() >= 4 && text.bytes().take(8).all(|byte| byte.is_ascii_digit());
    is_stamp && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') || steps_back(text).is_some()
}

/// How many runs before the last one `last` or `last~N` means.
pub fn steps_back(text: &str) -> Option<usize> {
    match text.strip_prefix("last")? {
        "" => Some(0),
        rest => rest.strip_prefix('~')?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_sort_by_time_within_a_second_too() {
        let at = |nanoseconds: i32| Timestamp::new(1_795_507_313, nanoseconds).unwrap();
        let names = [at(0), at(2_000), at(500_000_000), at(999_999_999)].map(|time| id(time, 7));
        assert!(names.is_sorted() && names[0] != names[1], "{names:?}");
        assert!(
            names[0].starts_with("20261124T080153Z-0000") && names[3].starts_with("20261124T080153Z-zzzz"),
            "{names:?}"
        );
        assert_eq!(names[0].len(), "20261124T080153Z-xxxxxx".len());
        assert_ne!(id(at(0), 7), id(at(0), 8), "two processes of one moment");
        assert!(names.iter().all(|name| looks_like_id(name)));
    }

    #[test]
    fn runs_are_named_by_a_beginning_or_from_the_end() {
        assert_eq!((steps_back("last"), steps_back("last~3"), steps_back("last3")), (Some(0), Some(3), None));
        assert!(looks_like_id("20261124T08") && looks_like_id("2026") && looks_like_id("last~1"));
        assert!(
            !looks_like_id("train.adapter")
                && !looks_like_id("2026.toml")
                && !looks_like_id("202")
                && !looks_like_id("late")
        );
    }

    #[test]
    fn a_plan_is_named_by_its_text_and_read_back() {
        let plan = PlanDocument::new(
            "p",
            [("mix.b".to_string(), Digest::of(b"b")), ("mix.a".to_string(), Digest::of(b"a"))].into(),
        );
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(
            plan.canonical(),
            format!(r#"{{"format":1,"instances":{{"mix.a":"{a}","mix.b":"{b}"}},"pipeline":"p"}}"#)
        );
        assert_eq!(PlanDocument::parse(plan.canonical().as_bytes()), Ok(plan));
        assert_eq!(PlanDocument::parse(br#"{"format":9}"#).unwrap_err(), "it has format 9, this titer reads format 1");
    }

    #[test]
    fn a_run_has_done_something_if_a_result_is_new_here() {
        let cached = Counts { wanted: 2, cached: 1, ..Counts::default() };
        assert_eq!(cached.outcome(), "nothing to do");
        for counts in [Counts { ran: 1, ..cached }, Counts { fetched: 1, ..cached }, Counts { shared: 1, ..cached }] {
            assert_eq!(counts.outcome(), "done", "{counts:?}");
            assert_eq!(Counts { failed: 1, ..counts }.outcome(), "failed");
            let summary = RunSummary { counts, ..RunSummary::begin("p", "p.toml", Asked::default()) };
            assert_eq!(summary.outcome(), "done");
            assert_eq!(RunSummary { interrupted: true, ..summary }.outcome(), "interrupted");
        }
    }

    #[test]
    fn a_summary_is_read_as_it_was_written() {
        let asked = Asked { set: vec!["epochs=3".into()], targets: vec!["mix".into()], ..Asked::default() };
        assert!(!asked.is_as_written() && Asked { set: vec![], ..asked.clone() }.is_as_written());
        assert_eq!(asked.words(), ["--set epochs=3", "-t mix"]);
        let mut summary = RunSummary::begin("p", "pipelines/p.toml", asked);
        summary.instances.insert("mix.a".into(), Entry { state: State::Failed, tries: 2, ..Entry::default() });
        summary.counts.failed = 1;
        assert_eq!(summary.outcome(), "failed");
        let text = serde_json::to_string(&summary).unwrap();
        assert_eq!(RunSummary::parse(text.as_bytes()), Ok(summary));
        assert!(RunSummary::parse(&text.as_bytes()[..40]).is_err());
    }
}
