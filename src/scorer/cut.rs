//! Texts cut into words as mteval and its descendants cut them: `13a`, `intl`, `zh` and tercom's.
//!
//! The reference programs put spaces around what stands alone, by one regular expression after the other, and split the
//! result at white space. No character changes, so the words are slices of the text, and one look at a character, the one
//! before and the one after says where to cut.

use super::text::is_space;
use super::unicode::{NUMBER, PUNCTUATION, SYMBOL, is_in};
use std::borrow::Cow;

/// What a character is to a tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// It separates words.
    Space,
    /// It is a word of its own.
    Alone,
    /// It is a word of its own, unless it stands between two digits, and in some rows of its like.
    Mark,
    /// It is a word of its own after a digit.
    Dash,
    Digit,
    Letter,
}

/// What stands before a character, as far as a mark asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// The text's edge.
    Nothing,
    Digit,
    /// A mark for which the first of the two expressions has cut: it cannot be what comes before the next one.
    Mark,
    Else,
}

/// How a text is cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// mteval-v13a's.
    V13a,
    /// mteval-v14's, by Unicode's classes.
    International,
    /// Chinese characters one by one, the rest as 13a.
    Chinese,
    /// tercom's normalisation.
    Tercom,
    /// tercom's with Asian characters one by one.
    TercomAsian,
}

impl Cut {
    /// Gives the words of `text` one by one.
    pub(super) fn words<'a>(self, text: &'a str, word: impl FnMut(&'a str)) {
        match self {
            Self::V13a => Edges { padded: true, possessive: false }.words(text, western, word),
            Self::International => Edges { padded: false, possessive: false }.words(text, international, word),
            Self::Chinese => Edges { padded: false, possessive: false }.words(text, chinese, word),
            Self::Tercom => Edges { padded: true, possessive: true }.words(text, western, word),
            Self::TercomAsian => Edges { padded: true, possessive: true }.words(text, asian, word),
        }
    }
}

/// What tokenizers with the same idea of marks differ in.
struct Edges {
    /// Whether there is a space at both edges of a text.
    padded: bool,
    /// Whether `'s` at a word's end is a word of its own.
    possessive: bool,
}

impl Edges {
    #[inline]
    fn words<'a>(self, text: &'a str, class: impl Fn(char) -> Class + Copy, mut word: impl FnMut(&'a str)) {
        let mut before = if self.padded { Before::Else } else { Before::Nothing };
        let mut start = 0;
        let mut chars = text.char_indices().map(|(at, c)| (at, c, class(c)));
        let mut upcoming = chars.next();
        while let Some((at, c, class_here)) = upcoming {
            upcoming = chars.next();
            let first = before == Before::Else;
            let alone = match class_here {
                Class::Space | Class::Alone => true,
                Class::Mark => first || upcoming.map_or(self.padded, |(.., next)| next != Class::Digit),
                Class::Dash => before == Before::Digit,
                Class::Digit | Class::Letter => false,
            };
            before = match class_here {
                Class::Digit => Before::Digit,
                Class::Mark if first => Before::Mark,
                _ => Before::Else,
            };
            let ends = alone || self.possessive && c == '\'' && is_possessive(&text[at..], class);
            if !ends {
                continue;
            }
            if start < at {
                word(&text[start..at]);
            }
            start = at;
            if alone {
                start = upcoming.map_or(text.len(), |(at, ..)| at);
                if class_here != Class::Space {
                    word(&text[at..start]);
                }
            }
        }
        if start < text.len() {
            word(&text[start..]);
        }
    }
}

/// Whether `rest` begins with `'s` and a space, or with what has a space put before it.
fn is_possessive(rest: &str, class: impl Fn(char) -> Class) -> bool {
    let Some(rest) = rest.strip_prefix("'s") else { return false };
    rest.chars().next().is_none_or(|next| next == ' ' || class(next) == Class::Alone && next.is_ascii())
}

/// Classes of ASCII in 13a.
const ASCII: [Class; 128] = {
    let mut classes = [Class::Letter; 128];
    let mut at = 0;
    while at < 128 {
        classes[at] = match at as u8 {
            b'\t'..=b'\r' | 0x1c..=0x20 => Class::Space,
            b'0'..=b'9' => Class::Digit,
            b'.' | b',' => Class::Mark,
            b'-' => Class::Dash,
            b'\'' => Class::Letter,
            b'!'..=b'/' | b':'..=b'@' | b'['..=b'`' | b'{'..=b'~' => Class::Alone,
            _ => Class::Letter,
        };
        at += 1;
    }
    classes
};

