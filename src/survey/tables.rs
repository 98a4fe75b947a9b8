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
                let (instance, name) = (self.name(node), output.name.clone());
                let (r#where, sets) = (condition.clone(), behind.clone());
                tables.push(Table { instance, name, columns, rows, by, unit, r#where, sets });
            }
        }
        tables
    }

    /// Which rows an aggregate counts, as its key says it.
    pub(super) fn condition(&self, node: usize) -> Option<String> {
        let document = self.subject.store.document(self.keys.get(&node)?).ok()??;
        document.recipe.get("where")?.as_str().map(str::to_string)
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
