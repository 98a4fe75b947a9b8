//! What the parser takes, the schema takes; what it refuses of a file by itself, the schema refuses.

use super::schema;
use crate::diagnostic::{Problems, Sources};
use crate::manifest::{Overrides, load};
use jsonschema::Validator;
use serde_json::Value as Json;

/// A manifest with every kind of setting.
const WHOLE: &str = r#"titer = 1
name = "whole"
seed = 7
targets = ["aggregate.curve"]

[params]
base = "models/base"
rate = 3e-4
when = "base"

[axes]
n = [0, 20]

[axes.target.sst2]
path = "sst2.jsonl"
[axes.target.xsum]
path = "xsum.jsonl"
columns = { input = "context" }

[limits]
cpus = 4
memory = "8 GiB"
gpus = [0, "GPU-1"]
requests_per_second = 0.5
train = 1

[cache]
shared = "s3://lab/titer"
push = true

[defaults.train]
base = "{base}"
lora = { r = 4, targets = ["q_proj"] }

[mix.rows]
tokenizer = "{base}"
max_tokens = 512
split = { validation = 0.1 }
sources = [
  { path = "general.jsonl", take = 0.5, instruction = "Answer." },
  { path = "{target.path}", columns = "{target.columns}", take = "{n}", instruction = { template = "i.j2" }, set = { a = 1 } },
]

[mix.exam]
over = ["n"]
only = { n = 20, target = ["sst2"] }
sources = [{ from = "mix.rows[n=20].validation", gather = "target", where = "task != $target", bind = "(?P<task>x)" }]

[train.adapter]
data = { train = "mix.rows.train", validation = "v.jsonl" }
warmup = { ratio = 0.1 }
evaluate_every = { epochs = 0.5, min = 2 }
learning_rate = "{rate}"
when_empty = "{when}"
early_stopping = { patience = 2 }
betas = [0.9, 0.99]
template = { with_input = "{{ input }}{n}" }
threads = 2

[train.elsewhere]
command = ["python", "train.py", 3, "--data={input.data}", "{input.words}"]
data = "mix.rows"
makes = "model"
inputs = { words = ["w.txt", "mix.exam.stats"] }
env = { TOKEN = "{env:TOKEN}", MODE = 1 }
outputs = ["model"]
time_limit = "2 h"
memory = 8_000_000
gpus = 1
retry = { times = 3, on = ["oom"], wait = 5 }

[predict.answers]
model = ["{base}", "train.adapter"]
data = "mix.exam"
batch_size = 8
template = "alpaca"

[score.quality]
predictions = "predict.answers"
scorers = { em = { kind = "exact_match", ignore_case = true }, rouge = "rouge" }

[aggregate.curve]
from = ["score.quality", "old.jsonl"]
by = ["target", "n"]
where = "n > 0"
metrics = "em"

[[aggregate.curve.figures]]
kind = "line"
x = "n"
y = "em"
series = ["target"]
scale = "symlog"

[variant.smoke]
axes = { n = [0] }
params = { base = "models/tiny" }
targets = ["mix.rows"]
"#;

fn validator() -> Validator {
    let schema = schema();
    assert!(jsonschema::draft4::meta::is_valid(&schema), "{:?}", jsonschema::draft4::meta::validate(&schema).err());
    jsonschema::draft4::new(&schema).unwrap()
}

fn json(text: &str) -> Json {
    crate::settings::parse(text, 0, &mut Problems::default()).unwrap().to_json()
}

