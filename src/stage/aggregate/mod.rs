//! The aggregate kind: scores of many instances → one tidy table, and figures of it.
//!
//! Rows of all scores are joined on their axes and row id, grouped by axes and columns alike, and each metric of a group
//! becomes a count, a mean, a standard deviation and a 95% confidence interval. The numbers and the drawing are done by
//! [`crate::report`]; this module knows where they come from.

mod figures;
mod gather;
mod group;
#[cfg(test)]
mod tests;

use super::{Context, Form, Input, InputSource, InputSpec, Recipe, Stage};
use crate::diagnostic::{Diagnostic, Problems, Span, closest};
use crate::report::figure::{self, Scale};
use crate::report::table::COLUMNS;
use crate::settings::{Decode, Fields, Value, ValueKind};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fs;

/// The unit that is no axis and no column: a row of an instance.
const ROW: &str = "row";

/// Everything that can change a byte of the output of an aggregate stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateRecipe {
    /// Axes and row columns whose values make the groups.
    pub by: Names,
    /// What is counted and what the interval is over: `row`, or an axis or column whose values are averaged first.
    pub unit: String,
    /// Metrics to keep: a metric's name, or a scorer's for all of its metrics. All if absent.
    pub metrics: Option<Names>,
    /// Which rows count: an expression over axes and columns, such as `n > 0`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Figures of the table.
    pub figures: Vec<FigureRecipe>,
}

crate::settings! {
    /// A figure: the means of metrics over one of the `by` names, with their intervals as bands.
    pub struct FigureRecipe {
        /// What is drawn.
        kind: FigureKind,
        /// File name without its number and ending; by default the metrics' names.
        name: Option<String> = None,
        /// One of `by`, with numbers for values.
        x: String,
        /// Metrics, named as in [`AggregateRecipe::metrics`].
        y: Names,
        /// Those of `by` whose values each get a line of their own.
        series: Names = Names::default(),
        /// How x is laid out.
        scale: Scale = Scale::Linear,
        /// Text above the drawing.
        title: Option<String> = None,
        /// Text of the x axis; by default `x`.
        x_label: Option<String> = None,
        /// Text of the y axis; by default the metric's name.
        y_label: Option<String> = None,
    }
}

/// What a figure can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FigureKind {
    /// Lines with confidence bands.
    Line,
}

/// Names: in a manifest one string, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Names(pub Vec<String>);

impl Decode for Names {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let names = match &value.kind {
            ValueKind::String(name) => vec![name.clone()],
            _ => Vec::decode(value, problems)?,
        };
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            problems.at(value.span, format!("`{}` is named twice", twice.1));
            return None;
        }
        Some(Self(names))
    }
}

impl Decode for FigureKind {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = String::decode(value, problems)?;
        if text == "line" {
            return Some(Self::Line);
        }
        let problem = Diagnostic::at(value.span, format!("unknown kind of figure `{text}`"));
        problems.push(problem.suggest(&text, ["line"]));
        None
    }
}

