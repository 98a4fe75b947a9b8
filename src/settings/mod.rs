//! Typed settings read from values with positions.
//!
//! A manifest is parsed into [`Value`]s that know where they stand. Settings structs are declared with
//! [`settings!`](crate::settings!), which derives how they are read: unknown keys, wrong types and missing settings are all
//! reported at once, each at its place. serde's derive cannot do that (it stops at the first error, and `flatten` and
//! `untagged` lose positions). Knows the shapes of TOML and nothing of pipelines.

mod decode;
mod fields;
mod units;
mod value;

pub use decode::Decode;
pub use fields::{Fields, Group};
pub use units::{Bytes, Seconds};
pub use value::{Key, Table, Value, ValueKind, parse};

/// Declares a struct of settings: one line each, `name: Type = default => range` (no default: the setting is required;
/// the range, of numbers, may be left out).
///
/// The struct gets [`Decode`] (it stands as a table), [`Group`] (its settings stand among others in one table) and
/// serde's `Serialize`/`Deserialize` (recipes are hashed and handed to workers as JSON). A setting that is `None` is
/// left out of a key's JSON, so adding an optional setting changes no key.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident : $ty:ty $(= $default:expr)? $(=> $range:expr)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        $vis struct $name {
            $( $(#[$field_meta])* pub $field : $ty, )*
        }

        impl $crate::settings::Group for $name {
            fn read(
                fields: &mut $crate::settings::Fields<'_>,
                problems: &mut $crate::diagnostic::Problems,
            ) -> Option<Self> {
                $( let $field = $crate::settings!(@read fields, problems, $field, $ty, [$($default)?], [$($range)?]); )*
                Some(Self { $( $field: $field?, )* })
            }
        }

        impl $crate::settings::Decode for $name {
            fn decode(
                value: &$crate::settings::Value,
                problems: &mut $crate::diagnostic::Problems,
            ) -> Option<Self> {
                let mut fields = $crate::settings::Fields::of(value, problems)?;
                let read = <Self as $crate::settings::Group>::read(&mut fields, problems);
                fields.finish(problems)?;
                read
            }
        }
    };
    (@read $fields:ident, $problems:ident, $field:ident, $ty:ty, [$default:expr], [$range:expr]) => {
        $fields.or::<$ty>(stringify!($field), || $default, $problems)
            .and_then(|value| $fields.within(stringify!($field), value, $range, $problems))
    };
    (@read $fields:ident, $problems:ident, $field:ident, $ty:ty, [$default:expr], []) => {
        $fields.or::<$ty>(stringify!($field), || $default, $problems)
    };
    (@read $fields:ident, $problems:ident, $field:ident, $ty:ty, [], [$range:expr]) => {
        $fields.required::<$ty>(stringify!($field), $problems)
            .and_then(|value| $fields.within(stringify!($field), value, $range, $problems))
    };
    (@read $fields:ident, $problems:ident, $field:ident, $ty:ty, [], []) => {
        $fields.required::<$ty>(stringify!($field), $problems)
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Problems, Sources};

    crate::settings! {
        /// A test's settings.
        pub struct Lora {
            /// Rank.
            r: u32 = 8 => 1..=1024,
            /// Scale.
            alpha: f64,
            /// Names.
            targets: Option<Vec<String>> = None,
        }
    }

    fn read(text: &str) -> (Option<Lora>, Vec<String>) {
        let mut sources = Sources::default();
        let file = sources.add("m.toml", text);
        let mut problems = Problems::default();
        let table = parse(text, file, &mut problems).expect("syntax");
        let lora = Lora::decode(&table, &mut problems);
        (lora, problems.into_vec().iter().map(|p| sources.render(p)).collect())
    }

    #[test]
    fn defaults_are_filled_in() {
        let (lora, problems) = read("alpha = 16");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(lora, Some(Lora { r: 8, alpha: 16.0, targets: None }));
    }

    #[test]
    fn a_number_out_of_range_is_shown_at_its_place() {
        let (lora, problems) = read("alpha = 16\nr = 0");
        assert_eq!(lora, None);
        assert!(
            problems[0].contains("`r` is 0: expected 1 to 1024") && problems[0].contains("m.toml:2:5"),
            "{problems:?}"
        );
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let (lora, problems) = read("r = -3\ntarget = [\"q\"]\ntargets = [1]\n");
        assert_eq!(lora, None);
        let text = problems.join("");
        assert!(text.contains("`alpha` is missing"), "{text}");
        assert!(text.contains("m.toml:1:5"), "{text}");
        assert!(text.contains("unknown setting `target`") && text.contains("did you mean `targets`?"), "{text}");
        assert!(text.contains("m.toml:3:12"), "{text}");
        assert_eq!(problems.len(), 4, "{text}");
    }
}