#[inline]
fn western(c: char) -> Class {
    match ASCII.get(c as usize) {
        Some(class) => *class,
        None if is_space(c) => Class::Space,
        None => Class::Letter,
    }
}

/// Classes of ASCII in mteval-v14: all punctuation is alike, and so are symbols.
const INTERNATIONAL: [Class; 128] = {
    let mut classes = ASCII;
    let mut at = 0;
    while at < 128 {
        if matches!(classes[at], Class::Alone | Class::Dash) || at as u8 == b'\'' {
            classes[at] = match at as u8 {
                b'$' | b'+' | b'<' | b'=' | b'>' | b'^' | b'`' | b'|' | b'~' => Class::Alone,
                _ => Class::Mark,
            };
        }
        at += 1;
    }
    classes
};

#[inline]
fn international(c: char) -> Class {
    match INTERNATIONAL.get(c as usize) {
        Some(class) => *class,
        None if is_space(c) => Class::Space,
        None if is_in(c, PUNCTUATION) => Class::Mark,
        None if is_in(c, SYMBOL) => Class::Alone,
        None if is_in(c, NUMBER) => Class::Digit,
        None => Class::Letter,
    }
}

fn chinese(c: char) -> Class {
    match western(c) {
        Class::Letter if is_chinese(c) => Class::Alone,
        class => class,
    }
}

/// sacrebleu's ranges. Two of them are meant to be of plane 2, but Python reads `\u20000` as U+2000 and a `0`.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fbb}' | '\u{f900}'..='\u{fa2d}' | '\u{fa30}'..='\u{fa6a}'
        | '\u{fa70}'..='\u{fad9}' | '\u{2001}'..='\u{2a6d}' | '\u{2f81}'..='\u{2fa1}' | '\u{ff00}'..='\u{ffef}'
        | '\u{2e80}'..='\u{2eff}' | '\u{3000}'..='\u{303f}' | '\u{31c0}'..='\u{31ef}' | '\u{2f00}'..='\u{2fdf}'
        | '\u{2ff0}'..='\u{2fff}' | '\u{3100}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}' | '\u{fe10}'..='\u{fe1f}'
        | '\u{fe30}'..='\u{fe4f}' | '\u{3200}'..='\u{33ff}')
}

fn asian(c: char) -> Class {
    match western(c) {
        Class::Letter if is_asian(c) || is_asian_mark(c) => Class::Alone,
        class => class,
    }
}

/// tercom's ranges of characters that are words, as sacrebleu has them (it writes U+3F22 where U+32FF is meant).
fn is_asian(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3200}'..='\u{4dbf}' | '\u{31c0}'..='\u{31ef}' | '\u{2e80}'..='\u{2eff}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}')
}

/// Asian and full-width punctuation, to tercom.
pub(super) fn is_asian_mark(c: char) -> bool {
    matches!(c,
        '\u{3001}' | '\u{3002}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}' | '\u{ff61}'..='\u{ff65}'
        | '\u{30fb}' | '\u{ff0e}' | '\u{ff0c}' | '\u{ff1f}' | '\u{ff1a}' | '\u{ff1b}' | '\u{ff01}' | '\u{ff02}'
        | '\u{ff08}' | '\u{ff09}')
}

/// `text` without the white space at its end, as Python's `str.rstrip` leaves it.
pub(super) fn trimmed(text: &str) -> &str {
    // Most texts end in a letter or a full stop.
    if text.as_bytes().last().is_some_and(u8::is_ascii_graphic) { text } else { text.trim_end_matches(is_space) }
}

/// `text` as 13a sees it: without hyphenation at line ends, and with what stands for four characters in SGML.
pub(super) fn unescaped_13a(text: &str) -> Cow<'_, str> {
    if memchr::memchr3(b'<', b'\n', b'&', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let text = replaced(Cow::Borrowed(text), "<skipped>", "");
    let text = replaced(text, "-\n", "");
    unescaped(replaced(text, "\n", " "))
}

/// `text` as tercom's normalisation sees it.
pub(super) fn unescaped_tercom(text: &str) -> Cow<'_, str> {
    let text = replaced(Cow::Borrowed(text), "\n-", "");
    unescaped(replaced(text, "\n", " "))
}

fn unescaped(mut text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('&') {
        for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
            text = replaced(text, entity, character);
        }
    }
    text
}

fn replaced<'a>(text: Cow<'a, str>, what: &str, with: &str) -> Cow<'a, str> {
    if text.contains(what) { Cow::Owned(text.replace(what, with)) } else { text }
}
