//! The keys and values of all sequences of a device, in pages that sequences share.
//!
//! A sequence knows the numbers of its pages; a copy of it costs a counter for each. Only a page that is written to while
//! another sequence holds it is really copied.

use super::Plain;
use anyhow::Result;
use candle_core::Tensor;
use std::sync::{Arc, Mutex, PoisonError};

/// Positions of a page.
pub(super) const PAGE: usize = 16;

/// What one sequence has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pages: Vec<Arc<Page>>,
    pub(super) positions: usize,
}

/// A page of all layers; it is free again when nobody holds it.
#[derive(Debug)]
struct Page {
    number: u32,
    free: Arc<Mutex<Vec<u32>>>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}

impl Pages {
    /// How many positions it has seen.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Where the positions up to `end` stand.
    pub(super) fn slots(&self, end: usize) -> impl Iterator<Item = u32> {
        #[expect(clippy::cast_possible_truncation, reason = "a page is short")]
        let slots = self.pages.iter().flat_map(|page| (0..PAGE as u32).map(|slot| page.number * PAGE as u32 + slot));
        slots.take(end)
    }
}

/// The pages.
#[derive(Debug)]
pub(super) struct Pool {
    plain: Plain,
    /// Numbers of a token's key, and of its value.
    width: usize,
    /// How many there are.
    pages: usize,
    free: Arc<Mutex<Vec<u32>>>,
    /// By layer: keys and values, `pages · PAGE × width`.
    layers: Vec<[Tensor; 2]>,
}

impl Pool {
    /// Without a page.
    pub(super) fn new(layers: usize, width: usize, plain: &Plain) -> Result<Self> {
        let empty = Tensor::zeros((0, width), plain.dtype, &plain.device)?;
        let layers = vec![[empty.clone(), empty]; layers];
        Ok(Self { plain: plain.clone(), width, pages: 0, free: Arc::default(), layers })
    }

    /// Gives every sequence room for so many more positions, in pages of its own from the first of them on.
    pub(super) fn make_room(&mut self, sequences: &mut [(&mut Pages, usize)]) -> Result<()> {
        let is_shared = |pages: &Pages| {
            !pages.positions.is_multiple_of(PAGE) && pages.pages.last().is_some_and(|page| Arc::strong_count(page) > 1)
        };
        let needed = |(pages, more): &(&mut Pages, usize)| {
            (pages.positions + more).div_ceil(PAGE) - pages.pages.len() + usize::from(is_shared(pages))
        };
        // As many as there are sequences and no fewer: of two that share a page the second may find it its own.
        self.grow(sequences.iter().map(needed).sum())?;
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for (pages, more) in sequences {
            if is_shared(pages) {
                let begun = pages.positions / PAGE * PAGE;
                from.extend(pages.slots(pages.positions).skip(begun));
                let own = self.take()?;
                pages.pages.pop();
                pages.pages.push(own);
                to.extend(pages.slots(pages.positions).skip(begun));
            }
            while pages.pages.len() * PAGE < pages.positions + *more {
                pages.pages.push(self.take()?);
            }
        }
        if from.is_empty() {
            return Ok(());
        }
        let (from, to) = (self.plain.ids(&from)?, self.places(&to)?);
        self.layers.iter().flatten().try_for_each(|tensor| to.put(tensor, &tensor.index_select(&from, 0)?))?;
        Ok(())
    }

    fn take(&self) -> Result<Arc<Page>> {
        let number = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let number = number.ok_or_else(|| anyhow::anyhow!("no page is free"))?;
        Ok(Arc::new(Page { number, free: self.free.clone() }))
    }

