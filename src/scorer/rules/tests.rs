//! Steps as they stand in a manifest, and what they make of texts.

use super::*;
use crate::diagnostic::{Problems, Sources};
use crate::row::Row;
use crate::settings::{self, Fields};

/// The scorer with these steps, or the rendered problems.
fn rules(steps: &str) -> Result<Box<dyn Scorer>, String> {
    let mut sources = Sources::default();
    let text = format!("steps = [\n{steps}\n]\n");
    let file = sources.add("m.toml", &text);
    let mut problems = Problems::default();
    let value = settings::parse(&text, file, &mut problems).expect("syntax");
    let mut fields = Fields::of(&value, &mut problems).unwrap();
    let Some(params) = DEFINITION.read_params(&mut fields, &mut problems) else {
        return Err(problems.into_vec().iter().map(|problem| sources.render(problem)).collect());
    };
    Ok(super::super::build::<RulesParams>(params).unwrap())
}

#[track_caller]
fn check(steps: &str, cases: &[(&str, &str, Option<f64>)]) {
    let mut scorer = rules(steps).unwrap();
    for (prediction, reference, expected) in cases {
        let answer = Answer { prediction, references: &[(*reference).into()], row: &Row::new() };
        let value = scorer.score_row(&answer).unwrap().values[0];
        assert_eq!(value, *expected, "{steps}: {prediction:?} {reference:?}");
    }
}

const YES: Option<f64> = Some(1.0);
const NO: Option<f64> = Some(0.0);

#[test]
fn numbers_are_taken_and_compared() {
    check(
        r#"{ take = "number" }, { equal = "number", tolerance = 0.01 }"#,
        &[
            ("It costs $1,299.995 or so", "1300", YES),
            ("It costs $1,299.98 or so", "1300", NO),
            ("-3 and 4", "about -3.0e0", YES),
            ("pages 3-4", "3", YES),
            ("1,2 and 3", "1", YES),
            ("no number", "1", NO),
            ("1", "no number", None),
        ],
    );
    check(
        r#"{ take = "number", which = "last" }, { equal = "number", relative = 0.1 }"#,
        &[("first 5, then 11", "1, 10", YES), ("12", "10", NO)],
    );
    check(
        r#"{ equal = "number" }"#,
        &[(" 1.50 ", "1.5", YES), ("1.5 m", "1.5", NO), ("nan", "nan", None), ("inf", "1", NO)],
    );
}

#[test]
fn texts_are_normalised_and_compared() {
    check(
        r#"{ normalise = ["case", "punctuation", "articles", "space"] }, { equal = "text" }"#,
        &[("The\tRed  house.", "red house", YES), ("red houses", "red house", NO), ("the", "", YES)],
    );
    check(
        r#"{ remove = '\s*\(.*?\)', on = "prediction" }, { equal = "text" }"#,
        &[("Oslo (Norway)", "Oslo", YES), ("Oslo", "Oslo (Norway)", NO)],
    );
    check(r#"{ contains = "text" }"#, &[("Zürich's", "rich", YES), ("a", "b", NO)]);
    check(
        r#"{ normalise = "case" }, { contains = "word" }"#,
        &[("In ZÜRICH, of course", "Zürich", YES), ("zürichs", "zürich", NO), ("any", "", NO)],
    );
}

#[test]
fn parts_of_texts_are_taken() {
    check(
        r#"{ capture = "answer is (\\w+)", which = "last", on = "prediction" }, { equal = "text" }"#,
        &[("The answer is yes. No, the answer is no.", "no", YES), ("no", "no", NO)],
    );
    check(
        r#"{ first_of = ["positive", "negative", "not positive"], on = "prediction" }, { normalise = "case" }, { equal = "text" }"#,
        &[
            ("I think: NOT positive, negative", "not positive", YES),
            ("positively negative", "negative", YES),
            ("neutral", "negative", NO),
        ],
    );
    // What is part of a word is Python's to say: a number in a circle is, an accent of its own is not.
    check(
        r#"{ first_of = ["yes", "no"], on = "prediction" }, { equal = "text" }"#,
        &[("no\u{2460} yes", "yes", YES), ("no\u{301} yes", "no", YES)],
    );
    check(r#"{ take = "word" }, { equal = "text" }"#, &[(" «Yes», it is", "Yes!", YES), ("...", "x", NO)]);
    check(r#"{ take = "line", which = "last" }, { equal = "text" }"#, &[("a\n b \n\n", "b", YES)]);
}

#[test]
fn data_is_compared_as_data() {
    check(
        r#"{ normalise = "fences" }, { equal = "json" }"#,
        &[
            ("Here:\n```json\n{\"b\": [1.0, null], \"a\": true}\n```\nDone.", r#"{"a": true, "b": [1, null]}"#, YES),
            ("```[1]```", "[1]", YES),
            ("``` [1]", "[1]", NO),
            ("[1, 2]", "[2, 1]", NO),
            ("[true]", "[1]", NO),
            ("[9007199254740993]", "[9007199254740992]", NO),
            ("[1]", "[1", None),
        ],
    );
    check(
        r#"{ equal = "python" }"#,
        &[("{'a': (1,)}", "{ 'a': (True,) }", YES), ("open('x')", "1", NO), ("1", "x", None)],
    );
}

#[test]
fn the_best_reference_counts() {
    let mut scorer = rules(r#"{ take = "number" }, { equal = "number" }"#).unwrap();
    let mut value = |references: &[Cow<'_, str>]| {
        scorer.score_row(&Answer { prediction: "2", references, row: &Row::new() }).unwrap().values[0]
    };
    assert_eq!(value(&["none".into(), "1".into(), "2".into()]), YES);
    assert_eq!(value(&["none".into(), "1".into()]), NO);
    assert_eq!(value(&["none".into()]), None);
}

#[test]
fn mistakes_are_shown_at_their_step() {
    let wrong = |steps: &str| rules(steps).err().unwrap();
    let text = wrong("{ take = \"number\" },\n{ take = \"word\", remove = \"x\" },\n{ equal = \"text\" }");
    assert!(text.contains("not `remove` and `take`: make two of it") && text.contains("m.toml:3:1"), "{text}");
    let text = wrong("{ equal = \"text\", tolerance = 1 }");
    assert!(text.contains("`tolerance` has no meaning beside `equal`: it is for `equal = \"number\"`"), "{text}");
    assert!(wrong("{ which = \"last\" }").contains("a step does one of `normalise`, `remove`"));
    let text = wrong("{ contains = \"word\", on = \"reference\" }");
    assert!(text.contains("`on` has no meaning beside `contains`"), "{text}");
    assert!(wrong("{ take = \"number\" }").contains("no step compares"));
    assert!(wrong("").contains("no step compares"));
    assert!(wrong("{ equal = \"text\" }, { take = \"word\" }").contains("comes last"));
    assert!(wrong("{ capture = \"(\" }, { equal = \"text\" }").contains("`(` is not a regular expression"));
    assert!(wrong("{ equal = \"txt\" }").contains("did you mean `text`?"));
    assert!(wrong("{ first_of = [] }, { equal = \"text\" }").contains("`first_of` is empty"));
    assert!(wrong("{ equal = \"number\", tolerance = -1 }").contains("`tolerance` is -1"));
}
