//! Rows → prompts, and the texts whose likelihood is asked for.

use super::settings::wrong;
use super::{Perplexity, PredictRecipe, TooLong};
use crate::engine::prompt::{Prompt, PromptEncoder};
use crate::engine::tokenizer::Tokenizer;
use crate::row::{self, Row};
use crate::stage::Context;
use anyhow::{Context as _, ensure};
use serde_json::Value;

/// A row to answer.
#[derive(Debug)]
pub(super) struct Question {
    pub row: Row,
    pub prompt: Prompt,
    /// Answers to choose from, with their tokens.
    pub candidates: Vec<(String, Vec<u32>)>,
    /// The text whose perplexity is asked for.
    pub reference: Option<Reference>,
}

/// A text that was not made by the model.
#[derive(Debug)]
pub(super) struct Reference {
    /// All of it, with what stands before.
    ids: Vec<u32>,
    /// How many of the tokens stand before it.
    begin: usize,
    /// Whether its end was cut off.
    pub cut: bool,
}

impl Reference {
    /// What stands before it, and the text itself.
    pub fn parts(&self) -> (&[u32], &[u32]) {
        self.ids.split_at(self.begin)
    }

    /// A text behind what stands before it, as far as there is room.
    fn new(mut ids: Vec<u32>, begin: usize, most: usize) -> Self {
        let cut = ids.len() > most;
        ids.truncate(most);
        Self { ids, begin, cut }
    }
}

/// The rows of all data.
#[derive(Debug, Default)]
pub(super) struct Questions {
    pub all: Vec<Question>,
    /// Rows that were left out, because their prompt was too long.
    pub skipped: usize,
}

/// Reads rows and makes their prompts.
pub(super) struct Reader<'a> {
    recipe: &'a PredictRecipe,
    tokenizer: &'a Tokenizer,
    encoder: PromptEncoder<'a>,
    /// Positions of the model.
    context: usize,
}

impl<'a> Reader<'a> {
    pub fn new(recipe: &'a PredictRecipe, tokenizer: &'a Tokenizer, context: usize) -> anyhow::Result<Self> {
        Ok(Self { recipe, tokenizer, encoder: PromptEncoder::new(tokenizer, &recipe.template)?, context })
    }

    pub fn read(&self, context: &Context<'_>) -> anyhow::Result<Questions> {
        let mut questions = Questions::default();
        for input in context.role("data") {
            for item in row::read(&input.path, &input.name)? {
                let (line, row) = item?;
                match self.question(row).with_context(|| format!("{}:{line}", input.name))? {
                    Some(question) => questions.all.push(question),
                    None => questions.skipped += 1,
                }
            }
        }
        Ok(questions)
    }

    /// `None`: its prompt is too long, and such rows are left out.
    fn question(&self, row: Row) -> anyhow::Result<Option<Question>> {
        let candidates = self.candidates(&row)?;
        let output = self.output(&row)?;
        let longest = candidates.iter().map(|(_, ids)| ids.len()).chain([output.len()]).max().unwrap_or(0);
        // What follows may ask for room in the model's context, but for no more than half of it.
        let room = longest.max(self.recipe.max_new_tokens as usize).min(self.context / 2);
        let limit = (self.recipe.max_prompt_tokens as usize).min(self.context - room);
        let Some(prompt) = self.prompt(&row, limit)? else { return Ok(None) };
        ensure!(!prompt.ids.is_empty(), "the prompt is empty");
        // The last token of a text needs no position: nothing comes after it.
        let most = self.context + 1;
        if let Some((text, ids)) = candidates.iter().find(|(_, ids)| prompt.ids.len() + ids.len() > most) {
            anyhow::bail!("candidate `{text}` has {} tokens: with the prompt too many for the model", ids.len());
        }
        let whole = || [prompt.ids.as_slice(), &output].concat();
        let reference = match self.recipe.perplexity {
            None => None,
            Some(Perplexity::Output) => Some(Reference::new(whole(), prompt.ids.len(), most)),
            // The first token follows nothing.
            Some(Perplexity::Text) => Some(Reference::new(whole(), self.tokenizer.prefix().len().max(1), most)),
        };
        Ok(Some(Question { row, prompt, candidates, reference }))
    }

