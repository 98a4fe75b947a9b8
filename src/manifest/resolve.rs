//! References between stages: which stages a stage reads, in what order they come, and which instance reads which.

use super::document::{Document, StageText};
use super::{AxisValue, Instance, NamedPath, ResolvedInput, Source};
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::settings::{Table, Value, ValueKind};
use crate::stage::score::is_judge;
use crate::stage::{FIGURE, Form, InputSource, InputSpec, Kind, Recipe, Reference, SCORER, Stage};
use petgraph::graphmap::DiGraphMap;
use std::collections::BTreeMap;

/// A reference as it stands in a stage's table, before placeholders are filled in.
#[derive(Debug)]
pub(super) struct Written {
    /// The stage that it names.
    pub(super) stage: usize,
    reference: Reference,
    gather: Option<String>,
    span: Span,
}

impl Written {
    /// Whether the axis of the named stage does not become one of the reader's.
    pub(super) fn collapses(&self, axis: &str) -> bool {
        self.gather.as_deref() == Some(axis) || self.reference.pins.get(axis).is_some()
    }
}

/// The instances of a stage, to be found by their axis values.
#[derive(Debug)]
pub(super) struct Made {
    /// Axes, in the order of the manifest.
    pub(super) axes: Vec<String>,
    pub(super) nodes: Vec<usize>,
    /// The first instance of each combination (a score has one more per further scorer).
    by_values: BTreeMap<Vec<AxisValue>, usize>,
}

