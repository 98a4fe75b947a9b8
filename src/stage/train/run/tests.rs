//! Whole train stages on small rows: what they write, and that the same recipe writes the same bytes.

use super::super::check;
use super::*;
use crate::diagnostic::Diagnostic;
use crate::settings::parse;
use crate::stage::heard::Heard;
use crate::stage::{Earlier, Hints, Input, Kind, Means, Recipe};
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
    let (done, events) = attempt(recipe, hints, inputs, output, (&Earlier::default(), 0));
    done.map(|files| (files, events))
}

/// The same beside what earlier attempts left; asked to end after so many steps (0: never).
fn attempt(
    recipe: &TrainRecipe,
    hints: &Hints,
    inputs: &[Input],
    output: &Path,
    (earlier, patience): (&Earlier, u32),
) -> (anyhow::Result<BTreeMap<String, Vec<u8>>>, Heard) {
    fs::create_dir_all(output).unwrap();
    let (events, means) = (Heard::default(), Means::default());
    events.patience.set(patience);
    let context = Context { inputs, output, hints, earlier, means: &means, root: Path::new("."), events: &events };
    let done = execute(recipe, &context);
    (done.map(|()| files(output)), events)
}

/// The bytes of a stage's files.
fn files(output: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in [output.to_path_buf(), output.join("model")] {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            let name = entry.path().strip_prefix(output).unwrap().display().to_string();
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

#[test]
fn a_stopped_training_goes_on_where_it_stood_and_writes_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = [input("data", rows(folder.path(), 10)), input("validation", rows(folder.path(), 3))];
    let (expected, _) = run(&new_model(), &inputs, &folder.path().join("whole")).unwrap();
    let unfinished = folder.path().join("unfinished");
    let earlier = Earlier { unfinished: Some(unfinished.clone()), ..Earlier::default() };
    let attempt = |name: &str, patience: u32| {
        attempt(&new_model(), &Hints::default(), &inputs, &folder.path().join(name), (&earlier, patience))
    };
    // Of twelve steps five, then three more, then the rest.
    let (stopped, _) = attempt("first", 5);
    assert_eq!(format!("{:#}", stopped.unwrap_err()), "asked to end after step 5");
    assert_eq!(fs::read_dir(&unfinished).unwrap().count(), 2);
    let (stopped, heard) = attempt("second", 3);
    assert_eq!(format!("{:#}", stopped.unwrap_err()), "asked to end after step 8");
    assert!(heard.log.borrow().contains(&"going on after step 5".to_string()));
    assert_eq!(fs::read_dir(&unfinished).unwrap().count(), 2);
    let (done, heard) = attempt("third", 0);
    assert!(heard.log.borrow().contains(&"going on after step 8".to_string()));
    assert!(done.unwrap() == expected);

    // One that was damaged, or is of another program, or is none, is not relied on in silence.
    let valid = fs::read_to_string(unfinished.join("checkpoint.json")).unwrap();
    fs::write(unfinished.join("checkpoint.json"), valid.replace(env!("CARGO_PKG_VERSION"), "0.0.1")).unwrap();
    let (done, heard) = attempt("fourth", 0);
    assert!(done.unwrap() == expected);
    assert!(heard.warnings.borrow()[0].contains("computed by titer 0.0.1"), "{:?}", heard.warnings);
    let file = fs::read_dir(&unfinished).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().unwrap() == "safetensors").unwrap();
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let (done, heard) = attempt("fifth", 0);
    assert!(done.unwrap() == expected);
    assert!(heard.warnings.borrow()[0].contains("is damaged"), "{:?}", heard.warnings);
    fs::write(unfinished.join("checkpoint.json"), "{").unwrap();
    assert!(attempt("sixth", 0).0.unwrap() == expected);
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

#[test]
fn the_last_checkpoints_are_kept_and_survive_a_break() {
    let folder = tempfile::tempdir().unwrap();
    run(&new_model(), &[input("data", rows(folder.path(), 10))], &folder.path().join("base")).unwrap();
    let base = folder.path().join("base/model");
    let inputs = [
        input("data", rows(folder.path(), 20)),
        input("validation", rows(folder.path(), 9)),
        input("base.0", base.clone()),
    ];
    let with = |steps: u64, more: &str| {
        recipe(&format!(
            "data = {{ train = 'a', validation = 'b' }}\nbase = 'b'\nmax_steps = {steps}\nbatch_size = 2\nlora = {{}}\n\
             schedule = 'constant'\nkeep = 'last'\nevaluate_every = {{ epochs = 0, min = 2 }}\nwhen_empty = 'base'\n{more}"
        ))
    };
    let weights = |name: &str, at: &str| fs::read(folder.path().join(name).join(at).join("adapter_model.safetensors"));
    let (files, _) = run(&with(7, "checkpoints = 3"), &inputs, &folder.path().join("seven")).unwrap();
    let summary: Value = serde_json::from_slice(&files["summary.json"]).unwrap();
    assert_eq!(summary["checkpoint_steps"], json!([7, 6, 4]));
    // What is kept beside the model changes nothing of it.
    let (plain, _) = run(&with(7, ""), &inputs, &folder.path().join("plain")).unwrap();
    assert_eq!(files["model/adapter_model.safetensors"], plain["model/adapter_model.safetensors"]);
    assert!(!folder.path().join("plain/checkpoint-1").exists());
    assert_eq!(weights("seven", "checkpoint-1").unwrap(), files["model/adapter_model.safetensors"]);
    for (steps, checkpoint) in [(6, "checkpoint-2"), (4, "checkpoint-3")] {
        let name = format!("{steps} steps");
        run(&with(steps, ""), &inputs, &folder.path().join(&name)).unwrap();
        assert_eq!(weights("seven", checkpoint).unwrap(), weights(&name, "model").unwrap(), "{checkpoint}");
        Model::load(&[&base, &folder.path().join("seven").join(checkpoint)]).unwrap();
    }
    // Stopped after step five, and gone on.
    let earlier = Earlier { unfinished: Some(folder.path().join("unfinished")), ..Earlier::default() };
    let recipe = with(7, "checkpoints = 3");
    let attempt = |name: &str, patience: u32| {
        attempt(&recipe, &Hints::default(), &inputs, &folder.path().join(name), (&earlier, patience)).0
    };
    assert!(attempt("stopped", 5).is_err());
    attempt("resumed", 0).unwrap();
    for checkpoint in ["checkpoint-1", "checkpoint-2", "checkpoint-3"] {
        assert_eq!(weights("resumed", checkpoint).unwrap(), weights("seven", checkpoint).unwrap(), "{checkpoint}");
    }
    // Before the first there is the beginning, which is the base.
    let (_, heard) = run(&with(2, "checkpoints = 3"), &inputs, &folder.path().join("two")).unwrap();
    assert_eq!(heard.warnings.borrow().len(), 2, "{:?}", heard.warnings);
    assert!(heard.warnings.borrow()[0].contains("`checkpoint-2` is what it began with"), "{:?}", heard.warnings);
    assert_eq!(weights("two", "checkpoint-2").unwrap(), weights("two", "checkpoint-3").unwrap());
    let began = Model::load(&[&base, &folder.path().join("two/checkpoint-3")]).unwrap();
    assert_eq!(began.tensors(), Model::load(&[&base]).unwrap().tensors());
    let none = [input("data", rows(folder.path(), 0)), inputs[2].clone()];
    run(&with(7, "checkpoints = 2"), &none, &folder.path().join("none")).unwrap();
    assert!(folder.path().join("none/checkpoint-2/unchanged.json").exists());
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
