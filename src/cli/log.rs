//! `titer log`: what instances said while they ran, or say while they run in another process.

use super::Exit;
use super::args::Wanted;
use super::out::{self, BOLD, CALM, styled};
use super::project::{Failure, Project};
use crate::key::Digest;
use crate::plan::Status;
use crate::store::{Store, Watch};
use anyhow::Context as _;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks at the logs.
const PAUSE: Duration = Duration::from_millis(200);

/// What is shown of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) follow: bool,
    /// Only so many of the last lines.
    pub(super) lines: Option<usize>,
}

/// How far an instance is.
#[derive(Clone, Debug, PartialEq)]
enum State {
    /// It reads what is not there yet: its key is not known.
    Waits(String),
    /// Its key is known; nobody has begun with it. A log that is there is that of a try before.
    Queued,
    /// Somebody is making it.
    Runs,
    /// It is in the cache.
    Done,
    /// It was begun once, and did not come to its end.
    Unfinished,
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::Waits(_) => "waits",
            Self::Queued => "queued",
            Self::Runs => "runs",
            Self::Done => "done",
            Self::Unfinished => "unfinished",
        }
    }

    fn is_ended(&self) -> bool {
        matches!(self, Self::Done | Self::Unfinished)
    }
}

/// One picked instance.
struct Tail {
    node: usize,
    id: String,
    key: Option<Digest>,
    /// What its state was when the person was told.
    state: Option<State>,
    watch: Watch,
    /// Of those who count on its key.
    watches: BTreeMap<String, Watch>,
    reader: Reader,
}

pub(super) fn log(project: &Project, selector: &str, options: Options, as_json: bool) -> Result<Exit, Failure> {
    let new = |node: usize| Tail {
        node,
        id: project.pipeline.instances[node].id.to_string(),
        key: None,
        state: None,
        watch: Watch::default(),
        watches: BTreeMap::new(),
        reader: Reader::default(),
    };
    let mut tails: Vec<Tail> = project.select(selector)?.into_iter().map(new).collect();
    let voice = Voice::new(&tails, as_json);
    let shown = match options.follow {
        true => follow(project, selector, &mut tails, options, &voice),
        false => print(project, selector, &mut tails, options, &voice),
    };
    match shown {
        // The reader has gone away.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(Exit::Done)
        }
        shown => Ok(shown.map(|()| Exit::Done)?),
    }
}

/// What was said so far. An instance that has not run as it is now shows the log of its run before.
fn print(project: &Project, selector: &str, tails: &mut [Tail], options: Options, voice: &Voice) -> anyhow::Result<()> {
    let waits = find_keys(project, selector, tails);
    let last = project.store.last_run(&project.pipeline.name)?;
    let mut answers = Vec::new();
    for tail in tails {
        let state = tail.look(&project.store, &waits)?;
        let own = tail.key.filter(|key| project.store.log_path(key).exists());
        let is_before = matches!(state, State::Waits(_) | State::Queued);
        let shown = own.or_else(|| last.get(&tail.id).copied().filter(|_| is_before));
        let lines = match &shown {
            Some(key) => tail.reader.last(&project.store.log_path(key), options.lines)?,
            None => Vec::new(),
        };
        if voice.as_json {
            answers.push(json!({
                "instance": tail.id, "key": tail.key.map(|key| key.to_string()), "state": state.word(),
                "of_the_run_before": is_before && shown.is_some(), "log": lines,
            }));
            continue;
        }
        let note = match shown {
            Some(_) if is_before => Some(format!("{}; this is the log of the run before", describe(&state))),
            None if state != State::Done => Some(describe(&state)),
            _ if lines.is_empty() => Some("it said nothing".to_string()),
            _ => None,
        };
        note.iter().for_each(|note| voice.note(&tail.id, note));
        lines.iter().try_for_each(|line| voice.line(&tail.id, line))?;
    }
    if voice.as_json {
        out::json(&json!(answers));
    }
    Ok(())
}