impl Made {
    pub(super) fn new(axes: Vec<String>) -> Self {
        Self { axes, nodes: Vec::new(), by_values: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, coordinates: &BTreeMap<String, AxisValue>, node: usize) {
        let values = self.axes.iter().filter_map(|axis| coordinates.get(axis).cloned()).collect();
        self.by_values.entry(values).or_insert(node);
        self.nodes.push(node);
    }
}

/// The references of a stage: what stands in the settings that may hold one.
pub(super) fn references(document: &Document, stage: &StageText, problems: &mut Problems) -> Vec<Written> {
    let mut found = Vec::new();
    for path in stage.kind.reference_settings() {
        let parts: Vec<&str> = path.split('.').collect();
        let root = Value { kind: ValueKind::Table(stage.table.clone()), span: stage.span };
        visit(&root, &parts, None, &mut |value, gather| {
            let Some(text) = value.as_str() else { return };
            let read = Reference::parse(text);
            // What cannot be read as a reference is reported when the settings are decoded; but then it could be one.
            if read.is_err() && text.contains('{') {
                let message = format!("`{text}`: which stage is meant cannot depend on a placeholder");
                let hint = "an axis picks the instances of a stage by itself; a placeholder may name the output";
                problems.push(Diagnostic::at(value.span, message).hint(hint));
            }
            if let Ok(Some(reference)) = read
                && let Some(stage) = find(document, &reference, value.span, problems)
            {
                found.push(Written { stage, reference, gather, span: value.span });
            }
        });
    }
    found
}

/// The files that a stage's settings name, whatever else is wrong with them; placeholders are filled in.
pub(super) fn paths(kind: Kind, table: Table, span: Span) -> Vec<NamedPath> {
    let root = Value { kind: ValueKind::Table(without_judges(table)), span };
    let mut found = Vec::new();
    for setting in kind.reference_settings().iter().chain(&["sources.*.path", "scorers.*.wordnet"]) {
        let parts: Vec<&str> = setting.split('.').collect();
        let form = match parts.as_slice() {
            ["tokenizer"] => Form::Tokenizer,
            ["base" | "model"] | ["scorers", _, "model"] => Form::Model,
            ["scorers", _, "baseline"] => Form::File,
            ["scorers", _, "wordnet"] => Form::WordNet,
            ["inputs", ..] => Form::Any,
            _ => Form::Rows,
        };
        visit(&root, &parts, None, &mut |value, _| {
            if let Some(path) = value.as_str().filter(|path| !path.is_empty())
                && let Ok(None) = Reference::parse(path)
            {
                found.push(NamedPath { form, path: path.to_string(), span: value.span });
            }
        });
    }
    found
}

/// A judge's model is asked elsewhere: it is no folder, however it is written.
fn without_judges(mut table: Table) -> Table {
    for (_, value) in table.entries.iter_mut().filter(|(key, _)| key.name == "scorers") {
        match &mut value.kind {
            ValueKind::Array(items) => items.retain(|scorer| !is_judge(scorer)),
            ValueKind::Table(table) => table.entries.retain(|(_, scorer)| !is_judge(scorer)),
            _ => {}
        }
    }
    table
}

/// Calls `seen` for each string at the path; a list may stand where a string does.
fn visit(value: &Value, path: &[&str], gather: Option<String>, seen: &mut impl FnMut(&Value, Option<String>)) {
    match (&value.kind, path) {
        (ValueKind::Array(items), ["*", rest @ ..]) => items.iter().for_each(|item| visit(item, rest, None, seen)),
        (ValueKind::Table(table), ["*", rest @ ..]) => {
            table.entries.iter().for_each(|(_, value)| visit(value, rest, None, seen));
        }
        (ValueKind::Array(items), []) => items.iter().for_each(|item| visit(item, path, gather.clone(), seen)),
        (ValueKind::Table(table), [first, rest @ ..]) => {
            let gather = table.get("gather").and_then(Value::as_str).map(String::from);
            if let Some(value) = table.get(first) {
                visit(value, rest, gather, seen);
            }
        }
        (_, []) => seen(value, gather),
        _ => {}
    }
}

fn find(document: &Document, reference: &Reference, span: Span, problems: &mut Problems) -> Option<usize> {
    let found = document.places.get(&(reference.kind, reference.name.clone())).copied();
    if found.is_none() {
        let name = reference.stage();
        let known: Vec<String> = document.stages.iter().map(|stage| format!("{}.{}", stage.kind, stage.name)).collect();
        let problem = Diagnostic::at(span, format!("there is no stage `{name}`"));
        problems.push(problem.suggest(&name, known.iter().map(String::as_str)));
    }
    found
}

/// The stages in topological order, ties in the order of the text. `None`: a cycle was reported.
pub(super) fn order(document: &Document, references: &[Vec<Written>], problems: &mut Problems) -> Option<Vec<usize>> {
    let mut graph: DiGraphMap<usize, ()> = DiGraphMap::new();
    (0..references.len()).for_each(|stage| {
        graph.add_node(stage);
    });
    for (stage, references) in references.iter().enumerate() {
        for reference in references {
            graph.add_edge(reference.stage, stage, ());
        }
    }
    if let Ok(order) = petgraph::algo::toposort(&graph, None) {
        return Some(order);
    }
    for component in petgraph::algo::tarjan_scc(&graph) {
        let start = component.iter().copied().min().unwrap_or(0);
        let Some(way) = cycle(start, references) else { continue };
        let name = |stage: &usize| format!("{}.{}", document.stages[*stage].kind, document.stages[*stage].name);
        let names: Vec<String> = way.iter().map(name).collect();
        let span = references[start].iter().find(|written| written.stage == way[1]).map(|written| written.span);
        let span = span.unwrap_or(document.stages[start].span);
        problems.at(span, format!("the stages read each other in a circle: {}", names.join(" → ")));
    }
    None
}

/// A shortest way from `start` along its references back to itself.
fn cycle(start: usize, references: &[Vec<Written>]) -> Option<Vec<usize>> {
    let mut from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut open = std::collections::VecDeque::from([start]);
    while let Some(stage) = open.pop_front() {
        for next in references[stage].iter().map(|written| written.stage) {
            if next == start {
                let mut way = vec![start];
                let mut at = stage;
                while at != start {
                    way.push(at);
                    at = from[&at];
                }
                way.push(start);
                way.reverse();
                return Some(way);
            }
            if let std::collections::btree_map::Entry::Vacant(entry) = from.entry(next) {
                entry.insert(stage);
                open.push_back(next);
            }
        }
    }
    None
}

/// Reports pins and gathered axes that the named stage does not have.
pub(super) fn check_pins(written: &Written, document: &Document, made: Option<&Made>, problems: &mut Problems) {
    let Some(made) = made else { return };
    let name = written.reference.stage();
    // What the parts of a stage are called is no axis.
    let is_part = |label: &str| match written.reference.kind {
        Kind::Score => label == SCORER,
        Kind::Aggregate => label == FIGURE,
        _ => false,
    };
    let known = || made.axes.iter().map(String::as_str);
    if let Some(axis) = &written.gather
        && !made.axes.contains(axis)
    {
        let problem = Diagnostic::at(written.span, format!("`gather`: `{name}` does not vary over `{axis}`"));
        problems.push(problem.suggest(axis, known()));
    }
    for (axis, value) in &written.reference.pins.0 {
        if is_part(axis) || value.contains('{') {
            continue;
        }
        if !made.axes.contains(axis) {
            let problem = Diagnostic::at(written.span, format!("`{name}` does not vary over `{axis}`"));
            problems.push(problem.suggest(axis, known()));
            continue;
        }
        let levels = document.axes.iter().filter(|known| known.name == *axis).flat_map(|axis| &axis.levels);
        let values: Vec<&AxisValue> = levels.map(|level| &level.value).collect();
        if !values.iter().any(|known| known.is_called(value)) {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            let problem = Diagnostic::at(written.span, format!("`{value}` is no value of axis `{axis}`"));
            problems.push(problem.suggest(value, values.iter().map(String::as_str)));
        }
    }
}

/// What became of the inputs of an instance.
pub(super) enum Resolved {
    Inputs(Vec<ResolvedInput>),
    /// An input has no instance at these axis values: neither has the stage.
    OutsideTheJoin,
    /// A problem was reported.
    Wrong,
}

/// Finds the instances that an instance reads.
pub(super) struct Resolver<'a> {
    pub(super) document: &'a Document,
    pub(super) made: &'a BTreeMap<usize, Made>,
    pub(super) instances: &'a [Instance],
    /// The first instance that the stage itself has at these axis values, if this is not that.
    pub(super) sibling: Option<usize>,
}

