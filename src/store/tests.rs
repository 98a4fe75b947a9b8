//! Tests of the store as a whole: what it promises to those who use it, and to those who kill it.

use super::*;
use crate::key::KeyDocument;
use crate::record::{Record, RunInfo};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

pub(super) const OUTPUTS: &[(&str, &str)] = &[("model", "model/"), ("metrics", "metrics.jsonl")];

pub(super) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    (folder, store)
}

pub(super) fn document(seed: u32) -> KeyDocument {
    KeyDocument::new("train", 1, json!({"seed": seed}), vec![])
}

pub(super) fn run_info() -> RunInfo {
    RunInfo {
        started: "2026-01-02T03:04:05Z".into(),
        wall_seconds: 1.5,
        threads: 2,
        ..RunInfo::begin("train.adapter[n=20]")
    }
}

/// What a stage would leave: a folder with a folder in it, and a file.
fn write_outputs(folder: &Path, weights: &str) {
    fs::create_dir_all(folder.join("model/deep")).unwrap();
    fs::write(folder.join("model/config.json"), "{}").unwrap();
    fs::write(folder.join("model/deep/weights"), weights).unwrap();
    fs::write(folder.join("metrics.jsonl"), "loss\n").unwrap();
}

pub(super) fn commit(store: &Store, seed: u32, weights: &str) -> Committed {
    let work = store.work_dir().unwrap();
    write_outputs(work.path(), weights);
    store.commit(work.path(), OUTPUTS, &document(seed), run_info()).unwrap()
}

pub(super) fn committed(store: &Store, weights: &str) -> Record {
    commit(store, 1, weights).record().clone()
}

#[test]
fn a_commit_is_found_again_by_another_process() {
    let (folder, store) = store();
    let Committed::Canonical(record) = commit(&store, 1, "weights") else { panic!("the first run is canonical") };
    drop(store);
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let key = document(1).key();
    assert_eq!(store.get(&key).unwrap(), Some(record.clone()));
    assert!(store.complete(&record));
    assert_eq!(store.document(&key).unwrap(), Some(document(1)));
    assert_eq!(store.get(&document(2).key()).unwrap(), None);

    let paths: Vec<&str> = record.outputs[0].files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["model/config.json", "model/deep/weights"]);
    let weights = &record.outputs[0].files[1];
    assert_eq!((weights.digest, weights.size), (Digest::of(b"weights"), 7));
    let metadata = fs::metadata(store.path(&weights.digest)).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o444);
    assert_eq!(record.output("metrics").unwrap().digest, Digest::of(b"loss\n"));
}

#[test]
fn a_folder_has_the_same_digest_as_an_input_and_as_an_output() {
    let (folder, store) = store();
    let record = committed(&store, "weights");
    write_outputs(folder.path(), "weights");
    let (digest, files) = store.digest_folder(&folder.path().join("model")).unwrap();
    assert_eq!(digest, record.output("model").unwrap().digest);
    assert_eq!(files[1].path, "deep/weights");
}

#[test]
fn of_two_runs_at_once_one_is_canonical_and_the_other_an_observation() {
    for (second, expected) in [("weights", &[][..]), ("others", &["model".to_string()][..])] {
        let (_folder, store) = store();
        let barrier = std::sync::Barrier::new(2);
        let run = |weights| {
            let work = store.work_dir().unwrap();
            write_outputs(work.path(), weights);
            barrier.wait();
            store.commit(work.path(), OUTPUTS, &document(1), run_info()).unwrap()
        };
        let results = std::thread::scope(|scope| {
            let other = scope.spawn(|| run(second));
            [run("weights"), other.join().unwrap()]
        });
        let canonical: Vec<&Record> = results
            .iter()
            .filter_map(|result| match result {
                Committed::Canonical(record) => Some(record),
                Committed::Observation { differing, .. } => {
                    assert_eq!(differing, expected);
                    None
                }
            })
            .collect();
        let key = document(1).key();
        assert_eq!(canonical, [&store.get(&key).unwrap().unwrap()], "exactly one is canonical");
        assert_eq!(results[0].record(), results[1].record(), "both are told of the same one");
        let observations = store.observations(&key).unwrap();
        assert_eq!(observations.len(), 1);
        assert_eq!(observations[0].differing(canonical[0]), expected);
        assert!(store.complete(&observations[0]), "what was observed can be looked at");
    }
}

#[test]
fn a_missing_output_is_named_and_nothing_is_kept() {
    let (_folder, store) = store();
    let work = store.work_dir().unwrap();
    write_outputs(work.path(), "weights");
    fs::remove_file(work.path().join("metrics.jsonl")).unwrap();
    let error = store.commit(work.path(), OUTPUTS, &document(1), run_info()).unwrap_err();
    assert_eq!(error.to_string(), "output `metrics` is missing: the stage wrote no `metrics.jsonl`");
    assert_eq!(store.get(&document(1).key()).unwrap(), None);
    assert!(work.path().join("model/deep/weights").exists(), "the work is still there to be looked at");
}

