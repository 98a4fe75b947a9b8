//! Scorers of text overlap against the reference programs: rows, several references, and all rows together.

use super::*;

/// `left` is `right` but for the last digits: the same sums, in another order at most.
#[track_caller]
fn close(left: &Value, right: &Value, place: &str) {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            assert_eq!(left.len(), right.len(), "{place}");
            left.iter().zip(right).for_each(|(left, right)| close(left, right, place));
        }
        _ => {
            let (left, right) = (left.as_f64(), right.as_f64());
            let (Some(left), Some(right)) = (left, right) else { panic!("{place}: {left:?} and {right:?}") };
            assert!((left - right).abs() <= 1e-12 * right.abs(), "{place}: {left} is not {right}");
        }
    }
}

/// What a scorer says of some rows: the value of the last one, and of all together the value and the details.
struct Said {
    value: Option<f64>,
    pooled: Option<f64>,
    details: Value,
}

impl Said {
    /// Holds a score and all fields that the reference gives besides against what was said, of one row or of several.
    #[track_caller]
    fn equals(&self, expected: &Value, value: Option<f64>, score: &str, place: &str) {
        if expected["error"] == "ZeroDivisionError" {
            assert_eq!(value, None, "{place}");
            return;
        }
        if expected.is_number() {
            return close(&json!(value), expected, place);
        }
        for (field, expected) in expected.as_object().unwrap() {
            let said = if field == score { &json!(value) } else { &self.details[field.as_str()] };
            close(said, expected, &format!("{place} {field}"));
        }
    }
}

fn say<'a>(scorer: &str, params: &Value, rows: impl Iterator<Item = (&'a str, Vec<&'a str>)>) -> Said {
    let (mut scorer, mut sums, mut value) = (rows_scorer(scorer, params.clone()), Vec::new(), None);
    for (prediction, references) in rows {
        let references: Vec<Cow<'_, str>> = references.into_iter().map(Cow::Borrowed).collect();
        let scored = scorer.score_row(&Answer { prediction, references: &references, row: &Row::new() }).unwrap();
        scorer.add(&mut sums, &scored.counts, 1.0);
        value = scored.values[0];
    }
    Said { value, pooled: scorer.pool(&sums).first().copied().flatten(), details: scorer.details(&sums) }
}

/// A scorer with parameters, and where the reference's values of it are.
struct Variant {
    scorer: &'static str,
    params: Value,
    /// The name of the score among the fields.
    score: &'static str,
    /// The file of rows, and the path to the value in a line.
    file: &'static str,
    path: Vec<&'static str>,
}

fn variants() -> Vec<Variant> {
    let mut variants = Vec::new();
    let mut add = |scorer, params, score, file, path: &[&'static str]| {
        variants.push(Variant { scorer, params, score, file, path: path.to_vec() });
    };
    for (path, max_order, smooth) in [("smooth_false", 4, false), ("smooth_true", 4, true), ("order2", 2, false)] {
        add("bleu", json!({ "max_order": max_order, "smooth": smooth }), "bleu", "hf_bleu", &[path]);
    }
    let sacrebleu = |tokenize: &str, smooth_method: &str, lowercase: bool| {
        json!({ "tokenize": tokenize, "smooth_method": smooth_method, "max_ngram_order": 4, "lowercase": lowercase,
                "effective_order": true })
    };
    for tokenize in ["13a", "intl", "zh", "char", "none"] {
        for smoothing in ["exp", "floor", "add-k", "none"] {
            let params = sacrebleu(tokenize, smoothing, false);
            add("sacrebleu", params, "score", "sacrebleu", &[tokenize, smoothing]);
        }
    }
    add("sacrebleu", sacrebleu("13a", "exp", true), "score", "sacrebleu", &["13a_lowercase"]);
    let chrf = |char_order: u8, word_order: u8, beta: f64, lowercase: bool, whitespace: bool, eps_smoothing: bool| {
        json!({ "char_order": char_order, "word_order": word_order, "beta": beta, "lowercase": lowercase,
                "whitespace": whitespace, "eps_smoothing": eps_smoothing })
    };
    for (path, params) in [
        ("chrf", chrf(6, 0, 2.0, false, false, false)),
        ("chrf_pp", chrf(6, 2, 2.0, false, false, false)),
        ("chrf_lower", chrf(6, 0, 2.0, true, false, false)),
        ("chrf_ws", chrf(6, 0, 2.0, false, true, false)),
        ("chrf_eps", chrf(6, 0, 2.0, false, false, true)),
        ("chrf_pp_eps_lower", chrf(6, 2, 2.0, true, false, true)),
        ("chrf_b1_n4", chrf(4, 0, 1.0, false, false, false)),
    ] {
        add("chrf", params, "chrf", "chrf", &[path]);
    }
    let ter = |normalized: bool, no_punct: bool, asian_support: bool, case_sensitive: bool| {
        json!({ "normalized": normalized, "no_punct": no_punct, "asian_support": asian_support,
                "case_sensitive": case_sensitive })
    };
    for (path, params) in [
        ("default", ter(false, false, false, false)),
        ("case_sensitive", ter(false, false, false, true)),
        ("normalized", ter(true, false, false, false)),
        ("no_punct", ter(false, true, false, false)),
        ("norm_nopunct", ter(true, true, false, false)),
        ("norm_asian", ter(true, false, true, false)),
        ("norm_asian_nopunct_case", ter(true, true, true, true)),
    ] {
        add("ter", params, "score", "ter", &[path]);
    }
    variants
}

