//! Conversations: how a row becomes messages, and how a model's own chat template becomes their text.
//!
//! Templates are those of transformers (`chat_template.jinja`, `tokenizer_config.json`), in a Jinja that knows what they
//! use: Python's methods of texts and tables, loop controls, `raise_exception`, `tojson` as Python writes it, and
//! `{% generation %}`. They see no clock: `strftime_now` is there only where a date is set, and those that ask for it first
//! whether it is there fall back on a date of their own.

use crate::row::{self, Row};
use anyhow::{Context as _, bail, ensure};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Column of a row that is a conversation by itself.
pub(crate) const MESSAGES: &str = "messages";
/// Instructions that one rendering may cost.
const FUEL: u64 = 10_000_000;
/// A longer template is none.
const LONGEST: usize = 1 << 20;
/// What is put around the parts of `{% generation %}`: characters of nobody's.
const SAID: [char; 2] = ['\u{F8FE1}', '\u{F8FE2}'];

crate::settings! {
    /// The chat template of the model, and what it is told besides the row.
    #[derive(Default)]
    pub struct ChatSettings {
        /// What stands first, as the system's message, where the row's own messages do not begin with one.
        system: Option<String> = None,
        /// A template instead of the model's, in Jinja.
        text: Option<String> = None,
        /// The day for templates that ask for it, as `2024-07-26`; without it they take one of their own, or fail.
        date: Option<String> = None,
        /// Further variables of the template: `{ enable_thinking = false }`.
        variables: BTreeMap<String, Value> = BTreeMap::new(),
    }
}

/// What a model's files say about conversations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dialect {
    /// Its template.
    text: Option<String>,
    /// Its special tokens by name: `bos_token`.
    special: BTreeMap<String, String>,
}

impl Dialect {
    /// Reads `chat_template.jinja`, `tokenizer_config.json` and `special_tokens_map.json` of a folder, as far as they are
    /// there.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| -> anyhow::Result<Option<String>> {
            let path = folder.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
            }
        };
        let table = |name: &str| -> anyhow::Result<Map<String, Value>> {
            let Some(text) = read(name)? else { return Ok(Map::new()) };
            serde_json::from_str(&text).with_context(|| format!("`{}` is no JSON object", folder.join(name).display()))
        };
        let (map, config) = (table("special_tokens_map.json")?, table("tokenizer_config.json")?);
        let mut special = BTreeMap::new();
        for (name, value) in map.iter().chain(&config).filter(|(name, _)| name.ends_with("_token")) {
            if let Some(token) = value.as_str().or_else(|| value.get("content")?.as_str()) {
                special.insert(name.clone(), token.to_string());
            }
        }
        let text = match read("chat_template.jinja")? {
            Some(text) => Some(text),
            None => default_of(config.get("chat_template").unwrap_or(&Value::Null))?,
        };
        Ok(Self { text, special })
    }

    /// Writes the template that was used into the folder of a model that was trained with it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, settings: &ChatSettings, folder: &Path) -> anyhow::Result<()> {
        let Some(text) = settings.text.as_ref().or(self.text.as_ref()) else { return Ok(()) };
        let path = folder.join("chat_template.jinja");
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Of special tokens alone.
    pub fn of_tokens(special: BTreeMap<String, String>) -> Self {
        Self { text: None, special }
    }
}

/// The template for conversations without tools, where there are several.
fn default_of(value: &Value) -> anyhow::Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(list) => {
            let default = list.iter().find(|entry| entry["name"] == "default");
            let text = default.and_then(|entry| entry["template"].as_str());
            Ok(Some(text.context("none of its chat templates is called `default`")?.to_string()))
        }
        other => bail!("its `chat_template` is `{other}`: expected a text"),
    }
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Message(pub(crate) Map<String, Value>);

impl Message {
    pub(crate) fn new(role: &str, content: &str) -> Self {
        Self(Map::from_iter([("role".to_string(), role.into()), ("content".to_string(), content.into())]))
    }

    pub(crate) fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn content(&self) -> Option<&str> {
        self.0.get("content").and_then(Value::as_str)
    }

    pub(crate) fn is_answer(&self) -> bool {
        self.role() == "assistant"
    }
}

