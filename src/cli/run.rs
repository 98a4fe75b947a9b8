//! `titer run`.

use super::args::{Locked, Machine, Wanted};
use super::diary::Diary;
use super::hub::{self, Hub};
use super::progress::{JsonLines, Progress};
use super::project::{Failure, Project};
use super::snapshot::Question;
use super::{Exit, lock, machine, out, owner};
use crate::plan::Status;
use crate::run::{Observer, Options, Purpose, Recorder, Summary};
use crate::schedule::Counts;
use anyhow::Context as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// A run with nothing to do, if that can be seen without reading the manifest.
pub(super) fn recall(question: &Question) -> Option<Exit> {
    let started = Instant::now();
    let run = question.recall(started)?;
    let counts = Counts { wanted: run.counts.wanted, cached: run.counts.cached, ..Counts::default() };
    let summary = Summary { counts, seconds: run.seconds, ..Summary::default() };
    report(&summary, None, &question.out(&run.pipeline), false);
    Some(Exit::Done)
}

/// In what way a run goes about it.
#[derive(Debug)]
pub(super) struct Manner {
    pub(super) keep_going: bool,
    pub(super) locked: Option<Locked>,
    /// What a run with nothing to do is remembered under.
    pub(super) question: Option<Question>,
}

pub(super) fn run(
    project: &Project,
    wanted: &Wanted,
    manner: &Manner,
    machine: &Machine,
    hub: &Hub,
    json: bool,
) -> Result<Exit, Failure> {
    let resolver = project.resolver();
    let (nodes, _) = project.wanted(wanted)?;
    // Without its digest there is no key.
    hub::bring(project, &resolver, nodes, hub, json, |found| !found.is_known)?;
    let (mut plan, forced) = project.plan(&resolver, wanted)?;
    if crate::run::rely_on(&project.pipeline, &project.store, &plan, &forced).map_err(anyhow::Error::from)? {
        (plan, _) = project.plan(&resolver, wanted)?;
    }
    while crate::run::quarantine_damaged(&project.pipeline, &project.store, &plan).map_err(anyhow::Error::from)? {
        (plan, _) = project.plan(&resolver, wanted)?;
    }
    owner::claim(project)?;
    let open = plan.entries.iter().filter(|(_, status)| !status.is_made()).map(|(node, _)| *node);
    if hub::bring(project, &resolver, open, hub, json, |found| !found.is_here)? {
        (plan, _) = project.plan(&resolver, wanted)?;
    }
    machine::check_made(project, &plan)?;
    let locked = manner.locked.map(|locked| lock::hold(project, &resolver, &plan, locked)).transpose()?;
    let meant = |is_meant: fn(&Status) -> bool| -> BTreeSet<usize> {
        plan.entries.iter().filter(|(_, status)| is_meant(status)).map(|(node, _)| *node).collect()
    };
    let open = meant(|status| !matches!(status, Status::Cached(_)));
    let needs_work = meant(|status| !status.is_made());
    let will_run = open.len();
    if will_run > 0 && !project.store.writable() {
        let cache = project.store.root().display();
        let results = out::count(will_run, "result");
        return Err(anyhow::anyhow!("the cache `{cache}` is read-only: {results} could not be kept").into());
    }
    let interrupted = match will_run {
        0 => Arc::default(),
        _ => super::watch_for_interruption()?,
    };
    let options = Options { keep_going: manner.keep_going, forced, locked, ..options(project, &needs_work, machine)? };
    let diary = Diary::begin(project, wanted, &plan);
    let nodes: Vec<usize> = plan.entries.iter().map(|(node, _)| *node).collect();
    let mut progress;
    let mut lines;
    let observer: &mut dyn Observer = if json {
        lines = JsonLines::new(&project.pipeline);
        &mut lines
    } else {
        progress = Progress::new(&project.pipeline, open);
        &mut progress
    };
    let out = options.out.clone();
    let mut recorder = Recorder::new(observer);
    let nothing_to_do = plan.is_empty();
    let finished =
        crate::run::run(&resolver, &project.pipeline, &project.store, plan, &options, &mut recorder, &interrupted);
    let summary = finished.summary;
    if finished.is_complete() && manner.locked.is_none() && project.overrides.asked().is_as_written() {
        lock::keep(project, &resolver, &nodes, &finished.known);
    }
    let kept = diary.end(project, recorder, &nodes, &finished);
    if let (Some(question), Some(run), true) = (&manner.question, &kept, nothing_to_do) {
        question.remember(project, &resolver, &finished.known, run);
    }
    let name = kept.map(|run| run.id);
    project.tell_warnings();
    report(&summary, name.as_deref(), &out, json);
    Ok(match summary {
        Summary { interrupted: true, .. } => Exit::Interrupted,
        Summary { counts, .. } if counts.failed > 0 => Exit::StageFailed,
        _ => Exit::Done,
    })
}

/// How the `open` instances are run on this machine; refused if they could not be.
pub(super) fn options(project: &Project, open: &BTreeSet<usize>, machine: &Machine) -> Result<Options, Failure> {
    let limits = machine::limits(&project.pipeline.limits, machine);
    machine::check(project, open, &limits)?;
    Ok(Options {
        program: std::env::current_exe().context("finding the titer program")?,
        limits,
        root: project.root.clone(),
        secrets: machine::secrets(project, open)?,
        keep_going: false,
        forced: BTreeSet::new(),
        out: project.root.join("out").join(&project.pipeline.name),
        purpose: Purpose::Make,
        locked: None,
    })
}

fn report(summary: &Summary, name: Option<&str>, results: &std::path::Path, json: bool) {
    let counts = summary.ends();
    let unfinished = counts.unfinished;
    if json {
        out::json_line(&serde_json::json!({
            "event": "summary", "wanted": counts.wanted, "cached": counts.cached, "ran": counts.ran, "fetched": counts.fetched,
            "sent": summary.sent, "unsent": summary.unsent,
            "shared": counts.shared, "failed": counts.failed, "blocked": counts.blocked, "unfinished": unfinished,
            "interrupted": summary.interrupted, "hidden": summary.hidden, "seconds": summary.seconds, "run": name,
        }));
        return;
    }
    let mut parts = vec![format!("{} ran", counts.ran), format!("{} cached", counts.cached)];
    for (number, word) in [
        (counts.fetched, "fetched"),
        (summary.sent, "sent to the shared cache"),
        (counts.shared, "shared"),
        (counts.failed, "failed"),
        (counts.blocked, "blocked"),
        (unfinished, "not started or stopped"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let bad = counts.failed > 0 || summary.interrupted;
    let word = match summary.interrupted {
        true => "interrupted; what was done is in the cache, run again to go on",
        false => counts.outcome(),
    };
    let style = if bad { out::BAD } else { out::GOOD };
    let head = out::styled(style, format!("{word}:"));
    out::say(format!("{head} {} in {}", parts.join(", "), out::duration(summary.seconds)));
    if summary.unsent > 0 {
        let results = out::count(summary.unsent, "result");
        let hint = "they are in this cache, and `titer push` sends them";
        out::complain(format!(
            "{} {results} did not reach the shared cache; {hint}",
            out::styled(out::BOLD, "warning:")
        ));
    }
    if !bad {
        out::say(format!("results: {}", results.display()));
    } else if summary.hidden > 0 {
        let number = out::count(summary.hidden, "result");
        let results = results.display();
        out::say(format!(
            "no longer shown in `{results}`, being of an older state: {number}; in the cache all is kept"
        ));
    }
}
