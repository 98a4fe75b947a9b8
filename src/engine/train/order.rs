//! What goes through a step as one, and in which order.

use super::batch::Example;
use crate::random::Random;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What counts as one of a batch: a row, or several that were packed; each row with its name.
pub type Sequence<'a> = Vec<(u64, &'a Example)>;

/// The sequences of some rows; rows without a label are passed over. With `packing`, rows are put together into sequences
/// of at most so many tokens: the longest first, each to the fullest sequence that has room (best-fit decreasing). Rows
/// stay apart all the same: none sees another, positions begin anew, and dropout is that of the row. (No row is ever
/// padded here, so packing spares nothing: it makes the steps of a training even in tokens.)
pub fn sequences(examples: &[Example], packing: Option<usize>) -> Vec<Sequence<'_>> {
    let rows = (0..).zip(examples).filter(|(_, example)| example.labels() > 0);
    let Some(limit) = packing else { return rows.map(|row| vec![row]).collect() };
    let mut rows: Vec<(u64, &Example)> = rows.collect();
    rows.sort_by_key(|(_, example)| Reverse(example.ids.len()));
    let mut packs: Vec<Sequence<'_>> = Vec::new();
    // Numbers of packs by the room that they have left.
    let mut by_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for row in rows {
        let length = row.1.ids.len();
        let fullest = by_room.range_mut(length..).next().and_then(|(room, packs)| Some((*room, packs.pop()?)));
        let (room, pack) = fullest.unwrap_or_else(|| {
            packs.push(Vec::new());
            (limit.max(length), packs.len() - 1)
        });
        if by_room.get(&room).is_some_and(Vec::is_empty) {
            by_room.remove(&room);
        }
        packs[pack].push(row);
        by_room.entry(room - length).or_default().push(pack);
    }
    packs
}

/// Number of tokens.
pub fn tokens(sequence: &[(u64, &Example)]) -> usize {
    sequence.iter().map(|(_, example)| example.ids.len()).sum()
}

/// The order of an epoch: random; with `grouped`, sequences of like length come into the same batch. Those of up to fifty
/// random batches are sorted by length, as transformers does it.
pub fn epoch_order(sequences: &[Sequence<'_>], random: Random, batch_size: usize, grouped: bool) -> Vec<usize> {
    let mut order = random.permutation(sequences.len());
    if grouped {
        let batches = (sequences.len() / (batch_size * 4).max(1)).clamp(1, 50);
        for part in order.chunks_mut((batches * batch_size).max(1)) {
            part.sort_by_key(|index| Reverse(tokens(&sequences[*index])));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lengths: &[usize]) -> Vec<Example> {
        lengths.iter().map(|length| Example::new(vec![1; *length], 0..*length)).collect()
    }

    fn lengths(sequences: &[Sequence<'_>]) -> Vec<Vec<usize>> {
        sequences.iter().map(|rows| rows.iter().map(|(_, row)| row.ids.len()).collect()).collect()
    }

    #[test]
    fn rows_are_packed_to_the_fullest_that_has_room() {
        let rows = rows(&[4, 9, 3, 6, 2, 1, 12]);
        // The row of one token has nothing to learn; that of twelve is longer than a pack.
        assert_eq!(lengths(&sequences(&rows, Some(10))), [vec![12], vec![9], vec![6, 4], vec![3, 2]]);
        let packs = sequences(&rows, Some(16));
        assert_eq!(lengths(&packs), [vec![12, 4], vec![9, 6], vec![3, 2]]);
        let mut names: Vec<u64> = packs.iter().flatten().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(names, [0, 1, 2, 3, 4, 6]);
        assert_eq!(lengths(&sequences(&rows, None)), [[4], [9], [3], [6], [2], [12]]);
    }

    #[test]
    fn many_packs_are_nearly_full() {
        let random = Random::new(3, "lengths");
        let lengths: Vec<usize> = (0..500).map(|index| 2 + (random.bits(index) % 60) as usize).collect();
        let (rows, all) = (rows(&lengths), lengths.iter().sum::<usize>());
        let packs = sequences(&rows, Some(128));
        assert!(packs.iter().all(|pack| tokens(pack) <= 128));
        assert!(packs.len() <= all.div_ceil(128) + 2, "{} packs for {all} tokens", packs.len());
    }

    #[test]
    fn like_lengths_come_together_and_nothing_is_lost() {
        let random = Random::new(3, "lengths");
        let rows = rows(&(0..400).map(|index| 2 + (random.bits(index) % 60) as usize).collect::<Vec<_>>());
        let sequences = sequences(&rows, None);
        let order = |grouped| epoch_order(&sequences, Random::new(1, "order"), 8, grouped);
        // The mean difference between the longest and the shortest of a batch.
        let spread = |order: &[usize]| {
            let batches = order.chunks(8).map(|batch| {
                let lengths = batch.iter().map(|index| tokens(&sequences[*index]));
                lengths.clone().max().unwrap() - lengths.min().unwrap()
            });
            batches.sum::<usize>() / 50
        };
        assert!(spread(&order(false)) > 40 && spread(&order(true)) < 10);
        let mut sorted = order(true);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..400).collect::<Vec<_>>());
        assert_ne!(order(true), epoch_order(&sequences, Random::new(2, "order"), 8, true));
    }
}
