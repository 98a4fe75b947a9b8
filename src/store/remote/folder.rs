//! A shared cache in a folder, mostly one of a network file system.
//!
//! The standard library does it, not `object_store`: files must be on the disk before the record that names them, other
//! people of the group must be able to read them, and a build without `s3` must be able to share too. There are no locks;
//! a file is written under another name and gets its own by a rename, or by a link where it must not replace one.

use super::super::file::is_absent;
use super::backend::{Backend, Reached, Unreachable};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;
use tempfile::NamedTempFile;

/// Where files are written until they are complete.
const INCOMING: &str = "incoming";
/// What lies there longer was left by a process that was killed.
const FORGOTTEN: Duration = Duration::from_secs(3 * 24 * 3600);
/// Bytes that are moved at once.
const BUFFER: usize = 256 * 1024;

/// A folder that exists; titer makes none where a mount is missing.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    swept: Once,
}

impl Folder {
    pub(super) fn open(root: &Path) -> Reached<Self> {
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => Ok(Self { root: root.to_path_buf(), swept: Once::new() }),
            Ok(_) => Err(Unreachable("it is a file; a folder is needed".to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Unreachable(
                "there is no such folder; mount it, or make it once (titer makes none where a mount is missing)"
                    .to_string(),
            )),
            Err(error) => Err(Unreachable(error.to_string())),
        }
    }

    fn full(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A new file that will be moved to its place.
    fn incoming(&self) -> io::Result<NamedTempFile> {
        let folder = self.root.join(INCOMING);
        fs::create_dir_all(&folder)?;
        // The mode that other files of the person get: what is shared must be readable for those who share it.
        let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(&folder)?;
        self.swept.call_once(|| sweep(&folder, file.as_file()));
        Ok(file)
    }

    /// Writes all of `from` to a new file, makes it read-only and waits until it is on the disk.
    fn receive(&self, from: &mut dyn Read) -> io::Result<NamedTempFile> {
        let mut file = self.incoming()?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => file.write_all(&buffer[..n])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mode = file.as_file().metadata()?.permissions().mode();
        file.as_file().set_permissions(Permissions::from_mode(mode & 0o444))?;
        file.as_file().sync_all()?;
        Ok(file)
    }
}

impl Backend for Folder {
    fn size(&self, path: &str) -> Reached<Option<u64>> {
        let full = self.full(path);
        match fs::metadata(&full) {
            Ok(metadata) => Ok(Some(metadata.len()).filter(|_| metadata.is_file())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(unreachable("read", &full, &error)),
        }
    }

    fn read(&self, path: &str, to: &mut dyn Write) -> Reached<bool> {
        // What is no file might never come to an end.
        if self.size(path)?.is_none() {
            return Ok(false);
        }
        let full = self.full(path);
        let mut file = match File::open(&full) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(unreachable("read", &full, &error)),
        };
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(true),
                // Whoever refuses a piece knows why.
                Ok(n) if to.write_all(&buffer[..n]).is_err() => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreachable("read", &full, &error)),
            }
        }
    }

    fn write(&self, path: &str, from: &mut dyn Read, _size: u64) -> Reached<()> {
        let full = self.full(path);
        let mut write = || -> io::Result<()> {
            let file = self.receive(from)?;
            let folder = made_parent(&full)?;
            file.persist(&full).map_err(|error| error.error)?;
            sync(folder)
        };
        write().map_err(|error| unreachable("write", &full, &error))
    }

    fn create(&self, path: &str, mut content: &[u8]) -> Reached<bool> {
        let full = self.full(path);
        let mut create = || -> io::Result<bool> {
            let file = self.receive(&mut content)?;
            let folder = made_parent(&full)?;
            match file.persist_noclobber(&full) {
                Ok(_) => sync(folder).map(|()| true),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error.error),
            }
        };
        create().map_err(|error| unreachable("write", &full, &error))
    }
}

fn made_parent(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    Ok(folder)
}

/// Waits until the names in a folder are on the disk; some network file systems cannot say.
fn sync(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Removes what killed processes left, by the clock of the file system that `fresh` was just made on.
fn sweep(incoming: &Path, fresh: &File) {
    let time = |metadata: io::Result<fs::Metadata>| metadata.and_then(|metadata| metadata.modified());
    let (Ok(now), Ok(entries)) = (time(fresh.metadata()), fs::read_dir(incoming)) else { return };
    for entry in entries.flatten() {
        let age = time(entry.metadata()).ok().and_then(|made| now.duration_since(made).ok());
        if age.is_some_and(|age| age > FORGOTTEN) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn unreachable(doing: &str, path: &Path, error: &io::Error) -> Unreachable {
    Unreachable(format!("cannot {doing} `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        (dir, folder)
    }

    fn content(folder: &Folder, path: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        folder.read(path, &mut bytes).unwrap().then_some(bytes)
    }

    #[test]
    fn a_file_is_created_once_and_written_over() {
        let (dir, folder) = folder();
        assert_eq!((folder.size("a/b").unwrap(), content(&folder, "a/b")), (None, None));
        assert!(folder.create("a/b", b"one").unwrap());
        assert!(!folder.create("a/b", b"two").unwrap());
        assert_eq!(content(&folder, "a/b").unwrap(), b"one");
        folder.write("a/b", &mut &b"three"[..], 5).unwrap();
        assert_eq!((folder.size("a/b").unwrap(), content(&folder, "a/b")), (Some(5), Some(b"three".to_vec())));
        let mode = fs::metadata(dir.path().join("a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o222, 0, "read-only");
        assert_eq!(fs::read_dir(dir.path().join(INCOMING)).unwrap().count(), 0);
    }

    #[test]
    fn a_source_that_fails_leaves_nothing() {
        struct Broken(bool);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) { Err(io::Error::other("gone")) } else { Ok(buffer.len()) }
            }
        }
        let (dir, folder) = folder();
        let error = folder.write("a", &mut Broken(false), 9).unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("gone"), "{error}");
        assert_eq!(folder.size("a").unwrap(), None);
        assert_eq!(fs::read_dir(dir.path().join(INCOMING)).unwrap().count(), 0);
    }

    #[test]
    fn what_killed_processes_left_is_removed_when_it_is_old() {
        let (dir, folder) = folder();
        fs::create_dir(dir.path().join(INCOMING)).unwrap();
        let left = |name: &str, age: Duration| {
            let path = dir.path().join(INCOMING).join(name);
            File::create(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
            path
        };
        let (old, new) = (left("old", FORGOTTEN * 2), left("new", Duration::from_secs(60)));
        folder.create("a", b"").unwrap();
        assert!(!old.exists() && new.exists());
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("mount");
        assert!(Folder::open(&missing).unwrap_err().to_string().contains("no such folder"));
        assert!(!missing.exists());
        fs::write(&missing, "").unwrap();
        assert!(Folder::open(&missing).unwrap_err().to_string().contains("it is a file"));
    }
}
