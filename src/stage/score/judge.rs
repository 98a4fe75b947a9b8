//! Scoring by a judge behind an API: questions about the rows, asked through the ledger, so that a reply is paid for once in
//! all experiments of a cache, and reading it in another way costs nothing.

use super::ScoreRecipe;
use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::row::Row;
use crate::scorer::References;
use crate::scorer::judge::{Judge, JudgeParams};
use crate::settings::{At, Decode, Fields, Group as _, Schema, Setting, Value};
use crate::stage::predict::{ApiModel, ApiRecipe, Drawn, Sample, asked};
use crate::stage::{Context, Hints};

crate::form! {
    /// Who judges, and how it is asked.
    struct Asked {
        /// Who judges: a model behind an OpenAI-compatible API.
        model: At<Judging>,
        /// Most tokens of a reply.
        max_new_tokens: u32 = 1024 => 1..=1_048_576,
        /// Tokens are drawn at random; without it the likeliest is asked for (`temperature` 0).
        sample: Option<Sample> = None,
        /// Seed of what is drawn, if the API knows seeds.
        seed: Option<u64> = None,
        /// Replies to every question (of `sample`), whose mean counts.
        samples: Option<u32> = None => 1..=1024,
    }
}

/// The model of a judge: always behind an API.
#[derive(Clone, Debug, PartialEq)]
struct Judging(ApiModel);

impl Decode for Judging {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let Some(name) = value.as_str() else { return ApiModel::decode(value, problems).map(Self) };
        let problem = Diagnostic::at(value.span, format!("`model` does not say where `{name}` is asked"));
        let table =
            format!("{{ api = \"https://api.openai.com/v1\", model = {name:?}, key = \"{{env:OPENAI_API_KEY}}\" }}");
        problems.push(problem.hint(format!("write it as a table: `model = {table}`")));
        None
    }

    fn schema() -> Schema {
        ApiModel::schema()
    }
}

/// The settings that say who judges.
pub(super) fn settings() -> Vec<Setting> {
    Asked::settings()
}

