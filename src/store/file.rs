//! The few things that the store does with single files and folders: hash, copy, sync, replace, list.

use super::error::{At, Result};
use crate::key::Digest;
use std::fs::{self, DirEntry, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Enough for BLAKE3 at full speed, little enough to be cheap for the many small files.
const BUFFER: usize = 64 * 1024;

/// Reads all of `from`, writes it to `to`, and returns the digest and the number of bytes.
pub(super) fn hash_copy(mut from: impl Read, mut to: impl Write) -> io::Result<(Digest, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finalize().into(), size)),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                to.write_all(&buffer[..n])?;
                size += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes all write permissions away.
pub(super) fn make_read_only(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o444))
}

/// Waits until the names in a folder are on the disk.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).at("write", path)
}

/// Puts `content` at `path` in one step: a reader, or the next run after a crash of this program, sees all of it or
/// what was there before. `temporary` is a folder on the same file system.
pub(super) fn replace(path: &Path, content: &[u8], temporary: &Path) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(temporary).at("write", path)?;
    file.write_all(content).at("write", path)?;
    file.persist(path).map_err(|error| error.error).at("write", path)?;
    Ok(())
}

/// Creates a new file and waits until its content is on the disk.
pub(super) fn write_synced(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = File::create_new(path).at("write", path)?;
    file.write_all(content).and_then(|()| file.sync_all()).at("write", path)
}

/// A file's bytes, or none if there is no such file.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error).at("read", path),
    }
}

/// The files and folders in a folder; none if it is not there.
pub(super) fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.at("read", folder)).collect(),
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(error) => Err(error).at("read", folder),
    }
}

/// Whether an error says that nothing is there.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A name as one part of a path: other characters than letters, digits, `-`, `_` and inner dots as `%` and hexadecimal
/// digits, so that different names stay different.
pub(super) fn path_part(name: &str) -> String {
    let mut part = String::new();
    for (i, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if i > 0 => part.push('.'),
            b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => part.push(char::from(byte)),
            other => part.push_str(&format!("%{other:02x}")),
        }
    }
    part
}
