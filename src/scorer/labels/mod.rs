//! Labels: how good a classifier is the model? Finds the label that an answer names and compares it with the right one.
//!
//! What names no label is a class of its own, which is never right.

mod find;
mod measures;

use super::python_regex::Pattern;
use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work};
use crate::key::Digest;
use anyhow::ensure;
use find::Finder;
use measures::Confusion;
use std::collections::BTreeMap;

const fn metric(name: &'static str) -> Metric {
    Metric { name, range: (0.0, 1.0), better: Better::Higher }
}

const fn agreement(name: &'static str) -> Metric {
    Metric { name, range: (-1.0, 1.0), better: Better::Higher }
}

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "labels",
    version: 1,
    summary: "whether the answer names the right label; accuracy, precision, recall, F1, Matthews and kappa over all rows",
    source: "scikit-learn 1.9.1, `sklearn.metrics`, with zero_division 0; equal values",
    metrics: &[metric("accuracy")],
    pooled: &[
        metric("accuracy"),
        metric("balanced_accuracy"),
        metric("precision_micro"),
        metric("recall_micro"),
        metric("f1_micro"),
        metric("precision_macro"),
        metric("recall_macro"),
        metric("f1_macro"),
        metric("precision_weighted"),
        metric("recall_weighted"),
        metric("f1_weighted"),
        metric("precision"),
        metric("recall"),
        metric("f1"),
        agreement("matthews"),
        agreement("kappa"),
        Metric { name: "no_label", range: (0.0, 1.0), better: Better::Lower },
    ],
    references: References::Some,
    read: super::read_fitting::<LabelsParams>,
    settings: super::settings::<LabelsParams>,
    work: Work::Rows(super::build::<LabelsParams>),
};

crate::settings! {
    /// The labels, and how an answer names one. White space around a text and full stops behind it never count.
    pub struct LabelsParams {
        /// The labels. By default those that stand as references.
        labels: Option<Vec<String>> = None,
        /// Other texts that stand for a label: `{ "0" = "negative", "1" = "positive" }`.
        aliases: BTreeMap<String, String> = BTreeMap::new(),
        /// Where an answer names its label. All but `whole` need `labels`.
        find: Find = Find::Whole,
        /// A Python regular expression: what its first group captures (or all of its first match) is looked at instead of
        /// the answer.
        capture: Option<Pattern> = None,
        /// Whether letters are compared in lower case.
        ignore_case: bool = true,
        /// The label that `precision`, `recall` and `f1` are about; without it they are null.
        positive: Option<String> = None,
        /// The labels that averages over classes are of, scikit-learn's `labels`. By default all classes that are met, one of
        /// which are the answers without a label.
        average_over: Option<Vec<String>> = None,
    }
}

crate::words! {
    /// Where an answer names its label.
    pub enum Find {
        /// The answer is the label and nothing else.
        Whole = "whole",
        /// The label that stands first in the answer, as a word or words of its own.
        Word = "word",
        /// The label that the answer begins with; of several the longest.
        Prefix = "prefix",
    }
}

impl Params for LabelsParams {
    type Scorer = Labels;

    fn scorer(self) -> anyhow::Result<Labels> {
        let finder = Finder::new(&self)?;
        let mut labels = Labels {
            positive: self.positive.as_deref().map(|positive| finder.normal(positive)),
            average_over: self
                .average_over
                .as_ref()
                .map(|labels| labels.iter().map(|label| finder.normal(label)).collect()),
            is_given: self.labels.is_some(),
            finder,
            numbers: BTreeMap::new(),
            names: vec![None],
            count: 0,
            pairs: Vec::new(),
            pair_numbers: BTreeMap::new(),
        };
        for label in self.labels.iter().flatten() {
            let number = labels.number(&labels.finder.normal(label));
            labels.names[number as usize] = Some(label.clone());
        }
        Ok(labels)
    }
}

