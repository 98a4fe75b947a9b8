//! Edit distance within a beam around the diagonal, as sacrebleu's 'lib_ter' computes it.
//!
//! The reference program keeps whole rows of a table; here a row is what lies within its beam. Memory grows with the
//! texts' lengths and not with their product.

/// How far from the diagonal a row reaches, at least.
const BEAM: usize = 25;
/// The distance of what the beam does not reach.
const FAR: u32 = u32::MAX / 2;

/// One step from an answer to its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A word stays.
    Keep,
    /// A word is replaced.
    Replace,
    /// A word of the reference comes in.
    Insert,
    /// A word of the answer goes.
    Delete,
}

/// The table for one reference and answers of one length.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The rows, one after the other, each of `width` cells. Row 0 is not kept: its cell j is j.
    cells: Vec<u32>,
    /// The column of each row's first cell, and the one after its last.
    beams: Vec<(usize, usize)>,
    width: usize,
    columns: usize,
    /// A row beside the table.
    other: [Vec<u32>; 2],
}

impl Table {
    /// Prepares for answers of `rows` words and a reference of `columns` words.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as the reference program does: floor of a product of lengths"
    )]
    pub(super) fn size(&mut self, rows: usize, columns: usize) {
        let ratio = if rows == 0 { 1.0 } else { columns as f64 / rows as f64 };
        let beam = if (BEAM as f64) < ratio / 2.0 { (ratio / 2.0 + BEAM as f64).ceil() as usize } else { BEAM };
        self.columns = columns;
        self.beams.clear();
        self.beams.push((0, columns + 1));
        for row in 1..=rows {
            let diagonal = (row as f64 * ratio).floor() as usize;
            let end = if row == rows { columns + 1 } else { (columns + 1).min(diagonal + beam) };
            self.beams.push((diagonal.saturating_sub(beam), end));
        }
        self.width = self.beams[1..].iter().map(|(start, end)| end - start).max().unwrap_or(0);
        self.cells.clear();
        self.cells.resize(rows * self.width, FAR);
    }

    /// Computes the rows after `known` of them, for `answer`.
    pub(super) fn fill(&mut self, answer: &[u32], reference: &[u32], known: usize) {
        for row in known + 1..=answer.len() {
            let (before, rest) = self.cells.split_at_mut((row - 1) * self.width);
            let before = &before[before.len().saturating_sub(self.width)..];
            next_row(before, &mut rest[..self.width], row, answer[row - 1], reference, &self.beams);
        }
    }

    /// The distance of the answer.
    pub(super) fn distance(&self) -> u32 {
        self.cell(self.beams.len() - 1, self.columns)
    }

    /// The distance of `answer`, which equals the one in the table but for its words `from..to`.
    ///
    /// After those, a row that differs from the table's by one and the same number everywhere will always do so, to the
    /// last: there is no need to go on.
    pub(super) fn distance_of(&mut self, answer: &[u32], reference: &[u32], from: usize, to: usize) -> u32 {
        let mut other = std::mem::take(&mut self.other);
        let [before, row_cells] = &mut other;
        before.clear();
        before.extend_from_slice(self.row(from));
        row_cells.resize(self.width, FAR);
        let mut distance = None;
        for row in from + 1..=answer.len() {
            next_row(before, &mut row_cells[..], row, answer[row - 1], reference, &self.beams);
            before.resize(self.width, FAR);
            std::mem::swap(before, row_cells);
            let shift = if row >= to { shift(before, self.row(row), self.beams[row]) } else { None };
            if let Some(shift) = shift {
                distance = Some(self.distance().wrapping_add(shift));
                break;
            }
        }
        let distance = distance.unwrap_or_else(|| match before.get(self.columns - self.beams[answer.len()].0) {
            Some(cell) if !answer.is_empty() => *cell,
            _ => self.distance(),
        });
        self.other = other;
        distance
    }

    /// The cells of a row after the first.
    fn row(&self, row: usize) -> &[u32] {
        if row == 0 { &[] } else { &self.cells[(row - 1) * self.width..row * self.width] }
    }

    fn cell(&self, row: usize, column: usize) -> u32 {
        cell(self.row(row), row, column, &self.beams)
    }

    /// The steps that lead from the answer to the reference, the last one first. Of several ways it is the reference
    /// program's: it looks for a word that stays or is replaced, then for one that goes, then for one that comes in.
    pub(super) fn steps_back(&self, answer: &[u32], reference: &[u32]) -> impl Iterator<Item = Step> {
        let (mut row, mut column) = (answer.len(), reference.len());
        std::iter::from_fn(move || {
            if row == 0 && column == 0 {
                return None;
            }
            let step = self.step(answer, reference, row, column);
            row -= usize::from(step != Step::Insert);
            column -= usize::from(step != Step::Delete);
            Some(step)
        })
    }

    fn step(&self, answer: &[u32], reference: &[u32], row: usize, column: usize) -> Step {
        if row == 0 {
            return Step::Insert;
        }
        if column == 0 {
            return Step::Delete;
        }
        let here = self.cell(row, column);
        let keeps = answer[row - 1] == reference[column - 1];
        if here == self.cell(row - 1, column - 1) + u32::from(!keeps) {
            if keeps { Step::Keep } else { Step::Replace }
        } else if here == self.cell(row - 1, column) + 1 {
            Step::Delete
        } else {
            Step::Insert
        }
    }
}

/// The cell of `column` in a row that is given by its cells.
#[expect(clippy::cast_possible_truncation, reason = "texts have fewer than 2^31 words")]
fn cell(cells: &[u32], row: usize, column: usize, beams: &[(usize, usize)]) -> u32 {
    let (start, end) = beams[row];
    match row {
        0 => column as u32,
        _ if (start..end).contains(&column) => cells[column - start],
        _ => FAR,
    }
}

/// Computes row number `row` from the one before.
fn next_row(before: &[u32], cells: &mut [u32], row: usize, word: u32, reference: &[u32], beams: &[(usize, usize)]) {
    let (start, end) = beams[row];
    let mut left = FAR;
    let mut diagonal = if start == 0 { FAR } else { cell(before, row - 1, start - 1, beams) };
    for column in start..end {
        let above = cell(before, row - 1, column, beams);
        let replaced = match column {
            0 => FAR,
            _ => diagonal + u32::from(word != reference[column - 1]),
        };
        let least = replaced.min(above + 1).min(left + 1).min(FAR);
        cells[column - start] = least;
        (left, diagonal) = (least, above);
    }
}

/// By how much all cells of a row differ from another's, if it is one and the same number.
fn shift(cells: &[u32], others: &[u32], (start, end): (usize, usize)) -> Option<u32> {
    let mut shift = None;
    for (cell, other) in cells.iter().zip(others).take(end - start) {
        match (*cell == FAR, *other == FAR, shift) {
            (true, true, _) => {}
            (false, false, None) => shift = Some(cell.wrapping_sub(*other)),
            (false, false, Some(shift)) if shift == cell.wrapping_sub(*other) => {}
            _ => return None,
        }
    }
    shift
}
