//! What a scorer says of the rows: written row by row, and summed up at the end.

use super::summary::Sums;
use super::{NEVER_CARRIED, SCORES, Scope, ScoreRecipe};
use crate::row::{self, Row};
use crate::scorer::{Definition, Scored, Scorer};
use crate::stage::{Context, write_json};
use anyhow::ensure;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Texts longer than this are not carried along: scores are for counting, the answers stay in the predictions.
const LONGEST_COLUMN: usize = 200;

/// The scores of a stage while they are made. Rows are not kept, but their values are.
#[derive(Debug)]
pub(super) struct Results<'a> {
    context: &'a Context<'a>,
    definition: &'a Definition,
    /// The names of the scorer's metrics.
    metrics: Vec<String>,
    scope: &'a Scope,
    writer: row::Writer,
    rows: usize,
    sums: Sums,
    /// Columns that were written, and those that may not be: they have a long value in some row.
    written: BTreeSet<String>,
    long: BTreeSet<String>,
}

impl<'a> Results<'a> {
    /// Begins `scores.jsonl`.
    pub(super) fn create(
        context: &'a Context<'a>,
        definition: &'a Definition,
        recipe: &'a ScoreRecipe,
    ) -> anyhow::Result<Self> {
        let writer = row::Writer::create(&path(context))?;
        let metrics = definition.metric_names(&recipe.params);
        let (sums, written, long) = (Sums::new(metrics.len()), BTreeSet::new(), BTreeSet::new());
        Ok(Self { context, definition, metrics, scope: &recipe.scope, writer, rows: 0, sums, written, long })
    }

    /// The next row, and what the scorer said of it; `None`: it was not asked.
    pub(super) fn add(&mut self, row: Row, scored: Option<&Scored>) -> anyhow::Result<()> {
        ensure!(!row.contains_key(SCORES), "a column is named `{SCORES}`: rename it");
        self.rows += 1;
        if let Some(scored) = scored {
            self.sums.add(scored, self.scope.cluster(&row).map_err(anyhow::Error::msg)?);
        }
        let mut out = Row::new();
        out.insert(row::ID.to_string(), row::id(&row).into());
        out.extend(row.into_iter().filter(|(name, value)| self.is_carried(name, value)));
        let value = |number: usize| scored.and_then(|scored| scored.values[number]);
        let metrics = self.metrics.iter().enumerate();
        let scores: Map<String, Value> = metrics.map(|(number, name)| (name.clone(), json!(value(number)))).collect();
        out.insert(SCORES.to_string(), Value::Object(scores));
        self.writer.write(&out)
    }

    /// All columns are carried but the texts themselves and those with a long value in any row.
    fn is_carried(&mut self, name: &str, value: &Value) -> bool {
        if NEVER_CARRIED.contains(&name) || self.long.contains(name) {
            return false;
        }
        let seen = if is_long(value) { &mut self.long } else { &mut self.written };
        if !seen.contains(name) {
            seen.insert(name.to_string());
        }
        !is_long(value)
    }

    /// Ends `scores.jsonl` and writes `summary.json`, with the metrics of all rows together that the scorer has, or with
    /// `details` of the scoring.
    pub(super) fn finish(self, scorer: Option<&dyn Scorer>, details: Option<Value>) -> anyhow::Result<()> {
        if self.rows == 0 {
            self.context.events.warn("`predictions` has no row: there is nothing to score".to_string());
        }
        self.writer.finish()?;
        if self.written.iter().any(|name| self.long.contains(name)) {
            drop_columns(self.context, &self.long)?;
        }
        let unit = self.scope.cluster.as_deref();
        let mut summary = self.sums.summary(&self.metrics, self.definition, scorer, self.rows, unit);
        if let Some(details) = details {
            summary["details"] = details;
        }
        write_json(&self.context.output.join("summary.json"), &summary)
    }
}

fn path(context: &Context<'_>) -> PathBuf {
    context.output.join("scores.jsonl")
}

/// Writes the scores again without columns that turned out to be long after they had been written.
fn drop_columns(context: &Context<'_>, long: &BTreeSet<String>) -> anyhow::Result<()> {
    let (path, shorter) = (path(context), context.output.join("shorter.jsonl"));
    let mut writer = row::Writer::create(&shorter)?;
    for item in row::read(&path, "scores.jsonl")? {
        let (_, mut row) = item?;
        row.retain(|name, _| !long.contains(name));
        writer.write(&row)?;
    }
    writer.finish()?;
    Ok(std::fs::rename(shorter, path)?)
}

fn is_long(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() > LONGEST_COLUMN && text.chars().nth(LONGEST_COLUMN).is_some(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        other => other.to_string().len() > LONGEST_COLUMN,
    }
}
