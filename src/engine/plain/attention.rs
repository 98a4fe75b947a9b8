//! Attention on a device. Rows of a batch are padded for it, and only for it; of the scores nothing is kept.

use super::turns::Turns;
use super::{Plain, given};
use crate::engine::model::{Order, Shape};
use crate::engine::train::{Heads, Sight};
use anyhow::Result;
use candle_core::{D, DType, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Scores that are there at a time: rows of a batch go through attention a few together.
const SCORES: usize = 1 << 27;

/// Queries that are looked at together: they need keys up to the last of them only. (Rows of tests are short.)
const QUERIES: usize = if cfg!(test) { 8 } else { 128 };

/// How the tokens of a batch stand in rows.
#[derive(Debug)]
pub struct Rows {
    layout: Arc<RowLayout>,
    plain: Plain,
    /// What a query may not see, by the layers' windows.
    masks: Mutex<BTreeMap<Option<usize>, Tensor>>,
}

#[derive(Debug)]
struct RowLayout {
    count: usize,
    longest: usize,
    /// Where rows are not of one length.
    places: Option<Places>,
}

/// Tokens in rows that are padded behind their end.
#[derive(Debug)]
struct Places {
    /// The token at every place; the row's last at those that are padding.
    tokens: Tensor,
    /// The place of every token.
    places: Tensor,
    /// Ones where there is a token, zeros where there is padding.
    there: Tensor,
}

impl Rows {
    /// Rows that begin at these tokens; the last offset is where the last one ends.
    pub(super) fn new(offsets: &[usize], plain: &Plain) -> Result<Self> {
        let ends: Vec<[usize; 2]> = offsets.windows(2).map(|ends| [ends[0], ends[1]]).collect();
        let longest = ends.iter().map(|[begin, end]| end - begin).max().unwrap_or(0);
        let mut places = None;
        if ends.iter().any(|[begin, end]| end - begin < longest) {
            let (mut tokens, mut of_tokens, mut there) = (Vec::new(), Vec::new(), Vec::new());
            for [begin, end] in &ends {
                for place in 0..longest {
                    let token = begin + place;
                    if token < *end {
                        of_tokens.push(u32::try_from(tokens.len())?);
                    }
                    there.push(if token < *end { 1f32 } else { 0.0 });
                    tokens.push(u32::try_from(token.min(end.saturating_sub(1)))?);
                }
            }
            let there = Tensor::from_vec(there, (tokens.len(), 1), &plain.device)?.to_dtype(plain.dtype)?;
            places = Some(Places { tokens: plain.ids(&tokens)?, places: plain.ids(&of_tokens)?, there });
        }
        let layout = Arc::new(RowLayout { count: ends.len(), longest, places });
        Ok(Self { layout, plain: plain.clone(), masks: Mutex::default() })
    }

    /// Minus infinity where a query may not look: `1 × 1 × 1 × longest × longest`.
    fn mask(&self, window: Option<usize>) -> candle_core::Result<Tensor> {
        let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mask) = masks.get(&window) {
            return Ok(mask.clone());
        }
        let longest = self.layout.longest;
        let mask = (0..longest).flat_map(|query| mask_row(query, window, longest)).collect();
        let mask = Tensor::from_vec::<_, f32>(mask, (1, 1, 1, longest, longest), &self.plain.device)?;
        masks.insert(window, mask.clone());
        Ok(mask)
    }
}

/// What is added to the scores of the keys at positions up to `end`, for the query at a position.
pub(super) fn mask_row(query: usize, window: Option<usize>, end: usize) -> impl Iterator<Item = f32> {
    let first = window.map_or(0, |window| (query + 1).saturating_sub(window));
    (0..end).map(move |key| if (first..=query).contains(&key) { 0.0 } else { f32::NEG_INFINITY })
}

impl RowLayout {
    /// `tokens × width` as `count × longest × width`.
    fn padded(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let shape = (self.count, self.longest, x.dim(1)?);
        match &self.places {
            None => x.reshape(shape),
            Some(places) => x.index_select(&places.tokens, 0)?.reshape(shape),
        }
    }

    /// The same with zeros for what is padded.
    fn padded_with_zeros(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let padded = self.padded(x)?;
        let Some(places) = &self.places else { return Ok(padded) };
        padded.broadcast_mul(&places.there.reshape((self.count, self.longest, 1))?)
    }

