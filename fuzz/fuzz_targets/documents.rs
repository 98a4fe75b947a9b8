//! Key documents and records, as they may lie damaged on a disk: two lines, each one document.
#![no_main]

use libfuzzer_sys::fuzz_target;
use titer::key::{KeyDocument, difference};
use titer::record::Record;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = Record::parse(bytes) {
        let text = serde_json::to_vec(&record).unwrap();
        assert_eq!(Record::parse(&text).as_ref(), Ok(&record));
        assert!(record.differing(&record).is_empty());
    }
    let documents: Vec<KeyDocument> =
        bytes.split(|byte| *byte == b'\n').take(2).filter_map(|line| serde_json::from_slice(line).ok()).collect();
    for document in &documents {
        // A key does not change on its way through a file.
        let again: KeyDocument = serde_json::from_str(&document.canonical()).unwrap();
        assert_eq!(again.key(), document.key());
    }
    if let [old, new] = &documents[..] {
        let changes = difference(old, new);
        assert_eq!(changes.is_empty(), old.key() == new.key(), "{changes:?}");
        changes.iter().for_each(|change| drop(change.to_string()));
    }
});
