//! `titer set` with any call (the first line) on any manifest (the rest): what it would write is TOML, and a second call
//! changes nothing more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use titer::diagnostic::{Problems, Sources};
use titer::manifest::edit::{Edit, edit};

fuzz_target!(|text: &str| {
    let Some((call, manifest)) = text.split_once('\n') else { return };
    let edits = [match call.strip_prefix('-') {
        Some(key) => Edit::Unset(key.to_string()),
        None => Edit::Set(call.to_string()),
    }];
    let on = |text: &str| edit("m.toml", &|_| Ok(text.to_string()), &edits, &mut Sources::default());
    let Ok(edited) = on(manifest) else { return };
    let mut problems = Problems::default();
    assert!(titer::settings::parse(&edited.new, 0, &mut problems).is_some(), "{}", edited.new);
    if let [Edit::Set(_)] = edits
        && let Ok(again) = on(&edited.new)
    {
        let value = |changed: &titer::manifest::edit::Edited| changed.changes[0].new.clone();
        assert_eq!(value(&again), value(&edited));
        assert_eq!(again.new, edited.new);
    }
});
