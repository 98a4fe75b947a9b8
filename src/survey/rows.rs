//! The rows behind the numbers: answers, each with its scores, and with what an earlier run answered.
//!
//! A set is what the scorers of some answers say of them together. Rows are read and packed one after the other; what is
//! joined to them is read along, in the same order as a rule, and held only as far as the orders differ.

use super::condition::Condition;
use super::{Survey, one_file};
use crate::key::Digest;
use crate::manifest::Source;
use crate::plan::Place;
use crate::record::{FileEntry, Record};
use crate::report::page::{self, Before, Line, Pieces};
use crate::row::{self, Row};
use crate::stage::Kind;
use anyhow::Context as _;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The label that says which scorer of a score stage an instance is.
const SCORER: &str = "scorer";
/// The role of the answers that are scored, and the output that they are.
const ANSWERS: &str = "predictions";
/// Where a row's values stand in `scores.jsonl`.
const SCORES: &str = "scores";

/// A set, and whose results are in it.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) shown: page::Set,
    /// The instances that made the answers and the scores.
    pub(super) nodes: Vec<usize>,
}

/// A file of rows.
#[derive(Clone, Debug)]
pub(super) struct RowFile {
    path: PathBuf,
    /// Its own name, which tells the format.
    like: PathBuf,
    /// What messages call it.
    name: String,
    /// What is in it, as far as that is known by a digest.
    pub(super) digest: Digest,
}

/// The files of a set.
#[derive(Debug, Default)]
struct Parts {
    name: String,
    axes: Map<String, Value>,
    nodes: Vec<usize>,
    answers: Vec<RowFile>,
    scores: Vec<Scored>,
    before: Vec<RowFile>,
    /// Those of the aggregates that count its rows.
    conditions: BTreeSet<String>,
}

/// What one scorer says.
#[derive(Debug)]
struct Scored {
    file: RowFile,
    /// The metrics as they are called in the file, and as aggregates call them.
    metrics: Vec<(String, String)>,
    before: Option<RowFile>,
}

