//! What is drawn, read from a table: values with their panel, their series and their place on the x axis.

use super::{FigureRecipe, Interval, Place, Source, text};
use crate::diagnostic::closest;
use crate::report::table::{Cell, Table};
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeMap;

/// So many series can be told apart in a legend.
const SERIES: usize = 24;
/// So many panels are a figure.
const PANELS: usize = 64;
/// So many names can stand along an axis.
pub(super) const NAMES: usize = 100;
/// Numbers beyond this are no measurement, and their differences no numbers.
const GREATEST: f64 = 1e300;

/// A table with what a recipe wants of it.
pub(super) struct Data<'a> {
    pub(super) recipe: &'a FigureRecipe,
    pub(super) table: &'a Table,
    pub(super) mask: &'a dyn Fn(&str) -> anyhow::Result<Vec<bool>>,
    /// Numbers of the rows that are drawn.
    rows: Vec<usize>,
    /// The metrics that are drawn.
    pub(super) metrics: Vec<String>,
}

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub(super) row: usize,
    pub(super) metric: usize,
    pub(super) value: f64,
    pub(super) interval: Option<(f64, f64)>,
}

/// The different values of columns, and which of them each value of the figure has.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Their texts.
    pub(super) labels: Vec<String>,
    /// For each value of the figure, its group.
    pub(super) of: Vec<usize>,
}

