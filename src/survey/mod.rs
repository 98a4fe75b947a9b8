//! What there is to show of a pipeline: gathered from the plan, the store and the journal into a [`Page`], with the rows
//! behind its numbers.
//!
//! Reads only. What is missing or cannot be read is left out and said among the warnings: a report is wanted most when
//! something went wrong.

mod condition;
mod curves;
mod instances;
mod leaks;
mod rows;
mod tables;
mod warnings;

use crate::graph::Graph;
use crate::journal::RunSummary;
use crate::key::Digest;
use crate::manifest::Pipeline;
use crate::plan::{Known, Plan, Resolver, Status};
use crate::record::{FileEntry, Output, Record};
use crate::report::graph::{Look, Node, to_svg};
use crate::report::page::{Earlier, Page, Pieces, Text, Warning};
use crate::stage::Kind;
use crate::store::{Result, Store};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What is asked about.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// Where its results are.
    pub store: &'a Store,
    /// What finds the files that it reads.
    pub resolver: &'a Resolver<'a>,
    /// What a run would do; none if its inputs cannot be read now, and then its last run is all that is known.
    pub plan: Option<&'a Plan>,
    /// The last run of what is asked about.
    pub run: Option<&'a RunSummary>,
    /// The run that answers are compared with.
    pub against: Option<&'a RunSummary>,
}

/// What is kept from one page to the next: what was packed or compared is not packed or compared again.
#[derive(Debug)]
pub struct Held {
    /// The rows.
    pub pieces: Pieces,
    overlaps: leaks::Overlaps,
}

impl Held {
    /// Nothing yet; `pieces` are empty.
    pub fn new(pieces: Pieces) -> Self {
        Self { pieces, overlaps: leaks::Overlaps::new() }
    }
}

/// A subject, and which results of it exist.
struct Survey<'a> {
    subject: &'a Subject<'a>,
    graph: Graph,
    known: Known,
    keys: BTreeMap<usize, Digest>,
    warnings: Vec<Warning>,
}

/// The page of a pipeline. Rows that are not held yet are packed.
///
/// # Errors
/// If the store cannot be read.
pub fn page(subject: &Subject<'_>, held: &mut Held) -> anyhow::Result<Page> {
    let Held { pieces, overlaps } = held;
    let (known, keys) = results(subject)?;
    let mut survey = Survey { subject, graph: Graph::of(subject.pipeline), known, keys, warnings: Vec::new() };
    let instances = survey.instances()?;
    let sets = survey.sets(pieces)?;
    let tables = survey.tables(&sets);
    let (figures, curves) = (survey.figures(), survey.curves());
    survey.warn_of(&tables);
    survey.leaks(overlaps);
    let against = subject.against.map(|run| Earlier { id: run.id.clone(), started: run.started.clone() });
    Ok(Page {
        pipeline: subject.pipeline.name.clone(),
        made: jiff::Timestamp::now().to_string(),
        titer: env!("CARGO_PKG_VERSION").to_string(),
        run: subject.run.map(instances::run),
        against,
        graph: graph(subject.pipeline, &survey.graph),
        instances,
        tables,
        figures,
        curves,
        warnings: survey.warnings,
        sets: sets.into_iter().map(|set| set.shown).collect(),
        index: pieces.index().clone(),
        ..Page::default()
    })
}

/// Texts of manifests as the page shows them.
pub fn texts<'t>(texts: impl Iterator<Item = (String, &'t str)>) -> Vec<Text> {
    texts.map(|(name, text)| Text { name, text: text.to_string() }).collect()
}

/// The records of what exists, and the keys that are known. What waits for others, and is cached unless those change,
/// counts as it was in the last run; and where nothing is known of a plan, all does.
fn results(subject: &Subject<'_>) -> Result<(Known, BTreeMap<usize, Digest>)> {
    let instances = &subject.pipeline.instances;
    let (mut known, mut keys, open) = match subject.plan {
        None => (vec![None; instances.len()], BTreeMap::new(), (0..instances.len()).collect()),
        Some(plan) => {
            let entries = plan.entries.iter();
            let open: Vec<usize> = entries.filter_map(|(node, status)| is_kept(status).then_some(*node)).collect();
            (plan.made(), plan.keys.clone(), open)
        }
    };
    let last = subject.store.last_run(&subject.pipeline.name)?;
    for node in open {
        let Some(key) = last.get(&instances[node].id.to_string()) else { continue };
        keys.insert(node, *key);
        let record = subject.store.get(key)?;
        known[node] = record.filter(|record| subject.store.complete(record)).map(Arc::new);
    }
    Ok((known, keys))
}

