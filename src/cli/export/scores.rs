//! What the scorers of a stage say of one model's answers, put together.

use super::{Results, axes, tags, when};
use crate::manifest::{InstanceId, Source};
use crate::plan::Place;
use crate::record::Record;
use crate::report::export::{Point, Series, Span, lm_eval, mlflow};
use crate::row::{self, Row};
use crate::scorer::{self, Better};
use crate::stage::{Kind, Recipe};
use crate::statistics;
use anyhow::{bail, ensure};
use serde_json::{Map, Value as Json, json};
use std::path::Path;

/// The axis that tells the scorers of a stage apart.
const SCORER: &str = "scorer";

/// The scores of a stage at one combination of its axes.
pub(super) struct Scored<'a> {
    /// One of its instances: they all read the same answers.
    pub(super) node: usize,
    /// What it is called, without the scorer.
    id: InstanceId,
    pub(super) parts: Vec<Part<'a>>,
}

/// The scores of one scorer.
pub(super) struct Part<'a> {
    /// None, if a command has done the whole stage.
    pub(super) scorer: Option<String>,
    pub(super) record: &'a Record,
    metrics: Vec<lm_eval::Metric>,
    /// The scores of each row.
    rows: Vec<Vec<(String, Option<f64>)>>,
    /// All rows, and those that were scored.
    counts: (u64, u64),
}

/// Whose answers are scored.
struct Model {
    name: String,
    /// What it varies over.
    axes: Vec<String>,
    config: Map<String, Json>,
}

