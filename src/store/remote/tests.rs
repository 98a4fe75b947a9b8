//! Tests of a shared cache in a folder: what goes through, and what is refused.

use super::super::tests::{OUTPUTS, commit, document, run_info};
use super::*;
use crate::record::{Imported, RunInfo};
use crate::store::Committed;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

/// Some local caches and one that they share.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(lab.shared()).unwrap();
        lab
    }

    fn shared(&self) -> PathBuf {
        self.dir.path().join("shared")
    }

    fn remote(&self) -> Remote {
        Remote::new(Address::Folder(self.shared()), Credentials::default(), true, true)
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.dir.path().join(name)).unwrap().with_remote(Some(self.remote()))
    }

    /// The path of a file in the shared cache.
    fn object(&self, content: &str) -> PathBuf {
        self.shared().join(object_path(&Digest::of(content.as_bytes())))
    }

    fn action(&self, file: &str) -> PathBuf {
        self.shared().join(action_path(&document(1).key(), file))
    }

    /// All files that lie in the shared cache.
    fn files(&self) -> Vec<String> {
        let mut files = super::super::files_below(&self.shared(), super::super::Links::Refuse).unwrap();
        files.sort();
        files
    }
}

fn exchange(store: &Store, errands: Vec<Errand>) -> Vec<Told> {
    std::thread::scope(|scope| {
        let (sender, told) = channel();
        let transfers = Transfers::start(scope, store, &sender);
        let number = errands.len();
        errands.into_iter().enumerate().for_each(|(id, errand)| transfers.give(id, errand));
        told.iter().filter(|told| !matches!(told, Told::Progress { .. })).take(number).collect()
    })
}

/// The key of seed 1, fetched: its record, or what is said.
fn fetch(store: &Store) -> (Result<Option<Arc<Record>>, String>, u64) {
    let errand = Errand::Fetch { document: document(1), outputs: OUTPUTS.to_vec(), locked: None };
    match exchange(store, vec![errand]).pop().unwrap() {
        Told::Fetched { outcome, bytes, .. } => (outcome.map_err(|trouble| trouble.to_string()), bytes),
        other => panic!("{other:?}"),
    }
}

fn parcel(record: &Record) -> Errand {
    Errand::Send { record: Arc::new(record.clone()), outputs: OUTPUTS.to_vec() }
}

fn send(store: &Store, record: &Record) -> (Result<Sent, String>, u64) {
    match exchange(store, vec![parcel(record)]).pop().unwrap() {
        Told::Sent { outcome, bytes, .. } => (outcome.map_err(|trouble| trouble.to_string()), bytes),
        other => panic!("{other:?}"),
    }
}

fn made(store: &Store, weights: &str) -> Record {
    match commit(store, 1, weights) {
        Committed::Canonical(record) => record,
        Committed::Observation { .. } => panic!("it was made before"),
    }
}

/// Puts something in the place of a file that is read-only.
fn overwrite(path: &Path, content: impl AsRef<[u8]>) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
}

