//! Answers that are kept one by one, in files that only grow.
//!
//! Every process writes a file of its own: a line `CHECK KEY ANSWER` for each answer (JSON), where CHECK is the beginning of
//! the BLAKE3 of the rest. A line that a kill cut off, or that was damaged, is passed over. Knows neither what a key stands
//! for nor what an answer is.

use crate::key::Digest;
use serde_json::Value;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Hexadecimal digits of a line's check.
const CHECK: usize = 16;
/// What the names of the files end with.
const ENDING: &str = "jsonl";

/// The files of a folder, in order; none if it is not there.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == ENDING)).collect();
    files.sort();
    files
}

/// A new file in the folder, whose name begins with `prefix`.
///
/// # Errors
/// If the folder or the file cannot be made.
pub fn create(folder: &Path, prefix: &str) -> io::Result<(File, PathBuf)> {
    fs::create_dir_all(folder)?;
    let file = tempfile::Builder::new().prefix(prefix).suffix(&format!(".{ENDING}")).tempfile_in(folder)?;
    Ok(file.keep()?)
}

/// An answer as a line, with its end.
pub fn line(key: &Digest, answer: &Value) -> String {
    let rest = format!("{key} {answer}");
    format!("{} {rest}\n", &Digest::of(rest.as_bytes()).to_string()[..CHECK])
}

/// The answer of a line without its end; none if it is not whole.
pub fn read(line: &[u8]) -> Option<(Digest, Value)> {
    let (key, answer) = split(line)?;
    Some((key, serde_json::from_str(answer).ok()?))
}

/// The key of a line without its end, if the line is whole; its answer is not looked at.
pub fn key(line: &[u8]) -> Option<Digest> {
    split(line).map(|(key, _)| key)
}

fn split(line: &[u8]) -> Option<(Digest, &str)> {
    let (check, rest) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    if Digest::of(rest.as_bytes()).to_string().get(..CHECK) != Some(check) {
        return None;
    }
    let (key, answer) = rest.split_once(' ')?;
    Some((key.parse().ok()?, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_only_if_it_is_whole() {
        let (digest, answer) = (Digest::of(b"question"), Value::from("grün\n"));
        let written = line(&digest, &answer);
        let bytes = written.trim_end().as_bytes();
        assert_eq!(read(bytes), Some((digest, answer)));
        assert_eq!(key(bytes), Some(digest));
        for end in 0..bytes.len() {
            assert_eq!((read(&bytes[..end]), key(&bytes[..end])), (None, None), "cut at {end}");
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[place] ^= 1;
            assert_eq!(read(&damaged), None, "damaged at {place}");
        }
    }
}
