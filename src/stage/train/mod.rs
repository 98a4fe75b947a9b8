//! The train kind: rows (and a base) → an adapter or a model.
//!
//! Knows settings, columns, files and progress; what a model is and how it learns is the engine's.

#[cfg(feature = "candle")]
mod checkpoint;
#[cfg(feature = "candle")]
mod diary;
#[cfg(feature = "candle")]
mod pace;
mod recipe;
#[cfg(feature = "candle")]
mod room;
#[cfg(feature = "candle")]
mod run;

pub use recipe::{
    Architecture, BasePrecision, Betas, Bias, EarlyStopping, Every, Keep, LoraSettings, LossOn, Rank, Schedule,
    Targets, TokenizerSettings, TrainRecipe, Warmup, WhenEmpty,
};

use super::rows::{Needed, check_rows};
use super::{Context, Form, Hints, Input, InputSource, InputSpec, Kind, Layers, Recipe, Stage};
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::prompt::Template;
use crate::prompt::chat::ChatSettings;
use crate::settings::{At, Decode, Schema, Seconds, Value, ValueKind, schema};

crate::form! {
    /// Rows (and a base) → an adapter or a model.
    pub(super) struct TrainForm {
        ..recipe: TrainRecipe,
        /// The rows to train on: a stage or a file; a mix brings its validation rows along. Or both as a table.
        data: DataForm,
        /// The rows to evaluate on, where they are not those of `data`.
        validation: Option<At<InputSource>>,
        /// What the training begins from: a model's folder, a train stage, or a list of a model and the adapters on it.
        base: Option<Layers>,
        /// Time between two checkpoints, from which a stopped training goes on; by default a minute, or longer where
        /// writing takes long.
        checkpoint_every: Option<Seconds>,
        /// Whether the backward pass computes each block again, instead of keeping what is inside of all: the same bytes,
        /// in less memory and about a third more time.
        checkpoint_blocks: bool = false,
    }
}

/// `data` as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DataForm {
    /// Rows to train on, with their own validation rows if they are a mix's.
    Lone(At<InputSource>),
    /// Each by itself.
    Pair(DataTable),
}

crate::form! {
    /// Rows to train on and rows to evaluate on.
    pub(super) struct DataTable {
        /// The rows to train on.
        train: At<InputSource>,
        /// The rows to evaluate on.
        validation: Option<At<InputSource>>,
    }
}

impl Decode for DataForm {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match value.kind {
            ValueKind::String(_) => At::decode(value, problems).map(Self::Lone),
            _ => DataTable::decode(value, problems).map(Self::Pair),
        }
    }

    fn schema() -> Schema {
        schema::any_of([InputSource::schema(), DataTable::schema()])
    }
}

/// What a train stage says → what is done, and with what.
pub(super) fn stage(form: TrainForm, span: Span, problems: &mut Problems) -> Option<Stage> {
    let TrainForm { recipe, data, validation, base, checkpoint_every, checkpoint_blocks } = form;
    let mut inputs = data_inputs(data, validation, problems)?;
    let base = base.map_or(Vec::new(), |layers| layers.inputs("base"));
    let recipe = check_combination(recipe, span, !base.is_empty(), inputs.len() > 1, problems)?;
    inputs.extend(base);
    let hints = Hints { checkpoint_every, checkpoint_blocks, ..Hints::default() };
    Some(Stage { hints, ..Stage::new(Recipe::Train(Box::new(recipe)), inputs) })
}

/// The rows to train on and, where there are any, those to evaluate on.
fn data_inputs(data: DataForm, validation: Option<At<InputSource>>, problems: &mut Problems) -> Option<Vec<InputSpec>> {
    let (data, validation) = match data {
        DataForm::Pair(DataTable { validation: Some(_), .. }) if validation.is_some() => {
            let span = validation?.span;
            problems.at(span, "`validation` is set twice: here and in `data`");
            return None;
        }
        DataForm::Pair(table) => (table.train, table.validation.or(validation)),
        DataForm::Lone(data) => {
            // A mix brings its own validation rows, unless one of its outputs is asked for by name.
            let implied = match &data.value {
                InputSource::Stage(reference) if reference.kind == Kind::Mix && reference.output.is_none() => {
                    Some(data.clone())
                }
                _ => None,
            };
            (data, validation.or(implied))
        }
    };
    let data = InputSpec::new("data", Form::Rows, data);
    let validation = validation.map(|source| InputSpec::new("validation", Form::ValidationRows, source));
    Some([data].into_iter().chain(validation).collect())
}

