//! The work of a predict stage: rows → prompts → answers → files.

use super::PredictRecipe;
use crate::engine::decoder::Decoder;
use crate::engine::generate::{Answer, Limits, StopReason, generate};
use crate::engine::model::Model;
use crate::engine::prompt::{Prompt, PromptEncoder};
use crate::engine::tokenizer::Tokenizer;
use crate::row::{self, Row};
use crate::stage::{Context, Progress};
use anyhow::{Context as _, ensure};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Rows that are generated together, unless a hint says otherwise.
const BATCH_SIZE: u32 = 32;

/// What happened, in numbers that the same recipe and inputs always give.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Rows answered.
    rows: usize,
    /// Tokens of all prompts.
    prompt_tokens: usize,
    /// Tokens of all answers.
    new_tokens: usize,
    /// Prompts that lost the end of their input.
    cut_prompts: usize,
    /// Answers that the model ended.
    eos: usize,
    /// Answers that a stop text ended.
    stop: usize,
    /// Answers that a limit ended.
    length: usize,
}

pub(super) fn execute(recipe: &PredictRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let layers = context.layers("model");
    let base = layers.first().context("input `model.0` is missing")?;
    let mut tokenizer = Tokenizer::load(&base.path)?;
    if let Some(end) = PromptEncoder::new(&tokenizer, &recipe.template)?.end_of_answer()? {
        tokenizer.also_ends_with(end);
    }
    let paths: Vec<&Path> = layers.iter().map(|layer| layer.path.as_path()).collect();
    let model = Model::load(&paths)?;
    tokenizer.check_fits(model.config.vocab_size).with_context(|| format!("model `{}` cannot be used", base.name))?;
    if tokenizer.eos().is_empty() {
        context.events.warn(format!("model `{}` names no end-of-text token: only limits end its answers", base.name));
    }
    let decoder = Decoder::new(model);

    let (mut rows, prompts) = read(recipe, context, &tokenizer, decoder.context())?;
    if rows.is_empty() {
        context.events.warn("`data` has no row: there is nothing to answer".to_string());
    }
    let ids: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
    let limits = Limits {
        max_new_tokens: recipe.max_new_tokens as usize,
        stop: &recipe.stop.0,
        batch_size: context.hints.batch_size.unwrap_or(BATCH_SIZE) as usize,
    };
    let started = Instant::now();
    let answers = generate(&decoder, &tokenizer, &ids, limits, |rows, tokens| {
        let speed = tokens as f64 / started.elapsed().as_secs_f64().max(1e-3);
        let note = format!("{tokens} tokens, {speed:.0} tokens/s");
        let (done, total) = (rows as u64, ids.len() as u64);
        context.events.progress(Progress { done, total, unit: "rows".to_string(), note });
    })?;

    let mut summary = Summary { rows: rows.len(), ..Summary::default() };
    let mut writer = row::Writer::create(&context.output.join("predictions.jsonl"))?;
    for ((row, prompt), answer) in rows.iter_mut().zip(&prompts).zip(&answers) {
        summary.count(prompt, answer);
        append(row, prompt, answer, recipe.strip);
        writer.write(row)?;
    }
    writer.finish()?;
    if summary.cut_prompts > 0 {
        let Summary { cut_prompts, rows, .. } = summary;
        context.events.warn(format!("{cut_prompts} of {rows} prompts were too long and lost the end of their input"));
    }
    let path = context.output.join("summary.json");
    fs::write(&path, serde_json::to_string_pretty(&summary)? + "\n")
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// The rows of all data, and their prompts.
fn read(
    recipe: &PredictRecipe,
    context: &Context<'_>,
    tokenizer: &Tokenizer,
    positions: usize,
) -> anyhow::Result<(Vec<Row>, Vec<Prompt>)> {
    let encoder = PromptEncoder::new(tokenizer, &recipe.template)?;
    // An answer may ask for room in the model's context, but for no more than half of it.
    let room = (recipe.max_new_tokens as usize).min(positions / 2);
    let limit = (recipe.max_prompt_tokens as usize).min(positions - room);
    let (mut rows, mut prompts) = (Vec::new(), Vec::new());
    for input in context.role("data") {
        for item in row::read(&input.path, &input.name)? {
            let (line, row) = item?;
            let place = || format!("{}:{line}", input.name);
            let prompt = encoder.prompt(&row, limit).with_context(place)?;
            ensure!(!prompt.ids.is_empty(), "{}: the prompt is empty", place());
            prompts.push(prompt);
            rows.push(row);
        }
    }
    Ok((rows, prompts))
}

/// Adds what is new to a row, behind its own columns; columns of an earlier prediction are replaced.
fn append(row: &mut Row, prompt: &Prompt, answer: &Answer, strip: bool) {
    let text = if strip { answer.text.trim() } else { &answer.text };
    let new = [
        (row::PREDICTION, text.into()),
        ("prompt_tokens", prompt.ids.len().into()),
        ("new_tokens", answer.tokens.len().into()),
        ("stop_reason", answer.stop.name().into()),
    ];
    for (column, value) in new {
        row.shift_remove(column);
        row.insert(column.to_string(), value);
    }
}

impl Summary {
    fn count(&mut self, prompt: &Prompt, answer: &Answer) {
        self.prompt_tokens += prompt.ids.len();
        self.new_tokens += answer.tokens.len();
        self.cut_prompts += usize::from(prompt.cut);
        *match answer.stop {
            StopReason::Eos => &mut self.eos,
            StopReason::Stop => &mut self.stop,
            StopReason::Length => &mut self.length,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn appended(row: &serde_json::Value, text: &str, strip: bool) -> String {
        let mut row = row.as_object().unwrap().clone();
        let prompt = Prompt { ids: vec![1, 5, 6], cut: false };
        let answer = Answer { text: text.to_string(), tokens: vec![7, 8], stop: StopReason::Stop };
        append(&mut row, &prompt, &answer, strip);
        serde_json::to_string(&row).unwrap()
    }

    #[test]
    fn what_is_new_stands_behind_the_rows_own_columns() {
        let expected = r#"{"b":1,"a":2,"prediction":"yes","prompt_tokens":3,"new_tokens":2,"stop_reason":"stop"}"#;
        assert_eq!(appended(&json!({"b": 1, "a": 2}), "yes", true), expected);
        let earlier = json!({"b": 1, "prediction": "no", "stop_reason": "eos", "a": 2});
        assert_eq!(appended(&earlier, "yes", true), expected);
    }

    #[test]
    fn white_space_around_an_answer_is_removed_where_asked() {
        assert!(appended(&json!({}), "\n a b \n", true).contains(r#""prediction":"a b""#));
        assert!(appended(&json!({}), "\n a b \n", false).contains(r#""prediction":"\n a b \n""#));
    }
}