impl Survey<'_> {
    /// All sets; those that `pieces` has not are packed.
    pub(super) fn sets(&mut self, pieces: &mut Pieces) -> anyhow::Result<Vec<Set>> {
        let earlier = self.subject.against.map(|run| self.subject.store.keys_of(run)).transpose()?.flatten();
        if let (Some(run), None) = (self.subject.against, &earlier) {
            self.warn(None, format!("the cache no longer knows what run {} made: nothing is compared", run.id));
        }
        let earlier = earlier.unwrap_or_default();
        let mut all: BTreeMap<(String, String), Parts> = BTreeMap::new();
        for (node, record) in self.made(Kind::Score) {
            self.add_scores(node, &record, &earlier, &mut all)?;
        }
        for (node, record) in self.made(Kind::Predict) {
            if !all.values().any(|parts| parts.nodes.contains(&node)) {
                self.add_answers(node, &record, &earlier, &mut all)?;
            }
        }
        let conditions = self.conditions();
        let mut sets = Vec::new();
        for mut parts in all.into_values() {
            parts.conditions = parts.nodes.iter().filter_map(|node| conditions.get(node)).flatten().cloned().collect();
            sets.extend(self.pack(parts, pieces));
        }
        sets.sort_by_key(|set| set.nodes.iter().copied().min());
        Ok(sets)
    }

    /// The conditions of the aggregates that read each instance.
    fn conditions(&self) -> BTreeMap<usize, BTreeSet<String>> {
        let mut conditions: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for (node, _) in self.made(Kind::Aggregate) {
            let Some(condition) = self.condition(node) else { continue };
            for below in self.graph.closure(&[node]) {
                conditions.entry(below).or_default().insert(condition.clone());
            }
        }
        conditions
    }

    fn add_scores(
        &mut self,
        node: usize,
        record: &Record,
        earlier: &BTreeMap<String, Digest>,
        all: &mut BTreeMap<(String, String), Parts>,
    ) -> anyhow::Result<()> {
        let instance = &self.subject.pipeline.instances[node];
        let mut axes: Map<String, Value> =
            instance.id.axes.iter().map(|(axis, value)| (axis.clone(), value.to_json())).collect();
        let scorer = axes.shift_remove(SCORER).and_then(|name| name.as_str().map(str::to_string));
        let Some(file) = record.output(SCORES).and_then(one_file).and_then(|file| self.row_file(node, file)) else {
            return Ok(());
        };
        let input = instance.inputs.iter().find(|input| input.role == ANSWERS);
        let (name, maker) = match input.map(|input| &input.source) {
            Some(Source::Output { instance, output }) => (self.name(*instance), Some((*instance, *output))),
            Some(Source::Path(path)) => (path.clone(), None),
            None => (instance.id.to_string(), None),
        };
        let place = (name.clone(), Value::Object(axes.clone()).to_string());
        let is_new = !all.contains_key(&place);
        let answers = if is_new { self.files_of(node, ANSWERS) } else { Vec::new() };
        let before = match maker.filter(|_| is_new) {
            Some((maker, output)) => self.earlier(maker, earlier, output)?,
            None => None,
        };
        let parts = all.entry(place).or_default();
        if is_new {
            *parts = Parts { name, axes, answers, before: before.into_iter().collect(), ..Parts::default() };
            parts.nodes.extend(maker.map(|(maker, _)| maker));
        }
        parts.nodes.push(node);
        let stage = instance.id.name.clone();
        let taken = |name: &String| parts.scores.iter().flat_map(|one| &one.metrics).any(|(_, known)| known == name);
        let metrics = metrics(&file, scorer.as_deref()).into_iter().map(|(name, called)| {
            let called = if taken(&called) { format!("{stage}.{called}") } else { called };
            (name, called)
        });
        let metrics = metrics.collect();
        let before = self.earlier(node, earlier, SCORES)?;
        parts.scores.push(Scored { file, metrics, before });
        Ok(())
    }

    /// Answers that nobody has scored.
    fn add_answers(
        &mut self,
        node: usize,
        record: &Record,
        earlier: &BTreeMap<String, Digest>,
        all: &mut BTreeMap<(String, String), Parts>,
    ) -> anyhow::Result<()> {
        let id = &self.subject.pipeline.instances[node].id;
        let axes = id.axes.iter().map(|(axis, value)| (axis.clone(), value.to_json())).collect();
        let output = record.output(ANSWERS).and_then(one_file);
        let Some(file) = output.and_then(|file| self.row_file(node, file)) else { return Ok(()) };
        let before = self.earlier(node, earlier, ANSWERS)?.into_iter().collect();
        let name = id.to_string();
        let parts =
            Parts { axes, nodes: vec![node], answers: vec![file], before, name: name.clone(), ..Parts::default() };
        all.insert((name, String::new()), parts);
        Ok(())
    }

    fn row_file(&mut self, node: usize, file: &FileEntry) -> Option<RowFile> {
        let path = self.file(node, file)?;
        let name = format!("{} of {}", file.path, self.name(node));
        Some(RowFile { path, like: PathBuf::from(&file.path), name, digest: file.digest })
    }

    /// The files of rows that an instance reads in a role.
    pub(super) fn files_of(&mut self, node: usize, role: &str) -> Vec<RowFile> {
        let materials = self.subject.resolver.materials(node, &self.known).unwrap_or_default();
        let mut files = Vec::new();
        for material in materials.into_iter().filter(|material| material.role == role) {
            let found = match material.place {
                Place::Object(file) => self.file(node, &file).map(|path| (path, PathBuf::from(file.path))),
                Place::Path(path) | Place::Fetched { path, .. } => Some((path.clone(), path)),
                Place::Objects(_) => None,
            };
            let file = |(path, like)| RowFile { path, like, name: material.name.clone(), digest: material.digest };
            files.extend(found.map(file));
        }
        files
    }

    /// What an earlier run made of an instance, if it is still there.
    fn earlier(
        &self,
        node: usize,
        earlier: &BTreeMap<String, Digest>,
        output: &str,
    ) -> anyhow::Result<Option<RowFile>> {
        let name = self.name(node);
        let Some(key) = earlier.get(&name) else { return Ok(None) };
        let store = self.subject.store;
        let Some(record) = store.get(key)? else { return Ok(None) };
        let output = record.output(output).and_then(one_file);
        let file = output.filter(|file| store.has(&file.digest, file.size)).map(|file| RowFile {
            path: store.path(&file.digest),
            like: PathBuf::from(&file.path),
            name: format!("{} of {name}, of the earlier run", file.path),
            digest: file.digest,
        });
        Ok(file)
    }

    /// Packs the rows of a set, if they are new; a set whose rows cannot be read is left out, with a warning.
    fn pack(&mut self, parts: Parts, pieces: &mut Pieces) -> Option<Set> {
        let Parts { name, axes, nodes, .. } = &parts;
        let metrics: Vec<String> =
            parts.scores.iter().flat_map(|one| &one.metrics).map(|(_, name)| name.clone()).collect();
        let key = identity(&parts);
        if pieces.shape(&key).is_none() {
            let packed = Lines::open(&parts).and_then(|lines| pieces.add(&key, &metrics, lines));
            if let Err(error) = packed {
                self.warn(Some(name.clone()), format!("its rows are not shown: {error:#}"));
            }
        }
        let (rows, columns) = pieces.shape(&key).cloned()?;
        let before = !parts.before.is_empty();
        let shown = page::Set { key, name: name.clone(), axes: axes.clone(), rows, columns, metrics, before };
        Some(Set { shown, nodes: nodes.clone() })
    }
}

