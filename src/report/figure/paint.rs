//! A figure with its axes, titles and legend, as ink.

use super::colour::{Palette, Theme};
use super::ink::{Anchor, Ink, Style, Text};
use super::layout::{COLOUR_BAR, GAP, INSET, Layout, NAME_ROOM, SAMPLE, SAMPLE_GAP, Turn};
use super::marks::{Frame, LEVEL_DASH, fitted, marker, say_nothing, stroke};
use super::text::{FONT, LINE, shortened, widest, width};
use super::{ColourBar, Figure, Panel, Sample};

/// From a text's middle to its base line.
const MIDDLE: f64 = FONT * 0.35;

pub(super) fn paint(figure: &Figure, theme: Theme) -> Ink {
    let palette = Palette::of(theme);
    let layout = Layout::of(figure);
    let labels: Vec<&str> =
        [figure.y_label.as_str(), &figure.x_label].into_iter().filter(|label| !label.is_empty()).collect();
    let named = if figure.title.is_empty() { labels.join(" by ") } else { figure.title.clone() };
    let mut ink = Ink {
        width: layout.width,
        height: layout.height,
        title: named,
        about: figure.about.clone(),
        paper: palette.paper,
        shapes: Vec::new(),
    };
    for (number, line) in layout.title.iter().enumerate() {
        let y = GAP + FONT + number as f64 * LINE;
        ink.text((layout.left, y), Anchor::Start, palette.text, line);
    }
    for (number, panel) in figure.panels.iter().enumerate() {
        let (row, column) = (number / figure.columns.max(1), number % figure.columns.max(1));
        let frame = Frame {
            left: layout.columns[column],
            right: layout.columns[column] + layout.plot_width,
            top: layout.rows[row],
            bottom: layout.rows[row] + layout.plot_height,
            inset: if panel.x.named || panel.flush { 0.0 } else { INSET },
            x_axis: &panel.x,
            y_axis: &panel.y,
            palette,
        };
        paint_panel(&mut ink, figure, &layout, &frame, (number, panel));
    }
    paint_row_titles(&mut ink, figure, &layout, palette);
    paint_labels(&mut ink, figure, &layout, palette);
    paint_legend(&mut ink, figure, &layout, palette);
    if let Some(bar) = &figure.colour_bar {
        paint_colour_bar(&mut ink, bar, &layout, palette);
    }
    ink
}

fn paint_panel(ink: &mut Ink, figure: &Figure, layout: &Layout, frame: &Frame<'_>, (number, panel): (usize, &Panel)) {
    let Frame { left, top, right, bottom, palette, .. } = *frame;
    if !panel.title.is_empty() {
        let place = (f64::midpoint(left, right), top - layout.edge - 4.0);
        ink.place(fitted(place, Anchor::Middle, palette.text, &panel.title, right - left + 8.0));
    }
    let first = number.is_multiple_of(figure.columns.max(1));
    for (tick, text) in panel.y.ticks.iter().zip(&panel.y.texts) {
        let y = frame.y(*tick);
        if !panel.y.named {
            ink.line((left, y), (right, y), Style::line("", palette.grid, 0.8));
        }
        if first || !figure.shared_y {
            ink.place(fitted((left - GAP, y + MIDDLE), Anchor::End, palette.text, text, NAME_ROOM));
        }
    }
    if panel.marks.is_empty() {
        say_nothing(frame, ink);
    }
    for mark in &panel.marks {
        frame.draw(ink, mark);
    }
    if !figure.cells {
        ink.path(vec![(left, top), (left, bottom), (right, bottom)], false, Style::line("", palette.frame, 1.0));
    }
    paint_x_axis(ink, layout, frame, figure.has_x_ticks(number), figure.cells);
}

