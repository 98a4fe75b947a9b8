//! The history: summaries of runs, the plans that they had, and the texts that those were read from.

use super::durable::Wait;
use super::error::{At, Result};
use super::object::Put;
use super::{Store, file, order};
use crate::journal::{PlanDocument, RunState, RunSummary};
use crate::key::Digest;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

impl Store {
    /// Keeps a run's summary, in one step.
    ///
    /// # Errors
    /// If there is one of that name, or the cache cannot be written.
    pub fn write_run(&self, summary: &RunSummary) -> Result<()> {
        self.must_be_writable()?;
        write_run(&self.root, summary)
    }

    /// Keeps the summary of a run that begins, in one step.
    ///
    /// # Errors
    /// As [`Store::write_run`].
    pub fn begin_run(&self, summary: &RunSummary) -> Result<()> {
        self.must_be_writable()?;
        keep(&self.root, summary, Wait::Later)
    }

    /// Puts the summary of a run that has ended in the place of the one with which it began.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn end_run(&self, summary: &RunSummary) -> Result<()> {
        let path = self.run_path(&summary.id);
        let new = write_beside(&path, &to_json(summary, &path)?, Wait::Now)?;
        fs::rename(&new, &path).at("write", &path)
    }

    /// The summary of a run; none if there is no such run. One that cannot be read counts as absent, with a warning. That
    /// of a run which has not ended says what the cache tells of it so far.
    pub fn run(&self, id: &str) -> Result<Option<RunSummary>> {
        let Some(summary) = self.written_run(id)? else { return Ok(None) };
        let Some(process) = summary.process.as_ref().filter(|_| summary.state == RunState::Running) else {
            return Ok(Some(summary));
        };
        if self.lives(&process.name) {
            return self.filled_in(summary).map(Some);
        }
        // It may have ended between the two looks.
        match self.written_run(id)? {
            Some(left) if left.state == RunState::Running => {
                self.filled_in(RunSummary { state: RunState::Killed, ..left }).map(Some)
            }
            ended => Ok(ended),
        }
    }

    fn written_run(&self, id: &str) -> Result<Option<RunSummary>> {
        let path = self.run_path(id);
        let Some(bytes) = file::read_if_there(&path)? else { return Ok(None) };
        match RunSummary::parse(&bytes) {
            Ok(summary) => Ok(Some(summary)),
            Err(reason) => {
                self.warn(format!("the run's summary `{}` is not used, and may be removed: {reason}", path.display()));
                Ok(None)
            }
        }
    }

    /// The names of all runs, in the order in which they began.
    pub fn runs(&self) -> Result<Vec<String>> {
        let entries = file::entries(&self.root.join("runs"))?;
        let id = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_string());
        let mut ids: Vec<String> = entries.into_iter().filter_map(id).collect();
        ids.sort();
        order::sort(&self.root, ids)
    }

    /// Keeps a plan and returns its digest; writes nothing if it is there.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn write_plan(&self, plan: &PlanDocument) -> Result<Digest> {
        let text = plan.canonical();
        let digest = Digest::of(text.as_bytes());
        let path = self.plan_path(&digest);
        if !path.exists() {
            match self.must_be_writable().and_then(|()| write_new(&path, text.as_bytes(), Wait::Now)) {
                // Another process keeps the same one at this moment.
                Err(_) if path.exists() => {}
                written => written?,
            }
        }
        Ok(digest)
    }

    /// The plan of that digest; none if it is not there or is not what the digest says.
    pub fn plan(&self, digest: &Digest) -> Result<Option<PlanDocument>> {
        let path = self.plan_path(digest);
        let Some(bytes) = file::read_if_there(&path)? else { return Ok(None) };
        if Digest::of(&bytes) != *digest {
            self.warn(format!("`{}` is damaged and not used", path.display()));
            return Ok(None);
        }
        Ok(PlanDocument::parse(&bytes).ok())
    }

    /// Keeps a text as an object.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn put_text(&self, text: &str) -> Result<Digest> {
        let digest = Digest::of(text.as_bytes());
        self.rely_on_object(&digest)?;
        if !self.has(&digest, text.len() as u64) {
            let work = self.work_dir()?;
            let path = work.path().join("text");
            fs::write(&path, text).at("write", &path)?;
            let mut put = Put::new(self, Wait::Now)?;
            put.adopt(&path)?;
            put.sync()?;
        }
        Ok(digest)
    }

    fn run_path(&self, id: &str) -> PathBuf {
        run_path(&self.root, id)
    }

    fn plan_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("plans").join(format!("{digest}.json"))
    }
}

