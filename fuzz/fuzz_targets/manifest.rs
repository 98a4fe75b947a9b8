//! Any text as a manifest: it is taken or refused with messages that can be shown, and never crashes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use titer::diagnostic::{Diagnostic, Sources};
use titer::manifest::{Overrides, load, select};

fuzz_target!(|text: &str| {
    // What it extends is a small manifest of another name.
    let read = |name: &str| match name {
        "m.toml" => Ok(text.to_string()),
        "base.toml" => Ok(include_str!("../seeds/manifest/small.toml").to_string()),
        other => Err(Diagnostic::new(format!("there is no `{other}`"))),
    };
    for variant in [None, Some("smoke".to_string())] {
        let mut sources = Sources::default();
        match load("m.toml", &read, &Overrides { variant, ..Overrides::default() }, &mut sources) {
            Ok(pipeline) => {
                for instance in pipeline.instances.iter().take(20) {
                    let picked = select(&pipeline, &instance.id.stage());
                    assert!(picked.is_ok_and(|picked| !picked.is_empty()), "{}", instance.id);
                    assert!(instance.id.folder().is_relative());
                }
            }
            Err(problems) => {
                assert!(!problems.is_empty());
                problems.iter().for_each(|problem| assert!(sources.render(problem).starts_with("error: ")));
            }
        }
    }
});
