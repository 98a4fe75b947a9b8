//! Tables against pandas and scipy, figures against the table, and the mistakes of a person.

use super::*;
use crate::diagnostic::Sources;
use crate::settings;
use crate::stage::heard::Heard;
use crate::stage::{Earlier, Hints, Means};
use serde_json::{Value as Json, json};
use std::path::Path;
use tempfile::TempDir;

/// The stage that `text` (and a `from`) describes, or the rendered problems.
fn stage(text: &str) -> Result<Stage, String> {
    let mut sources = Sources::default();
    let text = format!("from = \"score.quality\"\n{text}");
    let file = sources.add("m.toml", &text);
    let mut problems = Problems::default();
    let value = settings::parse(&text, file, &mut problems).expect("syntax");
    let stages =
        crate::stage::decode(super::super::Kind::Aggregate, value.as_table().unwrap(), value.span, &mut problems);
    match stages {
        Some(mut stages) if problems.is_empty() => Ok(stages.remove(0)),
        _ => Err(problems.into_vec().iter().map(|problem| sources.render(problem)).collect()),
    }
}

fn recipe(text: &str) -> AggregateRecipe {
    match stage(text).unwrap().recipe {
        Recipe::Aggregate(recipe) => recipe,
        other => panic!("{other:?}"),
    }
}

/// Writes the files of `inputs` (labels and rows each) into `folder`.
fn write_inputs(inputs: &Json, folder: &Path) -> Vec<Input> {
    let write = |(number, input): (usize, &Json)| {
        let lines: Vec<String> = input["rows"].as_array().unwrap().iter().map(Json::to_string).collect();
        let path = folder.join(format!("{number}.jsonl"));
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        let labels = serde_json::from_value(input["labels"].clone()).unwrap();
        Input { role: "from".to_string(), labels, name: format!("scores {number}"), path }
    };
    inputs.as_array().unwrap().iter().enumerate().map(write).collect()
}

/// Aggregates `inputs` and gives the folder of the outputs.
fn aggregate(settings: &str, inputs: &Json) -> anyhow::Result<TempDir> {
    let (data, output) = (TempDir::new()?, TempDir::new()?);
    let inputs = write_inputs(inputs, data.path());
    let hints = Hints::default();
    execute(
        &recipe(settings),
        &Context {
            inputs: &inputs,
            output: output.path(),
            hints: &hints,
            earlier: &Earlier::default(),
            means: &Means::default(),
            root: std::path::Path::new("."),
            events: &Heard::default(),
        },
    )?;
    Ok(output)
}

fn failure(settings: &str, inputs: &Json) -> String {
    format!("{:#}", aggregate(settings, inputs).unwrap_err())
}

fn reference() -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/aggregate.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn read(folder: &TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).unwrap()
}

