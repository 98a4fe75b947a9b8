//! What a place for files must be able to do to hold a shared cache. It knows names and bytes; neither digests nor records.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// The place did not do what was asked, for a reason that concerns more than one file: it cannot be reached, or lets
/// nobody in. The message holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreachable(pub(super) String);

/// A result of a place.
pub(super) type Reached<T> = Result<T, Unreachable>;

/// A place for files, named by paths with `/`. Safe to use from many threads.
pub(super) trait Backend: Debug + Send + Sync {
    /// The length of a file; none if it is not there.
    fn size(&self, path: &str) -> Reached<Option<u64>>;

    /// Passes the bytes of a file to `to`, piece by piece, and stops where that refuses one. `false`: there is no such file.
    fn read(&self, path: &str, to: &mut dyn Write) -> Reached<bool>;

    /// Makes a file of `size` bytes, in the place of one that may be there; it appears when it is complete. Nothing
    /// appears if `from` fails at its end.
    fn write(&self, path: &str, from: &mut dyn Read, size: u64) -> Reached<()>;

    /// Makes a file if there is none of that name. `false`: there is one.
    fn create(&self, path: &str, content: &[u8]) -> Reached<bool>;
}

/// Whether transfers are to end early. Set once.
#[derive(Debug, Default)]
pub(super) struct Stop(AtomicBool);

impl Stop {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
