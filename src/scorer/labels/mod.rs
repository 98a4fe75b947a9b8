//! Labels: how good a classifier is the model? Finds the label that an answer names and compares it with the right one.
//!
//! The metrics of all rows are scikit-learn's (`measures`). What names no label is a class of its own that is never right.

mod find;
mod measures;

use super::python_regex::Pattern;
use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work};
use crate::diagnostic::{Diagnostic, Problems};
use crate::key::Digest;
use crate::settings::{Fields, Group as _};
use anyhow::{bail, ensure};
use find::Finder;
use measures::{Confusion, Measures};
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
    read,
    settings: super::settings::<LabelsParams>,
    work: Work::Rows(super::build::<LabelsParams>),
};

crate::settings! {
    /// The labels, and how an answer names one. Texts are compared without white space around them and full stops behind.
    pub struct LabelsParams {
        /// The labels. By default those that stand as references.
        labels: Option<Vec<String>> = None,
        /// Other texts that stand for a label: `{ "0" = "negative", "neg" = "negative" }`.
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
        /// Whether answers without a label are a class in averages over classes, as scikit-learn has it by default. If not,
        /// averages are over the labels alone.
        none_is_class: bool = true,
    }
}

crate::words! {
    /// Where an answer names its label.
    pub enum Find {
        /// The answer is the label and nothing else.
        Whole = "whole",
        /// The label that stands first in the answer as a word of its own (or several); of two at one place the longer.
        Word = "word",
        /// The answer begins with the label; of several the longest counts.
        Prefix = "prefix",
    }
}

fn read(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<serde_json::Value> {
    let params = LabelsParams::read(fields, problems)?;
    if let Err(problem) = check(&params) {
        problems.push(Diagnostic { place: Diagnostic::at(fields.span(), "").place, ..problem });
        return None;
    }
    serde_json::to_value(params).ok()
}

/// What does not fit together.
fn check(params: &LabelsParams) -> Result<(), Diagnostic> {
    todo!()
}
