//! Tests of the `out/` view.

use super::super::tests::{committed, document, run_info, store};
use super::super::{Links, files_below};
use super::*;
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const WEIGHTS: &str = "model/deep/weights";

fn listed(out: &Path) -> Vec<String> {
    files_below(out, Links::Follow).unwrap().into_iter().filter(|file| file != ".titer").collect()
}

/// Clones are made where the file system can do so; else the first test is one of links twice.
const WAYS: [&[Way]; 3] = [&[Way::Clone, Way::Link], &[Way::Link], &[Way::Copy]];

#[test]
fn results_appear_once_and_a_second_look_changes_nothing() {
    for ways in WAYS {
        let (folder, store) = store();
        let out = folder.path().join("out/fractions/train.adapter/n=20");
        let record = committed(&store, "weights");
        assert!(show_by(ways, &store, &out, &record).unwrap());
        assert_eq!(listed(&out), ["metrics.jsonl", "model/config.json", WEIGHTS]);
        assert_eq!(fs::read_to_string(out.join(WEIGHTS)).unwrap(), "weights");
        assert_eq!(fs::metadata(store.path(&Digest::of(b"weights"))).unwrap().nlink(), 1, "never a hard link");
        assert!(!show(&store, &out, &record).unwrap());
    }
}

#[test]
fn a_project_can_be_moved() {
    let (folder, store) = store();
    let out = folder.path().join("out/x");
    let record = committed(&store, "weights");
    show(&store, &out, &record).unwrap();
    let moved = tempfile::tempdir().unwrap();
    fs::rename(folder.path().join("cache"), moved.path().join("cache")).unwrap();
    fs::rename(folder.path().join("out"), moved.path().join("out")).unwrap();
    assert_eq!(fs::read_to_string(moved.path().join("out/x").join(WEIGHTS)).unwrap(), "weights");
}

#[test]
fn what_was_deleted_or_altered_is_put_right_and_the_object_stays_as_it_is() {
    for ways in WAYS {
        let (folder, store) = store();
        let out = folder.path().join("out");
        let record = committed(&store, "weights");
        show_by(ways, &store, &out, &record).unwrap();
        fs::remove_file(out.join("metrics.jsonl")).unwrap();
        // As an editor saves: another file under the same name.
        fs::remove_file(out.join(WEIGHTS)).unwrap();
        fs::write(out.join(WEIGHTS), "WEIGHTS").unwrap();
        assert!(show(&store, &out, &record).unwrap());
        assert_eq!(fs::read_to_string(out.join(WEIGHTS)).unwrap(), "weights");
        assert!(out.join("metrics.jsonl").exists());
        assert!(store.verify(&Digest::of(b"weights")).unwrap());
        fs::remove_dir_all(&out).unwrap();
        assert!(show(&store, &out, &record).unwrap());
        assert_eq!(listed(&out).len(), 3);
    }
}

#[test]
fn a_copy_is_the_persons_to_spoil() {
    let (folder, store) = store();
    let record = committed(&store, "weights");
    show_by(&[Way::Copy], &store, folder.path().join("out").as_path(), &record).unwrap();
    let copy = folder.path().join("out").join(WEIGHTS);
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&copy, "WEIGHTS").unwrap();
    assert!(store.verify(&Digest::of(b"weights")).unwrap());
    assert!(show(&store, &folder.path().join("out"), &record).unwrap(), "an altered copy is seen by its stat");
    assert_eq!(fs::read_to_string(&copy).unwrap(), "weights");
}

#[test]
fn two_processes_may_show_one_result_at_once() {
    let (folder, store) = store();
    let out = folder.path().join("out");
    let record = committed(&store, "weights");
    let other = Store::open(store.root()).unwrap();
    for _ in 0..50 {
        let barrier = std::sync::Barrier::new(2);
        let look = |store: &Store| {
            barrier.wait();
            show(store, &out, &record).unwrap()
        };
        let changed = std::thread::scope(|scope| {
            let there = scope.spawn(|| look(&other));
            [look(&store), there.join().unwrap()]
        });
        assert_ne!(changed[0], changed[1], "the second one finds it done");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn an_older_result_makes_way_and_a_persons_files_stay() {
    let (folder, store) = store();
    let out = folder.path().join("out");
    let old = committed(&store, "weights");
    show(&store, &out, &old).unwrap();
    fs::write(out.join("notes.txt"), "mine").unwrap();

    let work = store.work_dir().unwrap();
    fs::write(work.path().join("table.csv"), "n,em\n").unwrap();
    // The same folder, but empty now.
    fs::create_dir(work.path().join("model")).unwrap();
    let outputs = [("table", "table.csv"), ("model", "model/")];
    let new = store.commit(work.path(), &outputs, &document(2), run_info()).unwrap();
    show(&store, &out, new.record()).unwrap();
    assert_eq!(listed(&out), ["notes.txt", "table.csv"]);
    assert!(out.join("model").is_dir() && !out.join("model/deep").exists());
}

#[test]
fn what_titer_did_not_make_is_left_alone() {
    let obstacles: [fn(&Path); 4] = [
        |out| fs::write(out.join("metrics.jsonl"), "mine").unwrap(),
        |out| fs::create_dir_all(out.join("metrics.jsonl/mine")).unwrap(),
        |out| fs::write(out.join("model"), "mine").unwrap(),
        |out| symlink(out.parent().unwrap(), out.join("model")).unwrap(),
    ];
    for obstacle in obstacles {
        let (folder, store) = store();
        let out = folder.path().join("out");
        fs::create_dir_all(&out).unwrap();
        obstacle(&out);
        let error = show(&store, &out, &committed(&store, "weights")).unwrap_err();
        assert!(matches!(error, StoreError::Foreign(_)), "{error}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "nothing is touched then");
    }
}

#[test]
fn after_a_kill_or_without_its_marker_the_view_is_made_again() {
    let (folder, store) = store();
    let out = folder.path().join("out");
    let record = committed(&store, "weights");
    show(&store, &out, &record).unwrap();
    // Killed while a file was being made: the marker says that it is titer's, the content is half.
    fs::write(out.join(".titer"), json!({"files": {WEIGHTS: "unsure"}}).to_string()).unwrap();
    fs::remove_file(out.join(WEIGHTS)).unwrap();
    fs::write(out.join(WEIGHTS), "wei").unwrap();
    assert!(show(&store, &out, &record).unwrap());
    assert_eq!(fs::read_to_string(out.join(WEIGHTS)).unwrap(), "weights");
}

#[test]
fn a_lost_object_is_said_before_anything_is_touched() {
    let (folder, store) = store();
    let out = folder.path().join("out");
    let record = committed(&store, "weights");
    fs::remove_file(store.path(&Digest::of(b"weights"))).unwrap();
    let error = show(&store, &out, &record).unwrap_err();
    assert!(error.to_string().contains("is missing in the cache; run again to make `model/deep/weights`"), "{error}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}