/// Other bytes, another identity.
fn identity(parts: &Parts) -> String {
    let scored = parts.scores.iter().flat_map(|one| [Some(&one.file), one.before.as_ref()]);
    let files = parts.answers.iter().chain(&parts.before).map(Some).chain(scored);
    let digests: Vec<String> =
        files.map(|file| file.map_or_else(String::new, |file| file.digest.to_string())).collect();
    let text = serde_json::json!([parts.name, parts.axes, digests, parts.conditions]).to_string();
    Digest::of(text.as_bytes()).to_string()[..16].to_string()
}

/// The metrics of a file of scores: their names in it, and those that aggregates give them.
fn metrics(file: &RowFile, scorer: Option<&str>) -> Vec<(String, String)> {
    let first = rows(file).ok().and_then(|mut rows| rows.next()).and_then(Result::ok);
    let Some(Value::Object(scores)) = first.as_ref().and_then(|row| row.get(SCORES)) else { return Vec::new() };
    let called = |name: &String| match scorer {
        Some(scorer) if scores.len() == 1 => scorer.to_string(),
        Some(scorer) => format!("{scorer}.{name}"),
        None => name.clone(),
    };
    scores.keys().map(|name| (name.clone(), called(name))).collect()
}

pub(super) type Rows = Box<dyn Iterator<Item = anyhow::Result<Row>>>;

/// The rows of a file.
pub(super) fn rows(file: &RowFile) -> anyhow::Result<Rows> {
    let rows = row::read_as(&file.path, Path::new(&file.like), &file.name)?;
    Ok(Box::new(rows.map(|item| Ok(item?.1))))
}

/// The rows of a set one after the other.
struct Lines {
    rows: Numbered,
    scores: Vec<(Lookup, Vec<String>)>,
    before: Option<Lookup>,
    before_scores: Vec<Option<Lookup>>,
    axes: Map<String, Value>,
    conditions: Vec<Condition>,
}

