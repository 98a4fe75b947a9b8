//! Any text as the `where` of a source, over rows of all shapes: it ends, by itself or for want of fuel.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::{BTreeMap, BTreeSet};
use titer::stage::{Input, Recipe, check};

const ROWS: &str = r#"{"instruction":"a","output":"b","n":3,"x":-1.5,"t":["p","q"],"o":{"k":null,"l":[1,{"m":"é"}]}}
{"instruction":"","output":"ß","n":9007199254740993,"x":null,"t":[],"o":{}}
"#;

fuzz_target!(|text: &str| {
    let Ok(file) = tempfile::Builder::new().suffix(".jsonl").tempfile_in("/dev/shm") else { return };
    std::fs::write(file.path(), ROWS).unwrap();
    let source = serde_json::json!({
        "columns": {}, "instruction": null, "set": {}, "bind": null, "where": text, "take": "all", "gathers": false,
    });
    let recipe = serde_json::json!({ "mix": { "sources": [source], "seed": 1, "split": null, "limit": null } });
    let recipe: Recipe = serde_json::from_value(recipe).expect("the recipe's form");
    let path = file.path().to_path_buf();
    let input = Input { role: "source.0".into(), labels: BTreeMap::new(), name: "rows.jsonl".into(), path };
    let _ = check(&recipe, &[input], &BTreeSet::new());
});
