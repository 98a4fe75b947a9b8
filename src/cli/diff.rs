//! `titer diff`: what differs between two instances, two runs or two manifests.

use super::Exit;
use super::args::{Manifest, Overrides};
use super::caching::Caching;
use super::out::{self, BAD, BOLD, CALM, GOOD, styled};
use super::project::{Failure, Project};
use super::runs::{Runs, is_manifest};
use crate::diff::{
    Comparison, Difference, FileDifference, Metric, Side, Sides, compare, compare_all, files, of_pipeline, of_run,
};
use crate::journal::RunSummary;
use crate::key::{Change, Digest};
use crate::store::Store;
use anyhow::anyhow;
use serde_json::{Value as Json, json};
use similar::TextDiff;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Lines of one kind that are shown.
const LISTED: usize = 20;

pub(super) fn diff(what: &[String], overrides: &Overrides, caching: &Caching, as_json: bool) -> Result<Exit, Failure> {
    let load = |path: &str, overrides: &Overrides| {
        Project::load(&Manifest { path: PathBuf::from(path), overrides: overrides.clone() }, caching)
    };
    let unchanged = Overrides::default();
    let (old, new) = match what {
        [manifest, old, new] => return instances(&load(manifest, overrides)?, [old, new], as_json),
        [manifest] if !is_manifest(manifest)? => {
            return Err(anyhow!("`{manifest}` is a run: with what is it to be compared? Name a second one").into());
        }
        [manifest] if overrides.asked().is_as_written() => {
            let runs = Runs::of(caching, manifest.as_ref())?;
            let run = runs.find("last")?;
            (Set::of_run(runs.store, &run)?, Set::of_project(load(manifest, overrides)?))
        }
        [manifest] => (Set::of_project(load(manifest, &unchanged)?), Set::of_project(load(manifest, overrides)?)),
        [old, new] => {
            // A run is looked for in the cache of the manifest that it is compared with.
            let is_file = [is_manifest(old)?, is_manifest(new)?];
            let manifest = [old, new].into_iter().zip(is_file).find(|(_, is_file)| *is_file).map(|(text, _)| text);
            let set = |text: &String| -> Result<Set, Failure> {
                if is_manifest(text)? {
                    return Ok(Set::of_project(load(text, overrides)?));
                }
                let folder = manifest.map_or_else(|| caching.here(), |manifest| caching.of(manifest.as_ref()))?;
                let runs = Runs::all(caching, &folder)?;
                let run = runs.find(text)?;
                Ok(Set::of_run(runs.store, &run)?)
            };
            (set(old)?, set(new)?)
        }
        _ => return Err(anyhow!("`diff` takes one, two or three names").into()),
    };
    sets(&old, &new, as_json)?;
    Ok(Exit::Done)
}

/// One side of a comparison of many instances.
struct Set {
    /// What messages call it.
    name: String,
    sides: Sides,
    texts: Vec<Text>,
    /// Where results are.
    store: Store,
}

/// What a manifest said.
struct Text {
    path: String,
    digest: Digest,
    /// None if it is gone from the cache, or damaged.
    text: Option<String>,
}

impl Text {
    fn new(path: String, text: &str) -> Self {
        Self { path, digest: Digest::of(text.as_bytes()), text: Some(text.to_string()) }
    }

    /// That of a run, which the cache may have lost.
    fn kept(store: &Store, path: &str, digest: Digest) -> Self {
        let bytes = std::fs::read(store.path(&digest)).ok().filter(|bytes| Digest::of(bytes) == digest);
        Self { path: path.to_string(), digest, text: bytes.and_then(|bytes| String::from_utf8(bytes).ok()) }
    }
}

