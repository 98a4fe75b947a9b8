//! `titer.lock`: what is written for reviewers, and what a run that is held to it refuses.

use crate::project::Project;
use std::os::unix::fs::PermissionsExt as _;

const M: &str = "pipelines/p.toml";
const LOCK: &str = "pipelines/titer.lock";
const LOCKED: [&str; 3] = ["run", M, "--locked"];

fn locked(project: &Project, what: &str) -> crate::project::Output {
    project.titer(&["run", M, &format!("--locked={what}")])
}

#[test]
fn a_run_locks_what_it_made_and_only_that_changes() {
    let project = Project::answers();
    project.refuses(&LOCKED, 2, &["there is no lock `pipelines/titer.lock`", "a run without `--locked` writes it"]);
    project.run();
    let first = project.read(LOCK);
    assert_eq!(first.matches("\nkey = ").count(), 10);
    let stamp = |name: &str| std::fs::metadata(project.path(name)).unwrap().modified().unwrap();
    let before = stamp(LOCK);
    project.run();
    assert_eq!(stamp(LOCK), before, "the same content is not written again");
    project.run_with(&["--axis", "n=7"]);
    assert_eq!(project.read(LOCK), first, "the manifest as written is locked, nothing else");

    // One value of an axis: a reviewer sees its instances come and the others' stay.
    project.edit(M, "n = [2, 3, 5]", "n = [2, 4, 5]");
    project.run_with(&["-t", "mix.rows[n=4]"]);
    let second = project.read(LOCK);
    let new: Vec<&str> = second.lines().filter(|line| line.starts_with('[') && !first.contains(line)).collect();
    assert_eq!(new, ["[pipeline.answers.\"mix.rows[n=4]\"]"]);
    assert!(
        !second.contains("n=3") && second.contains("aggregate.table"),
        "what is not in the manifest goes: {second}"
    );
    // Another manifest of the folder has its own section.
    project.write("pipelines/q.toml", &project.read(M).replace("\"answers\"", "\"other\""));
    assert_eq!(project.titer(&["run", "pipelines/q.toml"]).code, 0);
    let both = project.read(LOCK);
    assert!(
        both.starts_with(&second[..second.find("[pipeline").unwrap()]) && both.contains("[pipeline.other."),
        "{both}"
    );
    assert_eq!(both.matches("[pipeline.answers.").count(), second.matches("[pipeline.").count());
}

#[test]
fn another_recipe_or_file_is_refused_before_anything_runs() {
    let project = Project::answers();
    project.run();
    assert_eq!(project.titer(&LOCKED).code, 0);
    assert_eq!(locked(&project, "recipe").code, 0);
    project.edit(M, "take = \"{n}\"", "take = \"{n}\", where = \"true\"");
    let texts = [
        "`mix.rows` (3 instances, one is `mix.rows[n=2]`) is not what was locked: sources.0.where: not set →",
        "p.toml:7:6",
    ];
    project.refuses(&LOCKED, 2, &texts);
    project.refuses(&["run", M, "--locked=recipe"], 2, &texts);
    project.refuses(&["run", M, "--locked", "--dry-run"], 2, &texts);
    project.edit(M, ", where = \"true\"", "");
    project.edit("data/more.jsonl", "yes", "no");
    project.refuses(&["run", M, "--locked=recipe"], 2, &["is not what was locked: source.1: content changed"]);
    project.edit("data/more.jsonl", "no", "yes");
    project.edit(M, "rouge = \"rouge\"\n", "rouge = \"rouge\"\nf1 = \"token_f1\"\n");
    project.refuses(&LOCKED, 2, &["`score.quality` (3 instances", "is not in the lock"]);
}

#[test]
fn a_clone_without_the_cache_is_held_to_the_bytes() {
    let project = Project::answers();
    project.run();
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    let lock = project.read(LOCK);
    assert_eq!(project.titer(&LOCKED).code, 0, "the same bytes come out");
    assert_eq!(project.read(LOCK), lock);
    // Nothing tells what the old recipe was.
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    project.edit(M, "take = \"{n}\"", "take = \"{n}\", where = \"true\"");
    project.refuses(&LOCKED, 2, &["its settings, its files or what it reads from have changed"]);
}

