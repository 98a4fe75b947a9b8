//! `titer runs` and `titer show`: what runs did.

use super::Exit;
use super::args::{Manifest, Shown};
use super::caching::Caching;
use super::diff::tell_comparison;
use super::explain;
use super::observations::{self, Observation};
use super::out::{self, BAD, BOLD, CALM, GOOD, styled};
use super::project::{Failure, Project, from_root};
use super::root::root_of;
use crate::diff::{compare_all, of_run};
use crate::journal::{Asked, Entry, RunState, RunSummary, State, looks_like_id, steps_back};
use crate::record::moment;
use crate::store::Store;
use anstyle::Style;
use anyhow::{anyhow, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The runs of a cache, or of one manifest.
pub(super) struct Runs {
    pub(super) store: Store,
    /// The manifest as runs call it.
    manifest: Option<String>,
}

impl Runs {
    /// All runs of the cache in a folder.
    pub(super) fn all(caching: &Caching, folder: &Path) -> anyhow::Result<Self> {
        if !folder.is_dir() {
            bail!("there is no cache `{}`, so nothing has run yet", folder.display());
        }
        Ok(Self { store: caching.look(folder)?, manifest: None })
    }

    /// Those of a manifest, which need not be without mistakes.
    pub(super) fn of(caching: &Caching, manifest: &Path) -> anyhow::Result<Self> {
        if !manifest.exists() {
            bail!("there is no manifest `{}`", manifest.display());
        }
        let name = from_root(&root_of(manifest)?, manifest);
        Ok(Self { manifest: Some(name), ..Self::all(caching, &caching.of(manifest)?)? })
    }

    fn open(caching: &Caching, manifest: Option<&Path>) -> anyhow::Result<Self> {
        match manifest {
            Some(manifest) => Self::of(caching, manifest),
            None => Self::all(caching, &caching.here()?),
        }
    }

    /// The last `number` runs, in the order in which they began.
    pub(super) fn last(&self, number: usize) -> anyhow::Result<Vec<RunSummary>> {
        let mut found = Vec::new();
        for id in self.store.runs()?.iter().rev() {
            if found.len() == number {
                break;
            }
            found.extend(self.store.run(id)?.filter(|run| self.is_meant(run)));
        }
        found.reverse();
        Ok(found)
    }

    /// The last run that was called with these options.
    pub(super) fn last_of(&self, asked: &Asked) -> anyhow::Result<Option<RunSummary>> {
        let options = |asked: &Asked| (asked.variant.clone(), asked.set.clone(), asked.axis.clone());
        for id in self.store.runs()?.iter().rev() {
            let run = self.store.run(id)?.filter(|run| self.is_meant(run));
            if let Some(run) = run.filter(|run| options(&run.asked) == options(asked)) {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// The run that a text names: `last`, `last~2`, its name or the beginning of it.
    pub(super) fn find(&self, text: &str) -> anyhow::Result<RunSummary> {
        if let Some(back) = steps_back(text) {
            let runs = self.last(back.saturating_add(1))?;
            let whose = self.manifest.as_ref().map_or(String::new(), |manifest| format!(" of `{manifest}`"));
            return match (runs.len(), runs.into_iter().next()) {
                (number, Some(run)) if number > back => Ok(run),
                (number, _) => bail!("there is no run `{text}`: the cache has {number}{whose}"),
            };
        }
        let ids = self.store.runs()?;
        let matching: Vec<&String> = ids.iter().filter(|id| id.starts_with(text)).collect();
        match matching.as_slice() {
            [] => bail!(
                "there is no run `{text}` in the cache `{}`: `titer runs` lists them",
                self.store.root().display()
            ),
            [id] => self.store.run(id)?.ok_or_else(|| anyhow!("the summary of run `{id}` cannot be read")),
            [first, second, ..] => {
                bail!("`{text}` begins the names of {} runs: `{first}`, `{second}`, …", matching.len())
            }
        }
    }

    /// The run of the same pipeline before this one.
    fn before(&self, run: &RunSummary) -> anyhow::Result<Option<RunSummary>> {
        for id in self.store.runs()?.iter().rev().skip_while(|id| **id != run.id).skip(1) {
            let earlier = self.store.run(id)?;
            if let Some(earlier) = earlier.filter(|earlier| earlier.pipeline == run.pipeline) {
                return Ok(Some(earlier));
            }
        }
        Ok(None)
    }

    fn is_meant(&self, run: &RunSummary) -> bool {
        self.manifest.as_ref().is_none_or(|manifest| *manifest == run.manifest)
    }

    fn tell_warnings(&self) {
        self.store.take_warnings().into_iter().for_each(out::warn);
    }
}

/// Whether a word of the command line is a manifest, not a run.
///
/// # Errors
/// If it is neither.
pub(super) fn is_manifest(text: &str) -> anyhow::Result<bool> {
    let path = Path::new(text);
    if path.exists() || text.contains('/') || path.extension().is_some_and(|ending| ending == "toml") {
        return Ok(true);
    }
    if !looks_like_id(text) {
        let runs =
            "a run is called by its name, as `titer runs` lists it, by the beginning of that, or `last`, `last~1`";
        bail!("`{text}` is neither a manifest nor a run: there is no file of that name, and {runs}");
    }
    Ok(false)
}

pub(super) fn list(caching: &Caching, manifest: Option<&Path>, number: usize, as_json: bool) -> Result<Exit, Failure> {
    let runs = Runs::open(caching, manifest)?;
    let found = runs.last(number)?;
    runs.tell_warnings();
    if as_json {
        out::json(&json!(found));
        return Ok(Exit::Done);
    }
    if found.is_empty() && number > 0 {
        out::say("no run yet");
    }
    let width = found.iter().map(|run| run.pipeline.len()).max().unwrap_or(0);
    for run in &found {
        let outcome = run.outcome();
        let padded = format!("{outcome:13}");
        let outcome = styled(style_of(run), padded);
        let words = run.asked.words().join(" ");
        let took = out::duration(run.seconds);
        out::say(
            format!(
                "{}  {:width$}  {outcome}  {took:>10}  {}  {}",
                run.id,
                run.pipeline,
                tally(run),
                if words.is_empty() { words } else { styled(CALM, words) }
            )
            .trim_end(),
        );
    }
    Ok(Exit::Done)
}

/// One argument is a run or a manifest (and means its last run); two are a manifest and what of it.
pub(super) fn show(
    Shown { what, selector, overrides }: &Shown,
    caching: &Caching,
    as_json: bool,
) -> Result<Exit, Failure> {
    let (manifest, run) = match (is_manifest(what)?.then(|| PathBuf::from(what)), selector.as_deref()) {
        (Some(path), Some(selector)) if !looks_like_id(selector) => {
            let project = Project::load(&Manifest { path, overrides: overrides.clone() }, caching)?;
            return explain::show(&project, selector, as_json);
        }
        (Some(path), run) => (Some(path), run.unwrap_or("last")),
        (None, None) => (None, what.as_str()),
        (None, Some(more)) => return Err(anyhow!("`{what}` is a run: what is `{more}`?").into()),
    };
    let runs = Runs::open(caching, manifest.as_deref())?;
    let run = runs.find(run)?;
    show_run(&runs, &run, as_json)?;
    runs.tell_warnings();
    Ok(Exit::Done)
}

fn show_run(runs: &Runs, run: &RunSummary, as_json: bool) -> anyhow::Result<()> {
    let before = runs.before(run)?;
    let sides = |run: &RunSummary| of_run(&runs.store, run);
    let pair = before.as_ref().map_or(Ok(None), sides)?.zip(sides(run)?);
    let changed = pair.map(|(old, new)| compare_all((&runs.store, &old), (&runs.store, &new))).transpose()?;
    let observed = observe(&runs.store, run)?;
    if as_json {
        let before = before.as_ref().map(|before| &before.id);
        out::json(&json!({ "run": run, "before": before, "changed": changed, "observations": observed }));
        return Ok(());
    }
    describe(run);
    for state in [
        State::Running,
        State::Failed,
        State::Ran,
        State::Observed,
        State::Fetched,
        State::Unfinished,
        State::Blocked,
        State::Shared,
        State::Cached,
    ] {
        tell_state(run, state);
    }
    tell_observed(&observed);
    match (before, changed) {
        (Some(before), Some(changed)) if changed.is_empty() => out::say(format!("nothing differs from {}", before.id)),
        (Some(before), Some(changed)) => {
            out::say(format!("{} {}", styled(BOLD, "changed against"), before.id));
            tell_comparison(&changed);
        }
        (Some(before), None) => out::say(format!("what differs from {} is not known: a plan is gone", before.id)),
        (None, _) => out::say("the first run of its pipeline"),
    }
    Ok(())
}

/// The results of a run that were made again, in any run or audit, by the names of its instances.
fn observe(store: &Store, run: &RunSummary) -> anyhow::Result<BTreeMap<String, Vec<Observation>>> {
    let mut observed = BTreeMap::new();
    for (name, key) in store.keys_of(run)?.unwrap_or_default() {
        let found = Observation::of(store, &key)?;
        if !found.is_empty() {
            observed.insert(name, found);
        }
    }
    Ok(observed)
}

fn tell_observed(observed: &BTreeMap<String, Vec<Observation>>) {
    /// How many are named.
    const LISTED: usize = 20;
    if observed.is_empty() {
        return;
    }
    let number = out::count(observed.len(), "result");
    out::say(format!("{}: {number}", styled(BOLD, "observed again, in all runs and audits")));
    // Those that differ first.
    let mut sorted: Vec<(&String, &Vec<Observation>)> = observed.iter().collect();
    sorted.sort_by_key(|(_, found)| found.iter().all(|one| one.differing.is_empty()));
    for (name, found) in sorted.iter().take(LISTED) {
        out::say(format!("  {name}  {}", observations::words(found)));
    }
    if sorted.len() > LISTED {
        out::say(styled(CALM, format!("  and {} more", sorted.len() - LISTED)));
    }
}

fn describe(run: &RunSummary) {
    let words = [vec![run.manifest.clone()], run.asked.words()].concat().join(" ");
    out::say(format!("{} of `{}`: {}", styled(BOLD, &run.id), run.pipeline, styled(style_of(run), run.outcome())));
    out::say(format!("{}, {words}", moment(&run.started)));
    // When a kill came is not written down, only what was done before.
    let least = if run.state == RunState::Killed { "at least " } else { "" };
    out::say(format!("{} in {least}{}{}", tally(run), out::duration(run.seconds), saved(run)));
    let pid = run.process.as_ref().map_or(String::new(), |process| format!(", process {}", process.pid));
    let place = run.machine.as_ref().map(|machine| format!(" on {} ({}){pid}", machine.host, machine.cpu));
    let git = run.git.as_ref().map(|git| {
        let changes = if git.dirty { ", with changes that are not committed" } else { "" };
        format!(", git {}{changes}", git.commit.get(..12).unwrap_or(&git.commit))
    });
    out::say(format!("titer {}{}{}", run.titer, place.unwrap_or_default(), git.unwrap_or_default()));
}

fn style_of(run: &RunSummary) -> Style {
    match run.state {
        RunState::Running => BOLD,
        RunState::Killed => BAD,
        RunState::Ended if run.interrupted || run.counts.failed > 0 => BAD,
        RunState::Ended => GOOD,
    }
}

fn tally(run: &RunSummary) -> String {
    let counts = &run.counts;
    let words = [
        (counts.ran, "ran"),
        (counts.cached, "cached"),
        (counts.fetched, "fetched"),
        (counts.shared, "shared"),
        (counts.failed, "failed"),
        (counts.blocked, "blocked"),
        (counts.unfinished, "unfinished"),
    ];
    let parts: Vec<String> =
        words.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    parts.join(", ")
}

fn saved(run: &RunSummary) -> String {
    /// What is worth telling.
    const LEAST: f64 = 0.1;
    if run.saved_seconds < LEAST {
        String::new()
    } else {
        format!("; the cache saved {}", out::duration(run.saved_seconds))
    }
}

/// The instances that ended so, the longest first.
fn tell_state(run: &RunSummary, state: State) {
    /// How many are named.
    const LISTED: usize = 20;
    let mut entries: Vec<(&String, &Entry)> = run.instances.iter().filter(|(_, entry)| entry.state == state).collect();
    if entries.is_empty() {
        return;
    }
    entries.sort_by(|a, b| b.1.seconds.unwrap_or(0.0).total_cmp(&a.1.seconds.unwrap_or(0.0)));
    out::say(styled(if state == State::Failed { BAD } else { BOLD }, state.name()));
    for (name, entry) in entries.iter().take(LISTED) {
        out::say(format!("  {name}{}", details(entry)));
        for warning in &entry.warnings {
            out::say(format!("    warning: {warning}"));
        }
    }
    if entries.len() > LISTED {
        out::say(styled(CALM, format!("  and {} more", entries.len() - LISTED)));
    }
}

fn details(entry: &Entry) -> String {
    let mut parts: Vec<String> = entry.seconds.map(out::duration).into_iter().collect();
    parts.extend(entry.device.clone().filter(|device| device != "cpu"));
    if entry.tries > 1 {
        parts.push(format!("tries: {}", entry.tries));
    }
    if entry.state == State::Observed && entry.differing.is_empty() {
        parts.push("the same bytes as the first run".to_string());
    }
    if !entry.differing.is_empty() {
        parts.push(format!("differs from the first run in {}", entry.differing.join(", ")));
    }
    let message = entry.message.as_ref().map_or(String::new(), |message| format!(": {message}"));
    format!("{}{message}", if parts.is_empty() { String::new() } else { format!("  {}", parts.join(", ")) })
}
