//! Edits that make one text of another (Levenshtein's distance), and which of several shortest ways counts.
//!
//! H. Hyyrö, 'A bit-vector algorithm for computing Levenshtein and Damerau edit distances', 2003. A bit stands for a symbol
//! of the reference: whether the distance grows, or shrinks, from the symbols before it to those up to it. The reference
//! is cut into strips of 64, which are run along the answer one after the other. Two long texts are halved (D. S. Hirschberg,
//! 1975), so that memory grows with their length and not with its square.
//!
//! The number of edits is the same on all shortest ways; how many of them are substitutions is not. The way taken here is
//! RapidFuzz's, which jiwer counts.

/// How one text was made of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Edits {
    pub(super) substitutions: usize,
    /// Symbols of the reference that the answer lacks.
    pub(super) deletions: usize,
    /// Symbols of the answer that the reference lacks.
    pub(super) insertions: usize,
    /// Symbols that stayed.
    pub(super) hits: usize,
}

impl Edits {
    pub(super) fn errors(self) -> usize {
        self.substitutions + self.deletions + self.insertions
    }

    /// Symbols of the reference.
    pub(super) fn length(self) -> usize {
        self.substitutions + self.deletions + self.hits
    }
}

/// Buffers for many pairs of texts.
#[derive(Debug, Default)]
pub(super) struct Aligner {
    /// For each symbol, where it stands in the strip at work; zero between strips.
    places: Vec<u64>,
    /// What goes from a strip into the next, for each symbol of the answer.
    carries: Vec<Carry>,
    /// The bits behind each symbol of the answer, strip by strip.
    table: Vec<Bits>,
}

/// Whether the distance grows or shrinks from one symbol of the answer to the next, at a strip's lower edge.
#[derive(Clone, Copy, Debug)]
struct Carry {
    grows: bool,
    shrinks: bool,
}

/// Where the distance grows, or shrinks, along the reference.
#[derive(Clone, Copy, Debug)]
struct Bits {
    grows: u64,
    shrinks: u64,
}

/// Where the reference's strip has not met the answer yet, the distance grows with every symbol.
const START: Bits = Bits { grows: u64::MAX, shrinks: 0 };

/// A table of this many bytes is too large for RapidFuzz, which then halves the texts. Another limit would take other ways.
const LARGE: usize = 1 << 20;

impl Aligner {
    /// The edits that make `answer` of `reference`. Symbols are small numbers: there is a place for each up to the greatest.
    pub(super) fn edits(&mut self, reference: &[u32], answer: &[u32]) -> Edits {
        let symbols = reference.iter().chain(answer).max().map_or(0, |symbol| *symbol as usize + 1);
        if self.places.len() < symbols {
            self.places.resize(symbols.next_power_of_two(), 0);
        }
        let mut edits = Edits::default();
        self.align(reference, answer, reference.len().max(answer.len()), &mut edits);
        edits.hits = reference.len() - edits.substitutions - edits.deletions;
        edits
    }

    /// Counts the edits; there are at most `most`.
    fn align(&mut self, reference: &[u32], answer: &[u32], most: usize, edits: &mut Edits) {
        let (reference, answer) = without_common_ends(reference, answer);
        let most = most.min(reference.len().max(answer.len()));
        let band = reference.len().min(2 * most + 1);
        let is_large = 2 * band * answer.len() / 8 >= LARGE;
        if !is_large || reference.len() < 65 || answer.len() < 10 {
            self.align_by_table(reference, answer, edits);
            return;
        }
        let half = self.halve(reference, answer);
        self.align(&reference[..half.reference], &answer[..half.answer], half.before, edits);
        self.align(&reference[half.reference..], &answer[half.answer..], half.behind, edits);
    }

    fn align_by_table(&mut self, reference: &[u32], answer: &[u32], edits: &mut Edits) {
        self.table.clear();
        self.run(reference, answer, true);
        let (mut column, mut row) = (reference.len(), answer.len());
        let bits = |row: usize, column: usize| self.table[column / 64 * answer.len() + row];
        while row > 0 && column > 0 {
            if bits(row - 1, column - 1).grows >> ((column - 1) % 64) & 1 == 1 {
                edits.deletions += 1;
                column -= 1;
                continue;
            }
            row -= 1;
            if row > 0 && bits(row - 1, column - 1).shrinks >> ((column - 1) % 64) & 1 == 1 {
                edits.insertions += 1;
            } else {
                column -= 1;
                edits.substitutions += usize::from(reference[column] != answer[row]);
            }
        }
        edits.deletions += column;
        edits.insertions += row;
    }

    /// Runs all strips of the reference along the answer. Gives the bits behind its last symbol, strip by strip.
    fn run(&mut self, reference: &[u32], answer: &[u32], is_recorded: bool) -> Vec<Bits> {
        self.carries.clear();
        self.carries.resize(answer.len(), Carry { grows: true, shrinks: false });
        let mut last = Vec::with_capacity(reference.len().div_ceil(64));
        for strip in reference.chunks(64) {
            for (bit, symbol) in strip.iter().enumerate() {
                self.places[*symbol as usize] |= 1 << bit;
            }
            let mut bits = START;
            for (symbol, carry) in answer.iter().zip(&mut self.carries) {
                bits.step(self.places[*symbol as usize], carry);
                if is_recorded {
                    self.table.push(bits);
                }
            }
            last.push(bits);
            for symbol in strip {
                self.places[*symbol as usize] = 0;
            }
        }
        last
    }

