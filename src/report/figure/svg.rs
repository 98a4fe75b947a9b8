//! A chart as SVG text.

use super::scale::{Axis, Scale};
use super::{Chart, Point};
use std::fmt::Write as _;

/// Okabe and Ito's colours without yellow, which is too faint for lines on white; in the order of greatest contrast.
const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];
/// When the colours are used up, lines begin anew with the next of these.
const DASHES: [&str; 4] = ["", "6 3", "2 3", "8 3 2 3"];

/// In units of which a paper's column of 8.5 cm has about 360.
const WIDTH: f64 = 360.0;
const PLOT_HEIGHT: f64 = 190.0;
const RIGHT: f64 = 14.0;
const FONT: f64 = 11.0;
/// Space between the plot and the texts beside it.
const GAP: f64 = 6.0;
const LEGEND_LINE: f64 = 16.0;
/// Mean width of a character, as a part of the font size: texts are measured with some room to spare, because a viewer
/// of the SVG may have another font.
const CHARACTER: f64 = 0.5;

pub(super) fn render(chart: &Chart) -> String {
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let x_axis = Axis::of_values(points().map(|point| point.x), chart.scale);
    let y_axis = y_axis(points());
    let left = 2.0 * GAP + FONT * 1.4 + y_axis.texts().iter().map(|text| width(text)).fold(0.0, f64::max);
    let legend = legend_places(chart, left);
    let title_height = if chart.title.is_empty() { 0.0 } else { FONT * 1.8 };
    let legend_height = legend.last().map_or(0.0, |(_, y)| y + LEGEND_LINE);
    let top = GAP + 2.0 + title_height + legend_height;
    let frame = Frame { left, top, right: WIDTH - RIGHT, bottom: top + PLOT_HEIGHT, x_axis, y_axis };
    let height = frame.bottom + GAP + FONT * 2.9;

    let mut out = Writer(String::new());
    out.line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"Ubuntu, 'DejaVu Sans', Verdana, sans-serif\" \
         font-size=\"{FONT}\" fill=\"#222222\">"
    ));
    let title =
        if chart.title.is_empty() { format!("{} by {}", chart.y_label, chart.x_label) } else { chart.title.clone() };
    out.line(format_args!("<title>{}</title>", escape(&title)));
    out.line(format_args!("<desc>Means; the bands are their 95% confidence intervals.</desc>"));
    out.line(format_args!("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"));
    if !chart.title.is_empty() {
        out.text(left, GAP + FONT, "start", &format!("font-size=\"{}\"", FONT + 1.0), &chart.title);
    }
    frame.draw_axes(&mut out, chart);
    // Many bands lie over each other: together they must not hide the lines.
    let opacity = match chart.series.len() {
        0..=2 => 0.16,
        3..=4 => 0.09,
        _ => 0.05,
    };
    for (number, series) in chart.series.iter().enumerate() {
        frame.draw_band(&mut out, number, &series.points, opacity);
    }
    for (number, series) in chart.series.iter().enumerate() {
        frame.draw_line(&mut out, number, &series.points);
    }
    draw_legend(&mut out, chart, &legend, GAP + title_height);
    out.line(format_args!("</svg>"));
    out.0
}

/// The y axis that fits means and intervals. Where all means lie within 0 to 1, as those of most metrics must, what an
/// interval has outside is cut off.
fn y_axis<'a>(points: impl Iterator<Item = &'a Point> + Clone) -> Axis {
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)))
    };
    let (least, most) = range(&mut points.clone().map(|point| point.y));
    if least > most {
        return Axis::of_range(0.0, 1.0);
    }
    let bounds = if least >= 0.0 && most <= 1.0 { (0.0, 1.0) } else { (f64::NEG_INFINITY, f64::INFINITY) };
    let ends = points.filter_map(|point| point.interval).flat_map(|(low, high)| [low, high]);
    let (low, high) = range(&mut ends.map(|y| y.clamp(bounds.0, bounds.1)).chain([least, most]));
    Axis::of_range(low, high)
}

