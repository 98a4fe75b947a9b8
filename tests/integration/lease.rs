//! Owners that are paused or gone, and file systems without locks.

use crate::project::{Project, ran, tree, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::Duration;

/// A stage that begins, waits to be let go, and tells its own number.
fn waiting() -> Project {
    let project = Project::empty();
    let script = "touch started.$$; until test -e go; do sleep 0.02; done; echo $$ > $0/train.jsonl";
    project.write(
        "pipelines/p.toml",
        &format!("titer = 1\nname = \"p\"\n[mix.a]\ncommand = [\"sh\", \"-c\", \"{script}\", \"{{output}}\"]\n"),
    );
    project
}

fn start(project: &Project, environment: &[(&str, &str)]) -> Child {
    let mut command = project.command(&["run", "pipelines/p.toml", "--json"]);
    command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How many processes have begun the stage.
fn begun(project: &Project) -> usize {
    let entries = std::fs::read_dir(project.path("")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("started.")).count()
}

fn end(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

fn is_empty(project: &Project, folder: &str) -> bool {
    std::fs::read_dir(project.path(folder)).unwrap().next().is_none()
}

#[test]
fn an_owner_that_was_paused_wakes_to_see_that_another_took_over() {
    let project = waiting();
    let quick = [("TITER_PATIENCE", "400ms")];
    let paused = start(&project, &quick);
    wait_for("the first begins", || begun(&project) == 1);
    kill_process(Pid::from_child(&paused), Signal::STOP).unwrap();
    let other = start(&project, &quick);
    wait_for("the second takes over", || begun(&project) == 2);
    project.write("go", "");
    let (code, said) = end(other);
    assert_eq!((code, ran(&said)), (Some(0), vec!["mix.a".to_string()]), "{said}");
    let canonical = project.read("out/p/mix.a/train.jsonl");

    kill_process(Pid::from_child(&paused), Signal::CONT).unwrap();
    let (code, said) = end(paused);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("stood still") && said.contains("\"observed\""), "{said}");
    assert_eq!(project.read("out/p/mix.a/train.jsonl"), canonical, "the first commit counts");
    let kept = tree(&project.path("cache/actions"));
    assert_eq!(kept.iter().filter(|(name, _)| name.ends_with("observations/1.json")).count(), 1);
    assert!(is_empty(&project, "cache/claims") && is_empty(&project, "cache/roots"));
    assert!(project.run().is_empty());
}

#[test]
fn a_paused_owner_that_wakes_in_time_keeps_its_claim() {
    let project = waiting();
    let first = start(&project, &[]);
    wait_for("the first begins", || begun(&project) == 1);
    kill_process(Pid::from_child(&first), Signal::STOP).unwrap();
    let second = start(&project, &[]);
    std::thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_child(&first), Signal::CONT).unwrap();
    project.write("go", "");
    let ((_, first), (_, second)) = (end(first), end(second));
    assert_eq!((ran(&first).len(), ran(&second).len(), begun(&project)), (1, 0, 1), "{first}\n{second}");
}

#[test]
fn without_locks_work_is_shared_and_the_dead_are_replaced() {
    let project = waiting();
    let unlocked = [("TITER_NO_LOCKS", "1"), ("TITER_PATIENCE", "1s")];
    let first = start(&project, &unlocked);
    wait_for("the first begins", || begun(&project) == 1);
    let second = start(&project, &unlocked);
    project.write("go", "");
    let ((first_code, first), (second_code, second)) = (end(first), end(second));
    assert_eq!((first_code, second_code, begun(&project)), (Some(0), Some(0), 1), "{first}\n{second}");

    let project = waiting();
    let mut killed = start(&project, &unlocked);
    wait_for("one begins", || begun(&project) == 1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    project.write("go", "");
    let (code, said) = end(start(&project, &unlocked));
    assert_eq!((code, ran(&said).len()), (Some(0), 1), "{said}");
}

/// A cache with a lost object is made whole without a lock of the file system, by several at once.
#[test]
fn lost_results_are_replaced_without_locks() {
    let project = Project::answers();
    project.run();
    let expected = tree(&project.path("out"));
    for (name, _) in tree(&project.path("cache/objects")) {
        std::fs::remove_file(project.path("cache/objects").join(name)).unwrap();
    }
    let unlocked = [("TITER_NO_LOCKS", "1")];
    let children = [start(&project, &unlocked), start(&project, &unlocked)];
    let mut made = 0;
    for (code, said) in children.map(end) {
        assert_eq!(code, Some(0), "{said}");
        made += ran(&said).len();
    }
    assert_eq!(made, 10);
    assert_eq!(tree(&project.path("out")), expected);
}
