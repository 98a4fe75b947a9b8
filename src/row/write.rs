//! Rows to JSONL files.

use super::Row;
use anyhow::Context as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes rows: one compact JSON object per line.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Writer {
    /// Creates the file, over one that is there.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("creating `{}`", path.display()))?;
        Ok(Self { path: path.to_path_buf(), out: BufWriter::new(file) })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// If the disk is full, and the like.
    pub fn write(&mut self, row: &Row) -> anyhow::Result<()> {
        self.write_line(&serde_json::to_string(row)?)
    }

    /// Writes a row that is JSON already, without its line end.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_line(&mut self, line: &str) -> anyhow::Result<()> {
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        written.with_context(|| format!("writing `{}`", self.path.display()))
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush().with_context(|| format!("writing `{}`", self.path.display()))
    }
}
