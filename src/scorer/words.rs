//! Words as numbers, which are compared, counted and looked up at once. Knows bytes; not what a word is.

/// Numbers for words, given in the order in which they are met.
///
/// It may keep what it has met from row to row, because texts of one task share most of their words; a scorer lets it
/// forget before a row ([`Vocabulary::make_room`], [`Vocabulary::clear`]), so that a million rows need no more memory than a few.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    /// Number + 1 of the word whose hash leads here, or 0. A power of two of them, at most half of them taken.
    slots: Vec<u32>,
    words: Vec<Word>,
    /// The words' bytes, one after the other.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Word {
    hash: u64,
    start: usize,
    end: usize,
}

/// More words than this, or more bytes, are forgotten before the next row.
const MANY_WORDS: usize = 1 << 16;
const MANY_BYTES: usize = 1 << 20;

impl Vocabulary {
    /// The number of `word`.
    pub(super) fn number(&mut self, word: &[u8]) -> u32 {
        if self.words.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let hash = hash(word);
        let at = match self.look_up(word, hash) {
            Ok(number) => return number,
            Err(at) => at,
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(word);
        self.words.push(Word { hash, start, end: self.bytes.len() });
        // A text of 2^32 words does not fit into a row.
        let count = u32::try_from(self.words.len()).unwrap_or(u32::MAX);
        self.slots[at] = count;
        count - 1
    }

    /// The number of `word`, if it has one.
    pub(super) fn find(&self, word: &[u8]) -> Option<u32> {
        if self.words.is_empty() { None } else { self.look_up(word, hash(word)).ok() }
    }

    /// The number of `word`, or the slot where it would stand.
    fn look_up(&self, word: &[u8], hash: u64) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = slot(hash, mask);
        while let Some(number) = self.slots[at].checked_sub(1) {
            let known = &self.words[number as usize];
            if known.hash == hash && self.bytes[known.start..known.end] == *word {
                return Ok(number);
            }
            at = (at + 1) & mask;
        }
        Err(at)
    }

    /// How many words it knows: their numbers are smaller.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Forgets all words: for tables by number, which are to be as small as a row.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.words.clear();
        self.bytes.clear();
    }

    /// Forgets all words if they are many, and says so.
    pub(super) fn make_room(&mut self) -> bool {
        let many = self.words.len() > MANY_WORDS || self.bytes.len() > MANY_BYTES;
        if many {
            *self = Self::default();
        }
        many
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(256);
        self.slots.clear();
        self.slots.resize(size, 0);
        for (number, word) in (1..).zip(&self.words) {
            let mut at = slot(word.hash, size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = number;
        }
    }
}

/// The upper half of the hash is the better one.
fn slot(hash: u64, mask: usize) -> usize {
    let upper = (hash >> 32) as usize;
    upper & mask
}

/// Multiplies and folds eight bytes at a time. Which number a word gets does not depend on it.
fn hash(word: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |hash: u64, bytes: [u8; 8]| {
        let product = u128::from(hash ^ u64::from_le_bytes(bytes)) * u128::from(FACTOR);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let (low, high) = (product as u64, (product >> 64) as u64);
        low ^ high
    };
    let mut hash = FACTOR ^ word.len() as u64;
    let (chunks, rest) = word.as_chunks::<8>();
    for chunk in chunks {
        hash = fold(hash, *chunk);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // Twice: one multiplication of a short word leaves the upper bits poor.
    fold(fold(hash, last), [0; 8])
}

/// How often each word stands in a text. All zero between uses, so that it costs what the texts cost and no more.
#[derive(Debug, Default)]
pub(super) struct Counts(Vec<u32>);

impl Counts {
    /// Makes room for the words of `vocabulary`.
    pub(super) fn fit(&mut self, vocabulary: &Vocabulary) {
        if self.0.len() < vocabulary.len() {
            self.0.resize(vocabulary.len().next_power_of_two(), 0);
        }
    }

    /// Adds every word of `text`.
    pub(super) fn add(&mut self, text: &[u32]) {
        for word in text {
            self.0[*word as usize] += 1;
        }
    }

    /// Takes one `word` away; false if there is none left.
    pub(super) fn take(&mut self, word: u32) -> bool {
        let left = &mut self.0[word as usize];
        let has = *left > 0;
        *left -= u32::from(has);
        has
    }

    /// Back to zero for every word of `text`.
    pub(super) fn clear(&mut self, text: &[u32]) {
        for word in text {
            self.0[*word as usize] = 0;
        }
    }

    /// How many words two texts share, each as often as it stands in both.
    pub(super) fn shared(&mut self, one: &[u32], other: &[u32]) -> usize {
        self.add(one);
        let shared = other.iter().filter(|word| self.take(**word)).count();
        self.clear(one);
        shared
    }
}

/// The harmonic mean of `hits / answer` and `hits / target`; 0 where there is nothing to share.
pub(super) fn f_measure(hits: usize, answer: usize, target: usize) -> f64 {
    if hits == 0 {
        return 0.0;
    }
    let precision = hits as f64 / answer as f64;
    let recall = hits as f64 / target as f64;
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_have_one_number() {
        let mut vocabulary = Vocabulary::default();
        let words: Vec<String> = (0..5000).map(|number| format!("{}{number}", "x".repeat(number % 20))).collect();
        let numbers: Vec<u32> = words.iter().map(|word| vocabulary.number(word.as_bytes())).collect();
        assert!(numbers.iter().enumerate().all(|(index, number)| *number as usize == index));
        let again: Vec<u32> = words.iter().map(|word| vocabulary.number(word.as_bytes())).collect();
        assert_eq!(numbers, again);
        assert_eq!(vocabulary.number(b""), 5000);
        assert!(!vocabulary.make_room());
        vocabulary.number(&vec![b'a'; MANY_BYTES]);
        assert!(vocabulary.make_room());
        assert_eq!((vocabulary.len(), vocabulary.number(b"x")), (0, 0));
    }

    #[test]
    fn equal_words_have_equal_numbers_when_others_are_forgotten() {
        let mut vocabulary = Vocabulary::default();
        assert_eq!(vocabulary.find(b""), None);
        for round in 0..3 {
            vocabulary.clear();
            let words: Vec<String> =
                (0..1000).map(|number| format!("{}w{}", "long".repeat(number % 5), number)).collect();
            for _ in 0..2 {
                for (number, word) in (0..).zip(&words) {
                    assert_eq!(vocabulary.number(word.as_bytes()), number, "{word} in round {round}");
                }
            }
            assert_eq!((vocabulary.find(b"longw1"), vocabulary.find(b"w1")), (Some(1), None));
            // Zeros at the end are not what a short word is filled up with.
            assert_ne!(vocabulary.number(b"a\0"), vocabulary.number(b"a"));
        }
    }

    #[test]
    fn words_are_shared_as_often_as_both_have_them() {
        let mut counts = Counts(vec![0; 4]);
        assert_eq!(counts.shared(&[0, 1, 1, 2], &[1, 1, 1, 3]), 2);
        assert_eq!(counts.shared(&[3, 1], &[1, 3]), 2);
        assert_eq!(counts.0, [0; 4]);
    }
}
