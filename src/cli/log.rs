//! `titer log`: what instances said while they ran, or say while they run in another process.

use super::Exit;
use super::args::Wanted;
use super::out::{self, BOLD, CALM, styled};
use super::project::{Failure, Project};
use super::tail::Reader;
use crate::key::Digest;
use crate::plan::Status;
use crate::store::{Intended, Store, Watch, Worker};
use serde::ser::{SerializeSeq as _, Serializer};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

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
    /// Somebody is making again what the cache has.
    RunsAgain,
    /// Somebody is about to make again what the cache has.
    QueuedAgain,
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
            Self::RunsAgain => "runs again",
            Self::QueuedAgain => "queued again",
            Self::Done => "done",
            Self::Unfinished => "unfinished",
        }
    }

    fn is_again(&self) -> bool {
        matches!(self, Self::RunsAgain | Self::QueuedAgain)
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
    reader: Reader,
}

pub(super) fn log(project: &Project, selector: &str, options: Options, as_json: bool) -> Result<Exit, Failure> {
    let new = |node: usize| Tail {
        node,
        id: project.pipeline.instances[node].id.to_string(),
        key: None,
        state: None,
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
    let others = Others::of(project, &mut BTreeMap::new())?;
    let mut answers = Vec::new();
    for tail in tails {
        let state = tail.look(&project.store, &waits, &others)?;
        let own = tail.log_path(&project.store, &state).filter(|path| path.exists());
        let is_before = matches!(state, State::Waits(_) | State::Queued);
        let before = || last.get(&tail.id).filter(|_| is_before).map(|key| project.store.log_path(key));
        let shown = own.or_else(before).filter(|path| path.exists());
        let is_before = is_before && shown.is_some();
        if voice.as_json {
            let key = tail.key.map(|key| key.to_string());
            answers.push(Answer { instance: tail.id.clone(), key, state: state.word(), is_before, log: shown });
            continue;
        }
        if is_before {
            voice.note(&tail.id, &format!("{}; this is the log of the run before", describe(&state)));
        } else if state.is_again() || (shown.is_none() && state != State::Done) {
            voice.note(&tail.id, &describe(&state));
        }
        let lines = shown.as_deref().map_or(Ok(0), |path| voice.all(&tail.id, path, options.lines))?;
        if lines == 0 && (shown.is_some() || state == State::Done) {
            voice.note(&tail.id, "it said nothing");
        }
        let again = tail.key.map(|key| project.store.again_log_path(&key)).filter(|path| path.exists());
        if let Some(again) = again.filter(|_| state == State::Done) {
            let again = out::relative_to_here(&again);
            voice.note(&tail.id, &format!("was done again since; what it said then: {}", again.display()));
        }
    }
    if voice.as_json {
        return say_answers(&answers, options.lines);
    }
    Ok(())
}

/// What is said of an instance as JSON.
struct Answer {
    instance: String,
    key: Option<String>,
    state: &'static str,
    is_before: bool,
    log: Option<PathBuf>,
}

/// One document, whose lines are written as they are read.
fn say_answers(answers: &[Answer], count: Option<usize>) -> anyhow::Result<()> {
    #[derive(serde::Serialize)]
    struct Said<'a> {
        instance: &'a str,
        key: &'a Option<String>,
        state: &'static str,
        of_the_run_before: bool,
        log: Lines<'a>,
    }
    let said = answers.iter().map(|Answer { instance, key, state, is_before, log }| Said {
        instance,
        key,
        state,
        of_the_run_before: *is_before,
        log: Lines(log.as_deref(), count),
    });
    Ok(out::try_json(&said.collect::<Vec<_>>())?)
}

/// The lines of a log as a list.
struct Lines<'a>(Option<&'a Path>, Option<usize>);

impl serde::Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let Self(Some(path), count) = self else { return list.end() };
        // That of the writer, which tells whether the reader has gone away.
        let mut failed = None;
        let read = each(path, *count, &mut |line| {
            list.serialize_element(line).map_err(|error| {
                failed = Some(error);
                io::ErrorKind::Other.into()
            })
        });
        match (failed, read) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(serde::ser::Error::custom(format!("{error:#}"))),
            (None, Ok(())) => list.end(),
        }
    }
}

