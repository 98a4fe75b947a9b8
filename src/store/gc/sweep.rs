//! Moving to the trash what is not needed, looking again, and deleting it.

use super::mark::{Action, Needed};
use super::{Leftover, Policy, Survey, What};
use crate::key::Digest;
use crate::store::action::rename_new;
use crate::store::claim::write_new;
use crate::store::error::{At, Result, StoreError};
use crate::store::file::{self, entries};
use crate::store::roots::{SWEEP, who};
use crate::store::{Store, make_folder};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a network file system may hide from one host what another has written.
const HIDDEN: Duration = Duration::from_secs(65);

impl Store {
    /// Frees what was `shown` to the person, as far as it is not needed now. Returns what went.
    ///
    /// # Errors
    /// Another collector is at work; the cache cannot be written; this process stood still for too long.
    pub fn free(&self, policy: &Policy, shown: &Survey) -> Result<Survey> {
        self.must_be_writable()?;
        let Some(_turn) = self.claim_named_in_time("gc")? else {
            return Err(StoreError::Busy(self.root.clone()));
        };
        let left = self.trash()?.into_iter().map(|path| Leftover::new(What::Trash, path)).collect::<Vec<_>>();
        let sweep = Sweep::begin(self)?;
        std::thread::sleep(policy.wait.unwrap_or(if self.has_guests()? { HIDDEN } else { Duration::ZERO }));
        let mut going = self.survey(policy)?;
        going.restrict_to(shown);
        let looked = sweep.fill(&going).and_then(|()| sweep.look_again(policy));
        let (needed, actions) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                sweep.restore(|_, _| true, |_| true)?;
                return Err(error);
            }
        };
        let (keys, objects) = sweep.taken()?;
        going.keep_to(&keys, &objects);
        sweep.end()?;
        let paths: BTreeSet<&Path> = shown.leftovers.iter().map(|leftover| leftover.path.as_path()).collect();
        going.leftovers = self.leftovers(policy, &needed, &actions, &going.results)?;
        going.leftovers.retain(|leftover| paths.contains(leftover.path.as_path()));
        going.leftovers.iter().for_each(Leftover::remove);
        going.leftovers.extend(left);
        Ok(going)
    }
}

impl Survey {
    /// Takes out what the person has not seen.
    fn restrict_to(&mut self, shown: &Survey) {
        let keys: BTreeSet<Digest> = shown.results.iter().map(|result| result.key).collect();
        let freed = shown.results.iter().flat_map(|result| &result.objects).chain(shown.orphans.iter().map(|(o, _)| o));
        let objects: BTreeSet<&Digest> = freed.collect();
        self.results.retain(|result| keys.contains(&result.key));
        // An object that only one of two results needs, of which one was not seen, stays.
        self.results.iter_mut().for_each(|result| result.objects.retain(|object| objects.contains(object)));
        self.orphans.retain(|(object, _)| objects.contains(object));
    }

    /// Takes out what did not go in the end. Of the objects the lengths are known.
    fn keep_to(&mut self, keys: &BTreeSet<Digest>, objects: &BTreeMap<Digest, u64>) {
        let before = self.results.len();
        self.results.retain(|result| keys.contains(&result.key));
        self.kept_results += before - self.results.len();
        for result in &mut self.results {
            result.objects.retain(|object| objects.contains_key(object));
            result.bytes = result.objects.iter().filter_map(|object| objects.get(object)).sum();
        }
        self.orphans.retain(|(object, _)| objects.contains_key(object));
        let orphans = self.orphans.iter().map(|(_, bytes)| bytes);
        self.kept = self.size - self.results.iter().map(|result| &result.bytes).chain(orphans).sum::<u64>();
    }
}

/// A sweep that goes on: its mark, and the folders in `trash/` that are its own.
struct Sweep<'a> {
    store: &'a Store,
    name: String,
    mark: PathBuf,
    bins: Vec<PathBuf>,
}

impl<'a> Sweep<'a> {
    fn begin(store: &'a Store) -> Result<Self> {
        let (name, mark) = (store.lease()?.name().to_string(), store.root.join(SWEEP));
        let trash = store.root.join("trash");
        make_folder(&trash)?;
        let new = store.temporary()?.join(SWEEP);
        write_new(&new, &name).and_then(|()| fs::rename(&new, &mark)).at("write", &mark)?;
        let mut sweep = Self { store, name, mark, bins: Vec::new() };
        // What earlier ones have left. By its new name an earlier one that only stood still cannot delete from it.
        for (number, left) in entries(&trash)?.into_iter().enumerate() {
            let bin = trash.join(format!("{}.{number}", sweep.name));
            fs::rename(left.path(), &bin).at("write", &bin)?;
            sweep.bins.push(bin);
        }
        let bin = trash.join(&sweep.name);
        for folder in [&bin, &bin.join("actions"), &bin.join("objects")] {
            make_folder(folder)?;
        }
        sweep.bins.insert(0, bin);
        Ok(sweep)
    }

