//! `titer pin` and `titer unpin`: results that never go.

use super::Exit;
use super::out::{self, BOLD, CALM, styled};
use super::project::{Failure, Project};
use crate::diagnostic::Diagnostic;
use crate::graph::Graph;
use crate::manifest::Selector;
use crate::plan::{self, Plan};
use crate::record::Record;
use crate::settings::Bytes;
use crate::store::Pin;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Digits of a key that are enough to name it.
const DIGITS: usize = 8;

pub(super) fn pin(
    project: &Project,
    selectors: &[String],
    note: Option<&str>,
    only: bool,
    as_json: bool,
) -> Result<Exit, Failure> {
    let graph = Graph::of(&project.pipeline);
    let mut picked = BTreeSet::new();
    for selector in selectors {
        picked.extend(project.select(selector)?);
    }
    let all = graph.closure(&picked.iter().copied().collect::<Vec<_>>());
    let made_plan =
        || plan::plan(&project.resolver(), &all, &BTreeSet::new()).map_err(|problems| project.failure(problems));
    let mut plan = made_plan()?;
    // A pin keeps what is there: until it stands, this process does.
    if crate::run::rely_on(&project.pipeline, &project.store, &plan, &BTreeSet::new()).map_err(anyhow::Error::from)? {
        plan = made_plan()?;
    }
    let mut pins = Vec::new();
    let mut bytes = BTreeMap::new();
    for root in &picked {
        let nodes = if only { vec![*root] } else { graph.closure(&[*root]) };
        for node in nodes {
            let record = made(project, &plan, node)?;
            bytes.extend(record.outputs.iter().flat_map(|output| &output.files).map(|file| (file.digest, file.size)));
            let name = |node: usize| project.pipeline.instances[node].id.to_string();
            pins.push(Pin {
                pipeline: project.pipeline.name.clone(),
                instance: name(node),
                key: record.key,
                of: (node != *root).then(|| name(*root)),
                at: jiff::Timestamp::now().to_string(),
                note: note.filter(|_| node == *root).map(String::from),
            });
        }
    }
    pins.iter().try_for_each(|pin| project.store.pin(pin)).map_err(anyhow::Error::from)?;
    if as_json {
        out::json(&json!(pins));
        return Ok(Exit::Done);
    }
    let results: BTreeSet<_> = pins.iter().map(|pin| pin.key).collect();
    out::say(format!("pinned {}, {}", out::count(results.len(), "result"), Bytes(bytes.values().sum())));
    Ok(Exit::Done)
}

fn made<'p>(project: &Project, plan: &'p Plan, node: usize) -> Result<&'p Record, Failure> {
    plan.known[node].as_deref().ok_or_else(|| {
        let problem = Diagnostic::new(format!("`{}` is not made yet", project.pipeline.instances[node].id));
        project.failure(vec![problem.hint("only what is in the cache can be pinned: run it first")])
    })
}

pub(super) fn list(project: &Project, as_json: bool) -> Result<Exit, Failure> {
    let pins = project.store.pins().map_err(anyhow::Error::from)?;
    let pins: Vec<Pin> = pins.into_iter().filter(|pin| pin.pipeline == project.pipeline.name).collect();
    if as_json {
        out::json(&json!(pins));
        return Ok(Exit::Done);
    }
    for pin in pins.iter().filter(|pin| pin.of.is_none()) {
        let with = pins.iter().filter(|other| other.of.as_ref() == Some(&pin.instance)).count();
        let with = if with > 0 { format!(", with {with} that it was made of") } else { String::new() };
        let note = pin.note.as_ref().map(|note| format!("  {note}")).unwrap_or_default();
        let day = pin.at.split('T').next().unwrap_or_default();
        let more = styled(CALM, format!("{} since {day}{with}", pin.key.short()));
        out::say(format!("{}  {more}{note}", styled(BOLD, &pin.instance)));
    }
    if pins.is_empty() {
        out::say(format!("nothing of `{}` is pinned", project.pipeline.name));
    }
    Ok(Exit::Done)
}

pub(super) fn unpin(project: &Project, selectors: &[String], as_json: bool) -> Result<Exit, Failure> {
    let pins = project.store.pins().map_err(anyhow::Error::from)?;
    let own: Vec<&Pin> = pins.iter().filter(|pin| pin.pipeline == project.pipeline.name).collect();
    let mut going: BTreeSet<&Pin> = BTreeSet::new();
    for text in selectors {
        let before = going.len();
        going.extend(own.iter().copied().filter(|pin| picks(text, pin)));
        if going.len() == before {
            let problem = Diagnostic::new(format!("`{text}` picks nothing that is pinned"));
            return Err(project.failure(vec![problem.hint("`titer pin MANIFEST` lists what is")]));
        }
    }
    going.iter().try_for_each(|pin| project.store.unpin(pin)).map_err(anyhow::Error::from)?;
    if as_json {
        out::json(&json!(going));
    } else {
        let results: BTreeSet<_> = going.iter().map(|pin| pin.key).collect();
        let results = out::count(results.len(), "result");
        out::say(format!("let go of {results}; `titer gc` frees what nothing else needs"));
    }
    Ok(Exit::Done)
}

/// Whether a person's text means the pin: by the name of the instance that was pinned, which the manifest may not have any
/// more, or by its key.
fn picks(text: &str, pin: &Pin) -> bool {
    if text.len() >= DIGITS && text.chars().all(|c| c.is_ascii_hexdigit()) {
        return pin.key.to_string().starts_with(text);
    }
    let pinned = pin.of.as_ref().unwrap_or(&pin.instance);
    let (Ok(selector), Ok(name)) = (Selector::parse(text), Selector::parse(pinned)) else { return false };
    selector.covers(&name)
}
