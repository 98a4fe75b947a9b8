//! Names that can be pasted back, one root for all commands, and all mistakes in one go.

use crate::project::{Project, tree};
use serde_json::Value;

const P: &str = "pipelines/p.toml";

/// Values that the brackets mean something by.
const ODD: [&str; 9] = ["a,b", "a]", "x=y", "data/a.jsonl", "say \"hi\"", "it's", " a ", "a,x=b", "a\\b"];

fn odd() -> Project {
    let project = Project::empty();
    let values = ODD.map(|value| Value::from(value).to_string()).join(", ");
    project.write(
        P,
        &format!(
            r#"titer = 1
name = "odd"
[axes]
t = [{values}]
[mix.a]
command = ["sh", "-c", 'echo "{{\"t\":\"$1\"}}" > "$2"', "sh", "{{t}}", "{{output}}/train.jsonl"]
[mix.pinned]
command = ["cp", "{{input.of}}", "{{output}}/train.jsonl"]
inputs = {{ of = 'mix.a[t="a,b"]' }}
[mix.each]
command = ["cp", "{{input.of}}", "{{output}}/train.jsonl"]
inputs = {{ of = "mix.a[t={{t}}]" }}
"#
        ),
    );
    project
}

#[test]
fn the_name_of_an_instance_picks_it_whatever_its_values_are() {
    let project = odd();
    project.run();
    let plan: Value = serde_json::from_str(&project.titer(&["plan", P, "--json", "-t", "mix.a"]).out).unwrap();
    let names: Vec<&str> =
        plan["instances"].as_array().unwrap().iter().map(|one| one["instance"].as_str().unwrap()).collect();
    assert_eq!(names.len(), ODD.len());
    for name in names {
        let picked: Value = serde_json::from_str(&project.titer(&["plan", P, "--json", "-t", name]).out).unwrap();
        assert_eq!(picked["instances"].as_array().unwrap().len(), 1, "{name}");
        assert_eq!(picked["instances"][0]["instance"], name);
        for command in ["why", "show", "log", "pin"] {
            let output = project.titer(&[command, P, name]);
            assert_eq!(output.code, 0, "{command} {name}: {output:?}");
        }
        assert!(project.read("pipelines/titer.lock").contains(&format!("[pipeline.odd.{}]", toml_key(name))), "{name}");
        let output = project.titer(&["unpin", P, name]);
        assert!(output.code == 0 && output.out.contains("let go of 1 result;"), "{name}: {output:?}");
    }
    let single = project.titer(&["plan", P, "-t", "mix.a[t='a,b']"]);
    assert!(single.code == 0 && single.out.contains("1 cached"), "{single:?}");
    project.refuses(
        &["plan", P, "-t", "mix.a[t=a,b]"],
        2,
        &["`b` is not `axis=value`", "stands in quotes: `[axis=\"a,b\"]`"],
    );
    project.refuses(&["plan", P, "-t", "mix.a[t=a,c]"], 2, &["`c` is not `axis=value`"]);
    project.refuses(
        &["plan", P, "-t", "mix.a[t=\"a,c\"]"],
        2,
        &["has no `t` of `a,c`", "known are", "`\"a,b\"`", "`data/a.jsonl`"],
    );

    // Each has a folder of its own, directly below its stage's.
    let shown = tree(&project.path("out/odd/mix.a"));
    let rows: Vec<&(String, Vec<u8>)> = shown.iter().filter(|(name, _)| name.ends_with("train.jsonl")).collect();
    assert_eq!(rows.len(), ODD.len(), "{shown:?}");
    assert!(rows.iter().all(|(name, _)| name.matches('/').count() == 1), "{rows:?}");
    // A pin, written and filled in.
    assert_eq!(project.read("out/odd/mix.pinned/train.jsonl"), "{\"t\":\"a,b\"}\n");
    let each: Vec<Vec<u8>> = tree(&project.path("out/odd/mix.each")).into_iter().map(|(_, bytes)| bytes).collect();
    let all: Vec<Vec<u8>> = shown.into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(each.len(), all.len());
    assert_eq!(project.run(), [""; 0], "nothing runs again");
}

/// A name as a key of TOML.
fn toml_key(name: &str) -> String {
    toml::Value::from(name).to_string()
}