    /// Whether nobody has lost patience.
    fn is_on(&self) -> bool {
        who(&self.mark).is_ok_and(|who| who.as_ref() == Some(&self.name))
    }

    /// Moves what goes to the trash: records first, so that none ever names an object that is gone.
    fn fill(&self, going: &Survey) -> Result<()> {
        let keys = going.results.iter().map(|result| (self.store.action(&result.key), result.key, "actions"));
        let freed = going.results.iter().flat_map(|result| &result.objects).chain(going.orphans.iter().map(|(o, _)| o));
        let objects = freed.map(|object| (self.store.path(object), *object, "objects"));
        for (path, digest, kind) in keys.chain(objects) {
            if !self.is_on() {
                return Err(StoreError::Overtaken);
            }
            match fs::rename(&path, self.bins[0].join(kind).join(digest.to_string())) {
                Err(error) if !file::is_absent(&error) => return Err(error).at("remove", &path),
                _ => {}
            }
        }
        Ok(())
    }

    /// Finds once more what is needed, and takes it out of the trash. Returns it, and all results that stay.
    fn look_again(&self, policy: &Policy) -> Result<(Needed, BTreeMap<Digest, Action>)> {
        let needed = Needed::find(self.store, policy)?;
        let mut actions = self.store.actions()?;
        for bin in &self.bins {
            for (key, path) in contents(&bin.join("actions"))? {
                let action = Action::read(&path)?;
                if needed.keeps(&key, &action) {
                    actions.entry(key).or_insert(action);
                }
            }
        }
        let mut objects = needed.objects.clone();
        objects.extend(actions.values().flat_map(|action| &action.objects));
        self.restore(|key, action| needed.keeps(key, action), |object| objects.contains(object))?;
        if self.is_on() { Ok((needed, actions)) } else { Err(StoreError::Overtaken) }
    }

    /// What lies in the trash of this sweep: keys, and objects with their lengths.
    fn taken(&self) -> Result<(BTreeSet<Digest>, BTreeMap<Digest, u64>)> {
        let keys = contents(&self.bins[0].join("actions"))?.into_iter().map(|(key, _)| key).collect();
        let length = |path: &Path| fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
        let objects = contents(&self.bins[0].join("objects"))?;
        Ok((keys, objects.into_iter().map(|(object, path)| (object, length(&path))).collect()))
    }

    /// Takes things out of the trash: objects first.
    fn restore(&self, is_key: impl Fn(&Digest, &Action) -> bool, is_object: impl Fn(&Digest) -> bool) -> Result<()> {
        for bin in &self.bins {
            for (object, path) in contents(&bin.join("objects"))? {
                let place = self.store.path(&object);
                if is_object(&object) && fs::symlink_metadata(&place).is_err() {
                    fs::rename(&path, &place).at("write", &place)?;
                }
            }
        }
        for bin in &self.bins {
            for (key, path) in contents(&bin.join("actions"))? {
                if is_key(&key, &Action::read(&path)?) {
                    // If it was made again meanwhile, that one stays.
                    rename_new(&path, &self.store.action(&key))?;
                }
            }
        }
        Ok(())
    }

    /// The sweep is over: others go on. Only then the trash is deleted, which takes longer.
    fn end(self) -> Result<()> {
        let bins = self.bins.clone();
        drop(self);
        for bin in &bins {
            match fs::remove_dir_all(bin) {
                Err(error) if !file::is_absent(&error) => return Err(error).at("remove", bin),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        // If it cannot be told now, those who find the mark tell.
        let _ = self.store.end_sweep(&self.name);
    }
}

/// What lies in a folder of the trash.
fn contents(folder: &Path) -> Result<Vec<(Digest, PathBuf)>> {
    let named = |entry: fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
    Ok(entries(folder)?.into_iter().filter_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cache, is_there, last_run, policy};
    use super::*;

    #[test]
    fn what_is_put_back_does_not_count_as_freed() {
        let (_folder, store, keys) = cache(&[(1, "one"), (2, "two"), (3, "two")]);
        let mut going = store.survey(&policy()).unwrap();
        assert_eq!((going.results.len(), going.kept_results, going.bytes()), (3, 0, 6));
        let sweep = Sweep::begin(&store).unwrap();
        sweep.fill(&going).unwrap();
        // Written by a process that did not see the mark in time.
        last_run(&store, &keys[..2]);
        let (_, actions) = sweep.look_again(&policy()).unwrap();
        assert!(actions.keys().eq([keys[0].min(keys[1]), keys[0].max(keys[1])].iter()));
        let (taken, objects) = sweep.taken().unwrap();
        going.keep_to(&taken, &objects);
        sweep.end().unwrap();
        assert_eq!(going.results.iter().map(|result| result.key).collect::<Vec<_>>(), [keys[2]]);
        assert_eq!((going.kept_results, going.kept, going.bytes()), (2, 6, 0), "its object is that of another");
        assert!(is_there(&store, &keys[0]) && is_there(&store, &keys[1]) && !is_there(&store, &keys[2]));
    }
}
