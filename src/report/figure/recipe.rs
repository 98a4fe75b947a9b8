//! The settings of a figure.

use super::{KINDS, Kind, Place, Scale};
use crate::diagnostic::Problems;
use crate::settings::{Decode, Names, Schema, Value, ValueKind, schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

crate::settings! {
    /// A figure of the aggregate's table, of its statistics, or of its rows.
    pub struct FigureRecipe {
        /// What is drawn.
        kind: FigureKind,
        /// File name without its number and ending; by default the names of what is drawn.
        name: Option<String> = None,
        /// What it is drawn of; by default the table, for boxes, violins, points and densities the rows.
        of: Option<Source> = None,
        /// Which of its rows are drawn: an expression over its columns, such as `n > 0`.
        r#where: Option<String> = None,
        /// What stands on the x axis: a column (of numbers for lines); for points a metric, for densities one or more.
        x: Names = Names::default(),
        /// Metrics to draw, named as in the stage's `metrics`; for points one of them; for heatmaps a column.
        y: Names = Names::default(),
        /// Columns whose values get lines, bars or colours of their own.
        series: Names = Names::default(),
        /// One or two columns whose values get panels of their own; of two, the first makes the rows.
        panel: Names = Names::default(),
        /// The column with the numbers; by default `mean` of the table and `value` of the statistics.
        value: Option<String> = None,
        /// Whether intervals are drawn (`ci_low` to `ci_high`), or the two columns that they are in.
        interval: Interval = Interval::Shown(true),
        /// Lines at values: `{ y = "em", where = "n == 0" }` in each panel, `{ value = 0.5, label = "chance" }` in all.
        reference: References = References::default(),
        /// How x is laid out.
        scale: Scale = Scale::Linear,
        /// How y is laid out.
        y_scale: Scale = Scale::Linear,
        /// Order of the categories on the x axis.
        sort: Sort = Sort::Level,
        /// Order and names of categories, by column: `{ task = ["sst2", "xsum"] }` or `{ task = { sst2 = "SST-2" } }`.
        levels: Levels = Levels::default(),
        /// The part of a heatmap that is shown; both sides have the same names then.
        mask: Option<Mask> = None,
        /// The value that has a heatmap's middle colour; by default 0 where there are values on both sides of it.
        centre: Option<f64> = None,
        /// Whether a heatmap's cells have their values written in them; by default where there is room.
        annotate: Option<bool> = None,
        /// Decimals of values that are written in cells.
        digits: usize = 2 => 0..=10,
        /// What the size of points says.
        size: Option<Size> = None,
        /// A straight line through points, by least squares.
        regression: Option<Regression> = None,
        /// Whether points have histograms at the panel's edges.
        edges: bool = false,
        /// Width in centimetres: 8.5 is a paper's column. A figure that needs more is wider.
        width: f64 = 8.5 => 4.0..=60.0,
        /// Text above the drawing.
        title: Option<String> = None,
        /// Text of the x axis; by default the name of what is there.
        x_label: Option<String> = None,
        /// Text of the y axis; by default the name of what is there.
        y_label: Option<String> = None,
        /// Text of a heatmap's colours; by default the name of the value.
        value_label: Option<String> = None,
    }
}

crate::words! {
    /// What a figure can be.
    pub enum FigureKind {
        /// Lines with bands of confidence.
        Line = "line",
        /// Bars, side by side for each series, with their intervals.
        Bar = "bar",
        /// Boxes from quartile to quartile, whiskers within 1.5 of that, and what lies outside.
        Box = "box",
        /// Densities of the values, upright, with their quartiles.
        Violin = "violin",
        /// Points of two metrics.
        Scatter = "scatter",
        /// Estimated densities of values (Gaussian kernels, Scott's rule).
        Density = "density",
        /// Cells with the colours of their values.
        Heatmap = "heatmap",
    }
}

crate::words! {
    /// What a figure is drawn of.
    pub enum Source {
        /// The table: a row for each group and metric.
        Table = "table",
        /// The statistics: a row for each value of one.
        Statistics = "statistics",
        /// The rows of the experiment.
        Rows = "rows",
    }
}

crate::words! {
    /// The order of categories.
    pub enum Sort {
        /// That of `levels`, then of their values.
        Level = "level",
        /// From the least mean of what is drawn to the greatest.
        Ascending = "ascending",
        /// From the greatest to the least.
        Descending = "descending",
    }
}

crate::words! {
    /// A part of a heatmap.
    pub enum Mask {
        /// Below the diagonal.
        Lower = "lower",
        /// Above the diagonal.
        Upper = "upper",
    }
}

crate::words! {
    /// What the size of points can say.
    pub enum Size {
        /// How many points are equal.
        Count = "count",
    }
}

crate::words! {
    /// How a regression is drawn.
    pub enum Regression {
        /// The line alone.
        Line = "line",
        /// With the 95% confidence band of its mean.
        Band = "band",
    }
}

/// Whether intervals are drawn, and of which columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Interval {
    /// Those of the value, or none.
    Shown(bool),
    /// From one column to another.
    Columns([String; 2]),
}