#[test]
fn links_in_outputs_are_refused() {
    let (folder, store) = store();
    let work = store.work_dir().unwrap();
    write_outputs(work.path(), "weights");
    symlink(folder.path(), work.path().join("model/link")).unwrap();
    let error = store.commit(work.path(), OUTPUTS, &document(1), run_info()).unwrap_err();
    assert!(error.to_string().contains("model/link` cannot be kept: it is a symbolic link"), "{error}");
}

#[test]
fn a_folder_that_was_replaced_by_a_link_is_refused() {
    let (folder, store) = store();
    let work = store.work_dir().unwrap();
    write_outputs(folder.path(), "weights");
    let place = work.path().join("out");
    symlink(folder.path(), &place).unwrap();
    let error = store.commit(&place, OUTPUTS, &document(1), run_info()).unwrap_err().to_string();
    assert!(error.contains("it is not the folder that was given"), "{error}");
    assert!(folder.path().join("model/deep/weights").exists(), "nothing was moved from elsewhere");
}

#[test]
fn a_file_with_a_second_name_is_copied_so_that_the_other_name_cannot_change_the_object() {
    let (folder, store) = store();
    let work = store.work_dir().unwrap();
    write_outputs(work.path(), "weights");
    let other = folder.path().join("mine");
    fs::hard_link(work.path().join("model/deep/weights"), &other).unwrap();
    store.commit(work.path(), OUTPUTS, &document(1), run_info()).unwrap();
    fs::write(&other, "CHANGED").unwrap();
    assert!(store.verify(&Digest::of(b"weights")).unwrap());
    assert_eq!(fs::metadata(store.path(&Digest::of(b"weights"))).unwrap().nlink(), 1);
}

/// `/dev/shm` is another file system than the temporary folder on any usual Linux; elsewhere there is nothing to test.
#[test]
fn outputs_on_another_file_system_are_copied() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let (_folder, store) = store();
    write_outputs(elsewhere.path(), "weights");
    let record = store.commit(elsewhere.path(), OUTPUTS, &document(1), run_info()).unwrap();
    assert!(store.complete(record.record()));
    assert!(store.verify(&Digest::of(b"weights")).unwrap());
}

#[test]
fn a_lost_or_truncated_object_makes_the_key_run_again_and_then_it_is_cached() {
    let damages: [fn(&Path); 2] =
        [|object| fs::remove_file(object).unwrap(), |object| overwrite(object, |bytes| bytes.truncate(3))];
    for damage in damages {
        // The same bytes come out again, or (made elsewhere) others: both must end in a key that is cached.
        for again in ["weights", "others"] {
            let (_folder, store) = store();
            let first = committed(&store, "weights");
            commit(&store, 1, "weights");
            damage(&store.path(&Digest::of(b"weights")));
            assert!(!store.complete(&first));
            commit(&store, 1, again);
            let record = store.get(&first.key).unwrap().unwrap();
            assert!(store.complete(&record));
            assert_eq!(record.output("model") == first.output("model"), again == "weights");
            assert_eq!(store.observations(&first.key).unwrap().len(), 2, "no run is forgotten");
        }
    }
}

