//! The work of such a stage: rows → calls → replies → files.

use super::body::body;
use super::question::Asker;
use super::{ApiHints, ApiRecipe, KEY};
use crate::api::{Call, Client, Failure, Key, Ledger, Price, Reply, Settings, Till, Tokens, Told};
use crate::prompt::chat::Message;
use crate::row::{self, Row};
use crate::settings::Seconds;
use crate::stage::{Context, Progress, write_json};
use anyhow::{Context as _, anyhow};
use serde::Serialize;
use std::time::Duration;

/// Before the first new try of a call.
const PAUSE: Duration = Duration::from_millis(500);
/// Tokens around each message, at most.
const FRAME: u64 = 16;

/// What happened, in numbers that the same replies always give.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Rows answered.
    rows: usize,
    /// Tokens of all prompts, as the API counts them; of several answers to a row, those of each.
    prompt_tokens: u64,
    /// Tokens of all answers.
    new_tokens: u64,
    /// Answers that the model ended.
    eos: usize,
    /// Answers that a stop text ended, or the model.
    stop: usize,
    /// Answers that the limit ended.
    length: usize,
    /// Answers that ended otherwise, as by a filter.
    other: usize,
    /// Answers whose tokens the API has not counted.
    uncounted: usize,
}

/// The rows, and where they stand.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    places: Vec<String>,
    calls: Vec<Call>,
}

pub(super) fn execute(recipe: &ApiRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let Rows { rows, places, calls } = read(recipe, context)?;
    if rows.is_empty() {
        context.events.warn("`data` has no row: there is nothing to ask".to_string());
    }
    let replies = put_questions(recipe, context, &calls, &places, samples(recipe))?;
    write(recipe, context, rows, &replies)
}

fn samples(recipe: &ApiRecipe) -> usize {
    recipe.samples.unwrap_or(1) as usize
}

fn read(recipe: &ApiRecipe, context: &Context<'_>) -> anyhow::Result<Rows> {
    let asker = Asker::new(recipe)?;
    let mut all = Rows::default();
    for input in context.role("data") {
        for item in row::read(&input.path, &input.name)? {
            let (line, row) = item?;
            let place = format!("{}:{line}", input.name);
            let messages = asker.messages(&row).with_context(|| place.clone())?;
            all.calls.extend(calls(recipe, &messages));
            all.rows.push(row);
            all.places.push(place);
        }
    }
    Ok(all)
}

/// The calls of one question: as many as there are to be answers.
pub(in crate::stage) fn calls(recipe: &ApiRecipe, messages: &[Message]) -> impl Iterator<Item = Call> {
    // A token has at least a byte.
    let bytes: usize = messages.iter().map(|message| serde_json::json!(message).to_string().len()).sum();
    let input = bytes as u64 + FRAME * (messages.len() as u64 + 1);
    let most = Tokens { input, output: recipe.max_new_tokens.into() };
    (0..recipe.samples.unwrap_or(1)).map(move |sample| Call {
        body: body(recipe, messages, sample).to_string(),
        sample,
        most,
    })
}

/// Asks all calls, of which so many each are one row's, and gives the replies in their order; `places` are the rows'.
///
/// # Errors
/// If a call fails for good; replies that came are in the ledger.
pub(in crate::stage) fn put_questions(
    recipe: &ApiRecipe,
    context: &Context<'_>,
    calls: &[Call],
    places: &[String],
    calls_per_row: usize,
) -> anyhow::Result<Vec<Reply>> {
    let folder = context.earlier.ledger.as_deref().context("the job has no ledger")?;
    let client = Client::new(settings(recipe, context)?, Ledger::open(folder)?)?;
    let mut last = Told::default();
    let result = client.ask(calls, &mut |told| {
        last = told;
        let (done, total) = (told.answered as u64, calls.len() as u64);
        context.events.progress(Progress { done, total, unit: "answers".to_string(), note: note(told, context) });
    });
    let replies = result.map_err(|failure| explain(failure, places, calls_per_row, calls.len()))?;
    context.events.log(format!("{} answers, {}", last.answered, note(last, context)));
    Ok(replies)
}

