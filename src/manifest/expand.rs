//! Stages × axis values → instances.
//!
//! Axes flow downstream by natural join: a stage has the axes that its placeholders name and those of its inputs; inputs
//! that share an axis meet on equal values. An aggregate collapses the axes of what it reads.

use super::axes::{Axis, Level};
use super::document::{Document, StageText};
use super::placeholder::{self, Scope};
use super::resolve::{self, Made, Resolved};
use super::{AxisValue, Instance, InstanceId, NamedPath, Pipeline, ResolvedInput, Source, StageSummary, select};
use crate::diagnostic::{Diagnostic, Place, Problems, Span};
use crate::settings::{At, Decode, Table, Value, ValueKind};
use crate::stage::command::COMMAND;
use crate::stage::{self, Demands, Form, Kind, Require, Stage};
use std::collections::{BTreeMap, BTreeSet};

/// A pipeline with more instances than this is a slip: it is refused before memory goes.
const MOST_INSTANCES: usize = 100_000;
/// The setting of axes that a stage varies over though it names them nowhere else.
pub(super) const OVER: &str = "over";
/// The setting that narrows a stage's axes.
pub(super) const ONLY: &str = "only";

/// `paths` gets the files that stages with and without mistakes name, if there are mistakes.
pub(super) fn expand(document: &Document, paths: &mut Vec<NamedPath>, problems: &mut Problems) -> Option<Pipeline> {
    check_names(document, problems);
    let references: Vec<Vec<resolve::Written>> =
        document.stages.iter().map(|stage| resolve::references(document, stage, problems)).collect();
    let order = resolve::order(document, &references, problems)?;
    let mut expansion = Expansion { document, instances: Vec::new(), made: BTreeMap::new(), unmade: Vec::new() };
    for stage in order {
        let before = problems.len();
        let made = expansion.stage(&document.stages[stage], &references[stage], problems);
        // A stage with mistakes stays unknown; what reads it is then only checked as far as it goes.
        if problems.len() == before
            && let Some(made) = made
        {
            expansion.made.insert(stage, made);
        }
    }
    if !problems.is_empty() {
        paths.extend(expansion.paths(problems));
        return None;
    }
    let Expansion { instances, made, .. } = expansion;
    let stages = document.stages.iter().enumerate().map(|(number, stage)| StageSummary {
        kind: stage.kind,
        name: stage.name.clone(),
        axes: made[&number].axes.clone(),
        instances: made[&number].nodes.len(),
    });
    let mut pipeline = Pipeline {
        name: document.name.clone(),
        stages: stages.collect(),
        instances,
        targets: Vec::new(),
        limits: document.limits.clone(),
        cache: document.cache.clone(),
    };
    pipeline.targets = targets(document, &references, &made, &pipeline, problems);
    Some(pipeline)
}

fn check_names(document: &Document, problems: &mut Problems) {
    if document.stages.is_empty() {
        problems.push(
            Diagnostic::new("the manifest has no stage")
                .hint("begin with a `[mix.NAME]`; `titer init` writes an example"),
        );
    }
}

/// What `titer run` makes: what the manifest says, else all that nobody reads.
fn targets(
    document: &Document,
    references: &[Vec<resolve::Written>],
    made: &BTreeMap<usize, Made>,
    pipeline: &Pipeline,
    problems: &mut Problems,
) -> Vec<usize> {
    let mut nodes = BTreeSet::new();
    match &document.targets {
        Some(targets) => {
            for (text, span) in targets {
                match select(pipeline, text) {
                    Ok(picked) => nodes.extend(picked),
                    Err(problem) => problems.push(Diagnostic { place: Some(Place::Span(*span)), ..problem }),
                }
            }
        }
        None => {
            let read: BTreeSet<usize> = references.iter().flatten().map(|reference| reference.stage).collect();
            nodes.extend(made.iter().filter(|(stage, _)| !read.contains(stage)).flat_map(|(_, made)| &made.nodes));
            // Nobody reads a figure, whoever reads the table that it is drawn of.
            let is_figure = |node: &usize| pipeline.instances[*node].id.axes.contains_key(stage::FIGURE);
            nodes.extend((0..pipeline.instances.len()).filter(is_figure));
        }
    }
    nodes.into_iter().collect()
}

