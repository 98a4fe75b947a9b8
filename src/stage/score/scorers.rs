//! The scorers of a stage, as a manifest says them: a list, or a table of names of one's own.

use super::judge;
use super::models::MODEL;
use super::{Scope, ScoreRecipe};
use crate::address::Address;
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::scorer::{self, WithFolder, Work};
use crate::settings::{At, Decode, Fields, Group as _, Schema, Setting, Value, ValueKind, schema};
use crate::stage::command::files_of;
use crate::stage::{Form, Hints, InputSource, InputSpec};

/// Scorers by name: at least one.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stage) struct Scorers(pub(super) Vec<Named>);

/// A scorer and what it is called.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) recipe: ScoreRecipe,
    /// What it reads besides the answers: a model, perhaps a file; the files of a program.
    pub(super) inputs: Vec<InputSpec>,
    /// How a judge is asked.
    pub(super) hints: Hints,
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
            for (key, _) in table.entries.iter().filter(|(key, _)| !crate::stage::is_name(&key.name)) {
                problems.at(key.span, format!("`{}` is no name of a scorer: letters, digits, `_` and `-`", key.name));
                clean = false;
            }
        }
        let mut scorers: Vec<Named> = Vec::new();
        for (name, value) in named {
            let Some((recipe, inputs, hints)) = decode_scorer(value, problems) else {
                clean = false;
                continue;
            };
            let name = name.map_or_else(|| recipe.scorer.clone(), str::to_string);
            if scorers.iter().any(|other| other.name == name) {
                let problem = Diagnostic::at(value.span, format!("scorer `{name}` is listed twice"));
                problems.push(problem.hint("give them names of their own in a `scorers` table"));
                clean = false;
            }
            scorers.push(Named { name, recipe, inputs, hints });
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
            schema::table([kind].into_iter().chain(settings_of(scorer)).chain(Scope::settings()).collect())
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
fn decode_scorer(value: &Value, problems: &mut Problems) -> Option<(ScoreRecipe, Vec<InputSpec>, Hints)> {
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
    if definition.by_model().is_some() && value.as_table().is_none() {
        let problem = Diagnostic::at(span, format!("`{kind}` reads texts by a model, and none is named"));
        problems.push(problem.hint(format!("{{ kind = \"{kind}\", {MODEL} = \"models/…\" }}")));
        return None;
    }
    let inputs = read_inputs(definition, &mut fields, problems);
    let is_judge = matches!(definition.work, Work::Judge);
    let asked = is_judge.then(|| judge::read(&mut fields, problems));
    let params = definition.read_params(&mut fields, problems);
    let scope = Scope::read(&mut fields, problems);
    fields.finish(problems)?;
    if let Some(Scope { first: None, first_per: Some(column), .. }) = &scope {
        let problem = Diagnostic::at(span, format!("`first_per = {column:?}` stands without `first`"));
        problems.push(problem.hint("say how many rows of each value: `first = 100`"));
        return None;
    }
    let (mut params, mut inputs) = (params?, inputs?);
    // A program's files are inputs, so that another version of it scores anew.
    inputs.extend(files_of(&definition.command(&params), value.span));
    if let (Some(by_model), [model, ..]) = (definition.by_model(), inputs.as_slice())
        && let Err(message) = (by_model.complete)(&mut params, &name_of(&model.source))
    {
        problems.at(value.span, message);
        return None;
    }
    let (api, hints) = match asked {
        None => (None, Hints::default()),
        Some(asked) => {
            let before = problems.len();
            judge::check_params(&params, span, problems);
            let (api, hints) = asked.filter(|_| problems.len() == before)?;
            (Some(Box::new(api)), hints)
        }
    };
    let (scorer, version) = (definition.name.to_string(), definition.version);
    Some((ScoreRecipe { scorer, version, params, scope: scope?, api }, inputs, hints))
}

/// The model that a scorer reads texts by, and perhaps a file; or the folder of one that may read one.
fn read_inputs(
    definition: &scorer::Definition,
    fields: &mut Fields<'_>,
    problems: &mut Problems,
) -> Option<Vec<InputSpec>> {
    if let Some(with_folder) = definition.with_folder() {
        let folder: Option<At<String>> = fields.or(with_folder.setting.0, || None, problems)?;
        return folder.map(|folder| read_folder(with_folder.setting.0, folder, problems)).into_iter().collect();
    }
    let Some(by_model) = definition.by_model() else { return Some(Vec::new()) };
    let model = fields.required(MODEL, problems).map(|model| InputSpec::new(MODEL, Form::Model, model));
    let file = by_model.file.map(|(name, _)| {
        let file: Option<At<InputSource>> = fields.or(name, || None, problems)?;
        Some(file.map(|file| InputSpec::new(name, Form::File, file)))
    });
    Some([model?].into_iter().chain(file.unwrap_or(Some(None))?).collect())
}

fn read_folder(role: &str, folder: At<String>, problems: &mut Problems) -> Option<InputSpec> {
    if Address::is_meant(&folder.value) {
        let problem =
            Diagnostic::at(folder.span, format!("`{}` is elsewhere: `{role}` is a folder here", folder.value));
        problems.push(problem.hint("fetch it, and name the folder"));
        return None;
    }
    let source = At { value: InputSource::Path(folder.value), span: folder.span };
    Some(InputSpec::new(role, Form::WordNet, source))
}

/// The settings of a scorer that are its own.
pub fn settings_of(definition: &scorer::Definition) -> Vec<Setting> {
    inputs(definition).into_iter().chain(definition.settings()).collect()
}

/// The settings that name what it reads, and who is asked.
fn inputs(definition: &scorer::Definition) -> Vec<Setting> {
    if matches!(definition.work, Work::Judge) {
        return judge::settings();
    }
    if let Some(WithFolder { setting: (name, about), .. }) = definition.with_folder() {
        return vec![Setting { name, schema: schema::described(String::schema(), &[about]), required: false }];
    }
    let Some(by_model) = definition.by_model() else { return Vec::new() };
    let about = "The model: a folder, an address of a hub, or a stage that makes one.";
    let setting = |name, about: &str, required| Setting {
        name,
        schema: schema::described(InputSource::schema(), &[about]),
        required,
    };
    let file = by_model.file.map(|(name, about)| setting(name, about, false));
    [setting(MODEL, about, true)].into_iter().chain(file).collect()
}

/// What a model is called: the last part of its path, or of its repository's name.
fn name_of(source: &InputSource) -> String {
    match source {
        InputSource::Stage(reference) => reference.stage(),
        InputSource::Path(path) => match Address::parse(path) {
            Ok(address) if Address::is_meant(path) => address.name().to_string(),
            _ => path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_string(),
        },
    }
}

/// Whether the value says a scorer that asks another model.
pub fn is_judge(value: &Value) -> bool {
    let kind = value.as_table().and_then(|table| table.get(KIND)?.as_str());
    kind.and_then(scorer::find).is_some_and(|definition| matches!(definition.work, Work::Judge))
}

fn find(kind: &str, span: Span, problems: &mut Problems) -> Option<&'static scorer::Definition> {
    let definition = scorer::find(kind);
    if definition.is_none() {
        let problem = Diagnostic::at(span, format!("unknown scorer `{kind}`"));
        problems.push(problem.suggest(kind, scorer::ALL.iter().map(|definition| definition.name)));
    }
    definition
}
