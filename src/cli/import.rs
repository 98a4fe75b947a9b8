//! `titer import`: a result that was made elsewhere becomes the result of an instance.
//!
//! It must be what the instance's key says: the recipe and the inputs are not proven by it. So the record says that it
//! was imported, and a later run of the key is an observation that is compared with it.

use super::Exit;
use super::args::Wanted;
use super::out::{self, BOLD, GOOD, styled};
use super::project::{Failure, Project};
use crate::diagnostic::{Diagnostic, Problems};
use crate::key::KeyDocument;
use crate::manifest::Source;
use crate::plan::{Status, is_model_file};
use crate::record::{Imported, Record, RunInfo};
use crate::row;
use crate::settings::Bytes;
use crate::stage::Kind;
use crate::stage::import::{Given, check};
use crate::store::{Committed, view};
use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(super) fn import(
    project: &Project,
    selector: &str,
    from: &Path,
    note: Option<String>,
    as_json: bool,
) -> Result<Exit, Failure> {
    if !project.store.writable() {
        return Err(anyhow::anyhow!("the cache `{}` is read-only", project.store.root().display()).into());
    }
    let node = one(project, selector)?;
    let id = project.pipeline.instances[node].id.to_string();
    let document = document(project, selector, node)?;
    let key = document.key();
    let Some(_claim) = project.store.claim_in_time(&key).map_err(anyhow::Error::from)? else {
        return Err(anyhow::anyhow!("`{id}` is being made by another titer: wait for it, or stop it").into());
    };
    let work = project.store.work_dir().map_err(anyhow::Error::from)?;
    let Taken { given, left_out } = take(project, node, from, work.path())?;
    let made = project.store.get(&key).map_err(anyhow::Error::from)?;
    if let Some(made) = made.filter(|made| project.store.complete(made)) {
        let differing = differing(project, &given, &made)?;
        if !differing.is_empty() {
            let problem = Diagnostic::new(format!("`{id}` has another result already: {}", differing.join(", ")));
            let hint = format!("{}; the first result of a key is kept", made.run.origin());
            return Err(project.failure(vec![problem.hint(hint)]));
        }
        if as_json {
            out::json(&json!({ "instance": id, "key": key.to_string(), "imported": false, "record": made }));
        } else {
            out::say(format!("{} has these very bytes already: {}", styled(BOLD, &id), made.run.origin()));
        }
        return Ok(Exit::Done);
    }
    let record = commit(project, node, &document, &given, work.path(), run_info(&id, from, note))?;
    if as_json {
        let key = key.to_string();
        out::json(&json!({
            "instance": id, "key": key, "imported": true, "record": record, "left_out": left_out,
        }));
        return Ok(Exit::Done);
    }
    out::say(format!("{} `{}` as {}", styled(GOOD, "imported"), from.display(), styled(BOLD, &id)));
    for output in &record.outputs {
        let size = Bytes(output.files.iter().map(|file| file.size).sum());
        let files = out::count(output.files.len(), "file");
        out::say(format!("  {}: {files}, {size}", output.name));
    }
    if !left_out.is_empty() {
        out::say(format!("  left out, as nothing reads it: {}", left_out.join(", ")));
    }
    Ok(Exit::Done)
}

/// The one instance that a selector picks.
fn one(project: &Project, selector: &str) -> Result<usize, Failure> {
    let picked = project.select(selector)?;
    let [node] = picked[..] else {
        let first = &project.pipeline.instances[picked[0]].id;
        let problem =
            Diagnostic::new(format!("`{selector}` picks {} instances: a result is that of one", picked.len()));
        return Err(project.failure(vec![problem.hint(format!("name its axis values: `{first}`"))]));
    };
    Ok(node)
}

