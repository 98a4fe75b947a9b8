//! The mix kind: rows of several sources, one beside the other, split into train, validation and test.
//!
//! Nothing is drawn from a running generator: the order of rows is that of a hash of (seed, row), and the side of the
//! split that of a hash of the row alone. So the rows of `take = 10` are the first of those of `take = 100`, a row never
//! changes sides between mixes, and one changed row moves no other.

mod prepare;
mod recipe;

pub use recipe::{Instruction, Limit, MixRecipe, SourceRecipe, Split, Take};
pub(super) use recipe::{MixForm, stage};

use super::{Context, Input, Progress};
use crate::diagnostic::Diagnostic;
use crate::key::Digest;
use crate::row::{self, INPUT, INSTRUCTION, OUTPUT, ReadError, Row};
use anyhow::Context as _;
use prepare::Preparation;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of a file that are looked at before anything runs.
const CHECKED_ROWS: usize = 1000;

/// A row that is ready to be written.
#[derive(Debug)]
struct Prepared {
    digest: Digest,
    side: Side,
    line: String,
}

/// The splits, in the order of their outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Train,
    Validation,
    Test,
}

const SIDES: [(Side, &str); 3] = [(Side::Train, "train"), (Side::Validation, "validation"), (Side::Test, "test")];

/// Mistakes that would show themselves late: reads the first rows of each file as the work itself will. No column may be
/// named like one of the pipeline's axes: an aggregate could not tell them apart.
pub fn check(recipe: &MixRecipe, inputs: &[Input], axes: &BTreeSet<&str>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (number, source) in recipe.sources.iter().enumerate() {
        let role = format!("source.{number}");
        let template = format!("{role}.template");
        if source.instruction == Some(Instruction::Template) && !inputs.iter().any(|input| input.role == template) {
            // Without its template, which is missing and reported as such, nothing can be said of the rows.
            continue;
        }
        let preparation = match preparation(source, &role, inputs) {
            Ok(preparation) => preparation,
            Err(problem) => {
                problems.push(problem.into());
                continue;
            }
        };
        for input in inputs.iter().filter(|input| input.role == role) {
            if let Err(problem) = check_file(&preparation, input, axes) {
                problems.push(problem.into());
            }
        }
    }
    if let Some(input) = inputs.iter().find(|input| input.role == "tokenizer")
        && let Err(error) = counter(recipe, Some(input))
    {
        problems.push(Diagnostic::new(format!("{error:#}")));
    }
    problems
}

fn check_file(preparation: &Preparation<'_>, input: &Input, axes: &BTreeSet<&str>) -> Result<(), ReadError> {
    let bound = bound(preparation, input)?;
    let mut rows = row::read(&input.path, &input.name)?.take(CHECKED_ROWS).peekable();
    if rows.peek().is_none() {
        return Err(ReadError::new(&input.name, None, "the file is empty: it has no row"));
    }
    for item in rows {
        let (line, row) = item?;
        let at_line = |message| ReadError::new(&input.name, Some(line), message);
        let row = preparation.row(row, &bound).map_err(at_line)?;
        if let Some(name) = row.iter().flat_map(Row::keys).find(|name| axes.contains(name.as_str())) {
            return Err(at_line(format!("the column `{name}` is named like an axis: rename one of them")));
        }
    }
    Ok(())
}

fn preparation<'a>(source: &'a SourceRecipe, role: &str, inputs: &[Input]) -> Result<Preparation<'a>, ReadError> {
    let template = inputs.iter().find(|input| input.role == format!("{role}.template"));
    let text = template.map(|input| {
        let text = std::fs::read_to_string(&input.path);
        text.map_err(|error| ReadError::new(&input.name, None, format!("the file cannot be read: {error}")))
    });
    let name = template.map_or("", |input| input.name.as_str());
    Preparation::new(source, text.transpose()?).map_err(|message| ReadError::new(name, None, message))
}

fn bound(preparation: &Preparation<'_>, input: &Input) -> Result<Row, ReadError> {
    let path = input.labels.get("path").and_then(serde_json::Value::as_str).unwrap_or(&input.name);
    preparation.bound(path).map_err(|message| ReadError::new(&input.name, None, message))
}