fn is_kept(status: &Status) -> bool {
    matches!(status, Status::Waits { cached_unless_changed: true, .. })
}

impl Survey<'_> {
    fn name(&self, node: usize) -> String {
        self.subject.pipeline.instances[node].id.to_string()
    }

    fn status(&self, node: usize) -> Option<&Status> {
        // Entries come in the order of the instances.
        let entries = &self.subject.plan?.entries;
        entries.binary_search_by_key(&node, |(known, _)| *known).ok().map(|place| &entries[place].1)
    }

    fn warn(&mut self, about: Option<String>, text: impl Into<String>) {
        let warning = Warning { about, text: text.into() };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The instances of a kind that have been made.
    fn made(&self, kind: Kind) -> Vec<(usize, Arc<Record>)> {
        let instances = &self.subject.pipeline.instances;
        let of_kind = (0..instances.len()).filter(|node| instances[*node].id.kind == kind);
        of_kind.filter_map(|node| Some((node, Arc::clone(self.known[node].as_ref()?)))).collect()
    }

    /// Where a file of a result is; a warning if it is not here.
    fn file(&mut self, node: usize, file: &FileEntry) -> Option<PathBuf> {
        let store = self.subject.store;
        if store.has(&file.digest, file.size) {
            return Some(store.path(&file.digest));
        }
        let where_else = match self.status(node) {
            Some(Status::Remote(_)) => "it is in the shared cache, from which `titer pull` fetches it",
            _ => "it is not in the cache any more, and the next run makes it again",
        };
        self.warn(Some(self.name(node)), format!("`{}` is not shown: {where_else}", file.path));
        None
    }

    /// What a file of a result says; a warning if it cannot be read.
    fn text(&mut self, node: usize, file: &FileEntry) -> Option<String> {
        let path = self.file(node, file)?;
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) => {
                self.warn(Some(self.name(node)), format!("`{}` cannot be read: {error}", file.path));
                None
            }
        }
    }

    /// The JSON of an output that is a file, if the result has it.
    fn json(&mut self, node: usize, record: &Record, output: &str) -> Option<serde_json::Value> {
        let file = record.output(output).and_then(one_file)?.clone();
        serde_json::from_str(&self.text(node, &file)?).ok()
    }
}

/// The file of an output that is one.
fn one_file(output: &Output) -> Option<&FileEntry> {
    output.files.first().filter(|_| !output.is_folder())
}

/// The graph of the stages, drawn.
fn graph(pipeline: &Pipeline, graph: &Graph) -> String {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut nodes: Vec<Node> = Vec::new();
    let mut place_of = Vec::new();
    for (instance, reads) in pipeline.instances.iter().zip(graph.upstream()) {
        let place = *places.entry(instance.id.stage()).or_insert_with(|| {
            let (word, name) = (instance.id.kind.name().to_string(), instance.id.name.clone());
            nodes.push(Node { word, name, count: 0, look: look(instance.id.kind), reads: Vec::new() });
            nodes.len() - 1
        });
        place_of.push(place);
        nodes[place].count += 1;
        for read in reads.into_iter().map(|read| place_of[read]) {
            // A figure reads the table of its own stage.
            if read != place && !nodes[place].reads.contains(&read) {
                nodes[place].reads.push(read);
            }
        }
    }
    to_svg(&pipeline.name, &nodes)
}

/// How the boxes of a kind look in every drawing.
pub fn look(kind: Kind) -> Look {
    match kind {
        Kind::Mix => Look::Pill,
        Kind::Train => Look::Cut,
        Kind::Predict => Look::Slant,
        Kind::Score => Look::Plain,
        Kind::Aggregate => Look::Double,
    }
}
