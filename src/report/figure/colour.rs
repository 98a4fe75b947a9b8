//! Colours: those of series, those of numbers, and the two themes.
//!
//! Series have the colours of Okabe and Ito (*Color Universal Design*, 2008), which the colour-blind can tell apart. Numbers
//! of one sign have cividis (Nuñez, Anderton and Renslow 2018), numbers around a centre blue and orange.

/// A colour: red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rgb(pub(super) u8, pub(super) u8, pub(super) u8);

/// What a figure is looked at on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    /// Paper, and pages that are white.
    Light,
    /// Pages that are dark.
    Dark,
}

/// The colours of a theme.
#[derive(Debug)]
pub(super) struct Palette {
    pub(super) paper: Rgb,
    pub(super) text: Rgb,
    pub(super) muted: Rgb,
    pub(super) frame: Rgb,
    pub(super) grid: Rgb,
    series: [Rgb; 7],
    diverging: [Rgb; 7],
}

/// So many colours there are before the second round.
const ROUND: usize = 7;

/// In the order of greatest contrast; without yellow, which is too faint for lines on white.
const LIGHT: Palette = Palette {
    paper: Rgb(0xff, 0xff, 0xff),
    text: Rgb(0x22, 0x22, 0x22),
    muted: Rgb(0x55, 0x55, 0x55),
    frame: Rgb(0x55, 0x55, 0x55),
    grid: Rgb(0xe3, 0xe3, 0xe3),
    series: [
        Rgb(0x00, 0x72, 0xb2),
        Rgb(0xd5, 0x5e, 0x00),
        Rgb(0x00, 0x9e, 0x73),
        Rgb(0xcc, 0x79, 0xa7),
        Rgb(0xe6, 0x9f, 0x00),
        Rgb(0x56, 0xb4, 0xe9),
        Rgb(0x00, 0x00, 0x00),
    ],
    diverging: [
        Rgb(0x0b, 0x4f, 0x8a),
        Rgb(0x3d, 0x87, 0xc2),
        Rgb(0x9c, 0xc6, 0xe6),
        Rgb(0xf7, 0xf7, 0xf5),
        Rgb(0xfb, 0xc5, 0x8a),
        Rgb(0xe0, 0x7b, 0x22),
        Rgb(0x9a, 0x45, 0x05),
    ],
};

/// The same hues, lighter, so that they stand out as much from dark as the others from white.
const DARK: Palette = Palette {
    paper: Rgb(0x16, 0x18, 0x1d),
    text: Rgb(0xe6, 0xe6, 0xe6),
    muted: Rgb(0xaf, 0xb3, 0xba),
    frame: Rgb(0x8b, 0x90, 0x98),
    grid: Rgb(0x31, 0x35, 0x3c),
    series: [
        Rgb(0x3f, 0x9b, 0xe0),
        Rgb(0xf0, 0x7f, 0x2e),
        Rgb(0x1f, 0xbd, 0x90),
        Rgb(0xdd, 0x92, 0xbd),
        Rgb(0xf2, 0xb5, 0x3a),
        Rgb(0x93, 0xd5, 0xf8),
        Rgb(0xe6, 0xe6, 0xe6),
    ],
    diverging: [
        Rgb(0x7f, 0xc1, 0xf5),
        Rgb(0x3d, 0x87, 0xc2),
        Rgb(0x26, 0x4c, 0x6e),
        Rgb(0x2a, 0x2c, 0x31),
        Rgb(0x70, 0x45, 0x1c),
        Rgb(0xd8, 0x7a, 0x28),
        Rgb(0xff, 0xbd, 0x7a),
    ],
};

/// Nine places of cividis, from its least to its greatest value.
const CIVIDIS: [Rgb; 9] = [
    Rgb(0x00, 0x22, 0x4e),
    Rgb(0x1a, 0x38, 0x6f),
    Rgb(0x43, 0x4e, 0x6c),
    Rgb(0x61, 0x65, 0x6f),
    Rgb(0x7d, 0x7c, 0x78),
    Rgb(0x9c, 0x94, 0x77),
    Rgb(0xbc, 0xae, 0x6c),
    Rgb(0xdf, 0xc9, 0x5c),
    Rgb(0xfe, 0xe8, 0x38),
];

impl Palette {
    pub(super) fn of(theme: Theme) -> &'static Self {
        match theme {
            Theme::Light => &LIGHT,
            Theme::Dark => &DARK,
        }
    }

    /// The colour of the line or point of series `number`; what else tells it from number + 7 is up to the mark.
    pub(super) fn series(&self, number: usize) -> Rgb {
        self.series[number % ROUND]
    }

    /// The colour of an area of series `number`: paler in every round.
    pub(super) fn area(&self, number: usize) -> Rgb {
        let pale = [0.15, 0.5, 0.72, 0.85][(number / ROUND).min(3)];
        self.series(number).mixed(self.paper, pale)
    }

    /// The colour of a number: `tone` from 0 to 1, or around a centre of 0.5.
    pub(super) fn tone(&self, tone: f64, diverging: bool) -> Rgb {
        let stops: &[Rgb] = if diverging { &self.diverging } else { &CIVIDIS };
        let place = tone.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
        let from = (place.floor() as usize).min(stops.len() - 2);
        stops[from].mixed(stops[from + 1], place - from as f64)
    }
}

impl Rgb {
    /// This colour with a `share` of another.
    pub(super) fn mixed(self, other: Self, share: f64) -> Self {
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share).round() as u8;
        Self(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    /// Black or white, whichever can be read on this colour.
    pub(super) fn readable(self) -> Self {
        let (black, white) = (Self(0x11, 0x11, 0x11), Self(0xff, 0xff, 0xff));
        if self.contrast(black) >= self.contrast(white) { black } else { white }
    }

    /// The contrast of two colours, from 1 to 21 (WCAG 2.2, *contrast ratio*).
    pub(super) fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn luminance(self) -> f64 {
        let linear = |c: u8| {
            let c = f64::from(c) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }
}

impl std::fmt::Display for Rgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_lines_stand_out_in_both_themes() {
        for theme in [Theme::Light, Theme::Dark] {
            let palette = Palette::of(theme);
            // WCAG: 4.5 for texts; 3 for graphics, which Okabe and Ito's orange and sky blue miss on white: those have
            // markers and dashes too.
            for text in [palette.text, palette.muted] {
                assert!(text.contrast(palette.paper) > 7.0, "{theme:?} {text}");
            }
            for number in 0..4 {
                assert!(palette.series(number).contrast(palette.paper) > 2.9, "{theme:?} {number}");
            }
            for step in 0..=20 {
                for diverging in [false, true] {
                    let cell = palette.tone(f64::from(step) / 20.0, diverging);
                    assert!(cell.readable().contrast(cell) >= 4.2, "{theme:?} {cell}");
                }
            }
        }
    }

    #[test]
    fn numbers_have_the_colours_of_their_scale() {
        let palette = Palette::of(Theme::Light);
        assert_eq!(palette.tone(0.0, false).to_string(), "#00224e");
        assert_eq!(palette.tone(1.0, false), palette.tone(7.0, false));
        assert_eq!(palette.tone(0.5, true).to_string(), "#f7f7f5");
        assert!((Rgb(0, 0, 0).contrast(Rgb(255, 255, 255)) - 21.0).abs() < 1e-9);
    }
}