/// Says each line of a log, or of its end.
fn each(path: &Path, count: Option<usize>, say: &mut dyn FnMut(&str) -> io::Result<()>) -> anyhow::Result<()> {
    let mut reader = Reader::default();
    count.map_or(Ok(()), |count| reader.skip_to_last(path, count))?;
    reader.more(path, say)?;
    Ok(reader.rest().map_or(Ok(()), |rest| say(&rest))?)
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
    let (begun, mut watches) = (SystemTime::now(), BTreeMap::new());
    loop {
        let others = Others::of(project, &mut watches)?;
        for tail in tails.iter_mut().filter(|tail| !tail.state.as_ref().is_some_and(State::is_ended)) {
            let state = tail.look(&project.store, &waits, &others)?;
            // What it said at the end is in the log that it had.
            let was_again = match tail.state {
                Some(State::RunsAgain) => true,
                // Perhaps quickly, between two looks.
                Some(State::QueuedAgain) => tail.ran_again_since(&project.store, begun),
                _ => false,
            };
            let heard = if was_again { &State::RunsAgain } else { &state };
            let has_begun = !matches!(state, State::Queued | State::QueuedAgain);
            if let Some(path) = tail.log_path(&project.store, heard).filter(|_| has_begun) {
                let is_followed = matches!(tail.state, Some(State::Runs | State::Queued)) || was_again;
                if let Some(lines) = options.lines.filter(|_| !is_followed) {
                    tail.reader.skip_to_last(&path, lines)?;
                }
                tail.reader.more(&path, &mut |line| voice.line(&tail.id, line))?;
                if state.is_ended() {
                    tail.reader.rest().iter().try_for_each(|line| voice.line(&tail.id, line))?;
                }
            }
            if tail.state.as_ref() != Some(&state) {
                voice.state(&tail.id, &state, was_again)?;
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

/// What processes do at this moment, and what they are about to do.
struct Others {
    workers: BTreeMap<Digest, Worker>,
    /// The keys that they count on.
    keys: BTreeSet<Digest>,
    /// The instances of this pipeline that they will make again.
    again: BTreeSet<String>,
}

impl Others {
    fn of(project: &Project, watches: &mut BTreeMap<String, Watch>) -> anyhow::Result<Self> {
        // In this order: an end is written down before the claim goes.
        let workers = project.store.at_work()?;
        let Intended { keys, again } = project.store.intended(watches)?;
        let own = again.into_iter().filter(|(pipeline, _)| *pipeline == project.pipeline.name);
        Ok(Self { workers, keys, again: own.map(|(_, name)| name).collect() })
    }
}

impl Tail {
    fn look(&mut self, store: &Store, waits: &BTreeMap<usize, String>, others: &Others) -> anyhow::Result<State> {
        let Some(key) = &self.key else {
            return Ok(State::Waits(waits.get(&self.node).cloned().unwrap_or_default()));
        };
        let worker = others.workers.get(key);
        if worker.is_some_and(|worker| !worker.again) {
            return Ok(State::Runs);
        }
        let is_made = store.get(key)?.is_some_and(|record| store.complete(&record));
        Ok(match (worker, is_made) {
            (Some(_), true) => State::RunsAgain,
            (Some(_), false) => State::Runs,
            (None, true) if others.again.contains(&self.id) => State::QueuedAgain,
            (None, true) => State::Done,
            // One that failed before is tried again by a process that counts on it.
            (None, false) if store.log_path(key).exists() && !others.keys.contains(key) => State::Unfinished,
            (None, false) => State::Queued,
        })
    }

    fn ran_again_since(&self, store: &Store, begun: SystemTime) -> bool {
        let log = self.key.as_ref().map(|key| store.again_log_path(key));
        let written = log.and_then(|log| std::fs::metadata(log).ok()?.modified().ok());
        written.is_some_and(|written| written >= begun)
    }

    /// The log that it has in this state.
    fn log_path(&self, store: &Store, state: &State) -> Option<PathBuf> {
        let key = self.key.as_ref()?;
        Some(if *state == State::RunsAgain { store.again_log_path(key) } else { store.log_path(key) })
    }
}

fn describe(state: &State) -> String {
    match state {
        State::Waits(on) if on.is_empty() => "its inputs are not there".to_string(),
        State::Waits(on) => format!("waits for {on}"),
        State::Queued => "has not begun".to_string(),
        State::Runs => "runs".to_string(),
        State::QueuedAgain => "is to run again, though the cache has its result".to_string(),
        State::RunsAgain => "runs again, though the cache has its result".to_string(),
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
        out::try_say(self.text(id, line))
    }

    fn text(&self, id: &str, line: &str) -> String {
        match self.width {
            _ if self.as_json => json!({ "instance": id, "line": line }).to_string(),
            Some(width) => format!("{} {line}", styled(CALM, format!("{id:width$} |"))),
            None => line.to_string(),
        }
    }

    /// All lines of a log, or its last; returns how many there were.
    fn all(&self, id: &str, path: &Path, count: Option<usize>) -> anyhow::Result<usize> {
        let (mut number, mut page) = (0, out::Page::default());
        each(path, count, &mut |line| {
            number += 1;
            page.say(self.text(id, line))
        })?;
        page.end()?;
        Ok(number)
    }

    fn state(&self, id: &str, state: &State, was_again: bool) -> io::Result<()> {
        if self.as_json {
            return out::try_say(json!({ "instance": id, "state": state.word() }).to_string());
        }
        match state {
            State::Done if was_again => self.note(id, "has ended; the first result stays"),
            state => self.note(id, &describe(state)),
        }
        Ok(())
    }

    /// Beside the log, not in it.
    fn note(&self, id: &str, text: &str) {
        out::complain(format!("{} {text}", styled(BOLD, id)));
    }
}
