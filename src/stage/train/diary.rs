//! What is told of a training while it goes on: `metrics.jsonl`, its log, and how far it is.

use super::checkpoint::Notes;
use super::pace::Pace;
use crate::engine::train::Moment;
use crate::stage::{Context, Progress};
use anyhow::Context as _;
use serde_json::json;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between two words about progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Points of a training's curve of speed and memory in its log.
const CURVE_POINTS: u64 = 50;

/// Writes `metrics.jsonl` and says how far the training is. Times go to the events alone: outputs must not hold any.
pub(super) struct Diary<'a> {
    context: &'a Context<'a>,
    metrics: BufWriter<File>,
    steps: u64,
    pace: Pace,
    said: Option<Instant>,
}

impl<'a> Diary<'a> {
    /// `noted` is what an earlier attempt had written.
    pub fn new(context: &'a Context<'a>, steps: u64, pace: Pace, noted: &[u8]) -> anyhow::Result<Self> {
        let mut metrics = create_metrics(context)?;
        metrics.write_all(noted).context("cannot write `metrics.jsonl`")?;
        Ok(Self { context, metrics, steps, pace, said: None })
    }

    pub fn note(&mut self, moment: &Moment) -> anyhow::Result<()> {
        let line = match moment {
            Moment::Step { step, epoch, loss, learning_rate, grad_norm, tokens } => {
                self.pace.tokens += tokens;
                self.say(*step, *loss);
                json!({
                    "step": step, "epoch": epoch, "loss": loss, "learning_rate": learning_rate,
                    "grad_norm": grad_norm, "tokens": tokens,
                })
            }
            Moment::Evaluation { step, epoch, loss, best } => {
                let mark = if *best { " (best)" } else { "" };
                self.context.events.log(format!("step {step}: validation loss {loss:.4}{mark}"));
                json!({ "step": step, "epoch": epoch, "validation_loss": loss, "best": best })
            }
        };
        writeln!(self.metrics, "{line}").context("cannot write `metrics.jsonl`")
    }

    fn say(&mut self, step: u64, loss: f64) {
        let now = Instant::now();
        if step == 1 || step * CURVE_POINTS / self.steps > (step - 1) * CURVE_POINTS / self.steps {
            self.context.events.log(format!("step {step}: loss {loss:.4}, {}", self.pace.in_full()));
        }
        if step < self.steps && self.said.is_some_and(|said| now - said < PROGRESS_EVERY) {
            return;
        }
        self.said = Some(now);
        let note = format!("loss {loss:.3}, {:.0} tokens/s", self.pace.tokens_per_second());
        self.context.events.progress(Progress { done: step, total: self.steps, unit: "steps".to_string(), note });
    }

    pub fn finish(mut self) -> anyhow::Result<()> {
        self.metrics.flush().context("cannot write `metrics.jsonl`")
    }
}

impl Notes for Diary<'_> {
    fn so_far(&mut self) -> anyhow::Result<Vec<u8>> {
        self.metrics.flush().context("cannot write `metrics.jsonl`")?;
        let path = metrics_path(self.context);
        fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))
    }
}

fn metrics_path(context: &Context<'_>) -> PathBuf {
    context.output.join("metrics.jsonl")
}

pub(super) fn create_metrics(context: &Context<'_>) -> anyhow::Result<BufWriter<File>> {
    let path = metrics_path(context);
    Ok(BufWriter::new(File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?))
}
