//! ROUGE-1, -2, -L and -Lsum, as rouge_score computes them.
//!
//! C.-Y. Lin, 'ROUGE: A Package for Automatic Evaluation of Summaries', 2004. Words are runs of `a` to `z` and `0` to
//! `9` after lower-casing, so texts in other scripts score 0. Sentences, for Lsum, are lines.

use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work, porter};
use std::collections::{BTreeMap, BTreeSet};

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "rouge",
    version: 1,
    summary: "words (1), word pairs (2) and longest common subsequences (L, Lsum) shared with the reference: F-measures",
    source: "rouge_score 0.1.2, which HF evaluate calls; equal values",
    metrics: &[
        Metric { name: "rouge1", range: (0.0, 1.0), better: Better::Higher },
        Metric { name: "rouge2", range: (0.0, 1.0), better: Better::Higher },
        Metric { name: "rougeL", range: (0.0, 1.0), better: Better::Higher },
        Metric { name: "rougeLsum", range: (0.0, 1.0), better: Better::Higher },
    ],
    pooled: &[],
    references: References::Some,
    read: super::read::<RougeParams>,
    settings: super::settings::<RougeParams>,
    work: Work::Rows(super::build::<RougeParams>),
};

crate::settings! {
    /// How words are compared.
    pub struct RougeParams {
        /// Whether words of more than three letters are reduced to their Porter stems.
        stemmer: bool = false,
    }
}

impl Params for RougeParams {
    type Scorer = Rouge;

    fn scorer(self) -> anyhow::Result<Rouge> {
        Ok(Rouge { stemmer: self.stemmer })
    }
}

/// The scorer.
#[derive(Debug)]
pub struct Rouge {
    stemmer: bool,
}

impl Scorer for Rouge {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let (words, lines) = (self.tokens(answer.prediction), self.lines(answer.prediction));
        let mut best = [0.0_f64; 4];
        for reference in answer.references {
            let (target, target_lines) = (self.tokens(reference), self.lines(reference));
            let values = [
                ngrams(&words, &target, 1),
                ngrams(&words, &target, 2),
                f_measure(common_length(&words, &target), words.len(), target.len()),
                summary_level(&lines, &target_lines),
            ];
            best.iter_mut().zip(values).for_each(|(best, value)| *best = best.max(value));
        }
        Ok(Scored::of(best))
    }
}

impl Rouge {
    fn tokens(&self, text: &str) -> Vec<String> {
        let text = text.to_lowercase();
        let words =
            text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).filter(|word| !word.is_empty());
        words.map(|word| if self.stemmer && word.len() > 3 { porter::stem(word) } else { word.to_string() }).collect()
    }

    fn lines(&self, text: &str) -> Vec<Vec<String>> {
        text.split('\n').map(|line| self.tokens(line)).collect()
    }
}

/// The harmonic mean of `hits / answer` and `hits / target`; 0 where there is nothing to share.
fn f_measure(hits: usize, answer: usize, target: usize) -> f64 {
    if hits == 0 {
        return 0.0;
    }
    let precision = hits as f64 / answer as f64;
    let recall = hits as f64 / target as f64;
    2.0 * precision * recall / (precision + recall)
}

fn ngrams(answer: &[String], target: &[String], n: usize) -> f64 {
    let mut counts: BTreeMap<&[String], usize> = BTreeMap::new();
    for gram in target.windows(n) {
        *counts.entry(gram).or_default() += 1;
    }
    let mut hits = 0;
    for gram in answer.windows(n) {
        if let Some(left @ 1..) = counts.get_mut(gram) {
            *left -= 1;
            hits += 1;
        }
    }
    f_measure(hits, answer.windows(n).len(), target.windows(n).len())
}

/// Length of the longest common subsequence.
fn common_length(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for left in a {
        let mut diagonal = 0;
        for (j, right) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if left == right { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

/// ROUGE-Lsum: for each line of the target, the union of its longest common subsequences with the lines of the answer;
/// a word counts at most as often as it stands in either text.
fn summary_level(answer: &[Vec<String>], target: &[Vec<String>]) -> f64 {
    let mut answer_left = count(answer);
    let mut target_left = count(target);
    let mut hits = 0;
    for line in target {
        let union: BTreeSet<usize> = answer.iter().flat_map(|other| common_positions(line, other)).collect();
        for position in union {
            let word = line[position].as_str();
            if let (Some(a @ 1..), Some(t @ 1..)) = (answer_left.get_mut(word), target_left.get_mut(word)) {
                *a -= 1;
                *t -= 1;
                hits += 1;
            }
        }
    }
    f_measure(hits, answer.iter().map(Vec::len).sum(), target.iter().map(Vec::len).sum())
}

fn count(lines: &[Vec<String>]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for word in lines.iter().flatten() {
        *counts.entry(word.as_str()).or_default() += 1;
    }
    counts
}

/// Positions in `target` of one longest common subsequence. Among several, the one that rouge_score's way back through
/// the table finds: the union over lines depends on it.
fn common_positions(target: &[String], answer: &[String]) -> Vec<usize> {
    let width = answer.len() + 1;
    let mut table = vec![0_u32; (target.len() + 1) * width];
    for (i, left) in target.iter().enumerate() {
        for (j, right) in answer.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if left == right {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let (mut i, mut j) = (target.len(), answer.len());
    let mut positions = Vec::new();
    while i > 0 && j > 0 {
        if target[i - 1] == answer[j - 1] {
            positions.push(i - 1);
            i -= 1;
            j -= 1;
        } else if table[i * width + j - 1] > table[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    positions
}
