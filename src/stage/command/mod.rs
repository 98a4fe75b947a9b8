//! Any kind's work done by another program: `command = ["python", "finetune.py", "--data", "{input.data}", "--out",
//! "{output}/model"]`.
//!
//! # The contract
//!
//! The command is a list of arguments, never a shell's line. It is run in the project's root, in a process group of its own.
//!
//! **Inputs** are the kind's own (`data`, `model`, `predictions`, …) and those of the table `inputs = { NAME = … }`: a
//! path, a glob, a reference to a stage, or a list of these. `{input.NAME}` in an argument stands for the absolute path of a
//! file or folder to read; an argument that is nothing but that becomes as many arguments as there are files. A model
//! has its layers as `{input.base.0}` (the base), `{input.base.1}`, … An argument that names a file of the project
//! (`finetune.py`) is an input too: when its content changes, the stage runs again.
//!
//! **Outputs** are files in the folder `{output}`, which exists and is empty. `outputs = ["train", "validation"]` says
//! which of the kind's outputs the command writes (by default the first), under the names that [`Kind::outputs`] lists.
//! A `train` makes an adapter if it has a `base`, else a whole model; `makes = "model"` says otherwise.
//!
//! **Environment**: that of titer, with `TITER_JOB` (a JSON file with the inputs, their axis values and the output folder),
//! `TITER_OUTPUT`, `TITER_INSTANCE`, `TITER_THREADS`, `TITER_SCRATCH` (a folder that is removed afterwards),
//! `TITER_REQUESTS_PER_SECOND` (if the run has such a limit), `CUDA_VISIBLE_DEVICES` (the cards that the run gave it), and what
//! `env = { NAME = "value" }` sets. `env = { TOKEN = "{env:HF_TOKEN}" }` hands a secret on from titer's own environment: it
//! enters no key, record or log.
//!
//! **What it says** (both streams) goes to its log. A line `{"progress": {"done": 3, "total": 10, "unit": "steps", "note": ""}}` or
//! `{"warn": "…"}` is shown to the person.
//!
//! **End**: exit code 0 says that all outputs are written; 75 that it may be tried again (see
//! [`super::demands::Retry`]); anything else that it failed. What is left of its process group is ended then.

use super::{Form, Hints, Input, InputSource, InputSpec, Kind, Recipe, Stage, model_inputs, optional_input};
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::settings::{Decode, Fields, Value, ValueKind};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// Everything that can change a byte of the output of a stage that another program does, besides its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRecipe {
    /// The kind whose work it does.
    pub kind: Kind,
    /// The program and its arguments, before `{input.…}` and `{output}` are filled in.
    pub command: Vec<String>,
    /// Variables of its environment; secrets are not here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub env: BTreeMap<String, String>,
    /// The kind's outputs that it writes.
    pub outputs: Vec<String>,
    /// Whether a training's output is a model of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub whole: bool,
}

impl CommandRecipe {
    /// Version of the contract. Part of the key of every such stage.
    pub const VERSION: u32 = 1;

    /// Names and paths of the outputs that it promises, in the kind's order.
    pub fn outputs(&self) -> Vec<(&'static str, &'static str)> {
        self.kind
            .outputs()
            .iter()
            .copied()
            .filter(|(name, _)| self.outputs.iter().any(|output| output == name))
            .collect()
    }

    /// The arguments with the paths filled in.
    ///
    /// # Errors
    /// A placeholder names a layer that the model has not, or stands for several files inside a longer text.
    pub fn arguments(&self, inputs: &[Input], output: &Path) -> anyhow::Result<Vec<OsString>> {
        let mut arguments = Vec::new();
        for text in &self.command {
            match pieces(text).as_slice() {
                [Piece::Input(name)] => {
                    arguments.extend(find(inputs, name)?.iter().map(|input| input.path.clone().into()))
                }
                pieces => {
                    let mut argument = OsString::new();
                    for piece in pieces {
                        match piece {
                            Piece::Text(text) => argument.push(text),
                            Piece::Output => argument.push(output),
                            Piece::Input(name) => match find(inputs, name)?.as_slice() {
                                [input] => argument.push(&input.path),
                                many => anyhow::bail!(
                                    "`{{input.{name}}}` stands for {} files and cannot be a part of `{text}`: give it an argument of its own",
                                    many.len()
                                ),
                            },
                        }
                    }
                    arguments.push(argument);
                }
            }
        }
        Ok(arguments)
    }
}

/// A piece of an argument.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Input(&'a str),
    Output,
}

/// What a placeholder of the contract begins with, without the brace.
const INPUT: &str = "input.";
const OUTPUT: &str = "output";

