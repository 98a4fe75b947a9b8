//! `titer verify`: reads what is kept, and says what is wrong with it and what the next run makes again.

use super::Exit;
use super::out::{self, BAD, BOLD, GOOD, styled};
use super::project::{Failure, Project};
use crate::plan::{self, Plan, Reason, Status};
use crate::settings::Bytes;
use crate::store::{Flaw, Health, Store};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::num::NonZeroU32;

/// The whole cache.
pub(super) fn cache(store: &Store, jobs: Option<NonZeroU32>, as_json: bool) -> Result<Exit, Failure> {
    let health = check(store, None, jobs)?;
    let mut again = Vec::new();
    for pipeline in store.pipelines().map_err(anyhow::Error::from)? {
        let lost = store.lost(&pipeline).map_err(anyhow::Error::from)?;
        again.extend(lost.into_iter().map(|instance| (pipeline.clone(), instance)));
    }
    Ok(report(store, &health, &again, as_json))
}

/// What is current in a pipeline.
pub(super) fn pipeline(project: &Project, jobs: Option<NonZeroU32>, as_json: bool) -> Result<Exit, Failure> {
    let Project { pipeline, store, .. } = project;
    let before = plan(project)?;
    let last = store.last_run(&pipeline.name).map_err(anyhow::Error::from)?;
    let lasts = pipeline.instances.iter().filter_map(|instance| last.get(&instance.id.to_string()));
    let keys: BTreeSet<_> = before.keys.values().chain(lasts).copied().collect();
    let health = check(store, Some(&keys), jobs)?;
    mend(project, &before)?;
    let after = plan(project)?;
    let was_made = |node: usize| before.known[node].is_some();
    let again: Vec<(String, String)> = after
        .entries
        .iter()
        .filter(|(node, status)| match status {
            Status::Runs(reason) => was_made(*node) || *reason == Reason::Lost,
            Status::Cached(_) | Status::Remote(_) | Status::Waits { .. } => false,
        })
        .map(|(node, _)| (pipeline.name.clone(), pipeline.instances[*node].id.to_string()))
        .collect();
    Ok(report(store, &health, &again, as_json))
}

fn plan(project: &Project) -> Result<Plan, Failure> {
    let all: Vec<usize> = (0..project.pipeline.instances.len()).collect();
    plan::plan(&project.resolver(), &all, &BTreeSet::new()).map_err(|problems| project.failure(problems))
}

/// Writes lost keys down again: the manifest still says what was hashed.
fn mend(project: &Project, plan: &Plan) -> Result<(), Failure> {
    let resolver = project.resolver();
    let made = plan.made();
    for node in plan.keys.keys().filter(|node| plan.known[**node].is_some() && project.store.writable()) {
        if let Ok(materials) = resolver.materials(*node, &made) {
            project.store.mend_key(&resolver.document(*node, &materials)).map_err(anyhow::Error::from)?;
        }
    }
    Ok(())
}

fn check(
    store: &Store,
    keys: Option<&BTreeSet<crate::key::Digest>>,
    jobs: Option<NonZeroU32>,
) -> Result<Health, Failure> {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    let template = "{spinner} reading {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    let threads = jobs.map_or_else(
        || std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get).max(2),
        |jobs| jobs.get() as usize,
    );
    let progress = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let health = store.check(keys, threads, &progress).map_err(anyhow::Error::from)?;
    bar.finish_and_clear();
    store.save();
    // All of it is said below.
    store.take_warnings();
    Ok(health)
}

fn report(store: &Store, health: &Health, again: &[(String, String)], as_json: bool) -> Exit {
    let exit = if health.flaws.is_empty() { Exit::Done } else { Exit::StageFailed };
    if as_json {
        let again: Vec<Json> = again.iter().map(|(p, i)| json!({ "pipeline": p, "instance": i })).collect();
        out::json(&json!({
            "objects": health.objects, "bytes": health.bytes, "keys": health.keys,
            "flaws": health.flaws.iter().map(flaw_json).collect::<Vec<_>>(), "again": again,
        }));
        return exit;
    }
    health.flaws.iter().for_each(|flaw| say(store, flaw));
    let (objects, keys) = (out::count(health.objects, "object"), out::count(health.keys, "key"));
    let read = format!("{objects} ({}), {keys}", Bytes(health.bytes));
    match health.flaws.len() {
        0 => out::say(format!("{}: {read}", styled(GOOD, "all sound"))),
        number => out::say(format!("{} in {read}", styled(BAD, format!("flaws: {number}")))),
    }
    if !again.is_empty() {
        out::say(styled(BOLD, "`titer run` will make again:"));
        again.iter().for_each(|(pipeline, instance)| out::say(format!("  {pipeline}: {instance}")));
    } else if !health.flaws.is_empty() {
        out::say("no result of a last run is lost");
    }
    exit
}

fn say(store: &Store, flaw: &Flaw) {
    let of = |names: &[String]| match names {
        [] => "that no record names".to_string(),
        names => format!("of {}", names.join(", ")),
    };
    let line = match flaw {
        Flaw::Damaged(object, reason, names) => {
            let now = if store.writable() { "; it is in quarantine" } else { "" };
            format!("{} object {} {}: {reason}{now}", styled(BAD, "damaged:"), object.short(), of(names))
        }
        Flaw::Missing(object, names) => format!("{} object {} {}", styled(BAD, "missing:"), object.short(), of(names)),
        Flaw::Record(path, reason) => {
            format!("{} `{}`: {reason}", styled(BAD, "no record:"), out::relative_to_here(path).display())
        }
        Flaw::Key(path) => format!(
            "{} `{}` does not hash to its name: its result cannot be explained; `titer verify MANIFEST` writes it anew",
            styled(BAD, "no key:"),
            out::relative_to_here(path).display()
        ),
    };
    out::say(line);
}

fn flaw_json(flaw: &Flaw) -> Json {
    match flaw {
        Flaw::Damaged(object, reason, names) => {
            json!({ "flaw": "damaged", "object": object, "reason": reason, "instances": names })
        }
        Flaw::Missing(object, names) => json!({ "flaw": "missing", "object": object, "instances": names }),
        Flaw::Record(path, reason) => json!({ "flaw": "record", "path": path, "reason": reason }),
        Flaw::Key(path) => json!({ "flaw": "key", "path": path }),
    }
}
