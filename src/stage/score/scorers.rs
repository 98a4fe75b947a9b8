//! The scorers of a stage, as a manifest says them: a list, or a table of names of one's own.

use super::{Scope, ScoreRecipe};
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::scorer;
use crate::settings::{At, Decode, Fields, Group as _, Schema, Setting, Value, ValueKind, schema};

/// Scorers by name: at least one.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stage) struct Scorers(pub(super) Vec<(String, ScoreRecipe)>);

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
            for (key, _) in table.entries.iter().filter(|(key, _)| !crate::stage::is_name(&key.name)) {
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
            schema::table([kind].into_iter().chain(scorer.settings()).chain(Scope::settings()).collect())
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
    let scope = Scope::read(&mut fields, problems);
    fields.finish(problems)?;
    if let Some(Scope { first: None, first_per: Some(column), .. }) = &scope {
        let problem = Diagnostic::at(span, format!("`first_per = {column:?}` stands without `first`"));
        problems.push(problem.hint("say how many rows of each value: `first = 100`"));
        return None;
    }
    let (scorer, version) = (definition.name.to_string(), definition.version);
    Some(ScoreRecipe { scorer, version, params: params?, scope: scope? })
}

fn find(kind: &str, span: Span, problems: &mut Problems) -> Option<&'static scorer::Definition> {
    let definition = scorer::find(kind);
    if definition.is_none() {
        let problem = Diagnostic::at(span, format!("unknown scorer `{kind}`"));
        problems.push(problem.suggest(kind, scorer::ALL.iter().map(|definition| definition.name)));
    }
    definition
}
