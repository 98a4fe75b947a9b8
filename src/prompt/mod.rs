//! How a row becomes a prompt: the settings that train and predict share, and the rendering; of conversations, [`chat`].
//!
//! Every template, the built-in ones too, is two Jinja texts: one for rows with an input, one for rows without. They see
//! the row's columns as variables. Rendering is pure text; what tokens come of it is the engine's business. Knows neither
//! stages nor the engine.

pub mod chat;

use self::chat::{Chat, ChatSettings, Dialect};
use crate::diagnostic::{Diagnostic, Problems};
use crate::row::{self, Row};
use crate::settings::{Decode, Schema, Value, ValueKind, schema};
use anyhow::Context as _;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde::{Deserialize, Serialize};

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
    /// The model's chat template.
    Chat(ChatSettings),
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
    /// Whether rows become messages.
    pub fn is_chat(&self) -> bool {
        matches!(self, Template::Chat(_))
    }
}

crate::form! {
    /// The model's chat template, with what it is told besides the row.
    struct ChatForm {
        /// What it is told.
        chat: ChatSettings,
    }
}

impl Decode for Template {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let template = match value.as_str() {
            Some("alpaca") => Template::Alpaca,
            Some("alpaca_short") => Template::AlpacaShort,
            Some("chat") => Template::Chat(ChatSettings::default()),
            Some(name) => {
                let problem = Diagnostic::at(value.span, format!("unknown template `{name}`"));
                problems.push(problem.suggest(name, ["alpaca", "alpaca_short", "chat"]));
                return None;
            }
            None => match &value.kind {
                ValueKind::Table(table) if table.get("chat").is_some() => {
                    Template::Chat(ChatForm::decode(value, problems)?.chat)
                }
                _ => Template::Own(OwnTemplate::decode(value, problems)?),
            },
        };
        // The model's own is not known yet.
        let is_known = !matches!(&template, Template::Chat(ChatSettings { text: None, .. }));
        if is_known && let Err(error) = Prompter::new(&template, &Dialect::default()) {
            problems.at(value.span, format!("the template cannot be read: {error:#}"));
            return None;
        }
        Some(template)
    }

    fn schema() -> Schema {
        let built_in = schema::words(&[
            ("alpaca", &["Stanford Alpaca's text with its preamble, and a newline after the response marker."]),
            ("alpaca_short", &["The same without the preamble."]),
            ("chat", &["The model's chat template, for rows with `messages` and for those with an instruction."]),
        ]);
        schema::any_of([built_in, OwnTemplate::schema(), ChatForm::schema()])
    }
}

/// A template, compiled: turns rows into prompts.
#[derive(Debug)]
pub enum Prompter {
    /// Two texts.
    Texts(Texts),
    /// Conversations.
    Chat(Chat),
}

impl Prompter {
    /// Compiles the template; `dialect` is what the model's files say of conversations.
    ///
    /// # Errors
    /// On a syntax error, or where a model has no chat template.
    pub fn new(template: &Template, dialect: &Dialect) -> anyhow::Result<Self> {
        let texts = match template {
            Template::Alpaca => ALPACA,
            Template::AlpacaShort => ALPACA_SHORT,
            Template::Own(own) => [own.with_input.as_str(), own.without_input.as_deref().unwrap_or(&own.with_input)],
            Template::Chat(settings) => return Chat::new(settings, dialect).map(Self::Chat),
        };
        Texts::new(texts).map(Self::Texts)
    }

    /// The prompt of a row; a row without an `input`, or with an empty one, has the template's other text.
    ///
    /// # Errors
    /// Where the template names a column that the row lacks.
    pub fn prompt(&self, row: &Row) -> anyhow::Result<String> {
        match self {
            Self::Texts(texts) => texts.prompt(row),
            Self::Chat(chat) => chat.prompt(&chat.messages(row)?),
        }
    }

    /// What a model is to say to it.
    ///
    /// # Errors
    /// If the row has no answer.
    pub fn answer(&self, row: &Row) -> anyhow::Result<String> {
        match self {
            Self::Texts(_) => {
                let answer = row::text(row, row::OUTPUT).context("the row has no `output`")?;
                Ok(answer.into_owned())
            }
            Self::Chat(chat) => {
                let parts = chat.parts(&chat.messages(row)?, false)?;
                Ok(parts.last().map(|part| part.text.clone()).unwrap_or_default())
            }
        }
    }
}

/// The Jinja texts for rows with an input, and for rows without.
#[derive(Debug)]
pub struct Texts {
    environment: Environment<'static>,
}

