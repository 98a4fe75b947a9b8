//! The collector and pins, as a person and as other processes meet them.

use crate::project::{Project, tree};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NOTHING: [&str; 0] = [];
/// Nothing is too young to go, and no other host is waited for.
const NOW: [&str; 5] = ["gc", "--grace", "0s", "--wait", "0s"];

fn gc(project: &Project, more: &[&str]) -> serde_json::Value {
    let output = project.titer(&[&NOW[..], more, &["--json"]].concat());
    assert_eq!(output.code, 0, "{output:?}");
    serde_json::from_str(&output.out).unwrap()
}

fn instances(said: &serde_json::Value) -> Vec<String> {
    let names = said["results"].as_array().unwrap().iter();
    let mut names: Vec<String> = names.map(|result| result["instance"].as_str().unwrap().to_string()).collect();
    names.sort();
    names
}

/// A project in which the results of `n = 3` are needed by nobody any more.
fn renewed() -> Project {
    let project = Project::answers();
    project.run();
    project.edit("pipelines/p.toml", "n = [2, 3, 5]", "n = [2, 5]");
    project.edit("pipelines/p.toml", "take = \"{n}\"", "take = \"{n}\", where = \"true\"");
    project.run();
    // The summary of the first run would keep what it made.
    std::fs::remove_dir_all(project.path("cache/runs")).unwrap();
    // The instances that are gone are still listed by their last keys.
    assert_eq!(project.titer(&["clean", "pipelines/p.toml", "--forget"]).code, 0);
    project
}