/// Reads who judges.
pub(super) fn read(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<(ApiRecipe, Hints)> {
    let Asked { model, max_new_tokens, sample, seed, samples } = Asked::read(fields, problems)?;
    let model = At { value: model.value.0, span: model.span };
    asked(model, max_new_tokens, Drawn { sample, seed, samples }, problems)
}

/// Parameters that do not fit together.
pub(super) fn check_params(params: &serde_json::Value, span: Span, problems: &mut Problems) {
    let params = serde_json::from_value::<JudgeParams>(params.clone()).ok();
    if let Some((problem, hint)) = params.and_then(|params| params.problem()) {
        problems.push(Diagnostic::at(span, problem).hint(hint));
    }
}

/// The judge of a recipe.
pub(super) fn judge(recipe: &ScoreRecipe) -> anyhow::Result<Judge> {
    Judge::new(serde_json::from_value(recipe.params.clone())?)
}

/// What it needs to know of what would have been right.
pub(super) fn needs(recipe: &ScoreRecipe) -> References {
    serde_json::from_value::<JudgeParams>(recipe.params.clone()).map_or(References::Unread, |params| params.needs())
}

/// What a row lacks to be asked about.
pub(super) fn check_row(judge: &Judge, recipe: &ScoreRecipe, row: &Row) -> Result<(), String> {
    let texts = recipe.scope.texts(row, needs(recipe))?;
    judge.questions(&texts.answer(row)).map(drop).map_err(|error| format!("{error:#}"))
}

/// Calls about one row.
pub(super) fn calls_per_row(recipe: &ScoreRecipe) -> u64 {
    let orders = judge(recipe).map_or(1, |judge| judge.orders().len() as u64);
    orders * recipe.api.as_ref().map_or(1, |api| u64::from(api.samples.unwrap_or(1)))
}

/// Says that the work cannot be done.
#[cfg(not(feature = "api"))]
pub(super) fn execute(_: &ScoreRecipe, _: &crate::scorer::Definition, _: &Context<'_>) -> anyhow::Result<()> {
    anyhow::bail!("this titer was built without the network (feature `api`)")
}

#[cfg(feature = "api")]
pub(super) use with_network::execute;

#[cfg(feature = "api")]
mod with_network {
    use super::super::Results;
    use super::super::rows::{Place, each};
    use super::{ApiRecipe, Context, Judge, Row, ScoreRecipe, judge, needs};
    use crate::api::{Call, Reply};
    use crate::prompt::chat::Message;
    use crate::row;
    use crate::scorer::judge::Verdict;
    use crate::scorer::{Answer, Definition};
    use crate::stage::predict::{calls as calls_of, put_questions};
    use anyhow::Context as _;
    use serde_json::{Value, json};

    /// Replies that the summary shows, of those that cannot be read.
    const SHOWN: usize = 10;

    /// The rows, and what is asked about those that are scored.
    struct Questions {
        rows: Vec<(Row, bool)>,
        /// Of the rows that are scored.
        places: Vec<String>,
        calls: Vec<Call>,
    }

    pub(in crate::stage::score) fn execute(
        recipe: &ScoreRecipe,
        definition: &Definition,
        context: &Context<'_>,
    ) -> anyhow::Result<()> {
        let api = recipe.api.as_deref().context("the recipe does not say who judges")?;
        let judge = judge(recipe)?;
        let Questions { rows, places, calls } = read(recipe, api, &judge, context)?;
        let per_row = calls.len().checked_div(places.len()).unwrap_or(1);
        let replies = put_questions(api, context, &calls, &places, per_row)?;
        let mut results = Results::create(context, definition, recipe)?;
        let mut unreadable = Vec::new();
        let mut replies_of_rows = replies.chunks(per_row.max(1));
        for (row, is_scored) in rows {
            let Some(replies) = is_scored.then(|| replies_of_rows.next()).flatten() else {
                results.add(row, None)?;
                continue;
            };
            let verdicts = verdicts(&judge, replies);
            let unread = verdicts.iter().flatten().zip(replies).filter(|(verdict, _)| verdict.is_none());
            unreadable.extend(unread.map(|(_, reply)| json!({ "id": row::id(&row), "reply": reply.text })));
            results.add(row, Some(&judge.sum_up(&verdicts)))?;
        }
        if !unreadable.is_empty() {
            let (number, all) = (unreadable.len(), replies.len());
            let warning = format!("{number} of {all} replies of the judge cannot be read: see `summary.json`");
            context.events.warn(warning);
        }
        results.finish(None, Some(details(replies.len(), unreadable)))
    }

    fn details(replies: usize, mut unreadable: Vec<Value>) -> Value {
        let number = unreadable.len();
        unreadable.truncate(SHOWN);
        json!({ "replies": replies, "unreadable": number, "unreadable_replies": unreadable })
    }

    fn read(recipe: &ScoreRecipe, api: &ApiRecipe, judge: &Judge, context: &Context<'_>) -> anyhow::Result<Questions> {
        let (mut rows, mut places, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        let ask = |place: &Place<'_>, answer: &Answer<'_>| {
            for question in judge.questions(answer)? {
                let said = question.iter().map(|said| Message::new(said.role, &said.text));
                calls.extend(calls_of(api, &said.collect::<Vec<_>>()));
            }
            places.push(place.to_string());
            Ok(())
        };
        each(recipe, needs(recipe), context, ask, |row, asked| {
            rows.push((row, asked.is_some()));
            Ok(())
        })?;
        Ok(Questions { rows, places, calls })
    }

    /// What the replies about a row say: per order, a verdict for each sample.
    fn verdicts(judge: &Judge, replies: &[Reply]) -> Vec<Vec<Option<Verdict>>> {
        let orders = judge.orders();
        let samples = replies.len() / orders.len();
        let of_order = |(swapped, replies): (&bool, &[Reply])| {
            replies.iter().map(|reply| judge.read(&reply.text, *swapped)).collect()
        };
        orders.iter().zip(replies.chunks(samples.max(1))).map(of_order).collect()
    }
}
