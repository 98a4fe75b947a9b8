//! The only place that prints. A reader that has gone away (`| head`) is no error.

use crate::diagnostic::{Diagnostic, Place, Sources};
use anstyle::{AnsiColor, Style};
use std::io::Write;
use std::path::{Path, PathBuf};

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const CALM: Style = AnsiColor::BrightBlack.on_default();
pub(super) const BOLD: Style = Style::new().bold();

/// Writes a line to standard output. Colours are taken out where they are not wanted (`NO_COLOR`, no terminal).
pub(super) fn say(line: impl AsRef<str>) {
    let _ = writeln!(anstream::stdout(), "{}", line.as_ref());
}

/// As [`say`], for what goes on for long: an error is that the reader has gone away.
pub(super) fn try_say(line: impl AsRef<str>) -> std::io::Result<()> {
    writeln!(anstream::stdout(), "{}", line.as_ref())
}

/// Many lines for standard output, which are written together.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// As [`try_say`].
    pub(super) fn say(&mut self, line: impl AsRef<str>) -> std::io::Result<()> {
        const ENOUGH: usize = 64 << 10;
        self.0.push_str(line.as_ref());
        self.0.push('\n');
        if self.0.len() < ENOUGH { Ok(()) } else { self.end() }
    }

    /// Writes what is left.
    pub(super) fn end(&mut self) -> std::io::Result<()> {
        let text = std::mem::take(&mut self.0);
        anstream::stdout().write_all(text.as_bytes())
    }
}

/// Writes a line to standard error.
pub(super) fn complain(line: impl AsRef<str>) {
    let _ = writeln!(anstream::stderr(), "{}", line.as_ref());
}

/// Asks a question on the terminal; only a clear yes is one.
pub(super) fn confirm(question: &str) -> bool {
    let mut answer = String::new();
    let asked = write!(anstream::stderr(), "{question} [y/N] ").and_then(|()| std::io::stdin().read_line(&mut answer));
    asked.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Warns, on standard error.
pub(super) fn warn(message: impl std::fmt::Display) {
    complain(format!("{} {message}", styled(BOLD, "warning:")));
}

/// Writes one JSON document, readable by people too.
pub(super) fn json(value: &serde_json::Value) {
    say(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// As [`json`], for a large document: it is written as it is made. An error is that the reader has gone away, or of what
/// the document is made from.
pub(super) fn try_json(value: &impl serde::Serialize) -> std::io::Result<()> {
    let mut writer = std::io::BufWriter::new(anstream::stdout());
    serde_json::to_writer_pretty(&mut writer, value)?;
    writeln!(writer)?;
    writer.flush()
}

/// Writes one JSON document on one line.
pub(super) fn json_line(value: &serde_json::Value) {
    say(value.to_string());
}

/// Text in a style.
pub(super) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// All problems, as a person reads them.
pub(super) fn problems(problems: &[Diagnostic], sources: &Sources) {
    for problem in problems {
        let text = sources.render(problem);
        let text = text.replacen("error:", &styled(BAD, "error:"), 1).replacen("hint:", &styled(BOLD, "hint:"), 1);
        complain(text);
    }
    if problems.len() > 1 {
        complain(format!("{} problems; nothing was run", problems.len()));
    }
}

/// All problems as JSON.
pub(super) fn problems_json(problems: &[Diagnostic], sources: &Sources) -> serde_json::Value {
    let one = |problem: &Diagnostic| {
        let mut json = serde_json::json!({ "message": problem.message, "hint": problem.hint });
        match &problem.place {
            Some(Place::Span(span)) => {
                let (file, line, column) = sources.locate(*span);
                json["file"] = file.into();
                json["line"] = line.into();
                json["column"] = column.into();
            }
            Some(Place::File { path, line }) => {
                json["file"] = path.display().to_string().into();
                json["line"] = (*line).into();
            }
            None => {}
        }
        json
    };
    serde_json::json!({ "problems": problems.iter().map(one).collect::<Vec<_>>() })
}

/// The path as seen from the current folder, if it lies in it.
pub(super) fn relative_to_here(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(&here) {
        Ok(rest) if rest.as_os_str().is_empty() => PathBuf::from("."),
        Ok(rest) => rest.to_path_buf(),
        Err(_) => path.to_path_buf(),
    }
}

/// `1 result`, `2 results`: for words with a regular plural.
pub(super) fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// `1.2 s`, `3 min 20 s`, `2 h 05 min`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time that is not negative")]
    let whole = seconds.round() as u64;
    if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole / 60 % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|number| count(number, "result")), ["0 results", "1 result", "2 results"]);
    }

    #[test]
    fn times_are_short() {
        assert_eq!(duration(1.25), "1.2 s");
        assert_eq!(duration(200.4), "3 min 20 s");
        assert_eq!(duration(7512.0), "2 h 05 min");
    }
}
