//! `titer push`, `titer pull`, and which shared cache is meant.

use super::args::Wanted;
use super::out::{self, BAD, BOLD, GOOD, duration, styled};
use super::project::{Failure, Project};
use super::{Exit, out::complain};
use crate::diagnostic::Diagnostic;
use crate::manifest::CacheSettings;
use crate::plan::{Plan, Status};
use crate::settings::Bytes;
use crate::store::remote::{Address, Credentials, Errand, Sent, Told, Transfers, Trouble};
use crate::store::{Remote, Store};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Failures that are listed one by one.
const LISTED: usize = 12;

/// What a command does with the shared cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// What the manifest says.
    AsWritten,
    /// As written, and what is made is sent.
    Write,
    /// Sends, and takes nothing from there.
    Push,
    /// Fetches.
    Pull,
    /// Nothing: it is not asked.
    Leave,
}

impl Share {
    /// The shared cache that the call names, else the manifest.
    pub(super) fn remote(
        self,
        called: Option<&str>,
        settings: &CacheSettings,
        root: &Path,
    ) -> Result<Option<Remote>, Box<Diagnostic>> {
        let written = || settings.shared.as_ref();
        let address = match (called, written()) {
            (Some("none" | ""), _) | (None, None) => return Ok(None),
            _ if self == Self::Leave => return Ok(None),
            // What is called is relative to here, what is written to the project.
            (Some(text), _) => Address::parse(text, Path::new(""))
                .map_err(|problem| Diagnostic::new(format!("`--shared` (or TITER_SHARED): {problem}"))),
            (None, Some(text)) => {
                Address::parse(&text.value, root).map_err(|problem| Diagnostic::at(text.span, problem))
            }
        }?;
        let (pulls, pushes) = match self {
            Self::AsWritten | Self::Leave => (settings.pull, settings.push),
            Self::Write => (settings.pull, true),
            Self::Push => (false, true),
            Self::Pull => (true, false),
        };
        Ok(Some(Remote::new(address, credentials(), pulls, pushes)))
    }
}

fn credentials() -> Credentials {
    let text = |text: std::ffi::OsString| text.into_string().ok();
    Credentials::new(std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))))
}

pub(super) fn push(project: &Project, selectors: Vec<String>, as_json: bool) -> Result<Exit, Failure> {
    let plan = planned(project, selectors)?;
    let mut seen = BTreeSet::new();
    let mut errands = Vec::new();
    for (node, status) in &plan.entries {
        if let Status::Cached(record) = status
            && seen.insert(record.key)
        {
            let outputs = project.pipeline.instances[*node].recipe.outputs();
            errands.push((*node, Errand::Send { record: Arc::clone(record), outputs }));
        }
    }
    let unmade = plan.entries.iter().filter(|(_, status)| !matches!(status, Status::Cached(_))).count();
    Carrying::new(project, "sent").all(errands, unmade, as_json)
}

pub(super) fn pull(project: &Project, selectors: Vec<String>, as_json: bool) -> Result<Exit, Failure> {
    if !project.store.writable() {
        let cache = project.store.root().display();
        return Err(anyhow::anyhow!("the cache `{cache}` is read-only: nothing can be fetched into it").into());
    }
    let plan = planned(project, selectors)?;
    let resolver = project.resolver();
    let made = plan.made();
    let mut seen = BTreeSet::new();
    let mut errands = Vec::new();
    for (node, status) in &plan.entries {
        if let Status::Remote(record) = status
            && seen.insert(record.key)
        {
            let materials = resolver.materials(*node, &made).map_err(|problems| project.failure(problems))?;
            let document = resolver.document(*node, &materials);
            let outputs = project.pipeline.instances[*node].recipe.outputs();
            errands.push((*node, Errand::Fetch { document, outputs, locked: None }));
        }
    }
    let unmade = plan.entries.iter().filter(|(_, status)| !status.is_made()).count();
    let here = plan.entries.iter().filter_map(|(_, status)| match status {
        Status::Cached(record) => Some(record.key),
        _ => None,
    });
    let known = here.collect::<BTreeSet<_>>().len();
    Carrying { known, ..Carrying::new(project, "fetched") }.all(errands, unmade, as_json)
}

/// What there is of the wanted instances; the shared cache must answer first.
fn planned(project: &Project, selectors: Vec<String>) -> Result<Plan, Failure> {
    let Some(remote) = project.store.remote() else {
        return Err(anyhow::anyhow!(
            "there is no shared cache: name it with `--shared`, TITER_SHARED, or `[cache]` and `shared = \"…\"` in the \
             manifest"
        )
        .into());
    };
    if let Err(trouble) = remote.reach() {
        // What it complained of is in this message.
        let _ = project.store.take_warnings();
        return Err(Failure::Unreached(trouble.to_string()));
    }
    Ok(project.plan(&project.resolver(), &Wanted { target: selectors, force: Vec::new() })?.0)
}

/// Many results on their way, and what has become of them.
struct Carrying<'a> {
    project: &'a Project,
    store: &'a Store,
    /// What is done with a result: `sent`, `fetched`.
    verb: &'static str,
    bar: ProgressBar,
    /// Bytes that are through, of those in all, by errand.
    bytes: BTreeMap<usize, (u64, u64)>,
    carried: usize,
    /// What was at its goal before.
    known: usize,
    moved: u64,
    failed: Vec<(usize, String)>,
    differing: Vec<(usize, String)>,
}

