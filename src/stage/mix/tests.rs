use super::*;
use crate::stage::heard::Heard;
use crate::stage::{Earlier, Hints, Means, Recipe};
use std::path::Path;

/// Reads a mix's settings; paths are relative to `folder`.
fn decoded(text: &str, folder: &Path) -> Result<(MixRecipe, Vec<Input>), Vec<Diagnostic>> {
    let mut problems = crate::diagnostic::Problems::default();
    let value = crate::settings::parse(text, 0, &mut problems).unwrap();
    let stage = crate::stage::decode(crate::stage::Kind::Mix, value.as_table().unwrap(), value.span, &mut problems);
    let (Some(stages), true) = (stage, problems.is_empty()) else { return Err(problems.into_vec()) };
    let stage = stages.into_iter().next().unwrap();
    let Recipe::Mix(recipe) = stage.recipe else { panic!("no mix") };
    let inputs = stage.inputs.into_iter().map(|spec| {
        let crate::stage::InputSource::Path(path) = spec.source else { panic!("a path is expected") };
        Input { role: spec.role, labels: BTreeMap::new(), name: path.clone(), path: folder.join(path) }
    });
    Ok((recipe, inputs.collect()))
}

struct Mix {
    splits: [Vec<String>; 3],
    stats: serde_json::Value,
    warnings: Vec<String>,
}

fn mix(text: &str, files: &[(&str, &str)]) -> anyhow::Result<Mix> {
    let folder = tempfile::tempdir()?;
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content)?;
    }
    let (recipe, inputs) = decoded(text, folder.path()).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let output = folder.path().join("output");
    std::fs::create_dir(&output)?;
    let heard = Heard::default();
    let hints = Hints::default();
    execute(
        &recipe,
        &Context {
            inputs: &inputs,
            output: &output,
            hints: &hints,
            earlier: &Earlier::default(),
            means: &Means::default(),
            root: std::path::Path::new("."),
            events: &heard,
        },
    )?;
    let lines = |name: &str| -> Vec<String> {
        std::fs::read_to_string(output.join(name)).unwrap().lines().map(String::from).collect()
    };
    Ok(Mix {
        splits: ["train.jsonl", "validation.jsonl", "test.jsonl"].map(lines),
        stats: serde_json::from_str(&std::fs::read_to_string(output.join("stats.json"))?)?,
        warnings: heard.warnings.into_inner(),
    })
}

/// `count` different rows.
fn rows(prefix: &str, count: usize) -> String {
    (0..count).map(|i| format!("{{\"instruction\":\"{prefix}\",\"input\":\"{i}\",\"output\":\"y\"}}\n")).collect()
}

#[test]
fn the_rows_of_a_small_take_are_the_first_of_a_large_one() {
    let data = rows("a", 200);
    let taken = |n: usize| {
        let text =
            format!("sources = [{{ path = \"a.jsonl\", take = {n} }}]\nsplit = {{ validation = 0.1, test = 0.2 }}");
        mix(&text, &[("a.jsonl", &data)]).unwrap().splits
    };
    let (small, large) = (taken(20), taken(80));
    assert_eq!((small[0].len(), large[0].len()), (20, 80));
    for (small, large) in small.iter().zip(&large) {
        assert_eq!(small[..], large[..small.len()]);
    }
    // About as many come along as their shares say: 20 / 0.7 × 0.3.
    let along = large[1].len() + large[2].len();
    assert!((15..60).contains(&along), "{along}");
}

#[test]
fn a_row_never_changes_sides_and_the_seed_changes_the_order() {
    let data = rows("a", 300);
    let with = |seed: u64, extra: &str| {
        let text = format!("sources = [{{ path = \"a.jsonl\"{extra} }}]\nsplit = {{ test = 0.3 }}\nseed = {seed}");
        mix(&text, &[("a.jsonl", &data)]).unwrap().splits
    };
    let (one, two) = (with(1, ""), with(2, ""));
    assert_ne!(one[0], two[0]);
    let sorted = |rows: &[String]| {
        let mut rows = rows.to_vec();
        rows.sort();
        rows
    };
    assert_eq!(sorted(&one[2]), sorted(&two[2]));
    // A new column moves no row either.
    let inputs = |rows: &[String]| -> Vec<String> {
        let mut inputs: Vec<String> =
            rows.iter().map(|row| serde_json::from_str::<Row>(row).unwrap()["input"].to_string()).collect();
        inputs.sort();
        inputs
    };
    assert_eq!(inputs(&with(1, ", set = { task = \"t\" }")[2]), inputs(&one[2]));
}

#[test]
fn the_order_of_sources_does_not_matter() {
    let files: &[(&str, &str)] = &[("a.jsonl", &rows("a", 30)), ("b.jsonl", &rows("b", 30))];
    let (a, b) = ("{ path = \"a.jsonl\", take = 9 }", "{ path = \"b.jsonl\" }");
    let one = mix(&format!("sources = [{a}, {b}, {a}]"), files).unwrap().splits;
    let two = mix(&format!("sources = [{b}, {a}, {a}]"), files).unwrap().splits;
    assert_eq!(one[0].len(), 48, "rows that stand twice stay twice");
    assert_eq!(one, two);
}

