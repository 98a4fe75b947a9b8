//! Kills, interruptions, failures, several processes, read-only caches: nothing is lost, nothing half-written is used.

use crate::project::{Project, ran, tree, wait_for};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

/// Kills the run with SIGKILL at some moment; the next run must end with the right bytes.
#[test]
fn a_kill_at_any_moment_leaves_a_usable_cache() {
    let reference = Project::answers();
    reference.run();
    let expected = tree(&reference.path("out"));
    for step in 0..12 {
        let project = Project::answers();
        let mut child =
            project.command(&["run", "pipelines/p.toml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(4 * step));
        child.kill().unwrap();
        child.wait().unwrap();
        project.run();
        assert_eq!(tree(&project.path("out")), expected, "killed after {} ms", 4 * step);
    }
}

#[test]
fn two_runs_at_once_make_nothing_twice() {
    let alone = Project::answers();
    alone.run();
    let expected = tree(&alone.path("out"));
    for _ in 0..5 {
        let project = Project::answers();
        let start = || {
            let mut command = project.command(&["run", "pipelines/p.toml", "--json"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let children = [start(), start()];
        let outputs = children.map(|child| child.wait_with_output().unwrap());
        let mut made: Vec<String> = Vec::new();
        for output in &outputs {
            assert!(output.status.success(), "{output:?}");
            made.extend(ran(&String::from_utf8_lossy(&output.stdout)));
        }
        made.sort();
        let mut once = made.clone();
        once.dedup();
        assert_eq!((made.len(), once.len()), (10, 10), "{made:?}");
        assert!(project.run().is_empty());
        assert_eq!(tree(&project.path("out")), expected);
    }
}

#[test]
fn a_failure_blocks_what_needs_it_and_keeps_the_rest() {
    let project = Project::answers();
    // Nothing before row 5,000 is wrong, so that only the work itself can find it.
    let good = "{\"instruction\":\"a\",\"output\":\"b\",\"prediction\":\"b\"}\n".repeat(4999);
    project.write("data/more.jsonl", &format!("{good}{{\"instruction\":\"a\",\"prediction\":\"b\"}}\n"));
    let more = "\n[mix.alone]\nsources = [{ path = \"data/answers.jsonl\" }]\n";
    project.edit("pipelines/p.toml", "[score.quality]\n", &format!("{more}\n[score.quality]\n"));
    project.refuses(
        &["run", "pipelines/p.toml", "--keep-going"],
        1,
        &["data/more.jsonl:5000", "`output`", "aggregate.table not run", "1 ran"],
    );
    // Mended, only what failed runs.
    project.write("data/more.jsonl", &good);
    assert!(!project.run().contains(&"mix.alone".to_string()));
}

#[test]
fn a_cache_that_cannot_be_written_is_said_at_once() {
    let project = Project::answers();
    project.run();
    if rustix::process::geteuid().is_root() {
        // Permission bits do not bind root: a cache whose place is taken by a file stands for it.
        project.write("taken", "");
        project.refuses(&["run", "pipelines/p.toml", "--cache", "taken"], 2, &["taken"]);
        return;
    }
    let mut permissions = std::fs::metadata(project.path("cache")).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(project.path("cache"), permissions).unwrap();
    assert!(project.run().is_empty(), "a read-only cache is enough when nothing runs");
}

#[test]
fn an_interrupted_run_says_so_and_goes_on_the_next_time() {
    let project = Project::answers();
    // Enough rows that scoring still goes on when the first mix is done and the signal is sent.
    let row =
        |i: usize| format!("{{\"instruction\":\"q{i}\",\"output\":\"{}\",\"prediction\":\"x\"}}\n", "word ".repeat(80));
    project.write("data/more.jsonl", &(0..20_000).map(row).collect::<String>());
    let mut child =
        project.command(&["run", "pipelines/p.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    out.read_line(&mut said).unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    out.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    let ran = project.run();
    assert!(!ran.is_empty() && ran.len() < 10, "{ran:?}");
    assert!(project.run().is_empty());
}

#[test]
fn a_scorer_s_program_ends_with_a_killed_titer() {
    let project = Project::empty();
    project.write("data/a.jsonl", "{\"output\":\"a\",\"prediction\":\"a\"}\n");
    project.write("hang.sh", "echo $$ > pid; exec sleep 600\n");
    project.write(
        "pipelines/p.toml",
        "titer = 1\n[score.s]\npredictions = \"data/a.jsonl\"\n\
         scorers = { x = { kind = \"command\", command = [\"sh\", \"hang.sh\"], metrics = [\"m\"] } }\n",
    );
    let mut titer = project.command(&["run", "pipelines/p.toml"]).spawn().unwrap();
    let started = || std::fs::read_to_string(project.path("pid")).is_ok_and(|pid| pid.ends_with('\n'));
    wait_for("the program", started);
    titer.kill().unwrap();
    titer.wait().unwrap();
    let process = format!("/proc/{}", project.read("pid").trim());
    wait_for("the program's end", || !std::path::Path::new(&process).exists());
}
