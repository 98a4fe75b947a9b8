//! Steps that change a text.

use super::super::python_regex;
use super::super::text::{is_space, split};
use super::compare::NUMBER;
use super::step::Take;
use anyhow::ensure;
use fancy_regex::Regex;

crate::words! {
    /// What does not count.
    pub enum Normal {
        /// Letters become lower case.
        Case = "case",
        /// The 32 punctuation characters of ASCII go.
        Punctuation = "punctuation",
        /// The words `a`, `an` and `the` go, in capitals or not.
        Articles = "articles",
        /// White space becomes single spaces, and goes at both ends.
        Space = "space",
        /// Of the first block between code fences that is closed, what stands in it; the text itself without one.
        Fences = "fences",
    }
}

crate::words! {
    /// Which of several.
    pub enum Which {
        /// The first.
        First = "first",
        /// The last.
        Last = "last",
    }
}

/// What a step makes of a text.
#[derive(Debug)]
pub(super) enum Change {
    Normalise(Vec<Normal>, Regex),
    Remove(Regex),
    /// What the match captures.
    Capture(Regex, Which),
    /// A word without what stands around it.
    Word(Which),
    Line(Which),
}

impl Change {
    pub(super) fn normalise(normals: &[Normal]) -> anyhow::Result<Self> {
        Ok(Self::Normalise(normals.to_vec(), python_regex::compile(r"(?i)\b(a|an|the)\b")?))
    }

    pub(super) fn take(part: Take, which: Which) -> anyhow::Result<Self> {
        Ok(match part {
            Take::Number => Self::Capture(python_regex::compile(NUMBER)?, which),
            Take::Word => Self::Word(which),
            Take::Line => Self::Line(which),
        })
    }

    /// Of words at one place, the longest.
    pub(super) fn first_of(words: &[String], which: Which) -> anyhow::Result<Self> {
        ensure!(!words.is_empty(), "`first_of` is empty");
        ensure!(words.iter().all(|word| !word.is_empty()), "`first_of` holds an empty text");
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let words: Vec<_> = words.into_iter().map(regex::escape).collect();
        let pattern = format!(r"(?i)(?<!\w)(?:{})(?!\w)", words.join("|"));
        Ok(Self::Capture(python_regex::compile(&pattern)?, which))
    }

    /// The changed text; `None` if what is to be taken is not there.
    pub(super) fn apply(&self, text: &str) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Change::Normalise(normals, articles) => {
                let mut text = text.to_string();
                for normal in normals {
                    text = normalise(*normal, text, articles)?;
                }
                Some(text)
            }
            Change::Remove(regex) => Some(python_regex::remove(regex, text)?),
            Change::Capture(regex, Which::First) => python_regex::capture(regex, text)?.map(str::to_string),
            Change::Capture(regex, Which::Last) => python_regex::last_capture(regex, text)?.map(str::to_string),
            Change::Word(which) => {
                let words = text.split(is_space).map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
                one(words, *which)
            }
            Change::Line(which) => one(text.lines().map(|line| line.trim_matches(is_space)), *which),
        })
    }
}

/// The first or last part that is not empty.
fn one<'a>(parts: impl DoubleEndedIterator<Item = &'a str>, which: Which) -> Option<String> {
    let mut parts = parts.filter(|part| !part.is_empty());
    let part = match which {
        Which::First => parts.next(),
        Which::Last => parts.next_back(),
    };
    part.map(str::to_string)
}

fn normalise(normal: Normal, mut text: String, articles: &Regex) -> anyhow::Result<String> {
    Ok(match normal {
        Normal::Case => text.to_lowercase(),
        Normal::Punctuation => {
            text.retain(|c| !c.is_ascii_punctuation());
            text
        }
        Normal::Articles => python_regex::replace(articles, &text, " ")?,
        Normal::Space => split(&text).collect::<Vec<_>>().join(" "),
        Normal::Fences => fenced(&text).map(str::to_string).unwrap_or(text),
    })
}

/// What stands in the first block of code: between two fences, without the language's name behind the first.
fn fenced(text: &str) -> Option<&str> {
    const FENCE: &str = "```";
    let (_, block) = text.split_once(FENCE)?;
    let (block, _) = block.split_once(FENCE)?;
    let is_name = |line: &str| line.trim().chars().all(|c| c.is_ascii_alphanumeric() || "+-#._".contains(c));
    match block.split_once('\n') {
        Some((line, rest)) if is_name(line) => Some(rest),
        _ => Some(block),
    }
}