    /// The reverse.
    fn unpadded(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let flat = x.reshape((self.count * self.longest, ()))?;
        match &self.places {
            None => Ok(flat),
            Some(places) => flat.index_select(&places.places, 0),
        }
    }
}

/// What scores become probabilities by.
#[derive(Clone, Debug)]
pub(super) struct Scores {
    /// What the product of query and key is multiplied by.
    pub scale: f64,
    /// What that comes near to and never reaches.
    pub cap: Option<f64>,
    /// `1 or rows × 1 × 1 × queries × keys`: added.
    pub mask: Tensor,
    /// `1 × kv_heads × group × 1 × keys`: added.
    pub growth: Option<Tensor>,
    /// Queries, and the keys that some of them see.
    pub blocks: Vec<[Range<usize>; 2]>,
}

/// Blocks of as many queries as keys, each of which sees itself and what stands before it.
fn causal_blocks(count: usize, window: Option<usize>) -> Vec<[Range<usize>; 2]> {
    let block = |from: usize| {
        let to = (from + QUERIES).min(count);
        [from..to, window.map_or(0, |window| (from + 1).saturating_sub(window))..to]
    };
    (0..count).step_by(QUERIES).map(block).collect()
}

/// A part of the queries, keys or values of some rows.
fn places(x: &Tensor, places: &Range<usize>) -> candle_core::Result<Tensor> {
    x.narrow(2, places.start, places.len())
}

/// Queries (`rows × kv_heads · group × queries × width`), keys and values (`rows × kv_heads × keys × width`).
type Qkv<'a> = [&'a Tensor; 3];

impl Scores {
    /// What every query sees, shaped like the queries.
    pub fn seen(&self, [q, k, v]: Qkv<'_>) -> candle_core::Result<Tensor> {
        let mut parts = Vec::new();
        for (from, count) in self.parts(q, k)? {
            let [q, k, v] = [q, k, v].map(|x| x.narrow(0, from, count));
            let (q, k, v) = (q?, k?, v?);
            let block = |block @ [queries, keys]: &[Range<usize>; 2]| -> candle_core::Result<Tensor> {
                let [q, k, v] = [places(&q, queries)?, places(&k, keys)?, places(&v, keys)?];
                let p = self.probabilities(&q, &k, from, block)?.0;
                p.to_dtype(v.dtype())?.matmul(&v)?.reshape(q.shape())
            };
            parts.push(cat(self.blocks.iter().map(block).collect::<candle_core::Result<_>>()?, 2)?);
        }
        cat(parts, 0)
    }

    /// Gradients by queries, keys and values.
    fn back(&self, [q, k, v]: Qkv<'_>, grad: &Tensor) -> candle_core::Result<[Tensor; 3]> {
        let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
        for (from, count) in self.parts(q, k)? {
            let [q, k, v, grad] = [q, k, v, grad].map(|x| x.narrow(0, from, count));
            let (q, k, v, grad) = (q?, k?, v?, grad?);
            let (mut of_q, mut of_k, mut of_v) = (Vec::new(), None, None);
            for block @ [queries, keys] in &self.blocks {
                let parts = [places(&q, queries)?, places(&k, keys)?, places(&v, keys)?, places(&grad, queries)?];
                let [dq, dk, dv] = self.block_back(parts.each_ref(), from, block)?;
                of_q.push(dq);
                add_places(&mut of_k, dk, keys, k.dim(2)?)?;
                add_places(&mut of_v, dv, keys, k.dim(2)?)?;
            }
            dq.push(cat(of_q, 2)?);
            dk.extend(of_k);
            dv.extend(of_v);
        }
        Ok([cat(dq, 0)?, cat(dk, 0)?, cat(dv, 0)?])
    }

    fn block_back(
        &self,
        [q, k, v, grad]: [&Tensor; 4],
        from: usize,
        block: &[Range<usize>; 2],
    ) -> candle_core::Result<[Tensor; 3]> {
        let (dtype, shape) = (q.dtype(), q.shape());
        let (p, slopes) = self.probabilities(q, k, from, block)?;
        let (q, grad) = (grouped(q, k)?, grouped(grad, k)?);
        let of_p = grad.matmul(&v.t()?)?.to_dtype(DType::F32)?;
        let of_v = p.to_dtype(dtype)?.t()?.matmul(&grad)?;
        // The softmax's gradient: p · (dp - Σ p · dp).
        let weighted = (&p * of_p)?;
        let mut of_scores = (&weighted - p.broadcast_mul(&weighted.sum_keepdim(D::Minus1)?)?)?;
        if let Some(slopes) = slopes {
            of_scores = (of_scores * slopes)?;
        }
        let of_scores = (of_scores * self.scale)?.to_dtype(dtype)?;
        Ok([of_scores.matmul(k)?.reshape(shape)?, of_scores.t()?.matmul(&q)?, of_v])
    }

