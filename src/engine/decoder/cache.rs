//! The keys and values of what a sequence has seen, in pages that sequences share, and what a query sees in them.
//!
//! A copy of a cache costs a counter for every page: only a page that is written to while another sequence holds it is
//! really copied. So what begins with the same tokens (beams, samples, candidates) is kept once. A layer that looks back
//! over a window keeps the window's pages only.

use crate::engine::kernels::{self, LANES};
use crate::engine::positions::Fading;
use std::collections::VecDeque;
use std::sync::Arc;

/// Positions of a page; the scores of as many keys are summed side by side.
const PAGE: usize = 16;

/// How many heads there are, and how wide they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    /// Of queries.
    pub queries: usize,
    /// Of keys and values; each serves as many of the queries.
    pub keys: usize,
    /// Width of each.
    pub width: usize,
}

impl Heads {
    /// Where one head's numbers lie in a page: `width × PAGE` of the keys, then `PAGE × width` of the values.
    fn parts(self, page: &[f32], head: usize) -> (&[f32], &[f32]) {
        let size = self.width * PAGE;
        page[2 * head * size..2 * (head + 1) * size].split_at(size)
    }

    fn page_len(self) -> usize {
        2 * self.keys * self.width * PAGE
    }
}

/// What one sequence has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub(super) layers: Vec<Layer>,
    pub(super) positions: usize,
}

impl Cache {
    /// How many positions it has seen.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// How many pages it holds.
    #[cfg(test)]
    pub(super) fn pages(&self) -> Vec<usize> {
        self.layers.iter().map(|layer| layer.pages.len()).collect()
    }

    /// Bytes that `positions` more take, for layers that see so far back.
    pub(super) fn bytes(heads: Heads, windows: impl Iterator<Item = Option<usize>>, positions: usize) -> usize {
        let pages = |window: Option<usize>| {
            // A window can begin and end within a page.
            let held = window.map_or(positions, |window| positions.min(window + PAGE));
            held.div_ceil(PAGE)
        };
        windows.map(pages).sum::<usize>() * heads.page_len() * size_of::<f32>()
    }
}

/// One layer's keys and values.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    /// Pages that no query will see again, and that are gone.
    gone: usize,
    pages: VecDeque<Arc<Vec<f32>>>,
}

impl Layer {
    /// Puts in the key and the value of the next position, all heads side by side.
    pub fn push(&mut self, heads: Heads, position: usize, key: &[f32], value: &[f32]) {
        let slot = position % PAGE;
        if slot == 0 {
            self.pages.push_back(Arc::new(vec![0.0; heads.page_len()]));
        }
        let last = self.pages.len() - 1;
        let page = Arc::make_mut(&mut self.pages[last]);
        let heads_of_page = page.chunks_exact_mut(2 * heads.width * PAGE);
        let tokens = key.chunks_exact(heads.width).zip(value.chunks_exact(heads.width));
        for (head, (key, value)) in heads_of_page.zip(tokens) {
            let (keys, values) = head.split_at_mut(heads.width * PAGE);
            for (keys, key) in keys.chunks_exact_mut(PAGE).zip(key) {
                keys[slot] = *key;
            }
            values[slot * heads.width..][..heads.width].copy_from_slice(value);
        }
    }

    /// Drops the pages that lie outside of the window of the next position, `next`, and of all after it.
    pub fn forget(&mut self, next: usize, window: usize) {
        let first = (next + 1).saturating_sub(window);
        while (self.gone + 1) * PAGE <= first && self.pages.pop_front().is_some() {
            self.gone += 1;
        }
    }
}

/// What one position asks of a layer.
pub(super) struct Query<'a> {
    pub heads: Heads,
    /// Of all heads, side by side.
    pub queries: &'a [f32],
    /// The first position that is seen, and the one behind the last.
    pub seen: std::ops::Range<usize>,
    /// What scores are multiplied by.
    pub scale: f32,
    /// What they come near to and never reach.
    pub cap: Option<f32>,
    pub fading: Option<&'a Fading>,
}

