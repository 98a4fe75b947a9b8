//! `titer export`: results that are in the cache, written as other programs read them.

mod folder;
mod scores;

use super::Exit;
use super::args::Wanted;
use super::out::{self, BOLD, GOOD, styled};
use super::project::{Failure, Project};
use crate::diagnostic::Diagnostic;
use crate::manifest::{InstanceId, Source};
use crate::plan::{Known, Resolver};
use crate::record::{FileEntry, Record};
use crate::report::export::{self, File, Series, lm_eval, mlflow, tensorboard};
use crate::row::{self, Row};
use crate::stage::Kind;
use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// For which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// TensorBoard: the curves of trainings, as files of events
    Tensorboard,
    /// MLflow: trainings and scores as runs, in its file layout
    Mlflow,
    /// lm-evaluation-harness: scores by model and task, and samples
    LmEval,
}

impl Format {
    /// Its name on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Tensorboard => "tensorboard",
            Self::Mlflow => "mlflow",
            Self::LmEval => "lm-eval",
        }
    }

    /// The kinds of results that it shows.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Tensorboard => &[Kind::Train],
            Self::Mlflow => &[Kind::Train, Kind::Score],
            Self::LmEval => &[Kind::Score],
        }
    }

    /// How the folder is looked at.
    fn hint(self, folder: &Path) -> Option<String> {
        let folder = folder.display();
        match self {
            Self::Tensorboard => Some(format!("`tensorboard --logdir '{folder}'`")),
            // Since version 3.14 it wants to be told that files are meant.
            Self::Mlflow => Some(format!("`MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri '{folder}'`")),
            Self::LmEval => None,
        }
    }
}

pub(super) fn export(
    project: &Project,
    to: Format,
    folder: &Path,
    targets: Vec<String>,
    as_json: bool,
) -> Result<Exit, Failure> {
    let resolver = project.resolver();
    let (plan, _) = project.plan(&resolver, &Wanted { target: targets, force: Vec::new() })?;
    let is_meant = |node: usize| to.kinds().contains(&project.pipeline.instances[node].id.kind);
    let meant: Vec<usize> = plan.entries.iter().map(|(node, _)| *node).filter(|node| is_meant(*node)).collect();
    let (made, open): (Vec<usize>, Vec<usize>) = meant.into_iter().partition(|node| plan.known[*node].is_some());
    if made.is_empty() {
        return Err(nothing(project, to, open.len()));
    }
    let results = Results { project, resolver: &resolver, known: &plan.known, made: &made };
    let files = match to {
        Format::Tensorboard => tensorboard::files(&results.trainings()?),
        Format::Mlflow => mlflow::files(&project.pipeline.name, &results.runs()?, &address(folder)?),
        Format::LmEval => lm_eval::files(&results.evaluations()?),
    };
    folder::write(folder, to.name(), &files)?;
    let name = |node: &usize| project.pipeline.instances[*node].id.to_string();
    if as_json {
        let (exported, left_out): (Vec<_>, Vec<_>) = (made.iter().map(name).collect(), open.iter().map(name).collect());
        out::json(&json!({
            "to": to.name(), "folder": folder, "files": files.len(), "exported": exported, "left_out": left_out,
        }));
        return Ok(Exit::Done);
    }
    let (results, files) = (out::count(made.len(), "result"), out::count(files.len(), "file"));
    out::say(format!("{} {results} to `{}`: {files}", styled(GOOD, "exported"), styled(BOLD, folder.display())));
    if !open.is_empty() {
        let example = open.first().map(name).unwrap_or_default();
        let results = out::count(open.len(), "result");
        out::warn(format!("{results} of the pipeline are not in the cache and were left out, `{example}` first"));
    }
    if let Some(hint) = to.hint(folder) {
        out::say(format!("look at it with {hint}"));
    }
    Ok(Exit::Done)
}

fn nothing(project: &Project, to: Format, open: usize) -> Failure {
    let kinds: Vec<&str> = to.kinds().iter().map(|kind| kind.name()).collect();
    let kinds = kinds.join(" or ");
    let manifest = project.manifest.display();
    let problem = match open {
        0 => Diagnostic::new(format!("`{manifest}` makes nothing that `{}` shows: no result of a {kinds}", to.name()))
            .hint("`-t` names other targets than the manifest's"),
        _ => Diagnostic::new(format!("no result of a {kinds} is in the cache"))
            .hint(format!("`titer run {manifest}` makes them; `titer pull` fetches those of a shared cache")),
    };
    project.failure(vec![problem])
}

/// A folder as the address of a file: what is not plain is written as `%` and digits.
fn address(folder: &Path) -> anyhow::Result<String> {
    let folder = std::path::absolute(folder).context("finding the folder")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte);
    let write = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    let path: String = folder.as_os_str().as_encoded_bytes().iter().map(write).collect();
    Ok(format!("file://{}", path.trim_end_matches('/')))
}

/// What is exported.
struct Results<'a> {
    project: &'a Project,
    resolver: &'a Resolver<'a>,
    known: &'a Known,
    made: &'a [usize],
}

