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
//! (`finetune.py`) is an input too: when its content changes, the stage runs again. Braces that are meant as such have a
//! backslash before them: `\{output}`.
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

mod form;

pub use form::COMMAND;
pub(super) use form::{files_of, read, settings};

use super::{Input, Kind};
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
        if is_contract(name) && text[..open].ends_with('\\') {
            // The braces are meant.
            pieces.push(Piece::Text(&text[start..open - 1]));
            start = open;
            at = end + 1;
        } else if is_contract(name) {
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

/// What a secret's placeholder begins with.
pub const SECRET: &str = "{env:";

/// `NAME` of `{env:NAME}`.
pub(super) fn secret_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix(SECRET)?.strip_suffix('}')?;
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name(name).then_some(name)
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
