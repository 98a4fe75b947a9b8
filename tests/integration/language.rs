//! What people do with a manifest: change it, bring results into it, listen to its stages, ask why.

use crate::project::Project;
use std::os::unix::fs::{PermissionsExt, symlink};

const P: &str = "pipelines/p.toml";

#[test]
fn set_changes_the_file_behind_a_link_and_nothing_else() {
    let project = Project::answers();
    let before = project.read(P);
    std::fs::set_permissions(project.path(P), std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink(project.path(P), project.path("link.toml")).unwrap();
    let output = project.titer(&["set", "link.toml", "axes.n=[2, 3]", "mix.rows.sources.0.take=2"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("axes.n: [2, 3, 5] → [2, 3]"), "{output:?}");
    assert!(project.path("link.toml").is_symlink());
    assert_eq!(std::fs::metadata(project.path(P)).unwrap().permissions().mode() & 0o777, 0o640);
    let expected = before.replace("n = [2, 3, 5]", "n = [2, 3]").replace("take = \"{n}\"", "take = 2");
    assert_eq!(project.read(P), expected);
    // Nothing is left beside it.
    assert_eq!(std::fs::read_dir(project.path("pipelines")).unwrap().count(), 1);
}

#[test]
fn set_is_all_or_nothing_and_a_dry_run_shows_the_lines() {
    let project = Project::answers();
    let before = project.read(P);
    project.refuses(
        &["set", P, "axes.n=[2]", "mix.rows.max_word=5"],
        2,
        &["unknown setting `max_word`", "did you mean `max_words`?", "pipelines/p.toml:12:1"],
    );
    let output = project.titer(&["set", P, "axes.n=[2]", "--unset", "score.quality.scorers.rouge", "--dry-run"]);
    assert_eq!(output.code, 0, "{output:?}");
    for line in ["-n = [2, 3, 5]\n+n = [2]\n", "-rouge = \"rouge\"\n", "was not written"] {
        assert!(output.out.contains(line), "{line}: {}", output.out);
    }
    assert_eq!(project.read(P), before);
    let json = project.titer(&["set", P, "axes.n=[2, 3, 5]", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&json["written"], &json["changes"][0]["new"]), (&false.into(), &"[2, 3, 5]".into()));
}

#[test]
fn set_in_a_manifest_that_extends_another() {
    let project = Project::answers();
    project.write("pipelines/more.toml", "titer = 1\nextends = \"p.toml\"\n");
    let output = project.titer(&["set", "pipelines/more.toml", "mix.rows.sources.1.take=1", "axes.n=[2]"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("copied from pipelines/p.toml"), "{output:?}");
    assert!(output.out.contains("overridden here"), "{output:?}");
    assert_eq!(project.titer(&["check", "pipelines/more.toml"]).code, 0);
    assert!(project.read("pipelines/more.toml").contains("take = 1"));
    project.refuses(&["set", "pipelines/more.toml", "--unset", "mix.rows.sources"], 0, &["wrote"]);
    project.refuses(&["set", "pipelines/more.toml", "--unset", "mix.rows.sources"], 2, &["but in `pipelines/p.toml`"]);
}

/// The rows of `mix.rows[n=2]`, as another program may have made them.
const MADE: &str = "{\"instruction\":\"a\",\"output\":\"yes\",\"prediction\":\"yes\"}\n";

#[test]
fn an_imported_result_is_used_and_said_to_be_one() {
    let project = Project::answers();
    project.write("elsewhere/rows.csv", "instruction,output,prediction\na,yes,yes\n");
    let call = ["import", P, "mix.rows[n=2]", "elsewhere/rows.csv", "--note", "by hand"];
    let output = project.titer(&call);
    assert_eq!(output.code, 0, "{output:?}");
    let ran = project.run();
    assert!(!ran.contains(&"mix.rows[n=2]".to_string()) && ran.contains(&"mix.rows[n=3]".to_string()), "{ran:?}");
    assert_eq!(project.read("out/answers/mix.rows/n=2/train.jsonl"), MADE);
    assert!(project.read("out/answers/aggregate.table/table.md").contains("1.000"));
    for (command, expected) in [
        (&["show", P, "mix.rows[n=2]"][..], "imported from `rows.csv` (by hand)"),
        (&["why", P, "mix.rows[n=2]"], "imported from `rows.csv` (by hand)"),
        (&["status", P], "3 cached (1 imported)"),
        (&["plan", P], "3 cached (1 imported)"),
    ] {
        let output = project.titer(command);
        assert!(output.out.contains(expected), "{command:?}: {output:?}");
    }
    // The same bytes again are no news, others are refused, and a real run is compared.
    assert!(project.titer(&call).out.contains("these very bytes already"));
    project.write("elsewhere/rows.csv", "instruction,output,prediction\na,yes,no\n");
    project.refuses(&call, 2, &["another result already", "`train` differs", "the first result of a key is kept"]);
    let output = project.titer(&["run", P, "-t", "mix.rows[n=2]", "--force", "mix.rows[n=2]"]);
    assert!(output.code == 0 && output.out.contains("differs from the first run in train"), "{output:?}");
}

#[test]
fn the_claim_of_a_dead_process_of_another_host_stops_no_import() {
    let project = Project::answers();
    project.write("rows.jsonl", MADE);
    let key = state_of(&project, "mix.rows[n=2]").1;
    let claim = project.path(&format!("cache/claims/{key}"));
    // The look made no cache.
    std::fs::create_dir_all(claim.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("elsewhere.1.gone 0", &claim).unwrap();
    let output = project.titer(&["import", P, "mix.rows[n=2]", "rows.jsonl", "--patience", "300ms"]);
    assert_eq!(output.code, 0, "{output:?}");
    // One that lives.
    let store = titer::store::Store::open(&project.path("cache")).unwrap();
    let key = state_of(&project, "mix.rows[n=3]").1.parse().unwrap();
    let _claim = store.claim_in_time(&key).unwrap().unwrap();
    project.refuses(&["import", P, "mix.rows[n=3]", "rows.jsonl"], 2, &["is being made by another titer"]);
}

/// The state of an instance and its key, as `log` tells them.
fn state_of(project: &Project, selector: &str) -> (String, String) {
    let output = project.titer(&["log", P, selector, "--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    let told: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    let text = |name: &str| told[0][name].as_str().unwrap().to_string();
    (text("state"), text("key"))
}

#[test]
fn what_failed_before_is_queued_again_while_a_process_counts_on_it() {
    let project = talking();
    let (state, key) = state_of(&project, "mix.a[n=1]");
    assert_eq!(state, "queued");
    project.write(&format!("cache/logs/{key}.log"), "of the first try\n");
    assert_eq!(state_of(&project, "mix.a[n=1]").0, "unfinished");
    let store = titer::store::Store::open(&project.path("cache")).unwrap();
    store.rely_on([key.parse().unwrap()]).unwrap();
    assert_eq!(state_of(&project, "mix.a[n=1]").0, "queued");
    let said = project.titer(&["log", P, "mix.a[n=1]"]);
    assert!(said.out == "of the first try\n" && said.err.contains("this is the log of the run before"), "{said:?}");
    // It is waited for as long as the process lives.
    let mut command = project.command(&["log", P, "mix.a[n=1]", "-f"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut follower = command.spawn().unwrap();
    let mut told = String::new();
    let mut notes = std::io::BufReader::new(follower.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut notes, &mut told).unwrap();
    assert!(told.contains("has not begun"), "{told}");
    drop(store);
    told.clear();
    std::io::BufRead::read_line(&mut notes, &mut told).unwrap();
    assert!(told.contains("did not finish"), "{told}");
    assert!(follower.wait().unwrap().success());
}

#[test]
fn a_log_is_told_without_the_shared_cache() {
    let project = Project::answers();
    project.refuses(&["plan", P, "--shared", "gs://lab"], 2, &["is no shared cache"]);
    project.refuses(&["log", P, "mix.rows[n=2]", "--shared", "gs://lab"], 0, &["has not begun"]);
}

#[test]
fn what_cannot_be_imported() {
    let project = Project::answers();
    project.write("rows.jsonl", MADE);
    project.write("half.jsonl", &format!("{MADE}{{\"instr"));
    project.write("bare.jsonl", "{\"instruction\":\"a\"}\n");
    project.write("folder/other.jsonl", "");
    let refuses = |selector: &str, path: &str, texts: &[&str]| {
        project.refuses(&["import", P, selector, path], 2, texts);
    };
    refuses("mix.rows", "rows.jsonl", &["picks 3 instances", "mix.rows[n=2]"]);
    refuses("mix.rows[n=2]", "nowhere.jsonl", &["there is no `nowhere.jsonl`"]);
    refuses("mix.rows[n=2]", "half.jsonl", &["half.jsonl:2", "cut off"]);
    refuses("mix.rows[n=2]", "bare.jsonl", &["bare.jsonl:1", "the column `output` is missing"]);
    refuses("mix.rows[n=2]", "folder", &["`folder` has no `train.jsonl`", "`stats.json`"]);
    refuses(
        "score.quality[n=2,scorer=em]",
        "rows.jsonl",
        &["reads what is not there yet: `mix.rows[n=2]`", "run or import them first"],
    );
    assert!(!project.path("out").exists());
    // A split that a training would read must be given too.
    project.edit(
        P,
        "[score.quality]\n",
        "[score.test]\npredictions = \"mix.rows.test\"\nscorers = [\"rouge\"]\n[score.quality]\n",
    );
    project.edit(P, "[mix.rows]", "[mix.rows]\nsplit = { test = 0.5 }");
    refuses("mix.rows[n=2]", "rows.jsonl", &["reads the `test` of `mix.rows[n=2]`, which `rows.jsonl` has not"]);
}

/// A stage that says something, waits for a file, says more.
fn talking() -> Project {
    let project = Project::empty();
    project.write(
        "pipelines/p.toml",
        r#"titer = 1
[axes]
n = [1, 2]
[mix.a]
command = ["sh", "-c", "echo begin {n}; while ! test -e go; do sleep 0.02; done; echo end {n}; cp rows.jsonl $TITER_OUTPUT/train.jsonl"]
[mix.b]
command = ["cp", "{input.rows}", "{output}/train.jsonl"]
inputs = { rows = "mix.a" }
"#,
    );
    project.write("rows.jsonl", MADE);
    project
}

#[test]
fn a_log_is_followed_while_another_process_writes_it() {
    let project = talking();
    project.refuses(&["log", P, "mix.a[n=1]"], 0, &["mix.a[n=1] has not begun"]);
    project.refuses(&["log", P, "mix.b[n=1]"], 0, &["mix.b[n=1] waits for mix.a[n=1]"]);
    let spawn = |args: &[&str]| {
        let mut command = project.command(args);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let follower = spawn(&["log", P, "mix", "-f"]);
    let runner = spawn(&["run", P]);
    // Both say their first line before they may go on.
    let log_of = |selector: &str| project.titer(&["log", P, selector]).out;
    while log_of("mix.a[n=1]") != "begin 1\n" || log_of("mix.a[n=2]") != "begin 2\n" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    project.write("go", "");
    assert!(runner.wait_with_output().unwrap().status.success());
    let followed = follower.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&followed.stdout), String::from_utf8_lossy(&followed.stderr));
    assert!(followed.status.success());
    for line in ["mix.a[n=1] | begin 1", "mix.a[n=1] | end 1", "mix.a[n=2] | begin 2", "mix.a[n=2] | end 2"] {
        assert_eq!(out.matches(line).count(), 1, "{line}: {out}{err}");
    }
    assert!(err.contains("mix.b[n=2] waits for mix.a[n=2]") && err.contains("mix.b[n=2] is done"), "{err}");
    assert_eq!(project.titer(&["log", P, "mix.a[n=1]", "-n", "1"]).out, "end 1\n");
    let json: serde_json::Value =
        serde_json::from_str(&project.titer(&["log", P, "mix.a[n=1]", "--json"]).out).unwrap();
    assert_eq!(json[0]["log"], serde_json::json!(["begin 1", "end 1"]));
    // As it is now it has not run: the log of the run before is shown, and said to be that.
    project.edit(P, "echo end", "echo END");
    project.refuses(&["log", P, "mix.a[n=1]"], 0, &["has not begun; this is the log of the run before", "end 1"]);
}

#[test]
fn why_counts_rows() {
    let project = Project::answers();
    project.run();
    // A person's file: its old rows are counted in the old `stats.json`.
    let more = project.read("data/more.jsonl");
    project.write("data/more.jsonl", &format!("{more}{}", MADE.replace("\"a\"", "\"b\"")));
    let output = project.titer(&["why", P, "mix.rows[n=2]"]);
    assert!(output.out.contains("source.1: content changed (data/more.jsonl: 2 → 3 rows)"), "{output:?}");
    // Without the second source's row the train rows of n = 2 are as they were, so look at what another reads of them.
    assert_eq!(project.titer(&["run", P, "-t", "mix.rows"]).code, 0);
    let output = project.titer(&["why", P, "score.quality[n=2,scorer=em]", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!((&json[0]["status"], &json[0]["reason"]), (&"runs".into(), &"changed".into()), "{json}");
    let change = &json[0]["changes"][0];
    assert_eq!(change["names"], serde_json::json!(["mix.rows[n=2].train"]));
    let rows = serde_json::json!({ "before": 4, "now": 5, "added": 1, "removed": 0, "changed": 0 });
    assert_eq!(change["rows"], rows, "{json}");
    // The lost content of the cache leaves what the scores say: an id for each row.
    let digest = change["change"]["input"]["old"].as_str().unwrap();
    std::fs::remove_file(project.path(&format!("cache/objects/{}/{digest}", &digest[..2]))).unwrap();
    let output = project.titer(&["why", P, "score.quality[n=2,scorer=em]"]);
    assert!(output.out.contains("(mix.rows[n=2].train: 4 → 5 rows, 1 added)"), "{output:?}");
}

#[test]
fn init_names_a_schema_that_editors_find() {
    let project = Project::empty();
    assert_eq!(project.titer(&["init", "a/x.toml"]).code, 0);
    assert!(project.read("a/x.toml").starts_with("#:schema ./titer.schema.json\n"));
    assert_eq!(project.read("a/titer.schema.json"), project.titer(&["schema"]).out);
    // An old one of titer's own is brought up to date; another program's file is left alone.
    project.write("a/titer.schema.json", "{\"title\":\"titer manifest\"}");
    assert_eq!(project.titer(&["init", "a/y.toml"]).code, 0);
    assert_eq!(project.read("a/titer.schema.json"), project.titer(&["schema"]).out);
    project.write("a/titer.schema.json", "{}");
    assert_eq!(project.titer(&["init", "a/z.toml"]).code, 0);
    assert_eq!(project.read("a/titer.schema.json"), "{}");
}

#[test]
fn a_graph_is_drawn() {
    let project = Project::answers();
    let folded = project.titer(&["graph", P, "--format", "svg"]).out;
    assert!(folded.starts_with("<svg ") && folded.ends_with("</svg>\n"), "{folded}");
    for text in [">rows ×3</text>", ">quality ×6</text>", ">table</text>", ">aggregate</text>"] {
        assert!(folded.contains(text), "{text}: {folded}");
    }
    assert_eq!(folded.matches("marker-end").count(), 2);
    let unfolded = project.titer(&["graph", P, "--format", "svg", "--expand"]).out;
    assert!(unfolded.contains(">rows[n=2]</text>") && unfolded.matches("marker-end").count() == 12, "{unfolded}");
}