impl Variant {
    /// The reference's value in `line`, if it has one.
    fn expected<'a>(&self, line: &'a Value) -> Option<&'a Value> {
        let value = self.path.iter().try_fold(line, |value, step| value.get(step))?;
        (!value.is_null() && value != "skipped" && value.get("skipped").is_none()).then_some(value)
    }
}

fn by_id(lines: &[Value]) -> BTreeMap<&str, &Value> {
    lines.iter().map(|line| (line["id"].as_str().unwrap(), line)).collect()
}

/// The two texts of a row.
fn texts(row: &Value) -> (&str, Vec<&str>) {
    (row["prediction"].as_str().unwrap(), vec![row["output"].as_str().unwrap()])
}

#[test]
fn rows_equal_the_reference_programs() {
    let rows = golden("rows.jsonl");
    for variant in variants() {
        let expected = golden(&format!("{}.jsonl", variant.file));
        let expected = by_id(&expected);
        let mut compared = 0;
        for row in &rows {
            let id = row["id"].as_str().unwrap();
            let Some(expected) = expected.get(id).and_then(|line| variant.expected(line)) else { continue };
            let said = say(variant.scorer, &variant.params, std::iter::once(texts(row)));
            let place = format!("{id} {} {}", variant.scorer, variant.path.join(" "));
            said.equals(expected, said.value, variant.score, &place);
            compared += 1;
        }
        assert!(compared >= 50, "{} {:?}: {compared} rows", variant.scorer, variant.path);
    }
}

