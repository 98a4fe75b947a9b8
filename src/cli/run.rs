//! `titer run`.

use super::args::{Machine, Wanted};
use super::machine;
use super::progress::{JsonLines, Progress};
use super::project::{Failure, Project};
use super::{Exit, out};
use crate::plan::Status;
use crate::run::{Observer, Options, Summary};
use anyhow::Context as _;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn run(
    project: &Project,
    wanted: &Wanted,
    keep_going: bool,
    machine: &Machine,
    json: bool,
) -> Result<Exit, Failure> {
    let resolver = project.resolver();
    let (mut plan, forced) = project.plan(&resolver, wanted)?;
    while crate::run::quarantine_damaged(&project.pipeline, &project.store, &plan).map_err(anyhow::Error::from)? {
        (plan, _) = project.plan(&resolver, wanted)?;
    }
    let nodes = |is_meant: fn(&Status) -> bool| -> BTreeSet<usize> {
        plan.entries.iter().filter(|(_, status)| is_meant(status)).map(|(node, _)| *node).collect()
    };
    let open = nodes(|status| !matches!(status, Status::Cached(_)));
    let needs_work = nodes(|status| !status.is_made());
    let will_run = open.len();
    if will_run > 0 && !project.store.writable() {
        let cache = project.store.root().display();
        return Err(anyhow::anyhow!("the cache `{cache}` is read-only: {will_run} results could not be kept").into());
    }
    let limits = machine::limits(&project.pipeline.limits, machine);
    machine::check(project, &needs_work, &limits)?;
    let secrets = machine::secrets(project, &needs_work)?;
    let interrupted = match will_run {
        0 => Arc::default(),
        _ => super::watch_for_interruption()?,
    };
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
    let summary = crate::run::run(&resolver, &project.pipeline, &project.store, plan, &options, observer, &interrupted);
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
    let unfinished =
        counts.wanted - counts.cached - counts.fetched - counts.ran - counts.shared - counts.failed - counts.blocked;
    if json {
        out::json_line(&serde_json::json!({
            "event": "summary", "wanted": counts.wanted, "cached": counts.cached, "ran": counts.ran, "fetched": counts.fetched,
            "sent": summary.sent, "unsent": summary.unsent,
            "shared": counts.shared, "failed": counts.failed, "blocked": counts.blocked, "unfinished": unfinished,
            "interrupted": summary.interrupted, "seconds": summary.seconds,
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
        true => "interrupted; what was done is in the cache, run again to go on:",
        false if bad => "failed:",
        false if counts.ran + counts.fetched == 0 => "nothing to do:",
        false => "done:",
    };
    let style = if bad { out::BAD } else { out::GOOD };
    out::say(format!("{} {} in {}", out::styled(style, word), parts.join(", "), out::duration(summary.seconds)));
    if summary.unsent > 0 {
        let number = summary.unsent;
        let hint = "they are in this cache, and `titer push` sends them";
        out::complain(format!(
            "{} results that did not reach the shared cache: {number}; {hint}",
            out::styled(out::BOLD, "warning:")
        ));
    }
    if !bad {
        out::say(format!("results: {}", results.display()));
    }
}
