//! Tests of the collector: what it takes, what it leaves, and what it does when others disturb it.

use super::super::claim::write_new;
use super::super::roots::{SWEEP, who};
use super::super::tests::{document, run_info, store};
use super::super::{Committed, Pin, Settings, Store, StoreError};
use super::*;
use crate::key::Digest;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// No record is too young, no mark is waited for.
pub(super) fn policy() -> Policy {
    Policy { grace: Duration::ZERO, wait: Some(Duration::ZERO), ..Policy::default() }
}

/// A result of one file with that content.
fn made(store: &Store, seed: u32, content: &str) -> Digest {
    let work = store.work_dir().unwrap();
    fs::write(work.path().join("rows.jsonl"), content).unwrap();
    let document = document(seed);
    let done = store.commit(work.path(), &[("rows", "rows.jsonl")], &document, run_info()).unwrap();
    assert!(matches!(done, Committed::Canonical(_)));
    document.key()
}

/// A cache whose results nobody relies on any more: a process made them, and has ended.
pub(super) fn cache(results: &[(u32, &str)]) -> (tempfile::TempDir, Store, Vec<Digest>) {
    let (folder, first) = store();
    let keys = results.iter().map(|(seed, content)| made(&first, *seed, content)).collect();
    let root = first.root().to_path_buf();
    drop(first);
    std::thread::sleep(Duration::from_millis(25));
    (folder, Store::open(&root).unwrap(), keys)
}

pub(super) fn is_there(store: &Store, key: &Digest) -> bool {
    store.get(key).unwrap().is_some_and(|record| store.complete(&record))
}

fn collect(store: &Store, policy: &Policy) -> Survey {
    let shown = store.survey(policy).unwrap();
    let done = store.free(policy, &shown).unwrap();
    assert!(who(&store.root().join(SWEEP)).unwrap().is_none());
    assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
    done
}

pub(super) fn last_run(store: &Store, keys: &[Digest]) {
    let keys: BTreeMap<String, Digest> = keys.iter().enumerate().map(|(i, key)| (format!("mix.m{i}"), *key)).collect();
    store.set_last_run("p", &keys).unwrap();
}

/// A run as the history writes it.
fn summary(store: &Store, id: &str, started: &str, keys: &[Digest]) {
    for folder in ["runs", "plans"] {
        fs::create_dir_all(store.root().join(folder)).unwrap();
    }
    let instances: BTreeMap<String, String> =
        keys.iter().enumerate().map(|(i, key)| (format!("mix.m{i}"), key.to_string())).collect();
    let plan = Digest::of(format!("{instances:?}").as_bytes()).to_string();
    let write = |name: String, value: serde_json::Value| fs::write(store.root().join(name), value.to_string()).unwrap();
    write(format!("plans/{plan}.json"), json!({ "instances": instances }));
    write(format!("runs/{id}.json"), json!({ "pipeline": "p", "started": started, "plan": plan }));
}

fn age(path: &Path, age: Duration) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn what_no_run_needs_goes_with_what_only_it_needs() {
    let (_folder, store, keys) = cache(&[(1, "shared"), (2, "shared"), (3, "alone")]);
    last_run(&store, &keys[..1]);
    let shown = store.survey(&policy()).unwrap();
    assert_eq!(shown.results.iter().map(|result| result.bytes).sum::<u64>(), 5);
    assert_eq!((shown.size, shown.kept, shown.kept_results, shown.bytes()), (11, 6, 1, 5));
    let named: Vec<(&str, Option<&str>)> =
        shown.results.iter().map(|result| (result.instance.as_str(), result.pipeline.as_deref())).collect();
    assert_eq!(named, [("train.adapter[n=20]", None); 2]);
    assert!(keys.iter().all(|key| is_there(&store, key)), "a survey changes nothing");

    assert_eq!(collect(&store, &policy()).results.len(), 2);
    assert!(
        is_there(&store, &keys[0]) && store.get(&keys[1]).unwrap().is_none() && store.get(&keys[2]).unwrap().is_none()
    );
    assert!(!store.path(&Digest::of(b"alone")).exists());
    assert!(store.survey(&policy()).unwrap().is_empty());
}