impl Resolver<'_> {
    pub(super) fn inputs(
        &self,
        stage: &Stage,
        kind: Kind,
        coordinates: &BTreeMap<String, AxisValue>,
        problems: &mut Problems,
    ) -> Resolved {
        let before = problems.len();
        let mut inputs = Vec::new();
        for spec in &stage.inputs {
            let reference = match &spec.source {
                InputSource::Path(path) => {
                    let role = match spec.form {
                        Form::Model => next_layer(spec, &inputs),
                        _ => spec.role.clone(),
                    };
                    inputs.push(self.input(spec, role, Source::Path(path.clone())));
                    continue;
                }
                InputSource::Sibling(output) => {
                    if let Some(node) = self.sibling {
                        self.add(spec, node, output, &mut inputs);
                    }
                    continue;
                }
                InputSource::Stage(reference) => reference,
            };
            let Some(made) =
                find(self.document, reference, spec.span, problems).and_then(|stage| self.made.get(&stage))
            else {
                return Resolved::Wrong;
            };
            let Some(output) = output_of(spec, reference, problems) else { continue };
            let nodes = nodes_of(made, self.instances, spec, reference, kind, coordinates);
            if nodes.is_empty() {
                return Resolved::OutsideTheJoin;
            }
            // A mix's validation rows come along if there are any; whoever asks for them by name must get some.
            let must = spec.form != Form::ValidationRows || reference.output.is_some();
            if let Some(&node) = nodes.iter().find(|&&node| must && !self.instances[node].recipe.fills(output)) {
                problems.push(unfilled(&self.instances[node], reference, output, spec.span));
                return Resolved::Wrong;
            }
            for node in nodes {
                self.add(spec, node, output, &mut inputs);
            }
        }
        if problems.len() == before { Resolved::Inputs(inputs) } else { Resolved::Wrong }
    }

    fn input(&self, spec: &InputSpec, role: String, source: Source) -> ResolvedInput {
        ResolvedInput { role, form: spec.form, labels: BTreeMap::new(), source, inherited: false, span: spec.span }
    }

    fn add(&self, spec: &InputSpec, node: usize, output: &'static str, inputs: &mut Vec<ResolvedInput>) {
        let source = Source::Output { instance: node, output };
        match spec.form {
            // A mix without a validation split gives none; the file would be empty.
            Form::ValidationRows if !self.instances[node].recipe.fills(output) => {}
            Form::Model => {
                for source in self.layers(node, output) {
                    let inherited = source != Source::Output { instance: node, output };
                    let input = self.input(spec, next_layer(spec, inputs), source);
                    inputs.push(ResolvedInput { inherited, ..input });
                }
            }
            Form::Tokenizer => {
                // An adapter has its base's tokenizer.
                let base = self.layers(node, output).into_iter().next().unwrap_or_else(|| source.clone());
                let inherited = base != source;
                inputs.push(ResolvedInput { inherited, ..self.input(spec, spec.role.clone(), base) });
            }
            Form::Records => {
                let labels = &self.instances[node].id.axes;
                let labels = labels.iter().map(|(axis, value)| (axis.clone(), value.to_json())).collect();
                inputs.push(ResolvedInput { labels, ..self.input(spec, spec.role.clone(), source) });
            }
            Form::Rows | Form::ValidationRows | Form::WordNet | Form::File | Form::Any | Form::Argument => {
                inputs.push(self.input(spec, spec.role.clone(), source));
            }
        }
    }

    /// The layers of the model that a train instance makes, or of one of its checkpoints: its base's, then its own.
    fn layers(&self, node: usize, output: &'static str) -> Vec<Source> {
        let instance = &self.instances[node];
        let own = Source::Output { instance: node, output };
        if instance.recipe.is_whole() {
            return vec![own];
        }
        let base = instance.inputs.iter().filter(|input| input.role.starts_with("base."));
        base.map(|input| input.source.clone()).chain([own]).collect()
    }
}

