//! Line charts with confidence bands, as SVG, and as PNG made of that SVG.
//!
//! The SVG is written by hand: plotters knows no symmetric-logarithmic axis, and places texts by the fonts of the machine.
//! Colours are those of Okabe and Ito, which the colour-blind can tell apart; markers and dashes say the same again.

mod png;
mod scale;
mod svg;

pub use png::render as to_png;
pub use scale::Scale;

/// A figure with one pair of axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Text above; may be empty.
    pub title: String,
    /// Text of the x axis.
    pub x_label: String,
    /// Text of the y axis.
    pub y_label: String,
    /// How x is laid out.
    pub scale: Scale,
    /// What tells the lines apart (`target`); may be empty.
    pub legend: String,
    /// The lines.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its text in the legend.
    pub label: String,
    /// Its points, by growing x.
    pub points: Vec<Point>,
}

/// One point of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where it stands.
    pub x: f64,
    /// The mean.
    pub y: f64,
    /// The confidence interval, if there is one.
    pub interval: Option<(f64, f64)>,
}

impl Chart {
    /// The figure as SVG. Its texts stay texts.
    pub fn to_svg(&self) -> String {
        svg::render(self)
    }
}

#[cfg(test)]
mod tests;
