//! How the table of a stage with a `command` is read.

use super::{CommandRecipe, Piece, SECRET, pieces, secret_name};
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::settings::{At, Decode, Fields, Group, Schema, Setting, Value, ValueKind, schema};
use crate::stage::{Form, Hints, InputSource, InputSpec, Kind, Layers, Part, Recipe, Stage, is_name};
use serde_json::json;
use std::collections::BTreeMap;

/// The setting that says that another program does the work.
pub const COMMAND: &str = "command";

crate::form! {
    /// What a command of any kind says.
    struct CommandForm {
        /// The program and its arguments, which does the work in place of titer: `["python", "train.py", "{input.data}",
        /// "{output}/model"]`. No shell reads it.
        command: At<Words>,
        /// Further inputs by name, for `{input.NAME}`: a path, a glob, a reference to a stage, or a list of these.
        inputs: Option<Further>,
        /// Variables of its environment. `"{env:NAME}"` hands on a secret from titer's own, which is written nowhere.
        env: Option<Env>,
        /// Which of the kind's outputs it writes; by default the first.
        outputs: Option<At<Vec<String>>>,
    }
}

crate::form! {
    /// A mix by a command.
    struct MixForm {
        ..common: CommandForm,
        /// A folder or a train stage with a tokenizer, for `{input.tokenizer}`.
        tokenizer: Option<At<InputSource>>,
    }
}

crate::form! {
    /// A training by a command.
    struct TrainForm {
        ..common: CommandForm,
        /// The rows to train on, for `{input.data}`.
        data: Option<At<InputSource>>,
        /// The rows to evaluate on, for `{input.validation}`.
        validation: Option<At<InputSource>>,
        /// What the training begins from: the layers `{input.base.0}`, `{input.base.1}`, …
        base: Option<Layers>,
        /// What a training by a command leaves behind; by default an adapter if it has a `base`, else a whole model.
        makes: Option<Makes>,
    }
}

crate::form! {
    /// A prediction by a command.
    struct PredictForm {
        ..common: CommandForm,
        /// The rows to answer, for `{input.data}`.
        data: Option<At<InputSource>>,
        /// Who answers: the layers `{input.model.0}`, `{input.model.1}`, …
        model: Option<Layers>,
    }
}

crate::form! {
    /// A scoring by a command.
    struct ScoreForm {
        ..common: CommandForm,
        /// The answers, for `{input.predictions}`.
        predictions: Option<At<InputSource>>,
        /// What a command's values are called beside those of scorers.
        scorer: String = "command".to_string(),
    }
}

crate::form! {
    /// An aggregation by a command.
    struct AggregateForm {
        ..common: CommandForm,
        /// The scores, for `{input.from}`: a stage or a file, or a list of them.
        from: Option<Sources>,
    }
}

crate::words! {
    /// What a training by another program leaves behind.
    enum Makes {
        /// An adapter on its base.
        Adapter = "adapter",
        /// A model of its own.
        Model = "model",
    }
}

/// What a stage of the kind may say beside its `command`.
pub(in crate::stage) fn settings(kind: Kind) -> Vec<Setting> {
    let mut settings = match kind {
        Kind::Mix => MixForm::settings(),
        Kind::Train => TrainForm::settings(),
        Kind::Predict => PredictForm::settings(),
        Kind::Score => ScoreForm::settings(),
        Kind::Aggregate => AggregateForm::settings(),
    };
    let names: Vec<&str> = kind.outputs().iter().map(|(name, _)| *name).collect();
    for setting in settings.iter_mut().filter(|setting| setting.name == "outputs") {
        setting.schema["items"] = json!({ "enum": names });
        setting.schema["minItems"] = 1.into();
    }
    settings
}

