//! What an aggregate says, and what of it is wrong.

use super::figures;
use super::group::{COLUMNS, Quantity};
use super::statistics::{self, StatisticRecipe, Statistics};
use crate::diagnostic::{Diagnostic, Problems, Span, closest};
use crate::frame::{Formula, list};
use crate::report::figure::{self, FigureRecipe, Source};
use crate::report::layout::{Best, Layout};
use crate::settings::{At, Decode, Names, Schema, Value, ValueKind, schema};
use crate::stage::{Expression, Form, InputSource, InputSpec, Kind, Recipe, Stage};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What the names of the outputs begin with that hold the statistics.
pub(super) const STATISTICS: &str = "statistics";

/// The unit that is no axis and no column: a row of an instance.
pub(super) const ROW: &str = "row";

/// Everything that can change a byte of the output of an aggregate stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateRecipe {
    /// Whether the inputs are put one below the other instead of being joined.
    pub union: bool,
    /// Columns on which what has no row ids is joined.
    pub join: Option<Names>,
    /// Columns derived of others: an expression, or several of which the first with a value counts.
    pub columns: BTreeMap<String, Names>,
    /// Which rows count: an expression over axes, columns and metrics, such as `n > 0`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Only the first so many rows of each instance count.
    pub first: Option<u64>,
    /// Columns of whose values the first rows are counted apart.
    pub first_per: Names,
    /// For axes or columns, how many of their values count within a group.
    pub at_most: BTreeMap<String, u64>,
    /// Axes and row columns whose values make the groups.
    pub by: Names,
    /// What is counted and what the interval is over: `row`, or an axis or column whose values are averaged first; or both,
    /// from the outer to the inner.
    pub unit: Names,
    /// Metrics to keep: a metric's name, or a scorer's for all of its metrics. All if absent.
    pub metrics: Option<Names>,
    /// Ratios of the means of two metrics.
    pub ratios: BTreeMap<String, (String, String)>,
    /// Further statistics of each group.
    pub values: Vec<Quantity>,
    /// How the interval is made.
    pub interval: Interval,
    /// A level of each of some of `by`: every group is compared with that of the level.
    pub relative_to: BTreeMap<String, serde_json::Value>,
    /// Exponential smoothing of the means over one of `by`.
    pub smooth: Option<Smooth>,
    /// Ranks of the means over one of `by`.
    pub rank: Option<Rank>,
    /// How the table is laid out for readers.
    pub layout: Layout,
    /// Named statistics of the rows.
    pub statistics: Vec<StatisticRecipe>,
    /// Whether the rows are kept as they are when groups are made of them.
    pub rows: bool,
}

crate::words! {
    /// How confidence intervals are made.
    pub enum Interval {
        /// Student's: mean ± t · standard error.
        Student = "student",
        /// Percentiles of a bootstrap over the units.
        Percentile = "percentile",
        /// A bootstrap over the units, bias-corrected and accelerated.
        Bca = "bca",
        /// There is none.
        None = "none",
    }
}

#[expect(clippy::derivable_impls, reason = "`words!` passes no attribute on to a variant")]
impl Default for Interval {
    fn default() -> Self {
        Self::Student
    }
}

crate::settings! {
    /// Exponential smoothing of the means, as pandas' `ewm(alpha=…, adjust=False)` has it.
    pub struct Smooth {
        /// One of `by`, over whose values it goes, in their order.
        over: String,
        /// How much of each value is its own; the rest is of those before.
        alpha: f64 => 0.0..=1.0,
    }
}

crate::settings! {
    /// Ranks of the means.
    pub struct Rank {
        /// One of `by`, whose values are ranked where the rest of `by` is the same.
        of: String,
        /// Which end is rank 1.
        best: Best = Best::High,
    }
}

/// A derived column as it is written: an expression, or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stage) struct Formulas(Names);

