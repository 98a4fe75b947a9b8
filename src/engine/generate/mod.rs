//! Answers to prompts: which sequences advance together, which token comes next, when an answer ends; and how likely given
//! answers are.
//!
//! Prompts are taken in order of their length, as many at a time as there is room for; a finished answer leaves its place
//! to the next prompt at once. None of it can be seen in the answers: see [`decoder`](super::decoder). Sequences that
//! begin with the same prompt (samples, beams, candidates) share what it puts into the cache.

mod beam;
mod ending;
mod likelihood;
mod scores;

pub use beam::{BeamSearch, EarlyStopping};
pub use likelihood::{Texts, likelihoods};
pub use scores::{Constraints, Sampling};

use super::decoder::{Advance, Advances, log_probability};
use super::tokenizer::Tokenizer;
use crate::random::Random;
use beam::Beams;
use ending::Endings;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Tokens of prompts that are read in one step, besides one of every sequence: bounds the memory of a step.
const STEP_TOKENS: usize = 4096;

/// What is wrong with a model whose logits are no numbers.
const NO_NUMBER: &str =
    "the model's output is not a number: its weights hold infinite or undefined values, or overflow";

/// How the next token is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Search {
    /// The likeliest.
    Greedy,
    /// Drawn at random.
    Sample(Sampling),
    /// The likeliest of several sequences that go on together.
    Beams(BeamSearch),
}

/// How answers are made.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// Texts that end an answer.
    pub stop: &'a [String],
    /// Tokens that end an answer, besides the end-of-text tokens.
    pub stop_tokens: &'a [u32],
    /// What no answer may do.
    pub constraints: Constraints,
    /// How the next token is found.
    pub search: Search,
    /// Answers to every prompt.
    pub answers: usize,
    /// Whether answers come with the log-probabilities of their tokens.
    pub log_probabilities: bool,
}

impl Settings<'_> {
    /// One answer, of the likeliest tokens.
    pub const GREEDY: Settings<'static> = Settings {
        max_new_tokens: 128,
        stop: &[],
        stop_tokens: &[],
        constraints: Constraints { repetition_penalty: None, no_repeat_ngram: None, min_new_tokens: 0 },
        search: Search::Greedy,
        answers: 1,
        log_probabilities: false,
    };

    /// Sequences of one prompt.
    fn lanes(&self) -> usize {
        match self.search {
            Search::Beams(search) => search.width,
            Search::Greedy | Search::Sample(_) => self.answers,
        }
    }
}

/// How much is done together. Cannot be seen in the answers.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Most sequences that advance together; those of one prompt always do.
    pub batch_size: usize,
    /// Most bytes of keys and values, unless one prompt alone needs more.
    pub cache_bytes: usize,
}

/// A prompt to answer.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Not empty, within the decoder's context and vocabulary.
    pub prompt: &'a [u32],
    /// What tells its random numbers from those of others.
    pub key: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model said so, by its end-of-text token.
    Eos,
    /// A stop text appeared, or a stop token.
    Stop,
    /// There was no room for more: the limit of tokens, or the model's context.
    Length,
}

impl StopReason {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            StopReason::Eos => "eos",
            StopReason::Stop => "stop",
            StopReason::Length => "length",
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Its text, up to the stop text if one appeared.
    pub text: String,
    /// Its tokens, those of the stop text among them, without the end-of-text token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
    /// Log-probabilities of its tokens and of the token that ended it, as the model has them before anything is changed
    /// by constraints or drawing; empty unless asked for.
    pub log_probabilities: Vec<f32>,
}

/// What all groups have in common.
#[derive(Debug)]
struct Job<'a, D> {
    decoder: &'a D,
    endings: Endings<'a>,
    settings: &'a Settings<'a>,
}

