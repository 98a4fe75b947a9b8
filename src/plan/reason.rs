//! Why an instance would run.

use crate::journal::Times;
use crate::key::{Change, Digest, KeyDocument, difference};
use crate::record::Record;
use crate::store::Store;
use serde_json::{Value as Json, json};
use std::cell::OnceCell;
use std::fmt;

/// Why an instance would run.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// It has never run in this pipeline, under this name.
    New,
    /// What it is made of differs from the last time.
    Changed(Vec<Change>),
    /// The person asked for it.
    Forced,
    /// The same work was begun before, and failed or was stopped.
    Unfinished,
    /// It was made before, but (some of) its outputs are gone from the cache.
    Lost,
    /// It was made before, and a `gc` (or a person's hand) has taken the result out of the cache.
    Freed,
    /// It was made before of something else, and that is gone: what differs cannot be told any more.
    Forgotten,
}

impl Reason {
    /// Its name for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed(_) => "changed",
            Self::Forced => "forced",
            Self::Unfinished => "unfinished",
            Self::Lost => "lost",
            Self::Freed => "freed",
            Self::Forgotten => "forgotten",
        }
    }

    /// `{"kind": "changed", "changes": […], "message": "n: 80 → 100"}`
    pub fn to_json(&self) -> Json {
        let mut json = json!({ "kind": self.kind(), "message": self.to_string() });
        if let Self::Changed(changes) = self {
            json["changes"] = json!(changes);
        }
        json
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::Forced => f.write_str("forced"),
            Self::Unfinished => f.write_str("failed or was stopped the last time"),
            Self::Lost => f.write_str("its outputs are gone from the cache"),
            Self::Freed => f.write_str("its result was freed from the cache"),
            Self::Forgotten => {
                f.write_str("its last result was freed from the cache, and with it what that was made of")
            }
            Self::Changed(changes) => {
                let shown: Vec<String> = changes.iter().take(3).map(ToString::to_string).collect();
                let more = changes.len().saturating_sub(3);
                write!(f, "{}", shown.join(", "))?;
                if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
        }
    }
}

/// What a plan knows of work that is not in the cache any more; read when it is asked for first.
pub(super) struct Past<'a> {
    store: &'a Store,
    pipeline: &'a str,
    times: OnceCell<Times>,
}

impl<'a> Past<'a> {
    pub(super) fn new(store: &'a Store, pipeline: &'a str) -> Self {
        Self { store, pipeline, times: OnceCell::new() }
    }

    /// Why an instance runs whose key, if it is known, is not in the cache with all its outputs. `has_record`: with some.
    /// `last` is the record of its last run.
    pub(super) fn reason(
        &self,
        instance: &str,
        key: Option<&Digest>,
        document: Option<&KeyDocument>,
        has_record: bool,
        last: Option<&Record>,
    ) -> Reason {
        if has_record {
            return Reason::Lost;
        }
        let times = self.times.get_or_init(|| self.store.times(self.pipeline).unwrap_or_default());
        let made = times.instances.get(instance).map(|past| past.key);
        if made.is_some() && made.as_ref() == key {
            return Reason::Freed;
        }
        // The last run may have failed; the one before it tells of what was made.
        let known = |key: Digest| self.store.document(&key).ok().flatten();
        let before = last.map(|record| record.key).and_then(known).or_else(|| made.and_then(known));
        match (before, document) {
            (Some(before), Some(document)) => Reason::Changed(difference(&before, document)),
            _ if key.is_some_and(|key| self.store.log_path(key).exists()) => Reason::Unfinished,
            _ if made.is_some() || last.is_some() => Reason::Forgotten,
            _ => Reason::New,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal;
    use serde_json::json;

    #[test]
    fn a_reason_is_an_object_for_programs() {
        let change = Change::Setting { path: "n".into(), old: Some(json!(80)), new: Some(json!(100)) };
        let reason = Reason::Changed(vec![change.clone()]);
        assert_eq!(
            reason.to_json(),
            json!({ "kind": "changed", "message": "n: 80 → 100", "changes": [serde_json::to_value(change).unwrap()] })
        );
        assert_eq!(Reason::New.to_json(), json!({ "kind": "new", "message": "new" }));
    }

    #[test]
    fn what_was_made_and_is_gone_is_not_called_unfinished() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let document = KeyDocument::new("mix", 1, json!({}), vec![]);
        let key = document.key();
        let reason = |name: &str| Past::new(&store, "p").reason(name, Some(&key), Some(&document), false, None);
        assert_eq!(reason("mix.a"), Reason::New);
        std::fs::write(store.log_path(&key), "").unwrap();
        assert_eq!(reason("mix.a"), Reason::Unfinished);
        let past = |key| journal::Past { key, seconds: 1.0, gpus: 0, bytes: 1, command: false };
        let mut times = Times::default();
        times.learn("mix.a", past(key));
        times.learn("mix.b", past(Digest::of(b"of something else")));
        store.set_times("p", &times).unwrap();
        assert_eq!(reason("mix.a"), Reason::Freed);
        std::fs::remove_file(store.log_path(&key)).unwrap();
        assert_eq!((reason("mix.b"), reason("mix.c")), (Reason::Forgotten, Reason::New));
    }
}
