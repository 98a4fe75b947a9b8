//! Messages for people: what is wrong, where, and what to do. Knows source text and positions, nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A range of bytes in one of the [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Index into [`Sources`].
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// Where a problem lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A range in a manifest: rendered with the source line, underlined.
    Span(Span),
    /// A data file, and the line in it if one is known (from 1).
    File {
        /// The file, as the person wrote it.
        path: PathBuf,
        /// Line number from 1.
        line: Option<u64>,
    },
}

/// One mistake of a person, with its place and a way out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// What is wrong: lower case, values in backticks, no full stop.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A problem without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, hint: None }
    }

    /// A problem at a range of a manifest.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self { place: Some(Place::Span(span)), ..Self::new(message) }
    }

    /// A problem in a data file.
    pub fn in_file(path: impl AsRef<Path>, line: Option<u64>, message: impl Into<String>) -> Self {
        Self { place: Some(Place::File { path: path.as_ref().to_path_buf(), line }), ..Self::new(message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds `did you mean …?` where one of `known` is close to `word`, else the list of them.
    #[must_use]
    pub fn suggest<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match closest(word, known.iter().copied()) {
            Some(near) => self.hint(format!("did you mean `{near}`?")),
            None if known.is_empty() => self,
            None => {
                let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                self.hint(format!("known are {}", list.join(", ")))
            }
        }
    }
}

/// The name nearest to `word`, if one is near enough to be a slip of the fingers.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        // One that shares no letter with the word is another name.
        .filter(|(distance, name)| {
            let longer = word.chars().count().max(name.chars().count());
            *distance <= 1 + longer / 4 && *distance < longer
        })
        .min()
        .map(|(_, name)| name)
}

/// All problems found so far. Reading goes on after a mistake, so that all are shown at once.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Diagnostic>,
    muted: BTreeSet<Span>,
}

impl Problems {
    /// Adds one; the same problem at the same place is kept once, and none at a muted place.
    pub fn push(&mut self, problem: Diagnostic) {
        let is_muted = matches!(problem.place, Some(Place::Span(span)) if self.is_muted(span));
        if !is_muted && !self.list.contains(&problem) {
            self.list.push(problem);
        }
    }

    /// What is wrong at `span` has been said: whatever is found there from now on only follows from it.
    pub fn mute(&mut self, span: Span) {
        self.muted.insert(span);
    }

    /// Whether what is wrong there has been said.
    pub fn is_muted(&self, span: Span) -> bool {
        self.muted.contains(&span)
    }

    /// Adds a problem at `span`.
    pub fn at(&mut self, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::at(span, message));
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many so far.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The problems in order of their places.
    pub fn into_vec(mut self) -> Vec<Diagnostic> {
        self.list.sort_by(|a, b| a.place.cmp(&b.place));
        self.list
    }
}

/// The texts that spans point into.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(String, String)>,
}

impl Sources {
    /// Adds a text under the name that messages show, and returns its number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> u32 {
        self.files.push((name.into(), text.into()));
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// All texts with their names, in the order in which they were read.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The text of file number `file`.
    pub fn text(&self, file: u32) -> &str {
        &self.files[file as usize].1
    }