crate::settings! {
    /// A line at a value.
    pub struct Reference {
        /// The metric whose value it is, from the rows that `where` means; by default the first that is drawn.
        y: Option<String> = None,
        /// The rows that it is the mean of, in each panel: an expression over the table's columns.
        r#where: Option<String> = None,
        /// The value itself.
        value: Option<f64> = None,
        /// Its text in the legend; by default what was asked.
        label: Option<String> = None,
    }
}

/// Lines at values: in a manifest one table, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct References(pub Vec<Reference>);

/// Order and names of categories, by column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Levels(pub Vec<(String, Vec<Level>)>);

/// One category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Its value in the table, as text.
    pub value: String,
    /// What is written for it.
    pub label: String,
}

impl Decode for Interval {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        if let ValueKind::Boolean(shown) = value.kind {
            return Some(Self::Shown(shown));
        }
        let pair = match &value.kind {
            ValueKind::Array(items) if items.len() == 2 => Vec::<String>::decode(value, problems)?.try_into().ok(),
            _ => None,
        };
        if pair.is_none() {
            problems.at(value.span, "expected true, false or the names of two columns: [\"q25\", \"q75\"]");
        }
        pair.map(Self::Columns)
    }

    fn schema() -> Schema {
        let pair = json!({ "type": "array", "items": String::schema(), "minItems": 2, "maxItems": 2 });
        schema::any_of([bool::schema(), pair])
    }
}

impl Decode for References {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::Array(_) => Vec::decode(value, problems).map(Self),
            _ => Reference::decode(value, problems).map(|one| Self(vec![one])),
        }
    }

    fn schema() -> Schema {
        schema::any_of([Reference::schema(), schema::list(&Reference::schema())])
    }
}

impl Decode for Levels {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let ValueKind::Table(table) = &value.kind else {
            problems.at(value.span, format!("expected a table, found {}", value.describe()));
            return None;
        };
        let read: Vec<Option<(String, Vec<Level>)>> = (table.entries.iter())
            .map(|(column, levels)| Some((column.name.clone(), levels_of(levels, problems)?)))
            .collect();
        read.into_iter().collect::<Option<_>>().map(Self)
    }

    fn schema() -> Schema {
        schema::map(&schema::any_of([schema::list(&json!({})), schema::map(&String::schema())]))
    }

    fn written(&self) -> serde_json::Value {
        let entry = |(column, levels): &(String, Vec<Level>)| {
            let names = levels.iter().map(|level| (level.value.clone(), json!(level.label)));
            (column.clone(), names.collect::<serde_json::Map<_, _>>().into())
        };
        self.0.iter().map(entry).collect::<serde_json::Map<_, _>>().into()
    }
}

/// The categories of one column: a list in their order, or a table of their names, which has an order too.
fn levels_of(value: &Value, problems: &mut Problems) -> Option<Vec<Level>> {
    match &value.kind {
        ValueKind::Table(table) => {
            let level = |value: String, label: String| Level { value, label };
            let read: Vec<Option<Level>> = (table.entries.iter())
                .map(|(key, label)| Some(level(key.name.clone(), String::decode(label, problems)?)))
                .collect();
            read.into_iter().collect()
        }
        ValueKind::Array(items) => Some(
            items
                .iter()
                .map(|item| match item.to_json() {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                })
                .map(|text| Level { value: text.clone(), label: text })
                .collect(),
        ),
        _ => {
            problems
                .at(value.span, format!("expected a list of values or a table of names, found {}", value.describe()));
            None
        }
    }
}