struct Expansion<'a> {
    document: &'a Document,
    instances: Vec<Instance>,
    made: BTreeMap<usize, Made>,
    /// The files that stages with mistakes name.
    unmade: Vec<NamedPath>,
}

impl Expansion<'_> {
    /// The files that anything reads, each place once, but those whose names are mistakes themselves.
    fn paths(self, problems: &Problems) -> Vec<NamedPath> {
        let inputs = self.instances.into_iter().flat_map(|instance| instance.inputs);
        let made = inputs.filter(|input| !input.inherited).filter_map(|input| match input.source {
            Source::Path(path) => Some(NamedPath { form: input.form, path, span: input.span }),
            Source::Output { .. } => None,
        });
        let mut seen = BTreeSet::new();
        let all = made.chain(self.unmade).filter(|named| !problems.is_muted(named.span));
        all.filter(|named| seen.insert((named.span, named.path.clone()))).collect()
    }

    fn stage(&mut self, stage: &StageText, references: &[resolve::Written], problems: &mut Problems) -> Option<Made> {
        let before = problems.len();
        let mut table = stage.table.clone();
        let over = take(&mut table, OVER).map_or(Some(Vec::new()), |value| Vec::<At<String>>::decode(&value, problems));
        let only = take(&mut table, ONLY);
        let placeholders = placeholder::names(&table);
        let axes: Vec<&Axis> = self.document.axes.iter().chain(&self.document.written_axes).collect();
        placeholder::check_fields(&table, &axes, problems);
        if stage.kind.takes_seed() && table.get(COMMAND).is_none() {
            let seed = i64::try_from(self.document.seed).unwrap_or(i64::MAX);
            table.insert_missing("seed", Value { kind: ValueKind::Integer(seed), span: stage.span });
        }

        let mut named: BTreeSet<String> = placeholders.iter().map(|(name, _)| name.clone()).collect();
        let over = over.unwrap_or_default();
        for At { value: name, span } in &over {
            if !self.document.axes.iter().any(|axis| axis.name == *name) {
                let problem = Diagnostic::at(*span, format!("`over` names `{name}`, which is no axis"));
                problems.push(problem.suggest(name, self.document.axes.iter().map(|axis| axis.name.as_str())));
            }
        }
        named.extend(over.into_iter().map(|name| name.value));
        for reference in references {
            resolve::check_pins(reference, self.document, self.made.get(&reference.stage), problems);
            let Some(made) = self.made.get(&reference.stage) else { continue };
            if stage.kind != Kind::Aggregate {
                named.extend(made.axes.iter().filter(|axis| !reference.collapses(axis)).cloned());
            }
        }
        let axes: Vec<&Axis> = self.document.axes.iter().filter(|axis| named.contains(&axis.name)).collect();
        let levels = narrow(&axes, only.as_ref(), problems);
        let combinations = levels.iter().try_fold(1usize, |product, levels| product.checked_mul(levels.len()));
        if combinations.is_none_or(|combinations| combinations + self.instances.len() > MOST_INSTANCES) {
            problems.push(self.too_many(stage, combinations, &axes, &levels));
            return None;
        }
        if problems.len() > before || references.iter().any(|reference| !self.made.contains_key(&reference.stage)) {
            // What is wrong so far or upstream has been said; the rest of the settings is looked at all the same.
            let all: Vec<Vec<&Level>> = axes.iter().map(|axis| axis.levels.iter().collect()).collect();
            let first = Combinations::new(&all).next()?;
            self.decode(stage, &table, &axes, &first, problems);
            return None;
        }
        let made = self.instances_of(stage, &table, &axes, &levels, !placeholders.is_empty(), problems)?;
        // An axis without values has been reported.
        if made.nodes.is_empty()
            && problems.len() == before
            && self.document.axes.iter().all(|axis| !axis.levels.is_empty())
        {
            let problem = Diagnostic::at(stage.span, format!("`{}.{}` has no instance", stage.kind, stage.name));
            problems.push(problem.hint("its inputs have no axis values in common"));
        }
        Some(made)
    }

    fn instances_of(
        &mut self,
        stage: &StageText,
        table: &Table,
        axes: &[&Axis],
        levels: &[Vec<&Level>],
        varies: bool,
        problems: &mut Problems,
    ) -> Option<Made> {
        let names: Vec<String> = axes.iter().map(|axis| axis.name.clone()).collect();
        let mut made = Made::new(names);
        let mut decoded: Option<Vec<Stage>> = None;
        for combination in Combinations::new(levels) {
            // A stage without placeholders says the same for every combination.
            if varies || decoded.is_none() {
                decoded = self.decode(stage, table, axes, &combination, problems);
            }
            let coordinates: BTreeMap<String, AxisValue> =
                axes.iter().zip(&combination).map(|(axis, level)| (axis.name.clone(), level.value.clone())).collect();
            // The first of the parts, and the metrics that it makes of those that it reads, where these are known.
            let (mut sibling, mut metrics) = (None, None);
            for part in decoded.as_ref()? {
                let (document, instances) = (self.document, &self.instances);
                let resolver = resolve::Resolver { document, made: &self.made, instances, sibling };
                let inputs = match resolver.inputs(part, stage.kind, &coordinates, problems) {
                    Resolved::Inputs(inputs) => inputs,
                    Resolved::OutsideTheJoin => break,
                    Resolved::Wrong => return None,
                };
                let mut axes = coordinates.clone();
                if let Some((label, name)) = part.part.as_ref().map(stage::Part::label) {
                    axes.insert(label.to_string(), AxisValue::String(name.to_string()));
                }
                // A score has as many for each scorer.
                if self.instances.len() == MOST_INSTANCES {
                    problems.push(self.too_many(stage, None, &[], &[]));
                    return None;
                }
                let read = metrics_of(&inputs, &self.instances);
                if let Some(metrics) = read.as_ref().or(metrics.as_ref()) {
                    for problem in stage::check_metrics(&part.recipe, metrics) {
                        problems.push(Diagnostic { place: Some(Place::Span(stage.span)), ..problem });
                    }
                }
                metrics = metrics.or(read.map(|read| stage::metrics_made(&part.recipe, read)));
                sibling.get_or_insert(self.instances.len());
                made.add(&coordinates, self.instances.len());
                self.instances.push(Instance {
                    id: InstanceId { kind: stage.kind, name: stage.name.clone(), axes },
                    recipe: part.recipe.clone(),
                    hints: part.hints.clone(),
                    demands: self.demands(part),
                    inputs,
                    span: stage.span,
                });
            }
        }
        Some(made)
    }
}