impl Query<'_> {
    /// What every head sees, side by side in `out`. `scores` is scratch space.
    pub fn ask(&self, layer: &Layer, scores: &mut Vec<f32>, out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "the compiler does not know that the processor was asked")]
            // SAFETY: the processor has AVX2.
            return unsafe { self.ask_avx2(layer, scores, out) };
        }
        self.ask_anywhere(layer, scores, out);
    }

    /// The same operations in wider registers: products and sums are never fused, so the bits are the same.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn ask_avx2(&self, layer: &Layer, scores: &mut Vec<f32>, out: &mut [f32]) {
        self.ask_anywhere(layer, scores, out);
    }

    #[inline(always)]
    fn ask_anywhere(&self, layer: &Layer, scores: &mut Vec<f32>, out: &mut [f32]) {
        let (heads, first) = (self.heads, self.seen.start);
        let begin = first / PAGE - layer.gone;
        let pages = (self.seen.end - 1) / PAGE - layer.gone - begin + 1;
        let pages = || layer.pages.range(begin..begin + pages);
        let queries = self.queries.chunks_exact(heads.width).zip(out.chunks_exact_mut(heads.width));
        for (head, (query, out)) in queries.enumerate() {
            let key_head = head / (heads.queries / heads.keys);
            scores.resize(pages().len() * PAGE, 0.0);
            for (page, scores) in pages().zip(scores.as_chunks_mut().0) {
                *scores = scores_of(query, heads.parts(page, key_head).0);
            }
            // Of the outer pages a part may be out of sight.
            let weights = &mut scores[first % PAGE..][..self.seen.len()];
            weights.iter_mut().for_each(|weight| *weight *= self.scale);
            if let Some(cap) = self.cap {
                kernels::soft_cap(weights, cap);
            }
            if let Some(fading) = self.fading {
                fading.add(weights, head, first);
            }
            kernels::softmax(weights);
            out.fill(0.0);
            let (mut rest, mut slot) = (&*weights, first % PAGE);
            for page in pages() {
                let (weights, tail) = rest.split_at(rest.len().min(PAGE - slot));
                add_weighted(out, weights, &heads.parts(page, key_head).1[slot * heads.width..]);
                (rest, slot) = (tail, 0);
            }
        }
    }
}

/// The products of a query with a page of keys (`width × PAGE`), each summed in the order of [`kernels::dot`].
#[inline(always)]
fn scores_of(query: &[f32], keys: &[f32]) -> [f32; PAGE] {
    let (rows, whole) = (keys.as_chunks::<PAGE>().0, query.len() / LANES * LANES);
    let add = |sums: &mut [f32; PAGE], index: usize| {
        for (sum, key) in sums.iter_mut().zip(&rows[index]) {
            *sum += query[index] * key;
        }
    };
    let mut scores = [0.0; PAGE];
    for lane in 0..LANES.min(whole) {
        let mut sums = [0.0; PAGE];
        (lane..whole).step_by(LANES).for_each(|index| add(&mut sums, index));
        scores.iter_mut().zip(sums).for_each(|(score, sum)| *score += sum);
    }
    let mut tail = [0.0; PAGE];
    (whole..query.len()).for_each(|index| add(&mut tail, index));
    scores.iter_mut().zip(tail).for_each(|(score, sum)| *score += sum);
    scores
}

