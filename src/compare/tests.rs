use super::*;
use serde_json::json;

fn compare(name: &str, old: &[u8], new: &[u8]) -> Option<Difference> {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, old).unwrap();
    std::fs::write(&b, new).unwrap();
    files(name, &a, &b).unwrap()
}

fn text(name: &str, old: &str, new: &str) -> String {
    compare(name, old.as_bytes(), new.as_bytes()).map_or_else(|| "equal".to_string(), |found| found.to_string())
}

#[test]
fn rows_are_compared_by_their_values() {
    let old = "{\"id\":1,\"s\":{\"em\":1.0}}\n{\"id\":2,\"s\":{\"em\":0.5}}\n{\"id\":3,\"t\":\"a\"}\n";
    let new = "{\"id\":1,\"s\":{\"em\":1.0}}\n{\"id\":2,\"s\":{\"em\":0.25}}\n{\"id\":3,\"t\":\"b\"}\n";
    let Some(Difference::Rows(rows)) = compare("scores.jsonl", old.as_bytes(), new.as_bytes()) else { panic!() };
    assert_eq!((rows.old, rows.new, rows.differing, rows.first), (3, 3, 2, Some(2)));
    assert_eq!((rows.values.differing, rows.values.numbers), (2, 1));
    assert_eq!((rows.values.largest_absolute, rows.values.largest_relative), (0.25, 0.5));
    let first = Pair { path: "s.em".into(), old: Some(json!(0.5)), new: Some(json!(0.25)) };
    assert_eq!(rows.values.first, Some(first));
    assert_eq!(
        rows.to_string(),
        "2 of 3 rows differ, the first is row 2: `s.em` 0.5 → 0.25, 2 values in all, numbers by at most 2.500e-1 (5.000e-1 of their size)"
    );
    assert_eq!(text("a.jsonl", old, old), "equal");
    assert_eq!(
        text("a.jsonl", "{\"a\":1}\n", "{\"a\":1}\n{\"a\":2}\n"),
        "the rows that both have are equal; 1 rows → 2 rows"
    );
}

#[test]
fn what_is_written_otherwise_or_damaged_is_compared_by_bytes() {
    assert_eq!(text("a.jsonl", "{\"a\":1}\n", "{\"a\": 1}\n"), "byte 5 is the first that differs; 8 bytes → 9 bytes");
    assert_eq!(text("a.jsonl", "{\"a\":1}\n", "{\"a\":1\n"), "byte 6 is the first that differs; 8 bytes → 7 bytes");
    assert_eq!(text("a.json", "{", "[]"), "byte 0 is the first that differs; 1 bytes → 2 bytes");
    assert_eq!(text("a.png", "abc", "abcd"), "one is the beginning of the other; 3 bytes → 4 bytes");
    assert_eq!(text("a.png", "", "d"), "one is the beginning of the other; 0 bytes → 1 bytes");
    let long = "x".repeat(200_000);
    assert_eq!(text("a.txt", &format!("{long}a"), &format!("{long}b")), "byte 200000 is the first that differs");
    assert_eq!(text("a.txt", &long, &long), "equal");
}

