//! A job that another program does: see [`crate::stage::command`] for the contract.

use super::group::lock;
use super::strays;
use super::{Event, Job, Local, Placement, Report, shortened, write_job};
use crate::secrets::Mask;
use crate::stage::{Cause, CommandRecipe, Progress, command};
use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes of a line; what is longer is cut into lines.
const LONGEST_LINE: u64 = 64 * 1024;
/// Lines of the log that a failure's message shows.
const TAIL: usize = 10;
/// Characters of such a line that it shows.
const LONGEST_SHOWN: usize = 1000;
/// How long what the command said is waited for when it has ended: a process that left its group may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A command that ran for less has hardly left a process behind that hides: it is not looked for.
const SHORT: Duration = Duration::from_secs(1);

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
    command.env(strays::JOB, &job_file).env("TITER_OUTPUT", &job.output).env("TITER_INSTANCE", &job.instance);
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
    groups.add_guarded(group, &job_file);
    groups.assign(group, Some(node));

    let listener = Listener { node, reports: reports.clone(), mask: Mask::new(secrets), tail: Arc::default() };
    let (groups, output, begun) = (Arc::clone(groups), job.output.clone(), Instant::now());
    std::thread::spawn(move || {
        let Listener { node, reports, mask, tail } = listener.clone();
        let (finished, ended) = channel();
        std::thread::spawn(move || {
            listener.listen(words);
            let _ = finished.send(());
        });
        let status = wait(child, group);
        groups.remove(group);
        let is_silent = ended.recv_timeout(LAST_WORDS / 10).is_ok();
        if !is_silent || begun.elapsed() > SHORT {
            strays::end(&[job_file.display().to_string()]);
        }
        if !is_silent {
            let _ = ended.recv_timeout(LAST_WORDS);
        }
        let event = match status {
            Ok(status) if status.success() => match mask.find_in(&output) {
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
    reports: SyncSender<Report>,
    mask: Mask,
    /// The last lines.
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Listener {
    fn listen(&self, words: impl Read) {
        let mut words = BufReader::new(words);
        // The end of a line that was cut: a secret may begin there.
        let mut line: Vec<u8> = Vec::new();
        loop {
            let read = (&mut words).take(LONGEST_LINE).read_until(b'\n', &mut line);
            let is_end = !matches!(read, Ok(1..));
            if is_end && line.is_empty() {
                return;
            }
            let mut text = self.mask.hide(String::from_utf8_lossy(&line).into_owned());
            line.clear();
            if !is_end && !text.ends_with('\n') {
                let place = text.floor_char_boundary(text.len().saturating_sub(self.mask.longest()));
                line.extend_from_slice(&text.as_bytes()[place..]);
                text.truncate(place);
            }
            self.hear(text.trim_end());
        }
    }

    /// `line` holds no secret, but what it says as JSON may.
    fn hear(&self, line: &str) {
        let is_event = line.starts_with("{\"progress\"") || line.starts_with("{\"warn\"");
        let event = match is_event.then(|| serde_json::from_str(line).ok()).flatten() {
            Some(Event::Warn(message)) => Event::Warn(self.mask.hide(message)),
            Some(Event::Progress(progress)) => Event::Progress(Progress {
                unit: self.mask.hide(progress.unit),
                note: self.mask.hide(progress.note),
                ..progress
            }),
            _ => {
                let mut tail = lock(&self.tail);
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(harmless(&shortened(line, LONGEST_SHOWN)));
                Event::Log(line.to_string())
            }
        };
        let _ = self.reports.send(Report { node: self.node, event });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn heard(value: &str, said: &[u8]) -> Vec<Event> {
        let (reports, heard) = sync_channel(100);
        let mask = Mask::new(&[("KEY".to_string(), value.to_string())].into());
        Listener { node: 3, reports, mask, tail: Arc::default() }.listen(said);
        heard.try_iter().map(|report| report.event).collect()
    }

    #[test]
    fn lines_are_masked_and_only_some_are_events() {
        let events = heard(
            "abc",
            b"using abc\n{\"progress\":{\"done\":1,\"total\":2,\"unit\":\"rows\",\"note\":\"\\u0061bc\"}}\n\
              {\"warn\":\"\\u0061bc is old\"}\n\"done\"\n\xff\xfe\n",
        );
        assert_eq!(events[0], Event::Log("using <KEY>".into()));
        assert!(matches!(&events[1], Event::Progress(progress) if progress.done == 1 && progress.note == "<KEY>"));
        assert_eq!(events[2], Event::Warn("<KEY> is old".into()));
        assert_eq!(events[3], Event::Log("\"done\"".into()), "a command cannot end its job by a word");
        assert!(matches!(&events[4], Event::Log(noise) if noise.contains('\u{fffd}')));
    }

    #[test]
    fn a_secret_is_masked_where_a_long_line_is_cut() {
        let limit = usize::try_from(LONGEST_LINE).unwrap();
        for before in limit - 8..=limit {
            let said = format!("{}s3cr3tTOKEN and more", "y".repeat(before));
            let lines: Vec<String> = heard("s3cr3tTOKEN", said.as_bytes())
                .into_iter()
                .map(|event| if let Event::Log(line) = event { line } else { String::new() })
                .collect();
            assert_eq!(lines.concat(), format!("{}<KEY> and more", "y".repeat(before)));
        }
    }
}