impl<'a> Carrying<'a> {
    fn new(project: &'a Project, verb: &'static str) -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let template = "{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        let store = &project.store;
        let (bytes, failed, differing) = Default::default();
        Self { project, store, verb, bar, bytes, carried: 0, known: 0, moved: 0, failed, differing }
    }

    /// Does all errands. `unmade` results exist nowhere, or only where they are not looked for.
    fn all(mut self, errands: Vec<(usize, Errand)>, unmade: usize, as_json: bool) -> Result<Exit, Failure> {
        let begun = Instant::now();
        let interrupted = super::watch_for_interruption()?;
        let (all, mut left) = (errands.len(), errands.len());
        std::thread::scope(|scope| {
            let (sender, told) = channel();
            let transfers = Transfers::start(scope, self.store, &sender);
            errands.into_iter().for_each(|(node, errand)| transfers.give(node, errand));
            while left > 0 {
                if interrupted.load(Ordering::SeqCst)
                    && let Some(remote) = self.store.remote()
                {
                    remote.stop();
                }
                self.bar.set_message(format!("{}/{all}", all - left));
                let Ok(told) = told.recv_timeout(Duration::from_millis(100)) else { continue };
                left -= usize::from(self.hear(told));
            }
        });
        self.bar.finish_and_clear();
        self.store.save();
        self.project.tell_warnings();
        self.report(unmade, begun.elapsed().as_secs_f64(), interrupted.load(Ordering::SeqCst), as_json)
    }

    /// Returns whether this was the last word on an errand.
    fn hear(&mut self, told: Told) -> bool {
        match told {
            Told::Progress { id, done, total } => {
                self.bytes.insert(id, (done, total));
                self.bar.set_position(self.bytes.values().map(|(done, _)| done).sum());
                self.bar.set_length(self.bytes.values().map(|(_, total)| total).sum());
                return false;
            }
            Told::Fetched { id, outcome, bytes } => {
                self.moved += bytes;
                match outcome {
                    Ok(Some(_)) => self.carried += 1,
                    Ok(None) => self.failed.push((id, "it is no longer in the shared cache".to_string())),
                    Err(trouble) => self.fail(id, &trouble),
                }
            }
            Told::Sent { id, outcome, bytes } => {
                self.moved += bytes;
                match outcome {
                    Ok(Sent::Known) => self.known += 1,
                    Ok(Sent::Canonical) => self.carried += 1,
                    Ok(Sent::Observation(differing)) => {
                        self.carried += 1;
                        if !differing.is_empty() {
                            self.differing.push((id, differing.join(", ")));
                        }
                    }
                    Err(trouble) => self.fail(id, &trouble),
                }
            }
        }
        true
    }

    fn fail(&mut self, node: usize, trouble: &Trouble) {
        self.failed.push((node, trouble.to_string()));
    }

    fn report(self, unmade: usize, seconds: f64, was_interrupted: bool, as_json: bool) -> Result<Exit, Failure> {
        let exit = match (was_interrupted, self.failed.is_empty()) {
            (true, _) => Exit::Interrupted,
            (false, true) => Exit::Done,
            (false, false) => Exit::StageFailed,
        };
        let name = |node: usize| self.project.pipeline.instances[node].id.to_string();
        let address = self.store.remote().map(|remote| remote.address().to_string()).unwrap_or_default();
        if as_json {
            let list = |items: &[(usize, String)], word: &str| -> Vec<serde_json::Value> {
                items.iter().map(|(node, text)| json!({ "instance": name(*node), word: text })).collect()
            };
            out::json(&json!({
                "shared": address, self.verb: self.carried, "known": self.known, "bytes": self.moved,
                "failed": list(&self.failed, "message"), "differing": list(&self.differing, "outputs"),
                "not_made": unmade, "interrupted": was_interrupted, "seconds": seconds,
            }));
            return Ok(exit);
        }
        for (node, outputs) in &self.differing {
            let word = styled(BOLD, "warning:");
            complain(format!(
                "{word} {}: the shared cache has another result, which differs in {outputs}",
                name(*node)
            ));
        }
        if !was_interrupted {
            for (node, message) in self.failed.iter().take(LISTED) {
                complain(format!("{} {}: {message}", styled(BAD, "error:"), name(*node)));
            }
            if self.failed.len() > LISTED {
                complain(format!("and {} more", self.failed.len() - LISTED));
            }
        }
        let mut parts = vec![format!("{} {} ({})", self.carried, self.verb, Bytes(self.moved))];
        for (number, word) in [
            (self.known, if self.verb == "sent" { "there already" } else { "here already" }),
            (self.failed.len(), if was_interrupted { "left; the next call goes on" } else { "failed" }),
            (unmade, "not made yet"),
        ] {
            if number > 0 {
                parts.push(format!("{number} {word}"));
            }
        }
        let (style, word) = match exit {
            Exit::Done => (GOOD, "done:"),
            Exit::Interrupted => (BAD, "interrupted:"),
            _ => (BAD, "failed:"),
        };
        out::say(format!("{} {} in {}", styled(style, word), parts.join(", "), duration(seconds)));
        Ok(exit)
    }
}