    /// Makes at least so many pages free: by half as many again as there are, if there are too few.
    fn grow(&mut self, needed: usize) -> Result<()> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(missing) = needed.checked_sub(free.len()).filter(|missing| *missing > 0) else { return Ok(()) };
        let more = missing.max(self.pages / 2);
        let zeros = Tensor::zeros((more * PAGE, self.width), self.plain.dtype, &self.plain.device)?;
        for tensor in self.layers.iter_mut().flatten() {
            *tensor = if self.pages == 0 { zeros.copy()? } else { Tensor::cat(&[&*tensor, &zeros], 0)? };
        }
        // Taken from the end: the first ones first.
        let new = u32::try_from(self.pages)?..u32::try_from(self.pages + more)?;
        free.splice(0..0, new.rev());
        self.pages += more;
        Ok(())
    }

    /// Slots as [`Self::write`] wants them.
    pub(super) fn places(&self, slots: &[u32]) -> Result<Places> {
        let runs: Vec<&[u32]> = slots.chunk_by(|a, b| *a + 1 == *b).collect();
        if runs.len() * LONG_RUN <= slots.len() {
            let run = |run: &&[u32]| (run[0] as usize, run.len());
            return Ok(Places::Runs(runs.iter().map(run).collect()));
        }
        // One for every number.
        let slots = self.plain.ids(slots)?.unsqueeze(1)?.broadcast_as((slots.len(), self.width))?;
        Ok(Places::Each(slots.contiguous()?))
    }

    /// Puts keys and values of a layer into their places.
    pub(super) fn write(&self, layer: usize, places: &Places, new: [&Tensor; 2]) -> Result<()> {
        let mut parts = self.layers[layer].iter().zip(new);
        Ok(parts.try_for_each(|(all, new)| places.put(all, new))?)
    }

    /// Keys and values of a layer from their slots.
    pub(super) fn read(&self, layer: usize, slots: &Tensor) -> candle_core::Result<[Tensor; 2]> {
        let [keys, values] = &self.layers[layer];
        Ok([keys.index_select(slots, 0)?, values.index_select(slots, 0)?])
    }
}

/// Slots that are written to one after the other.
#[derive(Debug)]
pub(super) enum Places {
    /// Long runs of slots, each with its length: copied as a whole.
    Runs(Vec<(usize, usize)>),
    /// Slots here and there. A card goes through them one by one, if only for all numbers of a token at once.
    Each(Tensor),
}

/// Slots that a run must have on the average to be worth a copy of its own.
const LONG_RUN: usize = 8;

impl Places {
    /// Puts rows of `new` there.
    fn put(&self, all: &Tensor, new: &Tensor) -> candle_core::Result<()> {
        match self {
            Self::Each(places) => all.scatter_set(places, &new.contiguous()?, 0),
            Self::Runs(runs) => {
                let mut from = 0;
                runs.iter().try_for_each(|(slot, count)| {
                    let rows = new.narrow(0, from, *count)?.contiguous()?;
                    from += count;
                    all.slice_set(&rows, 0, *slot)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn pages_are_shared_until_they_are_written_to_and_come_back() {
        let plain = Plain { device: Device::Cpu, dtype: DType::F32 };
        let mut pool = Pool::new(2, 3, &plain).unwrap();
        let free = |pool: &Pool| pool.free.lock().unwrap().len();
        let mut first = Pages::default();
        pool.make_room(&mut [(&mut first, 20)]).unwrap();
        let slots: Vec<u32> = first.slots(20).collect();
        let numbers: Vec<f32> = (0..60u8).map(f32::from).collect();
        let new = Tensor::from_vec(numbers.clone(), (20, 3), &Device::Cpu).unwrap();
        let places = pool.places(&slots).unwrap();
        for layer in 0..2 {
            pool.write(layer, &places, [&new, &(&new * 2.0).unwrap()]).unwrap();
        }
        first.positions = 20;
        assert_eq!((pool.pages, free(&pool)), (2, 0));

        let mut second = first.clone();
        pool.make_room(&mut [(&mut first, 1), (&mut second, 20)]).unwrap();
        let (of_first, of_second): (Vec<u32>, Vec<u32>) = (first.slots(21).collect(), second.slots(40).collect());
        // The whole page is shared, the begun one is copied for one of them.
        assert!(of_first[..16] == of_second[..16] && of_first[16..].iter().all(|slot| !of_second.contains(slot)));
        for slots in [&of_first[..20], &of_second[..20]] {
            let [keys, values] = pool.read(1, &plain.ids(slots).unwrap()).unwrap();
            let flat = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(keys), numbers);
            assert_eq!(flat(values), numbers.iter().map(|number| number * 2.0).collect::<Vec<_>>());
        }
        let pages = pool.pages;
        drop(first);
        drop(second);
        assert_eq!(free(&pool), pages);
    }
}
