//! Heuristics of one's own, said in the manifest as steps that a person reads from left to right:
//!
//! ```toml
//! price = { kind = "rules", steps = [{ capture = 'costs (\S+)' }, { take = "number" }, { equal = "number", tolerance = 0.01 }] }
//! label = { kind = "rules", steps = [{ first_of = ["positive", "negative"], on = "prediction" }, { equal = "text" }] }
//! json  = { kind = "rules", steps = [{ normalise = "fences" }, { equal = "json" }] }
//! ```
//!
//! Steps change answer and reference, or one of them; the last step says how they are compared. An answer in which a step
//! finds nothing is wrong; a reference in which it finds nothing says nothing (null).

mod change;
mod compare;
mod step;

use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work};
use anyhow::{Context as _, ensure};
use change::Change;
use compare::Compare;
use std::borrow::Cow;
use step::{Action, Side, Step};

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "rules",
    version: 1,
    summary: "a heuristic of your own, as steps: what is taken from answer and reference, and how they are compared; 1 or 0",
    source: "this program's own",
    metrics: &[Metric { name: "rules", range: (0.0, 1.0), better: Better::Higher }],
    pooled: &[],
    references: References::Some,
    read: super::read_fitting::<RulesParams>,
    settings: super::settings::<RulesParams>,
    work: Work::Rows(super::build::<RulesParams>),
};

crate::settings! {
    /// The steps.
    pub struct RulesParams {
        /// What is done, one step after the other. The last one compares (`equal`, `contains`), and only that.
        steps: Vec<Step>,
    }
}

impl Params for RulesParams {
    type Scorer = Rules;

    fn scorer(self) -> anyhow::Result<Rules> {
        Rules::new(&self)
    }
}

/// The scorer.
#[derive(Debug)]
pub struct Rules {
    changes: Vec<(Side, Change)>,
    compare: Compare,
}

impl Rules {
    fn new(params: &RulesParams) -> anyhow::Result<Self> {
        let mut changes = Vec::new();
        let mut compare = None;
        for step in &params.steps {
            ensure!(compare.is_none(), "a step stands behind the one that compares: `equal` or `contains` comes last");
            match step.action()? {
                Action::Change(side, change) => changes.push((side, change)),
                Action::Compare(last) => compare = Some(last),
            }
        }
        let compare = compare.context("no step compares: the last one says `equal` or `contains`")?;
        Ok(Self { changes, compare })
    }

    /// What the steps leave of a text; `None` if one of them finds nothing.
    fn change<'a>(&self, text: &'a str, side: Side) -> anyhow::Result<Option<Cow<'a, str>>> {
        let mut text = Cow::Borrowed(text);
        for (_, change) in self.changes.iter().filter(|(on, _)| *on == Side::Both || *on == side) {
            match change.apply(&text)? {
                Some(changed) => text = Cow::Owned(changed),
                None => return Ok(None),
            }
        }
        Ok(Some(text))
    }
}

impl Scorer for Rules {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let prediction = self.change(answer.prediction, Side::Prediction)?;
        let mut best: Option<f64> = None;
        for reference in answer.references {
            let Some(reference) = self.change(reference, Side::Reference)? else { continue };
            let holds = match &prediction {
                None => Some(false),
                Some(prediction) => self.compare.holds(prediction, &reference),
            };
            let value = holds.map(|holds| f64::from(u8::from(holds)));
            // Nothing is less than any value.
            best = if value > best { value } else { best };
        }
        Ok(Scored { values: vec![best], counts: Vec::new() })
    }
}

#[cfg(test)]
mod tests;
