//! The questions that judges are asked.

use super::{Form, JudgeParams};
use crate::row;
use crate::scorer::Answer;
use anyhow::Context as _;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, context};

/// The name of the template in its environment.
const NAME: &str = "prompt";
/// Steps that a template may take: one that never ends is a mistake.
const FUEL: u64 = 1_000_000;

/// What was asked for, and the responses.
macro_rules! shown {
    ($responses:literal) => {
        concat!("Instruction: {{ instruction }}\n", "{% if input %}Input: {{ input }}\n{% endif %}\n", $responses)
    };
}

const PAIR: &str = shown!("Response 1:\n{{ first }}\n\nResponse 2:\n{{ second }}\n");
const SINGLE: &str = shown!("Response:\n{{ prediction }}\n");

/// The question of a form.
pub(super) fn built_in(form: Form) -> &'static str {
    // Made once: a template is needed for every stage, not for every row.
    static TEXTS: std::sync::LazyLock<[String; 3]> = std::sync::LazyLock::new(|| {
        let criteria = "Consider whether a response is grammatical, whether what it says is right, whether it is coherent, \
                        and whether it answers the instruction.";
        let scale =
            "0 stands for completely inappropriate and 10 for very good; an acceptable response gets no less than 6.";
        [
            format!(
                "Two responses to the instruction below are to be rated, each with a number from 0 to 10: {scale} \
                 {criteria} Your whole answer is one line of CSV with two numbers, that of response 1 and that of \
                 response 2.\n\n{PAIR}"
            ),
            format!(
                "The response to the instruction below is to be rated with a number from 0 to 10: {scale} {criteria} Your \
                 whole answer is that number.\n\n{SINGLE}"
            ),
            format!(
                "Which of two responses to the instruction below is better? {criteria} Neither their order nor their \
                 length matters. End your answer with [[A]] if response 1 is better, [[B]] if response 2 is, and [[C]] if \
                 they are equally good.\n\n{PAIR}"
            ),
        ]
    });
    &TEXTS[form as usize]
}

/// An environment with that template; columns that a row lacks are errors, but in `{% if … %}`.
pub(super) fn environment(text: &str) -> anyhow::Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_template_owned(NAME, text.to_string())?;
    Ok(environment)
}

/// The question about an answer and the response that it is held against.
pub(super) fn fill(
    environment: &Environment<'_>,
    params: &JudgeParams,
    answer: &Answer<'_>,
    other: Option<&str>,
    swapped: bool,
) -> anyhow::Result<String> {
    let template = environment.get_template(NAME).context("there is no template")?;
    let (first, second) = match (other, swapped) {
        (Some(other), true) => (other, Some(answer.prediction)),
        (other, _) => (answer.prediction, other),
    };
    let values = context! {
        prediction => answer.prediction,
        reference => answer.references.first(),
        first,
        second,
        ..minijinja::Value::from(Serde(answer.row)),
    };
    let missing = |name: &str| {
        let is_given = ["prediction", "reference", "first", "second"].contains(&name);
        !is_given && !answer.row.contains_key(name)
    };
    template.render(values).map_err(|error| {
        let unknown = template.undeclared_variables(false).into_iter().filter(|name| missing(name));
        let unknown: Vec<String> = unknown.map(|name| format!("`{name}`")).collect();
        let whose = if params.prompt.is_some() { "`prompt`" } else { "the judge's prompt" };
        match unknown.is_empty() {
            true => anyhow::anyhow!("{whose} cannot be filled: {error}"),
            false => {
                let (names, columns) = (unknown.join(", "), row::columns(answer.row));
                anyhow::anyhow!("{whose} names {names}, which the row has not: it has {columns}")
            }
        }
    })
}