    fn prompt(&self, row: &Row, limit: usize) -> anyhow::Result<Option<Prompt>> {
        let too_long = self.recipe.too_long.unwrap_or(TooLong::Cut);
        if too_long == TooLong::Cut {
            return self.encoder.prompt(row, limit).map(Some);
        }
        let whole = self.encoder.prompt(row, usize::MAX)?;
        let tokens = whole.ids.len();
        if tokens <= limit {
            return Ok(Some(whole));
        }
        match too_long {
            TooLong::Error => anyhow::bail!(
                "the prompt has {tokens} tokens, and there is room for {limit}: raise `max_prompt_tokens` as far as the \
                 model's context allows, or set `too_long` to cut or to skip"
            ),
            TooLong::Skip => Ok(None),
            TooLong::Cut | TooLong::CutLeft => {
                // The beginning-of-text token stays where it is.
                let prefix = self.tokenizer.prefix();
                let kept = limit.saturating_sub(prefix.len());
                let ids = [prefix, &whole.ids[tokens - kept..]].concat();
                Ok(Some(Prompt { ids, cut: true }))
            }
        }
    }

    fn candidates(&self, row: &Row) -> anyhow::Result<Vec<(String, Vec<u32>)>> {
        let Some(super::Candidates(settings)) = &self.recipe.candidates else { return Ok(Vec::new()) };
        let texts = match (&settings.texts, &settings.column) {
            (Some(texts), _) => texts.clone(),
            (None, Some(column)) => {
                let texts = texts_of(row, column)?;
                match wrong(&texts) {
                    Some(message) => anyhow::bail!("column `{column}`: {message}"),
                    None => texts,
                }
            }
            (None, None) => Vec::new(),
        };
        let encode = |text: String| {
            let mut ids = self.tokenizer.encode(&text)?;
            if settings.end_of_text {
                ids.extend(self.tokenizer.eos().first());
            }
            ensure!(!ids.is_empty(), "candidate `{text}` has no token: set `end_of_text` to compare it with others");
            Ok((text, ids))
        };
        texts.into_iter().map(encode).collect()
    }

    /// The tokens behind the prompt whose perplexity is asked for.
    fn output(&self, row: &Row) -> anyhow::Result<Vec<u32>> {
        let output = match (self.recipe.perplexity, row::text(row, row::OUTPUT)) {
            (None, _) | (Some(Perplexity::Text), None) => return Ok(Vec::new()),
            (Some(_), Some(output)) => output,
            (Some(Perplexity::Output), None) => anyhow::bail!("the row has no `output` for `perplexity`"),
        };
        let mut ids = self.tokenizer.encode(&output)?;
        ids.extend(self.tokenizer.eos().first());
        Ok(ids)
    }
}