/// The conversation of a row: its `messages`, else its instruction (with the input behind it) and its output. An answer at
/// the end is there if the row has one.
pub(crate) fn messages(row: &Row) -> anyhow::Result<Vec<Message>> {
    let mut messages = match row.get(MESSAGES) {
        None | Some(Value::Null) => {
            let instruction = row::text(row, row::INSTRUCTION);
            let instruction = instruction.context("the row has neither `messages` nor an `instruction`")?;
            let input = row::text(row, row::INPUT).unwrap_or_default();
            let parts = [instruction.as_ref(), input.as_ref()];
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            vec![Message::new("user", &parts.join("\n\n"))]
        }
        Some(_) => conversation(row)?,
    };
    if !messages.last().is_some_and(Message::is_answer)
        && let Some(output) = row::text(row, row::OUTPUT)
    {
        messages.push(Message::new("assistant", &output));
    }
    Ok(messages)
}

/// Puts the system's message, if there is one, before a conversation that does not begin with its own.
pub(crate) fn put_first(system: Option<&str>, messages: &mut Vec<Message>) {
    if let Some(system) = system
        && messages.first().is_none_or(|message| message.role() != "system")
    {
        messages.insert(0, Message::new("system", system));
    }
}

/// The `messages` of a row.
fn conversation(row: &Row) -> anyhow::Result<Vec<Message>> {
    let read = |list: &[Value]| list.iter().map(message).collect::<anyhow::Result<Vec<_>>>();
    let messages = match row.get(MESSAGES) {
        Some(Value::Array(list)) => read(list)?,
        // As tables of text have it.
        Some(Value::String(text)) => {
            read(&serde_json::from_str::<Vec<Value>>(text).ok().context("`messages` is a text, but no JSON list")?)?
        }
        other => bail!("`messages` is `{}`: expected a list of messages", other.unwrap_or(&Value::Null)),
    };
    ensure!(!messages.is_empty(), "`messages` is empty");
    Ok(messages)
}

fn message(value: &Value) -> anyhow::Result<Message> {
    let message = value.as_object().cloned().map(Message);
    let message =
        message.with_context(|| format!("`messages` holds `{value}`: expected a table with `role` and `content`"))?;
    ensure!(!message.role().is_empty(), "a message has no `role`");
    ensure!(message.0.contains_key("content"), "a message of `{}` has no `content`", message.role());
    Ok(message)
}

/// Fills in what a row with `messages` lacks: the last answer as its output, and, if it is `asked` for, the last question
/// as its instruction. So it can be scored like any other.
pub(crate) fn fill_in(row: &mut Row, asked: bool) -> anyhow::Result<()> {
    let lacks = |row: &Row, column: &str| row.get(column).is_none_or(Value::is_null);
    let wanted = [(row::INSTRUCTION, "user", asked), (row::OUTPUT, "assistant", true)];
    for (column, role, is_wanted) in wanted {
        if !is_wanted || lacks(row, MESSAGES) || !lacks(row, column) {
            continue;
        }
        let messages = conversation(row)?;
        let last = messages.iter().rev().find(|message| message.role() == role).and_then(Message::content);
        let text = last.with_context(|| format!("its `messages` have none of `{role}` with a text"))?;
        row.insert(column.to_string(), text.into());
    }
    Ok(())
}

/// Takes the oldest question out, with all that follows up to the next one. `false` if there is only one left.
pub fn drop_oldest(messages: &mut Vec<Message>) -> bool {
    let mut questions = (0..messages.len()).filter(|index| messages[*index].role() == "user");
    let (Some(first), Some(second)) = (questions.next(), questions.next()) else { return false };
    drop(questions);
    messages.drain(first..second);
    true
}

/// A part of a conversation's text, and whether it is the assistant's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub(crate) text: String,
    pub(crate) is_said: bool,
}

/// A chat template, compiled.
#[derive(Debug)]
pub struct Chat {
    environment: Environment<'static>,
    /// What it is told besides the messages.
    context: Map<String, Value>,
    system: Option<String>,
    /// Whether it says by itself what the assistant says.
    marks: bool,
}

