//! `titer check`, `titer plan` and `titer status`: the whole pipeline at a glance.

use super::Exit;
use super::args::Wanted;
use super::out::{self, BOLD, CALM, GOOD, styled};
use super::project::{Failure, Project};
use crate::plan::{History, Plan, Status};
use serde_json::json;
use std::collections::BTreeMap;

/// Instances listed one by one per stage; the rest is counted.
const LISTED: usize = 12;

pub(super) fn check(project: &Project, as_json: bool) -> Result<Exit, Failure> {
    project.check()?;
    let stages = &project.pipeline.stages;
    if as_json {
        let list: Vec<_> = stages
            .iter()
            .map(|stage| json!({ "stage": format!("{}.{}", stage.kind, stage.name), "axes": stage.axes, "instances": stage.instances }))
            .collect();
        out::json(&json!({ "pipeline": project.pipeline.name, "stages": list }));
        return Ok(Exit::Done);
    }
    let width = stages.iter().map(|stage| stage.kind.name().len() + stage.name.len() + 1).max().unwrap_or(0);
    for stage in stages {
        let name = format!("{}.{}", stage.kind, stage.name);
        let over = match stage.axes.is_empty() {
            true => String::new(),
            false => styled(CALM, format!("  over {}", stage.axes.join(", "))),
        };
        out::say(format!("{name:width$}  {:>5}{over}", stage.instances));
    }
    let total: usize = stages.iter().map(|stage| stage.instances).sum();
    out::say(format!("{}: {} stages, {total} instances", styled(GOOD, "all good"), stages.len()));
    Ok(Exit::Done)
}

pub(super) fn plan(project: &Project, wanted: &Wanted, only_check: bool, as_json: bool) -> Result<Exit, Failure> {
    let (plan, _) = project.plan(&project.resolver(), wanted)?;
    let exit = if only_check && plan.runs() { Exit::WouldRun } else { Exit::Done };
    if as_json {
        out::json(&plan_json(project, &plan));
        return Ok(exit);
    }
    for (stage, entries) in by_stage(project, &plan) {
        let tally = Tally::of(&entries);
        if tally.cached == entries.len() {
            out::say(format!("{}  {}", styled(BOLD, &stage), styled(GOOD, format!("{} cached", tally.cached))));
            continue;
        }
        out::say(format!("{}  {tally}", styled(BOLD, &stage)));
        let open: Vec<_> = entries.iter().filter(|(_, status)| !matches!(status, Status::Cached(_))).collect();
        for (node, status) in open.iter().take(LISTED) {
            out::say(format!("  {}  {}", project.pipeline.instances[*node].id, describe(project, status)));
        }
        if open.len() > LISTED {
            out::say(styled(CALM, format!("  and {} more", open.len() - LISTED)));
        }
    }
    let entries: Vec<(usize, &Status)> = plan.entries.iter().map(|(node, status)| (*node, status)).collect();
    let tally = Tally::of(&entries);
    if plan.is_empty() {
        out::say(format!("{}: {tally}", styled(GOOD, "nothing to do")));
    } else if !plan.runs() {
        out::say(format!("{}: {tally}", styled(GOOD, "nothing to run")));
    } else {
        out::say(format!("in all: {tally}; {}", expected(project, &plan)));
    }
    Ok(exit)
}

pub(super) fn status(project: &Project, as_json: bool) -> Result<Exit, Failure> {
    let everything = Wanted { target: Vec::new(), force: Vec::new() };
    let (plan, _) = project.plan(&project.resolver(), &everything)?;
    if as_json {
        out::json(&plan_json(project, &plan));
        return Ok(Exit::Done);
    }
    let stages = by_stage(project, &plan);
    let width = stages.iter().map(|(stage, _)| stage.len()).max().unwrap_or(0);
    for (stage, entries) in stages {
        let tally = Tally::of(&entries);
        let seconds: f64 = entries
            .iter()
            .map(|(_, status)| match status {
                Status::Cached(record) => record.run.wall_seconds,
                _ => 0.0,
            })
            .sum();
        let took = match tally.cached {
            0 => String::new(),
            _ => styled(CALM, format!("  made in {}", out::duration(seconds))),
        };
        out::say(format!("{stage:width$}  {tally}{took}"));
    }
    Ok(Exit::Done)
}