impl FigureRecipe {
    pub(super) fn kind(&self) -> &'static Kind {
        // Each is in the table, as a test says.
        KINDS.iter().find(|kind| kind.kind == self.kind).unwrap_or(&KINDS[0])
    }

    /// What it is drawn of.
    pub fn source(&self) -> Source {
        self.of.unwrap_or(self.kind().of)
    }

    /// The metrics that it names (of the statistics, the names of these), each with its setting.
    pub fn metrics(&self) -> Vec<(&'static str, &str)> {
        let kind = self.kind();
        let of = |place: Place| matches!(place, Place::Metrics | Place::Metric);
        let x = self.x.0.iter().filter(|_| of(kind.x)).map(|name| ("x", name.as_str()));
        let y = self.y.0.iter().filter(|_| of(kind.y)).map(|name| ("y", name.as_str()));
        let references = self.reference.0.iter().filter_map(|reference| Some(("reference", reference.y.as_deref()?)));
        x.chain(y).chain(references).collect()
    }

    /// The settings that name columns, with what they name.
    pub(super) fn named_columns(&self) -> Vec<(&'static str, &Names)> {
        let kind = self.kind();
        let column = |place: Place| matches!(place, Place::Column | Place::Optional);
        let mut columns = vec![("series", &self.series), ("panel", &self.panel)];
        columns.extend(column(kind.x).then_some(("x", &self.x)));
        columns.extend(column(kind.y).then_some(("y", &self.y)));
        columns
    }

    /// The settings with expressions, and these.
    pub(super) fn expressions(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let references = self.reference.0.iter().filter_map(|reference| reference.r#where.as_deref());
        let own = self.r#where.as_deref().map(|text| ("where", text));
        own.into_iter().chain(references.map(|text| ("reference", text)))
    }

    /// The columns that it needs beside its metrics, each with the setting that names it first.
    pub fn columns(&self) -> Vec<(&'static str, String)> {
        let named = self.named_columns();
        let named =
            named.into_iter().flat_map(|(setting, names)| names.0.iter().map(move |name| (setting, name.clone())));
        let environment = minijinja::Environment::new();
        let variables = self.expressions().flat_map(|(setting, text)| {
            // That it can be read was seen when the manifest was.
            let expression = environment.compile_expression(text).ok();
            let names = expression.map(|expression| expression.undeclared_variables(false)).unwrap_or_default();
            let names: std::collections::BTreeSet<String> = names.into_iter().collect();
            names.into_iter().map(move |name| (setting, name))
        });
        let mut columns: Vec<(&'static str, String)> = Vec::new();
        for (setting, name) in named.chain(variables) {
            if !columns.iter().any(|(_, known)| *known == name) {
                columns.push((setting, name));
            }
        }
        columns
    }

    /// The name of its files without number and ending: what a path cannot hold on every system becomes `-`.
    pub fn file_name(&self) -> String {
        let drawn = || {
            let names: Vec<&str> = self.x.0.iter().chain(&self.y.0).map(String::as_str).collect();
            match self.kind().y {
                Place::Metrics => self.y.0.join("-"),
                _ => names.join("-"),
            }
        };
        let name = self.name.clone().unwrap_or_else(drawn);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        // A long list of metrics is no name.
        let name: String = name.chars().map(plain).take(100).collect();
        if name.is_empty() { "figure".to_string() } else { name }
    }

    /// The first name that `x` has.
    pub(super) fn x(&self) -> Option<&str> {
        self.x.0.first().map(String::as_str)
    }

    /// The first name that `y` has.
    pub(super) fn y(&self) -> Option<&str> {
        self.y.0.first().map(String::as_str)
    }

    /// The width in a drawing's units.
    pub(super) fn units(&self) -> f64 {
        self.width / 8.5 * 360.0
    }
}