impl Set {
    fn of_run(store: Store, run: &RunSummary) -> anyhow::Result<Self> {
        let texts = run.manifests.iter().map(|(path, digest)| Text::kept(&store, path, *digest)).collect();
        let sides = of_run(&store, run)?;
        store.take_warnings().into_iter().for_each(out::warn);
        let sides = sides.ok_or_else(|| {
            anyhow!("the plan of run `{}` is gone from the cache or damaged: of what it was made is not known", run.id)
        })?;
        Ok(Self { name: format!("run {}", run.id), sides, texts, store })
    }

    fn of_project(project: Project) -> Self {
        let sides = of_pipeline(&project.pipeline, &project.resolver());
        project.tell_warnings();
        let overrides = project.overrides.asked().words();
        let name = [vec![project.manifest.display().to_string()], overrides].concat().join(" ");
        let texts = project.texts().map(|(path, text)| Text::new(path, text)).collect();
        Self { name, sides, texts, store: project.store }
    }
}

fn sets(old: &Set, new: &Set, as_json: bool) -> anyhow::Result<()> {
    let comparison = compare_all((&old.store, &old.sides), (&new.store, &new.sides))?;
    let texts = text_changes(&old.texts, &new.texts);
    if as_json {
        out::json(&json!({ "old": old.name, "new": new.name, "manifests": texts, "instances": comparison }));
        return Ok(());
    }
    out::say(format!("{} → {}", styled(BOLD, &old.name), styled(BOLD, &new.name)));
    for (path, change) in texts {
        out::say(styled(BOLD, &path));
        let Some(change) = change else {
            out::say(format!("  the text of `{path}` is gone from the cache"));
            continue;
        };
        for line in change.lines() {
            let style = match line.bytes().next() {
                Some(b'+') => GOOD,
                Some(b'-') => BAD,
                _ => CALM,
            };
            out::say(styled(style, format!("  {line}")));
        }
    }
    if comparison.is_empty() {
        let equal = out::count(comparison.equal, "instance");
        let are = if comparison.equal == 1 { "is" } else { "are" };
        out::say(format!("{}: {equal} {are} equal", styled(GOOD, "nothing differs")));
    } else {
        tell_comparison(&comparison);
    }
    Ok(())
}

/// What differs in the manifests' texts, by path; none where a text is gone. Two lone manifests are compared whatever they
/// are called.
fn text_changes(old: &[Text], new: &[Text]) -> BTreeMap<String, Option<String>> {
    if let ([old], [new]) = (old, new) {
        return change(Some(old), Some(new)).map(|change| (new.path.clone(), change)).into_iter().collect();
    }
    let find = |texts: &'_ [Text], path: &str| texts.iter().position(|text| text.path == path);
    let paths: BTreeSet<&String> = old.iter().chain(new).map(|text| &text.path).collect();
    let changes = paths.into_iter().filter_map(|path| {
        let (old, new) = (find(old, path).map(|at| &old[at]), find(new, path).map(|at| &new[at]));
        Some((path.clone(), change(old, new)?))
    });
    changes.collect()
}

/// How a text became another; a manifest that one side has not is empty there. None if they are equal.
fn change(old: Option<&Text>, new: Option<&Text>) -> Option<Option<String>> {
    if old.map(|text| text.digest) == new.map(|text| text.digest) {
        return None;
    }
    let lines = |text: Option<&Text>| text.map_or(Some(String::new()), |text| text.text.clone());
    let lines = lines(old).zip(lines(new));
    Some(lines.map(|(old, new)| TextDiff::from_lines(&old, &new).unified_diff().context_radius(1).to_string()))
}

/// A comparison as a person reads it; instances of one stage that differ in the same way share a line.
pub(super) fn tell_comparison(comparison: &Comparison) {
    for (names, word, style) in [
        (&comparison.removed, "removed", BAD),
        (&comparison.added, "added", GOOD),
        (&comparison.unmade, "not made in one of them", CALM),
    ] {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        folded(&names).into_iter().for_each(|line| out::say(format!("  {} {line}", styled(style, word))));
    }
    let mut groups: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for (name, difference) in &comparison.changed {
        groups.entry((stage(name).to_string(), words(difference))).or_default().push(name);
    }
    for ((_, words), names) in &groups {
        let who = folded(names).join(", ");
        out::say(format!("  {who}  {words}"));
    }
    tell_metrics(comparison);
    out::say(format!(
        "  {} equal, {} changed, {} added, {} removed",
        comparison.equal,
        comparison.changed.len(),
        comparison.added.len(),
        comparison.removed.len()
    ));
}

