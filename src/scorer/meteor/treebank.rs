//! Words as NLTK's `word_tokenize` finds them within a line: the Penn Treebank's rules, improved.
//!
//! The original is some thirty regular expressions, each of which rewrites the whole text. Here those that cannot see what
//! the others do are one pass; what each of them matches is theirs, to the character.

use super::super::text::{is_space, split};
use regex::Regex;

/// The rules, with the classes of characters that they need.
#[derive(Debug)]
pub(super) struct Treebank {
    /// A character of a word: to the module `regex`, and to Python's `re`.
    word: Regex,
    letter_or_number: Regex,
    digit: Regex,
}

/// Word pairs that are written as one: both halves in lower case.
const CONTRACTIONS: [(&str, &str); 10] = [
    ("can", "not"),
    ("d", "'ye"),
    ("gim", "me"),
    ("gon", "na"),
    ("got", "ta"),
    ("lem", "me"),
    ("more", "'n"),
    ("wan", "na"),
    ("'t", "is"),
    ("'t", "was"),
];

/// What may follow an apostrophe within a word.
const CLITICS: [&str; 8] = ["re", "ve", "ll", "m", "t", "s", "d", "n"];

/// Ends that are split off.
const ENDS: [&str; 8] = ["'ll", "'LL", "'re", "'RE", "'ve", "'VE", "n't", "N'T"];

