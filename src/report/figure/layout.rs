//! Where panels, axes and legends stand, so that no text runs into another.

use super::marks::EDGE;
use super::scale::Axis;
use super::text::{FONT, LINE, widest, width, wrapped};
use super::{Entry, Figure, Panel};

/// Space between a plot and the texts beside it.
pub(super) const GAP: f64 = 6.0;
/// Free at the right.
const RIGHT: f64 = 14.0;
/// The widest names of categories; longer ones are shortened.
pub(super) const NAME_ROOM: f64 = 130.0;
/// Room between the frame and the first and last number of an x axis.
pub(super) const INSET: f64 = 12.0;
/// Width of a colour bar.
pub(super) const COLOUR_BAR: f64 = 11.0;
/// Where there is a choice, panels are this wide.
pub(super) const UNIT_PANEL: f64 = 115.0;
/// No panel is narrower.
const LEAST_PANEL: f64 = 74.0;
/// Names need so much of a line for each, upright and diagonal.
const UPRIGHT_BAND: f64 = 12.5;
const DIAGONAL_BAND: f64 = 17.0;
/// Length of a sample in the legend, its distance from its text, and the distance of entries.
pub(super) const SAMPLE: f64 = 22.0;
pub(super) const SAMPLE_GAP: f64 = 5.0;
const ENTRY_GAP: f64 = 12.0;
pub(super) const LEGEND_LINE: f64 = 16.0;

/// How the names under an axis are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Flat,
    Diagonal,
    Upright,
}

/// All places, in units from the upper left corner.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) title: Vec<String>,
    /// Left end of titles and legends.
    pub(super) left: f64,
    /// Entries of the legend: where their samples begin.
    pub(super) legend: Vec<(f64, f64)>,
    /// How much of the legend's title and of an entry's text there is room for.
    pub(super) legend_room: f64,
    /// Height of a line of the legend.
    pub(super) legend_line: f64,
    /// Left ends of the columns' plots, and their width.
    pub(super) columns: Vec<f64>,
    pub(super) plot_width: f64,
    /// Upper ends of the rows' plots, and their height.
    pub(super) rows: Vec<f64>,
    pub(super) plot_height: f64,
    pub(super) turn: Turn,
    /// Height of what is written under a plot.
    pub(super) under: f64,
    /// Room for the edges' bars.
    pub(super) edge: f64,
}

impl Layout {
    pub(super) fn of(figure: &Figure) -> Self {
        let count = figure.columns.max(1);
        let edge = if figure.panels.iter().any(Panel::has_edges) { EDGE + 6.0 } else { 0.0 };
        let turn_room = names_room(figure);
        // Names under the plots reach to the left of the first of them.
        let y_label = if figure.y_label.is_empty() { 0.0 } else { LINE };
        let mut left = GAP + y_label + column_ticks(figure, 0) + GAP;
        let overhang = overhang(figure);
        let right = right_of(figure).max(overhang) + edge;
        let gutters: Vec<f64> = (1..count)
            .map(|column| match figure.shared_y {
                true => 12.0_f64.max(2.0 * overhang) + edge,
                false => 8.0 + GAP + edge + overhang.max(6.0) + column_ticks(figure, column),
            })
            .collect();
        let between: f64 = gutters.iter().sum();
        let least = figure.panels.iter().map(least_width).fold(LEAST_PANEL, f64::max);
        let asked = figure.width.max(left + right + between + least * count as f64);
        let mut plot_width = (asked - left - right - between) / count as f64;
        let turn = figure.panels.iter().map(|panel| turn_of(&panel.x, plot_width)).fold(Turn::Flat, further);
        let (aside, under) = turned(turn, turn_room);
        if turn == Turn::Diagonal {
            let first = plot_width / figure.panels.iter().map(|panel| panel.x.texts.len()).max().unwrap_or(1) as f64;
            let missing = (GAP + aside - first / 2.0 - left).max(0.0);
            left += missing;
            plot_width -= missing / count as f64;
        }
        plot_width = plot_width.max(least);
        let width = left + right + between + plot_width * count as f64;
        let mut columns = vec![left];
        for gutter in &gutters {
            columns.push(columns[columns.len() - 1] + plot_width + gutter);
        }
        let title_left = if count > 1 || left > width / 3.0 { GAP * 2.0 } else { left };
        let mut layout = Self {
            width,
            height: 0.0,
            title: wrapped(&figure.title, width - GAP - title_left),
            left: title_left,
            legend: Vec::new(),
            legend_room: 0.0,
            legend_line: LEGEND_LINE,
            columns,
            plot_width,
            rows: Vec::new(),
            plot_height: plot_height(figure, plot_width),
            turn,
            under,
            edge,
        };
        layout.place_legend(figure);
        layout.place_rows(figure);
        layout
    }

    fn place_legend(&mut self, figure: &Figure) {
        if figure.legend.is_empty() {
            return;
        }
        let all = self.width - RIGHT - self.left;
        let title = if figure.legend_title.is_empty() { 0.0 } else { width(&figure.legend_title) + 10.0 };
        let indent = title.min(all / 2.0);
        self.legend_room = all - indent - SAMPLE - SAMPLE_GAP;
        let longest = widest(figure.legend.iter().map(|entry| entry.label.as_str())).min(self.legend_room);
        // Columns of one width, so that entries stand under each other.
        let column = SAMPLE + SAMPLE_GAP + ENTRY_GAP + longest;
        let columns = ((all - indent + ENTRY_GAP) / column).floor().max(1.0) as usize;
        let line = figure.legend.iter().map(Entry::height).fold(LEGEND_LINE, f64::max);
        self.legend_line = line;
        let top = GAP + self.title.len() as f64 * LINE + if self.title.is_empty() { 0.0 } else { 4.0 };
        let place = |number: usize| {
            let (row, place) = (number / columns, number % columns);
            (self.left + indent + place as f64 * column, top + row as f64 * line)
        };
        self.legend = (0..figure.legend.len()).map(place).collect();
    }

