//! Whole manifests: what they expand to, and what is said about mistakes.

use super::*;
use crate::stage::Kind;

const MANIFEST: &str = r#"titer = 1
name = "curve"

[axes]
n = [0, 20]
run = [1, 2]

[axes.target.sst2]
path = "sst2.jsonl"
[axes.target.xsum]
path = "xsum.jsonl"
columns = { input = "context" }

[params]
base = "models/tiny"

[mix.train]
seed = "{run}"
split = { validation = 0.1, test = 0.1 }
sources = [
  { path = "general.jsonl" },
  { path = "{target.path}", columns = "{target.columns}", take = "{n}" },
]

[mix.exam]
sources = [{ from = "mix.train[n=20,run=1].test", gather = "target", take = 20 }]

[train.first]
data = "mix.train"
base = "{base}"
only = { n = [0] }

[train.second]
data = "mix.train"
validation = "mix.train[n=20,run=1].validation"
base = "train.first"
lora = { r = 4 }

[predict.answers]
model = "train.adapter"
data = "mix.exam"

[score.quality]
predictions = "predict.answers"
scorers = { em = "exact_match", rouge = "rouge" }

[aggregate.curve]
from = "score.quality"
by = ["target", "n"]
"#;

fn manifest() -> String {
    MANIFEST
        .replace("[train.first]", "[train.base]\ndata = \"mix.train[n=0,run=1,target=sst2]\"\narchitecture = { hidden_size = 8, layers = 1, heads = 2, intermediate_size = 16 }\ntokenizer = { bpe = 300 }\n\n[train.first]")
        .replace("base = \"{base}\"\nonly = { n = [0] }", "base = \"train.base\"\nlora = { r = 4 }")
        .replace("train.adapter", "train.second")
}

fn load(text: &str) -> Result<Pipeline, String> {
    load_with(text, &Overrides::default())
}

fn load_with(text: &str, overrides: &Overrides) -> Result<Pipeline, String> {
    let mut sources = Sources::default();
    super::load("m.toml", &|_| Ok(text.to_string()), overrides, &mut sources)
        .map_err(|problems| problems.iter().map(|problem| sources.render(problem)).collect())
}

fn names(pipeline: &Pipeline, selector: &str) -> Vec<String> {
    select(pipeline, selector).unwrap().into_iter().map(|node| pipeline.instances[node].id.to_string()).collect()
}

fn sources_of(pipeline: &Pipeline, selector: &str) -> Vec<String> {
    let node = select(pipeline, selector).unwrap()[0];
    let show = |input: &ResolvedInput| match &input.source {
        Source::Path(path) => format!("{} = {path}", input.role),
        Source::Output { instance, output } => {
            format!("{} = {}.{output}", input.role, pipeline.instances[*instance].id)
        }
    };
    pipeline.instances[node].inputs.iter().map(show).collect()
}

#[test]
fn axes_flow_downstream_by_natural_join() {
    let pipeline = load(&manifest()).unwrap();
    let counts: Vec<(String, usize)> =
        pipeline.stages.iter().map(|stage| (format!("{}.{}", stage.kind, stage.name), stage.instances)).collect();
    let count = |name: &str| counts.iter().find(|(stage, _)| stage == name).unwrap().1;
    assert_eq!(count("mix.train"), 8);
    assert_eq!(count("mix.exam"), 1, "pinned and gathered axes are gone");
    assert_eq!(count("train.base"), 1);
    assert_eq!(count("train.second"), 8);
    assert_eq!(count("predict.answers"), 8);
    assert_eq!(count("score.quality"), 16, "one instance per scorer");
    assert_eq!(count("aggregate.curve"), 1);
    assert_eq!(
        names(&pipeline, "train.second[n=20,target=xsum]"),
        ["train.second[n=20,run=1,target=xsum]", "train.second[n=20,run=2,target=xsum]"]
    );
    assert_eq!(pipeline.targets.len(), 1);
}

