//! What is drawn: paths, circles and texts in their order, before they are SVG or PDF.

use super::colour::Rgb;

/// A drawing of a size.
#[derive(Debug)]
pub(super) struct Ink {
    pub(super) width: f64,
    pub(super) height: f64,
    /// What it is called, and what it shows, for those who cannot see it.
    pub(super) title: String,
    pub(super) about: String,
    pub(super) paper: Rgb,
    pub(super) shapes: Vec<Shape>,
}

/// One thing.
#[derive(Debug)]
pub(super) enum Shape {
    /// Straight lines from point to point.
    Path { points: Vec<(f64, f64)>, closed: bool, style: Style },
    /// A circle.
    Circle { x: f64, y: f64, radius: f64, style: Style },
    /// A text on one line.
    Text(Text),
}

/// How a path is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// What it is of the figure (`point`, `bar`); none for axes and the like.
    pub(super) class: &'static str,
    pub(super) fill: Option<(Rgb, f64)>,
    pub(super) stroke: Option<Stroke>,
}

/// A pen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub(super) colour: Rgb,
    pub(super) width: f64,
    pub(super) opacity: f64,
    /// Lengths of dashes and gaps; empty: none.
    pub(super) dash: &'static [f64],
}

/// A text and its place.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) anchor: Anchor,
    pub(super) colour: Rgb,
    /// Degrees, clockwise.
    pub(super) turn: f64,
    pub(super) shown: String,
    /// The whole text, where less is shown.
    pub(super) whole: Option<String>,
}

/// Which part of a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Style {
    pub(super) fn filled(class: &'static str, colour: Rgb) -> Self {
        Self { class, fill: Some((colour, 1.0)), stroke: None }
    }

    pub(super) fn line(class: &'static str, colour: Rgb, width: f64) -> Self {
        Self { class, fill: None, stroke: Some(Stroke { colour, width, opacity: 1.0, dash: &[] }) }
    }

    pub(super) fn rimmed(mut self, colour: Rgb, width: f64) -> Self {
        self.stroke = Some(Stroke { colour, width, opacity: 1.0, dash: &[] });
        self
    }

    pub(super) fn dashed(mut self, dash: &'static [f64]) -> Self {
        self.stroke = self.stroke.map(|stroke| Stroke { dash, ..stroke });
        self
    }

    pub(super) fn faint(mut self, fill: f64, stroke: f64) -> Self {
        self.fill = self.fill.map(|(colour, _)| (colour, fill));
        self.stroke = self.stroke.map(|pen| Stroke { opacity: stroke, ..pen });
        self
    }
}

impl Ink {
    pub(super) fn path(&mut self, points: Vec<(f64, f64)>, closed: bool, style: Style) {
        // What has no place is not drawn: no viewer takes a NaN.
        if points.len() > 1 && points.iter().all(|(x, y)| x.is_finite() && y.is_finite()) {
            self.shapes.push(Shape::Path { points, closed, style });
        }
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), style: Style) {
        self.path(vec![from, to], false, style);
    }

    /// The rectangle with these two corners.
    pub(super) fn rectangle(&mut self, (x0, y0): (f64, f64), (x1, y1): (f64, f64), style: Style) {
        self.path(vec![(x0, y0), (x1, y0), (x1, y1), (x0, y1)], true, style);
    }

    pub(super) fn circle(&mut self, (x, y): (f64, f64), radius: f64, style: Style) {
        if x.is_finite() && y.is_finite() && radius.is_finite() {
            self.shapes.push(Shape::Circle { x, y, radius, style });
        }
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, colour: Rgb, text: &str) {
        self.place(Text { x, y, anchor, colour, turn: 0.0, shown: text.to_string(), whole: None });
    }

    pub(super) fn place(&mut self, mut text: Text) {
        text.shown.retain(|c| !c.is_control());
        if !text.shown.is_empty() && text.x.is_finite() && text.y.is_finite() {
            self.shapes.push(Shape::Text(text));
        }
    }
}
