//! Which runs of words are shifted: tercom's search with sacrebleu's limits.

use super::distance::{Step, Table};

/// The most words that are shifted at once.
const LONGEST: usize = 10;
/// How far apart a run of words may stand in answer and reference.
const FARTHEST: usize = 50;
/// How many shifts are tried for one pair of texts.
const MOST_TRIED: usize = 1000;

/// Counts edits, row after row.
#[derive(Debug, Default)]
pub(super) struct Shifter {
    table: Table,
    /// The answer, as shifted so far.
    words: Vec<u32>,
    shifted: Vec<u32>,
    alignment: Alignment,
}

/// What stands where, by the steps from answer to reference.
#[derive(Debug, Default)]
struct Alignment {
    /// For each word of the reference the index after the word of the answer that it is made of (0: before all).
    after: Vec<usize>,
    /// For each word, and the end, how many words before it are not right.
    reference_errors: Vec<u32>,
    answer_errors: Vec<u32>,
    steps: Vec<Step>,
}

/// A shift of `length` words.
#[derive(Clone, Copy, Debug)]
struct Shift {
    start: usize,
    length: usize,
    target: usize,
}

impl Shifter {
    /// How many edits and shifts make `answer` the same as `reference`.
    pub(super) fn edits(&mut self, answer: &[u32], reference: &[u32]) -> usize {
        if reference.is_empty() {
            return answer.len();
        }
        self.table.size(answer.len(), reference.len());
        self.words.clear();
        self.words.extend_from_slice(answer);
        self.table.fill(&self.words, reference, 0);
        let (mut shifts, mut tried) = (0, 0);
        while let Some(shift) = self.best_shift(reference, &mut tried) {
            shift.apply(&self.words, &mut self.shifted);
            let known = shift.first_changed();
            std::mem::swap(&mut self.words, &mut self.shifted);
            self.table.fill(&self.words, reference, known);
            shifts += 1;
        }
        shifts + self.table.distance() as usize
    }

    /// The shift that saves most, if one saves anything and not too many have been tried.
    fn best_shift(&mut self, reference: &[u32], tried: &mut usize) -> Option<Shift> {
        let Self { table, words, shifted, alignment } = self;
        alignment.read(table, words, reference);
        let before = i64::from(table.distance());
        let mut best = None;
        'pairs: for start in 0..words.len() {
            if !alignment.may_shift(start) {
                continue;
            }
            let near = start.saturating_sub(FARTHEST)..reference.len().min(start + FARTHEST + 1);
            for there in near {
                let equal = words[start..].iter().zip(&reference[there..]).take(LONGEST).take_while(|(a, b)| a == b);
                for length in 1..=equal.count() {
                    if !alignment.is_worth_it(start, there, length) {
                        continue;
                    }
                    let mut last = None;
                    for target in (0..=length).map(|offset| alignment.target(there, offset)) {
                        if last.replace(target) == Some(target) {
                            continue;
                        }
                        let shift = Shift { start, length, target };
                        shift.apply(words, shifted);
                        let (from, to) = (shift.first_changed(), shift.end_of_change());
                        let saved = before - i64::from(table.distance_of(shifted, reference, from, to));
                        let rank = (saved, length, std::cmp::Reverse(start), std::cmp::Reverse(target));
                        *tried += 1;
                        if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                            best = Some((rank, shift));
                        }
                    }
                    if *tried >= MOST_TRIED {
                        break 'pairs;
                    }
                }
            }
        }
        match best {
            Some(((saved, ..), shift)) if saved > 0 && *tried < MOST_TRIED => Some(shift),
            _ => None,
        }
    }
}

impl Alignment {
    fn read(&mut self, table: &Table, words: &[u32], reference: &[u32]) {
        self.steps.clear();
        self.steps.extend(table.steps_back(words, reference));
        self.after.clear();
        self.reference_errors.clear();
        self.answer_errors.clear();
        let (mut at, mut answer_errors, mut reference_errors) = (0, 0, 0);
        self.answer_errors.push(0);
        self.reference_errors.push(0);
        for step in self.steps.iter().rev() {
            let wrong = u32::from(*step != Step::Keep);
            if *step != Step::Insert {
                at += 1;
                answer_errors += wrong;
                self.answer_errors.push(answer_errors);
            }
            if *step != Step::Delete {
                reference_errors += wrong;
                self.reference_errors.push(reference_errors);
                self.after.push(at);
            }
        }
    }

    /// Whether any run of words that begins at `start` could be shifted.
    fn may_shift(&self, start: usize) -> bool {
        let end = (start + LONGEST).min(self.answer_errors.len() - 1);
        self.answer_errors[end] > self.answer_errors[start]
    }

    /// Whether the answer is wrong in the run and the reference in its own, and the one is not shifted into itself.
    fn is_worth_it(&self, start: usize, there: usize, length: usize) -> bool {
        self.answer_errors[start + length] > self.answer_errors[start]
            && self.reference_errors[there + length] > self.reference_errors[there]
            && !(start + 1..=start + length).contains(&self.after[there])
    }

    /// Where in the answer the word before the reference's word `there + offset` ends.
    fn target(&self, there: usize, offset: usize) -> usize {
        if there + offset == 0 { 0 } else { self.after[there + offset - 1] }
    }
}

impl Shift {
    /// The first word that the shift changes.
    fn first_changed(self) -> usize {
        self.start.min(self.target)
    }

    /// The word after the last that the shift changes.
    fn end_of_change(self) -> usize {
        if self.target < self.start || self.target > self.start + self.length {
            self.target.max(self.start + self.length)
        } else {
            // The target is counted as if the run had been taken out first.
            self.target + self.length
        }
    }

    /// Puts into `shifted` what the shift makes of `words`.
    fn apply(self, words: &[u32], shifted: &mut Vec<u32>) {
        let (start, end, target) = (self.start, self.start + self.length, self.target);
        shifted.clear();
        let mut push = |range: std::ops::Range<usize>| shifted.extend_from_slice(&words[range]);
        if target < start {
            push(0..target);
            push(start..end);
            push(target..start);
            push(end..words.len());
        } else if target > end {
            push(0..start);
            push(end..target);
            push(start..end);
            push(target..words.len());
        } else {
            // Python's slices end where the list does.
            let after = (self.length + target).min(words.len());
            push(0..start);
            push(end.min(after)..after);
            push(start..end);
            push(after..words.len());
        }
    }
}