fn paint_x_axis(ink: &mut Ink, layout: &Layout, frame: &Frame<'_>, texts: bool, cells: bool) {
    let (axis, palette, bottom) = (frame.x_axis, frame.palette, frame.bottom);
    if !cells {
        for tick in &axis.ticks {
            let x = frame.x(*tick);
            ink.line((x, bottom), (x, bottom + 4.0), Style::line("", palette.frame, 1.0));
        }
    }
    if !texts {
        return;
    }
    let shown: Vec<bool> = if axis.named { vec![true; axis.ticks.len()] } else { legible(frame) };
    for ((tick, text), _) in axis.ticks.iter().zip(&axis.texts).zip(shown).filter(|(_, shown)| *shown) {
        let x = frame.x(*tick);
        let whole = shortened(text, NAME_ROOM);
        let (dx, dy, anchor, turn) = match layout.turn {
            Turn::Flat => (0.0, GAP + FONT, Anchor::Middle, 0.0),
            Turn::Diagonal => (FONT * 0.3, GAP + FONT * 0.7, Anchor::End, -45.0),
            Turn::Upright => (MIDDLE, GAP, Anchor::End, -90.0),
        };
        let whole = Some(text.clone()).filter(|_| whole != *text);
        let shown = shortened(text, NAME_ROOM);
        ink.place(Text { x: x + dx, y: bottom + dy, anchor, colour: palette.text, turn, shown, whole });
    }
}

/// Which numbers under an axis have room: all, or from the last on every second, every third and so on, and the first. The
/// ticks of the others stay.
fn legible(frame: &Frame<'_>) -> Vec<bool> {
    let axis = frame.x_axis;
    let ends: Vec<(f64, f64)> = (axis.ticks.iter().zip(&axis.texts))
        .map(|(tick, text)| (frame.x(*tick) - width(text) / 2.0, frame.x(*tick) + width(text) / 2.0))
        .collect();
    let fit = |shown: &[bool]| {
        let shown: Vec<&(f64, f64)> = ends.iter().zip(shown).filter(|(_, shown)| **shown).map(|(end, _)| end).collect();
        shown.windows(2).all(|pair| pair[0].1 + 3.0 <= pair[1].0)
    };
    let every = |step: usize| -> Vec<bool> { (0..ends.len()).rev().map(|place| place % step == 0).collect() };
    let mut shown = (1..=ends.len()).map(every).find(|shown| fit(shown)).unwrap_or_default();
    if let Some(first) = shown.first().copied() {
        shown[0] = true;
        shown[0] = first || fit(&shown);
    }
    shown
}

fn paint_row_titles(ink: &mut Ink, figure: &Figure, layout: &Layout, palette: &Palette) {
    let Some(column) = layout.columns.last() else { return };
    for (title, top) in figure.row_titles.iter().zip(&layout.rows) {
        let place = (column + layout.plot_width + layout.edge + GAP, top + layout.plot_height / 2.0);
        let text = fitted(place, Anchor::Middle, palette.text, title, layout.plot_height + 4.0);
        ink.place(Text { turn: 90.0, ..text });
    }
}

fn paint_labels(ink: &mut Ink, figure: &Figure, layout: &Layout, palette: &Palette) {
    let (Some(first), Some(last)) = (layout.columns.first(), layout.columns.last()) else { return };
    let (Some(top), Some(bottom)) = (layout.rows.first(), layout.rows.last()) else { return };
    let middle = f64::midpoint(*first, last + layout.plot_width);
    let remark = figure.panels.first().map_or("", |panel| panel.x.remark());
    let label = if figure.x_label.is_empty() { String::new() } else { format!("{}{remark}", figure.x_label) };
    let place = (middle, layout.height - GAP);
    ink.place(fitted(place, Anchor::Middle, palette.text, &label, layout.width - 2.0 * GAP));
    let remark = figure.panels.first().map_or("", |panel| panel.y.remark());
    let label = if figure.y_label.is_empty() { String::new() } else { format!("{}{remark}", figure.y_label) };
    let place = (GAP + FONT * 0.8, f64::midpoint(*top, bottom + layout.plot_height));
    let text = fitted(place, Anchor::Middle, palette.text, &label, layout.height - 2.0 * GAP);
    // It reaches over the plots' ends at most as far as the drawing does.
    let half = width(&text.shown) / 2.0;
    let y = text.y.max(half + GAP).min(layout.height - GAP - half);
    ink.place(Text { turn: -90.0, y, ..text });
}

