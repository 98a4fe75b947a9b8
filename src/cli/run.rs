//! `titer run`.

use super::args::{Machine, Wanted};
use super::machine;
use super::progress::{JsonLines, Progress};
use super::project::{Failure, Project};
use super::snapshot::Question;
use super::{Exit, out};
use crate::plan::Status;
use crate::run::{Observer, Options, Summary};
use crate::schedule::Counts;
use anyhow::Context as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A run with nothing to do, if that can be seen without reading the manifest.
pub(super) fn recall(question: &Question) -> Option<Exit> {
    let started = Instant::now();
    let (out, cached) = question.recall()?;
    let counts = Counts { wanted: cached, cached, ..Counts::default() };
    report(&Summary { counts, interrupted: false, hidden: 0, seconds: started.elapsed().as_secs_f64() }, &out, false);
    Some(Exit::Done)
}

pub(super) fn run(
    project: &Project,
    wanted: &Wanted,
    keep_going: bool,
    machine: &Machine,
    question: Option<&Question>,
    json: bool,
) -> Result<Exit, Failure> {
    let resolver = project.resolver();
    let (mut plan, forced) = project.plan(&resolver, wanted)?;
    if crate::run::rely_on(&project.pipeline, &project.store, &plan).map_err(anyhow::Error::from)? {
        (plan, _) = project.plan(&resolver, wanted)?;
    }
    while crate::run::quarantine_damaged(&project.pipeline, &project.store, &plan).map_err(anyhow::Error::from)? {
        (plan, _) = project.plan(&resolver, wanted)?;
    }
    let is_open = |status: &Status| !matches!(status, Status::Cached(_));
    let open: BTreeSet<usize> =
        plan.entries.iter().filter(|(_, status)| is_open(status)).map(|(node, _)| *node).collect();
    let will_run = open.len();
    if will_run > 0 && !project.store.writable() {
        let cache = project.store.root().display();
        return Err(anyhow::anyhow!("the cache `{cache}` is read-only: {will_run} results could not be kept").into());
    }
    let limits = machine::limits(&project.pipeline.limits, machine);
    machine::check(project, &open, &limits)?;
    let secrets = machine::secrets(project, &open)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    if will_run > 0 {
        let flag = Arc::clone(&interrupted);
        let handler = move || {
            // The second time it is meant at once; the kernel ends the workers with this process.
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(Exit::Interrupted as u8));
            }
        };
        ctrlc::set_handler(handler).context("watching for Ctrl-C")?;
    }
    let options = Options {
        program: std::env::current_exe().context("finding the titer program")?,
        limits,
        root: project.root.clone(),
        secrets,
        keep_going,
        forced,
        out: project.root.join("out").join(&project.pipeline.name),
    };
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
    let nothing_to_do = plan.is_empty().then(|| plan.known.clone());
    let summary = crate::run::run(&resolver, &project.pipeline, &project.store, plan, &options, observer, &interrupted);
    if let (Some(question), Some(known)) = (question, nothing_to_do) {
        question.remember(project, &resolver, &known);
    }
    project.tell_warnings();
    report(&summary, &out, json);
    Ok(match summary {
        Summary { interrupted: true, .. } => Exit::Interrupted,
        Summary { counts, .. } if counts.failed > 0 => Exit::StageFailed,
        _ => Exit::Done,
    })
}

fn report(summary: &Summary, results: &std::path::Path, json: bool) {
    let counts = summary.counts;
    let unfinished = counts.wanted - counts.cached - counts.ran - counts.shared - counts.failed - counts.blocked;
    if json {
        out::json_line(&serde_json::json!({
            "event": "summary", "wanted": counts.wanted, "cached": counts.cached, "ran": counts.ran,
            "shared": counts.shared, "failed": counts.failed, "blocked": counts.blocked, "unfinished": unfinished,
            "interrupted": summary.interrupted, "hidden": summary.hidden, "seconds": summary.seconds,
        }));
        return;
    }
    let mut parts = vec![format!("{} ran", counts.ran), format!("{} cached", counts.cached)];
    for (number, word) in [
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
        true => "interrupted; what was done is in the cache, run again to go on:",
        false if bad => "failed:",
        false if counts.ran == 0 => "nothing to do:",
        false => "done:",
    };
    let style = if bad { out::BAD } else { out::GOOD };
    out::say(format!("{} {} in {}", out::styled(style, word), parts.join(", "), out::duration(summary.seconds)));
    if !bad {
        out::say(format!("results: {}", results.display()));
    } else if summary.hidden > 0 {
        let number = summary.hidden;
        out::say(format!("{number} older results were taken out of `{}`; they stay in the cache", results.display()));
    }
}
