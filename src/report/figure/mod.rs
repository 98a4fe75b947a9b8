//! Figures of a table: SVG for screens, PNG and PDF for papers.
//!
//! A recipe ([`FigureRecipe`]) says what is drawn of which columns; its kind, one file and one line of `KINDS`, makes a
//! `Figure` of the table: panels with marks at values. Laying out and drawing know only that. Ink is hand-written to SVG
//! and PDF: plotters knows no symmetric-logarithmic axis, and places texts by the fonts of the machine. Here every text is
//! measured in the font that the program carries, and that font is what PNG and PDF show.
//!
//! There is a light and a dark SVG, not one that follows `prefers-color-scheme`: a file that looks otherwise in a paper than
//! on its author's screen is no good, resvg reads no media queries, and a page can choose by `<picture>` or by a button.
//! Colours can be told apart by the colour-blind; markers and dashes say the same again.

mod bar;
mod boxes;
mod check;
mod colour;
mod data;
mod density;
mod grid;
mod heatmap;
mod ink;
mod kernel;
mod layout;
mod line;
mod marks;
mod paint;
mod pdf;
mod png;
mod recipe;
mod reference;
mod scale;
mod scatter;
mod svg;
mod text;
mod violin;

pub use check::check;
pub use recipe::{
    FigureKind, FigureRecipe, Interval, Level, Levels, Mask, Reference, References, Regression, Size, Sort, Source,
};
pub use scale::Scale;

use crate::report::table::Table;
use colour::Theme;
use marks::{Five, Mark};
use scale::Axis;

/// What can be said of a kind of figure.
struct Kind {
    /// Its word in manifests.
    kind: FigureKind,
    /// What it is drawn of, if the recipe does not say.
    of: Source,
    /// Settings that it knows beside those of all kinds.
    settings: &'static [&'static str],
    /// What its `x` is.
    x: Place,
    /// What its `y` is.
    y: Place,
    /// Makes the figure.
    build: fn(&data::Data<'_>) -> anyhow::Result<Figure>,
}

/// What a setting that names columns stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// One column, whose values are places on the axis.
    Column,
    /// The same, but it may be left out.
    Optional,
    /// Metrics, whose values are drawn.
    Metrics,
    /// One metric.
    Metric,
    /// Nothing: the kind has none.
    Absent,
}

/// Every kind.
const KINDS: &[Kind] = &[line::KIND, bar::KIND, boxes::KIND, violin::KIND, scatter::KIND, density::KIND, heatmap::KIND];

/// A figure: panels in a grid, with what is around them.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    /// Text above; may be empty.
    title: String,
    /// What is shown, for those who cannot see it.
    about: String,
    /// Text of the x axes.
    x_label: String,
    /// Text of the y axes.
    y_label: String,
    /// Least width; 360 is a paper's column.
    width: f64,
    /// What tells the series apart (`target`); may be empty.
    legend_title: String,
    /// The legend; none if empty.
    legend: Vec<Entry>,
    /// What the colours of cells mean.
    colour_bar: Option<ColourBar>,
    /// Panels in a row.
    columns: usize,
    /// The panels, row by row.
    panels: Vec<Panel>,
    /// What the panels of each row have in common, beside it; may be empty.
    row_titles: Vec<String>,
    /// Whether all panels have one y axis.
    shared_y: bool,
    /// Whether all panels have one x axis.
    shared_x: bool,
    /// Whether panels are made of cells, with names at both sides.
    cells: bool,
}

/// One pair of axes.
#[derive(Clone, Debug, PartialEq)]
struct Panel {
    /// Text above; may be empty.
    title: String,
    /// The axis from left to right.
    x: Axis,
    /// The axis upwards.
    y: Axis,
    /// What is drawn, in this order.
    marks: Vec<Mark>,
    /// What the marks need to be told apart.
    least_width: f64,
    /// Whether the ends of the x axis are the ends of the plot.
    flush: bool,
}

/// A line of the legend.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// Its text.
    label: String,
    /// What stands before it.
    sample: Sample,
}

/// What a legend shows of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sample {
    /// A line with a marker.
    Line(usize),
    /// A line.
    Curve(usize),
    /// An area.
    Area(usize),
    /// A dot of a radius.
    Dot(usize, f64),
    /// A circle of a radius, of no series.
    Size(f64),
    /// A reference line.
    Level,
}

/// The scale of the colours of cells.
#[derive(Clone, Debug, PartialEq)]
struct ColourBar {
    /// Its name.
    label: String,
    /// From the least to the greatest value.
    axis: Axis,
    /// Whether there is a centre.
    diverging: bool,
}

impl Entry {
    /// What its sample needs of a line.
    fn height(&self) -> f64 {
        match self.sample {
            Sample::Size(radius) => 2.0 * radius + 3.0,
            _ => 0.0,
        }
    }
}

impl Panel {
    fn has_edges(&self) -> bool {
        self.marks.iter().any(|mark| matches!(mark, Mark::Edges { .. }))
    }
}

impl Figure {
    /// The figure as SVG. Its texts stay texts.
    fn to_svg(&self, theme: Theme) -> String {
        svg::write(&paint::paint(self, theme))
    }

    /// The figure as PDF of its size, with texts that can be searched.
    fn to_pdf(&self) -> anyhow::Result<Vec<u8>> {
        pdf::write(&paint::paint(self, Theme::Light))
    }

    /// Whether something is written under the x axis of panel `number`: at the lower end of each column, or everywhere.
    fn has_x_ticks(&self, number: usize) -> bool {
        !self.shared_x || number + self.columns.max(1) >= self.panels.len()
    }
}

/// A picture of an SVG.
pub fn to_png(svg: &str) -> anyhow::Result<Vec<u8>> {
    png::render(svg)
}

/// The figure that `recipe` describes. `mask` says which rows of `table` an expression is true for.
fn build(
    recipe: &FigureRecipe,
    table: &Table,
    mask: &dyn Fn(&str) -> anyhow::Result<Vec<bool>>,
) -> anyhow::Result<Figure> {
    let data = data::Data::of(recipe, table, mask)?;
    (recipe.kind().build)(&data)
}

/// The files of a figure: the endings of their names, and bytes.
pub fn draw(
    recipe: &FigureRecipe,
    table: &Table,
    mask: &dyn Fn(&str) -> anyhow::Result<Vec<bool>>,
) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let figure = build(recipe, table, mask)?;
    let (light, dark) = (figure.to_svg(Theme::Light), figure.to_svg(Theme::Dark));
    Ok(vec![
        (".png", to_png(&light)?),
        (".pdf", figure.to_pdf()?),
        ("-dark.png", to_png(&dark)?),
        (".svg", light.into_bytes()),
        ("-dark.svg", dark.into_bytes()),
    ])
}

#[cfg(test)]
mod tests;
