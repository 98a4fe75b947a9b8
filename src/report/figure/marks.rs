//! What stands in a panel: lines, bars, boxes and the like, at values of its axes.

use super::colour::{Palette, Rgb};
use super::ink::{Anchor, Ink, Stroke, Style, Text};
use super::scale::Axis;
use super::text::{FONT, LINE, width};

/// One thing in a panel. Numbers of series choose colours, dashes and markers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mark {
    /// The area between the lower and the upper end of an interval: `(x, low, high)`, by growing x.
    Band { series: usize, points: Vec<(f64, f64, f64)>, opacity: f64 },
    /// An interval that stands alone.
    Interval { series: usize, x: f64, low: f64, high: f64 },
    /// Points joined by a line, by growing x; with a marker at each, if asked for.
    Line { series: usize, points: Vec<(f64, f64)>, markers: bool },
    /// The area under a curve.
    Hill { series: usize, points: Vec<(f64, f64)> },
    /// A bar from 0, or from the axis' end, to `y`.
    Bar { series: usize, x: f64, width: f64, y: f64, interval: Option<(f64, f64)> },
    /// A box with its whiskers and what lies outside.
    Box { series: usize, x: f64, width: f64, five: Five, outliers: Vec<f64> },
    /// A violin: `(y, half of its width)`, by growing y, with the quartiles in it.
    Violin { series: usize, x: f64, outline: Vec<(f64, f64)>, five: Five },
    /// A point with an area.
    Dot { series: usize, x: f64, y: f64, radius: f64 },
    /// A cell of a heatmap, `tone` from 0 to 1, with what is written in it if a text of that width has room.
    Cell { x: f64, y: f64, tone: f64, diverging: bool, text: Option<(String, f64)> },
    /// A line through the whole panel at `y`, of a series or of all.
    Level { series: Option<usize>, y: f64 },
    /// A line through the whole panel at `x`.
    Upright { series: usize, x: f64 },
    /// Bars at the panel's upper and right edge: `(from, to, share of the highest)`.
    Edges { along_x: Vec<(f64, f64, f64)>, along_y: Vec<(f64, f64, f64)> },
}

/// Where a box has its lines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Five {
    /// The end of the lower whisker.
    pub(super) low: f64,
    /// The first quartile.
    pub(super) q1: f64,
    /// The median.
    pub(super) median: f64,
    /// The third quartile.
    pub(super) q3: f64,
    /// The end of the upper whisker.
    pub(super) high: f64,
}

/// When the colours are used up, lines begin anew with the next of these.
const DASHES: [&[f64]; 4] = [&[], &[6.0, 3.0], &[2.0, 3.0], &[8.0, 3.0, 2.0, 3.0]];

/// The dashes of reference lines.
pub(super) const LEVEL_DASH: &[f64] = &[4.0, 3.0];

/// Markers are at least so far apart on average.
const LEAST_APART: f64 = 5.0;

/// How high the bars at an edge are at most.
pub(super) const EDGE: f64 = 26.0;

/// A panel's place in the drawing and its axes.
pub(super) struct Frame<'a> {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    /// Room between the frame and the first and last value of x.
    pub(super) inset: f64,
    pub(super) x_axis: &'a Axis,
    pub(super) y_axis: &'a Axis,
    pub(super) palette: &'static Palette,
}

