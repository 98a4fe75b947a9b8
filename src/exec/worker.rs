//! The worker's side: `titer worker` reads paths of job files, one a line, does one after the other, and writes events.

use super::{Event, Job, MAX_COST, REQUESTS_PER_SECOND, TILL, shortened};
use crate::secrets::Mask;
use crate::stage::{Cause, Events, Kept, Means, Progress};
use anyhow::Context as _;
use std::cell::RefCell;
use std::io::{BufRead, Write};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Characters of a failure's message: a line of events has a limit.
const LONGEST_MESSAGE: usize = 50_000;

/// Looks a variable of the process's environment up.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Serves until `jobs` ends. `environment` has the values of the secrets that jobs ask for.
///
/// # Errors
/// Only if the parent cannot be spoken to any more; a job's failure is an event.
pub fn serve(jobs: impl BufRead, events: impl Write, environment: Environment<'_>) -> anyhow::Result<()> {
    let out = Lines { out: RefCell::new(events), mask: RefCell::default(), ending: Arc::default() };
    let kept = Kept::default();
    for path in jobs.lines() {
        let path = path.context("reading the next job")?;
        out.send(&match run(&path, &out, environment, &kept) {
            Ok(()) => Event::Done,
            Err(error) => {
                let message = shortened(&format!("{error:#}"), LONGEST_MESSAGE);
                // A card without memory is no end of the process, as it is for the machine's own.
                Event::Failed { cause: Cause::of(Some(1), None, &message), message }
            }
        })?;
    }
    Ok(())
}

fn run<W: Write>(path: &str, out: &Lines<W>, environment: Environment<'_>, kept: &Kept) -> anyhow::Result<()> {
    let text = std::fs::read(path).with_context(|| format!("reading the job file `{path}`"))?;
    let job: Job = serde_json::from_slice(&text).with_context(|| format!("reading the job file `{path}`"))?;
    let requests_per_second = environment(REQUESTS_PER_SECOND).and_then(|rate| rate.parse().ok());
    let most = environment(MAX_COST).and_then(|most| most.parse().ok());
    let max_cost = most.zip(environment(TILL).map(PathBuf::from));
    let mut means = Means { max_cost, requests_per_second, kept: kept.under(job.shares), ..Means::default() };
    for (variable, name) in &job.hints.secrets {
        let value = environment(variable);
        means.secrets.insert(name.clone(), value.with_context(|| format!("the secret `{name}` has not come"))?);
    }
    out.mask.replace(Mask::of_keys(&means.secrets));
    if job.recipe.goes_on() {
        // A second job of such a kind would find the handler in its place.
        let ending = Arc::clone(&out.ending);
        let _ = ctrlc::set_handler(move || ending.store(true, Ordering::SeqCst));
    }
    // A panic is a bug of titer, not of the person, and must not take other jobs of this worker with it.
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| job.execute(&means, out))).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        anyhow::bail!("a bug in titer: {message}")
    });
    done.and_then(|()| match out.mask.borrow().find_in(&job.output)? {
        Some(message) => anyhow::bail!(message),
        None => Ok(()),
    })
}

struct Lines<W: Write> {
    out: RefCell<W>,
    /// The secrets of the job.
    mask: RefCell<Mask>,
    /// Set when the work is asked to end.
    ending: Arc<AtomicBool>,
}

impl<W: Write> std::fmt::Debug for Lines<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lines")
    }
}

impl<W: Write> Lines<W> {
    fn send(&self, event: &Event) -> anyhow::Result<()> {
        let line = self.mask.borrow().hide(serde_json::to_string(event)?) + "\n";
        let mut out = self.out.borrow_mut();
        out.write_all(line.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// A parent that has gone away is noticed when the job ends; until then the work goes on.
    fn say(&self, event: &Event) {
        let _ = self.send(event);
    }
}

impl<W: Write> Events for Lines<W> {
    fn progress(&self, progress: Progress) {
        self.say(&Event::Progress(progress));
    }

    fn warn(&self, message: String) {
        self.say(&Event::Warn(message));
    }

    fn log(&self, message: String) {
        self.say(&Event::Log(message));
    }

    fn computes_on(&self, device: &str) {
        self.say(&Event::Device(device.to_string()));
    }

    fn is_asked_to_end(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_job_file_is_an_event_and_the_worker_lives_on() {
        let mut out = Vec::new();
        serve(&b"/nowhere/a.json\n/nowhere/b.json\n"[..], &mut out, &|_| None).unwrap();
        let events: Vec<Event> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 2);
        assert!(
            matches!(&events[1], Event::Failed { message, .. } if message.contains("/nowhere/b.json")),
            "{events:?}"
        );
    }
}
