//! Typed settings read from values with positions.
//!
//! A manifest is parsed into [`Value`]s that know where they stand. Settings structs are declared with
//! [`form!`](crate::form!) and [`settings!`](crate::settings!), which derive how they are read: unknown keys, wrong types and missing settings are all
//! reported at once, each at its place. serde's derive cannot do that (it stops at the first error, and `flatten` and
//! `untagged` lose positions). The same declarations give the schema that editors use. Knows the shapes of TOML and
//! nothing of pipelines.

mod decode;
mod fields;
mod names;
pub mod schema;
mod units;
mod value;

pub use decode::{At, Decode};
pub use fields::{Fields, Group, InRange};
pub use names::Names;
pub use schema::{Schema, Setting};
pub use units::{Bytes, Seconds};
pub use value::{Key, Table, Value, ValueKind, parse};

/// Declares a table as it stands in a manifest: one line for each setting, `name: Type = default => range` (no default: the
/// setting is required, unless its type may be absent; the range, of numbers, may be left out). `..name: Type` lines
/// before them take in the settings of another form, which then stand in the same table.
///
/// The struct gets [`Decode`] (it stands as a table) and [`Group`] (its settings stand among others in one table), and with
/// them its schema: nothing can be read that the schema does not have. Doc comments become descriptions.
#[macro_export]
macro_rules! form {
    (
        $(#[$($meta:tt)*])*
        $vis:vis struct $name:ident {
            $( .. $group:ident : $group_ty:ty, )*
            $( $(#[$($field_meta:tt)*])* $field:ident : $ty:ty $(= $default:expr)? $(=> $range:expr)? ),* $(,)?
        }
    ) => {
        $(#[$($meta)*])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $( pub $group : $group_ty, )*
            $( $(#[$($field_meta)*])* pub $field : $ty, )*
        }

        impl $crate::settings::Group for $name {
            fn read(
                fields: &mut $crate::settings::Fields<'_>,
                problems: &mut $crate::diagnostic::Problems,
            ) -> Option<Self> {
                $( let $group = <$group_ty as $crate::settings::Group>::read(fields, problems); )*
                $( let $field = $crate::form!(@read fields, problems, $field, $ty, [$($default)?], [$($range)?]); )*
                Some(Self { $( $group: $group?, )* $( $field: $field?, )* })
            }

            fn settings() -> Vec<$crate::settings::Setting> {
                let groups: Vec<Vec<$crate::settings::Setting>> =
                    vec![$( <$group_ty as $crate::settings::Group>::settings() ),*];
                let own = vec![$(
                    $crate::form!(
                        @setting $field, $ty, [$($default)?], [$($range)?], [$( $crate::form!(@doc $($field_meta)*) ),*]
                    )
                ),*];
                groups.into_iter().flatten().chain(own).collect()
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

            fn schema() -> $crate::settings::Schema {
                let table = $crate::settings::schema::table(<Self as $crate::settings::Group>::settings());
                $crate::settings::schema::described(table, &[$( $crate::form!(@doc $($meta)*) ),*])
            }
        }
    };
    (@read $fields:ident, $problems:ident, $field:ident, $ty:ty, [$default:expr], [$range:expr]) => {
        $fields.or::<$ty>($crate::settings::name(stringify!($field)), || $default, $problems)
            .and_then(|value| $fields.within($crate::settings::name(stringify!($field)), value, &$range, $problems))
    };
    (@read $fields:ident, $problems:ident, $field:ident, $ty:ty, [$default:expr], []) => {
        $fields.or::<$ty>($crate::settings::name(stringify!($field)), || $default, $problems)
    };
    (@read $fields:ident, $problems:ident, $field:ident, $ty:ty, [], [$range:expr]) => {
        $fields.required::<$ty>($crate::settings::name(stringify!($field)), $problems)
            .and_then(|value| $fields.within($crate::settings::name(stringify!($field)), value, &$range, $problems))
    };
    (@read $fields:ident, $problems:ident, $field:ident, $ty:ty, [], []) => {
        $fields.required::<$ty>($crate::settings::name(stringify!($field)), $problems)
    };
    (@setting $field:ident, $ty:ty, [$($default:expr)?], [$($range:expr)?], [$($doc:expr),*]) => {
        $crate::settings::Setting::of::<$ty>($crate::settings::name(stringify!($field)), &[$($doc),*])
            $(.or({
                let default: $ty = $default;
                $crate::settings::Decode::written(&default)
            }))?
            $(.within(&$range))?
    };
    (@doc doc = $text:literal) => { $text };
    (@doc $($other:tt)*) => { "" };
}

/// Declares a struct of settings that are part of a recipe: a [`form!`](crate::form!) that has serde's
/// `Serialize`/`Deserialize` too (recipes are hashed and handed to workers as JSON). A setting that is `None` is left out
/// of a key's JSON, so adding an optional setting changes no key.
#[macro_export]
macro_rules! settings {
    ( $(#[$($meta:tt)*])* $vis:vis struct $name:ident { $($body:tt)* } ) => {
        $crate::form! {
            $(#[$($meta)*])*
            #[derive(serde::Serialize, serde::Deserialize)]
            #[serde(deny_unknown_fields)]
            $vis struct $name { $($body)* }
        }
    };
}

/// Declares an enum of words: each variant with the text that stands for it in manifests and in keys.
#[macro_export]
macro_rules! words {
    (
        $(#[$($meta:tt)*])*
        $vis:vis enum $name:ident { $( $(#[$($variant_meta:tt)*])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[$($meta)*])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        $vis enum $name { $( $(#[$($variant_meta)*])* #[serde(rename = $word)] $variant, )* }

        impl $crate::settings::Decode for $name {
            fn decode(
                value: &$crate::settings::Value,
                problems: &mut $crate::diagnostic::Problems,
            ) -> Option<Self> {
                match <String as $crate::settings::Decode>::decode(value, problems)?.as_str() {
                    $( $word => Some(Self::$variant), )*
                    other => {
                        let message = format!("`{other}` is not known here");
                        let problem = $crate::diagnostic::Diagnostic::at(value.span, message);
                        problems.push(problem.suggest(other, [$($word),*]));
                        None
                    }
                }
            }

            fn schema() -> $crate::settings::Schema {
                $crate::settings::schema::words(&[$( ($word, &[$( $crate::form!(@doc $($variant_meta)*) ),*]) ),*])
            }
        }
    };
}

/// The setting that a field stands for: `where` is a word of Rust's, so its field is `r#where`.
pub fn name(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
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
