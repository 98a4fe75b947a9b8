//! What a person sees of a run: bars on a terminal, plain lines elsewhere, JSON lines for programs.

use super::out::{self, BAD, BOLD, CALM, GOOD, duration, relative_to_here, styled};
use crate::manifest::Pipeline;
use crate::run::{Observer, RunEvent};
use crate::settings::Bytes;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;

/// Bars and lines for people.
pub(super) struct Progress<'a> {
    pipeline: &'a Pipeline,
    bars: MultiProgress,
    running: BTreeMap<usize, ProgressBar>,
    /// The instances that the plan does not know as cached.
    open: BTreeSet<usize>,
    ended: usize,
    /// At the end of a run, when what was made is still on its way to the shared cache.
    sending: Option<ProgressBar>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(pipeline: &'a Pipeline, open: BTreeSet<usize>) -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bars = MultiProgress::with_draw_target(target);
        Self { pipeline, bars, running: BTreeMap::new(), open, ended: 0, sending: None }
    }

    /// A line that stays, above the bars.
    fn line(&self, text: &str) {
        self.bars.suspend(|| out::say(text));
    }

    /// Takes the bar away.
    fn pause(&mut self, node: usize) {
        if let Some(bar) = self.running.remove(&node) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn ended(&mut self, node: usize, text: &str) {
        self.pause(node);
        self.ended += 1;
        let place = styled(CALM, format!("[{}/{}]", self.ended, self.open.len()));
        self.line(&format!("{place} {} {text}", self.pipeline.instances[node].id));
    }
}

impl Observer for Progress<'_> {
    fn event(&mut self, node: usize, event: &RunEvent<'_>) {
        let id = &self.pipeline.instances[node].id;
        match event {
            // What it reads ran again and came out as it was.
            RunEvent::Cached if self.open.contains(&node) => {
                self.ended(node, "is cached: what it reads is the same as before");
            }
            RunEvent::Cached => {}
            RunEvent::Started(..) | RunEvent::Fetching(_) => {
                self.pause(node);
                let id = &self.pipeline.instances[node].id;
                let bar = self.bars.add(ProgressBar::no_length());
                let template = match event {
                    RunEvent::Fetching(_) => "{spinner} {prefix} {wide_bar} {bytes}/{total_bytes} {msg}",
                    _ => "{spinner} {prefix} {wide_bar} {pos}/{len} {msg}",
                };
                bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
                bar.set_prefix(id.to_string());
                bar.enable_steady_tick(std::time::Duration::from_millis(200));
                self.running.insert(node, bar);
            }
            RunEvent::Fetched(bytes) => self.ended(node, &format!("{} ({})", styled(GOOD, "fetched"), Bytes(*bytes))),
            RunEvent::Sent(_) | RunEvent::ComputesOn(_) => {}
            RunEvent::Progress(progress) => {
                if let Some(bar) = self.running.get(&node) {
                    bar.set_length(progress.total);
                    bar.set_position(progress.done);
                    let eta = duration(bar.eta().as_secs_f64());
                    bar.set_message(format!("{} {} · {eta} left", progress.unit, progress.note));
                }
            }
            RunEvent::Warned(message) => self.line(&format!("{} {id}: {message}", styled(BOLD, "warning:"))),
            RunEvent::Ran(seconds) => self.ended(node, &format!("{} in {}", styled(GOOD, "ran"), duration(*seconds))),
            RunEvent::Observed(seconds, differs, _) => {
                let same = match differs.is_empty() {
                    true => styled(GOOD, "the same bytes as before"),
                    false => styled(BAD, format!("differs from the first run in {}", differs.join(", "))),
                };
                self.ended(node, &format!("ran again in {}: {same}", duration(*seconds)));
            }
            RunEvent::Elsewhere => self.line(&styled(CALM, format!("{id} is being made by another titer: waiting"))),
            RunEvent::Shared => self.ended(node, "is the same work as another: shared"),
            RunEvent::Failed(_, message, log) => {
                self.ended(node, &format!("{}: {message}", styled(BAD, "failed")));
                if let Some(log) = log {
                    self.line(&format!("log: {}", relative_to_here(log).display()));
                }
            }
            RunEvent::Retries(cause, message, pause) => {
                self.pause(node);
                let pause = duration(pause.as_secs_f64());
                self.line(&format!("{id} {} ({cause}), next try in {pause}: {message}", styled(BAD, "failed")));
            }
            RunEvent::Stopped => {
                self.pause(node);
                self.line(&styled(CALM, format!("{id} stopped")));
            }
            RunEvent::Blocked => self.ended(node, &styled(CALM, "not run: something that it reads failed")),
        }
    }

    fn sending(&mut self, left: usize) {
        let bar = self.sending.get_or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new_spinner());
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            bar
        });
        bar.set_message(format!("sending to the shared cache: {left} left"));
    }

    fn stopping(&mut self, waited_for: usize) {
        let waits = match waited_for {
            0 => String::new(),
            _ => format!(" when what is nearly done has ended ({waited_for}); Ctrl-C again stops at once"),
        };
        self.line(&format!("{}{waits}", styled(BOLD, "stopping")));
    }
}