/// The metrics that differ. Those of one side only come of groups that came or went, and are counted.
fn tell_metrics(comparison: &Comparison) {
    let all =
        comparison.changed.iter().flat_map(|(name, difference)| difference.metrics.iter().map(move |one| (name, one)));
    // Intervals move with their means.
    let spread = [".std", ".ci_low", ".ci_high"];
    let all = all.filter(|(_, metric)| !spread.iter().any(|end| metric.name.ends_with(end)));
    let (both, lone): (Vec<_>, Vec<_>) = all.partition(|(_, metric)| metric.old.is_some() && metric.new.is_some());
    if both.is_empty() && lone.is_empty() {
        return;
    }
    out::say(format!("  {}", styled(BOLD, "metrics")));
    let row = |(name, metric): &(&String, &Metric)| [vec![(*name).clone()], metric_cells(metric)].concat();
    table(&both.iter().take(LISTED).map(row).collect::<Vec<_>>(), 4);
    let more = [(both.len().saturating_sub(LISTED), "more"), (lone.len(), "on one side only")];
    let more: Vec<String> =
        more.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    if !more.is_empty() {
        out::say(styled(CALM, format!("    and {}: `--json` has them all", more.join(", "))));
    }
}

fn stage(name: &str) -> &str {
    name.split('[').next().unwrap_or(name)
}

/// Names, those of one stage together: `train.adapter ×24`.
fn folded(names: &[&str]) -> Vec<String> {
    let mut stages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    names.iter().for_each(|name| stages.entry(stage(name)).or_default().push(name));
    let line = |(stage, names): (&str, Vec<&str>)| match names.as_slice() {
        [name] => (*name).to_string(),
        names => format!("{stage} ×{}", names.len()),
    };
    stages.into_iter().map(line).collect()
}

/// What differs, in one line.
fn words(difference: &Difference) -> String {
    /// Changes that are named.
    const SHOWN: usize = 4;
    if difference.lost {
        return "differs; what it was made of is gone from the cache".to_string();
    }
    let mut parts: Vec<String> = difference.changes.iter().take(SHOWN).map(ToString::to_string).collect();
    if difference.changes.len() > SHOWN {
        parts.push(format!("{} more", difference.changes.len() - SHOWN));
    }
    match difference.open.as_slice() {
        [] => {}
        [name] => parts.push(format!("{name} is not made yet")),
        [name, more @ ..] => parts.push(format!("{name} and {} more are not made yet", more.len())),
    }
    let made: Vec<_> =
        difference.outputs.iter().filter(|output| output.old.is_some() && output.new.is_some()).collect();
    if !made.is_empty() && made.iter().all(|output| output.old == output.new) {
        parts.push("the outputs are equal".to_string());
    }
    parts.join(", ")
}

fn instances(project: &Project, selectors: [&str; 2], as_json: bool) -> Result<Exit, Failure> {
    let sides = of_pipeline(&project.pipeline, &project.resolver());
    let mut picked: Vec<(String, Side)> = Vec::new();
    for selector in selectors {
        let nodes = project.select(selector)?;
        let name = |node: &usize| project.pipeline.instances[*node].id.to_string();
        let [node] = nodes.as_slice() else {
            let (first, number) = (name(&nodes[0]), nodes.len());
            return Err(anyhow!("`{selector}` picks {number} instances: name one, like `{first}`").into());
        };
        let name = name(node);
        let side = sides.get(&name).cloned().unwrap_or_default();
        picked.push((name, side));
    }
    let [(old_name, old), (new_name, new)] = picked.as_slice() else { return Ok(Exit::Done) };
    let store = &project.store;
    let difference = compare((store, old), (store, new)).map_err(anyhow::Error::from)?;
    let files = made_files(store, old, new)?;
    project.tell_warnings();
    if as_json {
        out::json(&json!({ "old": old_name, "new": new_name, "difference": difference, "files": files }));
        return Ok(Exit::Done);
    }
    out::say(format!("{} → {}", styled(BOLD, old_name), styled(BOLD, new_name)));
    tell_instances(&difference, &files);
    Ok(Exit::Done)
}

