//! A judge: another model says how good an answer is.
//!
//! Here is what it is asked and how its replies are read; how they are got is the stage's. Three forms are built in: *scores*
//! rates the answer and its reference together (the paper's rubric, in own words), *rating* the answer alone, *preference*
//! says which of two is better (L. Zheng et al., 'Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena', 2023, from whom
//! the double brackets and the swapped order come).

mod prompt;
mod verdict;

pub use verdict::Verdict;

use super::{Answer, Better, Definition, Metric, References, Scored, Work};
use crate::diagnostic::{Diagnostic, Problems};
use crate::row;
use crate::settings::{Decode, Schema, Value};
use anyhow::Context as _;
use minijinja::Environment;
use serde::{Deserialize, Serialize};

/// The line in the table.
pub const DEFINITION: Definition = Definition {
    name: "judge",
    version: 1,
    summary: "what another model, behind an OpenAI-compatible API, says of the answer: scores, a rating or a preference",
    source: "the rubric of Faysse et al. 2023 (arXiv 2310.14103) in own words; pairs as in Zheng et al. 2023",
    metrics: &[
        Metric { name: "score", range: (f64::NEG_INFINITY, f64::INFINITY), better: Better::Higher },
        Metric { name: "other_score", range: (f64::NEG_INFINITY, f64::INFINITY), better: Better::Higher },
        Metric { name: "ratio", range: (0.0, f64::INFINITY), better: Better::Higher },
        Metric { name: "win", range: (0.0, 1.0), better: Better::Higher },
        Metric { name: "swap_difference", range: (0.0, f64::INFINITY), better: Better::Lower },
        Metric { name: "unreadable", range: (0.0, f64::INFINITY), better: Better::Lower },
    ],
    pooled: &[],
    references: References::Unread,
    read: super::read::<JudgeParams>,
    settings: super::settings::<JudgeParams>,
    work: Work::Judge,
};

crate::settings! {
    /// What a judge is asked, and how its replies are read.
    pub struct JudgeParams {
        /// What it is asked for.
        form: Form = Form::Scores,
        /// A column with the other response, in the reference's place.
        against: Option<String> = None,
        /// The order in which the two responses are shown.
        order: Order = Order::Given,
        /// The question, a Jinja template over the row's columns and `prediction`, `reference`, `first` and `second` (the two
        /// responses in the order shown); by default one that fits the form.
        prompt: Option<PromptTemplate> = None,
        /// What stands first, as the system's message.
        system: Option<String> = None,
        /// Where the numbers stand in a reply that is JSON, instead of the form's own way to read it.
        fields: Option<FieldNames> = None,
        /// The least number that the judge may say.
        least: f64 = 0.0,
        /// The greatest.
        most: f64 = 10.0,
    }
}

crate::settings! {
    /// Places in a JSON reply: `{ first = "scores.a", second = "scores.b" }`.
    pub struct FieldNames {
        /// The number of the first response shown.
        first: String,
        /// The number of the second; none for `rating`.
        second: Option<String> = None,
    }
}

crate::words! {
    /// What a judge is asked for.
    pub enum Form {
        /// A number for each of the two responses.
        Scores = "scores",
        /// A number for the answer alone.
        Rating = "rating",
        /// Which of the two is better: 1 the answer, 0 the other, ½ neither.
        Preference = "preference",
    }
}

crate::words! {
    /// In which order two responses are shown: judges prefer a place.
    pub enum Order {
        /// The answer first.
        Given = "given",
        /// The other first.
        Swapped = "swapped",
        /// One time so, one time so, and the mean of both; `swap_difference` says how far they lie apart.
        Both = "both",
    }
}

/// A template whose syntax is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromptTemplate(String);

impl Decode for PromptTemplate {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = String::decode(value, problems)?;
        match prompt::environment(&text) {
            Ok(_) => Some(Self(text)),
            Err(error) => {
                let problem = Diagnostic::at(value.span, format!("the template cannot be read: {error:#}"));
                problems
                    .push(problem.hint("it is a Jinja template: `{{ instruction }}`, `{% if input %} … {% endif %}`"));
                None
            }
        }
    }

    fn schema() -> Schema {
        String::schema()
    }
}

impl JudgeParams {
    /// What is wrong with them together, and what to do.
    pub fn problem(&self) -> Option<(String, &'static str)> {
        let is_single = self.form == Form::Rating;
        let (least, most) = (self.least, self.most);
        if !(least.is_finite() && most.is_finite() && least < most) {
            return Some((
                format!("no number lies between `least` = {least} and `most` = {most}"),
                "set `least` below `most`",
            ));
        }
        if is_single && self.order != Order::Given {
            return Some(("`order` is set, but a `rating` shows one response".to_string(), "leave `order` out"));
        }
        if is_single && self.against.is_some() {
            let hint = "leave `against` out, or ask for `scores` or a `preference`";
            return Some(("`against` is set, but a `rating` shows one response".to_string(), hint));
        }
        let second = self.fields.as_ref().map(|fields| fields.second.is_some());
        match second {
            Some(true) if is_single => {
                Some(("`fields` has a `second`, but a `rating` shows one response".to_string(), "leave it out"))
            }
            Some(false) if !is_single => {
                Some(("`fields` has no `second`".to_string(), "say where the second response's number stands"))
            }
            _ => None,
        }
    }

