//! The heuristics of M. Faysse et al., 'Revisiting Instruction Fine-tuned Model Evaluation to Guide Industrial
//! Applications' (EMNLP 2023): one rule for each of its tasks.
//!
//! The published code evaluates the model's answer as Python (`conll`). Here it is parsed as a literal and never executed.

use super::python_literal;
use super::rouge::Rouge;
use super::text::split;
use super::token_f1::TokenF1;
use super::{Answer, Better, Definition, Metric, Params, Plain as _, References, Scored, Scorer, Work};
use crate::diagnostic::Problems;
use crate::row;
use crate::settings::{Fields, Group as _};
use anyhow::Context as _;
use regex::Regex;
use std::borrow::Cow;

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "paper",
    version: 1,
    summary: "the heuristic of the task (mnli, qnli, sst2, stsb, conll, xsum, squad), 0 to 1",
    source: "the code of arXiv 2310.14103, `evaluation/custom_evaluator.py`; equal values, but nothing is executed",
    metrics: &[Metric { name: "paper", range: (0.0, 1.0), better: Better::Higher }],
    pooled: &[],
    references: References::Some,
    read,
    settings: super::settings::<PaperParams>,
    work: Work::Rows(super::build::<PaperParams>),
};

crate::settings! {
    /// Which rule is meant.
    pub struct PaperParams {
        /// The rule of all rows; by default `default`.
        rule: Option<Rule> = None,
        /// The column whose text names the rule of its row, by itself or within a longer name (`squadv2`).
        by: Option<String> = None,
        /// The rule of rows whose column names none; by default such rows get no value (null).
        r#else: Option<Rule> = None,
    }
}

crate::words! {
    /// A rule. `x` is the answer, `y` the reference.
    pub enum Rule {
        /// The label whose first seven letters stand first in x is y.
        Mnli = "mnli",
        /// Whether `unanswerable` or `does not` stands in x tells whether y is `unanswerable` or `answerable`.
        Qnli = "qnli",
        /// `negative` if that stands in x, wrong if `positive` does too; else `positive`.
        Sst2 = "sst2",
        /// The first number of x is y.
        Stsb = "stsb",
        /// x and y are equal as literals of Python, after code fences are taken away.
        Conll = "conll",
        /// ROUGE-2.
        Xsum = "xsum",
        /// F1 of words, as `token_f1`.
        Squad = "squad",
        /// y is one of the words of x, without case, full stops and commas.
        Default = "default",
    }
}

/// In the order in which the paper's code looks for them in a name.
const NAMED: [(&str, Rule); 8] = [
    ("mnli", Rule::Mnli),
    ("qnli", Rule::Qnli),
    ("stsb", Rule::Stsb),
    ("sst2", Rule::Sst2),
    ("conll", Rule::Conll),
    ("xsum", Rule::Xsum),
    ("squad", Rule::Squad),
    ("default", Rule::Default),
];

fn read(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<serde_json::Value> {
    let params = PaperParams::read(fields, problems)?;
    let problem = match params {
        PaperParams { rule: Some(_), by: Some(_), .. } => "`rule` is for all rows, `by` for each: say one of them",
        PaperParams { by: None, r#else: Some(_), .. } => {
            "`else` stands without `by`: say the rule of all rows by `rule`"
        }
        _ => return serde_json::to_value(params).ok(),
    };
    problems.at(fields.span(), problem);
    None
}

impl Params for PaperParams {
    type Scorer = Paper;

    fn scorer(self) -> anyhow::Result<Paper> {
        Ok(Paper {
            params: self,
            rouge: Rouge::default(),
            token_f1: TokenF1::new()?,
            number: Regex::new(r"[-+]?\d*\.\d+|\d+")?,
            digit: Regex::new(r"\d")?,
        })
    }
}

/// The scorer.
#[derive(Debug)]
pub struct Paper {
    params: PaperParams,
    rouge: Rouge,
    token_f1: TokenF1,
    number: Regex,
    digit: Regex,
}

impl Scorer for Paper {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let value = match self.rule(answer)? {
            None => None,
            Some(Rule::Xsum) => Some(self.rouge.values(answer)[1]),
            Some(Rule::Squad) => self.token_f1.value(answer)?,
            Some(rule) => {
                let values = answer.references.iter().filter_map(|reference| self.holds(rule, answer, reference));
                values.map(|holds| f64::from(u8::from(holds))).reduce(f64::max)
            }
        };
        Ok(Scored { values: vec![value], counts: Vec::new() })
    }
}

