//! Runs that have not ended, by what the cache tells of them.
//!
//! A run that does work leaves a summary when it begins, which says `running` and names its process. If that is killed, no
//! other summary comes. But it has written down which keys it counts on (`roots`), under the names of its instances, and which
//! of them it brought to an end: so a reader finds what became of the run up to then.

use super::Store;
use super::error::Result;
use super::roots::Relied;
use crate::journal::{Counts, Entry, RunState, RunSummary, State};
use crate::key::Digest;
use crate::record::Record;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

impl Store {
    /// The keys of a run's instances by name: those of its plan, or as far as a run came that has not ended. None if the
    /// cache does not know them any more.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn keys_of(&self, run: &RunSummary) -> Result<Option<BTreeMap<String, Digest>>> {
        match (&run.plan, &run.process) {
            (Some(plan), _) => Ok(self.plan(plan)?.map(|plan| plan.instances)),
            (None, Some(process)) => Ok(self.relied(&process.name)?.map(|relied| relied.names)),
            (None, None) => Ok(None),
        }
    }

    /// A summary that was begun and not ended, filled in with what the cache tells.
    pub(super) fn filled_in(&self, mut run: RunSummary) -> Result<RunSummary> {
        let Some(process) = &run.process else { return Ok(run) };
        let is_killed = run.state == RunState::Killed;
        let begun = run.started.parse::<Timestamp>().unwrap_or(Timestamp::MIN);
        let claims = self.claimed()?.into_iter().filter(|claim| claim.owner == process.name);
        let claimed: BTreeMap<Digest, Option<Timestamp>> = claims.map(|claim| (claim.key, claim.since)).collect();
        // Without its list only that is known which it said at its begin.
        let Some(Relied { names, ends, mut failures, open, .. }) = self.relied(&process.name)? else { return Ok(run) };
        let is_made = |(name, state): (&String, &State)| names.get(name).copied().filter(|_| *state != State::Failed);
        let ended: BTreeSet<Digest> = ends.iter().filter_map(is_made).collect();
        // What waited for others when it began, and has no key yet.
        let open = open.into_iter().filter(|name| !names.contains_key(name));
        run.instances.extend(open.map(|name| (name, Entry::default())));
        let mut counts = Counts { wanted: run.counts.wanted, ..Counts::default() };
        let mut last = begun;
        for (name, key) in names {
            let record = self.get(&key)?.filter(|record| self.complete(record));
            let is_older = record.as_ref().is_some_and(|record| starts(record) < begun);
            let entry = match (ends.get(&name), claimed.get(&key)) {
                (Some(State::Ran), _) => ran(record.as_ref(), is_older),
                (Some(state), _) => Entry { state: *state, message: failures.remove(&name), ..Entry::default() },
                (None, _) if ended.contains(&key) => Entry { state: State::Shared, ..Entry::default() },
                (None, Some(since)) => {
                    last = last.max(self.said_last(&key));
                    let state = if is_killed { State::Unfinished } else { State::Running };
                    let started = since.map(|since| since.to_string());
                    Entry { state, started, tries: 1, ..Entry::default() }
                }
                // What was there before; what is younger was made by others, later.
                (None, None) if is_older => {
                    counts.cached += 1;
                    continue;
                }
                (None, None) => Entry::default(),
            };
            match entry.state {
                State::Ran | State::Observed => counts.ran += 1,
                State::Fetched => counts.fetched += 1,
                State::Shared => counts.shared += 1,
                State::Failed => counts.failed += 1,
                _ => {}
            }
            if entry.state == State::Ran {
                last = last.max(record.as_ref().map_or(Timestamp::MIN, ends_at));
            }
            run.instances.insert(name, entry);
        }
        let done = counts.cached + counts.ran + counts.fetched + counts.shared + counts.failed;
        counts.unfinished = counts.wanted.saturating_sub(done);
        run.counts = counts;
        let until = if is_killed { last } else { Timestamp::now() };
        run.seconds = until.duration_since(begun).as_secs_f64().max(0.0);
        Ok(run)
    }

    /// When work on a key was heard last.
    fn said_last(&self, key: &Digest) -> Timestamp {
        let times = [self.log_path(key), self.again_log_path(key)].map(|path| {
            let time = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
            time.and_then(|time| Timestamp::try_from(time).ok())
        });
        times.into_iter().flatten().max().unwrap_or(Timestamp::MIN)
    }
}

fn starts(record: &Record) -> Timestamp {
    record.run.started.parse().unwrap_or(Timestamp::MIN)
}

fn ends_at(record: &Record) -> Timestamp {
    let took = jiff::SignedDuration::try_from_secs_f64(record.run.wall_seconds).unwrap_or_default();
    starts(record).checked_add(took).unwrap_or(Timestamp::MIN)
}