#[test]
fn the_last_runs_of_each_pipeline_keep_what_they_used() {
    let (_folder, store, keys) = cache(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
    last_run(&store, &keys[3..]);
    for (day, key) in keys[..3].iter().enumerate() {
        summary(&store, &format!("2026010{}T000000Z-x", day + 1), &format!("2026-01-0{}T00:00:00Z", day + 1), &[*key]);
    }
    let goes = |policy: &Policy| -> Vec<Digest> {
        store.survey(policy).unwrap().results.iter().map(|result| result.key).collect()
    };
    let keep = |keep_runs| Policy { keep_runs, ..policy() };
    assert_eq!(goes(&keep(Some(3))), [keys[3]], "what only the latest keys of each instance name");
    assert_eq!(goes(&keep(Some(1))).len(), 3);
    assert!(!goes(&keep(Some(1))).contains(&keys[2]));
    assert_eq!(goes(&keep(Some(0))).len(), 4);
    // By age: all were made just now.
    let since =
        |days: u64| Policy { keep_runs: None, older_than: Some(Duration::from_secs(days * 86_400)), ..policy() };
    assert_eq!(goes(&since(1)), []);
    for key in &keys {
        age(&store.action(key).join("record.json"), Duration::from_secs(10 * 86_400));
    }
    assert_eq!(goes(&since(1)).len(), 4);
    summary(&store, "2", &jiff::Timestamp::now().to_string(), &keys[..1]);
    assert!(!goes(&since(1)).contains(&keys[0]), "used today");
    assert!(!goes(&since(11)).contains(&keys[1]), "made within the time");
    let either = Policy { keep_runs: Some(2), ..since(1) };
    assert_eq!(goes(&either).len(), 2, "either keeps");
    std::thread::sleep(Duration::from_millis(25));
    last_run(&store, &[keys[3], keys[0]]);
    assert_eq!(goes(&either), [keys[1]], "keys that no summary was written after: an import");
}

#[test]
fn runs_with_nothing_to_do_count_as_the_one_before() {
    let (_folder, store, keys) = cache(&[(1, "a"), (2, "b")]);
    let run = |day: u32, key: &Digest| summary(&store, &day.to_string(), &format!("2026-01-0{day}T00:00:00Z"), &[*key]);
    run(1, &keys[0]);
    (2..9).for_each(|day| run(day, &keys[1]));
    let keep = |keep_runs| Policy { keep_runs: Some(keep_runs), ..policy() };
    assert!(store.survey(&keep(2)).unwrap().is_empty());
    assert_eq!(store.survey(&keep(1)).unwrap().results.len(), 1);
    // The first one is the second of its kind; of those that repeat each other the last two stay.
    let done = collect(&store, &Policy { history: true, ..keep(2) });
    assert_eq!(done.leftovers.iter().map(|one| one.what).collect::<Vec<_>>(), [What::Run; 5]);
    assert!(["1", "7", "8"].iter().all(|id| store.root().join(format!("runs/{id}.json")).exists()));
    assert!(store.survey(&keep(2)).unwrap().is_empty());
}

#[test]
fn a_summary_that_is_not_understood_goes_with_the_history() {
    let (_folder, store, keys) = cache(&[(1, "a")]);
    summary(&store, "1", "2026-01-01T00:00:00Z", &keys);
    for name in ["runs/odd.json", "plans/alone.json"] {
        fs::write(store.root().join(name), "{").unwrap();
        age(&store.root().join(name), Duration::from_secs(86_400));
    }
    let kinds =
        |policy: &Policy| -> Vec<What> { store.survey(policy).unwrap().leftovers.iter().map(|one| one.what).collect() };
    let history = Policy { history: true, keep_runs: Some(1), ..policy() };
    assert_eq!(kinds(&Policy { history: false, ..history.clone() }), [], "it may name the plan");
    assert_eq!(kinds(&history), [], "it is the last run");
    summary(&store, "2", "2999-01-01T00:00:00Z", &keys);
    assert_eq!(kinds(&Policy { grace: Duration::from_secs(100_000), ..history.clone() }), [What::Run], "a young one");
    assert_eq!(kinds(&history), [What::Run, What::Run, What::Plan]);
}

#[test]
fn what_a_host_knows_of_objects_goes_with_them() {
    let (_folder, first) = store();
    let root = first.root().to_path_buf();
    made(&first, 1, "a");
    first.save();
    let knows = |store: &Store, content: &str| {
        let digest = Digest::of(content.as_bytes()).to_string();
        fs::read_to_string(store.local().join("objects.json")).unwrap().contains(&digest)
    };
    assert!(knows(&first, "a"));
    drop(first);
    std::thread::sleep(Duration::from_millis(25));
    let second = Store::open(&root).unwrap();
    assert_eq!(collect(&second, &policy()).results.len(), 1);
    made(&second, 2, "b");
    second.save();
    assert!(knows(&second, "b") && !knows(&second, "a"));
}

#[test]
fn only_what_was_shown_goes() {
    let (_folder, store, _) = cache(&[(1, "a")]);
    let shown = store.survey(&policy()).unwrap();
    let log = store.log_path(&Digest::of(b"gone"));
    fs::write(&log, "").unwrap();
    age(&log, Duration::from_secs(10));
    let done = store.free(&policy(), &shown).unwrap();
    assert!(done.results.len() == 1 && done.leftovers.is_empty() && log.exists(), "{done:?}");
    assert_eq!(collect(&store, &policy()).leftovers.len(), 1);
}

#[test]
fn a_time_in_the_future_is_young() {
    let (_folder, store, keys) = cache(&[(1, "a")]);
    let record = store.action(&keys[0]).join("record.json");
    let file = fs::File::options().write(true).open(record).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(1_000_000)).unwrap();
    let policy = Policy { keep_runs: None, older_than: Some(Duration::from_secs(1)), ..policy() };
    assert!(store.survey(&policy).unwrap().is_empty());
}

