//! Scorers as a manifest names them: what they read besides the answers, and what is refused.

use crate::project::Project;
use std::path::Path;

const METEOR: &str = r#"titer = 1
name = "scorers"
[score.quality]
predictions = "data/answers.jsonl"
[score.quality.scorers]
plain = "meteor"
synonyms = { kind = "meteor", wordnet = "data/wordnet" }
"#;

fn project() -> Project {
    let project = Project::empty();
    let wordnet = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scorers/wordnet");
    for entry in std::fs::read_dir(wordnet).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        project.write_bytes(&format!("data/wordnet/{name}"), &std::fs::read(entry.path()).unwrap());
    }
    project.write("data/answers.jsonl", "{\"prediction\":\"a quick car\",\"output\":\"a fast auto\"}\n");
    project.write("pipelines/p.toml", METEOR);
    project
}

fn score(project: &Project, scorer: &str) -> f64 {
    let line = project.read(&format!("out/scorers/score.quality/scorer={scorer}/scores.jsonl"));
    serde_json::from_str::<serde_json::Value>(&line).unwrap()["scores"]["meteor"].as_f64().unwrap()
}

#[test]
fn meteor_reads_the_wordnet_that_its_setting_names() {
    let project = project();
    assert_eq!(project.run().len(), 2);
    // NLTK 3.10.4 with WordNet 3.0, and with none.
    assert!((score(&project, "synonyms") - 0.981_481_481_481_481_5).abs() < 1e-12, "{}", score(&project, "synonyms"));
    assert!((score(&project, "plain") - 1.0 / 6.0).abs() < 1e-12, "{}", score(&project, "plain"));
    // Only the files that are read count, and those by their content.
    project.write("data/wordnet/README", "of no matter");
    assert_eq!(project.run().len(), 0);
    let nouns = project.read("data/wordnet/noun.exc");
    project.write("data/wordnet/noun.exc", &format!("{nouns}xs x\n"));
    assert_eq!(project.run(), ["score.quality[scorer=synonyms]"]);
}

#[test]
fn a_wordnet_that_is_not_there_or_not_whole_is_refused_before_anything_runs() {
    let project = project();
    std::fs::remove_file(project.path("data/wordnet/data.verb")).unwrap();
    let check = &["check", "pipelines/p.toml"];
    project.refuses(check, 2, &["`data/wordnet`: the folder lacks `data.verb` of WordNet 3.0"]);
    for (folder, expected) in [
        ("data/wordnat", "there is no WordNet folder `data/wordnat`"),
        ("models", "the folder holds none of the files of a WordNet 3.0 (`index.noun`, `data.noun`, …)"),
        ("hf://owner/wordnet", "`wordnet` is a folder here"),
    ] {
        project.write("models/x", "");
        project.write("pipelines/p.toml", &METEOR.replace("data/wordnet", folder));
        project.refuses(check, 2, &[expected, "pipelines/p.toml:7:"]);
    }
}

#[test]
fn a_judge_that_is_only_named_is_told_what_to_write() {
    let project = project();
    let judge = "gpt4 = { kind = \"judge\", model = \"gpt-4\" }";
    project.edit("pipelines/p.toml", "plain = \"meteor\"", judge);
    let output = project.titer(&["check", "pipelines/p.toml"]);
    assert_eq!(output.code, 2);
    for text in [
        "`model` does not say where `gpt-4` is asked",
        "model = { api = \"https://api.openai.com/v1\", model = \"gpt-4\", key = \"{env:OPENAI_API_KEY}\" }",
    ] {
        assert!(output.err.contains(text), "{}", output.err);
    }
    assert!(!output.err.contains("folder"), "{}", output.err);
}
