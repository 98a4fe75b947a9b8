//! Regular expressions as Python's `re` reads them.
//!
//! Most of the syntax is the same here and there. What differs is rewritten: Python's white space has four characters
//! more, its word characters are letters and numbers of Unicode and `_`, `$` also stands before a last line break, and
//! a `[` within a class is nothing special. What cannot be compiled is an error, never something else in silence.

use crate::diagnostic::Problems;
use crate::settings::{Decode, Schema, Value};
use anyhow::Context as _;
use fancy_regex::{Captures, Regex};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

const SPACE: &str = r"\s\x1C-\x1F";
const WORD: &str = r"\p{L}\p{N}_";

/// A regular expression in Python's syntax that is known to compile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    pub(super) fn compile(&self) -> anyhow::Result<Regex> {
        compile(&self.0)
    }
}

impl Decode for Pattern {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = String::decode(value, problems)?;
        match compile(&text) {
            Ok(_) => Some(Self(text)),
            Err(error) => {
                problems.at(value.span, format!("{error:#}"));
                None
            }
        }
    }

    fn schema() -> Schema {
        String::schema()
    }
}

/// The expression `pattern` of Python's.
pub(super) fn compile(pattern: &str) -> anyhow::Result<Regex> {
    Regex::new(&translate(pattern)).with_context(|| format!("`{pattern}` is not a regular expression"))
}

/// `text` without all that `regex` matches, as `re.sub(regex, "", text)` leaves it.
pub(super) fn remove(regex: &Regex, text: &str) -> anyhow::Result<String> {
    replace(regex, text, "")
}

/// `text` with every match of `regex` replaced, as `re.sub(regex, replacement, text)` does.
pub(super) fn replace(regex: &Regex, text: &str, replacement: &str) -> anyhow::Result<String> {
    let replaced = regex.try_replacen(text, 0, fancy_regex::NoExpand(replacement));
    Ok(replaced.with_context(|| format!("pattern `{}`", regex.as_str()))?.into_owned())
}

/// What the first match in `text` captures: its first group, or all of it if the expression has none. `None` without a
/// match, or if the group took no part in it.
pub(super) fn capture<'a>(regex: &Regex, text: &'a str) -> anyhow::Result<Option<&'a str>> {
    let captures = regex.captures(text).with_context(|| format!("pattern `{}`", regex.as_str()))?;
    Ok(captures.and_then(|captures| group(&captures)))
}

/// What the last match in `text` captures.
pub(super) fn last_capture<'a>(regex: &Regex, text: &'a str) -> anyhow::Result<Option<&'a str>> {
    let mut last = None;
    for captures in regex.captures_iter(text) {
        last = Some(captures.with_context(|| format!("pattern `{}`", regex.as_str()))?);
    }
    Ok(last.and_then(|captures| group(&captures)))
}

fn group<'a>(captures: &Captures<'a>) -> Option<&'a str> {
    captures.get(captures.len().min(2) - 1).map(|group| group.as_str())
}

fn translate(pattern: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let Some(escaped) = chars.next() else {
                    out.push('\\');
                    break;
                };
                translate_escape(escaped, in_class, &mut out);
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if chars.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // Python's classes know no nesting and no set operations.
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && out.ends_with('-') => out.push_str(r"\-"),
            '$' if !in_class => out.push_str(r"(?:$|(?=\n\z))"),
            _ => out.push(c),
        }
    }
    out
}

fn translate_escape(escaped: char, in_class: bool, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = match (escaped, in_class) {
        ('s', true) => write!(out, "{SPACE}"),
        ('s', false) => write!(out, "[{SPACE}]"),
        ('S', _) => write!(out, "[^{SPACE}]"),
        ('w', true) => write!(out, "{WORD}"),
        ('w', false) => write!(out, "[{WORD}]"),
        ('W', _) => write!(out, "[^{WORD}]"),
        ('b', true) => write!(out, r"\x08"),
        ('b', false) => write!(out, "(?:(?<=[{WORD}])(?![{WORD}])|(?<![{WORD}])(?=[{WORD}]))"),
        ('B', false) => write!(out, "(?:(?<=[{WORD}])(?=[{WORD}])|(?<![{WORD}])(?![{WORD}]))"),
        ('Z', false) => write!(out, r"\z"),
        _ => write!(out, "\\{escaped}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of pattern and text with what Python 3.11's `re.sub(pattern, "", text)` leaves.
    const PYTHON: &[(&str, &str, &str)] = &[
        (r"\s+", "a\u{1c}b\u{1f}c d", "abcd"),
        (r"[^\w\s]", "a\u{1c}b!²", "a\u{1c}b²"),
        (r"\w+", "é² _x\u{301}", " \u{301}"),
        (r"\.$", "end.\n", "end\n"),
        (r"\b(a|an|the)\b", "the—theatre a_b a", "—theatre a_b "),
        (r"[[a]+", "[a]b", "]b"),
        (r"[]x]", "]xy", "y"),
        (r"[+--]", "+,-.", "."),
        (r"(?i)(the )?answer( is)?:?\s*", "The Answer is: 4", "4"),
        (r"(\d)\1", "112 33", "2 "),
        (r"(?<!\d)\d\Z", "12 3", "12 "),
        (r"x*", "axxb", "ab"),
    ];

    #[test]
    fn patterns_mean_what_they_mean_in_python() {
        for (pattern, text, expected) in PYTHON {
            let regex = compile(pattern).unwrap();
            assert_eq!(remove(&regex, text).unwrap(), *expected, "{pattern} on {text:?}");
        }
    }

    #[test]
    fn what_cannot_be_compiled_is_named() {
        let error = compile("(a").unwrap_err();
        assert!(format!("{error:#}").contains("`(a` is not a regular expression"), "{error:#}");
    }
}
