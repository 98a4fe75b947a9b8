//! `titer gc`: says what would go, asks, frees.

use super::Exit;
use super::args::Gc;
use super::out::{self, BOLD, CALM, GOOD, styled};
use super::project::Failure;
use crate::settings::{Bytes, Seconds};
use crate::store::Store;
use crate::store::gc::{Leftover, Policy, Survey, What};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;

pub(super) fn run(store: &Store, args: &Gc, as_json: bool) -> Result<Exit, Failure> {
    let policy = policy(args);
    let survey = store.survey(&policy).map_err(anyhow::Error::from)?;
    if !as_json {
        say(store, &policy, &survey);
    }
    let may = args.yes || (!args.dry_run && !as_json && !survey.is_empty() && can_ask() && asks(&survey));
    if !may || survey.is_empty() {
        if as_json {
            out::json(&to_json(store, &survey, false));
        } else if !survey.is_empty() && !args.dry_run {
            out::say(if can_ask() { "nothing was freed" } else { "nothing was freed: `--yes` does it" });
        }
        return Ok(Exit::Done);
    }
    let freed = store.free(&policy, &survey).map_err(anyhow::Error::from)?;
    if as_json {
        out::json(&to_json(store, &freed, true));
    } else {
        out::say(format!("{} {}", styled(GOOD, "freed"), Bytes(freed.bytes())));
    }
    Ok(Exit::Done)
}

fn policy(args: &Gc) -> Policy {
    let default = Policy::default();
    let is_said = args.keep_runs.is_some() || args.older_than.is_some() || args.max_size.is_some();
    Policy {
        keep_runs: if is_said { args.keep_runs } else { default.keep_runs },
        older_than: args.older_than.map(Seconds::duration),
        max_size: args.max_size.map(|size| size.0),
        quarantine: args.quarantine,
        history: args.history,
        fetched: args.fetched,
        ledger: args.ledger,
        grace: args.grace.map_or(default.grace, Seconds::duration),
        wait: args.wait.map(Seconds::duration),
    }
}

/// Where nobody can be asked, the answer is no.
fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn asks(survey: &Survey) -> bool {
    out::confirm(&format!("free {}?", Bytes(survey.bytes())))
}

/// Results, their bytes and the day of the last use, by pipeline and stage.
type Groups<'a> = BTreeMap<(Option<&'a str>, &'a str), (usize, u64, String)>;

fn groups(survey: &Survey) -> Groups<'_> {
    let mut groups = Groups::new();
    for result in &survey.results {
        let stage = result.instance.split('[').next().unwrap_or_default();
        let (number, bytes, last) = groups.entry((result.pipeline.as_deref(), stage)).or_default();
        *number += 1;
        *bytes += result.bytes;
        *last = result.last_used.to_string().max(std::mem::take(last));
    }
    groups
}

/// Number and bytes of the leftovers of each kind.
fn kinds(leftovers: &[Leftover]) -> BTreeMap<What, (usize, u64)> {
    let mut kinds = BTreeMap::new();
    for leftover in leftovers {
        let (number, bytes): &mut (usize, u64) = kinds.entry(leftover.what).or_default();
        *number += 1;
        *bytes += leftover.bytes;
    }
    kinds
}

fn say(store: &Store, policy: &Policy, survey: &Survey) {
    let mut above = None;
    for ((pipeline, stage), (number, bytes, last)) in groups(survey) {
        if above != Some(pipeline) {
            out::say(styled(BOLD, pipeline.unwrap_or("of no run that is known")));
            above = Some(pipeline);
        }
        let stage = if stage.is_empty() { "(a record that cannot be read)" } else { stage };
        let last = styled(CALM, format!("  last used {}", last.split('T').next().unwrap_or_default()));
        out::say(format!("  {stage:24}  {number:>5}  {:>9}{last}", Bytes(bytes).to_string()));
    }
    let orphans: u64 = survey.orphans.iter().map(|(_, bytes)| bytes).sum();
    if !survey.orphans.is_empty() {
        let number = out::count(survey.orphans.len(), "object");
        out::say(format!("{number} of no record ({})", Bytes(orphans)));
    }
    for (what, (number, bytes)) in kinds(&survey.leftovers) {
        out::say(format!("{}: {number} ({})", what.name(), Bytes(bytes)));
    }
    let cache = out::relative_to_here(store.root());
    if survey.is_empty() {
        let kept = out::count(survey.kept_results, "result");
        out::say(format!("nothing to free in `{}`: {kept} ({}) in use", cache.display(), Bytes(survey.kept)));
    } else {
        let kept = out::count(survey.kept_results, "result");
        let results = match survey.results.len() {
            0 => String::new(),
            number => format!(" with {}", out::count(number, "result")),
        };
        out::say(format!(
            "would free {} of `{}`{results}; {kept} would stay ({})",
            Bytes(survey.bytes()),
            cache.display(),
            Bytes(survey.kept)
        ));
    }
    if let Some(limit) = policy.max_size.filter(|limit| survey.kept > *limit) {
        out::say(format!("that is more than {}: the rest is pinned, in use, or what you said to keep", Bytes(limit)));
    }
}

fn to_json(store: &Store, survey: &Survey, freed: bool) -> Json {
    let results: Vec<Json> = survey
        .results
        .iter()
        .map(|result| {
            json!({
                "key": result.key, "pipeline": result.pipeline, "instance": result.instance,
                "last_used": result.last_used.to_string(), "bytes": result.bytes,
            })
        })
        .collect();
    let orphans: u64 = survey.orphans.iter().map(|(_, bytes)| bytes).sum();
    let leftovers: Vec<Json> = survey
        .leftovers
        .iter()
        .map(|leftover| json!({ "what": leftover.what.name(), "path": leftover.path, "bytes": leftover.bytes }))
        .collect();
    json!({
        "cache": store.root(), "freed": freed, "bytes": survey.bytes(), "size": survey.size, "kept": survey.kept,
        "kept_results": survey.kept_results, "results": results,
        "orphans": { "number": survey.orphans.len(), "bytes": orphans }, "leftovers": leftovers,
    })
}
