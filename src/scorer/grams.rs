//! How many n-grams two texts share, for scorers that count them by the thousand.
//!
//! Words are numbers already ([`Vocabulary`](super::words::Vocabulary)); an n-gram is the number of the one before it and one symbol more, so that
//! no text is copied and nothing is compared but whole numbers ([`Grams`]). Orders are counted one after the other, in
//! memory that grows with the texts and not with the order. Everything is exact: hashes only say where to look.

/// Where nothing has been put.
const NONE: u32 = u32::MAX;

/// A 64-bit mix of both halves of a product (as wyhash has it).
fn mix(key: u64) -> u64 {
    let product = u128::from(key ^ 0xA076_1D64_78BD_642F) * u128::from(0xE703_7ED1_A0B4_28DB_u64);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

/// Numbers for keys: 0, 1, 2, … in the order of their first coming. Forgetting all keys costs nothing.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    /// One less than the number of slots in use, which is a power of two.
    mask: usize,
    /// What marks the slots that are taken.
    epoch: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    epoch: u32,
    number: u32,
}

impl Table {
    /// Forgets all keys; up to `keys` may come.
    fn clear(&mut self, keys: usize) {
        let slots = (2 * keys).next_power_of_two().max(16);
        if self.slots.len() < slots {
            self.slots.resize(slots, Slot::default());
        }
        self.mask = slots - 1;
        self.len = 0;
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.slots.fill(Slot::default());
            self.epoch = 1;
        }
    }

    /// The slot in which `key` is, or would be.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the mask takes what it needs")]
    fn slot(&self, key: u64) -> usize {
        let mut at = mix(key) as usize & self.mask;
        while self.slots[at].epoch == self.epoch && self.slots[at].key != key {
            at = (at + 1) & self.mask;
        }
        at
    }

    /// The number of `key`, which may be new.
    #[inline]
    fn insert(&mut self, key: u64) -> u32 {
        let at = self.slot(key);
        let slot = &mut self.slots[at];
        if slot.epoch != self.epoch {
            *slot = Slot { key, epoch: self.epoch, number: self.len };
            self.len += 1;
        }
        slot.number
    }

    /// The number of `key`, or [`NONE`].
    #[inline]
    fn get(&self, key: u64) -> u32 {
        let slot = &self.slots[self.slot(key)];
        if slot.epoch == self.epoch { slot.number } else { NONE }
    }
}

/// Several texts of numbered symbols.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// The symbols of all texts.
    pub(super) symbols: Vec<u32>,
    /// Where each text ends.
    ends: Vec<usize>,
}

impl Texts {
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.ends.clear();
    }

    /// Ends the text to which symbols have been pushed; its length.
    pub(super) fn end(&mut self) -> usize {
        let start = self.ends.last().copied().unwrap_or(0);
        self.ends.push(self.symbols.len());
        self.symbols.len() - start
    }

    /// The texts.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.ranges().map(|range| &self.symbols[range])
    }

    fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter()).map(|(start, end)| start..*end)
    }
}

/// Counts the n-grams that an answer shares with its references.
#[derive(Debug, Default)]
pub(super) struct Grams {
    table: Table,
    counts: Vec<Count>,
    /// Of each position of the references, the number of the n-gram of the last order that begins there.
    before: Vec<u32>,
    /// The positions of the answer whose n-gram of the last order is in a reference, each with its number.
    found: Vec<(u32, u32)>,
}

/// How often an n-gram stands in the references.
#[derive(Clone, Copy, Debug)]
struct Count {
    /// Where it stands most often, less what the answer has used up.
    left: u32,
    /// In the reference `text`, so far.
    here: u32,
    text: u32,
}

impl Grams {
    /// Puts into `shared`, for each order from 1, how many n-grams of `answer` are in `references`, each counted at most as
    /// often as in the reference that has it most often.
    #[expect(clippy::cast_possible_truncation, reason = "texts have fewer than 2^32 symbols")]
    pub(super) fn shared(&mut self, answer: &[u32], references: &Texts, shared: &mut [u64]) {
        self.before.clear();
        self.before.resize(references.symbols.len(), 0);
        self.found.clear();
        self.found.extend((0..answer.len() as u32).map(|position| (position, 0)));
        for (number, shared) in shared.iter_mut().enumerate() {
            *shared = 0;
            if !self.found.is_empty() {
                self.read(references, number);
                *shared = self.find(answer, number);
            }
        }
    }

    /// Counts the n-grams of order `more + 1` of the references.
    fn read(&mut self, references: &Texts, more: usize) {
        let Self { table, counts, before, .. } = self;
        table.clear(references.symbols.len());
        counts.clear();
        for (text, range) in (0_u32..).zip(references.ranges()) {
            let symbols = references.symbols[range.clone()].iter().skip(more);
            for (before, symbol) in before[range].iter_mut().zip(symbols) {
                let number = table.insert(key(*before, *symbol));
                *before = number;
                match counts.get_mut(number as usize) {
                    None => counts.push(Count { left: 1, here: 1, text }),
                    Some(count) => {
                        count.here = if count.text == text { count.here + 1 } else { 1 };
                        count.text = text;
                        count.left = count.left.max(count.here);
                    }
                }
            }
        }
    }

    /// How many n-grams of order `more + 1` of the answer were counted. Where one was not, no longer one will be.
    fn find(&mut self, answer: &[u32], more: usize) -> u64 {
        let Self { table, counts, found, .. } = self;
        let mut shared = 0;
        found.retain_mut(|(position, gram)| {
            let Some(symbol) = answer.get(*position as usize + more) else { return false };
            *gram = table.get(key(*gram, *symbol));
            let Some(count) = counts.get_mut(*gram as usize) else { return false };
            let counts = count.left > 0;
            count.left -= u32::from(counts);
            shared += u64::from(counts);
            true
        });
        shared
    }
}

fn key(before: u32, symbol: u32) -> u64 {
    u64::from(before) << 32 | u64::from(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The slow way to say it.
    fn slowly(answer: &[u32], references: &[Vec<u32>], order: usize) -> u64 {
        let count = |text: &[u32]| {
            let mut counts: BTreeMap<Vec<u32>, u64> = BTreeMap::new();
            text.windows(order).for_each(|gram| *counts.entry(gram.to_vec()).or_default() += 1);
            counts
        };
        let references: Vec<_> = references.iter().map(|text| count(text)).collect();
        let most =
            |gram: &Vec<u32>| references.iter().filter_map(|counts| counts.get(gram)).max().copied().unwrap_or(0);
        count(answer).iter().map(|(gram, count)| most(gram).min(*count)).sum()
    }

    #[test]
    fn shared_n_grams_are_counted_as_the_slow_way_counts_them() {
        let random = crate::random::Random::new(1, "grams");
        let text = |index: u64| -> Vec<u32> {
            let part = random.part(index);
            (0..part.bits(0) % 30).map(|position| (part.bits(1 + position) % 3) as u32).collect()
        };
        let (mut grams, mut shared) = (Grams::default(), [0; 6]);
        for round in 0..300 {
            let answer = text(4 * round);
            let references: Vec<Vec<u32>> = (0..round % 4).map(|number| text(4 * round + 1 + number)).collect();
            let mut texts = Texts::default();
            for reference in &references {
                texts.symbols.extend(reference);
                texts.end();
            }
            grams.shared(&answer, &texts, &mut shared);
            for (order, shared) in (1..).zip(shared) {
                assert_eq!(shared, slowly(&answer, &references, order), "{order} of {answer:?} in {references:?}");
            }
        }
    }
}