    /// What it needs to know of what would have been right.
    pub fn needs(&self) -> References {
        let is_shown = self.form != Form::Rating && self.against.is_none();
        if is_shown { References::Some } else { References::Unread }
    }
}

/// A message of a conversation: who speaks, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `system` or `user`.
    pub role: &'static str,
    /// The text.
    pub text: String,
}

/// A judge that is ready to be asked.
#[derive(Debug)]
pub struct Judge {
    params: JudgeParams,
    environment: Environment<'static>,
}

impl Judge {
    /// A judge with these parameters.
    ///
    /// # Errors
    /// If they do not fit together, or the template cannot be read.
    pub fn new(params: JudgeParams) -> anyhow::Result<Self> {
        if let Some((problem, hint)) = params.problem() {
            anyhow::bail!("{problem}: {hint}");
        }
        let text = params.prompt.as_ref().map_or_else(|| prompt::built_in(params.form), |prompt| &prompt.0);
        let environment = prompt::environment(text)?;
        Ok(Self { params, environment })
    }

    /// Whether the other response is shown first, for each question about a row.
    pub fn orders(&self) -> &'static [bool] {
        match self.params.order {
            Order::Given => &[false],
            Order::Swapped => &[true],
            Order::Both => &[false, true],
        }
    }

    /// The questions about an answer, in the order of [`Judge::orders`].
    ///
    /// # Errors
    /// If the row lacks a column that the template or `against` names.
    pub fn questions(&self, answer: &Answer<'_>) -> anyhow::Result<Vec<Vec<Said>>> {
        let other = self.other(answer)?;
        let question = |swapped: &bool| {
            let text = prompt::fill(&self.environment, &self.params, answer, other.as_deref(), *swapped)?;
            let system = self.params.system.iter().map(|text| Said { role: "system", text: text.clone() });
            Ok(system.chain([Said { role: "user", text }]).collect())
        };
        self.orders().iter().map(question).collect()
    }

    /// The response that the answer is held against.
    fn other(&self, answer: &Answer<'_>) -> anyhow::Result<Option<String>> {
        match (&self.params.against, self.params.form) {
            (_, Form::Rating) => Ok(None),
            (Some(column), _) => {
                let text = row::text(answer.row, column).map(|text| Some(text.into_owned()));
                text.with_context(|| row::lacks_named(answer.row, column, "against"))
            }
            (None, _) => Ok(answer.references.first().map(|reference| reference.to_string())),
        }
    }

    /// Reads a reply to a question of that order; what it says of the answer stands first. `None`: it cannot be read.
    pub fn read(&self, reply: &str, swapped: bool) -> Option<Verdict> {
        let scale = (self.params.least, self.params.most);
        let verdict = match (&self.params.fields, self.params.form) {
            (Some(fields), Form::Preference) => {
                verdict::fields(reply, (0.0, 1.0), &fields.first, fields.second.as_deref())
            }
            (Some(fields), _) => verdict::fields(reply, scale, &fields.first, fields.second.as_deref()),
            (None, Form::Scores) => verdict::scores(reply, scale),
            (None, Form::Rating) => verdict::rating(reply, scale),
            (None, Form::Preference) => verdict::preference(reply),
        }?;
        Some(match (verdict.second, swapped) {
            (Some(second), true) => Verdict { first: second, second: Some(verdict.first) },
            _ => verdict,
        })
    }

    /// What all replies about an answer say together: per question of [`Judge::orders`], a verdict for each sample.
    pub fn sum_up(&self, verdicts: &[Vec<Option<Verdict>>]) -> Scored {
        let readable = || verdicts.iter().flatten().flatten();
        let mean = |values: Vec<f64>| crate::statistics::mean(&values);
        let score = mean(readable().map(|verdict| verdict.first).collect());
        let other = mean(readable().filter_map(|verdict| verdict.second).collect());
        let win = |verdict: &Verdict| verdict.second.map(|second| preferred(verdict.first, second));
        let by_order =
            |verdicts: &Vec<Option<Verdict>>| mean(verdicts.iter().flatten().map(|verdict| verdict.first).collect());
        let swap_difference = match verdicts {
            [given, swapped] => by_order(given).zip(by_order(swapped)).map(|(given, swapped)| (given - swapped).abs()),
            _ => None,
        };
        let unreadable = verdicts.iter().flatten().filter(|verdict| verdict.is_none()).count();
        let values = vec![
            score,
            other,
            score.zip(other).filter(|(_, other)| *other != 0.0).map(|(score, other)| score / other),
            mean(readable().filter_map(win).collect()),
            swap_difference,
            Some(unreadable as f64),
        ];
        Scored { values, counts: Vec::new() }
    }
}

