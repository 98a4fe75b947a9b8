//! Exact match, with the options of HF evaluate's metric of that name.

use super::python_regex::{self, Pattern};
use super::text::is_space;
use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work};
use fancy_regex::Regex;

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "exact_match",
    version: 1,
    summary: "1 if the answer is a reference, character for character after what is ignored, else 0",
    source: "HF evaluate 0.4.6, `metrics/exact_match`; equal values",
    metrics: &[Metric { name: "exact_match", range: (0.0, 1.0), better: Better::Higher }],
    pooled: &[],
    references: References::Some,
    read: super::read::<ExactMatchParams>,
    settings: super::settings::<ExactMatchParams>,
    work: Work::Rows(super::build::<ExactMatchParams>),
};

crate::settings! {
    /// What is ignored, in the order in which it is taken away from both texts.
    pub struct ExactMatchParams {
        /// Python regular expressions whose matches are removed, one after the other.
        regexes_to_ignore: Vec<Pattern> = Vec::new(),
        /// Whether letters are made lower case.
        ignore_case: bool = false,
        /// Whether the 32 punctuation characters of ASCII are removed.
        ignore_punctuation: bool = false,
        /// Whether the digits 0 to 9 are removed.
        ignore_numbers: bool = false,
        /// Whether white space at both ends is removed, last. Not an option of HF's.
        strip: bool = false,
    }
}

impl Params for ExactMatchParams {
    type Scorer = ExactMatch;

    fn scorer(self) -> anyhow::Result<ExactMatch> {
        let regexes = self.regexes_to_ignore.iter().map(Pattern::compile).collect::<anyhow::Result<_>>()?;
        Ok(ExactMatch { regexes, params: self })
    }
}

/// The scorer, with its patterns compiled.
#[derive(Debug)]
pub struct ExactMatch {
    regexes: Vec<Regex>,
    params: ExactMatchParams,
}

impl Scorer for ExactMatch {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let prediction = self.normalise(answer.prediction)?;
        let best = answer.best(|_, reference| Ok(f64::from(u8::from(prediction == self.normalise(reference)?))))?;
        Ok(Scored::of(best))
    }
}

impl ExactMatch {
    fn normalise(&self, text: &str) -> anyhow::Result<String> {
        let mut text = text.to_string();
        for regex in &self.regexes {
            text = drop_nul(python_regex::remove(regex, &text)?);
        }
        if self.params.ignore_case {
            text = text.to_lowercase();
        }
        if self.params.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.params.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        text = drop_nul(text);
        Ok(if self.params.strip { text.trim_matches(is_space).to_string() } else { text })
    }
}

/// HF keeps its strings in numpy arrays, which forget the NUL characters at a string's end.
fn drop_nul(mut text: String) -> String {
    text.truncate(text.trim_end_matches('\0').len());
    text
}
