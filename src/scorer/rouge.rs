//! ROUGE-1, -2, -L and -Lsum, as rouge_score computes them.
//!
//! C.-Y. Lin, 'ROUGE: A Package for Automatic Evaluation of Summaries', 2004. Words are runs of `a` to `z` and `0` to
//! `9` after lower-casing, so texts in other scripts score 0. Sentences, for Lsum, are lines, and end where `sentence_end`
//! says; ROUGE-1.5.5 calls that value, of stems, ROUGE-L.

use super::subsequence::Subsequences;
use super::words::{Counts, Vocabulary, f_measure};
use super::{Answer, Better, Definition, Metric, Params, References, Scored, Scorer, Work, porter};
use std::cmp::Ordering;

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
    read: super::read_fitting::<RougeParams>,
    settings: super::settings::<RougeParams>,
    work: Work::Rows(super::build::<RougeParams>),
};

crate::settings! {
    /// How words are compared.
    pub struct RougeParams {
        /// Whether words of more than three letters are reduced to their Porter stems.
        stemmer: bool = false,
        /// What ends a sentence besides a new line, for Lsum: `\" . \"` in texts that are cut into words already.
        sentence_end: Option<String> = None,
    }
}

impl Params for RougeParams {
    type Scorer = Rouge;

    fn scorer(self) -> anyhow::Result<Rouge> {
        anyhow::ensure!(
            self.sentence_end.as_deref() != Some(""),
            "`sentence_end` is empty: no sentence would have words"
        );
        let (stems, sentence_end) = (self.stemmer.then(Vec::new), self.sentence_end);
        Ok(Rouge { stems, sentence_end, ..Rouge::default() })
    }
}

/// The scorer.
#[derive(Debug, Default)]
pub struct Rouge {
    vocabulary: Vocabulary,
    /// With the stemmer, the number of each known word's stem.
    stems: Option<Vec<u32>>,
    sentence_end: Option<String>,
    /// The word at work.
    word: Vec<u8>,
    answer: Text,
    target: Text,
    counts: Counts,
    /// Beside `counts`, where two texts are counted at once.
    target_counts: Counts,
    subsequences: Subsequences,
    marks: Vec<bool>,
}

/// A text's words by their numbers.
#[derive(Debug, Default)]
struct Text {
    words: Vec<u32>,
    /// Where each line that has words begins and ends.
    lines: Vec<(usize, usize)>,
    /// All pairs of neighbours, sorted.
    pairs: Vec<u64>,
}

impl Scorer for Rouge {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        Ok(Scored::of(self.values(answer)))
    }
}

impl Rouge {
    /// The best F-measures of ROUGE-1, -2, -L and -Lsum over the references.
    pub(super) fn values(&mut self, answer: &Answer<'_>) -> [f64; 4] {
        if self.vocabulary.make_room()
            && let Some(stems) = &mut self.stems
        {
            stems.clear();
        }
        let (mut words, mut target) = (std::mem::take(&mut self.answer), std::mem::take(&mut self.target));
        self.read(answer.prediction, &mut words);
        let mut best = [0.0_f64; 4];
        for reference in answer.references {
            self.read(reference, &mut target);
            let values = self.compare(&words, &target);
            best.iter_mut().zip(values).for_each(|(best, value)| *best = best.max(value));
        }
        (self.answer, self.target) = (words, target);
        best
    }

    fn compare(&mut self, answer: &Text, target: &Text) -> [f64; 4] {
        self.counts.fit(&self.vocabulary);
        self.target_counts.fit(&self.vocabulary);
        self.subsequences.fit(&self.vocabulary);
        let f = |hits| f_measure(hits, answer.words.len(), target.words.len());
        let longest = f(self.subsequences.length(&target.words, &answer.words));
        // One line each: their union is that one subsequence.
        let is_one_line = answer.lines.len() <= 1 && target.lines.len() <= 1;
        [
            f(self.counts.shared(&target.words, &answer.words)),
            f_measure(shared_pairs(&answer.pairs, &target.pairs), answer.pairs.len(), target.pairs.len()),
            longest,
            if is_one_line { longest } else { f(self.union_hits(answer, target)) },
        ]
    }

    /// ROUGE-Lsum's hits: for each line of the target, the union of its longest common subsequences with the lines of the
    /// answer; a word counts at most as often as it stands in either text.
    fn union_hits(&mut self, answer: &Text, target: &Text) -> usize {
        self.counts.add(&answer.words);
        self.target_counts.add(&target.words);
        let mut lines: Vec<&[u32]> = answer.lines.iter().map(|(start, end)| &answer.words[*start..*end]).collect();
        // A line that stands there twice adds nothing to a union.
        lines.sort_unstable();
        lines.dedup();
        // Which lines have which words: the others share no subsequence.
        let numbered = lines.iter().zip(0_usize..);
        let mut places: Vec<(u32, usize)> =
            numbered.flat_map(|(line, number)| line.iter().map(move |word| (*word, number))).collect();
        places.sort_unstable();
        places.dedup();
        let (mut hits, mut words, mut sharing) = (0, Vec::new(), Vec::new());
        for (start, end) in &target.lines {
            let line = &target.words[*start..*end];
            self.marks.clear();
            self.marks.resize(line.len(), false);
            words.clear();
            words.extend_from_slice(line);
            words.sort_unstable();
            words.dedup();
            sharing.clear();
            for word in &words {
                let places = &places[places.partition_point(|(other, _)| other < word)..];
                sharing.extend(places.iter().take_while(|(other, _)| other == word).map(|(_, number)| *number));
            }
            sharing.sort_unstable();
            sharing.dedup();
            for number in &sharing {
                self.subsequences.mark(line, lines[*number], &mut self.marks);
            }
            for (word, _) in line.iter().zip(&self.marks).filter(|(_, is_marked)| **is_marked) {
                hits += usize::from(self.counts.take(*word) && self.target_counts.take(*word));
            }
        }
        self.counts.clear(&answer.words);
        self.target_counts.clear(&target.words);
        hits
    }