    /// `file:line:column` of a span's start; lines and columns (in characters) count from 1.
    pub fn locate(&self, span: Span) -> (&str, usize, usize) {
        let (name, text) = &self.files[span.file as usize];
        let before = &text[..(span.start as usize).min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (name, line, column)
    }

    /// The message as a person reads it; readable without colour.
    pub fn render(&self, problem: &Diagnostic) -> String {
        let mut out = format!("error: {}\n", problem.message);
        match &problem.place {
            Some(Place::Span(span)) => self.render_span(&mut out, *span),
            Some(Place::File { path, line: Some(line) }) => {
                let _ = writeln!(out, "  --> {}:{line}", path.display());
            }
            Some(Place::File { path, line: None }) => {
                let _ = writeln!(out, "  --> {}", path.display());
            }
            None => {}
        }
        if let Some(hint) = &problem.hint {
            let _ = writeln!(out, "hint: {hint}");
        }
        out
    }

    fn render_span(&self, out: &mut String, span: Span) {
        let (name, line, column) = self.locate(span);
        let source = self.text(span.file).lines().nth(line - 1).unwrap_or("");
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let text = self.text(span.file);
        let end = (span.end as usize).min(text.len());
        let marked = text.get(span.start as usize..end).unwrap_or("").chars().take_while(|c| *c != '\n').count();
        let shown = Cut::around(source, column - 1, marked);
        let _ = writeln!(out, "{margin} --> {name}:{line}:{column}");
        let _ = writeln!(out, "{margin} |");
        let _ = writeln!(out, "{number} | {}", shown.text);
        let _ = writeln!(out, "{margin} | {}{}", shown.indent, "^".repeat(shown.marked));
    }
}

/// Characters of a line that are shown.
const WIDEST: usize = 160;

/// The part of a line that is shown, with what is marked of it.
struct Cut {
    text: String,
    indent: String,
    marked: usize,
}

impl Cut {
    /// All of the line, or of one that is too long what stands around the place.
    fn around(line: &str, column: usize, marked: usize) -> Self {
        let length = line.chars().count();
        let (first, last) = match length > WIDEST {
            // More of what comes before than after, where a long value begins.
            true => {
                let first = column.saturating_sub(WIDEST / 2).min(length - WIDEST);
                (first, first + WIDEST)
            }
            false => (0, length),
        };
        let mut text: String = line.chars().skip(first).take(last - first).collect();
        // Tabs stay tabs under the line, so that the carets stand where they should.
        let mut indent: String = line
            .chars()
            .skip(first)
            .take(column.saturating_sub(first))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        if first > 0 {
            text.insert_str(0, "… ");
            indent.insert_str(0, "  ");
        }
        if last < length {
            text.push_str(" …");
        }
        Self { text, indent, marked: marked.clamp(1, last.saturating_sub(column).max(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_the_place_and_the_hint() {
        let mut sources = Sources::default();
        let file = sources.add("pipelines/f.toml", "a = 1\nscorers = [\"exact_mach\", \"rouge\"]\n");
        let problem = Diagnostic::at(Span { file, start: 17, end: 29 }, "unknown scorer `exact_mach`")
            .suggest("exact_mach", ["rouge", "exact_match"]);
        assert_eq!(
            sources.render(&problem),
            "error: unknown scorer `exact_mach`\n  --> pipelines/f.toml:2:12\n  |\n2 | scorers = [\"exact_mach\", \"rouge\"]\n  |            ^^^^^^^^^^^^\nhint: did you mean `exact_match`?\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let mut sources = Sources::default();
        let text = format!("x = [\"{}\", here, \"{}\"]", "a".repeat(50_000), "b".repeat(50_000));
        let start = u32::try_from(text.find("here").unwrap()).unwrap();
        let file = sources.add("m.toml", text.as_str());
        let shown = sources.render(&Diagnostic::at(Span { file, start, end: start + 4 }, "no"));
        assert!(shown.len() < 600 && shown.contains(&format!("m.toml:1:{}", start + 1)), "{shown}");
        let lines: Vec<Vec<char>> = shown.lines().map(|line| line.chars().collect()).collect();
        let carets: Vec<usize> = (0..lines[4].len()).filter(|at| lines[4][*at] == '^').collect();
        let marked: String = carets.iter().map(|at| lines[3][*at]).collect();
        assert_eq!(marked, "here", "{shown}");
        assert!(shown.contains("| … a") && shown.contains("b …"), "{shown}");
        // A value that is longer than what is shown is marked as far as that goes.
        let shown = sources.render(&Diagnostic::at(Span { file, start: 5, end: 50_007 }, "no"));
        assert!(shown.len() < 600 && shown.contains("| x = [\"aaa"), "{shown}");
        assert_eq!(shown.matches('^').count(), WIDEST - 5, "{shown}");
    }

    #[test]
    fn what_follows_from_a_mistake_is_not_said() {
        let mut problems = Problems::default();
        let (one, two) = (Span { file: 0, start: 0, end: 4 }, Span { file: 0, start: 4, end: 8 });
        problems.at(one, "first");
        problems.mute(one);
        problems.at(one, "follows");
        problems.at(two, "second");
        assert_eq!(problems.into_vec().len(), 2);
    }

    #[test]
    fn nothing_near_lists_what_is_known() {
        let problem = Diagnostic::new("unknown kind `x`").suggest("x", ["mix", "train"]);
        assert_eq!(problem.hint.as_deref(), Some("known are `mix`, `train`"));
        let problem = Diagnostic::new("no value `7`").suggest("7", ["1", "2"]);
        assert_eq!(problem.hint.as_deref(), Some("known are `1`, `2`"));
    }
}