/// What the instance's key is made of. All that it reads must be there.
fn document(project: &Project, selector: &str, node: usize) -> Result<KeyDocument, Failure> {
    let wanted = Wanted { target: vec![selector.to_string()], force: Vec::new() };
    let resolver = project.resolver();
    let (plan, _) = project.plan(&resolver, &wanted)?;
    let id = &project.pipeline.instances[node].id;
    if let Some((_, Status::Waits { on, .. })) = plan.entries.iter().find(|(entry, _)| *entry == node) {
        let names: Vec<String> = on.iter().map(|node| format!("`{}`", project.pipeline.instances[*node].id)).collect();
        let problem = Diagnostic::new(format!("`{id}` reads what is not there yet: {}", names.join(", ")));
        let first = names.first().map(|name| name.trim_matches('`').to_string()).unwrap_or_default();
        return Err(project.failure(vec![
            problem.hint(format!("its key is made of their content; run or import them first: `-t '{first}'`")),
        ]));
    }
    let materials = resolver.materials(node, &plan.made()).map_err(|problems| project.failure(problems))?;
    Ok(resolver.document(node, &materials))
}

fn run_info(id: &str, from: &Path, note: Option<String>) -> RunInfo {
    let from = std::path::absolute(from).unwrap_or_else(|_| from.to_path_buf());
    RunInfo {
        device: "unknown".to_string(),
        threads: 0,
        imported: Some(Imported { from: from.file_name().unwrap_or_default().to_string_lossy().into_owned(), note }),
        ..RunInfo::begin(id)
    }
}

/// What was found at the person's path, copied into a work folder under the names that the kind gives it.
struct Taken {
    given: Vec<Given>,
    /// Files of a model's folder that nothing reads.
    left_out: Vec<String>,
}

fn take(project: &Project, node: usize, from: &Path, work: &Path) -> Result<Taken, Failure> {
    let instance = &project.pipeline.instances[node];
    let promised = instance.recipe.outputs();
    let mut taken = Taken { given: Vec::new(), left_out: Vec::new() };
    for (output, path, source) in find(instance.id.kind, &promised, from)? {
        let to = work.join(path.trim_end_matches('/'));
        match path.ends_with('/') {
            true => copy_folder(&source, &to, instance.id.kind == Kind::Train, &mut taken.left_out)?,
            false => copy_file(&source, &to)?,
        }
        taken.given.push(Given { output, path: to, name: source.display().to_string() });
    }
    let mut problems = Problems::default();
    let is_given = |output: &str| taken.given.iter().any(|given| given.output == output);
    for (reader, needed) in needed(project, node) {
        if !is_given(needed) {
            let path = promised.iter().find(|(output, _)| *output == needed).map_or(needed, |(_, path)| path);
            let problem = Diagnostic::new(format!(
                "`{reader}` reads the `{needed}` of `{}`, which `{}` has not",
                instance.id,
                from.display()
            ));
            problems.push(problem.hint(format!("give a folder that has `{path}` too")));
        }
    }
    let axes = project.pipeline.stages.iter().flat_map(|stage| &stage.axes).map(String::as_str).collect();
    check(&instance.recipe, &taken.given, &axes).into_iter().for_each(|problem| problems.push(problem));
    if problems.is_empty() { Ok(taken) } else { Err(project.failure(problems.into_vec())) }
}

/// The outputs that other instances read, each with one of its readers.
fn needed(project: &Project, node: usize) -> Vec<(String, &'static str)> {
    let mut seen = BTreeSet::new();
    let mut needed = Vec::new();
    for reader in &project.pipeline.instances {
        for input in &reader.inputs {
            if let Source::Output { instance, output } = input.source
                && instance == node
                && seen.insert(output)
            {
                needed.push((reader.id.to_string(), output));
            }
        }
    }
    needed
}

type Found = Vec<(&'static str, &'static str, PathBuf)>;

/// The promised outputs that are at the path: name, path in the output folder, where they are.
fn find(kind: Kind, promised: &[(&'static str, &'static str)], from: &Path) -> anyhow::Result<Found> {
    let (first, path) = *promised.first().context("the stage has no output")?;
    ensure!(from.exists(), "there is no `{}`", from.display());
    if from.is_file() {
        ensure!(!path.ends_with('/'), "`{}` is a file: the `{first}` of a {kind} stage is a folder", from.display());
        return Ok(vec![(first, path, from.to_path_buf())]);
    }
    let there = |name: &str| from.join(name.trim_end_matches('/'));
    let is_model =
        |folder: &Path| ["adapter_config.json", "config.json"].iter().any(|name| folder.join(name).is_file());
    // The folder of a model itself.
    if first == "model" && !there(path).is_dir() && is_model(from) {
        return Ok(vec![(first, path, from.to_path_buf())]);
    }
    let found: Found = promised
        .iter()
        .map(|(output, path)| (*output, *path, there(path)))
        .filter(|(_, path, place)| if path.ends_with('/') { place.is_dir() } else { place.is_file() })
        .collect();
    if !found.iter().any(|(output, ..)| *output == first) {
        let names: Vec<String> = promised.iter().map(|(_, path)| format!("`{path}`")).collect();
        bail!("`{}` has no `{path}`; a {kind} stage's outputs are {}", from.display(), names.join(", "));
    }
    Ok(found)
}