    /// Reads the words of `text` into `into`.
    fn read(&mut self, text: &str, into: &mut Text) {
        into.words.clear();
        into.lines.clear();
        match self.sentence_end.take() {
            None => self.read_lines(text, into),
            Some(end) => {
                text.split(&end).for_each(|sentence| self.read_lines(sentence, into));
                self.sentence_end = Some(end);
            }
        }
        let pair = |pair: &[u32]| u64::from(pair[0]) << 32 | u64::from(pair[1]);
        into.pairs.clear();
        into.pairs.extend(into.words.windows(2).map(pair));
        into.pairs.sort_unstable();
    }

    /// Adds the words of `text`; each of its lines is a line.
    fn read_lines(&mut self, text: &str, into: &mut Text) {
        let mut line_start = into.words.len();
        let mut bytes = text.as_bytes().iter();
        self.word.clear();
        while let Some(byte) = bytes.next() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' => self.word.push(*byte),
                b'A'..=b'Z' => self.word.push(byte.to_ascii_lowercase()),
                // The two letters beyond ASCII whose lower case is one of ASCII, or begins with it: the sign of Kelvin …
                0xe2 if bytes.as_slice().starts_with(&[0x84, 0xaa]) => {
                    self.word.push(b'k');
                    bytes.nth(1);
                }
                // … and the I with a dot, whose dot then stands apart.
                0xc4 if bytes.as_slice().first() == Some(&0xb0) => {
                    self.word.push(b'i');
                    self.end_word(into);
                }
                b'\n' => {
                    self.end_word(into);
                    into.end_line(&mut line_start);
                }
                _ => self.end_word(into),
            }
        }
        self.end_word(into);
        into.end_line(&mut line_start);
    }

    fn end_word(&mut self, into: &mut Text) {
        if self.word.is_empty() {
            return;
        }
        let number = self.vocabulary.number(&self.word);
        into.words.push(match &mut self.stems {
            None => number,
            Some(stems) => stem_of(number, &self.word, &mut self.vocabulary, stems),
        });
        self.word.clear();
    }
}

impl Text {
    /// The words behind `start` are a line, if there are any.
    fn end_line(&mut self, start: &mut usize) {
        if *start < self.words.len() {
            self.lines.push((*start, self.words.len()));
        }
        *start = self.words.len();
    }
}

/// The number of the stem of the word `number`; words of three letters and less are their own.
fn stem_of(number: u32, word: &[u8], vocabulary: &mut Vocabulary, stems: &mut Vec<u32>) -> u32 {
    const UNKNOWN: u32 = u32::MAX;
    let index = number as usize;
    if stems.len() <= index {
        stems.resize(index + 1, UNKNOWN);
    }
    if stems[index] == UNKNOWN {
        stems[index] = match std::str::from_utf8(word) {
            Ok(word) if word.len() > 3 => vocabulary.number(porter::stem(word).as_bytes()),
            _ => number,
        };
    }
    stems[index]
}

/// How many pairs two sorted lists share, each as often as it stands in both.
fn shared_pairs(one: &[u64], other: &[u64]) -> usize {
    let (mut i, mut j, mut shared) = (0, 0, 0);
    while i < one.len() && j < other.len() {
        match one[i].cmp(&other[j]) {
            Ordering::Less => i += 1,
            Ordering::Greater => j += 1,
            Ordering::Equal => {
                shared += 1;
                i += 1;
                j += 1;
            }
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words as rouge_score finds them: lower case, then runs of letters and digits of ASCII.
    fn slowly(text: &str) -> Vec<String> {
        let text = text.to_lowercase();
        let words = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
        words.filter(|word| !word.is_empty()).map(str::to_string).collect()
    }

    #[test]
    fn every_character_is_read_as_its_lower_case() {
        let mut rouge = Rouge::default();
        for c in '\0'..=char::MAX {
            let text = format!("a{c}B{c}\n{c} 7");
            let mut read = Text::default();
            rouge.read(&text, &mut read);
            let expected: Vec<u32> =
                slowly(&text).iter().map(|word| rouge.vocabulary.number(word.as_bytes())).collect();
            assert_eq!(read.words, expected, "{c:?}");
            rouge.vocabulary.make_room();
        }
    }

    #[test]
    fn lines_without_words_are_none() {
        let mut read = Text::default();
        Rouge::default().read("\na b\n—\n\nb\n", &mut read);
        assert_eq!((read.words, read.lines), (vec![0, 1, 1], vec![(0, 2), (2, 3)]));
    }

    #[test]
    fn sentences_end_where_it_is_said() {
        let rouge = |end: Option<&str>| RougeParams { stemmer: false, sentence_end: end.map(str::to_string) }.scorer();
        let of = |end, [prediction, reference]: [&str; 2]| {
            let (references, row) = ([reference.into()], crate::row::Row::new());
            rouge(end).unwrap().values(&Answer { prediction, references: &references, row: &row })
        };
        let texts = ["it rains . the sun is gone .", "the sun is away . it rains ."];
        let lines = texts.map(|text| text.replace(" . ", " .\n"));
        let values = of(Some(" . "), texts);
        assert_eq!(values, of(None, [&lines[0], &lines[1]]));
        // All five words that they share, against the three in one order: rouge_score 0.1.2.
        assert_eq!(values[2..], [0.5, 5.0 / 6.0]);
        assert_eq!(of(None, texts)[3], 0.5);
        assert!(rouge(Some("")).unwrap_err().to_string().contains("`sentence_end` is empty"));
    }
}