impl Treebank {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            word: Regex::new(r"^\w")?,
            letter_or_number: Regex::new(r"^[\p{L}\p{N}_]")?,
            digit: Regex::new(r"^\d")?,
        })
    }

    /// The words of `text`.
    pub(super) fn words(&self, text: &str) -> Vec<String> {
        let text = opening_quotes(&text.chars().collect::<Vec<_>>());
        let text = self.single_opening_quotes(&text);
        let text = final_stop(text);
        let text = self.colons_and_commas(&text);
        let text = punctuation(&text);
        let text = spaced_quotes(&text);
        let text = brackets_and_dashes(&text);
        let text = closing_quotes(&text);
        let text = split_after(&text, quote_end);
        let text = split_after(&text, clitic_end);
        let text = self.contractions(&text);
        let text: String = text.into_iter().collect();
        split(&text).map(str::to_string).collect()
    }

    fn is(class: &Regex, c: Option<&char>) -> bool {
        c.is_some_and(|c| class.is_match(c.encode_utf8(&mut [0; 4])))
    }

    /// `'word` → `' word`, unless what follows is a clitic.
    fn single_opening_quotes(&self, text: &[char]) -> Vec<char> {
        let mut out = Vec::with_capacity(text.len());
        for (at, c) in text.iter().enumerate() {
            out.push(*c);
            if *c != '\'' || at > 0 && Self::is(&self.word, text.get(at - 1)) {
                continue;
            }
            let rest = &text[at + 1..];
            let is_clitic =
                |clitic: &str| begins_with(rest, clitic, same_letter) && !Self::is(&self.word, rest.get(clitic.len()));
            if Self::is(&self.word, rest.first()) && !CLITICS.iter().any(|clitic| is_clitic(clitic)) {
                out.push(' ');
            }
        }
        out
    }

    /// Colons and commas stand alone before all but digits, and at the end.
    fn colons_and_commas(&self, text: &[char]) -> Vec<char> {
        let mut out = Vec::with_capacity(text.len() + 16);
        let mut at = 0;
        while at < text.len() {
            let (c, next) = (text[at], text.get(at + 1));
            at += 1;
            match next {
                _ if !matches!(c, ':' | ',') => out.push(c),
                None => out.extend([' ', c, ' ']),
                Some(_) if Self::is(&self.digit, next) => out.push(c),
                Some(next) => {
                    out.extend([' ', c, ' ', *next]);
                    at += 1;
                    // A mark that was what followed: it stands alone at the end, too.
                    if at == text.len() && matches!(next, ':' | ',') {
                        out.push(' ');
                    }
                }
            }
        }
        out
    }

    /// `cannot` → `can not`.
    fn contractions(&self, text: &[char]) -> Vec<char> {
        let is_letter = |c: Option<&char>| Self::is(&self.letter_or_number, c);
        let mut out = Vec::with_capacity(text.len() + 8);
        let mut at = 0;
        while at < text.len() {
            let (rest, before) = (&text[at..], at.checked_sub(1).map(|before| &text[before]));
            let fits = |(first, second): &&(&str, &str)| {
                let after = rest.get(first.len() + second.len());
                begins_with(rest, first, same_letter_of_re)
                    && begins_with(&rest[first.len()..], second, same_letter_of_re)
                    && if *first == "'t" { before == Some(&' ') } else { !is_letter(before) }
                    && if *first == "wan" { after.is_some_and(|c| is_space(*c)) } else { !is_letter(after) }
            };
            // Most characters cannot begin one: a look at the character and the one before it spares ten comparisons.
            let may_begin = matches!(rest[0].to_ascii_lowercase(), 'c' | 'd' | 'g' | 'l' | 'm' | 'w' | '\'')
                && !before.is_some_and(char::is_ascii_alphanumeric);
            match CONTRACTIONS.iter().filter(|_| may_begin).find(fits) {
                Some((first, second)) => {
                    let (first, second) = rest[..first.len() + second.len()].split_at(first.len());
                    out.push(' ');
                    out.extend(first);
                    out.push(' ');
                    out.extend(second);
                    out.push(' ');
                    at += first.len() + second.len();
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }
}

/// Whether `c` is the ASCII letter `letter` but for case, to Unicode's simple folding.
fn same_letter(c: char, letter: char) -> bool {
    c.eq_ignore_ascii_case(&letter) || (c, letter) == ('ſ', 's')
}

/// The same to Python's `re`, for which `i` has two likes more.
fn same_letter_of_re(c: char, letter: char) -> bool {
    same_letter(c, letter) || letter == 'i' && matches!(c, 'ı' | 'İ')
}

fn begins_with(text: &[char], word: &str, same: fn(char, char) -> bool) -> bool {
    text.len() >= word.len() && word.chars().zip(text).all(|(letter, c)| same(*c, letter))
}

/// Quotes that open: single characters, back-ticks by twos, and `"` or `''` at the start or after a bracket or space.
fn opening_quotes(text: &[char]) -> Vec<char> {
    let mut out: Vec<char> = Vec::with_capacity(text.len() + 16);
    let mut at = 0;
    while at < text.len() {
        let c = text[at];
        let rest = &text[at + 1..];
        match c {
            '«' | '“' | '‘' | '„' => out.extend([' ', c, ' ']),
            '`' => {
                let more = rest.iter().take_while(|c| **c == '`').count();
                out.push(' ');
                (0..more.div_ceil(2)).for_each(|_| out.extend([' ', '`', '`', ' ']));
                if more % 2 == 0 {
                    out.push('`');
                }
                out.push(' ');
                at += more;
            }
            '"' if at == 0 => out.extend([' ', '`', '`', ' ', ' ']),
            '"' if opens_after(&out) => out.extend([' ', '`', '`', ' ']),
            '\'' if rest.first() == Some(&'\'') && opens_after(&out) => {
                out.extend([' ', '`', '`', ' ']);
                at += 1;
            }
            _ => out.push(c),
        }
        at += 1;
    }
    out
}

/// Whether what has been written ends so that a quote may open. Once one has, the next one does not: a mark that has been
/// used is not looked at again.
fn opens_after(out: &[char]) -> bool {
    match out {
        [.., '`', '`', ' '] => false,
        [.., last] => matches!(last, ' ' | '(' | '[' | '{' | '<'),
        [] => false,
    }
}

/// A full stop at the end stands alone, and so does what closes after it.
fn final_stop(text: Vec<char>) -> Vec<char> {
    let Some(stop) = text.iter().rposition(|c| *c == '.') else { return text };
    let (before, after) = (&text[..stop], &text[stop + 1..]);
    let is_mark = |c: &&char| matches!(**c, ']' | ')' | '}' | '>' | '"' | '\'' | '»' | '”' | '’' | ' ');
    let (marks, rest) = after.split_at(after.iter().take_while(is_mark).count());
    if before.last().is_none_or(|c| *c == '.') || !rest.iter().all(|c| c.is_whitespace()) {
        return text;
    }
    [before, &[' ', '.', ' '], marks, &[' ']].concat()
}

/// Runs of full stops, and most other punctuation.
fn punctuation(text: &[char]) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut at = 0;
    while at < text.len() {
        let c = text[at];
        let stops = text[at..].iter().take_while(|c| **c == '.').count();
        match c {
            '.' if stops > 1 => {
                out.push(' ');
                out.extend(&text[at..at + stops]);
                out.push(' ');
                at += stops - 1;
            }
            ';' | '@' | '#' | '$' | '%' | '&' | '?' | '!' | '\u{2012}'..='\u{2015}' => out.extend([' ', c, ' ']),
            _ => out.push(c),
        }
        at += 1;
    }
    out
}

/// An apostrophe before a space: `dogs' ` → `dogs ' `.
fn spaced_quotes(text: &[char]) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() + 8);
    let mut at = 0;
    while at < text.len() {
        out.push(text[at]);
        at += 1;
        if text[at - 1] != '\'' && text[at..].starts_with(&['\'', ' ']) {
            out.extend([' ', '\'', ' ']);
            at += 2;
        }
    }
    out
}

