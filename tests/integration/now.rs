//! What is going on at this moment, what was going on when a run was killed, and what is remembered of work whose results
//! are gone.

use crate::project::{Project, json, text, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::Duration;

const M: &str = "pipelines/p.toml";

/// `mix.quick` is done at once; `mix.slow` reads it, says so, and waits for the file `go`.
fn project() -> Project {
    let project = Project::empty();
    let slow = "echo it begins; touch begun; until test -e go; do sleep 0.02; done; cp $1 $0/train.jsonl";
    project.write(
        M,
        &format!(
            "titer = 1\nname = \"p\"\n[mix.quick]\ncommand = [\"sh\", \"-c\", \"echo quick; echo 1 > $0/train.jsonl\", \
             \"{{output}}\"]\n[mix.slow]\ncommand = [\"sh\", \"-c\", \"{slow}\", \"{{output}}\", \"{{input.a}}\"]\n\
             inputs = {{ a = \"mix.quick\" }}\n[mix.last]\ncommand = [\"cp\", \"{{input.a}}\", \"{{output}}/train.jsonl\"]\n\
             inputs = {{ a = \"mix.slow\" }}\n"
        ),
    );
    project
}

/// Starts a run, and waits until the slow stage has begun.
fn start(project: &Project, more: &[&str]) -> Child {
    let mut command = project.command(&[&["run", M], more].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("it begins", || project.path("begun").exists());
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn go(project: &Project, mut child: Child) -> Option<i32> {
    project.write("go", "");
    child.wait().unwrap().code()
}

fn of<'a>(plan: &'a Value, name: &str) -> &'a Value {
    plan["instances"].as_array().unwrap().iter().find(|one| one["instance"] == name).unwrap()
}

#[test]
fn a_run_is_told_while_it_goes_on_and_after_it_was_killed() {
    let project = project();
    let child = start(&project, &[]);
    let run = json(&project, &["show", "last"])["run"].clone();
    assert_eq!((&run["state"], &run["process"]["pid"]), (&"running".into(), &child.id().into()));
    assert_eq!((&run["counts"]["ran"], &run["counts"]["unfinished"]), (&1.into(), &2.into()), "{run}");
    assert_eq!(run["instances"]["mix.quick"]["state"], "ran");
    assert_eq!(run["instances"]["mix.slow"]["state"], "running");
    assert!(text(&project, &["runs"]).contains("running"));
    assert!(text(&project, &["gc", "--keep-runs", "0", "--history", "--grace", "0s"]).contains("nothing to free"));
    kill(child);

    let run = json(&project, &["runs"])[0].clone();
    assert_eq!((&run["state"], &run["instances"]["mix.slow"]["state"]), (&"killed".into(), &"unfinished".into()));
    let shown = text(&project, &["show", "last"]);
    assert!(
        shown.contains("killed") && shown.contains("1 ran, 2 unfinished") && shown.contains("mix.quick"),
        "{shown}"
    );
    assert_eq!(json(&project, &["diff", "last", "last"])["instances"]["equal"], 2, "to one it did not come");
    // What a killed run made is kept as that of any run.
    let gc = |more: &[&str]| json(&project, &[&["gc", "--grace", "0s", "--wait", "0s"], more].concat());
    assert_eq!(gc(&["--keep-runs", "1"])["results"], serde_json::json!([]));
    assert_eq!(gc(&["--keep-runs", "0"])["results"].as_array().unwrap().len(), 1);

    project.write("go", "");
    assert_eq!(project.run(), ["mix.last", "mix.slow"]);
    let runs = json(&project, &["runs"]);
    assert_eq!((&runs[0]["state"], &runs[1]["state"]), (&"killed".into(), &"ended".into()));
    assert_eq!(
        (&runs[0]["counts"]["ran"], &runs[0]["counts"]["unfinished"]),
        (&1.into(), &2.into()),
        "what it did itself"
    );
    assert!(runs[1].get("process").is_none() && runs.as_array().unwrap().len() == 2, "{runs}");
    assert!(text(&project, &["show", "last"]).contains("changed against"));
    // When it goes, all of it does.
    let gone = gc(&["--keep-runs", "1", "--history", "--yes"]);
    let what: Vec<&str> =
        gone["leftovers"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert!(what.contains(&"summaries of runs") && what.contains(&"lists of dead processes"), "{gone}");
    assert_eq!(json(&project, &["runs"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_second_interruption_leaves_a_summary_too() {
    let project = project();
    project.edit(M, "touch begun", "trap '' TERM INT; touch begun");
    let mut child = start(&project, &[]);
    let pid = Pid::from_child(&child);
    for _ in 0..2 {
        kill_process(pid, Signal::INT).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let run = json(&project, &["runs"])[0].clone();
    // The first one may have come to its end before.
    assert!(run["state"] == "killed" || run["interrupted"] == true, "{run}");
    assert_eq!(run["counts"]["unfinished"], 2);
}

#[test]
fn a_run_with_nothing_to_do_is_kept_once() {
    let project = project();
    project.write("go", "");
    project.run();
    project.run();
    assert_eq!(std::fs::read_dir(project.path("cache/runs")).unwrap().count(), 2);
    assert_eq!(project.read("cache/history").lines().count(), 2);
}

#[test]
fn what_another_titer_makes_is_called_running() {
    let project = project();
    let child = start(&project, &[]);
    let plan = json(&project, &["plan", M]);
    let slow = of(&plan, "mix.slow");
    assert_eq!((&slow["status"], &slow["running"]["pid"]), (&"running".into(), &child.id().into()), "{slow}");
    assert!(slow["running"]["since"].is_string() && slow["running"]["again"] == false);
    assert_eq!(
        (&of(&plan, "mix.quick")["status"], &of(&plan, "mix.last")["status"]),
        (&"cached".into(), &"waits".into())
    );
    // The work that the going run has done is known.
    assert_eq!(of(&plan, "mix.slow")["expected_from"], "kind");
    let words = format!("(process {} on ", child.id());
    for command in ["plan", "status"] {
        let said = text(&project, &[command, M]);
        assert!(
            said.contains("1 running") && said.contains("mix.slow  running for") && said.contains(&words),
            "{said}"
        );
    }
    assert_eq!(project.titer(&["plan", M, "--check"]).code, 3);
    assert_eq!(go(&project, child), Some(0));
    assert!(!text(&project, &["status", M]).contains("running"));

    for name in ["go", "begun"] {
        std::fs::remove_file(project.path(name)).unwrap();
    }
    let child = start(&project, &["--force", "mix.slow"]);
    let slow = of(&json(&project, &["status", M]), "mix.slow").clone();
    assert_eq!((&slow["status"], &slow["running"]["again"]), (&"cached".into(), &true.into()));
    assert!(text(&project, &["plan", M]).contains("mix.slow  running again for"));
    kill(child);
    assert!(!text(&project, &["plan", M]).contains("running"));
}

#[test]
fn the_log_of_a_result_stays_and_that_of_a_further_run_is_followed() {
    let project = project();
    project.write("go", "");
    project.run();
    for name in ["go", "begun"] {
        std::fs::remove_file(project.path(name)).unwrap();
    }
    project.edit(M, "cp $1 $0", "echo now it fails; test -e good && cp $1 $0");
    project.write("good", "");
    project.write("go", "");
    project.run();
    let log = |more: &[&str]| text(&project, &[&["log", M, "mix.slow"], more].concat());
    assert_eq!(log(&[]), "it begins\nnow it fails\n");
    std::fs::remove_file(project.path("good")).unwrap();
    std::fs::remove_file(project.path("go")).unwrap();
    std::fs::remove_file(project.path("begun")).unwrap();

    let child = start(&project, &["--force", "mix.slow"]);
    let follower = project.command(&["log", M, "mix.slow", "-f"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let follower = follower.unwrap();
    // It must have seen the run before that ends.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(go(&project, child), Some(1));
    let output = follower.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("it begins\nnow it fails\nerror: ") && err.contains("runs again"), "{out}\n{err}");
    assert!(err.contains("the first result stays"), "{err}");

    assert_eq!(log(&[]), "it begins\nnow it fails\n", "that of the result");
    let output = project.titer(&["run", M, "--force", "mix.slow"]);
    let (_, path) = output.out.split_once("log: ").unwrap();
    let path = path.lines().next().unwrap();
    assert!(path.ends_with(".again.log") && project.read(path).contains("error: "), "{output:?}");
    assert!(project.titer(&["log", M, "mix.slow"]).err.contains(path), "where the other one is");
    // An audit is a further run too.
    assert_eq!(project.titer(&["audit", M, "mix.slow"]).code, 1);
    assert_eq!(log(&[]), "it begins\nnow it fails\n");
    assert_eq!(log(&["-n", "1"]), "now it fails\n");
    let said = json(&project, &["log", M, "mix.slow", "-n", "1"]);
    assert_eq!((&said[0]["state"], &said[0]["log"]), (&"done".into(), &serde_json::json!(["now it fails"])));
}

#[test]
fn a_failure_says_its_cause_in_a_word() {
    let project = project();
    project.edit(M, "cp $1 $0/train.jsonl", "exit 75");
    project.write("go", "");
    let output = project.titer(&["run", M, "--json"]);
    let failed = output.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let failed = failed.into_iter().find(|event| event["event"] == "failed").unwrap();
    assert_eq!(failed["cause"], "temporary");
    assert_eq!(json(&project, &["show", "last"])["run"]["instances"]["mix.slow"]["cause"], "temporary");
}

#[test]
fn what_was_freed_is_not_called_unfinished_and_its_times_stay() {
    let project = project();
    project.write("go", "");
    project.run();
    let plan = json(&project, &["plan", M]);
    let seconds = of(&plan, "mix.slow")["seconds"].clone();
    let freed = project.titer(&["gc", "--keep-runs", "0", "--grace", "0s", "--wait", "0s", "--yes"]);
    assert_eq!(freed.code, 0, "{freed:?}");
    let plan = json(&project, &["plan", M]);
    let quick = of(&plan, "mix.quick");
    assert_eq!(quick["reason"]["kind"], "freed", "{plan}");
    assert!(quick["reason"]["message"].as_str().unwrap().contains("was freed"));
    let slow = of(&plan, "mix.slow");
    assert_eq!((&slow["expected_seconds"], &slow["expected_from"]), (&seconds, &"instance".into()), "{plan}");
    assert!(text(&project, &["show", M, "mix.quick"]).contains("its result was freed"));
    // Nothing is known of what it was made of.
    project.edit(M, "echo quick;", "echo quickly;");
    assert_eq!(of(&json(&project, &["plan", M]), "mix.quick")["reason"]["kind"], "forgotten");
    assert_eq!(project.run().len(), 3);
    project.edit(M, "echo quickly;", "echo quick;");
    let reason = &of(&json(&project, &["plan", M]), "mix.quick")["reason"].clone();
    assert!(reason["kind"] == "changed" && reason["changes"][0]["setting"]["path"] == "command", "{reason}");
}

#[test]
fn what_is_made_again_is_listed_with_its_result_and_its_run() {
    let project = project();
    project.write("go", "");
    project.edit(M, "echo 1 >", "date +%s%N >");
    project.run();
    assert_eq!(json(&project, &["show", M, "mix.last"])[0]["observations"], serde_json::json!([]));
    assert_eq!(project.titer(&["audit", M, "mix.last"]).code, 0);
    assert_eq!(project.titer(&["audit", M, "mix.quick"]).code, 1);
    project.run_with(&["--force", "mix.last"]);
    let shown = text(&project, &["show", M, "mix.last"]);
    assert!(shown.contains("observed again 2 times: 2 the same bytes"), "{shown}");
    let shown = text(&project, &["show", M, "mix.quick"]);
    assert!(shown.contains("observed again 1 time: 1 differs in train"), "{shown}");
    let shown = text(&project, &["show", "last"]);
    assert!(shown.contains("mix.last") && shown.contains("the same bytes as the first run"), "{shown}");
    assert!(shown.contains("observed again, in all runs and audits: 2 results"), "{shown}");
    assert!(shown.contains("mix.quick  1 time: 1 differs in train"), "{shown}");
    let observed = json(&project, &["show", "last"])["observations"].clone();
    assert_eq!(observed["mix.quick"][0]["differing"], serde_json::json!(["train"]));
    assert_eq!(observed["mix.last"].as_array().unwrap().len(), 2);
    let why = text(&project, &["why", M, "mix.last"]);
    let (_, moment) = why.trim().split_once(" at ").unwrap();
    assert_eq!(moment.len(), "2026-01-02T03:04:05Z".len(), "whole seconds: {why}");
}

#[test]
fn the_last_run_is_the_one_that_began_last_whatever_the_clock_said() {
    let project = project();
    project.write("go", "");
    project.run();
    // As if the clock had been wrong then.
    let id = json(&project, &["runs"])[0]["id"].as_str().unwrap().to_string();
    let future = id.replacen(&id[..4], "2099", 1);
    let summary = project.read(&format!("cache/runs/{id}.json"));
    let started = serde_json::from_str::<Value>(&summary).unwrap()["started"].as_str().unwrap().to_string();
    let later = started.replacen(&started[..4], "2099", 1);
    project.write(&format!("cache/runs/{future}.json"), &summary.replace(&id, &future).replace(&started, &later));
    std::fs::remove_file(project.path(&format!("cache/runs/{id}.json"))).unwrap();
    project.edit("cache/history", &id, &future);
    project.edit(M, "echo quick;", "echo quickly;");
    project.run();
    let ids: Vec<String> = json(&project, &["runs"])
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["id"].as_str().unwrap().to_string())
        .collect();
    assert_eq!((ids.len(), &ids[0]), (2, &future));
    let shown = json(&project, &["show", "last"]);
    assert_eq!((&shown["run"]["id"], &shown["before"]), (&ids[1].as_str().into(), &future.as_str().into()));
    // A collector keeps the last run, not the one of the future.
    let gone = json(&project, &["gc", "--keep-runs", "1", "--history", "--grace", "0s", "--wait", "0s", "--yes"]);
    assert_eq!(gone["results"].as_array().unwrap().len(), 1, "{gone}");
    assert!(project.run().is_empty());
}

#[test]
fn a_record_that_is_deleted_is_missed_by_plan_and_run_alike() {
    let run = |project: &Project| text(project, &["run", M]);
    for what in ["record.json", ""] {
        let project = project();
        project.write("go", "");
        project.run();
        std::thread::sleep(Duration::from_millis(40));
        assert!(run(&project).contains("nothing to do"));
        let key = of(&json(&project, &["plan", M]), "mix.last")["key"].as_str().unwrap().to_string();
        let path = project.path("cache/actions").join(&key[..2]).join(&key).join(what);
        if what.is_empty() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
        assert_eq!(of(&json(&project, &["plan", M]), "mix.last")["status"], "runs", "{what}");
        assert!(run(&project).contains("1 ran, 2 cached"), "{what}");
    }
}

#[test]
fn a_new_instance_is_explained_by_the_nearest_that_was_made() {
    let project = Project::answers();
    project.run();
    project.edit(M, "n = [2, 3, 5]", "n = [2, 5, 6]");
    let said = text(&project, &["why", M, "mix.rows[n=6]"]);
    assert!(said.contains("new: n: 5 → 6 against `mix.rows[n=5]`"), "{said}");
    assert!(said.contains("sources.0.take.rows: 5 → 6"), "{said}");
    let answer = json(&project, &["why", M, "mix.rows[n=6]"])[0].clone();
    assert_eq!((&answer["reason"], &answer["nearest"]["instance"]), (&"new".into(), &"mix.rows[n=5]".into()));
    assert_eq!(answer["nearest"]["axes"], serde_json::json!([{ "axis": "n", "old": "5", "new": "6" }]));
    let said = text(&project, &["why", M, "score.quality[n=6,scorer=em]"]);
    assert!(
        said.contains("waits for") && said.contains("new: n: 5 → 6 against `score.quality[n=5,scorer=em]`"),
        "{said}"
    );
    assert!(json(&project, &["why", M, "mix.rows[n=2]"])[0]["nearest"].is_null());
}

#[test]
fn a_command_is_not_judged_by_titers_own_work() {
    let project = Project::answers();
    project.run();
    let text = project.read(M);
    project.write(M, &format!("{text}\n[mix.other]\ncommand = [\"true\"]\n"));
    let plan = json(&project, &["plan", M, "-t", "mix.other"]);
    assert_eq!(of(&plan, "mix.other")["expected"], Value::Null, "{plan}");
    assert_eq!(plan["expected"]["unknown"], 1);
}

#[test]
fn what_failed_before_a_kill_is_told_so() {
    let project = project();
    let stages = project.read(M);
    project.write(M, &format!("{stages}[mix.bad]\ncommand = [\"sh\", \"-c\", \"echo it hurts; exit 3\"]\n"));
    let child = start(&project, &["-k", "-j", "3"]);
    let failed = || json(&project, &["show", "last"])["run"]["counts"]["failed"] == 1;
    wait_for("it fails", failed);
    kill(child);
    let run = json(&project, &["show", "last"])["run"].clone();
    assert_eq!((&run["state"], &run["counts"]["unfinished"]), (&"killed".into(), &2.into()));
    let bad = &run["instances"]["mix.bad"];
    assert_eq!(bad["state"], "failed");
    assert!(bad["message"].as_str().unwrap().contains("exit code 3"), "{bad}");
    assert_eq!(run["instances"]["mix.last"]["state"], "unfinished", "to which it did not come");
    assert!(text(&project, &["show", "last"]).contains("at least"));
    // What waited is no instance that is gone.
    project.write("go", "");
    let output = project.titer(&["run", M, "-k"]);
    assert_eq!(output.code, 1, "{output:?}");
    let changed = json(&project, &["diff", "last~1", "last"])["instances"].clone();
    assert_eq!((&changed["added"], &changed["removed"]), (&serde_json::json!([]), &serde_json::json!([])), "{changed}");
}

#[test]
fn the_log_of_what_is_to_run_again_is_waited_for() {
    let project = project();
    project.write("go", "");
    project.run();
    for name in ["go", "begun"] {
        std::fs::remove_file(project.path(name)).unwrap();
    }
    // Nothing says when it begins but the process that will do it: `mix.last` waits for `mix.slow`.
    project.edit(
        M,
        "[\"cp\", \"{input.a}\", \"{output}/train.jsonl\"]",
        "[\"sh\", \"-c\", \"echo copied; cp $1 $0/train.jsonl\", \"{output}\", \"{input.a}\"]",
    );
    project.write("go", "");
    project.run();
    std::fs::remove_file(project.path("go")).unwrap();
    let child = start(&project, &["--force", "mix.slow", "--force", "mix.last"]);
    assert_eq!(json(&project, &["log", M, "mix.last"])[0]["state"], "queued again");
    assert_eq!(json(&project, &["log", M, "mix.quick"])[0]["state"], "done");
    let follower = project.command(&["log", M, "mix.last", "-f"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let follower = follower.unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(go(&project, child), Some(0));
    let output = follower.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out, "copied\n", "{err}");
    assert!(err.contains("is to run again") && err.contains("the first result stays"), "{err}");
    assert_eq!(json(&project, &["log", M, "mix.last"])[0]["state"], "done");
}
