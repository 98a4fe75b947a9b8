//! What can be set about a mix, and how it is read.

use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::{Decode, Fields, Value, ValueKind};
use crate::stage::{Form, InputSource, InputSpec, Recipe, Stage, optional_input};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that can change a byte of a mix's output, besides the sources' content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixRecipe {
    /// The sources, in order. (What comes out does not depend on the order, but what the statistics say does.)
    pub sources: Vec<SourceRecipe>,
    /// Shares of rows that are not for training; absent: all are.
    pub split: Option<Split>,
    /// Longest row: a row's length is that of the JSON line that is written.
    pub limit: Option<Limit>,
    /// Seed of the order of rows.
    pub seed: u64,
}

impl MixRecipe {
    /// Whether some rows go to the validation split.
    pub fn has_validation(&self) -> bool {
        self.split.as_ref().is_some_and(|split| split.validation > 0.0)
    }

    /// Whether some rows go to the test split.
    pub fn has_test(&self) -> bool {
        self.split.as_ref().is_some_and(|split| split.test > 0.0)
    }
}

crate::settings! {
    /// Shares of rows, decided by each row's own hash: a row never changes sides between mixes.
    pub struct Split {
        /// Share of validation rows.
        validation: f64 = 0.0 => 0.0..=1.0,
        /// Share of test rows.
        test: f64 = 0.0 => 0.0..=1.0,
    }
}

/// The longest row that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// In tokens of the mix's tokenizer, special tokens not counted.
    Tokens(u32),
    /// In words between white space.
    Words(u32),
}

/// Everything about a source but where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecipe {
    /// Our columns, each with theirs; `a.b` is column `b` of the object in column `a`.
    pub columns: BTreeMap<String, String>,
    /// What the model is told to do, if not a column `instruction`.
    pub instruction: Option<Instruction>,
    /// Columns with the same value in every row.
    pub set: BTreeMap<String, serde_json::Value>,
    /// A regular expression that is matched with the file's path; its named groups become columns.
    pub bind: Option<String>,
    /// Which rows count: an expression over their columns.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// How many rows are taken.
    pub take: Take,
    /// Whether `take` counts for each gathered instance by itself.
    pub gathers: bool,
}

/// How an instruction is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instruction {
    /// The same for every row.
    Literal(String),
    /// From a column.
    Column(String),
    /// From the Jinja template in the input `source.N.template`, rendered with the row's columns.
    Template,
}

/// How many rows of a source are taken: those that land in the train split are counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Take {
    /// All.
    All,
    /// So many; 0 leaves the source out.
    Rows(u64),
    /// This share of them.
    Share(f64),
}

impl Decode for Take {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::Integer(rows) if *rows >= 0 => Some(Self::Rows(rows.unsigned_abs())),
            ValueKind::Float(share) if (0.0..=1.0).contains(share) => Some(Self::Share(*share)),
            ValueKind::String(text) if text == "all" => Some(Self::All),
            _ => {
                let problem = Diagnostic::at(value.span, "`take` is no number of rows");
                problems.push(problem.hint("write `20` (rows), `0.5` (a share, 0 to 1) or `\"all\"`"));
                None
            }
        }
    }
}

