//! Reads logs in pieces: one that grows, or the end of a long one. No log is in memory as a whole.

use anyhow::Context as _;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// Reads a file that grows, line by line.
#[derive(Default)]
pub(super) struct Reader {
    /// Which file it was, by device and number: a new run begins another one under the same name.
    file: Option<(u64, u64)>,
    offset: u64,
    /// The begin of a line whose end is not there yet.
    begun: Vec<u8>,
}

impl Reader {
    /// Says each line that has come since the last time.
    pub(super) fn more(&mut self, path: &Path, say: &mut dyn FnMut(&str) -> io::Result<()>) -> anyhow::Result<()> {
        let reading = || format!("reading the log `{}`", path.display());
        let Some(mut file) = open(path)? else { return Ok(()) };
        let metadata = file.metadata().with_context(reading)?;
        let found = Some((metadata.dev(), metadata.ino()));
        if metadata.len() < self.offset || self.file.is_some_and(|_| self.file != found) {
            (self.offset, self.begun) = Default::default();
        }
        self.file = found;
        file.seek(SeekFrom::Start(self.offset)).with_context(reading)?;
        let mut lines = BufReader::with_capacity(PIECE, file);
        loop {
            let count = lines.read_until(b'\n', &mut self.begun).with_context(reading)?;
            self.offset += count as u64;
            if count == 0 || self.begun.last() != Some(&b'\n') {
                return Ok(());
            }
            let end = self.begun.strip_suffix(b"\n").unwrap_or(&self.begun);
            say(&String::from_utf8_lossy(end.strip_suffix(b"\r").unwrap_or(end)))?;
            self.begun.clear();
        }
    }

    /// The line without an end.
    pub(super) fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    /// Leaves out all but the last lines of what is there.
    pub(super) fn skip_to_last(&mut self, path: &Path, lines: usize) -> anyhow::Result<()> {
        if let Some(mut file) = open(path)? {
            let place = place_of_last(&mut file, lines);
            self.offset = place.with_context(|| format!("reading the log `{}`", path.display()))?;
            self.begun.clear();
            self.file = None;
        }
        Ok(())
    }
}

/// None if there is no such file.
fn open(path: &Path) -> anyhow::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading the log `{}`", path.display())),
    }
}

/// Where the last lines begin, found from the end.
fn place_of_last(file: &mut File, lines: usize) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let (mut from, mut found) = (length, 0);
    let mut piece = vec![0; PIECE];
    while from > 0 {
        let size = usize::try_from(from).unwrap_or(PIECE).min(PIECE);
        from -= size as u64;
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut piece[..size])?;
        for at in memchr::memrchr_iter(b'\n', &piece[..size]) {
            let begin = from + at as u64 + 1;
            // After the end of the last line none begins.
            found += usize::from(begin < length);
            if found == lines {
                return Ok(begin);
            }
        }
    }
    Ok(0)
}

/// The last lines of a file, the one without an end too; none if there is no file.
pub(super) fn last_lines(path: &Path, count: usize) -> anyhow::Result<Vec<String>> {
    let (mut reader, mut lines) = (Reader::default(), Vec::new());
    reader.skip_to_last(path, count)?;
    reader.more(path, &mut |line| {
        lines.push(line.to_string());
        Ok(())
    })?;
    lines.extend(reader.rest());
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn more(reader: &mut Reader, path: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut keep = |line: &str| {
            lines.push(line.to_string());
            Ok(())
        };
        reader.more(path, &mut keep).unwrap();
        lines
    }

    #[test]
    fn a_growing_log_is_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut reader = Reader::default();
        assert_eq!(more(&mut reader, &path), [""; 0]);
        std::fs::write(&path, "one\ntw").unwrap();
        assert_eq!(more(&mut reader, &path), ["one"]);
        std::fs::write(&path, "one\ntwo\r\né three").unwrap();
        assert_eq!(more(&mut reader, &path), ["two"]);
        assert_eq!(reader.rest().as_deref(), Some("é three"));
        // The next try begins another file, be it longer than the one before.
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        std::fs::write(&path, "a first line that is longer than all\n\n").unwrap();
        assert_eq!(more(&mut reader, &path), ["a first line that is longer than all", ""]);
        std::fs::write(&path, b"\xff\n").unwrap();
        assert_eq!(more(&mut reader, &path), ["\u{fffd}"], "or cuts it");
    }

    #[test]
    fn the_end_is_read_from_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(last_lines(&path, 3).unwrap(), [""; 0]);
        for (text, count, expected) in [
            ("a\nb\nc\n", 2, &["b", "c"][..]),
            ("a\nb\nc", 2, &["b", "c"]),
            ("a\n\n", 1, &[""]),
            ("a\nb\n", 9, &["a", "b"]),
            ("a\nb\n", 0, &[]),
            ("a\nb", 0, &[]),
            ("\n", 1, &[""]),
            ("", 1, &[]),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(last_lines(&path, count).unwrap(), expected, "{count} of {text:?}");
        }
        // Lines that lie across pieces.
        let lines: Vec<String> = (0..40_000).map(|number| format!("line {number}")).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        for count in [1, 7_000, 20_000, 39_999, 40_000] {
            assert_eq!(last_lines(&path, count).unwrap(), lines[40_000 - count..], "{count}");
        }
    }
}
