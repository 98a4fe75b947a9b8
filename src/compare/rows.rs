//! Files of rows side by side, row by row. Only rows that differ are parsed.

use super::Rows;
use serde_json::{Map, Value as Json};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

/// Compares JSONL files. `None`: a line that differs is no JSON.
pub(super) fn json(old: &Path, new: &Path) -> io::Result<Option<Rows>> {
    let lines = |path: &Path| File::open(path).map(|file| BufReader::with_capacity(1 << 16, file).split(b'\n'));
    let parse = |line: &Vec<u8>| serde_json::from_slice::<Json>(line).ok();
    compare(lines(old)?, lines(new)?, parse)
}

/// Compares CSV files with a heading. `None`: a record cannot be read.
pub(super) fn csv(old: &Path, new: &Path) -> io::Result<Option<Rows>> {
    let reader = |path: &Path| csv::ReaderBuilder::new().flexible(true).from_path(path).map_err(io::Error::other);
    let (mut old, mut new) = (reader(old)?, reader(new)?);
    let (Ok(old_heading), Ok(new_heading)) = (old.headers().cloned(), new.headers().cloned()) else { return Ok(None) };
    let name = |heading: &csv::StringRecord, i: usize| heading.get(i).map_or_else(|| i.to_string(), str::to_string);
    let records = |reader: csv::Reader<File>, heading: csv::StringRecord| {
        reader.into_records().map(move |record| {
            let record = record.map_err(io::Error::other)?;
            Ok(record.iter().enumerate().map(|(i, cell)| (name(&heading, i), value(cell))).collect::<Map<_, _>>())
        })
    };
    let parse = |row: &Map<String, Json>| Some(Json::Object(row.clone()));
    match compare(records(old, old_heading), records(new, new_heading), parse) {
        // What is no CSV is compared as bytes; a disk that cannot be read fails there too.
        Err(_) => Ok(None),
        compared => compared,
    }
}

/// Numbers as numbers, so that it can be said how far they are apart.
fn value(cell: &str) -> Json {
    cell.parse::<f64>().ok().filter(|number| number.is_finite()).map_or_else(|| cell.into(), Json::from)
}

fn compare<T: PartialEq>(
    old: impl Iterator<Item = io::Result<T>>,
    new: impl Iterator<Item = io::Result<T>>,
    parse: impl Fn(&T) -> Option<Json>,
) -> io::Result<Option<Rows>> {
    let (mut old, mut new) = (old.fuse(), new.fuse());
    let mut rows = Rows::default();
    loop {
        let (a, b) = (old.next().transpose()?, new.next().transpose()?);
        rows.old += u64::from(a.is_some());
        rows.new += u64::from(b.is_some());
        match (a, b) {
            (None, None) => break,
            (Some(a), Some(b)) if a != b => {
                let (Some(a), Some(b)) = (parse(&a), parse(&b)) else { return Ok(None) };
                let before = rows.values.differing;
                rows.values.compare("", Some(&a), Some(&b));
                if rows.values.differing > before {
                    rows.differing += 1;
                    rows.first.get_or_insert(rows.old);
                }
            }
            _ => {}
        }
    }
    // The same values, written otherwise: then the bytes are all there is to say.
    Ok((rows.differing > 0 || rows.old != rows.new).then_some(rows))
}
