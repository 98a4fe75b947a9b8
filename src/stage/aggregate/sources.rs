//! Inputs of all forms → one frame of rows.
//!
//! What several scorers say of one row is one row: scores meet on their axes and row id. Whatever else is named in `from`
//! is joined to them, on axes and row id too where it has them, else on the columns that `join` names; or it all stands one
//! below the other (`union`).

use super::recipe::AggregateRecipe;
use crate::frame::{self, Frame, Keys, Rows, Wanted, list};
use crate::row::{self, Row};
use crate::stage::score::SCORES;
use crate::stage::{Events, Input, SCORER};
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A column of this room's own: which of the rows with the same id a row is.
const OCCURRENCE: &str = "#";

/// The rows of all inputs.
#[derive(Debug)]
pub(super) struct Gathered {
    /// One row per row of the experiment: axes, row id, columns, metrics.
    pub(super) frame: Frame,
    /// The columns that scorers made, in the order in which they were met.
    pub(super) metrics: Vec<String>,
    /// The columns that tell rows apart: the axes and the row id.
    pub(super) key: Vec<String>,
}

/// Rows of one role (an item of `from`), or of one scorer of it.
#[derive(Debug)]
struct Part {
    role: String,
    name: String,
    axes: BTreeSet<String>,
    /// Whether each row is one of the experiment, with an id.
    has_ids: bool,
    /// The metrics that it brings, if these are scores.
    metrics: Vec<String>,
    /// All columns of the file, also those that are not read.
    names: BTreeSet<String>,
    frame: Frame,
}

/// Reads all inputs.
pub(super) fn read(recipe: &AggregateRecipe, inputs: &[Input], events: &dyn Events) -> anyhow::Result<Gathered> {
    let named = recipe.columns_named();
    let wanted = named.as_ref().map_or(Wanted::All, Wanted::Some);
    let mut known = BTreeSet::new();
    let mut parts: Vec<Part> = Vec::new();
    for input in inputs {
        let part = read_part(input, wanted, recipe.metrics.is_none(), &mut known, events)?;
        // Parts of one role and the same metrics are instances of one stage: they stand one below the other.
        match parts.iter_mut().find(|known| known.belongs_with(&part)) {
            Some(known) => known.add(part, events)?,
            None => parts.push(part),
        }
    }
    for part in &parts {
        known.extend(part.axes.iter().cloned());
    }
    recipe.check_known(&known)?;
    let axes: BTreeSet<String> = parts.iter().flat_map(|part| part.axes.iter().cloned()).collect();
    let mut metrics: Vec<String> = Vec::new();
    for metric in parts.iter().flat_map(|part| &part.metrics) {
        if !metrics.contains(metric) {
            metrics.push(metric.clone());
        }
    }
    let mut frame = match recipe.union {
        true => union(parts, &axes, events)?,
        false => join(recipe, parts, &axes, events)?,
    };
    frame.retain(|name| name != OCCURRENCE);
    let id = frame.column(row::ID).is_some().then(|| row::ID.to_string());
    Ok(Gathered { frame, metrics, key: axes.into_iter().chain(id).collect() })
}

impl Part {
    fn belongs_with(&self, other: &Part) -> bool {
        let are_scores = !self.metrics.is_empty();
        self.metrics == other.metrics && self.has_ids == other.has_ids && (are_scores || self.role == other.role)
    }

    fn add(&mut self, other: Part, events: &dyn Events) -> anyhow::Result<()> {
        self.axes.extend(other.axes);
        self.frame = stack(&[std::mem::take(&mut self.frame), other.frame], events)?;
        Ok(())
    }
}

/// Frames one below the other; columns that are of several types are told of.
fn stack(frames: &[Frame], events: &dyn Events) -> anyhow::Result<Frame> {
    let (stacked, mixed) = Frame::stack(frames)?;
    warn_of_mixed(&mixed, "the inputs", events);
    Ok(stacked)
}

