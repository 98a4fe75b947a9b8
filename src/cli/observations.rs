//! What came out when a result was made again.

use super::out::count;
use crate::key::Digest;
use crate::record::{Record, RunInfo, moment};
use crate::store::Store;
use serde::Serialize;

/// One further run of a key.
#[derive(Serialize)]
pub(super) struct Observation {
    /// Names of the outputs whose bytes are not those of the first run.
    pub(super) differing: Vec<String>,
    run: RunInfo,
}

impl Observation {
    /// All of a key, the oldest first.
    pub(super) fn of(store: &Store, key: &Digest) -> anyhow::Result<Vec<Self>> {
        let observed = store.observations(key)?;
        let Some(canonical) = (if observed.is_empty() { None } else { store.get(key)? }) else { return Ok(Vec::new()) };
        let judge = |record: Record| Self { differing: record.differing(&canonical), run: record.run };
        Ok(observed.into_iter().map(judge).collect())
    }

    /// When, where, and what came out.
    pub(super) fn describe(&self) -> String {
        let RunInfo { started, machine, device, .. } = &self.run;
        let found = match self.differing.is_empty() {
            true => "the same bytes".to_string(),
            false => format!("differs in {}", self.differing.join(", ")),
        };
        format!("{} on {} ({device}): {found}", moment(started), machine.host)
    }
}

/// `3 times: 2 the same bytes, 1 differs in metrics`
pub(super) fn words(found: &[Observation]) -> String {
    let differing: Vec<&Observation> = found.iter().filter(|one| !one.differing.is_empty()).collect();
    let mut names: Vec<&str> = differing.iter().flat_map(|one| &one.differing).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let differ = if differing.len() == 1 { "differs" } else { "differ" };
    let parts = [
        (found.len() - differing.len(), "the same bytes".to_string()),
        (differing.len(), format!("{differ} in {}", names.join(", "))),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, words)| format!("{number} {words}")).collect();
    format!("{}: {}", count(found.len(), "time"), parts.join(", "))
}
