//! What work has cost: kept apart from results, so that a plan knows it when those are long gone.

use crate::key::Digest;
use crate::record::{Record, read_format};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of this form.
const FORMAT: u32 = 1;

/// What the instances of a pipeline have cost, each the last time that it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Version of this form.
    pub format: u32,
    /// By the instances' names.
    pub instances: BTreeMap<String, Past>,
}

/// One piece of work that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Its key. That it stands here proves that it was made, whether or not the cache still has it.
    pub key: Digest,
    /// Wall time.
    pub seconds: f64,
    /// Graphics cards that it had.
    #[serde(default, skip_serializing_if = "is_none")]
    pub gpus: u32,
    /// What its outputs take on the disk.
    pub bytes: u64,
    /// Whether another program did it, which may take any time beside titer's own work of the same kind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub command: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(number: &u32) -> bool {
    *number == 0
}

impl Default for Times {
    fn default() -> Self {
        Self { format: FORMAT, instances: BTreeMap::new() }
    }
}

impl Times {
    /// Reads the table; `Err` says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        read_format(bytes, FORMAT)
    }

    /// Adds what was made; returns whether that is new.
    pub fn learn(&mut self, instance: &str, past: Past) -> bool {
        let is_known = self.instances.get(instance).is_some_and(|known| known.key == past.key);
        if !is_known {
            self.instances.insert(instance.to_string(), past);
        }
        !is_known
    }
}

impl Past {
    /// What a record tells; none for what was imported, which cost nothing here.
    pub fn of(record: &Record, command: bool) -> Option<Self> {
        if record.run.imported.is_some() {
            return None;
        }
        let files = record.outputs.iter().flat_map(|output| &output.files);
        let sizes: BTreeMap<Digest, u64> = files.map(|file| (file.digest, file.size)).collect();
        Some(Self {
            key: record.key,
            seconds: record.run.wall_seconds,
            gpus: u32::try_from(record.run.gpus.len()).unwrap_or(u32::MAX),
            bytes: sizes.values().sum(),
            command,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_is_read_back_and_replaces_older_work_only() {
        let past = |key: &[u8], seconds| Past { key: Digest::of(key), seconds, gpus: 0, bytes: 5, command: true };
        let mut times = Times::default();
        assert!(times.learn("mix.a", past(b"1", 2.0)) && !times.learn("mix.a", past(b"1", 9.0)));
        assert!(times.learn("mix.a", past(b"2", 3.0)));
        let text = serde_json::to_vec(&times).unwrap();
        assert_eq!(Times::parse(&text), Ok(times));
        assert!(Times::parse(br#"{"format":9}"#).is_err());
    }
}