fn run_path(root: &Path, id: &str) -> PathBuf {
    root.join("runs").join(format!("{}.json", file::path_part(id)))
}

/// Keeps a run's summary in the cache at `root`, which need not be opened for that: a run with nothing to do stays cheap.
///
/// # Errors
/// If there is one of that name, or the cache cannot be written.
pub fn write_run(root: &Path, summary: &RunSummary) -> Result<()> {
    // One that tells of work must not be lost with the power.
    keep(root, summary, if summary.machine.is_some() { Wait::Now } else { Wait::Later })
}

fn keep(root: &Path, summary: &RunSummary, wait: Wait) -> Result<()> {
    let path = run_path(root, &summary.id);
    write_new(&path, &to_json(summary, &path)?, wait)?;
    order::add(root, &summary.id)
}

fn to_json(summary: &RunSummary, path: &Path) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(summary).map_err(io::Error::other).at("write", path)?;
    text.push(b'\n');
    Ok(text)
}

/// A new file that appears complete; what a kill leaves of it ends with `.new`.
fn write_new(path: &Path, text: &[u8], wait: Wait) -> Result<()> {
    let new = write_beside(path, text, wait)?;
    let named = match fs::hard_link(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // A file system without links.
        Err(_) => fs::rename(&new, path),
        Ok(()) => Ok(()),
    };
    let _ = fs::remove_file(&new);
    named.at("write", path)
}

/// Writes what is to stand at `path` under another name in the same folder, and returns that.
fn write_beside(path: &Path, text: &[u8], wait: Wait) -> Result<PathBuf> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut opened = match File::create(&new) {
        Err(error) if file::is_absent(&error) => {
            path.parent().map_or(Ok(()), super::make_folder)?;
            File::create(&new).at("write", path)?
        }
        opened => opened.at("write", path)?,
    };
    let sync = |file: &File| if wait == Wait::Now { file.sync_all() } else { Ok(()) };
    if let Err(error) = opened.write_all(text).and_then(|()| sync(&opened)) {
        let _ = fs::remove_file(&new);
        return Err(error).at("write", path);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Asked;

    #[test]
    fn runs_are_listed_in_order_and_none_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(store.runs().unwrap().is_empty());
        let mut summary = RunSummary::begin("p", "p.toml", Asked::default());
        // The clock was set back.
        for id in ["20260102T000000Z-b", "20260101T000000Z-a"] {
            summary.id = id.to_string();
            store.write_run(&summary).unwrap();
        }
        summary.seconds = 9.0;
        assert!(store.write_run(&summary).is_err(), "there is one of that name");
        assert_eq!(store.runs().unwrap(), ["20260102T000000Z-b", "20260101T000000Z-a"]);
        assert_eq!(store.run("20260101T000000Z-a").unwrap().map(|run| run.seconds), Some(0.0));
        assert_eq!(store.run("../VERSION").unwrap(), None);
        let left = fs::read_dir(folder.path().join("runs")).unwrap().count();
        assert_eq!(left, 2, "nothing half-done is left");
    }

    #[test]
    fn a_damaged_summary_is_passed_over_with_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.write_run(&RunSummary { id: "1".into(), ..RunSummary::begin("p", "p.toml", Asked::default()) }).unwrap();
        fs::write(folder.path().join("runs/1.json"), "{\"format\":1").unwrap();
        assert_eq!(store.run("1").unwrap(), None);
        let warned = &store.take_warnings()[0];
        assert!(warned.contains("runs/1.json") && warned.contains("may be removed"), "{warned}");
    }

    #[test]
    fn a_plan_is_written_once_and_checked_when_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let plan = PlanDocument::new("p", [("mix.a".to_string(), Digest::of(b"a"))].into());
        let digest = store.write_plan(&plan).unwrap();
        assert_eq!(store.write_plan(&plan).unwrap(), digest);
        assert_eq!(store.plan(&digest).unwrap(), Some(plan));
        let path = store.plan_path(&digest);
        fs::write(&path, "{}").unwrap();
        assert_eq!(store.plan(&digest).unwrap(), None);
        assert_eq!(store.take_warnings().len(), 1);
    }

    #[test]
    fn a_text_is_an_object() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = store.put_text("titer = 1\n").unwrap();
        assert_eq!(store.put_text("titer = 1\n").unwrap(), digest);
        assert_eq!(fs::read_to_string(store.path(&digest)).unwrap(), "titer = 1\n");
        assert!(store.is_sound(&digest).unwrap());
    }
}