/// What is said from now on, until all have ended.
fn follow(
    project: &Project,
    selector: &str,
    tails: &mut [Tail],
    options: Options,
    voice: &Voice,
) -> anyhow::Result<()> {
    let mut waits = find_keys(project, selector, tails);
    let mut next_plan = Instant::now() + Duration::from_secs(1);
    loop {
        for tail in tails.iter_mut().filter(|tail| !tail.state.as_ref().is_some_and(State::is_ended)) {
            let state = tail.look(&project.store, &waits)?;
            if let Some(key) = tail.key.filter(|_| state != State::Queued) {
                let path = project.store.log_path(&key);
                let lines = match &tail.state {
                    Some(State::Runs | State::Queued) => tail.reader.more(&path)?,
                    _ => tail.reader.last(&path, options.lines)?,
                };
                lines.iter().try_for_each(|line| voice.line(&tail.id, line))?;
                if state.is_ended() {
                    tail.reader.rest().iter().try_for_each(|line| voice.line(&tail.id, line))?;
                }
            }
            if tail.state.as_ref() != Some(&state) {
                voice.state(&tail.id, &state)?;
                tail.state = Some(state);
            }
        }
        if tails.iter().all(|tail| tail.state.as_ref().is_some_and(State::is_ended)) {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
        if tails.iter().any(|tail| tail.key.is_none()) && Instant::now() >= next_plan {
            let begun = Instant::now();
            waits = find_keys(project, selector, tails);
            // A large pipeline must not be planned all the time.
            next_plan = Instant::now() + Duration::from_secs(1) + 5 * begun.elapsed();
        }
    }
}

/// Finds the keys that are known by now; returns what the others wait for.
fn find_keys(project: &Project, selector: &str, tails: &mut [Tail]) -> BTreeMap<usize, String> {
    let wanted = Wanted { target: vec![selector.to_string()], force: Vec::new() };
    let mut waits = BTreeMap::new();
    // What is wrong with the inputs is not this command's to say: there may be logs all the same.
    let Ok((plan, _)) = project.plan(&project.resolver(), &wanted) else { return waits };
    for tail in tails.iter_mut() {
        tail.key = plan.keys.get(&tail.node).copied();
    }
    for (node, status) in &plan.entries {
        if let Status::Waits { on, .. } = status {
            let first = on.first().map(|node| project.pipeline.instances[*node].id.to_string()).unwrap_or_default();
            waits.insert(*node, if on.len() > 1 { format!("{first} and {} more", on.len() - 1) } else { first });
        }
    }
    waits
}

impl Tail {
    fn look(&mut self, store: &Store, waits: &BTreeMap<usize, String>) -> anyhow::Result<State> {
        let Some(key) = &self.key else {
            return Ok(State::Waits(waits.get(&self.node).cloned().unwrap_or_default()));
        };
        if store.is_claimed(key, &mut self.watch)? {
            return Ok(State::Runs);
        }
        if store.get(key)?.is_some_and(|record| store.complete(&record)) {
            return Ok(State::Done);
        }
        // One that failed before is tried again by a process that counts on it.
        let is_over = store.log_path(key).exists() && !store.is_relied_on(key, &mut self.watches)?;
        Ok(if is_over { State::Unfinished } else { State::Queued })
    }
}

fn describe(state: &State) -> String {
    match state {
        State::Waits(on) if on.is_empty() => "its inputs are not there".to_string(),
        State::Waits(on) => format!("waits for {on}"),
        State::Queued => "has not begun".to_string(),
        State::Runs => "runs".to_string(),
        State::Done => "is done".to_string(),
        State::Unfinished => "did not finish".to_string(),
    }
}

/// How lines are said: with the instance before them where there are several.
struct Voice {
    as_json: bool,
    /// Width of the names; none if there is one instance only.
    width: Option<usize>,
}

impl Voice {
    fn new(tails: &[Tail], as_json: bool) -> Self {
        let width = tails.iter().map(|tail| tail.id.chars().count()).max().filter(|_| tails.len() > 1);
        Self { as_json, width }
    }

    fn line(&self, id: &str, line: &str) -> io::Result<()> {
        match self.width {
            _ if self.as_json => out::try_say(json!({ "instance": id, "line": line }).to_string()),
            Some(width) => out::try_say(format!("{} {line}", styled(CALM, format!("{id:width$} |")))),
            None => out::try_say(line),
        }
    }

    fn state(&self, id: &str, state: &State) -> io::Result<()> {
        if self.as_json {
            return out::try_say(json!({ "instance": id, "state": state.word() }).to_string());
        }
        self.note(id, &describe(state));
        Ok(())
    }

    /// Beside the log, not in it.
    fn note(&self, id: &str, text: &str) {
        out::complain(format!("{} {text}", styled(BOLD, id)));
    }
}

/// Reads a file that grows.
#[derive(Default)]
struct Reader {
    offset: u64,
    /// The begin of a line whose end is not there yet.
    begun: Vec<u8>,
}

impl Reader {
    /// The lines that have come since the last time.
    fn more(&mut self, path: &Path) -> anyhow::Result<Vec<String>> {
        let reading = || format!("reading the log `{}`", path.display());
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(reading),
        };
        // A new run has begun the file anew.
        if file.metadata().with_context(reading)?.len() < self.offset {
            (self.offset, self.begun) = Default::default();
        }
        file.seek(SeekFrom::Start(self.offset)).with_context(reading)?;
        let count = file.read_to_end(&mut self.begun).with_context(reading)?;
        self.offset += count as u64;
        let end = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.begun.drain(..end).collect();
        Ok(String::from_utf8_lossy(&lines).lines().map(String::from).collect())
    }

    /// The line without an end.
    fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    /// All lines, or the last ones.
    fn last(&mut self, path: &Path, count: Option<usize>) -> anyhow::Result<Vec<String>> {
        let mut lines = self.more(path)?;
        let skip = lines.len().saturating_sub(count.unwrap_or(usize::MAX));
        lines.drain(..skip);
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_log_is_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut reader = Reader::default();
        assert_eq!(reader.more(&path).unwrap(), [""; 0]);
        std::fs::write(&path, "one\ntw").unwrap();
        assert_eq!(reader.more(&path).unwrap(), ["one"]);
        std::fs::write(&path, "one\ntwo\né three").unwrap();
        assert_eq!(reader.more(&path).unwrap(), ["two"]);
        assert_eq!(reader.rest().as_deref(), Some("é three"));
        // The next try begins anew.
        std::fs::write(&path, b"\xff\n2\n3\n").unwrap();
        assert_eq!(reader.last(&path, Some(2)).unwrap(), ["2", "3"]);
        assert_eq!(reader.more(&path).unwrap(), [""; 0]);
    }
}
