//! The kinds of stages.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The kinds, in the order in which data flows through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Rows from sources → train, validation and test rows.
    Mix,
    /// Rows (and a base) → a model or an adapter.
    Train,
    /// A model and rows → answers.
    Predict,
    /// Answers → values per row and a summary.
    Score,
    /// Scores of many instances → tables and figures.
    Aggregate,
}

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Kind; 5] = [Kind::Mix, Kind::Train, Kind::Predict, Kind::Score, Kind::Aggregate];

    /// The kind's name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mix => "mix",
            Kind::Train => "train",
            Kind::Predict => "predict",
            Kind::Score => "score",
            Kind::Aggregate => "aggregate",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Version of what the kind does. It is part of every key: raise it when the same recipe and inputs give other bytes.
    pub fn version(self) -> u32 {
        match self {
            Kind::Mix | Kind::Train | Kind::Predict => 1,
            // Scores: intervals in the summary, several references. Aggregates: tables in Parquet and LaTeX.
            Kind::Score | Kind::Aggregate => 2,
        }
    }

    /// Names of the outputs and the file (or folder, with `/`) that each is, in the stage's output folder.
    /// The first is what a reference without an output means.
    pub fn outputs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Kind::Mix => &[
                ("train", "train.jsonl"),
                ("validation", "validation.jsonl"),
                ("test", "test.jsonl"),
                ("stats", "stats.json"),
            ],
            Kind::Train => &[
                ("model", "model/"),
                ("metrics", "metrics.jsonl"),
                ("summary", "summary.json"),
                ("checkpoint-1", "checkpoint-1/"),
                ("checkpoint-2", "checkpoint-2/"),
                ("checkpoint-3", "checkpoint-3/"),
                ("checkpoint-4", "checkpoint-4/"),
                ("checkpoint-5", "checkpoint-5/"),
                ("checkpoint-6", "checkpoint-6/"),
                ("checkpoint-7", "checkpoint-7/"),
                ("checkpoint-8", "checkpoint-8/"),
            ],
            Kind::Predict => &[("predictions", "predictions.jsonl"), ("summary", "summary.json")],
            Kind::Score => &[("scores", "scores.jsonl"), ("summary", "summary.json")],
            Kind::Aggregate => &[
                ("table", "table.parquet"),
                ("csv", "table.csv"),
                ("json", "table.json"),
                ("markdown", "table.md"),
                ("latex", "table.tex"),
                ("wide", "wide.csv"),
                ("rows", "rows.parquet"),
                ("statistics", "statistics.parquet"),
                ("statistics-csv", "statistics.csv"),
                ("statistics-json", "statistics.json"),
                ("statistics-markdown", "statistics.md"),
                ("svg", "figure.svg"),
                ("svg-dark", "figure-dark.svg"),
                ("png", "figure.png"),
                ("png-dark", "figure-dark.png"),
                ("pdf", "figure.pdf"),
            ],
        }
    }

    /// The number of an output that is one of a training's checkpoints, counted back from the last.
    pub fn checkpoint(output: &str) -> Option<u32> {
        output.strip_prefix("checkpoint-")?.parse().ok()
    }

    /// Paths of the settings that may hold a reference to a stage; `*` stands for every item of a list or table.
    /// Needed before placeholders are filled in, to know which axes a stage has.
    pub fn reference_settings(self) -> &'static [&'static str] {
        match self {
            Kind::Mix => &["sources.*.from", "tokenizer", "inputs.*"],
            Kind::Train => &["data", "data.train", "data.validation", "validation", "base", "inputs.*"],
            Kind::Predict => &["model", "data", "inputs.*"],
            Kind::Score => &["predictions", "scorers.*.model", "scorers.*.baseline", "inputs.*"],
            Kind::Aggregate => &["from", "from.*", "inputs.*"],
        }
    }

    /// Whether the kind draws random numbers, so that the manifest's `seed` is its default.
    pub fn takes_seed(self) -> bool {
        matches!(self, Kind::Mix | Kind::Train | Kind::Predict)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