#[test]
fn by_size_the_least_recently_used_go_until_the_rest_fits() {
    let (_folder, store, keys) = cache(&[(1, "aaaa"), (2, "bbbb"), (3, "cccc")]);
    for (key, days) in keys.iter().zip([1, 3, 2]) {
        age(&store.action(key).join("record.json"), Duration::from_secs(days * 86_400));
    }
    let fits = |max_size| Policy { keep_runs: None, max_size: Some(max_size), ..policy() };
    let goes = |policy: &Policy| -> Vec<Digest> {
        store.survey(policy).unwrap().results.iter().map(|result| result.key).collect()
    };
    assert_eq!(goes(&fits(12)), []);
    assert_eq!(goes(&fits(11)), [keys[1]]);
    assert_eq!(goes(&fits(4)), [keys[1], keys[2]]);
    last_run(&store, &keys[1..2]);
    let kept = Policy { keep_runs: Some(1), ..fits(4) };
    assert_eq!(goes(&kept), [keys[2], keys[0]], "what a run needs stays");
    assert_eq!(collect(&store, &kept).results.len(), 2);
    assert!(is_there(&store, &keys[1]));
}

#[test]
fn what_is_pinned_or_relied_on_never_goes() {
    let (_folder, store, keys) = cache(&[(1, "a"), (2, "b"), (3, "c")]);
    let (pipeline, instance, at) = ("p".into(), "mix.a".into(), "2026-01-01T00:00:00Z".into());
    let pin = Pin { pipeline, instance, key: keys[0], of: None, at, note: None };
    Store::open(store.root()).unwrap().pin(&pin).unwrap();
    let running = Store::open(store.root()).unwrap();
    running.rely_on([keys[1]]).unwrap();
    let all = Policy { keep_runs: Some(0), ..policy() };
    let done = collect(&store, &all);
    assert_eq!(done.results.iter().map(|result| result.key).collect::<Vec<_>>(), [keys[2]]);
    store.unpin(&pin).unwrap();
    drop(running);
    assert_eq!(collect(&store, &all).results.len(), 2);
}

#[test]
fn what_a_killed_process_needed_counts_as_a_run() {
    let (_folder, store, keys) = cache(&[(1, "a")]);
    let dead = store.root().join("roots").join(format!("{}.4194304.dead", store.machine));
    fs::write(&dead, format!("run p\nkey {}\n", keys[0])).unwrap();
    assert!(collect(&store, &policy()).is_empty());
    assert!(dead.exists());
    // Newer runs take its place.
    for id in ["1", "2", "3", "4", "5"] {
        summary(&store, id, "2999-01-01T00:00:00Z", &[Digest::of(id.as_bytes())]);
    }
    assert_eq!(collect(&store, &policy()).results.len(), 1);
    assert!(!dead.exists());
}

