use super::*;
use crate::diagnostic::Sources;
use crate::stage::{Earlier, InputSource, Kind};
use std::collections::BTreeMap;
use std::fs;

fn decode_text(text: &str) -> Result<Stage, String> {
    let mut sources = Sources::default();
    let file = sources.add("m.toml", text);
    let mut problems = Problems::default();
    let table = crate::settings::parse(text, file, &mut problems).unwrap();
    let stages = crate::stage::decode(Kind::Predict, table.as_table().unwrap(), table.span, &mut problems);
    let shown: String = problems.into_vec().iter().map(|problem| sources.render(problem)).collect();
    if shown.is_empty() { Ok(stages.unwrap().remove(0)) } else { Err(shown) }
}

fn recipe(text: &str) -> PredictRecipe {
    let text = format!("model = \"models/base\"\ndata = \"exam.jsonl\"\n{text}");
    match decode_text(&text).unwrap().recipe {
        Recipe::Predict(recipe) => recipe,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_the_papers_and_hints_stay_out_of_the_recipe() {
    let stage = decode_text("model = \"train.a[n=1]\"\ndata = \"mix.exam.test\"\nbatch_size = 4").unwrap();
    assert_eq!(stage.hints.batch_size, Some(4));
    assert_eq!(stage.recipe, Recipe::Predict(recipe("batch_size = 16")));
    let default = recipe("");
    assert_eq!((default.max_new_tokens, default.max_prompt_tokens, default.strip), (128, 512, true));
    assert_eq!((default.template, default.stop.0), (Template::AlpacaShort, vec!["###".to_string()]));
    let roles: Vec<(&str, Form)> = stage.inputs.iter().map(|input| (input.role.as_str(), input.form)).collect();
    assert_eq!(roles, [("model", Form::Model), ("data", Form::Rows)]);
    assert!(matches!(&stage.inputs[0].source, InputSource::Stage(reference) if reference.stage() == "train.a"));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let shown = decode_text("model = \"m\"\nmax_new_tokens = 0\nstop = [\"\"]\nbatch_size = 0\nbeams = 4").unwrap_err();
    for expected in [
        "`data` is missing",
        "`max_new_tokens` is 0: expected 1 to 65536",
        "a stop text is empty",
        "`batch_size` is 0: expected 1 to 4096",
        "unknown setting `beams`",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
}

#[test]
fn rows_that_the_template_cannot_be_filled_with_are_found_early() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exam.jsonl");
    fs::write(&path, "{\"instruction\":\"a\",\"input\":\"b\"}\n{\"question\":\"a\"}\n").unwrap();
    let inputs =
        [Input { role: "data".into(), labels: BTreeMap::new(), name: "data/exam.jsonl".into(), path: path.clone() }];
    let sources = Sources::default();
    let shown: String = check(&recipe(""), &inputs).iter().map(|problem| sources.render(problem)).collect();
    for expected in ["no column `instruction`", "--> data/exam.jsonl:2\n", "hint: the row has the columns `question`"] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    fs::write(&path, "{\"instruction\":\"a\"}\n").unwrap();
    assert_eq!(check(&recipe(""), &inputs), []);
}

#[cfg(feature = "candle")]
mod with_engine {
    use super::*;
    use crate::stage::heard::Heard;
    use std::path::Path;
    use std::path::PathBuf;

    fn run(recipe: &PredictRecipe, rows: &str, batch_size: u32) -> (String, serde_json::Value, Heard) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("exam.jsonl");
        fs::write(&data, rows).unwrap();
        let output = folder.path().join("out");
        fs::create_dir(&output).unwrap();
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/engine/llama");
        let input = |role: &str, path: &Path| Input {
            role: role.to_string(),
            labels: BTreeMap::new(),
            name: role.to_string(),
            path: path.to_path_buf(),
        };
        // Out of order, as any map of inputs may give them.
        let inputs = [input("model.1", &model.join("adapter")), input("data", &data), input("model.0", &model)];
        let (hints, events) = (Hints { batch_size: Some(batch_size), ..Hints::default() }, Heard::default());
        let context =
            Context { inputs: &inputs, output: &output, hints: &hints, earlier: &Earlier::default(), events: &events };
        crate::stage::execute(&Recipe::Predict(recipe.clone()), &context).unwrap();
        let summary = serde_json::from_slice(&fs::read(output.join("summary.json")).unwrap()).unwrap();
        (fs::read_to_string(output.join("predictions.jsonl")).unwrap(), summary, events)
    }

    fn rows(count: usize) -> String {
        let word = ["question", "short text", "model answers with numbers", "label"];
        let row = |i: usize| serde_json::json!({"id": i, "instruction": word[i % 4].repeat(1 + i % 3), "input": word[i % 3], "n": [i]});
        (0..count).map(|i| format!("{}\n", row(i))).collect()
    }

    #[test]
    fn rows_keep_their_columns_and_order_and_get_an_answer() {
        let (text, summary, events) = run(&recipe("max_new_tokens = 12"), &rows(9), 4);
        let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = ["id", "instruction", "input", "n", "prediction", "prompt_tokens", "new_tokens", "stop_reason"];
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(row["id"], index);
            assert_eq!(row.as_object().unwrap().keys().collect::<Vec<_>>(), expected);
            assert!(row["new_tokens"].as_u64().unwrap() <= 12 && row["prompt_tokens"].as_u64().unwrap() > 5);
        }
        let sum = |column: &str| rows.iter().map(|row| row[column].as_u64().unwrap()).sum::<u64>();
        assert_eq!((&summary["rows"], &summary["new_tokens"]), (&9.into(), &sum("new_tokens").into()));
        assert_eq!(summary["prompt_tokens"], sum("prompt_tokens"));
        let ended = ["eos", "stop", "length"].map(|reason| {
            assert_eq!(summary[reason], rows.iter().filter(|row| row["stop_reason"] == reason).count());
            summary[reason].as_u64().unwrap()
        });
        assert_eq!(ended.iter().sum::<u64>(), 9);
        assert_eq!(events.progress.borrow().last().map(|last| (last.done, last.total)), Some((9, 9)));
    }

    #[test]
    fn the_output_has_the_same_bytes_at_any_batch_size() {
        let recipe = recipe("max_new_tokens = 20");
        let (expected, ..) = run(&recipe, &rows(20), 1);
        for batch_size in [3, 16] {
            assert_eq!(run(&recipe, &rows(20), batch_size).0, expected);
        }
    }

    #[test]
    fn predicting_again_replaces_the_columns_and_cut_prompts_are_counted() {
        let (first, ..) = run(&recipe("max_new_tokens = 12"), &rows(3), 2);
        assert_eq!(run(&recipe("max_new_tokens = 12"), &first, 2).0, first);
        let (text, summary, events) = run(&recipe("max_new_tokens = 12\nmax_prompt_tokens = 40"), &rows(3), 2);
        let cut = summary["cut_prompts"].as_u64().unwrap();
        assert!(cut > 0, "{summary}");
        assert_eq!(events.warnings.borrow().len(), 1);
        assert!(text.lines().all(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["prompt_tokens"].as_u64().unwrap() <= 40
        }));
    }
}
