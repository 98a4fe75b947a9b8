//! How likely given texts are behind a prompt.
//!
//! What comes before the texts is worked out once for all of them: they share its cache.

use super::{Room, STEP_TOKENS};
use crate::engine::decoder::{Advance, Advances};
use anyhow::Result;

/// A prompt and texts that could follow it.
#[derive(Clone, Debug)]
pub struct Texts<'a> {
    /// At least one token.
    pub prompt: &'a [u32],
    /// Each of at least one token, and with the prompt no longer than the decoder's context and one more.
    pub continuations: Vec<&'a [u32]>,
}

/// Log-probabilities of every token of every continuation of every prompt. `finished` is called with the number of each
/// prompt and its values, as soon as it has them.
pub fn likelihoods<D: Advances>(
    decoder: &D,
    questions: &[Texts<'_>],
    room: Room,
    mut finished: impl FnMut(usize, &Vec<Vec<f32>>),
) -> Result<Vec<Vec<Vec<f32>>>> {
    let mut order: Vec<usize> = (0..questions.len()).collect();
    order.sort_by_key(|question| questions[*question].prompt.len());
    let mut answers = vec![Vec::new(); questions.len()];
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let (batch, tail) = rest.split_at(together(decoder, questions, rest, room));
        rest = tail;
        let questions: Vec<&Texts<'_>> = batch.iter().map(|question| &questions[*question]).collect();
        for (question, values) in batch.iter().zip(batch_likelihoods(decoder, &questions)?) {
            finished(*question, &values);
            answers[*question] = values;
        }
    }
    Ok(answers)
}

/// How many of the questions `order` are asked together: as many as there is room for, but one at least.
fn together<D: Advances>(decoder: &D, questions: &[Texts<'_>], order: &[usize], room: Room) -> usize {
    let (mut tokens, mut bytes) = (0, 0);
    let fit = order.iter().take(room.batch_size).take_while(|question| {
        let Texts { prompt, continuations } = &questions[**question];
        tokens += prompt.len();
        // Continuations are read one after the other, if need be.
        let longest = continuations.iter().map(|continuation| continuation.len()).max().unwrap_or(0);
        bytes += decoder.cache_bytes(prompt.len()) + decoder.cache_bytes(longest);
        tokens <= STEP_TOKENS && bytes <= room.cache_bytes
    });
    fit.count().max(1)
}

fn batch_likelihoods<D: Advances>(decoder: &D, questions: &[&Texts<'_>]) -> Result<Vec<Vec<Vec<f32>>>> {
    // The last token of the prompt goes with each continuation: its logits are what the first token is drawn from.
    let mut caches: Vec<D::Cache> = vec![D::Cache::default(); questions.len()];
    let begun = |question: &Texts<'_>| question.prompt.len() - 1;
    let longest = questions.iter().map(|question| begun(question)).max().unwrap_or(0);
    for from in (0..longest).step_by(STEP_TOKENS) {
        let pieces = caches.iter_mut().zip(questions).filter_map(|(cache, question)| {
            let tokens = &question.prompt[from.min(begun(question))..begun(question).min(from + STEP_TOKENS)];
            (!tokens.is_empty()).then_some(Advance { cache, tokens })
        });
        let mut pieces: Vec<Advance<'_, D::Cache>> = pieces.collect();
        let nothing = vec![[].as_slice(); pieces.len()];
        decoder.advance_towards(&mut pieces, &nothing)?;
    }
    let texts: Vec<(usize, &[u32])> = (0..)
        .zip(questions)
        .flat_map(|(number, question)| question.continuations.iter().map(move |text| (number, *text)))
        .collect();
    let mut answers = vec![Vec::new(); questions.len()];
    let mut rest = texts.as_slice();
    while !rest.is_empty() {
        let mut tokens = 0;
        let fit = rest.iter().take_while(|(_, text)| {
            tokens += text.len();
            tokens <= STEP_TOKENS
        });
        let (batch, tail) = rest.split_at(fit.count().max(1));
        rest = tail;
        let mut copies: Vec<(D::Cache, Vec<u32>)> = batch
            .iter()
            .map(|(number, text)| {
                let last = questions[*number].prompt.last();
                (caches[*number].clone(), last.into_iter().chain(&text[..text.len() - 1]).copied().collect())
            })
            .collect();
        let mut advances: Vec<Advance<'_, D::Cache>> =
            copies.iter_mut().map(|(cache, tokens)| Advance { cache, tokens }).collect();
        let wanted: Vec<&[u32]> = batch.iter().map(|(_, text)| *text).collect();
        for ((number, _), values) in batch.iter().zip(decoder.advance_towards(&mut advances, &wanted)?) {
            answers[*number].push(values);
        }
    }
    Ok(answers)
}
