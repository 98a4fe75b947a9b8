//! `titer check`, `titer plan` and `titer status`: the whole pipeline at a glance.

use super::Exit;
use super::args::Wanted;
use super::out::{self, BOLD, CALM, GOOD, styled};
use super::project::{Failure, Project};
use crate::key::Digest;
use crate::plan::{self, Cost, Estimate, History, Plan, Status};
use crate::record::moment;
use crate::settings::Bytes;
use crate::store::Worker;
use jiff::Timestamp;
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
    let (stages, total) = (out::count(stages.len(), "stage"), out::count(total, "instance"));
    out::say(format!("{}: {stages}, {total}", styled(GOOD, "all good")));
    Ok(Exit::Done)
}

pub(super) fn plan(project: &Project, wanted: &Wanted, only_check: bool, as_json: bool) -> Result<Exit, Failure> {
    let (plan, _) = project.plan(&project.resolver(), wanted)?;
    let exit = if only_check && plan.runs() { Exit::WouldRun } else { Exit::Done };
    let work = AtWork::look(project, &plan)?;
    if as_json {
        out::json(&plan_json(project, &plan, &work));
        return Ok(exit);
    }
    for (stage, entries) in by_stage(project, &plan) {
        let tally = Tally::of(&entries, &work);
        let is_open = |(node, status): &&(usize, &Status)| !matches!(status, Status::Cached(_)) || work.has(*node);
        let open: Vec<_> = entries.iter().filter(is_open).collect();
        if open.is_empty() {
            out::say(format!("{}  {}", styled(BOLD, &stage), styled(GOOD, tally)));
            continue;
        }
        out::say(format!("{}  {tally}", styled(BOLD, &stage)));
        for (node, status) in open.iter().take(LISTED) {
            let asks = asks(project, *node, status, &plan);
            let words = work.describe(*node).unwrap_or_else(|| describe(project, status) + &asks);
            out::say(format!("  {}  {words}", project.pipeline.instances[*node].id));
        }
        if open.len() > LISTED {
            out::say(styled(CALM, format!("  and {} more", open.len() - LISTED)));
        }
    }
    let entries: Vec<(usize, &Status)> = plan.entries.iter().map(|(node, status)| (*node, status)).collect();
    let tally = Tally::of(&entries, &work);
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
    let work = AtWork::look(project, &plan)?;
    if as_json {
        out::json(&plan_json(project, &plan, &work));
        return Ok(Exit::Done);
    }
    let stages = by_stage(project, &plan);
    let width = stages.iter().map(|(stage, _)| stage.len()).max().unwrap_or(0);
    for (stage, entries) in stages {
        let tally = Tally::of(&entries, &work);
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
        let running: Vec<usize> = entries.iter().map(|(node, _)| *node).filter(|node| work.has(*node)).collect();
        for node in running.iter().take(LISTED) {
            let words = work.describe(*node).unwrap_or_default();
            out::say(format!("  {}  {words}", project.pipeline.instances[*node].id));
        }
        if running.len() > LISTED {
            out::say(styled(CALM, format!("  and {} more", running.len() - LISTED)));
        }
    }
    Ok(Exit::Done)
}