/// Says nothing: for a command whose answer is one document.
pub(super) struct Silent;

impl Observer for Silent {
    fn event(&mut self, _node: usize, _event: &RunEvent<'_>) {}

    fn stopping(&mut self, _waited_for: usize) {}

    fn sending(&mut self, _left: usize) {}
}

/// One JSON object per event, for programs.
pub(super) struct JsonLines<'a> {
    pipeline: &'a Pipeline,
}

impl<'a> JsonLines<'a> {
    pub(super) fn new(pipeline: &'a Pipeline) -> Self {
        Self { pipeline }
    }
}

impl Observer for JsonLines<'_> {
    fn event(&mut self, node: usize, event: &RunEvent<'_>) {
        let (name, more) = match event {
            RunEvent::Cached => ("cached", serde_json::json!({})),
            RunEvent::Started(threads, _) => ("started", serde_json::json!({ "threads": threads })),
            RunEvent::Fetching(bytes) => ("fetching", serde_json::json!({ "bytes": bytes })),
            RunEvent::Fetched(bytes) => ("fetched", serde_json::json!({ "bytes": bytes })),
            RunEvent::Sent(bytes) => ("sent", serde_json::json!({ "bytes": bytes })),
            RunEvent::ComputesOn(device) => ("computes_on", serde_json::json!({ "device": device })),
            RunEvent::Progress(progress) => ("progress", serde_json::json!({ "progress": progress })),
            RunEvent::Warned(message) => ("warning", serde_json::json!({ "message": message })),
            RunEvent::Ran(seconds) => ("ran", serde_json::json!({ "seconds": seconds })),
            RunEvent::Observed(seconds, differs, _) => {
                ("observed", serde_json::json!({ "seconds": seconds, "differs": differs }))
            }
            RunEvent::Elsewhere => ("elsewhere", serde_json::json!({})),
            RunEvent::Shared => ("shared", serde_json::json!({})),
            RunEvent::Retries(cause, message, pause) => {
                ("retries", serde_json::json!({ "cause": cause, "message": message, "pause": pause.as_secs_f64() }))
            }
            RunEvent::Stopped => ("stopped", serde_json::json!({})),
            RunEvent::Failed(cause, message, log) => {
                ("failed", serde_json::json!({ "cause": cause, "message": message, "log": log }))
            }
            RunEvent::Blocked => ("blocked", serde_json::json!({})),
        };
        let mut line = serde_json::json!({ "event": name, "instance": self.pipeline.instances[node].id.to_string() });
        if let (Some(line), Some(more)) = (line.as_object_mut(), more.as_object()) {
            line.extend(more.clone());
        }
        out::json_line(&line);
    }

    fn sending(&mut self, left: usize) {
        out::json_line(&serde_json::json!({ "event": "sending", "left": left }));
    }

    fn stopping(&mut self, waited_for: usize) {
        out::json_line(&serde_json::json!({ "event": "stopping", "waits_for": waited_for }));
    }
}