/// The role of the layer that comes after those that are there.
fn next_layer(spec: &InputSpec, inputs: &[ResolvedInput]) -> String {
    let below = inputs.iter().filter(|input| input.form == Form::Model).count();
    format!("{}.{below}", spec.role)
}

/// Says that a stage makes no such output, and how it could.
fn unfilled(instance: &Instance, reference: &Reference, output: &str, span: Span) -> Diagnostic {
    let name = reference.stage();
    match &instance.recipe {
        Recipe::Command(_) => Diagnostic::at(span, format!("the command of `{name}` does not promise `{output}`"))
            .hint(format!("add it to the `outputs` of `{name}`")),
        Recipe::Aggregate(_) if output == "rows" => Diagnostic::at(span, format!("`{name}` keeps no rows"))
            .hint(format!("give `{name}` the setting `rows = true`")),
        Recipe::Aggregate(_) => Diagnostic::at(span, format!("the table of `{name}` has no output `{output}`")).hint(
            format!("a figure is named so: `{name}[figure=NAME].{output}`; statistics need a table `statistics`"),
        ),
        Recipe::Train(_) => {
            let number = Kind::checkpoint(output).unwrap_or_default();
            Diagnostic::at(span, format!("`{name}` keeps no `{output}`"))
                .hint(format!("give `{name}` the setting `checkpoints = {number}`"))
        }
        _ => Diagnostic::at(span, format!("`{name}` has no {output} rows: its `split` gives none"))
            .hint(format!("give `{name}` a `split = {{ {output} = 0.1 }}`")),
    }
}

/// The output that a reference means.
fn output_of(spec: &InputSpec, reference: &Reference, problems: &mut Problems) -> Option<&'static str> {
    let (kinds, default): (&[Kind], usize) = match spec.form {
        Form::Rows => (&[Kind::Mix, Kind::Predict, Kind::Score], 0),
        Form::ValidationRows => (&[Kind::Mix], 1),
        Form::Model | Form::Tokenizer => (&[Kind::Train], 0),
        // What is told of a mix or a training: a mix's statistics, a training's metrics.
        Form::Records => match reference.kind {
            Kind::Mix => (&Kind::ALL, 3),
            Kind::Train => (&Kind::ALL, 1),
            _ => (&Kind::ALL, 0),
        },
        Form::WordNet | Form::File | Form::Any | Form::Argument => (&Kind::ALL, 0),
    };
    let name = reference.stage();
    if !kinds.contains(&reference.kind) {
        let known: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        problems.at(spec.span, format!("`{name}` cannot stand here: expected a stage of kind {}", known.join(" or ")));
        return None;
    }
    let outputs = reference.kind.outputs();
    let wanted = match &reference.output {
        Some(output) => outputs.iter().find(|(known, _)| known == output),
        None => outputs.get(default),
    };
    let (output, path) = wanted?;
    let fits = match spec.form {
        Form::Rows | Form::ValidationRows => path.ends_with(".jsonl"),
        Form::Records => [".jsonl", ".json", ".csv", ".parquet"].iter().any(|ending| path.ends_with(ending)),
        Form::Model | Form::Tokenizer | Form::WordNet => path.ends_with('/'),
        Form::File => !path.ends_with('/'),
        Form::Any | Form::Argument => true,
    };
    if !fits {
        problems.at(spec.span, format!("the output `{output}` of `{name}` cannot be read here"));
        return None;
    }
    Some(output)
}

/// The instances of a stage that agree with the reader's coordinates and the reference's pins.
fn nodes_of(
    made: &Made,
    instances: &[Instance],
    spec: &InputSpec,
    reference: &Reference,
    reader: Kind,
    coordinates: &BTreeMap<String, AxisValue>,
) -> Vec<usize> {
    let gathers = |axis: &str| spec.gather.as_deref() == Some(axis);
    if reader != Kind::Aggregate && spec.gather.is_none() && reference.pins.0.is_empty() {
        let values: Option<Vec<AxisValue>> = made.axes.iter().map(|axis| coordinates.get(axis).cloned()).collect();
        return values.and_then(|values| made.by_values.get(&values)).copied().into_iter().collect();
    }
    let means_figure = reference.pins.get(FIGURE).is_some();
    let agrees = |node: &usize| {
        let axes = &instances[*node].id.axes;
        (!means_figure || axes.contains_key(FIGURE))
            && axes.iter().all(|(axis, value)| match reference.pins.get(axis) {
                Some(pinned) => value.is_called(pinned),
                // A figure is only meant where it is named.
                None if axis == FIGURE => false,
                None => gathers(axis) || coordinates.get(axis).is_none_or(|own| own == value),
            })
    };
    made.nodes.iter().copied().filter(agrees).collect()
}