impl Expansion<'_> {
    /// What a stage asks of the machine, and the manifest of all.
    fn demands(&self, stage: &Stage) -> Demands {
        let of_all = || self.document.require.clone().filter(|_| Require::concerns(&stage.recipe));
        Demands { require: stage.demands.require.clone().or_else(of_all), ..stage.demands.clone() }
    }

    fn too_many(&self, stage: &StageText, count: Option<usize>, axes: &[&Axis], levels: &[Vec<&Level>]) -> Diagnostic {
        let sizes: Vec<String> =
            axes.iter().zip(levels).map(|(axis, levels)| format!("{} × {}", levels.len(), axis.name)).collect();
        let sizes = if sizes.is_empty() { String::new() } else { format!(" ({})", sizes.join(", ")) };
        let before = match self.instances.len() {
            0 => String::new(),
            before => format!(", and {before} come before it"),
        };
        let count = count.map_or("too many".to_string(), |count| count.to_string());
        let message = format!("`{}.{}` has {count} instances{sizes}{before}", stage.kind, stage.name);
        Diagnostic::at(stage.span, message)
            .hint(format!("a pipeline has at most {MOST_INSTANCES}; narrow the stage with `only`"))
    }

    /// The stage's settings with these values of its axes.
    fn decode(
        &mut self,
        stage: &StageText,
        table: &Table,
        axes: &[&Axis],
        combination: &[&Level],
        problems: &mut Problems,
    ) -> Option<Vec<Stage>> {
        let params = self.document.params.entries.iter().map(|(key, value)| (key.name.as_str(), value)).collect();
        let levels = axes.iter().zip(combination).map(|(axis, level)| (axis.name.as_str(), *level)).collect();
        let known = self.document.axes.iter().map(|axis| axis.name.as_str()).collect();
        let contract = contract(stage.kind, table);
        let filled = placeholder::fill(table, &Scope { params, levels, axes: known, contract }, problems);
        let decoded = stage::decode(stage.kind, &filled, stage.span, problems);
        if !problems.is_empty() {
            self.unmade.extend(resolve::paths(stage.kind, filled, stage.span));
        }
        decoded
    }
}