/// Reads the settings of an aggregate stage.
pub fn decode(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Stage> {
    let inputs = decode_from(fields, problems);
    let by = decode_by(fields, problems);
    let unit = decode_unit(by.as_ref(), fields, problems);
    let metrics = fields.optional("metrics", problems);
    let filter = decode_filter(fields, problems);
    let figures = decode_figures(by.as_ref(), fields, problems);
    let recipe = AggregateRecipe { by: by?, unit: unit?, metrics: metrics?, filter: filter?, figures: figures? };
    Some(Stage::new(Recipe::Aggregate(recipe), inputs?))
}

/// `from`: one stage or file, or a list of them.
fn decode_from(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Vec<InputSpec>> {
    let spec = |role: String, value: &Value, problems: &mut Problems| {
        let source = InputSource::decode(value, problems)?;
        Some(InputSpec { role, form: Form::Scores, source, gather: None, span: value.span })
    };
    let span = fields.span();
    let Some(value) = fields.take("from") else {
        problems.at(span, "`from` is missing");
        return None;
    };
    match &value.kind {
        ValueKind::Array(items) if items.is_empty() => {
            problems.at(value.span, "`from` is empty");
            None
        }
        ValueKind::Array(items) => {
            let read = items.iter().enumerate().map(|(number, item)| spec(format!("from.{number}"), item, problems));
            read.collect::<Vec<_>>().into_iter().collect()
        }
        _ => Some(vec![spec("from".to_string(), value, problems)?]),
    }
}

/// `by`; none of its names may be that of another column of the table.
fn decode_by(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Names> {
    let Some(value) = fields.take("by") else { return Some(Names::default()) };
    let by = Names::decode(value, problems)?;
    if let Some(name) = by.0.iter().find(|name| COLUMNS.contains(&name.as_str())) {
        problems.at(value.span, format!("`{name}` in `by` is a column of the table itself"));
        return None;
    }
    Some(by)
}

/// `unit`; a group of one unit would have no interval.
fn decode_unit(by: Option<&Names>, fields: &mut Fields<'_>, problems: &mut Problems) -> Option<String> {
    let Some(value) = fields.take("unit") else { return Some(ROW.to_string()) };
    let unit = String::decode(value, problems)?;
    if by.is_some_and(|by| by.0.contains(&unit)) {
        let problem = Diagnostic::at(value.span, format!("`{unit}` is in `by`, so each group has one unit only"));
        problems.push(problem.hint(format!("take `{unit}` out of `by`, or leave `unit` out to count rows")));
        return None;
    }
    Some(unit)
}

/// `where`, whose syntax is checked here.
fn decode_filter(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Option<String>> {
    let Some(value) = fields.take("where") else { return Some(None) };
    let text = String::decode(value, problems)?;
    if let Err(error) = minijinja::Environment::new().compile_expression(&text) {
        problems.at(value.span, format!("`{text}` is not an expression: {error}"));
        return None;
    }
    Some(Some(text))
}

/// `figures`: a list of tables. Every point of a line must be one group, so x and series together are `by`.
fn decode_figures(by: Option<&Names>, fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Vec<FigureRecipe>> {
    let Some(value) = fields.take("figures") else { return Some(Vec::new()) };
    let figures: Vec<FigureRecipe> = Vec::decode(value, problems)?;
    let ValueKind::Array(items) = &value.kind else { return None };
    let before = problems.len();
    for (figure, item) in figures.iter().zip(items) {
        if let Some(by) = by {
            check_figure(figure, item, by, problems);
        }
    }
    (problems.len() == before).then_some(figures)
}

fn check_figure(figure: &FigureRecipe, item: &Value, by: &Names, problems: &mut Problems) {
    let place = |setting: &str| -> Span {
        item.as_table().and_then(|table| table.get(setting)).map_or(item.span, |value| value.span)
    };
    let known = || by.0.iter().map(String::as_str);
    if !by.0.contains(&figure.x) {
        let problem = Diagnostic::at(place("x"), format!("`{}` is not in `by`", figure.x));
        problems.push(problem.suggest(&figure.x, known()));
    }
    for name in &figure.series.0 {
        if *name == figure.x {
            problems.at(place("series"), format!("`{name}` is both `x` and `series`"));
        } else if !by.0.contains(name) {
            let problem = Diagnostic::at(place("series"), format!("`{name}` is not in `by`"));
            problems.push(problem.suggest(name, known()));
        }
    }
    if figure.y.0.is_empty() {
        problems.at(place("y"), "`y` names no metric");
    }
    if let Some(rest) = by.0.iter().find(|name| **name != figure.x && !figure.series.0.contains(name)) {
        let problem = Diagnostic::at(item.span, format!("`{rest}` of `by` is neither `x` nor in `series`"));
        problems.push(problem.hint(format!("add `{rest}` to `series`, so that its values get lines of their own")));
    }
    if let Some(name) = &figure.name
        && !super::is_name(name)
    {
        problems.at(place("name"), format!("`{name}` is no name: letters, digits, `_` and `-`"));
    }
}

/// Mistakes that would show themselves late: none can be seen before the scores are there.
pub fn check(_recipe: &AggregateRecipe, _inputs: &[Input]) -> Vec<Diagnostic> {
    Vec::new()
}

/// Does the work: `table.json`, `table.csv`, `table.md` and the files of `figures/`.
pub fn execute(recipe: &AggregateRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let scores = gather::read(recipe, context.inputs)?;
    let table = group::tabulate(recipe, &scores)?;
    let write = |name: &str, bytes: &[u8]| {
        fs::write(context.output.join(name), bytes).with_context(|| format!("cannot write `{name}`"))
    };
    write("table.json", table.to_json().as_bytes())?;
    write("table.csv", table.to_csv()?.as_bytes())?;
    write("table.md", table.to_markdown().as_bytes())?;
    fs::create_dir_all(context.output.join("figures")).context("cannot make the folder `figures`")?;
    for (number, recipe) in recipe.figures.iter().enumerate() {
        let (name, chart) = figures::chart(number + 1, recipe, &table)?;
        let svg = chart.to_svg();
        write(&format!("figures/{name}.svg"), svg.as_bytes())?;
        write(&format!("figures/{name}.png"), &figure::to_png(&svg)?)?;
    }
    Ok(())
}

/// An error of a person's about a name that the scores do not have.
fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> anyhow::Error {
    let hint = match closest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    anyhow::anyhow!("{what} `{name}`: {hint}")
}
