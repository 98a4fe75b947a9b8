//! What a reward model says of an answer to a prompt.

use super::models::ByModel;
use super::{Better, Definition, Metric, References, Work};

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "reward",
    version: 1,
    summary: "What a reward model gives to the answer and to the best reference, and how likely it takes the answer for the better one",
    source: "transformers 5.23.0, classifiers of one label on pairs of prompt and answer, as in arXiv 2310.14103; equal to 1e-4",
    metrics: &[
        Metric { name: "reward", range: (f64::NEG_INFINITY, f64::INFINITY), better: Better::Higher },
        Metric { name: "reference_reward", range: (f64::NEG_INFINITY, f64::INFINITY), better: Better::Higher },
        Metric { name: "softmax", range: (0.0, 1.0), better: Better::Higher },
    ],
    pooled: &[],
    references: References::Any,
    read: super::read::<RewardParams>,
    settings: super::settings::<RewardParams>,
    work: Work::Model(ByModel {
        file: None,
        column: Some(crate::row::INSTRUCTION),
        complete: |_, _| Ok(()),
        #[cfg(feature = "candle")]
        build: engine::build,
        #[cfg(feature = "candle")]
        check: engine::check,
    }),
};

crate::settings! {
    /// What the model sees.
    pub struct RewardParams {
        /// Most tokens of prompt and answer together, of which the longer one loses its end; by default nothing is cut.
        max_tokens: Option<u32> = None => 3..=1_048_576,
    }
}

#[cfg(feature = "candle")]
mod engine {
    use super::RewardParams;
    use crate::engine::encoder::{Config, Encoder, Text, Wanted};
    use crate::engine::tokenizer::Tokenizer;
    use crate::engine::weights::Weights;
    use crate::key::Digest;
    use crate::row::{self, Row};
    use crate::scorer::Answer;
    use crate::scorer::models::{Files, ModelScorer, Values};
    use crate::scorer::taken::{RowTexts, Taken, greatest};
    use anyhow::{Context as _, ensure};
    use std::collections::BTreeMap;
    use std::path::Path;

    const WANTED: Wanted = Wanted { blocks: None, head: true };

    struct Reward {
        model: Encoder,
        tokenizer: Tokenizer,
        max_tokens: Option<usize>,
        taken: Taken,
    }

    pub(super) fn build(params: serde_json::Value, files: &Files<'_>) -> anyhow::Result<Box<dyn ModelScorer>> {
        let RewardParams { max_tokens } = serde_json::from_value(params)?;
        let model = Encoder::load(files.model, WANTED)?;
        let tokenizer = Tokenizer::load(files.model)?;
        check_config(model.config(), &tokenizer, max_tokens)?;
        let max_tokens = max_tokens.map(|most| most as usize);
        Ok(Box::new(Reward { model, tokenizer, max_tokens, taken: Taken::default() }))
    }

    pub(super) fn check(params: &serde_json::Value, model: &Path) -> anyhow::Result<()> {
        let RewardParams { max_tokens } = serde_json::from_value(params.clone())?;
        let config = Config::read(model)?;
        check_config(&config, &Tokenizer::load(model)?, max_tokens)?;
        config.check_weights(&Weights::open_model(model)?, WANTED, model)
    }

    fn check_config(config: &Config, tokenizer: &Tokenizer, max_tokens: Option<u32>) -> anyhow::Result<()> {
        let labels = config.head.labels;
        ensure!(labels == 1, "the model tells {labels} labels apart: a reward model gives one number");
        tokenizer.check_fits(config.shape.vocab_size)?;
        config.check_longest(max_tokens.map(|most| most as usize))
    }

    impl ModelScorer for Reward {
        fn take(&mut self, answer: &Answer<'_>) -> anyhow::Result<()> {
            let prompt = prompt(answer.row)?;
            self.taken.take(answer, |text| {
                // To transformers an empty second text is none.
                let answer = Some(text).filter(|text| !text.is_empty());
                let (ids, types) = self.tokenizer.encode_marked(&prompt, answer, self.max_tokens)?;
                let text = Text { ids, types };
                self.model.check(&text)?;
                Ok(text)
            })
        }

        fn keys(&mut self) -> Vec<Digest> {
            self.taken.keys(|_| Vec::new())
        }

        fn score(&mut self, rows: &[usize], said: &mut dyn FnMut(usize, &Values)) -> Vec<Values> {
            let read = |texts: &[&Text]| {
                self.model.judge(texts).into_iter().map(|labels| f64::from(labels[0])).collect::<Vec<f64>>()
            };
            let value = |row: &RowTexts, made: &BTreeMap<usize, f64>| {
                let reward = made[&row.prediction];
                let reference = greatest(row.references.iter().map(|text| made[text]));
                vec![Some(reward), reference, reference.map(|reference| 1.0 / (1.0 + (reference - reward).exp()))]
            };
            self.taken.score(rows, read, value, said)
        }
    }

    /// The paper's prompt.
    fn prompt(row: &Row) -> anyhow::Result<String> {
        let instruction = row::text(row, row::INSTRUCTION);
        let instruction = instruction.with_context(|| row::lacks(row, row::INSTRUCTION))?;
        Ok(match row::text(row, row::INPUT).filter(|input| !input.is_empty()) {
            Some(input) => format!("Instruction:\n{instruction}\nInput:\n{input}"),
            None => format!("Instruction:\n{instruction}"),
        })
    }
}
