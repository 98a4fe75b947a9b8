//! The work of a train stage: rows and a base → examples → weights → files.

use super::checkpoint::Keeper;
use super::diary::{Diary, create_metrics};
use super::pace::Pace;
use super::room::Room;
use super::{Bias, LoraSettings, LossOn, Schedule, Targets, TokenizerSettings, TrainRecipe, Warmup, WhenEmpty};
use crate::engine::DType;
use crate::engine::held::Precision;
use crate::engine::memory;
use crate::engine::model::{self, AdapterConfig, Biases, Config, HeldLinear, Model, NewLlama, UNCHANGED};
use crate::engine::plain::{Plain, device};
use crate::engine::prompt::PromptEncoder;
use crate::engine::tokenizer::Tokenizer;
use crate::engine::train::{
    AdamW, Arithmetic, Decay, Example, Fused, Graph, LearningRate, Moment, Outcome, State, TrainConfig, Trained,
    Watcher, sequences, steps_per_epoch, train,
};
use crate::engine::weights::{Weights, write};
use crate::prompt::{Prompter, Template};
use crate::row::{self, Row};
use crate::stage::train::{Architecture, Keep};
use crate::stage::{Context, Kind, write_json};
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

pub(super) fn execute(recipe: &TrainRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let folder = context.output.join("model");
    fs::create_dir(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let rows = read(context, "data")?;
    let card = on_card(recipe, context);
    let start = Start::new(recipe, context, &rows, card.as_ref())?;
    if rows.is_empty() {
        return leave_unchanged(recipe, context, &start, &folder);
    }
    let limit = start.limit(recipe);
    let examples = encode(recipe, context, "data", &rows, &start, limit)?;
    let mut rows = read(context, "validation")?;
    rows.truncate(recipe.validation_first.map_or(usize::MAX, |first| usize::try_from(first).unwrap_or(usize::MAX)));
    let validation = encode(recipe, context, "validation", &rows, &start, limit)?;
    if validation.is_empty() && (recipe.early_stopping.is_some() || context.role("validation").next().is_some()) {
        context.events.warn("there are no validation rows: every step is done, and the last weights are kept".into());
    }
    let lesson = Lesson { examples, validation, limit };
    match card {
        Some(plain) => {
            context.events.computes_on(device::name(&plain.device));
            learn(plain, recipe, context, start, &lesson, &folder)
        }
        None => learn(Fused, recipe, context, start, &lesson, &folder),
    }
}

/// The card of this process, if it has one, for the base as it is stored.
fn on_card(recipe: &TrainRecipe, context: &Context<'_>) -> Option<Plain> {
    let usual = || {
        let stored = Weights::open_model(&context.layers("base").first()?.path).ok()?.matrix_type()?;
        // Gradients of f16 vanish.
        Some(if matches!(stored, DType::F16 | DType::BF16) { DType::BF16 } else { DType::F32 })
    };
    Plain::on_card(recipe.dtype.map(super::super::layers::type_of), usual)
}

/// What a training learns from.
struct Lesson {
    examples: Vec<Example>,
    validation: Vec<Example>,
    /// Most tokens of a row.
    limit: usize,
}

/// The training itself, by the arithmetic of a device.
fn learn<S: Arithmetic>(
    arithmetic: S,
    recipe: &TrainRecipe,
    context: &Context<'_>,
    start: Start,
    lesson: &Lesson,
    folder: &Path,
) -> anyhow::Result<()> {
    let Lesson { examples, validation, limit } = lesson;
    let learning = examples.iter().filter(|example| example.labels() > 0).count();
    let packing = recipe.packing.map(|_| *limit);
    let config = train_config(recipe, packing, sequences(examples, packing).len());

    let Start { base, tokenizer } = start;
    let weights = base.config().weights();
    let graph = match (base, &recipe.lora) {
        (Base::Learns(model), None) => Graph::whole_by(arithmetic, *model)?,
        (Base::Learns(model), Some(lora)) => Graph::adapter_by(arithmetic, &*model, adapter_config(lora), recipe.seed)?,
        (Base::Frozen(model), Some(lora)) => Graph::adapter_by(arithmetic, *model, adapter_config(lora), recipe.seed)?,
        (Base::Frozen(_), None) => bail!("a base that is frozen, and no adapter to learn"),
    };
    let graph = graph.with_checkpoints(context.hints.checkpoint_blocks);
    let trained = graph.parameters().iter().map(|parameter| parameter.var.elem_count()).sum();
    let held = graph.frozen_bytes() >> 20;
    context.events.log(format!("{weights} weights, {trained} learn; frozen linear layers take {held} MiB"));
    let learning_sequences = sequences(examples, packing);
    let room = Room {
        config: graph.config(),
        sequences: &learning_sequences,
        micro_batch: config.micro_batch_size,
        again: context.hints.checkpoint_blocks,
        trained,
    };
    let memory = if graph.device().is_cpu() { memory::available() } else { device::free_memory(graph.device()) };
    room.warning(memory).into_iter().for_each(|warning| context.events.warn(warning));
    let keeper = Keeper::new(context);
    let (state, noted) = keeper.find(&graph).map_or((None, Vec::new()), |(state, notes)| (Some(state), notes));
    let diary = Diary::new(context, config.rate.steps, Pace::new(weights, trained), &noted)?;
    let mut watcher = Companion { graph: &graph, keeper, diary };
    let outcome = train(&graph, examples, validation, &config, state, &mut watcher).map_err(|error| {
        let advice =
            "a smaller `micro_batch_size`, `checkpoint_blocks = true` or a `base_precision` of fewer bits take less";
        device::advised(error, advice)
    })?;
    watcher.diary.finish()?;
    let sizes = Sizes { weights, trained, rows: learning };
    write_summary(context, &summary(&outcome, &sizes, examples, validation))?;
    let save = |values, folder: &Path| match graph.finish(values)? {
        Trained::Adapter(adapter) => adapter.save(folder),
        Trained::Model(model) => save_whole(recipe, folder, &model, &tokenizer),
    };
    save(outcome.values, folder)?;
    let mut recent = outcome.recent.into_iter().peekable();
    for (number, folder) in checkpoints(recipe, context)? {
        if recent.peek().is_some_and(|recent| recent.step == 0) {
            let few = "the training had no more checkpoints";
            context.events.warn(format!("`checkpoint-{number}` is what it began with: {few}"));
        }
        // The beginning stands for all that was before it.
        let values = recent.next_if(|recent| recent.step > 0).or_else(|| recent.peek().cloned());
        save(values.context("a checkpoint is missing")?.values, &folder)?;
    }
    Ok(())
}

/// The folders of the checkpoints, made, each with its number.
fn checkpoints(recipe: &TrainRecipe, context: &Context<'_>) -> anyhow::Result<Vec<(u32, PathBuf)>> {
    let outputs = recipe.outputs();
    let numbered = outputs.iter().filter_map(|(output, path)| Some((Kind::checkpoint(output)?, path)));
    let make = |(number, path): (u32, &&str)| {
        let folder = context.output.join(path);
        fs::create_dir(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        Ok((number, folder))
    };
    numbered.map(make).collect()
}

/// The settings of a new adapter.
pub(super) fn adapter_config(lora: &LoraSettings) -> AdapterConfig {
    let ranks = lora.rank_pattern.iter().flatten().map(|(pattern, r)| (pattern.clone(), r.0 as usize));
    let alphas = lora.alpha_pattern.iter().flatten().map(|(pattern, alpha)| (pattern.clone(), *alpha));
    AdapterConfig {
        r: lora.r as usize,
        alpha: lora.alpha,
        dropout: lora.dropout,
        targets: match &lora.targets {
            Targets::Names(names) => model::Targets::Names(names.clone()),
            Targets::Pattern(pattern) => model::Targets::Pattern(pattern.clone()),
            Targets::AllLinear => model::Targets::AllLinear,
        },
        rslora: lora.rslora == Some(true),
        dora: lora.dora == Some(true),
        bias: match lora.bias {
            None | Some(Bias::None) => Biases::None,
            Some(Bias::All) => Biases::All,
            Some(Bias::LoraOnly) => Biases::LoraOnly,
        },
        ranks: ranks.collect(),
        alphas: alphas.collect(),
        modules_to_save: lora.modules_to_save.clone().unwrap_or_default(),
    }
}

/// What a training begins with.
struct Start {
    base: Base,
    tokenizer: Tokenizer,
}

/// The model that a training begins with.
enum Base {
    /// As numbers.
    Learns(Box<Model>),
    /// As it is held under an adapter.
    Frozen(Box<Model<HeldLinear>>),
}

impl Base {
    fn load(layers: &[&Path], recipe: &TrainRecipe, card: Option<&Plain>) -> anyhow::Result<Self> {
        // Weights that learn are f32.
        let of_card = card.filter(|_| recipe.lora.is_some()).map(Plain::precision);
        match recipe.base_precision.map(Precision::from).or(of_card) {
            None | Some(Precision::F32) => Ok(Self::Learns(Box::new(Model::load(layers)?))),
            Some(precision) => Ok(Self::Frozen(Box::new(Model::load_held(layers, precision)?))),
        }
    }

    fn config(&self) -> &Config {
        match self {
            Self::Learns(model) => &model.config,
            Self::Frozen(model) => &model.config,
        }
    }

    fn check_ids(&self, ids: &[u32]) -> anyhow::Result<()> {
        match self {
            Self::Learns(model) => model.check_ids(ids),
            Self::Frozen(model) => model.check_ids(ids),
        }
    }
}

impl Start {
    fn new(
        recipe: &TrainRecipe,
        context: &Context<'_>,
        rows: &[PlacedRow],
        card: Option<&Plain>,
    ) -> anyhow::Result<Self> {
        let layers = context.layers("base");
        let (base, tokenizer) = match (layers.first(), &recipe.architecture, &recipe.tokenizer) {
            (Some(base), ..) => {
                let tokenizer = Tokenizer::load(&base.path)?;
                let paths: Vec<&Path> = layers.iter().map(|layer| layer.path.as_path()).collect();
                (Base::load(&paths, recipe, card)?, tokenizer)
            }
            (None, Some(architecture), Some(settings)) => {
                ensure!(!rows.is_empty(), "there are no rows to train a tokenizer and a model on");
                let tokenizer = train_tokenizer(recipe, settings, rows)?;
                let model = Model::random(&new_llama(architecture).config(&tokenizer)?, recipe.seed)?;
                (Base::Learns(Box::new(model)), tokenizer)
            }
            _ => bail!("input `base.0` is missing"),
        };
        tokenizer.check_fits(base.config().shape.vocab_size)?;
        if tokenizer.eos().is_empty() {
            context.events.warn("the tokenizer has no end-of-text token: the model will not learn to stop".into());
        }
        Ok(Self { base, tokenizer })
    }

    /// Most tokens of a row.
    fn limit(&self, recipe: &TrainRecipe) -> usize {
        (recipe.max_length as usize).min(self.base.config().shape.max_positions)
    }
}

/// A row with the file and line that it comes from.
struct PlacedRow {
    row: Row,
    place: String,
}

fn read(context: &Context<'_>, role: &str) -> anyhow::Result<Vec<PlacedRow>> {
    let mut rows = Vec::new();
    for input in context.role(role) {
        for item in row::read(&input.path, &input.name)? {
            let (line, row) = item?;
            rows.push(PlacedRow { row, place: format!("{}:{line}", input.name) });
        }
    }
    Ok(rows)
}

/// Rows as tokens; says how many were cut, and how many have nothing to learn.
fn encode(
    recipe: &TrainRecipe,
    context: &Context<'_>,
    role: &str,
    rows: &[PlacedRow],
    start: &Start,
    limit: usize,
) -> anyhow::Result<Vec<Example>> {
    let encoder = PromptEncoder::new(&start.tokenizer, &recipe.template)?;
    let (mut cut, mut empty) = (0, 0);
    let mut examples = Vec::with_capacity(rows.len());
    for PlacedRow { row, place } in rows {
        let example = match recipe.loss_on {
            LossOn::Assistant => encoder.conversation(row, limit),
            LossOn::Answer | LossOn::All => encoder.example(row, limit),
        };
        let example = example.with_context(|| place.clone())?;
        start.base.check_ids(&example.ids).with_context(|| place.clone())?;
        cut += usize::from(example.cut);
        let counted = match recipe.loss_on {
            LossOn::All => iter::once(0..example.ids.len()).collect(),
            LossOn::Answer => iter::once(example.prompt_len..example.ids.len()).collect(),
            LossOn::Assistant => example.answers,
        };
        let example = Example { counted, ids: example.ids };
        empty += usize::from(example.labels() == 0);
        examples.push(example);
    }
    if cut > 0 {
        context
            .events
            .warn(format!("{cut} of {} rows of `{role}` were longer than {limit} tokens and cut", rows.len()));
    }
    if empty > 0 {
        context.events.warn(format!("{empty} of {} rows of `{role}` have no token to learn", rows.len()));
    }
    Ok(examples)
}

fn train_tokenizer(
    recipe: &TrainRecipe,
    settings: &TokenizerSettings,
    rows: &[PlacedRow],
) -> anyhow::Result<Tokenizer> {
    // Its special tokens are what they will be.
    let prompter = Prompter::new(&recipe.template, &Tokenizer::dialect_of_new())?;
    let mut texts = Vec::with_capacity(2 * rows.len());
    for PlacedRow { row, place } in rows {
        texts.push(prompter.prompt(row).with_context(|| place.clone())?);
        texts.extend(row.get(row::OUTPUT).and_then(Value::as_str).map(String::from));
    }
    Tokenizer::train_bpe(texts.iter(), settings.bpe as usize)
}

fn new_llama(architecture: &Architecture) -> NewLlama {
    NewLlama {
        hidden_size: architecture.hidden_size as usize,
        layers: architecture.layers as usize,
        heads: architecture.heads as usize,
        kv_heads: architecture.kv_heads.unwrap_or(architecture.heads) as usize,
        intermediate_size: architecture.intermediate_size as usize,
        max_positions: architecture.max_positions as usize,
        rope_theta: architecture.rope_theta,
        norm_eps: architecture.norm_eps,
        tie_embeddings: architecture.tie_embeddings,
        initializer_range: architecture.initializer_range,
    }
}

/// The recipe in steps, for so many sequences.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]
fn train_config(recipe: &TrainRecipe, packing: Option<usize>, sequences: usize) -> TrainConfig {
    let per_epoch = steps_per_epoch(sequences, recipe.batch_size as usize) as f64;
    let steps = recipe.max_steps.unwrap_or_else(|| ((recipe.epochs * per_epoch).ceil() as u64).max(1));
    let warmup = match &recipe.warmup {
        Warmup::Steps(steps) => *steps,
        Warmup::Ratio(ratio) => (ratio * steps as f64).ceil() as u64,
        Warmup::Every(every) => every.steps(per_epoch),
    };
    let decay = match recipe.schedule {
        Schedule::Linear => Decay::Linear,
        Schedule::Cosine => Decay::Cosine { floor: recipe.learning_rate_floor.unwrap_or(0.0) },
        Schedule::Constant => Decay::Constant,
    };
    TrainConfig {
        batch_size: recipe.batch_size as usize,
        micro_batch_size: recipe.micro_batch_size as usize,
        packing,
        group_by_length: recipe.group_by_length == Some(true),
        rate: LearningRate { peak: recipe.learning_rate, warmup, steps, decay },
        adam: AdamW { betas: (recipe.betas.0, recipe.betas.1), eps: recipe.eps, weight_decay: recipe.weight_decay },
        max_grad_norm: recipe.max_grad_norm,
        seed: recipe.seed,
        evaluate_every: recipe.evaluate_every.steps(per_epoch),
        patience: recipe.early_stopping.as_ref().map(|stopping| stopping.patience),
        keep_best: recipe.keep == Keep::Best,
        keep_last: recipe.checkpoints.unwrap_or(0) as usize,
    }
}

/// Goes along with a training.
struct Companion<'a, S: Arithmetic> {
    graph: &'a Graph<S>,
    keeper: Keeper<'a>,
    diary: Diary<'a>,
}

impl<S: Arithmetic> Watcher for Companion<'_, S> {
    fn saw(&mut self, moment: &Moment) -> anyhow::Result<()> {
        self.diary.note(moment)
    }

    fn between(&mut self, state: &State) -> anyhow::Result<()> {
        self.keeper.between(self.graph, state, &mut self.diary)
    }
}