fn complaints(text: &str) -> Vec<String> {
    validator().iter_errors(&json(text)).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn parses(text: &str) -> Result<(), String> {
    let mut sources = Sources::default();
    load("m.toml", &|_| Ok(text.to_string()), &Overrides::default(), &mut sources)
        .map(drop)
        .map_err(|problems| problems.iter().map(|problem| sources.render(problem)).collect())
}

#[test]
fn what_the_parser_takes_the_schema_takes() {
    let pipelines = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines");
    let mut texts = vec![
        ("WHOLE".to_string(), WHOLE.to_string()),
        ("init".to_string(), include_str!("../../cli/experiment.toml").to_string()),
    ];
    for entry in std::fs::read_dir(pipelines).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            texts.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
        }
    }
    assert!(texts.len() >= 4);
    for (name, text) in texts {
        assert_eq!(parses(&text), Ok(()), "{name}");
        assert_eq!(complaints(&text), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_paper_s_manifests_are_in_the_schema() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/paper");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for path in paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml")) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(complaints(&text), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn what_the_parser_refuses_the_schema_refuses() {
    let wrong = [
        ("titer = 1", "titer = 2"),
        ("titer = 1", "titel = 1"),
        ("titer = 1", ""),
        ("name = \"whole\"", "name = \"a/b\""),
        ("seed = 7", "seed = -7"),
        ("seed = 7", "seed = \"{n}\""),
        ("targets = [", "targets = [1, "),
        ("n = [0, 20]", "n = 20"),
        ("n = [0, 20]", "n = []"),
        ("n = [0, 20]", "n = [[0], [20]]"),
        ("[defaults.train]", "[defaults.trian]"),
        ("lora = { r = 4", "lora = { r = 0"),
        ("lora = { r = 4", "lora = { rank = 4"),
        ("targets = [\"q_proj\"]", "targets = []"),
        ("[mix.rows]", "[mixes.rows]"),
        ("[mix.rows]", "[mix.\"a b\"]"),
        ("max_tokens = 512", "max_tokens = \"many\""),
        ("max_tokens = 512", "max_tokens = 5.5"),
        ("split = { validation = 0.1 }", "split = { validation = 1.1 }"),
        ("take = 0.5", "take = 1.5"),
        ("take = 0.5", "take = \"some\""),
        ("instruction = \"Answer.\"", "instruction = 3"),
        ("{ path = \"general.jsonl\"", "{ paht = \"general.jsonl\""),
        ("over = [\"n\"]", "over = \"n\""),
        ("only = { n = 20", "only = { n = { x = 1 }"),
        ("data = { train = \"mix.rows.train\"", "data = { rows = \"mix.rows.train\""),
        ("warmup = { ratio = 0.1 }", "warmup = { ratio = 2 }"),
        ("warmup = { ratio = 0.1 }", "warmup = 0.1"),
        ("learning_rate = \"{rate}\"", "learning_rate = \"3e-4\""),
        ("when_empty = \"{when}\"", "when_empty = \"bas\""),
        ("betas = [0.9, 0.99]", "betas = [0.9, 1]"),
        ("template = \"alpaca\"", "template = \"alpacca\""),
        ("batch_size = 8", "batch_size = 5000"),
        ("model = [", "models = ["),
        ("kind = \"exact_match\", ignore_case", "kind = \"exact_match\", stemmer"),
        ("kind = \"exact_match\"", "kind = \"exact_mach\""),
        ("rouge = \"rouge\"", "rouge = \"rougue\""),
        ("from = [\"score.quality\", \"old.jsonl\"]", "from = []"),
        ("command = [\"python\", ", "command = \"python\" # "),
        ("makes = \"model\"", "makes = \"modle\""),
        ("outputs = [\"model\"]", "outputs = [\"models\"]"),
        ("retry = { times = 3", "retry = { times = 0"),
        ("on = [\"oom\"]", "on = [\"oomm\"]"),
        ("cpus = 4", "cpus = 0"),
        ("gpus = [0", "gpus = [-1"),
        ("requests_per_second = 0.5", "requests_per_second = 0"),
        ("scale = \"symlog\"", "scale = \"symlg\""),
        ("kind = \"line\"\n", ""),
        ("y = \"em\"\n", "y = 3\n"),
        ("targets = [\"mix.rows\"]", "target = [\"mix.rows\"]"),
    ];
    for (from, to) in wrong {
        assert!(WHOLE.contains(from), "{from}");
        let text = WHOLE.replacen(from, to, 1);
        // A variant's mistakes show when it is used.
        assert!(parses(&text).is_err() || to.starts_with("target ="), "the parser takes {to}");
        assert!(!complaints(&text).is_empty(), "the schema takes {to}");
    }
}

#[test]
fn a_default_is_a_value_that_its_setting_can_have() {
    let root = schema();
    let mut open = vec![(String::new(), &root)];
    let mut checked = 0;
    while let Some((path, part)) = open.pop() {
        if let Some(default) = part.get("default").filter(|_| part.get("properties").is_none()) {
            let valid = jsonschema::draft4::new(part).unwrap();
            assert!(valid.is_valid(default), "{path}: {default}");
            checked += 1;
        }
        match part {
            Json::Object(parts) => open.extend(parts.iter().map(|(name, part)| (format!("{path}/{name}"), part))),
            Json::Array(parts) => open.extend(parts.iter().map(|part| (path.clone(), part))),
            _ => {}
        }
    }
    assert!(checked > 30, "{checked}");
    assert_eq!(
        root["definitions"]["train"]["properties"]["warmup"]["default"],
        serde_json::json!({ "epochs": 1.0, "min": 4, "max": 100 })
    );
}

#[test]
fn a_setting_has_the_words_of_its_doc_comment() {
    let train = &schema()["definitions"]["train"]["properties"];
    assert_eq!(train["batch_size"]["description"], "Rows per optimiser step.");
    assert_eq!(train["batch_size"]["anyOf"][0]["minimum"], 1);
    assert_eq!(
        train["keep"]["description"],
        "Which weights are kept in the end.\n\n- `best`: Those of the lowest evaluation loss; the last where nothing is \
         evaluated.\n- `last`: Those of the last step."
    );
}

#[test]
fn no_setting_lacks_a_description() {
    let root = schema();
    let tables = root["definitions"].as_object().unwrap().iter().map(|(kind, table)| (kind.as_str(), table));
    let mut open: Vec<(&str, &Json)> = tables.chain([("", &root)]).collect();
    while let Some((path, part)) = open.pop() {
        let Json::Object(parts) = part else { continue };
        if let Some(Json::Object(properties)) = parts.get("properties") {
            for (name, setting) in properties.iter().filter(|(_, setting)| setting.get("$ref").is_none()) {
                let is_kind = !path.is_empty() || setting.get("patternProperties").is_none();
                assert!(!is_kind || setting.get("description").is_some(), "{path}.{name}");
                open.push((name, setting));
            }
        }
        open.extend(parts.get("items").map(|items| (path, items)));
        open.extend(parts.get("anyOf").and_then(Json::as_array).into_iter().flatten().map(|form| (path, form)));
    }
}

#[test]
fn the_schema_beside_the_pipelines_is_this_one() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines");
    let text = std::fs::read_to_string(format!("{folder}/titer.schema.json")).unwrap();
    assert!(text == format!("{:#}\n", schema()), "run `titer schema > pipelines/titer.schema.json`");
    for name in ["quickstart", "finetune"] {
        let manifest = std::fs::read_to_string(format!("{folder}/{name}.toml")).unwrap();
        assert!(manifest.starts_with("#:schema ./titer.schema.json\n"), "{name}");
    }
}
