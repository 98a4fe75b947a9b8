//! Only what changed runs again.

use crate::project::{MANIFEST, Project, tree};
use std::time::{Duration, SystemTime};

const NOTHING: [&str; 0] = [];

#[test]
fn a_second_run_does_nothing() {
    let project = Project::answers();
    let first = project.run();
    assert_eq!(first.len(), 3 + 6 + 1, "{first:?}");
    let before = tree(&project.path("out"));
    assert_eq!(project.run(), NOTHING);
    assert_eq!(tree(&project.path("out")), before);
    let output = project.titer(&["run", "pipelines/p.toml"]);
    assert!(output.out.contains("nothing to do"), "{output:?}");
    assert!(project.read("out/answers/aggregate.table/table.csv").contains("em"));
}

#[test]
fn what_changes_no_byte_of_a_result_runs_nothing() {
    let project = Project::answers();
    project.run();
    // A comment, another order of tables, another name of a stage.
    let (head, tail) = MANIFEST.split_once("[score.quality]").unwrap();
    let (score, aggregate) = tail.split_once("[aggregate.table]").unwrap();
    let text = format!("# why\n[aggregate.table]{aggregate}\n{head}")
        .replace("titer = 1\n", "")
        .replace("name = \"answers\"\n", "");
    let text =
        format!("titer = 1\nname = \"answers\"\n{text}\n[score.quality]{score}").replace("mix.rows", "mix.lines");
    project.write("pipelines/p.toml", &text);
    assert_eq!(project.run(), NOTHING);
    // A touched file, and one written again with the same bytes.
    let data = project.path("data/answers.jsonl");
    let file = std::fs::File::options().write(true).open(&data).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    assert_eq!(project.run(), NOTHING);
    let bytes = std::fs::read(&data).unwrap();
    std::fs::remove_file(&data).unwrap();
    std::fs::write(&data, bytes).unwrap();
    assert_eq!(project.run(), NOTHING);
}

#[test]
fn one_value_of_an_axis_runs_its_instances_and_the_aggregate() {
    let project = Project::answers();
    project.run();
    project.edit("pipelines/p.toml", "n = [2, 3, 5]", "n = [2, 4, 5]");
    assert_eq!(
        project.run(),
        ["aggregate.table", "mix.rows[n=4]", "score.quality[n=4,scorer=em]", "score.quality[n=4,scorer=rouge]"]
    );
    // And back: everything is still there.
    project.edit("pipelines/p.toml", "n = [2, 4, 5]", "n = [2, 3, 5]");
    assert_eq!(project.run(), NOTHING);
}

#[test]
fn every_instance_that_the_plan_left_open_has_its_line() {
    let project = Project::answers();
    project.run();
    project.edit(
        "pipelines/p.toml",
        "{ path = \"data/more.jsonl\" }",
        "{ path = \"data/more.jsonl\", where = \"true\" }",
    );
    let output = project.titer(&["run", "pipelines/p.toml"]);
    assert!(
        output.out.contains("[10/10]") && output.out.contains("is cached: what it reads is the same"),
        "{output:?}"
    );
}

#[test]
fn a_stage_that_yields_the_same_bytes_stops_there() {
    let project = Project::answers();
    project.run();
    let first = "  { path = \"data/answers.jsonl\", take = \"{n}\" },\n";
    let second = "  { path = \"data/more.jsonl\" },\n";
    project.edit("pipelines/p.toml", &format!("{first}{second}"), &format!("{second}{first}"));
    assert_eq!(project.run(), ["mix.rows[n=2]", "mix.rows[n=3]", "mix.rows[n=5]"]);
}

#[test]
fn a_new_scorer_runs_alone() {
    let project = Project::answers();
    project.run();
    project.edit("pipelines/p.toml", "rouge = \"rouge\"\n", "rouge = \"rouge\"\nf1 = \"token_f1\"\n");
    assert_eq!(
        project.run(),
        [
            "aggregate.table",
            "score.quality[n=2,scorer=f1]",
            "score.quality[n=3,scorer=f1]",
            "score.quality[n=5,scorer=f1]"
        ]
    );
}

#[test]
fn equal_keys_are_one_run() {
    let project = Project::answers();
    project.edit("pipelines/p.toml", "take = \"{n}\"", "take = 2");
    project.edit("pipelines/p.toml", "[mix.rows]", "[mix.rows]\nover = [\"n\"]");
    let ran = project.run();
    assert_eq!(ran.len(), 1 + 2 + 1, "{ran:?}");
}

#[test]
fn why_and_plan_say_what_differs() {
    let project = Project::answers();
    let plan = project.titer(&["plan", "pipelines/p.toml"]);
    assert!(plan.out.contains("will run: new") && plan.out.contains("waits for mix.rows[n=2]"), "{plan:?}");
    project.run();
    project.edit("pipelines/p.toml", "\"rouge\"\n", "{ kind = \"rouge\", stemmer = true }\n");
    let why = project.titer(&["why", "pipelines/p.toml", "score.quality[n=2,scorer=rouge]"]);
    assert!(why.out.contains("stemmer") && why.out.contains("true"), "{why:?}");
    project.edit("data/more.jsonl", "yes", "yes!");
    let plan = project.titer(&["plan", "pipelines/p.toml"]);
    assert!(plan.out.contains("source.1: content changed"), "{plan:?}");
    assert!(plan.out.contains("cached unless mix.rows[n=2] changes"), "{plan:?}");
}

#[test]
fn a_forced_run_is_an_observation() {
    let project = Project::answers();
    project.run();
    let output = project.titer(&["run", "pipelines/p.toml", "--force", "mix.rows[n=3]"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("the same bytes as before"), "{output:?}");
    assert_eq!(project.run(), NOTHING);
}

#[test]
fn a_deleted_result_is_restored_from_the_cache() {
    let project = Project::answers();
    project.run();
    let before = tree(&project.path("out"));
    std::fs::remove_file(project.path("out/answers/aggregate.table/table.csv")).unwrap();
    std::fs::remove_dir_all(project.path("out/answers/mix.rows")).unwrap();
    assert_eq!(project.run(), NOTHING);
    assert_eq!(tree(&project.path("out")), before);
}

#[test]
fn a_lost_object_is_made_again() {
    let project = Project::answers();
    project.run();
    let expected = tree(&project.path("out"));
    for (name, _) in tree(&project.path("cache/objects")) {
        std::fs::remove_file(project.path("cache/objects").join(name)).unwrap();
    }
    assert_eq!(project.run().len(), 10);
    assert_eq!(tree(&project.path("out")), expected);
}

#[test]
fn a_parameter_is_set_from_the_command_line() {
    let project = Project::answers();
    project.edit("pipelines/p.toml", "[axes]", "[params]\nmore = \"data/more.jsonl\"\n\n[axes]");
    project.edit("pipelines/p.toml", "path = \"data/more.jsonl\"", "path = \"{more}\"");
    project.run();
    project.write("data/other.jsonl", "{\"instruction\":\"a\",\"output\":\"b\",\"prediction\":\"b\"}\n");
    let ran = project.run_with(&["--set", "more=data/other.jsonl", "-t", "mix.rows[n=2]"]);
    assert_eq!(ran, ["mix.rows[n=2]"]);
    project.refuses(&["run", "pipelines/p.toml", "--set", "mora=1"], 2, &["`mora`", "did you mean `more`?"]);
}
