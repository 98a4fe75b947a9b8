//! A job that another program does: see [`crate::stage::command`] for the contract.

use super::group::lock;
use super::{Event, Job, Local, Placement, Report, write_job};
use crate::stage::{Cause, CommandRecipe, command};
use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, PipeReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes of a line; what is longer is cut into lines.
const LONGEST_LINE: u64 = 64 * 1024;
/// Lines of the log that a failure's message shows.
const TAIL: usize = 10;
/// How long what the command said is waited for when it has ended: a process that left its group may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A command that ran for less has hardly left a process behind that hides: it is not looked for.
const SHORT: Duration = Duration::from_secs(1);

/// Names of secrets in titer's own environment, and their values.
pub type Secrets = BTreeMap<String, String>;

/// Starts the command in the name of `run`, with a folder `work` for what belongs to the job only. What it says and how it
/// ends goes to the run's reports.
pub(super) fn start(
    run: &Local,
    node: usize,
    job: &Job,
    recipe: &CommandRecipe,
    work: &Path,
    placement: &Placement,
) -> anyhow::Result<()> {
    let Local { secrets, groups, reports, .. } = run;
    let job_file = work.join("job.json");
    write_job(job, &job_file)?;
    let scratch = work.join("scratch");
    std::fs::create_dir(&scratch).with_context(|| format!("creating `{}`", scratch.display()))?;
    let arguments = recipe.arguments(&job.inputs, &job.output)?;
    let (words, sink) = std::io::pipe().context("making a pipe")?;
    let mut command = Command::new(command::program(&arguments[0], &job.root)?);
    command.args(&arguments[1..]).current_dir(&job.root).process_group(0);
    command.stdin(Stdio::null()).stdout(sink.try_clone().context("making a pipe")?).stderr(sink);
    // A secret is for those who ask for it.
    secrets.keys().for_each(|name| {
        command.env_remove(name);
    });
    command.env("TITER_JOB", &job_file).env("TITER_OUTPUT", &job.output).env("TITER_INSTANCE", &job.instance);
    command.env("TITER_SCRATCH", &scratch);
    placement.set(&mut command);
    command.envs(&recipe.env);
    for (variable, name) in &job.hints.secrets {
        let value = secrets.get(name).with_context(|| format!("the environment variable `{name}` is not set"))?;
        command.env(variable, value);
    }
    let child = command.spawn().with_context(|| format!("cannot start `{}`", recipe.command[0]))?;
    // Its ends of the pipe must not be held open here.
    drop(command);
    let group = Pid::from_child(&child);
    groups.add_guarded(group);
    groups.assign(group, Some(node));

    let masked: Vec<(String, String)> = secrets.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let listener = Listener { node, reports: reports.clone(), masked, tail: Arc::default() };
    let (groups, output, begun) = (Arc::clone(groups), job.output.clone(), Instant::now());
    std::thread::spawn(move || {
        let Listener { node, reports, masked, tail } = listener.clone();
        let (finished, ended) = channel();
        std::thread::spawn(move || {
            listener.listen(words);
            let _ = finished.send(());
        });
        let status = wait(child, group);
        groups.remove(group);
        let is_silent = ended.recv_timeout(LAST_WORDS / 10).is_ok();
        if !is_silent || begun.elapsed() > SHORT {
            end_strays(&job_file);
        }
        if !is_silent {
            let _ = ended.recv_timeout(LAST_WORDS);
        }
        let event = match status {
            Ok(status) if status.success() => match leaked(&output, &masked) {
                Ok(None) => Event::Done,
                Ok(Some(message)) => Event::Failed { cause: Cause::Error, message },
                Err(error) => Event::Failed { cause: Cause::Error, message: format!("{error:#}") },
            },
            Ok(status) => failure(status, &lock(&tail)),
            Err(error) => Event::Failed { cause: Cause::Crash, message: format!("the command was lost: {error}") },
        };
        let _ = reports.send(Report { node, event });
    });
    Ok(())
}

/// Waits for the end of the command, and ends what it left running in its group. The group is ended before the
/// command's number is free to be given to another process.
fn wait(mut child: Child, group: Pid) -> std::io::Result<ExitStatus> {
    while let Err(error) = waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
        if error != rustix::io::Errno::INTR {
            break;
        }
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait()
}

/// Ends processes that have left the group of their job (a daemon does): they still have its name in their environment.
fn end_strays(job_file: &Path) {
    let name = format!("TITER_JOB={}\0", job_file.display());
    let finder = memchr::memmem::Finder::new(&name);
    // Only Linux has this folder.
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| Pid::from_raw(pid.parse().ok()?)) else { continue };
        if std::fs::read(entry.path().join("environ")).is_ok_and(|environment| finder.find(&environment).is_some()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Text that does nothing to the terminal on which it is shown.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn failure(status: ExitStatus, tail: &VecDeque<String>) -> Event {
    let log = tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    let cause = Cause::of(status.code(), status.signal(), &log);
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the command ended with exit code {code}"),
        (None, Some(9)) => "the command was killed (signal 9): out of memory, or somebody killed it".to_string(),
        (None, Some(signal)) => format!("the command died of signal {signal}"),
        (None, None) => format!("the command ended: {status}"),
    };
    let message = if log.is_empty() { how } else { format!("{how}\n{log}") };
    Event::Failed { cause, message }
}