impl Frame<'_> {
    pub(super) fn x(&self, value: f64) -> f64 {
        let (start, end) = (self.left + self.inset, self.right - self.inset);
        start + self.x_axis.place(self.x_axis.clamp(value)) * (end - start)
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        self.bottom - self.y_axis.place(self.y_axis.clamp(value)) * (self.bottom - self.top)
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x(x), self.y(y))
    }

    /// Draws `mark` over what is there.
    pub(super) fn draw(&self, ink: &mut Ink, mark: &Mark) {
        match mark {
            Mark::Band { series, points, opacity } => self.band(ink, *series, points, *opacity),
            Mark::Interval { series, x, low, high } => {
                let style = Style::line("interval", self.palette.series(*series), 1.2);
                ink.line(self.at((*x, *low)), self.at((*x, *high)), style);
            }
            Mark::Line { series, points, markers } => {
                let places: Vec<(f64, f64)> = points.iter().map(|point| self.at(*point)).collect();
                ink.path(places.clone(), false, stroke(self.palette, *series));
                // Markers that cover each other would cover the line, too.
                let apart = places.first().zip(places.last()).map_or(0.0, |(first, last)| last.0 - first.0);
                let crowded = apart < LEAST_APART * places.len().saturating_sub(1) as f64;
                for place in places.into_iter().filter(|_| *markers && !crowded) {
                    marker(ink, self.palette, *series, place);
                }
            }
            Mark::Hill { series, points } => self.hill(ink, *series, points),
            Mark::Bar { series, x, width, y, interval } => self.bar(ink, *series, (*x, *width), *y, *interval),
            Mark::Box { series, x, width, five, outliers } => {
                self.boxed(ink, *series, (*x, *width), five);
                self.outliers(ink, *series, *x, outliers);
            }
            Mark::Violin { series, x, outline, five } => self.violin(ink, *series, *x, outline, five),
            Mark::Dot { series, x, y, radius } => {
                let colour = self.palette.series(*series);
                let style = Style::filled("point", colour).rimmed(colour, 0.7).faint(0.45, 0.9);
                ink.circle(self.at((*x, *y)), *radius, style);
            }
            Mark::Cell { x, y, tone, diverging, text } => {
                self.cell(ink, (*x, *y), self.palette.tone(*tone, *diverging), text.as_ref());
            }
            Mark::Level { series, y } => {
                let colour = series.map_or(self.palette.muted, |series| self.palette.series(series));
                let style = Style::line("reference", colour, 1.2).dashed(LEVEL_DASH);
                ink.line((self.left, self.y(*y)), (self.right, self.y(*y)), style);
            }
            Mark::Upright { series, x } => {
                let style = Style::line("spike", self.palette.series(*series), 1.8);
                ink.line((self.x(*x), self.bottom), (self.x(*x), self.top), style);
            }
            Mark::Edges { along_x, along_y } => self.edges(ink, along_x, along_y),
        }
    }

    fn band(&self, ink: &mut Ink, series: usize, points: &[(f64, f64, f64)], opacity: f64) {
        let upper = points.iter().map(|(x, _, high)| self.at((*x, *high)));
        let lower = points.iter().rev().map(|(x, low, _)| self.at((*x, *low)));
        let colour = self.palette.series(series);
        let style = Style::filled("interval", colour).rimmed(colour, 0.6).faint(opacity, 0.35);
        ink.path(upper.chain(lower).collect(), true, style);
    }

    fn hill(&self, ink: &mut Ink, series: usize, points: &[(f64, f64)]) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let top = points.iter().map(|point| self.at(*point));
        let outline = [(self.x(first.0), self.bottom)].into_iter().chain(top);
        let outline = outline.chain([(self.x(last.0), self.bottom)]).collect();
        ink.path(outline, true, Style::filled("area", self.palette.series(series)).faint(0.13, 1.0));
    }

    fn bar(&self, ink: &mut Ink, series: usize, (x, width): (f64, f64), y: f64, interval: Option<(f64, f64)>) {
        let (left, right) = (self.x(x - width / 2.0), self.x(x + width / 2.0));
        let style = Style::filled("bar", self.palette.area(series)).rimmed(self.palette.series(series), 0.8);
        ink.rectangle((left, self.y(0.0)), (right, self.y(y)), style);
        if let Some((low, high)) = interval {
            let (middle, cap) = (f64::midpoint(left, right), ((right - left) * 0.25).min(4.0));
            let style = Style::line("interval", self.palette.text, 1.0);
            let (low, high) = (self.y(low), self.y(high));
            ink.line((middle, low), (middle, high), style);
            let caps = Style { class: "", ..style };
            for end in [low, high] {
                ink.line((middle - cap, end), (middle + cap, end), caps);
            }
        }
    }

    fn boxed(&self, ink: &mut Ink, series: usize, (x, width): (f64, f64), five: &Five) {
        let (left, right, middle) = (self.x(x - width / 2.0), self.x(x + width / 2.0), self.x(x));
        let colour = self.palette.series(series);
        let pen = Style::line("", colour, 1.1);
        let cap = (right - left) * 0.25;
        for (box_end, end) in [(five.q1, five.low), (five.q3, five.high)] {
            ink.line((middle, self.y(box_end)), (middle, self.y(end)), Style { class: "whisker", ..pen });
            ink.line((middle - cap, self.y(end)), (middle + cap, self.y(end)), pen);
        }
        let area = Style::filled("box", colour.mixed(self.palette.paper, 0.65)).rimmed(colour, 1.1);
        ink.rectangle((left, self.y(five.q1)), (right, self.y(five.q3)), area);
        let median = Style::line("median", self.palette.text, 1.8);
        ink.line((left, self.y(five.median)), (right, self.y(five.median)), median);
    }

    /// Outliers that would cover each other to the tenth of a unit are drawn once.
    fn outliers(&self, ink: &mut Ink, series: usize, x: f64, values: &[f64]) {
        let mut places: Vec<i64> = values.iter().map(|y| (self.y(*y) * 10.0).round() as i64).collect();
        places.sort_unstable();
        places.dedup();
        let style = Style::line("outlier", self.palette.series(series), 0.9);
        for place in places {
            ink.circle((self.x(x), place as f64 / 10.0), 2.0, style);
        }
    }

    fn violin(&self, ink: &mut Ink, series: usize, x: f64, outline: &[(f64, f64)], five: &Five) {
        let colour = self.palette.series(series);
        let right = outline.iter().map(|(y, half)| self.at((x + half, *y)));
        let left = outline.iter().rev().map(|(y, half)| self.at((x - half, *y)));
        let area = Style::filled("violin", colour.mixed(self.palette.paper, 0.65)).rimmed(colour, 1.1);
        ink.path(right.chain(left).collect(), true, area);
        let middle = self.x(x);
        let pen = Style::line("", self.palette.text, 1.0);
        ink.line((middle, self.y(five.low)), (middle, self.y(five.high)), pen);
        ink.line(
            (middle, self.y(five.q1)),
            (middle, self.y(five.q3)),
            Style::line("quartiles", self.palette.text, 4.0),
        );
        let dot = Style::filled("median", self.palette.paper).rimmed(self.palette.text, 1.0);
        ink.circle((middle, self.y(five.median)), 2.2, dot);
    }

    fn cell(&self, ink: &mut Ink, (x, y): (f64, f64), colour: Rgb, text: Option<&(String, f64)>) {
        let (left, right) = (self.x(x - 0.5), self.x(x + 0.5));
        let (bottom, top) = (self.y(y - 0.5), self.y(y + 0.5));
        let style = Style::filled("cell", colour).rimmed(self.palette.paper, 0.8);
        ink.rectangle((left, top), (right, bottom), style);
        if let Some((text, room)) = text
            && right - left >= room + 3.0
        {
            let place = (f64::midpoint(left, right), f64::midpoint(top, bottom) + FONT * 0.35);
            ink.text(place, Anchor::Middle, colour.readable(), text);
        }
    }

    fn edges(&self, ink: &mut Ink, along_x: &[(f64, f64, f64)], along_y: &[(f64, f64, f64)]) {
        let style = Style::filled("edge", self.palette.series(0)).rimmed(self.palette.paper, 0.5).faint(0.55, 1.0);
        for (from, to, share) in along_x.iter().filter(|bin| bin.2 > 0.0) {
            let base = self.top - 3.0;
            ink.rectangle((self.x(*from), base), (self.x(*to), base - share * EDGE), style);
        }
        for (from, to, share) in along_y.iter().filter(|bin| bin.2 > 0.0) {
            let base = self.right + 3.0;
            ink.rectangle((base, self.y(*from)), (base + share * EDGE, self.y(*to)), style);
        }
    }
}

