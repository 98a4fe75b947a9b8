//! Inference on a device. Tokens of all sequences stand one after the other, as in a training; only attention pads them.

use super::Plain;
use super::attention::{Scores, apart, mask_row};
use super::cache::{PAGE, Pages, Places, Pool};
use super::pointwise::log_sum_exp;
use crate::engine::decoder::{Advance, Advances};
use crate::engine::model::{Adapter, HeldLinear, Model, Shape};
use crate::engine::train::{Graph, Heads};
use anyhow::Result;
use candle_core::{DType, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of logits that are there at a time where all rows are asked for.
const LOGIT_ROWS: usize = 512;

/// A model on a device that can be run but not trained.
#[derive(Debug)]
pub struct DeviceDecoder {
    graph: Graph<Plain>,
    plain: Plain,
    pool: Mutex<Pool>,
}

/// New tokens of all sequences.
struct Step {
    positions: Tensor,
    /// Where their keys and values go.
    places: Places,
    parts: Vec<Part>,
    /// The place of every token in what the parts give.
    order: Tensor,
}

/// Sequences that go through attention together, with their numbers of tokens padded behind the end.
struct Part {
    rows: usize,
    queries: usize,
    keys: usize,
    /// The token of every query.
    tokens: Tensor,
    /// The slot of every key.
    slots: Tensor,
    /// Queries and keys, by row, by the layers' windows.
    masks: Vec<(Option<usize>, Tensor)>,
}

impl DeviceDecoder {
    /// Makes a model ready to run, with an adapter beside it, if there is one.
    pub fn new(model: impl Into<Model<HeldLinear>>, adapter: Option<Adapter>, plain: Plain) -> Result<Self> {
        let graph = Graph::frozen_by(plain.clone(), model, adapter)?;
        let config = graph.config();
        let pool = Mutex::new(Pool::new(config.layers.len(), config.kv_width(), &plain)?);
        Ok(Self { graph, plain, pool })
    }

    /// The last block's output at every new position.
    fn hidden(&self, sequences: &mut [Advance<'_, Pages>]) -> Result<Tensor> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room: Vec<(&mut Pages, usize)> =
            sequences.iter_mut().map(|sequence| (&mut *sequence.cache, sequence.tokens.len())).collect();
        pool.make_room(&mut room)?;
        let step = self.step(sequences, &pool)?;
        let ids = Arc::new(sequences.iter().flat_map(|sequence| sequence.tokens).copied().collect());
        let positions = sequences.iter().flat_map(|sequence| {
            let begin = sequence.cache.positions;
            begin..begin + sequence.tokens.len()
        });
        let mut x = self.graph.embed(&ids, positions, &|_| None)?;
        for index in 0..self.graph.config().layers.len() {
            x = self.graph.block_with(index, &x, &|heads| self.attend(index, heads, &step, &pool), &|_| None)?;
        }
        for sequence in sequences {
            sequence.cache.positions += sequence.tokens.len();
        }
        Ok(x)
    }

    fn step(&self, sequences: &[Advance<'_, Pages>], pool: &Pool) -> Result<Step> {
        let (mut positions, mut slots, mut first) = (Vec::new(), Vec::new(), Vec::new());
        for Advance { cache, tokens } in sequences {
            first.push(positions.len());
            let end = cache.positions + tokens.len();
            positions.extend((cache.positions..end).map(u32::try_from).collect::<Result<Vec<_>, _>>()?);
            slots.extend(cache.slots(end).skip(cache.positions));
        }
        // The longest first; what is less than half as long as the first of its part begins another one.
        let mut rows: Vec<usize> = (0..sequences.len()).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(sequences[*row].tokens.len()));
        let (mut parts, mut order, mut given) = (Vec::new(), vec![0; positions.len()], 0);
        for rows in rows.chunk_by(|a, b| sequences[*a].tokens.len() < 2 * sequences[*b].tokens.len()) {
            let part = self.part(sequences, rows, &first)?;
            for (place, row) in rows.iter().enumerate() {
                for token in 0..sequences[*row].tokens.len() {
                    order[first[*row] + token] = u32::try_from(given + place * part.queries + token)?;
                }
            }
            given += part.rows * part.queries;
            parts.push(part);
        }
        Ok(Step {
            positions: self.plain.ids(&positions)?,
            places: pool.places(&slots)?,
            parts,
            order: self.plain.ids(&order)?,
        })
    }

    fn part(&self, sequences: &[Advance<'_, Pages>], rows: &[usize], first: &[usize]) -> Result<Part> {
        let of = |row: &usize| &sequences[*row];
        let end = |row: &usize| of(row).cache.positions + of(row).tokens.len();
        let queries = rows.iter().map(|row| of(row).tokens.len()).max().unwrap_or(0);
        let keys = rows.iter().map(end).max().unwrap_or(0);
        let (mut tokens, mut slots) = (Vec::new(), Vec::new());
        for row in rows {
            let last = of(row).tokens.len() - 1;
            let token = |query: usize| u32::try_from(first[*row] + query.min(last));
            tokens.extend((0..queries).map(token).collect::<Result<Vec<_>, _>>()?);
            // What lies behind the end is some slot or other: no query sees it.
            slots.extend(of(row).cache.slots(end(row)));
            slots.resize(slots.len() + keys - end(row), 0);
        }
        let mut windows: Vec<Option<usize>> = self.graph.config().layers.iter().map(|layer| layer.window).collect();
        windows.sort_unstable();
        windows.dedup();
        let mask = |window: Option<usize>| -> Result<(Option<usize>, Tensor)> {
            let row = |row: &usize| {
                let (begin, last) = (of(row).cache.positions, of(row).tokens.len() - 1);
                (0..queries).flat_map(move |query| mask_row(begin + query.min(last), window, keys))
            };
            let mask: Vec<f32> = rows.iter().flat_map(row).collect();
            Ok((window, Tensor::from_vec(mask, (rows.len(), 1, 1, queries, keys), &self.plain.device)?))
        };
        Ok(Part {
            rows: rows.len(),
            queries,
            keys,
            tokens: self.plain.ids(&tokens)?,
            slots: self.plain.ids(&slots)?,
            masks: windows.into_iter().map(mask).collect::<Result<_>>()?,
        })
    }

    /// Puts new keys and values into their pages; returns what the heads see at each new position, side by side.
    fn attend(&self, index: usize, heads: Heads, step: &Step, pool: &Pool) -> Result<Tensor> {
        let (config, distances) = (self.graph.config(), self.graph.distances());
        let (shape, layer) = (&config.shape, &config.layers[index]);
        let [mut q, mut k, v] = match heads {
            Heads::Apart(parts) => parts,
            Heads::Fused(qkv, order) => apart(&qkv, order, shape)?,
        };
        if let Some(turns) = distances.turns(layer) {
            let turns = turns.at(&step.positions)?;
            let turned = |x: &Tensor| turns.turn(&x.reshape((x.dim(0)?, (), shape.head_dim))?)?.reshape(x.shape());
            (q, k) = (turned(&q)?, turned(&k)?);
        }
        pool.write(index, &step.places, [&k, &v])?;
        let mut seen = Vec::with_capacity(step.parts.len());
        for part in &step.parts {
            let heads = |x: &Tensor, length| -> candle_core::Result<Tensor> {
                x.reshape((part.rows, length, (), shape.head_dim))?.transpose(1, 2)?.contiguous()
            };
            let [k, v] = pool.read(index, &part.slots)?;
            let (q, k, v) =
                (heads(&q.index_select(&part.tokens, 0)?, part.queries)?, heads(&k, part.keys)?, heads(&v, part.keys)?);
            let mask = part.masks.iter().find(|(window, _)| *window == layer.window).map(|(_, mask)| mask.clone());
            let scores = Scores {
                scale: f64::from(layer.scale),
                cap: layer.cap.map(f64::from),
                mask: mask.ok_or_else(|| anyhow::anyhow!("a layer without a mask"))?,
                growth: distances.growth(shape, part.keys)?,
                blocks: vec![[0..part.queries, 0..part.keys]],
            };
            let out = scores.seen([&q, &k, &v])?.transpose(1, 2)?.contiguous()?;
            seen.push(out.reshape((part.rows * part.queries, ()))?);
        }
        Ok(Tensor::cat(&seen, 0)?.index_select(&step.order, 0)?)
    }

    /// Logits of some rows of vectors, as f32.
    fn logits(&self, all: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let rows = all.index_select(&self.plain.ids(rows)?, 0)?;
        Ok(self.graph.logits(&rows, &|_| None)?.to_dtype(DType::F32)?)
    }

    /// Advances every sequence by its tokens. Returns the logits after every token of every sequence, row by row.
    #[cfg(test)]
    pub(in crate::engine) fn advance_all(&self, sequences: &mut [Advance<'_, Pages>]) -> Result<Vec<f32>> {
        let all = self.hidden(sequences)?;
        let rows: Vec<u32> = (0..u32::try_from(all.dim(0)?)?).collect();
        Ok(self.logits(&all, &rows)?.flatten_all()?.to_vec1()?)
    }
}

impl Advances for DeviceDecoder {
    type Cache = Pages;

    fn context(&self) -> usize {
        self.graph.config().shape.max_positions
    }

    fn vocab_size(&self) -> usize {
        let Shape { vocab_size, .. } = self.graph.config().shape;
        vocab_size
    }

    fn embedding_rows(&self) -> usize {
        self.vocab_size()
    }

    fn cache_bytes(&self, positions: usize) -> usize {
        let config = self.graph.config();
        let numbers = 2 * config.kv_width() * config.layers.len() * PAGE;
        positions.div_ceil(PAGE) * numbers * self.plain.dtype.size_in_bytes()
    }

    fn advance(&self, sequences: &mut [Advance<'_, Pages>]) -> Result<Vec<f32>> {
        let all = self.hidden(sequences)?;
        let mut end = 0;
        let last = sequences.iter().map(|sequence| {
            end += sequence.tokens.len();
            u32::try_from(end - 1)
        });
        let last = last.collect::<Result<Vec<u32>, _>>()?;
        Ok(self.logits(&all, &last)?.flatten_all()?.to_vec1()?)
    }

    fn advance_towards(&self, sequences: &mut [Advance<'_, Pages>], next: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let all = self.hidden(sequences)?;
        let (mut rows, mut wanted, mut end) = (Vec::new(), Vec::new(), 0);
        for (sequence, next) in sequences.iter().zip(next) {
            end += sequence.tokens.len();
            rows.extend((end - next.len()..end).map(u32::try_from).collect::<Result<Vec<_>, _>>()?);
            wanted.extend_from_slice(next);
        }
        let mut values = Vec::with_capacity(wanted.len());
        // A row of logits is as long as the vocabulary: never all rows at once.
        for (rows, wanted) in rows.chunks(LOGIT_ROWS).zip(wanted.chunks(LOGIT_ROWS)) {
            let logits = self.logits(&all, rows)?;
            let of_wanted = logits.gather(&self.plain.ids(wanted)?.unsqueeze(1)?, 1)?;
            values.extend((of_wanted - log_sum_exp(&logits)?)?.flatten_all()?.to_vec1::<f32>()?);
        }
        let mut values = values.into_iter();
        Ok(next.iter().map(|next| values.by_ref().take(next.len()).collect()).collect())
    }
}
