//! The predict kind: a model answers rows, or says how likely given answers are.
//!
//! Knows the settings, the columns and the files; how tokens are made is the engine's. Models behind an API have a form of
//! their own: [`ApiRecipe`].

#[cfg(feature = "candle")]
mod answer;
mod api;
#[cfg(feature = "candle")]
mod columns;
#[cfg(feature = "candle")]
mod prompts;
mod settings;

pub use api::{ApiHints, ApiRecipe, Limit, Omitted, Price, api_settings, ask, asks_an_api, check_api};
pub(super) use api::{ApiModel, Drawn, asked, read_api};
#[cfg(feature = "api")]
pub(super) use api::{calls, put_questions};
pub use settings::{
    BeamSettings, Beams, CandidateSettings, Candidates, EarlyStopping, LogProbabilities, Measure, Perplexity, Sample,
    StopTexts, Token, TooLong,
};

use super::rows::{Needed, check_rows};
use super::train::BasePrecision;
use super::{Context, Dtype, Form, Hints, Input, InputSource, InputSpec, Layers, Recipe, Stage};
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::prompt::Template;
use crate::row;
use crate::settings::{At, Bytes, Decode, Schema, Value, schema};

crate::settings! {
    /// Everything that can change a byte of the output of a predict stage, besides the model and the rows.
    pub struct PredictRecipe {
        /// Most tokens of an answer. 0: nothing is answered; for `perplexity` alone.
        max_new_tokens: u32 = 128 => 0..=65_536,
        /// Fewest tokens of an answer: before them no token ends it.
        min_new_tokens: Option<u32> = None => 0..=65_536,
        /// Most tokens of a prompt.
        max_prompt_tokens: u32 = 512 => 1..=1_048_576,
        /// What becomes of a longer prompt. By default the *input* is cut from its end, so that the response marker stays.
        too_long: Option<TooLong> = None,
        /// How the linear layers of a model are held; they are multiplied as f32. An adapter then stands beside them, as it
        /// learned where its training had the same `base_precision`, and is not merged; those below it are.
        base_precision: Option<BasePrecision> = None,
        /// The prompt around a row; must be the one that the model was trained with.
        template: Template = Template::default(),
        /// What the model's weights are held in, and goes through it, on a graphics card. By default the type that its own
        /// weights have. On the processor everything is f32.
        dtype: Option<Dtype> = None,
        /// Texts that end an answer; they are not part of it. None in a conversation, unless they are set.
        stop: StopTexts = StopTexts(vec!["###".to_string()]),
        /// Tokens that end an answer besides the model's own, by text or id; they are not part of it.
        stop_tokens: Option<Vec<Token>> = None,
        /// Whether white space around the answer is removed.
        strip: bool = true,
        /// Tokens are drawn at random; without it the likeliest is taken.
        sample: Option<Sample> = None,
        /// Seed of what is drawn; by default the manifest's.
        seed: Option<u64> = None,
        /// Several sequences go on together, and the likeliest of them is the answer.
        beams: Option<Beams> = None,
        /// Answers to every row (of `sample` or `beams`): as many rows of predictions, numbered in a column `sample`. To
        /// scorers each of them is a row.
        samples: Option<u32> = None => 1..=1024,
        /// What the logits of tokens that the prompt or the answer holds are divided by (multiplied with, where they are
        /// negative).
        repetition_penalty: Option<f64> = None => 0.01..=100.0,
        /// Length of sequences of tokens that may not occur twice in prompt and answer.
        no_repeat_ngram: Option<u32> = None => 1..=1024,
        /// Log-probabilities of the answers that are kept, as columns.
        log_probabilities: Option<LogProbabilities> = None,
        /// Answers to choose from by their likelihood: a list, or a table. The likeliest becomes the prediction, all are
        /// kept in a column `candidates`.
        candidates: Option<Candidates> = None,
        /// Whose perplexity is kept, in a column `perplexity`.
        perplexity: Option<Perplexity> = None,
    }
}

/// The columns that a prediction adds to its rows; what they may be grouped by is checked before anything runs.
pub const COLUMNS: [&str; 12] = [
    row::PREDICTION,
    "prompt_tokens",
    "new_tokens",
    "stop_reason",
    "sample",
    "log_probability",
    "mean_log_probability",
    "token_log_probabilities",
    "candidates",
    "reference_tokens",
    "reference_log_probability",
    "perplexity",
];

crate::form! {
    /// A model and rows → answers.
    pub(super) struct PredictForm {
        ..recipe: PredictRecipe,
        /// Who answers: a train stage, a model's folder, or a list of a model and the adapters on it; or a table, for a model
        /// behind an API.
        model: Local,
        /// The rows to answer: a stage or a file.
        data: At<InputSource>,
        /// Rows that are generated together.
        batch_size: Option<u32> => 1..=4096,
        /// Memory for the keys and values of rows that are generated together. By default half of what is free.
        cache_memory: Option<Bytes>,
    }
}