fn warn_of_mixed(mixed: &BTreeSet<String>, place: &str, events: &dyn Events) {
    for name in mixed {
        events.warn(format!("{place}: `{name}` holds values of several kinds: they are taken as texts"));
    }
}

/// One file.
fn read_part(
    input: &Input,
    wanted: Wanted<'_>,
    all_are_metrics: bool,
    known: &mut BTreeSet<String>,
    events: &dyn Events,
) -> anyhow::Result<Part> {
    let axes: BTreeMap<&String, &Value> = input.labels.iter().filter(|(name, _)| *name != SCORER).collect();
    let is_jsonl = input.path.extension().is_some_and(|ending| ending == "jsonl");
    let first = if is_jsonl { row::read(&input.path, &input.name)?.next().transpose()? } else { None };
    let is_of_rows = |row: &Row| [SCORES, row::ID, row::PREDICTION].iter().any(|name| row.contains_key(*name));
    let mut part = Part {
        role: input.role.clone(),
        name: input.name.clone(),
        axes: axes.keys().map(ToString::to_string).collect(),
        has_ids: first.as_ref().is_some_and(|(_, row)| is_of_rows(row)),
        metrics: Vec::new(),
        names: BTreeSet::new(),
        frame: Frame::default(),
    };
    let found = match part.has_ids {
        true => read_rows(input, wanted, known, &mut part.metrics)?,
        // Of a file, all columns of numbers are metrics where none is named.
        false if all_are_metrics => frame::read(&input.path, &input.name, Wanted::All)?,
        false => frame::read(&input.path, &input.name, wanted)?,
    };
    warn_of_mixed(&found.mixed, &input.name, events);
    part.frame = found.frame;
    if let Some(name) = found.names.iter().find(|name| part.axes.contains(*name)) {
        bail!("{}: column `{name}` is named like an axis: rename one of them", input.name);
    }
    known.extend(found.names.iter().cloned());
    part.names = found.names;
    for (name, value) in axes {
        part.frame.set_all(name, value);
    }
    Ok(part)
}

/// Rows of an experiment, with their ids, and scores as columns of their own.
fn read_rows(
    input: &Input,
    wanted: Wanted<'_>,
    known: &mut BTreeSet<String>,
    metrics: &mut Vec<String>,
) -> anyhow::Result<frame::Found> {
    let scorer = input.labels.get(SCORER).and_then(Value::as_str);
    let mut rows = Rows::default();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut are_scores = false;
    for item in row::read(&input.path, &input.name)? {
        let (line, mut row) = item?;
        let place = || format!("{}:{line}", input.name);
        let id = row::id(&row);
        let occurrence = seen.entry(id.clone()).or_default();
        rows.add_value(OCCURRENCE, &(*occurrence).into(), Wanted::All);
        *occurrence += 1;
        rows.add_value(row::ID, &id.into(), Wanted::All);
        row.shift_remove(row::ID);
        let scores = row.shift_remove(SCORES);
        for (name, value) in &row {
            rows.add_value(name, value, wanted);
        }
        match scores {
            Some(Value::Object(scores)) => {
                are_scores = true;
                let count = scores.len();
                for (name, value) in scores {
                    let metric = match scorer {
                        Some(scorer) if count == 1 => scorer.to_string(),
                        Some(scorer) => format!("{scorer}.{name}"),
                        None => name,
                    };
                    let is_number = value.is_number() || value.is_null();
                    ensure!(is_number, "{}: `{metric}` is {value}: expected a number or null", place());
                    if !metrics.contains(&metric) {
                        metrics.push(metric.clone());
                    }
                    rows.add_value(&metric, &value, Wanted::All);
                }
            }
            Some(other) => bail!("{}: `{SCORES}` is {other}: expected a table of numbers", place()),
            None if are_scores => bail!("{}: the row has no `{SCORES}`, as others have", place()),
            None => {}
        }
        rows.end_row();
    }
    let mut found = rows.finish(false);
    known.insert(row::ID.to_string());
    found.names.remove(OCCURRENCE);
    Ok(found)
}