    /// Which rows go together: the first, and how many.
    fn parts(&self, q: &Tensor, k: &Tensor) -> candle_core::Result<impl Iterator<Item = (usize, usize)> + use<>> {
        let (rows, heads) = (q.dim(0)?, q.dim(1)?);
        let queries = self.blocks.iter().map(|[queries, _]| queries.len()).max().unwrap_or(0);
        let together = (SCORES / (heads * queries * k.dim(2)?).max(1)).max(1);
        Ok((0..rows).step_by(together).map(move |from| (from, together.min(rows - from))))
    }

    /// Probabilities (f32, `rows × kv_heads × group · queries × keys`) of a block of rows from `from` on; where scores are
    /// capped, with the slopes of that.
    fn probabilities(
        &self,
        q: &Tensor,
        k: &Tensor,
        from: usize,
        [of_queries, of_keys]: &[Range<usize>; 2],
    ) -> candle_core::Result<(Tensor, Option<Tensor>)> {
        let (rows, heads, queries, _) = q.dims4()?;
        let (kv_heads, keys) = (k.dim(1)?, k.dim(2)?);
        let mut scores = (grouped(q, k)?.matmul(&k.t()?)?.to_dtype(DType::F32)? * self.scale)?;
        let mut slopes = None;
        if let Some(cap) = self.cap {
            let tanh = (scores / cap)?.tanh()?;
            slopes = Some((1.0 - tanh.sqr()?)?);
            scores = (tanh * cap)?;
        }
        let flat = scores.shape().clone();
        let mask = if self.mask.dim(0)? == 1 { self.mask.clone() } else { self.mask.narrow(0, from, rows)? };
        let mask = mask.narrow(3, of_queries.start, queries)?.narrow(4, of_keys.start, keys)?;
        scores = scores.reshape((rows, kv_heads, heads / kv_heads, queries, keys))?.broadcast_add(&mask)?;
        if let Some(growth) = &self.growth {
            scores = scores.broadcast_add(&growth.narrow(4, of_keys.start, keys)?)?;
        }
        let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        Ok((powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?.reshape(flat)?, slopes))
    }
}

/// The queries that a key head serves as one: `rows × kv_heads × group · queries × width`.
fn grouped(q: &Tensor, k: &Tensor) -> candle_core::Result<Tensor> {
    q.reshape((q.dim(0)?, k.dim(1)?, (), q.dim(3)?))
}

fn cat(parts: Vec<Tensor>, dim: usize) -> candle_core::Result<Tensor> {
    match <[Tensor; 1]>::try_from(parts) {
        Ok([part]) => Ok(part),
        Err(parts) => Tensor::cat(&parts, dim),
    }
}

/// Adds what stands at some of `count` places.
fn add_places(sum: &mut Option<Tensor>, x: Tensor, at: &Range<usize>, count: usize) -> candle_core::Result<()> {
    let x = if at.len() == count { x } else { x.pad_with_zeros(2, at.start, count - at.end)? };
    *sum = Some(match sum.take() {
        None => x,
        Some(sum) => (sum + x)?,
    });
    Ok(())
}

/// Attention over the rows of a batch.
#[derive(Clone, Debug)]
struct Attention {
    shape: Shape,
    layout: Arc<RowLayout>,
    turns: Option<Turns>,
    scores: Scores,
}

impl Attention {
    /// Heads of a padded batch: `rows × longest × heads · width` as `rows × heads × longest × width`, turned.
    fn heads(&self, x: &Tensor, turns: Option<&Turns>) -> candle_core::Result<Tensor> {
        let (rows, longest, _) = x.dims3()?;
        let mut x = x.reshape((rows, longest, (), self.shape.head_dim))?;
        if let Some(turns) = turns {
            x = turns.turn(&x)?;
        }
        x.transpose(1, 2)?.contiguous()
    }