/// A model that titer runs itself, where one behind an API could stand.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Local(Layers);

impl Decode for Local {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        Layers::decode(value, problems).map(Self)
    }

    fn schema() -> Schema {
        match Layers::schema()["anyOf"].take() {
            serde_json::Value::Array(forms) => schema::any_of(forms.into_iter().chain([ApiModel::schema()])),
            _ => ApiModel::schema(),
        }
    }
}

/// What a predict stage says → what is done, and with what.
pub(super) fn stage(form: PredictForm, stop_is_set: bool, span: Span, problems: &mut Problems) -> Option<Stage> {
    let PredictForm { mut recipe, model, data, batch_size, cache_memory } = form;
    let before = problems.len();
    check_together(&recipe).into_iter().for_each(|(message, hint)| {
        problems.push(Diagnostic::at(span, message).hint(hint));
    });
    if problems.len() > before {
        return None;
    }
    // What ends an answer in a conversation is a token, and `###` a headline.
    if recipe.template.is_chat() && !stop_is_set {
        recipe.stop.0.clear();
    }
    // What is not drawn depends on no seed; what is said to be as it is anyway is not said.
    recipe.seed = recipe.seed.filter(|_| recipe.sample.is_some());
    recipe.too_long = recipe.too_long.filter(|too_long| *too_long != TooLong::Cut);
    recipe.samples = recipe.samples.filter(|samples| *samples > 1);
    recipe.base_precision = recipe.base_precision.filter(|precision| *precision != BasePrecision::F32);
    let data = InputSpec::new("data", Form::Rows, data);
    let inputs = model.0.inputs("model").into_iter().chain([data]).collect();
    let hints = Hints { batch_size, cache_memory, ..Hints::default() };
    Some(Stage { hints, ..Stage::new(Recipe::Predict(Box::new(recipe)), inputs) })
}

/// Settings that cannot stand together, each with what to do.
fn check_together(recipe: &PredictRecipe) -> Vec<(String, &'static str)> {
    let PredictRecipe { max_new_tokens, sample, beams, candidates, .. } = recipe;
    let mut wrong = Vec::new();
    let mut check = |is_wrong: bool, message: String, hint| {
        if is_wrong {
            wrong.push((message, hint));
        }
    };
    let (samples, least) = (recipe.samples.unwrap_or(1), recipe.min_new_tokens.unwrap_or(0));
    check(sample.is_some() && beams.is_some(), "`sample` and `beams` stand together".to_string(), "take one of them");
    check(
        samples > 1 && sample.is_none() && beams.is_none(),
        format!("`samples` is {samples}, but the likeliest answer is always the same"),
        "draw with `sample = { temperature = 1.0 }`, or search with `beams`",
    );
    if let Some(Beams(beams)) = beams {
        let message = format!("`samples` is {samples}, but there are {} beams", beams.width);
        check(samples > beams.width, message, "a search finds no more answers than it has beams");
    }
    let message = format!("`min_new_tokens` is {least}, but `max_new_tokens` is {max_new_tokens}");
    check(least > *max_new_tokens, message, "an answer cannot have both");
    let generated = recipe.log_probabilities.is_some() || sample.is_some() || beams.is_some() || samples > 1;
    check(
        candidates.is_some() && generated,
        "`candidates` stand beside settings of generated answers".to_string(),
        "nothing is generated where there are candidates: leave out `sample`, `beams`, `samples` and \
         `log_probabilities`",
    );
    check(
        *max_new_tokens == 0 && candidates.is_none() && recipe.perplexity.is_none(),
        "`max_new_tokens` is 0, and neither `candidates` nor `perplexity` is asked for".to_string(),
        "there would be nothing to do",
    );
    wrong
}

/// Mistakes that would show themselves late: a folder that is no model, a stop token that it has not, rows that the
/// template cannot be filled with or that lack what is asked of them.
pub fn check(recipe: &PredictRecipe, inputs: &[Input]) -> Vec<Diagnostic> {
    let rows = inputs.iter().filter(|input| input.role == "data");
    let candidates = recipe.candidates.as_ref().and_then(|candidates| candidates.0.column.as_deref());
    let output = (recipe.perplexity == Some(Perplexity::Output)).then_some(row::OUTPUT);
    let needed: Vec<&str> = candidates.into_iter().chain(output).collect();
    let model = inputs.iter().find(|input| input.role == "model.0").map(|input| input.path.as_path());
    let problems = rows.filter_map(|input| check_rows(&recipe.template, model, input, Needed::Columns(&needed)));
    #[cfg(feature = "candle")]
    let problems = {
        use crate::engine::memory::Need;
        let bits = recipe.base_precision.map_or(32, BasePrecision::bits);
        let memory = super::layers::check_memory("model", inputs, recipe.base_precision.is_none(), |config| {
            Need::to_answer(config).held_in(bits)
        });
        let model = super::layers::check("model", None, inputs);
        problems.chain(model).chain(memory).chain(answer::check(recipe, inputs))
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
