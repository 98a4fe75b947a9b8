//! BERTScore: each token of one text beside the most similar token of the other (arXiv 1904.09675).

use super::models::ByModel;
use super::{Better, Definition, Metric, References, Work};
use serde_json::Value;

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "bertscore",
    version: 1,
    summary: "How similar the tokens of answer and reference are as vectors of an encoder; of several references the best of each value",
    source: "bert_score 0.3.13, `score`; equal to 1e-4",
    metrics: &[
        Metric { name: "precision", range: (f64::NEG_INFINITY, 1.0), better: Better::Higher },
        Metric { name: "recall", range: (f64::NEG_INFINITY, 1.0), better: Better::Higher },
        Metric { name: "f1", range: (f64::NEG_INFINITY, 1.0), better: Better::Higher },
    ],
    pooled: &[],
    references: References::Some,
    read: super::read::<BertscoreParams>,
    settings: super::settings::<BertscoreParams>,
    work: Work::Model(ByModel {
        file: Some((
            "baseline",
            "Table of `LAYER,P,R,F` whose row of the layer becomes zero, as bert_score's files are.",
        )),
        column: None,
        complete: fill_in_layer,
        #[cfg(feature = "candle")]
        build: engine::build,
        #[cfg(feature = "candle")]
        check: engine::check,
    }),
};

crate::settings! {
    /// Which vectors, and how tokens are weighed.
    pub struct BertscoreParams {
        /// How many blocks of the encoder are run; for well-known models the number that bert_score takes.
        layer: Option<u32> = None => 0..=1024,
        /// Whether tokens that few of all references have weigh more.
        idf: bool = false,
        /// Most tokens of a text, of which the rest is cut; by default as many as tokenizer and model can read, else 512.
        max_tokens: Option<u32> = None => 2..=1_048_576,
    }
}

/// The layer that bert_score takes of a model: the one whose scores correlate best with people's on WMT16.
const LAYERS: &[(&str, u32)] = &[
    ("bert-base-uncased", 9),
    ("bert-large-uncased", 18),
    ("bert-base-cased-finetuned-mrpc", 9),
    ("bert-base-multilingual-cased", 9),
    ("bert-base-chinese", 8),
    ("roberta-base", 10),
    ("roberta-large", 17),
    ("roberta-large-mnli", 19),
    ("roberta-base-openai-detector", 7),
    ("roberta-large-openai-detector", 15),
    ("scibert_scivocab_uncased", 8),
    ("scibert_scivocab_cased", 9),
    ("scibert_basevocab_uncased", 9),
    ("distilroberta-base", 5),
    ("xlm-roberta-base", 9),
    ("xlm-roberta-large", 17),
    ("deberta-base", 9),
    ("deberta-base-mnli", 9),
    ("deberta-large", 16),
    ("deberta-large-mnli", 18),
    ("deberta-xlarge", 18),
    ("deberta-xlarge-mnli", 40),
    ("mpnet-base", 8),
    ("spanbert-base-cased", 8),
    ("spanbert-large-cased", 17),
    ("finbert", 10),
    ("deberta-v2-xlarge", 10),
    ("deberta-v2-xlarge-mnli", 17),
    ("deberta-v2-xxlarge", 21),
    ("deberta-v2-xxlarge-mnli", 22),
    ("unsup-simcse-bert-base-uncased", 10),
    ("unsup-simcse-bert-large-uncased", 18),
    ("unsup-simcse-roberta-base", 8),
    ("unsup-simcse-roberta-large", 13),
    ("sup-simcse-bert-base-uncased", 10),
    ("sup-simcse-bert-large-uncased", 18),
    ("sup-simcse-roberta-base", 10),
    ("sup-simcse-roberta-large", 16),
    ("bert-base-turkish-cased", 10),
    ("deberta-v3-xsmall", 10),
    ("deberta-v3-small", 4),
    ("deberta-v3-base", 9),
    ("mdeberta-v3-base", 10),
    ("deberta-v3-large", 12),
    ("DeBERTa-v3-large-mnli", 18),
];

/// Puts in the layer of a well-known model.
fn fill_in_layer(params: &mut Value, model: &str) -> Result<(), String> {
    if !params["layer"].is_null() {
        return Ok(());
    }
    match LAYERS.iter().find(|(name, _)| *name == model) {
        Some((_, layer)) => {
            params["layer"] = (*layer).into();
            Ok(())
        }
        None => Err(format!("`layer` is missing: bert_score's table has none for `{model}`")),
    }
}

#[cfg(feature = "candle")]
mod engine {
    use super::BertscoreParams;
    use crate::engine::encoder::{Config, Encoder, Text, Wanted};
    use crate::engine::kernels::dot;
    use crate::engine::matmul::{Matrix, MatrixMut, Threads, Write, matmul};
    use crate::engine::tokenizer::Tokenizer;
    use crate::engine::weights::Weights;
    use crate::key::Digest;
    use crate::scorer::Answer;
    use crate::scorer::models::{Files, ModelScorer, Values};
    use crate::scorer::taken::{RowTexts, Taken};
    use crate::scorer::text::is_space;
    use anyhow::{Context as _, ensure};
    use std::borrow::Cow;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    /// Most tokens of a text where neither tokenizer nor model has a limit.
    const LONGEST: usize = 512;