/// Everything one below the other; what scorers say of one row stays one row.
fn union(parts: Vec<Part>, axes: &BTreeSet<String>, events: &dyn Events) -> anyhow::Result<Frame> {
    let (scores, others): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| !part.metrics.is_empty());
    let mut frames: Vec<Frame> = scores_of(scores, axes)?.into_iter().collect();
    frames.extend(others.into_iter().map(|part| part.frame));
    stack(&frames, events)
}

/// The scores, and everything else joined to them; without scores, everything joined to what is named first.
fn join(
    recipe: &AggregateRecipe,
    parts: Vec<Part>,
    axes: &BTreeSet<String>,
    events: &dyn Events,
) -> anyhow::Result<Frame> {
    let (scores, others): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| !part.metrics.is_empty());
    let have_ids = !scores.is_empty();
    let mut others = others.into_iter();
    let (mut frame, mut have_ids) = match scores_of(scores, axes)? {
        Some(frame) => (frame, have_ids),
        None => others.next().map_or_else(Default::default, |first| (first.frame, first.has_ids)),
    };
    for part in others {
        let mut keys: Vec<&str> = part.axes.iter().map(String::as_str).collect();
        keys.retain(|axis| frame.column(axis).is_some());
        match &recipe.join {
            Some(join) => keys.extend(join.0.iter().map(String::as_str).filter(|name| !part.axes.contains(*name))),
            None if have_ids && part.has_ids => keys.extend([row::ID, OCCURRENCE]),
            None if keys.is_empty() => {
                bail!(
                    "`{}` shares neither axes nor row ids with what stands before it in `from`: say on which columns they \
                     are joined (`join = [\"…\"]`; it has {}), or put one below the other (`union = true`)",
                    part.name,
                    list(part.names.iter().map(String::as_str))
                );
            }
            None => {}
        }
        let shadowed = part.frame.names().filter(|name| !keys.contains(name) && frame.column(name).is_some());
        let shadowed: Vec<&str> = shadowed.filter(|name| *name != OCCURRENCE && *name != row::ID).collect();
        if !shadowed.is_empty() && !part.has_ids {
            let names = list(shadowed.into_iter());
            events.warn(format!("`{}`: {names} is left out: a column of that name stands before it", part.name));
        }
        let joined = Keys(&keys).left(&frame, &part.frame, &part.name)?;
        let (left, right) = joined.alone;
        if left > 0 || right > 0 {
            events.warn(format!(
                "{left} of {} rows have no partner in `{}`, and {right} of its {} rows are joined to none",
                frame.rows(),
                part.name,
                part.frame.rows()
            ));
        }
        (frame, have_ids) = (joined.frame, have_ids);
    }
    Ok(frame)
}

/// The scores of all scorers, one row per row; `None` if there are none.
fn scores_of(parts: Vec<Part>, axes: &BTreeSet<String>) -> anyhow::Result<Option<Frame>> {
    if parts.is_empty() {
        return Ok(None);
    }
    let keys: Vec<&str> = axes.iter().map(String::as_str).chain([row::ID, OCCURRENCE]).collect();
    let mut frames = Vec::new();
    for part in parts {
        let mut frame = part.frame;
        for axis in axes.iter().filter(|axis| !part.axes.contains(*axis)) {
            frame.set_all(axis, &Value::Null);
        }
        let grouping = frame.group(&keys).with_context(|| part.name.clone())?;
        if grouping.count < frame.rows() {
            bail!(
                "`{}` is read twice for the same rows: two inputs give it for the same axes",
                part.metrics.join("`, `")
            );
        }
        frames.push(frame);
    }
    if frames.len() == 1 {
        return Ok(frames.pop());
    }
    frame::outer(&frames, &keys).map(Some)
}
