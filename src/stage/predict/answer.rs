//! The work of a predict stage: rows → prompts → answers → files.

use super::prompts::{Question, Reader};
use super::{Beams, EarlyStopping, PredictRecipe, Token, columns};
use crate::diagnostic::Diagnostic;
use crate::engine::decoder::{Advances, Decoder};
use crate::engine::generate::{
    Answer, BeamSearch, Constraints, Request, Room, Sampling, Search, Settings, StopReason, Texts, generate,
    likelihoods,
};
use crate::engine::held::Precision;
use crate::engine::memory;
use crate::engine::model::{Adapter, HeldLinear, Model, UNCHANGED};
use crate::engine::plain::{DeviceDecoder, Plain, device};
use crate::engine::prompt::PromptEncoder;
use crate::engine::tokenizer::Tokenizer;
use crate::engine::weights::Weights;
use crate::key::Digest;
use crate::row::{self, Row};
use crate::settings::Bytes;
use crate::stage::{Answers, Context, Input, Progress, write_json};
use anyhow::{Context as _, bail};
use serde::Serialize;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

/// Rows that are generated together, unless a hint says otherwise.
const BATCH_SIZE: u32 = 32;

/// Memory for keys and values where nobody says how much, and the machine does not, either.
const CACHE_MEMORY: u64 = 4 << 30;

/// What happened, in numbers that the same recipe and inputs always give.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Rows answered.
    rows: usize,
    /// Tokens of all prompts.
    prompt_tokens: usize,
    /// Tokens of all answers.
    new_tokens: usize,
    /// Prompts that lost the end of their input, or their beginning.
    cut_prompts: usize,
    /// Answers that the model ended.
    eos: usize,
    /// Answers that a stop text or token ended.
    stop: usize,
    /// Answers that a limit ended.
    length: usize,
    /// Rows that were left out, where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<usize>,
    /// The given texts, where they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<ReferenceSummary>,
}

/// How likely the given texts are, all together.
#[derive(Debug, Serialize)]
struct ReferenceSummary {
    /// Their tokens.
    tokens: usize,
    /// Texts that lost their end, for want of room.
    cut: usize,
    /// Sum of the log-probabilities.
    log_probability: f64,
    /// Of all tokens together.
    perplexity: Option<f64>,
}

/// A model that is ready to answer.
struct Answerer<'a, D> {
    recipe: &'a PredictRecipe,
    context: &'a Context<'a>,
    tokenizer: Tokenizer,
    decoder: D,
    room: Room,
    /// What earlier work has answered.
    earlier: RefCell<Answers>,
}

/// What a row gets.
#[derive(Clone, Debug, Default)]
struct Found {
    answers: Vec<Answer>,
    /// Log-probabilities of the candidates' tokens.
    candidates: Vec<Vec<f32>>,
    /// Log-probabilities of the given text's tokens.
    reference: Vec<f32>,
}

pub(super) fn execute(recipe: &PredictRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let layers = context.layers("model");
    let base = layers.first().context("input `model.0` is missing")?;
    let mut tokenizer = Tokenizer::load(&base.path)?;
    if let Some(end) = PromptEncoder::new(&tokenizer, &recipe.template)?.end_of_answer()? {
        tokenizer.also_ends_with(end);
    }
    let paths: Vec<&Path> = layers.iter().map(|layer| layer.path.as_path()).collect();
    let stored = || Weights::open_model(&base.path).ok()?.matrix_type();
    let Some(plain) = Plain::on_card(recipe.dtype.map(super::super::layers::type_of), stored) else {
        let decoder = load(recipe, context, &paths)?;
        return answer(recipe, context, base, tokenizer, decoder, memory::available());
    };
    context.events.computes_on(device::name(&plain.device));
    let card = plain.device.clone();
    let decoder = load_on_card(recipe, context, &paths, plain)?;
    answer(recipe, context, base, tokenizer, decoder, device::free_memory(&card))
        .map_err(|error| device::advised(error, "a smaller `batch_size` or `cache_memory` takes less"))
}