/// Brackets, stars and double dashes.
fn brackets_and_dashes(text: &[char]) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut at = 0;
    while at < text.len() {
        let c = text[at];
        match c {
            '*' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' => out.extend([' ', c, ' ']),
            '-' if text.get(at + 1) == Some(&'-') => {
                out.extend([' ', '-', '-', ' ']);
                at += 1;
            }
            _ => out.push(c),
        }
        at += 1;
    }
    out
}

/// Quotes that close, and white space: one space for any of it, and at both ends.
fn closing_quotes(text: &[char]) -> Vec<char> {
    let mut out = vec![' '];
    let mut at = 0;
    while at < text.len() {
        let c = text[at];
        match c {
            '»' | '”' | '’' => spaced(&mut out, &[c]),
            '"' => spaced(&mut out, &['\'', '\'']),
            '\'' if text.get(at + 1) == Some(&'\'') => {
                spaced(&mut out, &['\'', '\'']);
                at += 1;
            }
            _ if c.is_whitespace() => spaced(&mut out, &[]),
            _ => out.push(c),
        }
        at += 1;
    }
    spaced(&mut out, &[]);
    out
}

/// Writes `word` between single spaces.
fn spaced(out: &mut Vec<char>, word: &[char]) {
    for space in [true, false] {
        if out.last() != Some(&' ') {
            out.push(' ');
        }
        if space {
            out.extend(word);
        }
    }
}

/// Puts a space before what `end` finds after a character that is neither apostrophe nor space: it gives the length of
/// what is split off, which a space must follow.
fn split_after(text: &[char], end: fn(&[char]) -> Option<usize>) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() + 8);
    let mut at = 0;
    while at < text.len() {
        let c = text[at];
        out.push(c);
        at += 1;
        if matches!(c, '\'' | ' ') {
            continue;
        }
        if let Some(length) = end(&text[at..]).filter(|length| text.get(at + length) == Some(&' ')) {
            out.push(' ');
            out.extend(&text[at..=at + length]);
            at += length + 1;
        }
    }
    out
}

/// `'s`, `'m`, `'d`, or a bare apostrophe.
fn quote_end(rest: &[char]) -> Option<usize> {
    match rest {
        ['\'', 's' | 'S' | 'm' | 'M' | 'd' | 'D', ' ', ..] => Some(2),
        ['\'', ..] => Some(1),
        _ => None,
    }
}

fn clitic_end(rest: &[char]) -> Option<usize> {
    if !rest.iter().take(2).any(|c| *c == '\'') {
        return None;
    }
    let is_end = |end: &&&str| begins_with(rest, end, |c, letter| c == letter);
    ENDS.iter().find(is_end).map(|end| end.len())
}