impl Results<'_> {
    /// All scores, those of a stage and its axes together.
    pub(super) fn scored(&self) -> anyhow::Result<Vec<Scored<'_>>> {
        let mut all: Vec<Scored<'_>> = Vec::new();
        for (node, record) in self.of(Kind::Score) {
            let mut id = self.id(node).clone();
            let scorer = id.axes.remove(SCORER).map(|name| name.to_string());
            let part = self.part(node, scorer, record)?;
            match all.iter_mut().find(|scored| scored.id == id) {
                Some(scored) => scored.parts.push(part),
                None => all.push(Scored { node, id, parts: vec![part] }),
            }
        }
        Ok(all)
    }

    fn part<'a>(&self, node: usize, scorer: Option<String>, record: &'a Record) -> anyhow::Result<Part<'a>> {
        let scores = |row: Row| match row.get("scores") {
            Some(Json::Object(scores)) => {
                let name = |name: &str| called(scorer.as_deref(), name, scores.len() == 1);
                scores.iter().map(|(metric, value)| (name(metric), value.as_f64())).collect()
            }
            _ => Vec::new(),
        };
        let rows: Vec<Vec<(String, Option<f64>)>> =
            self.rows(record, "scores", node)?.into_iter().map(scores).collect();
        let summary = self.file(record, "summary")?.and_then(|file| serde_json::from_slice::<Json>(&file.bytes).ok());
        let count =
            |name: &str| summary.as_ref().and_then(|summary| summary[name].as_u64()).unwrap_or(rows.len() as u64);
        let counts = (count("rows"), count("scored"));
        let metrics = match &summary {
            Some(summary) => self.summed_up(node, scorer.as_deref(), summary),
            None => means(&rows),
        };
        Ok(Part { scorer, record, metrics, rows, counts })
    }

    /// The metrics of a summary as a score stage writes it.
    fn summed_up(&self, node: usize, scorer: Option<&str>, summary: &Json) -> Vec<lm_eval::Metric> {
        let definition = match &self.project.pipeline.instances[node].recipe {
            Recipe::Score(recipe) => scorer::find(&recipe.scorer),
            _ => None,
        };
        let better = |name: &str| {
            let known = definition.map(|definition| definition.metrics.iter().chain(definition.pooled));
            known.into_iter().flatten().find(|metric| metric.name == name).map(|metric| metric.better == Better::Higher)
        };
        let metric = |called: String, name: &str, numbers: &Json, value: &str| lm_eval::Metric {
            name: called,
            value: numbers[value].as_f64(),
            standard_error: numbers["standard_error"].as_f64(),
            higher_is_better: better(name),
        };
        let entries = |part: &str| summary[part].as_object().cloned().unwrap_or_default();
        let (means, pooled) = (entries("metrics"), entries("pooled"));
        let is_only = means.len() == 1;
        let means = means.iter().map(|(name, numbers)| metric(called(scorer, name, is_only), name, numbers, "mean"));
        let of_all = |name: &str| format!("{}.pooled", called(scorer, name, false));
        means.chain(pooled.iter().map(|(name, numbers)| metric(of_all(name), name, numbers, "value"))).collect()
    }

    pub(super) fn evaluations(&self) -> anyhow::Result<Vec<lm_eval::Evaluation>> {
        let mut evaluations: Vec<lm_eval::Evaluation> = Vec::new();
        for scored in self.scored()? {
            let Model { name, axes, config } = self.model(scored.node)?;
            let task = self.task(&scored, &axes)?;
            let (when, place) = (scored.when(), evaluations.iter().position(|other| other.model == name));
            match place {
                Some(place) => {
                    let evaluation = &mut evaluations[place];
                    evaluation.when = together(evaluation.when, when);
                    evaluation.tasks.push(task);
                }
                None => evaluations.push(lm_eval::Evaluation { model: name, config, when, tasks: vec![task] }),
            }
        }
        Ok(evaluations)
    }

    fn task(&self, scored: &Scored<'_>, axes_of_model: &[String]) -> anyhow::Result<lm_eval::Task> {
        let mut id = scored.id.clone();
        id.axes.retain(|axis, _| !axes_of_model.contains(axis));
        let name = id.to_string();
        let mut config = Map::new();
        for part in &scored.parts {
            let document = self.project.store.document(&part.record.key)?;
            let recipe = document.map(|document| document.recipe).unwrap_or_default();
            config.insert(part.scorer.clone().unwrap_or_else(|| scored.id.name.clone()), recipe);
        }
        let most = |count: fn(&Part<'_>) -> u64| scored.parts.iter().map(count).max().unwrap_or_default();
        Ok(lm_eval::Task {
            name: name.split_once('.').map_or(name.as_str(), |(_, name)| name).to_string(),
            version: Kind::Score.version(),
            config: json!({ "task": scored.id.name, "scorers": config }),
            metrics: scored.parts.iter().flat_map(|part| part.metrics.clone()).collect(),
            rows: (most(|part| part.counts.0), most(|part| part.counts.1)),
            samples: self.samples(scored)?,
        })
    }

    /// The answers with their scores.
    fn samples(&self, scored: &Scored<'_>) -> anyhow::Result<Vec<lm_eval::Sample>> {
        let reference = match &self.project.pipeline.instances[scored.node].recipe {
            Recipe::Score(recipe) => recipe.scope.reference.as_deref().unwrap_or(row::OUTPUT),
            _ => row::OUTPUT,
        };
        let mut samples = Vec::new();
        for row in self.answers(scored.node)? {
            let place = samples.len();
            let scores = scored.parts.iter().filter_map(|part| part.rows.get(place)).flatten().cloned().collect();
            let target = row.get(reference).cloned().unwrap_or_default();
            let answer = row::text(&row, row::PREDICTION).unwrap_or_default().into_owned();
            let doc = row.into_iter().filter(|(name, _)| name != row::PREDICTION).collect();
            samples.push(lm_eval::Sample { doc, target, answer, scores });
        }
        for part in &scored.parts {
            let (rows, scores) = (samples.len(), part.rows.len());
            ensure!(rows == scores, "`{}` has {scores} rows, and what it scores has {rows}", scored.id);
        }
        Ok(samples)
    }

    fn answers(&self, node: usize) -> anyhow::Result<Vec<Row>> {
        let materials = self.resolver.materials(node, self.known).map_err(|problems| {
            let messages: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
            anyhow::anyhow!("{}", messages.join("; "))
        })?;
        let mut rows = Vec::new();
        for material in materials.iter().filter(|material| material.role == "predictions") {
            let name = &material.name;
            let items = match &material.place {
                Place::Path(path) | Place::Fetched { path, .. } => row::read(path, name)?,
                Place::Object(file) => {
                    row::read_as(&self.project.store.path(&file.digest), Path::new(&file.path), name)?
                }
                Place::Objects(_) => bail!("`{name}` is a folder: expected rows"),
            };
            for item in items {
                rows.push(item?.1);
            }
        }
        Ok(rows)
    }

    /// Whose answers a score stage reads: the model's that was asked, else what holds them.
    fn model(&self, node: usize) -> anyhow::Result<Model> {
        let instances = &self.project.pipeline.instances;
        let named = |name: String| Model { name, axes: Vec::new(), config: Map::new() };
        let of_instance = |node: usize| {
            let id = &instances[node].id;
            Model { axes: id.axes.keys().cloned().collect(), ..named(id.to_string()) }
        };
        let predictions = instances[node].inputs.iter().find(|input| input.role == "predictions");
        let answers = match predictions.map(|input| &input.source) {
            Some(Source::Output { instance, .. }) => *instance,
            Some(Source::Path(path)) => return Ok(named(path.clone())),
            None => return Ok(of_instance(node)),
        };
        let asked = instances[answers].inputs.iter().rfind(|input| input.role.starts_with("model."));
        let model = match (asked.map(|input| &input.source), instances[answers].recipe.api()) {
            (Some(Source::Output { instance, .. }), _) => of_instance(*instance),
            (Some(Source::Path(path)), _) => named(path.clone()),
            (None, Some(api)) => named(api.model.clone()),
            (None, None) => of_instance(answers),
        };
        let document =
            self.known[answers].as_ref().map(|record| self.project.store.document(&record.key)).transpose()?;
        let recipe = document.flatten().map(|document| document.recipe).unwrap_or_default();
        let device = self.known[answers].as_ref().map(|record| record.run.device.clone());
        let config = [("model", model.name.clone().into()), ("model_args", recipe), ("device", json!(device))];
        let config = config.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        Ok(Model { config, ..model })
    }
}

