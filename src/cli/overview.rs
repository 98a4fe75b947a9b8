//! `titer check`, `titer plan` and `titer status`: the whole pipeline at a glance.

use super::Exit;
use super::args::Wanted;
use super::out::{self, BOLD, CALM, GOOD, styled};
use super::project::{Failure, Project};
use crate::plan::{Cost, Estimate, History, Plan, Status};
use crate::settings::Bytes;
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
            out::say(format!("{}  {}", styled(BOLD, &stage), styled(GOOD, tally)));
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
        out::say(format!("in all: {tally}; {}", expected(&estimate(project, &plan).1)));
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

/// What would run, and what like it has cost before.
fn estimate(project: &Project, plan: &Plan) -> (History, Estimate) {
    let mut history = History::read(&project.store, &project.pipeline.name);
    history.widen(&project.store);
    let estimate = Estimate::of(plan, &project.pipeline, &history);
    (history, estimate)
}

/// What the plan costs, in words.
fn expected(estimate: &Estimate) -> String {
    let Estimate { work, perhaps, instances, by_kind, unknown } = estimate;
    if *instances == 0 {
        return "nothing like it has run before, so what it costs is not known".to_string();
    }
    let mut parts = vec![format!("about {} of work{}, as it was before", out::duration(work.seconds), besides(work))];
    if perhaps.seconds > 0.0 {
        let more = out::duration(perhaps.seconds);
        parts.push(format!("and {more}{}, if what is read comes out otherwise", besides(perhaps)));
    }
    for (number, words) in [(by_kind, "judged by others of their kind"), (unknown, "like none before, and not counted")]
    {
        if *number > 0 {
            let instances = if *number == 1 { "instance" } else { "instances" };
            parts.push(format!("{number} {instances} {words}"));
        }
    }
    parts.join("; ")
}

/// Graphics cards and the disk.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size that is not negative")]
fn besides(cost: &Cost) -> String {
    let hours = cost.gpu_seconds / 3600.0;
    let gpus = match hours {
        0.0 => String::new(),
        hours if hours < 0.1 => format!(", {hours:.3} GPU-hours"),
        hours => format!(", {hours:.1} GPU-hours"),
    };
    format!("{gpus}, {} on the disk", Bytes(cost.bytes as u64))
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
    /// Of those, what was made elsewhere.
    imported: usize,
    remote: usize,
    runs: usize,
    waits: usize,
}

impl Tally {
    fn of(entries: &[(usize, &Status)]) -> Self {
        let count = |is: fn(&Status) -> bool| entries.iter().filter(|(_, status)| is(status)).count();
        Self {
            cached: count(|status| matches!(status, Status::Cached(_))),
            imported: count(|status| matches!(status, Status::Cached(record) if record.run.imported.is_some())),
            remote: count(|status| matches!(status, Status::Remote(_))),
            runs: count(|status| matches!(status, Status::Runs(_))),
            waits: count(|status| matches!(status, Status::Waits { .. })),
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cached = match self.imported {
            0 => "cached".to_string(),
            imported => format!("cached ({imported} imported)"),
        };
        let words = [
            (self.cached, cached.as_str()),
            (self.remote, "cached (shared)"),
            (self.runs, "will run"),
            (self.waits, "wait"),
        ];
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
    let (history, estimate) = if plan.is_empty() { Default::default() } else { estimate(project, plan) };
    let entries: Vec<_> = plan
        .entries
        .iter()
        .map(|(node, status)| {
            let mut entry = json!({ "instance": name(node), "key": plan.keys.get(node).map(ToString::to_string) });
            if !status.is_made() {
                let expected = history.expect(&project.pipeline.instances[*node].id);
                entry["expected_seconds"] = expected.map(|(cost, _)| cost.seconds).into();
                entry["expected"] = json!(expected.map(|(cost, _)| cost));
                entry["expected_from"] = json!(expected.map(|(_, basis)| basis));
            }
            match status {
                Status::Cached(record) => {
                    entry["status"] = "cached".into();
                    entry["seconds"] = record.run.wall_seconds.into();
                    entry["imported"] = record.run.imported.is_some().into();
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
    json!({ "pipeline": project.pipeline.name, "expected": estimate, "instances": entries })
}
