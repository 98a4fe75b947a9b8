//! Which label does an answer name?

use super::super::python_regex;
use super::super::text::{is_space, places, shown};
use super::{Find, LabelsParams};
use anyhow::{bail, ensure};
use fancy_regex::Regex;
use std::collections::BTreeMap;

/// Finds labels in answers.
#[derive(Debug)]
pub(super) struct Finder {
    /// Texts that stand for a label, and that label: the labels themselves and their aliases, compared as `normal` says.
    known: BTreeMap<String, String>,
    /// Whether there are no other labels than those of `known`.
    is_closed: bool,
    find: Find,
    capture: Option<Regex>,
    ignore_case: bool,
}

/// A text with more characters than this is no label, unless it is given as one.
const LONGEST_LABEL: usize = 200;
/// Characters of a text that a message shows.
const SHOWN: usize = 60;

impl Finder {
    /// # Errors
    /// If the parameters do not fit together.
    pub(super) fn new(params: &LabelsParams) -> anyhow::Result<Self> {
        let capture = params.capture.as_ref().map(python_regex::Pattern::compile).transpose()?;
        let (is_closed, ignore_case) = (params.labels.is_some(), params.ignore_case);
        let mut finder = Self { known: BTreeMap::new(), is_closed, find: params.find, capture, ignore_case };
        ensure!(is_closed || params.find == Find::Whole, "`find` looks for given labels: name them by `labels`");
        for label in params.labels.iter().flatten() {
            let normal = finder.normal(label);
            ensure!(!normal.is_empty(), "the label {label:?} has no text that counts");
            if finder.known.insert(normal.clone(), normal).is_some() {
                bail!("the label `{label}` stands in `labels` twice, or is equal to another one as they are compared");
            }
        }
        ensure!(!is_closed || !finder.known.is_empty(), "`labels` is empty");
        let labels = finder.known.clone();
        let is_label = |label: &String| !is_closed || labels.contains_key(label);
        for (alias, label) in &params.aliases {
            let (text, label) = (finder.normal(alias), finder.normal(label));
            ensure!(is_label(&label), "the alias `{alias}` stands for `{label}`, which is none of `labels`");
            if finder.known.insert(text, label).is_some() {
                bail!("the alias `{alias}` is a label or another alias");
            }
        }
        if let Some(positive) = &params.positive {
            ensure!(is_label(&finder.normal(positive)), "`positive` is `{positive}`, which is none of `labels`");
        }
        for label in params.average_over.iter().flatten() {
            ensure!(is_label(&finder.normal(label)), "`average_over` names `{label}`, which is none of `labels`");
        }
        Ok(finder)
    }

    /// The text as it is compared: without white space around it, in lower case if case is ignored, without full stops
    /// behind it.
    pub(super) fn normal(&self, text: &str) -> String {
        let text = text.trim_matches(is_space);
        let text = if self.ignore_case { text.to_lowercase() } else { text.to_string() };
        text.trim_end_matches('.').to_string()
    }

    /// The label that `answer` names.
    pub(super) fn label(&self, answer: &str) -> anyhow::Result<Option<String>> {
        let looked_at = match &self.capture {
            None => answer,
            Some(regex) => match python_regex::capture(regex, answer)? {
                Some(text) => text,
                None => return Ok(None),
            },
        };
        if self.find == Find::Whole {
            return Ok(self.whole(looked_at));
        }
        let text = self.normal(looked_at);
        let places = self.known.iter().filter_map(|(known, label)| Some((self.place(&text, known)?, known, label)));
        let first = places.min_by_key(|(place, known, _)| (*place, std::cmp::Reverse(known.len())));
        Ok(first.map(|(_, _, label)| label.clone()))
    }

    /// The label that the whole of `text` stands for.
    fn whole(&self, text: &str) -> Option<String> {
        // What is far too long is not copied to see that it is no label.
        let is_short = text.trim_matches(is_space).chars().nth(LONGEST_LABEL).is_none();
        if !is_short && !self.is_closed {
            return None;
        }
        let text = self.normal(text);
        match self.known.get(&text) {
            Some(label) => Some(label.clone()),
            None => (!self.is_closed).then_some(text),
        }
    }

    /// Where `known` names its label in `text`.
    fn place(&self, text: &str, known: &str) -> Option<usize> {
        if self.find == Find::Prefix {
            return text.starts_with(known).then_some(0);
        }
        places(text, known).next()
    }