/// Whether a placeholder of this name is the contract's, not the manifest's.
pub fn is_contract(name: &str) -> bool {
    name == OUTPUT || name.starts_with(INPUT)
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(open) = text[at..].find('{').map(|offset| at + offset) {
        let Some(end) = text[open..].find('}').map(|offset| open + offset) else { break };
        let name = &text[open + 1..end];
        at = open + 1;
        if is_contract(name) {
            if start < open {
                pieces.push(Piece::Text(&text[start..open]));
            }
            pieces.push(name.strip_prefix(INPUT).map_or(Piece::Output, Piece::Input));
            at = end + 1;
            start = at;
        }
    }
    if start < text.len() || pieces.is_empty() {
        pieces.push(Piece::Text(&text[start..]));
    }
    pieces
}

/// The inputs of a name: those of that role, or the layers of that model.
fn find<'a>(inputs: &'a [Input], name: &str) -> anyhow::Result<Vec<&'a Input>> {
    let layer = |input: &Input| {
        let number = input.role.strip_prefix(name)?.strip_prefix('.')?;
        number.parse::<usize>().ok()
    };
    let mut found: Vec<(usize, &Input)> = inputs
        .iter()
        .filter_map(|input| if input.role == name { Some((0, input)) } else { Some((layer(input)?, input)) })
        .collect();
    found.sort_by_key(|(number, _)| *number);
    anyhow::ensure!(!found.is_empty(), "`{{input.{name}}}` names nothing that the stage reads");
    Ok(found.into_iter().map(|(_, input)| input).collect())
}

/// Whether the settings are those of a stage that another program does.
pub(super) fn is_command(fields: &mut Fields<'_>) -> bool {
    fields.take("command").is_some()
}

/// Reads the settings of a stage of the kind that has a `command`.
pub(super) fn decode(kind: Kind, fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Stage> {
    let before = problems.len();
    let span = fields.span();
    let inputs = own_inputs(kind, fields, problems);
    let further = further_inputs(fields, inputs.as_deref().unwrap_or_default(), problems);
    let command = fields.take("command")?;
    let words = words(command, problems);
    let env = read_env(fields, problems);
    let outputs = read_outputs(kind, fields, problems);
    let makes = fields.optional::<Makes>("makes", problems)?;
    if makes.is_some() && kind != Kind::Train {
        problems.at(span, format!("`makes` is a setting of `train`; this is a {kind} stage"));
    }
    let scorer = match kind {
        Kind::Score => Some(fields.or("scorer", || "command".to_string(), problems)?),
        _ => None,
    };
    let (mut inputs, words, (env, secrets)) = (inputs?, words?, env?);
    inputs.extend(further?);
    check_placeholders(&words, command.span, &inputs, problems);
    inputs.extend(files_of(&words, command.span));
    let whole = kind == Kind::Train
        && makes.map_or_else(|| !inputs.iter().any(|input| input.role == "base"), |makes| makes == Makes::Model);
    let recipe = CommandRecipe { kind, command: words, env, outputs: outputs?, whole };
    let hints = Hints { secrets, ..Hints::default() };
    (problems.len() == before).then_some(Stage { scorer, hints, ..Stage::new(Recipe::Command(recipe), inputs) })
}

/// What a training by another program leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Makes {
    Adapter,
    Model,
}

impl Decode for Makes {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match value.as_str() {
            Some("adapter") => Some(Self::Adapter),
            Some("model") => Some(Self::Model),
            _ => {
                problems.at(value.span, "expected `adapter` or `model`");
                None
            }
        }
    }
}

