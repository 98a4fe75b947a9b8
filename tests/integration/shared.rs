//! Shared caches in a folder: what one project has made, another does not make again, and no lie gets through.

use crate::project::{Output, Project, ran, results, tree};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const NOTHING: [&str; 0] = [];
const P: &str = "pipelines/p.toml";
/// All instances of [`Project::answers`].
const ALL: usize = 10;

/// A shared cache, and projects with the same data that use it.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn shared(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn call(&self, project: &Project, args: &[&str]) -> Output {
        project.titer(&[args, &["--shared", self.shared()]].concat())
    }

    /// Runs what must succeed; returns the instances that ran, and all that was said.
    fn run(&self, project: &Project, more: &[&str]) -> (Vec<String>, Output) {
        let output = self.call(project, &[&["run", "pipelines/p.toml", "--json"], more].concat());
        assert_eq!(output.code, 0, "{output:?}");
        (ran(&output.out), output)
    }

    /// One with all results in the shared cache.
    fn filled() -> (Self, Project) {
        let (lab, project) = (Self::new(), Project::answers());
        assert_eq!(lab.run(&project, &["--push"]).0.len(), ALL);
        (lab, project)
    }

    fn object(&self, bytes: &[u8]) -> PathBuf {
        let name = titer::key::Digest::of(bytes).to_string();
        self.dir.path().join("objects").join(&name[..2]).join(name)
    }
}

fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// How often an event was told.
fn told(output: &Output, event: &str) -> usize {
    output.out.matches(&format!("\"event\":\"{event}\"")).count()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&output.out).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn what_one_project_made_another_fetches() {
    let (lab, here) = Lab::filled();
    let there = Project::answers();
    let plan = lab.call(&there, &["plan", "pipelines/p.toml", "--check"]);
    assert!(plan.code == 0 && plan.out.contains("nothing to run: 10 cached (shared)"), "{plan:?}");
    assert!(!there.path("cache").exists(), "a look fetches nothing");

    let (made, output) = lab.run(&there, &[]);
    assert_eq!(made, NOTHING);
    assert_eq!(told(&output, "fetched"), ALL, "{output:?}");
    assert_eq!(results(&there), results(&here));
    let actions = |project: &Project| tree(&project.path("cache/actions"));
    assert_eq!(actions(&there), actions(&here), "the records are those of who made them");
    let history = there.titer(&["runs", "pipelines/p.toml"]);
    assert!(history.out.contains("  done  ") && history.out.contains("  10 fetched\n"), "{history:?}");
    let shown = there.titer(&["show", "pipelines/p.toml"]);
    assert!(shown.out.contains("\n10 fetched in ") && shown.out.contains("\nfetched\n  "), "{shown:?}");
    // From now on it is a result like any other.
    assert_eq!(there.run(), NOTHING);
}

#[test]
fn only_what_nobody_has_made_runs() {
    let (lab, _) = Lab::filled();
    let there = Project::answers();
    there.edit("pipelines/p.toml", "n = [2, 3, 5]", "n = [2, 4, 5]");
    let (made, output) = lab.run(&there, &["--push"]);
    assert_eq!(
        made,
        ["aggregate.table", "mix.rows[n=4]", "score.quality[n=4,scorer=em]", "score.quality[n=4,scorer=rouge]"]
    );
    assert_eq!((told(&output, "fetched"), told(&output, "sent")), (6, 4), "{output:?}");
    let third = Project::answers();
    third.edit("pipelines/p.toml", "n = [2, 3, 5]", "n = [4]");
    assert_eq!(lab.run(&third, &[]).0, ["aggregate.table"]);
    // What is to be made again is made here.
    let (made, _) = lab.run(&third, &["--force", "mix.rows"]);
    assert_eq!(made, ["mix.rows[n=4]"]);
}

#[test]
fn a_result_that_lies_is_made_here_and_the_rest_is_fetched() {
    let (lab, here) = Lab::filled();
    let rows = std::fs::read(here.path("out/answers/mix.rows/n=3/train.jsonl")).unwrap();
    let half = &rows[..rows.len() / 2];
    let mut wrong = rows.clone();
    wrong[0] ^= 1;
    let long = [&rows[..], b"more"].concat();
    for (damage, expected) in [(half, "is cut off"), (&wrong, "has not the bytes"), (&long, "is longer")] {
        overwrite(&lab.object(&rows), damage);
        let there = Project::answers();
        let (made, output) = lab.run(&there, &[]);
        assert_eq!(made, ["mix.rows[n=3]"]);
        assert!(output.out.contains("not fetched: object") && output.out.contains(expected), "{output:?}");
        assert_eq!(results(&there), results(&here));
        assert_eq!(there.run(), NOTHING);
    }
    // Gone for good, or of another key.
    std::fs::remove_file(lab.object(&rows)).unwrap();
    assert_eq!(lab.run(&Project::answers(), &[]).0, ["mix.rows[n=3]"]);
    let mut actions = tree(&lab.dir.path().join("actions"));
    actions.retain(|(name, _)| name.ends_with("record.json"));
    assert_eq!(actions.len(), ALL);
    overwrite(&lab.dir.path().join("actions").join(&actions[0].0), &actions[1].1);
    let (made, output) = lab.run(&Project::answers(), &[]);
    assert!(made.len() == 2 && output.err.contains("it is of another key"), "{made:?} {output:?}");
}