impl Texts {
    fn new([with_input, without_input]: [&str; 2]) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        // A prompt ends in a newline more often than not.
        environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned("with_input", with_input.to_string())?;
        environment.add_template_owned("without_input", without_input.to_string())?;
        Ok(Self { environment })
    }

    fn prompt(&self, row: &Row) -> anyhow::Result<String> {
        let has_input = row::text(row, row::INPUT).is_some_and(|input| !input.is_empty());
        let name = if has_input { "with_input" } else { "without_input" };
        let template = self.environment.get_template(name)?;
        let missing = || template.undeclared_variables(false).into_iter().find(|name| !row.contains_key(name));
        template.render(Serde(row)).map_err(|error| match missing() {
            Some(column) if error.kind() == ErrorKind::UndefinedError => {
                anyhow::anyhow!("the row has no column `{column}`, which the template names")
            }
            _ => anyhow::anyhow!("the template cannot be filled: {error:#}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Sources;
    use serde_json::json;

    fn row(value: serde_json::Value) -> Row {
        value.as_object().unwrap().clone()
    }

    fn decode(text: &str) -> Result<Template, String> {
        let mut sources = Sources::default();
        let file = sources.add("m.toml", text);
        let mut problems = Problems::default();
        let table = crate::settings::parse(text, file, &mut problems).unwrap();
        let template = Template::decode(table.as_table().unwrap().get("template").unwrap(), &mut problems);
        template.ok_or_else(|| problems.into_vec().iter().map(|problem| sources.render(problem)).collect())
    }

    #[test]
    fn the_built_in_templates_are_alpacas() {
        let with = row(json!({"instruction": "Name it.", "input": "A <b> & {{ c }}", "output": "x"}));
        let without = row(json!({"instruction": "Name it.", "input": ""}));
        let short = Template::AlpacaShort;
        let short = Prompter::new(&short, &Dialect::default()).unwrap();
        assert_eq!(
            short.prompt(&with).unwrap(),
            "### Instruction:\nName it.\n\n### Input:\nA <b> & {{ c }}\n\n### Response:\n"
        );
        assert_eq!(short.prompt(&without).unwrap(), "### Instruction:\nName it.\n\n### Response:\n");
        let long = Template::Alpaca;
        let long = Prompter::new(&long, &Dialect::default()).unwrap();
        assert_eq!(
            long.prompt(&with).unwrap(),
            "Below is an instruction that describes a task, paired with an input that provides further context. \
             Write a response that appropriately completes the request.\n\n\
             ### Instruction:\nName it.\n\n### Input:\nA <b> & {{ c }}\n\n### Response:\n"
        );
        assert_eq!(
            long.prompt(&row(json!({"instruction": "Name it.", "input": null}))).unwrap(),
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction:\nName it.\n\n### Response:\n"
        );
    }

    #[test]
    fn a_template_of_ones_own_sees_every_column() {
        let own = decode("template = { with_input = \"{{ category }}: {{ input }}\\n\" }").unwrap();
        let own = Prompter::new(&own, &Dialect::default()).unwrap();
        assert_eq!(own.prompt(&row(json!({"category": "sst2", "input": 3}))).unwrap(), "sst2: 3\n");
        let error = own.prompt(&row(json!({"input": "x"}))).unwrap_err().to_string();
        assert_eq!(error, "the row has no column `category`, which the template names");
    }

    #[test]
    fn mistakes_are_shown_at_their_place() {
        assert_eq!(decode("template = \"alpaca\"").unwrap(), Template::Alpaca);
        let near = decode("template = \"alpaca_shot\"").unwrap_err();
        assert!(near.contains("m.toml:1:12") && near.contains("did you mean `alpaca_short`?"), "{near}");
        let syntax = decode("template = { with_input = \"{{ input\" }").unwrap_err();
        assert!(syntax.contains("m.toml:1:12") && syntax.contains("the template cannot be read"), "{syntax}");
        let missing = decode("template = { without_input = \"\" }").unwrap_err();
        assert!(missing.contains("`with_input` is missing"), "{missing}");
    }

    #[test]
    fn a_template_can_neither_read_files_nor_loop_for_ever() {
        let include = decode("template = { with_input = \"{% include 'secret.txt' %}\" }").unwrap();
        assert!(Prompter::new(&include, &Dialect::default()).unwrap().prompt(&row(json!({"input": "x"}))).is_err());
        let text = "{% for i in range(9000) %}{% for j in range(9000) %}{{ i * j }}{% endfor %}{% endfor %}";
        let endless = decode(&format!("template = {{ with_input = \"{text}\" }}")).unwrap();
        let error = Prompter::new(&endless, &Dialect::default())
            .unwrap()
            .prompt(&row(json!({"input": "x"})))
            .unwrap_err()
            .to_string();
        assert!(error.contains("fuel"), "{error}");
    }
}