/// Reads the settings of a stage of the kind that has a `command`.
pub(in crate::stage) fn read(kind: Kind, fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Stage> {
    let rows = |role: &str, source: Option<At<InputSource>>| -> Vec<InputSpec> {
        source.into_iter().map(|source| InputSpec::new(role, Form::Rows, source)).collect()
    };
    let layers = |role: &str, layers: Option<Layers>| layers.map_or(Vec::new(), |layers| layers.inputs(role));
    match kind {
        Kind::Mix => {
            let form = MixForm::read(fields, problems)?;
            let tokenizer = form.tokenizer.map(|source| InputSpec::new("tokenizer", Form::Tokenizer, source));
            stage(kind, form.common, tokenizer.into_iter().collect(), None, problems)
        }
        Kind::Train => {
            let form = TrainForm::read(fields, problems)?;
            let validation = form.validation.map(|source| InputSpec::new("validation", Form::ValidationRows, source));
            let mut inputs = rows("data", form.data);
            inputs.extend(validation);
            inputs.extend(layers("base", form.base));
            stage(kind, form.common, inputs, form.makes, problems)
        }
        Kind::Predict => {
            let form = PredictForm::read(fields, problems)?;
            let mut inputs = rows("data", form.data);
            inputs.extend(layers("model", form.model));
            stage(kind, form.common, inputs, None, problems)
        }
        Kind::Score => {
            let form = ScoreForm::read(fields, problems)?;
            let stage = stage(kind, form.common, rows("predictions", form.predictions), None, problems)?;
            Some(Stage { part: Some(Part::Scorer(form.scorer)), ..stage })
        }
        Kind::Aggregate => {
            let form = AggregateForm::read(fields, problems)?;
            let sources = form.from.map_or(Vec::new(), |from| from.0);
            let inputs = sources.into_iter().map(|source| InputSpec::new("from", Form::Records, source)).collect();
            stage(kind, form.common, inputs, None, problems)
        }
    }
}

/// `inputs` are those that the kind has a setting for.
fn stage(
    kind: Kind,
    form: CommandForm,
    mut inputs: Vec<InputSpec>,
    makes: Option<Makes>,
    problems: &mut Problems,
) -> Option<Stage> {
    let before = problems.len();
    for (name, sources) in form.inputs.into_iter().flat_map(|further| further.0) {
        if inputs.iter().any(|input| input.role == name) {
            let span = sources.first().map_or(form.command.span, |source| source.span);
            problems.at(span, format!("`{name}` cannot name a further input: it is one of the stage's own"));
        }
        inputs.extend(sources.into_iter().map(|source| InputSpec::new(name.as_str(), Form::Any, source)));
    }
    let outputs = outputs(kind, form.outputs, problems);
    let At { value: Words(words), span } = form.command;
    check_placeholders(&words, span, &inputs, problems);
    inputs.extend(files_of(&words, span));
    let whole = kind == Kind::Train
        && makes.map_or_else(|| !inputs.iter().any(|input| input.role == "base"), |makes| makes == Makes::Model);
    let Env { plain, secrets } = form.env.unwrap_or_default();
    let recipe = CommandRecipe { kind, command: words, env: plain, outputs, whole };
    let hints = Hints { secrets, ..Hints::default() };
    (problems.len() == before).then_some(Stage { hints, ..Stage::new(Recipe::Command(recipe), inputs) })
}

/// One source or a list of them.
#[derive(Clone, Debug, PartialEq)]
struct Sources(Vec<At<InputSource>>);

impl Decode for Sources {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match value.kind {
            ValueKind::Array(_) => Vec::decode(value, problems).map(Self),
            _ => At::decode(value, problems).map(|source| Self(vec![source])),
        }
    }

    fn schema() -> Schema {
        schema::any_of([InputSource::schema(), schema::list(&InputSource::schema())])
    }
}

/// Further inputs by name, in the order of the text.
#[derive(Clone, Debug, PartialEq)]
struct Further(Vec<(String, Vec<At<InputSource>>)>);

impl Decode for Further {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let Some(table) = value.as_table() else {
            let message =
                format!("`inputs` is {}: expected a table `{{ NAME = \"path or stage\" }}`", value.describe());
            problems.at(value.span, message);
            return None;
        };
        let mut inputs = Vec::new();
        for (key, value) in &table.entries {
            if !is_name(&key.name) {
                problems.at(key.span, format!("`{}` is no name of an input: letters, digits, `_` and `-`", key.name));
                return None;
            }
            inputs.push((key.name.clone(), Sources::decode(value, problems)?.0));
        }
        Some(Self(inputs))
    }

    fn schema() -> Schema {
        schema::map(&Sources::schema())
    }
}

/// The command's words, at least one. A number is a word, and a list among them (an axis value's field) is more words.
#[derive(Clone, Debug, PartialEq)]
struct Words(Vec<String>);

