//! Word error rate, as jiwer computes it; and what the rates of words and of characters share.

use super::edits::{Aligner, Edits};
use super::text::is_space;
use super::words::Vocabulary;
use super::{Answer, Better, Definition, Metric, NoParams, Plain, References, Scored, Scorer, Work};
use serde_json::json;

const WER: Metric = Metric { name: "wer", range: (0.0, f64::INFINITY), better: Better::Lower };

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "wer",
    version: 1,
    summary: "word error rate: words substituted, deleted and inserted, per word of the reference",
    source: "jiwer 4.0.0 with its default transforms, which HF evaluate calls; equal values",
    metrics: &[WER],
    pooled: &[WER],
    references: References::Some,
    read: super::read::<NoParams>,
    settings: super::settings::<NoParams>,
    work: Work::Rows(super::build_plain::<Wer>),
};

/// The scorer.
#[derive(Debug)]
pub struct Wer {
    vocabulary: Vocabulary,
    rates: Rates,
}

impl Plain for Wer {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { vocabulary: Vocabulary::default(), rates: Rates::default() })
    }
}

impl Scorer for Wer {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        self.vocabulary.make_room();
        Ok(self.rates.score(answer, |text, words| read_words(text, &mut self.vocabulary, words)))
    }

    fn pool(&self, sums: &[f64]) -> Vec<Option<f64>> {
        vec![rate(sums)]
    }

    fn details(&self, sums: &[f64]) -> serde_json::Value {
        details(sums)
    }
}

/// jiwer's words: several characters of white space in a row part them, or one space; a single line break or tab does not.
fn read_words(text: &str, vocabulary: &mut Vocabulary, words: &mut Vec<u32>) {
    let text = text.trim_matches(is_space);
    let (mut start, mut end) = (0, 0);
    while let Some(offset) = text[end..].find(is_space) {
        let space = end + offset;
        let rest = text[space..].trim_start_matches(is_space);
        let run = &text[space..text.len() - rest.len()];
        end = space + run.len();
        if run == " " || run.chars().nth(1).is_some() {
            words.push(vocabulary.number(&text.as_bytes()[start..space]));
            start = end;
        }
    }
    if start < text.len() {
        words.push(vocabulary.number(&text.as_bytes()[start..]));
    }
}

/// Buffers for rows whose symbols (words, characters) are compared.
#[derive(Debug, Default)]
pub(super) struct Rates {
    aligner: Aligner,
    prediction: Vec<u32>,
    reference: Vec<u32>,
}

impl Rates {
    /// The least rate over the references. `read` turns a text into symbols.
    pub(super) fn score(&mut self, answer: &Answer<'_>, mut read: impl FnMut(&str, &mut Vec<u32>)) -> Scored {
        self.prediction.clear();
        read(answer.prediction, &mut self.prediction);
        let mut best: Option<(f64, Edits)> = None;
        for text in answer.references {
            self.reference.clear();
            read(text, &mut self.reference);
            let edits = self.aligner.edits(&self.reference, &self.prediction);
            let rate = rate_of(edits.errors() as f64, edits.length() as f64, edits.insertions as f64);
            if best.is_none_or(|(best, _)| rate < best) {
                best = Some((rate, edits));
            }
        }
        let (rate, edits) = best.unzip();
        let Edits { substitutions, deletions, insertions, hits } = edits.unwrap_or_default();
        let counts = [substitutions, deletions, insertions, hits].map(|count| count as f64);
        Scored { values: vec![rate], counts: counts.to_vec() }
    }
}

/// The rate of texts whose edits sum up to `sums`.
pub(super) fn rate(sums: &[f64]) -> Option<f64> {
    let [substitutions, deletions, insertions, hits] = *sums else { return None };
    let (errors, length) = (substitutions + deletions + insertions, substitutions + deletions + hits);
    Some(rate_of(errors, length, insertions))
}

/// Beside an empty reference, jiwer's rate is the number of insertions.
fn rate_of(errors: f64, length: f64, insertions: f64) -> f64 {
    if length == 0.0 { insertions } else { errors / length }
}

/// The edits by kind.
pub(super) fn details(sums: &[f64]) -> serde_json::Value {
    let [substitutions, deletions, insertions, hits] = *sums else { return serde_json::Value::Null };
    json!({ "substitutions": substitutions, "deletions": deletions, "insertions": insertions, "hits": hits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_jiwer_s() {
        let words = |text: &str| {
            let (mut vocabulary, mut words) = (Vocabulary::default(), Vec::new());
            read_words(text, &mut vocabulary, &mut words);
            let expected: Vec<u32> = jiwer(text).iter().map(|word| vocabulary.number(word.as_bytes())).collect();
            assert_eq!(words, expected, "{text:?}");
            words.len()
        };
        assert_eq!(words(" a  b\nc \u{1f}d\t"), 3);
        assert_eq!(words("\n"), 0);
        assert_eq!(words("a\u{a0}b c\n\nd"), 3);
        assert_eq!(words("a\u{3000} b"), 2);
    }

    /// In the words of jiwer's transforms.
    fn jiwer(text: &str) -> Vec<String> {
        let regex = super::super::python_regex::compile(r"\s\s+").unwrap();
        let text = super::super::python_regex::replace(&regex, text, " ").unwrap();
        text.trim_matches(is_space).split(' ').filter(|word| !word.is_empty()).map(str::to_string).collect()
    }
}