/// A column that holds a list of texts; numbers are texts, too.
fn texts_of(row: &Row, column: &str) -> anyhow::Result<Vec<String>> {
    let Some(value) = row.get(column) else {
        anyhow::bail!("the row has no column `{column}` with candidates: it has {}", row::columns(row));
    };
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    let texts = value.as_array().and_then(|list| list.iter().map(text).collect::<Option<Vec<String>>>());
    texts.with_context(|| format!("column `{column}` is no list of texts"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ENDS: [u32; 1] = [2];

    fn recipe(text: &str) -> PredictRecipe {
        crate::stage::predict::tests::recipe(text)
    }

    fn question(recipe: &PredictRecipe, row: Value, context: usize) -> Result<Option<Question>, String> {
        // Every byte is a token, and the text begins with token 1.
        let tokenizer = Tokenizer::train_bpe([""].iter(), crate::engine::tokenizer::MIN_VOCAB).unwrap();
        let reader = Reader::new(recipe, &tokenizer, context).unwrap();
        reader.question(row.as_object().unwrap().clone()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn prompts_that_are_too_long_are_cut_refused_or_left_out() {
        let row = || json!({"instruction": "Say it.", "input": "x".repeat(100)});
        let of = |setting: &str| {
            let recipe = recipe(&format!("max_prompt_tokens = 70\nmax_new_tokens = 10\n{setting}"));
            question(&recipe, row(), 1000).map(|question| question.map(|question| question.prompt))
        };
        let cut = of("").unwrap().unwrap();
        assert_eq!(of("too_long = \"cut\"").unwrap().unwrap(), cut);
        let left = of("too_long = \"cut_left\"").unwrap().unwrap();
        assert!(cut.cut && left.cut && left.ids.len() == 70 && left.ids[0] == 1 && cut.ids[..9] != left.ids[..9]);
        // The response marker is at the end of both.
        assert_eq!(cut.ids[cut.ids.len() - 14..], left.ids[56..]);
        assert_eq!(of("too_long = \"skip\"").unwrap(), None);
        let error = of("too_long = \"error\"").unwrap_err();
        assert!(error.contains("there is room for 70"), "{error}");
        // The model's context bounds it, too.
        let recipe = recipe("too_long = \"error\"\nmax_new_tokens = 40");
        let error = question(&recipe, row(), 100).unwrap_err();
        assert!(error.contains("there is room for 60"), "{error}");
    }

    #[test]
    fn references_and_candidates_stand_behind_the_prompt() {
        let row = || json!({"instruction": "Say it.", "output": "yes", "labels": ["a", 7]});
        let found = question(&recipe("perplexity = \"output\""), row(), 1000).unwrap().unwrap();
        let (before, text) = found.reference.as_ref().unwrap().parts();
        assert_eq!((before, text.len(), text.last()), (found.prompt.ids.as_slice(), 4, Some(&2)));
        let found = question(&recipe("perplexity = \"text\""), row(), 1000).unwrap().unwrap();
        let (before, text) = found.reference.as_ref().unwrap().parts();
        assert_eq!((before, text.len()), ([1].as_slice(), found.prompt.ids.len() + 3));
        let without = question(&recipe("perplexity = \"text\""), json!({"instruction": "Say it."}), 1000);
        assert_ne!(without.unwrap().unwrap().reference.unwrap().ids.last(), Some(&2));

        let of = |settings: &str| question(&recipe(&format!("candidates = {settings}")), row(), 1000);
        let texts = |settings: &str| {
            of(settings)
                .unwrap()
                .unwrap()
                .candidates
                .into_iter()
                .map(|(text, ids)| (text, ids.len()))
                .collect::<Vec<_>>()
        };
        assert_eq!(texts("[\"yes\", \"no\"]"), [("yes".to_string(), 3), ("no".to_string(), 2)]);
        let column = "{ column = \"labels\", end_of_text = true }";
        assert_eq!(texts(column), [("a".to_string(), 2), ("7".to_string(), 2)]);
        for (settings, expected) in [
            ("{ column = \"label\" }", "no column `label`"),
            ("{ column = \"output\" }", "no list of texts"),
            ("[\"\"]", "has no token"),
        ] {
            let error = of(settings).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let long = question(&recipe(&format!("candidates = [\"{}\"]", "x".repeat(80))), row(), 100).unwrap_err();
        assert!(long.contains("has 80 tokens"), "{long}");
    }

    #[test]
    fn a_reference_that_is_too_long_loses_its_end() {
        let row = json!({"instruction": "Say it.", "output": "y".repeat(300)});
        let found = question(&recipe("perplexity = \"output\""), row, 200).unwrap().unwrap().reference.unwrap();
        assert!(found.cut && found.ids.len() == 201 && found.ids.last() != Some(&ENDS[0]));
    }
}
