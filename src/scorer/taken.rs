//! The rows that a scorer by a model has taken in, and how it gets on with many of them.
//!
//! Texts are known by their tokens, and each is read once for all rows that have it. Rows are taken in the order of their
//! references, so that what several rows share need not be kept for long; what a row gets does not depend on the order.

use super::Answer;
use super::models::Values;
use crate::engine::encoder::Text;
use crate::key::Digest;
use std::collections::BTreeMap;

/// Tokens that a model reads at once: enough for its products to be worth it, and few enough for caches.
const WINDOW: usize = 2048;

/// The texts of a row, by their numbers.
#[derive(Debug)]
pub(super) struct RowTexts {
    pub prediction: usize,
    pub references: Vec<usize>,
}

impl RowTexts {
    fn all(&self) -> impl Iterator<Item = usize> + '_ {
        self.references.iter().copied().chain([self.prediction])
    }
}

/// The rows that were taken in.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub texts: Vec<Text>,
    numbers: BTreeMap<Digest, usize>,
    pub rows: Vec<RowTexts>,
}

impl Taken {
    /// Takes in the texts of the next row, each as `read` reads it.
    pub(super) fn take(
        &mut self,
        answer: &Answer<'_>,
        mut read: impl FnMut(&str) -> anyhow::Result<Text>,
    ) -> anyhow::Result<()> {
        let mut number = |text: &str| Ok(self.number(read(text)?));
        let references = answer.references.iter().map(|text| number(text)).collect::<anyhow::Result<_>>()?;
        let prediction = number(answer.prediction)?;
        self.rows.push(RowTexts { prediction, references });
        Ok(())
    }

    /// The number of a text.
    fn number(&mut self, text: Text) -> usize {
        let next = self.texts.len();
        let number = *self.numbers.entry(digest(&text)).or_insert(next);
        if number == next {
            self.texts.push(text);
        }
        number
    }

    /// For each row, what its values depend on: its texts, and the bytes that `more` gives of each.
    pub(super) fn keys(&self, more: impl Fn(&Text) -> Vec<u8>) -> Vec<Digest> {
        let key = |row: &RowTexts| {
            let mut hasher = blake3::Hasher::new();
            for number in row.all() {
                let text = &self.texts[number];
                hasher.update(digest(text).as_bytes()).update(&more(text));
            }
            hasher.finalize().into()
        };
        self.rows.iter().map(key).collect()
    }

    /// The values of rows: `read` makes something of texts, several at a time, and `value` of what was made of a row's
    /// texts.
    pub(super) fn score<T>(
        &self,
        rows: &[usize],
        mut read: impl FnMut(&[&Text]) -> Vec<T>,
        value: impl Fn(&RowTexts, &BTreeMap<usize, T>) -> Values,
        said: &mut dyn FnMut(usize, &Values),
    ) -> Vec<Values> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|place| {
            let row = &self.rows[rows[*place]];
            (row.references.first().copied(), row.prediction, *place)
        });
        // How many of the open rows still need a text.
        let mut needed: BTreeMap<usize, usize> = BTreeMap::new();
        rows.iter().flat_map(|row| self.rows[*row].all()).for_each(|text| *needed.entry(text).or_default() += 1);
        let (mut made, mut values) = (BTreeMap::new(), vec![Values::new(); rows.len()]);
        let mut open = order.as_slice();
        while !open.is_empty() {
            let (window, fresh) = self.window(open, rows, &made);
            let texts: Vec<&Text> = fresh.iter().map(|number| &self.texts[*number]).collect();
            made.extend(fresh.iter().copied().zip(read(&texts)));
            for place in &open[..window] {
                let row = &self.rows[rows[*place]];
                values[*place] = value(row, &made);
                said(*place, &values[*place]);
                for text in row.all() {
                    let left = needed.entry(text).or_insert(1);
                    *left -= 1;
                    if *left == 0 {
                        made.remove(&text);
                    }
                }
            }
            open = &open[window..];
        }
        values
    }

    /// How many of the open rows go together, and their texts that are to be read.
    fn window<T>(&self, open: &[usize], rows: &[usize], made: &BTreeMap<usize, T>) -> (usize, Vec<usize>) {
        let (mut fresh, mut tokens) = (Vec::new(), 0);
        for (count, place) in open.iter().enumerate() {
            if tokens >= WINDOW {
                return (count, fresh);
            }
            for text in self.rows[rows[*place]].all() {
                if !made.contains_key(&text) && !fresh.contains(&text) {
                    fresh.push(text);
                    tokens += self.texts[text].ids.len();
                }
            }
        }
        (open.len(), fresh)
    }
}

fn digest(text: &Text) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for numbers in [&text.ids, &text.types] {
        hasher.update(&(numbers.len() as u64).to_le_bytes());
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
    }
    hasher.finalize().into()
}

/// The greatest of values; nothing without any.
pub(super) fn greatest(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::max)
}
