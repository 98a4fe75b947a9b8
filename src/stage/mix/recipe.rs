//! What can be set about a mix, and how it is read.

use crate::address::Address;
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::settings::{At, Decode, Fields, Group, Schema, Setting, Value, ValueKind, schema};
use crate::stage::reference::check_address;
use crate::stage::{Expression, Form, InputSource, InputSpec, Recipe, Stage};
use serde::{Deserialize, Serialize};
use serde_json::json;
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

/// Shares of rows, decided by each row's own hash: a row never changes sides between mixes. Together at most 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Share of validation rows.
    pub validation: f64,
    /// Share of test rows.
    pub test: f64,
}

crate::form! {
    /// Shares of rows, decided by each row's own hash: a row never changes sides between mixes.
    struct SplitForm {
        /// Share of validation rows.
        validation: f64 = 0.0 => 0.0..=1.0,
        /// Share of test rows.
        test: f64 = 0.0 => 0.0..=1.0,
    }
}

impl Decode for Split {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let SplitForm { validation, test } = SplitForm::decode(value, problems)?;
        if validation + test > 1.0 {
            problems.at(value.span, "`split`: validation and test together are more than 1");
            return None;
        }
        Some(Self { validation, test })
    }

    fn schema() -> Schema {
        SplitForm::schema()
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

    fn schema() -> Schema {
        let share = json!({ "type": "number", "minimum": 0, "maximum": 1, "description": "0.5: a share of them" });
        let rows = json!({ "type": "integer", "minimum": 0, "description": "20: so many rows" });
        schema::any_of([rows, share, json!({ "enum": ["all"] })])
    }
}

crate::form! {
    /// Rows of several sources, one beside the other, split into train, validation and test.
    pub(in crate::stage) struct MixForm {
        ..length: Length,
        /// Where the rows come from.
        sources: Sources,
        /// Shares of rows that are not for training; absent: all are.
        split: Option<Split>,
        /// Seed of the order of rows; by default the manifest's.
        seed: u64 = 42,
    }
}

/// What is counted of a row, and with what.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stage) struct Length {
    tokenizer: Option<At<InputSource>>,
    limit: Option<Limit>,
}

crate::form! {
    /// What is counted of a row, and with what.
    struct LengthForm {
        /// A folder or a train stage with a `tokenizer.json`, to count rows in tokens.
        tokenizer: Option<At<InputSource>>,
        /// Longest row in tokens of the tokenizer; longer ones are left out. A row's length is that of the JSON line that is
        /// written.
        max_tokens: Option<u32>,
        /// Longest row in words between white space; longer ones are left out.
        max_words: Option<u32>,
    }
}

impl Group for Length {
    fn read(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Self> {
        let LengthForm { tokenizer, max_tokens, max_words } = LengthForm::read(fields, problems)?;
        let problem = |message: &str| Diagnostic::at(fields.span(), message);
        let limit = match (max_tokens, max_words) {
            (Some(_), Some(_)) => Err(problem("`max_tokens` and `max_words` are both set: a row has one length")),
            (Some(_), None) if tokenizer.is_none() => Err(problem("`max_tokens` needs a `tokenizer`")
                .hint("name a folder with a `tokenizer.json`, or count words with `max_words`")),
            (None, _) if tokenizer.is_some() => {
                Err(problem("`tokenizer` is set but nothing is counted in tokens").hint("add `max_tokens`"))
            }
            (Some(tokens), None) => Ok(Some(Limit::Tokens(tokens))),
            (None, words) => Ok(words.map(Limit::Words)),
        };
        match limit {
            Ok(limit) => Some(Self { tokenizer, limit }),
            Err(problem) => {
                problems.push(problem);
                None
            }
        }
    }

    fn settings() -> Vec<Setting> {
        LengthForm::settings()
    }
}

crate::form! {
    /// One source of rows.
    pub(in crate::stage) struct SourceForm {
        /// A file of rows (.jsonl, .json, .csv, .tsv, each perhaps with .gz), or a glob of several.
        path: Option<At<String>>,
        /// A stage whose rows are read, instead of a path: `mix.target.test`.
        from: Option<At<InputSource>>,
        /// The axis of the stage in `from` whose instances are all read, one after the other.
        gather: Option<String>,
        /// Our columns (`instruction`, `input`, `output`, …), each with theirs; `a.b` is column `b` of the object in column `a`.
        columns: BTreeMap<String, String> = BTreeMap::new(),
        /// What the model is told to do, if not a column `instruction`.
        instruction: Option<InstructionForm>,
        /// Columns with the same value in every row.
        set: BTreeMap<String, serde_json::Value> = BTreeMap::new(),
        /// A regular expression that is matched with the file's path; its named groups become columns.
        bind: Option<Bind>,
        /// Which rows count: an expression over their columns; `$axis` is an axis' value.
        r#where: Option<Expression>,
        /// How many rows are taken, counted in the train split: a number, a share, or `"all"`.
        take: Take = Take::All,
    }
}

/// At least one source.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stage) struct Sources(Vec<Source>);

/// A source, and where its rows come from.
#[derive(Clone, Debug, PartialEq)]
struct Source {
    form: SourceForm,
    origin: At<InputSource>,
}

impl Decode for Source {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let form = SourceForm::decode(value, problems)?;
        let origin = origin(&form, value.span, problems)?;
        Some(Self { form, origin })
    }

    fn schema() -> Schema {
        SourceForm::schema()
    }
}

impl Decode for Sources {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::Array(items) if items.is_empty() => {
                problems.at(value.span, "`sources` is empty");
                None
            }
            ValueKind::Array(_) => Vec::decode(value, problems).map(Self),
            _ => {
                problems.at(value.span, format!("expected a list of sources, found {}", value.describe()));
                None
            }
        }
    }

    fn schema() -> Schema {
        schema::some(&Source::schema())
    }
}