#[test]
fn references_meet_on_equal_values() {
    let pipeline = load(&manifest()).unwrap();
    assert_eq!(
        sources_of(&pipeline, "mix.exam"),
        ["source.0 = mix.train[n=20,run=1,target=sst2].test", "source.0 = mix.train[n=20,run=1,target=xsum].test"]
    );
    assert_eq!(
        sources_of(&pipeline, "train.second[n=0,run=2,target=xsum]"),
        [
            "data = mix.train[n=0,run=2,target=xsum].train",
            "validation = mix.train[n=20,run=1,target=xsum].validation",
            "base.0 = train.base.model",
            "base.1 = train.first[n=0,run=2,target=xsum].model",
        ]
    );
    let model: Vec<String> = sources_of(&pipeline, "predict.answers[n=0,run=2,target=xsum]");
    assert_eq!(
        model[..3],
        [
            "model.0 = train.base.model",
            "model.1 = train.first[n=0,run=2,target=xsum].model",
            "model.2 = train.second[n=0,run=2,target=xsum].model"
        ]
    );
    let scores = &pipeline.instances[*pipeline.targets.first().unwrap()].inputs;
    assert_eq!(scores.len(), 16);
    assert_eq!(scores[1].labels["scorer"], "rouge");
    assert_eq!(scores[1].labels["n"], 0);
}

#[test]
fn a_placeholder_may_name_an_output_but_no_stage() {
    let text = "titer = 1\n[axes]\nback = [1, 2]\n[mix.a]\nsources = [{ path = \"a.jsonl\" }]\n\
                [train.t1]\ndata = \"mix.a\"\nbase = \"m\"\nlora = {}\ncheckpoints = 2\n\
                [predict.p]\nmodel = \"train.t1.checkpoint-{back}\"\ndata = \"mix.a\"\n";
    let pipeline = load(text).unwrap();
    assert_eq!(sources_of(&pipeline, "predict.p[back=2]")[1], "model.1 = train.t1.checkpoint-2");
    let error = load(&text.replace("train.t1.checkpoint-{back}", "train.t{back}")).unwrap_err();
    assert!(error.contains("which stage is meant cannot depend on a placeholder"), "{error}");
    let error = load(&text.replace("checkpoints = 2\n", "checkpoints = 1\n")).unwrap_err();
    assert!(error.contains("`train.t1` keeps no `checkpoint-2`"), "{error}");
    assert!(error.contains("give `train.t1` the setting `checkpoints = 2`"), "{error}");
}

#[test]
fn only_narrows_a_stage_and_what_reads_it() {
    let text = manifest().replace("[train.second]\n", "[train.second]\nonly = { n = 20 }\n");
    let pipeline = load(&text).unwrap();
    assert_eq!(names(&pipeline, "predict.answers[target=sst2]").len(), 2);
    let error = load(&text.replace("n = 20 }", "n = 21 }")).unwrap_err();
    assert!(error.contains("`21` is no value of axis `n`"), "{error}");
}

#[test]
fn numbers_are_found_however_they_are_written() {
    let text = manifest()
        .replace("n = [0, 20]", "n = [0, 20, 1e-10]")
        .replace("[train.second]\n", "[train.second]\nonly = { n = [1e-10, 20.0] }\n")
        .replace("mix.train[n=20,run=1].test", "mix.train[n=2e1,run=1].test");
    let pipeline = load(&text).unwrap();
    assert_eq!(names(&pipeline, "train.second[target=sst2,run=1]").len(), 2);
    assert_eq!(names(&pipeline, "train.second[n=1e-10,run=1]").len(), 2);
    assert_eq!(sources_of(&pipeline, "mix.exam").len(), 2);
}

/// What follows from a mistake is not a second one.
#[test]
fn a_wrong_pin_is_one_problem() {
    let error = load(&manifest().replace("mix.train[n=20,run=1].test", "mix.train[n=7,run=1].test")).unwrap_err();
    assert!(error.contains("`7` is no value of axis `n`") && !error.contains("has no instance"), "{error}");
}

#[test]
fn absent_fields_and_variants_and_parameters() {
    let text = format!("{}\n[variant.small]\naxes = {{ n = [5] }}\ntargets = [\"mix.train\"]\n", manifest());
    let pipeline = load_with(&text, &Overrides { variant: Some("small".into()), ..Overrides::default() });
    // The pins of the manifest name a level that the variant does not have.
    assert!(pipeline.unwrap_err().contains("`20` is no value of axis `n`"));
    let set = |name: &str, value: &str| Overrides { params: vec![(name.into(), value.into())], ..Overrides::default() };
    assert!(load_with(&manifest(), &set("base", "models/other")).is_ok());
    // More than one line of TOML is no value, but a text.
    let text = manifest().replace("base = \"train.base\"", "base = \"{base}\"");
    let pipeline = load_with(&text, &set("base", "1\n[x]\ny = 2")).unwrap();
    assert!(sources_of(&pipeline, "train.first").contains(&"base.0 = 1\n[x]\ny = 2".to_string()));
    let set = set("bass", "1");
    let error = load_with(&manifest(), &set).unwrap_err();
    assert!(error.contains("did you mean `base`?") && error.contains("bass"), "{error}");
}

