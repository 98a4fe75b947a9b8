//! Checkpoints of a training: when they are written, and how the next attempt finds the last whole one.
//!
//! The folder holds one file per checkpoint and `checkpoint.json`, which names the valid one with its digest; it is
//! replaced in one step, so that a kill at any moment leaves the one before.

use crate::engine::plain::device;
use crate::engine::train::{Arithmetic, Graph, State};
use crate::key::Digest;
use crate::record::Machine;
use crate::stage::Context;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between two checkpoints, unless a hint says otherwise.
const EVERY: Duration = Duration::from_secs(60);
/// Writing takes at most this share of the time, unless a hint says otherwise.
const SHARE: u32 = 20;

/// What `checkpoint.json` says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Valid {
    file: String,
    digest: Digest,
    step: u64,
    /// The program and the kind of processor that computed it: others may round otherwise.
    program: String,
    processor: String,
}

/// The name of the file that says which checkpoint is valid.
const VALID: &str = "checkpoint.json";

/// Keeps where a training stands.
#[derive(Debug)]
pub(super) struct Keeper<'a> {
    context: &'a Context<'a>,
    /// `None`: nothing is kept.
    folder: Option<&'a Path>,
    last: Instant,
    /// How long the last one took to write.
    cost: Duration,
    has_complained: bool,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        let folder = context.earlier.unfinished.as_deref();
        Self { context, folder, last: Instant::now(), cost: Duration::ZERO, has_complained: false }
    }

    /// Where an earlier attempt stood, and its notes. What cannot be used is said and passed over.
    pub(super) fn find<S: Arithmetic>(&self, graph: &Graph<S>) -> Option<(State, Vec<u8>)> {
        let folder = self.folder.filter(|folder| folder.join(VALID).exists())?;
        let found = read(folder).and_then(|(valid, bytes)| Ok((valid, State::read(graph, &bytes)?)));
        match found {
            Ok((valid, found)) => {
                self.context.events.log(format!("going on after step {}", valid.step));
                if (valid.program.as_str(), valid.processor.as_str()) != (PROGRAM, processor(graph).as_str()) {
                    self.context.events.warn(format!(
                        "the first {} steps were computed by titer {} on {}: their last bits may differ from this one's",
                        valid.step, valid.program, valid.processor
                    ));
                }
                Some(found)
            }
            Err(error) => {
                let place = folder.display();
                self.context.events.warn(format!("the checkpoint in `{place}` is not used: {error:#}"));
                None
            }
        }
    }

    /// Keeps where the training stands, if it is time. Fails only where the work is asked to end.
    pub(super) fn between<S: Arithmetic>(
        &mut self,
        graph: &Graph<S>,
        state: &State,
        notes: &mut dyn Notes,
    ) -> anyhow::Result<()> {
        let is_last = self.context.events.is_asked_to_end();
        if is_last || self.is_time() {
            self.write(graph, state, notes);
        }
        anyhow::ensure!(!is_last, "asked to end after step {}", state.step);
        Ok(())
    }

    fn is_time(&self) -> bool {
        let every = match self.context.hints.checkpoint_every {
            Some(every) => every.duration(),
            None => EVERY.max(self.cost * SHARE),
        };
        self.last.elapsed() >= every
    }

    /// A checkpoint that cannot be written costs time only if the work is stopped.
    fn write<S: Arithmetic>(&mut self, graph: &Graph<S>, state: &State, notes: &mut dyn Notes) {
        let Some(folder) = self.folder else { return };
        let started = Instant::now();
        let written = notes.so_far().and_then(|notes| write(folder, graph, state, &notes));
        if let Err(error) = written
            && !std::mem::replace(&mut self.has_complained, true)
        {
            self.context.events.warn(format!("a checkpoint could not be written: {error:#}"));
        }
        (self.cost, self.last) = (started.elapsed(), Instant::now());
    }
}

/// What a checkpoint takes along.
pub(super) trait Notes {
    /// All of it so far.
    fn so_far(&mut self) -> anyhow::Result<Vec<u8>>;
}

const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// The kind of processor; that of a card, where the graph computes on one.
fn processor<S: Arithmetic>(graph: &Graph<S>) -> String {
    match device::name(graph.device()) {
        "cpu" => Machine::here().cpu_features,
        card => card.to_string(),
    }
}

fn read(folder: &Path) -> anyhow::Result<(Valid, Vec<u8>)> {
    let valid: Valid = serde_json::from_slice(&fs::read(folder.join(VALID))?)?;
    let path = folder.join(Path::new(&valid.file).file_name().context("it names no file")?);
    let bytes = fs::read(&path)?;
    anyhow::ensure!(Digest::of(&bytes) == valid.digest, "`{}` is damaged", path.display());
    Ok((valid, bytes))
}

fn write<S: Arithmetic>(folder: &Path, graph: &Graph<S>, state: &State, notes: &[u8]) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    // Two processes may be at it, where one was taken for dead: each writes files of its own.
    let name = format!("{}-{}", state.step, std::process::id());
    let (file, path) = (format!("{name}.safetensors"), folder.join(format!("{name}.safetensors")));
    state.write(graph, notes, &path)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(&path)?)?;
    let (digest, program) = (hasher.finalize().into(), PROGRAM.to_string());
    let valid = Valid { file, digest, step: state.step, program, processor: processor(graph) };
    let new = folder.join(format!("{name}.json"));
    fs::write(&new, serde_json::to_vec(&valid)?)?;
    fs::rename(&new, folder.join(VALID))?;
    older(folder, &path).for_each(|path| drop(fs::remove_file(path)));
    Ok(())
}

/// Checkpoints other than this one.
fn older<'a>(folder: &Path, newest: &'a Path) -> impl Iterator<Item = PathBuf> + use<'a> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(move |path| path != newest && path.extension().is_some_and(|ending| ending == "safetensors"))
}