/// 1 if the first is greater, 0 if the second is, else ½.
fn preferred(first: f64, second: f64) -> f64 {
    match first.partial_cmp(&second) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Less) => 0.0,
        _ => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Row;
    use serde_json::json;

    fn judge(params: serde_json::Value) -> anyhow::Result<Judge> {
        let mut all = json!({ "form": "scores", "order": "given", "least": 0.0, "most": 10.0 });
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        Judge::new(serde_json::from_value(all).unwrap())
    }

    fn ask(judge: &Judge, row: serde_json::Value) -> anyhow::Result<Vec<Vec<Said>>> {
        let row: Row = row.as_object().unwrap().clone();
        judge.questions(&Answer { prediction: "good", references: &["right".into()], row: &row })
    }

    #[test]
    fn both_orders_show_the_same_two_responses() {
        let judge = judge(json!({ "order": "both", "system": "Be just." })).unwrap();
        let questions = ask(&judge, json!({ "instruction": "Judge {{ this }}.", "input": "It is fine." })).unwrap();
        let texts: Vec<&str> = questions.iter().map(|messages| messages[1].text.as_str()).collect();
        assert_eq!((questions.len(), questions[0][0].text.as_str()), (2, "Be just."));
        assert!(texts[0].contains("Instruction: Judge {{ this }}.\nInput: It is fine.\n"), "{}", texts[0]);
        assert!(texts[0].contains("Response 1:\ngood\n\nResponse 2:\nright"), "{}", texts[0]);
        assert!(texts[1].contains("Response 1:\nright\n\nResponse 2:\ngood"), "{}", texts[1]);
        assert_eq!(judge.read("8,6", false), judge.read("6,8", true));
        let verdict = |first, second| Some(Verdict { first, second: Some(second) });
        let scored = judge.sum_up(&[vec![verdict(8.0, 6.0), None], vec![verdict(7.0, 8.0), verdict(6.0, 8.0)]]);
        let third = |value: f64| Some(value / 3.0);
        assert_eq!(scored.values[..2], [third(21.0), third(22.0)]);
        assert_eq!(scored.values[3..], [third(1.0), Some(1.5), Some(1.0)]);
    }

    #[test]
    fn a_row_without_an_input_has_no_empty_line_for_it() {
        let texts = |input: serde_json::Value| ask(&judge(json!({})).unwrap(), input).unwrap()[0][0].text.clone();
        assert!(texts(json!({ "instruction": "a", "input": "" })).contains("Instruction: a\n\nResponse 1:"));
        assert!(texts(json!({ "instruction": "a" })).contains("Instruction: a\n\nResponse 1:"));
    }

    #[test]
    fn own_prompts_say_what_is_missing() {
        let own = judge(json!({ "form": "rating", "prompt": "{{ question }}: {{ prediction }}" })).unwrap();
        assert_eq!(ask(&own, json!({ "question": "why" })).unwrap()[0][0].text, "why: good");
        let message = format!("{:#}", ask(&own, json!({ "input": "why" })).unwrap_err());
        assert!(message.contains("`question`") && message.contains("it has `input`"), "{message}");
        let pair = judge(json!({ "form": "preference", "against": "baseline" })).unwrap();
        let message = format!("{:#}", ask(&pair, json!({ "instruction": "why" })).unwrap_err());
        assert!(message.contains("no `baseline`, which `against` names"), "{message}");
        assert_eq!((pair.params.needs(), own.params.needs()), (References::Unread, References::Unread));
    }

    #[test]
    fn nothing_readable_is_no_score() {
        let judge = judge(json!({})).unwrap();
        let scored = judge.sum_up(&[vec![judge.read("I would rather not.", false)]]);
        assert_eq!(scored.values, [None, None, None, None, None, Some(1.0)]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (params, expected) in [
            (json!({ "least": 5.0, "most": 5.0 }), "no number lies between"),
            (json!({ "form": "rating", "order": "both" }), "a `rating` shows one response"),
            (json!({ "form": "rating", "against": "b" }), "a `rating` shows one response"),
            (json!({ "fields": { "first": "a" } }), "`fields` has no `second`"),
            (json!({ "form": "rating", "fields": { "first": "a", "second": "b" } }), "`fields` has a `second`"),
        ] {
            let message = judge(params).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