#[test]
fn one_root_wherever_a_manifest_lies_and_a_command_is_called() {
    let project = Project::answers();
    let text = project.read(P);
    for (name, path) in [("sub", "pipelines/sub/p.toml"), ("deep", "exp/deep/p.toml")] {
        project.write(path, &text.replace("\"answers\"", &format!("\"{name}\"")));
        let output = project.titer(&["run", path]);
        assert_eq!(output.code, 0, "{output:?}");
        assert!(project.path(&format!("out/{name}/aggregate.table/table.md")).exists(), "{name}");
        let runs = project.titer(&["runs", path]);
        assert!(runs.code == 0 && runs.out.contains(name), "{runs:?}");
    }
    assert!(!project.path("pipelines/sub/cache").exists() && !project.path("exp/deep/cache").exists());
    for folder in ["data", "exp/deep", "pipelines/sub", "out/sub"] {
        for command in [&["runs"][..], &["verify"], &["gc", "--dry-run"]] {
            let output = project.command(command).current_dir(project.path(folder)).output().unwrap();
            assert!(output.status.success(), "{command:?} in {folder}: {output:?}");
        }
    }
    // A mark of one's own.
    project.write("exp/deep/.titer-root", "");
    project.refuses(&["check", "exp/deep/p.toml"], 2, &["there is no file `data/answers.jsonl`", "exp/deep`"]);
}

#[test]
fn to_look_makes_no_cache() {
    let project = Project::answers();
    let calls: [&[&str]; 14] = [
        &["check", P],
        &["plan", P],
        &["plan", P, "--check"],
        &["run", P, "--dry-run"],
        &["status", P],
        &["why", P, "mix.rows"],
        &["show", P, "mix.rows"],
        &["graph", P],
        &["log", P, "mix.rows"],
        &["runs", P],
        &["diff", P, P],
        &["pin", P],
        &["clean", P],
        &["push", P],
    ];
    for call in calls {
        let output = project.titer(call);
        assert!(!output.err.contains("panicked"), "{call:?}: {output:?}");
        assert!(!project.path("cache").exists(), "{call:?}: {output:?}");
        assert!(!project.path("out").exists(), "{call:?}: {output:?}");
    }
    project.write("cache/README.md", "nothing else\n");
    project.titer(&["plan", P]);
    assert_eq!(tree(&project.path("cache")).len(), 1);
    assert_eq!(project.run().len(), 10);
}

#[test]
fn all_mistakes_are_told_at_once_those_of_the_disk_too() {
    let project = Project::answers();
    project.edit(P, "take = \"{n}\"", "take = \"{m}\", wher = \"true\"");
    project.edit(P, "data/more.jsonl", "data/mor.jsonl");
    project.edit(P, "by = [\"n\"]", "by = [\"n\"]\nunits = \"n\"");
    project.edit(P, "[mix.rows]\n", "[mix.rows]\nmax_wrds = 3\n");
    project.refuses(
        &["check", P],
        2,
        &[
            "`{m}` is neither an axis nor a parameter",
            "unknown setting `wher`",
            "unknown setting `max_wrds`",
            "unknown setting `units`",
            "there is no file `data/mor.jsonl`",
        ],
    );
    // What only follows from a mistake is not said.
    let output = project.titer(&["check", P]);
    assert_eq!(output.err.matches("error: ").count(), 5, "{}", output.err);
}

#[test]
fn what_is_elsewhere_is_not_looked_for_on_the_disk() {
    let project = Project::answers();
    project.edit(P, "[mix.rows]\n", "[mix.rows]\nmax_wrds = 3\n");
    let manifest =
        format!("{}\n[train.b]\nbase = \"hf://someone/model\"\ndata = \"mix.rows\"\nlora = {{}}\n", project.read(P));
    project.write(P, &manifest);
    let output = project.titer(&["check", P]);
    assert!(output.code == 2 && output.err.contains("`hf://someone/model` names no revision"), "{output:?}");
    assert!(!output.err.contains("there is no"), "{output:?}");
}

