//! `titer why` and `titer show`: one instance in depth.

use super::Exit;
use super::args::Wanted;
use super::observations::{self, Observation};
use super::out::{self, BOLD, CALM, styled};
use super::project::{Failure, Project};
use super::tail::last_lines;
use crate::key::{Change, KeyDocument};
use crate::plan::rows::{self, Explained};
use crate::plan::{Nearest, Plan, Reason, Resolver, Status, nearest};
use crate::record::Record;
use serde_json::json;
use std::path::Path;

pub(super) fn why(project: &Project, selector: &str, as_json: bool) -> Result<Exit, Failure> {
    let picked = project.select(selector)?;
    let wanted = Wanted { target: vec![selector.to_string()], force: Vec::new() };
    let resolver = project.resolver();
    let (plan, _) = project.plan(&resolver, &wanted)?;
    let mut answers = Vec::new();
    for (node, status) in plan.entries.iter().filter(|(node, _)| picked.contains(node)) {
        let id = &project.pipeline.instances[*node].id;
        let changes = match status {
            Status::Runs(Reason::Changed(changes)) => explain(project, &resolver, &plan, *node, changes)?,
            _ => Vec::new(),
        };
        let (word, mut reasons) = reasons(project, status, &changes);
        let nearest = like(project, &resolver, &plan, *node, status)?;
        if let Some(nearest) = &nearest {
            reasons = describe_nearest(nearest, reasons, status);
        }
        if as_json {
            let mut answer = status_json(project, status, &changes);
            answer["nearest"] = json!(nearest);
            answer["instance"] = id.to_string().into();
            answer["reasons"] = reasons.into();
            answers.push(answer);
            continue;
        }
        out::say(format!("{}  {word}", styled(BOLD, id)));
        for reason in reasons {
            out::say(format!("  {reason}"));
        }
    }
    if as_json {
        out::json(&json!(answers));
    }
    Ok(Exit::Done)
}

/// What an instance is like that has never run: the promise is to say what is new, not only that it is.
fn like(
    project: &Project,
    resolver: &Resolver<'_>,
    plan: &Plan,
    node: usize,
    status: &Status,
) -> Result<Option<Nearest>, Failure> {
    let last = project.store.last_run(&project.pipeline.name).map_err(anyhow::Error::from)?;
    let has_run = || last.contains_key(&project.pipeline.instances[node].id.to_string());
    match status {
        Status::Runs(Reason::New) => {}
        Status::Waits { .. } if !has_run() => {}
        _ => return Ok(None),
    }
    Ok(nearest(resolver, node, &last, &plan.made()))
}

fn describe_nearest(nearest: &Nearest, reasons: Vec<String>, status: &Status) -> Vec<String> {
    let mut lines = vec![format!("new: {nearest}")];
    lines.extend(nearest.changes.iter().map(ToString::to_string));
    if matches!(status, Status::Waits { .. }) {
        // What it waits for comes first: that is the answer.
        return reasons.into_iter().chain(lines).collect();
    }
    lines
}

/// What the changes mean in rows.
fn explain(
    project: &Project,
    resolver: &Resolver<'_>,
    plan: &Plan,
    node: usize,
    changes: &[Change],
) -> Result<Vec<Explained>, Failure> {
    let last = project.store.last_run(&project.pipeline.name).map_err(anyhow::Error::from)?;
    let key = last.get(&project.pipeline.instances[node].id.to_string());
    let before = key.map(|key| project.store.get(key)).transpose().map_err(anyhow::Error::from)?.flatten();
    match before {
        Some(before) => {
            rows::explain(resolver, node, &plan.made(), &before, changes).map_err(|problems| project.failure(problems))
        }
        None => Ok(Vec::new()),
    }
}

fn reasons(project: &Project, status: &Status, changes: &[Explained]) -> (&'static str, Vec<String>) {
    match status {
        Status::Cached(record) => ("cached", vec![record.run.origin()]),
        Status::Runs(Reason::Changed(_)) if !changes.is_empty() => {
            ("will run", changes.iter().map(ToString::to_string).collect())
        }
        Status::Remote(record) => ("cached (shared)", vec![format!("{}; a run fetches it", record.run.origin())]),
        Status::Runs(Reason::Changed(changes)) => ("will run", changes.iter().map(ToString::to_string).collect()),
        Status::Runs(reason) => ("will run", vec![reason.to_string()]),
        Status::Waits { on, cached_unless_changed } => {
            let names = on.iter().map(|node| project.pipeline.instances[*node].id.to_string()).collect();
            (if *cached_unless_changed { "cached, unless these change:" } else { "waits for" }, names)
        }
    }
}

