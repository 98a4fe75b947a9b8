//! `titer why` and `titer show`: one instance in depth.

use super::Exit;
use super::args::Wanted;
use super::out::{self, BOLD, CALM, styled};
use super::project::{Failure, Project};
use crate::key::KeyDocument;
use crate::plan::{Reason, Status};
use crate::record::Record;
use serde_json::json;

pub(super) fn why(project: &Project, selector: &str, as_json: bool) -> Result<Exit, Failure> {
    let picked = project.select(selector)?;
    let wanted = Wanted { target: vec![selector.to_string()], force: Vec::new() };
    let (plan, _) = project.plan(&project.resolver(), &wanted)?;
    let mut answers = Vec::new();
    for (node, status) in plan.entries.iter().filter(|(node, _)| picked.contains(node)) {
        let id = &project.pipeline.instances[*node].id;
        let (word, reasons) = reasons(project, status);
        if as_json {
            answers.push(json!({ "instance": id.to_string(), "status": word, "reasons": reasons }));
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

fn reasons(project: &Project, status: &Status) -> (&'static str, Vec<String>) {
    match status {
        Status::Cached(record) => {
            let made = format!("made by `{}` at {}", record.run.instance, record.run.started);
            ("cached", vec![made])
        }
        Status::Remote(record) => {
            let made = format!("made by `{}` at {}; a run fetches it", record.run.instance, record.run.started);
            ("cached (shared)", vec![made])
        }
        Status::Runs(Reason::Changed(changes)) => ("will run", changes.iter().map(ToString::to_string).collect()),
        Status::Runs(reason) => ("will run", vec![reason.to_string()]),
        Status::Waits { on, cached_unless_changed } => {
            let names = on.iter().map(|node| project.pipeline.instances[*node].id.to_string()).collect();
            (if *cached_unless_changed { "cached, unless these change:" } else { "waits for" }, names)
        }
    }
}

pub(super) fn show(project: &Project, selector: &str, only_log: bool, as_json: bool) -> Result<Exit, Failure> {
    let last = project.store.last_run(&project.pipeline.name).map_err(anyhow::Error::from)?;
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
        let log_path = project.store.log_path(key);
        let log = std::fs::read_to_string(&log_path).unwrap_or_default();
        if as_json {
            answers.push(
                json!({ "instance": id, "key": key.to_string(), "document": document, "record": record, "log": log }),
            );
        } else if only_log {
            out::say(log.trim_end());
        } else {
            describe(&id, &key.to_string(), record.as_ref().zip(document.as_ref()));
            if !log.is_empty() {
                out::say(format!("log: {}", out::relative_to_here(&log_path).display()));
                log.lines()
                    .rev()
                    .take(5)
                    .collect::<Vec<_>>()
                    .iter()
                    .rev()
                    .for_each(|line| out::say(format!("  {line}")));
            }
        }
    }
    if as_json {
        out::json(&json!(answers));
    }
    Ok(Exit::Done)
}

fn describe(id: &str, key: &str, made: Option<(&Record, &KeyDocument)>) {
    out::say(styled(BOLD, id));
    out::say(format!("key: {key}"));
    let Some((record, document)) = made else {
        out::say("it did not finish");
        return;
    };
    let run = &record.run;
    out::say(format!(
        "made by `{}` at {} in {} on {} ({}, threads: {}), titer {}",
        run.instance,
        run.started,
        out::duration(run.wall_seconds),
        run.machine.host,
        run.device,
        run.threads,
        run.program
    ));
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
