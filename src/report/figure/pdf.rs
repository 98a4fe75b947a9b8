//! Ink as a PDF of one page, with the font's glyphs that it shows, so that its texts can be searched and copied.
//!
//! By hand on pdf-writer: svg2pdf 0.13 and krilla-svg 0.8 stand on other versions of usvg than resvg's (and of its font
//! crates), which would link all of that twice. Neither clock nor chance is in the bytes.

use super::colour::Rgb;
use super::ink::{Anchor, Ink, Shape, Stroke, Style, Text};
use super::text::{BYTES, FONT, UBUNTU, width};
use anyhow::Context as _;
use flate2::{Compression, write::ZlibEncoder};
use pdf_writer::types::{CidFontType, FontFlags, LineJoinStyle, SystemInfo, UnicodeCmap};
use pdf_writer::{Content, Filter, Finish as _, Name, Pdf, Rect, Ref, Str, TextStr};
use std::collections::BTreeMap;
use std::io::Write as _;
use subsetter::GlyphRemapper;

/// Points for each unit of a figure, of which a paper's column of 8.5 cm has 360.
const POINTS: f64 = 8.5 / 2.54 * 72.0 / 360.0;

const FONT_NAME: Name<'_> = Name(b"F0");
const BASE_FONT: Name<'_> = Name(b"TITERA+Ubuntu-Light");
const SYSTEM: SystemInfo<'_> = SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

/// What a content stream needs beside itself.
#[derive(Default)]
struct Needs {
    glyphs: GlyphRemapper,
    /// The characters by the glyphs of the part of the font.
    characters: BTreeMap<u16, (char, f64)>,
    /// Opacities of fills and strokes, in thousandths.
    opacities: Vec<(u32, u32)>,
}

/// The drawing as PDF.
pub(super) fn write(ink: &Ink) -> anyhow::Result<Vec<u8>> {
    let mut needs = Needs::default();
    let content = content(ink, &mut needs);
    let [catalog, pages, page, stream, information] = [1, 2, 3, 4, 5].map(Ref::new);
    let font = Ref::new(6);
    let state = |number: usize| Ref::new(20 + i32::try_from(number).unwrap_or(i32::MAX - 20));
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(pages).lang(TextStr("en"));
    pdf.pages(pages).kids([page]).count(1);
    pdf.document_info(information).title(TextStr(&ink.title)).subject(TextStr(&ink.about)).creator(TextStr("titer"));
    let mut leaf = pdf.page(page);
    leaf.parent(pages).contents(stream);
    leaf.media_box(Rect::new(0.0, 0.0, (ink.width * POINTS) as f32, (ink.height * POINTS) as f32));
    let mut resources = leaf.resources();
    resources.fonts().pair(FONT_NAME, font);
    let mut states = resources.ext_g_states();
    for number in 0..needs.opacities.len() {
        states.pair(Name(format!("G{number}").as_bytes()), state(number));
    }
    states.finish();
    resources.finish();
    leaf.finish();
    for (number, (fill, stroke)) in needs.opacities.iter().enumerate() {
        let share = |thousandths: u32| thousandths as f32 / 1000.0;
        pdf.ext_graphics(state(number)).non_stroking_alpha(share(*fill)).stroking_alpha(share(*stroke));
    }
    pdf.stream(stream, &packed(&content)?).filter(Filter::FlateDecode);
    write_font(&mut pdf, font, &needs)?;
    Ok(pdf.finish())
}

fn content(ink: &Ink, needs: &mut Needs) -> Vec<u8> {
    let mut out = Content::new();
    // Down is up in PDF.
    out.transform([POINTS as f32, 0.0, 0.0, -POINTS as f32, 0.0, (ink.height * POINTS) as f32]);
    out.set_line_join(LineJoinStyle::RoundJoin);
    fill(&mut out, ink.paper);
    out.rect(0.0, 0.0, ink.width as f32, ink.height as f32).fill_nonzero();
    for shape in &ink.shapes {
        match shape {
            Shape::Path { points, closed, style } => {
                prepare(&mut out, style, needs);
                for (place, (x, y)) in points.iter().enumerate() {
                    let (x, y) = (*x as f32, *y as f32);
                    if place == 0 {
                        out.move_to(x, y)
                    } else {
                        out.line_to(x, y)
                    };
                }
                if *closed {
                    out.close_path();
                }
                paint(&mut out, style);
            }
            Shape::Circle { x, y, radius, style } => {
                prepare(&mut out, style, needs);
                circle(&mut out, (*x, *y), *radius);
                paint(&mut out, style);
            }
            Shape::Text(text) => write_text(&mut out, text, needs),
        }
    }
    out.finish().into_vec()
}

fn prepare(out: &mut Content, style: &Style, needs: &mut Needs) {
    let thousandths = |opacity: f64| (opacity * 1000.0).round() as u32;
    let opacities =
        (thousandths(style.fill.map_or(1.0, |fill| fill.1)), thousandths(style.stroke.map_or(1.0, |pen| pen.opacity)));
    set_opacities(out, opacities, needs);
    if let Some((colour, _)) = style.fill {
        fill(out, colour);
    }
    if let Some(Stroke { colour, width, dash, .. }) = style.stroke {
        let [red, green, blue] = shares(colour);
        out.set_stroke_rgb(red, green, blue).set_line_width(width as f32);
        out.set_dash_pattern(dash.iter().map(|length| *length as f32), 0.0);
    }
}