#[test]
fn what_an_aggregate_groups_by_must_be_there() {
    let project = Project::answers();
    project.edit(P, "by = [\"n\"]", "by = [\"zz\"]\nunit = \"taks\"\nwhere = \"instruction != ''\"");
    project.write("data/more.jsonl", "{\"instruction\":\"a\",\"output\":\"b\",\"prediction\":\"b\",\"task\":1}\n");
    let texts = [
        "`by` names `zz`, which is neither an axis nor a column of the scored rows",
        "known are `n`, `task`",
        "`unit` names `taks`",
        "did you mean `task`?",
        "`where` names `instruction`",
    ];
    project.refuses(&["check", P], 2, &texts);
    project.refuses(&["plan", P], 2, &texts);
    // One that only the last row has is one, and so is what a source is given.
    project.edit(P, "by = [\"zz\"]\nunit = \"taks\"\nwhere = \"instruction != ''\"", "by = [\"task\", \"lang\"]");
    project.edit(P, "{ path = \"data/more.jsonl\" }", "{ path = \"data/more.jsonl\", set = { lang = \"en\" } }");
    assert_eq!(project.titer(&["check", P]).code, 0);
    project.run();
}

#[test]
fn two_manifests_of_one_name_are_told_apart() {
    let project = Project::answers();
    project.run();
    project.write("pipelines/q.toml", &project.read(P));
    let texts = ["`pipelines/p.toml` is called `answers` too", "--> pipelines/q.toml", "out/answers", "another name"];
    project.refuses(&["run", "pipelines/q.toml"], 2, &texts);
    project.edit("pipelines/q.toml", "\"answers\"", "\"questions\"");
    assert_eq!(project.titer(&["run", "pipelines/q.toml"]).code, 0);
    // A manifest that was renamed goes on.
    std::fs::rename(project.path("pipelines/q.toml"), project.path("pipelines/r.toml")).unwrap();
    assert_eq!(project.titer(&["run", "pipelines/r.toml"]).code, 0);
}

#[test]
fn small_words() {
    let project = Project::answers();
    project.run();
    project.refuses(&["diff", "last", "nope"], 2, &["`nope` is neither a manifest nor a run", "`titer runs` lists"]);
    project.refuses(&["show", "nope"], 2, &["`nope` is neither a manifest nor a run"]);
    project.refuses(&["show", "nope.toml"], 2, &["there is no manifest `nope.toml`"]);
    project.refuses(&["plan", P, "-t", "quality"], 2, &["did you mean `score.quality`?"]);
    project.refuses(&["plan", P, "-t", "score.qualty[n=2]"], 2, &["did you mean `score.quality`?"]);
    project.refuses(&["plan", P, "--set", "x=1"], 2, &["there is no parameter `x`", "has no parameter at all"]);
    project.refuses(&["plan", P, "--axis", "m=1"], 2, &["there is no axis `m`", "`n`"]);
    let graph: Value = serde_json::from_str(&project.titer(&["graph", P, "--json"]).out).unwrap();
    assert_eq!((&graph[0]["name"], &graph[0]["instances"]), (&"mix.rows".into(), &3.into()));
    project.write(
        P,
        "titer = 1\n[mix.a]\ncommand = [\"sh\", \"-c\", \"echo {} > ../rows; ln -s ../rows $0/train.jsonl\", \"{output}\"]\n",
    );
    project.refuses(&["run", P], 1, &["train.jsonl` cannot be kept: it is a symbolic link", "cp -L"]);
    project.write("pipelines/empty.toml", "titer = 1\n[mix.a]\nsources = [{ path = \"data/none.jsonl\" }]\n");
    project.write("data/none.jsonl", "{}\n");
    project.refuses(&["check", "pipelines/empty.toml"], 2, &["is missing; there are no columns"]);
}

#[test]
fn scorers_are_listed_and_described() {
    let project = Project::empty();
    let said = |args: &[&str]| project.titer(args);
    let list = said(&["scorers"]);
    assert!(list.code == 0 && list.out.lines().any(|line| line.starts_with("rouge ")), "{list:?}");
    let one = said(&["scorers", "judge"]).out;
    for expected in [
        "settings of every scorer:",
        "  model (must be set): ",
        "  order = \"given\": ",
        "unreadable: 0 and more, the lower",
    ] {
        assert!(one.contains(expected), "{expected}: {one}");
    }
    let json: serde_json::Value = serde_json::from_str(&said(&["scorers", "rouge", "--json"]).out).unwrap();
    assert_eq!(json["scorers"][0]["metrics"][0]["range"], serde_json::json!([0.0, 1.0]));
    project.refuses(&["scorers", "ruge"], 2, &["did you mean `rouge`?"]);
}
