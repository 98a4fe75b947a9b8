//! Training and prediction through the program, with a model of a few thousand parameters.

use crate::project::{Project, ran, results, tree};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const MANIFEST: &str = r#"titer = 1
name = "tiny"

[axes]
n = [0, 6]

[mix.general]
sources = [{ path = "data/general.jsonl" }]
split = { validation = 0.2 }

[mix.target]
sources = [{ path = "data/general.jsonl", take = 8 }, { path = "data/target.jsonl", take = "{n}" }]

[train.base]
data = "mix.general"
architecture = { hidden_size = 16, layers = 2, heads = 2, kv_heads = 1, intermediate_size = 24, max_positions = 96 }
tokenizer = { bpe = 300 }
max_length = 96
epochs = 2
batch_size = 8
micro_batch_size = 4
learning_rate = 1e-2

[train.adapter]
data = "mix.target"
base = "train.base"
max_length = 96
lora = { r = 4, alpha = 8, dropout = 0.1, targets = ["q_proj", "down_proj"] }
epochs = 2
batch_size = 8
micro_batch_size = 4
learning_rate = 1e-2

[predict.answers]
model = "train.adapter"
data = "mix.target[n=6]"
max_new_tokens = 4
max_prompt_tokens = 90

[score.quality]
predictions = "predict.answers"
scorers = ["exact_match"]

[aggregate.table]
from = "score.quality"
by = ["n"]
"#;