/// What is said of something, and what was done to it.
type Damage<T> = (&'static str, fn(&mut T));

#[test]
fn what_one_sends_the_other_fetches() {
    let lab = Lab::new();
    let (here, there) = (lab.store("here"), lab.store("there"));
    let record = made(&here, "weights");
    assert_eq!(send(&here, &record), (Ok(Sent::Canonical), 2 + 7 + 5));
    let mut expected: Vec<String> =
        ["{}", "weights", "loss\n"].map(|content| object_path(&Digest::of(content.as_bytes()))).into();
    expected.extend(["key.json", "record.json"].map(|file| action_path(&document(1).key(), file)));
    expected.push("VERSION".to_string());
    expected.sort();
    assert_eq!(lab.files(), expected);

    assert_eq!(there.remote().unwrap().record(&record.key, OUTPUTS).as_deref(), Some(&record));
    assert_eq!(there.get(&record.key).unwrap(), None, "asking writes nothing");
    let (fetched, bytes) = fetch(&there);
    assert_eq!((fetched.unwrap().as_deref(), bytes), (Some(&record), 14));
    assert_eq!(there.get(&record.key).unwrap(), Some(record.clone()));
    assert_eq!(there.document(&record.key).unwrap(), Some(document(1)));
    assert!(there.complete(&record) && there.is_sound(&Digest::of(b"weights")).unwrap());

    // Again, nothing goes over the line, and nothing is observed.
    assert_eq!(send(&lab.store("here"), &record), (Ok(Sent::Known), 0));
    assert_eq!(send(&there, &record), (Ok(Sent::Known), 0));
    assert_eq!(fetch(&there).1, 0);
    assert!(here.observations(&record.key).unwrap().is_empty() && there.observations(&record.key).unwrap().is_empty());
    assert_eq!(lab.files(), expected);
}

#[test]
fn what_is_not_there_is_not_fetched() {
    let lab = Lab::new();
    let store = lab.store("here");
    assert_eq!(fetch(&store), (Ok(None), 0));
    assert!(store.take_warnings().is_empty());
}

#[test]
fn a_transfer_goes_on_with_what_is_missing() {
    let lab = Lab::new();
    let (here, there) = (lab.store("here"), lab.store("there"));
    let record = made(&here, "weights");
    send(&here, &record).0.unwrap();
    fs::remove_file(lab.action("record.json")).unwrap();
    fs::remove_file(lab.object("{}")).unwrap();
    assert_eq!(send(&lab.store("here"), &record), (Ok(Sent::Canonical), 2));
    fetch(&there).0.unwrap();
    fs::remove_file(there.path(&Digest::of(b"weights"))).unwrap();
    assert!(!there.complete(&record));
    assert_eq!(fetch(&there).1, 7);
    assert!(there.complete(&record) && there.observations(&record.key).unwrap().is_empty());
}

#[test]
fn a_lying_or_half_object_is_refused_and_the_local_cache_never_sees_it() {
    let damages: [Damage<PathBuf>; 5] = [
        ("has not the bytes that its name says", |path| overwrite(path, "WEIGHTS")),
        ("is cut off after 3 of 7 bytes", |path| overwrite(path, "wei")),
        ("is cut off after 0 of 7 bytes", |path| overwrite(path, "")),
        ("is longer than its record says", |path| overwrite(path, vec![b'w'; 3 << 20])),
        ("is missing", |path| fs::remove_file(path).unwrap()),
    ];
    for (expected, damage) in damages {
        let lab = Lab::new();
        let (here, there) = (lab.store("here"), lab.store("there"));
        let record = made(&here, "weights");
        send(&here, &record).0.unwrap();
        damage(&mut lab.object("weights"));
        let message = fetch(&there).0.unwrap_err();
        assert!(message.contains(expected) && message.contains("`model/deep/weights`"), "{message}");
        assert_eq!(there.get(&record.key).unwrap(), None);
        assert!(!there.path(&Digest::of(b"weights")).exists());
        assert_eq!(fs::read_dir(there.temporary().unwrap()).unwrap().count(), 0, "no half file");
        assert_eq!(there.remote().unwrap().record(&record.key, OUTPUTS), None, "it is not offered again");
        // What can be seen from afar, the next who has it mends.
        if !expected.contains("bytes that") {
            assert_eq!(send(&lab.store("here"), &record), (Ok(Sent::Known), 7));
            assert!(fetch(&lab.store("there")).0.is_ok());
        }
    }
}

#[test]
fn a_record_that_lies_is_refused() {
    let record_of = |change: fn(&mut Record), lab: &Lab| {
        let mut record: Record = Record::parse(&fs::read(lab.action("record.json")).unwrap()).unwrap();
        change(&mut record);
        serde_json::to_vec(&record).unwrap()
    };
    let changes: [Damage<Record>; 3] = [
        ("another key", |record| record.key = document(2).key()),
        ("does not lie in its output", |record| record.outputs[0].files[0].path = "model/../../../x".into()),
        ("other outputs", |record| record.outputs.truncate(1)),
    ];
    for (expected, change) in changes {
        let lab = Lab::new();
        let (here, there) = (lab.store("here"), lab.store("there"));
        send(&here, &made(&here, "weights")).0.unwrap();
        overwrite(&lab.action("record.json"), record_of(change, &lab));
        assert_eq!(fetch(&there), (Ok(None), 0));
        let warnings = there.take_warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{warnings:?}");
        assert_eq!(there.get(&document(1).key()).unwrap(), None);
    }
}

#[test]
fn what_was_hashed_must_be_there_and_be_of_the_key() {
    for (expected, damage) in [
        ("is of another key", &(|path: &Path| overwrite(path, "{}")) as &dyn Fn(&Path)),
        ("is missing", &|path| fs::remove_file(path).unwrap()),
    ] {
        let lab = Lab::new();
        let (here, there) = (lab.store("here"), lab.store("there"));
        let record = made(&here, "weights");
        send(&here, &record).0.unwrap();
        damage(&lab.action("key.json"));
        let message = fetch(&there).0.unwrap_err();
        assert!(message.contains("key.json") && message.contains(expected), "{message}");
        assert_eq!(there.get(&record.key).unwrap(), None);
        assert_eq!(send(&lab.store("here"), &record).0, Ok(Sent::Known));
        assert!(fetch(&lab.store("there")).0.unwrap().is_some(), "whoever sends it again mends it");
    }
}

#[test]
fn another_result_of_a_key_is_kept_beside_the_first() {
    let lab = Lab::new();
    let (here, there) = (lab.store("here"), lab.store("there"));
    let (first, second) = (made(&here, "weights"), made(&there, "others"));
    assert_eq!(send(&here, &first).0, Ok(Sent::Canonical));
    for _ in 0..2 {
        assert_eq!(send(&there, &second).0, Ok(Sent::Observation(vec!["model".to_string()])));
        let kept: Vec<_> =
            fs::read_dir(lab.action("observations")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(kept.len(), 1, "the same one once");
        assert_eq!(Record::parse(&fs::read(&kept[0]).unwrap()), Ok(second.clone()));
    }
    assert_eq!(fetch(&lab.store("third")).0.unwrap().as_deref(), Some(&first));
    assert!(lab.object("others").exists(), "what was observed can be looked at");
}

#[test]
fn a_record_that_could_never_be_fetched_makes_way() {
    let lab = Lab::new();
    let (here, there) = (lab.store("here"), lab.store("there"));
    let (first, second) = (made(&here, "weights"), made(&there, "others"));
    send(&here, &first).0.unwrap();
    fs::remove_file(lab.object("weights")).unwrap();
    assert_eq!(send(&there, &second).0, Ok(Sent::Canonical));
    assert_eq!(fetch(&lab.store("third")).0.unwrap().as_deref(), Some(&second));
    assert_eq!(fs::read_dir(lab.action("observations")).unwrap().count(), 1);
    overwrite(&lab.action("record.json"), "{\"format\":1,");
    assert_eq!(send(&lab.store("here"), &first).0, Ok(Sent::Canonical), "neither does a damaged one stay");
}

/// A result of seed 1 of which only the model was given.
fn imported(store: &Store, weights: &str) -> Record {
    let work = store.work_dir().unwrap();
    fs::create_dir_all(work.path().join("model/deep")).unwrap();
    fs::write(work.path().join("model/config.json"), "{}").unwrap();
    fs::write(work.path().join("model/deep/weights"), weights).unwrap();
    let run = RunInfo { imported: Some(Imported { from: "model".to_string(), note: None }), ..run_info() };
    store.commit(work.path(), &OUTPUTS[..1], &document(1), run).unwrap().record().clone()
}

#[test]
fn an_imported_result_is_shared_and_stays_beside_a_whole_one() {
    let lab = Lab::new();
    let (here, there) = (lab.store("here"), lab.store("there"));
    let (part, whole) = (imported(&here, "weights"), made(&there, "others"));
    let both = vec!["model".to_string(), "metrics".to_string()];
    assert_eq!(send(&here, &part).0, Ok(Sent::Canonical));
    assert_eq!(fetch(&lab.store("third")).0.unwrap().as_deref(), Some(&part));
    assert_eq!(send(&here, &part).0, Ok(Sent::Known));
    assert_eq!(send(&there, &whole).0, Ok(Sent::Observation(both.clone())));
    assert_eq!(fetch(&lab.store("fourth")).0.unwrap().as_deref(), Some(&part), "the first one stays");

    let lab = Lab::new();
    let (here, there) = (lab.store("here"), lab.store("there"));
    let (part, whole) = (imported(&here, "weights"), made(&there, "others"));
    assert_eq!(send(&there, &whole).0, Ok(Sent::Canonical));
    assert_eq!(send(&here, &part).0, Ok(Sent::Observation(both)));
    assert_eq!(fetch(&lab.store("third")).0.unwrap().as_deref(), Some(&whole), "so it does here");
    assert_eq!(fs::read_dir(lab.action("observations")).unwrap().count(), 1);
}

#[test]
fn of_many_who_send_at_once_one_is_the_first() {
    for round in 0..10 {
        let lab = Lab::new();
        let stores = [0, 1, 2, 3].map(|number| lab.store(&number.to_string()));
        let records: Vec<Record> =
            stores.iter().enumerate().map(|(number, store)| made(store, &format!("weights {number}"))).collect();
        let barrier = std::sync::Barrier::new(stores.len());
        let results: Vec<Sent> = std::thread::scope(|scope| {
            let senders: Vec<_> = stores
                .iter()
                .zip(&records)
                .map(|(store, record)| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        send(store, record).0.unwrap()
                    })
                })
                .collect();
            senders.into_iter().map(|sender| sender.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|sent| **sent == Sent::Canonical).count(), 1, "round {round}: {results:?}");
        let first = fetch(&lab.store("reader")).0.unwrap().unwrap();
        assert!(records.contains(&first));
        let kept = fs::read_dir(lab.action("observations")).map_or(0, Iterator::count);
        let others = records.iter().filter(|record| **record != *first).count();
        assert_eq!(kept, others, "every other run is kept once");
        assert_eq!(fs::read_dir(lab.shared().join("incoming")).unwrap().count(), 0);
    }
}