struct Frame {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    x_axis: Axis,
    y_axis: Axis,
}

impl Frame {
    /// Room between the frame and the first and last point.
    const INSET: f64 = 12.0;

    fn x(&self, value: f64) -> f64 {
        let (start, end) = (self.left + Self::INSET, self.right - Self::INSET);
        start + self.x_axis.place(value) * (end - start)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - self.y_axis.place(self.y_axis.clamp(value)) * (self.bottom - self.top)
    }

    fn draw_axes(&self, out: &mut Writer, chart: &Chart) {
        let Self { left, top, right, bottom, .. } = *self;
        for (tick, text) in self.y_axis.ticks.iter().zip(self.y_axis.texts()) {
            let y = self.y(*tick);
            out.line(format_args!(
                "<path d=\"M{left:.2} {y:.2}H{right:.2}\" stroke=\"#e3e3e3\" stroke-width=\"0.8\"/>"
            ));
            out.text(left - GAP, y + FONT * 0.35, "end", "", &text);
        }
        out.line(format_args!(
            "<path d=\"M{left:.2} {top:.2}V{bottom:.2}H{right:.2}\" fill=\"none\" stroke=\"#555555\"/>"
        ));
        let mut free_from = f64::NEG_INFINITY;
        for (tick, text) in self.x_axis.ticks.iter().zip(self.x_axis.texts()) {
            let x = self.x(*tick);
            out.line(format_args!("<path d=\"M{x:.2} {bottom:.2}v4\" stroke=\"#555555\"/>"));
            // A number that would run into the one before it is left out; its tick stays.
            if x - width(&text) / 2.0 >= free_from {
                out.text(x, bottom + GAP + FONT, "middle", "", &text);
                free_from = x + width(&text) / 2.0 + 3.0;
            }
        }
        let scale = match chart.scale {
            Scale::Linear => "",
            Scale::Log => " (log scale)",
            Scale::Symlog => " (symmetric log scale)",
        };
        let middle = f64::midpoint(left, right);
        out.text(middle, bottom + GAP + FONT * 2.4, "middle", "", &format!("{}{scale}", chart.x_label));
        let (x, y) = (GAP + FONT * 0.8, f64::midpoint(top, bottom));
        out.text(x, y, "middle", &format!("transform=\"rotate(-90 {x:.2} {y:.2})\""), &chart.y_label);
    }

    /// The band of neighbouring points that have intervals; a bar for one that stands alone.
    fn draw_band(&self, out: &mut Writer, number: usize, points: &[Point], opacity: f64) {
        let colour = COLOURS[number % COLOURS.len()];
        for run in points.chunk_by(|a, b| a.interval.is_some() == b.interval.is_some()) {
            let ends: Vec<(f64, (f64, f64))> = run.iter().filter_map(|p| Some((self.x(p.x), p.interval?))).collect();
            match ends[..] {
                [] => {}
                [(x, (low, high))] => out.line(format_args!(
                    "<path class=\"interval\" d=\"M{x:.2} {:.2}V{:.2}\" stroke=\"{colour}\" stroke-width=\"1.2\"/>",
                    self.y(low),
                    self.y(high)
                )),
                _ => {
                    let upper = ends.iter().map(|(x, (_, high))| (*x, self.y(*high)));
                    let lower = ends.iter().rev().map(|(x, (low, _))| (*x, self.y(*low)));
                    out.line(format_args!(
                        "<path class=\"interval\" d=\"{}Z\" fill=\"{colour}\" fill-opacity=\"{opacity}\" \
                         stroke=\"{colour}\" stroke-opacity=\"0.35\" stroke-width=\"0.6\"/>",
                        path(upper.chain(lower))
                    ));
                }
            }
        }
    }