/// Settings that must or must not stand together.
fn check_combination(
    mut recipe: TrainRecipe,
    span: Span,
    has_base: bool,
    has_validation: bool,
    problems: &mut Problems,
) -> Option<TrainRecipe> {
    let before = problems.len();
    let mut problem = |message: &str, hint: &str| {
        problems.push(Diagnostic::at(span, message).hint(hint));
    };
    match (has_base, &recipe.architecture) {
        (true, Some(_)) => problem("`base` and `architecture` exclude each other", "a base brings its architecture"),
        (false, None) => problem("`base` is missing", "name a model, or give an `architecture` to begin from nothing"),
        _ => {}
    }
    match (has_base, &recipe.tokenizer) {
        (true, Some(_)) => problem("`base` and `tokenizer` exclude each other", "a base brings its tokenizer"),
        (false, None) if recipe.architecture.is_some() => {
            problem("`tokenizer` is missing", "a new model needs one: `tokenizer = { bpe = 512 }`")
        }
        _ => {}
    }
    if recipe.lora.is_some() && !has_base {
        problem("`lora` needs a `base`", "leave `lora` out to train all weights of a new model");
    }
    if recipe.base_precision.is_some_and(|precision| precision != BasePrecision::F32) && recipe.lora.is_none() {
        problem("`base_precision` needs `lora`", "weights that learn are always f32");
    }
    if recipe.learning_rate_floor.is_some() && recipe.schedule != Schedule::Cosine {
        problem("`learning_rate_floor` needs `schedule = \"cosine\"`", "the other schedules have no floor");
    }
    if recipe.validation_first.is_some() && !has_validation {
        problem("`validation_first` needs validation rows", "set `validation`, or `split` in the mix");
    }
    if recipe.when_empty == WhenEmpty::Base && !has_base {
        problem("`when_empty = \"base\"` needs a `base`", "without rows there is nothing to begin from");
    }
    if recipe.loss_on == LossOn::Assistant && !recipe.template.is_chat() {
        problem(
            "`loss_on = \"assistant\"` needs `template = \"chat\"`",
            "other templates have one answer: `loss_on = \"answer\"`",
        );
    }
    if !has_base && matches!(&recipe.template, Template::Chat(ChatSettings { text: None, .. })) {
        problem("a new model has no chat template", "give one: `template = { chat = { text = \"…\" } }`");
    }
    if recipe.early_stopping.is_some() && !has_validation {
        problem("`early_stopping` needs validation rows", "set `validation`, or `split` in the mix");
    }
    if recipe.max_steps == Some(0) || (recipe.max_steps.is_none() && recipe.epochs == 0.0) {
        problem("there is no step to train", "set `epochs` or `max_steps` above 0");
    }
    if let Some(shape) = &recipe.architecture {
        let kv_heads = shape.kv_heads.unwrap_or(shape.heads);
        if shape.hidden_size % (2 * shape.heads) != 0 {
            problem("`hidden_size` must be a multiple of twice `heads`", "rotary positions turn pairs of numbers");
        }
        if kv_heads == 0 || shape.heads % kv_heads != 0 {
            problem("`kv_heads` must divide `heads`", "each key head serves the same number of query heads");
        }
    }
    if problems.len() > before {
        return None;
    }
    // One way to say one thing, so that equal trainings have equal keys.
    if let Some(shape) = &recipe.architecture {
        recipe.max_length = recipe.max_length.min(shape.max_positions);
    }
    recipe.micro_batch_size = recipe.micro_batch_size.min(recipe.batch_size);
    recipe.packing = recipe.packing.filter(|on| *on);
    recipe.group_by_length = recipe.group_by_length.filter(|on| *on);
    recipe.base_precision = recipe.base_precision.filter(|precision| *precision != BasePrecision::F32);
    recipe.learning_rate_floor = recipe.learning_rate_floor.filter(|floor| *floor > 0.0);
    if let Some(lora) = &mut recipe.lora {
        lora.settle();
    }
    if recipe.max_steps.is_some() {
        recipe.epochs = 0.0;
    }
    Some(recipe)
}

/// Mistakes that would show themselves late: rows that cannot be rendered, a base that cannot be read, an adapter's
/// targets that it does not have.
pub fn check(recipe: &TrainRecipe, inputs: &[Input]) -> Vec<Diagnostic> {
    let rows = inputs.iter().filter(|input| input.role == "data" || input.role == "validation");
    let model = inputs.iter().find(|input| input.role == "base.0").map(|input| input.path.as_path());
    let problems = rows.filter_map(|input| check_rows(&recipe.template, model, input, Needed::Answer));
    #[cfg(feature = "candle")]
    let problems = {
        use crate::engine::memory::Need;
        let adapter = recipe.lora.as_ref().map(run::adapter_config);
        let bits = recipe.base_precision.map_or(32, BasePrecision::bits);
        let need = |config: &_| Need::to_train(config, adapter.as_ref()).held_in(bits);
        let held = recipe.base_precision.is_none() && recipe.lora.is_some();
        let memory = super::layers::check_memory("base", inputs, held, need);
        problems.chain(super::layers::check("base", adapter.as_ref(), inputs)).chain(memory)
    };
    problems.collect()
}

/// Does the work: writes `model/`, `metrics.jsonl` and `summary.json`.
#[cfg(feature = "candle")]
pub fn execute(recipe: &TrainRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    run::execute(recipe, context)
}

/// Says that the work cannot be done.
#[cfg(not(feature = "candle"))]
pub fn execute(_recipe: &TrainRecipe, _context: &Context<'_>) -> anyhow::Result<()> {
    anyhow::bail!("this titer was built without the engine (feature `candle`)")
}

#[cfg(test)]
mod tests;
