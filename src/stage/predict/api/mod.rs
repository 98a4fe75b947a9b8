//! A prediction by a model behind an OpenAI-compatible API:
//!
//! ```toml
//! [predict.answers]
//! data  = "mix.exam"
//! model = { api = "https://api.openai.com/v1", model = "gpt-4o-mini", key = "{env:OPENAI_API_KEY}" }
//! ```
//!
//! A row becomes messages: its own `messages` as they are, or its instruction (with the input behind it) as the user's; with
//! a `template` of texts, that text is the user's message. Each answer is asked for in a call of its own. Whatever is
//! asked once in a cache is in its ledger ([`crate::api`]) and never asked again, be the stage forced or audited.

#[cfg(any(feature = "api", test))]
mod body;
mod model;
mod question;
#[cfg(feature = "api")]
mod work;

pub(in crate::stage) use model::ApiModel;
pub use model::{ApiHints, Limit, Omitted, Price};
#[cfg(feature = "api")]
pub(in crate::stage) use work::{calls, put_questions};

use super::{PredictForm, Sample, StopTexts};
use crate::diagnostic::{Diagnostic, Problems};
use crate::prompt::Template;
use crate::prompt::chat::ChatSettings;
use crate::settings::{At, Fields, Group as _, Setting, Table};
use crate::stage::rows::check_each;
use crate::stage::{Context, Form, Hints, Input, InputSource, InputSpec, Recipe, Stage};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// The variable of a worker's environment that holds the key.
const KEY: &str = "TITER_API_KEY";

/// Everything that can change a byte of the answers of a model behind an API, besides the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiRecipe {
    /// The API's address, without the slash at its end.
    pub api: String,
    /// What it calls the model.
    pub model: String,
    /// Most tokens of an answer.
    pub max_new_tokens: u32,
    /// What the API calls that.
    pub limit: Limit,
    /// How a row becomes messages.
    pub template: Template,
    /// What stands first, as the system's message.
    pub system: Option<String>,
    /// Texts that end an answer.
    pub stop: StopTexts,
    /// Whether white space around the answer is removed.
    pub strip: bool,
    /// How tokens are drawn; without it the likeliest is taken.
    pub sample: Option<Sample>,
    /// Seed of what is drawn.
    pub seed: Option<u64>,
    /// Answers to every row.
    pub samples: Option<u32>,
    /// Further parameters.
    pub body: BTreeMap<String, Json>,
    /// Parameters that are not sent.
    pub omit: Vec<Omitted>,
}

impl ApiRecipe {
    /// Version of what is asked and how the replies are read. Part of the key of every such stage.
    pub const VERSION: u32 = 1;
}

crate::form! {
    /// A model behind an API and rows → answers.
    struct ApiForm {
        /// Who answers.
        model: At<ApiModel>,
        /// The rows to answer: a stage or a file.
        data: At<InputSource>,
        /// Most tokens of an answer.
        max_new_tokens: u32 = 128 => 1..=1_048_576,
        /// How a row becomes messages. By default its `messages` as they are, else its instruction and input as the user's.
        template: Template = Template::Chat(ChatSettings::default()),
        /// By an API: what stands first, as the system's message, where the row's own messages do not begin with one.
        system: Option<String> = None,
        /// Texts that end an answer; they are not part of it.
        stop: StopTexts = StopTexts(Vec::new()),
        /// Whether white space around the answer is removed.
        strip: bool = true,
        /// Tokens are drawn at random; without it the likeliest is asked for (`temperature` 0).
        sample: Option<Sample> = None,
        /// Seed of what is drawn, if the API knows seeds; of a row's further answers the numbers that follow.
        seed: Option<u64> = None,
        /// Answers to every row (of `sample`), each asked for by itself.
        samples: Option<u32> = None => 1..=1024,
    }
}

/// Whether the table of a predict stage names a model behind an API.
pub fn asks_an_api(table: &Table) -> bool {
    table.get("model").and_then(|model| model.as_table()).is_some()
}

/// What such a stage may say.
pub fn api_settings() -> Vec<Setting> {
    ApiForm::settings()
}

/// Reads a stage whose model is behind an API.
pub(in crate::stage) fn read_api(fields: &mut Fields<'_>, table: &Table, problems: &mut Problems) -> Option<Stage> {
    let form = ApiForm::read(fields, problems);
    let known: Vec<&str> = ApiForm::settings().iter().map(|setting| setting.name).collect();
    let local = PredictForm::settings().into_iter().map(|setting| setting.name).filter(|name| !known.contains(name));
    for name in local.filter(|name| table.get(name).is_some()) {
        let message = format!("`{name}` is for models that titer runs itself");
        fields.refuse(name, message, "an API is not asked for that: leave it out", problems);
    }
    stage(form?, problems)
}