impl<'a> Data<'a> {
    pub(super) fn of(
        recipe: &'a FigureRecipe,
        table: &'a Table,
        mask: &'a dyn Fn(&str) -> anyhow::Result<Vec<bool>>,
    ) -> anyhow::Result<Self> {
        let rows = match &recipe.r#where {
            Some(filter) => {
                let kept = mask(filter).with_context(|| format!("`where = \"{filter}\"`"))?;
                (0..table.rows()).filter(|row| kept.get(*row).copied().unwrap_or(false)).collect()
            }
            None => (0..table.rows()).collect(),
        };
        let mut data = Self { recipe, table, mask, rows, metrics: Vec::new() };
        let kind = recipe.kind();
        let wanted: Vec<&String> = [(kind.x, &recipe.x), (kind.y, &recipe.y)]
            .into_iter()
            .filter(|(place, _)| matches!(place, Place::Metrics | Place::Metric))
            .flat_map(|(_, names)| &names.0)
            .collect();
        for name in wanted {
            data.select(name)?;
        }
        Ok(data)
    }

    /// The column that says which metric a row is of: none of the experiment's rows, where metrics are columns.
    fn metric_column(&self) -> Option<&'static str> {
        match self.recipe.source() {
            Source::Table => Some("metric"),
            Source::Statistics => Some("statistic"),
            Source::Rows => None,
        }
    }

    /// Adds the metrics that `name` means: one of this name, or all of a scorer of this name.
    pub(super) fn select(&mut self, name: &str) -> anyhow::Result<()> {
        let known: Vec<String> = match self.metric_column() {
            Some(column) => {
                let mut known: Vec<String> = Vec::new();
                for cell in &self.column(column)?.cells {
                    if !known.iter().any(|known| *known == cell.text()) {
                        known.push(cell.text().into_owned());
                    }
                }
                known
            }
            None => self.table.names().map(str::to_string).collect(),
        };
        let is_meant =
            |metric: &&String| metric.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let meant: Vec<String> = known.iter().filter(is_meant).cloned().collect();
        // A table without rows has no metrics that could be missing.
        if meant.is_empty() && (self.table.rows() > 0 || self.metric_column().is_none()) {
            return Err(unknown("no metric", name, known.iter().map(String::as_str)));
        }
        let new = meant.into_iter().filter(|metric| !self.metrics.contains(metric)).collect::<Vec<_>>();
        self.metrics.extend(new);
        Ok(())
    }

    /// The name under which the metric of a value can be used like a column.
    pub(super) fn metric_name(&self) -> &'static str {
        self.metric_column().unwrap_or("metric")
    }

    pub(super) fn column(&self, name: &str) -> anyhow::Result<&'a crate::report::table::Column> {
        self.table.column(name).ok_or_else(|| unknown("no column", name, self.table.names()))
    }

    /// The values of all metrics, without those that are null.
    pub(super) fn values(&self) -> anyhow::Result<Vec<Value>> {
        let mut values = Vec::new();
        let Some(metric_column) = self.metric_column() else {
            for (metric, name) in self.metrics.iter().enumerate() {
                let cells = &self.column(name)?.cells;
                for row in &self.rows {
                    values.extend(number(&cells[*row], name)?.map(|value| self.value(*row, metric, value, None)));
                }
            }
            return Ok(values);
        };
        let metrics = &self.column(metric_column)?.cells;
        let numbers = self.column(self.value_column())?;
        let interval = self.interval_columns()?;
        for row in &self.rows {
            let metric = metrics[*row].text();
            let Some(metric) = self.metrics.iter().position(|known| *known == metric) else { continue };
            let Some(value) = number(&numbers.cells[*row], &numbers.name)? else { continue };
            let end = |column: &crate::report::table::Column| number(&column.cells[*row], &column.name);
            let ends = match interval {
                Some([low, high]) => end(low)?.zip(end(high)?),
                None => None,
            };
            values.push(self.value(*row, metric, value, ends));
        }
        Ok(values)
    }

    /// Any row with a number in the value column, whatever its metric: what a heatmap has for cells.
    pub(super) fn cells(&self) -> anyhow::Result<Vec<Value>> {
        let numbers = self.column(self.value_column())?;
        let mut values = Vec::new();
        for row in &self.rows {
            let value = number(&numbers.cells[*row], &numbers.name)?;
            values.extend(value.map(|value| self.value(*row, 0, value, None)));
        }
        Ok(values)
    }

    fn value(&self, row: usize, metric: usize, value: f64, interval: Option<(f64, f64)>) -> Value {
        Value { row, metric, value, interval }
    }

    pub(super) fn value_column(&self) -> &'a str {
        match (&self.recipe.value, self.recipe.source()) {
            (Some(name), _) => name,
            (None, Source::Statistics) => "value",
            (None, _) => "mean",
        }
    }

    /// The columns of the interval: those of the mean and of a statistic's value have names.
    fn interval_columns(&self) -> anyhow::Result<Option<[&'a crate::report::table::Column; 2]>> {
        match &self.recipe.interval {
            Interval::Columns([low, high]) => Ok(Some([self.column(low)?, self.column(high)?])),
            Interval::Shown(true) if matches!(self.value_column(), "mean" | "value") => {
                Ok(self.table.column("ci_low").zip(self.table.column("ci_high")).map(|(low, high)| [low, high]))
            }
            Interval::Shown(_) => Ok(None),
        }
    }

    /// The columns whose values get series of their own: the metrics too where several are drawn and nothing else tells
    /// them apart.
    pub(super) fn series_names(&self) -> Vec<&'a str> {
        let metric = self.metric_name();
        let recipe = self.recipe;
        let told = || recipe.x.0.iter().chain(&recipe.series.0).chain(&recipe.panel.0).any(|name| name == metric);
        // The two metrics of a point are no two series.
        let points = recipe.kind().y == Place::Metric;
        let extra = (self.metrics.len() > 1 && !points && !told()).then_some(metric);
        extra.into_iter().chain(recipe.series.0.iter().map(String::as_str)).collect()
    }

    /// The series of `values`.
    pub(super) fn series(&self, values: &[Value]) -> anyhow::Result<Groups> {
        let names = self.series_names();
        let groups = self.groups(&names, values)?;
        let count = groups.labels.len();
        ensure!(
            count <= SERIES,
            "{count} series cannot be told apart (at most {SERIES}): give `{}` panels of its own (`panel`), or draw fewer \
             (`where`)",
            names.last().unwrap_or(&"series")
        );
        Ok(groups)
    }

    /// The groups of `values` by `names`, in the order of their levels.
    pub(super) fn groups(&self, names: &[&str], values: &[Value]) -> anyhow::Result<Groups> {
        let columns: Vec<Groups> = names.iter().map(|name| self.levels(name, values)).collect::<anyhow::Result<_>>()?;
        let columns = match <[Groups; 1]>::try_from(columns) {
            Ok([column]) => return Ok(column),
            Err(columns) => columns,
        };
        let key = |value: usize| -> Vec<usize> { columns.iter().map(|column| column.of[value]).collect() };
        let mut numbers: BTreeMap<Vec<usize>, usize> = (0..values.len()).map(|value| (key(value), 0)).collect();
        if names.is_empty() {
            // Without names all are one group, even if there are none.
            numbers.insert(Vec::new(), 0);
        }
        let mut labels = Vec::new();
        for (levels, number) in &mut numbers {
            *number = labels.len();
            let texts = levels.iter().zip(&columns).map(|(level, column)| column.labels[*level].as_str());
            labels.push(texts.collect::<Vec<_>>().join(" · "));
        }
        Ok(Groups { labels, of: (0..values.len()).map(|value| numbers[&key(value)]).collect() })
    }

    /// The groups of `values` by one column, in the order of `levels`; metrics have that in which they are named, the rest
    /// that of their values.
    fn levels(&self, name: &str, values: &[Value]) -> anyhow::Result<Groups> {
        let column = match self.table.column(name) {
            Some(column) => Some(&column.cells),
            None if name == self.metric_name() => None,
            None => return Err(unknown("no column", name, self.table.names())),
        };
        let metrics: Vec<Cell> = self.metrics.iter().map(|metric| Cell::Text(metric.clone())).collect();
        let cell = |value: &Value| match column {
            Some(cells) => &cells[value.row],
            None => &metrics[value.metric],
        };
        let mut numbers: BTreeMap<&Cell, usize> = BTreeMap::new();
        for value in values {
            numbers.entry(cell(value)).or_default();
        }
        let listed = self.recipe.levels.0.iter().find(|(column, _)| column == name).map(|(_, levels)| levels);
        let level = |cell: &Cell| {
            let text = cell.text();
            listed.and_then(|levels| levels.iter().enumerate().find(|(_, level)| level.value == text))
        };
        let named = |cell: &Cell| {
            let metric = (name == self.metric_name()).then(|| metrics.iter().position(|metric| metric == cell));
            metric.flatten().unwrap_or(0)
        };
        let mut order: Vec<&Cell> = numbers.keys().copied().collect();
        if order.iter().all(|cell| parsed(cell).is_some()) {
            order.sort_by(|a, b| parsed(a).unwrap_or(0.0).total_cmp(&parsed(b).unwrap_or(0.0)));
        }
        order.sort_by_key(|cell| (level(cell).map_or(usize::MAX, |(place, _)| place), named(cell)));
        for (number, cell) in order.iter().enumerate() {
            numbers.insert(cell, number);
        }
        let label = |cell: &&Cell| level(cell).map_or_else(|| visible(cell), |(_, level)| level.label.clone());
        Ok(Groups {
            labels: order.iter().map(label).collect(),
            of: values.iter().map(|value| numbers[cell(value)]).collect(),
        })
    }

    /// The number that column `name` has in a row.
    pub(super) fn number_of(&self, name: &str, row: usize) -> anyhow::Result<f64> {
        let cell = &self.column(name)?.cells[row];
        match parsed(cell).filter(|number: &f64| number.abs() <= GREATEST) {
            Some(number) => Ok(number),
            None => bail!("`{name}` is {}: the x of a line must be a number", cell.to_json()),
        }
    }

    /// A metric's name, or what many have in common.
    pub(super) fn metrics_label(&self) -> String {
        match self.metrics.as_slice() {
            [metric] => metric.clone(),
            _ => "score".to_string(),
        }
    }
}

