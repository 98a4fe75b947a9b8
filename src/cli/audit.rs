//! `titer audit`: does again what is in the cache, and says what came out otherwise.

use super::Exit;
use super::args::{Machine, Wanted};
use super::hub::{self, Hub};
use super::out::{self, BAD, BOLD, CALM, GOOD, styled};
use super::progress::{Progress, Silent};
use super::project::{Failure, Project};
use super::run::options;
use crate::audit::{Finding, Verdict, damaged, sample};
use crate::graph::{Graph, upstream};
use crate::journal::State;
use crate::plan::{Known, Plan, Reason, Status};
use crate::record::{Record, RunInfo, moment};
use crate::run::{Finished, Observer, Options, Purpose, Recorder};
use anyhow::anyhow;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Instances that can be done again.
type Candidates = BTreeMap<usize, Arc<Record>>;

pub(super) fn audit(
    project: &Project,
    selectors: &[String],
    number: Option<NonZeroU32>,
    machine: &Machine,
    hub: &Hub,
    as_json: bool,
) -> Result<Exit, Failure> {
    if !project.store.writable() && project.store.root().exists() {
        let cache = project.store.root().display();
        return Err(anyhow!("the cache `{cache}` is read-only: what is done again could not be kept").into());
    }
    project.store.distrust();
    let picked = pick(project, selectors)?;
    let resolver = project.resolver();
    let wanted = Wanted { target: selectors.to_vec(), force: Vec::new() };
    hub::bring(project, &resolver, project.wanted(&wanted)?.0, hub, as_json, |found| !found.is_known)?;
    let (mut plan, _) = project.plan(&resolver, &wanted)?;
    if crate::run::rely_on(&project.pipeline, &project.store, &plan, &BTreeSet::new()).map_err(anyhow::Error::from)? {
        (plan, _) = project.plan(&resolver, &wanted)?;
    }
    let mut findings: BTreeMap<usize, Finding> = BTreeMap::new();
    let mut candidates = Candidates::new();
    for (node, status) in plan.entries.iter().filter(|(node, _)| picked.contains(node)) {
        match status {
            Status::Cached(record) if unfetched(project, &plan, *node).is_none() => {
                candidates.insert(*node, Arc::clone(record));
            }
            status => {
                let mut finding = Finding::new(name(project, *node), Verdict::Absent);
                finding.message = Some(why_absent(project, &plan, *node, status));
                findings.insert(*node, finding);
            }
        }
    }
    if let Some(number) = number {
        // What is not there cannot be in a sample.
        findings.clear();
        let stage = |one: &(usize, Arc<Record>)| project.pipeline.instances[one.0].id.stage();
        let work: Vec<_> = candidates.into_iter().collect();
        candidates = sample(work, number.get() as usize, stage, |one| one.1.key).into_iter().collect();
    }
    if candidates.is_empty() {
        let problem = "nothing of it is in the cache with all that it reads: there is nothing to compare with; `titer run` makes it, or \
             fetches it";
        return Err(anyhow!(problem).into());
    }
    hub::bring(project, &resolver, candidates.keys().copied(), hub, as_json, |found| !found.is_here)?;
    for (node, record) in &candidates {
        let mut finding = Finding::new(name(project, *node), Verdict::Unfinished);
        finding.damaged = damaged(&project.store, record).map_err(anyhow::Error::from)?;
        findings.insert(*node, finding);
    }
    let again: Vec<String> = candidates.keys().map(|node| name(project, *node)).collect();
    project.store.note_plan(&[], &again).map_err(anyhow::Error::from)?;
    let interrupted = run(project, &candidates, plan.known, machine, as_json, &mut findings)?;
    project.tell_warnings();
    let findings: Vec<Finding> = findings.into_values().collect();
    report(&findings, as_json);
    Ok(match findings.iter().all(|finding| finding.verdict == Verdict::Same) {
        _ if interrupted => Exit::Interrupted,
        true => Exit::Done,
        false => Exit::StageFailed,
    })
}

fn name(project: &Project, node: usize) -> String {
    project.pipeline.instances[node].id.to_string()
}

/// The instances that are to be done again: the picked ones, else all that the targets need.
fn pick(project: &Project, selectors: &[String]) -> Result<BTreeSet<usize>, Failure> {
    if selectors.is_empty() {
        return Ok(Graph::of(&project.pipeline).closure(&project.pipeline.targets).into_iter().collect());
    }
    let picked: Result<Vec<Vec<usize>>, Failure> = selectors.iter().map(|selector| project.select(selector)).collect();
    Ok(picked?.into_iter().flatten().collect())
}

/// Something that an instance reads and that is not in this cache; of a cached instance, it is in the shared one.
fn unfetched(project: &Project, plan: &Plan, node: usize) -> Option<usize> {
    upstream(&project.pipeline.instances[node]).find(|input| plan.known[*input].is_none())
}

fn why_absent(project: &Project, plan: &Plan, node: usize, status: &Status) -> String {
    match status {
        Status::Runs(Reason::Lost) => "its outputs are gone from the cache, or damaged".to_string(),
        Status::Waits { on, .. } => {
            let first = on.first().map(|node| name(project, *node)).unwrap_or_default();
            format!("what it reads is not in the cache: {first}")
        }
        Status::Runs(reason) => format!("it is not in the cache: {reason}"),
        Status::Remote(_) => "it is in the shared cache only: `titer pull` fetches it".to_string(),
        Status::Cached(_) => {
            let input = unfetched(project, plan, node).map(|input| name(project, input)).unwrap_or_default();
            format!("what it reads is in the shared cache only: {input}; `titer pull` first")
        }
    }
}