#[test]
fn axes_are_changed_from_the_command_line() {
    let with = |axes: &[(&str, &str)]| {
        let axes = axes.iter().map(|(name, values)| ((*name).to_string(), (*values).to_string())).collect();
        load_with(&manifest(), &Overrides { axes, ..Overrides::default() })
    };
    let pipeline = with(&[("n", "0, 20, 40"), ("target", "sst2")]).unwrap();
    assert_eq!(names(&pipeline, "mix.train").len(), 3 * 2);
    let node = select(&pipeline, "mix.train[n=40]").unwrap()[0];
    assert!(format!("{:?}", pipeline.instances[node].inputs).contains("sst2.jsonl"), "fields stay");
    for (axis, values, part) in [
        ("m", "1", "there is no axis `m`"),
        ("target", "sst3", "did you mean `sst2`?"),
        ("n", "0,20,20", "`20` stands twice"),
        ("n", "", "has no value"),
    ] {
        let error = with(&[(axis, values)]).unwrap_err();
        assert!(error.contains(part) && error.contains("--> --axis:1:"), "`{part}` is not in\n{error}");
    }
}

#[test]
fn defaults_are_what_stages_of_a_kind_share() {
    let text = manifest().replace("lora = { r = 4 }\n", "");
    assert_eq!(text.matches("lora").count(), 0);
    let text =
        format!("{text}\n[defaults.mix]\nsplit = {{ validation = 0.5 }}\n[defaults.predict]\nmax_new_tokens = 7\n");
    let pipeline = load(&text).unwrap();
    let recipe = |name: &str| format!("{:?}", pipeline.instances[select(&pipeline, name).unwrap()[0]].recipe);
    assert!(recipe("predict.answers").contains("max_new_tokens: 7"));
    assert!(recipe("mix.exam").contains("validation: 0.5"));
    assert!(recipe("mix.train").contains("validation: 0.1"), "what a stage says itself counts");
    let error = load(&format!("{text}\n[defaults.predct]\n")).unwrap_err();
    assert!(error.contains("`defaults.predct` is no kind of stage") && error.contains("`predict`"), "{error}");
}

#[test]
fn a_manifest_may_build_on_another() {
    let load = |files: &[(&str, &str)]| {
        let read = |name: &str| {
            let found = files.iter().find(|(file, _)| *file == name);
            found.map(|(_, text)| (*text).to_string()).ok_or_else(|| Diagnostic::new(format!("cannot read `{name}`")))
        };
        let mut sources = Sources::default();
        super::load("p/top.toml", &read, &Overrides::default(), &mut sources)
            .map_err(|problems| problems.iter().map(|problem| sources.render(problem)).collect::<String>())
    };
    let base = manifest();
    let top = "titer = 1\nextends = \"base.toml\"\n[axes]\nrun = [1]\n[predict.answers]\nmax_new_tokens = 9\n";
    let pipeline = load(&[("p/top.toml", top), ("p/base.toml", &base)]).unwrap();
    assert_eq!(pipeline.name, "curve");
    let picked = select(&pipeline, "predict.answers").unwrap();
    assert_eq!(picked.len(), 4, "the axis has one value now");
    assert!(format!("{:?}", pipeline.instances[picked[0]].recipe).contains("max_new_tokens: 9"));
    // Messages point into the file where the mistake is.
    let wrong = base.replace("exact_match", "exact_mach");
    let error = load(&[("p/top.toml", top), ("p/base.toml", &wrong)]).unwrap_err();
    assert!(error.contains("--> p/base.toml:"), "{error}");
    let error = load(&[("p/top.toml", &top.replace("max_new", "max_mew")), ("p/base.toml", &base)]).unwrap_err();
    assert!(error.contains("--> p/top.toml:6:1"), "{error}");
    let error = load(&[("p/top.toml", top)]).unwrap_err();
    assert!(error.contains("cannot read `p/base.toml`") && error.contains("--> p/top.toml:2:11"), "{error}");
    let circle = "titer = 1\nextends = \"top.toml\"\n";
    let error = load(&[("p/top.toml", top), ("p/base.toml", circle)]).unwrap_err();
    assert!(
        error.contains("p/top.toml → p/base.toml → p/top.toml") && error.contains("--> p/base.toml:2:11"),
        "{error}"
    );
}

