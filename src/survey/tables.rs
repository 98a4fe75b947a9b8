//! The tables and figures of the aggregates.

use super::rows::Set;
use super::{Survey, one_file};
use crate::record::{FileEntry, Record};
use crate::report::page::{Figure, Table};
use crate::stage::Kind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Rows of a table that a page can show.
const MOST_ROWS: usize = 20_000;
/// Bytes of a figure that a page can show.
const LARGEST_FIGURE: u64 = 4 << 20;

/// What the files of a figure are called that is an instance of its own.
const FIGURE: &str = "figure";

/// What a file with a table says, whatever its format.
#[derive(Deserialize)]
struct Written {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    by: Option<Vec<String>>,
    unit: Option<Value>,
}

impl Survey<'_> {
    /// All tables, with the sets of rows that they rest on.
    pub(super) fn tables(&mut self, sets: &[Set]) -> Vec<Table> {
        let mut tables = Vec::new();
        for (node, record) in self.made(Kind::Aggregate) {
            let below = self.graph.closure(&[node]);
            let behind = sets.iter().filter(|set| set.nodes.iter().any(|node| below.contains(node)));
            let behind: Vec<String> = behind.map(|set| set.shown.key.clone()).collect();
            let condition = self.condition(node);
            let limits = self.recipe(node).and_then(|recipe| limits(&recipe));
            for output in &record.outputs {
                let Some(file) = one_file(output).filter(|file| file.path.ends_with(".json")) else { continue };
                let Some(text) = self.text(node, file) else { continue };
                let Ok(written) = serde_json::from_str::<Written>(&text) else { continue };
                let Written { columns, rows, by, unit } = written;
                if rows.len() > MOST_ROWS {
                    let text = format!("`{}` is not shown: it has {} rows", file.path, rows.len());
                    self.warn(Some(self.name(node)), text);
                    continue;
                }
                let (instance, name) = (self.name(node), file.path.trim_end_matches(".json").to_string());
                let (r#where, limits, sets) = (condition.clone(), limits.clone(), behind.clone());
                tables.push(Table { instance, name, columns, rows, by, unit, r#where, limits, sets });
            }
        }
        tables
    }

    /// Which rows an aggregate counts, as its key says it.
    pub(super) fn condition(&self, node: usize) -> Option<String> {
        self.recipe(node)?.get("where")?.as_str().map(str::to_string)
    }

    fn recipe(&self, node: usize) -> Option<Value> {
        Some(self.subject.store.document(self.keys.get(&node)?).ok()??.recipe)
    }

    /// All figures: drawings, and pictures where there is no drawing.
    pub(super) fn figures(&mut self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for (node, record) in self.made(Kind::Aggregate) {
            for (name, Pictures { light, dark }) in pictures(&record) {
                let Some(light) = light.and_then(|file| self.picture(node, file)) else { continue };
                let dark = dark.and_then(|file| self.picture(node, file));
                figures.push(Figure { instance: self.name(node), name, light, dark });
            }
        }
        figures
    }

    fn picture(&mut self, node: usize, file: &FileEntry) -> Option<String> {
        if file.size > LARGEST_FIGURE {
            self.warn(Some(self.name(node)), format!("`{}` is not shown: it has {} bytes", file.path, file.size));
            return None;
        }
        let bytes = std::fs::read(self.file(node, file)?).ok()?;
        let kind = if file.path.ends_with(".svg") { "svg+xml" } else { "png" };
        Some(format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
    }
}

/// What an aggregate leaves out besides: which rows it counts at most, in words.
fn limits(recipe: &Value) -> Option<String> {
    let names = |names: &Value| -> String {
        let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(" and ")
    };
    let first = recipe["first"].as_u64().map(|first| match names(&recipe["first_per"]) {
        per if per.is_empty() => format!("the first {first} rows of each instance"),
        per => format!("the first {first} rows of each {per}"),
    });
    let most = recipe["at_most"].as_object().into_iter().flatten();
    let parts: Vec<String> =
        first.into_iter().chain(most.map(|(name, most)| format!("{most} values of {name}"))).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// One figure on a light and on a dark ground.
#[derive(Default)]
struct Pictures<'r> {
    light: Option<&'r FileEntry>,
    dark: Option<&'r FileEntry>,
}

/// The figures of a result by name. Drawings come last, and take the place of pictures.
fn pictures(record: &Record) -> BTreeMap<String, Pictures<'_>> {
    let mut found: BTreeMap<String, Pictures<'_>> = BTreeMap::new();
    let files = || record.outputs.iter().flat_map(|output| &output.files);
    for ending in [".png", ".svg"] {
        for file in files() {
            let Some(path) = file.path.strip_suffix(ending) else { continue };
            let name = path.rsplit('/').next().unwrap_or(path);
            // An instance that is a figure has the figure's name.
            let name = name.strip_prefix(FIGURE).unwrap_or(name);
            let (name, is_dark) = match ["-dark", ".dark", "_dark"].iter().find_map(|mark| name.strip_suffix(mark)) {
                Some(name) => (name, true),
                None => (name, false),
            };
            let pictures = found.entry(name.to_string()).or_default();
            *(if is_dark { &mut pictures.dark } else { &mut pictures.light }) = Some(file);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Digest;
    use crate::record::{FORMAT, Output, RunInfo};
    use serde_json::json;

    #[test]
    fn limits_are_said_in_words() {
        let of = |recipe: Value| limits(&recipe);
        assert_eq!(of(json!({ "first": null, "at_most": {} })), None);
        assert_eq!(of(json!({ "first": 150, "first_per": [] })).unwrap(), "the first 150 rows of each instance");
        let both = of(json!({ "first": 9, "first_per": ["task", "n"], "at_most": { "run": 5 } })).unwrap();
        assert_eq!(both, "the first 9 rows of each task and n and 5 values of run");
    }

    #[test]
    fn a_drawing_goes_before_its_picture_and_has_a_dark_side() {
        let file = |path: &str| FileEntry { path: path.to_string(), digest: Digest::of(path.as_bytes()), size: 1 };
        let paths =
            ["figure.svg", "figure-dark.svg", "figure.png", "figures/01-em.png", "figures/02-f1.svg", "table.csv"];
        let output = |path: &&str| {
            let (name, path) = (path.to_string(), path.to_string());
            Output { name, path: path.clone(), digest: Digest::of(b""), files: vec![file(&path)] }
        };
        let outputs = paths.iter().map(output).collect();
        let record = Record { format: FORMAT, key: Digest::of(b"k"), outputs, run: RunInfo::begin("aggregate.a") };
        let found: Vec<(String, Option<&str>, Option<&str>)> = pictures(&record)
            .into_iter()
            .map(|(name, both)| {
                (name, both.light.map(|file| file.path.as_str()), both.dark.map(|file| file.path.as_str()))
            })
            .collect();
        let expected = [
            ("", Some("figure.svg"), Some("figure-dark.svg")),
            ("01-em", Some("figures/01-em.png"), None),
            ("02-f1", Some("figures/02-f1.svg"), None),
        ];
        assert_eq!(found, expected.map(|(name, light, dark)| (name.to_string(), light, dark)));
    }
}
