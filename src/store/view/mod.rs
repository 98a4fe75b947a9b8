//! The `out/` view: results where a person looks for them.
//!
//! Every output file appears by reflink, else as a link to its read-only object, else as a copy; never as a hard link,
//! through which an editor would change the object. A marker file remembers what was put there, so that nothing else is
//! ever removed, and a second look costs one small read and a stat per file.

mod clean;
#[cfg(test)]
mod tests;

pub use clean::{Cleaned, clean, hide};

use super::error::{At, Result, StoreError};
use super::file::{is_absent, make_read_only, read_if_there};
use super::stat::Stat;
use super::{Facts, Store};
use crate::key::Digest;
use crate::record::{FileEntry, Record};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

/// Name of the marker file.
const MARKER: &str = ".titer";

/// A way of showing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A file of its own that shares the object's blocks until it is written.
    Clone,
    /// A symbolic link.
    Link,
    /// A file of its own.
    Copy,
}

/// What was put into a folder.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Marker {
    /// Files by path.
    files: BTreeMap<String, Shown>,
}

/// How a file is shown.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shown {
    /// By a link, where it points to says all; or it is being made.
    #[serde(alias = "unsure")]
    Link,
    /// By a file of its own, which looked so when it was made.
    File(Digest, Stat),
}

/// Shows the outputs of a record in the folder `out`: puts right what is missing or altered, removes what an older
/// result left, touches nothing if all is as it should be. Returns whether anything was changed.
///
/// # Errors
/// Something that titer did not put there stands in the way; an object is missing; the folder cannot be written.
pub fn show(store: &Store, out: &Path, record: &Record) -> Result<bool> {
    show_by(&[Way::Clone, Way::Link, Way::Copy], store, out, record)
}

/// Adds to `facts` what [`show`] looks at when it has nothing to do.
pub fn watch(out: &Path, record: &Record, facts: &mut Facts) {
    facts.saw(out);
    for file in record.outputs.iter().flat_map(|output| &output.files) {
        let full = out.join(&file.path);
        for folder in full.ancestors().skip(1).take_while(|folder| *folder != out) {
            facts.saw(folder);
        }
        // A link cannot change but by another in its place, which shows in the folder.
        if fs::symlink_metadata(&full).is_ok_and(|found| !found.is_symlink()) {
            facts.saw(full);
        }
    }
    // Folders without a file.
    record.outputs.iter().filter(|output| output.is_folder()).for_each(|output| facts.saw(out.join(&output.path)));
}

fn show_by(ways: &[Way], store: &Store, out: &Path, record: &Record) -> Result<bool> {
    make_way(out, out)?;
    fs::create_dir_all(out).at("create", out)?;
    let out = &fs::canonicalize(out).at("open", out)?;
    // Another process may show the same result.
    let _lock = lock_folder(store, out);
    let marker_path = out.join(MARKER);
    // A marker that cannot be read knows nothing: what it listed is then left alone.
    let marker = read_if_there(&marker_path)?;
    let mut marker: Marker = marker.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();

    let files: BTreeMap<&str, &FileEntry> =
        record.outputs.iter().flat_map(|output| &output.files).map(|file| (file.path.as_str(), file)).collect();
    let folders: Vec<PathBuf> =
        record.outputs.iter().filter(|output| output.is_folder()).map(|output| out.join(&output.path)).collect();
    let wrong: Vec<&FileEntry> =
        files.values().copied().filter(|file| !is_right(store, out, file, marker.files.get(&file.path))).collect();
    let gone: Vec<String> = marker.files.keys().filter(|path| !files.contains_key(path.as_str())).cloned().collect();
    if wrong.is_empty() && gone.is_empty() && folders.iter().all(|folder| folder.is_dir()) {
        return Ok(false);
    }

    for file in &wrong {
        check(store, out, file, marker.files.contains_key(&file.path))?;
    }
    // The marker goes first, with all that is about to be here: after a kill these files are known to be titer's.
    marker.files.extend(wrong.iter().map(|file| (file.path.clone(), Shown::Link)));
    write_marker(&marker_path, &marker)?;
    let mut is_written = gone.is_empty();
    for path in gone {
        remove(&out.join(&path))?;
        remove_empty_folders(out, &path);
        marker.files.remove(&path);
    }
    for folder in folders {
        make_way(out, &folder)?;
        fs::create_dir_all(&folder).at("create", &folder)?;
    }
    for file in wrong {
        let shown = make(ways, store, out, file)?;
        is_written &= shown == Shown::Link;
        marker.files.insert(file.path.clone(), shown);
    }
    if !is_written {
        write_marker(&marker_path, &marker)?;
    }
    Ok(true)
}

/// Keeps other processes from showing something in the folder at this moment. Where folders cannot be locked, luck must
/// do.
fn lock_folder(store: &Store, out: &Path) -> Option<File> {
    let folder = File::open(out).ok().filter(|_| store.settings.locks)?;
    folder.lock().ok()?;
    Some(folder)
}

