//! How wide texts are, in the font that the program carries, and how long ones are made to fit.

use epaint_default_fonts::UBUNTU_LIGHT;
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, GlyphId, MetadataProvider as _};
use std::sync::LazyLock;

/// The size of every text, in the figure's units: 7.4 points where a figure is printed as wide as it says.
pub(super) const FONT: f64 = 11.0;

/// From one line of a text to the next.
pub(super) const LINE: f64 = 14.0;

/// The font's bytes.
pub(super) const BYTES: &[u8] = UBUNTU_LIGHT;

/// The carried font; a program without one that can be read would not pass its tests.
pub(super) static UBUNTU: LazyLock<Option<Font>> = LazyLock::new(|| {
    let font = FontRef::new(BYTES).ok()?;
    let metrics = font.metrics(Size::unscaled(), LocationRef::default());
    Some(Font { em: f64::from(metrics.units_per_em), font })
});

pub(super) struct Font {
    font: FontRef<'static>,
    /// Units of the font in one em.
    em: f64,
}

impl Font {
    /// The number of a character's glyph.
    pub(super) fn glyph(&self, character: char) -> Option<u16> {
        self.font.charmap().map(character).and_then(|glyph| u16::try_from(glyph.to_u32()).ok())
    }

    /// How far a glyph moves the pen, in ems.
    pub(super) fn advance(&self, glyph: u16) -> f64 {
        let metrics = self.font.glyph_metrics(Size::unscaled(), LocationRef::default());
        metrics.advance_width(GlyphId::from(glyph)).map_or(0.5, f64::from) / self.em
    }
}

/// `text` without what has no form: line breaks and tabs are spaces.
pub(super) fn plain(text: &str) -> String {
    let spaced = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    spaced.filter(|c| !c.is_control()).collect::<String>().trim().to_string()
}

/// Whether the font has all characters of `text`.
pub(super) fn is_covered(text: &str) -> bool {
    UBUNTU.as_ref().is_some_and(|font| text.chars().all(|character| font.glyph(character).is_some()))
}

/// How wide `text` is. A character that the font lacks comes from another font of the viewer: room for a wide one is kept.
pub(super) fn width(text: &str) -> f64 {
    let advance = |font: &Font, character| font.glyph(character).map_or(1.0, |glyph| font.advance(glyph));
    let ems: f64 = match UBUNTU.as_ref() {
        Some(font) => text.chars().map(|character| advance(font, character)).sum(),
        None => text.chars().count() as f64 * 0.55,
    };
    ems * FONT
}

/// The widest of `texts`.
pub(super) fn widest<'a>(texts: impl IntoIterator<Item = &'a str>) -> f64 {
    texts.into_iter().map(width).fold(0.0, f64::max)
}

/// `text`, or its start and its end with an ellipsis between, no wider than `room`: ends tell names of one kind apart.
pub(super) fn shortened(text: &str, room: f64) -> String {
    if width(text) <= room {
        return text.to_string();
    }
    let characters: Vec<char> = text.chars().collect();
    let cut = |kept: usize| -> String {
        let (head, tail) = (kept.div_ceil(2), kept / 2);
        characters[..head].iter().chain(&['…']).chain(&characters[characters.len() - tail..]).collect()
    };
    // More than that has no room anywhere; a text may be a whole prompt.
    let most = characters.len().min(1000);
    (1..most).rev().map(cut).find(|short| width(short) <= room).unwrap_or_else(|| "…".to_string())
}

/// `text` in lines no wider than `room`, broken between words; a word that is wider is shortened.
pub(super) fn wrapped(text: &str, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}")) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(shortened(word, room)),
        }
    }
    lines
}

/// A number as text, as short as can be, with a real minus.
pub(super) fn number(value: f64) -> String {
    // Twelve digits hide what the multiplication by a step leaves behind (0.30000000000000004).
    let rounded: f64 = format!("{value:.11e}").parse().unwrap_or(value);
    let text = if rounded != 0.0 && (rounded.abs() >= 1e7 || rounded.abs() < 1e-4) {
        format!("{rounded:e}")
    } else {
        format!("{rounded}")
    };
    if rounded == 0.0 { "0".to_string() } else { text.replace('-', "\u{2212}") }
}

/// A number with so many decimals, a great one with a power of ten; never a negative zero.
pub(super) fn decimals(value: f64, digits: usize) -> String {
    if value.abs() >= 1e7 {
        return format!("{value:.digits$e}").replace('-', "\u{2212}");
    }
    let text = format!("{value:.digits$}");
    let zero = text.chars().all(|c| "-0.".contains(c));
    if zero { text.replace('-', "") } else { text.replace('-', "\u{2212}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_font() {
        let font = UBUNTU.as_ref().unwrap();
        // From the font's `hmtx`: fontTools gives 1000 units to the em, 564 for `0`, 863 for `m`, 237 for `i`.
        for (character, advance) in [('0', 0.564), ('m', 0.863), ('i', 0.237)] {
            let found = font.advance(font.glyph(character).unwrap());
            assert!((found - advance).abs() < 1e-6, "{character}: {found}");
        }
        assert!(width("iiii") < width("mmmm") / 3.0);
        assert_eq!(width("漢"), FONT);
    }

    #[test]
    fn long_texts_keep_both_ends() {
        let long = "a-very-long-name-of-a-model-that-nobody-can-read-7b";
        let short = shortened(long, 80.0);
        assert!(width(&short) <= 80.0 && width(&short) > 65.0, "{short}");
        assert!(short.starts_with("a-very") && short.ends_with("-7b") && short.contains('…'), "{short}");
        assert_eq!(shortened("em", 80.0), "em");
        assert_eq!(shortened("em", 0.0), "…");
        let lines = wrapped("one two three four", 60.0);
        assert!(lines.len() > 1 && lines.iter().all(|line| width(line) <= 60.0), "{lines:?}");
        assert_eq!(lines.join(" "), "one two three four");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(0.1 + 0.2), "0.3");
        assert_eq!(number(-1500.0), "\u{2212}1500");
        assert_eq!(decimals(-0.001, 2), "0.00");
        assert_eq!(decimals(-0.5, 1), "\u{2212}0.5");
        assert_eq!(decimals(-1e300, 2), "\u{2212}1.00e300");
    }
}
