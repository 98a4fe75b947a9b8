//! Pins: results that a person wants to keep, whatever happens to the runs that made them.

use super::error::{At, Result, StoreError};
use super::{Store, file, make_folder};
use crate::key::Digest;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::PathBuf;

/// A result that never goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pin {
    /// The pipeline that it belongs to.
    pub pipeline: String,
    /// What it was called there when it was pinned.
    pub instance: String,
    /// Its key.
    pub key: Digest,
    /// The pinned instance that it was made into, if it was pinned for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// When it was pinned, RFC 3339 in UTC.
    pub at: String,
    /// Why, in the person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Store {
    /// All pins, by pipeline and instance.
    ///
    /// # Errors
    /// If one cannot be read: what it keeps would go.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let mut pins = Vec::new();
        for entry in file::entries(&self.root.join("pins"))? {
            let path = entry.path();
            let Some(bytes) = file::read_if_there(&path)? else { continue };
            let damaged = |error: serde_json::Error| StoreError::BadPin { path, reason: error.to_string() };
            pins.push(serde_json::from_slice(&bytes).map_err(damaged)?);
        }
        pins.sort();
        Ok(pins)
    }

    /// Keeps a result. One that is pinned already gets the new note.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn pin(&self, pin: &Pin) -> Result<()> {
        self.must_be_writable()?;
        // No collector takes it away while it is being pinned.
        self.rely_on([pin.key])?;
        make_folder(&self.root.join("pins"))?;
        let path = self.pin_path(pin);
        let mut text = serde_json::to_vec_pretty(pin).map_err(io::Error::other).at("write", &path)?;
        text.push(b'\n');
        file::replace(&path, &text, &self.temporary()?)
    }

    /// Lets go of a result.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn unpin(&self, pin: &Pin) -> Result<()> {
        self.must_be_writable()?;
        let path = self.pin_path(pin);
        match fs::remove_file(&path) {
            Err(error) if !file::is_absent(&error) => Err(error).at("remove", &path),
            _ => Ok(()),
        }
    }

    /// One file for each name of a result: two instances may share one.
    fn pin_path(&self, pin: &Pin) -> PathBuf {
        let of = pin.of.as_deref().unwrap_or_default();
        let name = Digest::of(format!("{}\n{}\n{}\n{of}", pin.pipeline, pin.instance, pin.key).as_bytes());
        self.root.join("pins").join(format!("{}.json", name.short()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{document, store};
    use super::*;

    #[test]
    fn pins_come_and_go_by_name_and_key() {
        let (_folder, store) = store();
        assert_eq!(store.pins().unwrap(), []);
        let pin = |instance: &str, note: Option<&str>| Pin {
            pipeline: "p".into(),
            instance: instance.into(),
            key: document(1).key(),
            of: None,
            at: "2026-01-02T03:04:05Z".into(),
            note: note.map(String::from),
        };
        for one in [pin("mix.b", None), pin("mix.a", None), pin("mix.a", Some("for the paper"))] {
            store.pin(&one).unwrap();
        }
        assert_eq!(store.pins().unwrap(), [pin("mix.a", Some("for the paper")), pin("mix.b", None)]);
        store.unpin(&pin("mix.a", None)).unwrap();
        store.unpin(&pin("mix.a", None)).unwrap();
        assert_eq!(store.pins().unwrap(), [pin("mix.b", None)]);
    }

    #[test]
    fn a_damaged_pin_is_an_error_that_names_it() {
        let (_folder, store) = store();
        fs::create_dir(store.root().join("pins")).unwrap();
        fs::write(store.root().join("pins/x.json"), "{").unwrap();
        let error = store.pins().unwrap_err().to_string();
        assert!(error.contains("pins/x.json` cannot be read") && error.contains("pin again"), "{error}");
    }
}