/// Whether the file is there as it was put there.
fn is_right(store: &Store, out: &Path, file: &FileEntry, shown: Option<&Shown>) -> bool {
    let full = out.join(&file.path);
    match shown {
        Some(Shown::Link) => fs::read_link(full).is_ok_and(|target| target == link_target(store, out, file)),
        Some(Shown::File(digest, stat)) => {
            *digest == file.digest && fs::symlink_metadata(full).is_ok_and(|found| Stat::of(&found) == *stat)
        }
        None => false,
    }
}

/// Looks for what would keep a file from being made, before anything is touched.
fn check(store: &Store, out: &Path, file: &FileEntry, is_listed: bool) -> Result<()> {
    if !store.has(&file.digest, file.size) {
        return Err(StoreError::MissingObject { digest: file.digest, file: file.path.clone() });
    }
    let full = out.join(&file.path);
    make_way(out, full.parent().unwrap_or(out))?;
    if is_listed || may_replace(store, &full)? { Ok(()) } else { Err(StoreError::Foreign(full)) }
}

/// Makes one file of the view, in the first way that the file system can go.
fn make(ways: &[Way], store: &Store, out: &Path, file: &FileEntry) -> Result<Shown> {
    let (full, object) = (out.join(&file.path), store.path(&file.digest));
    remove(&full)?;
    if let Some(folder) = full.parent() {
        fs::create_dir_all(folder).at("create", folder)?;
    }
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for way in ways {
        let made = match way {
            Way::Clone => File::create_new(&full).and_then(|made| clone(&made, &object).map(|()| Some(made))),
            Way::Link => symlink(link_target(store, out, file), &full).map(|()| None),
            Way::Copy => File::create_new(&full).and_then(|mut made| {
                io::copy(&mut File::open(&object)?, &mut made)?;
                Ok(Some(made))
            }),
        };
        match made {
            Ok(None) => return Ok(Shown::Link),
            Ok(Some(made)) => {
                make_read_only(&made).at("write", &full)?;
                return Ok(Shown::File(file.digest, Stat::of(&made.metadata().at("read", &full)?)));
            }
            Err(error) => {
                refused = error;
                remove(&full)?;
            }
        }
    }
    Err(refused).at("write", &full)
}

/// Lets `made` share the blocks of the object, where the file system can do so.
#[cfg(target_os = "linux")]
fn clone(made: &File, object: &Path) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(made, File::open(object)?)?)
}

/// Elsewhere a link will do.
#[cfg(not(target_os = "linux"))]
fn clone(_made: &File, _object: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The object as seen from the folder of the link, so that a project can be moved as a whole. `out` is resolved.
fn link_target(store: &Store, out: &Path, file: &FileEntry) -> PathBuf {
    let (from, to) = (out.join(&file.path), store.path(&file.digest));
    let from: Vec<Component<'_>> = from.parent().unwrap_or(out).components().collect();
    let to: Vec<Component<'_>> = to.components().collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[common..].iter().map(|_| Component::ParentDir);
    up.chain(to[common..].iter().copied()).collect()
}

/// Makes sure that nothing but folders stands at `folder` and above it, up to `out`: a link or a file there is a
/// person's.
fn make_way(out: &Path, folder: &Path) -> Result<()> {
    for part in folder.ancestors().take_while(|part| part.starts_with(out)) {
        match fs::symlink_metadata(part) {
            Ok(metadata) if !metadata.is_dir() => return Err(StoreError::Foreign(part.to_path_buf())),
            _ => {}
        }
    }
    Ok(())
}

/// Whether what stands at a path that no marker lists may go: nothing, or a link to an object.
fn may_replace(store: &Store, path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if is_absent(&error) => Ok(true),
        Err(error) => Err(error).at("read", path),
        Ok(metadata) => Ok(metadata.is_symlink()
            && fs::canonicalize(path).is_ok_and(|target| target.starts_with(store.root().join("objects")))),
    }
}

/// Removes a file or link, if it is there. A folder in its place is a person's.
fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if is_absent(&error) => Ok(()),
        Ok(metadata) if metadata.is_dir() => Err(StoreError::Foreign(path.to_path_buf())),
        _ => fs::remove_file(path).at("remove", path),
    }
}

/// Removes the folders in `out` that the file `path` was the last one in.
fn remove_empty_folders(out: &Path, path: &str) {
    for folder in Path::new(path).ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
        if fs::remove_dir(out.join(folder)).is_err() {
            return;
        }
    }
}

/// The new marker has one name on its way, so that what a kill leaves of it is overwritten the next time.
fn write_marker(path: &Path, marker: &Marker) -> Result<()> {
    let new = path.with_extension("new");
    let text = serde_json::to_vec(marker).map_err(io::Error::other).at("write", path)?;
    loop {
        match fs::write(&new, &text).and_then(|()| fs::rename(&new, path)) {
            // Without locks, another process has just put its own in place by that name.
            Err(error) if is_absent(&error) && path.exists() => {}
            written => return written.at("write", path),
        }
    }
}