    struct Bertscore {
        model: Encoder,
        tokenizer: Tokenizer,
        max_tokens: usize,
        /// Whether a space stands before every text.
        spaced: bool,
        weighing: Weighing,
        baseline: Option<[f64; 3]>,
        taken: Taken,
    }

    /// How much tokens count.
    enum Weighing {
        /// All alike, but for those that stand around every text.
        Plain(Vec<u32>),
        /// By how many of all references have them: references, and of each token those that have it.
        Idf(usize, BTreeMap<u32, usize>),
    }

    pub(super) fn build(params: serde_json::Value, files: &Files<'_>) -> anyhow::Result<Box<dyn ModelScorer>> {
        let params: BertscoreParams = serde_json::from_value(params)?;
        let layer = params.layer.context("`layer` is missing")? as usize;
        let model = Encoder::load(files.model, Wanted { blocks: Some(layer), head: false })?;
        let tokenizer = Tokenizer::load(files.model)?;
        let max_tokens = check_config(model.config(), &tokenizer, &params)?;
        let around = tokenizer.around()?;
        let ends = [around.first(), around.last()].into_iter().flatten().copied().collect();
        Ok(Box::new(Bertscore {
            weighing: if params.idf { Weighing::Idf(0, BTreeMap::new()) } else { Weighing::Plain(ends) },
            // bert_score asks these two for it, and no others.
            spaced: tokenizer.class().is_some_and(|class| {
                ["RobertaTokenizer", "GPT2Tokenizer"].contains(&class.strip_suffix("Fast").unwrap_or(class))
            }),
            baseline: files.other.map(|path| baseline(path, layer)).transpose()?,
            model,
            tokenizer,
            max_tokens,
            taken: Taken::default(),
        }))
    }

    pub(super) fn check(params: &serde_json::Value, model: &Path) -> anyhow::Result<()> {
        let params: BertscoreParams = serde_json::from_value(params.clone())?;
        let config = Config::read(model)?;
        check_config(&config, &Tokenizer::load(model)?, &params)?;
        let (layer, blocks) = (params.layer.unwrap_or(0) as usize, config.shape.blocks);
        ensure!(layer <= blocks, "the model has {blocks} blocks: there is no layer {layer}");
        config.check_weights(&Weights::open_model(model)?, Wanted::default(), model)
    }

    /// How many tokens a text may have.
    fn check_config(config: &Config, tokenizer: &Tokenizer, params: &BertscoreParams) -> anyhow::Result<usize> {
        tokenizer.check_fits(config.shape.vocab_size)?;
        let most = [tokenizer.longest(), config.max_tokens()].into_iter().flatten().min();
        let most = params.max_tokens.map(|most| most as usize).or(most).unwrap_or(LONGEST);
        config.check_longest(Some(most))?;
        Ok(most)
    }

    impl ModelScorer for Bertscore {
        fn take(&mut self, answer: &Answer<'_>) -> anyhow::Result<()> {
            let Self { model, tokenizer, max_tokens, spaced, weighing, taken, .. } = self;
            taken.take(answer, |text| {
                let text = text.trim_matches(is_space);
                let text: Cow<'_, str> =
                    if *spaced && !text.is_empty() { format!(" {text}").into() } else { text.into() };
                let (ids, types) = tokenizer.encode_marked(&text, None, Some(*max_tokens))?;
                let text = Text { ids, types };
                model.check(&text)?;
                Ok(text)
            })?;
            if let (Weighing::Idf(count, seen), Some(row)) = (weighing, taken.rows.last()) {
                *count += row.references.len();
                for reference in &row.references {
                    let tokens: BTreeSet<u32> = taken.texts[*reference].ids.iter().copied().collect();
                    tokens.into_iter().for_each(|token| *seen.entry(token).or_default() += 1);
                }
            }
            Ok(())
        }

        /// Of all references a row depends on no more than the weights of its own tokens: a changed answer changes no other
        /// row's key, and a changed reference only those of rows that have some of its tokens.
        fn keys(&mut self) -> Vec<Digest> {
            let weights = |text: &Text| match &self.weighing {
                Weighing::Plain(_) => Vec::new(),
                Weighing::Idf(..) => {
                    self.weighing.of(&text.ids).iter().flat_map(|weight| weight.to_le_bytes()).collect()
                }
            };
            self.taken.keys(weights)
        }