#[test]
fn keys_that_were_planned_with_a_refused_result_are_planned_anew() {
    let manifest = r#"titer = 1
name = "c"
[mix.rows]
command = ["sh", "-c", "head -c 9 /dev/urandom | od -A n -t x1 > \"$TITER_OUTPUT/train.jsonl\""]

[mix.copy]
command = ["sh", "-c", "sed 's/^/copy /' \"$0\" > \"$TITER_OUTPUT/train.jsonl\"", "{input.of}"]
inputs = { of = "mix.rows" }
"#;
    let lab = Lab::new();
    let project = Project::empty();
    project.write("pipelines/p.toml", manifest);
    assert_eq!(lab.run(&project, &["--push"]).0, ["mix.copy", "mix.rows"]);
    // Here only the copy is left, there only a lie.
    let rows = std::fs::read(project.path("out/c/mix.rows/train.jsonl")).unwrap();
    let shown = project.titer(&["show", "pipelines/p.toml", "mix.rows", "--json"]);
    let key = json(&shown)[0]["key"].as_str().unwrap().to_string();
    std::fs::remove_dir_all(project.path("cache/actions").join(&key[..2]).join(&key)).unwrap();
    overwrite(&lab.object(&rows), b"lie");
    let name = titer::key::Digest::of(&rows).to_string();
    std::fs::remove_file(project.path("cache/objects").join(&name[..2]).join(&name)).unwrap();
    let plan = lab.call(&project, &["plan", "pipelines/p.toml"]);
    assert!(plan.out.contains("nothing to run: 1 cached, 1 cached (shared)"), "{plan:?}");
    let (made, _) = lab.run(&project, &[]);
    assert_eq!(made, ["mix.copy", "mix.rows"]);
    let rows = project.read("out/c/mix.rows/train.jsonl");
    assert_eq!(project.read("out/c/mix.copy/train.jsonl"), format!("copy {rows}"));
}

/// Forgets the result of an instance here.
fn forget(project: &Project, instance: &str) {
    let key = json(&project.titer(&["show", P, instance, "--json"]))[0]["key"].as_str().unwrap().to_string();
    std::fs::remove_dir_all(project.path("cache/actions").join(&key[..2]).join(&key)).unwrap();
}

#[test]
fn what_reads_a_result_that_is_only_shared_can_be_explained_imported_and_verified() {
    let (lab, here) = Lab::filled();
    // It reads `mix.rows[n=2]`, which is nowhere but in the shared cache.
    let there = Project::answers();
    let scores = here.path("out/answers/score.quality/n=2,scorer=em");
    let import = lab.call(&there, &["import", P, "score.quality[n=2,scorer=em]", scores.to_str().unwrap()]);
    assert_eq!(import.code, 0, "{import:?}");

    forget(&here, "mix.rows[n=2]");
    let verify = lab.call(&here, &["verify", P]);
    assert!(verify.code == 0 && verify.out.contains("all sound"), "{verify:?}");
    let audit = lab.call(&here, &["audit", P, "score.quality[n=2,scorer=em]", "score.quality[n=3,scorer=em]"]);
    assert_eq!(audit.code, 1, "{audit:?}");
    let expected = "score.quality[n=2,scorer=em]  cannot be audited: what it reads is in the shared cache only: \
                    mix.rows[n=2]; `titer pull` first";
    assert!(audit.out.contains(expected), "{audit:?}");
    assert!(audit.out.contains("1 the same bytes, 1 not in the cache"), "{audit:?}");

    // Other rows: others have mixed it, nobody has scored it.
    for project in [&here, &there] {
        project.edit("data/answers.jsonl", "a number?", "a digit?");
    }
    lab.run(&there, &["--push", "-t", "mix.rows"]);
    let why = lab.call(&here, &["why", P, "score.quality[n=2,scorer=em]"]);
    assert!(why.code == 0 && why.out.contains("predictions: content changed"), "{why:?}");
}

