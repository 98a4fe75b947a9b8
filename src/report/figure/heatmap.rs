//! Heatmaps: a value for each pair of two columns' values.

use super::data::{Data, Groups, Value, check_names};
use super::grid::{self, Around};
use super::{Axis, ColourBar, Figure, FigureKind, Kind, Mark, Mask, Place, Source, text};
use std::collections::BTreeMap;

pub(super) const KIND: Kind = Kind {
    kind: FigureKind::Heatmap,
    of: Source::Table,
    settings: &["value", "mask", "centre", "annotate", "digits", "value_label"],
    x: Place::Column,
    y: Place::Column,
    build,
};

/// What the panel of a heatmap needs.
const LEAST: f64 = 160.0;

/// Names along both sides, and where each value stands.
struct Sides {
    x: Vec<String>,
    y: Vec<String>,
    /// Values by panel, column and row.
    cells: BTreeMap<(usize, usize, usize), f64>,
}

/// What colours and texts of cells have in common.
struct Look {
    low: f64,
    high: f64,
    diverging: bool,
    digits: usize,
    /// The widest text of a cell; none are written if there is none.
    room: Option<f64>,
}

fn build(data: &Data<'_>) -> anyhow::Result<Figure> {
    let values = data.cells()?;
    let panels = grid::panels(data, &values, LEAST)?;
    let sides = sides(data, &values, &panels.of)?;
    let look = look(data, &sides);
    let mut drafts = panels.drafts();
    for ((panel, column, row), value) in &sides.cells {
        let share = if look.high > look.low { (value - look.low) / (look.high - look.low) } else { 0.5 };
        drafts[*panel].marks.push(Mark::Cell {
            x: *column as f64,
            y: (sides.y.len() - 1 - row) as f64,
            tone: share,
            diverging: look.diverging,
            text: look.room.map(|room| (text::decimals(*value, look.digits), room)),
        });
    }
    for draft in &mut drafts {
        draft.x = Some(Axis::of_names(sides.x.clone()));
        // The first row is the uppermost.
        draft.y = Some(Axis::of_names(sides.y.iter().rev().cloned().collect()));
    }
    let written = if data.recipe.annotate == Some(true) { look.room.map_or(0.0, |room| room + 5.0) } else { 0.0 };
    let named = |name: Option<&str>| name.unwrap_or_default().to_string();
    let around = Around {
        x_label: named(data.recipe.x()),
        y_label: named(data.recipe.y()),
        about: format!("The colours of the cells are values of {}.", data.value_column()),
        least_width: sides.x.len() as f64 * written,
        cells: true,
        ..Around::default()
    };
    let none = Groups { labels: vec![String::new()], of: Vec::new() };
    let mut figure = panels.figure(data, &none, drafts, around)?;
    if !sides.cells.is_empty() {
        let label = data.recipe.value_label.clone().unwrap_or_else(|| data.value_column().to_string());
        figure.colour_bar =
            Some(ColourBar { label, axis: Axis::within(look.low, look.high), diverging: look.diverging });
    }
    Ok(figure)
}

/// The names of both sides and the values between them.
fn sides(data: &Data<'_>, values: &[Value], panels: &[usize]) -> anyhow::Result<Sides> {
    let (x_name, y_name) = (data.recipe.x().unwrap_or_default(), data.recipe.y().unwrap_or_default());
    let (mut x, mut y) = (data.groups(&[x_name], values)?, data.groups(&[y_name], values)?);
    if data.recipe.mask.is_some() {
        one_order(data, &mut x, &mut y);
    }
    check_names(x_name, x.labels.len())?;
    check_names(y_name, y.labels.len())?;
    let mut cells = BTreeMap::new();
    for (number, value) in values.iter().enumerate() {
        let place = (panels[number], x.of[number], y.of[number]);
        if cells.insert(place, value.value).is_some() {
            let place = [(x_name, x.labels[place.1].as_str()), (y_name, &y.labels[place.2])];
            return Err(grid::twice(data, &grid::place(&place)));
        }
    }
    let sides = Sides { x: x.labels, y: y.labels, cells };
    Ok(match data.recipe.mask {
        Some(mask) => sides.masked(mask),
        None => sides,
    })
}

/// Both sides get the names of both, in one order: that of `levels`, else of their first places.
fn one_order(data: &Data<'_>, x: &mut Groups, y: &mut Groups) {
    let mut names: Vec<String> = Vec::new();
    for label in x.labels.iter().chain(&y.labels) {
        if !names.contains(label) {
            names.push(label.clone());
        }
    }
    let sides = [data.recipe.x(), data.recipe.y()];
    let listed = data.recipe.levels.0.iter().find(|(column, _)| sides.contains(&Some(column.as_str())));
    let rank = |name: &String| {
        let place = listed.and_then(|(_, levels)| levels.iter().position(|level| level.label == *name));
        place.unwrap_or(usize::MAX)
    };
    names.sort_by_key(rank);
    for side in [x, y] {
        let place = |label: &String| names.iter().position(|name| name == label).unwrap_or_default();
        let places: Vec<usize> = side.labels.iter().map(place).collect();
        side.of.iter_mut().for_each(|group| *group = places[*group]);
        side.labels.clone_from(&names);
    }
}

impl Sides {
    /// One triangle, without the diagonal. A pair that is given one way round stands for the other as well.
    fn masked(mut self, mask: Mask) -> Self {
        let kept = |(panel, column, row): (usize, usize, usize)| {
            let lower = row > column;
            let turned = if lower == (mask == Mask::Lower) { (panel, column, row) } else { (panel, row, column) };
            (column != row).then_some(turned)
        };
        let mut cells = BTreeMap::new();
        for (place, value) in &self.cells {
            let Some(turned) = kept(*place) else { continue };
            // What is given this way round comes first.
            if turned == *place || !self.cells.contains_key(&turned) {
                cells.insert(turned, *value);
            }
        }
        self.cells = cells;
        // The row or column at the corner has no cell.
        if self.x.len() > 1 {
            match mask {
                Mask::Lower => {
                    self.x.pop();
                    self.y.remove(0);
                    self.shift(0, 1);
                }
                Mask::Upper => {
                    self.y.pop();
                    self.x.remove(0);
                    self.shift(1, 0);
                }
            }
        }
        self
    }

    fn shift(&mut self, columns: usize, rows: usize) {
        let cells = std::mem::take(&mut self.cells);
        self.cells = cells.into_iter().map(|((panel, x, y), value)| ((panel, x - columns, y - rows), value)).collect();
    }
}

/// Values on both sides of 0 have their colours from there; others from the least to the greatest.
fn look(data: &Data<'_>, sides: &Sides) -> Look {
    let values = || sides.cells.values().copied();
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let centre = data.recipe.centre.or((least < 0.0 && most > 0.0).then_some(0.0));
    let (low, high) = match centre {
        Some(centre) => {
            let reach = (most - centre).abs().max((least - centre).abs());
            (centre - reach, centre + reach)
        }
        None => (least, most),
    };
    let digits = data.recipe.digits;
    let texts: Vec<String> = values().map(|value| text::decimals(value, digits)).collect();
    let room = text::widest(texts.iter().map(String::as_str));
    let room = (data.recipe.annotate != Some(false)).then_some(room);
    Look { low, high, diverging: centre.is_some(), digits, room }
}