/// Does the work again and completes the findings. Returns whether the person stopped it.
fn run(
    project: &Project,
    candidates: &Candidates,
    known: Known,
    machine: &Machine,
    as_json: bool,
    findings: &mut BTreeMap<usize, Finding>,
) -> Result<bool, Failure> {
    let open: BTreeSet<usize> = candidates.keys().copied().collect();
    let options = Options {
        keep_going: true,
        forced: open.clone(),
        purpose: Purpose::Audit,
        ..options(project, &open, machine)?
    };
    let interrupted = super::watch_for_interruption()?;
    let entries = open.iter().map(|node| (*node, Status::Runs(Reason::Forced))).collect();
    let plan = Plan { entries, keys: BTreeMap::new(), known };
    let (mut silent, mut progress) = (Silent, Progress::new(&project.pipeline, open));
    let observer: &mut dyn Observer = if as_json { &mut silent } else { &mut progress };
    let mut recorder = Recorder::new(observer);
    let resolver = project.resolver();
    let Project { pipeline, store, .. } = project;
    let finished = crate::run::run(&resolver, pipeline, store, plan, &options, &mut recorder, &interrupted);
    for (node, first) in candidates {
        let Some(finding) = findings.get_mut(node) else { continue };
        if let Some(again) = again(&recorder, &finished, candidates, *node) {
            finding.judge(store, first, &again).map_err(anyhow::Error::from)?;
        } else if let Some(entry) = recorder.entries().get(node).filter(|entry| entry.state == State::Failed) {
            finding.verdict = Verdict::Failed;
            finding.message.clone_from(&entry.message);
            finding.first = Some(first.run.clone());
        }
    }
    Ok(finished.summary.interrupted)
}

/// The new run of an instance, which may be that of another with the same key. Where the first one was damaged, the new
/// one took its place.
fn again(recorder: &Recorder<'_>, finished: &Finished, candidates: &Candidates, node: usize) -> Option<Record> {
    let key = candidates[&node].key;
    let state = |node: &usize| recorder.entries().get(node).map(|entry| entry.state);
    let observed = recorder.observed().values().find(|record| record.key == key).cloned();
    let remade = || {
        let made = candidates.keys().filter(|node| state(node) == Some(State::Ran));
        let mut records = made.filter_map(|node| finished.known[*node].as_deref());
        records.find(|record| record.key == key).cloned()
    };
    observed.or_else(remade)
}

fn report(findings: &[Finding], as_json: bool) {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let counts = [
        (Verdict::Same, "the same bytes"),
        (Verdict::Differs, "differ"),
        (Verdict::Damaged, "damaged in the cache"),
        (Verdict::Failed, "failed"),
        (Verdict::Absent, "not in the cache"),
        (Verdict::Unfinished, "not done again"),
    ];
    if as_json {
        let counts: BTreeMap<Verdict, usize> = counts.iter().map(|(verdict, _)| (*verdict, count(*verdict))).collect();
        out::json(&json!({ "counts": counts, "findings": findings }));
        return;
    }
    findings.iter().filter(|finding| finding.verdict != Verdict::Same).for_each(tell);
    let parts: Vec<String> = counts
        .iter()
        .map(|(verdict, word)| (count(*verdict), word))
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    let good = count(Verdict::Same) == findings.len();
    let head = if good { styled(GOOD, "audit passed:") } else { styled(BAD, "audit failed:") };
    out::say(format!("{head} {}", parts.join(", ")));
}

fn tell(finding: &Finding) {
    let word = match finding.verdict {
        Verdict::Same => "the same bytes",
        Verdict::Differs => "differs",
        Verdict::Damaged => "the same bytes, but it was damaged in the cache",
        Verdict::Failed => "failed",
        Verdict::Absent => "cannot be audited",
        Verdict::Unfinished => "was not done again",
    };
    let message = finding.message.as_ref().map_or(String::new(), |message| format!(": {message}"));
    out::say(format!("{}  {}{message}", styled(BOLD, &finding.instance), styled(BAD, word)));
    for path in &finding.damaged {
        out::say(format!("  {path}: its bytes are not those that were kept"));
    }
    finding.files.iter().for_each(|file| out::say(format!("  {file}")));
    if finding.verdict != Verdict::Differs {
        return;
    }
    for (word, run) in [("first", &finding.first), ("again", &finding.again)] {
        run.iter().for_each(|run| out::say(styled(CALM, format!("  {word}: {}", circumstances(run)))));
    }
    let suspects: Vec<String> = finding.suspects.iter().map(ToString::to_string).collect();
    if suspects.is_empty() {
        out::say("  machine, device, threads and program were the same: the work itself is not reproducible");
    } else {
        out::say(format!("  suspects: {}", suspects.join("; ")));
    }
}

fn circumstances(run: &RunInfo) -> String {
    let RunInfo { started, machine, device, threads, program, .. } = run;
    format!(
        "{} on {} ({}; {}; {}), {device}, threads: {threads}, titer {program}",
        moment(started),
        machine.host,
        machine.cpu,
        machine.cpu_features,
        machine.os
    )
}
