//! The report page: one HTML file that shows a pipeline's results, down to the rows behind each number.
//!
//! The file asks nothing of the network. What it shows is one JSON document ([`Page`]) and the rows, packed into pieces
//! ([`Pieces`]) that the page unpacks when somebody looks at them; so a hundred thousand rows cost a reader nothing before.
//! All of it stands in inert elements, under a content-security policy that lets nothing run but the one script, by its
//! hash, and the script puts what it shows into the document as text only. Styles and script are written by hand, without a
//! build step: the files of this folder.
//!
//! Pure: values in, bytes out.

mod html;
mod pieces;
#[cfg(test)]
mod tests;

pub use html::{shell, write};
pub use pieces::{Before, Line, Pieces};

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What the page shows, besides the texts of the rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Page {
    /// The pipeline's name.
    pub pipeline: String,
    /// The manifest, as seen from the project's root.
    pub manifest: String,
    /// What the call changes of it, as on a command line.
    pub options: Vec<String>,
    /// When the page was made, RFC 3339 in UTC.
    pub made: String,
    /// Version of titer.
    pub titer: String,
    /// Changes whenever something else that is shown does; see `--serve`.
    pub state: String,
    /// The last run; none if there was none.
    pub run: Option<Run>,
    /// The run that answers are compared with.
    pub against: Option<Earlier>,
    /// The manifest and those that it extends.
    pub texts: Vec<Text>,
    /// The pipeline's graph, as SVG.
    pub graph: String,
    /// All pieces of work, in order.
    pub instances: Vec<Instance>,
    /// The tables of the aggregates.
    pub tables: Vec<Table>,
    /// Their figures.
    pub figures: Vec<Figure>,
    /// The curves of trainings.
    pub curves: Vec<Curve>,
    /// What a reader should know before believing a number.
    pub warnings: Vec<Warning>,
    /// The rows that can be browsed.
    pub sets: Vec<Set>,
    /// Where those are.
    pub index: Index,
}

/// A run at a glance.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Run {
    /// Its name.
    pub id: String,
    /// Its begin.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// How it ended, in a word.
    pub outcome: String,
    /// Whether it goes on: `running`, `killed`, `ended`.
    pub state: String,
    /// How many instances ended how.
    pub counts: BTreeMap<String, usize>,
    /// What the cached results took when they were made.
    pub saved_seconds: f64,
    /// The machine's name.
    pub host: Option<String>,
    /// Its processor.
    pub cpu: Option<String>,
    /// Version of titer.
    pub titer: String,
    /// The project's revision.
    pub git: Option<String>,
}

/// An earlier run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Earlier {
    /// Its name.
    pub id: String,
    /// Its begin.
    pub started: String,
}

/// A file that is shown as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Text {
    /// What it is called.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// One piece of work.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its stage.
    pub stage: String,
    /// How far it is, in a word or two.
    pub state: String,
    /// What its result took when it was made.
    pub seconds: Option<f64>,
    /// When that was.
    pub started: Option<String>,
    /// The kind of device that did the arithmetic.
    pub device: Option<String>,
    /// Its graphics cards.
    pub gpus: String,
    /// The machine's name.
    pub host: Option<String>,
    /// Its processor.
    pub cpu: Option<String>,
    /// How often it was started.
    pub tries: u32,
    /// Whether its result comes from elsewhere.
    pub imported: bool,
    /// What it warned of.
    pub warnings: Vec<String>,
    /// Why it failed, or what it waits for.
    pub message: Option<String>,
    /// The outputs that came out otherwise when it was done again.
    pub differing: Vec<String>,
    /// Its key.
    pub key: Option<String>,
}

/// A table of an aggregate.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// Whose it is.
    pub instance: String,
    /// The name of its file, without the ending.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// Its rows, a value for each column.
    pub rows: Vec<Vec<Value>>,
    /// The columns that make its groups, where it says so.
    pub by: Option<Vec<String>>,
    /// What is counted, where it says so.
    pub unit: Option<Value>,
    /// Which rows it counts.
    pub r#where: Option<String>,
    /// Which of those at most, in words.
    pub limits: Option<String>,
    /// The rows behind it: keys of [`Set`]s.
    pub sets: Vec<String>,
}

/// A figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Whose it is.
    pub instance: String,
    /// Its name; empty if it is its instance's.
    pub name: String,
    /// The picture, as a `data:` address.
    pub light: String,
    /// The same for a dark ground, if there is one.
    pub dark: Option<String>,
}

/// How a training went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// Whose it is.
    pub instance: String,
    /// Step and loss.
    pub loss: Vec<(f64, f64)>,
    /// Step, loss of the validation rows, and whether it was the best so far.
    pub validation: Vec<(f64, f64, bool)>,
}

/// Something to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// About what, if it is about one thing.
    pub about: Option<String>,
    /// What.
    pub text: String,
}

/// The answers of one system: rows that were scored, or are to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Set {
    /// Its identity: other bytes, another key.
    pub key: String,
    /// Where the answers come from.
    pub name: String,
    /// The axis values that its scores have.
    pub axes: Map<String, Value>,
    /// How many rows it has.
    pub rows: usize,
    /// The columns of its rows.
    pub columns: Vec<String>,
    /// The names of its scores.
    pub metrics: Vec<String>,
    /// Whether an earlier run's answers stand beside them.
    pub before: bool,
}

/// Where the rows are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Index {
    /// Of each piece of texts (`t0`, `t1`, …) the number of its first text.
    pub texts: Vec<usize>,
    /// Of each set the pieces of its rows (`r0`, `r1`, …) and how many each has.
    pub sets: BTreeMap<String, Vec<(String, usize)>>,
}