impl<D: Advances> Job<'_, D> {
    /// Most tokens of an answer to a prompt: the last one need not fit into the context.
    fn most(&self, prompt: &[u32]) -> usize {
        self.settings.max_new_tokens.min(self.decoder.context() + 1 - prompt.len())
    }

    /// Whether a prompt can join those that are being answered.
    fn has_room(&self, room: Room, groups: &[Group<'_, D::Cache>], request: Request<'_>) -> bool {
        let lanes = (groups.len() + 1) * self.settings.lanes();
        let bytes = || groups.iter().map(|group| self.cache_bytes(group.request.prompt)).sum::<usize>();
        groups.is_empty()
            || (lanes <= room.batch_size && bytes() + self.cache_bytes(request.prompt) <= room.cache_bytes)
    }

    /// Advances every sequence, by one token or by as much of its prompt as the step has room for. Returns the answers to
    /// each prompt that were finished by it.
    fn step(&self, groups: &mut [Group<'_, D::Cache>]) -> anyhow::Result<Vec<Option<Vec<Answer>>>> {
        let mut left = STEP_TOKENS;
        let mut pieces: Vec<(&mut D::Cache, Vec<u32>)> = Vec::new();
        for lane in groups.iter_mut().flat_map(|group| &mut group.lanes) {
            let count = lane.unseen.len().min(left.max(1));
            left = left.saturating_sub(count);
            pieces.push((&mut lane.cache, lane.unseen.drain(..count).collect()));
        }
        let mut advances: Vec<Advance<'_, D::Cache>> =
            pieces.iter_mut().map(|(cache, tokens)| Advance { cache: &mut **cache, tokens }).collect();
        let logits = self.decoder.advance(&mut advances)?;
        let mut rest = logits.as_slice();
        let mut work = Vec::with_capacity(groups.len());
        for group in groups {
            let (own, tail) = rest.split_at(group.lanes.len() * self.decoder.vocab_size());
            rest = tail;
            work.push((group, own));
        }
        work.into_par_iter().map(|(group, logits)| group.step(self, logits)).collect()
    }

    /// Bytes of keys and values that a prompt can come to need: its own once, and of every sequence its answer, whose
    /// first page may be a copy of the prompt's last.
    fn cache_bytes(&self, prompt: &[u32]) -> usize {
        let own = self.decoder.cache_bytes(self.most(prompt)) + self.decoder.cache_bytes(1);
        self.decoder.cache_bytes(prompt.len()) + self.settings.lanes() * own
    }

    /// The token that follows.
    fn choose(&self, request: Request<'_>, lane: &Lane<D::Cache>, logits: &[f32]) -> anyhow::Result<u32> {
        // Looked at before anything is forbidden, so that broken weights are not taken for too many rules.
        let likeliest = scores::greedy(logits)?;
        let constraints = &self.settings.constraints;
        let mut constrained = None;
        if constraints.bind(lane.tokens.len()) {
            let scores = constrained.insert(logits.to_vec());
            constraints.apply(scores, request.prompt, &lane.tokens, self.endings.all_tokens())?;
        }
        match (self.settings.search, constrained) {
            (Search::Sample(sampling), constrained) => {
                let random = Random::new(sampling.seed, "sample").part(request.key).part(lane.number as u64);
                sampling.draw(constrained.as_deref().unwrap_or(logits), random.uniform(lane.tokens.len() as u64))
            }
            (_, Some(scores)) => scores::greedy(&scores),
            (_, None) => Ok(likeliest),
        }
    }

    /// A token's log-probability, where they are asked for.
    fn log_probability(&self, logits: &[f32], token: u32) -> Option<f32> {
        self.settings.log_probabilities.then(|| log_probability(logits, token))
    }
}

/// A sequence that is being continued.
#[derive(Clone, Debug, Default)]
struct Lane<C> {
    cache: C,
    /// What the model has not seen yet: the prompt at first, then the token chosen last.
    unseen: Vec<u32>,
    /// The answer so far.
    tokens: Vec<u32>,
    log_probabilities: Vec<f32>,
    /// Which of the prompt's answers it becomes.
    number: usize,
}

impl<C> Lane<C> {
    /// Takes the next token, which `logits` gave.
    fn take<D: Advances>(&mut self, token: u32, logits: &[f32], job: &Job<'_, D>) {
        self.log_probabilities.extend(job.log_probability(logits, token));
        self.tokens.push(token);
        self.unseen.push(token);
    }
}

/// A prompt's sequences.
#[derive(Debug)]
struct Group<'a, C> {
    /// Which prompt it is.
    number: usize,
    request: Request<'a>,
    lanes: Vec<Lane<C>>,
    beams: Beams,
    /// Answers that are done, by their number.
    answers: Vec<Option<Answer>>,
}

