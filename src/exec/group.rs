//! Process groups of running jobs, and the guard that ends them when this process is killed.
//!
//! A worker of titer's own asks the kernel to die with its parent. A command cannot be made to, nor can what it starts:
//! so a second process, `titer guard`, holds a pipe from this one and a list of the groups. When the pipe closes, however
//! this process ended, it kills what is on the list.

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The groups that are alive, each with the node that it works for, if it does.
#[derive(Debug, Default)]
pub(super) struct Groups {
    alive: Mutex<Vec<(Pid, Option<usize>)>>,
    guard: Mutex<Option<Guard>>,
}

impl Groups {
    pub(super) fn add(&self, group: Pid) {
        lock(&self.alive).push((group, None));
    }

    /// A group that the guard must know, with the job that it works for.
    pub(super) fn add_guarded(&self, group: Pid, job_file: &Path) {
        self.add(group);
        self.guard(group, job_file);
    }

    /// The guard must know a group that is there already: what it starts would outlive it.
    pub(super) fn guard(&self, group: Pid, job_file: &Path) {
        if let Some(guard) = &mut *lock(&self.guard) {
            guard.say(&format!("+{} {}", group.as_raw_nonzero(), job_file.display()));
        }
    }

    pub(super) fn remove(&self, group: Pid) {
        lock(&self.alive).retain(|(known, _)| *known != group);
        if let Some(guard) = &mut *lock(&self.guard) {
            guard.say(&format!("-{}", group.as_raw_nonzero()));
        }
    }

    /// The group works for the node from now on, or for none.
    pub(super) fn assign(&self, group: Pid, node: Option<usize>) {
        if let Some((_, place)) = lock(&self.alive).iter_mut().find(|(known, _)| *known == group) {
            *place = node;
        }
    }

    /// Sends a signal to the group that works for the node, if there is one.
    pub(super) fn signal(&self, node: usize, signal: Signal) {
        for (group, _) in lock(&self.alive).iter().filter(|(_, worker)| *worker == Some(node)) {
            let _ = kill_process_group(*group, signal);
        }
    }

    pub(super) fn kill_all(&self) {
        for (group, _) in lock(&self.alive).iter() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }

    /// Starts the guard, if it does not run yet.
    pub(super) fn start_guard(&self, program: &Path) -> anyhow::Result<()> {
        let mut guard = lock(&self.guard);
        if guard.is_none() {
            *guard = Some(Guard::start(program)?);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Guard {
    child: Child,
    /// Dropped before the child is waited for: that is its end.
    list: Option<ChildStdin>,
}

impl Guard {
    fn start(program: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg("guard")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C in the terminal is not for it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting `{} guard`", program.display()))?;
        let list = child.stdin.take();
        Ok(Self { child, list })
    }

    fn say(&mut self, line: &str) {
        if let Some(list) = &mut self.list {
            let _ = list.write_all(format!("{line}\n").as_bytes());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.list = None;
        let _ = self.child.wait();
    }
}

/// The guard's work: reads `+GROUP JOB` and `-GROUP`, one a line; at the end kills the groups that are left, and what left
/// them.
pub fn guard(list: impl BufRead) {
    let mut groups: Vec<(Pid, String)> = Vec::new();
    for line in list.lines().map_while(Result::ok) {
        let Some((sign, rest)) = line.split_at_checked(1) else { continue };
        let (number, job) = rest.split_once(' ').unwrap_or((rest, ""));
        // 0 and 1 would be this process's own group, and everybody.
        let Some(group) = number.parse().ok().filter(|number| *number > 1).and_then(Pid::from_raw) else { continue };
        groups.retain(|(known, _)| *known != group);
        if sign == "+" {
            groups.push((group, job.to_string()));
        }
    }
    for (group, _) in &groups {
        let _ = kill_process_group(*group, Signal::KILL);
    }
    super::strays::end(&groups.into_iter().map(|(_, job)| job).filter(|job| !job.is_empty()).collect::<Vec<_>>());
}

/// A poisoned lock only says that a thread panicked; what it guards here is whole at every moment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_ends_what_is_left_on_its_list() {
        let mut sleepers: Vec<Child> =
            (0..2).map(|_| Command::new("sleep").arg("60").process_group(0).spawn().unwrap()).collect();
        let [left, ended] = [sleepers[0].id(), sleepers[1].id()];
        guard(format!("+{left}\n+{ended}\nnoise\n+0\n-{ended}\n").as_bytes());
        assert!(!sleepers[0].wait().unwrap().success());
        assert_eq!(sleepers[1].try_wait().unwrap(), None, "it was taken off the list");
        sleepers[1].kill().unwrap();
        sleepers[1].wait().unwrap();
    }
}