    /// Where a shortest way crosses the middle of the answer: the first such place of the reference.
    fn halve(&mut self, reference: &[u32], answer: &[u32]) -> Half {
        let middle = answer.len() / 2;
        let before = distances(&self.run(reference, &answer[..middle], false), reference.len(), middle);
        let backwards = |text: &[u32]| text.iter().rev().copied().collect::<Vec<u32>>();
        let bits = self.run(&backwards(reference), &backwards(&answer[middle..]), false);
        let behind = distances(&bits, reference.len(), answer.len() - middle);
        let halves = before.iter().zip(behind.iter().rev()).enumerate();
        let halves = halves.map(|(reference, (before, behind))| Half {
            reference,
            answer: middle,
            before: *before,
            behind: *behind,
        });
        halves.min_by_key(|half| half.before + half.behind).unwrap_or_default()
    }
}

impl Bits {
    /// Goes on by a symbol of the answer, which stands in the strip at `places`.
    fn step(&mut self, places: u64, carry: &mut Carry) {
        let equal = places | u64::from(carry.shrinks);
        let diagonal = ((equal & self.grows).wrapping_add(self.grows) ^ self.grows) | equal | self.shrinks;
        let grows = self.shrinks | !(diagonal | self.grows);
        let shrinks = diagonal & self.grows;
        let (shifted_grows, shifted_shrinks) =
            (grows << 1 | u64::from(carry.grows), shrinks << 1 | u64::from(carry.shrinks));
        *carry = Carry { grows: grows >> 63 == 1, shrinks: shrinks >> 63 == 1 };
        self.grows = shifted_shrinks | !(diagonal | shifted_grows);
        self.shrinks = shifted_grows & diagonal;
    }
}

/// Where two texts are cut, and the number of edits on both sides.
#[derive(Default)]
struct Half {
    reference: usize,
    answer: usize,
    before: usize,
    behind: usize,
}

/// The distances of the first 0, 1, 2, … symbols of a reference to an answer of that length.
fn distances(bits: &[Bits], reference: usize, answer: usize) -> Vec<usize> {
    let mut distance = answer;
    let mut distances = Vec::with_capacity(reference + 1);
    distances.push(distance);
    for position in 0..reference {
        let (bits, bit) = (bits[position / 64], position % 64);
        // It shrinks from an edit at least, so there is no going below zero.
        distance = distance + usize::from(bits.grows >> bit & 1 == 1) - usize::from(bits.shrinks >> bit & 1 == 1);
        distances.push(distance);
    }
    distances
}

/// What lies between the first and the last symbols that two texts share.
fn without_common_ends<'a>(one: &'a [u32], other: &'a [u32]) -> (&'a [u32], &'a [u32]) {
    let start = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[start..], &other[start..]);
    let end = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    (&one[..one.len() - end], &other[..other.len() - end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The least number of edits, by the whole table.
    fn distance(reference: &[u32], answer: &[u32]) -> usize {
        let mut row: Vec<usize> = (0..=answer.len()).collect();
        for (i, symbol) in reference.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, other) in answer.iter().enumerate() {
                let substituted = diagonal + usize::from(symbol != other);
                diagonal = row[j + 1];
                row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
            }
        }
        row[answer.len()]
    }

    fn text(random: Random, length: usize, symbols: u64) -> Vec<u32> {
        (0..length as u64).map(|index| u32::try_from(random.bits(index) % symbols).unwrap()).collect()
    }

    fn check(aligner: &mut Aligner, reference: &[u32], answer: &[u32]) {
        let edits = aligner.edits(reference, answer);
        assert_eq!(edits.errors(), distance(reference, answer), "{reference:?} {answer:?}");
        assert_eq!(edits.length(), reference.len());
        assert_eq!(edits.hits + edits.substitutions + edits.insertions, answer.len());
    }

    #[test]
    fn there_is_no_shorter_way() {
        let mut aligner = Aligner::default();
        let random = Random::new(3, "test: edits");
        for case in 0..400_u64 {
            let (a, b) = (case as usize % 7 * 33 + case as usize % 4, case as usize % 13 * 17);
            let symbols = 1 + case % 30;
            check(&mut aligner, &text(random.part(2 * case), a, symbols), &text(random.part(2 * case + 1), b, symbols));
        }
    }

    #[test]
    fn long_texts_are_halved() {
        let mut aligner = Aligner::default();
        let random = Random::new(4, "test: edits");
        let (reference, mut answer) = (text(random.part(0), 4100, 20), text(random.part(1), 3000, 20));
        check(&mut aligner, &reference, &answer);
        assert!(aligner.table.len() * 16 < 8 * LARGE, "the table of {} is whole", aligner.table.len());
        answer.splice(0..1500, reference[200..1900].iter().copied());
        check(&mut aligner, &reference, &answer);
    }
}