/// Rows in another form than JSONL are written as that.
fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    let ending = |path: &Path| path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    if ending(to).as_deref() == Some("jsonl") && ending(from) != ending(to) {
        let mut writer = row::Writer::create(to)?;
        for item in row::read(from, &from.display().to_string())? {
            writer.write(&item?.1)?;
        }
        return writer.finish();
    }
    let mut source = std::fs::File::open(from).with_context(|| format!("reading `{}`", from.display()))?;
    let mut copy = std::fs::File::create(to).with_context(|| format!("writing `{}`", to.display()))?;
    std::io::copy(&mut source, &mut copy).with_context(|| format!("copying `{}`", from.display()))?;
    Ok(())
}

/// Links in the folder are followed: a hub's cache is made of them. Of a model only that is taken which a run reads.
fn copy_folder(from: &Path, to: &Path, is_model: bool, left_out: &mut Vec<String>) -> anyhow::Result<()> {
    let reading = || format!("reading `{}`", from.display());
    std::fs::create_dir(to).with_context(|| format!("creating `{}`", to.display()))?;
    let mut names: Vec<_> = std::fs::read_dir(from)
        .with_context(reading)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()
        .with_context(reading)?;
    names.sort();
    for name in names {
        let (source, text) = (from.join(&name), name.to_string_lossy());
        let metadata = std::fs::metadata(&source).with_context(|| format!("reading `{}`", source.display()))?;
        if is_model && !(metadata.is_file() && is_model_file(&text)) {
            left_out.push(text.into_owned());
        } else if metadata.is_dir() {
            copy_folder(&source, &to.join(&name), false, left_out)?;
        } else {
            copy_file(&source, &to.join(&name))?;
        }
    }
    Ok(())
}

/// The given outputs whose bytes are others than those of a record.
fn differing(project: &Project, given: &[Given], made: &Record) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for given in given {
        let digest = match given.path.is_dir() {
            true => project.store.digest_folder(&given.path)?.0,
            false => project.store.digest_file(&given.path)?.0,
        };
        if made.output(given.output).is_none_or(|output| output.digest != digest) {
            names.push(format!("`{}` differs", given.output));
        }
    }
    Ok(names)
}

/// Keeps the outputs, shows them under `out/`, and remembers them as the instance's last result.
fn commit(
    project: &Project,
    node: usize,
    document: &KeyDocument,
    given: &[Given],
    work: &Path,
    run: RunInfo,
) -> Result<Record, Failure> {
    let instance = &project.pipeline.instances[node];
    let outputs: Vec<(&str, &str)> = instance
        .recipe
        .outputs()
        .into_iter()
        .filter(|(output, _)| given.iter().any(|given| given.output == *output))
        .collect();
    let store = &project.store;
    let record = match store.commit(work, &outputs, document, run).map_err(anyhow::Error::from)? {
        Committed::Canonical(record) => record,
        Committed::Observation { canonical, .. } => {
            let origin = canonical.run.origin();
            return Err(
                anyhow::anyhow!("`{}` got its result from another titer meanwhile: {origin}", instance.id).into()
            );
        }
    };
    let folder = project.root.join("out").join(&project.pipeline.name).join(instance.id.folder());
    view::show(store, &folder, &record).map_err(anyhow::Error::from)?;
    let mut last = store.last_run(&project.pipeline.name).map_err(anyhow::Error::from)?;
    last.insert(instance.id.to_string(), record.key);
    store.set_last_run(&project.pipeline.name, &last).map_err(anyhow::Error::from)?;
    store.save();
    Ok(record)
}
