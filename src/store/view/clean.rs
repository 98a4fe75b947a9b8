//! Taking results out of the view: what no current instance shows, and what is older than the manifest.
//!
//! Only what a marker lists goes, and of that only what is as titer put it there.

use super::{MARKER, Marker, Shown, is_absent, lock_folder, read_if_there};
use crate::key::Digest;
use crate::store::Store;
use crate::store::error::{At, Result};
use crate::store::file::hash_copy;
use crate::store::stat::Stat;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What was (or would be) taken out of a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cleaned {
    /// The folder, in the view.
    pub folder: PathBuf,
    /// Files that went.
    pub files: usize,
    /// Files that a person has changed: they stay.
    pub left: Vec<PathBuf>,
}

/// Takes out of the view `out` what lies in other folders than those in `keep` (relative to it); with `dry`, only says
/// what.
///
/// # Errors
/// If a folder cannot be read or a file not be removed.
pub fn clean(store: &Store, out: &Path, keep: &BTreeSet<PathBuf>, dry: bool) -> Result<Vec<Cleaned>> {
    let mut cleaned = Vec::new();
    for folder in shown_below(out)? {
        let relative = folder.strip_prefix(out).unwrap_or(&folder).to_path_buf();
        if !keep.contains(&relative) {
            let done = take_out(store, &folder, dry)?;
            cleaned.push(Cleaned { folder: relative, ..done });
            // The stage's folder, and the pipeline's.
            folder
                .ancestors()
                .skip(1)
                .take_while(|above| !dry && above.starts_with(out))
                .all(|above| fs::remove_dir(above).is_ok());
        }
    }
    Ok(cleaned)
}

/// Takes out what a folder of the view shows, unless it was put there since `begun`, or is the last copy of what the cache
/// has no more. Returns whether something went that the cache still has.
///
/// # Errors
/// As [`clean`].
pub fn hide(store: &Store, folder: &Path, begun: SystemTime) -> Result<bool> {
    let shown = fs::symlink_metadata(folder.join(MARKER)).and_then(|metadata| metadata.modified());
    if shown.is_ok_and(|shown| shown < begun) {
        let marker = read_marker(folder)?;
        let is_file = |shown: &Shown| matches!(shown, Shown::File(..));
        let is_kept = |name: &str, shown: &Shown| match shown {
            Shown::Link => folder.join(name).exists(),
            Shown::File(digest, _) => store.path(digest).exists(),
        };
        let (kept, gone): (Vec<_>, Vec<_>) = marker.files.iter().partition(|(name, shown)| is_kept(name, shown));
        if gone.iter().any(|(name, shown)| is_file(shown) && folder.join(name).exists()) {
            return Ok(false);
        }
        return Ok(take_out(store, folder, false)?.files > 0 && !kept.is_empty());
    }
    Ok(false)
}

