//! Tables against pandas and scipy, figures against the table, and the mistakes of a person.

use super::*;
use crate::diagnostic::{Problems, Sources};
use crate::settings::{self, Decode as _};
use crate::stage::heard::Heard;
use crate::stage::{Earlier, Hints, InputSource, Means, Recipe, Stage};
use serde_json::{Value as Json, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The stages that `text` (and a `from`) describes, the table's first, or the rendered problems.
fn stages(text: &str) -> Result<Vec<Stage>, String> {
    let mut sources = Sources::default();
    let text = format!("from = \"score.quality\"\n{text}");
    let file = sources.add("m.toml", &text);
    let mut problems = Problems::default();
    let value = settings::parse(&text, file, &mut problems).expect("syntax");
    let stages =
        crate::stage::decode(super::super::Kind::Aggregate, value.as_table().unwrap(), value.span, &mut problems);
    match stages {
        Some(stages) if problems.is_empty() => Ok(stages),
        _ => Err(problems.into_vec().iter().map(|problem| sources.render(problem)).collect()),
    }
}

fn stage(text: &str) -> Result<Stage, String> {
    stages(text).map(|mut stages| stages.remove(0))
}

fn recipe(text: &str) -> AggregateRecipe {
    match stage(text).unwrap().recipe {
        Recipe::Aggregate(recipe) => *recipe,
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

/// Draws the figures of an aggregate, each into a folder of its name.
fn draw(settings: &str, table: &TempDir) -> anyhow::Result<TempDir> {
    let output = TempDir::new()?;
    for stage in stages(settings).unwrap().into_iter().skip(1) {
        let (Recipe::Figure(recipe), Some(part)) = (&stage.recipe, &stage.part) else { panic!("{stage:?}") };
        let InputSource::Sibling(source) = stage.inputs[0].source else { panic!("{stage:?}") };
        let path = table.path().join(format!("{source}.parquet"));
        let input = Input { role: "table".into(), labels: Default::default(), name: source.into(), path };
        let folder = output.path().join(part.label().1);
        fs::create_dir(&folder)?;
        let context = Context {
            inputs: &[input],
            output: &folder,
            hints: &Hints::default(),
            earlier: &Earlier::default(),
            means: &Means::default(),
            root: Path::new("."),
            events: &Heard::default(),
        };
        figures::execute(recipe, &context)?;
    }
    Ok(output)
}

const FIGURES: &str = r#"
by = ["n", "task"]
unit = "run"
figures = [
  { kind = "line", x = "n", y = "em", series = "task", scale = "symlog" },
  { kind = "line", x = "n", y = ["em", "rouge"], series = "task", name = "all" },
  { kind = "scatter", x = "em", y = "rouge.rouge1" },
  { kind = "line", x = "n", y = "em", series = "task", where = "n > 0" },
  { kind = "heatmap", x = "n", y = "task", where = "metric == 'em'", name = "levels" },
]
"#;

#[test]
fn figures_show_the_table_and_are_the_same_every_time() {
    let inputs = &reference()["inputs"];
    let (first, second) = (aggregate(FIGURES, inputs).unwrap(), aggregate(FIGURES, inputs).unwrap());
    let (drawn, again) = (draw(FIGURES, &first).unwrap(), draw(FIGURES, &second).unwrap());
    let bytes = |folder: &TempDir, name: &str| fs::read(folder.path().join(name)).unwrap();
    for name in ["table.parquet", "table.csv", "table.md", "table.tex", "table.json", "wide.csv", "rows.parquet"] {
        assert_eq!(bytes(&first, name), bytes(&second, name), "{name}");
    }
    // The second of a name gets a number.
    for name in ["em", "all", "em-rouge.rouge1", "em-2"] {
        for ending in [".svg", "-dark.svg", ".png", "-dark.png", ".pdf"] {
            let name = format!("{name}/figure{ending}");
            assert_eq!(bytes(&drawn, &name), bytes(&again, &name), "{name}");
        }
    }
    assert!(bytes(&drawn, "em/figure.svg") != bytes(&drawn, "em-2/figure.svg"));
    let svg = read(&drawn, "em/figure.svg");
    // Three tasks at three values of n, and three samples in the legend; of three metrics and tasks; and cells of a metric.
    assert_eq!(svg.matches("class=\"point\"").count(), 9 + 3);
    assert_eq!(read(&drawn, "all/figure.svg").matches("class=\"point\"").count(), 27 + 9);
    assert_eq!(read(&drawn, "levels/figure.svg").matches("class=\"cell\"").count(), 9);
    assert!(svg.contains(">squad<") && svg.contains(">task<"), "{svg}");
}

#[test]
fn a_figure_reads_what_it_is_drawn_of() {
    let stages = stages(FIGURES).unwrap();
    let read = |stage: &Stage| stage.inputs[0].source.clone();
    assert_eq!(
        stages[1..].iter().map(read).collect::<Vec<_>>(),
        ["table", "table", "rows", "table", "table"].map(InputSource::Sibling)
    );
    let Recipe::Aggregate(recipe) = &stages[0].recipe else { panic!() };
    assert!(recipe.rows, "a figure of the rows has them kept");
    let names = |recipe: &Recipe| recipe.outputs().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&stages[1].recipe), ["svg", "svg-dark", "png", "png-dark", "pdf"]);
    assert_eq!(names(&stages[0].recipe), ["table", "csv", "json", "markdown", "latex", "wide", "rows"]);
    let problems = figures::check_metrics(&figure("{ kind = \"line\", x = \"n\", y = \"emm\" }"), &["em".to_string()]);
    assert!(problems[0].message.contains("a figure's `y` names `emm`, which no score has"), "{problems:?}");
}

fn figure(text: &str) -> crate::report::figure::FigureRecipe {
    match stages(&format!("by = \"n\"\nfigures = [{text}]")).unwrap().remove(1).recipe {
        Recipe::Figure(recipe) => *recipe,
        other => panic!("{other:?}"),
    }
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
    assert!(message.contains("known are `em`, `id`, `n`"), "{message}");
    let message = failure("metrics = [\"rouge1\"]", inputs);
    assert!(message.contains("no metric `rouge1`"), "{message}");
    let message = failure("where = \"n > 100\"", inputs);
    assert!(message.contains("no row is left") && message.contains("n > 100"), "{message}");
    let one = |row: Json| json!([{ "labels": { "n": 1, "scorer": "em" }, "rows": [row] }]);
    let message = failure("", &one(json!({ "id": "a", "n": 3, "scores": { "exact_match": 1.0 } })));
    assert!(message.contains("scores 0: column `n` is named like an axis"), "{message}");
    assert!(failure("", &one(json!({ "id": "a" }))).contains("the rows have no metric"));
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
    let drawn = |rest: &str| problem(&format!("by = [\"n\", \"task\"]\nfigures = [{{ kind = \"line\", {rest} }}]"));
    assert!(drawn("x = \"m\", y = \"em\", series = [\"n\", \"task\"]").contains("`m` is not in `by`"));
    assert!(drawn("x = \"n\", y = \"em\"").contains("add `task` to `series`"));
    assert!(drawn("x = \"n\", y = \"em\", series = [\"n\", \"task\"]").contains("both `x` and `series`"));
    let text = drawn("x = \"n\", y = \"em\", series = \"task\", scale = \"symlg\"");
    assert!(text.contains("did you mean `symlog`?"), "{text}");
}

#[test]
fn inputs_have_roles_of_their_own() {
    let roles = |stage: Stage| stage.inputs.into_iter().map(|input| input.role).collect::<Vec<_>>();
    assert_eq!(roles(stage("").unwrap()), ["from"]);
    let mut problems = Problems::default();
    let value = settings::parse("from = [\"score.a\", \"old.jsonl\"]", 0, &mut problems).unwrap();
    let form = AggregateForm::decode(&value, &mut problems).unwrap();
    let stages = super::stages(form, value.span, &mut problems).unwrap();
    assert_eq!(roles(stages.into_iter().next().unwrap()), ["from.0", "from.1"]);
}

/// The rows of `table.json`.
fn rows(output: &TempDir) -> Json {
    serde_json::from_str::<Json>(&read(output, "table.json")).unwrap()["rows"].clone()
}

/// Scores of two tasks: n = 0 and 10, two runs, three rows each.
fn tasks() -> Json {
    let mut inputs = Vec::new();
    for n in [0, 10] {
        for run in [1, 2] {
            let row = |id: u32, task: &str, em: f64, judge: Json| json!({ "id": id.to_string(), "task": task, "scores": { "em": em, "gpt4.score": judge, "gpt4.reference": 8.0 } });
            let base = f64::from(n) / 20.0 + f64::from(run) / 10.0;
            let rows = [
                row(1, "sst2", base, Json::Null),
                row(2, "sst2", base + 0.1, Json::Null),
                row(3, "xsum", 0.0, (4.0 * base).into()),
            ];
            inputs.push(json!({ "labels": { "n": n, "run": run }, "rows": rows }));
        }
    }
    Json::Array(inputs)
}

#[test]
fn columns_are_derived_and_the_first_that_has_a_value_counts() {
    let settings = r#"
by = ["task", "n"]
columns = { own = "em if task == 'sst2' else none", best = ["own", "gpt4.score / 10"], late = "best * 2" }
metrics = ["late"]
interval = "none"
"#;
    let found = rows(&aggregate(settings, &tasks()).unwrap());
    let mean = |row: usize| found[row][5].as_f64().unwrap();
    // sst2: means of em doubled; xsum: of 0.4 and 0.8, and of 2.4 and 2.8, a tenth, doubled.
    for (row, expected) in [0.4, 1.4, 0.12, 0.52].into_iter().enumerate() {
        assert!((mean(row) - expected).abs() < 1e-12, "{found}");
    }
    let message = failure("columns = { a = \"b + 1\", b = \"a + 1\" }", &tasks());
    assert!(message.contains("the columns `a`, `b` are derived of each other"), "{message}");
    let message = failure("columns = { a = \"emm + 1\" }", &tasks());
    assert!(message.contains("column `a`: `emm + 1` names `emm`, which is no column: did you mean `em`?"), "{message}");
}

#[test]
fn groups_are_held_against_a_level() {
    let settings = r#"
by = ["task", "n"]
unit = "run"
metrics = ["em"]
relative_to = { n = 0 }
smooth = { over = "n", alpha = 0.25 }
rank = { of = "n", best = "low" }
values = ["median", "q75", "standard_error", "sum"]
"#;
    let output = aggregate(settings, &tasks()).unwrap();
    let table: Json = serde_json::from_str(&read(&output, "table.json")).unwrap();
    let cell = |row: usize, name: &str| {
        let place = table["columns"].as_array().unwrap().iter().position(|column| column == name).unwrap();
        table["rows"][row][place].clone()
    };
    let close = |found: Json, expected: f64| (found.as_f64().unwrap() - expected).abs() < 1e-12;
    // sst2: runs of 0.15 and 0.25, then of 0.65 and 0.75.
    assert!(close(cell(1, "difference"), 0.5) && close(cell(1, "relative"), 2.5), "{table}");
    assert!(close(cell(0, "smoothed"), 0.2) && close(cell(1, "smoothed"), 0.2 + 0.25 * 0.5), "{table}");
    assert_eq!((cell(0, "rank"), cell(1, "rank"), cell(2, "rank")), (json!(1.0), json!(2.0), json!(1.5)));
    assert!(close(cell(0, "median"), 0.2) && close(cell(0, "q75"), 0.225) && close(cell(0, "sum"), 0.4), "{table}");
    assert!(close(cell(0, "standard_error"), 0.05), "{table}");
    // xsum is 0 at n = 0: nothing can be said relative to it.
    assert_eq!((cell(3, "relative"), cell(3, "difference")), (Json::Null, json!(0.0)));
    let message = failure("by = \"n\"\nrelative_to = { n = 1 }", &tasks());
    assert!(message.contains("`relative_to`: `n` has no value `1`: did you mean `10`?"), "{message}");
}

#[test]
fn rows_are_limited_before_groups_are_made() {
    let count = |settings: &str, row: usize| {
        let found =
            rows(&aggregate(&format!("by = [\"task\", \"n\"]\nmetrics = \"em\"\n{settings}"), &tasks()).unwrap());
        found[row][3].as_u64().unwrap()
    };
    assert_eq!(count("", 0), 4);
    // The first row of each instance is one of sst2.
    assert_eq!(count("first = 1", 0), 2);
    assert_eq!(count("first = 1\nfirst_per = \"task\"", 2), 2);
    assert_eq!(count("at_most = { run = 1 }", 0), 2);
    assert_eq!(count("where = \"not (task == 'sst2' and n == 0 and run == 2)\"", 0), 2);
    assert_eq!(count("where = \"row['gpt4.score'] is none\"", 0), 4);
}

#[test]
fn a_ratio_of_means_is_no_mean_of_ratios() {
    let settings = r#"
ratios = { of_means = ["gpt4.score", "gpt4.reference"] }
columns = { of_rows = "gpt4.score / gpt4.reference" }
metrics = ["of_rows"]
"#;
    let mut inputs = tasks();
    inputs[0]["rows"][2]["scores"]["gpt4.reference"] = json!(4.0);
    let found = rows(&aggregate(settings, &inputs).unwrap());
    // Scores 0.4, 0.8, 2.4, 2.8; references 4, 8, 8, 8.
    let expected = [("of_rows", (0.1 + 0.1 + 0.3 + 0.35) / 4.0), ("of_means", 6.4 / 28.0)];
    for (row, (name, expected)) in expected.into_iter().enumerate() {
        assert_eq!((&found[row][0], &found[row][1]), (&json!(name), &json!(4)));
        assert!((found[row][3].as_f64().unwrap() - expected).abs() < 1e-12, "{found}");
        let (low, high) = (found[row][5].as_f64().unwrap(), found[row][6].as_f64().unwrap());
        assert!(low < expected && expected < high, "{found}");
    }
}

#[test]
fn intervals_are_over_rows_runs_or_both() {
    let width = |settings: &str| {
        let found = rows(&aggregate(&format!("by = \"n\"\nmetrics = \"em\"\n{settings}"), &tasks()).unwrap());
        found[0][7].as_f64().unwrap() - found[0][6].as_f64().unwrap()
    };
    // 0.1, 0.2, 0; 0.2, 0.3, 0: t(0.975, 5) · 0.1211 / √6, twice.
    assert!((width("") - 0.254_183).abs() < 1e-5, "{}", width(""));
    let (percentile, bca) = (width("interval = \"percentile\""), width("interval = \"bca\""));
    assert!(
        (0.12..0.21).contains(&percentile) && (0.1..0.25).contains(&bca) && percentile != bca,
        "{percentile} {bca}"
    );
    let runs = width("unit = \"run\"\ninterval = \"percentile\"");
    let both = width("unit = [\"run\", \"row\"]");
    assert!(runs < both, "{runs} {both}: rows are drawn, too");
    let output = aggregate("by = \"n\"\ninterval = \"none\"", &tasks()).unwrap();
    assert_eq!(rows(&output)[0][6], Json::Null);
}

/// Aggregates files of any form, by role.
fn of_files(settings: &str, files: &[(&str, &str, &str)]) -> anyhow::Result<(TempDir, Vec<String>)> {
    let (data, output, heard) = (TempDir::new()?, TempDir::new()?, Heard::default());
    let input = |(role, name, text): &(&str, &str, &str)| {
        let path = data.path().join(name);
        fs::write(&path, text).unwrap();
        let labels = if role.ends_with('1') { [("n".to_string(), json!(5))].into() } else { Default::default() };
        Input { role: (*role).to_string(), labels, name: (*name).to_string(), path }
    };
    let inputs: Vec<Input> = files.iter().map(input).collect();
    let context = Context {
        inputs: &inputs,
        output: output.path(),
        hints: &Hints::default(),
        earlier: &Earlier::default(),
        means: &Means::default(),
        root: Path::new("."),
        events: &heard,
    };
    execute(&recipe(settings), &context)?;
    Ok((output, heard.warnings.into_inner()))
}

#[test]
fn files_are_joined_on_columns_or_put_one_below_the_other() {
    let scores = (
        "from.1",
        "scores.jsonl",
        "{\"id\":\"a\",\"doc\":1,\"scores\":{\"em\":1}}\n{\"id\":\"b\",\"doc\":2,\"scores\":{\"em\":0}}\n",
    );
    let human = ("from.2", "human.csv", "doc,human\n2,4\n1,3\n7,9\n");
    let (output, warnings) =
        of_files("join = \"doc\"\nmetrics = [\"human\", \"em\"]\nby = \"doc\"", &[scores, human]).unwrap();
    assert_eq!(rows(&output)[0], json!([1, "human", 1, 0, 3.0, null, null, null]));
    assert_eq!(warnings, ["0 of 2 rows have no partner in `human.csv`, and 1 of its 3 rows are joined to none"]);
    let message = of_files("", &[scores, human]).unwrap_err().to_string();
    assert!(
        message.contains("`human.csv` shares neither axes nor row ids") && message.contains("`doc`, `human`"),
        "{message}"
    );
    let (output, _) = of_files("union = true\nmetrics = [\"em\", \"human\"]", &[scores, human]).unwrap();
    assert_eq!((rows(&output)[0][1].clone(), rows(&output)[1][1].clone()), (json!(2), json!(3)));

    // Predictions meet the scores on axes and row ids; a table of groups on its axes.
    let predictions = (
        "from.31",
        "p.jsonl",
        "{\"id\":\"b\",\"prediction\":\"x y\",\"tokens\":7}\n{\"id\":\"a\",\"prediction\":\"z\",\"tokens\":5}\n",
    );
    let (output, warnings) =
        of_files("columns = { ratio = \"em / tokens\" }\nmetrics = \"ratio\"", &[scores, predictions]).unwrap();
    assert_eq!((rows(&output)[0][3].clone(), warnings.len()), (json!(0.1), 0));
    let stats = ("from.41", "stats.json", "{\"train\":{\"rows\":40}}");
    let (output, _) = of_files("by = \"train.rows\"\nmetrics = \"em\"", &[scores, stats]).unwrap();
    assert_eq!(rows(&output)[0].as_array().unwrap()[..4], [json!(40), json!("em"), json!(2), json!(0)]);

    // A lone file: its columns of numbers are metrics.
    let (output, _) = of_files("by = \"task\"", &[("from", "a.csv", "task,x,note\na,1,p\na,2,q\n")]).unwrap();
    assert_eq!(rows(&output), json!([["a", "x", 2, 0, 1.5, 0.5_f64.sqrt(), rows(&output)[0][6], rows(&output)[0][7]]]));
    let (_, warnings) =
        of_files("by = \"task\"", &[("from", "a.jsonl", "{\"task\":1,\"x\":1}\n{\"task\":\"b\",\"x\":1}\n")]).unwrap();
    assert_eq!(warnings, ["a.jsonl: `task` holds values of several kinds: they are taken as texts"]);
}

#[test]
fn rows_are_kept_where_that_is_asked() {
    let output = aggregate("rows = true\nwhere = \"n == 10\"", &tasks()).unwrap();
    let path = output.path().join("rows.parquet");
    let found = crate::frame::read(&path, "rows", crate::frame::Wanted::All).unwrap();
    assert_eq!(found.frame.rows(), 6);
    let names: Vec<&str> = found.frame.names().collect();
    for name in ["n", "run", "id", "task", "em", "gpt4.score"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.contains(&"#"), "{names:?}");
    assert!(!aggregate("", &tasks()).unwrap().path().join("rows.parquet").exists());
}