#[test]
fn objects_that_nobody_names_go_when_they_are_old_enough() {
    let (_folder, store, _) = cache(&[]);
    let work = store.work_dir().unwrap();
    let alone = |content: &str| {
        let path = store.path(&Digest::of(content.as_bytes()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    };
    let (old, relied, text) = (alone("old"), alone("relied"), alone("titer = 1\n"));
    summary(&store, "1", "2026-01-01T00:00:00Z", &[]);
    // The history keeps the manifests of a run.
    let told = json!({ "pipeline": "p", "started": "2026-01-01T00:00:00Z", "manifests": { "p.toml": Digest::of(b"titer = 1\n") } });
    fs::write(store.root().join("runs/2.json"), told.to_string()).unwrap();
    let other = Store::open(store.root()).unwrap();
    other.rely_on_object(&Digest::of(b"relied")).unwrap();
    std::thread::sleep(Duration::from_millis(25));
    let young = Policy { grace: Duration::from_secs(60), ..policy() };
    assert!(store.survey(&young).unwrap().orphans.is_empty());
    assert_eq!(collect(&store, &policy()).orphans.len(), 1);
    assert!(!old.exists() && relied.exists() && text.exists() && work.path().exists());
    let no_history = Policy { history: true, keep_runs: Some(0), ..policy() };
    assert_eq!(collect(&store, &no_history).orphans.len(), 1, "it goes with its run");
    assert!(!text.exists() && relied.exists());
}

#[test]
fn the_objects_of_a_record_of_another_format_stay() {
    let (_folder, store, keys) = cache(&[(1, "a")]);
    last_run(&store, &keys);
    let record = store.action(&keys[0]).join("record.json");
    let text = fs::read_to_string(&record).unwrap().replacen("\"format\":1", "\"format\":2", 1);
    fs::write(&record, text).unwrap();
    assert!(store.get(&keys[0]).unwrap().is_none());
    assert!(collect(&store, &policy()).is_empty());
    assert!(store.path(&Digest::of(b"a")).exists());
}

#[test]
fn leftovers_go_too() {
    let (_folder, store, keys) = cache(&[(1, "a"), (2, "b")]);
    last_run(&store, &keys[..1]);
    let root = store.root();
    let write = |name: String| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("{}.4194304.gone 0", store.machine)).unwrap();
        age(&path, Duration::from_secs(10));
        path
    };
    let go = [
        write(format!("logs/{}.log", keys[1])),
        write(format!("logs/{}.log", Digest::of(b"gone"))),
        write(format!("claims/{}", keys[1])),
        write("work/elsewhere.1.gone.work/job/half".into()),
        write("plans/alone.json".into()),
        write(format!("local/elsewhere/snapshots/{}", keys[1])),
        write("trash/elsewhere.1.gone/objects/x".into()),
    ];
    let stay = [write(format!("logs/{}.log", keys[0])), write("quarantine/objects-ab.1".into())];
    summary(&store, "1", "2026-01-01T00:00:00Z", &keys[..1]);
    summary(&store, "2", "2026-01-02T00:00:00Z", &keys[..1]);
    // Its heart may beat where its locks cannot be seen.
    let lives = write("work/elsewhere.2.alive.lock".into());
    let scratch = write("work/elsewhere.2.alive.work/half".into());
    let done = collect(&store, &policy());
    assert_eq!(done.leftovers.len(), go.len(), "{:?}", done.leftovers);
    assert!(go.iter().all(|path| !path.exists()));
    assert!(stay.iter().chain([&lives, &scratch]).all(|path| path.exists()));
    assert_eq!(done.leftovers.iter().filter(|leftover| leftover.bytes == 0).count(), 0);

    let all = Policy { quarantine: true, history: true, keep_runs: Some(1), ..policy() };
    assert_eq!(
        collect(&store, &all).leftovers.iter().map(|one| one.what).collect::<Vec<_>>(),
        [What::Quarantine, What::Run]
    );
    age(&lives, Duration::from_secs(100_000));
    collect(&store, &policy());
    assert!(!lives.exists() && !scratch.exists(), "not for a day");
}

