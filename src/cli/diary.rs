//! The summary of a run: kept when it begins, so that a kill leaves it, and again when it has ended.

use super::args::Wanted;
use super::out;
use super::project::{Project, from_root};
use crate::journal::{self, Asked, Revision, RunState, RunSummary};
use crate::plan::{Plan, Status};
use crate::record::Machine;
use crate::run::{Finished, Recorder};
use crate::store::Result;
use std::thread::JoinHandle;

/// A summary on its way.
pub(super) struct Diary {
    summary: RunSummary,
    /// The revision as it was when the run began; git is asked while that goes on.
    git: Option<JoinHandle<Option<Revision>>>,
    /// Whether the summary of the begin is kept.
    is_begun: bool,
}

impl Diary {
    /// Of a run with nothing to do nothing is kept yet: it will have ended in a moment.
    pub(super) fn begin(project: &Project, wanted: &Wanted, plan: &Plan) -> Self {
        let manifest = from_root(&project.root, &project.manifest);
        let summary = RunSummary::begin(&project.pipeline.name, &manifest, asked(project, wanted));
        let mut diary = Self { summary, git: None, is_begun: false };
        if !plan.is_empty() {
            // It matters where and with what.
            let root = project.root.clone();
            diary.git = Some(std::thread::spawn(move || journal::revision(&root)));
            diary.summary.machine = Some(Machine::here());
            // If that cannot be kept, it is said at the end.
            diary.is_begun = diary.keep_begin(project, plan).is_ok();
        }
        diary
    }

    fn keep_begin(&mut self, project: &Project, plan: &Plan) -> Result<()> {
        let counts = &mut self.summary.counts;
        counts.wanted = plan.entries.len();
        counts.cached = plan.entries.iter().filter(|(_, status)| matches!(status, Status::Cached(_))).count();
        counts.unfinished = counts.wanted - counts.cached;
        self.summary.process = Some(project.store.process()?);
        self.summary.state = RunState::Running;
        self.keep_texts(project)?;
        project.store.begin_run(&self.summary)
    }

    fn keep_texts(&mut self, project: &Project) -> Result<()> {
        for (path, text) in project.texts() {
            self.summary.manifests.insert(path, project.store.put_text(text)?);
        }
        Ok(())
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
        self.keep_texts(project)?;
        recorder.fill(&mut self.summary, pipeline, wanted, finished, store)?;
        if self.is_begun { store.end_run(&self.summary) } else { store.write_run(&self.summary) }
    }
}

fn asked(project: &Project, wanted: &Wanted) -> Asked {
    Asked { targets: wanted.target.clone(), force: wanted.force.clone(), ..project.overrides.asked() }
}
