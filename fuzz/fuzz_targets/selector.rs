//! Selectors, references and pins: read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use titer::diagnostic::Sources;
use titer::manifest::{Overrides, Pipeline, Selector, load, select};
use titer::stage::{Pins, Reference};

static PIPELINE: OnceLock<Pipeline> = OnceLock::new();

fuzz_target!(|text: &str| {
    if let Ok((pins, _)) = Pins::parse(text)
        && !pins.0.is_empty()
    {
        assert_eq!(Pins::parse(&pins.to_string()[1..]), Ok((pins, "")));
    }
    if let Ok(Some(reference)) = Reference::parse(text) {
        assert!(text.starts_with(&reference.stage()));
        assert_eq!(Reference::parse(&reference.to_string()), Ok(Some(reference)));
    }
    let pipeline = PIPELINE.get_or_init(|| {
        let small = include_str!("../seeds/manifest/small.toml");
        let small = |_: &str| Ok(small.to_string());
        load("m.toml", &small, &Overrides::default(), &mut Sources::default()).expect("the seed is a manifest")
    });
    let selected = select(pipeline, text);
    let Ok(selector) = Selector::parse(text) else {
        assert!(selected.is_err());
        return;
    };
    assert_eq!(Selector::parse(&selector.to_string()), Ok(selector.clone()));
    let picked = pipeline.instances.iter().filter(|instance| selector.matches(&instance.id)).count();
    assert_eq!(selected.map_or(0, |picked| picked.len()), picked);
    // An instance's own name picks it.
    for instance in &pipeline.instances {
        assert!(Selector::parse(&instance.id.to_string()).is_ok_and(|selector| selector.matches(&instance.id)));
    }
});