/// The answers of a model that is ready; `free` is the memory that is left where it runs.
fn answer<D: Advances>(
    recipe: &PredictRecipe,
    context: &Context<'_>,
    base: &Input,
    tokenizer: Tokenizer,
    decoder: D,
    free: Option<u64>,
) -> anyhow::Result<()> {
    tokenizer.check_fits(decoder.embedding_rows()).with_context(|| format!("model `{}` cannot be used", base.name))?;
    if tokenizer.eos().is_empty() {
        context.events.warn(format!("model `{}` names no end-of-text token: only limits end its answers", base.name));
    }
    let questions = Reader::new(recipe, &tokenizer, decoder.context())?.read(context)?;
    if questions.all.is_empty() {
        context.events.warn("`data` has no row: there is nothing to answer".to_string());
    }
    let room = Room {
        batch_size: context.hints.batch_size.unwrap_or(BATCH_SIZE) as usize,
        cache_bytes: usize::try_from(context.hints.cache_memory.map_or_else(|| half_of(free), |memory| memory.0))?,
    };
    warn_of_little_room(recipe, context, &questions.all, &decoder, &room);
    let earlier = RefCell::new(context.earlier.answers());
    let answerer = Answerer { recipe, context, tokenizer, decoder, room, earlier };
    let found = answerer.find(&questions.all)?;
    let mut summary = Summary { rows: questions.all.len(), ..Summary::default() };
    summary.skipped = (recipe.too_long == Some(super::TooLong::Skip)).then_some(questions.skipped);
    let mut writer = row::Writer::create(&context.output.join("predictions.jsonl"))?;
    for (question, found) in questions.all.iter().zip(&found) {
        summary.count(recipe, question, found);
        for row in rows(recipe, question, found) {
            writer.write(&row)?;
        }
    }
    writer.finish()?;
    summary.warn(context);
    write_json(&context.output.join("summary.json"), &summary)
}

/// The model with its adapters: merged into its numbers, or, where it is held in a precision, the last beside it. What is
/// held is there for the next job that begins with the same.
fn load(recipe: &PredictRecipe, context: &Context<'_>, paths: &[&Path]) -> anyhow::Result<Decoder> {
    let Some(precision) = recipe.base_precision else { return Ok(Decoder::new(Model::load(paths)?)) };
    let (below, adapter) = apart(paths);
    Ok(Decoder::new(held(context, below, precision.into())?.with_adapter(adapter)?))
}

/// The same for a card.
fn load_on_card(
    recipe: &PredictRecipe,
    context: &Context<'_>,
    paths: &[&Path],
    plain: Plain,
) -> anyhow::Result<DeviceDecoder> {
    let Some(precision) = recipe.base_precision else {
        return DeviceDecoder::new(Model::<HeldLinear>::load_held(paths, plain.precision())?, None, plain);
    };
    let (below, adapter) = apart(paths);
    let adapter = adapter.filter(|folder| !folder.join(UNCHANGED).exists()).map(Adapter::read).transpose()?;
    DeviceDecoder::new(Model::clone(&*held(context, below, precision.into())?), adapter, plain)
}

/// What is held, and the adapter that stands beside it.
fn apart<'a, 'b>(paths: &'a [&'b Path]) -> (&'a [&'b Path], Option<&'b Path>) {
    match paths {
        [below @ .., last] if !below.is_empty() => (below, Some(*last)),
        _ => (paths, None),
    }
}

/// A model whose linear layers are held in a precision, if no earlier job left it.
fn held(context: &Context<'_>, paths: &[&Path], precision: Precision) -> anyhow::Result<Rc<Model<HeldLinear>>> {
    let (started, mut is_new) = (Instant::now(), false);
    let base = context.means.kept.get_or(|| {
        is_new = true;
        Model::load_held(paths, precision)
    })?;
    context.events.log(match is_new {
        true => format!("the model was loaded in {:.1} s", started.elapsed().as_secs_f64()),
        false => "the model was there: an earlier job loaded it".to_string(),
    });
    Ok(base)
}