fn read_marker(folder: &Path) -> Result<Marker> {
    let marker = read_if_there(&folder.join(MARKER))?;
    Ok(marker.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

/// The folders that have a marker, in order.
fn shown_below(out: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![out.to_path_buf()]);
    while let Some(folder) = open.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if is_absent(&error) => continue,
            entries => entries.at("read", &folder)?,
        };
        for entry in entries {
            let entry = entry.at("read", &folder)?;
            // Links are not followed: what is behind one is not in the view.
            if entry.file_type().at("read", &folder)?.is_dir() {
                open.push(entry.path());
            } else if entry.file_name() == MARKER {
                found.push(folder.clone());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn take_out(store: &Store, folder: &Path, dry: bool) -> Result<Cleaned> {
    let _lock = lock_folder(store, folder);
    let path = folder.join(MARKER);
    let marker = read_marker(folder)?;
    let mut cleaned = Cleaned::default();
    for (name, shown) in &marker.files {
        let file = folder.join(name);
        match fs::symlink_metadata(&file) {
            Err(_) => {}
            Ok(_) if !is_titers(&file, shown) => cleaned.left.push(file),
            Ok(_) => {
                if !dry {
                    fs::remove_file(&file).at("remove", &file)?;
                }
                cleaned.files += 1;
            }
        }
    }
    if !dry {
        // What a person changed is theirs from now on.
        for path in [path.with_extension("new"), path] {
            match fs::remove_file(&path) {
                Err(error) if !is_absent(&error) => return Err(error).at("remove", &path),
                _ => {}
            }
        }
        remove_empty(folder);
    }
    Ok(cleaned)
}

/// Whether a file of the view is as it was put there.
fn is_titers(path: &Path, shown: &Shown) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    match shown {
        // The object may be gone, or the project be in another place.
        Shown::Link => fs::read_link(path).is_ok_and(|target| {
            target.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<Digest>().is_ok())
        }),
        Shown::File(digest, stat) => {
            let has_bytes = || hash_copy(File::open(path)?, io::sink()).map(|(found, _)| found == *digest);
            metadata.is_file() && (Stat::of(&metadata) == *stat || has_bytes().unwrap_or(false))
        }
    }
}

/// Removes a folder if there are only empty folders in it, else those.
fn remove_empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{committed, store};
    use super::super::{Way, show, show_by};
    use super::*;
    use std::time::Duration;

    const LATER: Duration = Duration::from_secs(60);

    #[test]
    fn what_no_instance_shows_goes_and_the_rest_stays() {
        for way in [Way::Link, Way::Copy] {
            let (folder, store) = store();
            let record = committed(&store, "weights");
            let out = folder.path().join("out/p");
            for name in ["train.a/n=1", "train.a/n=2", "train.old"] {
                show_by(&[way], &store, &out.join(name), &record).unwrap();
            }
            fs::write(out.join("notes.txt"), "mine").unwrap();
            let keep = BTreeSet::from([PathBuf::from("train.a/n=1")]);
            let would = clean(&store, &out, &keep, true).unwrap();
            assert!(out.join("train.old/metrics.jsonl").exists(), "only said");
            let done = clean(&store, &out, &keep, false).unwrap();
            assert_eq!(done, would);
            let told: Vec<_> = done.iter().map(|one| (one.folder.to_str().unwrap(), one.files)).collect();
            assert_eq!(told, [("train.a/n=2", 3), ("train.old", 3)]);
            assert!(!out.join("train.old").exists() && !out.join("train.a/n=2").exists());
            assert!(out.join("notes.txt").exists() && out.join("train.a/n=1/metrics.jsonl").exists());
            assert_eq!(clean(&store, &out, &keep, false).unwrap(), []);
            assert_eq!(clean(&store, &out, &BTreeSet::new(), false).unwrap().len(), 1);
            assert!(!out.join("train.a").exists() && out.join("notes.txt").exists());
        }
    }

    #[test]
    fn what_a_person_put_in_its_place_stays() {
        let (folder, store) = store();
        let record = committed(&store, "weights");
        let out = folder.path().join("out/p");
        show(&store, &out.join("train.a"), &record).unwrap();
        let mine = out.join("train.a/metrics.jsonl");
        fs::remove_file(&mine).unwrap();
        fs::write(&mine, "mine").unwrap();
        let done = clean(&store, &out, &BTreeSet::new(), false).unwrap();
        assert_eq!((done[0].files, &done[0].left), (2, &vec![mine.clone()]));
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        assert_eq!(clean(&store, &out, &BTreeSet::new(), false).unwrap(), [], "it is theirs now");
    }

    #[test]
    fn links_to_objects_that_are_gone_and_moved_copies_go_too() {
        let (folder, store) = store();
        let record = committed(&store, "weights");
        let out = folder.path().join("out");
        show_by(&[Way::Link], &store, &out.join("links"), &record).unwrap();
        show_by(&[Way::Copy], &store, &out.join("copies"), &record).unwrap();
        fs::remove_dir_all(store.root().join("objects")).unwrap();
        let copy = out.join("copies/metrics.jsonl");
        let bytes = fs::read(&copy).unwrap();
        fs::remove_file(&copy).unwrap();
        fs::write(&copy, bytes).unwrap();
        let done = clean(&store, &out, &BTreeSet::new(), false).unwrap();
        assert_eq!(done.iter().map(|one| one.files).collect::<Vec<_>>(), [3, 3]);
        assert!(!out.exists() || fs::read_dir(&out).unwrap().next().is_none());
    }

    #[test]
    fn what_was_shown_since_is_not_hidden() {
        let (folder, store) = store();
        let record = committed(&store, "weights");
        let out = folder.path().join("out");
        assert!(!hide(&store, &out, SystemTime::now()).unwrap(), "nothing is there");
        show(&store, &out, &record).unwrap();
        assert!(!hide(&store, &out, SystemTime::now() - LATER).unwrap() && out.join("metrics.jsonl").exists());
        assert!(hide(&store, &out, SystemTime::now() + LATER).unwrap() && !out.exists());
    }

    #[test]
    fn the_last_copy_of_a_result_is_not_hidden() {
        let (folder, store) = store();
        let record = committed(&store, "weights");
        let later = SystemTime::now() + LATER;
        let [links, copies] = ["links", "copies"].map(|name| folder.path().join(name));
        show_by(&[Way::Link], &store, &links, &record).unwrap();
        show_by(&[Way::Copy], &store, &copies, &record).unwrap();
        fs::remove_dir_all(store.root().join("objects")).unwrap();
        assert!(!hide(&store, &copies, later).unwrap() && copies.join("metrics.jsonl").exists());
        assert!(!hide(&store, &links, later).unwrap(), "what went is not kept");
        assert!(!links.exists());
    }
}