#[test]
fn what_the_lock_refuses_is_not_sent() {
    let lab = Lab::new();
    let project = Project::empty();
    let script = "cat device > $0/train.jsonl";
    project.write(
        P,
        &format!("titer = 1\nname = \"c\"\n[mix.a]\ncommand = [\"sh\", \"-c\", \"{script}\", \"{{output}}\"]\n"),
    );
    project.write("device", "cpu\n");
    project.run();
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    project.write("device", "cuda\n");
    let run = lab.call(&project, &["run", P, "--locked", "--push"]);
    assert!(run.code == 1 && run.out.contains("its outputs are not the locked ones"), "{run:?}");
    assert!(!run.out.contains("sent to the shared cache"), "{run:?}");
    assert!(tree(lab.dir.path()).is_empty());
}

#[test]
fn an_imported_result_is_shared_with_what_is_said_of_it() {
    let lab = Lab::new();
    let here = Project::answers();
    here.write("rows.csv", "instruction,output,prediction\na,yes,yes\n");
    assert_eq!(here.titer(&["import", P, "mix.rows[n=2]", "rows.csv"]).code, 0);
    let push = lab.call(&here, &["push", P, "mix.rows[n=2]"]);
    assert!(push.out.contains("1 sent"), "{push:?}");
    let there = Project::answers();
    let why = lab.call(&there, &["why", P, "mix.rows[n=2]"]);
    assert!(why.out.contains("imported from `rows.csv` for") && why.out.contains("; a run fetches it"), "{why:?}");
    assert_eq!(lab.run(&there, &["-t", "mix.rows[n=2]"]).0, NOTHING);
    assert_eq!(there.read("out/answers/mix.rows/n=2/train.jsonl"), here.read("out/answers/mix.rows/n=2/train.jsonl"));
}