fn stage(form: ApiForm, problems: &mut Problems) -> Option<Stage> {
    let ApiForm { model, data, max_new_tokens, mut template, mut system, .. } = form;
    let span = model.span;
    let before = problems.len();
    let mut wrong = Vec::new();
    if let Template::Chat(chat) = &mut template {
        if chat.text.is_some() || chat.date.is_some() || !chat.variables.is_empty() {
            let message = "the API has a chat template of its own, and sees no other".to_string();
            wrong.push((message, "leave `text`, `date` and `variables` out of `template.chat`".to_string()));
        }
        let own = chat.system.take();
        if own.is_some() && system.is_some() {
            let message = "`system` stands there twice".to_string();
            wrong.push((message, "leave it out of `template.chat`".to_string()));
        }
        system = system.or(own);
    }
    wrong.into_iter().for_each(|(message, hint)| problems.push(Diagnostic::at(span, message).hint(hint)));
    let drawn = Drawn { sample: form.sample, seed: form.seed, samples: form.samples };
    let (asked, hints) = asked(model, max_new_tokens, drawn, problems)?;
    let recipe = ApiRecipe { template, system, stop: form.stop, strip: form.strip, ..asked };
    let inputs = vec![InputSpec::new("data", Form::Rows, data)];
    (problems.len() == before).then_some(Stage { hints, ..Stage::new(Recipe::Api(recipe), inputs) })
}

/// How answers are drawn.
#[derive(Debug)]
pub(in crate::stage) struct Drawn {
    pub(in crate::stage) sample: Option<Sample>,
    pub(in crate::stage) seed: Option<u64>,
    pub(in crate::stage) samples: Option<u32>,
}

/// Who is asked, with what parameters and how, whatever the question is.
pub(in crate::stage) fn asked(
    model: At<ApiModel>,
    max_new_tokens: u32,
    drawn: Drawn,
    problems: &mut Problems,
) -> Option<(ApiRecipe, Hints)> {
    let (before, span) = (problems.len(), model.span);
    let mut wrong = model.value.problems();
    let samples = drawn.samples.filter(|samples| *samples > 1);
    if let (Some(samples), None) = (samples, &drawn.sample) {
        let message = format!("`samples` is {samples}, but the likeliest answer is always the same");
        wrong.push((message, "draw with `sample = { temperature = 1.0 }`".to_string()));
    }
    wrong.into_iter().for_each(|(message, hint)| problems.push(Diagnostic::at(span, message).hint(hint)));
    let ApiModel { hints, api, model, key, body, mut omit, limit } = model.value;
    omit.sort_by_key(|omitted| *omitted as u8);
    omit.dedup();
    let seed = drawn.seed.filter(|_| drawn.sample.is_some() && !omit.contains(&Omitted::Seed));
    let (template, system, stop) = (Template::Chat(ChatSettings::default()), None, StopTexts(Vec::new()));
    let (api, sample, strip) = (api.0, drawn.sample, true);
    let recipe = ApiRecipe {
        api,
        model,
        max_new_tokens,
        limit,
        template,
        system,
        stop,
        strip,
        sample,
        seed,
        samples,
        body,
        omit,
    };
    let secrets = key.into_iter().map(|key| (KEY.to_string(), key.0)).collect();
    (problems.len() == before).then_some((recipe, Hints { secrets, api: Some(hints), ..Hints::default() }))
}

/// The first row of a file that cannot be read, or cannot become messages.
pub fn check_api(recipe: &ApiRecipe, inputs: &[Input]) -> Vec<Diagnostic> {
    let rows = inputs.iter().filter(|input| input.role == "data");
    rows.filter_map(|input| check_rows(recipe, input)).collect()
}

fn check_rows(recipe: &ApiRecipe, input: &Input) -> Option<Diagnostic> {
    let asker = match question::Asker::new(recipe) {
        Ok(asker) => asker,
        Err(error) => return Some(Diagnostic::new(format!("the template cannot be used: {error:#}"))),
    };
    check_each(input, |row| asker.messages(row).map(drop)).err()
}

/// Does the work: asks for every row and writes `predictions.jsonl` and `summary.json`.
#[cfg(feature = "api")]
pub fn ask(recipe: &ApiRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    work::execute(recipe, context)
}

/// Says that the work cannot be done.
#[cfg(not(feature = "api"))]
pub fn ask(_recipe: &ApiRecipe, _context: &Context<'_>) -> anyhow::Result<()> {
    anyhow::bail!("this titer was built without the network (feature `api`)")
}

#[cfg(test)]
mod tests;