#[test]
fn a_damaged_object_is_not_sent() {
    let lab = Lab::new();
    let store = lab.store("here");
    let record = made(&store, "weights");
    overwrite(&store.path(&Digest::of(b"weights")), "WEIGHTS");
    let message = send(&store, &record).0.unwrap_err();
    assert!(message.contains("is damaged here"), "{message}");
    assert!(!lab.object("weights").exists() && !lab.action("record.json").exists());
    assert!(!store.path(&Digest::of(b"weights")).exists(), "it is in the quarantine");
}

#[test]
fn a_cache_that_cannot_be_reached_is_told_of_once() {
    let lab = Lab::new();
    let (here, there) = (lab.store("here"), lab.store("there"));
    let record = made(&here, "weights");
    fs::remove_dir(lab.shared()).unwrap();
    for _ in 0..3 {
        assert_eq!(there.remote().unwrap().record(&record.key, OUTPUTS), None);
        assert_eq!(fetch(&there), (Ok(None), 0));
    }
    let warnings = there.take_warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("no such folder"), "{warnings:?}");
    assert!(send(&here, &record).0.unwrap_err().contains("no such folder"));
    assert!(!lab.shared().exists(), "nothing is made where a mount is missing");
}

/// A place that fails as often as it is told to.
#[derive(Debug)]
struct Shaky(Arc<Mutex<(u32, u32)>>);

