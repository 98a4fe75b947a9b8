//! Longest common subsequences of words, 64 rows of the table at a time.
//!
//! M. Crochemore et al., 'A fast and practical bit-vector algorithm for the longest common subsequence problem', 2001. A
//! bit stands for a word of the target. It is 0 where the length grows from the target's words up to the one before to
//! those up to it, and 1 where it does not. The target is cut into strips of 64 words, which are run along the answer
//! one after the other; what a strip's addition carries out of it goes into the next.

use super::words::Vocabulary;

/// Buffers for many pairs of texts.
#[derive(Debug, Default)]
pub(super) struct Subsequences {
    /// For each word, where it stands in the strip at work; zero between strips.
    places: Vec<u64>,
    /// What a strip carries into the next, for each word of the answer.
    carries: Vec<bool>,
    /// The bits of each strip behind the words of the answer that were run so far.
    state: Vec<u64>,
    /// The bits of a block's words, strip by strip.
    recorded: Vec<u64>,
    /// The state before each block.
    checkpoints: Vec<u64>,
}

/// How many numbers of 64 bits are recorded at a time: 2 MiB.
const RECORDED: usize = 1 << 18;

impl Subsequences {
    /// Makes room for the words of `vocabulary`.
    pub(super) fn fit(&mut self, vocabulary: &Vocabulary) {
        if self.places.len() < vocabulary.len() {
            self.places.resize(vocabulary.len().next_power_of_two(), 0);
        }
    }

    /// Length of the longest common subsequence.
    pub(super) fn length(&mut self, target: &[u32], answer: &[u32]) -> usize {
        self.start(target);
        self.run(target, answer, false);
        let strips = self.state.iter().zip(target.chunks(64));
        strips.map(|(bits, strip)| (!bits & low_bits(strip.len())).count_ones() as usize).sum()
    }

    /// Marks the positions in `target` of one longest common subsequence. Among several, the one that rouge_score's way
    /// back through the table finds: unions over lines depend on it.
    pub(super) fn mark(&mut self, target: &[u32], answer: &[u32], marks: &mut [bool]) {
        if target.is_empty() || answer.is_empty() {
            return;
        }
        let strips = target.len().div_ceil(64);
        // The table of two long texts does not fit: only the state before each block of it is kept, and a block is made
        // again when the way back comes to it.
        let block = (RECORDED / strips).max(answer.len().isqrt());
        self.start(target);
        self.checkpoints.clear();
        for words in answer.chunks(block) {
            self.checkpoints.extend_from_slice(&self.state);
            self.run(target, words, words.len() == answer.len());
        }
        let (mut row, mut column) = (target.len(), answer.len());
        let last = (answer.len() - 1) / block;
        for number in (0..=last).rev() {
            let start = number * block;
            let words = &answer[start..answer.len().min(start + block)];
            if last > 0 {
                self.state.clear();
                self.state.extend_from_slice(&self.checkpoints[number * strips..(number + 1) * strips]);
                self.run(target, words, true);
            }
            while row > 0 && column > start {
                let bits = self.recorded[(row - 1) / 64 * words.len() + (column - 1 - start)];
                if target[row - 1] == answer[column - 1] {
                    marks[row - 1] = true;
                    row -= 1;
                    column -= 1;
                } else if bits >> ((row - 1) % 64) & 1 == 0 {
                    column -= 1;
                } else {
                    row -= 1;
                }
            }
        }
    }

    fn start(&mut self, target: &[u32]) {
        self.state.clear();
        self.state.resize(target.len().div_ceil(64), u64::MAX);
    }

    /// Runs all strips along further words of the answer.
    fn run(&mut self, target: &[u32], words: &[u32], is_recorded: bool) {
        self.carries.clear();
        self.carries.resize(words.len(), false);
        self.recorded.clear();
        for (strip, state) in target.chunks(64).zip(&mut self.state) {
            for (bit, word) in strip.iter().enumerate() {
                self.places[*word as usize] |= 1 << bit;
            }
            let mut bits = *state;
            for (word, carry) in words.iter().zip(&mut self.carries) {
                let places = self.places[*word as usize];
                let (sum, over) = bits.overflowing_add(bits & places);
                let (sum, over_again) = sum.overflowing_add(u64::from(*carry));
                *carry = over || over_again;
                bits = sum | (bits & !places);
                if is_recorded {
                    self.recorded.push(bits);
                }
            }
            *state = bits;
            for word in strip {
                self.places[*word as usize] = 0;
            }
        }
    }
}

/// The lowest `count` bits, 1 to 64.
fn low_bits(count: usize) -> u64 {
    u64::MAX >> (64 - count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The same by the whole table, as rouge_score has it.
    fn by_table(target: &[u32], answer: &[u32]) -> (usize, Vec<bool>) {
        let mut table = vec![vec![0_usize; answer.len() + 1]; target.len() + 1];
        for i in 1..=target.len() {
            for j in 1..=answer.len() {
                table[i][j] = match target[i - 1] == answer[j - 1] {
                    true => table[i - 1][j - 1] + 1,
                    false => table[i - 1][j].max(table[i][j - 1]),
                };
            }
        }
        let mut marks = vec![false; target.len()];
        let (mut i, mut j) = (target.len(), answer.len());
        while i > 0 && j > 0 {
            if target[i - 1] == answer[j - 1] {
                marks[i - 1] = true;
                (i, j) = (i - 1, j - 1);
            } else if table[i][j - 1] > table[i - 1][j] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
        (table[target.len()][answer.len()], marks)
    }

    /// Texts of few words, so that they share much.
    fn text(random: Random, length: usize, words: u64) -> Vec<u32> {
        (0..length as u64).map(|index| u32::try_from(random.bits(index) % words).unwrap()).collect()
    }

    #[test]
    fn lengths_and_positions_are_those_of_the_whole_table() {
        let mut subsequences = Subsequences { places: vec![0; 64], ..Subsequences::default() };
        let random = Random::new(1, "test: subsequences");
        for case in 0..300_u64 {
            let (a, b) = (case as usize % 7 * 31 + case as usize % 5, case as usize % 11 * 23);
            let words = 1 + case % 40;
            let (target, answer) = (text(random.part(2 * case), a, words), text(random.part(2 * case + 1), b, words));
            let (length, expected) = by_table(&target, &answer);
            assert_eq!(subsequences.length(&target, &answer), length, "{target:?} {answer:?}");
            let mut marks = vec![false; target.len()];
            subsequences.mark(&target, &answer, &mut marks);
            assert_eq!(marks, expected, "{target:?} {answer:?}");
        }
    }

    #[test]
    fn a_table_that_does_not_fit_is_made_in_blocks() {
        let random = Random::new(2, "test: subsequences");
        let (target, answer) = (text(random.part(0), 6000, 30), text(random.part(1), 3500, 30));
        let mut subsequences = Subsequences { places: vec![0; 64], ..Subsequences::default() };
        let mut marks = vec![false; target.len()];
        subsequences.mark(&target, &answer, &mut marks);
        assert!(subsequences.checkpoints.len() > 94, "one block");
        assert_eq!(marks, by_table(&target, &answer).1);
    }
}
