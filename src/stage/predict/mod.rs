//! The predict kind: a model answers rows, greedily.
//!
//! Knows the settings, the columns and the files; how tokens are made is the engine's.

#[cfg(feature = "candle")]
mod answer;

use super::prompt::{Template, check_rows};
use super::{Context, Form, Hints, Input, Recipe, Stage, input, model_inputs};
use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::{Decode, Fields, Group, Value};
use serde::{Deserialize, Serialize};

crate::settings! {
    /// Everything that can change a byte of the output of a predict stage, besides the model and the rows.
    pub struct PredictRecipe {
        /// Most tokens of an answer.
        max_new_tokens: u32 = 128 => 1..=65_536,
        /// Most tokens of a prompt. Of a longer one the *input* is cut from its end, so that the response marker stays.
        max_prompt_tokens: u32 = 512 => 1..=1_048_576,
        /// The prompt around a row; must be the one that the model was trained with.
        template: Template = Template::default(),
        /// Texts that end an answer; they are not part of it.
        stop: StopTexts = StopTexts(vec!["###".to_string()]),
        /// Whether white space around the answer is removed.
        strip: bool = true,
    }
}

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
}

/// Reads the settings of a predict stage.
pub fn decode(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Stage> {
    let recipe = PredictRecipe::read(fields, problems);
    let batch_size = fields.optional::<u32>("batch_size", problems).and_then(|batch_size| {
        fields.within("batch_size", batch_size.unwrap_or(1), 1..=4096, problems)?;
        Some(batch_size)
    });
    let span = fields.span();
    let inputs = model_inputs(fields, "model", problems);
    if inputs.as_ref().is_some_and(Vec::is_empty) {
        problems.at(span, "`model` is missing");
    }
    let data = input(fields, "data", Form::Rows, problems);
    let mut inputs = inputs?;
    inputs.push(data?);
    let hints = Hints { batch_size: batch_size?, ..Hints::default() };
    Some(Stage { hints, ..Stage::new(Recipe::Predict(recipe?), inputs) })
}

/// Mistakes that would show themselves late: a folder that is no model, rows that the template cannot be filled with.
pub fn check(recipe: &PredictRecipe, inputs: &[Input]) -> Vec<Diagnostic> {
    let rows = inputs.iter().filter(|input| input.role == "data");
    let problems = rows.filter_map(|input| check_rows(&recipe.template, input, &[]));
    #[cfg(feature = "candle")]
    let problems = problems.chain(super::layers::check("model", None, inputs));
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