    /// The reverse; `tokens × heads · width`.
    fn tokens(&self, x: &Tensor, turns: Option<&Turns>) -> candle_core::Result<Tensor> {
        let mut x = x.transpose(1, 2)?.contiguous()?;
        if let Some(turns) = turns {
            x = turns.turn(&x)?;
        }
        self.layout.unpadded(&x)
    }

    fn all_heads(&self, [q, k, v]: Qkv<'_>) -> candle_core::Result<[Tensor; 3]> {
        let turns = self.turns.as_ref();
        let of = |x: &Tensor, turns| self.heads(&self.layout.padded(x)?, turns);
        Ok([of(q, turns)?, of(k, turns)?, of(v, None)?])
    }

    fn forward(&self, qkv: Qkv<'_>) -> candle_core::Result<Tensor> {
        let [q, k, v] = self.all_heads(qkv)?;
        self.tokens(&self.scores.seen([&q, &k, &v])?, None)
    }

    fn back(&self, qkv: Qkv<'_>, grad: &Tensor) -> candle_core::Result<[Tensor; 3]> {
        let [q, k, v] = self.all_heads(qkv)?;
        let grad = self.heads(&self.layout.padded_with_zeros(grad)?, None)?;
        let [dq, dk, dv] = self.scores.back([&q, &k, &v], &grad)?;
        let turns = self.turns.as_ref().map(Turns::back).transpose()?;
        Ok([self.tokens(&dq, turns.as_ref())?, self.tokens(&dk, turns.as_ref())?, self.tokens(&dv, None)?])
    }
}

/// What every head sees at every token, side by side.
pub(super) fn attend(heads: Heads, sight: &Sight<'_, Plain>) -> Result<Tensor> {
    let (shape, layer, longest) = (*sight.shape, sight.layer, sight.rows.layout.longest);
    let scores = Scores {
        scale: f64::from(layer.scale),
        cap: layer.cap.map(f64::from),
        mask: sight.rows.mask(layer.window)?,
        growth: sight.distances.growth(&shape, longest)?,
        blocks: causal_blocks(longest, layer.window),
    };
    let turns = sight.distances.turns(layer).map(|turns| turns.up_to(longest)).transpose()?;
    let attention = Attention { shape, layout: sight.rows.layout.clone(), turns, scores };
    match heads {
        Heads::Apart([q, k, v]) => {
            let alone = [&q, &k, &v].map(Tensor::detach);
            let value = attention.forward(alone.each_ref())?;
            let back = move |grad: &Tensor| Ok(attention.back(alone.each_ref(), grad)?.map(Some));
            Ok(given::three([&q, &k, &v], value, back)?)
        }
        Heads::Fused(qkv, order) => {
            let alone = qkv.detach();
            let value = attention.forward(apart(&alone, order, &shape)?.each_ref())?;
            let back = move |grad: &Tensor| {
                let parts = apart(&alone, order, &shape)?;
                together(attention.back(parts.each_ref(), grad)?, order, &shape)
            };
            Ok(given::one(&qkv, value, back)?)
        }
    }
}

/// Queries, keys and values out of one tensor.
pub(super) fn apart(qkv: &Tensor, order: Order, shape: &Shape) -> candle_core::Result<[Tensor; 3]> {
    let Shape { heads, kv_heads, head_dim, .. } = *shape;
    let tokens = qkv.dim(0)?;
    let (qkv, counts) = match order {
        Order::Parts => (qkv.reshape((tokens, 1, (), head_dim))?, [heads, kv_heads, kv_heads]),
        Order::Groups => (qkv.reshape((tokens, kv_heads, (), head_dim))?, [heads / kv_heads, 1, 1]),
    };
    let part = |from, count| qkv.narrow(2, from, count)?.contiguous()?.reshape((tokens, ()));
    Ok([part(0, counts[0])?, part(counts[0], counts[1])?, part(counts[0] + counts[1], counts[2])?])
}

/// The reverse.
fn together(parts: [Tensor; 3], order: Order, shape: &Shape) -> candle_core::Result<Tensor> {
    let groups = match order {
        Order::Parts => 1,
        Order::Groups => shape.kv_heads,
    };
    let [q, k, v] = parts.map(|part| part.reshape((part.dim(0)?, groups, (), shape.head_dim)));
    let together = Tensor::cat(&[q?, k?, v?], 2)?;
    together.reshape((together.dim(0)?, ()))
}
