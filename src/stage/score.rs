//! The score kind: answers → values per row and a summary, by one scorer.
//!
//! A score stage of the manifest falls apart into one instance per scorer, so that adding a scorer runs no other again.
//! The name that the manifest gives a scorer is not in the recipe: renaming it changes no key.

use super::{Context, Form, Hints, Input, Recipe, Stage};
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::scorer;
use crate::settings::{Fields, Value, ValueKind};
use serde::{Deserialize, Serialize};

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

/// Reads the settings of a score stage: one [`Stage`] per scorer.
pub fn decode(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Vec<Stage>> {
    let input = super::input(fields, "predictions", Form::Rows, problems);
    let scorers = decode_scorers(fields, problems);
    let hints = Hints::default();
    let input = input?;
    let stage = |(name, recipe)| Stage {
        scorer: Some(name),
        recipe: Recipe::Score(recipe),
        hints: hints.clone(),
        inputs: vec![input.clone()],
    };
    Some(scorers?.into_iter().map(stage).collect())
}

/// `scorers`: a list of scorers' names, or a table of own names with a scorer's name or `{ kind = …, parameters }` each.
fn decode_scorers(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Vec<(String, ScoreRecipe)>> {
    let stage = fields.span();
    let Some(value) = fields.take("scorers") else {
        problems.push(Diagnostic::at(stage, "`scorers` is missing").hint("for example `scorers = [\"exact_match\"]`"));
        return None;
    };
    let named: Vec<(Option<&str>, &Value)> = match &value.kind {
        ValueKind::Array(items) => items.iter().map(|item| (None, item)).collect(),
        ValueKind::Table(table) => table.entries.iter().map(|(key, value)| (Some(key.name.as_str()), value)).collect(),
        _ => {
            problems.at(value.span, format!("expected a list or a table of scorers, found {}", value.describe()));
            return None;
        }
    };
    if named.is_empty() {
        problems.at(value.span, "`scorers` is empty");
        return None;
    }
    let mut scorers: Vec<(String, ScoreRecipe)> = Vec::new();
    let mut clean = true;
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
    clean.then_some(scorers)
}

/// One scorer: its name, or a table with `kind` and parameters.
fn decode_scorer(value: &Value, problems: &mut Problems) -> Option<ScoreRecipe> {
    let empty = crate::settings::Table::default();
    let (kind, span, mut fields) = match &value.kind {
        ValueKind::String(name) => (name.clone(), value.span, Fields::of_table(&empty, value.span)),
        _ => {
            let mut fields = Fields::of(value, problems)?;
            let span = value.as_table().and_then(|table| table.get("kind")).map_or(value.span, |kind| kind.span);
            (fields.required::<String>("kind", problems)?, span, fields)
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

/// Mistakes that would show themselves late: none, what is scored is made by other stages or read whole at once.
pub fn check(_recipe: &ScoreRecipe, _inputs: &[Input]) -> Vec<Diagnostic> {
    Vec::new()
}

/// Does the work.
pub fn execute(_recipe: &ScoreRecipe, _context: &Context<'_>) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