fn project() -> Project {
    let project = Project::empty();
    let row = |i: usize, word: &str| {
        format!("{{\"instruction\":\"Copy.\",\"input\":\"{word} {i}\",\"output\":\"{word}\"}}\n")
    };
    let words = ["oak", "elm", "ash", "fir"];
    project.write("data/general.jsonl", &(0..40).map(|i| row(i, words[i % 4])).collect::<String>());
    project.write("data/target.jsonl", &(0..10).map(|i| row(i, "yew")).collect::<String>());
    project.write("pipelines/p.toml", MANIFEST);
    project
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_batches() {
    let one = project();
    one.run_with(&["-j", "1"]);
    let two = project();
    two.edit("pipelines/p.toml", "max_new_tokens = 4", "max_new_tokens = 4\nbatch_size = 1\nthreads = 2");
    two.edit("pipelines/p.toml", "tokenizer = { bpe", "threads = 2\ntokenizer = { bpe");
    two.run_with(&["-j", "2"]);
    assert!(results(&one) == results(&two), "results differ");
    assert!(results(&one).iter().any(|(name, _)| name.ends_with("adapter_model.safetensors")));
}

#[test]
fn hints_are_in_no_key_and_settings_are() {
    let project = project();
    project.run();
    project.edit("pipelines/p.toml", "max_new_tokens = 4", "max_new_tokens = 4\nbatch_size = 3");
    assert!(project.run().is_empty());
    project.edit("pipelines/p.toml", "alpha = 8", "alpha = 9");
    let ran = project.run();
    assert!(!ran.contains(&"train.base".to_string()), "{ran:?}");
    assert!(
        ran.contains(&"train.adapter[n=0]".to_string()) && ran.contains(&"predict.answers[n=6]".to_string()),
        "{ran:?}"
    );
}

/// A model's digest covers its whole chain: the same adapter over another base is another model.
#[test]
fn a_changed_base_reaches_the_predictions() {
    let project = project();
    project.run();
    project.edit(
        "pipelines/p.toml",
        "epochs = 2\nbatch_size = 8\nmicro_batch_size = 4\nlearning_rate = 1e-2\n\n[train.adapter]",
        "epochs = 1\nbatch_size = 8\nmicro_batch_size = 4\nlearning_rate = 1e-2\n\n[train.adapter]",
    );
    let ran = project.run();
    assert_eq!(ran.iter().filter(|name| name.starts_with("predict")).count(), 2, "{ran:?}");
}

/// The project with a base that trains for so many epochs, two steps each, and keeps a checkpoint at each.
fn long(epochs: u32) -> Project {
    let project = project();
    project.edit("pipelines/p.toml", "epochs = 2\n", &format!("epochs = {epochs}\ncheckpoint_every = 0\n"));
    project
}

/// Starts the training of the base; returns once it has kept a checkpoint after the given step.
fn begin(project: &Project, step: u64) -> Child {
    let run = project.command(&["run", "pipelines/p.toml", "-t", "train.base"]).stdout(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while checkpoint(project).is_none_or(|at| at <= step) {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint after step {step}");
        std::thread::sleep(Duration::from_millis(2));
    }
    run
}

/// The step of the one checkpoint that there is.
fn checkpoint(project: &Project) -> Option<u64> {
    let folder = std::fs::read_dir(project.path("cache/unfinished")).ok()?.next()?.ok()?.path();
    let valid = std::fs::read(folder.join("checkpoint.json")).ok()?;
    serde_json::from_slice::<serde_json::Value>(&valid).unwrap()["step"].as_u64()
}

#[test]
fn a_training_that_was_interrupted_or_killed_goes_on_and_ends_with_the_same_bytes() {
    let whole = long(400);
    whole.run_with(&["-t", "train.base"]);
    let expected = results(&whole);
    assert!(checkpoint(&whole).is_none());

    let project = long(400);
    let signal = |run: &Child, signal| {
        rustix::process::kill_process(rustix::process::Pid::from_raw(run.id().cast_signed()).unwrap(), signal).unwrap();
    };
    let mut run = begin(&project, 3);
    signal(&run, rustix::process::Signal::KILL);
    run.wait().unwrap();
    let killed_at = checkpoint(&project).unwrap();
    let run = begin(&project, killed_at + 3);
    signal(&run, rustix::process::Signal::INT);
    let start = Instant::now();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(start.elapsed() < Duration::from_secs(8), "work that keeps where it stands ends at once");
    assert!(!project.path("out/tiny/train.base").exists());
    let stopped_at = checkpoint(&project).unwrap();
    assert!(stopped_at > killed_at + 3);
    let status = project.titer(&["status", "pipelines/p.toml"]);
    assert!(status.out.contains("train.base") && status.out.contains("1 will run"), "{status:?}");

    assert_eq!(project.run_with(&["-t", "train.base"]), ["train.base"]);
    assert_eq!(results(&project), expected);
    assert!(checkpoint(&project).is_none(), "it is done with");
    let log = project.titer(&["log", "pipelines/p.toml", "train.base"]);
    assert!(log.out.contains(&format!("going on after step {stopped_at}")), "{log:?}");
}

#[test]
fn a_forced_training_and_an_audit_begin_at_the_beginning() {
    let project = long(400);
    let mut run = begin(&project, 3);
    run.kill().unwrap();
    run.wait().unwrap();
    project.run_with(&["-t", "train.base", "--force", "train.base"]);
    let log = project.titer(&["log", "pipelines/p.toml", "train.base"]);
    assert!(!log.out.contains("going on"), "{log:?}");
}

#[test]
fn a_model_that_is_asked_nothing_says_so() {
    let project = project();
    let nothing = "\n[mix.nothing]\nsources = [{ path = \"data/target.jsonl\", where = \"false\" }]\n";
    let manifest = MANIFEST.replace("data = \"mix.target[n=6]\"", "data = \"mix.nothing\"");
    project.write("pipelines/p.toml", &format!("{manifest}{nothing}"));
    project.refuses(
        &["run", "pipelines/p.toml", "-t", "predict.answers[n=6]"],
        0,
        &["warning: predict.answers[n=6]: `data` has no row"],
    );
}

/// Light jobs share a worker; if somebody kills it while it waits, the next job gets another one.
#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_died_idle_is_replaced() {
    let project = project();
    project.edit("pipelines/p.toml", "epochs = 2", "epochs = 400");
    let mut run =
        project.command(&["run", "pipelines/p.toml", "--json", "-j", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("started") && line.contains("train.base")));
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.id())).unwrap();
    let children: Vec<i32> = children.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let (_training, idle) = children.split_last().unwrap();
    assert!(!idle.is_empty(), "the worker of the mixes lives on");
    for id in idle {
        let id = rustix::process::Pid::from_raw(*id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
    }
    let rest: Vec<String> = lines.collect();
    assert!(run.wait().unwrap().success(), "{rest:?}");
}

/// What another run has made while a job waited for its turn is not made again.
#[test]
fn a_job_that_waits_is_looked_up_again_before_it_starts() {
    let project = project();
    project.write(
        "pipelines/p.toml",
        &format!("targets = [\"train.base\", \"mix.after\"]\n{MANIFEST}\n[mix.last]\nsources = [{{ path = \"data/target.jsonl\" }}]\n[mix.after]\nsources = [{{ from = \"mix.last\" }}]\n"),
    );
    project.edit("pipelines/p.toml", "epochs = 2", "epochs = 400");
    let mut first =
        project.command(&["run", "pipelines/p.toml", "--json", "-j", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("started") && line.contains("train.base")));
    assert_eq!(project.run_with(&["-t", "mix.last"]), ["mix.last"]);
    let rest: Vec<String> = lines.filter(|line| line.contains("mix.last") || line.contains("mix.after")).collect();
    assert!(first.wait().unwrap().success());
    assert_eq!(rest[0], "{\"event\":\"shared\",\"instance\":\"mix.last\"}");
    assert!(rest.iter().any(|line| line.starts_with("{\"event\":\"ran\",\"instance\":\"mix.after\"")), "{rest:?}");
}

