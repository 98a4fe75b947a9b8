//! What a process keeps from one job to the next: jobs that begin with the same need not make it twice.

use crate::key::Digest;
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// Something that was made, under the key of all that it was made of.
type Made = (Digest, Rc<dyn Any>);

/// What one job may find, and leave.
#[derive(Clone, Default)]
pub struct Kept {
    /// The key of what the job shares with others, if it does.
    key: Option<Digest>,
    last: Rc<RefCell<Option<Made>>>,
}

/// The key only.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.key).finish()
    }
}

impl Kept {
    /// The same for a job with this key.
    #[must_use]
    pub fn under(&self, key: Option<Digest>) -> Self {
        Self { key, last: Rc::clone(&self.last) }
    }

    /// What was made under the job's key, or what `make` makes. Another's is given up before, so that there is never room
    /// needed for two.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get_or<T: 'static>(&self, make: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<Rc<T>> {
        let last = self.last.take().filter(|(key, _)| Some(*key) == self.key);
        let known = last.and_then(|(_, made)| made.downcast::<T>().ok());
        let made = match known {
            Some(made) => made,
            None => Rc::new(make()?),
        };
        if let Some(key) = self.key {
            self.last.replace(Some((key, Rc::clone(&made) as Rc<dyn Any>)));
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_under_a_key_is_there_for_the_next_of_it() {
        let (kept, [one, two]) = (Kept::default(), [b"one", b"two"].map(|key| Some(Digest::of(key))));
        let made = kept.under(one).get_or(|| Ok(1)).unwrap();
        assert_eq!(*kept.under(one).get_or::<i32>(|| anyhow::bail!("made again")).unwrap(), 1);
        assert_eq!(Rc::strong_count(&made), 2);
        // One of another type is none, and another key's takes its place.
        assert_eq!(*kept.under(one).get_or(|| Ok("text")).unwrap(), "text");
        assert_eq!(Rc::strong_count(&made), 1);
        assert_eq!(*kept.under(two).get_or(|| Ok(2)).unwrap(), 2);
        assert_eq!(*kept.under(one).get_or(|| Ok(3)).unwrap(), 3);
    }

    #[test]
    fn what_has_no_key_is_not_kept_and_what_cannot_be_made_neither() {
        let kept = Kept::default();
        let made = kept.get_or(|| Ok(1)).unwrap();
        assert_eq!(Rc::strong_count(&made), 1);
        let kept = kept.under(Some(Digest::of(b"key")));
        assert!(kept.get_or::<i32>(|| anyhow::bail!("no")).is_err());
        assert_eq!(*kept.get_or(|| Ok(2)).unwrap(), 2);
    }
}
