//! Whole train stages on small rows: what they write, and that the same recipe writes the same bytes.

use super::super::check;
use super::*;
use crate::diagnostic::Diagnostic;
use crate::settings::parse;
use crate::stage::heard::Heard;
use crate::stage::{Hints, Input, Kind, Recipe};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn recipe(text: &str) -> TrainRecipe {
    let mut problems = crate::diagnostic::Problems::default();
    let value = parse(text, 0, &mut problems).unwrap();
    let stages = crate::stage::decode(Kind::Train, value.as_table().unwrap(), value.span, &mut problems);
    match stages.unwrap_or_else(|| panic!("{problems:?}")).remove(0).recipe {
        Recipe::Train(recipe) => *recipe,
        other => panic!("{other:?}"),
    }
}

fn new_model() -> TrainRecipe {
    recipe(
        "data = 'mix.a'\nepochs = 4\nbatch_size = 4\nmicro_batch_size = 3\nlearning_rate = 1e-2\n\
         tokenizer = { bpe = 300 }\n\
         architecture = { hidden_size = 16, layers = 2, heads = 2, intermediate_size = 24, max_positions = 128 }",
    )
}

fn adapter() -> TrainRecipe {
    recipe("data = 'mix.a'\nbase = 'b'\nmax_steps = 3\nbatch_size = 4\nlora = { r = 2 }\nwhen_empty = 'base'")
}

fn input(role: &str, path: PathBuf) -> Input {
    Input { role: role.to_string(), labels: BTreeMap::new(), name: format!("the {role}"), path }
}

/// Rows whose answer is their input.
fn rows(folder: &Path, count: usize) -> PathBuf {
    let path = folder.join(format!("{count}.jsonl"));
    let line =
        |index: usize| format!("{{\"instruction\":\"Repeat.\",\"input\":\"w{index}\",\"output\":\"w{index}\"}}\n");
    fs::write(&path, (0..count).map(line).collect::<String>()).unwrap();
    path
}

/// Runs a stage into a new folder; gives the files' bytes by path.
fn run(recipe: &TrainRecipe, inputs: &[Input], output: &Path) -> anyhow::Result<(BTreeMap<String, Vec<u8>>, Heard)> {
    run_with(recipe, &Hints::default(), inputs, output)
}

fn run_with(
    recipe: &TrainRecipe,
    hints: &Hints,
    inputs: &[Input],
    output: &Path,
) -> anyhow::Result<(BTreeMap<String, Vec<u8>>, Heard)> {
    fs::create_dir_all(output).unwrap();
    let events = Heard::default();
    execute(recipe, &Context { inputs, output, hints, events: &events })?;
    let mut files = BTreeMap::new();
    for folder in [output.to_path_buf(), output.join("model")] {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            let name = entry.path().strip_prefix(output).unwrap().display().to_string();
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    Ok((files, events))
}

#[test]
fn a_chain_of_a_new_model_and_two_adapters() {
    let folder = tempfile::tempdir().unwrap();
    let data = input("data", rows(folder.path(), 10));
    let validation = input("validation", rows(folder.path(), 3));
    let inputs = [data.clone(), validation.clone()];
    let (files, heard) = run(&new_model(), &inputs, &folder.path().join("base")).unwrap();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        "metrics.jsonl",
        "model/config.json",
        "model/generation_config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
        "summary.json",
    ];
    assert_eq!(names, expected);
    // Ten rows in batches of four: three steps and an evaluation per epoch.
    let metrics: Vec<Value> = std::str::from_utf8(&files["metrics.jsonl"])
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(metrics.len(), 4 * 4);
    assert!(metrics[0]["loss"].as_f64().unwrap() > metrics[14]["loss"].as_f64().unwrap());
    assert_eq!(heard.progress.borrow().last().unwrap().done, 12);
    let (again, _) = run(&new_model(), &inputs, &folder.path().join("again")).unwrap();
    assert_eq!(files, again);

    let base = input("base.0", folder.path().join("base/model"));
    let inputs = [data.clone(), base.clone()];
    assert_eq!(check(&adapter(), &inputs), []);
    let (files, _) = run(&adapter(), &inputs, &folder.path().join("first")).unwrap();
    assert!(files.contains_key("model/adapter_model.safetensors"));
    let text = String::from_utf8_lossy(&files["model/adapter_config.json"]).into_owned();
    assert!(!text.contains(folder.path().to_str().unwrap()), "{text}");
    let on_top = [data, base, input("base.1", folder.path().join("first/model"))];
    assert_eq!(check(&adapter(), &on_top), []);
    let (second, _) = run(&adapter(), &on_top, &folder.path().join("second")).unwrap();
    assert_ne!(files["metrics.jsonl"], second["metrics.jsonl"], "the first adapter is not under the second");
}