fn set_opacities(out: &mut Content, opacities: (u32, u32), needs: &mut Needs) {
    let known = needs.opacities.iter().position(|known| *known == opacities);
    let number = known.unwrap_or_else(|| {
        needs.opacities.push(opacities);
        needs.opacities.len() - 1
    });
    out.set_parameters(Name(format!("G{number}").as_bytes()));
}

fn paint(out: &mut Content, style: &Style) {
    match (style.fill, style.stroke) {
        (Some(_), Some(_)) => out.fill_nonzero_and_stroke(),
        (Some(_), None) => out.fill_nonzero(),
        (None, Some(_)) => out.stroke(),
        (None, None) => out.end_path(),
    };
}

/// Four Bézier curves; 0.5523 takes each nearest to a quarter of a circle.
fn circle(out: &mut Content, (x, y): (f64, f64), radius: f64) {
    let at = |dx: f64, dy: f64| ((x + dx * radius) as f32, (y + dy * radius) as f32);
    let start = at(1.0, 0.0);
    out.move_to(start.0, start.1);
    let k = 0.552_284_75;
    for (a, b, end) in [
        ((1.0, k), (k, 1.0), (0.0, 1.0)),
        ((-k, 1.0), (-1.0, k), (-1.0, 0.0)),
        ((-1.0, -k), (-k, -1.0), (0.0, -1.0)),
        ((k, -1.0), (1.0, -k), (1.0, 0.0)),
    ] {
        let [(ax, ay), (bx, by), (ex, ey)] = [a, b, end].map(|(dx, dy)| at(dx, dy));
        out.cubic_to(ax, ay, bx, by, ex, ey);
    }
    out.close_path();
}

fn write_text(out: &mut Content, text: &Text, needs: &mut Needs) {
    let Some(font) = UBUNTU.as_ref() else { return };
    let mut shown = Vec::new();
    for character in text.shown.chars().filter(|c| !c.is_control()) {
        let glyph = font.glyph(character).unwrap_or(0);
        let own = needs.glyphs.remap(glyph);
        needs.characters.entry(own).or_insert((character, font.advance(glyph)));
        shown.extend(own.to_be_bytes());
    }
    let start = match text.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => -width(&text.shown) / 2.0,
        Anchor::End => -width(&text.shown),
    };
    let (sin, cos) = text.turn.to_radians().sin_cos();
    let (x, y) = (text.x + start * cos, text.y + start * sin);
    set_opacities(out, (1000, 1000), needs);
    fill(out, text.colour);
    out.begin_text().set_font(FONT_NAME, FONT as f32);
    // Texts stand upright again.
    out.set_text_matrix([cos as f32, sin as f32, sin as f32, -cos as f32, x as f32, y as f32]);
    out.show(Str(&shown)).end_text();
}

fn write_font(pdf: &mut Pdf, font: Ref, needs: &Needs) -> anyhow::Result<()> {
    let [descendant, descriptor, data, unicode] = [7, 8, 9, 10].map(Ref::new);
    let bytes = subsetter::subset(BYTES, 0, &needs.glyphs).context("the figure's font")?;
    let mut outer = pdf.type0_font(font);
    outer.base_font(BASE_FONT).encoding_predefined(Name(b"Identity-H")).descendant_font(descendant).to_unicode(unicode);
    outer.finish();
    let mut inner = pdf.cid_font(descendant);
    inner.subtype(CidFontType::Type2).base_font(BASE_FONT).system_info(SYSTEM).font_descriptor(descriptor);
    inner.default_width(0.0).cid_to_gid_map_predefined(Name(b"Identity"));
    let mut widths = inner.widths();
    for (glyph, (_, advance)) in &needs.characters {
        widths.consecutive(*glyph, [(advance * 1000.0) as f32]);
    }
    widths.finish();
    inner.finish();
    // From the font's `head`, `hhea` and `OS/2`, whose em has 1,000 units.
    pdf.font_descriptor(descriptor)
        .name(BASE_FONT)
        .flags(FontFlags::SYMBOLIC)
        .bbox(Rect::new(-157.0, -196.0, 3521.0, 958.0))
        .italic_angle(0.0)
        .ascent(932.0)
        .descent(-189.0)
        .cap_height(693.0)
        .stem_v(60.0)
        .font_file2(data);
    pdf.stream(data, &packed(&bytes)?).filter(Filter::FlateDecode).pair(Name(b"Length1"), i32::try_from(bytes.len())?);
    let mut map = UnicodeCmap::new(Name(b"Titer"), SYSTEM);
    for (glyph, (character, _)) in needs.characters.iter().filter(|(glyph, _)| **glyph != 0) {
        map.pair(*glyph, *character);
    }
    pdf.cmap(unicode, &map.finish());
    Ok(())
}

fn fill(out: &mut Content, colour: Rgb) {
    let [red, green, blue] = shares(colour);
    out.set_fill_rgb(red, green, blue);
}

fn shares(Rgb(red, green, blue): Rgb) -> [f32; 3] {
    [red, green, blue].map(|part| f32::from(part) / 255.0)
}

fn packed(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}
