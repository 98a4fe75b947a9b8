//! Worker processes on this machine.
//!
//! Heavy kinds get a fresh process each: a crash or an out-of-memory kill ends one stage, not the run. Light kinds share
//! workers that live as long as the run. Each worker is the leader of its own process group, so that all of it can be
//! ended, and asks the kernel to be killed when its parent dies.

use super::{Event, Job, write_job};
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

/// What comes back from a job.
#[derive(Debug)]
pub struct Report {
    /// The number that the job was started under.
    pub node: usize,
    /// What the worker said. `Done` or `Failed` is the last; a worker that died counts as failed.
    pub event: Event,
}

/// Starts jobs in worker processes.
#[derive(Debug)]
pub struct Local {
    program: PathBuf,
    reports: Sender<Report>,
    idle: Arc<Mutex<Vec<Worker>>>,
    /// Process groups of the workers that may be alive.
    alive: Arc<Mutex<Vec<Pid>>>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Local {
    /// `program` is the titer binary; reports of all jobs go to `reports`.
    pub fn new(program: PathBuf, reports: Sender<Report>) -> Self {
        Self { program, reports, idle: Arc::default(), alive: Arc::default() }
    }

    /// Starts a job on `threads` threads, in the folder `work` (which holds the job file and the log of a crash).
    /// Workers are always started from the calling thread: the kernel kills them when the *thread* that made them dies.
    ///
    /// # Errors
    /// If the job file cannot be written or no process can be started.
    pub fn start(&self, node: usize, job: &Job, work: &Path, threads: usize) -> anyhow::Result<()> {
        let path = work.join("job.json");
        write_job(job, &path)?;
        let heavy = job.recipe.kind().is_heavy();
        let reused = if heavy { None } else { self.idle_for(&path) };
        let mut worker = match reused {
            Some(worker) => worker,
            None => {
                let mut worker = self.spawn(work, threads)?;
                worker.give(&path).context("speaking to a worker")?;
                worker
            }
        };
        let reports = self.reports.clone();
        let idle = (!heavy).then(|| Arc::clone(&self.idle));
        let alive = Arc::clone(&self.alive);
        std::thread::spawn(move || {
            let healthy = worker.listen(node, &reports);
            match idle {
                Some(idle) if healthy => lock(&idle).push(worker),
                _ => worker.end(&alive),
            }
        });
        Ok(())
    }

    /// An idle worker that has taken the job. One that died meanwhile is no reason to fail.
    fn idle_for(&self, job: &Path) -> Option<Worker> {
        loop {
            // The lock is held for the taking only.
            let taken = lock(&self.idle).pop();
            let mut worker = taken?;
            if worker.give(job).is_ok() {
                return Some(worker);
            }
            worker.end(&self.alive);
        }
    }

    fn spawn(&self, work: &Path, threads: usize) -> anyhow::Result<Worker> {
        // The log of a shared worker outlives the work folder of its first job.
        let log = work.with_extension("worker.log");
        let stderr = std::fs::File::create(&log).with_context(|| format!("creating `{}`", log.display()))?;
        let mut child = Command::new(&self.program)
            .arg("worker")
            .env("RAYON_NUM_THREADS", threads.to_string())
            // candle's own pool only adds up gradients here, and its threads spin: on a busy machine they halve the speed.
            .env("CANDLE_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting a worker (`{} worker`)", self.program.display()))?;
        lock(&self.alive).extend(Pid::from_raw(child.id().cast_signed()));
        let stdin = child.stdin.take().context("a worker has no standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("a worker has no standard output")?);
        Ok(Worker { child, stdin, stdout, log })
    }

    /// Kills every worker, busy or not.
    pub fn kill(&self) {
        for group in lock(&self.alive).iter() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.kill();
        for mut worker in lock(&self.idle).drain(..) {
            let _ = worker.child.wait();
            let _ = std::fs::remove_file(&worker.log);
        }
    }
}

impl Worker {
    fn give(&mut self, job: &Path) -> std::io::Result<()> {
        writeln!(self.stdin, "{}", job.display())
    }

    /// Passes events on until the job ends. Returns whether the worker can take another job.
    fn listen(&mut self, node: usize, reports: &Sender<Report>) -> bool {
        let mut line = Vec::new();
        loop {
            line.clear();
            match self.stdout.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => {
                    let event = Event::Failed(self.cause_of_death());
                    let _ = reports.send(Report { node, event });
                    return false;
                }
                Ok(_) => {
                    // What is no event (a library that prints) is kept as a line of the log.
                    let event = serde_json::from_slice(&line)
                        .unwrap_or_else(|_| Event::Log(String::from_utf8_lossy(&line).trim_end().to_string()));
                    let last = matches!(event, Event::Done | Event::Failed(_));
                    if reports.send(Report { node, event }).is_err() || last {
                        return last;
                    }
                }
            }
        }
    }

    fn cause_of_death(&mut self) -> String {
        let how = match self.child.wait() {
            Ok(status) => match status.signal() {
                Some(9) => "was killed (signal 9): out of memory, or somebody killed it".to_string(),
                Some(signal) => format!("died of signal {signal}"),
                None => format!("ended without an answer ({status})"),
            },
            Err(error) => format!("was lost: {error}"),
        };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n");
        let tail = if tail.is_empty() { String::new() } else { format!("\n{tail}") };
        format!("the worker process {how}{tail}")
    }

    fn end(self, alive: &Mutex<Vec<Pid>>) {
        let Worker { mut child, stdin, stdout, log } = self;
        let id = Pid::from_raw(child.id().cast_signed());
        drop((stdin, stdout));
        let _ = child.wait();
        lock(alive).retain(|pid| Some(*pid) != id);
        let _ = std::fs::remove_file(log);
    }
}

/// A poisoned lock only says that a thread panicked; what it guards here is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