#[test]
fn the_order_of_tables_does_not_matter() {
    let text = manifest();
    let at = text.find("[predict.answers]").unwrap();
    let tail = text.find("[mix.train]").unwrap();
    let moved = format!("{}{}{}", &text[..tail], &text[at..], &text[tail..at]);
    let (one, two) = (load(&text).unwrap(), load(&moved).unwrap());
    let ids = |pipeline: &Pipeline| {
        let mut ids: Vec<String> = pipeline.instances.iter().map(|instance| instance.id.to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&one), ids(&two));
    for (place, instance) in two.instances.iter().enumerate() {
        assert!(crate::graph::upstream(instance).all(|input| input < place), "inputs come before their users");
    }
}

#[test]
fn mistakes_are_shown_with_their_places() {
    for (from, to, parts) in [
        (
            "\"mix.train\"\nvalidation",
            "\"mix.trian\"\nvalidation",
            &["there is no stage `mix.trian`", "did you mean `mix.train`?"][..],
        ),
        ("run=1].test", "rum=1].test", &["does not vary over `rum`", "did you mean `run`?"]),
        ("gather = \"target\"", "gather = \"targets\"", &["does not vary over `targets`"]),
        ("take = \"{n}\"", "take = \"{m}\"", &["`{m}` is neither an axis nor a parameter"]),
        ("{target.path}", "{target.pat}", &["no value of axis `target` has a field `pat`", "did you mean `path`?"]),
        (", test = 0.1 }", " }", &["`mix.train` has no test rows", "split = { test = 0.1 }"]),
        ("[mix.exam]", "[mux.exam]", &["unknown setting `mux`", "did you mean `mix`?"]),
        ("model = \"train.second\"", "model = \"mix.train\"", &["`mix.train` cannot stand here", "train"]),
        ("n = [0, 20]", "n = [0, 20, 20]", &["`20` stands twice"]),
        ("n = [0, 20]", "n = []", &["the axis `n` has no value"]),
        ("titer = 1", "titer = 2", &["version 2"]),
        ("titer = 1\n", "", &["`titer` is missing"]),
        ("base = \"train.base\"", "base = \"train.second\"", &["train.first → train.second → train.first"]),
        ("[params]", "[params]\nn = 1", &["both a parameter and an axis"]),
        ("name = \"curve\"", "name = \"a/b\"", &["`a/b` cannot name a folder"]),
        ("[params]", "[params", &["m.toml"]),
    ] {
        let text = manifest();
        assert!(text.contains(from), "{from}");
        let error = load(&text.replacen(from, to, 1)).expect_err(to);
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in\n{error}");
        }
        assert!(error.contains("  --> m.toml:") || error.contains(" --> m.toml:"), "{error}");
    }
}

#[test]
fn too_many_combinations_are_refused_before_they_are_made() {
    let values: Vec<String> = (0..3000).map(|value| value.to_string()).collect();
    let axis = values.join(",");
    let text = format!(
        "titer = 1\n[axes]\na = [{axis}]\nb = [{axis}]\n[mix.m]\nover = [\"a\", \"b\"]\nsources = [{{ path = \"x.jsonl\" }}]\n"
    );
    let error = load(&text).unwrap_err();
    assert!(error.contains("9000000 instances (3000 × a, 3000 × b)"), "{error}");
}

#[test]
fn selectors_say_what_they_may_have_meant() {
    let pipeline = load(&manifest()).unwrap();
    assert_eq!(names(&pipeline, "aggregate"), ["aggregate.curve"]);
    let problem = |text: &str| select(&pipeline, text).unwrap_err();
    assert_eq!(problem("train.secnd").hint.as_deref(), Some("did you mean `train.second`?"));
    assert!(problem("trian").message.contains("did you mean `train`?"));
    assert!(problem("train.second[n=7").message.contains("does not end with `]`"));
    let problem = problem("mix.train[n=21,run=1,target=sst2]");
    assert!(problem.message.ends_with("`mix.train` has no `n` of `21`") && problem.hint.unwrap().contains("`20`"));
    assert_eq!(pipeline.instances[0].id.kind, Kind::Mix);
}
