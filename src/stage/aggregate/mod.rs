//! The aggregate kind: scores of many instances → one tidy table, and figures of it.
//!
//! Rows of all scores are joined on their axes and row id, grouped by axes and columns alike, and each metric of a group
//! becomes a count, a mean, a standard deviation and a 95% confidence interval. The numbers and the drawing are done by
//! [`crate::report`]; this module knows where they come from.

mod figures;
mod gather;
mod group;
pub mod statistics;
#[cfg(test)]
mod tests;

use super::{Context, Expression, Form, Input, InputSource, InputSpec, Recipe, Stage};
use crate::diagnostic::{Diagnostic, Problems, Span, closest};
use crate::report::figure::{self, Scale};
use crate::report::tidy::COLUMNS;
use crate::settings::{At, Decode, Schema, Value, ValueKind, schema};
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
        /// Metrics to draw, named as in the stage's `metrics`.
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

crate::words! {
    /// What a figure can be.
    pub enum FigureKind {
        /// Lines with confidence bands.
        Line = "line",
    }
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

    fn schema() -> Schema {
        schema::any_of([String::schema(), schema::list(&String::schema())])
    }
}

crate::form! {
    /// Scores of many instances → one tidy table, and figures of it.
    pub(super) struct AggregateForm {
        /// The scores: a stage or a file, or a list of them.
        from: Origins,
        /// Axes and row columns whose values make the groups.
        by: Option<At<Names>>,
        /// What is counted and what the interval is over: `row`, or an axis or column whose values are averaged first. By
        /// default `row`.
        unit: Option<At<String>>,
        /// Metrics to keep: a metric's name, or a scorer's for all of its metrics. All if absent.
        metrics: Option<Names>,
        /// Which rows count: an expression over axes and columns, such as `n > 0`.
        r#where: Option<Expression>,
        /// Figures of the table.
        figures: Option<Vec<Figure>>,
    }
}

/// `from` as it is written: at least one stage or file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origins {
    /// One.
    Lone(At<InputSource>),
    /// A list, whose scores are joined.
    List(Vec<At<InputSource>>),
}

impl Decode for Origins {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::Array(items) if items.is_empty() => {
                problems.at(value.span, "`from` is empty");
                None
            }
            ValueKind::Array(_) => Vec::decode(value, problems).map(Self::List),
            _ => At::decode(value, problems).map(Self::Lone),
        }
    }

    fn schema() -> Schema {
        schema::any_of([InputSource::schema(), schema::some(&InputSource::schema())])
    }
}

/// A figure, and the table that says it: what does not fit the stage is shown there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    recipe: FigureRecipe,
    written: Value,
}

impl Decode for Figure {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        Some(Self { recipe: FigureRecipe::decode(value, problems)?, written: value.clone() })
    }

    fn schema() -> Schema {
        FigureRecipe::schema()
    }
}

/// What an aggregate stage says → what is done, and with what.
pub(super) fn stage(form: AggregateForm, problems: &mut Problems) -> Option<Stage> {
    let AggregateForm { from, by, unit, metrics, r#where, figures } = form;
    let before = problems.len();
    if let Some(by) = &by {
        check_by(by, problems);
    }
    let by = by.map(|by| by.value).unwrap_or_default();
    if let Some(unit) = &unit {
        check_unit(unit, &by, problems);
    }
    let figures = figures.unwrap_or_default();
    for figure in &figures {
        check_figure(&figure.recipe, &figure.written, &by, problems);
    }
    if problems.len() > before {
        return None;
    }
    let inputs = match from {
        Origins::Lone(source) => vec![InputSpec::new("from", Form::Scores, source)],
        Origins::List(sources) => {
            let spec = |(number, source)| InputSpec::new(format!("from.{number}"), Form::Scores, source);
            sources.into_iter().enumerate().map(spec).collect()
        }
    };
    let recipe = AggregateRecipe {
        by,
        unit: unit.map_or_else(|| ROW.to_string(), |unit| unit.value),
        metrics,
        filter: r#where.map(|filter| filter.0),
        figures: figures.into_iter().map(|figure| figure.recipe).collect(),
    };
    Some(Stage::new(Recipe::Aggregate(recipe), inputs))
}

/// None of the names may be that of another column of the table.
fn check_by(by: &At<Names>, problems: &mut Problems) {
    if let Some(name) = by.value.0.iter().find(|name| COLUMNS.contains(&name.as_str())) {
        problems.at(by.span, format!("`{name}` in `by` is a column of the table itself"));
    }
}

/// A group of one unit would have no interval.
fn check_unit(unit: &At<String>, by: &Names, problems: &mut Problems) {
    let At { value: name, span } = unit;
    if by.0.contains(name) {
        let problem = Diagnostic::at(*span, format!("`{name}` is in `by`, so each group has one unit only"));
        problems.push(problem.hint(format!("take `{name}` out of `by`, or leave `unit` out to count rows")));
    }
}

/// Every point of a line must be one group, so x and series together are `by`.
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

/// Axes and columns that the recipe names, each with its setting.
pub fn names(recipe: &AggregateRecipe) -> Vec<(&'static str, String)> {
    gather::names(recipe)
}

/// Names of metrics that the scores will not have.
pub(super) fn check_metrics(recipe: &AggregateRecipe, known: &[String]) -> Vec<Diagnostic> {
    let figures = recipe.figures.iter().map(|figure| ("a figure's `y`", &figure.y));
    let named = recipe.metrics.iter().map(|metrics| ("`metrics`", metrics)).chain(figures);
    let unknown = named.flat_map(|(setting, names)| {
        names.0.iter().filter(|name| group::select_one(name, known).next().is_none()).map(move |name| (setting, name))
    });
    let known = || known.iter().map(String::as_str);
    unknown
        .map(|(setting, name)| {
            Diagnostic::new(format!("{setting} names `{name}`, which no score has")).suggest(name, known())
        })
        .collect()
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
        None if known.clone().next().is_none() => "they have none".to_string(),
        None => format!("known are {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    anyhow::anyhow!("{what} `{name}`: {hint}")
}