/// The inputs that the kind has a setting for; a command may do without any of them.
fn own_inputs(kind: Kind, fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Vec<InputSpec>> {
    let mut one = |setting, form, problems: &mut Problems| optional_input(fields, setting, form, problems);
    let specs: Vec<Option<InputSpec>> = match kind {
        Kind::Mix => vec![one("tokenizer", Form::Tokenizer, problems)?],
        Kind::Train => {
            vec![one("data", Form::Rows, problems)?, one("validation", Form::ValidationRows, problems)?]
        }
        Kind::Predict => vec![one("data", Form::Rows, problems)?],
        Kind::Score => vec![one("predictions", Form::Rows, problems)?],
        Kind::Aggregate => vec![],
    };
    let mut specs: Vec<InputSpec> = specs.into_iter().flatten().collect();
    match kind {
        Kind::Train => specs.extend(model_inputs(fields, "base", problems)?),
        Kind::Predict => specs.extend(model_inputs(fields, "model", problems)?),
        Kind::Aggregate => specs.extend(listed(fields.take("from"), "from", Form::Scores, problems)?),
        Kind::Mix | Kind::Score => {}
    }
    Some(specs)
}

/// The table `inputs`.
fn further_inputs(fields: &mut Fields<'_>, own: &[InputSpec], problems: &mut Problems) -> Option<Vec<InputSpec>> {
    let Some(value) = fields.take("inputs") else { return Some(Vec::new()) };
    let Some(table) = value.as_table() else {
        problems.at(
            value.span,
            format!("`inputs` is {}: expected a table `{{ NAME = \"path or stage\" }}`", value.describe()),
        );
        return None;
    };
    let mut specs = Vec::new();
    for (key, value) in &table.entries {
        if !super::is_name(&key.name) || own.iter().any(|spec| spec.role == key.name) {
            problems.at(
                key.span,
                format!(
                    "`{}` cannot name an input: it is taken, or has other signs than letters, digits, `_`, `-`",
                    key.name
                ),
            );
            return None;
        }
        specs.extend(listed(Some(value), &key.name, Form::Any, problems)?);
    }
    Some(specs)
}

/// An input, or a list of inputs of one role.
fn listed(value: Option<&Value>, role: &str, form: Form, problems: &mut Problems) -> Option<Vec<InputSpec>> {
    let items = match value {
        None => vec![],
        Some(Value { kind: ValueKind::Array(items), .. }) => items.iter().collect(),
        Some(value) => vec![value],
    };
    let mut spec = |value: &Value| {
        let source = InputSource::decode(value, problems)?;
        Some(InputSpec { role: role.to_string(), form, source, gather: None, span: value.span })
    };
    items.into_iter().map(&mut spec).collect()
}

/// The command's words. A number is a word, and a list among them (an axis value's field) is more words.
fn words(value: &Value, problems: &mut Problems) -> Option<Vec<String>> {
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
        problems.push(problem.hint("write `[\"program\", \"argument\"]`; a shell's line is `[\"sh\", \"-c\", \"…\"]`"));
        return None;
    }
    if words.first().is_none_or(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
        problems.at(value.span, "`command` names no program, or holds a NUL byte");
        return None;
    }
    Some(words)
}

/// Variables: plain ones, and names of secrets.
type Env = (BTreeMap<String, String>, BTreeMap<String, String>);

fn read_env(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Env> {
    let Some(value) = fields.take("env") else { return Some(Env::default()) };
    let Some(table) = value.as_table() else {
        problems.at(value.span, format!("`env` is {}: expected a table `{{ NAME = \"value\" }}`", value.describe()));
        return None;
    };
    let (mut plain, mut secrets) = Env::default();
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
            Some(name) => secrets.insert(key.name.clone(), name.to_string()),
            None if text.contains(SECRET) || text.contains('\0') => {
                problems.at(value.span, "a secret is the whole value: `\"{env:NAME}\"`");
                return None;
            }
            None => plain.insert(key.name.clone(), text),
        };
    }
    Some((plain, secrets))
}

/// What a secret's placeholder begins with.
pub const SECRET: &str = "{env:";

/// `NAME` of `{env:NAME}`.
fn secret_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix(SECRET)?.strip_suffix('}')?;
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name(name).then_some(name)
}

fn read_outputs(kind: Kind, fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Vec<String>> {
    let known = || kind.outputs().iter().map(|(name, _)| *name);
    let Some(value) = fields.take("outputs") else { return Some(known().take(1).map(str::to_string).collect()) };
    let names = Vec::<String>::decode(value, problems)?;
    for name in &names {
        if !known().any(|output| output == name) {
            let problem = Diagnostic::at(value.span, format!("a {kind} stage has no output `{name}`"));
            problems.push(problem.suggest(name, known()));
            return None;
        }
    }
    if names.is_empty() {
        problems.at(value.span, "`outputs` is empty: nothing would be kept");
        return None;
    }
    // The kind's order, each once: how they are listed changes no byte.
    Some(known().filter(|output| names.iter().any(|name| name == output)).map(str::to_string).collect())
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
fn files_of(words: &[String], span: Span) -> Vec<InputSpec> {
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

/// Makes the program's arguments absolute where they must be: nothing but its own path, if it has one.
pub fn program(argument: &OsString, root: &Path) -> anyhow::Result<OsString> {
    let path = Path::new(argument);
    if path.components().count() > 1 && path.is_relative() {
        let full = std::path::absolute(root.join(path)).with_context(|| format!("finding `{}`", path.display()))?;
        return Ok(full.into());
    }
    Ok(argument.clone())
}

#[cfg(test)]
mod tests;