/// Reads the settings of a mix stage.
pub fn decode(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Stage> {
    let sources = decode_sources(fields, problems);
    let split_span = fields.span();
    let split = fields.optional::<Split>("split", problems);
    if let Some(Some(split)) = &split
        && split.validation + split.test > 1.0
    {
        problems.at(split_span, "`split`: validation and test together are more than 1");
    }
    let tokenizer = optional_input(fields, "tokenizer", Form::Tokenizer, problems);
    let limit = decode_limit(fields, tokenizer.as_ref().is_some_and(Option::is_some), problems);
    let seed = fields.or("seed", || 42, problems);
    let (sources, mut inputs) = sources?;
    inputs.extend(tokenizer?);
    let recipe = MixRecipe { sources, split: split?, limit: limit?, seed: seed? };
    Some(Stage::new(Recipe::Mix(recipe), inputs))
}

fn decode_limit(fields: &mut Fields<'_>, has_tokenizer: bool, problems: &mut Problems) -> Option<Option<Limit>> {
    let span = fields.span();
    let tokens = fields.optional::<u32>("max_tokens", problems);
    let words = fields.optional::<u32>("max_words", problems);
    match (tokens?, words?) {
        (Some(_), Some(_)) => problems.at(span, "`max_tokens` and `max_words` are both set: a row has one length"),
        (Some(_), None) if !has_tokenizer => {
            let problem = Diagnostic::at(span, "`max_tokens` needs a `tokenizer`");
            problems.push(problem.hint("name a folder with a `tokenizer.json`, or count words with `max_words`"));
        }
        (None, _) if has_tokenizer => {
            let problem = Diagnostic::at(span, "`tokenizer` is set but nothing is counted in tokens");
            problems.push(problem.hint("add `max_tokens`"));
        }
        (Some(tokens), None) => return Some(Some(Limit::Tokens(tokens))),
        (None, Some(words)) => return Some(Some(Limit::Words(words))),
        (None, None) => return Some(None),
    }
    None
}

fn decode_sources(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<(Vec<SourceRecipe>, Vec<InputSpec>)> {
    let span = fields.span();
    let Some(value) = fields.take("sources") else {
        problems.at(span, "`sources` is missing");
        return None;
    };
    let items = match &value.kind {
        ValueKind::Array(items) if !items.is_empty() => items,
        ValueKind::Array(_) => {
            problems.at(value.span, "`sources` is empty");
            return None;
        }
        _ => {
            problems.at(value.span, format!("expected a list of sources, found {}", value.describe()));
            return None;
        }
    };
    let read: Vec<Option<(SourceRecipe, Vec<InputSpec>)>> =
        items.iter().enumerate().map(|(number, item)| decode_source(number, item, problems)).collect();
    let read: Option<Vec<_>> = read.into_iter().collect();
    let (sources, inputs): (Vec<SourceRecipe>, Vec<Vec<InputSpec>>) = read?.into_iter().unzip();
    Some((sources, inputs.into_iter().flatten().collect()))
}

fn decode_source(number: usize, value: &Value, problems: &mut Problems) -> Option<(SourceRecipe, Vec<InputSpec>)> {
    let mut fields = Fields::of(value, problems)?;
    let mut inputs = vec![decode_origin(number, &mut fields, problems)];
    let columns = fields.or("columns", BTreeMap::new, problems);
    let instruction = match fields.take("instruction") {
        None => Some(None),
        Some(value) => {
            decode_instruction(number, value, inputs[0].as_ref(), problems).map(|(instruction, template)| {
                if let Some(template) = template {
                    inputs.push(Some(template));
                }
                Some(instruction)
            })
        }
    };
    let set = fields.or("set", BTreeMap::new, problems);
    let bind = checked(&mut fields, "bind", problems, |text| match regex::Regex::new(text) {
        Ok(regex) if regex.capture_names().flatten().next().is_none() => {
            Err("`bind` has no named group, such as `(?P<task>[^/]+)`".to_string())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("`bind` is no regular expression: {error}")),
    });
    let filter = checked(&mut fields, "where", problems, |text| {
        let compiled = minijinja::Environment::new().compile_expression(text).map(|_| ());
        compiled.map_err(|error| format!("`where` is no expression: {error}"))
    });
    let take = fields.or("take", || Take::All, problems);
    fields.finish(problems)?;
    let inputs: Option<Vec<InputSpec>> = inputs.into_iter().collect();
    let inputs = inputs?;
    let recipe = SourceRecipe {
        columns: columns?,
        instruction: instruction?,
        set: set?,
        bind: bind?,
        filter: filter?,
        take: take?,
        gathers: inputs[0].gather.is_some(),
    };
    Some((recipe, inputs))
}

fn checked(
    fields: &mut Fields<'_>,
    name: &'static str,
    problems: &mut Problems,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Option<String>> {
    let Some(value) = fields.take(name) else { return Some(None) };
    let text = String::decode(value, problems)?;
    if let Err(message) = check(&text) {
        problems.at(value.span, message);
        return None;
    }
    Some(Some(text))
}

/// `path` or `from`, and `gather`.
fn decode_origin(number: usize, fields: &mut Fields<'_>, problems: &mut Problems) -> Option<InputSpec> {
    let span = fields.span();
    let gather = fields.optional::<String>("gather", problems);
    let (path, from) = (fields.take("path"), fields.take("from"));
    let role = format!("source.{number}");
    let spec = |source, span, gather| InputSpec { role, form: Form::Rows, source, gather, span };
    match (path, from) {
        (Some(value), None) => {
            let path = String::decode(value, problems)?;
            if gather?.is_some() {
                problems.at(span, "`gather` collapses an axis of a stage: it goes with `from`, not with `path`");
                return None;
            }
            if let Ok(Some(reference)) = crate::stage::Reference::parse(&path) {
                let problem = Diagnostic::at(value.span, format!("`{path}` is the name of a stage, not a path"));
                problems.push(problem.hint(format!("write `from = \"{}\"`", reference.stage())));
                return None;
            }
            Some(spec(InputSource::Path(path), value.span, None))
        }
        (None, Some(value)) => {
            let source = InputSource::decode(value, problems)?;
            if let InputSource::Path(path) = &source {
                let problem = Diagnostic::at(value.span, format!("`{path}` is no reference to a stage"));
                problems.push(problem.hint("a file is named with `path`"));
                return None;
            }
            Some(spec(source, value.span, gather?))
        }
        _ => {
            problems.at(span, "a source has either a `path` or a `from`");
            None
        }
    }
}

/// The instruction, and the template's file if it is one. A template's name without a folder is looked for beside the
/// data file.
fn decode_instruction(
    number: usize,
    value: &Value,
    origin: Option<&InputSpec>,
    problems: &mut Problems,
) -> Option<(Instruction, Option<InputSpec>)> {
    if let Some(text) = value.as_str() {
        return Some((Instruction::Literal(text.to_string()), None));
    }
    let mut fields = Fields::of(value, problems)?;
    let column = fields.optional::<String>("column", problems);
    let template = fields.take("template");
    fields.finish(problems)?;
    match (column?, template) {
        (Some(column), None) => Some((Instruction::Column(column), None)),
        (None, Some(value)) => {
            let name = String::decode(value, problems)?;
            let folder = match origin.map(|origin| &origin.source) {
                Some(InputSource::Path(path)) if !name.contains('/') => path.rsplit_once('/').map(|(folder, _)| folder),
                _ => None,
            };
            let path = folder.map_or(name.clone(), |folder| format!("{folder}/{name}"));
            let role = format!("source.{number}.template");
            let source = InputSource::Path(path);
            Some((
                Instruction::Template,
                Some(InputSpec { role, form: Form::File, source, gather: None, span: value.span }),
            ))
        }
        _ => {
            let problem = Diagnostic::at(value.span, "an instruction is a text, a column or a template");
            problems
                .push(problem.hint("write a text, `{ column = \"question\" }` or `{ template = \"instruction.j2\" }`"));
            None
        }
    }
}
