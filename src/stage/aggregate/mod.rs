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

use super::{Context, Expression, Form, Input, InputSource, InputSpec, Recipe, Stage};
use crate::diagnostic::{Diagnostic, Problems, closest};
use crate::report::figure;
pub use crate::report::figure::FigureRecipe;
use crate::report::tidy::COLUMNS;
pub use crate::settings::Names;
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
        figure::check(&figure.recipe, &figure.written, &by.0, problems);
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
    let figures = recipe.figures.iter().flat_map(FigureRecipe::metrics);
    let figures = figures.map(|(setting, name)| (format!("a figure's `{setting}`"), name));
    let metrics = recipe.metrics.iter().flat_map(|metrics| &metrics.0);
    let named = metrics.map(|name| ("`metrics`".to_string(), name.as_str())).chain(figures);
    let unknown = named.filter(|(_, name)| group::select_one(name, known).next().is_none());
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
        for (name, bytes) in figures::draw(number + 1, recipe, &table)? {
            write(&format!("figures/{name}"), &bytes)?;
        }
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