#[test]
fn a_damaged_object_is_noticed_before_it_is_trained_on() {
    let project = project();
    project.run_with(&["-t", "mix"]);
    let rows = project.read("out/tiny/mix.general/train.jsonl");
    for (name, bytes) in tree(&project.path("cache/objects")) {
        if bytes == rows.as_bytes() {
            let path = project.path("cache/objects").join(name);
            let damaged = rows.replacen("oak", "OAK", 1);
            std::fs::remove_file(&path).unwrap();
            std::fs::write(path, damaged).unwrap();
        }
    }
    let output = project.titer(&["run", "pipelines/p.toml", "--json"]);
    assert!(output.code == 0 && output.err.contains("was changed or damaged"), "{output:?}");
    assert!(ran(&output.out).contains(&"mix.general".to_string()), "it is made again by the run that needs it");
    assert_eq!(project.read("out/tiny/mix.general/train.jsonl"), rows);
}

#[test]
fn models_that_do_not_fit_are_found_before_anything_runs() {
    let project = project();
    project.run();
    let copy = |from: &str, to: &str| {
        for (name, bytes) in tree(&project.path(from)) {
            project.write_bytes(&format!("{to}/{name}"), &bytes);
        }
    };
    copy("out/tiny/train.base/model", "models/base");
    let with_base = |base: &str| MANIFEST.replace("base = \"train.base\"", &format!("base = \"{base}\""));
    project.write("pipelines/p.toml", &with_base("models/base"));
    assert!(
        project.run().iter().all(|name| name.starts_with("train.base") || !name.starts_with("train")),
        "the same bytes elsewhere are the same base"
    );

    let run = ["run", "pipelines/p.toml"];
    let weights = std::fs::read(project.path("models/base/model.safetensors")).unwrap();
    copy("models/base", "models/cut");
    project.write_bytes("models/cut/model.safetensors", &weights[..weights.len() / 2]);
    project.write("pipelines/p.toml", &with_base("models/cut"));
    project.refuses(&run, 2, &["models/cut", "model.safetensors"]);

    copy("models/base", "models/lying");
    let mut lying = weights.clone();
    let header = String::from_utf8_lossy(&weights[8..4000]).into_owned();
    let at = 8 + header.find("\"shape\":[").unwrap() + 9;
    lying[at] = b'9';
    project.write_bytes("models/lying/model.safetensors", &lying);
    project.write("pipelines/p.toml", &with_base("models/lying"));
    project.refuses(&run, 2, &["models/lying", "model.safetensors"]);

    copy("models/base", "models/strange");
    let config = project
        .read("models/base/config.json")
        .replace("\"LlamaForCausalLM\"", "\"MambaForCausalLM\"")
        .replace("\"llama\"", "\"mamba\"");
    project.write("models/strange/config.json", &config);
    project.write("pipelines/p.toml", &with_base("models/strange"));
    project.refuses(&run, 2, &["models/strange", "amba"]);

    project.write("pipelines/p.toml", &with_base("models/base").replace("\"down_proj\"", "\"down_porj\""));
    project.refuses(&run, 2, &["down_porj", "down_proj"]);

    // A tokenizer with more tokens than the model has embeddings.
    project.write("pipelines/p.toml", &MANIFEST.replace("bpe = 300", "bpe = 262"));
    project.run_with(&["-t", "train.base"]);
    copy("out/tiny/train.base/model", "models/mixed");
    project.write("models/mixed/tokenizer.json", &project.read("models/base/tokenizer.json"));
    project.write("pipelines/p.toml", &with_base("models/mixed"));
    project.refuses(&run, 2, &["models/mixed", "tokenizer"]);
}

