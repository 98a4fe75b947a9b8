//! Processes that have left the group of their job, as a daemon does: they still have its name in their environment.

use memchr::memmem::Finder;
use rustix::process::{Pid, Signal, kill_process};

/// The variable that names a job's file.
pub(super) const JOB: &str = "TITER_JOB";

/// Ends the strays of jobs, by the paths of their job files. Only Linux tells the environment of a process.
pub(super) fn end(job_files: &[String]) {
    let names: Vec<String> = job_files.iter().map(|path| format!("{JOB}={path}\0")).collect();
    let finders: Vec<Finder<'_>> = names.iter().map(Finder::new).collect();
    if finders.is_empty() {
        return;
    }
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| Pid::from_raw(pid.parse().ok()?)) else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if finders.iter().any(|finder| finder.find(&environment).is_some()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
