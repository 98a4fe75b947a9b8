//! Tables → the files of an aggregate.

use super::recipe::{AggregateRecipe, STATISTICS};
use crate::frame::Frame;
use crate::report::table::Table;
use anyhow::Context as _;
use serde_json::{Map, json};
use std::fs::{self, File};
use std::path::Path;

/// Writes `table.parquet`, `.csv`, `.json`, and as it is laid out for readers `.md`, `.tex` and `wide.csv`.
pub(super) fn table(recipe: &AggregateRecipe, table: &Table, folder: &Path) -> anyhow::Result<()> {
    let unit = recipe.unit.0.join(" and ");
    let said = Map::from_iter([("by".to_string(), json!(recipe.by)), ("unit".to_string(), json!(unit))]);
    tidy("table", table, said, folder)?;
    let laid = recipe.layout.lay(&recipe.by.0, &unit, table);
    text(folder, "table.md", &recipe.layout.to_markdown(&laid))?;
    text(folder, "table.tex", &recipe.layout.to_latex(&laid))?;
    text(folder, "wide.csv", &recipe.layout.to_csv(&laid)?)
}

/// Writes `statistics.parquet`, `.csv`, `.json` and `.md`.
pub(super) fn statistics(table: &Table, folder: &Path) -> anyhow::Result<()> {
    tidy(STATISTICS, table, Map::new(), folder)?;
    text(folder, &format!("{STATISTICS}.md"), &table.to_markdown())
}

/// Writes `NAME.parquet`, `NAME.csv` and `NAME.json`.
fn tidy(name: &str, table: &Table, said: Map<String, serde_json::Value>, folder: &Path) -> anyhow::Result<()> {
    parquet(&format!("{name}.parquet"), &Frame::of_table(table), folder)?;
    text(folder, &format!("{name}.csv"), &table.to_csv()?)?;
    text(folder, &format!("{name}.json"), &table.to_json(said))
}

/// Writes a frame.
pub(super) fn parquet(name: &str, frame: &Frame, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(name);
    let file = File::create(path).with_context(|| format!("cannot write `{name}`"))?;
    frame.write_parquet(file).with_context(|| format!("cannot write `{name}`"))
}

fn text(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    fs::write(folder.join(name), text).with_context(|| format!("cannot write `{name}`"))
}