impl Paper {
    fn rule(&self, answer: &Answer<'_>) -> anyhow::Result<Option<Rule>> {
        let Some(column) = &self.params.by else { return Ok(Some(self.params.rule.unwrap_or(Rule::Default))) };
        let name = row::text(answer.row, column);
        let name = name.with_context(|| row::lacks_named(answer.row, column, "by"))?;
        let named = NAMED.iter().find(|(rule, _)| name.contains(rule)).map(|(_, rule)| *rule);
        Ok(named.or(self.params.r#else))
    }

    /// Whether the rule holds; `None` where it says nothing.
    fn holds(&self, rule: Rule, answer: &Answer<'_>, y: &str) -> Option<bool> {
        let x = answer.prediction;
        match rule {
            Rule::Mnli => Some(first_label(&x.to_lowercase()) == Some(y)),
            Rule::Qnli => {
                let x = x.to_lowercase();
                let says_no = x.contains("unanswerable") || x.contains("does not");
                Some(y == if says_no { "unanswerable" } else { "answerable" })
            }
            Rule::Sst2 => {
                let x = x.to_lowercase();
                Some(match (x.contains("negative"), x.contains("positive")) {
                    (true, true) => false,
                    (true, false) => y == "negative",
                    (false, _) => y == "positive",
                })
            }
            Rule::Stsb => match self.number.find(x) {
                None => Some(false),
                Some(x) => Some(self.float(x.as_str())? == self.float(y)?),
            },
            Rule::Conll => {
                let equal =
                    || Some(python_literal::parse(&x.replace("```", "")).ok()? == python_literal::parse(y).ok()?);
                Some(equal() == Some(true))
            }
            Rule::Default => {
                let x = x.to_lowercase().replace(['.', ','], "");
                let y = y.to_lowercase();
                Some(split(&x).any(|word| word == y))
            }
            Rule::Xsum | Rule::Squad => None,
        }
    }

    /// The number that Python's `float` reads: with white space around it, in digits of any script, with underscores
    /// between them.
    fn float(&self, text: &str) -> Option<f64> {
        // The four separators of ASCII are no white space here.
        let text = text.trim();
        let text: Cow<'_, str> = match text.is_ascii() {
            true => text.into(),
            false => text.chars().map(|c| self.ascii_digit(c)).collect::<String>().into(),
        };
        let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        let bytes = text.as_bytes();
        let mut underscores = (0..bytes.len()).filter(|at| bytes[*at] == b'_');
        if !underscores.all(|at| at > 0 && is_digit(bytes.get(at - 1)) && is_digit(bytes.get(at + 1))) {
            return None;
        }
        // Both read the names of infinity and of what is no number, in any case.
        text.replace('_', "").parse().ok()
    }

    /// The digit of ASCII that `c` stands for, if it is one.
    fn ascii_digit(&self, c: char) -> char {
        let is_digit = |c: char| self.digit.is_match(c.encode_utf8(&mut [0; 4]));
        if c.is_ascii() || !is_digit(c) {
            return c;
        }
        // Digits stand in runs that begin with a zero, one run behind the other at most.
        let before = ('\0'..c).rev().take_while(|before| is_digit(*before)).count();
        char::from_digit(u32::try_from(before % 10).unwrap_or_default(), 10).unwrap_or(c)
    }
}

/// The label of which the first seven letters stand first, within the first 10,000 characters.
fn first_label(x: &str) -> Option<&'static str> {
    const LABELS: [&str; 3] = ["contradiction", "entailment", "neutral"];
    let end = x.char_indices().nth(10_000 + 6).map_or(x.len(), |(end, _)| end);
    let place = |label: &&str| x[..end].find(&label[..7]);
    LABELS.into_iter().filter(|label| place(label).is_some()).min_by_key(place)
}
