//! Positions in attention: what turns queries and keys, and what fades with distance.

use super::model::{Alibi, Config, Pairing, Rotary, Shape};
use half::bf16;

/// Rotary positions (arXiv 2104.09864), worked out for every position.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Pairs that turn.
    pairs: usize,
    head_dim: usize,
    pairing: Pairing,
    /// Cosines, then sines, per position.
    table: Vec<f32>,
}

/// Which way [`Rope::rotate`] turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As the model does.
    Forward,
    /// Back: the gradient.
    Backward,
}

impl Rope {
    /// Those of a model, as its layers count them.
    pub fn of(config: &Config) -> Vec<Self> {
        let Shape { head_dim, max_positions, .. } = config.shape;
        config.rotaries.iter().map(|rotary| Self::new(rotary, head_dim, max_positions)).collect()
    }

    /// Angles for `positions` positions of heads that are `head_dim` wide.
    #[expect(clippy::cast_precision_loss, reason = "positions are far below 2^24")]
    pub fn new(rotary: &Rotary, head_dim: usize, positions: usize) -> Self {
        let Rotary { frequencies, factor, pairing } = rotary;
        let mut table = Vec::with_capacity(positions * 2 * frequencies.len());
        for position in 0..positions {
            table.extend(frequencies.iter().map(|frequency| (position as f32 * frequency).cos() * factor));
            table.extend(frequencies.iter().map(|frequency| (position as f32 * frequency).sin() * factor));
        }
        Self { pairs: frequencies.len(), head_dim, pairing: *pairing, table }
    }

    /// Pairs that turn, and which numbers they are.
    pub fn pairs(&self) -> (usize, Pairing) {
        (self.pairs, self.pairing)
    }

    /// Cosines, then sines, of every pair, position by position.
    pub fn table(&self) -> &[f32] {
        &self.table
    }

    /// Turns every head of a row in place.
    pub fn rotate(&self, row: &mut [f32], position: usize, turn: Turn) {
        let pairs = self.pairs;
        let (cos, sin) = self.table[position * 2 * pairs..][..2 * pairs].split_at(pairs);
        let signed = |sin: f32| if turn == Turn::Forward { sin } else { -sin };
        for head in row.chunks_exact_mut(self.head_dim) {
            let turning = &mut head[..2 * pairs];
            match self.pairing {
                Pairing::Halves => {
                    let (first, second) = turning.split_at_mut(pairs);
                    for i in 0..pairs {
                        let sin = signed(sin[i]);
                        let (x, y) = (first[i], second[i]);
                        first[i] = x * cos[i] - y * sin;
                        second[i] = y * cos[i] + x * sin;
                    }
                }
                Pairing::Neighbours => {
                    for (i, pair) in turning.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                        let sin = signed(sin[i]);
                        let [x, y] = *pair;
                        *pair = [x * cos[i] - y * sin, y * cos[i] + x * sin];
                    }
                }
            }
        }
    }
}

/// What is added to the scores of every key, by head and position.
#[derive(Clone, Debug)]
pub struct Fading {
    positions: usize,
    table: Vec<f32>,
}

impl Fading {
    /// That of a model.
    pub fn of(config: &Config) -> Option<Self> {
        config.alibi.as_ref().map(|alibi| Self::new(alibi, config.shape.max_positions))
    }

    /// For `positions` positions.
    #[expect(clippy::cast_precision_loss, reason = "positions are far below 2^24")]
    pub fn new(alibi: &Alibi, positions: usize) -> Self {
        let round = |x: f32| if alibi.rounded { bf16::from_f32(x).to_f32() } else { x };
        // The score of a key grows with its position; softmax does not see that every score of a query does.
        let of = |slope: f32| {
            let slope = round(slope);
            (0..positions).map(move |position| round(slope * round(position as f32)) * alibi.scale)
        };
        Self { positions, table: alibi.slopes.iter().flat_map(|slope| of(*slope)).collect() }
    }

    /// By head and position.
    pub fn table(&self) -> &[f32] {
        &self.table
    }

    /// Adds it to the scores of a head over the keys from position `first` on.
    pub fn add(&self, scores: &mut [f32], head: usize, first: usize) {
        let growth = &self.table[head * self.positions + first..];
        scores.iter_mut().zip(growth).for_each(|(score, growth)| *score += growth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(actual: &[f32], expected: &[f32]) {
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-5, "{actual} is not {expected}");
        }
    }

    #[test]
    fn rope_turns_pairs_and_back() {
        let x: Vec<f32> = (0..16).map(|i| (i as f32 * 0.7).sin()).collect();
        let (sin, cos) = 0.5f32.sin_cos();
        let turned = |pairing, frequencies: &[f32]| {
            let rope = Rope::new(&Rotary { frequencies: frequencies.to_vec(), factor: 1.0, pairing }, 8, 6);
            let mut turned = x.clone();
            rope.rotate(&mut turned, 5, Turn::Forward);
            let mut back = turned.clone();
            rope.rotate(&mut back, 5, Turn::Backward);
            assert_close(&back, &x);
            turned
        };
        // The second pair of the second head turns by 5 · 0.1.
        let all = turned(Pairing::Halves, &[1.0, 0.1, 0.01, 0.001]);
        assert_close(&[all[9], all[13]], &[x[9] * cos - x[13] * sin, x[13] * cos + x[9] * sin]);
        let partial = turned(Pairing::Halves, &[1.0, 0.1]);
        assert_close(&[partial[9], partial[11]], &[x[9] * cos - x[11] * sin, x[11] * cos + x[9] * sin]);
        assert_eq!(partial[12..], x[12..]);
        let neighbours = turned(Pairing::Neighbours, &[1.0, 0.1]);
        assert_close(&neighbours[10..12], &[x[10] * cos - x[11] * sin, x[11] * cos + x[10] * sin]);
        assert_eq!(neighbours[12..], x[12..]);
    }

    #[test]
    fn scores_grow_with_the_position() {
        let alibi = Alibi { slopes: vec![0.5, 0.3], rounded: false, scale: 2.0 };
        let mut scores = [1.0; 2];
        Fading::new(&alibi, 4).add(&mut scores, 1, 2);
        assert_close(&scores, &[1.0 + 0.3 * 2.0 * 2.0, 1.0 + 0.3 * 3.0 * 2.0]);
        // 0.3 is 0.30078125 in bfloat16; three times that is 0.90234375, between 0.8984375 and 0.90234375.
        let rounded = Fading::new(&Alibi { rounded: true, ..alibi }, 4);
        assert_eq!(rounded.table[7], 0.902_343_75 * 2.0);
        // To the even one of two that are as near.
        let plain = Fading::new(&Alibi { slopes: vec![1.0], rounded: true, scale: 1.0 }, 260);
        assert_eq!((plain.table[257], plain.table[259]), (256.0, 260.0));
    }
}