/// What the scores that an aggregate reads are called, where it reads scores only, all made by scorers that are known.
fn metrics_of(inputs: &[ResolvedInput], instances: &[Instance]) -> Option<Vec<String>> {
    let mut metrics = BTreeSet::new();
    let records = || inputs.iter().filter(|input| input.form == Form::Records);
    records().next()?;
    for input in records() {
        let Source::Output { instance, .. } = input.source else { return None };
        let scorer = input.labels.get(stage::SCORER)?.as_str()?;
        metrics.extend(stage::metrics(&instances[instance].recipe, scorer)?);
    }
    Some(metrics.into_iter().collect())
}

/// What the arguments of a stage's command may name beside axes and parameters.
fn contract(kind: Kind, table: &Table) -> Vec<String> {
    if table.get(COMMAND).is_none() {
        return Vec::new();
    }
    let own = kind.reference_settings().iter().copied().filter(|name| table.get(name).is_some());
    let further = table.get("inputs").and_then(Value::as_table).into_iter().flat_map(|inputs| &inputs.entries);
    let inputs = own.chain(further.map(|(key, _)| key.name.as_str())).map(|name| format!("input.{name}"));
    inputs.chain(["output".to_string()]).collect()
}

fn take(table: &mut Table, name: &str) -> Option<Value> {
    let place = table.entries.iter().position(|(key, _)| key.name == name)?;
    Some(table.entries.remove(place).1)
}

/// The levels of each axis, narrowed by `only`.
fn narrow<'a>(axes: &[&'a Axis], only: Option<&Value>, problems: &mut Problems) -> Vec<Vec<&'a Level>> {
    let mut levels: Vec<Vec<&Level>> = axes.iter().map(|axis| axis.levels.iter().collect()).collect();
    let Some(only) = only else { return levels };
    let Some(table) = only.as_table() else {
        problems.at(only.span, format!("`only` is {}: expected a table of axes", only.describe()));
        return levels;
    };
    for (key, value) in &table.entries {
        let Some(place) = axes.iter().position(|axis| axis.name == key.name) else {
            let problem = Diagnostic::at(key.span, format!("the stage does not vary over `{}`", key.name));
            problems.push(problem.suggest(&key.name, axes.iter().map(|axis| axis.name.as_str())));
            continue;
        };
        let wanted = match &value.kind {
            ValueKind::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        let texts: Vec<(String, Span)> = wanted.iter().map(|value| (plain(value), value.span)).collect();
        for (text, span) in &texts {
            if !axes[place].levels.iter().any(|level| level.value.is_called(text)) {
                let known: Vec<String> = axes[place].levels.iter().map(|level| level.value.to_string()).collect();
                let problem = Diagnostic::at(*span, format!("`{text}` is no value of axis `{}`", key.name));
                problems.push(problem.suggest(text, known.iter().map(String::as_str)));
            }
        }
        levels[place].retain(|level| texts.iter().any(|(text, _)| level.value.is_called(text)));
    }
    levels
}

fn plain(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => text.clone(),
        _ => value.to_json().to_string(),
    }
}

/// All combinations of levels; the first axis varies slowest.
struct Combinations<'a, 'b> {
    levels: &'b [Vec<&'a Level>],
    next: Option<Vec<usize>>,
}

impl<'a, 'b> Combinations<'a, 'b> {
    fn new(levels: &'b [Vec<&'a Level>]) -> Self {
        let next = levels.iter().all(|levels| !levels.is_empty()).then(|| vec![0; levels.len()]);
        Self { levels, next }
    }
}

impl<'a> Iterator for Combinations<'a, '_> {
    type Item = Vec<&'a Level>;

    fn next(&mut self) -> Option<Self::Item> {
        let places = self.next.take()?;
        let combination = places.iter().zip(self.levels).map(|(place, levels)| levels[*place]).collect();
        let mut following = places;
        for axis in (0..following.len()).rev() {
            following[axis] += 1;
            if following[axis] < self.levels[axis].len() {
                self.next = Some(following);
                break;
            }
            following[axis] = 0;
        }
        Some(combination)
    }
}