impl Decode for Formulas {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let formulas = match &value.kind {
            ValueKind::String(_) => vec![Expression::decode(value, problems)?],
            _ => Vec::decode(value, problems)?,
        };
        Some(Self(Names(formulas.into_iter().map(|formula: Expression| formula.0).collect())))
    }

    fn schema() -> Schema {
        Names::schema()
    }
}

/// Two metrics, in a list.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stage) struct Pair(String, String);

impl Decode for Pair {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match <[String; 2]>::try_from(Vec::<String>::decode(value, problems)?) {
            Ok([upper, lower]) => Some(Self(upper, lower)),
            Err(names) => {
                problems.at(value.span, format!("expected two metrics, found {}", names.len()));
                None
            }
        }
    }

    fn schema() -> Schema {
        schema::list(&String::schema())
    }
}

crate::form! {
    /// Rows of many instances and files → one tidy table, statistics and figures. The settings are followed in this order:
    /// inputs are joined, columns derived, rows filtered, groups made, groups compared.
    pub(in crate::stage) struct AggregateForm {
        /// What is read: a stage (its scores, predictions, metrics, table) or a file of rows, or a list of them.
        from: Origins,
        /// Whether the items of `from` are put one below the other; by default they are joined, scores and predictions on
        /// their axes and row ids.
        union: bool = false,
        /// Columns on which items of `from` are joined that have no row ids, such as files.
        join: Option<Names>,
        /// Columns derived of others, by their names: an expression such as `gpt4.score / 10`, or a list of them, of which
        /// the first that has a value counts. A row has none where a column that is named has none.
        columns: Option<BTreeMap<String, Formulas>>,
        /// Which rows count: an expression over axes, columns and metrics, such as `n > 0`. A row in which one of those has no
        /// value does not; `row.NAME is none` asks for that.
        r#where: Option<Expression>,
        /// Only the first so many rows of each instance count.
        first: Option<u64>,
        /// Columns of whose values the first rows are counted apart.
        first_per: Option<Names>,
        /// For axes or columns, how many of their values count within a group: `{ run = 5 }`.
        at_most: Option<BTreeMap<String, u64>>,
        /// Axes and row columns whose values make the groups.
        by: Option<At<Names>>,
        /// What is counted and what the interval is over: `row`, or an axis or column whose values are averaged first, or
        /// both: `[\"run\", \"row\"]`. By default `row`.
        unit: Option<At<Names>>,
        /// Metrics to keep: a metric's name, or a scorer's for all of its metrics. By default all that scorers and `columns`
        /// made; without scores, all columns of numbers.
        metrics: Option<Names>,
        /// Ratios of the means of two metrics, by their names: `{ gpt4_ratio = [\"gpt4.score\", \"gpt4.reference\"] }`. A mean
        /// of ratios is a derived column.
        ratios: Option<BTreeMap<String, Pair>>,
        /// Further statistics of each group: `median`, `min`, `max`, `sum`, `standard_error`, quantiles such as `q25`.
        values: Option<Vec<Quantity>>,
        /// How the 95% confidence interval is made.
        interval: Interval = Interval::Student,
        /// A level of each of some of `by`, such as `{ n = 0 }`: each mean is compared with that of the group of this level
        /// (columns `difference` and `relative`, the difference divided by the level's mean).
        relative_to: Option<At<BTreeMap<String, serde_json::Value>>>,
        /// Exponential smoothing of the means over one of `by` (column `smoothed`).
        smooth: Option<At<Smooth>>,
        /// Ranks of the means over one of `by` (column `rank`).
        rank: Option<At<Rank>>,
        /// How the table is laid out in its Markdown and LaTeX.
        layout: Option<At<Layout>>,
        /// Named statistics of the rows: correlations, tests between systems, agreement of raters.
        statistics: Option<Statistics>,
        /// Whether the rows are kept, in `rows.parquet`, as they are when groups are made of them.
        rows: bool = false,
        /// Figures of the table.
        figures: Option<Vec<Figure>>,
    }
}