impl<'a, C: Clone + Default> Group<'a, C> {
    fn new<D>(number: usize, request: Request<'a>, job: &Job<'_, D>) -> Self {
        let lane = Lane { unseen: request.prompt.to_vec(), ..Lane::default() };
        Self { number, request, lanes: vec![lane], beams: Beams::default(), answers: vec![None; job.settings.answers] }
    }

    /// Takes the logits of every sequence. Returns the answers once all are there.
    fn step<D: Advances<Cache = C>>(
        &mut self,
        job: &Job<'_, D>,
        logits: &[f32],
    ) -> anyhow::Result<Option<Vec<Answer>>> {
        if self.lanes.iter().any(|lane| !lane.unseen.is_empty()) {
            // The prompt is not read to its end yet.
            return Ok(None);
        }
        match &job.settings.search {
            Search::Beams(search) => {
                let ended = self.beams.step(search, job, self.request.prompt, &mut self.lanes, logits)?;
                ended.then(|| std::mem::take(&mut self.beams).answers(job)).transpose()
            }
            Search::Greedy | Search::Sample(_) => self.step_apart(job, logits),
        }
    }

    /// The step of answers that go their own ways.
    fn step_apart<D: Advances<Cache = C>>(
        &mut self,
        job: &Job<'_, D>,
        logits: &[f32],
    ) -> anyhow::Result<Option<Vec<Answer>>> {
        let rows = logits.chunks_exact(job.decoder.vocab_size());
        let mut lanes: Vec<(Lane<C>, &[f32])> = std::mem::take(&mut self.lanes).into_iter().zip(rows).collect();
        if let [(lane, logits)] = lanes.as_slice()
            && lane.tokens.is_empty()
        {
            // So far they were one.
            lanes = (0..job.settings.answers).map(|number| (Lane { number, ..lane.clone() }, *logits)).collect();
        }
        for (mut lane, logits) in lanes {
            lane.take(job.choose(self.request, &lane, logits)?, logits, job);
            match job.endings.at(&lane.tokens, job.most(self.request.prompt))? {
                None => self.lanes.push(lane),
                Some(end) => {
                    let answer = job.endings.answer(lane.tokens, lane.log_probabilities, end)?;
                    self.answers[lane.number] = Some(answer);
                }
            }
        }
        Ok(self.lanes.is_empty().then(|| self.answers.drain(..).flatten().collect()))
    }
}

/// Answers every prompt, in the order of the prompts; a beam search can find fewer answers than asked for. `finished` is
/// called with the number of each prompt and its answers, as soon as it has them.
pub fn generate<D: Advances>(
    decoder: &D,
    tokenizer: &Tokenizer,
    requests: &[Request<'_>],
    settings: &Settings<'_>,
    room: Room,
    mut finished: impl FnMut(usize, &[Answer]),
) -> anyhow::Result<Vec<Vec<Answer>>> {
    let endings = Endings { tokenizer, texts: settings.stop, tokens: settings.stop_tokens };
    let job = Job { decoder, endings, settings };
    let mut waiting: Vec<usize> = (0..requests.len()).collect();
    // Taken from the end: the shortest first.
    waiting.sort_by_key(|number| std::cmp::Reverse((requests[*number].prompt.len(), *number)));
    let mut answers: Vec<Vec<Answer>> = vec![Vec::new(); requests.len()];
    let mut groups: Vec<Group<'_, D::Cache>> = Vec::new();
    loop {
        while let Some(number) = waiting.pop_if(|number| job.has_room(room, &groups, requests[*number])) {
            groups.push(Group::new(number, requests[number], &job));
        }
        if groups.is_empty() {
            return Ok(answers);
        }
        let ended = job.step(&mut groups)?;
        let mut ended = ended.into_iter();
        groups.retain(|group| match ended.next().flatten() {
            None => true,
            Some(found) => {
                finished(group.number, &found);
                answers[group.number] = found;
                false
            }
        });
    }
}

#[cfg(test)]
mod tests;
