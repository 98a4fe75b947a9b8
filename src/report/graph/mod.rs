//! A graph of boxes as SVG text: what is read on the left, its readers on the right.
//!
//! The layout (`layout`) is the classical one in layers: every box stands in the column after those that it reads, long
//! edges pass the columns between in lanes of their own, and the order within a column is the one with few crossings. So
//! no edge runs through a box. Written by hand, as no crate draws this with the bytes alike on every machine and text that
//! a viewer can search.

mod layout;
#[cfg(test)]
mod tests;

use layout::{Layout, Place};
use std::fmt::Write as _;

/// A box of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What sort of box it is, in a word above its name.
    pub word: String,
    /// Its name.
    pub name: String,
    /// For how many it stands.
    pub count: usize,
    /// Its shape and colour.
    pub look: Look,
    /// The places of those that it reads; each comes before it.
    pub reads: Vec<usize>,
}

/// How boxes are told apart besides by their words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Round ends, blue.
    Pill,
    /// Cut corners, orange.
    Cut,
    /// Slanted, green.
    Slant,
    /// A plain rectangle, purple.
    Plain,
    /// A double frame, yellow.
    Double,
}

impl Look {
    /// Okabe and Ito's colours: a strong one for the frame, a tint of it for the ground.
    fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Pill => ("#0072B2", "#e3f0f8"),
            Self::Cut => ("#D55E00", "#fbe9de"),
            Self::Slant => ("#007a59", "#e0f3ec"),
            Self::Plain => ("#a8497f", "#f7e8f1"),
            Self::Double => ("#8a6d00", "#fbf3d5"),
        }
    }
}

/// Font size of names.
const FONT: f64 = 13.0;
/// Font size of the words above them.
const SMALL: f64 = 10.0;
/// Mean width of a character as a part of the font size, with some room to spare: a viewer may have another font.
const CHARACTER: f64 = 0.58;
const BOX_HEIGHT: f64 = 42.0;
const MARGIN: f64 = 20.0;
/// Room beside the text of a box; slanted and round ends need most of it.
const PADDING: f64 = 16.0;

/// The drawing of a graph.
pub fn to_svg(title: &str, nodes: &[Node]) -> String {
    let widths: Vec<f64> = nodes.iter().map(width).collect();
    let reads: Vec<&[usize]> = nodes.iter().map(|node| node.reads.as_slice()).collect();
    let layout = Layout::new(&reads, &widths, BOX_HEIGHT);
    let (width, height) = (layout.width + 2.0 * MARGIN, layout.height + 2.0 * MARGIN);
    let mut out = Writer(String::new());
    out.line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"Ubuntu, 'DejaVu Sans', Verdana, sans-serif\" \
         font-size=\"{FONT}\" fill=\"#222222\">"
    ));
    out.line(format_args!("<title>{}</title>", escape(title)));
    out.line(format_args!("<desc>Each box reads what its arrows come from.</desc>"));
    out.line(format_args!(
        "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7.5\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0.8L8 4L0 7.2Z\" fill=\"#777777\"/></marker></defs>"
    ));
    out.line(format_args!("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"));
    out.line(format_args!("<g transform=\"translate({MARGIN} {MARGIN})\">"));
    // Many edges lie close to each other: thin ones can still be followed.
    let stroke = if layout.edges.len() > 100 { 0.7 } else { 1.2 };
    out.line(format_args!("<g fill=\"none\" stroke=\"#777777\" stroke-width=\"{stroke}\">"));
    for points in &layout.edges {
        out.line(format_args!("<path d=\"{}\" marker-end=\"url(#arrow)\"/>", curve(points)));
    }
    out.line(format_args!("</g>"));
    for (node, place) in nodes.iter().zip(&layout.places) {
        out.node(node, place);
    }
    out.line(format_args!("</g>"));
    out.line(format_args!("</svg>"));
    out.0
}

fn width(node: &Node) -> f64 {
    let name = label(node).chars().count() as f64 * FONT * CHARACTER;
    let word = node.word.chars().count() as f64 * SMALL * CHARACTER;
    name.max(word).max(40.0) + 2.0 * PADDING
}

fn label(node: &Node) -> String {
    if node.count > 1 { format!("{} ×{}", node.name, node.count) } else { node.name.clone() }
}

/// A way through points: across a column straight, between columns in a curve that leaves and arrives level.
fn curve(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    let mut from: Option<(f64, f64)> = None;
    for (x, y) in points.iter().copied() {
        // Writing to a string cannot fail.
        let _ = match from {
            None => write!(path, "M{x:.1} {y:.1}"),
            Some((_, level)) if (level - y).abs() < 0.05 => write!(path, "H{x:.1}"),
            Some((start, level)) => {
                let middle = f64::midpoint(start, x);
                write!(path, "C{middle:.1} {level:.1} {middle:.1} {y:.1} {x:.1} {y:.1}")
            }
        };
        from = Some((x, y));
    }
    path
}

struct Writer(String);

impl Writer {
    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{arguments}");
    }

    fn node(&mut self, node: &Node, place: &Place) {
        let (frame, ground) = node.look.colours();
        let Place { x, y, width, .. } = *place;
        let top = y - BOX_HEIGHT / 2.0;
        let style = format!("fill=\"{ground}\" stroke=\"{frame}\" stroke-width=\"1.4\"");
        self.line(format_args!("<g><title>{}.{}</title>", escape(&node.word), escape(&label(node))));
        self.shape(node.look, (x, top, width), &style);
        let middle = x + width / 2.0;
        let (word, name) = (escape(&node.word), escape(&label(node)));
        self.line(format_args!(
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"{SMALL}\" fill=\"{frame}\">{word}</text>",
            top + 15.0
        ));
        self.line(format_args!(
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text></g>",
            top + 32.0
        ));
    }

    fn shape(&mut self, look: Look, (x, y, width): (f64, f64, f64), style: &str) {
        const CUT: f64 = 8.0;
        let (right, bottom) = (x + width, y + BOX_HEIGHT);
        let rect = |inset: f64, round: f64| {
            format!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{round}\" {style}/>",
                x + inset,
                y + inset,
                width - 2.0 * inset,
                BOX_HEIGHT - 2.0 * inset
            )
        };
        match look {
            Look::Pill => self.line(format_args!("{}", rect(0.0, BOX_HEIGHT / 2.0))),
            Look::Plain => self.line(format_args!("{}", rect(0.0, 2.0))),
            Look::Double => {
                self.line(format_args!("{}", rect(0.0, 2.0)));
                self.line(format_args!("{}", rect(3.0, 0.0)));
            }
            Look::Cut => self.line(format_args!(
                "<path d=\"M{:.1} {y:.1}H{:.1}L{right:.1} {:.1}V{:.1}L{:.1} {bottom:.1}H{:.1}L{x:.1} {:.1}V{:.1}Z\" {style}/>",
                x + CUT,
                right - CUT,
                y + CUT,
                bottom - CUT,
                right - CUT,
                x + CUT,
                bottom - CUT,
                y + CUT
            )),
            // Its middles are where a rectangle's are, so that arrows meet it.
            Look::Slant => self.line(format_args!(
                "<path d=\"M{:.1} {y:.1}H{:.1}L{:.1} {bottom:.1}H{:.1}Z\" {style}/>",
                x + CUT / 2.0,
                right + CUT / 2.0,
                right - CUT / 2.0,
                x - CUT / 2.0
            )),
        }
    }
}

/// XML's special characters escaped; control characters, which XML forbids, left out.
fn escape(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
