//! Scorers that read texts by a model: what they have in common, and (with the engine) how they get on with many rows.
//!
//! Texts are known by their tokens, and each is read once for all rows that have it. Rows are taken in the order of their
//! references, so that what several rows share need not be kept for long; what a row gets does not depend on the order.

use crate::key::Digest;
use serde_json::Value;
use std::path::Path;

use super::Answer;

/// The values of a row, one for each metric.
pub type Values = Vec<Option<f64>>;

/// What a scorer that reads texts by a model is made of.
#[derive(Clone, Copy, Debug)]
pub struct ByModel {
    /// The setting that may name a file besides the model, and what it is.
    pub file: Option<(&'static str, &'static str)>,
    /// A column that every row must have.
    pub column: Option<&'static str>,
    /// Fills in what depends on the name of the model. An error says what is missing.
    pub complete: fn(&mut Value, &str) -> Result<(), String>,
    /// Makes it ready. Without the engine there is no such thing.
    #[cfg(feature = "candle")]
    pub build: fn(Value, &Files<'_>) -> anyhow::Result<Box<dyn ModelScorer>>,
    /// Looks at a model's folder before anything runs.
    #[cfg(feature = "candle")]
    pub check: fn(&Value, &Path) -> anyhow::Result<()>,
}

/// What it reads besides the rows.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The model's folder.
    pub model: &'a Path,
    /// The other file, if the scorer's settings name one.
    pub other: Option<&'a Path>,
}

/// A scorer that reads texts by a model, ready.
pub trait ModelScorer {
    /// Takes in the next row.
    ///
    /// # Errors
    /// If it has texts that the model cannot read.
    fn take(&mut self, answer: &Answer<'_>) -> anyhow::Result<()>;

    /// For each row that was taken in, what its values depend on besides parameters, model and file.
    fn keys(&mut self) -> Vec<Digest>;

    /// The values of rows, by their numbers; says each, by its place among them, as soon as it has it.
    fn score(&mut self, rows: &[usize], said: &mut dyn FnMut(usize, &Values)) -> Vec<Values>;
}

#[cfg(feature = "candle")]
pub(super) use with_engine::*;

#[cfg(feature = "candle")]
mod with_engine {
    use super::{Digest, Values};
    use crate::engine::encoder::Text;
    use std::collections::BTreeMap;

    /// Tokens that a model reads at once: enough for its products to be worth it, and few enough for caches.
    const WINDOW: usize = 2048;

    /// The texts of a row, by their numbers.
    #[derive(Debug)]
    pub(in crate::scorer) struct RowTexts {
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
    pub(in crate::scorer) struct Taken {
        pub texts: Vec<Text>,
        numbers: BTreeMap<Digest, usize>,
        pub rows: Vec<RowTexts>,
    }

    impl Taken {
        /// The number of a text.
        pub(in crate::scorer) fn number(&mut self, text: Text) -> usize {
            let next = self.texts.len();
            let number = *self.numbers.entry(digest(&text)).or_insert(next);
            if number == next {
                self.texts.push(text);
            }
            number
        }

        /// What the values of a row depend on, besides numbers of which `more` gives the bytes.
        pub(in crate::scorer) fn key(&self, row: &RowTexts, more: impl Fn(&Text) -> Vec<u8>) -> Digest {
            let mut hasher = blake3::Hasher::new();
            for number in row.all() {
                let text = &self.texts[number];
                hasher.update(digest(text).as_bytes()).update(&more(text));
            }
            hasher.finalize().into()
        }

        /// The values of rows: `read` makes something of texts, several at a time, and `value` of what was made of a row's
        /// texts.
        pub(in crate::scorer) fn score<T>(
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
    pub(in crate::scorer) fn greatest(values: impl Iterator<Item = f64>) -> Option<f64> {
        values.reduce(f64::max)
    }
}