#[test]
fn rows_with_several_references_equal_the_reference_programs() {
    let (rows, scores) = (golden("multiref.jsonl"), golden("multiref_scores.jsonl"));
    let scores = by_id(&scores);
    for variant in variants() {
        let mut compared = 0;
        for row in &rows {
            let id = row["id"].as_str().unwrap();
            let Some(expected) = variant.expected(&scores[id][variant.file]) else { continue };
            let references = row["references"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
            let texts = std::iter::once((row["prediction"].as_str().unwrap(), references));
            let said = say(variant.scorer, &variant.params, texts);
            said.equals(expected, said.value, variant.score, &format!("{id} {} {:?}", variant.scorer, variant.path));
            compared += 1;
        }
        assert!(compared >= 10, "{} {:?}: {compared} rows", variant.scorer, variant.path);
    }
}

#[test]
fn all_rows_together_equal_the_reference_programs() {
    let (rows, groups) = (golden("rows.jsonl"), golden("corpus.jsonl"));
    let rows = by_id(&rows);
    let mut compared = 0;
    for variant in variants() {
        for group in &groups {
            // TER was computed for part of the rows, with the default options.
            let (ids, expected) = match variant.scorer {
                "ter" if variant.path == ["default"] => (&group["ter"]["ids_used"], Some(&group["ter"])),
                _ => (&group["ids"], variant.expected(&group[variant.file])),
            };
            let Some(expected) = expected.filter(|expected| !expected.is_null()) else { continue };
            let ids = ids.as_array().unwrap().iter().map(|id| id.as_str().unwrap());
            let said = say(variant.scorer, &variant.params, ids.map(|id| texts(rows[id])));
            let mut expected = expected.clone();
            if let Some(fields) = expected.as_object_mut() {
                fields.remove("ids_used");
            }
            let place = format!("{} {} {:?}", group["group"], variant.scorer, variant.path);
            said.equals(&expected, said.pooled, variant.score, &place);
            compared += 1;
        }
    }
    assert!(compared >= 50, "{compared}");
}

#[test]
fn signatures_are_sacrebleu_s() {
    let signature = |scorer: &str, params: Value, rows: &[(&'static str, &[&'static str])]| {
        let rows = rows.iter().map(|(prediction, references)| (*prediction, references.to_vec()));
        say(scorer, &params, rows).details["signature"].clone()
    };
    let sacrebleu = |tokenize: &str, smooth_method: &str, smooth_value: Value, lowercase: bool| {
        json!({ "tokenize": tokenize, "smooth_method": smooth_method, "smooth_value": smooth_value,
                "max_ngram_order": 4, "lowercase": lowercase, "effective_order": true })
    };
    assert_eq!(
        signature("sacrebleu", sacrebleu("13a", "exp", Value::Null, false), &[("a", &["a"]), ("b", &["b"])]),
        "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
    );
    assert_eq!(
        signature("sacrebleu", sacrebleu("intl", "floor", Value::Null, true), &[("a", &["a", "b"])]),
        "nrefs:2|case:lc|eff:no|tok:intl|smooth:floor[0.10]|version:2.6.0"
    );
    assert_eq!(
        signature("sacrebleu", sacrebleu("zh", "add-k", json!(0.125), false), &[("a", &["a", "b"]), ("b", &["b"])]),
        "nrefs:var|case:mixed|eff:no|tok:zh|smooth:add-k[0.12]|version:2.6.0"
    );
    let chrf = json!({ "char_order": 6, "word_order": 2, "beta": 2.0, "lowercase": false, "whitespace": true,
                       "eps_smoothing": true });
    let rows = [("a", vec!["a"])];
    let said = say("chrf", &chrf, rows.into_iter());
    assert_eq!(said.details["signature"], "nrefs:1|case:mixed|eff:no|nc:6|nw:2|space:yes|version:2.6.0");
    assert_eq!(said.details["name"], "chrF2++");
    let ter = json!({ "normalized": true, "no_punct": false, "asian_support": false, "case_sensitive": false });
    assert_eq!(
        signature("ter", ter, &[("a", &["a"])]),
        "nrefs:1|case:lc|tok:tercom|norm:yes|punct:yes|asian:no|version:2.6.0"
    );
}

#[test]
fn a_draw_counts_rows_as_often_as_it_has_them() {
    for (scorer, params) in variants().into_iter().map(|variant| (variant.scorer, variant.params)) {
        let mut scorer = rows_scorer(scorer, params);
        let counts = |scorer: &mut dyn Scorer, answer: &str| score(scorer, answer, "the cat sat on the mat").counts;
        let (first, second) = (counts(&mut *scorer, "the cat sat"), counts(&mut *scorer, "a dog sat on the mat"));
        let (mut drawn, mut listed) = (Vec::new(), Vec::new());
        for (counts, times) in [(&first, 0_u8), (&second, 2), (&first, 1)] {
            scorer.add(&mut drawn, counts, f64::from(times));
            (0..times).for_each(|_| scorer.add(&mut listed, counts, 1.0));
        }
        assert_eq!(drawn, listed);
        assert_eq!(scorer.pool(&drawn), scorer.pool(&listed));
    }
}

#[test]
fn a_million_characters_are_scored() {
    let words = ["the", "cat", "sat", "on", "a", "mat,", "1,000", "times."];
    let mut long: Vec<&str> = (0..400_000).map(|number| words[number * number % 7 + number % 2]).collect();
    let other = long.join(" ");
    long[10..100_000].reverse();
    let long = long.join(" ");
    assert!(long.len() >= 1_000_000, "{}", long.len());
    for name in ["bleu", "sacrebleu", "chrf", "ter", "meteor"] {
        let mut scorer = default_scorer(name);
        assert!(score(&mut *scorer, &long, &other).values[0].is_some_and(|value| value > 0.0), "{name}");
        score(&mut *scorer, &long, "the cat");
        score(&mut *scorer, "the cat", &long);
    }
}