/// In what the files of two instances differ, if both were made.
fn made_files(store: &Store, old: &Side, new: &Side) -> anyhow::Result<Vec<FileDifference>> {
    let record = |side: &Side| side.key.map_or(Ok(None), |key| store.get(&key));
    match (record(old)?, record(new)?) {
        (Some(old), Some(new)) => Ok(files((store, &old), (store, &new))?),
        _ => Ok(Vec::new()),
    }
}

fn tell_instances(difference: &Difference, files: &[FileDifference]) {
    let cell = |value: &Option<Json>| value.as_ref().map_or_else(|| "not set".to_string(), shown);
    let (settings, others): (Vec<&Change>, Vec<&Change>) =
        difference.changes.iter().partition(|change| matches!(change, Change::Setting { .. }));
    let rows = settings.iter().filter_map(|change| match change {
        Change::Setting { path, old, new } => Some(vec![path.clone(), cell(old), cell(new)]),
        _ => None,
    });
    heading("settings that differ", settings.is_empty());
    table(&rows.collect::<Vec<_>>(), 2);
    heading("inputs that differ", others.is_empty() && difference.open.is_empty());
    others.iter().for_each(|change| out::say(format!("  {change}")));
    difference.open.iter().for_each(|name| out::say(format!("  {name}: not made yet")));
    heading("outputs", difference.outputs.is_empty());
    let rows = difference.outputs.iter().map(|output| {
        let word = match (output.old, output.new) {
            (Some(old), Some(new)) if old == new => styled(GOOD, "equal"),
            (Some(_), Some(_)) => styled(BOLD, "differs"),
            _ => styled(CALM, "made on one side only"),
        };
        vec![output.name.clone(), word]
    });
    table(&rows.collect::<Vec<_>>(), 2);
    files.iter().for_each(|file| out::say(styled(CALM, format!("    {file}"))));
    heading("metrics", difference.metrics.is_empty());
    table(&difference.metrics.iter().map(metric_cells).collect::<Vec<_>>(), 2);
}

fn heading(text: &str, is_empty: bool) {
    out::say(if is_empty { format!("{}: none", styled(BOLD, text)) } else { styled(BOLD, text) });
}

fn metric_cells(metric: &Metric) -> Vec<String> {
    let cell = |value: Option<f64>| value.map_or_else(|| "–".to_string(), number);
    let by = match (metric.old, metric.new) {
        (Some(old), Some(new)) if new > old => format!("+{}", number(new - old)),
        (Some(old), Some(new)) if new < old => number(new - old),
        _ => String::new(),
    };
    vec![metric.name.clone(), cell(metric.old), cell(metric.new), by]
}

/// Six digits behind the point, or as many as tell something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size != 0.0 && !(1e-4..1e9).contains(&size) => format!("{value:.3e}"),
        _ if value.fract() == 0.0 => value.to_string(),
        _ => format!("{value:.6}"),
    }
}

/// A value for one cell.
fn shown(value: &Json) -> String {
    const LONGEST: usize = 40;
    let text = value.to_string();
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

/// Rows of cells, in columns.
fn table(rows: &[Vec<String>], indent: usize) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
        out::say(format!("{}{}", " ".repeat(indent), cells.join("  ").trim_end()));
    }
}