/// The same in types, for programs.
fn status_json(project: &Project, status: &Status, changes: &[Explained]) -> serde_json::Value {
    match status {
        Status::Cached(record) => {
            let run = &record.run;
            json!({ "status": "cached", "made_by": run.instance, "at": run.started, "imported": run.imported })
        }
        Status::Remote(record) => {
            let run = &record.run;
            json!({ "status": "shared", "made_by": run.instance, "at": run.started, "imported": run.imported })
        }
        Status::Runs(reason) => {
            json!({ "status": "runs", "reason": reason.kind(), "changes": changes })
        }
        Status::Waits { on, cached_unless_changed } => {
            let names: Vec<String> = on.iter().map(|node| project.pipeline.instances[*node].id.to_string()).collect();
            json!({ "status": "waits", "on": names, "cached_unless_changed": cached_unless_changed })
        }
    }
}

pub(super) fn show(project: &Project, selector: &str, as_json: bool) -> Result<Exit, Failure> {
    let last = project.store.last_run(&project.pipeline.name).map_err(anyhow::Error::from)?;
    let times = project.store.times(&project.pipeline.name).map_err(anyhow::Error::from)?;
    let mut answers = Vec::new();
    for node in project.select(selector)? {
        let id = project.pipeline.instances[node].id.to_string();
        let Some(key) = last.get(&id) else {
            if as_json {
                answers.push(json!({ "instance": id, "record": null }));
            } else {
                out::say(format!("{}  has not run yet", styled(BOLD, &id)));
            }
            continue;
        };
        let record = project.store.get(key).map_err(anyhow::Error::from)?;
        let document = project.store.document(key).map_err(anyhow::Error::from)?;
        let observed = Observation::of(&project.store, key)?;
        let (log, again) = (project.store.log_path(key), project.store.again_log_path(key));
        if as_json {
            let log = std::fs::read(&log).unwrap_or_default();
            answers.push(json!({
                "instance": id, "key": key.to_string(), "document": document, "record": record,
                "observations": observed, "log": String::from_utf8_lossy(&log),
            }));
        } else {
            let absent = match times.instances.get(&id) {
                Some(past) if past.key == *key => "its result was freed from the cache",
                _ => "it did not finish",
            };
            describe(&id, &key.to_string(), record.as_ref().zip(document.as_ref()), absent);
            if !observed.is_empty() {
                out::say(format!("observed again {}", observations::words(&observed)));
                observed.iter().for_each(|one| out::say(format!("  {}", one.describe())));
            }
            show_log("log", &log)?;
            show_log("log of the last time that it was done again", &again)?;
        }
    }
    if as_json {
        out::json(&json!(answers));
    }
    Ok(Exit::Done)
}

/// The end of a log, if it says something.
fn show_log(name: &str, path: &Path) -> anyhow::Result<()> {
    /// Lines that are shown.
    const LINES: usize = 5;
    let lines = last_lines(path, LINES)?;
    if !lines.is_empty() {
        out::say(format!("{name}: {}", out::relative_to_here(path).display()));
        lines.iter().for_each(|line| out::say(format!("  {line}")));
    }
    Ok(())
}

fn describe(id: &str, key: &str, made: Option<(&Record, &KeyDocument)>, absent: &str) {
    out::say(styled(BOLD, id));
    out::say(format!("key: {key}"));
    let Some((record, document)) = made else {
        out::say(absent);
        return;
    };
    let run = &record.run;
    out::say(match &run.imported {
        Some(_) => format!("{} on {}, titer {}", run.origin(), run.machine.host, run.program),
        None => format!(
            "{} in {} on {} ({}, threads: {}), titer {}",
            run.origin(),
            out::duration(run.wall_seconds),
            run.machine.host,
            run.device,
            run.threads,
            run.program
        ),
    });
    for warning in &run.warnings {
        out::say(format!("warning: {warning}"));
    }
    out::say("recipe:");
    let recipe = serde_json::to_string_pretty(&document.recipe).unwrap_or_default();
    recipe.lines().for_each(|line| out::say(format!("  {line}")));
    out::say("inputs:");
    for input in &document.inputs {
        let labels: Vec<String> = input.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        out::say(format!("  {} {} {}", input.digest, input.role, styled(CALM, labels.join(","))));
    }
    out::say("outputs:");
    for file in record.outputs.iter().flat_map(|output| &output.files) {
        out::say(format!("  {} {} {}", file.digest, file.path, styled(CALM, format!("{} bytes", file.size))));
    }
}
