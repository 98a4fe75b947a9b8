//! `titer.lock`: held to before a run, written after it.

use super::args::{Locked as Asked, Wanted};
use super::out;
use super::project::{Failure, Project};
use crate::diagnostic::{Diagnostic, Problems};
use crate::key::Change;
use crate::lock::{self, Held, Lock, Locked, Section, Strictness};
use crate::plan::{Known, Outline, Plan, Resolver, Status};
use std::collections::{BTreeMap, BTreeSet};

/// Changes that are named in one message.
const SHOWN: usize = 4;

/// Checks a pipeline against its lock, without running anything.
pub(super) fn check(project: &Project, wanted: &Wanted, asked: Asked) -> Result<(), Failure> {
    let resolver = project.resolver();
    let (plan, _) = project.plan(&resolver, wanted)?;
    hold(project, &resolver, &plan, asked).map(|_| ())
}

/// The lock that a run must hold to.
///
/// # Errors
/// Everything that differs from it as far as can be seen before anything runs.
pub(super) fn hold(project: &Project, resolver: &Resolver<'_>, plan: &Plan, asked: Asked) -> Result<Held, Failure> {
    let path = lock::path_beside(&project.manifest);
    let shown = path.display();
    if !path.exists() {
        return Err(anyhow::anyhow!("there is no lock `{shown}`: a run without `--locked` writes it").into());
    }
    let strictness = match asked {
        Asked::All => Strictness::All,
        Asked::Recipe => Strictness::Recipe,
    };
    let section = Lock::read(&path).map_err(anyhow::Error::msg)?.section(&project.pipeline.name);
    let held = Held::new(strictness, section);
    // Instances of one stage that differ in the same way are one problem.
    let mut found: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for (node, status) in &plan.entries {
        if let Some(reason) = reason(project, resolver, plan, &held, *node, status)? {
            let stage = project.pipeline.instances[*node].id.stage();
            found.entry((stage, reason)).or_default().push(*node);
        }
    }
    let mut problems = Problems::default();
    for ((stage, reason), nodes) in found {
        let first = &project.pipeline.instances[nodes[0]];
        let who = match nodes.len() {
            1 => format!("`{}`", first.id),
            number => format!("`{stage}` ({number} instances, one is `{}`)", first.id),
        };
        problems.push(Diagnostic::at(first.span, format!("{who} {reason}")));
    }
    if problems.is_empty() {
        return Ok(held);
    }
    let mut list = problems.into_vec();
    if let Some(last) = list.pop() {
        let hint = match strictness {
            Strictness::All => "a run without `--locked` locks what is now; `--locked=recipe` allows other bytes",
            Strictness::Recipe => "a run without `--locked` locks what is now",
        };
        list.push(last.hint(format!("the lock is `{shown}`: {hint}")));
    }
    Err(project.failure(list))
}

/// What the lock has against an instance.
fn reason(
    project: &Project,
    resolver: &Resolver<'_>,
    plan: &Plan,
    held: &Held,
    node: usize,
    status: &Status,
) -> Result<Option<String>, Failure> {
    let name = project.pipeline.instances[node].id.to_string();
    let recipe = resolver.recipe_digest(node).map_err(|problem| project.failure(vec![problem]))?;
    if let Some(reason) = held.refuses_recipe(&name, &recipe) {
        let changes = held.get(&name).and_then(|locked| changes(project, resolver, &plan.known, locked, node));
        return Ok(Some(match changes {
            Some(changes) => format!("{reason}: {changes}"),
            None if held.get(&name).is_some() => {
                format!("{reason}: its settings, its files or what it reads from have changed")
            }
            None => reason,
        }));
    }
    if let Some(reason) = plan.keys.get(&node).and_then(|key| held.refuses_key(&name, key)) {
        let changes = held.get(&name).and_then(|locked| changes(project, resolver, &plan.known, locked, node));
        return Ok(Some(format!("reads other bytes than were locked: {}", changes.unwrap_or(reason))));
    }
    Ok(match status {
        Status::Cached(record) | Status::Remote(record) => {
            held.refuses_outputs(&name, &record.digests()).map(|reason| format!("is cached, but {reason}"))
        }
        Status::Runs(_) | Status::Waits { .. } => None,
    })
}

/// In what an instance differs from what was locked, if the cache still knows that.
fn changes(project: &Project, resolver: &Resolver<'_>, known: &Known, locked: &Locked, node: usize) -> Option<String> {
    let old = Outline::complete(project.store.document(&locked.key).ok()??);
    let changes: Vec<Change> = old.difference(&resolver.outline(node, known));
    let shown: Vec<String> = changes.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = match changes.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!shown.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
}

/// Locks what a run has made. It has succeeded, so that not being able to is a warning.
pub(super) fn keep(project: &Project, resolver: &Resolver<'_>, wanted: &[usize], known: &Known) {
    let name = |node: usize| project.pipeline.instances[node].id.to_string();
    let mut made = Section::new();
    for &node in wanted {
        let Some(record) = &known[node] else { continue };
        match resolver.recipe_digest(node) {
            Ok(recipe) => made.insert(name(node), Locked::new(recipe, record)),
            Err(problem) => return out::warn(format!("the lock was not written: {}", problem.message)),
        };
    }
    let all: BTreeSet<String> = (0..project.pipeline.instances.len()).map(name).collect();
    if let Err(message) = lock::write(&lock::path_beside(&project.manifest), &project.pipeline.name, made, &all) {
        out::warn(message);
    }
}
