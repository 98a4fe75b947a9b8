//! METEOR as NLTK computes it, from 0 to 1: words that are equal, have one stem or are synonyms, and how they are ordered.
//!
//! A. Lavie and A. Agarwal, 'METEOR: an automatic metric for MT evaluation with high levels of correlation with human
//! judgments', 2007. HF's metric calls NLTK. What differs here: a text is not cut into sentences first (NLTK does that by
//! trained data, punkt's), so a full stop within a text stays with its word, as with `word_tokenize(preserve_line=True)`.

mod treebank;
pub mod wordnet;

use super::words::Vocabulary;
use super::{Answer, Better, Definition, Metric, References, Scored, Scorer, WithFolder, Work, porter};
use treebank::Treebank;
use wordnet::WordNet;

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "meteor",
    version: 1,
    summary: "METEOR of 0 to 1: words shared with a reference, as they stand, by their stems or as synonyms, and how well ordered they are",
    source: "NLTK 3.10.4, `meteor_score`, which HF evaluate's `meteor` calls: equal values without punkt's sentences",
    metrics: &[Metric { name: "meteor", range: (0.0, 1.0), better: Better::Higher }],
    pooled: &[],
    references: References::Some,
    read: super::read::<MeteorParams>,
    settings: super::settings::<MeteorParams>,
    work: Work::WithFolder(WithFolder {
        setting: ("wordnet", "A folder with the files of WordNet 3.0: words that it knows as synonyms match, too."),
        build: |params, folder| {
            let wordnet = folder.map(WordNet::read).transpose()?;
            Ok(Box::new(Meteor::new(serde_json::from_value(params)?, wordnet)?))
        },
        check: WordNet::check,
    }),
};

crate::settings! {
    /// How METEOR weighs.
    pub struct MeteorParams {
        /// How much of the mean is precision's weight, not recall's.
        alpha: f64 = 0.9 => 0.0..=1.0,
        /// The power of the share of broken order in the penalty.
        beta: f64 = 3.0 => 0.0..=1e6,
        /// The greatest penalty for broken order.
        gamma: f64 = 0.5 => 0.0..=1.0,
    }
}

/// The scorer.
#[derive(Debug)]
pub struct Meteor {
    params: MeteorParams,
    treebank: Treebank,
    wordnet: Option<WordNet>,
    vocabulary: Vocabulary,
    matcher: Matcher,
}

impl Scorer for Meteor {
    fn score_row(&mut self, answer: &Answer<'_>) -> anyhow::Result<Scored> {
        let words = self.words(answer.prediction);
        Ok(Scored::of(answer.best(|_, reference| {
            let reference = self.words(reference);
            self.compare(&words, &reference)
        })?))
    }
}

impl Meteor {
    /// With the synonyms of a WordNet, or without any.
    ///
    /// # Errors
    /// None that a user could cause: expressions of its own do not compile.
    pub fn new(params: MeteorParams, wordnet: Option<WordNet>) -> anyhow::Result<Self> {
        let (treebank, vocabulary, matcher) = (Treebank::new()?, Vocabulary::default(), Matcher::default());
        Ok(Self { params, treebank, wordnet, vocabulary, matcher })
    }

    fn words(&self, text: &str) -> Vec<String> {
        self.treebank.words(text).iter().map(|word| word.to_lowercase()).collect()
    }

    fn compare(&mut self, answer: &[String], reference: &[String]) -> anyhow::Result<f64> {
        self.align(answer, reference)?;
        let matches = self.matcher.matches.len();
        if matches == 0 {
            return Ok(0.0);
        }
        let MeteorParams { alpha, beta, gamma } = self.params;
        let precision = matches as f64 / answer.len() as f64;
        let recall = matches as f64 / reference.len() as f64;
        let mean = (precision * recall) / (alpha * precision + (1.0 - alpha) * recall);
        let broken = self.matcher.chunks() as f64 / matches as f64;
        Ok((1.0 - gamma * broken.powf(beta)) * mean)
    }

