//! The settings of a predict stage that are more than a number.

use crate::diagnostic::{Diagnostic, Problems};
use crate::settings::{Decode, Schema, Value, ValueKind, schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Texts that end an answer; none of them is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StopTexts(pub Vec<String>);

impl Decode for StopTexts {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let texts = Vec::<String>::decode(value, problems)?;
        if texts.iter().any(String::is_empty) {
            problems.at(value.span, "a stop text is empty: it would end every answer at once");
            return None;
        }
        Some(Self(texts))
    }

    fn schema() -> Schema {
        schema::list(&json!({ "type": "string", "minLength": 1 }))
    }
}

/// A token, by its id or as the tokenizer writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Token {
    /// Its id.
    Id(u32),
    /// Its text in the vocabulary: `<|eot_id|>`.
    Text(String),
}

impl Decode for Token {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.kind {
            ValueKind::Integer(_) => u32::decode(value, problems).map(Self::Id),
            ValueKind::String(text) => Some(Self::Text(text.clone())),
            _ => {
                problems.at(value.span, format!("expected a token's text or id, found {}", value.describe()));
                None
            }
        }
    }

    fn schema() -> Schema {
        schema::any_of([String::schema(), u32::schema()])
    }
}

crate::settings! {
    /// How tokens are drawn: `{ temperature = 0.7, top_p = 0.9 }`. What is left out filters nothing. The definitions and
    /// their order are transformers'.
    pub struct Sample {
        /// What the logits are divided by: below 1 the likely tokens become likelier.
        temperature: f64 = 1.0 => 0.001..=1000.0,
        /// Only so many of the likeliest tokens can be drawn.
        top_k: Option<u32> = None => 1..=u32::MAX,
        /// Only the likeliest tokens whose probabilities together reach this can be drawn.
        top_p: Option<f64> = None => 0.0..=1.0,
        /// Only tokens with at least this part of the likeliest one's probability can be drawn.
        min_p: Option<f64> = None => 0.0..=1.0,
    }
}

crate::settings! {
    /// How beams are searched, as transformers does it.
    pub struct BeamSettings {
        /// Beams that go on together.
        width: u32 => 1..=256,
        /// An answer's score is the sum of its log-probabilities over its length to this power: above 0 long answers are
        /// liked better.
        length_penalty: f64 = 1.0 => -100.0..=100.0,
        /// When the search ends.
        early_stopping: EarlyStopping = EarlyStopping::Likely,
    }
}

/// A number of beams, or a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Beams(pub BeamSettings);

impl Decode for Beams {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        if value.as_table().is_some() {
            return BeamSettings::decode(value, problems).map(Self);
        }
        let width = u32::decode(value, problems)?;
        if !(1..=256).contains(&width) {
            problems.at(value.span, format!("`beams` is {width}: expected 1 to 256"));
            return None;
        }
        Some(Self(BeamSettings { width, length_penalty: 1.0, early_stopping: EarlyStopping::Likely }))
    }

    fn schema() -> Schema {
        schema::any_of([json!({ "type": "integer", "minimum": 1, "maximum": 256 }), BeamSettings::schema()])
    }
}

/// When a beam search that has found as many answers as it has beams ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EarlyStopping {
    /// At once: `true`.
    Always,
    /// When the best beam, as long as it is, scores no better than the worst answer: `false`.
    Likely,
    /// When no beam can become better: `"never"`.
    Never,
}

impl Decode for EarlyStopping {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match (&value.kind, value.as_str()) {
            (ValueKind::Boolean(true), _) => Some(Self::Always),
            (ValueKind::Boolean(false), _) => Some(Self::Likely),
            (_, Some("never")) => Some(Self::Never),
            _ => {
                problems.at(value.span, format!("expected true, false or \"never\", found {}", value.describe()));
                None
            }
        }
    }

    fn schema() -> Schema {
        let docs = "`true`: at once. `false`: when the best beam, as long as it is, scores no better than the worst \
                    answer. `\"never\"`: when no beam can become better, however long.";
        json!({ "enum": [true, false, "never"], "description": docs })
    }

    fn written(&self) -> serde_json::Value {
        match self {
            Self::Always => true.into(),
            Self::Likely => false.into(),
            Self::Never => "never".into(),
        }
    }
}

crate::settings! {
    /// Answers to choose from.
    pub struct CandidateSettings {
        /// Those of every row.
        texts: Option<Vec<String>> = None,
        /// A column that holds each row's own: a list of texts.
        column: Option<String> = None,
        /// What is compared.
        by: Measure = Measure::Sum,
        /// Whether a candidate's likelihood counts that the answer ends behind it.
        end_of_text: bool = false,
    }
}

crate::words! {
    /// What log-probabilities of several tokens are compared by.
    pub enum Measure {
        /// Their sum: the probability of the text.
        Sum = "sum",
        /// Their mean: long texts are not put at a disadvantage.
        Mean = "mean",
    }
}

/// A list of texts, or a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Candidates(pub CandidateSettings);

impl Decode for Candidates {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let settings = match value.as_table() {
            Some(_) => CandidateSettings::decode(value, problems)?,
            None => {
                let texts = Some(Vec::decode(value, problems)?);
                CandidateSettings { texts, column: None, by: Measure::Sum, end_of_text: false }
            }
        };
        let message = match (&settings.texts, &settings.column) {
            (Some(texts), None) => wrong(texts),
            (None, Some(_)) => None,
            (None, None) => Some("`candidates` has neither `texts` nor a `column`".to_string()),
            (Some(_), Some(_)) => Some("`candidates` has `texts` and a `column`: one of them".to_string()),
        };
        if let Some(message) = message {
            problems.push(Diagnostic::at(value.span, message));
            return None;
        }
        Some(Self(settings))
    }

    fn schema() -> Schema {
        schema::any_of([schema::some(&String::schema()), CandidateSettings::schema()])
    }
}

/// What is wrong with a list of candidates.
pub(super) fn wrong(texts: &[String]) -> Option<String> {
    if texts.is_empty() {
        return Some("the list of candidates is empty".to_string());
    }
    let twice = texts.iter().enumerate().find(|(index, text)| texts[..*index].contains(text));
    twice.map(|(_, text)| format!("candidate `{text}` is there twice"))
}

crate::words! {
    /// Log-probabilities that are kept.
    pub enum LogProbabilities {
        /// Their sum and their mean.
        Sum = "sum",
        /// And every token's.
        Tokens = "tokens",
    }
}

crate::words! {
    /// Whose perplexity is asked for.
    pub enum Perplexity {
        /// The row's `output`'s and that of the end of text behind it, given the prompt.
        Output = "output",
        /// The whole text's: of the prompt, and of an `output` and the end of text where the row has one.
        Text = "text",
    }
}

crate::words! {
    /// What becomes of a prompt that is too long.
    pub enum TooLong {
        /// Its input loses its end (then its instruction), never the response marker.
        Cut = "cut",
        /// It loses its beginning.
        CutLeft = "cut_left",
        /// The stage fails.
        Error = "error",
        /// Its row is left out.
        Skip = "skip",
    }
}
