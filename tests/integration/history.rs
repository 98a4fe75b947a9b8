//! What runs leave behind, what differs between them, and what comes of doing them again.

use crate::project::{Project, answer, json, text};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

const M: &str = "pipelines/p.toml";

fn runs(project: &Project) -> Vec<Value> {
    json(project, &["runs"]).as_array().unwrap().clone()
}

/// A project whose only stage writes what `script` says.
fn command(script: &str) -> Project {
    let project = Project::empty();
    let script = script.replace('"', "\\\"");
    project.write(
        M,
        &format!("titer = 1\nname = \"c\"\n[mix.a]\ncommand = [\"sh\", \"-c\", \"{script}\", \"{{output}}\"]\n"),
    );
    project
}

#[test]
fn every_run_leaves_a_summary_and_equal_plans_are_kept_once() {
    let project = Project::answers();
    project.run();
    project.run();
    project.run_with(&["-t", "score.quality[n=2]", "--axis", "n=2,9"]);
    let runs = runs(&project);
    let [first, second, third] = runs.as_slice() else { panic!("{runs:?}") };
    let ids: Vec<&str> = runs.iter().map(|run| run["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!((first["pipeline"].as_str(), first["manifest"].as_str()), (Some("answers"), Some(M)));
    assert_eq!((&first["counts"]["ran"], &first["counts"]["cached"]), (&10.into(), &0.into()));
    assert_eq!(first["instances"].as_object().unwrap().len(), 10);
    let mix = &first["instances"]["mix.rows[n=2]"];
    assert!(mix["state"] == "ran" && mix["seconds"].as_f64() > Some(0.0) && mix["device"] == "cpu", "{mix}");
    assert!(first["machine"]["cpu"].is_string() && first["plan"].is_string());

    assert_eq!((&second["counts"]["cached"], &second["instances"]), (&10.into(), &serde_json::json!({})));
    assert!(second["plan"] == first["plan"] && second["saved_seconds"].as_f64() > Some(0.0));
    assert!(second["git"].is_null() && second["machine"].is_null(), "nothing ran");
    assert_eq!(third["asked"], serde_json::json!({ "axis": ["n=2,9"], "targets": ["score.quality[n=2]"] }));
    assert_ne!(third["plan"], first["plan"]);
    assert_eq!(std::fs::read_dir(project.path("cache/plans")).unwrap().count(), 2);

    // The manifest is there as it was, whatever becomes of the file.
    let digest = first["manifests"][M].as_str().unwrap();
    assert_eq!(project.read(&format!("cache/objects/{}/{digest}", &digest[..2])), project.read(M));
    assert_eq!(first["manifests"].as_object().unwrap().len(), 1);
}

#[test]
fn a_run_that_fails_or_is_stopped_leaves_one_too() {
    let project = command("test -e good || { echo no rows; exit 3; }; echo '{}' > $0/train.jsonl");
    assert_eq!(project.titer(&["run", M]).code, 1);
    let run = &runs(&project)[0];
    let entry = &run["instances"]["mix.a"];
    assert_eq!((&run["counts"]["failed"], &entry["state"], &entry["tries"]), (&1.into(), &"failed".into(), &1.into()));
    assert!(entry["message"].as_str().unwrap().contains("exit code 3"));
    project.write("good", "");
    project.run();
    let shown = text(&project, &["show", "last~1"]);
    assert!(shown.contains("failed") && shown.contains("mix.a") && shown.contains("exit code 3"), "{shown}");

    let project = command("touch begun; sleep 600; echo '{}' > $0/train.jsonl");
    let mut child = project.command(&["run", M]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !project.path("begun").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let run = &runs(&project)[0];
    assert_eq!((&run["interrupted"], &run["counts"]["unfinished"]), (&true.into(), &1.into()));
    assert_eq!(run["instances"]["mix.a"]["state"], "unfinished");
    assert!(text(&project, &["runs", M]).contains("interrupted"));
}

#[test]
fn the_revision_of_the_project_is_in_the_summary() {
    let project = Project::answers();
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=t", "-c", "user.email=t@t"];
        let folder = project.path("");
        Command::new("git").arg("-C").arg(folder).args(who).args(args).output().is_ok_and(|git| git.status.success())
    };
    if !git(&["init", "-q"]) {
        return; // No git here: then there is none for titer.
    }
    assert!(git(&["add", "pipelines", "data"]) && git(&["commit", "-qm", "one"]));
    project.run();
    project.edit(M, "n = [2, 3, 5]", "n = [2, 4, 5]");
    project.run();
    let runs = runs(&project);
    assert_eq!(runs[0]["git"]["commit"].as_str().map(str::len), Some(40));
    assert_eq!((&runs[0]["git"]["dirty"], &runs[1]["git"]["dirty"]), (&false.into(), &true.into()));
}

#[test]
fn runs_are_named_by_beginnings_and_from_the_end() {
    let project = Project::answers();
    project.refuses(&["runs"], 2, &["there is no cache in `cache`"]);
    project.refuses(&["runs", M], 2, &["nothing has run yet"]);
    project.run();
    project.edit(M, "by = [\"n\"]", "by = [\"n\"]\nmetrics = [\"em\"]");
    project.run();
    let id = runs(&project)[1]["id"].as_str().unwrap().to_string();
    for name in [id.as_str(), &id[..id.len() - 1], "last"] {
        let shown = json(&project, &["show", name]);
        assert_eq!(shown["run"]["id"], id.as_str(), "{name}");
        let changed = &shown["changed"]["changed"];
        assert_eq!(changed.as_object().unwrap().keys().collect::<Vec<_>>(), ["aggregate.table"]);
        assert_eq!(changed["aggregate.table"]["changes"][0]["setting"]["path"], "metrics");
    }
    assert_eq!(json(&project, &["show", M])["run"]["id"], id.as_str(), "a manifest's last run");
    assert_eq!(json(&project, &["show", M, "last~1"])["run"]["id"], runs(&project)[0]["id"]);
    assert!(text(&project, &["show", "last"]).contains("metrics: not set → [\"em\"]"));
    assert_eq!(json(&project, &["runs", "-n", "1"])[0]["id"], id.as_str());
    project.refuses(&["show", "2"], 2, &["`2` is neither a manifest nor a run"]);
    project.refuses(&["show", "2020"], 2, &["there is no run `2020`", "`titer runs` lists them"]);
    project.refuses(&["show", &id[..4]], 2, &["begins the names of 2 runs"]);
    project.refuses(&["show", "last~7"], 2, &["there is no run `last~7`: the cache has 2"]);
    project.refuses(&["show", "last", "mix"], 2, &["`last` is a run: what is `mix`?"]);
    // Without its plan nothing can be said of what differs, and that is said.
    let plan = json(&project, &["show", "last"])["run"]["plan"].as_str().unwrap().to_string();
    project.write(&format!("cache/plans/{plan}.json"), "{}");
    project.refuses(&["diff", "last~1", "last"], 2, &["is damaged and not used", "the plan of run `"]);
    assert!(text(&project, &["show", "last"]).contains("is not known: a plan is gone"));
    // A summary that is damaged hides no other.
    project.write(&format!("cache/runs/{id}.json"), "{");
    let listed = project.titer(&["runs"]);
    assert!(listed.out.lines().count() == 1 && listed.err.contains("is not used"), "{listed:?}");
}

#[test]
fn a_read_only_cache_can_be_used_without_a_summary() {
    let project = Project::answers();
    project.run();
    let runs = project.path("cache/runs");
    std::fs::remove_dir_all(&runs).unwrap();
    std::fs::write(&runs, "in the way").unwrap();
    let output = project.titer(&["run", M]);
    assert!(output.code == 0 && output.err.contains("the run's summary could not be kept"), "{output:?}");
}

#[test]
fn two_instances_are_compared_side_by_side() {
    let project = Project::answers();
    project.run();
    let found = json(&project, &["diff", M, "score.quality[n=2,scorer=em]", "score.quality[n=5,scorer=em]"]);
    let metrics = found["difference"]["metrics"].as_array().unwrap();
    let mean = metrics.iter().find(|metric| metric["name"] == "metrics.exact_match.mean").unwrap();
    assert!(mean["old"] == 0.75 && mean["new"] != mean["old"], "{found}");
    let shown = text(&project, &["diff", M, "mix.rows[n=2]", "mix.rows[n=5]"]);
    assert!(shown.contains("sources.0.take.rows  2  5") && shown.contains("validation  equal"), "{shown}");
    assert!(shown.contains("train       differs"), "{shown}");
    assert!(shown.contains("train.jsonl: the rows that both have are equal; 4 rows → 7 rows"), "{shown}");
    project.refuses(&["diff", M, "score.quality[n=2]", "mix.rows[n=5]"], 2, &["picks 2 instances: name one"]);
    project.refuses(&["diff", M, "mix.rows[n=2]", "mix.rows[n=7]"], 2, &["picks no stage"]);
}

#[test]
fn two_runs_are_compared_by_keys_texts_and_metrics() {
    let project = Project::answers();
    project.run();
    let text_before = project.read("data/more.jsonl");
    project.write("data/more.jsonl", &text_before.replace("\"prediction\":\"yes\"", "\"prediction\":\"no\""));
    project.edit(M, "n = [2, 3, 5]", "n = [2, 3]");
    project.run();
    let found = json(&project, &["diff", "last~1", "last"]);
    assert_eq!(found["instances"]["removed"].as_array().unwrap().len(), 3, "{found}");
    let changed = &found["instances"]["changed"];
    let change = &changed["mix.rows[n=2]"]["changes"][0]["input"];
    assert!(change["role"] == "source.1" && change["old"] != change["new"], "{changed}");
    let scores = changed["score.quality[n=2,scorer=em]"]["metrics"].as_array().unwrap();
    let mean = scores.iter().find(|metric| metric["name"] == "metrics.exact_match.mean").unwrap();
    assert!(mean["old"] == 0.75 && mean["new"] == 0.25, "{scores:?}");
    let shown = text(&project, &["diff", "last~1", "last"]);
    assert!(shown.contains("-n = [2, 3, 5]") && shown.contains("+n = [2, 3]"), "{shown}");
    assert!(shown.contains("mix.rows ×2  source.1: content changed"), "{shown}");
    let mean = shown.lines().find(|line| line.contains("metrics.exact_match.mean")).unwrap();
    assert!(mean.ends_with("0.750000  0.250000  -0.500000"), "{shown}");
    assert!(text(&project, &["diff", "last", "last"]).contains("nothing differs: 7 instances are equal"));
}

#[test]
fn a_text_that_is_gone_or_damaged_is_said_to_be_gone() {
    let project = Project::answers();
    project.run();
    let digest = titer::key::Digest::of(project.read(M).as_bytes()).to_string();
    project.edit(M, "n = [2, 3, 5]", "n = [2, 3]");
    project.run();
    let object = project.path("cache/objects").join(&digest[..2]).join(digest);
    std::fs::remove_file(&object).unwrap();
    for damaged in [None, Some("titer = 1\n")] {
        damaged.iter().for_each(|text| std::fs::write(&object, text).unwrap());
        let shown = text(&project, &["diff", "last~1", "last"]);
        assert!(shown.contains("the text of `pipelines/p.toml` is gone from the cache"), "{shown}");
        assert!(!shown.contains("+n ="), "{shown}");
        let found = json(&project, &["diff", "last~1", M]);
        assert_eq!(found["manifests"], serde_json::json!({ M: null }));
    }
    assert_eq!(json(&project, &["diff", "last~1", "last~1"])["manifests"], serde_json::json!({}), "it is the same");
}

#[test]
fn a_comparison_opens_its_caches_as_it_is_told() {
    let project = Project::answers();
    project.run();
    let host = std::fs::read_dir(project.path("cache/local")).unwrap().next().unwrap().unwrap().file_name();
    // With locks it would be known to be dead, and taken away.
    let other = format!("cache/work/{}.4194304.x.lock", host.to_str().unwrap());
    project.write(&other, "1");
    for what in [&["diff", M][..], &["diff", "last", "last"], &["diff", M, M]] {
        text(&project, &[what, &["--no-locks"]].concat());
        assert!(project.path(&other).exists(), "{what:?}");
    }
}

#[test]
fn manifests_are_compared_with_each_other_with_their_last_run_and_with_overrides() {
    let project = Project::answers();
    let more = "{ path = \"data/more.jsonl\" }";
    project.write("pipelines/q.toml", &project.read(M).replace(more, "{ path = \"data/more.jsonl\", take = 1 }"));
    let two = json(&project, &["diff", M, "pipelines/q.toml"]);
    let changed = &two["instances"]["changed"];
    assert_eq!(
        changed.as_object().unwrap().len(),
        3,
        "what reads the mixes is not made, so nothing else is known: {two}"
    );
    assert!(changed["mix.rows[n=2]"]["changes"][0]["setting"]["path"].as_str().unwrap().starts_with("sources.1.take"));
    project.run();
    assert!(text(&project, &["diff", M]).contains("nothing differs: 10 instances are equal"));
    project.edit(M, "by = [\"n\"]", "by = [\"n\"]\nmetrics = [\"em\"]");
    let now = text(&project, &["diff", M]);
    assert!(
        now.contains("aggregate.table  metrics: not set → [\"em\"]") && now.contains("9 equal, 1 changed"),
        "{now}"
    );
    let axis = json(&project, &["diff", M, "--axis", "n=2,7"]);
    assert_eq!(axis["instances"]["added"].as_array().unwrap().len(), 3, "{axis}");
    assert_eq!(axis["manifests"], serde_json::json!({}), "the manifest is the same");
    project.refuses(&["diff", "last"], 2, &["Name a second one"]);
    project.refuses(&["diff", M, "nope.toml"], 2, &["there is no manifest `nope.toml`"]);
    let mixed = json(&project, &["diff", "last", M]);
    assert_eq!(mixed["instances"]["equal"], 9);
}

#[test]
fn an_audit_of_what_is_reproducible_passes_and_is_an_observation() {
    let project = Project::answers();
    project.refuses(&["audit", M], 2, &["nothing of it is in the cache"]);
    project.run();
    let before = project.read("cache/pipelines/answers.json");
    let passed = text(&project, &["audit", M]);
    assert!(passed.contains("audit passed: 10 the same bytes"), "{passed}");
    let sampled = json(&project, &["audit", M, "--sample", "4"]);
    let names = |found: &Value| -> Vec<String> {
        found["findings"].as_array().unwrap().iter().map(|one| one["instance"].to_string()).collect()
    };
    assert_eq!(names(&sampled).len(), 4);
    assert_eq!(names(&json(&project, &["audit", M, "--sample", "4"])), names(&sampled));
    assert_eq!(json(&project, &["audit", M, "score.quality[n=2]"])["counts"]["same"], 2);
    let observations: usize = walk(&project, "observations");
    assert_eq!(observations, 10 + 4 + 4 + 2);
    assert_eq!((project.read("cache/pipelines/answers.json"), runs(&project).len()), (before, 1), "an audit is no run");
    assert!(project.run().is_empty());
}

/// Files below folders of that name in the cache.
fn walk(project: &Project, name: &str) -> usize {
    let files = crate::project::tree(&project.path("cache/actions"));
    files.iter().filter(|(path, _)| path.contains(&format!("/{name}/"))).count()
}

#[test]
fn an_audit_says_what_differs_by_how_much_and_goes_on() {
    // The row holds a number that grows with each run.
    let script = "echo x >> tries; printf '{\"id\":1}\\n{\"loss\":%s.5}\\n' $(wc -l < tries) > $0/train.jsonl";
    let project = Project::empty();
    let script = script.replace('\\', "\\\\").replace('"', "\\\"");
    project.write(
        M,
        &format!(
            "titer = 1\nname = \"c\"\n[mix.a]\ncommand = [\"sh\", \"-c\", \"{script}\", \"{{output}}\"]\n\
             [mix.b]\ncommand = [\"cp\", \"{{input.a}}\", \"{{output}}/train.jsonl\"]\ninputs = {{ a = \"mix.a\" }}\n\
             [mix.c]\ncommand = [\"sh\", \"-c\", \"test ! -e stop && echo 1 > $0/train.jsonl\", \"{{output}}\"]\n"
        ),
    );
    project.run_with(&["-j", "1"]);
    project.write("stop", "");
    let output = project.titer(&["audit", M, "-j", "1"]);
    assert_eq!(output.code, 1, "{output:?}");
    for expected in [
        "mix.a  differs",
        "train.jsonl: 1 of 2 rows differ, the first is row 2: `loss` 1.5 → 2.5, numbers by at most 1.000e0",
        "the work itself is not reproducible",
        "mix.c  failed: ",
        "audit failed: 1 the same bytes, 1 differ, 1 failed",
    ] {
        assert!(output.out.contains(expected), "`{expected}` is not in {}", output.out);
    }
    // What reads it was done with the bytes that it was made from, not with the new ones.
    let found = answer(&project, &["audit", M, "mix.b"], 0);
    assert_eq!(found["counts"]["same"], 1);
    let rows = &answer(&project, &["audit", M, "mix.a"], 1)["findings"][0]["files"][0]["difference"]["rows"];
    assert_eq!((&rows["first"], &rows["values"]["largest_absolute"]), (&2.into(), &2.0.into()));
    let shown = project.read("out/c/mix.a/train.jsonl");
    assert!(shown.contains("1.5"), "the first one stays: {shown}");
}

#[test]
fn an_audit_reads_all_and_finds_damage() {
    let project = Project::answers();
    project.run();
    let bytes = std::fs::read(project.path("out/answers/aggregate.table/table.csv")).unwrap();
    let digest = titer::key::Digest::of(&bytes).to_string();
    let object = project.path(&format!("cache/objects/{}/{digest}", &digest[..2]));
    std::fs::set_permissions(&object, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&object, bytes.to_ascii_uppercase()).unwrap();
    // Another host, which knows nothing of the object.
    std::fs::remove_dir_all(project.path("cache/local")).unwrap();
    let found = answer(&project, &["audit", M, "aggregate.table", "score.quality[n=2,scorer=em]"], 1);
    let table = found["findings"].as_array().unwrap().iter().find(|one| one["instance"] == "aggregate.table").unwrap();
    assert_eq!((&table["verdict"], &table["damaged"]), (&"damaged".into(), &serde_json::json!(["table.csv"])));
    assert_eq!(std::fs::read(&object).unwrap(), bytes, "and it is mended");
    assert!(text(&project, &["audit", M]).contains("audit passed"));
    // A person's file that was changed: it is another key, and nothing is there to compare with.
    project.edit("data/more.jsonl", "yes", "maybe");
    let output = project.titer(&["audit", M]);
    assert!(output.code == 2 && output.err.contains("nothing of it is in the cache"), "{output:?}");
}

#[test]
fn a_plan_says_what_like_work_has_cost() {
    let script = "sleep 0.2; echo $1 > $0/train.jsonl";
    let manifest = |name: &str, axis: &str| {
        format!(
            "titer = 1\nname = \"{name}\"\n[axes]\nn = [{axis}]\n[mix.a]\ncommand = [\"sh\", \"-c\", \"{script}\", \"{{output}}\", \"{name}{{n}}\"]\n[train.b]\ncommand = [\"sh\", \"-c\", \"mkdir $0/model; sleep 0.1; cp $1 $0/model/x\", \"{{output}}\", \"{{input.data}}\"]\ndata = \"mix.a\"\ngpus = 2\n"
        )
    };
    let project = Project::empty();
    project.write(M, &manifest("one", "1, 2"));
    let plan = json(&project, &["plan", M]);
    assert_eq!((&plan["expected"]["unknown"], &plan["expected"]["instances"]), (&4.into(), &0.into()));
    assert!(text(&project, &["plan", M]).contains("what it costs is not known"));
    project.run_with(&["--gpus", "0,1"]);
    project.write(M, &manifest("one", "1, 2, 3"));
    let plan = json(&project, &["plan", M]);
    let of = |name: &str| plan["instances"].as_array().unwrap().iter().find(|one| one["instance"] == name).unwrap();
    assert_eq!(
        (&of("mix.a[n=3]")["expected_from"], &of("train.b[n=3]")["expected_from"]),
        (&"stage".into(), &"stage".into())
    );
    let expected = &of("train.b[n=3]")["expected"];
    let (seconds, gpu) = (expected["seconds"].as_f64().unwrap(), expected["gpu_seconds"].as_f64().unwrap());
    assert!(seconds >= 0.1 && (gpu - 2.0 * seconds).abs() < 1e-9 && expected["bytes"] == 5.0, "{expected}");
    let said = text(&project, &["plan", M]);
    assert!(said.contains("GPU-hours") && said.contains("on the disk"), "{said}");
    // Another pipeline knows its kinds from this one.
    project.write("pipelines/two.toml", &manifest("two", "1"));
    let plan = json(&project, &["plan", "pipelines/two.toml"]);
    assert_eq!((&plan["instances"][0]["expected_from"], &plan["expected"]["by_kind"]), (&"kind".into(), &2.into()));
}