    /// Matches words as they stand, then by their stems, then by synonyms of the stems.
    fn align(&mut self, answer: &[String], reference: &[String]) -> anyhow::Result<()> {
        let Self { vocabulary, matcher, wordnet, .. } = self;
        vocabulary.clear();
        matcher.start(answer.len(), reference.len());
        let mut numbers =
            |words: &[String]| words.iter().map(|word| vocabulary.number(word.as_bytes())).collect::<Vec<_>>();
        matcher.equal(&numbers(answer), &numbers(reference));
        // What is matched already needs no stem.
        let stems = |words: &[String], open: &[usize]| {
            let mut stems = vec![String::new(); words.len()];
            open.iter().for_each(|at| stems[*at] = stem(&words[*at]));
            stems
        };
        let (answer, reference) = (stems(answer, &matcher.answer), stems(reference, &matcher.reference));
        let reference = numbers(&reference);
        matcher.equal(&numbers(&answer), &reference);
        if let Some(wordnet) = wordnet {
            let mut synonyms = vec![Vec::new(); answer.len()];
            for at in &matcher.answer {
                let words = wordnet.synonyms(&answer[*at])?;
                synonyms[*at].extend(words.into_iter().filter_map(|word| vocabulary.find(word.as_bytes())));
                synonyms[*at].extend(vocabulary.find(answer[*at].as_bytes()));
            }
            matcher.similar(|at| synonyms[at].as_slice(), &reference);
        }
        matcher.matches.sort_unstable();
        Ok(())
    }
}

/// Pairs of words that match.
#[derive(Debug, Default)]
struct Matcher {
    /// The words of either text that are not matched yet, in their order.
    answer: Vec<usize>,
    reference: Vec<usize>,
    matches: Vec<(usize, usize)>,
    /// For each number of a word, the last word of the reference that is not matched yet, counted from 1; for each word of
    /// the reference, the one before that is the same.
    last: Vec<usize>,
    before: Vec<usize>,
    taken: Vec<bool>,
}

impl Matcher {
    fn start(&mut self, answer: usize, reference: usize) {
        self.answer.clear();
        self.answer.extend(0..answer);
        self.reference.clear();
        self.reference.extend(0..reference);
        self.matches.clear();
    }

    /// Matches equal words: each of the answer, from the last to the first, with the last of the reference.
    fn equal(&mut self, answer: &[u32], reference: &[u32]) {
        self.similar(|at| [answer[at]], reference);
    }

    /// The same for words that may be any of several: the last of all those of the reference is taken.
    fn similar<T: AsRef<[u32]>>(&mut self, numbers: impl Fn(usize) -> T, reference: &[u32]) {
        self.last.clear();
        self.before.clear();
        self.before.resize(reference.len(), 0);
        self.taken.clear();
        self.taken.resize(reference.len(), false);
        for at in &self.reference {
            let number = reference[*at] as usize;
            if self.last.len() <= number {
                self.last.resize(number + 1, 0);
            }
            self.before[*at] = std::mem::replace(&mut self.last[number], at + 1);
        }
        for open in (0..self.answer.len()).rev() {
            let at = self.answer[open];
            let last = |number: &u32| Some((*self.last.get(*number as usize)?, *number as usize));
            let best = numbers(at).as_ref().iter().filter_map(last).max();
            let Some((found @ 1.., number)) = best else { continue };
            self.last[number] = self.before[found - 1];
            self.taken[found - 1] = true;
            self.matches.push((at, found - 1));
            // Not a place in any text: it goes when all are through.
            self.answer[open] = usize::MAX;
        }
        self.answer.retain(|at| *at != usize::MAX);
        self.reference.retain(|at| !self.taken[*at]);
    }

    /// How many runs of neighbours in both texts the matches are.
    fn chunks(&self) -> usize {
        let goes_on = |pair: &&[(usize, usize)]| pair[0].0 + 1 == pair[1].0 && pair[0].1 + 1 == pair[1].1;
        self.matches.len() - self.matches.windows(2).filter(goes_on).count()
    }
}

/// The Porter stem of any word in lower case. The stemmer knows ASCII; to its rules any other character is a consonant,
/// and two that follow each other are the same or not. So they become two letters that a word in lower case has not.
fn stem(word: &str) -> String {
    if word.is_ascii() {
        return porter::stem(word);
    }
    if word.chars().nth(2).is_none() {
        return word.to_string();
    }
    let mut before = None;
    let mut letter = 'A';
    let plain: String = word
        .chars()
        .map(|c| {
            let other = before.replace(c).is_some_and(|before: char| !before.is_ascii() && before != c);
            match c {
                _ if c.is_ascii() => c,
                _ if other && letter == 'A' => {
                    letter = 'B';
                    letter
                }
                _ if other => {
                    letter = 'A';
                    letter
                }
                _ => letter,
            }
        })
        .collect();
    let mut originals = word.chars().filter(|c| !c.is_ascii());
    let restore = |c: char| if matches!(c, 'A' | 'B') { originals.next().unwrap_or(c) } else { c };
    porter::stem(&plain).chars().map(restore).collect()
}

#[cfg(test)]
mod tests;
