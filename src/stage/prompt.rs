//! How a row becomes a prompt: the settings that train and predict share, and the rendering.
//!
//! Every template, the built-in ones too, is two Jinja texts: one for rows with an input, one for rows without. They see
//! the row's columns as variables. Rendering is pure text; what tokens come of it is the engine's business.

use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::{Decode, Value};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::{Deserialize, Serialize};
use serde_json::Map;

/// Instructions that one rendering may cost; a template that needs more loops for too long.
const FUEL: u64 = 1_000_000;

/// The prompt around a row's instruction and input. The model's answer follows it directly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// Stanford Alpaca's text with its preamble, and a newline after the response marker (as in Alpaca-LoRA).
    Alpaca,
    /// The same without the preamble.
    #[default]
    AlpacaShort,
    /// The person's own.
    Own(OwnTemplate),
}

crate::settings! {
    /// A template of one's own, in Jinja; `{{ instruction }}`, `{{ input }}` and every other column are variables.
    pub struct OwnTemplate {
        /// For rows whose input is not empty.
        with_input: String,
        /// For rows without an input; absent: the same as for those with one.
        without_input: Option<String> = None,
    }
}

const ALPACA: [&str; 2] = [
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a \
     response that appropriately completes the request.\n\n\
     ### Instruction:\n{{ instruction }}\n\n### Input:\n{{ input }}\n\n### Response:\n",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n\
     ### Instruction:\n{{ instruction }}\n\n### Response:\n",
];

const ALPACA_SHORT: [&str; 2] = [
    "### Instruction:\n{{ instruction }}\n\n### Input:\n{{ input }}\n\n### Response:\n",
    "### Instruction:\n{{ instruction }}\n\n### Response:\n",
];

impl Template {
    /// The Jinja texts: for rows with an input, and for rows without.
    fn texts(&self) -> [&str; 2] {
        match self {
            Template::Alpaca => ALPACA,
            Template::AlpacaShort => ALPACA_SHORT,
            Template::Own(own) => [&own.with_input, own.without_input.as_deref().unwrap_or(&own.with_input)],
        }
    }
}

impl Decode for Template {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let template = match value.as_str() {
            Some("alpaca") => Template::Alpaca,
            Some("alpaca_short") => Template::AlpacaShort,
            Some(name) => {
                let problem = Diagnostic::at(value.span, format!("unknown template `{name}`"));
                problems.push(problem.suggest(name, ["alpaca", "alpaca_short"]));
                return None;
            }
            None => Template::Own(OwnTemplate::decode(value, problems)?),
        };
        if let Err(error) = Prompter::new(&template) {
            problems.at(value.span, format!("the template cannot be read: {error:#}"));
            return None;
        }
        Some(template)
    }
}

/// A template, compiled: turns rows into prompts.
#[derive(Debug)]
pub struct Prompter<'a> {
    environment: Environment<'a>,
}

impl<'a> Prompter<'a> {
    /// Compiles the template. Fails on a syntax error.
    pub fn new(template: &'a Template) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        // A prompt ends in a newline more often than not.
        environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        let [with_input, without_input] = template.texts();
        environment.add_template("with_input", with_input)?;
        environment.add_template("without_input", without_input)?;
        Ok(Self { environment })
    }

    /// The prompt of a row; a row without an `input`, or with an empty one, has the template's other text.
    /// Fails where the template names a column that the row lacks.
    pub fn prompt(&self, row: &Map<String, serde_json::Value>) -> anyhow::Result<String> {
        let has_input = row.get("input").is_some_and(|input| match input {
            serde_json::Value::Null => false,
            serde_json::Value::String(text) => !text.is_empty(),
            _ => true,
        });
        let name = if has_input { "with_input" } else { "without_input" };
        Ok(self.environment.get_template(name)?.render(Serde(row))?)
    }

    /// The columns that the template names, sorted.
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> =
            self.environment.templates().flat_map(|(_, template)| template.undeclared_variables(false)).collect();
        columns.sort();
        columns.dedup();
        columns
    }
}