#[test]
fn one_collector_at_a_time() {
    let (_folder, store, _) = cache(&[]);
    let settings = Settings { patience: Duration::from_millis(500), ..Settings::default() };
    let open = || Store::open_with(store.root(), settings.clone()).unwrap();
    let (one, two) = (open(), open());
    let turn = one.turn("gc").unwrap();
    assert!(matches!(two.free(&policy(), &Survey::default()), Err(StoreError::Busy(_))));
    drop(turn);
    two.free(&policy(), &Survey::default()).unwrap();
    // One of another host that is gone is waited for no longer than it takes to know.
    write_new(&store.root().join("claims/gc"), "elsewhere.1.gone 0").unwrap();
    two.free(&policy(), &Survey::default()).unwrap();
}

#[test]
fn the_trash_of_a_killed_collector_is_recovered_or_finished() {
    let (_folder, store, keys) = cache(&[(1, "a"), (2, "b")]);
    // Killed after it had moved both, and before it looked again.
    let bin = store.root().join(format!("trash/{}.4194304.gone", store.machine));
    for folder in ["actions", "objects"] {
        fs::create_dir_all(bin.join(folder)).unwrap();
    }
    for (key, content) in keys.iter().zip(["a", "b"]) {
        let object = Digest::of(content.as_bytes());
        fs::rename(store.action(key), bin.join("actions").join(key.to_string())).unwrap();
        fs::rename(store.path(&object), bin.join("objects").join(object.to_string())).unwrap();
    }
    write_new(&store.root().join(SWEEP), &format!("{}.4194304.gone", store.machine)).unwrap();
    last_run(&store, &keys[..1]);
    let done = collect(&store, &policy());
    assert_eq!(done.leftovers.iter().map(|one| one.what).collect::<Vec<_>>(), [What::Trash]);
    assert!(is_there(&store, &keys[0]) && !is_there(&store, &keys[1]));
    assert!(!store.path(&Digest::of(b"b")).exists());
}

#[test]
fn a_collector_that_was_overtaken_puts_everything_back() {
    let (_folder, store, keys) = cache(&[(1, "a"), (2, "b")]);
    let shown = store.survey(&policy()).unwrap();
    let waiting = Policy { wait: Some(Duration::from_millis(200)), ..policy() };
    // Somebody loses patience while it waits.
    let done = std::thread::scope(|scope| {
        let frees = scope.spawn(|| store.free(&waiting, &shown));
        while fs::remove_file(store.root().join(SWEEP)).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        frees.join().unwrap()
    });
    assert!(matches!(done, Err(StoreError::Overtaken)), "{done:?}");
    assert!(keys.iter().all(|key| is_there(&store, key)));
    assert_eq!(collect(&store, &policy()).results.len(), 2);
}

#[test]
fn what_becomes_needed_while_the_collector_waits_stays() {
    let (_folder, store, keys) = cache(&[(1, "a"), (2, "b")]);
    let shown = store.survey(&policy()).unwrap();
    last_run(&store, &keys[..1]);
    assert_eq!(store.free(&policy(), &shown).unwrap().results.len(), 1);
    assert!(is_there(&store, &keys[0]) && !is_there(&store, &keys[1]));
}

/// Beside a collector that never rests, makers rely on results, make those that are gone, and look whether they stay.
#[test]
fn nothing_that_is_relied_on_goes_beside_a_collector() {
    let (_folder, store) = store();
    let root = store.root().to_path_buf();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let going = Policy { keep_runs: Some(0), ..policy() };
    let maker = |offset: u32| {
        for round in 0..25 {
            let store = Store::open(&root).unwrap();
            // Neighbours share keys and bytes.
            for seed in (round + offset)..(round + offset + 3) {
                let key = document(seed % 7).key();
                store.rely_on([key]).unwrap();
                if !is_there(&store, &key) {
                    let work = store.work_dir().unwrap();
                    fs::write(work.path().join("rows.jsonl"), format!("{}", seed % 7 / 2)).unwrap();
                    store.commit(work.path(), &[("rows", "rows.jsonl")], &document(seed % 7), run_info()).unwrap();
                }
                for _ in 0..5 {
                    assert!(is_there(&store, &key), "round {round}, seed {seed}");
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut freed = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let shown = store.survey(&going).unwrap();
                freed += store.free(&going, &shown).unwrap().results.len();
            }
            freed
        });
        let made = [scope.spawn(|| maker(0)), scope.spawn(|| maker(1))].map(|maker| maker.join());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(collector.join().unwrap() > 0);
        made.into_iter().for_each(|made| made.unwrap());
    });
}
