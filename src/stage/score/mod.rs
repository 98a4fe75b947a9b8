//! The score kind: answers → values per row and a summary, by one scorer.
//!
//! A score stage of the manifest falls apart into one instance per scorer, so that adding a scorer runs no other again.
//! The name that the manifest gives a scorer is not in the recipe: renaming it changes no key.

use super::{Context, Form, Input, InputSource, InputSpec, Recipe, Stage};
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::report::statistics;
use crate::row::{self, Row};
use crate::scorer;
use crate::settings::{At, Decode, Fields, Schema, Setting, Value, ValueKind, schema};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Everything that can change a byte of the output of a score stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreRecipe {
    /// Name of the scorer in [`scorer::ALL`].
    pub scorer: String,
    /// The scorer's version.
    pub version: u32,
    /// The scorer's parameters, with defaults filled in.
    pub params: serde_json::Value,
}

crate::form! {
    /// Answers → values per row and a summary, by each scorer.
    pub(super) struct ScoreForm {
        /// The answers: a predict stage, or rows that have a column `prediction` already.
        predictions: At<InputSource>,
        /// By what they are scored: a list of scorers, or a table of names of one's own with a scorer each.
        scorers: Scorers,
    }
}

/// Scorers by name: at least one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scorers(Vec<(String, ScoreRecipe)>);

/// What a score stage says → one [`Stage`] per scorer.
pub(super) fn stages(form: ScoreForm) -> Vec<Stage> {
    let input = InputSpec::new("predictions", Form::Rows, form.predictions);
    let stage = |(name, recipe)| Stage { scorer: Some(name), ..Stage::new(Recipe::Score(recipe), vec![input.clone()]) };
    form.scorers.0.into_iter().map(stage).collect()
}

impl Decode for Scorers {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let named: Vec<(Option<&str>, &Value)> = match &value.kind {
            ValueKind::Array(items) => items.iter().map(|item| (None, item)).collect(),
            ValueKind::Table(table) => {
                table.entries.iter().map(|(key, value)| (Some(key.name.as_str()), value)).collect()
            }
            _ => {
                problems.at(value.span, format!("expected a list or a table of scorers, found {}", value.describe()));
                return None;
            }
        };
        if named.is_empty() {
            problems.at(value.span, "`scorers` is empty");
            return None;
        }
        let mut clean = true;
        if let ValueKind::Table(table) = &value.kind {
            for (key, _) in table.entries.iter().filter(|(key, _)| !super::is_name(&key.name)) {
                problems.at(key.span, format!("`{}` is no name of a scorer: letters, digits, `_` and `-`", key.name));
                clean = false;
            }
        }
        let mut scorers: Vec<(String, ScoreRecipe)> = Vec::new();
        for (name, value) in named {
            let Some(recipe) = decode_scorer(value, problems) else {
                clean = false;
                continue;
            };
            let name = name.map_or_else(|| recipe.scorer.clone(), str::to_string);
            if scorers.iter().any(|(other, _)| *other == name) {
                let problem = Diagnostic::at(value.span, format!("scorer `{name}` is listed twice"));
                problems.push(problem.hint("give them names of their own in a `scorers` table"));
                clean = false;
            }
            scorers.push((name, recipe));
        }
        clean.then_some(Self(scorers))
    }

    fn schema() -> Schema {
        let docs: Vec<[&str; 1]> = scorer::ALL.iter().map(|scorer| [scorer.summary]).collect();
        let names: Vec<(&str, &[&str])> =
            scorer::ALL.iter().zip(&docs).map(|(scorer, docs)| (scorer.name, docs.as_slice())).collect();
        let with_params = scorer::ALL.iter().map(|scorer| {
            let kind = schema::words(&[(scorer.name, &[scorer.summary])]);
            let kind = Setting { name: KIND, schema: kind, required: true };
            schema::table([kind].into_iter().chain(scorer.settings()).collect())
        });
        let scorer = schema::any_of([schema::words(&names)].into_iter().chain(with_params));
        let mut table = schema::map(&scorer);
        table["minProperties"] = 1.into();
        schema::any_of([schema::some(&scorer), table])
    }
}

/// Where a scorer with parameters says which one it is.
const KIND: &str = "kind";

/// One scorer: its name, or a table with `kind` and parameters.
fn decode_scorer(value: &Value, problems: &mut Problems) -> Option<ScoreRecipe> {
    let empty = crate::settings::Table::default();
    let (kind, span, mut fields) = match &value.kind {
        ValueKind::String(name) => (name.clone(), value.span, Fields::of_table(&empty, value.span)),
        _ => {
            let mut fields = Fields::of(value, problems)?;
            let kind: At<String> = fields.required(KIND, problems)?;
            (kind.value, kind.span, fields)
        }
    };
    let definition = find(&kind, span, problems)?;
    let params = definition.read_params(&mut fields, problems);
    fields.finish(problems)?;
    Some(ScoreRecipe { scorer: definition.name.to_string(), version: definition.version, params: params? })
}

