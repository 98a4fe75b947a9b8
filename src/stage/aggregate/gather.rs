//! The scores of all instances, joined into one record per row and instance.

use super::{AggregateRecipe, ROW, unknown};
use crate::row::{self, Row};
use crate::stage::Input;
use crate::stage::score::SCORES;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The label that says which scorer of a score stage an instance is.
const SCORER: &str = "scorer";

/// All scores.
#[derive(Debug)]
pub(super) struct Scores {
    /// Metrics, in the order in which they were met.
    pub(super) metrics: Vec<String>,
    /// One per row of each instance, in the order of the inputs.
    pub(super) records: Vec<Record>,
}

/// One row of one instance, scored by all scorers.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Axes and columns that the recipe names; null where this row has none of that name.
    pub(super) values: BTreeMap<String, Value>,
    /// Values by the number of their metric; `None` where the scorer said nothing of the row.
    pub(super) scores: BTreeMap<usize, Option<f64>>,
}

/// What makes two scores those of one record: axes, row id, and which of the rows with that id it is.
type Identity = (String, String, usize);

/// Reads all inputs.
pub(super) fn read(recipe: &AggregateRecipe, inputs: &[Input]) -> anyhow::Result<Scores> {
    let wanted = names(recipe).into_iter().map(|(_, name)| name).collect();
    let mut reader = Reader { wanted, ..Reader::default() };
    for input in inputs {
        reader.read(input)?;
    }
    if let Some(name) = reader.wanted.iter().find(|name| !reader.known.contains(*name)) {
        let known = reader.known.iter().map(String::as_str);
        return Err(unknown("the scores have no axis and no column", name, known));
    }
    for record in &mut reader.records {
        for name in &reader.wanted {
            record.values.entry(name.clone()).or_default();
        }
    }
    Ok(Scores { metrics: reader.metrics, records: reader.records })
}

/// Axes and columns that the recipe names, each with the setting that does so first.
pub(super) fn names(recipe: &AggregateRecipe) -> Vec<(&'static str, String)> {
    let mut names: Vec<(&str, String)> = recipe.by.0.iter().map(|name| ("by", name.clone())).collect();
    if recipe.unit != ROW {
        names.push(("unit", recipe.unit.clone()));
    }
    let environment = minijinja::Environment::new();
    // That it can be read was seen when the manifest was.
    let filter = recipe.filter.as_deref().and_then(|filter| environment.compile_expression(filter).ok());
    let variables: BTreeSet<String> =
        filter.into_iter().flat_map(|filter| filter.undeclared_variables(false)).collect();
    names.extend(variables.into_iter().map(|name| ("where", name)));
    names
}

#[derive(Default)]
struct Reader {
    wanted: BTreeSet<String>,
    known: BTreeSet<String>,
    metrics: Vec<String>,
    records: Vec<Record>,
    places: BTreeMap<Identity, usize>,
}

impl Reader {
    fn read(&mut self, input: &Input) -> anyhow::Result<()> {
        let scorer = input.labels.get(SCORER).and_then(Value::as_str);
        let axes: BTreeMap<&String, &Value> = input.labels.iter().filter(|(name, _)| *name != SCORER).collect();
        self.known.extend(axes.keys().map(ToString::to_string));
        let instance = serde_json::to_string(&axes)?;
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for item in row::read(&input.path, &input.name)? {
            let (line, row) = item?;
            let place = || format!("{}:{line}", input.name);
            if let Some(name) = row.keys().find(|name| axes.contains_key(name)) {
                bail!("{}: column `{name}` is named like an axis: rename one of them", place());
            }
            let id = row::id(&row);
            let occurrence = seen.entry(id.clone()).or_default();
            let identity = (instance.clone(), id, *occurrence);
            *occurrence += 1;
            let record = self.record(identity, &axes, &row);
            self.add_scores(record, scorer, &row).with_context(place)?;
        }
        Ok(())
    }

    /// The number of the record of that identity, which knows the row's columns from now on.
    fn record(&mut self, identity: Identity, axes: &BTreeMap<&String, &Value>, row: &Row) -> usize {
        let number = *self.places.entry(identity).or_insert(self.records.len());
        if number == self.records.len() {
            self.records.push(Record::default());
        }
        let columns = row.iter().filter(|(name, _)| *name != SCORES && *name != row::ID);
        for (name, value) in axes.iter().map(|(name, value)| (*name, *value)).chain(columns) {
            if !self.known.contains(name) {
                self.known.insert(name.clone());
            }
            if self.wanted.contains(name) {
                self.records[number].values.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        number
    }

    fn add_scores(&mut self, record: usize, scorer: Option<&str>, row: &Row) -> anyhow::Result<()> {
        let Some(Value::Object(scores)) = row.get(SCORES) else {
            bail!("the row has no `{SCORES}`: an aggregate reads what score stages write");
        };
        for (name, value) in scores {
            let metric = match scorer {
                Some(scorer) if scores.len() == 1 => scorer.to_string(),
                Some(scorer) => format!("{scorer}.{name}"),
                None => name.clone(),
            };
            ensure!(value.is_number() || value.is_null(), "`{metric}` is {value}: expected a number or null");
            let number = self.metrics.iter().position(|known| *known == metric).unwrap_or_else(|| {
                self.metrics.push(metric.clone());
                self.metrics.len() - 1
            });
            if self.records[record].scores.insert(number, value.as_f64()).is_some() {
                bail!("`{metric}` of this row was read before: two inputs give it for the same axes");
            }
        }
        Ok(())
    }
}