#[test]
fn columns_are_mapped_and_carried_along() {
    let data = r#"{"q":{"text":"Why?"},"context":"c","summary":"s","task":"x","n":3}"#;
    let text = r#"sources = [{ path = "a.jsonl", columns = { input = "context", output = "summary" }, instruction = { column = "q.text" }, set = { set = true } }]"#;
    let mixed = mix(text, &[("a.jsonl", data)]).unwrap();
    let row: Row = serde_json::from_str(&mixed.splits[0][0]).unwrap();
    let names: Vec<&str> = row.keys().map(String::as_str).collect();
    assert_eq!(names, ["id", "instruction", "input", "output", "q", "task", "n", "set"]);
    assert_eq!((row["instruction"].as_str(), row["output"].as_str()), (Some("Why?"), Some("s")));
    assert_eq!(row["id"].as_str().unwrap().len(), 16);
}

#[test]
fn templates_see_their_columns_and_ours() {
    let files = [("a.csv", "sentence,label\ngood film,1\n"), ("t.j2", "Is {{ sentence }} ({{ input }}) good?\n")];
    let text = r#"sources = [{ path = "a.csv", columns = { input = "sentence", output = "label" }, instruction = { template = "t.j2" } }]"#;
    let row: Row = serde_json::from_str(&mix(text, &files).unwrap().splits[0][0]).unwrap();
    assert_eq!(row["instruction"], "Is good film (good film) good?");
    let endless = [files[0], ("t.j2", "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}")];
    assert!(mix(text, &endless).is_err(), "a template's steps are counted");
    let stranger = [files[0], ("t.j2", "{% include 'a.csv' %}")];
    assert!(mix(text, &stranger).is_err(), "a template reads no files");
}

#[test]
fn filters_and_limits_are_counted() {
    let data = "{\"instruction\":\"a\",\"output\":\"one two\",\"kind\":\"x\"}\n{\"instruction\":\"a\",\"output\":\"y\",\"kind\":\"z\"}\n{\"instruction\":\"a\",\"output\":\"a b c d e\",\"kind\":\"x\"}\n";
    let text = "sources = [{ path = \"a.jsonl\", where = \"kind in ['x'] and output != ''\" }]\nmax_words = 3";
    let mixed = mix(text, &[("a.jsonl", data)]).unwrap();
    assert_eq!(mixed.splits[0].len(), 1);
    assert_eq!(
        (&mixed.stats["sources"][0]["filtered"], &mixed.stats["sources"][0]["too_long"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn shares_zero_and_too_many() {
    let data = rows("a", 40);
    let of = |take: &str| {
        mix(&format!("sources = [{{ path = \"a.jsonl\", take = {take} }}]"), &[("a.jsonl", &data)]).unwrap()
    };
    assert_eq!(of("0.25").splits[0].len(), 10);
    assert_eq!(of("0").splits[0].len(), 0);
    assert_eq!(of("\"all\"").splits[0].len(), 40);
    let many = of("50");
    assert_eq!((many.splits[0].len(), &many.stats["sources"][0]["missing"]), (40, &10.into()));
    assert!(many.warnings[0].contains("asks for 50") && many.warnings[0].contains("only 40"), "{:?}", many.warnings);
}

#[test]
fn a_missing_column_is_found_at_its_line() {
    let data = format!("{}{{\"instruction\":\"a\",\"input\":\"b\"}}\n", rows("a", 4999));
    let error = mix("sources = [{ path = \"a.jsonl\" }]", &[("a.jsonl", &data)]).err().unwrap();
    assert_eq!(format!("{error:#}"), "a.jsonl:5000: the column `output` is missing; there are `instruction`, `input`");
}

#[test]
fn a_path_gives_columns() {
    let recipe = r#"sources = [{ path = "*.jsonl", bind = "(?P<task>[a-z]+)_en" }]"#;
    let (recipe, _) = decoded(recipe, Path::new("")).unwrap();
    let preparation = Preparation::new(&recipe.sources[0], None).unwrap();
    assert_eq!(preparation.bound("tasks/sst_en.jsonl").unwrap()["task"], "sst");
    assert!(preparation.bound("tasks/other.jsonl").is_err());
}

#[test]
fn what_cannot_be_meant_is_said_at_once() {
    let text = r#"sources = [
  { path = "a", from = "mix.b" },
  { path = "mix.b" },
  { path = "a", gather = "n" },
  { path = "a", take = -1 },
  { path = "a", bind = "(", where = "a ==", instruction = { tempalte = "x" } },
]
split = { validation = 0.7, test = 0.7 }
max_tokens = 5
"#;
    let problems = decoded(text, Path::new("")).err().unwrap();
    let all: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    let all = all.join("\n");
    for part in [
        "either a `path` or a `from`",
        "`mix.b` is the name of a stage",
        "`gather` collapses",
        "`take` is no number of rows",
        "`bind` is no regular expression",
        "`a ==` is not an expression",
        "unknown setting `tempalte`",
        "together are more than 1",
        "`max_tokens` needs a `tokenizer`",
    ] {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
}
