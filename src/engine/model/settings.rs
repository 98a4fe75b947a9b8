//! Settings of a `config.json`, each read with care: a wrong one is an error that names it.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::path::Path;

/// Larger numbers are no width, count or length of a model.
const LARGEST: u64 = 1 << 24;

/// Reads a file of settings. Fails with the setting that is missing, odd or not supported.
pub(in crate::engine) fn read<T>(path: &Path, from_json: impl FnOnce(&Value) -> Result<T>) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let json = serde_json::from_str(&text).with_context(|| format!("`{}` is no JSON", path.display()))?;
    from_json(&json).with_context(|| format!("`{}` cannot be used", path.display()))
}

/// A `config.json`, or a table in it.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Settings<'a>(pub &'a Value);

impl<'a> Settings<'a> {
    /// A setting as it stands; `null` where it is missing.
    pub fn get(self, name: &str) -> &'a Value {
        &self.0[name]
    }

    /// Whether it is written, be it as `null`.
    pub fn has(self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// A whole number from 1 on. Of several names (old and new ones) the first that is there.
    pub fn number(self, names: &[&str]) -> Result<usize> {
        let name = self.named(names).with_context(|| format!("`{}` is missing", names[0]))?;
        let value = self.get(name);
        match value.as_u64().filter(|number| (1..=LARGEST).contains(number)).map(usize::try_from) {
            Some(Ok(number)) => Ok(number),
            _ => bail!("`{name}` is `{value}`: expected a whole number of 1 to {LARGEST}"),
        }
    }

    /// The same, or what stands for it where it is missing.
    pub fn number_or(self, names: &[&str], default: usize) -> Result<usize> {
        if self.named(names).is_none() { Ok(default) } else { self.number(names) }
    }

    /// The same, where it may be missing.
    pub fn optional_number(self, name: &str) -> Result<Option<usize>> {
        if self.get(name).is_null() { Ok(None) } else { self.number(&[name]).map(Some) }
    }

    /// A number, or what stands for it where it is missing.
    pub fn real_or(self, name: &str, default: f64) -> Result<f64> {
        Ok(self.optional_real(name)?.unwrap_or(default))
    }

    /// A number, where it may be missing.
    pub fn optional_real(self, name: &str) -> Result<Option<f64>> {
        match self.get(name) {
            Value::Null => Ok(None),
            value => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => bail!("`{name}` is `{value}`: expected a number"),
            },
        }
    }

    /// A number that has no default.
    pub fn real(self, name: &str) -> Result<f64> {
        self.optional_real(name)?.with_context(|| format!("`{name}` is missing"))
    }

    /// `true` or `false`, or what stands for it where it is missing.
    pub fn flag(self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            Value::Null => Ok(default),
            Value::Bool(flag) => Ok(*flag),
            value => bail!("`{name}` is `{value}`: expected `true` or `false`"),
        }
    }

    /// A text, where it may be missing.
    pub fn optional_text(self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            value => bail!("`{name}` is `{value}`: expected a text"),
        }
    }

    /// Fails where a setting is on that would make another model.
    pub fn refuse(self, name: &str) -> Result<()> {
        let value = self.get(name);
        let off = matches!(value, Value::Null | Value::Bool(false));
        ensure!(off, "`{name}` is `{value}`, which is not supported");
        Ok(())
    }

    fn named<'b>(self, names: &[&'b str]) -> Option<&'b str> {
        names.iter().copied().find(|name| !self.get(name).is_null())
    }
}
