//! The summary of a run: begun before it, kept when it has ended.

use super::args::Wanted;
use super::out;
use super::project::{Project, from_root};
use crate::journal::{self, Asked, Revision, RunSummary};
use crate::record::Machine;
use crate::run::{Finished, Recorder};
use crate::store::Result;
use std::thread::JoinHandle;

/// A summary on its way.
pub(super) struct Diary {
    summary: RunSummary,
    /// The revision as it was when the run began; git is asked while that goes on.
    git: Option<JoinHandle<Option<Revision>>>,
}

impl Diary {
    /// `is_work`: something will run, so that it matters where and with what.
    pub(super) fn begin(project: &Project, wanted: &Wanted, is_work: bool) -> Self {
        let manifest = from_root(&project.root, &project.manifest);
        let mut summary = RunSummary::begin(&project.pipeline.name, &manifest, asked(project, wanted));
        let root = project.root.clone();
        summary.machine = is_work.then(Machine::here);
        Self { summary, git: is_work.then(|| std::thread::spawn(move || journal::revision(&root))) }
    }

    /// Keeps the summary, and returns it; none if it could not be kept, which costs history only.
    pub(super) fn end(
        mut self,
        project: &Project,
        recorder: Recorder<'_>,
        wanted: &[usize],
        finished: &Finished,
    ) -> Option<RunSummary> {
        if !project.store.writable() {
            return None;
        }
        self.summary.git = self.git.take().and_then(|git| git.join().ok()).flatten();
        match self.keep(project, recorder, wanted, finished) {
            Ok(()) => Some(self.summary),
            Err(error) => {
                out::warn(format!("the run's summary could not be kept: {error}"));
                None
            }
        }
    }

    fn keep(&mut self, project: &Project, recorder: Recorder<'_>, wanted: &[usize], finished: &Finished) -> Result<()> {
        let Project { store, pipeline, .. } = project;
        for (path, text) in project.texts() {
            self.summary.manifests.insert(path, store.put_text(text)?);
        }
        recorder.fill(&mut self.summary, pipeline, wanted, finished, store)?;
        store.write_run(&self.summary)
    }
}

fn asked(project: &Project, wanted: &Wanted) -> Asked {
    Asked { targets: wanted.target.clone(), force: wanted.force.clone(), ..project.overrides.asked() }
}