/// An instruction as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stage) enum InstructionForm {
    /// The text itself.
    Literal(String),
    /// The column that holds it.
    Column(String),
    /// The file of a Jinja template.
    Template(At<String>),
}

crate::form! {
    /// An instruction that is not the same for every row.
    struct InstructionTable {
        /// The column that holds it.
        column: Option<String>,
        /// The file of a Jinja template that is rendered with the row's columns; a name without a folder is looked for beside
        /// the data file.
        template: Option<At<String>>,
    }
}

impl Decode for InstructionForm {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        if let Some(text) = value.as_str() {
            return Some(Self::Literal(text.to_string()));
        }
        match InstructionTable::decode(value, problems)? {
            InstructionTable { column: Some(column), template: None } => Some(Self::Column(column)),
            InstructionTable { column: None, template: Some(template) } => Some(Self::Template(template)),
            _ => {
                let problem = Diagnostic::at(value.span, "an instruction is a text, a column or a template");
                let hint = "write a text, `{ column = \"question\" }` or `{ template = \"instruction.j2\" }`";
                problems.push(problem.hint(hint));
                None
            }
        }
    }

    fn schema() -> Schema {
        let text = schema::described(String::schema(), &["The same text for every row."]);
        schema::any_of([text, InstructionTable::schema()])
    }
}

/// A regular expression with at least one named group.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stage) struct Bind(String);

impl Decode for Bind {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = String::decode(value, problems)?;
        let message = match regex::Regex::new(&text) {
            Ok(regex) if regex.capture_names().flatten().next().is_some() => return Some(Self(text)),
            Ok(_) => "`bind` has no named group, such as `(?P<task>[^/]+)`".to_string(),
            Err(error) => format!("`bind` is no regular expression: {error}"),
        };
        problems.at(value.span, message);
        None
    }

    fn schema() -> Schema {
        String::schema()
    }
}

/// What a mix stage says → what is done, and with what.
pub(in crate::stage) fn stage(form: MixForm) -> Stage {
    let (sources, inputs): (Vec<SourceRecipe>, Vec<Vec<InputSpec>>) =
        form.sources.0.into_iter().enumerate().map(|(number, source)| recipe_of(number, source)).unzip();
    let Length { tokenizer, limit } = form.length;
    let tokenizer = tokenizer.map(|source| InputSpec::new("tokenizer", Form::Tokenizer, source));
    let recipe = MixRecipe { sources, split: form.split, limit, seed: form.seed };
    let inputs = inputs.into_iter().flatten().chain(tokenizer).collect();
    Stage::new(Recipe::Mix(recipe), inputs)
}

fn recipe_of(number: usize, Source { form, origin }: Source) -> (SourceRecipe, Vec<InputSpec>) {
    let gathers = form.gather.is_some();
    let origin = InputSpec { gather: form.gather, ..InputSpec::new(format!("source.{number}"), Form::Rows, origin) };
    let (instruction, template) = match form.instruction {
        None => (None, None),
        Some(InstructionForm::Literal(text)) => (Some(Instruction::Literal(text)), None),
        Some(InstructionForm::Column(column)) => (Some(Instruction::Column(column)), None),
        Some(InstructionForm::Template(name)) => (Some(Instruction::Template), Some(template(number, name, &origin))),
    };
    let recipe = SourceRecipe {
        columns: form.columns,
        instruction,
        set: form.set,
        bind: form.bind.map(|bind| bind.0),
        filter: form.r#where.map(|filter| filter.0),
        take: form.take,
        gathers,
    };
    (recipe, [origin].into_iter().chain(template).collect())
}

/// `path` or `from`.
fn origin(form: &SourceForm, span: Span, problems: &mut Problems) -> Option<At<InputSource>> {
    let problem = match (&form.path, &form.from) {
        (Some(_), None) if form.gather.is_some() => {
            Diagnostic::at(span, "`gather` collapses an axis of a stage: it goes with `from`, not with `path`")
        }
        (Some(At { value: path, span }), None) => match crate::stage::Reference::parse(path) {
            Ok(Some(reference)) => {
                let problem = Diagnostic::at(*span, format!("`{path}` is the name of a stage, not a path"));
                problem.hint(format!("write `from = \"{}\"`", reference.stage()))
            }
            _ if Address::is_meant(path) => match check_address(path, *span) {
                Ok(()) => return Some(At { value: InputSource::Path(path.clone()), span: *span }),
                Err(problem) => problem,
            },
            _ => return Some(At { value: InputSource::Path(path.clone()), span: *span }),
        },
        (None, Some(from)) => match &from.value {
            InputSource::Path(path) => {
                let problem = Diagnostic::at(from.span, format!("`{path}` is no reference to a stage"));
                problem.hint("a file is named with `path`")
            }
            InputSource::Stage(_) | InputSource::Sibling(_) => return Some(from.clone()),
        },
        _ => Diagnostic::at(span, "a source has either a `path` or a `from`"),
    };
    problems.push(problem);
    None
}

/// The template's file. A name without a folder is looked for beside the data file.
fn template(number: usize, name: At<String>, origin: &InputSpec) -> InputSpec {
    let folder = match &origin.source {
        InputSource::Path(path) if !name.value.contains('/') && !Address::is_meant(path) => {
            path.rsplit_once('/').map(|(folder, _)| folder)
        }
        _ => None,
    };
    let path = folder.map_or(name.value.clone(), |folder| format!("{folder}/{}", name.value));
    InputSpec::new(
        format!("source.{number}.template"),
        Form::File,
        At { value: InputSource::Path(path), span: name.span },
    )
}