    fn draw_line(&self, out: &mut Writer, number: usize, points: &[Point]) {
        let at = || points.iter().map(|point| (self.x(point.x), self.y(point.y)));
        if points.len() > 1 {
            out.stroke(number, &path(at()));
        }
        for (x, y) in at() {
            out.marker(number, x, y);
        }
    }
}

/// Where the entries of the legend stand, from its upper left corner. None for a single line.
fn legend_places(chart: &Chart, left: f64) -> Vec<(f64, f64)> {
    if chart.series.len() < 2 {
        return Vec::new();
    }
    let indent = if chart.legend.is_empty() { 0.0 } else { width(&chart.legend) + 10.0 };
    // Columns of one width, so that entries stand under each other.
    let column = chart.series.iter().map(|series| SAMPLE + 17.0 + width(&series.label)).fold(0.0, f64::max);
    let columns = ((WIDTH - RIGHT - left - indent + 12.0) / column).floor().max(1.0) as usize;
    let place = |number: usize| {
        let (row, place) = (number / columns, number % columns);
        (left + indent + place as f64 * column, row as f64 * LEGEND_LINE)
    };
    (0..chart.series.len()).map(place).collect()
}

/// Length of a line's sample in the legend.
const SAMPLE: f64 = 22.0;

fn draw_legend(out: &mut Writer, chart: &Chart, places: &[(f64, f64)], top: f64) {
    if let Some((x, _)) = places.first()
        && !chart.legend.is_empty()
    {
        out.text(x - 10.0, top + FONT * 0.85, "end", "fill=\"#555555\"", &chart.legend);
    }
    for (number, (series, (x, y))) in chart.series.iter().zip(places).enumerate() {
        let middle = top + y + FONT * 0.5;
        out.stroke(number, &format!("M{x:.2} {middle:.2}h{SAMPLE}"));
        out.marker(number, x + SAMPLE / 2.0, middle);
        out.text(x + SAMPLE + 5.0, middle + FONT * 0.35, "start", "", &series.label);
    }
}

struct Writer(String);

impl Writer {
    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{arguments}");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, attributes: &str, text: &str) {
        let text = escape(text);
        self.line(format_args!("<text x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\" {attributes}>{text}</text>"));
    }

    fn stroke(&mut self, number: usize, path: &str) {
        let colour = COLOURS[number % COLOURS.len()];
        let dash = DASHES[number / COLOURS.len() % DASHES.len()];
        self.line(format_args!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-linejoin=\"round\" \
             stroke-dasharray=\"{}\"/>",
            if dash.is_empty() { "none" } else { dash }
        ));
    }

    /// A circle, square, triangle or diamond, with a white rim that sets it off from its line.
    fn marker(&mut self, number: usize, x: f64, y: f64) {
        let corners: &[(f64, f64)] = match number % 4 {
            0 => &[],
            1 => &[(-2.9, -2.9), (2.9, -2.9), (2.9, 2.9), (-2.9, 2.9)],
            2 => &[(0.0, -3.9), (3.7, 2.7), (-3.7, 2.7)],
            _ => &[(0.0, -4.1), (4.1, 0.0), (0.0, 4.1), (-4.1, 0.0)],
        };
        let style = format!("class=\"point\" fill=\"{}\" stroke=\"#ffffff\"", COLOURS[number % COLOURS.len()]);
        if corners.is_empty() {
            self.line(format_args!("<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"3.4\" {style}/>"));
        } else {
            let outline = path(corners.iter().map(|(dx, dy)| (x + dx, y + dy)));
            self.line(format_args!("<path d=\"{outline}Z\" {style}/>"));
        }
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut out = String::new();
    for (number, (x, y)) in points.enumerate() {
        let _ = write!(out, "{}{x:.2} {y:.2}", if number == 0 { 'M' } else { 'L' });
    }
    out
}

fn width(text: &str) -> f64 {
    text.chars().count() as f64 * FONT * CHARACTER
}

/// XML's special characters escaped; control characters, which XML forbids, left out.
fn escape(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
