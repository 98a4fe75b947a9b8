//! Results that are accepted from one kind of device only.

use crate::project::{Project, tree};

/// A project whose one stage trains by a command.
fn project(more: &str) -> Project {
    let project = Project::empty();
    let command = r#"["sh", "-c", "mkdir $0/model; echo $CUDA_VISIBLE_DEVICES > $0/model/card", "{output}"]"#;
    let manifest = format!("titer = 1\nname = \"d\"\n\n[train.a]\ncommand = {command}\n{more}\n");
    project.write("pipelines/p.toml", &manifest);
    project
}

const RUN: [&str; 4] = ["run", "pipelines/p.toml", "--gpus", "7"];

#[test]
fn what_requires_a_card_gets_one_and_does_not_start_without() {
    let project = project("require = { device = \"cuda\" }");
    let without = ["run", "pipelines/p.toml", "--gpus", "none"];
    project.refuses(&without, 2, &["p.toml:4:8", "needs graphics cards: 1, and there is none"]);
    assert_eq!(project.titer(&RUN).code, 0);
    assert_eq!(project.read("out/d/train.a/model/card"), "7\n");
    assert_eq!(project.titer(&RUN).code, 0, "a cached result of the right device is accepted");
}

#[test]
fn a_result_of_another_device_is_refused_be_it_in_the_cache_or_new() {
    let cached = project("");
    assert_eq!(cached.titer(&RUN).code, 0);
    cached.edit("pipelines/p.toml", "\n\n[train.a]", "\n\n[train.a]\nrequire = { device = \"cpu\" }");
    let against = "`train.a`: its result was made on `cuda`, and `require` asks for `cpu`";
    cached.refuses(&RUN, 2, &["p.toml:4:8", against, "take another cache"]);
}

#[test]
fn what_cannot_become_a_result_of_the_device_is_refused_before_it_runs() {
    for (demands, expected) in [
        (
            "require = { device = \"cpu\" }\ngpus = 1",
            "`train.a` requires the device `cpu`, and asks for graphics cards",
        ),
        ("require = { device = \"cuda\" }\ngpus = 0", "requires the device `cuda`, and asks for no graphics card"),
        ("require = { device = \"metal\" }", "requires the device `metal`, and of a `command` nobody can tell"),
    ] {
        let project = project(demands);
        project.refuses(&RUN, 2, &["p.toml:4:8", expected]);
        assert!(!project.path("cache/logs").exists() || tree(&project.path("cache/logs")).is_empty(), "{demands}");
    }
    let project = project("require = { device = \"cpu\" }");
    assert_eq!(project.titer(&RUN).code, 0, "without a word of cards it gets none");
    assert_eq!(project.read("out/d/train.a/model/card"), "\n");
}

#[test]
fn a_run_requires_a_device_of_all_that_cards_could_do() {
    let project = project("");
    project.edit("pipelines/p.toml", "\n\n[train.a]", "\nrequire = { device = \"cpu\" }\n\n[train.a]");
    assert_eq!(project.titer(&RUN).code, 0);
    assert_eq!(project.read("out/d/train.a/model/card"), "\n");
    let cuda = [&RUN[..], &["--require", "device=cuda"]].concat();
    project.refuses(&cuda, 2, &["`train.a`: its result was made on `cpu`, and `require` asks for `cuda`"]);
    project.refuses(&[&RUN[..], &["--require", "cuda"]].concat(), 2, &["expected `device=cpu`, `device=cuda`"]);
    // A stage's own word goes before both.
    project.edit("pipelines/p.toml", "[train.a]", "[train.a]\nrequire = { device = \"cpu\" }");
    assert_eq!(project.titer(&cuda).code, 0);
    // What is always done by the processor is not asked.
    let answers = Project::answers();
    assert_eq!(answers.titer(&["run", "pipelines/p.toml", "--require", "device=cuda"]).code, 0);
}

/// Two trainings with one key: `a`, which gets no card, and `b`, which requires one.
fn two(wait: &str, b_reads: &str, b_is_first: bool) -> Project {
    let project = Project::empty();
    let stage = |name: &str, reads: &str, demands: &str| {
        let command = format!("{wait} mkdir $0/model; echo $CUDA_VISIBLE_DEVICES > $0/model/card");
        let command = format!("[\"sh\", \"-c\", \"{command}\", \"{{output}}\"]");
        format!("[train.{name}]\ncommand = {command}\ninputs = {{ of = \"{reads}\" }}\n{demands}\n")
    };
    let copy = r#"["cp", "{input.of}", "{output}/train.jsonl"]"#;
    let mut stages = [stage("a", "rows.jsonl", "gpus = 0"), stage("b", b_reads, "require = { device = \"cuda\" }")];
    if b_is_first {
        stages.reverse();
    }
    let [first, second] = stages;
    let mix = format!("[mix.m]\ncommand = {copy}\ninputs = {{ of = \"rows.jsonl\" }}\n");
    let manifest = format!("titer = 1\nname = \"d\"\n{mix}{first}{second}");
    project.write("rows.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n");
    project.write("pipelines/p.toml", &manifest);
    project
}

#[test]
fn of_equal_keys_the_one_that_requires_a_device_is_made() {
    for b_is_first in [true, false] {
        let project = two("", "rows.jsonl", b_is_first);
        let output = project.titer(&RUN);
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.out.contains("1 shared"), "{output:?}");
        assert_eq!(project.read("out/d/train.a/model/card"), "7\n");
    }
}

#[test]
fn a_result_that_another_instance_made_is_asked_for_its_device_too() {
    // `b` is known to have the key of `a` only when `a` is at work.
    let project = two("while [ ! -e out/d/mix.m/train.jsonl ]; do sleep 0.01; done;", "mix.m", false);
    let expected = "its result was made on `cpu`, and `require` asks for `cuda`; it is that of `train.a`";
    project.refuses(&[&RUN[..], &["-j", "2"]].concat(), 1, &["train.b", expected]);
    assert_eq!(project.read("out/d/train.a/model/card"), "\n");
    assert!(!project.path("out/d/train.b/model").exists());
}

#[test]
fn what_this_program_cannot_do_on_a_device_is_said_before_anything_runs() {
    let project = Project::answers();
    project.edit("pipelines/p.toml", "[mix.rows]\n", "[mix.rows]\nrequire = { device = \"metal\" }\n");
    let run = ["run", "pipelines/p.toml"];
    project.refuses(&run, 2, &["`mix.rows` requires the device `metal`, and is always done by the processor"]);
    project.edit("pipelines/p.toml", "\"metal\"", "\"tpu\"");
    project.refuses(&run, 2, &["`tpu` is not known here"]);
}