/// A cell as a number: those of CSV files are texts.
fn parsed(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Text(text) => text.trim().parse().ok(),
        other => other.number(),
    }
}

/// A category's text: what cannot be seen is shown by what stands for it.
fn visible(cell: &Cell) -> String {
    match (cell, text::plain(&cell.text()).as_str()) {
        (Cell::Null, _) => "–".to_string(),
        (_, "") => "\"\"".to_string(),
        (_, text) => text.to_string(),
    }
}

/// A cell of numbers. What is not finite is no value.
fn number(cell: &Cell, column: &str) -> anyhow::Result<Option<f64>> {
    match cell {
        Cell::Null => Ok(None),
        Cell::Bool(value) => Ok(Some(f64::from(u8::from(*value)))),
        other => match other.number() {
            Some(value) => Ok(Some(value).filter(|value| value.abs() <= GREATEST)),
            None => bail!("`{column}` holds {}, which is no number", other.to_json()),
        },
    }
}

/// Of panels there is an end, too.
pub(super) fn check_panels(count: usize) -> anyhow::Result<()> {
    ensure!(count <= PANELS, "{count} panels are no figure (at most {PANELS}): draw fewer (`where`)");
    Ok(())
}

/// Of names along an axis there is an end, too.
pub(super) fn check_names(column: &str, count: usize) -> anyhow::Result<()> {
    ensure!(
        count <= NAMES,
        "`{column}` has {count} values, which cannot be read along an axis (at most {NAMES}): draw fewer (`where`)"
    );
    Ok(())
}

/// An error of a person's about a name that the table does not have.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> anyhow::Error {
    let hint = match closest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.clone().next().is_none() => "it has none".to_string(),
        None => format!("known are {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    anyhow::anyhow!("there is {what} `{name}`: {hint}")
}