/// What became of an instance that ran: an older record stays the first one of its key.
fn ran(record: Option<&Record>, is_older: bool) -> Entry {
    let Some(run) = record.map(|record| &record.run).filter(|_| !is_older) else {
        let state = if is_older { State::Observed } else { State::Ran };
        return Entry { state, tries: 1, ..Entry::default() };
    };
    Entry {
        state: State::Ran,
        started: Some(run.started.clone()),
        seconds: Some(run.wall_seconds),
        device: Some(run.device.clone()),
        tries: run.tries,
        warnings: run.warnings.clone(),
        ..Entry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Watch;
    use super::super::tests::{document, run_info, store};
    use super::*;
    use crate::journal::Asked;
    use crate::record::RunInfo;

    fn begun(store: &Store, wanted: usize) -> RunSummary {
        let mut run = RunSummary::begin("p", "p.toml", Asked::default());
        (run.state, run.process, run.counts.wanted) = (RunState::Running, Some(store.process().unwrap()), wanted);
        store.begin_run(&run).unwrap();
        run
    }

    fn make(store: &Store, seed: u32, instance: &str, started: &str) -> Digest {
        let work = store.work_dir().unwrap();
        fs::write(work.path().join("rows"), format!("{seed}")).unwrap();
        let run = RunInfo { instance: instance.into(), started: started.into(), ..run_info() };
        store.commit(work.path(), &[("rows", "rows")], &document(seed), run).unwrap();
        document(seed).key()
    }

    #[test]
    fn a_run_that_goes_on_is_told_by_what_it_made_and_so_is_one_that_was_killed() {
        let (_folder, store) = store();
        let reader = Store::open(store.root()).unwrap();
        let old = make(&store, 1, "mix.old", "2026-01-02T03:04:05Z");
        let run = begun(&store, 8);
        let new = make(&store, 2, "mix.new", &Timestamp::now().to_string());
        let key = |name: &str| Digest::of(name.as_bytes());
        let names =
            [("mix.old", old), ("mix.new", new), ("mix.like", new), ("mix.now", key("now")), ("mix.next", key("next"))];
        store.rely_on_named(names.map(|(name, key)| (key, name))).unwrap();
        store.note_end("mix.new", &new, "ran").unwrap();
        store.note_plan(&["mix.bad".into(), "mix.open".into()], &[]).unwrap();
        store.rely_on_named([(key("bad"), "mix.bad"), (key("bad"), "mix.worse")]).unwrap();
        store.note_failure("mix.bad", &key("bad"), "it fell").unwrap();
        std::mem::forget(store.claim(&key("now"), &mut Watch::default()).unwrap());

        let states = |run: &RunSummary| -> Vec<(String, State)> {
            run.instances.iter().map(|(name, entry)| (name.clone(), entry.state)).collect()
        };
        let expected = |now| {
            let unfinished = |name| (name, State::Unfinished);
            let (failed, open, worse) = (("mix.bad", State::Failed), unfinished("mix.open"), unfinished("mix.worse"));
            let (like, new) = (("mix.like", State::Shared), ("mix.new", State::Ran));
            [failed, like, new, unfinished("mix.next"), ("mix.now", now), open, worse]
                .map(|(name, state)| (name.to_string(), state))
        };
        let told = reader.run(&run.id).unwrap().unwrap();
        assert_eq!((told.outcome(), told.counts.cached, told.counts.ran, told.counts.unfinished), ("running", 1, 1, 4));
        assert_eq!((told.counts.failed, told.instances["mix.bad"].message.as_deref()), (1, Some("it fell")));
        assert_eq!(states(&told), expected(State::Running));
        assert!(told.instances["mix.now"].started.is_some());
        // A process that is killed leaves its list.
        let list = reader.root().join("roots").join(&run.process.as_ref().unwrap().name);
        let left = fs::read(&list).unwrap();
        drop(store);
        // What another makes later is no work of this one.
        let later = make(&reader, 3, "mix.next", &Timestamp::now().to_string());
        fs::write(&list, [left, format!("key {later} mix.next\n").into_bytes()].concat()).unwrap();
        let told = reader.run(&run.id).unwrap().unwrap();
        assert_eq!((told.outcome(), states(&told)), ("killed", expected(State::Unfinished).to_vec()));
        assert!(told.seconds >= 1.0, "the work that it made took so long");
        assert_eq!(reader.keys_of(&told).unwrap().unwrap().len(), 7);
        fs::remove_dir_all(reader.root().join("roots")).unwrap();
        let told = reader.run(&run.id).unwrap().unwrap();
        assert_eq!((told.outcome(), told.instances.len(), reader.keys_of(&told).unwrap()), ("killed", 0, None));
    }

    #[test]
    fn the_summary_of_the_end_replaces_that_of_the_begin() {
        let (_folder, store) = store();
        let run = begun(&store, 1);
        let ended = RunSummary { state: RunState::Ended, process: None, seconds: 2.0, ..run.clone() };
        store.end_run(&ended).unwrap();
        assert_eq!(store.run(&run.id).unwrap(), Some(ended));
        assert_eq!(store.runs().unwrap(), [run.id]);
    }
}