impl<D: Advances> Answerer<'_, D> {
    fn find(&self, questions: &[Question]) -> anyhow::Result<Vec<Found>> {
        let mut found = vec![Found::default(); questions.len()];
        if self.recipe.candidates.is_some() {
            let texts = questions.iter().map(|question| Texts {
                prompt: &question.prompt.ids,
                continuations: question.candidates.iter().map(|(_, ids)| ids.as_slice()).collect(),
            });
            let texts: Vec<Texts<'_>> = texts.collect();
            for (found, values) in found.iter_mut().zip(self.likelihoods(&texts)?) {
                found.candidates = values;
            }
        } else if self.recipe.max_new_tokens > 0 {
            for (found, answers) in found.iter_mut().zip(self.answers(questions)?) {
                found.answers = answers;
            }
        }
        let given = questions.iter().zip(&mut found).filter_map(|(question, found)| {
            let (prompt, text) = question.reference.as_ref()?.parts();
            (!text.is_empty()).then(|| (Texts { prompt, continuations: vec![text] }, found))
        });
        let (texts, found_of_texts): (Vec<Texts<'_>>, Vec<&mut Found>) = given.unzip();
        for (found, values) in found_of_texts.into_iter().zip(self.likelihoods(&texts)?) {
            found.reference = values.into_iter().flatten().collect();
        }
        Ok(found)
    }

    fn likelihoods(&self, texts: &[Texts<'_>]) -> anyhow::Result<Vec<Vec<Vec<f32>>>> {
        let keys: Vec<Digest> = texts
            .iter()
            .map(|Texts { prompt, continuations }| {
                key_of("likelihoods", 0, [*prompt].into_iter().chain(continuations.iter().copied()))
            })
            .collect();
        self.earlier.borrow_mut().complete(&keys, |open, said| {
            let questions: Vec<Texts<'_>> = open.iter().map(|place| texts[*place].clone()).collect();
            let mut done = texts.len() - open.len();
            likelihoods(&self.decoder, &questions, self.room, |number, values| {
                said(number, values);
                done += 1;
                self.progress(done, texts.len(), "texts compared".to_string());
            })
        })
    }

    fn answers(&self, questions: &[Question]) -> anyhow::Result<Vec<Vec<Answer>>> {
        // What is not drawn does not depend on what a row is called.
        let request = |question: &'_ Question| {
            let digest = blake3::hash(row::id(&question.row).as_bytes());
            let key = u64::from_le_bytes(*digest.as_bytes().first_chunk().unwrap_or(&[0; 8]));
            if self.recipe.sample.is_some() { key } else { 0 }
        };
        let requests: Vec<Request<'_>> =
            questions.iter().map(|question| Request { prompt: &question.prompt.ids, key: request(question) }).collect();
        let stop_tokens = stop_tokens(self.recipe, &self.tokenizer)?;
        let settings = settings(self.recipe, &stop_tokens);
        let keys: Vec<Digest> =
            requests.iter().map(|request| key_of("answers", request.key, [request.prompt].into_iter())).collect();
        self.earlier.borrow_mut().complete(&keys, |open, said| {
            let open: Vec<Request<'_>> = open.iter().map(|place| requests[*place]).collect();
            let (started, mut done, mut tokens) = (Instant::now(), requests.len() - open.len(), 0);
            generate(&self.decoder, &self.tokenizer, &open, &settings, self.room, |number, answers| {
                said(number, &answers.to_vec());
                done += 1;
                tokens += answers.iter().map(|answer| answer.tokens.len()).sum::<usize>();
                let speed = tokens as f64 / started.elapsed().as_secs_f64().max(1e-3);
                self.progress(done, requests.len(), format!("{tokens} tokens, {speed:.0} tokens/s"));
            })
        })
    }

    fn progress(&self, done: usize, total: usize, note: String) {
        let (done, total) = (done as u64, total as u64);
        self.context.events.progress(Progress { done, total, unit: "rows".to_string(), note });
    }
}

/// What an answer to a row depends on besides the recipe and the model: tokens, and what its random numbers come from.
fn key_of<'a>(what: &str, random: u64, texts: impl Iterator<Item = &'a [u32]>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(what.as_bytes()).update(&random.to_le_bytes());
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        for token in text {
            hasher.update(&token.to_le_bytes());
        }
    }
    hasher.finalize().into()
}

/// The recipe as the engine has it.
#[expect(clippy::cast_possible_truncation, reason = "a few digits of a setting")]
fn settings<'a>(recipe: &'a PredictRecipe, stop_tokens: &'a [u32]) -> Settings<'a> {
    let search = match (&recipe.sample, &recipe.beams) {
        (Some(sample), _) => Search::Sample(Sampling {
            temperature: sample.temperature as f32,
            top_k: sample.top_k.map(|k| k as usize),
            top_p: sample.top_p,
            min_p: sample.min_p,
            seed: recipe.seed.unwrap_or(0),
        }),
        (None, Some(Beams(beams))) => Search::Beams(BeamSearch {
            width: beams.width as usize,
            length_penalty: beams.length_penalty,
            early_stopping: match beams.early_stopping {
                EarlyStopping::Always => crate::engine::generate::EarlyStopping::Always,
                EarlyStopping::Likely => crate::engine::generate::EarlyStopping::Likely,
                EarlyStopping::Never => crate::engine::generate::EarlyStopping::Never,
            },
        }),
        (None, None) => Search::Greedy,
    };
    Settings {
        max_new_tokens: recipe.max_new_tokens as usize,
        stop: &recipe.stop.0,
        stop_tokens,
        constraints: Constraints {
            repetition_penalty: recipe.repetition_penalty.map(|penalty| penalty as f32),
            no_repeat_ngram: recipe.no_repeat_ngram.map(|length| length as usize),
            min_new_tokens: recipe.min_new_tokens.unwrap_or(0) as usize,
        },
        search,
        answers: recipe.samples.unwrap_or(1) as usize,
        log_probabilities: recipe.log_probabilities.is_some(),
    }
}

