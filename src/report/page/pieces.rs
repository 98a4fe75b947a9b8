//! Rows in packed pieces: columns of a few thousand rows each, and apart from them the long texts, each kept once.
//!
//! The systems of an experiment answer the same questions, and often give the same answer: what is kept once makes the
//! page of a hundred thousand rows a few megabytes. A cell is null, a boolean, a number, a short text, or `[n]`: the text
//! of that number.

use super::Index;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

/// Texts longer than this, in bytes, are kept apart.
const LONG: usize = 40;
/// Bytes of texts in a piece: what is unpacked to see one of them.
const TEXTS: usize = 256 << 10;
/// Rows in a piece.
const ROWS: usize = 4096;

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Its columns.
    pub columns: Map<String, Value>,
    /// Its scores, in the order of the set's metrics.
    pub scores: Vec<Option<f64>>,
    /// The same row of an earlier run.
    pub before: Option<Before>,
    /// Whether conditions hold for it; none if that cannot be told.
    pub kept: Vec<(String, Option<bool>)>,
}

/// What an earlier run said of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Before {
    /// The answer.
    pub prediction: Value,
    /// The scores, in the order of the set's metrics.
    pub scores: Vec<Option<f64>>,
}

/// Packed pieces in a scratch file, so that no more than one piece is in memory.
#[derive(Debug)]
pub struct Pieces {
    file: File,
    end: u64,
    /// Name, begin and length, in the order in which they were packed.
    places: Vec<(String, u64, usize)>,
    index: Index,
    /// How many rows each set has, and of what columns.
    shapes: BTreeMap<String, (usize, Vec<String>)>,
    /// The numbers of the texts by their hashes.
    numbers: BTreeMap<[u8; 16], usize>,
    texts: Vec<String>,
    bytes: usize,
}

impl Pieces {
    /// None yet; `file` is empty, and is read and written.
    pub fn new(file: File) -> Self {
        let (places, index, shapes, numbers, texts) = Default::default();
        Self { file, end: 0, places, index, shapes, numbers, texts, bytes: 0 }
    }

    /// Packs the rows of a set.
    ///
    /// # Errors
    /// If a row cannot be had or the file cannot be written.
    pub fn add<E: From<io::Error>>(
        &mut self,
        key: &str,
        metrics: &[String],
        rows: impl Iterator<Item = Result<Line, E>>,
    ) -> Result<(), E> {
        let mut pieces = Vec::new();
        let mut block = Block::default();
        let (mut number, mut columns) = (0, Vec::new());
        for row in rows {
            let row = row?;
            number += 1;
            columns.extend(row.columns.keys().filter(|name| !columns.contains(*name)).cloned().collect::<Vec<_>>());
            block.add(self, metrics, row)?;
            if block.rows == ROWS {
                pieces.push(self.put_rows(std::mem::take(&mut block))?);
            }
        }
        if block.rows > 0 {
            pieces.push(self.put_rows(block)?);
        }
        self.put_texts()?;
        self.index.sets.insert(key.to_string(), pieces);
        self.shapes.insert(key.to_string(), (number, columns));
        Ok(())
    }

    /// How many rows a set has, and of what columns; none if it has not been packed.
    pub fn shape(&self, key: &str) -> Option<&(usize, Vec<String>)> {
        self.shapes.get(key)
    }

    /// Where all of them are.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The names of the pieces.
    pub fn names(&self) -> Vec<String> {
        self.places.iter().map(|(name, ..)| name.clone()).collect()
    }

    /// A packed piece; none if there is none of that name.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn get(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some((_, begin, length)) = self.places.iter().find(|(known, ..)| known == name) else { return Ok(None) };
        let mut bytes = vec![0; *length];
        self.file.seek(SeekFrom::Start(*begin))?;
        self.file.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn put_rows(&mut self, block: Block) -> io::Result<(String, usize)> {
        let number = self.places.iter().filter(|(name, ..)| name.starts_with('r')).count();
        let (name, rows) = (format!("r{number}"), block.rows);
        self.put(name.clone(), &block.into_json())?;
        Ok((name, rows))
    }

    /// The number of a text, which is packed if it is new.
    fn text(&mut self, text: String) -> io::Result<usize> {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
        let next = self.numbers.len();
        let number = *self.numbers.entry(hash).or_insert(next);
        if number == next {
            self.bytes += text.len();
            self.texts.push(text);
            if self.bytes >= TEXTS {
                self.put_texts()?;
            }
        }
        Ok(number)
    }

    fn put_texts(&mut self) -> io::Result<()> {
        if self.texts.is_empty() {
            return Ok(());
        }
        let texts = std::mem::take(&mut self.texts);
        let name = format!("t{}", self.index.texts.len());
        self.index.texts.push(self.numbers.len() - texts.len());
        self.bytes = 0;
        self.put(name, &json!(texts))
    }

    fn put(&mut self, name: String, value: &Value) -> io::Result<()> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        serde_json::to_writer(&mut encoder, value)?;
        let packed = encoder.finish()?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&packed)?;
        self.places.push((name, self.end, packed.len()));
        self.end += packed.len() as u64;
        Ok(())
    }
}

/// Columns of rows that become a piece; each group has a list per name.
#[derive(Default)]
struct Block {
    rows: usize,
    columns: Columns,
    scores: Columns,
    before: Columns,
    before_scores: Columns,
    kept: Columns,
}

type Columns = BTreeMap<String, Vec<Value>>;

impl Block {
    fn add(&mut self, pieces: &mut Pieces, metrics: &[String], row: Line) -> io::Result<()> {
        let Line { columns, scores, before, kept } = row;
        for (name, value) in columns {
            let cell = cell(pieces, value)?;
            put(&mut self.columns, &name, self.rows, cell);
        }
        for (name, value) in metrics.iter().zip(&scores) {
            put(&mut self.scores, name, self.rows, json!(value));
        }
        for (condition, holds) in kept {
            put(&mut self.kept, &condition, self.rows, json!(holds));
        }
        if let Some(Before { prediction, scores }) = before {
            let cell = cell(pieces, prediction)?;
            put(&mut self.before, crate::row::PREDICTION, self.rows, cell);
            for (name, value) in metrics.iter().zip(&scores) {
                put(&mut self.before_scores, name, self.rows, json!(value));
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn into_json(self) -> Value {
        let Self { rows, columns, scores, before, before_scores, kept } = self;
        let whole = |columns: Columns| -> Map<String, Value> {
            let fill = |(name, mut cells): (String, Vec<Value>)| {
                cells.resize(rows, Value::Null);
                (name, Value::Array(cells))
            };
            columns.into_iter().map(fill).collect()
        };
        json!({
            "rows": rows, "columns": whole(columns), "scores": whole(scores),
            "before": whole(before), "before_scores": whole(before_scores), "kept": whole(kept),
        })
    }
}

/// Sets a cell; rows before it that have none are null there.
fn put(columns: &mut Columns, name: &str, row: usize, cell: Value) {
    if !columns.contains_key(name) {
        columns.insert(name.to_string(), Vec::new());
    }
    if let Some(cells) = columns.get_mut(name) {
        cells.resize(row, Value::Null);
        cells.push(cell);
    }
}

/// A value as a cell: lists and objects become text.
fn cell(pieces: &mut Pieces, value: Value) -> io::Result<Value> {
    let text = match value {
        Value::String(text) => text,
        Value::Array(_) | Value::Object(_) => value.to_string(),
        plain => return Ok(plain),
    };
    if text.len() <= LONG {
        return Ok(Value::String(text));
    }
    Ok(json!([pieces.text(text)?]))
}