impl Scored<'_> {
    fn when(&self) -> Span {
        self.parts.iter().map(|part| when(part.record)).reduce(together).unwrap_or_default()
    }

    /// As MLflow shows it; settings and files are left to be added.
    pub(super) fn run(&self) -> mlflow::Run {
        let when = self.when();
        let series =
            |name: String, value: f64| Series { name, points: vec![Point { step: 0, time: when.end(), value }] };
        let metrics = self.parts.iter().flat_map(|part| &part.metrics).flat_map(|metric| {
            let error = metric.standard_error.map(|error| series(format!("{}.standard_error", metric.name), error));
            metric.value.map(|value| series(metric.name.clone(), value)).into_iter().chain(error)
        });
        mlflow::Run {
            name: self.id.to_string(),
            parent: None,
            when,
            params: axes(&self.id),
            tags: self.parts.first().map(|part| tags(part.record)).unwrap_or_default(),
            metrics: metrics.collect(),
            artifacts: Vec::new(),
        }
    }
}

/// A metric as aggregates call it: by its scorer alone if that has no other.
fn called(scorer: Option<&str>, name: &str, is_only: bool) -> String {
    match scorer {
        Some(scorer) if is_only => scorer.to_string(),
        Some(scorer) => format!("{scorer}.{name}"),
        None => name.to_string(),
    }
}

/// The means of scores that nobody has summed up.
fn means(rows: &[Vec<(String, Option<f64>)>]) -> Vec<lm_eval::Metric> {
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mean = |name: &&String| {
        let values: Vec<f64> =
            rows.iter().flatten().filter(|(other, _)| other == *name).filter_map(|(_, value)| *value).collect();
        let value = statistics::mean(&values);
        lm_eval::Metric { name: (*name).clone(), value, standard_error: None, higher_is_better: None }
    };
    names.iter().map(mean).collect()
}

/// From the first beginning to the last end.
fn together(one: Span, other: Span) -> Span {
    let begin = one.begin.min(other.begin);
    Span { begin, seconds: one.end().max(other.end()) - begin }
}