#[test]
fn gc_says_what_would_go_and_frees_it_only_when_told() {
    let project = renewed();
    let cache = tree(&project.path("cache/objects"));
    let said = project.titer(&NOW);
    assert_eq!(said.code, 0, "{said:?}");
    for text in ["of no run that is known", "mix.rows", "would free", "nothing was freed: `--yes` does it"] {
        assert!(said.out.contains(text), "{text}: {said:?}");
    }
    assert!(!project.titer(&[&NOW[..], &["--dry-run"]].concat()).out.contains("--yes"));
    assert_eq!(tree(&project.path("cache/objects")), cache);

    let would = gc(&project, &[]);
    let freed = gc(&project, &["--yes"]);
    assert_eq!((would["freed"].as_bool(), freed["freed"].as_bool()), (Some(false), Some(true)));
    assert_eq!(would["results"], freed["results"]);
    let gone = instances(&freed);
    assert!(gone.contains(&"mix.rows[n=3]".to_string()), "{gone:?}");
    assert!(tree(&project.path("cache/objects")).len() < cache.len());
    assert_eq!(project.run(), NOTHING, "what the last run used is there");
    let output = project.titer(&["verify"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(project.titer(&NOW).out.contains("nothing to free"));
}

#[test]
fn runs_that_history_tells_of_keep_their_results() {
    let project = renewed();
    let gone = instances(&gc(&project, &[]));
    // As the history writes it: a run of what is in `pipelines/`, and of one instance more.
    let mut keys: serde_json::Value = serde_json::from_str(&project.read("cache/pipelines/answers.json")).unwrap();
    keys["mix.rows[n=3]"] = gc(&project, &[])["results"][0]["key"].clone();
    project.write("cache/plans/abc.json", &serde_json::json!({ "instances": keys }).to_string());
    let run = serde_json::json!({ "pipeline": "answers", "started": "2026-01-01T00:00:00Z", "plan": "abc" });
    project.write("cache/runs/20260101T000000Z-abcdef.json", &run.to_string());
    assert_eq!(instances(&gc(&project, &[])).len(), gone.len() - 1);
    assert_eq!(instances(&gc(&project, &["--keep-runs", "0"])).len(), 10 + 3, "everything");
    assert_eq!(instances(&gc(&project, &["--older-than", "30d"])), NOTHING, "all was made today");
    assert_eq!(instances(&gc(&project, &["--max-size", "1GiB"])), NOTHING);
    project.refuses(&["gc", "--older-than", "soon"], 2, &["`soon` is no span of time"]);
    project.refuses(&["gc", "--max-size", "lots"], 2, &["`lots` is no size"]);
}

#[test]
fn a_pinned_table_stays_with_all_that_it_was_made_of() {
    let project = Project::answers();
    project.refuses(&["pin", "pipelines/p.toml", "aggregate.table"], 2, &["is not made yet", "run it first"]);
    project.run();
    let pinned = project.titer(&["pin", "pipelines/p.toml", "aggregate", "--note", "for the paper"]);
    assert!(pinned.out.contains("pinned 10 results"), "{pinned:?}");
    let listed = project.titer(&["pin", "pipelines/p.toml"]);
    assert!(listed.out.contains("aggregate.table") && listed.out.contains("with 9 that it was made of"), "{listed:?}");
    assert!(listed.out.contains("for the paper"), "{listed:?}");
    assert_eq!(instances(&gc(&project, &["--keep-runs", "0", "--yes"])), NOTHING);
    project.refuses(&["unpin", "pipelines/p.toml", "mix.rows"], 2, &["picks nothing that is pinned"]);
    // By a name that the manifest does not have any more.
    project.edit("pipelines/p.toml", "aggregate.table", "aggregate.other");
    assert_eq!(project.titer(&["unpin", "pipelines/p.toml", "aggregate.table"]).code, 0);
    assert_eq!(instances(&gc(&project, &["--keep-runs", "0", "--yes"])).len(), 10);
    assert_eq!(project.run().len(), 10, "all of it is made again");
    project.titer(&["pin", "pipelines/p.toml", "aggregate", "--only"]);
    assert_eq!(instances(&gc(&project, &["--keep-runs", "0"])).len(), 9);
}

#[test]
fn instances_that_the_manifest_has_no_more_go() {
    let project = Project::answers();
    project.run();
    project.edit("pipelines/p.toml", "n = [2, 3, 5]", "n = [2, 5]");
    project.run();
    assert_eq!(instances(&gc(&project, &[])), NOTHING, "the first run is one of the last five");
    let gone = instances(&gc(&project, &["--keep-runs", "1"]));
    assert_eq!(gone.len(), 3 + 1, "{gone:?}");
    assert_eq!(gone[..2], ["aggregate.table", "mix.rows[n=3]"]);
}

/// What a command says if a sweep takes the result of an instance after the command has planned.
fn swept_meanwhile(project: &Project, args: &[&str], instance: &str) -> (i32, String) {
    let log = project.titer(&["log", "pipelines/p.toml", instance, "--json"]).out;
    let key = serde_json::from_str::<serde_json::Value>(&log).unwrap()[0]["key"].as_str().unwrap().to_string();
    let mark = project.path("cache/sweep");
    // Of a host whose processes are not seen, so that it is waited for.
    std::os::unix::fs::symlink("elsewhere.1.x", &mark).unwrap();
    let mut child = project.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let relies = || {
        let lists = std::fs::read_dir(project.path("cache/roots")).into_iter().flatten().flatten();
        lists.into_iter().any(|list| std::fs::read_to_string(list.path()).is_ok_and(|text| text.contains("run ")))
    };
    while !relies() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::remove_dir_all(project.path("cache/actions").join(&key[..2]).join(&key)).unwrap();
    project.write("cache/swept", "");
    std::fs::remove_file(&mark).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn pins_and_audits_see_what_a_collector_took_meanwhile() {
    let project = Project::answers();
    project.run();
    let scores = ["audit", "pipelines/p.toml", "score.quality[n=2]"];
    let (code, said) = swept_meanwhile(&project, &scores, "mix.rows[n=2]");
    assert!(code == 2 && said.contains("nothing of it is in the cache"), "{said}");
    project.run();
    let (code, said) = swept_meanwhile(&project, &["pin", "pipelines/p.toml", "aggregate"], "mix.rows[n=2]");
    assert!(code == 2 && said.contains("`mix.rows[n=2]` is not made yet"), "{said}");
    assert!(!project.path("cache/pins").exists() || tree(&project.path("cache/pins")).is_empty());
}

#[test]
fn without_a_cache_none_is_made() {
    let project = Project::answers();
    for command in ["gc", "verify"] {
        project.refuses(&[command], 2, &["there is no cache in `cache`", "--cache DIR"]);
        project.write("files/mine.txt", "");
        project.refuses(&[command, "--cache", "files"], 2, &["there is no cache in `files`"]);
    }
    assert!(!project.path("cache").exists() && tree(&project.path("files")).len() == 1);
}

/// Two manifests on one cache change all the time; a collector frees what it can. No run may fail or miss a thing.
#[test]
fn a_collector_that_never_rests_disturbs_no_run() {
    let project = Project::answers();
    let text = project.read("pipelines/p.toml");
    project.write("pipelines/q.toml", &text.replace("\"answers\"", "\"questions\"").replace("[2, 3, 5]", "[3, 4]"));
    let stop = AtomicBool::new(false);
    let freed = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut freed = 0;
            while !stop.load(Ordering::Relaxed) {
                if project.path("cache/VERSION").exists() {
                    freed += instances(&gc(&project, &["--keep-runs", "1", "--yes"])).len();
                }
            }
            freed
        });
        let runs = [("p", "answers"), ("q", "questions")].map(|(file, name)| {
            let (project, text) = (&project, &text);
            scope.spawn(move || {
                let manifest = format!("pipelines/{file}.toml");
                for round in 0..8 {
                    let n = format!("n = [{}, {}]", 2 + round % 3, 3 + round % 3);
                    let text = text.replace("\"answers\"", &format!("\"{name}\"")).replace("n = [2, 3, 5]", &n);
                    project.write(&manifest, &text);
                    let run = project.titer(&["run", &manifest]);
                    assert_eq!(run.code, 0, "{run:?}");
                    let table = project.read(&format!("out/{name}/aggregate.table/table.csv"));
                    assert!(table.contains(&format!("\n{},", 2 + round % 3)), "{table}");
                    let again = project.titer(&["run", &manifest]);
                    assert!(again.code == 0 && again.out.contains("nothing to do"), "{again:?}");
                }
            })
        });
        let ended = runs.map(|run| run.join());
        stop.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
        collector.join().unwrap()
    });
    // Instances of all values of the axis are listed by their last keys; what one round replaces is the table.
    assert!(freed > 0);
    let output = project.titer(&["verify"]);
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn a_collector_that_is_killed_loses_nothing_that_is_needed() {
    let project = renewed();
    let expected = tree(&project.path("out"));
    for step in 0..15 {
        // Something to free each time.
        project.edit("pipelines/p.toml", "where = \"true\"", "where = \"1 == 1\"");
        project.run();
        project.edit("pipelines/p.toml", "where = \"1 == 1\"", "where = \"true\"");
        project.run();
        let mut child = project.command(&[&NOW[..], &["--yes"]].concat()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(step));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(project.run(), NOTHING, "killed after {step} ms");
        assert_eq!(tree(&project.path("out")), expected);
    }
    gc(&project, &["--yes"]);
    assert_eq!(project.run(), NOTHING);
    assert_eq!(project.titer(&["verify"]).code, 0);
    assert!(!project.path("cache/sweep").is_symlink() && tree(&project.path("cache/trash")).is_empty());
}
