//! Rows of tokens, one after the other: no padding, ever.

use std::ops::Range;
use std::sync::Arc;

/// A row to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Which of them the loss counts: ranges in order, none of which reaches into the next. The first token cannot be:
    /// nothing stands before it. What reaches beyond the last token says nothing, so a row can be cut as it is.
    pub counted: Vec<Range<usize>>,
}

impl Example {
    /// A row of which one range is counted.
    pub fn new(ids: Vec<u32>, counted: Range<usize>) -> Self {
        Self { ids, counted: std::iter::once(counted).collect() }
    }

    /// How many tokens the loss counts.
    pub fn labels(&self) -> usize {
        self.counted_tokens().count()
    }

    /// The places of those tokens, in order.
    pub fn counted_tokens(&self) -> impl Iterator<Item = usize> {
        self.counted.iter().flat_map(|range| range.start.max(1)..range.end.min(self.ids.len()))
    }
}

/// Rows that go through the model together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The tokens of all rows.
    pub ids: Arc<Vec<u32>>,
    /// Where each row begins, and where the last one ends.
    pub offsets: Arc<Vec<usize>>,
    /// Tokens whose next token is counted.
    pub asked: Arc<Vec<u32>>,
    /// Those next tokens.
    pub labels: Arc<Vec<u32>>,
    /// What each row is called, so that its dropout does not depend on its neighbours.
    pub names: Vec<u64>,
}

impl Batch {
    /// Puts rows together; each comes with its name.
    #[expect(clippy::cast_possible_truncation, reason = "a batch has fewer than 2^32 tokens")]
    pub fn new<'a>(rows: impl IntoIterator<Item = (u64, &'a Example)>) -> Self {
        let (mut ids, mut offsets, mut asked, mut labels, mut names) = (vec![], vec![0], vec![], vec![], vec![]);
        for (name, example) in rows {
            let begin = ids.len();
            for token in example.counted_tokens() {
                asked.push((begin + token - 1) as u32);
                labels.push(example.ids[token]);
            }
            ids.extend(&example.ids);
            offsets.push(ids.len());
            names.push(name);
        }
        let (ids, offsets) = (Arc::new(ids), Arc::new(offsets));
        Self { ids, offsets, asked: Arc::new(asked), labels: Arc::new(labels), names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_next_tokens_of_their_own_row() {
        let first = Example::new(vec![5, 6, 7], 0..3);
        // Two answers of a conversation, the second cut off.
        let second = Example { ids: vec![1, 2, 3, 4, 8], counted: vec![1..2, 3..4, 4..9] };
        assert_eq!((first.labels(), second.labels()), (2, 3));
        let batch = Batch::new([(8, &first), (9, &second)]);
        assert_eq!(*batch.ids, [5, 6, 7, 1, 2, 3, 4, 8]);
        assert_eq!(*batch.offsets, [0, 3, 8]);
        assert_eq!((batch.asked.to_vec(), batch.labels.to_vec()), (vec![0, 1, 3, 5, 6], vec![6, 7, 2, 4, 8]));
    }
}