impl Lines {
    fn open(parts: &Parts) -> anyhow::Result<Self> {
        // Scores whose answers are not known tell of the rows what they carry along.
        let own = match parts.answers.is_empty() {
            true => parts.scores.first().map(|one| one.file.clone()).into_iter().collect(),
            false => parts.answers.clone(),
        };
        let mut before_scores = Vec::new();
        let mut scores = Vec::new();
        for one in &parts.scores {
            let names = one.metrics.iter().map(|(name, _)| name.clone()).collect();
            scores.push((Lookup::open(std::slice::from_ref(&one.file))?, names));
            let before = one.before.as_ref();
            before_scores.push(before.map(|file| Lookup::open(std::slice::from_ref(file))).transpose()?);
        }
        let before = (!parts.before.is_empty()).then(|| Lookup::open(&parts.before)).transpose()?;
        let conditions = parts.conditions.iter().filter_map(|text| Condition::new(text)).collect();
        Ok(Self { rows: Numbered::open(&own)?, scores, before, before_scores, axes: parts.axes.clone(), conditions })
    }

    fn line(&mut self, identity: &Identity, mut row: Row) -> anyhow::Result<Line> {
        let (mut scores, mut old_scores) = (Vec::new(), Vec::new());
        for ((now, metrics), before) in self.scores.iter_mut().zip(&mut self.before_scores) {
            values(now.find(identity)?.as_ref(), metrics, &mut scores);
            let before = before.as_mut().map(|before| before.find(identity)).transpose()?.flatten();
            values(before.as_ref(), metrics, &mut old_scores);
        }
        let before = self.before.as_mut().map(|before| before.find(identity)).transpose()?.flatten();
        let before = before.map(|mut before| Before {
            prediction: before.shift_remove(row::PREDICTION).unwrap_or_default(),
            scores: old_scores,
        });
        row.shift_remove(SCORES);
        let kept = self.conditions.iter();
        let kept = kept.map(|condition| (condition.text.clone(), condition.holds(&self.axes, &row))).collect();
        row.insert(row::ID.to_string(), identity.0.clone().into());
        Ok(Line { columns: row, scores, before, kept })
    }
}

impl Iterator for Lines {
    type Item = anyhow::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.rows.next()?;
        Some(item.and_then(|(identity, row)| self.line(&identity, row)))
    }
}

fn values(row: Option<&Row>, metrics: &[String], all: &mut Vec<Option<f64>>) {
    let scores = row.and_then(|row| row.get(SCORES));
    all.extend(metrics.iter().map(|metric| scores.and_then(|scores| scores.get(metric)).and_then(Value::as_f64)));
}

/// What makes two rows those of one question: the id, and which of the rows with that id it is.
type Identity = (String, usize);

/// Rows of files one after the other, each with its identity.
struct Numbered {
    rows: Rows,
    seen: BTreeMap<String, usize>,
}

impl Numbered {
    fn open(files: &[RowFile]) -> anyhow::Result<Self> {
        let all: Vec<Rows> = files.iter().map(rows).collect::<anyhow::Result<_>>()?;
        Ok(Self { rows: Box::new(all.into_iter().flatten()), seen: BTreeMap::new() })
    }
}

impl Iterator for Numbered {
    type Item = anyhow::Result<(Identity, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.rows.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(error)),
        };
        let id = row::id(&row);
        let occurrence = self.seen.entry(id.clone()).or_default();
        *occurrence += 1;
        Some(Ok(((id, *occurrence - 1), row)))
    }
}

/// Rows that are asked for by identity, in about the order in which they stand in their file.
struct Lookup {
    rows: Numbered,
    passed: BTreeMap<Identity, Row>,
}

impl Lookup {
    fn open(files: &[RowFile]) -> anyhow::Result<Self> {
        Ok(Self { rows: Numbered::open(files)?, passed: BTreeMap::new() })
    }

    fn find(&mut self, identity: &Identity) -> anyhow::Result<Option<Row>> {
        if let Some(row) = self.passed.remove(identity) {
            return Ok(Some(row));
        }
        for item in self.rows.by_ref() {
            let (found, row) = item.context("a row to join")?;
            if found == *identity {
                return Ok(Some(row));
            }
            self.passed.insert(found, row);
        }
        Ok(None)
    }
}
