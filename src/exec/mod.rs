//! How a job is given to something that does it, and what comes back: a job file in, an output folder and events out.
//!
//! Every executor speaks this one contract, so that one machine and a cluster behave alike. Knows jobs and processes;
//! not the graph, not the cache.

mod local;
mod worker;

pub use local::{Local, Report};
pub use worker::serve;

use crate::stage::{Context, Hints, Input, Progress, Recipe};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
    /// All outputs are written.
    Done,
    /// The work failed; why, in words.
    Failed(String),
}

/// Writes the job file.
pub fn write_job(job: &Job, path: &Path) -> anyhow::Result<()> {
    std::fs::write(path, serde_json::to_vec_pretty(job)?)?;
    Ok(())
}

impl Job {
    /// Does the job in this process.
    fn execute(&self, events: &dyn crate::stage::Events) -> anyhow::Result<()> {
        let context = Context { inputs: &self.inputs, output: &self.output, hints: &self.hints, events };
        crate::stage::execute(&self.recipe, &context)
    }
}