/// `from` as it is written: at least one stage or file.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stage) enum Origins {
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
pub(in crate::stage) struct Figure {
    pub(super) recipe: FigureRecipe,
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

/// What an aggregate stage says → what is done, and with what: the table, then each figure, which reads it.
pub(in crate::stage) fn stages(form: AggregateForm, span: Span, problems: &mut Problems) -> Option<Vec<Stage>> {
    let before = problems.len();
    check(&form, problems);
    let statistics =
        form.statistics.map_or_else(|| Some(Vec::new()), |statistics| statistics::recipes(statistics, problems));
    if problems.len() > before {
        return None;
    }
    let inputs = match form.from {
        Origins::Lone(source) => vec![InputSpec::new("from", Form::Records, source)],
        Origins::List(sources) => {
            let spec = |(number, source)| InputSpec::new(format!("from.{number}"), Form::Records, source);
            sources.into_iter().enumerate().map(spec).collect()
        }
    };
    let figures = figures::named(form.figures.unwrap_or_default());
    let of_rows = figures.iter().any(|figure| figure.recipe.source() == Source::Rows);
    let recipe = AggregateRecipe {
        union: form.union,
        join: form.join,
        columns: form.columns.into_iter().flatten().map(|(name, formulas)| (name, formulas.0)).collect(),
        filter: form.r#where.map(|filter| filter.0),
        first: form.first,
        first_per: form.first_per.unwrap_or_default(),
        at_most: form.at_most.unwrap_or_default(),
        by: form.by.map(|by| by.value).unwrap_or_default(),
        unit: form.unit.map_or_else(|| Names(vec![ROW.to_string()]), |unit| unit.value),
        metrics: form.metrics,
        ratios: form.ratios.into_iter().flatten().map(|(name, Pair(upper, lower))| (name, (upper, lower))).collect(),
        values: form.values.unwrap_or_default(),
        interval: form.interval,
        relative_to: form.relative_to.map(|levels| levels.value).unwrap_or_default(),
        smooth: form.smooth.map(|smooth| smooth.value),
        rank: form.rank.map(|rank| rank.value),
        layout: form.layout.map(|layout| layout.value).unwrap_or_default(),
        statistics: statistics?,
        rows: form.rows || of_rows,
    };
    let table = Stage::new(Recipe::Aggregate(Box::new(recipe)), inputs);
    Some(std::iter::once(table).chain(figures.into_iter().map(|figure| figures::stage(figure.recipe, span))).collect())
}

/// What does not fit together.
fn check(form: &AggregateForm, problems: &mut Problems) {
    let by = form.by.as_ref().map(|by| by.value.clone()).unwrap_or_default();
    if let Some(At { value, span }) = &form.by
        && let Some(name) = value.0.iter().find(|name| COLUMNS.contains(&name.as_str()))
    {
        problems.at(*span, format!("`{name}` in `by` is a column of the table itself"));
    }
    if let Some(unit) = &form.unit {
        check_unit(unit, &by, problems);
    }
    let mut one_of_by = |setting: &str, name: &str, span: Span| {
        if !by.0.iter().any(|known| known == name) {
            let problem = Diagnostic::at(span, format!("`{setting}` names `{name}`, which is not in `by`"));
            problems.push(problem.suggest(name, by.0.iter().map(String::as_str)));
        }
    };
    if let Some(At { value, span }) = &form.relative_to {
        value.keys().for_each(|name| one_of_by("relative_to", name, *span));
    }
    if let Some(At { value, span }) = &form.smooth {
        one_of_by("smooth", &value.over, *span);
    }
    if let Some(At { value, span }) = &form.rank {
        one_of_by("rank", &value.of, *span);
    }
    if let Some(At { value, span }) = &form.layout {
        value.columns.iter().chain(value.rows.iter().flatten()).for_each(|name| one_of_by("layout", name, *span));
    }
    for figure in form.figures.iter().flatten() {
        figure::check(&figure.recipe, &figure.written, &by.0, problems);
    }
}

/// A group of one unit would have no interval.
fn check_unit(unit: &At<Names>, by: &Names, problems: &mut Problems) {
    let At { value: units, span } = unit;
    if let Some(name) = units.0.iter().find(|name| by.0.contains(name)) {
        let problem = Diagnostic::at(*span, format!("`{name}` is in `by`, so each group has one unit only"));
        problems.push(problem.hint(format!("take `{name}` out of `by`, or leave `unit` out to count rows")));
    }
    let is_nested = matches!(&units.0[..], [_] | [_, _]) && units.0.iter().rev().skip(1).all(|name| name != ROW);
    if !is_nested {
        let problem = Diagnostic::at(*span, "`unit` is one name, or an axis or column and what is drawn within it");
        problems.push(problem.hint("for example `unit = [\"run\", \"row\"]`"));
    }
}

impl AggregateRecipe {
    /// The outputs of the kind, without those of figures, and those that this aggregate does not make.
    pub fn outputs(&self) -> Vec<(&'static str, &'static str)> {
        let is_made = |output: &str| match output {
            "rows" => self.rows,
            _ if output.starts_with(STATISTICS) => !self.statistics.is_empty(),
            _ => !figures::is_output(output),
        };
        Kind::Aggregate.outputs().iter().copied().filter(|(output, _)| is_made(output)).collect()
    }

