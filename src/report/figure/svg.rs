//! Ink as SVG text.

use super::ink::{Anchor, Ink, Shape, Style, Text};
use super::text::{FONT, is_covered, width};
use std::fmt::Write as _;

/// The drawing as SVG. It has no ids, so that many can stand in one page, and refers to nothing.
pub(super) fn write(ink: &Ink) -> String {
    let (w, h) = (number(ink.width), number(ink.height));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"Ubuntu Light, Ubuntu, 'DejaVu Sans', Verdana, sans-serif\" font-weight=\"300\" font-size=\"{FONT}\">\n\
         <title>{}</title>\n<desc>{}</desc>\n<rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n",
        escape(&ink.title),
        escape(&ink.about),
        ink.paper
    );
    for shape in &ink.shapes {
        // Writing to a string cannot fail.
        let _ = match shape {
            Shape::Path { points, closed, style } => {
                writeln!(out, "<path{} d=\"{}{}\"/>", attributes(style), path(points), if *closed { "Z" } else { "" })
            }
            Shape::Circle { x, y, radius, style } => writeln!(
                out,
                "<circle{} cx=\"{}\" cy=\"{}\" r=\"{}\"/>",
                attributes(style),
                number(*x),
                number(*y),
                number(*radius)
            ),
            Shape::Text(text) => writeln!(out, "{}", element(text)),
        };
    }
    out.push_str("</svg>\n");
    out
}

fn attributes(style: &Style) -> String {
    let mut out = String::new();
    if !style.class.is_empty() {
        let _ = write!(out, " class=\"{}\"", style.class);
    }
    match style.fill {
        Some((colour, opacity)) => {
            let _ = write!(out, " fill=\"{colour}\"");
            if opacity < 1.0 {
                let _ = write!(out, " fill-opacity=\"{}\"", number(opacity));
            }
        }
        None => out.push_str(" fill=\"none\""),
    }
    if let Some(stroke) = style.stroke {
        let _ = write!(out, " stroke=\"{}\" stroke-width=\"{}\"", stroke.colour, number(stroke.width));
        if stroke.opacity < 1.0 {
            let _ = write!(out, " stroke-opacity=\"{}\"", number(stroke.opacity));
        }
        if !stroke.dash.is_empty() {
            let dash: Vec<String> = stroke.dash.iter().map(|length| number(*length)).collect();
            let _ = write!(out, " stroke-dasharray=\"{}\"", dash.join(" "));
        }
        out.push_str(" stroke-linejoin=\"round\"");
    }
    out
}

fn element(text: &Text) -> String {
    let (x, y) = (number(text.x), number(text.y));
    let anchor = match text.anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let turn =
        if text.turn == 0.0 { String::new() } else { format!(" transform=\"rotate({} {x} {y})\"", number(text.turn)) };
    // A viewer with another font must not let a long text run into its neighbours.
    let length = match text.shown.chars().count() {
        0..=3 => String::new(),
        _ if !is_covered(&text.shown) => String::new(),
        _ => format!(" textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\"", number(width(&text.shown))),
    };
    let whole = text.whole.as_ref().map_or(String::new(), |whole| format!("<title>{}</title>", escape(whole)));
    let shown = escape(&text.shown);
    format!("<text x=\"{x}\" y=\"{y}\"{anchor} fill=\"{}\"{turn}{length}>{whole}{shown}</text>", text.colour)
}

fn path(points: &[(f64, f64)]) -> String {
    let mut out = String::new();
    for (place, (x, y)) in points.iter().enumerate() {
        let _ = write!(out, "{}{} {}", if place == 0 { 'M' } else { 'L' }, number(*x), number(*y));
    }
    out
}

/// Hundredths of a unit are finer than anything is drawn.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_string() } else { text.to_string() }
}

/// XML's special characters escaped; control characters, which XML forbids, left out.
fn escape(text: &str) -> String {
    let allowed = |c: &char| !c.is_control() && !('\u{fffe}'..='\u{ffff}').contains(c);
    let text: String = text.chars().filter(allowed).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
