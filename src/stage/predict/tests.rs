use super::*;
use crate::diagnostic::Sources;
use crate::stage::{InputSource, Kind};
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

pub(super) fn recipe(text: &str) -> PredictRecipe {
    let text = format!("model = \"models/base\"\ndata = \"exam.jsonl\"\n{text}");
    match decode_text(&text).unwrap().recipe {
        Recipe::Predict(recipe) => *recipe,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_the_papers_and_hints_stay_out_of_the_recipe() {
    let stage = decode_text("model = \"train.a[n=1]\"\ndata = \"mix.exam.test\"\nbatch_size = 4").unwrap();
    assert_eq!(stage.hints.batch_size, Some(4));
    assert_eq!(stage.recipe, Recipe::Predict(Box::new(recipe("batch_size = 16"))));
    let default = recipe("");
    assert_eq!((default.max_new_tokens, default.max_prompt_tokens, default.strip), (128, 512, true));
    assert_eq!((default.template, default.stop.0), (Template::AlpacaShort, vec!["###".to_string()]));
    let roles: Vec<(&str, Form)> = stage.inputs.iter().map(|input| (input.role.as_str(), input.form)).collect();
    assert_eq!(roles, [("model", Form::Model), ("data", Form::Rows)]);
    assert!(matches!(&stage.inputs[0].source, InputSource::Stage(reference) if reference.stage() == "train.a"));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let shown =
        decode_text("model = \"m\"\nmax_new_tokens = 70000\nstop = [\"\"]\nbatch_size = 0\nbeam = 4").unwrap_err();
    for expected in [
        "`data` is missing",
        "`max_new_tokens` is 70000: expected 0 to 65536",
        "a stop text is empty",
        "`batch_size` is 0: expected 1 to 4096",
        "unknown setting `beam`",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
}

#[test]
fn settings_that_say_nothing_new_change_no_key() {
    let default = recipe("");
    assert_eq!(recipe("seed = 7\ntoo_long = \"cut\"\nsamples = 1\nbase_precision = \"f32\""), default);
    assert_eq!(Recipe::Predict(Box::new(default.clone())).holds(), None);
    let held = Recipe::Predict(Box::new(recipe("base_precision = \"int8\"")));
    assert_eq!(held.holds(), Some(("model", "int8")));
    let json = serde_json::to_value(&default).unwrap();
    let set: Vec<&String> =
        json.as_object().unwrap().iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name).collect();
    assert_eq!(set, ["max_new_tokens", "max_prompt_tokens", "template", "stop", "strip"]);
    let drawn = recipe("seed = 7\nsample = { top_p = 0.9 }\nsamples = 3");
    assert_eq!((drawn.seed, drawn.samples), (Some(7), Some(3)));
    assert_eq!(drawn.sample, Some(Sample { temperature: 1.0, top_k: None, top_p: Some(0.9), min_p: None }));
}

#[test]
fn beams_candidates_and_tokens_have_short_forms() {
    let beams = |early_stopping, length_penalty| Some(Beams(BeamSettings { width: 4, length_penalty, early_stopping }));
    assert_eq!(recipe("beams = 4").beams, beams(EarlyStopping::Likely, 1.0));
    let never = recipe("beams = { width = 4, length_penalty = 0.5, early_stopping = \"never\" }").beams;
    assert_eq!(never, beams(EarlyStopping::Never, 0.5));
    assert_eq!(recipe("beams = { width = 4, early_stopping = true }").beams, beams(EarlyStopping::Always, 1.0));
    let Some(Candidates(list)) = recipe("candidates = [\"yes\", \"no\"]").candidates else { panic!() };
    assert_eq!((list.texts, list.by), (Some(vec!["yes".to_string(), "no".to_string()]), Measure::Sum));
    let tokens = recipe("stop_tokens = [\"<|eot|>\", 7]").stop_tokens.unwrap();
    assert_eq!(tokens, [Token::Text("<|eot|>".to_string()), Token::Id(7)]);
    // As workers get it.
    let written = recipe("beams = { width = 4, early_stopping = true }\nstop_tokens = [\"a\", 7]\nsamples = 2");
    let json = serde_json::to_string(&written).unwrap();
    assert_eq!(serde_json::from_str::<PredictRecipe>(&json).unwrap(), written);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (text, expected) in [
        ("sample = {}\nbeams = 2", "`sample` and `beams` stand together"),
        ("samples = 3", "`samples` is 3, but the likeliest answer is always the same"),
        ("samples = 3\nbeams = 2", "`samples` is 3, but there are 2 beams"),
        ("min_new_tokens = 9\nmax_new_tokens = 8", "`min_new_tokens` is 9, but `max_new_tokens` is 8"),
        ("candidates = [\"a\"]\nbeams = 2", "`candidates` stand beside settings of generated answers"),
        ("max_new_tokens = 0", "neither `candidates` nor `perplexity`"),
        ("candidates = []", "the list of candidates is empty"),
        ("candidates = [\"a\", \"a\"]", "candidate `a` is there twice"),
        ("candidates = {}", "neither `texts` nor a `column`"),
        ("candidates = { texts = [\"a\"], column = \"b\" }", "one of them"),
        ("beams = 0", "`beams` is 0: expected 1 to 256"),
        ("beams = { width = 2, early_stopping = \"now\" }", "expected true, false or \"never\""),
        ("sample = { temperature = 0.0 }", "`temperature` is 0: expected 0.001 to 1000"),
        ("sample = { top_p = 1.5 }", "`top_p` is 1.5: expected 0 to 1"),
        ("stop_tokens = [-1]", "`-1` is out of range"),
        ("stop_tokens = [true]", "expected a token's text or id"),
        ("too_long = \"cutleft\"", "did you mean `cut_left`?"),
    ] {
        let shown = decode_text(&format!("model = \"m\"\ndata = \"d.jsonl\"\n{text}")).unwrap_err();
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
    for (settings, column) in [("perplexity = \"output\"", "output"), ("candidates = { column = \"c\" }", "c")] {
        let shown: String = check(&recipe(settings), &inputs).iter().map(|problem| sources.render(problem)).collect();
        assert!(shown.contains(&format!("the row has no `{column}`")), "{shown}");
    }
}

#[cfg(feature = "candle")]
mod with_engine {
    use super::*;
    use crate::stage::heard::Heard;
    use crate::stage::{Earlier, Means};
    use std::path::Path;
    use std::path::PathBuf;

    fn run(recipe: &PredictRecipe, rows: &str, batch_size: u32) -> (String, serde_json::Value, Heard) {
        run_after(&Earlier::default(), recipe, rows, batch_size)
    }

    fn run_after(
        earlier: &Earlier,
        recipe: &PredictRecipe,
        rows: &str,
        batch_size: u32,
    ) -> (String, serde_json::Value, Heard) {
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/engine/llama");
        run_of(&model, &Means::default(), earlier, recipe, rows, batch_size)
    }

    fn run_of(
        model: &Path,
        means: &Means,
        earlier: &Earlier,
        recipe: &PredictRecipe,
        rows: &str,
        batch_size: u32,
    ) -> (String, serde_json::Value, Heard) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("exam.jsonl");
        fs::write(&data, rows).unwrap();
        let output = folder.path().join("out");
        fs::create_dir(&output).unwrap();
        let input = |role: &str, path: &Path| Input {
            role: role.to_string(),
            labels: BTreeMap::new(),
            name: role.to_string(),
            path: path.to_path_buf(),
        };
        // Out of order, as any map of inputs may give them.
        let inputs = [input("model.1", &model.join("adapter")), input("data", &data), input("model.0", model)];
        let (hints, events) = (Hints { batch_size: Some(batch_size), ..Hints::default() }, Heard::default());
        let context = Context {
            inputs: &inputs,
            output: &output,
            hints: &hints,
            earlier,
            means,
            root: std::path::Path::new("."),
            events: &events,
        };
        crate::stage::execute(&Recipe::Predict(Box::new(recipe.clone())), &context).unwrap();
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
    fn one_changed_row_costs_one_row_and_the_bytes_are_those_of_a_run_from_nothing() {
        for settings in
            ["", "sample = {}\nseed = 3\nsamples = 2", "candidates = [\" yes\", \" no\"]\nperplexity = \"text\""]
        {
            let folder = tempfile::tempdir().unwrap();
            let earlier = Earlier { rows: Some(folder.path().join("rows")), ..Earlier::default() };
            let recipe = recipe(
                &format!("max_new_tokens = 8\nlog_probabilities = \"tokens\"\n{settings}")
                    .replace("log_probabilities = \"tokens\"\ncandidates", "candidates"),
            );
            let (first, ..) = run_after(&earlier, &recipe, &rows(8), 3);
            assert_eq!(first, run(&recipe, &rows(8), 3).0, "{settings}");
            // All is there already, whatever the batch.
            let (again, _, heard) = run_after(&earlier, &recipe, &rows(8), 16);
            assert_eq!((again, heard.progress.borrow().len()), (first, 0), "{settings}");
            let changed = rows(8).replacen("\"input\":\"short text\"", "\"input\":\"another text\"", 1);
            assert_ne!(changed, rows(8));
            let (text, _, heard) = run_after(&earlier, &recipe, &changed, 3);
            assert_eq!(text, run(&recipe, &changed, 3).0, "{settings}");
            // A candidate's likelihood and a text's perplexity are two answers.
            let answers = if settings.contains("perplexity") { 2 } else { 1 };
            assert_eq!(heard.progress.borrow().len(), answers, "{settings}");
        }
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
    fn what_is_held_answers_the_same_alone_and_among_others_and_not_as_what_is_not() {
        let plain = run(&recipe("max_new_tokens = 20\nlog_probabilities = \"sum\""), &rows(20), 1).0;
        for precision in ["bf16", "int8", "nf4"] {
            let settings =
                format!("max_new_tokens = 20\nlog_probabilities = \"sum\"\nbase_precision = \"{precision}\"");
            let (expected, ..) = run(&recipe(&settings), &rows(20), 1);
            assert_ne!(expected, plain, "{precision}");
            for batch_size in [3, 16] {
                assert_eq!(run(&recipe(&settings), &rows(20), batch_size).0, expected, "{precision}");
            }
        }
    }

    #[test]
    fn a_held_base_is_there_for_the_next_job_that_begins_with_it() {
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/engine/llama");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("adapter")).unwrap();
        for place in ["", "adapter"] {
            for entry in fs::read_dir(golden.join(place)).unwrap().map(Result::unwrap) {
                let to = folder.path().join(place).join(entry.file_name());
                if entry.path().is_file() {
                    fs::copy(entry.path(), to).unwrap();
                }
            }
        }
        let kept = crate::stage::Kept::default();
        let answers = |key: &[u8], settings: &str| {
            let means = Means { kept: kept.under(Some(crate::key::Digest::of(key))), ..Means::default() };
            run_of(folder.path(), &means, &Earlier::default(), &recipe(settings), &rows(5), 4)
        };
        let (first, _, heard) = answers(b"int8", "base_precision = \"int8\"");
        assert!(heard.log.borrow()[0].starts_with("the model was loaded in"), "{:?}", heard.log);
        fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        let (again, _, heard) = answers(b"int8", "base_precision = \"int8\"");
        assert_eq!(*heard.log.borrow(), ["the model was there: an earlier job loaded it"]);
        assert_eq!(again, first);
        assert_eq!(run(&recipe("base_precision = \"int8\""), &rows(5), 4).0, first);
        // Without its adapter it answers otherwise: the base itself was not changed by the adapter before.
        fs::remove_file(folder.path().join("adapter/adapter_config.json")).unwrap();
        fs::write(folder.path().join("adapter/unchanged.json"), "{}").unwrap();
        assert_ne!(answers(b"int8", "base_precision = \"int8\"").0, first);
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

    fn parsed(text: &str) -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn sampled_and_searched_answers_have_the_same_bytes_at_any_batch_size_and_order() {
        let reversed: String = rows(20).lines().rev().map(|line| format!("{line}\n")).collect();
        for settings in [
            "sample = { temperature = 0.9, top_p = 0.95 }\nsamples = 3\nlog_probabilities = \"sum\"",
            "beams = 3\nsamples = 2\nlog_probabilities = \"tokens\"",
            "candidates = [\" yes\", \" no\", \" maybe\"]\nperplexity = \"text\"",
        ] {
            let recipe = recipe(&format!("max_new_tokens = 12\nseed = 3\n{settings}"));
            let (expected, ..) = run(&recipe, &rows(20), 1);
            for batch_size in [3, 16] {
                assert_eq!(run(&recipe, &rows(20), batch_size).0, expected, "{settings}");
            }
            let mut back = parsed(&run(&recipe, &reversed, 16).0);
            back.sort_by_key(|row| (row["id"].as_u64(), row["sample"].as_u64()));
            assert_eq!(back, parsed(&expected), "{settings}");
        }
    }

    #[test]
    fn every_sample_is_a_row() {
        let recipe = recipe("max_new_tokens = 8\nseed = 3\nsample = {}\nsamples = 4\nlog_probabilities = \"tokens\"");
        let (text, summary, _) = run(&recipe, &rows(5), 32);
        let rows = parsed(&text);
        let numbers: Vec<(u64, u64)> =
            rows.iter().map(|row| (row["id"].as_u64().unwrap(), row["sample"].as_u64().unwrap())).collect();
        assert_eq!(numbers, (0..5).flat_map(|id| (0..4).map(move |sample| (id, sample))).collect::<Vec<_>>());
        assert_eq!(summary["rows"], 5);
        for row in &rows {
            let values = row["token_log_probabilities"].as_array().unwrap();
            let sum: f64 = values.iter().map(|value| value.as_f64().unwrap()).sum();
            assert_eq!(row["log_probability"], sum);
            let ended_by_token = u64::from(row["stop_reason"] == "eos");
            assert_eq!(values.len() as u64, row["new_tokens"].as_u64().unwrap() + ended_by_token);
        }
        let other = run(&PredictRecipe { seed: Some(4), ..recipe }, &self::rows(5), 32).0;
        assert_ne!(other, text);
    }

    #[test]
    fn the_likeliest_candidate_answers_and_all_are_kept() {
        let recipe = recipe("candidates = { texts = [\" yes\", \" no\"], by = \"mean\", end_of_text = true }");
        let (text, summary, _) = run(&recipe, &rows(9), 4);
        for row in parsed(&text) {
            let all = row["candidates"].as_array().unwrap();
            let mean = |candidate: &serde_json::Value| {
                candidate["log_probability"].as_f64().unwrap() / candidate["tokens"].as_f64().unwrap()
            };
            let best = if mean(&all[1]) > mean(&all[0]) { " no" } else { " yes" };
            assert_eq!(row["prediction"], best);
            let shares: f64 = all.iter().map(|candidate| candidate["share"].as_f64().unwrap()).sum();
            assert!((shares - 1.0).abs() < 1e-6 && all.iter().all(|candidate| mean(candidate) < 0.0));
        }
        assert_eq!((&summary["new_tokens"], &summary["reference"]), (&0.into(), &serde_json::Value::Null));
    }

    #[test]
    fn perplexity_alone_answers_nothing() {
        let data: String =
            rows(6).lines().map(|line| format!("{},\"output\":\"short text\"}}\n", &line[..line.len() - 1])).collect();
        let (text, summary, _) = run(&recipe("max_new_tokens = 0\nperplexity = \"output\""), &data, 4);
        let rows = parsed(&text);
        assert!(rows.iter().all(|row| row.get("prediction").is_none() && row["perplexity"].as_f64().unwrap() > 1.0));
        let sum: f64 = rows.iter().map(|row| row["reference_log_probability"].as_f64().unwrap()).sum();
        let tokens: u64 = rows.iter().map(|row| row["reference_tokens"].as_u64().unwrap()).sum();
        assert_eq!(summary["reference"]["tokens"], tokens);
        let expected = (-sum / tokens as f64).exp();
        assert!((summary["reference"]["perplexity"].as_f64().unwrap() / expected - 1.0).abs() < 1e-5);
        // With an answer beside it, both are there.
        let (text, ..) = run(&recipe("max_new_tokens = 4\nperplexity = \"output\""), &data, 4);
        for (both, alone) in parsed(&text).iter().zip(&rows) {
            assert_eq!((&both["perplexity"], both["new_tokens"].is_u64()), (&alone["perplexity"], true));
        }
    }

    #[test]
    fn rows_with_prompts_that_are_too_long_are_left_out_where_asked() {
        let settings = "max_new_tokens = 4\nmax_prompt_tokens = 40\ntoo_long = \"skip\"";
        let (text, summary, events) = run(&recipe(settings), &rows(12), 4);
        let (kept, skipped) = (parsed(&text).len() as u64, summary["skipped"].as_u64().unwrap());
        assert!(kept > 0 && skipped > 0 && kept + skipped == 12 && summary["rows"] == kept);
        let warnings = events.warnings.borrow();
        assert_eq!(*warnings, [format!("{skipped} of 12 rows were left out: their prompts are too long")]);
    }

    #[test]
    fn stop_tokens_that_the_model_lacks_are_found_early() {
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/engine/llama");
        let input = Input { role: "model.0".into(), labels: BTreeMap::new(), name: "llama".into(), path: model };
        let sources = Sources::default();
        let shown = |settings: &str| -> String {
            let problems = check(&recipe(settings), std::slice::from_ref(&input));
            problems.iter().map(|problem| sources.render(problem)).collect()
        };
        assert_eq!(shown("stop_tokens = [\"</s>\", 319]"), "");
        assert!(shown("stop_tokens = [\"<|eot|>\"]").contains("`<|eot|>` is no token of the model"));
        assert!(shown("stop_tokens = [320]").contains("stop token 320 does not exist"));
    }
}