#[test]
fn json_is_compared_by_paths() {
    let (old, new) = (r#"{"m":{"loss":2.0,"k":[1,2]},"gone":1}"#, r#"{"m":{"loss":2.5,"k":[1,2,3]}}"#);
    let Some(Difference::Json(values)) = compare("summary.json", old.as_bytes(), new.as_bytes()) else { panic!() };
    assert_eq!((values.differing, values.numbers, values.largest_absolute, values.largest_relative), (3, 1, 0.5, 0.2));
    assert_eq!(values.first.unwrap().path, "m.loss");
    let long = |end: &str| format!("[\"{}{end}\"]", "x".repeat(100));
    assert_eq!(text("a.json", &long("a"), &long("b")), "`0` differs");
}

#[test]
fn tables_are_compared_by_columns() {
    let found = text("table.csv", "n,em\n1,0.5\n2,x\n", "n,em\n1,0.25\n2,y\n");
    assert!(found.starts_with("2 of 2 rows differ, the first is row 1: `em` 0.5 → 0.25, 2 values in all"), "{found}");
    assert!(text("table.csv", "n,em\n1,0.5\n", "n,f1\n1,0.5\n").contains("`em` 0.5 → nothing"), "another heading");
}

/// A safetensors file of these tensors.
fn tensors(list: &[(&str, &str, &[u64], &[u8])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in list {
        let offsets = [data.len(), data.len() + bytes.len()];
        data.extend_from_slice(bytes);
        header.insert(name.to_string(), json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
    }
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn tensors_are_compared_by_elements() {
    let (a, b) = (floats(&[1.0, 2.0, -4.0]), floats(&[1.0, 2.5, -4.0]));
    let old = tensors(&[("w", "F32", &[3], &a), ("same", "F32", &[3], &a), ("gone", "U8", &[1], &[1])]);
    let new = tensors(&[("same", "F32", &[3], &a), ("w", "F32", &[3], &b), ("here", "U8", &[1], &[1])]);
    let Some(Difference::Tensors(found)) = compare("m.safetensors", &old, &new) else { panic!() };
    assert_eq!(
        (found.common, found.removed.as_slice(), found.added.as_slice()),
        (2, &["gone".to_string()][..], &["here".to_string()][..])
    );
    let [tensor] = found.differing.as_slice() else { panic!("{found:?}") };
    assert_eq!((tensor.name.as_str(), tensor.elements, tensor.differing), ("w", 3, 1));
    assert_eq!((tensor.largest_absolute, tensor.largest_relative), (Some(0.5), Some(0.2)));
    assert_eq!(
        found.to_string(),
        "1 of 2 tensors differ: `w` 1 of 3 by at most 5.000e-1 (2.000e-1 of their size); gone: gone; new: here"
    );
}

#[test]
fn other_types_and_shapes_of_tensors() {
    let one = |dtype, shape: &[u64], bytes: &[u8]| tensors(&[("w", dtype, shape, bytes)]);
    let largest = |old: &[u8], new: &[u8]| match compare("m.safetensors", old, new) {
        Some(Difference::Tensors(found)) => found.differing[0].largest_absolute,
        other => panic!("{other:?}"),
    };
    // 1.0 and 1.5, smallest and twice the smallest number of binary16; 1.0 and 2.0 of bfloat16.
    assert_eq!(largest(&one("F16", &[1], &[0x00, 0x3c]), &one("F16", &[1], &[0x00, 0x3e])), Some(0.5));
    assert_eq!(largest(&one("F16", &[1], &[1, 0]), &one("F16", &[1], &[2, 0])), Some(2f64.powi(-24)));
    assert_eq!(largest(&one("BF16", &[1], &[0x80, 0x3f]), &one("BF16", &[1], &[0x00, 0x40])), Some(1.0));
    assert_eq!(largest(&one("I8", &[2], &[0xff, 1]), &one("I8", &[2], &[1, 1])), Some(2.0));
    // What is no number has no distance, but differs.
    let nan = floats(&[f32::NAN]);
    assert_eq!(largest(&one("F32", &[1], &nan), &one("F32", &[1], &floats(&[1.0]))), None);
    assert_eq!(largest(&one("F8_E4M3", &[1], &[1]), &one("F8_E4M3", &[1], &[2])), None);
    let (a, b) = (one("U8", &[2], &[1, 2]), one("U8", &[2, 1], &[1, 2]));
    assert_eq!(compare("m.safetensors", &a, &b).unwrap().to_string(), "1 of 1 tensors differ: `w` U8 [2] → U8 [2, 1]");
}

#[test]
fn a_file_of_tensors_that_lies_is_compared_by_bytes() {
    let good = tensors(&[("w", "F32", &[1], &floats(&[1.0]))]);
    let beyond = br#"{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}"#;
    let beyond = [&(beyond.len() as u64).to_le_bytes()[..], beyond, &[0; 4]].concat();
    // More elements than can be counted.
    let endless = tensors(&[("w", "F32", &[u64::MAX, 2], &floats(&[1.0]))]);
    for bad in [&good[..7], &good[..20], &[0xff; 64], &beyond, &endless] {
        assert!(matches!(compare("m.safetensors", &good, bad), Some(Difference::Bytes(_))));
    }
}