/// The scorer.
#[derive(Debug)]
pub struct Labels {
    finder: Finder,
    positive: Option<String>,
    average_over: Option<Vec<String>>,
    is_given: bool,
    /// The number of each text that may be a label. Not the text itself: there may be as many as there are rows.
    numbers: BTreeMap<Digest, u32>,
    /// What stood as a reference at least once is a label, and has a name here.
    names: Vec<Option<String>>,
    /// How many labels were met.
    count: usize,
    /// Pairs of reference and prediction that were met. A row counts the number of its pair.
    pairs: Vec<(u32, u32)>,
    pair_numbers: BTreeMap<(u32, u32), u32>,
}

/// What stands for no label.
const NONE: u32 = 0;

/// More labels than these are texts of another kind.
const MOST_LABELS: usize = 1000;

impl Scorer for Labels {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let predicted = self.finder.label(answer.prediction)?;
        let predicted = predicted.map_or(NONE, |label| self.number(&label));
        // Several references: whichever was meant by the answer, else the first.
        let mut right = None;
        for reference in answer.references {
            let label = self.finder.reference(reference)?;
            let number = self.number(&label);
            self.meet(number, label)?;
            if right.is_none() || number == predicted {
                right = Some(number);
            }
        }
        let right = right.unwrap_or(NONE);
        let next = u32::try_from(self.pairs.len())?;
        let pair = *self.pair_numbers.entry((right, predicted)).or_insert(next);
        if pair == next {
            self.pairs.push((right, predicted));
        }
        Ok(Scored { counts: vec![f64::from(pair)], ..Scored::of([f64::from(u8::from(right == predicted))]) })
    }

    fn add(&self, sums: &mut Vec<f64>, counts: &[f64], times: f64) {
        // Numbers of pairs are far below 2^53.
        let Some(pair) = counts.first().map(|pair| *pair as usize) else { return };
        if sums.len() <= pair {
            sums.resize(pair + 1, 0.0);
        }
        sums[pair] += times;
    }

    fn pool(&self, sums: &[f64]) -> Vec<Option<f64>> {
        let values = self.confusion(sums).measures(self.average_over.as_deref(), self.positive.as_deref());
        let in_order = DEFINITION.pooled.iter().map(|metric| values.get(metric.name).copied().flatten());
        in_order.collect()
    }

    fn details(&self, sums: &[f64]) -> serde_json::Value {
        self.confusion(sums).details()
    }
}

impl Labels {
    fn number(&mut self, text: &str) -> u32 {
        let next = self.names.len();
        let number =
            *self.numbers.entry(Digest::of(text.as_bytes())).or_insert(u32::try_from(next).unwrap_or(u32::MAX));
        if number as usize == next {
            self.names.push(None);
        }
        number
    }

    /// What stands as a reference is a label.
    fn meet(&mut self, number: u32, label: String) -> anyhow::Result<()> {
        let name = &mut self.names[number as usize];
        if name.is_none() {
            *name = Some(label);
            self.count += 1;
            ensure!(
                self.count <= MOST_LABELS,
                "there are more than {MOST_LABELS} different references: if few of them are labels, name those by `labels`"
            );
        }
        Ok(())
    }

    fn confusion(&self, sums: &[f64]) -> Confusion {
        let mut labels: Vec<(&str, usize)> =
            self.names.iter().enumerate().filter_map(|(number, name)| Some((name.as_deref()?, number))).collect();
        if !self.is_given {
            labels.sort_unstable();
        }
        // Behind the labels stands what is none.
        let mut classes = vec![labels.len(); self.names.len()];
        for (class, (_, number)) in labels.iter().enumerate() {
            classes[*number] = class;
        }
        let names = labels.into_iter().map(|(name, _)| (name.to_string(), self.finder.normal(name))).collect();
        let cells = self.pairs.iter().zip(sums).filter(|(_, count)| **count > 0.0);
        Confusion::new(
            names,
            cells.map(|((right, predicted), count)| (classes[*right as usize], classes[*predicted as usize], *count)),
        )
    }
}
