//! Any bytes as a file of rows, in every format (the first byte says which): each row is read or refused with its line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use titer::row;

const ENDINGS: [&str; 6] = [".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".csv.gz"];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, content)) = bytes.split_first() else { return };
    let ending = ENDINGS[*first as usize % ENDINGS.len()];
    let Ok(file) = tempfile::Builder::new().suffix(ending).tempfile_in("/dev/shm") else { return };
    std::fs::write(file.path(), content).unwrap();
    let Ok(rows) = row::read(file.path(), "rows") else { return };
    let mut last = 0;
    // A gzip bomb has more.
    for item in rows.take(10_000) {
        match item {
            Ok((line, row)) => {
                assert!(line >= last);
                last = line;
                // What was read can be written, and is read as the same again.
                let text = serde_json::to_string(&row).unwrap();
                let again: row::Row = serde_json::from_str(&text).unwrap();
                assert_eq!(row::digest(&again), row::digest(&row));
                assert_eq!(row::id(&again), row::id(&row));
            }
            Err(error) => assert!(error.to_string().starts_with("rows")),
        }
    }
});
