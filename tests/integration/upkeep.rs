//! The upkeep of the cache: damage is found and mended, nothing that is needed goes.

use crate::project::{Project, ran, tree};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const NOTHING: [&str; 0] = [];

/// The object behind a result under `out/`.
fn object(project: &Project, name: &str) -> PathBuf {
    let bytes = std::fs::read(project.path("out/answers").join(name)).unwrap();
    let digest = titer::key::Digest::of(&bytes).to_string();
    project.path("cache/objects").join(&digest[..2]).join(digest)
}

/// Changes one byte in place, as root or after a `chmod`, so that the length tells nothing.
fn spoil(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_result_edited_through_out_is_noticed_by_the_next_run() {
    let project = Project::answers();
    project.run();
    let expected = tree(&project.path("out"));
    // Through the link, or (with reflinks) the copy.
    let shown = project.path("out/answers/score.quality/n=2,scorer=em/scores.jsonl");
    let shown = if shown.exists() { shown } else { first_file(&project, "score.quality") };
    // The clock of change times is coarse.
    std::thread::sleep(std::time::Duration::from_millis(25));
    spoil(&shown);
    let ran = project.run();
    assert!(ran.len() <= 1 && ran.iter().all(|name| name.starts_with("score.quality")), "{ran:?}");
    assert!(tree(&project.path("out")) == expected, "{ran:?}");
    assert_eq!(project.run(), NOTHING);
}

fn first_file(project: &Project, stage: &str) -> PathBuf {
    let files = tree(&project.path("out/answers"));
    let found = files.iter().find(|(name, _)| name.starts_with(stage) && !name.ends_with(".titer"));
    project.path("out/answers").join(&found.unwrap().0)
}

#[test]
fn a_damaged_input_is_made_again_by_the_run_that_needs_it() {
    let project = Project::answers();
    project.run();
    let rows = tree(&project.path("out/answers")).into_iter().find(|(name, _)| name.contains("n=5/train")).unwrap().0;
    let object = object(&project, &rows);
    // A copy of the cache, or another host: nothing is known of the object but its name.
    std::fs::remove_dir_all(project.path("cache/local")).unwrap();
    spoil(&object);
    project.edit("pipelines/p.toml", "rouge = \"rouge\"\n", "rouge = \"rouge\"\nf1 = \"token_f1\"\n");
    let output = project.titer(&["run", "pipelines/p.toml", "--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.err.contains("was changed or damaged"), "{output:?}");
    let ran = ran(&output.out);
    assert!(ran.contains(&"mix.rows[n=5]".to_string()) && ran.len() == 1 + 3 + 1, "{ran:?}");
    assert_eq!(project.run(), NOTHING);
}

fn verify(project: &Project, more: &[&str]) -> (i32, serde_json::Value) {
    let output = project.titer(&[&["verify", "--json"], more].concat());
    (output.code, serde_json::from_str(&output.out).unwrap_or_else(|_| panic!("{output:?}")))
}

#[test]
fn verify_finds_what_is_damaged_lost_or_unreadable_and_says_what_is_made_again() {
    let project = Project::answers();
    project.run();
    assert!(project.titer(&["verify"]).out.contains("all sound"));
    for more in [&[][..], &["pipelines/p.toml"]] {
        let (code, said) = verify(&project, more);
        assert_eq!((code, said["flaws"].as_array().unwrap().len(), said["keys"].as_u64()), (0, 0, Some(10)));
    }
    let table = object(&project, "aggregate.table/table.csv");
    spoil(&table);
    let scores = tree(&project.path("out/answers"))
        .into_iter()
        .find(|(name, _)| name.contains("n=3,scorer=em/scores"))
        .unwrap()
        .0;
    std::fs::remove_file(object(&project, &scores)).unwrap();
    let (code, said) = verify(&project, &["-j", "2"]);
    assert_eq!(code, 1);
    let mut flaws: Vec<(&str, &str)> = said["flaws"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flaw| (flaw["flaw"].as_str().unwrap(), flaw["instances"][0].as_str().unwrap()))
        .collect();
    flaws.sort();
    assert_eq!(flaws, [("damaged", "aggregate.table"), ("missing", "score.quality[n=3,scorer=em]")]);
    assert_eq!(said["again"].as_array().unwrap().len(), 2);
    assert!(!table.exists() && !tree(&project.path("cache/quarantine")).is_empty());
    assert_eq!(project.run(), ["aggregate.table", "score.quality[n=3,scorer=em]"]);
    assert_eq!(verify(&project, &[]).0, 0);
}

#[test]
fn verify_of_a_manifest_mends_lost_keys() {
    let project = Project::answers();
    project.run();
    let files = tree(&project.path("cache/actions"));
    let key = files.iter().find(|(name, _)| name.ends_with("key.json")).unwrap();
    project.write(&format!("cache/actions/{}", key.0), "{}");
    let record = files.iter().find(|(name, bytes)| {
        name.ends_with("record.json") && String::from_utf8_lossy(bytes).contains("aggregate.table")
    });
    project.write(&format!("cache/actions/{}", record.unwrap().0), "{\"format\":1,");
    let output = project.titer(&["verify"]);
    assert_eq!(output.code, 1, "{output:?}");
    for text in ["no record:", "no key:", "flaws: 2", "`titer run` will make again:\n  answers: aggregate.table"] {
        assert!(output.out.contains(text), "{text}: {output:?}");
    }
    let (code, said) = verify(&project, &["pipelines/p.toml"]);
    assert_eq!((code, said["flaws"].as_array().unwrap().len()), (1, 2));
    assert_eq!(project.read(&format!("cache/actions/{}", key.0)).as_bytes(), key.1, "written down again");
    assert_eq!(project.run(), ["aggregate.table"]);
    assert_eq!(verify(&project, &["pipelines/p.toml"]).0, 0);
}

#[test]
fn clean_takes_out_what_no_instance_shows_any_more() {
    let project = Project::answers();
    project.run();
    project.write("out/answers/notes.txt", "mine");
    project.edit("pipelines/p.toml", "n = [2, 3, 5]", "n = [2, 5]");
    project.edit("pipelines/p.toml", "aggregate.table", "aggregate.summary");
    project.run();
    let before = tree(&project.path("out"));
    let said = project.titer(&["clean", "pipelines/p.toml", "--dry-run"]);
    assert!(
        said.out.contains("out/answers/mix.rows/n=3") && said.out.contains("out/answers/aggregate.table"),
        "{said:?}"
    );
    assert_eq!(tree(&project.path("out")), before);
    let said = project.titer(&["clean", "pipelines/p.toml"]);
    assert!(said.out.contains("took out the results of 4 instances"), "{said:?}");
    assert!(
        !project.path("out/answers/aggregate.table").exists() && !project.path("out/answers/mix.rows/n=3").exists()
    );
    assert!(project.path("out/answers/aggregate.summary/table.csv").exists());
    assert_eq!(project.run(), NOTHING);
    assert!(project.titer(&["clean", "pipelines/p.toml"]).out.contains("nothing to clean"));
    project.titer(&["clean", "pipelines/p.toml", "--all"]);
    assert_eq!(tree(&project.path("out")), [("answers/notes.txt".to_string(), b"mine".to_vec())]);
    assert_eq!(project.run(), NOTHING, "nothing went from the cache");
    // What went only from the view comes back with its values.
    project.edit("pipelines/p.toml", "n = [2, 5]", "n = [2, 3, 5]");
    assert_eq!(project.run(), NOTHING);
}

#[test]
fn a_result_that_was_not_made_is_not_shown() {
    let project = Project::answers();
    project.run();
    let good = project.read("data/more.jsonl");
    // What is wrong comes so late that only the work finds it.
    let rows = "{\"instruction\":\"a\",\"output\":\"b\",\"prediction\":\"b\"}\n".repeat(4999);
    project.write("data/more.jsonl", &format!("{rows}{{\"instruction\":\"a\",\"prediction\":\"b\"}}\n"));
    project.refuses(&["run", "pipelines/p.toml", "-k"], 1, &["older state: 10 results"]);
    assert!(tree(&project.path("out")).is_empty(), "an older table is not the one of these rows");
    project.write("data/more.jsonl", &good);
    assert_eq!(project.run(), NOTHING);
    assert!(project.path("out/answers/aggregate.table/table.csv").exists());
    // What was not wanted stays as it is.
    project.write("data/more.jsonl", &format!("{rows}{{\"instruction\":\"a\",\"prediction\":\"b\"}}\n"));
    project.refuses(&["run", "pipelines/p.toml", "-t", "mix.rows[n=2]"], 1, &["older state: 1 result;"]);
    assert!(project.path("out/answers/mix.rows/n=5").exists() && !project.path("out/answers/mix.rows/n=2").exists());
}

#[test]
fn a_current_result_stays_though_its_second_run_failed() {
    let project = Project::empty();
    let script = "test -e made && exit 1; touch made; echo x > $0/train.jsonl";
    project.write(
        "pipelines/p.toml",
        &format!("titer = 1\nname = \"p\"\n[mix.a]\ncommand = [\"sh\", \"-c\", \"{script}\", \"{{output}}\"]\n"),
    );
    project.run();
    project.refuses(&["run", "pipelines/p.toml", "--force", "mix.a"], 1, &["exit code 1"]);
    assert_eq!(project.read("out/p/mix.a/train.jsonl"), "x\n");
    assert!(project.run().is_empty());
}

/// A cache of format 1 as the first titer that wrote it left it.
#[test]
fn a_cache_of_format_1_is_read() {
    let files: std::collections::BTreeMap<String, String> =
        serde_json::from_str(include_str!("../golden/cache_format_1.json")).unwrap();
    let project = Project::answers();
    for (name, text) in &files {
        project.write(&format!("cache/{name}"), text);
    }
    let (code, said) = verify(&project, &[]);
    assert_eq!((code, said["keys"].as_u64(), said["flaws"].as_array().unwrap().len()), (0, Some(10), 0));
    let store = titer::store::Store::open(&project.path("cache")).unwrap();
    for (instance, key) in store.last_run("answers").unwrap() {
        let record = store.get(&key).unwrap().unwrap();
        assert!(store.complete(&record) && store.document(&key).unwrap().is_some(), "{instance}");
    }
    let freed = project.titer(&["gc", "--grace", "0s", "--keep-runs", "0", "--json"]);
    let freed: serde_json::Value = serde_json::from_str(&freed.out).unwrap();
    assert_eq!(freed["results"].as_array().unwrap().len(), 10);
}