/// Adds rows of `values`, each multiplied by its weight, one after the other.
#[inline(always)]
fn add_weighted(out: &mut [f32], weights: &[f32], values: &[f32]) {
    let width = out.len();
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    let whole = chunks.len() * LANES;
    for (index, chunk) in chunks.iter_mut().enumerate() {
        let mut sums = *chunk;
        for (weight, row) in weights.iter().zip(values.chunks_exact(width)) {
            let row = &row[index * LANES..][..LANES];
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
        *chunk = sums;
    }
    for (weight, row) in weights.iter().zip(values.chunks_exact(width)) {
        for (sum, value) in rest.iter_mut().zip(&row[whole..]) {
            *sum += weight * value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Random keys and values of `positions` positions, in a layer and as they came.
    fn filled(heads: Heads, positions: usize) -> (Layer, Vec<f32>, Vec<f32>) {
        let (random, size) = (Random::new(1, "cache"), heads.keys * heads.width);
        let numbers = |part| (0..positions * size).map(move |i| random.part(part).normal(i as u64) as f32);
        let (keys, values): (Vec<f32>, Vec<f32>) = (numbers(0).collect(), numbers(1).collect());
        let mut layer = Layer::default();
        for (position, (key, value)) in keys.chunks_exact(size).zip(values.chunks_exact(size)).enumerate() {
            layer.push(heads, position, key, value);
        }
        (layer, keys, values)
    }

    /// The same, key by key, as titer 0.1 computed it: existing results keep their bytes.
    fn plain(query: &Query<'_>, keys: &[f32], values: &[f32]) -> Vec<f32> {
        let Heads { queries, keys: key_heads, width } = query.heads;
        let mut out = vec![0.0; queries * width];
        for (head, (query_row, out)) in query.queries.chunks(width).zip(out.chunks_mut(width)).enumerate() {
            let of = |all: &'_ [f32], position: usize| {
                all[(position * key_heads + head / (queries / key_heads)) * width..][..width].to_vec()
            };
            let score = |position| kernels::dot(query_row, &of(keys, position)) * query.scale;
            let mut weights: Vec<f32> = query.seen.clone().map(score).collect();
            query.cap.into_iter().for_each(|cap| kernels::soft_cap(&mut weights, cap));
            kernels::softmax(&mut weights);
            for (weight, position) in weights.iter().zip(query.seen.clone()) {
                out.iter_mut().zip(of(values, position)).for_each(|(out, value)| *out += weight * value);
            }
        }
        out
    }

    #[test]
    fn what_is_seen_has_the_bits_of_plain_sums() {
        for (queries, keys, width) in [(4, 2, 8), (2, 2, 16), (3, 1, 24), (4, 4, 64), (2, 1, 80)] {
            let heads = Heads { queries, keys, width };
            let (layer, all_keys, all_values) = filled(heads, 50);
            let random = Random::new(2, "queries");
            let row: Vec<f32> = (0..queries * width).map(|i| random.normal(i as u64) as f32).collect();
            for (cap, seen) in [0..1, 0..16, 0..17, 3..20, 16..32, 31..50, 49..50].into_iter().enumerate() {
                let cap = (cap % 2 == 1).then_some(0.8);
                let query = Query { heads, queries: &row, seen: seen.clone(), scale: 0.3, cap, fading: None };
                let expected = plain(&query, &all_keys, &all_values);
                let (mut out, mut anywhere) = (vec![7.0; row.len()], vec![7.0; row.len()]);
                // What stood in the scratch space before must not matter.
                query.ask(&layer, &mut vec![9.0; 100], &mut out);
                query.ask_anywhere(&layer, &mut Vec::new(), &mut anywhere);
                let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(&out) == bits(&expected), "{heads:?}, {seen:?}");
                assert!(bits(&anywhere) == bits(&expected), "{heads:?}, {seen:?}");
            }
        }
    }

    #[test]
    fn copies_share_their_pages_until_they_are_written_to() {
        let heads = Heads { queries: 1, keys: 1, width: 4 };
        let (layer, ..) = filled(heads, 20);
        let mut copy = layer.clone();
        assert!(layer.pages.iter().zip(&copy.pages).all(|(a, b)| Arc::ptr_eq(a, b)));
        let before = layer.pages[1].clone();
        copy.push(heads, 20, &[1.0; 4], &[2.0; 4]);
        assert!(Arc::ptr_eq(&layer.pages[0], &copy.pages[0]) && !Arc::ptr_eq(&layer.pages[1], &copy.pages[1]));
        assert_eq!(layer.pages[1], before);
        assert_ne!(copy.pages[1], before);
    }

    #[test]
    fn a_window_keeps_no_page_that_it_does_not_see() {
        let heads = Heads { queries: 1, keys: 1, width: 4 };
        let (mut layer, keys, values) = filled(heads, 50);
        layer.forget(50, 10);
        // Position 50 sees 41 to 50: the pages from 32 on.
        assert_eq!((layer.gone, layer.pages.len()), (2, 2));
        let query = Query { heads, queries: &[0.5; 4], seen: 41..50, scale: 1.0, cap: None, fading: None };
        let mut out = vec![0.0; 4];
        query.ask(&layer, &mut Vec::new(), &mut out);
        assert_eq!(out, plain(&query, &keys, &values));
        layer.forget(57, 10);
        assert_eq!(layer.gone, 3);
    }
}