/// How big things are.
struct Sizes {
    weights: usize,
    trained: usize,
    rows: usize,
}

fn summary(outcome: &Outcome, sizes: &Sizes, examples: &[Example], validation: &[Example]) -> Value {
    let mut summary = json!({
        "rows": sizes.rows,
        "validation_rows": validation.len(),
        "tokens": examples.iter().map(|example| example.ids.len()).sum::<usize>(),
        "labels": examples.iter().map(Example::labels).sum::<usize>(),
        "weights": sizes.weights,
        "trained_weights": sizes.trained,
        "steps": outcome.steps,
        "kept_step": outcome.kept_step,
        "stopped_early": outcome.stopped_early,
        "best_validation_loss": outcome.best.map(|(loss, _)| loss),
        "best_step": outcome.best.map(|(_, step)| step),
    });
    if !outcome.recent.is_empty() {
        summary["checkpoint_steps"] = outcome.recent.iter().map(|recent| recent.step).collect();
    }
    summary
}

fn write_summary(context: &Context<'_>, summary: &Value) -> anyhow::Result<()> {
    write_json(&context.output.join("summary.json"), summary)
}

/// No rows: the result is the base.
fn leave_unchanged(recipe: &TrainRecipe, context: &Context<'_>, start: &Start, folder: &Path) -> anyhow::Result<()> {
    ensure!(
        recipe.when_empty == WhenEmpty::Base,
        "there are no rows to train on; with `when_empty = \"base\"` the result would be the base as it is"
    );
    create_metrics(context)?;
    write_summary(context, &json!({ "rows": 0, "steps": 0 }))?;
    let beside = checkpoints(recipe, context)?;
    for folder in beside.iter().map(|(_, folder)| folder.as_path()).chain([folder]) {
        match (recipe.is_whole(), &start.base) {
            (true, Base::Learns(model)) => save_whole(recipe, folder, model, &start.tokenizer)?,
            _ => write_json(&folder.join(UNCHANGED), &json!({ "reason": "there were no rows to train on" }))?,
        }
    }
    Ok(())
}

/// Writes a model of its own in HF layout.
fn save_whole(recipe: &TrainRecipe, folder: &Path, model: &Model, tokenizer: &Tokenizer) -> anyhow::Result<()> {
    tokenizer.save(folder)?;
    if let Template::Chat(settings) = &recipe.template {
        tokenizer.dialect().save(settings, folder)?;
    }
    write_json(&folder.join("config.json"), &model.config.to_json())?;
    let generation = json!({
        "bos_token_id": tokenizer.bos(),
        "eos_token_id": tokenizer.eos().first(),
        "pad_token_id": tokenizer.pad(),
    });
    write_json(&folder.join("generation_config.json"), &generation)?;
    write(&folder.join("model.safetensors"), &model.tensors())
}

#[cfg(test)]
mod tests;