impl Shaky {
    fn answer<T>(&self, answer: T) -> Reached<T> {
        let (failures, asked) = &mut *lock(&self.0);
        *asked += 1;
        if *failures == 0 {
            return Ok(answer);
        }
        *failures -= 1;
        Err(Unreachable("broken with SECRET".to_string()))
    }
}

impl Backend for Shaky {
    fn size(&self, _: &str) -> Reached<Option<u64>> {
        self.answer(None)
    }
    fn read(&self, _: &str, _: &mut dyn Write) -> Reached<bool> {
        self.answer(false)
    }
    fn write(&self, _: &str, _: &mut dyn io::Read, _: u64) -> Reached<()> {
        self.answer(())
    }
    fn create(&self, _: &str, _: &[u8]) -> Reached<bool> {
        self.answer(true)
    }
}

#[test]
fn a_place_that_fails_too_often_is_not_asked_again() {
    let counts = Arc::new(Mutex::new((2, 0)));
    let credentials = Credentials::new([("AWS_SECRET_ACCESS_KEY".to_string(), "SECRET".to_string())]);
    let remote = Remote::new(Address::Folder("/nowhere".into()), credentials, true, true);
    remote.backend.set(Ok(Box::new(Shaky(Arc::clone(&counts))))).unwrap();
    lock(&remote.health).has_worked = true;
    let key = |number: u32| document(number).key();
    // Two failures are forgiven.
    (0..3).for_each(|number| drop(remote.record(&key(number), OUTPUTS)));
    assert!(remote.take_complaints().is_empty());
    *lock(&counts) = (10, 0);
    (10..20).for_each(|number| drop(remote.record(&key(number), OUTPUTS)));
    assert_eq!(lock(&counts).1, PATIENCE);
    let complaints = remote.take_complaints();
    assert_eq!(complaints, ["the shared cache `/nowhere` is not asked any more: broken with ***"]);
}