/// The pen of a series' line.
pub(super) fn stroke(palette: &Palette, series: usize) -> Style {
    let dash = DASHES[series / 7 % DASHES.len()];
    Style {
        class: "line",
        fill: None,
        stroke: Some(Stroke { colour: palette.series(series), width: 1.8, opacity: 1.0, dash }),
    }
}

/// A circle, square, triangle or diamond, with a rim that sets it off from its line.
pub(super) fn marker(ink: &mut Ink, palette: &Palette, series: usize, (x, y): (f64, f64)) {
    let corners: &[(f64, f64)] = match series % 4 {
        0 => &[],
        1 => &[(-2.9, -2.9), (2.9, -2.9), (2.9, 2.9), (-2.9, 2.9)],
        2 => &[(0.0, -3.9), (3.7, 2.7), (-3.7, 2.7)],
        _ => &[(0.0, -4.1), (4.1, 0.0), (0.0, 4.1), (-4.1, 0.0)],
    };
    let style = Style::filled("point", palette.series(series)).rimmed(palette.paper, 1.0);
    if corners.is_empty() {
        ink.circle((x, y), 3.4, style);
    } else {
        ink.path(corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect(), true, style);
    }
}

/// `text` with a size of its own place: shortened to `room`, and whole for those who point at it.
pub(super) fn fitted(place: (f64, f64), anchor: Anchor, colour: Rgb, text: &str, room: f64) -> Text {
    let shown = super::text::shortened(text, room);
    let whole = (shown != text).then(|| text.to_string());
    Text { x: place.0, y: place.1, anchor, colour, turn: 0.0, shown, whole }
}

/// The words of a panel without marks.
pub(super) fn say_nothing(frame: &Frame<'_>, ink: &mut Ink) {
    let middle = (f64::midpoint(frame.left, frame.right), f64::midpoint(frame.top, frame.bottom));
    let text = if width("no data") + LINE < frame.right - frame.left { "no data" } else { "–" };
    ink.text(middle, Anchor::Middle, frame.palette.muted, text);
}