/// A training of every setting goes through its files, and `checkpoint_blocks` changes no byte.
#[test]
fn trainings_with_other_settings_write_what_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    run(&new_model(), &[input("data", rows(folder.path(), 10))], &folder.path().join("base")).unwrap();
    let base = folder.path().join("base/model");
    let inputs = [
        input("data", rows(folder.path(), 20)),
        input("validation", rows(folder.path(), 9)),
        input("base.0", base.clone()),
    ];
    let common = "data = { train = 'a', validation = 'b' }\nbase = 'b'\nmax_steps = 4\nbatch_size = 2\n";
    let mut seen = Vec::new();
    for (name, text) in [
        ("plain", "lora = { targets = 'all-linear' }"),
        ("dora", "lora = { dora = true, rslora = true, targets = '.*proj', rank_pattern = { q_proj = 3 } }"),
        ("saved", "lora = { modules_to_save = ['norm'], bias = 'all' }"),
        ("packed", "lora = {}\npacking = true"),
        ("grouped", "lora = {}\ngroup_by_length = true"),
        ("int8", "lora = {}\nbase_precision = 'int8'"),
        ("nf4", "lora = { dora = true }\nbase_precision = 'nf4'\nvalidation_first = 4"),
    ] {
        let recipe = recipe(&format!("{common}{text}"));
        assert_eq!(check(&recipe, &inputs), [], "{name}");
        let (files, _) = run(&recipe, &inputs, &folder.path().join(name)).unwrap();
        Model::load(&[&base, &folder.path().join(name).join("model")]).unwrap();
        let hints = Hints { checkpoint_blocks: true, ..Hints::default() };
        let (again, _) = run_with(&recipe, &hints, &inputs, &folder.path().join(name).join("again")).unwrap();
        assert!(files == again, "{name}: blocks that are computed again change the bytes");
        let summary: Value = serde_json::from_slice(&files["summary.json"]).unwrap();
        assert_eq!(summary["validation_rows"], if name == "nf4" { 4 } else { 9 });
        assert!(!seen.contains(&files["metrics.jsonl"]), "{name} learns as another does");
        seen.push(files["metrics.jsonl"].clone());
    }
}

#[test]
fn without_rows_the_base_is_left_or_an_error_said() {
    let folder = tempfile::tempdir().unwrap();
    run(&new_model(), &[input("data", rows(folder.path(), 10))], &folder.path().join("base")).unwrap();
    let base = input("base.0", folder.path().join("base/model"));
    let none = [input("data", rows(folder.path(), 0)), base.clone()];
    let (files, _) = run(&adapter(), &none, &folder.path().join("unchanged")).unwrap();
    assert_eq!(
        files.keys().map(String::as_str).collect::<Vec<_>>(),
        ["metrics.jsonl", "model/unchanged.json", "summary.json"]
    );
    Model::load(&[&base.path, &folder.path().join("unchanged/model")]).unwrap();

    let whole = TrainRecipe { lora: None, ..adapter() };
    let (files, _) = run(&whole, &none, &folder.path().join("copy")).unwrap();
    assert_eq!(files["model/model.safetensors"], fs::read(base.path.join("model.safetensors")).unwrap());

    let strict = TrainRecipe { when_empty: WhenEmpty::Error, ..adapter() };
    let error = run(&strict, &none, &folder.path().join("error")).unwrap_err().to_string();
    assert!(error.contains("no rows") && error.contains("when_empty"), "{error}");
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    run(&new_model(), &[input("data", rows(folder.path(), 10))], &folder.path().join("base")).unwrap();
    let base = folder.path().join("base/model");
    let inputs = |data: &Path| [input("data", data.to_path_buf()), input("base.0", base.clone())];
    let good = rows(folder.path(), 3);
    let messages = |recipe: &TrainRecipe, data: &Path| {
        let problems = check(recipe, &inputs(data));
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(messages(&adapter(), &good), "");
    let wrong = [
        ("targets = ['query_key_value']", "no linear layer `query_key_value`: it has q_proj"),
        (
            "targets = 'q_proj'",
            "matches no linear layer: it must match whole names like `model.layers.0.self_attn.q_proj`",
        ),
        (
            "rank_pattern = { 'up_proj' = 4 }",
            "`rank_pattern` fits none of the layers that get an adapter: they are q_proj",
        ),
        ("modules_to_save = ['score']", "no module `score` to save: it has embed_tokens"),
        ("modules_to_save = ['lm_head']", "`lm_head` cannot be saved by itself"),
    ];
    for (lora, expected) in wrong {
        let recipe = recipe(&format!("data = 'mix.a'\nbase = 'b'\nlora = {{ {lora} }}"));
        let text = messages(&recipe, &good);
        assert!(text.contains(expected), "{lora}: {text}");
    }

    let bare = folder.path().join("bare.jsonl");
    fs::write(&bare, "{\"instruction\":\"a\",\"output\":\"b\"}\n{\"instruction\":\"a\"}\n").unwrap();
    let problems = check(&adapter(), &inputs(&bare));
    assert_eq!(
        problems[0],
        Diagnostic::in_file("the data", Some(2), "the row has no `output`")
            .hint("the row has the columns `instruction`")
    );

    let weights = fs::read(base.join("model.safetensors")).unwrap();
    fs::write(base.join("model.safetensors"), &weights[..weights.len() - 9]).unwrap();
    assert!(messages(&adapter(), &good).contains("truncated"));
    fs::write(base.join("config.json"), "{\"model_type\":\"mamba\"}").unwrap();
    assert!(messages(&adapter(), &good).contains("`mamba`"));
}