#[test]
fn a_model_may_be_a_list_of_layers() {
    let project = project();
    project.run();
    let expected = project.read("out/tiny/predict.answers/n=6/predictions.jsonl");
    let copy = |from: &str, to: &str| {
        for (name, bytes) in tree(&project.path(from)) {
            project.write_bytes(&format!("{to}/{name}"), &bytes);
        }
    };
    copy("out/tiny/train.base/model", "models/base");
    copy("out/tiny/train.adapter/n=6/model", "models/adapter");
    let with = |model: &str| {
        let start = MANIFEST.find("[train.base]").unwrap();
        let end = MANIFEST.find("[predict.answers]").unwrap();
        format!("{}{}", &MANIFEST[..start], &MANIFEST[end..])
            .replace("model = \"train.adapter\"", &format!("model = {model}"))
            .replace("by = [\"n\"]", "")
    };
    project.write("pipelines/p.toml", &with("[\"models/base\", \"models/adapter\"]"));
    assert!(
        project.run().iter().all(|name| !name.starts_with("predict")),
        "the same bytes elsewhere are the same model"
    );
    assert_eq!(project.read("out/tiny/predict.answers/predictions.jsonl"), expected);

    let run = ["run", "pipelines/p.toml"];
    project.write("pipelines/p.toml", &with("\"models/adapter\""));
    project.refuses(
        &run,
        2,
        &["model `models/adapter`", "it is an adapter: write `model = [\"BASE\", \"models/adapter\"]`"],
    );
    project.write("pipelines/p.toml", &with("[\"models/base\", \"models/base\"]"));
    project.refuses(&run, 2, &["model `models/base`", "is no adapter"]);
    project.write("pipelines/p.toml", MANIFEST.replace("hidden_size = 16", "hidden_size = 32").as_str());
    project.run_with(&["-t", "train.base"]);
    copy("out/tiny/train.base/model", "models/wide");
    project.write("pipelines/p.toml", &with("[\"models/wide\", \"models/adapter\"]"));
    project.refuses(&run, 2, &["model `models/adapter`", "linear layer `model.layers.0", "the adapter's"]);
}

/// Adapters that stand beside the same base are answered with by one process, which loads it once.
#[test]
fn a_held_base_is_loaded_once_for_all_adapters() {
    let project = project();
    project.edit("pipelines/p.toml", "n = [0, 6]", "n = [0, 3, 6]");
    let held = "max_new_tokens = 4\nbase_precision = \"int8\"\nthreads = 1";
    project.edit("pipelines/p.toml", "max_new_tokens = 4", held);
    project.run_with(&["-j", "1", "-t", "train.adapter"]);
    project.run_with(&["-j", "1", "-t", "predict.answers"]);
    let loaded = |log: &Vec<u8>| String::from_utf8_lossy(log).matches("the model was loaded").count();
    let logs: Vec<Vec<u8>> = tree(&project.path("cache/logs")).into_iter().map(|(_, log)| log).collect();
    let there = |log: &Vec<u8>| String::from_utf8_lossy(log).matches("the model was there").count();
    assert_eq!((logs.iter().map(loaded).sum::<usize>(), logs.iter().map(there).sum::<usize>()), (1, 2));
    // Each in a process of its own gives the same bytes.
    let apart = self::project();
    apart.edit("pipelines/p.toml", "n = [0, 6]", "n = [0, 3, 6]");
    apart.edit("pipelines/p.toml", "max_new_tokens = 4", held);
    for n in [0, 3, 6] {
        apart.run_with(&["-j", "1", "-t", &format!("predict.answers[n={n}]")]);
        let name = format!("out/tiny/predict.answers/n={n}/predictions.jsonl");
        assert_eq!(apart.read(&name), project.read(&name));
    }
}

#[test]
fn a_checkpoint_is_a_model_that_later_stages_can_name() {
    let project = project();
    project.edit("pipelines/p.toml", "[train.adapter]", "[train.adapter]\ncheckpoints = 2\nkeep = \"last\"");
    project.edit("pipelines/p.toml", "n = [0, 6]", "n = [6]\nback = [1, 2]");
    project.edit("pipelines/p.toml", "model = \"train.adapter\"", "model = \"train.adapter.checkpoint-{back}\"");
    project.edit("pipelines/p.toml", "by = [\"n\"]", "by = [\"back\"]");
    let ran = project.run();
    assert_eq!(ran.iter().filter(|name| name.starts_with("train.adapter")).count(), 1, "{ran:?}");
    assert_eq!(ran.iter().filter(|name| name.starts_with("predict.answers")).count(), 2, "{ran:?}");
    let weights = |place: &str| {
        let file = format!("out/tiny/train.adapter/n=6/{place}/adapter_model.safetensors");
        std::fs::read(project.path(&file)).unwrap()
    };
    assert_eq!(weights("checkpoint-1"), weights("model"));
    assert_ne!(weights("checkpoint-2"), weights("model"));
    assert!(project.run().is_empty());

    project.edit("pipelines/p.toml", "back = [1, 2]", "back = [1, 3]");
    let expected = ["`train.adapter` keeps no `checkpoint-3`", "give `train.adapter` the setting `checkpoints = 3`"];
    project.refuses(&["check", "pipelines/p.toml"], 2, &expected);
}
