//! The settings of one table, taken one by one; what nobody took is unknown.

use super::{At, Decode, Setting, Table, Value};
use crate::diagnostic::{Diagnostic, Problems, Span};
use std::ops::RangeInclusive;

/// A table whose settings are being read.
#[derive(Debug)]
pub struct Fields<'a> {
    table: &'a Table,
    span: Span,
    known: Vec<&'static str>,
}

/// Settings that stand among others in one table.
pub trait Group: Sized {
    /// Takes its settings from `fields`. `None` if a problem was reported.
    fn read(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Self>;

    /// The settings that it takes.
    fn settings() -> Vec<Setting>;
}

/// What can lie in a range: a number, or one that may be absent.
pub trait InRange<T> {
    /// The number, if it lies outside.
    fn outside(&self, range: &RangeInclusive<T>) -> Option<T>;
}

macro_rules! numbers {
    ($($ty:ty),*) => {$(
        impl InRange<$ty> for $ty {
            fn outside(&self, range: &RangeInclusive<$ty>) -> Option<$ty> {
                (!range.contains(self)).then_some(*self)
            }
        }
    )*};
}
numbers!(u8, u32, u64, usize, i64, f64);

impl<T, N: InRange<T>> InRange<T> for Option<N> {
    fn outside(&self, range: &RangeInclusive<T>) -> Option<T> {
        self.as_ref()?.outside(range)
    }
}

impl<T, N: InRange<T>> InRange<T> for At<N> {
    fn outside(&self, range: &RangeInclusive<T>) -> Option<T> {
        self.value.outside(range)
    }
}

impl<'a> Fields<'a> {
    /// The settings of `value`, which must be a table.
    pub fn of(value: &'a Value, problems: &mut Problems) -> Option<Self> {
        match value.as_table() {
            Some(table) => Some(Self::of_table(table, value.span)),
            None => {
                problems.at(value.span, format!("expected a table, found {}", value.describe()));
                None
            }
        }
    }

    /// The settings of a table that stands at `span`.
    pub fn of_table(table: &'a Table, span: Span) -> Self {
        Self { table, span, known: Vec::new() }
    }

    /// Where the table stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The value of `name`, marked as known.
    fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.table.get(name)
    }

    /// A setting that must be there.
    pub fn required<T: Decode>(&mut self, name: &'static str, problems: &mut Problems) -> Option<T> {
        match self.take(name) {
            Some(value) => T::decode(value, problems),
            None => match T::absent() {
                Some(value) => Some(value),
                None => {
                    problems.at(self.span, format!("`{name}` is missing"));
                    None
                }
            },
        }
    }

    /// A setting with a default.
    pub fn or<T: Decode>(
        &mut self,
        name: &'static str,
        default: impl FnOnce() -> T,
        problems: &mut Problems,
    ) -> Option<T> {
        match self.take(name) {
            Some(value) => T::decode(value, problems),
            None => Some(default()),
        }
    }

    /// Reports a number that lies outside `range`, at the place of setting `name`.
    pub fn within<T: std::fmt::Display, N: InRange<T>>(
        &self,
        name: &'static str,
        value: N,
        range: &RangeInclusive<T>,
        problems: &mut Problems,
    ) -> Option<N> {
        let Some(number) = value.outside(range) else { return Some(value) };
        let span = self.table.get(name).map_or(self.span, |value| value.span);
        problems.at(span, format!("`{name}` is {number}: expected {} to {}", range.start(), range.end()));
        None
    }

    /// Reports a setting that is known, but cannot stand here.
    pub fn refuse(&mut self, name: &'static str, message: String, hint: &str, problems: &mut Problems) {
        self.known.push(name);
        let keys = self.table.entries.iter().map(|(key, _)| key);
        let span = keys.filter(|key| key.name == name).map(|key| key.span).next().unwrap_or(self.span);
        problems.push(Diagnostic::at(span, message).hint(hint));
    }

    /// Reports what nobody took. `None` if there was any.
    pub fn finish(self, problems: &mut Problems) -> Option<()> {
        let mut clean = Some(());
        for (key, _) in &self.table.entries {
            if !self.known.contains(&key.name.as_str()) {
                let problem = Diagnostic::at(key.span, format!("unknown setting `{}`", key.name));
                problems.push(problem.suggest(&key.name, self.known.iter().copied()));
                clean = None;
            }
        }
        clean
    }
}