    /// The label that a reference is.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn reference(&self, text: &str) -> anyhow::Result<String> {
        let label = self.whole(text);
        label.ok_or_else(|| match self.is_closed {
            true => {
                let labels: Vec<&str> = self.known.values().map(String::as_str).collect();
                anyhow::anyhow!("the reference {} is no label: known are `{}`", shown(text, SHOWN), labels.join("`, `"))
            }
            false => anyhow::anyhow!("the reference {} is too long for a label", shown(text, SHOWN)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(find: Find) -> LabelsParams {
        LabelsParams {
            labels: Some(["entailment", "neutral", "not entailment"].map(str::to_string).to_vec()),
            aliases: [("1".to_string(), "Neutral".to_string())].into(),
            find,
            capture: None,
            ignore_case: true,
            positive: None,
            average_over: None,
        }
    }

    fn label(params: &LabelsParams, answer: &str) -> Option<String> {
        Finder::new(params).unwrap().label(answer).unwrap()
    }

    #[test]
    fn a_label_is_found_where_it_is_looked_for() {
        let cases = [
            (Find::Whole, " NEUTRAL.. \n", Some("neutral")),
            (Find::Whole, "1", Some("neutral")),
            (Find::Whole, "neutral answer", None),
            (Find::Word, "The answer: (Neutral), not entailment", Some("neutral")),
            (Find::Word, "it is not entailment", Some("not entailment")),
            (Find::Word, "neutrality, 12, ümneutral; Entailment", Some("entailment")),
            (Find::Word, "neutralneutral neutral_", None),
            (Find::Prefix, "not entailment, since", Some("not entailment")),
            (Find::Prefix, " neutrally", Some("neutral")),
            (Find::Prefix, "so neutral", None),
            (Find::Word, "", None),
        ];
        for (find, answer, expected) in cases {
            assert_eq!(label(&params(find), answer).as_deref(), expected, "{find:?} {answer:?}");
        }
    }

    #[test]
    fn what_a_pattern_captures_is_looked_at() {
        let capture = |pattern: &str| {
            let pattern: python_regex::Pattern = serde_json::from_value(pattern.into()).unwrap();
            LabelsParams { capture: Some(pattern), ..params(Find::Whole) }
        };
        let answered = capture(r"answer is (\w+)");
        assert_eq!(label(&answered, "entailment? The answer is neutral.").as_deref(), Some("neutral"));
        assert_eq!(label(&answered, "neutral"), None);
        assert_eq!(label(&capture(r"(?i)neutral|1"), "It is NEUTRAL").as_deref(), Some("neutral"));
        assert_eq!(label(&capture(r"x|(neutral)"), "x neutral"), None);
    }

    #[test]
    fn parameters_that_do_not_fit_together_are_named() {
        let wrong = |change: &dyn Fn(&mut LabelsParams)| {
            let mut params = params(Find::Word);
            change(&mut params);
            Finder::new(&params).unwrap_err().to_string()
        };
        let message = wrong(&|params| params.labels = None);
        assert!(message.contains("`find` looks for given labels"), "{message}");
        let message = wrong(&|params| params.labels.as_mut().unwrap().push("NEUTRAL.".into()));
        assert!(message.contains("`NEUTRAL.` stands in `labels` twice"), "{message}");
        let message = wrong(&|params| params.aliases = [("x".into(), "y".into())].into());
        assert!(message.contains("the alias `x` stands for `y`, which is none of `labels`"), "{message}");
        assert!(wrong(&|params| params.positive = Some("yes".into())).contains("`positive` is `yes`"));
        assert!(wrong(&|params| params.labels = Some(Vec::new())).contains("`labels` is empty"));
    }

    #[test]
    fn a_reference_that_is_no_label_is_named() {
        let finder = Finder::new(&params(Find::Word)).unwrap();
        let message = finder.reference("very neutral").unwrap_err().to_string();
        assert!(
            message.contains("`very neutral` is no label: known are `") && message.contains("`entailment`"),
            "{message}"
        );
        let open = LabelsParams { labels: None, aliases: BTreeMap::new(), ..params(Find::Whole) };
        let finder = Finder::new(&open).unwrap();
        assert_eq!(finder.reference(" Any. ").unwrap(), "any");
        assert!(finder.reference(&"x".repeat(201)).unwrap_err().to_string().contains("too long for a label"));
        assert_eq!(finder.label(&"x".repeat(201)).unwrap(), None);
    }
}