fn find(kind: &str, span: Span, problems: &mut Problems) -> Option<&'static scorer::Definition> {
    let definition = scorer::find(kind);
    if definition.is_none() {
        let problem = Diagnostic::at(span, format!("unknown scorer `{kind}`"));
        problems.push(problem.suggest(kind, scorer::ALL.iter().map(|definition| definition.name)));
    }
    definition
}

/// How many rows of a file [`check`] looks at.
const CHECKED_ROWS: usize = 1000;

/// Mistakes that would show themselves late: files of answers whose rows lack what is compared.
pub fn check(_recipe: &ScoreRecipe, inputs: &[Input]) -> Vec<Diagnostic> {
    inputs.iter().filter_map(|input| check_rows(input).err()).collect()
}

fn check_rows(input: &Input) -> Result<(), Diagnostic> {
    for item in row::read(&input.path, &input.name)?.take(CHECKED_ROWS) {
        let (line, row) = item?;
        for column in [row::PREDICTION, row::OUTPUT] {
            text(&row, column).map_err(|message| Diagnostic::in_file(&input.name, Some(line), message))?;
        }
    }
    Ok(())
}

/// Texts longer than this are not carried along: scores are for counting, the answers stay in the predictions.
const LONGEST_COLUMN: usize = 200;

/// Does the work: `scores.jsonl`, a line for each row in the rows' order, and `summary.json`.
pub fn execute(recipe: &ScoreRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let definition = scorer::find(&recipe.scorer)
        .filter(|definition| definition.version == recipe.version)
        .with_context(|| format!("this program has no scorer `{}` of version {}", recipe.scorer, recipe.version))?;
    let scorer = definition.build(&recipe.params)?;
    let mut rows = Vec::new();
    let mut scores: Vec<Vec<Option<f64>>> = Vec::new();
    for input in context.role("predictions") {
        for item in row::read(&input.path, &input.name)? {
            let (line, row) = item?;
            let place = || format!("{}:{line}", input.name);
            let prediction = text(&row, row::PREDICTION).map_err(anyhow::Error::msg).with_context(place)?;
            let reference = text(&row, row::OUTPUT).map_err(anyhow::Error::msg).with_context(place)?;
            anyhow::ensure!(!row.contains_key(SCORES), "{}: a column is named `{SCORES}`: rename it", place());
            scores.push(scorer.score_row(&prediction, &reference).with_context(place)?);
            rows.push(row);
        }
    }
    if rows.is_empty() {
        context.events.warn("`predictions` has no row: there is nothing to score".to_string());
    }
    let columns = carried_columns(&rows);
    let mut writer = row::Writer::create(&context.output.join("scores.jsonl"))?;
    for (row, scores) in rows.iter().zip(&scores) {
        let values =
            definition.metrics.iter().zip(scores).map(|(metric, value)| (metric.name.to_string(), json!(value)));
        let mut out = Row::new();
        out.insert(row::ID.to_string(), row::id(row).into());
        out.extend(row.iter().filter(|(name, _)| columns.contains(name.as_str())).map(|(k, v)| (k.clone(), v.clone())));
        out.insert(SCORES.to_string(), serde_json::Value::Object(values.collect()));
        writer.write(&out)?;
    }
    writer.finish()?;
    let summary = format!("{:#}\n", summary(definition, &scores));
    std::fs::write(context.output.join("summary.json"), summary).context("cannot write `summary.json`")
}

/// Where a row's values stand in `scores.jsonl`.
pub(super) const SCORES: &str = "scores";

/// A text that the row must have.
fn text<'a>(row: &'a Row, column: &str) -> Result<Cow<'a, str>, String> {
    row::text(row, column).ok_or_else(|| format!("the row has no `{column}`: it has {}", row::columns(row)))
}

/// Columns that do not go into the scores: the texts themselves, and what identifies a row.
pub const NEVER_CARRIED: [&str; 5] = [row::ID, row::INSTRUCTION, row::INPUT, row::OUTPUT, row::PREDICTION];

/// The columns that go into the scores: all but the texts themselves and those with a long value in any row.
fn carried_columns(rows: &[Row]) -> BTreeSet<&str> {
    let is_long = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.chars().nth(LONGEST_COLUMN).is_some(),
        other => other.to_string().len() > LONGEST_COLUMN,
    };
    let mut columns: BTreeSet<&str> = rows.iter().flat_map(|row| row.keys().map(String::as_str)).collect();
    for name in NEVER_CARRIED {
        columns.remove(name);
    }
    for (name, _) in rows.iter().flatten().filter(|(_, value)| is_long(value)) {
        columns.remove(name.as_str());
    }
    columns
}

/// Per metric: how many rows have a value, their mean, and for how many the metric says nothing.
fn summary(definition: &scorer::Definition, scores: &[Vec<Option<f64>>]) -> serde_json::Value {
    let metrics = definition.metrics.iter().enumerate().map(|(number, metric)| {
        let values: Vec<f64> = scores.iter().filter_map(|row| row[number]).collect();
        let summary = json!({
            "count": values.len(),
            "mean": statistics::mean(&values),
            "nulls": scores.len() - values.len(),
        });
        (metric.name.to_string(), summary)
    });
    json!({ "rows": scores.len(), "metrics": serde_json::Map::from_iter(metrics) })
}

#[cfg(test)]
mod tests;