    fn place_rows(&mut self, figure: &Figure) {
        let head = GAP + self.title.len() as f64 * LINE + if self.title.is_empty() { 2.0 } else { 6.0 };
        let mut y = self.legend.last().map_or(head, |(_, y)| y + self.legend_line + 4.0);
        let count = figure.columns.max(1);
        for row in figure.panels.chunks(count) {
            if row.iter().any(|panel| !panel.title.is_empty()) {
                y += LINE;
            } else if !self.rows.is_empty() {
                // The ends of two y axes have texts.
                y += FONT * 0.5;
            }
            y += self.edge;
            self.rows.push(y);
            y += self.plot_height;
            let number = self.rows.len() - 1;
            let has_ticks = (0..row.len()).any(|column| figure.has_x_ticks(number * count + column));
            y += if has_ticks { self.under + 8.0 } else { 10.0 };
        }
        let label = if figure.x_label.is_empty() { 0.0 } else { LINE };
        self.height = (y + label).ceil();
    }
}

/// The widest text at the y axes of a column.
fn column_ticks(figure: &Figure, column: usize) -> f64 {
    let panels = figure.panels.iter().skip(column).step_by(figure.columns.max(1));
    panels.map(|panel| widest(panel.y.texts.iter().map(String::as_str))).fold(0.0, f64::max).min(NAME_ROOM)
}

/// What stands to the right of the last column.
fn right_of(figure: &Figure) -> f64 {
    let titles = if figure.row_titles.is_empty() { RIGHT } else { LINE + GAP };
    let Some(bar) = &figure.colour_bar else { return titles };
    let label = if bar.label.is_empty() { 0.0 } else { LINE };
    titles + GAP + COLOUR_BAR + GAP + widest(bar.axis.texts.iter().map(String::as_str)) + label
}

/// How far the numbers under a plot can reach beyond its ends, and a little space.
fn overhang(figure: &Figure) -> f64 {
    let numbers = figure.panels.iter().filter(|panel| !panel.x.named);
    let beyond = |panel: &Panel| {
        let inset = if panel.flush { 0.0 } else { INSET };
        let ends = panel.x.texts.first().into_iter().chain(panel.x.texts.last());
        widest(ends.map(String::as_str)) / 2.0 - inset + 3.0
    };
    numbers.map(beyond).fold(0.0, f64::max)
}

fn names_room(figure: &Figure) -> f64 {
    let named = figure.panels.iter().filter(|panel| panel.x.named);
    named.map(|panel| widest(panel.x.texts.iter().map(String::as_str))).fold(0.0, f64::max).min(NAME_ROOM)
}

fn least_width(panel: &Panel) -> f64 {
    let names = panel.x.texts.len() as f64;
    let flat = if panel.x.named { names * UPRIGHT_BAND } else { 0.0 };
    flat.max(panel.least_width)
}

/// Names are written flat where all of them have room for that.
fn turn_of(axis: &Axis, plot_width: f64) -> Turn {
    if !axis.named || axis.texts.is_empty() {
        return Turn::Flat;
    }
    let band = plot_width / axis.texts.len() as f64;
    if widest(axis.texts.iter().map(String::as_str)) + 4.0 <= band {
        Turn::Flat
    } else if band >= DIAGONAL_BAND {
        Turn::Diagonal
    } else {
        Turn::Upright
    }
}

fn further(a: Turn, b: Turn) -> Turn {
    match (a, b) {
        (Turn::Upright, _) | (_, Turn::Upright) => Turn::Upright,
        (Turn::Diagonal, _) | (_, Turn::Diagonal) => Turn::Diagonal,
        _ => Turn::Flat,
    }
}

/// How far names so wide reach to the left and down.
fn turned(turn: Turn, room: f64) -> (f64, f64) {
    let diagonal = std::f64::consts::FRAC_1_SQRT_2;
    match turn {
        Turn::Flat => (0.0, GAP + FONT),
        Turn::Diagonal => (room * diagonal, GAP + FONT * 0.8 + room * diagonal),
        Turn::Upright => (0.0, GAP + room),
    }
}

/// Cells are about as high as they are wide; other plots have the shape of a picture.
fn plot_height(figure: &Figure, plot_width: f64) -> f64 {
    let rows = figure.panels.iter().map(|panel| panel.y.texts.len()).max().unwrap_or(1).max(1) as f64;
    let columns = figure.panels.iter().map(|panel| panel.x.texts.len()).max().unwrap_or(1).max(1) as f64;
    if figure.cells {
        return (rows * (plot_width / columns).clamp(13.5, 30.0)).max(40.0);
    }
    match figure.panels.len() {
        0 | 1 => (plot_width * 0.45).clamp(190.0, 300.0),
        _ => (plot_width * 0.82).clamp(80.0, 180.0),
    }
}
