//! How a job is given to something that does it, and what comes back: a job file in, an output folder and events out.
//!
//! Every executor speaks this one contract, so that one machine and a cluster behave alike. Knows jobs and processes;
//! not the graph, not the cache.

mod command;
mod group;
mod local;
mod strays;
mod worker;

pub use group::guard;
pub use local::{Local, Report};
pub use worker::serve;

use crate::key::Digest;
use crate::stage::{Cause, Context, Earlier, Hints, Input, Means, Progress, Recipe};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The job file: all that a worker must know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The instance's name, for messages.
    pub instance: String,
    /// What is to be done.
    pub recipe: Recipe,
    /// How, as far as it does not matter.
    pub hints: Hints,
    /// With what.
    pub inputs: Vec<Input>,
    /// The folder for the outputs; exists and is empty.
    pub output: PathBuf,
    /// What earlier attempts left.
    #[serde(default)]
    pub earlier: Earlier,
    /// The project's root, where commands are run.
    pub root: PathBuf,
    /// The key of what jobs that differ in other things begin with, too: the worker is kept for the next of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Digest>,
}

/// The variable that tells a process how many requests it may send to APIs.
const REQUESTS_PER_SECOND: &str = "TITER_REQUESTS_PER_SECOND";

/// The variables that tell a process what the run may spend on APIs, and where that is counted.
const MAX_COST: &str = "TITER_MAX_COST";
const TILL: &str = "TITER_TILL";

/// What of the machine a job may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Threads.
    pub threads: usize,
    /// Graphics cards; none if the machine has no card at all, so that what cannot be limited is left alone.
    pub gpus: Option<Vec<String>>,
    /// Requests to APIs.
    pub requests_per_second: Option<f64>,
    /// What the calls of the run to APIs may cost, and the file where it is counted.
    pub max_cost: Option<(f64, PathBuf)>,
}

impl Placement {
    /// Tells a process, and what it starts.
    fn set(&self, command: &mut Command) {
        command.env("TITER_THREADS", self.threads.to_string());
        if let Some(gpus) = &self.gpus {
            command.env("CUDA_VISIBLE_DEVICES", gpus.join(","));
        }
        if let Some(rate) = self.requests_per_second {
            command.env(REQUESTS_PER_SECOND, rate.to_string());
        }
        if let Some((most, till)) = &self.max_cost {
            command.env(MAX_COST, most.to_string()).env(TILL, till);
        }
    }
}

/// What a worker says, one JSON object a line. The last of a job is `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// How far it is.
    Progress(Progress),
    /// Something that the person should know.
    Warn(String),
    /// A line for the log.
    Log(String),
    /// The kind of device that does the arithmetic.
    Device(String),
    /// All outputs are written.
    Done,
    /// The work failed.
    Failed {
        /// In one word.
        cause: Cause,
        /// In many.
        message: String,
    },
}

/// Writes the job file.
pub fn write_job(job: &Job, path: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(job)?;
    std::fs::write(path, text).with_context(|| format!("writing `{}`", path.display()))
}

/// The beginning of a text that is too long.
fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_string(),
    }
}

impl Job {
    /// Does the job in this process.
    fn execute(&self, means: &Means, events: &dyn crate::stage::Events) -> anyhow::Result<()> {
        let Self { inputs, output, hints, earlier, root, .. } = self;
        let context = Context { inputs, output, hints, earlier, means, root, events };
        crate::stage::execute(&self.recipe, &context)
    }
}
