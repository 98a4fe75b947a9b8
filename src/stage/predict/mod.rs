//! The predict kind: a model answers rows, greedily.
//!
//! Knows the settings, the columns and the files; how tokens are made is the engine's.

#[cfg(feature = "candle")]
mod answer;

use super::prompt::{Template, check_rows};
use super::{Context, Form, Hints, Input, InputSource, InputSpec, Layers, Recipe, Stage};
use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::{At, Decode, Schema, Value, schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

crate::settings! {
    /// Everything that can change a byte of the output of a predict stage, besides the model and the rows.
    pub struct PredictRecipe {
        /// Most tokens of an answer.
        max_new_tokens: u32 = 128 => 1..=65_536,
        /// Most tokens of a prompt. Of a longer one the *input* is cut from its end, so that the response marker stays.
        max_prompt_tokens: u32 = 512 => 1..=1_048_576,
        /// The prompt around a row; must be the one that the model was trained with.
        template: Template = Template::default(),
        /// Texts that end an answer; they are not part of it. None in a conversation, unless they are set.
        stop: StopTexts = StopTexts(vec!["###".to_string()]),
        /// Whether white space around the answer is removed.
        strip: bool = true,
    }
}

/// The columns that a prediction adds to its rows; what they may be grouped by is checked before anything runs.
pub const COLUMNS: [&str; 4] = [crate::row::PREDICTION, "prompt_tokens", "new_tokens", "stop_reason"];

/// Texts that end an answer; none of them is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StopTexts(pub Vec<String>);

impl Decode for StopTexts {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let texts = Vec::<String>::decode(value, problems)?;
        if texts.iter().any(String::is_empty) {
            problems.at(value.span, "a stop text is empty: it would end every answer at once");
            return None;
        }
        Some(Self(texts))
    }

    fn schema() -> Schema {
        schema::list(&json!({ "type": "string", "minLength": 1 }))
    }
}

crate::form! {
    /// A model and rows → answers.
    pub(super) struct PredictForm {
        ..recipe: PredictRecipe,
        /// Who answers: a train stage, a model's folder, or a list of a model and the adapters on it.
        model: Layers,
        /// The rows to answer: a stage or a file.
        data: At<InputSource>,
        /// Rows that are generated together.
        batch_size: Option<u32> => 1..=4096,
    }
}

/// What a predict stage says → what is done, and with what.
pub(super) fn stage(form: PredictForm, stop_is_set: bool) -> Stage {
    let PredictForm { mut recipe, model, data, batch_size } = form;
    // What ends an answer in a conversation is a token, and `###` a headline.
    if recipe.template.is_chat() && !stop_is_set {
        recipe.stop.0.clear();
    }
    let data = InputSpec::new("data", Form::Rows, data);
    let inputs = model.inputs("model").into_iter().chain([data]).collect();
    let hints = Hints { batch_size, ..Hints::default() };
    Stage { hints, ..Stage::new(Recipe::Predict(recipe), inputs) }
}

/// Mistakes that would show themselves late: a folder that is no model, rows that the template cannot be filled with.
pub fn check(recipe: &PredictRecipe, inputs: &[Input]) -> Vec<Diagnostic> {
    let rows = inputs.iter().filter(|input| input.role == "data");
    let model = inputs.iter().find(|input| input.role == "model.0").map(|input| input.path.as_path());
    let problems = rows.filter_map(|input| check_rows(&recipe.template, model, input, false));
    #[cfg(feature = "candle")]
    let problems = {
        let memory = super::layers::check_memory("model", inputs, crate::engine::memory::Need::to_answer);
        problems.chain(super::layers::check("model", None, inputs)).chain(memory)
    };
    problems.collect()
}

/// Does the work: answers every row and writes `predictions.jsonl` and `summary.json`.
#[cfg(feature = "candle")]
pub fn execute(recipe: &PredictRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    answer::execute(recipe, context)
}

/// Says that the work cannot be done.
#[cfg(not(feature = "candle"))]
pub fn execute(_recipe: &PredictRecipe, _context: &Context<'_>) -> anyhow::Result<()> {
    anyhow::bail!("this titer was built without the engine (feature `candle`)")
}

#[cfg(test)]
mod tests;