/// What would run, and what like it has cost before.
fn estimate(project: &Project, plan: &Plan) -> (History, Estimate) {
    let mut history = History::of(&project.store, &project.pipeline, plan);
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
            parts.push(format!("{} {words}", out::count(*number, "instance")));
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

/// Which instances other processes make at this moment, and who does.
struct AtWork(BTreeMap<usize, Worker>);

impl AtWork {
    fn look(project: &Project, plan: &Plan) -> Result<Self, Failure> {
        let workers = project.store.at_work().map_err(anyhow::Error::from)?;
        let worker = |(node, key): (&usize, &Digest)| Some((*node, workers.get(key)?.clone()));
        Ok(Self(plan.keys.iter().filter_map(worker).collect()))
    }

    /// Whether somebody is at the instance, for the first time or again.
    fn has(&self, node: usize) -> bool {
        self.0.contains_key(&node)
    }

    /// Whether somebody makes what would run.
    fn makes(&self, node: usize, status: &Status) -> bool {
        matches!(status, Status::Runs(_)) && self.has(node)
    }

    /// `running for 3 min 20 s (process 41 on host)`
    fn describe(&self, node: usize) -> Option<String> {
        let Worker { host, pid, since, again } = self.0.get(&node)?;
        let started = since.as_ref().and_then(|since| since.parse::<Timestamp>().ok());
        let long = started.map(|started| Timestamp::now().duration_since(started).as_secs_f64().max(0.0));
        let long = long.map(|seconds| format!(" for {}", out::duration(seconds))).unwrap_or_default();
        let who = pid.map_or_else(|| format!("on {host}"), |pid| format!("process {pid} on {host}"));
        let since = since.as_ref().map(|since| format!(", since {}", moment(since))).unwrap_or_default();
        Some(format!("running{}{long} ({who}{since})", if *again { " again" } else { "" }))
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
    /// Of those, what was made elsewhere.
    imported: usize,
    remote: usize,
    /// Made by another process at this moment.
    running: usize,
    runs: usize,
    waits: usize,
}

impl Tally {
    fn of(entries: &[(usize, &Status)], work: &AtWork) -> Self {
        let count = |is: fn(&Status) -> bool| entries.iter().filter(|(_, status)| is(status)).count();
        Self {
            cached: count(|status| matches!(status, Status::Cached(_))),
            imported: count(|status| matches!(status, Status::Cached(record) if record.run.imported.is_some())),
            remote: count(|status| matches!(status, Status::Remote(_))),
            running: entries.iter().filter(|(node, status)| work.makes(*node, status)).count(),
            runs: entries.iter().filter(|(node, status)| matches!(status, Status::Runs(_)) && !work.has(*node)).count(),
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
            (self.running, "running"),
            (self.runs, "will run"),
            (self.waits, if self.waits == 1 { "waits" } else { "wait" }),
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

/// What would be paid for.
fn asks(project: &Project, node: usize, status: &Status, plan: &Plan) -> String {
    let Some(recipe) = project.pipeline.instances[node].recipe.api() else { return String::new() };
    match calls(project, node, status, plan) {
        Some(number) => format!(
            "; asks `{}` up to {}",
            recipe.model,
            out::count(usize::try_from(number).unwrap_or(usize::MAX), "time")
        ),
        None => format!("; asks `{}`, once for each row", recipe.model),
    }
}

fn calls(project: &Project, node: usize, status: &Status, plan: &Plan) -> Option<u64> {
    let is_open = matches!(status, Status::Runs(_));
    is_open.then(|| plan::calls(&project.resolver(), node, &plan.made())).flatten()
}

fn plan_json(project: &Project, plan: &Plan, work: &AtWork) -> serde_json::Value {
    let name = |node: &usize| project.pipeline.instances[*node].id.to_string();
    let (history, estimate) = if plan.is_empty() { Default::default() } else { estimate(project, plan) };
    let entries: Vec<_> = plan
        .entries
        .iter()
        .map(|(node, status)| {
            let mut entry = json!({ "instance": name(node), "key": plan.keys.get(node).map(ToString::to_string) });
            if !status.is_made() {
                let expected = history.expect(&project.pipeline.instances[*node]);
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
                    if let Some(calls) = calls(project, *node, status, plan) {
                        entry["calls"] = calls.into();
                    }
                    entry["status"] = if work.makes(*node, status) { "running" } else { "runs" }.into();
                    entry["reason"] = reason.to_json();
                }
                Status::Waits { on, cached_unless_changed } => {
                    entry["status"] = "waits".into();
                    entry["on"] = on.iter().map(name).collect();
                    entry["cached_unless_changed"] = (*cached_unless_changed).into();
                }
            }
            if let Some(worker) = work.0.get(node) {
                entry["running"] = json!(worker);
            }
            entry
        })
        .collect();
    json!({ "pipeline": project.pipeline.name, "expected": estimate, "instances": entries })
}