        fn score(&mut self, rows: &[usize], said: &mut dyn FnMut(usize, &Values)) -> Vec<Values> {
            let width = self.model.config().shape.hidden_size;
            let read = |texts: &[&Text]| -> Vec<Vec<f32>> {
                let states = self.model.read(texts);
                let mut rest = states.as_slice();
                let vectors = texts.iter().map(|text| {
                    let (of_text, tail) = rest.split_at(text.ids.len() * width);
                    rest = tail;
                    of_length_one(of_text, width)
                });
                vectors.collect()
            };
            let value = |row: &RowTexts, made: &BTreeMap<usize, Vec<f32>>| {
                let mut best: Option<[Option<f64>; 3]> = None;
                for reference in &row.references {
                    let text = |number: usize| Side { ids: &self.taken.texts[number].ids, vectors: &made[&number] };
                    let values = compare(text(row.prediction), text(*reference), width, &self.weighing);
                    best = Some(match best {
                        None => values,
                        Some(best) => std::array::from_fn(|metric| match (best[metric], values[metric]) {
                            (Some(a), Some(b)) => Some(a.max(b)),
                            // torch's maximum with what is no number is none.
                            _ => None,
                        }),
                    });
                }
                let best = best.unwrap_or_default();
                let scaled = |(metric, value): (usize, Option<f64>)| match self.baseline {
                    Some(baseline) => value.map(|value| (value - baseline[metric]) / (1.0 - baseline[metric])),
                    None => value,
                };
                best.into_iter().enumerate().map(scaled).collect()
            };
            self.taken.score(rows, read, value, said)
        }
    }

    impl Weighing {
        fn of(&self, ids: &[u32]) -> Vec<f32> {
            #[expect(clippy::cast_possible_truncation, reason = "bert_score weighs in f32")]
            let weight = |id: &u32| match self {
                Self::Plain(around) => f32::from(u8::from(!around.contains(id))),
                Self::Idf(count, seen) => {
                    let seen = seen.get(id).copied().unwrap_or(0);
                    ((*count + 1) as f64 / (seen + 1) as f64).ln() as f32
                }
            };
            ids.iter().map(weight).collect()
        }
    }

    /// A text, as its tokens and their vectors.
    struct Side<'a> {
        ids: &'a [u32],
        vectors: &'a [f32],
    }

    /// Precision, recall and F1 of an answer beside a reference.
    fn compare(answer: Side<'_>, reference: Side<'_>, width: usize, weighing: &Weighing) -> [Option<f64>; 3] {
        // Nothing stands between the two special tokens.
        if answer.ids.len() <= 2 || reference.ids.len() <= 2 {
            return [Some(0.0); 3];
        }
        let (rows, columns) = (answer.ids.len(), reference.ids.len());
        let mut similar = vec![0.0; rows * columns];
        let (a, b) = (Matrix::new(answer.vectors, rows, width), Matrix::new(reference.vectors, columns, width));
        matmul(MatrixMut::new(&mut similar, rows, columns), a, b.t(), 1.0, Write::Set, Threads::Caller);
        // Never below zero: so similar is what bert_score pads the texts of a batch with.
        let greatest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, f32::max);
        let of_answer: Vec<f32> = similar.chunks_exact(columns).map(|row| greatest(&mut row.iter().copied())).collect();
        let of_reference: Vec<f32> =
            (0..columns).map(|column| greatest(&mut similar.iter().skip(column).step_by(columns).copied())).collect();
        let precision = weighted(&of_answer, &weighing.of(answer.ids));
        let recall = weighted(&of_reference, &weighing.of(reference.ids));
        let f1 = 2.0 * precision * recall / (precision + recall);
        let number = |value: f64| (!value.is_nan()).then_some(value);
        [number(precision), number(recall), Some(if f1.is_nan() { 0.0 } else { f1 })]
    }

    /// The weighted mean; no number where no token counts.
    fn weighted(values: &[f32], weights: &[f32]) -> f64 {
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        values.iter().zip(weights).map(|(value, weight)| f64::from(*value) * f64::from(*weight) / sum).sum()
    }

    fn of_length_one(vectors: &[f32], width: usize) -> Vec<f32> {
        let mut out = vectors.to_vec();
        for row in out.chunks_exact_mut(width) {
            let length = dot(row, row).sqrt();
            row.iter_mut().for_each(|value| *value /= length);
        }
        out
    }

    /// The row of a layer in a file of baselines: the layer-th, as bert_score counts.
    fn baseline(path: &Path, layer: usize) -> anyhow::Result<[f64; 3]> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the baseline `{name}`"))?;
        let line = text.lines().skip(1).nth(layer);
        let line = line.with_context(|| format!("the baseline `{name}` has no row of layer {layer}"))?;
        let numbers: Vec<f64> = line.split(',').skip(1).filter_map(|field| field.trim().parse().ok()).collect();
        <[f64; 3]>::try_from(numbers)
            .ok()
            .with_context(|| format!("the baseline `{name}`: `{line}` is not `LAYER,P,R,F`"))
    }
}
