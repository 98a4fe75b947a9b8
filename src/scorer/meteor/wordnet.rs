//! Synonyms from the files of a WordNet 3.0 (`index.noun`, `data.noun`, `noun.exc` and those of the other parts of speech).
//!
//! A word is looked up as NLTK does: as it stands, and by its base forms, which are in a list of exceptions or what rules
//! make of it.

use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// The parts of speech: their files, and the endings that rules replace.
const PARTS: [(&str, &[(&str, &str)]); 4] = [
    (
        "noun",
        &[
            ("s", ""),
            ("ses", "s"),
            ("ves", "f"),
            ("xes", "x"),
            ("zes", "z"),
            ("ches", "ch"),
            ("shes", "sh"),
            ("men", "man"),
            ("ies", "y"),
        ],
    ),
    ("verb", &[("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")]),
    ("adj", &[("er", ""), ("est", ""), ("er", "e"), ("est", "e")]),
    ("adv", &[]),
];

/// The files of nouns, verbs, adjectives and adverbs, read.
#[derive(Debug)]
pub struct WordNet {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    rules: &'static [(&'static str, &'static str)],
    /// `index.*`, and where its lines are, by the word with which they begin.
    index: String,
    lines: Vec<Range<usize>>,
    /// `data.*`: lines that are found by their offset.
    data: String,
    exceptions: BTreeMap<String, Vec<String>>,
}

impl WordNet {
    /// The names of the files that are read.
    pub fn files() -> impl Iterator<Item = String> {
        PARTS.iter().flat_map(|(name, _)| [format!("index.{name}"), format!("data.{name}"), format!("{name}.exc")])
    }

    /// Says which files a folder lacks; none is read.
    ///
    /// # Errors
    /// If one is missing.
    pub fn check(folder: &Path) -> anyhow::Result<()> {
        let missing: Vec<String> = Self::files().filter(|name| !folder.join(name).is_file()).collect();
        ensure!(missing.is_empty(), "the folder lacks `{}` of WordNet 3.0", missing.join("`, `"));
        Ok(())
    }

    /// Reads the files of a folder.
    ///
    /// # Errors
    /// If one is missing.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let read = |name: String| {
            let path = folder.join(name);
            let text = std::fs::read_to_string(&path);
            text.with_context(|| {
                format!("cannot read `{}`: expected a folder with WordNet 3.0's files", path.display())
            })
        };
        let part = |(name, rules): &(&'static str, &'static [(&str, &str)])| {
            let (index, data) = (read(format!("index.{name}"))?, read(format!("data.{name}"))?);
            let lines = lines(&index);
            let exceptions = read(format!("{name}.exc"))?;
            let exceptions = exceptions.lines().filter_map(|line| {
                let mut words = line.split_whitespace().map(str::to_string);
                Some((words.next()?, words.collect()))
            });
            Ok(Part { name, rules, lines, index, data, exceptions: exceptions.collect() })
        };
        Ok(Self { parts: PARTS.iter().map(part).collect::<anyhow::Result<_>>()? })
    }

    /// The words that mean what `word`, in lower case, may mean: single words, as they are written.
    ///
    /// # Errors
    /// If a line of the files is not as WordNet's are.
    pub fn synonyms(&self, word: &str) -> anyhow::Result<Vec<&str>> {
        let mut synonyms = Vec::new();
        for part in &self.parts {
            for form in part.forms(word) {
                let Some(line) = part.line(&form) else { continue };
                for offset in offsets(line).with_context(|| format!("`index.{}`: {line}", part.name))? {
                    part.words_at(offset, &mut synonyms)
                        .with_context(|| format!("`data.{}` at {offset}", part.name))?;
                }
            }
        }
        synonyms.sort_unstable();
        synonyms.dedup();
        Ok(synonyms)
    }
}

/// Where the lines of an index are, without those of the licence, which begin with a space.
fn lines(index: &str) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for line in index.split_inclusive('\n') {
        if !line.starts_with(' ') {
            lines.push(start..start + line.trim_ascii_end().len());
        }
        start += line.len();
    }
    // WordNet's are sorted already.
    lines.sort_by_key(|line| first_word(&index[line.clone()]));
    lines
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// The offsets in a line of an index: `word part senses pointers … senses tagged offset …`.
fn offsets(line: &str) -> anyhow::Result<Vec<usize>> {
    let mut fields = line.split_ascii_whitespace().skip(2);
    let mut number = || fields.next().and_then(|field| field.parse::<usize>().ok()).context("a number is missing");
    let (senses, pointers) = (number()?, number()?);
    let offsets = line.split_ascii_whitespace().skip(4 + pointers + 2);
    let offsets: Vec<usize> = offsets.map(str::parse).collect::<Result<_, _>>().context("an offset is no number")?;
    ensure!(offsets.len() == senses, "{} offsets for {senses} senses", offsets.len());
    Ok(offsets)
}

impl Part {
    /// `word` and its base forms, known or not.
    fn forms(&self, word: &str) -> Vec<String> {
        let mut forms = vec![word.to_string()];
        match self.exceptions.get(word) {
            Some(bases) => forms.extend(bases.iter().cloned()),
            None => {
                let base = |(old, new): &(&str, &str)| Some(format!("{}{new}", word.strip_suffix(old)?));
                forms.extend(self.rules.iter().filter_map(base));
            }
        }
        forms
    }

    fn line(&self, word: &str) -> Option<&str> {
        let at = self.lines.binary_search_by_key(&word, |line| first_word(&self.index[line.clone()])).ok()?;
        Some(&self.index[self.lines[at].clone()])
    }

    /// Adds the words of the set of synonyms at `offset`: `offset file part words word id word id …`, `words` in hexadecimal.
    fn words_at<'a>(&'a self, offset: usize, words: &mut Vec<&'a str>) -> anyhow::Result<()> {
        let mut fields = self.data.get(offset..).context("the file is shorter")?.split(' ');
        let there = fields.next().and_then(|field| field.parse().ok());
        ensure!(there == Some(offset), "there is another line: is the file whole?");
        let count = fields.nth(2).and_then(|field| usize::from_str_radix(field, 16).ok()).context("no count")?;
        for _ in 0..count {
            let word = fields.next().context("a word is missing")?;
            // Some adjectives say where they stand: `galore(ip)`.
            let word = word.split('(').next().unwrap_or(word);
            if !word.contains('_') {
                words.push(word);
            }
            fields.next();
        }
        Ok(())
    }
}