impl Chat {
    pub(crate) fn new(settings: &ChatSettings, dialect: &Dialect) -> anyhow::Result<Self> {
        let text = settings.text.as_ref().or(dialect.text.as_ref());
        let text = text.context(
            "the model has no chat template; give one: `template = { chat = { text = \"…\" } }`, or use `alpaca_short`",
        )?;
        ensure!(text.len() <= LONGEST, "the chat template has more than {LONGEST} bytes");
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, format!("the chat template says: {message}")))
        });
        environment.add_filter("tojson", to_json);
        environment.add_filter("titer_said", |text: String| format!("{}{text}{}", SAID[0], SAID[1]));
        if let Some(date) = &settings.date {
            let date: jiff::civil::Date =
                date.parse().with_context(|| format!("`date` is `{date}`: expected `2024-07-26`"))?;
            environment.add_function("strftime_now", move |format: String| {
                jiff::fmt::strtime::format(&format, date).map_err(|error| {
                    Error::new(ErrorKind::InvalidOperation, format!("`strftime_now` does not know `{format}`: {error}"))
                })
            });
        }
        let (text, marks) = with_marks(text);
        environment.add_template_owned("chat", text).context("the chat template cannot be read")?;
        let mut context: Map<String, Value> =
            dialect.special.iter().map(|(name, token)| (name.clone(), token.as_str().into())).collect();
        context.insert("tools".to_string(), Value::Null);
        context.insert("documents".to_string(), Value::Null);
        context.extend(settings.variables.clone());
        Ok(Self { environment, context, system: settings.system.clone(), marks })
    }

    /// The conversation of a row, with the system's message before it.
    pub(crate) fn messages(&self, row: &Row) -> anyhow::Result<Vec<Message>> {
        let mut messages = messages(row)?;
        put_first(self.system.as_deref(), &mut messages);
        Ok(messages)
    }

    fn render(&self, messages: &[Message], add_generation_prompt: bool) -> anyhow::Result<String> {
        let mut context = self.context.clone();
        context.insert("messages".to_string(), serde_json::to_value(messages)?);
        context.insert("add_generation_prompt".to_string(), add_generation_prompt.into());
        self.environment.get_template("chat")?.render(Serde(context)).map_err(|error| {
            let about_time =
                error.kind() == ErrorKind::UnknownFunction && format!("{error:#}").contains("strftime_now");
            match (about_time, error.detail()) {
                (true, _) => anyhow::anyhow!(
                    "the chat template asks for today's date, which would make other bytes every day: set one, \
                     `template = {{ chat = {{ date = \"2024-07-26\" }} }}`"
                ),
                (_, Some(detail)) if detail.starts_with("the chat template says: ") => anyhow::anyhow!("{detail}"),
                _ => anyhow::anyhow!("the chat template cannot be filled: {error:#}"),
            }
        })
    }

    /// What a model is asked with these messages; an answer at their end is left out.
    pub(crate) fn prompt(&self, messages: &[Message]) -> anyhow::Result<String> {
        let length = messages.len() - usize::from(messages.last().is_some_and(Message::is_answer));
        let text = self.render(&messages[..length], true)?;
        Ok(if self.marks { text.replace(SAID, "") } else { text })
    }

    /// The text of a whole conversation, which ends with an answer, in parts: the last one is that answer, with what ends
    /// it. Of the earlier ones it is told which are answers if `all` are asked for.
    pub(crate) fn parts(&self, messages: &[Message], all: bool) -> anyhow::Result<Vec<Part>> {
        ensure!(
            messages.last().is_some_and(Message::is_answer),
            "the row has no answer to learn from: its last message is not the assistant's"
        );
        let whole = self.render(messages, false)?;
        if self.marks && whole.contains(SAID[0]) {
            return marked(&whole);
        }
        let mut borders = Vec::new();
        for (index, _) in messages.iter().enumerate().filter(|(_, message)| message.is_answer()) {
            let is_last = index + 1 == messages.len();
            if !all && !is_last {
                continue;
            }
            let begin = self.begin(&whole, &messages[..index])?;
            let end = if is_last { whole.len() } else { self.end(&whole, &messages[..=index])? };
            borders.push(begin..end);
        }
        let mut parts = Vec::new();
        let mut at = 0;
        for said in borders {
            ensure!(at <= said.start && said.start <= said.end, "the chat template moves messages");
            parts.push(Part { text: whole[at..said.start].to_string(), is_said: false });
            parts.push(Part { text: whole[said.clone()].to_string(), is_said: true });
            at = said.end;
        }
        Ok(parts)
    }

    /// Where the answer to these messages begins in the text of the whole conversation.
    fn begin(&self, whole: &str, before: &[Message]) -> anyhow::Result<usize> {
        for asked in [true, false] {
            let text = self.render(before, asked)?;
            if whole.starts_with(&text) {
                return Ok(text.len());
            }
        }
        bail!(
            "the chat template writes earlier messages otherwise when later ones follow: where the assistant speaks cannot \
             be told; use `loss_on = \"all\"`"
        )
    }

    /// Where the last of these messages, an answer, ends.
    fn end(&self, whole: &str, upto: &[Message]) -> anyhow::Result<usize> {
        let text = self.render(upto, false)?;
        let mut common = whole.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        // What a template writes at the end of a conversation only may begin as the next turn does.
        if common < text.len() && whole.is_char_boundary(common) {
            common = whole[..common].trim_end_matches(['<', '[', '{', '|']).len();
        }
        let content = upto.last().and_then(Message::content).unwrap_or_default().trim();
        let floor = text.rfind(content).map_or(text.len(), |at| at + content.len());
        ensure!(
            common >= floor && whole.is_char_boundary(common),
            "the chat template writes earlier answers otherwise when later ones follow: use `loss_on = \"answer\"`"
        );
        Ok(common)
    }
}

