//! The numbers of a result: what trainings, predictions and scores sum up, and the cells of tables.

use crate::record::Record;
use crate::store::Store;
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// Files that hold numbers to be compared; others (rows, weights) hold too many.
const SUMMARY: &str = "summary.json";
const TABLE: &str = "table.json";

/// What is longer is no summary.
const LONGEST: u64 = 16 << 20;

/// A number on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// Which: `metrics.exact_match.mean`, `em[n=20].mean`.
    pub name: String,
    /// Before; none if there was no such number.
    pub old: Option<f64>,
    /// Now; none if there is no such number.
    pub new: Option<f64>,
}

impl Metric {
    /// Whether the two differ.
    pub fn differs(&self) -> bool {
        self.old != self.new
    }
}

/// The numbers of a record's summaries and tables, by name.
pub fn metrics(store: &Store, record: &Record) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let files = record.outputs.iter().flat_map(|output| &output.files);
    for file in files.filter(|file| [SUMMARY, TABLE].contains(&file.path.as_str()) && file.size <= LONGEST) {
        // What cannot be read has no numbers; that it cannot is found when it is used.
        let Ok(bytes) = std::fs::read(store.path(&file.digest)) else { continue };
        let Ok(json) = serde_json::from_slice::<Json>(&bytes) else { continue };
        match file.path.as_str() {
            TABLE => cells(&json, &mut found),
            _ => leaves("", &json, &mut found),
        }
    }
    found
}

pub(super) fn pairs(old: &BTreeMap<String, f64>, new: &BTreeMap<String, f64>) -> Vec<Metric> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let pair = |name: &String| Metric { name: name.clone(), old: old.get(name).copied(), new: new.get(name).copied() };
    names.into_iter().map(pair).collect()
}

fn leaves(path: &str, value: &Json, found: &mut BTreeMap<String, f64>) {
    let below = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
    match value {
        Json::Object(entries) => entries.iter().for_each(|(name, value)| leaves(&below(name), value, found)),
        Json::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| leaves(&below(&i.to_string()), item, found))
        }
        Json::Number(number) => found.extend(number.as_f64().map(|number| (path.to_string(), number))),
        Json::Null | Json::Bool(_) | Json::String(_) => {}
    }
}

/// The numbers of a table as aggregates write it, each called by its metric, group and column.
fn cells(table: &Json, found: &mut BTreeMap<String, f64>) {
    let words = |list: &Json| -> Option<Vec<String>> {
        list.as_array()?.iter().map(|word| word.as_str().map(str::to_string)).collect()
    };
    let (Some(by), Some(columns), Some(rows)) =
        (words(&table["by"]), words(&table["columns"]), table["rows"].as_array())
    else {
        return;
    };
    let plain = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    for row in rows.iter().filter_map(Json::as_array) {
        let cell = |name: &str| columns.iter().position(|column| column == name).and_then(|place| row.get(place));
        let group: Vec<String> = by.iter().filter_map(|name| Some(format!("{name}={}", plain(cell(name)?)))).collect();
        let metric = cell("metric").map(plain).unwrap_or_default();
        let group = if group.is_empty() { String::new() } else { format!("[{}]", group.join(",")) };
        let numbers = columns.iter().zip(row).filter(|(column, _)| !by.contains(column));
        found
            .extend(numbers.filter_map(|(column, value)| Some((format!("{metric}{group}.{column}"), value.as_f64()?))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_has_a_number_for_each_group_metric_and_column() {
        let table = json!({
            "format": 2,
            "by": ["n", "task"],
            "columns": ["n", "task", "metric", "count", "nulls", "mean", "std"],
            "rows": [[2, "x y", "em", 1, 1, 0.5, null], [20, "x y", "em", 2, 1, 0.5, 0.35]],
        });
        let mut found = BTreeMap::new();
        cells(&table, &mut found);
        assert_eq!(found["em[n=20,task=x y].mean"], 0.5);
        assert_eq!((found["em[n=2,task=x y].count"], found["em[n=2,task=x y].nulls"]), (1.0, 1.0));
        assert!(!found.contains_key("em[n=2,task=x y].std"), "one value has no deviation: {found:?}");
        cells(&json!({"rows": 3}), &mut found);
    }

    #[test]
    fn a_summary_has_its_numbers_by_path() {
        let mut found = BTreeMap::new();
        leaves("", &json!({"a": {"b": 1, "c": null}, "d": [2, "x"], "e": true}), &mut found);
        assert_eq!(found, [("a.b".to_string(), 1.0), ("d.0".to_string(), 2.0)].into());
    }
}
