//! How near answer and reference are to each other as vectors of a sentence encoder.

use super::models::ByModel;
use super::{Better, Definition, Metric, References, Work};

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "sbert",
    version: 1,
    summary: "Cosine between the vectors that a sentence encoder gives answer and reference; of several references the nearest",
    source: "sentence-transformers 6.2.0, `encode` and `util.cos_sim`; equal to 1e-5",
    metrics: &[Metric { name: "cosine", range: (-1.0, 1.0), better: Better::Higher }],
    pooled: &[],
    references: References::Some,
    read: super::read::<SbertParams>,
    settings: super::settings::<SbertParams>,
    work: Work::Model(ByModel {
        file: None,
        column: None,
        complete: |_, _| Ok(()),
        #[cfg(feature = "candle")]
        build: engine::build,
        #[cfg(feature = "candle")]
        check: engine::check,
    }),
};

crate::settings! {
    /// How texts become vectors.
    pub struct SbertParams {
        /// How the vectors of a text's tokens become one; by default as the files of sentence-transformers beside the model
        /// say, else their mean.
        pooling: Option<Pooling> = None,
        /// Most tokens of a text, of which the rest is cut; by default as those files say, else as many as the model can
        /// read.
        max_tokens: Option<u32> = None => 2..=1_048_576,
    }
}

crate::words! {
    /// How the vectors of a text's tokens become one.
    pub enum Pooling {
        /// The mean over all tokens.
        Mean = "mean",
        /// The first token's.
        Cls = "cls",
        /// The greatest number at each place.
        Max = "max",
    }
}

#[cfg(feature = "candle")]
mod engine {
    use super::{Pooling, SbertParams};
    use crate::engine::encoder::{self, Sentences};
    use crate::engine::kernels::dot;
    use crate::key::Digest;
    use crate::scorer::Answer;
    use crate::scorer::models::{Files, ModelScorer, Values};
    use crate::scorer::taken::{RowTexts, Taken, greatest};
    use std::path::Path;

    struct Sbert {
        model: Sentences,
        taken: Taken,
    }

    pub(super) fn build(params: serde_json::Value, files: &Files<'_>) -> anyhow::Result<Box<dyn ModelScorer>> {
        let (pooling, max_tokens) = read(params)?;
        Ok(Box::new(Sbert { model: Sentences::load(files.model, pooling, max_tokens)?, taken: Taken::default() }))
    }

    pub(super) fn check(params: &serde_json::Value, model: &Path) -> anyhow::Result<()> {
        let (pooling, max_tokens) = read(params.clone())?;
        Sentences::check(model, pooling, max_tokens)
    }

    fn read(params: serde_json::Value) -> anyhow::Result<(Option<encoder::Pooling>, Option<usize>)> {
        let SbertParams { pooling, max_tokens } = serde_json::from_value(params)?;
        let pooling = pooling.map(|pooling| match pooling {
            Pooling::Mean => encoder::Pooling::Mean,
            Pooling::Cls => encoder::Pooling::Cls,
            Pooling::Max => encoder::Pooling::Max,
        });
        Ok((pooling, max_tokens.map(|most| most as usize)))
    }

    impl ModelScorer for Sbert {
        fn take(&mut self, answer: &Answer<'_>) -> anyhow::Result<()> {
            self.taken.take(answer, |text| self.model.encode(text))
        }

        fn keys(&mut self) -> Vec<Digest> {
            self.taken.keys(|_| Vec::new())
        }

        fn score(&mut self, rows: &[usize], said: &mut dyn FnMut(usize, &Values)) -> Vec<Values> {
            let value = |row: &RowTexts, made: &std::collections::BTreeMap<usize, Vec<f32>>| {
                let cosines = row.references.iter().map(|text| cosine(&made[&row.prediction], &made[text]));
                vec![greatest(cosines)]
            };
            self.taken.score(rows, |texts| self.model.embed(texts), value, said)
        }
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let [product, a, b] = [(a, b), (a, a), (b, b)].map(|(a, b)| f64::from(dot(a, b)));
        // A vector of zeros is near to nothing.
        product / (a.sqrt().max(1e-12) * b.sqrt().max(1e-12))
    }
}