#[derive(Clone, Debug)]
struct Listener {
    node: usize,
    reports: Sender<Report>,
    /// Names and values of secrets.
    masked: Vec<(String, String)>,
    /// The last lines.
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Listener {
    fn listen(&self, words: PipeReader) {
        let mut words = BufReader::new(words);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut words).take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => self.hear(&line),
            }
        }
    }

    fn hear(&self, line: &[u8]) {
        let mut text = String::from_utf8_lossy(line).trim_end().to_string();
        for (name, value) in self.masked.iter().filter(|(_, value)| !value.is_empty()) {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), &format!("<{name}>"));
            }
        }
        let is_event = text.starts_with("{\"progress\"") || text.starts_with("{\"warn\"");
        let event = is_event.then(|| serde_json::from_str(&text).ok()).flatten();
        let event = event.filter(|event| matches!(event, Event::Progress(_) | Event::Warn(_)));
        if event.is_none() {
            let mut tail = lock(&self.tail);
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(harmless(&text));
        }
        let _ = self.reports.send(Report { node: self.node, event: event.unwrap_or(Event::Log(text)) });
    }
}

/// Looks for secrets in what a command wrote: they would be kept for ever. Returns what to say if there is one.
fn leaked(output: &Path, secrets: &[(String, String)]) -> anyhow::Result<Option<String>> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let mut folders = vec![output.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading `{}`", folder.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file()
                && let Some(name) = holds(&entry.path(), secrets)?
            {
                let file = entry.path();
                let file = file.strip_prefix(output).unwrap_or(&file).display();
                return Ok(Some(format!("`{file}` holds the secret `{name}`: it is not kept; do not write it there")));
            }
        }
    }
    Ok(None)
}

/// The name of a secret whose value is in the file.
fn holds<'a>(path: &Path, secrets: &'a [(String, String)]) -> anyhow::Result<Option<&'a str>> {
    let finders: Vec<_> = secrets
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, memchr::memmem::Finder::new(value)))
        .collect();
    let longest = finders.iter().map(|(_, finder)| finder.needle().len()).max().unwrap_or(0);
    let mut file = std::fs::File::open(path).with_context(|| format!("reading `{}`", path.display()))?;
    let (mut window, mut chunk) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(None);
        }
        window.extend_from_slice(&chunk[..read]);
        if let Some((name, _)) = finders.iter().find(|(_, finder)| finder.find(&window).is_some()) {
            return Ok(Some(name));
        }
        // One that lies across two chunks.
        window.drain(..window.len().saturating_sub(longest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_across_the_border_of_two_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let mut text = vec![b'x'; (1 << 20) - 3];
        text.extend_from_slice(b"hunter2 and more");
        std::fs::create_dir(folder.path().join("model")).unwrap();
        std::fs::write(folder.path().join("model/notes.txt"), &text).unwrap();
        let secrets = |value: &str| vec![("PASSWORD".to_string(), value.to_string())];
        let message = leaked(folder.path(), &secrets("hunter2")).unwrap().unwrap();
        assert!(message.contains("`model/notes.txt` holds the secret `PASSWORD`") && !message.contains("hunter2"));
        assert_eq!(leaked(folder.path(), &secrets("hunter3")).unwrap(), None);
        assert_eq!(leaked(folder.path(), &secrets("")).unwrap(), None);
    }

    #[test]
    fn lines_are_masked_and_only_some_are_events() {
        let (reports, heard) = channel();
        let masked = vec![("KEY".to_string(), "abc".to_string())];
        let listener = Listener { node: 3, reports, masked, tail: Arc::default() };
        listener.hear(b"using abc\n");
        listener.hear(b"{\"progress\":{\"done\":1,\"total\":2,\"unit\":\"rows\",\"note\":\"\"}}\n");
        listener.hear(b"{\"warn\":\"abc is old\"}\n");
        listener.hear(b"\"done\"\n");
        listener.hear(b"\xff\xfe\n");
        let events: Vec<Event> = heard.try_iter().map(|report| report.event).collect();
        assert_eq!(events[0], Event::Log("using <KEY>".into()));
        assert!(matches!(&events[1], Event::Progress(progress) if progress.done == 1));
        assert_eq!(events[2], Event::Warn("<KEY> is old".into()));
        assert_eq!(events[3], Event::Log("\"done\"".into()), "a command cannot end its job by a word");
        assert!(matches!(&events[4], Event::Log(noise) if noise.contains('\u{fffd}')));
    }
}
