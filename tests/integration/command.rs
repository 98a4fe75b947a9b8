//! Stages that another program does: the contract, retries, limits, secrets, and what is left when something dies.

use crate::project::{Project, tree};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A project with one manifest, whose stages are `text`.
fn project(text: &str) -> Project {
    let project = Project::empty();
    project.write("pipelines/p.toml", &format!("titer = 1\nname = \"c\"\n{text}"));
    project
}

/// The record of the only (or the named) instance.
fn record(project: &Project, selector: &str) -> serde_json::Value {
    let shown = project.titer(&["show", "pipelines/p.toml", selector, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    shown[0].clone()
}

/// Waits until `is_so`, for at most ten seconds.
fn soon(is_so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn is_alive(pid: &str) -> bool {
    // A zombie that nobody has waited for yet is dead enough.
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_chain_of_commands_is_cached_like_everything_else() {
    let project = project(
        r#"
[axes]
n = [1, 2]

[mix.rows]
command = ["sh", "make.sh", "{input.source}", "{n}", "{output}/train.jsonl"]
inputs = { source = "data/rows.jsonl" }
env = { WORD = "w{n}" }

[mix.copy]
command = ["cp", "{input.of}", "{output}/train.jsonl"]
inputs = { of = "mix.rows" }

[score.length]
command = ["sh", "-c", "sed 's/.*/{\"id\":\"&\",\"scores\":{\"length\":1}}/' \"$0\" > \"$TITER_OUTPUT/scores.jsonl\"", "{input.predictions}"]
predictions = "mix.copy"

[aggregate.table]
from = "score.length"
by = ["n"]
"#,
    );
    project.write("make.sh", "head -n \"$2\" \"$1\" > \"$3\"; echo \"$WORD\" >> \"$3\"; echo made $TITER_INSTANCE\n");
    project.write("data/rows.jsonl", "a\nb\nc\n");
    assert_eq!(project.run().len(), 7);
    assert_eq!(project.read("out/c/mix.copy/n=2/train.jsonl"), "a\nb\nw2\n");
    assert!(project.read("out/c/aggregate.table/table.csv").contains("n,"), "a command's scores are aggregated");
    assert!(record(&project, "mix.rows[n=2]")["log"].as_str().unwrap().contains("made mix.rows[n=2]"));
    assert!(project.run().is_empty());

    // The third row changes what is read, and nothing that comes of it.
    project.write("data/rows.jsonl", "a\nb\nC\n");
    assert_eq!(project.run(), ["mix.rows[n=1]", "mix.rows[n=2]"]);
    // A file that an argument names is an input.
    project.write("make.sh", "echo x > \"$3\"\n");
    let ran = project.run();
    let copied = ran.iter().filter(|name| name.starts_with("mix.copy")).count();
    assert_eq!(copied, 1, "equal rows are copied once: {ran:?}");
    assert_eq!(project.read("out/c/mix.copy/n=1/train.jsonl"), "x\n");
    project.edit("pipelines/p.toml", "w{n}", "v{n}");
    assert_eq!(project.run(), ["mix.rows[n=1]", "mix.rows[n=2]"], "the same bytes stop there");
}

#[test]
fn an_adapter_by_another_trainer_is_one_over_its_base() {
    let project = project(
        r#"
[train.own]
command = ["sh", "-c", "mkdir $0/model; cat $1/config.json > $0/model/adapter_config.json", "{output}", "{input.base}"]
base = "models/base"

[predict.layers]
command = ["sh", "-c", "for layer; do ls $layer; done > $0/predictions.jsonl", "{output}", "{input.model}"]
model = "train.own"
"#,
    );
    project.write("models/base/config.json", "{}");
    project.write("models/base/model.safetensors", "weights");
    project.run();
    let listing = project.read("out/c/predict.layers/predictions.jsonl");
    assert_eq!(listing, "config.json\nmodel.safetensors\nadapter_config.json\n", "the base, then the adapter");
    // The adapter's bytes stay; the base under it does not.
    project.write("models/base/model.safetensors", "other weights");
    assert_eq!(project.run(), ["predict.layers", "train.own"]);
}

#[test]
fn a_failure_is_said_with_the_end_of_its_log() {
    let project = project(
        "[mix.a]\ncommand = [\"sh\", \"-c\", \"seq 100; printf '\\\\001\\\\377\\\\n'; echo no rows >&2; exit 3\"]\n",
    );
    project.refuses(&["run", "pipelines/p.toml"], 1, &["exit code 3", "no rows", "100", "log:"]);
    let text = "[mix.a]\ncommand = [\"pythn\", \"x\"]\n";
    project.write("pipelines/p.toml", &format!("titer = 1\n{text}"));
    project.refuses(&["run", "pipelines/p.toml"], 1, &["cannot start `pythn`", "No such file"]);
    project.edit("pipelines/p.toml", "[\"pythn\", \"x\"]", "[\"true\"]");
    project.refuses(&["run", "pipelines/p.toml"], 1, &["output `train` is missing", "train.jsonl"]);
    project.edit("pipelines/p.toml", "[\"true\"]", "[\"true\", \"{input.x}\"]");
    project.refuses(&["run", "pipelines/p.toml"], 2, &["p.toml:3:11", "names nothing that the stage reads"]);
}

#[test]
fn what_asks_for_it_is_tried_again() {
    // Fails as often as the file has no line for it.
    let script = "echo x >> tries; test $(wc -l < tries) -gt 2 || exit 75; echo y > $0/train.jsonl";
    let stage = |on: &str| {
        format!(
            "[mix.a]\ncommand = [\"sh\", \"-c\", \"{script}\", \"{{output}}\"]\nretry = {{ times = 2, wait = 0.01{on} }}\n"
        )
    };
    let project = project(&stage(""));
    let output = project.titer(&["run", "pipelines/p.toml"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("failed (temporary), next try in"), "{output:?}");
    assert_eq!(record(&project, "mix.a")["record"]["run"]["tries"], 3);
    std::fs::remove_file(project.path("tries")).unwrap();
    project.write("pipelines/p.toml", &format!("titer = 1\nname = \"d\"\n{}", stage(", on = [\"oom\"]")));
    project.refuses(&["run", "pipelines/p.toml", "--force", "mix.a"], 1, &["exit code 75"]);
    assert_eq!(project.read("tries").lines().count(), 1, "not for this cause");
}

#[test]
fn what_takes_too_long_is_stopped_with_all_that_it_started() {
    let project = project(
        "[mix.a]\ncommand = [\"sh\", \"-c\", \"sleep 600 & echo $! > child; wait\"]\ntime_limit = 0.3\nretry = { times = 1, on = [\"timeout\"], wait = 0.01 }\n",
    );
    project.refuses(&["run", "pipelines/p.toml"], 1, &["failed (timeout)", "`time_limit` of 0.3 s", "tries: 2"]);
    assert!(soon(|| !is_alive(&project.read("child"))));
}

#[test]
fn one_that_does_not_listen_is_stopped_too() {
    let project =
        project("[mix.a]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; sleep 600 & wait; wait\"]\ntime_limit = 0.1\n");
    let start = Instant::now();
    project.refuses(&["run", "pipelines/p.toml"], 1, &["`time_limit`"]);
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn what_it_leaves_running_is_ended() {
    let project = project(
        "[mix.a]\ncommand = [\"sh\", \"-c\", \"sleep 600 & echo $! > child; echo x > $0/train.jsonl\", \"{output}\"]\n",
    );
    project.run();
    assert!(soon(|| !is_alive(&project.read("child"))));
}

/// It leaves its group, and keeps the pipe open or not.
#[test]
fn what_hides_is_ended_too() {
    for noise in ["", ">/dev/null 2>&1"] {
        let project = project(&format!(
            "[mix.a]\ncommand = [\"sh\", \"-c\", \"setsid sh -c 'echo $$ > child; exec sleep 600' {noise} & until test -s child; do sleep 0.01; done; sleep 1.1; echo x > $0/train.jsonl\", \"{{output}}\"]\n"
        ));
        project.run();
        assert!(soon(|| !is_alive(&project.read("child"))), "{noise}");
    }
}

#[test]
fn what_hides_is_ended_too_when_titer_is_killed() {
    let project = project(
        "[mix.a]\ncommand = [\"sh\", \"-c\", \"setsid sh -c 'echo $$ > child; exec sleep 600' & sleep 600\"]\n",
    );
    let mut titer = project.command(&["run", "pipelines/p.toml"]).stdout(Stdio::null()).spawn().unwrap();
    assert!(soon(|| project.path("child").exists() && !project.read("child").is_empty()));
    titer.kill().unwrap();
    titer.wait().unwrap();
    assert!(soon(|| !is_alive(&project.read("child"))));
}

#[test]
fn a_failed_second_run_takes_no_result_away() {
    let project = project(
        "[mix.a]\ncommand = [\"sh\", \"-c\", \"test -z $(cat fails) && echo x > $0/train.jsonl\", \"{output}\"]\n\
         [mix.b]\ncommand = [\"cp\", \"{input.a}\", \"{output}/train.jsonl\"]\ninputs = { a = \"mix.a\" }\n",
    );
    project.write("fails", "");
    project.run();
    let shown = tree(&project.path("out"));
    project.write("fails", "yes");
    project.refuses(&["run", "pipelines/p.toml", "-f", "mix.a"], 1, &["mix.a failed"]);
    assert_eq!(tree(&project.path("out")), shown, "what is shown is still current");
}

#[test]
fn what_is_no_file_is_refused_as_an_output() {
    for (made, says) in [
        ("mkfifo $0/train.jsonl", "a file was promised"),
        ("ln -s /etc/hostname $0/train.jsonl", "it is a symbolic link"),
        ("mkdir $0/train.jsonl", "a file was promised"),
        ("true", "output `train` is missing"),
        ("rmdir $0; ln -s /etc $0", "it is not the folder that was given"),
        ("rmdir $0", "cannot read"),
    ] {
        let project = project(&format!(
            "[mix.a]\ncommand = [\"sh\", \"-c\", \"{made}\", \"{{output}}\"]\ntime_limit = \"60s\"\n"
        ));
        project.refuses(&["run", "pipelines/p.toml"], 1, &["mix.a failed", says]);
        assert_eq!(tree(&project.path("cache/objects")).len(), 1, "the manifest's text, and nothing of `{made}`");
    }
}

#[test]
fn noise_is_kept_and_shown_without_harm() {
    let project = project(
        "[mix.a]\ncommand = [\"sh\", \"-c\", \"head -c 300000 /dev/urandom; printf '\\\\033[2Jred\\\\n'; exit 3\"]\n",
    );
    let output = project.titer(&["run", "pipelines/p.toml"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.out.contains("exit code 3") && output.out.contains("\u{fffd}[2Jred"), "{output:?}");
    assert!(!output.out.contains('\u{1b}') && !output.out.contains('\0'));
}

/// It has the right to: the cache belongs to the same person.
#[test]
fn a_command_that_writes_to_its_input_is_noticed_before_the_next_use() {
    let project = project(
        r#"
[mix.rows]
command = ["sh", "-c", "echo a > $0/train.jsonl", "{output}"]

[mix.rude]
command = ["sh", "-c", "sleep 0.05; chmod u+w $1; echo b >> $1; echo c > $0/train.jsonl", "{output}", "{input.of}"]
inputs = { of = "mix.rows" }
"#,
    );
    assert_eq!(project.run(), ["mix.rows", "mix.rude"]);
    assert_eq!(project.run(), ["mix.rows"]);
    assert_eq!(project.read("out/c/mix.rows/train.jsonl"), "a\n");
    assert!(project.run().is_empty());
}

#[test]
fn nothing_is_left_when_titer_is_killed() {
    let project =
        project("[mix.a]\ncommand = [\"sh\", \"-c\", \"sleep 600 & echo $! > child.new; mv child.new child; wait\"]\n");
    let mut child = project.command(&["run", "pipelines/p.toml"]).stdout(Stdio::null()).spawn().unwrap();
    assert!(soon(|| project.path("child").exists()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(soon(|| !is_alive(&project.read("child"))), "the command's own child");
}

#[test]
fn secrets_reach_who_asks_for_them_and_nothing_else() {
    let text = r#"
[mix.asks]
command = ["sh", "-c", "echo the key is $KEY; test ${#KEY} = 7 && echo yes > $0/train.jsonl", "{output}"]
env = { KEY = "{env:TITER_TEST_SECRET}" }

[mix.does_not]
command = ["sh", "-c", "test -z \"$TITER_TEST_SECRET\" && echo none > $0/train.jsonl", "{output}"]
"#;
    let project = project(text);
    let run = |value: Option<&str>| {
        let mut command = project.command(&["run", "pipelines/p.toml"]);
        match value {
            Some(value) => command.env("TITER_TEST_SECRET", value),
            None => command.env_remove("TITER_TEST_SECRET"),
        };
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = run(None);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("p.toml:4:6") && said.contains("`TITER_TEST_SECRET`, which is not set"), "{said}");
    let (code, said) = run(Some("hunter2"));
    assert_eq!(code, Some(0), "{said}");
    assert!(record(&project, "mix.asks")["log"].as_str().unwrap().contains("the key is <TITER_TEST_SECRET>"));
    let holds = |folder: &str| tree(&project.path(folder)).iter().any(|(_, bytes)| memchr_find(bytes, b"hunter2"));
    assert!(!holds("cache") && !holds("out") && !said.contains("hunter2"));
    assert_eq!(run(None).0, Some(0), "what is cached needs no secret, and another value changes nothing");

    project.edit("pipelines/p.toml", "echo yes", "echo $KEY");
    let (code, said) = run(Some("hunter2"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`train.jsonl` holds the secret `TITER_TEST_SECRET`"), "{said}");
    assert!(!holds("cache/objects") && !holds("cache/logs"));
}

fn memchr_find(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_secret_may_stand_in_no_other_place() {
    for stage in [
        "[mix.a]\ncommand = [\"x\", \"{env:KEY}\"]\n",
        "[params]\nkey = \"{env:KEY}\"\n[mix.a]\ncommand = [\"x\"]\n",
        "[axes.a.b]\nkey = \"{env:KEY}\"\n[mix.a]\ncommand = [\"x\", \"{a}\"]\n",
        "[mix.a]\nsources = [{ path = \"{env:KEY}\" }]\n",
        "[mix.a]\nenv = { K = \"{env:KEY}\" }\nsources = [{ path = \"x\" }]\n",
    ] {
        let output = project(stage).titer(&["check", "pipelines/p.toml"]);
        let says = output.err.contains("a secret cannot stand here") || output.err.contains("unknown setting `env`");
        assert!(output.code == 2 && says, "{stage}\n{output:?}");
    }
}

#[test]
fn graphics_cards_are_given_by_name() {
    // Each job waits for the other, so that both have their card at once.
    let script =
        "echo $CUDA_VISIBLE_DEVICES > $0/model/card; touch on.$1; until test -e on.1 -a -e on.2; do sleep 0.01; done";
    let project = project(&format!(
        "[axes]\nrun = [1, 2]\n[train.a]\ncommand = [\"sh\", \"-c\", \"mkdir $0/model; {script}\", \"{{output}}\", \"{{run}}\"]\ntime_limit = \"60s\"\n[mix.cpu]\ncommand = [\"sh\", \"-c\", \"echo =$CUDA_VISIBLE_DEVICES= > $0/train.jsonl\", \"{{output}}\"]\n"
    ));
    project.run_with(&["--gpus", "3,GPU-7", "-j", "2"]);
    let card = |run: u8| project.read(&format!("out/c/train.a/run={run}/model/card")).trim().to_string();
    let mut cards = [card(1), card(2)];
    cards.sort();
    assert_eq!(cards, ["3", "GPU-7"]);
    assert_eq!(project.read("out/c/mix.cpu/train.jsonl"), "==\n", "who asks for none sees none");
    assert_eq!(record(&project, "train.a[run=1]")["record"]["run"]["device"], "cuda");
    project.edit("pipelines/p.toml", "time_limit = \"60s\"", "time_limit = \"60s\"\ngpus = 3");
    let refused = ["run", "pipelines/p.toml", "--gpus", "0,1", "--force", "train.a"];
    project.refuses(&refused, 2, &["p.toml:5:8", "needs graphics cards: 3, and there are 2"]);
}

#[test]
fn limits_of_a_kind_hold() {
    let script = "mkdir busy && sleep 0.05 && rmdir busy && echo x > $0/train.jsonl";
    let project = project(&format!(
        "[limits]\nmix = 1\n[axes]\nrun = [1, 2, 3, 4]\n[mix.a]\ncommand = [\"sh\", \"-c\", \"{script}\", \"{{output}}\", \"{{run}}\"]\n"
    ));
    assert_eq!(project.run_with(&["-j", "4"]).len(), 4);
    project.edit("pipelines/p.toml", "mix = 1", "mix = 0");
    project.refuses(&["run", "pipelines/p.toml"], 2, &["p.toml:4:7", "expected 1 or more"]);
    project.edit("pipelines/p.toml", "mix = 0", "memory = \"1 PB\"");
    project.refuses(&["run", "pipelines/p.toml"], 2, &["`1 PB` is no size"]);
}

#[test]
fn an_interruption_waits_for_what_is_nearly_done_only() {
    let progress = |done: u8| {
        format!(
            "echo '{{\\\"progress\\\":{{\\\"done\\\":{done},\\\"total\\\":100,\\\"unit\\\":\\\"steps\\\",\\\"note\\\":\\\"\\\"}}}}'"
        )
    };
    let script = |name: &str, done: u8, end: &str| {
        format!(
            "[mix.{name}]\ncommand = [\"sh\", \"-c\", \"sleep 0.2; {}; touch {name}; {end}; echo x > $0/train.jsonl\", \"{{output}}\"]\n",
            progress(done)
        )
    };
    // By its progress one ends at once, the other in twenty seconds.
    let soon_done = script("short", 99, "until test -e go; do sleep 0.01; done");
    let project = project(&format!("{soon_done}{}", script("long", 1, "sleep 600")));
    let mut child = project
        .command(&["run", "pipelines/p.toml", "-j", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(soon(|| ["short", "long"].iter().all(|name| Path::new(&project.path(name)).exists())));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    project.write("go", "");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(project.path("out/c/mix.short/train.jsonl").exists(), "it was waited for");
    assert!(!project.path("out/c/mix.long/train.jsonl").exists());
}