#[test]
fn a_newer_or_foreign_place_is_left_alone() {
    for (version, expected) in [("2\n", "has format 2"), ("hello", "none of titer's"), (&"9".repeat(99), "titer's")] {
        let lab = Lab::new();
        fs::write(lab.shared().join("VERSION"), version).unwrap();
        let store = lab.store("here");
        let record = made(&store, "weights");
        let message = send(&store, &record).0.unwrap_err();
        assert!(message.contains(expected), "{message}");
        assert_eq!(lab.files(), ["VERSION"]);
    }
}

#[test]
fn what_is_stopped_is_not_begun() {
    let lab = Lab::new();
    let store = lab.store("here");
    let record = made(&store, "weights");
    store.remote().unwrap().stop();
    assert_eq!(send(&store, &record).0, Err("stopped".to_string()));
    assert_eq!(lab.files(), [""; 0]);
    assert!(store.take_warnings().is_empty());
}

#[test]
fn an_object_of_many_results_is_carried_once() {
    let lab = Lab::new();
    let (here, there) = (lab.store("here"), lab.store("there"));
    let seeds: Vec<u32> = (1..20).collect();
    let parcels = seeds.iter().map(|seed| parcel(commit(&here, *seed, "weights").record())).collect();
    let bytes = |told: Vec<Told>| -> u64 {
        let one = |told| match told {
            Told::Sent { outcome: Ok(_), bytes, .. } | Told::Fetched { outcome: Ok(Some(_)), bytes, .. } => bytes,
            other => panic!("{other:?}"),
        };
        told.into_iter().map(one).sum()
    };
    assert_eq!(bytes(exchange(&here, parcels)), 14);
    let errand = |seed: &u32| Errand::Fetch { document: document(*seed), outputs: OUTPUTS.to_vec(), locked: None };
    assert_eq!(bytes(exchange(&there, seeds.iter().map(errand).collect())), 14);
}
