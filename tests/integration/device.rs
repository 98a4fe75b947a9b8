//! Results that are accepted from one kind of device only.

use crate::project::Project;

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

    let new = project("require = { device = \"cpu\" }\ngpus = 1");
    new.refuses(&RUN, 1, &["its result was made on `cuda`, and `require` asks for `cpu`", "and is no result"]);
    new.edit("pipelines/p.toml", "gpus = 1", "gpus = 0");
    assert_eq!(new.titer(&RUN).code, 0, "what was refused is in no cache");
    assert_eq!(new.read("out/d/train.a/model/card"), "\n");
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