/// The parts of a text with marks around what is said.
fn marked(text: &str) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(SAID[0]) {
        let (said, after) = behind.split_once(SAID[1]).context("the chat template opens a `generation` within one")?;
        parts.push(Part { text: before.to_string(), is_said: false });
        parts.push(Part { text: said.replace(SAID, ""), is_said: true });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part { text: rest.to_string(), is_said: false });
    }
    Ok(parts)
}

/// The template with `{% generation %}` as a filter that marks what stands in it.
fn with_marks(text: &str) -> (String, bool) {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut marks) = (text, false);
    while let Some(at) = rest.find("{%") {
        let Some(length) = rest[at..].find("%}") else { break };
        let tag = &rest[at + 2..at + length];
        let word = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        out.push_str(&rest[..at + 2]);
        match word {
            "generation" => out.push_str(&tag.replace("generation", "filter titer_said")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endfilter")),
            _ => out.push_str(tag),
        }
        marks |= word == "generation";
        out.push_str("%}");
        rest = &rest[at + length + 2..];
    }
    out.push_str(rest);
    (out, marks)
}

/// JSON as Python's `json.dumps` writes it with `ensure_ascii=False`.
fn to_json(value: &minijinja::Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let invalid = |error: serde_json::Error| Error::new(ErrorKind::InvalidOperation, format!("`tojson`: {error}"));
    let json = serde_json::to_value(value).map_err(invalid)?;
    let mut out = String::new();
    write_json(&mut out, &json, indent, 0, sort_keys.unwrap_or(false));
    Ok(out)
}

fn write_json(out: &mut String, value: &Value, indent: Option<usize>, depth: usize, sort: bool) {
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                out.push_str(if number > 0 { comma } else { "" });
                line(out, depth + 1);
                write_json(out, item, indent, depth + 1, sort);
            }
            line(out, depth);
            out.push(']');
        }
        Value::Object(table) if !table.is_empty() => {
            let mut entries: Vec<(&String, &Value)> = table.iter().collect();
            if sort {
                entries.sort_by_key(|(name, _)| *name);
            }
            out.push('{');
            for (number, (name, item)) in entries.into_iter().enumerate() {
                out.push_str(if number > 0 { comma } else { "" });
                line(out, depth + 1);
                out.push_str(&json!(name).to_string());
                out.push_str(": ");
                write_json(out, item, indent, depth + 1, sort);
            }
            line(out, depth);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests;