#[test]
fn after_a_failure_nothing_more_is_fetched() {
    let manifest = r#"titer = 1
name = "c"
[mix.slow]
command = ["sh", "-c", "touch begun; while [ ! -e go ]; do sleep 0.02; done; echo '{\"a\":1}' > \"$TITER_OUTPUT/train.jsonl\""]
threads = 1

[mix.copy]
command = ["cp", "{input.of}", "{output}/train.jsonl"]
inputs = { of = "mix.slow" }

[mix.bad]
command = ["sh", "-c", "while [ ! -e begun ]; do sleep 0.02; done; exit 1"]
threads = 1
"#;
    let lab = Lab::new();
    let (here, there) = (Project::empty(), Project::empty());
    here.write(P, manifest);
    there.write(P, manifest);
    here.write("go", "");
    assert_eq!(lab.run(&here, &["--push", "-t", "mix.copy"]).0, ["mix.copy", "mix.slow"]);
    // What is slow is to be made again; only then it is known that the copy could be fetched.
    let key = json(&here.titer(&["show", P, "mix.slow", "--json"]))[0]["key"].as_str().unwrap().to_string();
    std::fs::remove_file(lab.dir.path().join("actions").join(&key[..2]).join(&key).join("record.json")).unwrap();
    let mut command = there.command(&["run", P, "--json", "-j", "2", "--shared", lab.shared()]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("\"event\":\"failed\"") {
        assert!(out.read_line(&mut said).unwrap() > 0, "{said}");
    }
    there.write("go", "");
    out.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    let summary: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let count = |word: &str| summary[word].as_u64().unwrap();
    assert_eq!([count("ran"), count("failed"), count("fetched"), count("unfinished")], [1, 1, 0, 1], "{said}");
}

#[test]
fn a_cache_that_is_not_there_costs_one_line() {
    let project = Project::answers();
    let missing = project.path("mount");
    let run = project.titer(&["run", "pipelines/p.toml", "--push", "--shared", missing.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.err.matches("there is no such folder").count(), 1, "{run:?}");
    assert!(run.out.contains("10 ran") && run.err.contains("10 results did not reach the shared cache"), "{run:?}");
    assert!(!missing.exists());
    for command in ["push", "pull"] {
        let args = [command, "pipelines/p.toml", "--shared", missing.to_str().unwrap()];
        project.refuses(&args, 1, &["there is no such folder"]);
        let output = project.titer(&[&args[..], &["--json"]].concat());
        assert!(json(&output)["problems"][0]["message"].as_str().unwrap().contains("no such folder"));
    }
    project.refuses(&["push", "pipelines/p.toml"], 2, &["there is no shared cache", "TITER_SHARED"]);
}

#[test]
fn the_manifest_names_the_cache_and_the_call_goes_before_it() {
    let lab = Lab::new();
    let project = Project::answers();
    std::fs::create_dir(project.path("team")).unwrap();
    project.edit("pipelines/p.toml", "[axes]", "[cache]\nshared = \"team\"\npush = true\n\n[axes]");
    let output = project.titer(&["run", "pipelines/p.toml"]);
    assert!(output.out.contains("10 ran, 0 cached, 10 sent to the shared cache"), "{output:?}");
    assert_eq!(tree(&project.path("team/actions")).len(), 2 * ALL);
    // Another cache, no cache; and one that is only written.
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    let plan = |more: &[&str]| project.titer(&[&["plan", "pipelines/p.toml"], more].concat()).out;
    assert!(plan(&[]).contains("10 cached (shared)"));
    assert!(!plan(&["--shared", lab.shared()]).contains("shared)") && !plan(&["--shared", "none"]).contains("shared)"));
    project.edit("pipelines/p.toml", "push = true", "push = true\npull = false");
    assert!(!plan(&[]).contains("shared)"));
    project.edit("pipelines/p.toml", "\"team\"", "\"gs://team\"");
    project.refuses(&["plan", "pipelines/p.toml"], 2, &["`gs://` is no shared cache", "pipelines/p.toml:5:10"]);
    let secret = ["plan", "pipelines/p.toml", "--shared", "s3://key:word@lab"];
    project.refuses(&secret, 2, &["keys do not belong into an address"]);
    assert!(!project.titer(&secret).err.contains("word"));
}

#[test]
fn push_and_pull_carry_what_is_missing() {
    let (lab, project) = (Lab::new(), Project::answers());
    let push = |more: &[&str]| json(&lab.call(&project, &[&["push", "pipelines/p.toml", "--json"], more].concat()));
    assert_eq!(push(&[])["not_made"], 10);
    project.run();
    let first = push(&["mix.rows[n=2]"]);
    assert_eq!((&first["sent"], &first["known"]), (&1.into(), &0.into()), "{first}");
    let second = push(&[]);
    assert_eq!((&second["sent"], &second["known"]), (&9.into(), &1.into()), "{second}");
    let third = lab.call(&project, &["push", "pipelines/p.toml"]);
    assert!(third.code == 0 && third.out.contains("0 sent (0 bytes), 10 there already"), "{third:?}");

    let there = Project::answers();
    let pull = lab.call(&there, &["pull", "pipelines/p.toml", "score.quality[n=3]", "--json"]);
    assert_eq!((&json(&pull)["fetched"], pull.code), (&3.into(), 0), "{pull:?}");
    let pull = lab.call(&there, &["pull", "pipelines/p.toml"]);
    assert!(pull.out.contains("7 fetched ("), "{pull:?}");
    assert_eq!(there.run(), NOTHING);
    assert_eq!(results(&there), results(&project));
    project.refuses(&["pull", "pipelines/p.toml", "score.qualitx", "--shared", lab.shared()], 2, &["score.quality"]);

    let rows = std::fs::read(project.path("out/answers/mix.rows/n=3/train.jsonl")).unwrap();
    overwrite(&lab.object(&rows), b"lie");
    let pull = lab.call(&Project::answers(), &["pull", "pipelines/p.toml"]);
    assert_eq!(pull.code, 1, "{pull:?}");
    assert!(pull.err.contains("mix.rows[n=3]: object") && pull.out.contains("9 fetched"), "{pull:?}");
    // Whoever has it mends it.
    assert_eq!(push(&[])["failed"].as_array().unwrap().len(), 0);
    assert_eq!(lab.run(&Project::answers(), &[]).0, NOTHING);
}

#[test]
fn two_that_push_at_once_leave_what_one_would() {
    let alone = Lab::filled().0;
    let files = |lab: &Lab| {
        let mut names: Vec<String> = tree(lab.dir.path()).into_iter().map(|(name, _)| name).collect();
        names.retain(|name| !name.contains("observations"));
        names
    };
    for _ in 0..3 {
        let lab = Lab::new();
        let projects = [Project::answers(), Project::answers()];
        let children = [0, 1].map(|number| {
            let mut command =
                projects[number].command(&["run", "pipelines/p.toml", "--push", "--shared", lab.shared()]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        });
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        }
        assert_eq!(files(&lab), files(&alone));
        assert_eq!(lab.run(&Project::answers(), &[]).0, NOTHING);
    }
}

/// Kills with SIGKILL; the next one goes on.
#[test]
fn a_killed_push_or_pull_is_gone_on_with() {
    let project = Project::answers();
    project.run();
    for step in 0..8 {
        let lab = Lab::new();
        let there = Project::answers();
        for (project, command) in [(&project, "push"), (&there, "pull")] {
            let args = [command, "pipelines/p.toml", "--shared", lab.shared()];
            let mut child = project.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(8 + 3 * step));
            child.kill().unwrap();
            child.wait().unwrap();
            let output = lab.call(project, &[command, "pipelines/p.toml"]);
            assert_eq!(output.code, 0, "{output:?}");
        }
        assert_eq!(there.run(), NOTHING);
        assert_eq!(results(&there), results(&project));
    }
}