impl Results<'_> {
    fn id(&self, node: usize) -> &InstanceId {
        &self.project.pipeline.instances[node].id
    }

    /// Those of a kind, with their records.
    fn of(&self, kind: Kind) -> impl Iterator<Item = (usize, &Record)> {
        let of_kind = self.made.iter().filter(move |node| self.id(**node).kind == kind);
        of_kind.filter_map(|node| Some((*node, self.known[*node].as_deref()?)))
    }

    /// The file of an output that is one.
    fn path(&self, record: &Record, output: &str) -> Option<(PathBuf, String)> {
        let FileEntry { path, digest, .. } = record.output(output)?.files.first()?;
        Some((self.project.store.path(digest), path.clone()))
    }

    fn rows(&self, record: &Record, output: &str, node: usize) -> anyhow::Result<Vec<Row>> {
        let Some((path, name)) = self.path(record, output) else { return Ok(Vec::new()) };
        let shown = format!("{}, {name}", self.id(node));
        Ok(row::read_as(&path, Path::new(&name), &shown)?
            .map(|item| item.map(|(_, row)| row))
            .collect::<Result<_, _>>()?)
    }

    /// A small output as it is.
    fn file(&self, record: &Record, output: &str) -> anyhow::Result<Option<File>> {
        let Some((path, name)) = self.path(record, output) else { return Ok(None) };
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(Some(File::new(name, bytes)))
    }

    fn curves(&self, node: usize, record: &Record) -> anyhow::Result<Vec<Series>> {
        Ok(export::curves(&self.rows(record, "metrics", node)?, when(record)))
    }

    fn trainings(&self) -> anyhow::Result<Vec<tensorboard::Run>> {
        let run = |(node, record): (usize, &Record)| {
            let folder = self.id(node).folder().to_string_lossy().into_owned();
            Ok(tensorboard::Run { folder, when: when(record), series: self.curves(node, record)? })
        };
        let runs: anyhow::Result<Vec<_>> = self.of(Kind::Train).map(run).collect();
        Ok(runs?.into_iter().filter(|run| !run.series.is_empty()).collect())
    }

    fn runs(&self) -> anyhow::Result<Vec<mlflow::Run>> {
        let mut runs = Vec::new();
        for (node, record) in self.of(Kind::Train) {
            let id = self.id(node);
            let mut params = axes(id);
            for (name, value) in self.settings(record)? {
                params.entry(name).or_insert(value);
            }
            let artifacts = [self.file(record, "metrics")?, self.file(record, "summary")?];
            runs.push(mlflow::Run {
                name: id.to_string(),
                parent: None,
                when: when(record),
                params,
                tags: tags(record),
                metrics: self.curves(node, record)?,
                artifacts: artifacts.into_iter().flatten().collect(),
            });
        }
        let trained: BTreeSet<String> = runs.iter().map(|run| run.name.clone()).collect();
        for scored in self.scored()? {
            let mut run = scored.run();
            let parent = self.training_above(scored.node).map(|node| self.id(node).to_string());
            run.parent = parent.filter(|parent| trained.contains(parent));
            for scores::Part { scorer, record, .. } in &scored.parts {
                let below = |name: &str, sign: &str| match scorer {
                    Some(scorer) => format!("{scorer}{sign}{name}"),
                    None => name.to_string(),
                };
                run.params.extend(self.settings(record)?.into_iter().map(|(name, value)| (below(&name, "."), value)));
                let summary = self.file(record, "summary")?;
                run.artifacts.extend(summary.map(|file| File::new(below(&file.path, "/"), file.bytes)));
            }
            runs.push(run);
        }
        Ok(runs)
    }

    /// What the key of a result says of how it was made.
    fn settings(&self, record: &Record) -> anyhow::Result<BTreeMap<String, String>> {
        let document = self.project.store.document(&record.key)?;
        Ok(document.map(|document| export::flattened(&document.recipe)).unwrap_or_default())
    }

    /// The training that what a stage reads comes from, if that is one.
    fn training_above(&self, node: usize) -> Option<usize> {
        let mut found = BTreeSet::new();
        let (mut open, mut seen) = (vec![node], BTreeSet::from([node]));
        while let Some(node) = open.pop() {
            for input in &self.project.pipeline.instances[node].inputs {
                let Source::Output { instance, .. } = input.source else { continue };
                // What came along with a model is the base that it stands on.
                match self.id(instance).kind {
                    _ if input.inherited => {}
                    Kind::Train => drop(found.insert(instance)),
                    Kind::Predict | Kind::Score if seen.insert(instance) => open.push(instance),
                    _ => {}
                }
            }
        }
        found.first().copied().filter(|_| found.len() == 1)
    }
}

/// When a result was made.
fn when(record: &Record) -> export::Span {
    let begin = record.run.started.parse::<jiff::Timestamp>().unwrap_or_default();
    export::Span { begin: begin.as_duration().as_secs_f64(), seconds: record.run.wall_seconds }
}

fn axes(id: &InstanceId) -> BTreeMap<String, String> {
    id.axes.iter().map(|(axis, value)| (axis.clone(), value.to_string())).collect()
}

/// Where a result is to be found here, and what made it.
fn tags(record: &Record) -> BTreeMap<String, String> {
    let run = &record.run;
    let tags = [
        ("titer.key", record.key.to_string()),
        ("titer.device", run.device.clone()),
        ("titer.program", run.program.clone()),
        ("titer.machine", format!("{}, {}", run.machine.cpu, run.machine.os)),
    ];
    tags.map(|(name, value)| (name.to_string(), value)).into()
}