fn settings(recipe: &ApiRecipe, context: &Context<'_>) -> anyhow::Result<Settings> {
    let hints = context.hints.api.as_ref().context("the job does not say how the API is asked")?;
    let ApiHints { concurrency, requests_per_minute, tokens_per_minute, timeout, price, max_cost } = hints;
    let mut key = Key::default();
    if let Some(name) = context.hints.secrets.get(KEY) {
        let value = context.means.secrets.get(name).with_context(|| format!("the secret `{name}` has not come"))?;
        key.0.insert(name.clone(), value.clone());
    }
    let Seconds(timeout) = *timeout;
    Ok(Settings {
        endpoint: recipe.api.clone(),
        model: recipe.model.clone(),
        key,
        concurrency: *concurrency as usize,
        requests_per_second: context.means.requests_per_second,
        requests_per_minute: *requests_per_minute,
        tokens_per_minute: *tokens_per_minute,
        timeout: Duration::from_secs_f64(timeout.max(0.001)),
        price: price.as_ref().map(|price| Price { input: price.input, output: price.output }),
        max_cost: *max_cost,
        till: context.means.max_cost.clone().map(|(most, file)| Till { file, most }),
        pause: PAUSE,
    })
}

/// How many were asked, and what they cost where that is known.
fn note(told: Told, context: &Context<'_>) -> String {
    let has_price = context.hints.api.as_ref().is_some_and(|hints| hints.price.is_some());
    let cost = if has_price { format!(", cost {:.4}", told.cost) } else { String::new() };
    format!("{} asked now{cost}", told.asked)
}

fn explain(failure: Failure, places: &[String], samples: usize, total: usize) -> anyhow::Error {
    let Failure { reason, call, told } = failure;
    let place = call.map(|call| format!("{}: ", places[call / samples])).unwrap_or_default();
    let kept = match told.answered {
        0 => String::new(),
        kept => format!("; {kept} of {total} answers are in the ledger: run again, and only the rest is asked"),
    };
    anyhow!("{place}{reason}{kept}")
}

fn write(recipe: &ApiRecipe, context: &Context<'_>, rows: Vec<Row>, replies: &[Reply]) -> anyhow::Result<()> {
    let mut summary = Summary { rows: rows.len(), ..Summary::default() };
    let mut writer = row::Writer::create(&context.output.join("predictions.jsonl"))?;
    for (row, replies) in rows.iter().zip(replies.chunks(samples(recipe))) {
        for (number, reply) in replies.iter().enumerate() {
            let stop = summary.count(recipe, reply);
            let mut row = row.clone();
            add(&mut row, recipe, number, reply, &stop);
            writer.write(&row)?;
        }
    }
    writer.finish()?;
    if summary.uncounted > 0 {
        context.events.warn(format!("the API has not counted the tokens of {} answers", summary.uncounted));
    }
    if summary.other > 0 {
        let others = summary.other;
        context
            .events
            .warn(format!("{others} answers were ended neither by the model nor by a limit: see `stop_reason`"));
    }
    write_json(&context.output.join("summary.json"), &summary)
}

/// Adds an answer: the columns are those of a model that titer runs itself; columns of an earlier prediction are replaced.
fn add(row: &mut Row, recipe: &ApiRecipe, number: usize, reply: &Reply, stop: &str) {
    let text = if recipe.strip { reply.text.trim() } else { &reply.text };
    row::put(row, row::PREDICTION, text.into());
    row::put(row, "prompt_tokens", reply.tokens.map(|tokens| tokens.input).into());
    row::put(row, "new_tokens", reply.tokens.map(|tokens| tokens.output).into());
    row::put(row, "stop_reason", stop.into());
    if recipe.samples.is_some() {
        row::put(row, "sample", number.into());
    }
}

impl Summary {
    /// Counts an answer, and says how it ended. APIs call both `stop`: that the model ended it, and that a stop text did.
    fn count(&mut self, recipe: &ApiRecipe, reply: &Reply) -> String {
        match reply.tokens {
            Some(tokens) => {
                self.prompt_tokens += tokens.input;
                self.new_tokens += tokens.output;
            }
            None => self.uncounted += 1,
        }
        let (count, name) = match reply.finish.as_str() {
            "stop" if recipe.stop.0.is_empty() => (&mut self.eos, "eos"),
            "stop" => (&mut self.stop, "stop"),
            "length" => (&mut self.length, "length"),
            other => (&mut self.other, other),
        };
        *count += 1;
        name.to_string()
    }
}
