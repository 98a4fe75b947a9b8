//! METEOR against NLTK: words, stems of any script, synonyms, scores.

use super::super::tests::golden;
use super::*;
use crate::row::Row;
use serde_json::Value;
use std::borrow::Cow;
use std::path::PathBuf;

fn params() -> MeteorParams {
    MeteorParams { alpha: 0.9, beta: 3.0, gamma: 0.5 }
}

fn score(meteor: &mut Meteor, prediction: &str, references: &[&str]) -> f64 {
    let references: Vec<Cow<'_, str>> = references.iter().map(|text| Cow::Borrowed(*text)).collect();
    let scored = meteor.score_row(&Answer { prediction, references: &references, row: &Row::new() }).unwrap();
    scored.values[0].unwrap()
}

/// The WordNet that `TITER_WORDNET` names, else what the words of the reference rows need of it.
fn wordnet() -> WordNet {
    let here = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scorers/wordnet");
    WordNet::read(&std::env::var_os("TITER_WORDNET").map_or_else(here, PathBuf::from)).unwrap()
}

#[test]
fn words_and_scores_equal_nltk_s() {
    let rows = golden("rows.jsonl");
    let treebank = Treebank::new().unwrap();
    let mut meteor = Meteor::new(params(), Some(wordnet())).unwrap();
    let expected = golden("meteor.jsonl");
    assert!(expected.len() >= 50);
    for expected in expected {
        let row = rows.iter().find(|row| row["id"] == expected["id"]).unwrap();
        let (prediction, reference) = (row["prediction"].as_str().unwrap(), row["output"].as_str().unwrap());
        assert_eq!(Value::from(treebank.words(prediction)), expected["pred_tokens"], "{prediction:?}");
        assert_eq!(Value::from(treebank.words(reference)), expected["ref_tokens"], "{reference:?}");
        let (score, expected) = (score(&mut meteor, prediction, &[reference]), expected["meteor"].as_f64().unwrap());
        assert!((score - expected).abs() <= 1e-12 * expected, "{}: {score} is not {expected}", row["id"]);
    }
}

#[test]
fn stems_of_words_in_any_script_equal_nltk_s() {
    let pairs = [
        ("niños", "niño"),
        ("naïvely", "naïv"),
        ("ééing", "ééing"),
        ("çaéé", "çaéé"),
        ("aééing", "aé"),
        ("aéèing", "aéè"),
        ("日本語ed", "日本語ed"),
        ("és", "és"),
        ("aéèed", "aéè"),
        ("oéés", "oéé"),
        ("naïvetés", "naïveté"),
        ("running", "run"),
    ];
    for (word, expected) in pairs {
        assert_eq!(stem(word), expected, "{word}");
    }
}

#[test]
fn synonyms_match_only_with_a_wordnet() {
    let (answer, reference) = ("the couch", "the sofa");
    let mut without = Meteor::new(params(), None).unwrap();
    let half = score(&mut without, answer, &[reference]);
    assert!(half < 0.6, "{half}");
    // One word of two, in one piece: as if they were two.
    assert_eq!(score(&mut without, "the couches", &["the couch"]), score(&mut without, "the couch", &["the couch"]));
    assert_eq!(score(&mut without, answer, &["a dog", reference]), half);
    assert_eq!(score(&mut without, "", &[""]), 0.0);
}

#[test]
fn a_wordnet_that_is_not_whole_is_named() {
    let folder = tempfile::TempDir::new().unwrap();
    let message = format!("{:#}", WordNet::read(folder.path()).unwrap_err());
    assert!(message.contains("index.noun") && message.contains("WordNet 3.0"), "{message}");
    for name in WordNet::files() {
        std::fs::write(folder.path().join(&name), "").unwrap();
    }
    std::fs::write(folder.path().join("index.noun"), "dog n 1 0 1 0 00000500  \n").unwrap();
    let wordnet = WordNet::read(folder.path()).unwrap();
    let message = format!("{:#}", wordnet.synonyms("dogs").unwrap_err());
    assert!(message.contains("`data.noun` at 500: the file is shorter"), "{message}");
    assert!(wordnet.synonyms("cat").unwrap().is_empty());
}