impl Decode for Words {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        fn collect(value: &Value, words: &mut Vec<String>) -> bool {
            match &value.kind {
                ValueKind::Array(items) => items.iter().all(|item| collect(item, words)),
                ValueKind::Table(_) => false,
                ValueKind::String(text) => {
                    words.push(text.clone());
                    true
                }
                _ => {
                    words.push(value.to_json().to_string());
                    true
                }
            }
        }
        let mut words = Vec::new();
        if !matches!(value.kind, ValueKind::Array(_)) || !collect(value, &mut words) {
            let problem = Diagnostic::at(value.span, "`command` is not a list of arguments");
            let hint = "write `[\"program\", \"argument\"]`; a shell's line is `[\"sh\", \"-c\", \"…\"]`";
            problems.push(problem.hint(hint));
            return None;
        }
        if words.first().is_none_or(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
            problems.at(value.span, "`command` names no program, or holds a NUL byte");
            return None;
        }
        Some(Self(words))
    }

    fn schema() -> Schema {
        schema::some(&json!({ "type": ["string", "number", "boolean", "array"] }))
    }
}

/// Variables: plain ones, and names of secrets.
#[derive(Clone, Debug, Default, PartialEq)]
struct Env {
    plain: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
}

impl Decode for Env {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let Some(table) = value.as_table() else {
            let message = format!("`env` is {}: expected a table `{{ NAME = \"value\" }}`", value.describe());
            problems.at(value.span, message);
            return None;
        };
        let mut env = Self::default();
        for (key, value) in &table.entries {
            if key.name.is_empty() || key.name.contains(['=', '\0']) {
                problems.at(key.span, format!("`{}` is no name of a variable", key.name));
                return None;
            }
            let text = match &value.kind {
                ValueKind::String(text) => text.clone(),
                ValueKind::Array(_) | ValueKind::Table(_) => String::decode(value, problems)?,
                _ => value.to_json().to_string(),
            };
            match secret_name(&text) {
                Some(name) => env.secrets.insert(key.name.clone(), name.to_string()),
                None if text.contains(SECRET) || text.contains('\0') => {
                    problems.at(value.span, "a secret is the whole value: `\"{env:NAME}\"`");
                    return None;
                }
                None => env.plain.insert(key.name.clone(), text),
            };
        }
        Some(env)
    }

    fn schema() -> Schema {
        schema::map(&json!({ "type": ["string", "number", "boolean"] }))
    }
}

/// The kind's order, each once: how they are listed changes no byte.
fn outputs(kind: Kind, given: Option<At<Vec<String>>>, problems: &mut Problems) -> Vec<String> {
    let known = || kind.outputs().iter().map(|(name, _)| *name);
    let Some(At { value: names, span }) = given else { return known().take(1).map(str::to_string).collect() };
    if let Some(name) = names.iter().find(|name| !known().any(|output| output == name.as_str())) {
        let problem = Diagnostic::at(span, format!("a {kind} stage has no output `{name}`"));
        problems.push(problem.suggest(name, known()));
    }
    if names.is_empty() {
        problems.at(span, "`outputs` is empty: nothing would be kept");
    }
    known().filter(|output| names.iter().any(|name| name == output)).map(str::to_string).collect()
}

fn check_placeholders(words: &[String], span: Span, inputs: &[InputSpec], problems: &mut Problems) {
    let names: Vec<&str> = inputs.iter().map(|input| input.role.as_str()).collect();
    for word in words {
        for piece in pieces(word) {
            let Piece::Input(name) = piece else { continue };
            let is_layer = |spec: &InputSpec| {
                let number = name.strip_prefix(&spec.role).and_then(|rest| rest.strip_prefix('.'));
                spec.form == Form::Model && number.is_some_and(|number| number.parse::<usize>().is_ok())
            };
            if !names.contains(&name) && !inputs.iter().any(is_layer) {
                let problem = Diagnostic::at(span, format!("`{{input.{name}}}` names nothing that the stage reads"));
                problems.push(problem.suggest(name, names.iter().copied()));
            }
        }
    }
}

/// Arguments that may name files of the project. The first is looked up in `PATH` unless it has a `/`.
pub(in crate::stage) fn files_of(words: &[String], span: Span) -> Vec<InputSpec> {
    let may = |(number, word): &(usize, &String)| {
        let is_plain = matches!(pieces(word).as_slice(), [Piece::Text(_)]);
        is_plain && !word.is_empty() && !word.starts_with(['-', '/']) && (*number > 0 || word.contains('/'))
    };
    let words = words.iter().enumerate().filter(may);
    words
        .map(|(number, word)| InputSpec {
            role: format!("command.{number}"),
            form: Form::Argument,
            source: InputSource::Path(word.clone()),
            gather: None,
            span,
        })
        .collect()
}