/// Does the work.
///
/// # Errors
/// A row that cannot be read or lacks a column, with its file and line; a full disk.
pub fn execute(recipe: &MixRecipe, context: &Context<'_>) -> anyhow::Result<()> {
    let length = counter(recipe, context.role("tokenizer").next())?;
    let mut mixed: Vec<Prepared> = Vec::new();
    let mut stats = Vec::new();
    for (number, source) in recipe.sources.iter().enumerate() {
        let role = format!("source.{number}");
        let preparation = preparation(source, &role, context.inputs)?;
        let mut counts = Counts::default();
        let mut taken = Vec::new();
        let inputs: Vec<&Input> = context.role(&role).collect();
        if source.take != Take::Rows(0) {
            // What is gathered is counted instance by instance; files of a glob are one source.
            let groups = if source.gathers { inputs.chunks(1).collect() } else { vec![inputs.as_slice()] };
            for group in groups {
                let rows = read_source(recipe, &preparation, group, &length, &mut counts)?;
                taken.extend(take(source.take, recipe.seed, rows, &mut counts));
            }
        }
        if let Some(missing) = counts.missing {
            let wanted = missing + counts.train;
            let name = inputs.first().map_or("", |input| input.name.as_str());
            context.events.warn(format!(
                "`take` asks for {wanted} training rows of `{name}`, but there are only {}: all are taken",
                counts.train
            ));
        }
        stats.push(counts.to_json());
        mixed.extend(taken);
        let (done, total) = (number as u64 + 1, recipe.sources.len() as u64);
        context.events.progress(Progress { done, total, unit: "sources".into(), note: String::new() });
    }
    write(recipe, context, mixed, &stats)
}

/// What happened to the rows of a source.
#[derive(Debug, Default)]
struct Counts {
    read: u64,
    filtered: u64,
    too_long: u64,
    train: u64,
    validation: u64,
    test: u64,
    /// Training rows that `take` asks for and the source does not have.
    missing: Option<u64>,
}

impl Counts {
    fn to_json(&self) -> serde_json::Value {
        json!({
            "read": self.read, "filtered": self.filtered, "too_long": self.too_long, "train": self.train,
            "validation": self.validation, "test": self.test, "missing": self.missing.unwrap_or(0),
        })
    }
}

/// Says how long a line is, if that matters, and whether it is too long.
type TooLong = Box<dyn Fn(&str) -> anyhow::Result<bool>>;

fn counter(recipe: &MixRecipe, tokenizer: Option<&Input>) -> anyhow::Result<TooLong> {
    match (recipe.limit, tokenizer) {
        (None, _) => Ok(Box::new(|_| Ok(false))),
        (Some(Limit::Words(most)), _) => {
            Ok(Box::new(move |line| Ok(line.split_whitespace().nth(most as usize).is_some())))
        }
        (Some(Limit::Tokens(_)), None) => anyhow::bail!("the tokenizer is missing"),
        #[cfg(feature = "candle")]
        (Some(Limit::Tokens(most)), Some(input)) => {
            let tokenizer = crate::engine::tokenizer::Tokenizer::load(&input.path)
                .with_context(|| format!("loading the tokenizer `{}`", input.name))?;
            Ok(Box::new(move |line| Ok(tokenizer.count(line)? > most as usize)))
        }
        #[cfg(not(feature = "candle"))]
        (Some(Limit::Tokens(_)), Some(_)) => {
            anyhow::bail!("this titer was built without the engine (feature `candle`) and cannot count tokens")
        }
    }
}