/// How long what would run took before, all stages one after the other.
fn expected(project: &Project, plan: &Plan) -> String {
    let history = History::read(&project.store, &project.pipeline.name);
    let open = plan.entries.iter().filter(|(_, status)| !status.is_made());
    let times: Vec<Option<f64>> = open.map(|(node, _)| history.expect(&project.pipeline.instances[*node].id)).collect();
    let unknown = times.iter().filter(|time| time.is_none()).count();
    let total = out::duration(times.iter().flatten().sum());
    match unknown {
        0 => format!("about {total} of work, as it was before"),
        _ if unknown == times.len() => "nothing like it has run before, so how long it takes is not known".to_string(),
        _ => format!("about {total} of work, as it was before, and {unknown} instances like none before"),
    }
}

/// Entries of a plan by stage, in the order of the pipeline.
fn by_stage<'p>(project: &Project, plan: &'p Plan) -> Vec<(String, Vec<(usize, &'p Status)>)> {
    let mut groups: Vec<(String, Vec<(usize, &Status)>)> = Vec::new();
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    for (node, status) in &plan.entries {
        let id = &project.pipeline.instances[*node].id;
        let stage = format!("{}.{}", id.kind, id.name);
        let at = *place.entry(stage.clone()).or_insert_with(|| {
            groups.push((stage, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push((*node, status));
    }
    groups
}

struct Tally {
    cached: usize,
    remote: usize,
    runs: usize,
    waits: usize,
}

impl Tally {
    fn of(entries: &[(usize, &Status)]) -> Self {
        let count = |is: fn(&Status) -> bool| entries.iter().filter(|(_, status)| is(status)).count();
        Self {
            cached: count(|status| matches!(status, Status::Cached(_))),
            remote: count(|status| matches!(status, Status::Remote(_))),
            runs: count(|status| matches!(status, Status::Runs(_))),
            waits: count(|status| matches!(status, Status::Waits { .. })),
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words =
            [(self.cached, "cached"), (self.remote, "cached (shared)"), (self.runs, "will run"), (self.waits, "wait")];
        let parts: Vec<String> =
            words.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
        f.write_str(&parts.join(", "))
    }
}

fn describe(project: &Project, status: &Status) -> String {
    match status {
        Status::Cached(_) => "cached".to_string(),
        Status::Remote(_) => "cached (shared)".to_string(),
        Status::Runs(reason) => format!("will run: {reason}"),
        Status::Waits { on, cached_unless_changed } => {
            let first = on.first().map(|node| project.pipeline.instances[*node].id.to_string()).unwrap_or_default();
            let more = match on.len() {
                0 | 1 => String::new(),
                number => format!(" and {} more", number - 1),
            };
            match cached_unless_changed {
                true => format!("cached unless {first}{more} changes"),
                false => format!("waits for {first}{more}"),
            }
        }
    }
}

fn plan_json(project: &Project, plan: &Plan) -> serde_json::Value {
    let name = |node: &usize| project.pipeline.instances[*node].id.to_string();
    let history = History::read(&project.store, &project.pipeline.name);
    let entries: Vec<_> = plan
        .entries
        .iter()
        .map(|(node, status)| {
            let mut entry = json!({ "instance": name(node), "key": plan.keys.get(node).map(ToString::to_string) });
            if !status.is_made() {
                entry["expected_seconds"] = history.expect(&project.pipeline.instances[*node].id).into();
            }
            match status {
                Status::Cached(record) => {
                    entry["status"] = "cached".into();
                    entry["seconds"] = record.run.wall_seconds.into();
                }
                Status::Remote(record) => {
                    entry["status"] = "shared".into();
                    entry["seconds"] = record.run.wall_seconds.into();
                }
                Status::Runs(reason) => {
                    entry["status"] = "runs".into();
                    entry["reason"] = reason.to_string().into();
                }
                Status::Waits { on, cached_unless_changed } => {
                    entry["status"] = "waits".into();
                    entry["on"] = on.iter().map(name).collect();
                    entry["cached_unless_changed"] = (*cached_unless_changed).into();
                }
            }
            entry
        })
        .collect();
    json!({ "pipeline": project.pipeline.name, "instances": entries })
}