#[test]
fn another_output_is_refused_at_its_commit_and_allowed_by_recipe() {
    let project = Project::empty();
    // It depends on something that is no input: another device, as it were.
    project.write(
        M,
        r#"titer = 1
name = "c"
[mix.a]
command = ["sh", "-c", "cat device > $0/train.jsonl", "{output}"]
[mix.b]
command = ["cp", "{input.a}", "{output}/train.jsonl"]
inputs = { a = "mix.a" }
"#,
    );
    project.write("device", "cpu\n");
    project.run();
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    project.write("device", "cuda\n");
    let failed = project.titer(&LOCKED);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.out.contains("mix.a failed: its outputs are not the locked ones: `train`: "), "{failed:?}");
    assert!(failed.out.contains("mix.b not run"), "{failed:?}");
    // It is no result for anybody, but can be looked at; the next such run says the same.
    let kept = |text: &str| {
        let place = text.split("what was made is kept in `").nth(1).unwrap().split('`').next().unwrap();
        std::fs::read_to_string(format!("{place}/train.jsonl")).unwrap()
    };
    assert_eq!(kept(&failed.out), "cuda\n");
    assert!(project.titer(&["plan", M, "--check"]).code == 3, "nothing was committed");
    project.write("device", "rocm\n");
    let again = project.titer(&LOCKED);
    assert!(again.code == 1 && again.out.contains("mix.a failed: its outputs are not the locked ones: `train`: "));
    assert_eq!(kept(&again.out), "rocm\n");
    // What is in the cache by a run that was not held to it, is refused there.
    project.write("device", "cuda\n");
    let lock = project.read(LOCK);
    assert_eq!(locked(&project, "recipe").code, 0);
    assert_eq!(project.read(LOCK), lock, "a run that is held to the lock does not write it");
    project.refuses(&LOCKED, 2, &["`mix.a` is cached, but its outputs are not the locked ones"]);
    project.refuses(&["run", M, "--locked", "-t", "mix.b"], 2, &["`mix.b` reads other bytes than were locked"]);
}

#[test]
fn a_key_that_comes_late_is_checked_when_it_comes() {
    let project = Project::answers();
    project.run();
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    let lock = project.read(LOCK);
    let (head, table) = lock.split_once("[pipeline.answers.\"aggregate.table\"]").unwrap();
    let key = table.lines().find(|line| line.starts_with("key = ")).unwrap();
    let other = format!("key = \"{}\"", "0".repeat(64));
    project.write(LOCK, &format!("{head}[pipeline.answers.\"aggregate.table\"]{}", table.replacen(key, &other, 1)));
    project.refuses(&LOCKED, 1, &["9 ran", "aggregate.table failed: its key is not the locked one: 000000000000 → "]);
}

#[test]
fn an_observation_that_differs_from_the_lock_is_refused() {
    let project = Project::empty();
    project.write(
        M,
        "titer = 1\nname = \"c\"\n[mix.a]\ncommand = [\"sh\", \"-c\", \"cat device > $0/train.jsonl\", \"{output}\"]\n",
    );
    project.write("device", "cpu\n");
    project.run();
    assert_eq!(project.titer(&["run", M, "--locked", "--force", "mix.a"]).code, 0);
    project.write("device", "cuda\n");
    let forced = ["run", M, "--locked", "--force", "mix.a"];
    project.refuses(&forced, 1, &["mix.a failed: its outputs are not the locked ones"]);
    assert_eq!(project.titer(&LOCKED).code, 0, "the first one stays");
}

#[test]
fn a_lock_that_cannot_be_read_or_written_is_said() {
    let project = Project::answers();
    project.run();
    let conflict = format!("<<<<<<< HEAD\n{}", project.read(LOCK));
    project.write(LOCK, &conflict);
    project.refuses(&LOCKED, 2, &["the lock `pipelines/titer.lock` cannot be read: line 1: ", "a merge in git?"]);
    let output = project.titer(&["run", M]);
    assert!(output.code == 0 && output.err.contains("cannot be read: line 1"), "{output:?}");
    assert_eq!(project.read(LOCK), conflict, "it is not written over");
    project.write(LOCK, "lock = 7\n");
    project.refuses(&LOCKED, 2, &["it has format 7, this titer reads format 1"]);

    std::fs::remove_file(project.path(LOCK)).unwrap();
    let folder = project.path("pipelines");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    let output = project.titer(&["run", M]);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Root writes everywhere.
    let is_root = rustix::process::geteuid().is_root();
    assert!(output.code == 0 && (is_root || output.err.contains("cannot write `pipelines/titer.lock`")), "{output:?}");
}