fn read_source(
    recipe: &MixRecipe,
    preparation: &Preparation<'_>,
    inputs: &[&Input],
    too_long: &TooLong,
    counts: &mut Counts,
) -> anyhow::Result<Vec<Prepared>> {
    let mut rows = Vec::new();
    for input in inputs {
        let bound = bound(preparation, input)?;
        for item in row::read(&input.path, &input.name)? {
            let (line, original) = item?;
            counts.read += 1;
            let prepared = preparation.row(original, &bound);
            let Some(row) = prepared.map_err(|message| ReadError::new(&input.name, Some(line), message))? else {
                counts.filtered += 1;
                continue;
            };
            let text = serde_json::to_string(&row)?;
            if too_long(&text).with_context(|| format!("{}:{line}", input.name))? {
                counts.too_long += 1;
                continue;
            }
            rows.push(Prepared { digest: row::digest(&row), side: side(&row, recipe.split.as_ref()), line: text });
        }
    }
    Ok(rows)
}

/// A row's side of the split: the hash of its instruction, input and output as a number in 0..1, test below, then
/// validation, then train. What else the row carries does not matter, so that a new column moves no row.
fn side(row: &Row, split: Option<&Split>) -> Side {
    let Some(split) = split else { return Side::Train };
    let text: Row = [INSTRUCTION, INPUT, OUTPUT]
        .into_iter()
        .filter_map(|name| Some((name.to_string(), row.get(name)?.clone())))
        .collect();
    let position = unit(&row::digest(&text));
    if position < split.test {
        Side::Test
    } else if position < split.test + split.validation {
        Side::Validation
    } else {
        Side::Train
    }
}

/// The first 53 bits of a digest as a number in 0..1: as many as a float holds exactly.
#[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
fn unit(digest: &Digest) -> f64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    (u64::from_be_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
}

/// Rows in the order of the hash of (seed, row, which of equal rows it is): the order of files does not matter.
fn shuffle(seed: u64, rows: Vec<Prepared>) -> Vec<Prepared> {
    let mut seen: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut keyed: Vec<(Digest, Prepared)> = rows
        .into_iter()
        .map(|row| {
            let occurrence = seen.entry(row.digest).or_insert(0);
            let key = Digest::of(&[&seed.to_be_bytes()[..], row.digest.as_bytes(), &occurrence.to_be_bytes()].concat());
            *occurrence += 1;
            (key, row)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, row)| row).collect()
}

/// The first rows of the shuffled source, until enough of them are for training; the others met on the way come along.
fn take(take: Take, seed: u64, rows: Vec<Prepared>, counts: &mut Counts) -> Vec<Prepared> {
    let rows = shuffle(seed, rows);
    let available = rows.iter().filter(|row| row.side == Side::Train).count() as u64;
    let wanted = match take {
        Take::All => None,
        Take::Rows(rows) => Some(rows),
        Take::Share(share) => Some(portion(share, available)),
    };
    let mut left = wanted.unwrap_or(u64::MAX);
    let mut taken = Vec::new();
    for row in rows {
        if left == 0 {
            break;
        }
        match row.side {
            Side::Train => {
                left -= 1;
                counts.train += 1;
            }
            Side::Validation => counts.validation += 1,
            Side::Test => counts.test += 1,
        }
        taken.push(row);
    }
    if wanted.is_some_and(|wanted| wanted > available) {
        counts.missing = Some(counts.missing.unwrap_or(0) + left);
    }
    taken
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a number of rows"
)]
fn portion(share: f64, rows: u64) -> u64 {
    (share * rows as f64).round() as u64
}

fn write(
    recipe: &MixRecipe,
    context: &Context<'_>,
    mixed: Vec<Prepared>,
    sources: &[serde_json::Value],
) -> anyhow::Result<()> {
    // Once more over all sources together, so that their order does not matter either.
    let rows = shuffle(recipe.seed, mixed);
    let mut totals = serde_json::Map::new();
    for (side, name) in SIDES {
        let mut writer = row::Writer::create(&context.output.join(format!("{name}.jsonl")))?;
        let mut count = 0u64;
        for row in rows.iter().filter(|row| row.side == side) {
            writer.write_line(&row.line)?;
            count += 1;
        }
        writer.finish()?;
        totals.insert(name.to_string(), count.into());
    }
    totals.insert("sources".to_string(), sources.into());
    let path = context.output.join("stats.json");
    let text = serde_json::to_string_pretty(&totals)? + "\n";
    std::fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))
}

#[cfg(test)]
mod tests;