fn paint_legend(ink: &mut Ink, figure: &Figure, layout: &Layout, palette: &Palette) {
    if let Some((x, y)) = layout.legend.first().filter(|_| !figure.legend_title.is_empty()) {
        let room = x - 10.0 - layout.left + 1.0;
        ink.place(fitted(
            (x - 10.0, y + layout.legend_line / 2.0 + MIDDLE),
            Anchor::End,
            palette.muted,
            &figure.legend_title,
            room,
        ));
    }
    for (entry, (x, y)) in figure.legend.iter().zip(&layout.legend) {
        let middle = y + layout.legend_line / 2.0;
        let centre = (x + SAMPLE / 2.0, middle);
        match entry.sample {
            Sample::Line(series) => {
                ink.line((*x, middle), (x + SAMPLE, middle), Style { class: "", ..stroke(palette, series) });
                marker(ink, palette, series, centre);
            }
            Sample::Curve(series) => {
                ink.line((*x, middle), (x + SAMPLE, middle), Style { class: "", ..stroke(palette, series) });
            }
            Sample::Area(series) => {
                let style = Style::filled("", palette.area(series)).rimmed(palette.series(series), 0.8);
                ink.rectangle((x + 5.0, middle - 4.5), (x + SAMPLE - 2.0, middle + 4.5), style);
            }
            Sample::Dot(series, radius) => {
                let colour = palette.series(series);
                ink.circle(centre, radius, Style::filled("", colour).rimmed(colour, 0.7).faint(0.45, 0.9));
            }
            Sample::Size(radius) => ink.circle(centre, radius, Style::line("", palette.muted, 1.0)),
            Sample::Level => {
                let style = Style::line("", palette.muted, 1.2).dashed(LEVEL_DASH);
                ink.line((*x, middle), (x + SAMPLE, middle), style);
            }
        }
        let place = (x + SAMPLE + SAMPLE_GAP, middle + MIDDLE);
        ink.place(fitted(place, Anchor::Start, palette.text, &entry.label, layout.legend_room));
    }
}

/// A bar of fifty steps: a gradient would need an id.
fn paint_colour_bar(ink: &mut Ink, bar: &ColourBar, layout: &Layout, palette: &Palette) {
    const STEPS: usize = 50;
    let (Some(column), Some(first), Some(last)) = (layout.columns.last(), layout.rows.first(), layout.rows.last())
    else {
        return;
    };
    let left = column + layout.plot_width + GAP + if layout.edge > 0.0 { layout.edge } else { 0.0 };
    let bottom = last + layout.plot_height;
    // A few high cells need no long bar, and many need none from end to end.
    let top = first.max(bottom - 200.0);
    let height = bottom - top;
    for step in 0..STEPS {
        let (from, to) = (step as f64 / STEPS as f64, (step + 1) as f64 / STEPS as f64);
        let colour = palette.tone(f64::midpoint(from, to), bar.diverging);
        let style = Style::filled("", colour).rimmed(colour, 0.3);
        ink.rectangle((left, bottom - to * height), (left + COLOUR_BAR, bottom - from * height), style);
    }
    for (tick, text) in bar.axis.ticks.iter().zip(&bar.axis.texts) {
        let y = bottom - bar.axis.place(*tick) * height;
        ink.line((left + COLOUR_BAR, y), (left + COLOUR_BAR + 3.0, y), Style::line("", palette.frame, 0.8));
        ink.text((left + COLOUR_BAR + GAP, y + MIDDLE), Anchor::Start, palette.text, text);
    }
    let ticks = widest(bar.axis.texts.iter().map(String::as_str));
    let place = (left + COLOUR_BAR + GAP + ticks + FONT * 1.1, f64::midpoint(top, bottom));
    let text = fitted(place, Anchor::Middle, palette.text, &bar.label, height.max(60.0));
    ink.place(Text { turn: -90.0, ..text });
}
