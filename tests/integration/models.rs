//! Models as people have them: whole, damaged, of strange kinds, and as partners of a conversation.

use crate::project::Project;
use std::path::Path;

const MANIFEST: &str = r#"titer = 1
name = "models"

[train.adapter]
data = "data/rows.jsonl"
base = "models/base"
lora = { r = 2, targets = ["q_proj", "v_proj"] }
max_steps = 2
batch_size = 2
max_length = 128

[predict.answers]
model = "train.adapter"
data = "data/rows.jsonl"
max_new_tokens = 4
max_prompt_tokens = 100
"#;

/// A Llama with a few thousand weights, whose answers nobody needs.
fn project() -> Project {
    let project = Project::empty();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/engine/llama");
    for name in
        ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    {
        project.write_bytes(&format!("models/base/{name}"), &std::fs::read(golden.join(name)).unwrap());
    }
    let rows = "{\"instruction\":\"Copy.\",\"input\":\"a b\",\"output\":\"a b\"}\n\
                {\"instruction\":\"Copy.\",\"input\":\"c\",\"output\":\"c\"}\n";
    project.write("data/rows.jsonl", rows);
    project.write("pipelines/p.toml", MANIFEST);
    project
}

fn refuses(project: &Project, texts: &[&str]) {
    project.refuses(&["check", "pipelines/p.toml"], 2, texts);
}

/// Writes tensors into a file, as its header says they are; the bytes are zeros.
fn tensors(project: &Project, file: &str, entries: &[(&str, &str, &str)], bytes: usize) {
    let entries: Vec<String> = entries
        .iter()
        .map(|(name, shape, place)| {
            format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{place}}}")
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let content = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; bytes]].concat();
    project.write_bytes(file, &content);
}

#[test]
fn a_config_that_cannot_be_used_is_said_with_its_file_and_setting() {
    let project = project();
    let file = "models/base/config.json";
    let whole = project.read(file);
    for (from, to, texts) in [
        (
            "\"model_type\": \"llama\"",
            "\"model_type\": \"lama\"",
            ["unknown `model_type` `lama`", "did you mean `llama`?"],
        ),
        ("\"hidden_act\": \"silu\"", "\"hidden_act\": 3", ["`hidden_act` is `3`", "expected a text"]),
        ("\"hidden_size\": 32", "\"hidden_size\": \"32\"", ["`hidden_size` is `\"32\"`", "expected a whole number"]),
        ("\"rope_type\": \"default\"", "\"rope_type\": 1", ["`rope_type` is `1`", "expected a text"]),
        ("\"vocab_size\": 320", "\"vocab_size\": 320,,", ["is no JSON", "line 31"]),
        ("\"vocab_size\": 320", "\"vocab_size\": 300", ["320 tokens", "300 rows"]),
    ] {
        project.write(file, &whole.replace(from, to));
        assert_ne!(project.read(file), whole, "{from}");
        refuses(&project, &[&["models/base"][..], &texts].concat());
    }
    project.write(
        file,
        &whole
            .replace("\"intermediate_size\": 64", "\"intermediate_size\": 16777216")
            .replace("\"hidden_size\": 32", "\"hidden_size\": 16777216"),
    );
    refuses(&project, &["base `models/base` needs at least", "of memory", "this machine has", "a smaller base fits"]);
}