/// Changes a read-only file, as a failing disk would.
fn overwrite(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_object_that_lies_is_found_by_reading_and_quarantined() {
    let (_folder, store) = store();
    let record = committed(&store, "weights");
    let digest = Digest::of(b"weights");
    assert!(store.verify(&digest).unwrap());
    overwrite(&store.path(&digest), |bytes| bytes[0] ^= 1);
    assert!(!store.verify(&digest).unwrap());
    assert!(!store.complete(&record), "so that the next run makes it again");
    assert!(!store.verify(&digest).unwrap(), "a missing object is no object");
    let ward = store.root().join("quarantine");
    let kept: Vec<_> = fs::read_dir(ward).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert_eq!(kept.len(), 1, "it can be looked at");
    assert!(kept[0].ends_with(b"eights"));
    assert!(!store.take_warnings().is_empty());
    commit(&store, 1, "weights");
    assert!(store.complete(&record) && store.is_sound(&digest).unwrap());
}

#[test]
fn a_half_written_record_is_ignored_with_a_warning_and_replaced() {
    let (_folder, store) = store();
    let record = committed(&store, "weights");
    let path = store.root().join("actions").join(&record.key.to_string()[..2]).join(record.key.to_string());
    overwrite(&path.join("record.json"), |bytes| bytes.truncate(bytes.len() / 2));
    assert_eq!(store.get(&record.key).unwrap(), None);
    assert_eq!(store.take_warnings().len(), 1);
    assert!(matches!(commit(&store, 1, "weights"), Committed::Canonical(_)));
    assert_eq!(store.get(&record.key).unwrap(), Some(record.clone()));

    overwrite(&path.join("key.json"), |bytes| bytes[0] = b' ');
    assert_eq!(store.document(&record.key).unwrap(), None, "a document must hash to its key");
}

#[test]
fn an_empty_action_folder_of_a_crash_is_no_record() {
    let (_folder, store) = store();
    let key = document(1).key().to_string();
    fs::create_dir_all(store.root().join("actions").join(&key[..2]).join(&key)).unwrap();
    assert_eq!(store.get(&document(1).key()).unwrap(), None);
    assert!(matches!(commit(&store, 1, "weights"), Committed::Canonical(_)));
}

#[test]
fn scratch_of_dead_processes_is_removed_and_that_of_live_ones_is_not() {
    let (_folder, store) = store();
    let work = store.work_dir().unwrap();
    fs::write(work.path().join("half"), "…").unwrap();
    let dead = store.root().join("work").join(format!("{}.4194304.abc.work", store.machine));
    fs::create_dir_all(dead.join("job")).unwrap();
    fs::write(dead.with_extension("lock"), "").unwrap();
    let elsewhere = store.root().join("work").join("elsewhere.1.abc.lock");
    fs::write(&elsewhere, "").unwrap();
    Store::open(store.root()).unwrap();
    assert!(work.path().join("half").exists());
    assert!(!dead.exists() && !dead.with_extension("lock").exists());
    assert!(elsewhere.exists(), "another host's locks cannot be judged from here");

    let path = work.path().to_path_buf();
    let root = store.root().to_path_buf();
    drop(store);
    assert!(path.exists(), "a folder in use outlives the store");
    drop(work);
    assert_eq!(fs::read_dir(root.join("work")).unwrap().count(), 1, "nothing is left but the other host's lock");
}

#[test]
fn an_object_edited_in_place_is_not_cached_any_more() {
    let (folder, store) = store();
    let record = committed(&store, "weights");
    view::show(&store, &folder.path().join("out"), &record).unwrap();
    store.save();
    // The clock of change times is coarse.
    std::thread::sleep(Duration::from_millis(25));
    // The same length, as root or after a `chmod`; its time is put back, as some editors do.
    let object = store.path(&Digest::of(b"weights"));
    let times = fs::metadata(&object).unwrap().modified().unwrap();
    fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&object, "WEIGHTS").unwrap();
    fs::File::options().write(true).open(&object).unwrap().set_modified(times).unwrap();
    for store in [&store, &Store::open(store.root()).unwrap()] {
        assert!(!store.complete(&record), "by this process and by the next");
    }
    // What makes it again puts it in the place of the damaged one, even if nobody has looked before.
    let fresh = Store::open(store.root()).unwrap();
    commit(&fresh, 1, "weights");
    assert!(fresh.complete(&record));
    assert_eq!(fs::read(&object).unwrap(), b"weights");
}

#[test]
fn an_object_is_read_before_its_first_use_on_a_host_and_then_known_by_its_stat() {
    let (_folder, store) = store();
    committed(&store, "weights");
    let digest = Digest::of(b"weights");
    overwrite(&store.path(&digest), |bytes| bytes[0] ^= 1);
    let elsewhere = Store { host: "elsewhere".into(), ..Store::open(store.root()).unwrap() };
    assert!(!elsewhere.is_sound(&digest).unwrap());
    commit(&store, 1, "weights");
    std::thread::sleep(Duration::from_millis(25));
    assert!(elsewhere.is_sound(&digest).unwrap());
    let stat = stat::Stat::of(&fs::metadata(store.path(&digest)).unwrap());
    assert_eq!(lock(elsewhere.sound()).looks(&digest, stat, true), sound::Looks::Untouched, "not read again");
}

#[test]
fn what_stands_in_the_place_of_an_object_makes_way() {
    let obstacles: [fn(&Path); 3] =
        [|path| fs::create_dir(path).unwrap(), |path| symlink("/", path).unwrap(), |path| symlink(path, path).unwrap()];
    for obstacle in obstacles {
        let (_folder, store) = store();
        let record = committed(&store, "weights");
        let path = store.path(&Digest::of(b"weights"));
        fs::remove_file(&path).unwrap();
        obstacle(&path);
        assert!(!store.complete(&record));
        commit(&store, 1, "weights");
        assert!(store.complete(&record) && store.is_sound(&Digest::of(b"weights")).unwrap());
    }
}

