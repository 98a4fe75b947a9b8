//! Rows from files: JSONL, JSON, CSV and TSV, each also compressed with gzip. Rows are read one by one (but JSON's array
//! is one value and is read whole); every mistake says its file and line.

use super::Row;
use crate::diagnostic::Diagnostic;
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// A file that cannot be read, or a row in it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}: {message}", place(name, *line))]
pub struct ReadError {
    /// The file, as the person knows it.
    pub name: String,
    /// The line from 1 (of a JSON array: the element from 1), if the trouble is with one.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
}

fn place(name: &str, line: Option<u64>) -> String {
    line.map_or_else(|| name.to_string(), |line| format!("{name}:{line}"))
}

impl ReadError {
    /// An error in a file, at a line.
    pub fn new(name: &str, line: Option<u64>, message: impl Into<String>) -> Self {
        Self { name: name.to_string(), line, message: message.into() }
    }
}

impl From<ReadError> for Diagnostic {
    fn from(error: ReadError) -> Self {
        Diagnostic::in_file(error.name, error.line, error.message)
    }
}

type Item = Result<(u64, Row), ReadError>;

/// The rows of a file with their line numbers. `name` is what messages call the file; its format is told by the ending
/// of `path`: `.jsonl` (`.ndjson`), `.json`, `.csv`, `.tsv`, each perhaps with `.gz`.
///
/// # Errors
/// If the file cannot be opened, or has another ending. A row that cannot be read is an error in its place.
pub fn read(path: &Path, name: &str) -> Result<Box<dyn Iterator<Item = Item>>, ReadError> {
    read_as(path, path, name)
}

/// As [`read`], for a file whose own name tells nothing: its format is that of a file called `like`.
///
/// # Errors
/// As [`read`].
pub fn read_as(path: &Path, like: &Path, name: &str) -> Result<Box<dyn Iterator<Item = Item>>, ReadError> {
    let ending =
        |path: &Path| path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let is_gzip = ending(like) == "gz";
    let format = if is_gzip { ending(Path::new(like.file_stem().unwrap_or_default())) } else { ending(like) };
    let file =
        File::open(path).map_err(|error| ReadError::new(name, None, format!("the file cannot be opened: {error}")))?;
    let source: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let source = BufReader::with_capacity(1 << 16, source);
    match format.as_str() {
        "jsonl" | "ndjson" => Ok(Box::new(json_lines(source, name.to_string()))),
        "json" => json_array(source, name),
        "csv" => csv_rows(source, name, b','),
        "tsv" => csv_rows(source, name, b'\t'),
        other => Err(ReadError::new(
            name,
            None,
            format!(
                "the ending `{other}` is not known: rows are read from .jsonl, .json, .csv and .tsv, also with .gz"
            ),
        )),
    }
}

/// All rows of a file.
///
/// # Errors
/// As [`read`], and the first row that cannot be read.
pub fn read_all(path: &Path, name: &str) -> Result<Vec<Row>, ReadError> {
    read(path, name)?.map(|item| item.map(|(_, row)| row)).collect()
}

fn json_lines(mut source: impl BufRead + 'static, name: String) -> impl Iterator<Item = Item> {
    let mut number = 0;
    let mut line = Vec::new();
    let mut ended = false;
    std::iter::from_fn(move || {
        while !ended {
            line.clear();
            number += 1;
            match source.read_until(b'\n', &mut line) {
                Ok(0) => ended = true,
                Ok(_) => {
                    let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&line);
                    if text.iter().any(|byte| !byte.is_ascii_whitespace()) {
                        return Some(parse_line(text, number, &name));
                    }
                }
                Err(error) => {
                    ended = true;
                    return Some(Err(ReadError::new(&name, Some(number), format!("the file cannot be read: {error}"))));
                }
            }
        }
        None
    })
}

fn parse_line(line: &[u8], number: u64, name: &str) -> Item {
    let wrong = |message: String| ReadError::new(name, Some(number), message);
    let text = std::str::from_utf8(line)
        .map_err(|error| wrong(format!("the line is not UTF-8 (byte {} of the line)", error.valid_up_to() + 1)))?;
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(row)) => Ok((number, row)),
        Ok(other) => Err(wrong(format!("the row is no JSON object but {}", describe(&other)))),
        Err(error) if error.is_eof() => Err(wrong("the line is cut off: the JSON object does not end".to_string())),
        Err(error) => Err(wrong(format!("the line is not JSON (column {}): {}", error.column(), plain(&error)))),
    }
}