#[test]
fn weights_that_do_not_fit_are_all_named_before_anything_runs() {
    let project = project();
    let file = "models/base/model.safetensors";
    let entries = [("model.norm.weight", "[32]", "[0,128]"), ("model.norm.weights", "[2]", "[128,136]")];
    tensors(&project, file, &entries, 136);
    refuses(
        &project,
        &[
            "does not hold the weights that its `config.json` describes",
            "missing: `model.embed_tokens.weight` [320, 32], ",
            "more; unknown: `model.norm.weights` [2]",
        ],
    );
    for (place, bytes) in [("[64,192]", 192), ("[128,320]", 264), ("[136,128]", 136)] {
        tensors(&project, file, &[("a", "[32]", "[0,128]"), ("b", "[32]", place)], bytes);
        refuses(&project, &["models/base/model.safetensors` is truncated, damaged, or no safetensors file"]);
    }
    std::fs::remove_file(project.path(file)).unwrap();
    refuses(&project, &["models/base` has no weights"]);
    let index = "models/base/model.safetensors.index.json";
    project.write(index, r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#);
    tensors(&project, "models/base/model-1.safetensors", &[("a", "[1]", "[0,4]")], 4);
    refuses(&project, &["index.json` names 2 files, of which 1 is missing: `model-2.safetensors`"]);
    project.write(index, r#"{"weight_map": {"a": "../../data/rows.jsonl"}}"#);
    refuses(&project, &["index.json` cannot be used", "no file of its own folder"]);
}

#[test]
fn pickles_are_read_where_there_is_nothing_else_and_never_run() {
    let project = project();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickle/malicious.bin");
    project.write_bytes("models/base/pytorch_model.bin", &std::fs::read(golden).unwrap());
    // Beside safetensors they are not looked at.
    assert_eq!(project.run().len(), 2);
    std::fs::remove_file(project.path("models/base/model.safetensors")).unwrap();
    refuses(&project, &["models/base/pytorch_model.bin` is not read", "it names `posix.system`"]);
    project.write_bytes("models/base/pytorch_model.bin", b"PK\x03\x04 and nothing more");
    refuses(&project, &["pytorch_model.bin` is not read", "it is no zip"]);
}

#[test]
fn an_adapter_for_other_shapes_is_refused() {
    let project = project();
    project.run();
    std::fs::create_dir_all(project.path("models/adapter")).unwrap();
    let config = project.read("out/models/train.adapter/model/adapter_config.json");
    project.write("models/adapter/adapter_config.json", &config);
    let name = "base_model.model.model.layers.0.self_attn.q_proj";
    let (a, b) = (format!("{name}.lora_A.weight"), format!("{name}.lora_B.weight"));
    let entries = [(a.as_str(), "[2,16]", "[0,128]"), (b.as_str(), "[32,2]", "[128,384]")];
    tensors(&project, "models/adapter/adapter_model.safetensors", &entries, 384);
    project.edit("pipelines/p.toml", "model = \"train.adapter\"", "model = [\"models/base\", \"models/adapter\"]");
    refuses(&project, &["`model.layers.0.self_attn.q_proj` has 32 inputs and 32 outputs, the adapter's 16 and 32"]);
}

const CHAT: &str = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}\
                    {% if add_generation_prompt %}[assistant]{% endif %}";

#[test]
fn a_conversation_is_trained_on_and_answered() {
    let project = project();
    project.write("models/base/chat_template.jinja", CHAT);
    let turn = |n: usize| {
        format!("{{\"role\":\"user\",\"content\":\"q{n}\"}},{{\"role\":\"assistant\",\"content\":\"a{n}\"}}")
    };
    project.write(
        "data/chats.jsonl",
        &format!("{{\"messages\":[{},{}]}}\n{{\"messages\":[{}]}}\n", turn(1), turn(2), turn(3)),
    );
    let manifest = MANIFEST
        .replace("lora =", "template = \"chat\"\nloss_on = \"assistant\"\nlora =")
        .replace("max_new_tokens", "template = \"chat\"\nmax_new_tokens")
        .replace("data = \"data/rows.jsonl\"", "data = \"mix.chats\"");
    let manifest = manifest
        .replace("[train.adapter]", "[mix.chats]\nsources = [{ path = \"data/chats.jsonl\" }]\n\n[train.adapter]");
    project.write("pipelines/p.toml", &manifest);
    assert_eq!(project.run().len(), 3);
    let mixed = project.read("out/models/mix.chats/train.jsonl");
    assert!(mixed.contains("\"instruction\":\"q2\"") && mixed.contains("\"output\":\"a2\""), "{mixed}");
    let every: serde_json::Value =
        serde_json::from_str(&project.read("out/models/train.adapter/summary.json")).unwrap();
    project.edit("pipelines/p.toml", "\"assistant\"", "\"answer\"");
    project.run();
    let last: serde_json::Value = serde_json::from_str(&project.read("out/models/train.adapter/summary.json")).unwrap();
    let labels = |summary: &serde_json::Value| summary["labels"].as_u64().unwrap();
    assert_eq!(every["tokens"], last["tokens"]);
    // Three answers of equal length, of which two are the last ones.
    assert_eq!(2 * labels(&every), 3 * labels(&last));
    assert!(project.read("out/models/predict.answers/predictions.jsonl").contains("\"prediction\""));
    project.edit("pipelines/p.toml", "\"answer\"", "\"assistant\"");
    project.edit("pipelines/p.toml", "template = \"chat\"\nloss_on", "loss_on");
    refuses(&project, &["`loss_on = \"assistant\"` needs `template = \"chat\"`"]);
}

#[test]
fn a_template_that_a_row_or_a_model_cannot_serve_is_found_before_anything_runs() {
    let project = project();
    project.edit("pipelines/p.toml", "lora =", "template = \"chat\"\nlora =");
    refuses(&project, &["the model has no chat template", "use `alpaca_short`"]);
    project.write("models/base/chat_template.jinja", "{{ raise_exception('no ' ~ messages[0].role) }}");
    refuses(&project, &["data/rows.jsonl:1", "the chat template says: no user"]);
    project.write("models/base/chat_template.jinja", "{% for m in messages %}");
    refuses(&project, &["the template cannot be used", "the chat template cannot be read"]);
    project.write("models/base/chat_template.jinja", CHAT);
    project.write("data/rows.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}\n");
    refuses(&project, &["data/rows.jsonl:1", "no answer to learn from"]);
    project.edit("pipelines/p.toml", "template = \"chat\"", "template = { chat = { sytem = \"x\" } }");
    refuses(&project, &["unknown setting `sytem`", "did you mean `system`?"]);
}
