//! Processes on this machine: workers, and programs that do a stage's work by a `command`.
//!
//! Heavy kinds get a fresh process each: a crash or an out-of-memory kill ends one stage, not the run. One that holds what
//! other jobs begin with, too (a base under many adapters), is kept for the next of them, until another heavy job needs the
//! room. Light kinds share workers that live as long as the run. Each worker is the leader of its own process group, so that
//! all of it can be ended, and asks the kernel to be killed when its parent dies.

use super::command;
use super::group::{Groups, lock};
use super::{Event, Job, Placement, write_job};
use crate::key::Digest;
use crate::secrets::Secrets;
use crate::stage::{Cause, Recipe};
use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use std::io::{BufRead, BufReader, Read as _, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

/// Bytes of a worker's line; what is longer is no event.
const LONGEST_EVENT: u64 = 1 << 20;

/// What comes back from a job.
#[derive(Debug)]
pub struct Report {
    /// The number that the job was started under.
    pub node: usize,
    /// What the worker said. `Done` or `Failed` is the last; a worker that died counts as failed.
    pub event: Event,
}

/// Starts jobs in processes.
#[derive(Debug)]
pub struct Local {
    program: PathBuf,
    pub(super) reports: SyncSender<Report>,
    pub(super) secrets: Arc<Secrets>,
    idle: Arc<Mutex<Vec<Worker>>>,
    /// Those that hold something, with its key and what they may use of the machine.
    kept: Arc<Mutex<Vec<(Digest, Placement, Worker)>>>,
    pub(super) groups: Arc<Groups>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

/// Memory that a step gave back is wanted again by the next one: glibc's allocator keeps it, in large pages, where it would
/// get every large block anew from the system, cleared, which is a fifth of a training. (`man 3 mallopt`, glibc manual
/// 'Memory Allocation Tunables'.) Other C libraries pass over it.
const KEEP_MEMORY: &str = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:\
                           glibc.malloc.top_pad=67108864:glibc.malloc.hugetlb=1";

impl Local {
    /// `program` is the titer binary; reports of all jobs go to `reports`. `secrets` are for the jobs that ask for
    /// them.
    pub fn new(program: PathBuf, secrets: Secrets, reports: SyncSender<Report>) -> Self {
        let (secrets, idle, kept, groups) = (Arc::new(secrets), Arc::default(), Arc::default(), Arc::default());
        Self { program, reports, secrets, idle, kept, groups }
    }

    /// Starts a job in the folder `work` (which holds the job file and the log of a crash).
    /// Workers are always started from the calling thread: the kernel kills them when the *thread* that made them dies.
    ///
    /// # Errors
    /// If the job file cannot be written or no process can be started.
    pub fn start(&self, node: usize, job: &Job, work: &Path, placement: &Placement) -> anyhow::Result<()> {
        if let Recipe::Command(recipe) = &job.recipe {
            self.give_up_kept(None);
            self.groups.start_guard(&self.program)?;
            return command::start(self, node, job, recipe, work, placement);
        }
        let starts_program = job.recipe.starts_program();
        if starts_program {
            self.groups.start_guard(&self.program)?;
        }
        let path = work.join("job.json");
        write_job(job, &path)?;
        let heavy = job.recipe.is_heavy();
        let reused = match (heavy, job.shares) {
            (false, _) => self.idle_for(&path),
            (true, Some(key)) => self.kept_for(&path, key, placement),
            (true, None) => None,
        };
        if heavy {
            self.give_up_kept(job.shares);
        }
        let mut worker = match reused {
            Some(worker) => worker,
            None => {
                let mut worker = self.spawn(job, work, placement)?;
                worker.give(&path).context("speaking to a worker")?;
                worker
            }
        };
        let reports = self.reports.clone();
        let (idle, kept) = (Arc::clone(&self.idle), Arc::clone(&self.kept));
        let shared = job.shares.map(|key| (key, placement.clone()));
        let groups = Arc::clone(&self.groups);
        groups.assign(worker.group(), Some(node));
        if starts_program {
            groups.guard(worker.group(), &path);
        }
        std::thread::spawn(move || {
            let last = worker.listen(node, &reports);
            groups.assign(worker.group(), None);
            match (&last, shared) {
                (Some(_), _) if !heavy => lock(&idle).push(worker),
                (Some(Event::Done), Some((key, placement))) => lock(&kept).push((key, placement, worker)),
                _ => worker.end(&groups),
            }
            // Only now, so that the next job finds the worker.
            if let Some(event) = last {
                let _ = reports.send(Report { node, event });
            }
        });
        Ok(())
    }

    /// An idle worker that has taken the job.
    fn idle_for(&self, job: &Path) -> Option<Worker> {
        self.taken(job, || lock(&self.idle).pop())
    }

    /// A worker that holds what the job begins with, and has taken it.
    fn kept_for(&self, job: &Path, key: Digest, placement: &Placement) -> Option<Worker> {
        self.taken(job, || {
            let mut kept = lock(&self.kept);
            let place = kept.iter().position(|(known, of, _)| (known, of) == (&key, placement))?;
            Some(kept.swap_remove(place).2)
        })
    }

    /// The first of the workers found that takes the job. One that died meanwhile is no reason to fail.
    fn taken(&self, job: &Path, find: impl Fn() -> Option<Worker>) -> Option<Worker> {
        loop {
            let mut worker = find()?;
            if worker.give(job).is_ok() {
                return Some(worker);
            }
            worker.end(&self.groups);
        }
    }

    /// Ends the workers that hold something else: their memory is needed.
    fn give_up_kept(&self, key: Option<Digest>) {
        let mut kept = lock(&self.kept);
        let others: Vec<_> = kept.extract_if(.., |(known, ..)| Some(*known) != key).collect();
        drop(kept);
        others.into_iter().for_each(|(.., worker)| worker.end(&self.groups));
    }

    /// A process for the job, and, unless it is heavy, for others after it.
    fn spawn(&self, job: &Job, work: &Path, placement: &Placement) -> anyhow::Result<Worker> {
        // The log of a shared worker outlives the work folder of its first job.
        let log = work.with_extension("worker.log");
        let stderr = std::fs::File::create(&log).with_context(|| format!("creating `{}`", log.display()))?;
        let mut command = Command::new(&self.program);
        placement.set(&mut command);
        self.secrets.keys().for_each(|name| {
            command.env_remove(name);
        });
        // Only a heavy job may ask for one: no other gets its worker.
        for (variable, name) in &job.hints.secrets {
            let value = self.secrets.get(name);
            command.env(variable, value.with_context(|| format!("the environment variable `{name}` is not set"))?);
        }
        let mut child = command
            .arg("worker")
            .env("RAYON_NUM_THREADS", placement.threads.to_string())
            // candle's own pool only adds up gradients here, and its threads spin: on a busy machine they halve the speed.
            .env("CANDLE_NUM_THREADS", "1")
            .env("GLIBC_TUNABLES", KEEP_MEMORY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting a worker (`{} worker`)", self.program.display()))?;
        self.groups.add(Pid::from_child(&child));
        let stdin = child.stdin.take().context("a worker has no standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("a worker has no standard output")?);
        Ok(Worker { child, stdin, stdout, log })
    }

    /// Asks a job to end, so that it can write down what it has.
    pub fn ask_to_end(&self, node: usize) {
        self.groups.signal(node, Signal::TERM);
    }

    /// Ends a job. Its report comes all the same.
    pub fn end(&self, node: usize) {
        self.groups.signal(node, Signal::KILL);
    }

    /// Ends every process, busy or not.
    pub fn kill(&self) {
        self.groups.kill_all();
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.kill();
        let kept = lock(&self.kept).drain(..).map(|(.., worker)| worker).collect::<Vec<_>>();
        for mut worker in lock(&self.idle).drain(..).chain(kept) {
            let _ = worker.child.wait();
            let _ = std::fs::remove_file(&worker.log);
        }
    }
}

impl Worker {
    fn give(&mut self, job: &Path) -> std::io::Result<()> {
        writeln!(self.stdin, "{}", job.display())
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Passes events on until the job ends, and returns the last, which says how. `None`: the worker died, which has been
    /// reported.
    fn listen(&mut self, node: usize, reports: &SyncSender<Report>) -> Option<Event> {
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut self.stdout).take(LONGEST_EVENT).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => {
                    let event = self.cause_of_death();
                    let _ = reports.send(Report { node, event });
                    return None;
                }
                Ok(_) => {
                    // What is no event (a library that prints) is kept as a line of the log.
                    let event = serde_json::from_slice(&line)
                        .unwrap_or_else(|_| Event::Log(String::from_utf8_lossy(&line).trim_end().to_string()));
                    if matches!(event, Event::Done | Event::Failed { .. }) {
                        return Some(event);
                    }
                    let _ = reports.send(Report { node, event });
                }
            }
        }
    }

    fn cause_of_death(&mut self) -> Event {
        let status = self.child.wait();
        let (code, signal) = status.as_ref().map_or((None, None), |status| (status.code(), status.signal()));
        let how = match status {
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
        let cause = if signal.is_none() && code.is_none() { Cause::Crash } else { Cause::of(code, signal, &tail) };
        Event::Failed { cause, message: format!("the worker process {how}{tail}") }
    }

    fn end(self, groups: &Groups) {
        let group = self.group();
        let Worker { mut child, stdin, stdout, log } = self;
        drop((stdin, stdout));
        let _ = child.wait();
        groups.remove(group);
        let _ = std::fs::remove_file(log);
    }
}