/// serde_json's message without its own position, which counts from the line.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_string()
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn json_array(source: impl Read, name: &str) -> Result<Box<dyn Iterator<Item = Item>>, ReadError> {
    let values: Vec<Value> = serde_json::from_reader(source).map_err(|error| {
        let line = (error.line() > 0).then_some(error.line() as u64);
        ReadError::new(name, line, format!("the file is no JSON list of objects: {}", plain(&error)))
    })?;
    let name = name.to_string();
    Ok(Box::new(values.into_iter().enumerate().map(move |(place, value)| {
        let number = place as u64 + 1;
        match value {
            Value::Object(row) => Ok((number, row)),
            other => {
                Err(ReadError::new(&name, Some(number), format!("the row is no JSON object but {}", describe(&other))))
            }
        }
    })))
}

fn csv_rows(
    source: impl Read + 'static,
    name: &str,
    delimiter: u8,
) -> Result<Box<dyn Iterator<Item = Item>>, ReadError> {
    let name = name.to_string();
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(source);
    let headers = reader.headers().map_err(|error| csv_error(&name, &error))?.clone();
    let header = |text: &str| text.trim_start_matches('\u{feff}').to_string();
    let headers: Vec<String> = headers.iter().map(header).collect();
    Ok(Box::new(reader.into_records().map(move |record| {
        let record = record.map_err(|error| csv_error(&name, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let cells = headers.iter().cloned().zip(record.iter().map(Value::from));
        Ok((line, cells.collect()))
    })))
}

fn csv_error(name: &str, error: &csv::Error) -> ReadError {
    let line = error.position().map(csv::Position::line);
    let message = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "the line is not UTF-8".to_string(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} cells where the header has {expected_len}")
        }
        _ => format!("the file is no table: {error}"),
    };
    ReadError::new(name, line, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn rows(file: &str, bytes: &[u8]) -> Vec<Result<(u64, String), String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, bytes).unwrap();
        match read(&path, file) {
            Ok(rows) => rows
                .map(|item| match item {
                    Ok((line, row)) => Ok((line, serde_json::to_string(&row).unwrap())),
                    Err(error) => Err(error.to_string()),
                })
                .collect(),
            Err(error) => vec![Err(error.to_string())],
        }
    }

    fn row(line: u64, text: &str) -> Result<(u64, String), String> {
        Ok((line, text.to_string()))
    }

    #[test]
    fn json_lines_keep_the_order_of_columns_and_count_all_lines() {
        let text = b"\xef\xbb\xbf{\"b\":1,\"a\":\"x\"}\r\n\n  \n{\"c\":null}";
        assert_eq!(rows("r.jsonl", text), [row(1, r#"{"b":1,"a":"x"}"#), row(4, r#"{"c":null}"#)]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let found = rows("r.jsonl", b"{\"a\":1}\n{\"a\":\"\xff\"}\n[1]\n{\"a\":tru}\n{\"a\":\"b");
        let errors: Vec<String> = found.into_iter().filter_map(Result::err).collect();
        assert_eq!(
            errors,
            [
                "r.jsonl:2: the line is not UTF-8 (byte 7 of the line)",
                "r.jsonl:3: the row is no JSON object but a list",
                "r.jsonl:4: the line is not JSON (column 9): expected ident",
                "r.jsonl:5: the line is cut off: the JSON object does not end",
            ]
        );
    }

    #[test]
    fn tables_and_lists_are_rows_too() {
        let table = b"\xef\xbb\xbfinput,output\n\"a, b\nc\",2\n,x\n";
        assert_eq!(
            rows("r.csv", table),
            [row(2, r#"{"input":"a, b\nc","output":"2"}"#), row(4, r#"{"input":"","output":"x"}"#)]
        );
        assert_eq!(rows("r.tsv", b"a\tb\n1\t2\n"), [row(2, r#"{"a":"1","b":"2"}"#)]);
        assert_eq!(
            rows("r.csv", b"a,b\n1\n"),
            [Err("r.csv:2: the row has 1 cells where the header has 2".to_string())]
        );
        assert_eq!(rows("r.json", b"[{\"a\":1}]"), [row(1, r#"{"a":1}"#)]);
        assert_eq!(rows("r.txt", b"")[0].as_ref().unwrap_err().split(':').next(), Some("r.txt"));
    }

    #[test]
    fn gzip_is_unpacked() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"{\"a\":1}\n").unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(rows("r.jsonl.gz", &packed), [row(1, r#"{"a":1}"#)]);
        let cut = rows("r.jsonl.gz", &packed[..packed.len() - 9]);
        assert!(cut.last().is_some_and(Result::is_err), "a cut file is no shorter file: {cut:?}");
    }
}
