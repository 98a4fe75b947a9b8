//! The run with nothing to do: told without reading the manifest, and only as long as that is right.

use crate::project::{Project, tree};
use std::time::Duration;

const RUN: [&str; 2] = ["run", "pipelines/p.toml"];

/// What, how, and how many instances run then.
type Change = (&'static str, fn(&Project), usize);

/// A project that has run, and whose next run is told from a snapshot.
fn settled() -> Project {
    let project = Project::answers();
    project.run();
    // What is younger than a tick of the file system's clock is not remembered.
    std::thread::sleep(Duration::from_millis(40));
    assert!(project.titer(&RUN).out.contains("nothing to do"));
    assert_eq!(snapshots(&project), 1);
    project
}

fn snapshots(project: &Project) -> usize {
    let files = tree(&project.path("cache/local"));
    files.iter().filter(|(name, _)| name.contains("snapshots/")).count()
}

/// The snapshot with another answer, and with the checksum that belongs to it.
fn forge(project: &Project, from: &str, to: &str) {
    let files = tree(&project.path("cache/local"));
    let (name, bytes) = files.iter().find(|(name, _)| name.contains("snapshots/")).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    assert!(rest.contains(from), "{rest}");
    let rest = rest.replacen(from, to, 1);
    let digest = titer::key::Digest::of(rest.as_bytes());
    project.write(&format!("cache/local/{name}"), &format!("{digest}\n{rest}"));
}

#[test]
fn it_reads_no_manifest() {
    let project = settled();
    forge(&project, "\"cached\":10,", "\"cached\":7,");
    assert!(project.titer(&RUN).out.contains("nothing to do: 0 ran, 7 cached"), "only a snapshot says so");
    forge(&project, "\"cached\":7,", "\"cached\":10,");
    let (path, old) = (project.path("pipelines/p.toml"), project.read("pipelines/p.toml"));
    let past = std::fs::metadata(&path).unwrap().modified().unwrap();
    let output = project.titer(&RUN);
    assert_eq!((output.code, output.out.contains("nothing to do: 0 ran, 10 cached")), (0, true), "{output:?}");
    // The same bytes again, even with the old time, are looked at again: the change time is a new one.
    project.write("pipelines/p.toml", &old.replace("[2, 3, 5]", "[2, 3, 4]"));
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(past).unwrap();
    assert!(project.titer(&RUN).out.contains("ran"), "an edit of the same length and time");
}

#[test]
fn whatever_changes_is_noticed() {
    let changes: [Change; 6] = [
        (
            "a row",
            |project| project.edit("data/answers.jsonl", "\"prediction\":\"perhaps\"", "\"prediction\":\"never\""),
            10,
        ),
        (
            "a result is deleted",
            |project| std::fs::remove_file(project.path("out/answers/aggregate.table/table.csv")).unwrap(),
            0,
        ),
        ("all results are deleted", |project| std::fs::remove_dir_all(project.path("out")).unwrap(), 0),
        ("the cache is deleted", |project| std::fs::remove_dir_all(project.path("cache")).unwrap(), 10),
        ("the objects are deleted", |project| std::fs::remove_dir_all(project.path("cache/objects")).unwrap(), 10),
        (
            "a link is bent",
            |project| {
                let path = project.path("out/answers/aggregate.table/table.csv");
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, "n\n").unwrap();
            },
            0,
        ),
    ];
    for (what, change, ran) in changes {
        let project = settled();
        let expected = tree(&project.path("out"));
        change(&project);
        let output = project.titer(&RUN);
        assert_eq!(output.code, 0, "{what}: {output:?}");
        let told = format!("{ran} ran");
        assert!(output.out.contains(&told) || (ran > 0 && !output.out.contains("nothing to do")), "{what}: {output:?}");
        if ran == 0 {
            assert_eq!(tree(&project.path("out")), expected, "{what}");
        }
    }
}

#[test]
fn other_words_are_another_question() {
    let project = settled();
    let output = project.titer(&[&RUN[..], &["--axis", "n=2,4"]].concat());
    assert!(output.out.contains("done:"), "{output:?}");
    let output = project.titer(&[&RUN[..], &["--force", "aggregate"]].concat());
    assert!(output.out.contains("the same bytes as before"), "{output:?}");
    assert!(project.titer(&RUN).out.contains("nothing to do: 0 ran, 10 cached"));
}

#[test]
fn a_link_that_leads_somewhere_at_last_is_noticed() {
    let project = Project::empty();
    project.write("data/1.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n");
    std::os::unix::fs::symlink(project.path("elsewhere"), project.path("data/2.jsonl")).unwrap();
    project.write("pipelines/p.toml", "titer = 1\n[mix.rows]\nsources = [{ path = \"data/*.jsonl\" }]\n");
    project.run();
    std::thread::sleep(Duration::from_millis(40));
    assert!(project.titer(&RUN).out.contains("nothing to do"));
    assert_eq!(snapshots(&project), 1);
    project.write("elsewhere", "{\"instruction\":\"c\",\"output\":\"d\"}\n");
    assert!(project.titer(&RUN).out.contains("1 ran"));
}

#[test]
fn a_file_that_a_pattern_finds_is_noticed() {
    let project = Project::empty();
    project.write("data/a/1.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n");
    project.write("data/b/none.txt", "");
    project.write("pipelines/p.toml", "titer = 1\n[mix.rows]\nsources = [{ path = \"data/*/*.jsonl\" }]\n");
    project.run();
    std::thread::sleep(Duration::from_millis(40));
    assert!(project.titer(&RUN).out.contains("nothing to do"));
    assert_eq!(snapshots(&project), 1);
    project.write("data/b/2.jsonl", "{\"instruction\":\"c\",\"output\":\"d\"}\n");
    assert!(project.titer(&RUN).out.contains("1 ran"));
}