    /// Axes, columns and metrics that groups, limits and formulas name, each with its setting.
    pub(super) fn names(&self) -> Vec<(&'static str, String)> {
        let filter = self.filter.iter().map(|text| ("where", text));
        let formulas = filter.chain(self.columns.values().flat_map(|texts| &texts.0).map(|text| ("columns", text)));
        // That they can be read was seen when the manifest was.
        let formulas = formulas.filter_map(|(setting, text)| Some((setting, Formula::new(text).ok()?)));
        let named = formulas
            .flat_map(|(setting, formula)| formula.names().map(|name| (setting, name.to_string())).collect::<Vec<_>>());
        let derived = |name: &String| self.columns.contains_key(name);
        self.keys().into_iter().chain(named.filter(|(_, name)| !derived(name))).collect()
    }

    /// Axes and columns that groups and limits are made of, each with its setting.
    pub(super) fn keys(&self) -> Vec<(&'static str, String)> {
        let settings: [(&str, Vec<&String>); 4] = [
            ("by", self.by.0.iter().collect()),
            ("unit", self.unit.0.iter().filter(|name| *name != ROW).collect()),
            ("first_per", self.first_per.0.iter().collect()),
            ("at_most", self.at_most.keys().collect()),
        ];
        let names =
            settings.into_iter().flat_map(|(setting, names)| names.into_iter().map(move |name| (setting, name)));
        names
            .filter(|(_, name)| !self.columns.contains_key(*name))
            .map(|(setting, name)| (setting, name.clone()))
            .collect()
    }

    /// The columns that are read of rows; `None`: all, for statistics name any.
    pub(super) fn columns_named(&self) -> Option<BTreeSet<String>> {
        if self.rows || !self.statistics.is_empty() {
            return None;
        }
        let mut names: BTreeSet<String> = self.names().into_iter().map(|(_, name)| name).collect();
        names.extend(self.join.iter().flat_map(|join| join.0.iter().cloned()));
        names.extend(self.metrics.iter().flat_map(|metrics| metrics.0.iter().cloned()));
        names.extend(self.ratios.values().flat_map(|(upper, lower)| [upper.clone(), lower.clone()]));
        Some(names)
    }

    /// That what groups are made of is there.
    pub(super) fn check_known(&self, known: &BTreeSet<String>) -> anyhow::Result<()> {
        match self.keys().into_iter().find(|(_, name)| !known.contains(name)) {
            None => Ok(()),
            Some((setting, name)) => {
                let near = closest(&name, known.iter().map(String::as_str));
                let hint = near.map_or_else(
                    || format!("known are {}", list(known.iter().map(String::as_str))),
                    |near| format!("did you mean `{near}`?"),
                );
                anyhow::bail!("`{setting}`: the rows have no axis and no column `{name}`: {hint}")
            }
        }
    }
}