#[test]
fn a_file_is_known_by_its_stat_in_the_next_process() {
    let (folder, store) = store();
    let path = folder.path().join("rows.jsonl");
    fs::write(&path, "rows").unwrap();
    std::thread::sleep(Duration::from_millis(40));
    let expected = (Digest::of(b"rows"), 4);
    assert_eq!(store.digest_file(&path).unwrap(), expected);
    store.save();
    assert!(fs::read_to_string(store.stat_path()).unwrap().contains("rows.jsonl"));
    let again = Store::open(store.root()).unwrap();
    assert_eq!(again.digest_file(&folder.path().join("cache/../rows.jsonl")).unwrap(), expected);
    fs::write(&path, "ROWS").unwrap();
    assert_eq!(again.digest_file(&path).unwrap().0, Digest::of(b"ROWS"));
}

#[test]
fn the_last_run_of_a_pipeline_is_kept() {
    let (_folder, store) = store();
    assert!(store.last_run("a/b").unwrap().is_empty());
    let keys = BTreeMap::from([("mix.train[n=20]".to_string(), document(1).key())]);
    store.set_last_run("a/b", &keys).unwrap();
    assert_eq!(store.last_run("a/b").unwrap(), keys);
    assert!(store.last_run("a-b").unwrap().is_empty());
    let inode = || fs::metadata(store.pipeline_path("a/b")).unwrap().ino();
    let before = inode();
    store.set_last_run("a/b", &keys).unwrap();
    assert_eq!(inode(), before, "equal keys are not written again");
    fs::write(store.pipeline_path("a/b"), "{").unwrap();
    assert!(store.last_run("a/b").unwrap().is_empty());
    assert_eq!(store.take_warnings().len(), 1);
}

#[test]
fn records_are_missed_be_they_few_or_many() {
    for number in [3u32, 400] {
        let (_folder, store) = store();
        let keys: BTreeSet<Digest> = (0..number).map(|i| Digest::of(&i.to_le_bytes())).collect();
        for key in &keys {
            fs::create_dir_all(store.action(key)).unwrap();
            fs::write(store.action(key).join("record.json"), "").unwrap();
        }
        std::thread::sleep(Duration::from_millis(40));
        let mut facts = Facts::begin();
        store.watch_records(&keys, &mut facts);
        let question = Digest::of(b"question");
        store.remember(&question, &facts, "42", store.root());
        assert_eq!(recall(store.root(), &question).as_deref(), Some("42"));
        fs::remove_dir_all(store.action(keys.first().unwrap())).unwrap();
        assert_eq!(recall(store.root(), &question), None, "one of {number}");
    }
}

#[test]
fn a_newer_cache_is_refused() {
    let (_folder, store) = store();
    fs::write(store.root().join("VERSION"), "2\n").unwrap();
    let error = Store::open(store.root()).unwrap_err().to_string();
    assert!(error.contains("has format `2`, this titer knows format 1"), "{error}");
}

/// Permission bits do not bind root, so that a cache without them is made read-only by hand here.
#[test]
fn a_read_only_cache_can_be_read_and_says_so_when_it_is_to_be_written() {
    let (folder, store) = store();
    let record = committed(&store, "weights");
    let read_only = Store { writable: false, ..Store::open(store.root()).unwrap() };
    assert_eq!(read_only.get(&record.key).unwrap(), Some(record.clone()));
    assert!(view::show(&read_only, &folder.path().join("out"), &record).unwrap());
    let expected = format!("cache `{}` is read-only", store.root().display());
    let error = read_only.work_dir().unwrap_err().to_string();
    assert!(error.starts_with(&expected), "{error}");
    write_outputs(folder.path(), "weights");
    let error = read_only.commit(folder.path(), OUTPUTS, &document(2), run_info()).unwrap_err().to_string();
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_cache_without_write_permission_is_opened_for_reading() {
    let (_folder, store) = store();
    let record = committed(&store, "weights");
    let mode = |mode| fs::set_permissions(store.root(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let is_bound = access(store.root(), Access::WRITE_OK).is_err();
    let opened = Store::open(store.root());
    mode(0o755);
    let opened = opened.unwrap();
    assert_eq!(opened.writable(), !is_bound);
    assert_eq!(opened.get(&record.key).unwrap(), Some(record));
}

#[test]
fn a_full_disk_is_called_by_its_name() {
    let full = || Err::<(), _>(io::Error::from(rustix::io::Errno::NOSPC));
    let error = full().at("write", Path::new("cache/objects")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write `cache/objects`: the disk is full; free some space and run again, finished stages are kept"
    );
    let denied = Err::<(), _>(io::Error::from(rustix::io::Errno::ACCESS));
    assert!(denied.at("write", Path::new("x")).unwrap_err().to_string().contains("permission denied"));
}