/// Ids of the tokens that end an answer.
fn stop_tokens(recipe: &PredictRecipe, tokenizer: &Tokenizer) -> anyhow::Result<Vec<u32>> {
    let id = |token: &Token| match token {
        Token::Id(id) if (*id as usize) < tokenizer.vocab_size() => Ok(*id),
        Token::Id(id) => bail!("stop token {id} does not exist: the tokenizer has {}", tokenizer.vocab_size()),
        Token::Text(text) => tokenizer.id(text).with_context(|| {
            format!("stop token `{text}` is no token of the model: a text of several tokens belongs into `stop`")
        }),
    };
    recipe.stop_tokens.iter().flatten().map(id).collect()
}

/// Stop tokens that the model, if it is there already, does not have.
pub(super) fn check(recipe: &PredictRecipe, inputs: &[Input]) -> Vec<Diagnostic> {
    let base = inputs.iter().find(|input| input.role == "model.0" && recipe.stop_tokens.is_some());
    // A tokenizer that cannot be read is reported with its model.
    let tokenizer = base.and_then(|base| Tokenizer::load(&base.path).ok());
    let problem = tokenizer.and_then(|tokenizer| stop_tokens(recipe, &tokenizer).err());
    problem.into_iter().map(|error| Diagnostic::new(error.to_string())).collect()
}

/// The rows that become of one: one for each answer.
fn rows(recipe: &PredictRecipe, question: &Question, found: &Found) -> Vec<Row> {
    let mut row = question.row.clone();
    let prompt_tokens = question.prompt.ids.len();
    if let Some(super::Candidates(settings)) = &recipe.candidates {
        columns::choice(&mut row, settings, prompt_tokens, &question.candidates, &found.candidates);
    }
    let with_reference = |mut row: Row| {
        if question.reference.is_some() {
            columns::reference(&mut row, &found.reference);
        }
        row
    };
    if found.answers.is_empty() {
        return vec![with_reference(row)];
    }
    let answered = found.answers.iter().enumerate().map(|(number, answer)| {
        let mut row = row.clone();
        columns::answer(&mut row, recipe, prompt_tokens, number, answer);
        with_reference(row)
    });
    answered.collect()
}

/// A row whose keys and values alone take more than is set aside for all: it is answered by itself, and may need more than
/// there is.
fn warn_of_little_room<D: Advances>(
    recipe: &PredictRecipe,
    context: &Context<'_>,
    questions: &[Question],
    decoder: &D,
    room: &Room,
) {
    let longest = questions.iter().map(|question| question.prompt.ids.len()).max().unwrap_or(0);
    let beams = recipe.beams.as_ref().map_or(1, |Beams(beams)| beams.width);
    let together = beams.max(recipe.samples.unwrap_or(1)) as usize;
    let need = together * decoder.cache_bytes(longest + recipe.max_new_tokens as usize);
    if need > room.cache_bytes {
        let [need, there] = [need, room.cache_bytes].map(|bytes| Bytes(bytes as u64));
        context.events.warn(format!(
            "keys and values of one row may take {need} of memory, and {there} is set aside: rows are answered one by \
             one; fewer `max_new_tokens` or `beams` take less"
        ));
    }
}

/// Half of the memory that is free.
fn half_of(free: Option<u64>) -> u64 {
    free.map_or(CACHE_MEMORY, |free| free / 2)
}

impl Summary {
    fn count(&mut self, recipe: &PredictRecipe, question: &Question, found: &Found) {
        self.prompt_tokens += question.prompt.ids.len();
        self.cut_prompts += usize::from(question.prompt.cut);
        for answer in &found.answers {
            self.new_tokens += answer.tokens.len();
            *match answer.stop {
                StopReason::Eos => &mut self.eos,
                StopReason::Stop => &mut self.stop,
                StopReason::Length => &mut self.length,
            } += 1;
        }
        if recipe.perplexity.is_some() {
            let empty = ReferenceSummary { tokens: 0, cut: 0, log_probability: 0.0, perplexity: None };
            let reference = self.reference.get_or_insert(empty);
            reference.tokens += found.reference.len();
            reference.cut += usize::from(question.reference.as_ref().is_some_and(|reference| reference.cut));
            reference.log_probability += columns::sum(&found.reference);
            reference.perplexity = columns::perplexity(reference.log_probability, reference.tokens);
        }
    }

    fn warn(&self, context: &Context<'_>) {
        let Self { rows, cut_prompts, skipped, reference, .. } = self;
        let warn = |count: usize, what: &str| {
            if count > 0 {
                context.events.warn(format!("{count} of {} {what}", rows + skipped.unwrap_or(0)));
            }
        };
        warn(*cut_prompts, "prompts were too long and lost the end of their input");
        warn(skipped.unwrap_or(0), "rows were left out: their prompts are too long");
        warn(reference.as_ref().map_or(0, |reference| reference.cut), "texts for `perplexity` lost their end");
    }
}