fn assert_close(found: &Json, expected: &Json, place: &str) {
    match (found, expected) {
        (Json::Number(a), Json::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            // Sums are added up in another order by pandas, quantiles found in another way by scipy.
            assert!((a - b).abs() <= 1e-11 * b.abs().max(1.0), "{place}: {a} instead of {b}");
        }
        (Json::Array(a), Json::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{place}");
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| assert_close(a, b, &format!("{place}, {i}")));
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}

#[test]
fn tables_equal_pandas_and_scipy() {
    let reference = reference();
    for case in reference["cases"].as_array().unwrap() {
        let settings = case["settings"].as_str().unwrap();
        let output = aggregate(settings, &reference["inputs"]).unwrap();
        let table: Json = serde_json::from_str(&read(&output, "table.json")).unwrap();
        assert_close(&table["rows"], &case["rows"], settings);
    }
}

const FIGURE: &str = r#"
by = ["n", "task"]
unit = "run"
figures = [
  { kind = "line", x = "n", y = "em", series = "task", scale = "symlog" },
  { kind = "line", x = "n", y = ["em", "rouge"], series = "task", name = "all" },
  { kind = "heatmap", x = "n", y = "task", where = "metric == 'em'", name = "levels" },
]
"#;

#[test]
fn figures_show_the_table_and_are_the_same_every_time() {
    let inputs = &reference()["inputs"];
    let (first, second) = (aggregate(FIGURE, inputs).unwrap(), aggregate(FIGURE, inputs).unwrap());
    let endings = [".svg", ".png", ".pdf", "-dark.svg", "-dark.png"];
    let figures = ["01-em", "02-all", "03-levels"];
    let figures = figures.iter().flat_map(|name| endings.map(|ending| format!("figures/{name}{ending}")));
    let tables = ["table.csv", "table.md", "table.json"].map(str::to_string);
    let files: Vec<String> = tables.into_iter().chain(figures).collect();
    assert_eq!(fs::read_dir(first.path().join("figures")).unwrap().count(), files.len() - 3);
    for name in &files {
        let bytes =
            |folder: &TempDir| fs::read(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(bytes(&first), bytes(&second), "{name}");
    }
    let svg = read(&first, "figures/01-em.svg");
    // Three tasks at three values of n, and three samples in the legend.
    assert_eq!(svg.matches("class=\"point\"").count(), 9 + 3);
    // Cells are chosen by an expression over the table.
    assert_eq!(read(&first, "figures/03-levels.svg").matches("class=\"cell\"").count(), 9);
    // Three metrics of three tasks.
    assert_eq!(read(&first, "figures/02-all.svg").matches("class=\"point\"").count(), 27 + 9);
    assert!(svg.contains(">squad<") && svg.contains(">task<"), "{svg}");
}

#[test]
fn the_folder_of_figures_is_always_there() {
    let output = aggregate("by = \"n\"", &reference()["inputs"]).unwrap();
    assert_eq!(fs::read_dir(output.path().join("figures")).unwrap().count(), 0);
}

#[test]
fn rows_of_one_id_are_told_apart_by_their_order() {
    let row = |value: f64| json!({ "id": "same", "scores": { "exact_match": value } });
    let inputs = json!([{ "labels": { "scorer": "em" }, "rows": [row(0.0), row(1.0)] }]);
    let output = aggregate("", &inputs).unwrap();
    let csv = read(&output, "table.csv");
    assert!(csv.contains("\nem,2,0,0.5,"), "{csv}");
}

#[test]
fn mistakes_in_scores_are_named() {
    let reference = reference();
    let inputs = &reference["inputs"];
    let message = failure("by = [\"tsk\"]", inputs);
    assert!(message.contains("no axis and no column `tsk`: did you mean `task`?"), "{message}");
    let message = failure("by = [\"nothing\"]", inputs);
    assert!(message.contains("known are `n`, `run`, `task`"), "{message}");
    let message = failure("metrics = [\"rouge1\"]", inputs);
    assert!(message.contains("no metric `rouge1`"), "{message}");
    let message = failure("where = \"n > 100\"", inputs);
    assert!(message.contains("no row is left") && message.contains("n > 100"), "{message}");
    let log = "by = [\"n\"]\nfigures = [{ kind = \"line\", x = \"n\", y = \"em\", scale = \"log\" }]";
    let message = failure(log, inputs);
    assert!(message.contains("figure 1: `n` is 0") && message.contains("symlog"), "{message}");
    let text = "by = [\"task\"]\nfigures = [{ kind = \"line\", x = \"task\", y = \"em\" }]";
    assert!(failure(text, inputs).contains("`task` is \"squad\": the x of a line must be a number"));

    let one = |row: Json| json!([{ "labels": { "n": 1, "scorer": "em" }, "rows": [row] }]);
    let message = failure("", &one(json!({ "id": "a", "n": 3, "scores": { "exact_match": 1.0 } })));
    assert!(message.contains("scores 0:1: column `n` is named like an axis"), "{message}");
    assert!(failure("", &one(json!({ "id": "a" }))).contains("the row has no `scores`"));
    let message = failure("", &one(json!({ "id": "a", "scores": { "exact_match": "yes" } })));
    assert!(message.contains("scores 0:1") && message.contains("expected a number or null"), "{message}");
    let twice = json!([inputs[0], inputs[0]]);
    assert!(failure("", &twice).contains("two inputs give it"));
}

#[test]
fn mistakes_in_settings_are_shown_at_their_place() {
    let problem = |text: &str| stage(text).unwrap_err();
    assert!(problem("by = [\"mean\"]").contains("`mean` in `by` is a column of the table itself"));
    assert!(problem("by = [\"n\"]\nunit = \"n\"").contains("`n` is in `by`, so each group has one unit only"));
    let text = problem("where = \"n >\"");
    assert!(text.contains("`n >` is not an expression") && text.contains("m.toml:2:9"), "{text}");
    let figure = |rest: &str| problem(&format!("by = [\"n\", \"task\"]\nfigures = [{{ kind = \"line\", {rest} }}]"));
    assert!(figure("x = \"m\", y = \"em\", series = [\"n\", \"task\"]").contains("`m` is not in `by`"));
    assert!(figure("x = \"n\", y = \"em\"").contains("add `task` to `series`"));
    assert!(figure("x = \"n\", y = \"em\", series = [\"n\", \"task\"]").contains("both `x` and `series`"));
    let text = figure("x = \"n\", y = \"em\", series = \"task\", scale = \"symlg\"");
    assert!(text.contains("did you mean `symlog`?"), "{text}");
}

#[test]
fn inputs_have_roles_of_their_own() {
    let roles = |stage: Stage| stage.inputs.into_iter().map(|input| input.role).collect::<Vec<_>>();
    assert_eq!(roles(stage("").unwrap()), ["from"]);
    let mut problems = Problems::default();
    let value = settings::parse("from = [\"score.a\", \"old.jsonl\"]", 0, &mut problems).unwrap();
    let form = AggregateForm::decode(&value, &mut problems).unwrap();
    assert_eq!(roles(super::stage(form, &mut problems).unwrap()), ["from.0", "from.1"]);
}
