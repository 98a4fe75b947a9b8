//! Where a training stands between two steps, and the file that it survives in.
//!
//! All that a step depends on is in it: the parameters' numbers, the optimiser's moments, the number of the step (which
//! fixes the order of rows, the learning rate and every number of dropout), and what the evaluations have shown. So an
//! attempt that goes on from it gives the bits that one without a break gives.

use super::graph::{Arithmetic, Graph};
use super::numbers::Numbers;
use super::optimizer::Moments;
use anyhow::{Context as _, Result, ensure};
use candle_core::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Where a training stands.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// The parameters' numbers, in their order.
    pub(super) values: Vec<Numbers>,
    /// What the optimiser remembers of each.
    pub(super) moments: Vec<Moments>,
    /// The best evaluation.
    pub(super) best: Option<Best>,
    /// Evaluations in a row that failed to improve on it.
    pub(super) failures: u32,
    /// The weights that are kept besides, the last first.
    pub(super) recent: Vec<Recent>,
}

/// The parameters after a step; 0: before the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Recent {
    /// The step.
    pub step: u64,
    /// Their numbers, in their order.
    pub values: Vec<Vec<f32>>,
}

/// The best evaluation so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Best {
    pub(super) loss: f64,
    pub(super) step: u64,
    /// The parameters' numbers then, where they are kept.
    pub(super) values: Vec<Vec<f32>>,
}

/// What of a state is no tensor.
#[derive(Serialize, Deserialize)]
struct Counts {
    step: u64,
    failures: u32,
    /// The bits of the loss: a text of decimal digits would have to be read with care.
    best: Option<(u64, u64)>,
    keeps_best: bool,
    /// The steps of what is kept besides.
    #[serde(default)]
    recent: Vec<u64>,
}

/// Name of the tensor that holds the caller's notes.
const NOTES: &str = "notes";
/// Name of the entry that holds [`Counts`].
const COUNTS: &str = "counts";

impl State {
    /// Before the first step.
    pub(super) fn first<S: Arithmetic>(graph: &Graph<S>) -> Result<Self> {
        let values: Vec<Numbers> = graph.values()?;
        let moments = values.iter().map(Moments::of).collect::<Result<_>>()?;
        Ok(Self { step: 0, values, moments, best: None, failures: 0, recent: Vec::new() })
    }

    /// At the place where the graph's optimiser works, and the parameters' numbers in the graph.
    pub(super) fn placed<S: Arithmetic>(mut self, graph: &Graph<S>) -> Result<Self> {
        for (parameter, values) in graph.parameters().iter().zip(&self.values) {
            parameter.set(values)?;
        }
        self.values = graph.values()?;
        for (moments, parameter) in self.moments.iter_mut().zip(graph.parameters()) {
            for numbers in [&mut moments.first, &mut moments.second] {
                *numbers = graph.place(numbers, parameter)?;
            }
        }
        Ok(self)
    }

    /// Writes it as a safetensors file, with `notes` of the caller's.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write<S: Arithmetic>(&self, graph: &Graph<S>, notes: &[u8], path: &Path) -> Result<()> {
        let best = self.best.as_ref();
        let keeps_best = best.is_some_and(|best| !best.values.is_empty());
        let counts = Counts {
            step: self.step,
            failures: self.failures,
            best: best.map(|best| (best.loss.to_bits(), best.step)),
            keeps_best,
            recent: self.recent.iter().map(|recent| recent.step).collect(),
        };
        let mut tensors = vec![(NOTES.to_string(), Part::bytes(notes))];
        for (index, parameter) in graph.parameters().iter().enumerate() {
            let mut add = |what: &str, part| tensors.push((format!("{what} {}", parameter.name), part));
            add("value", Part::numbers(&self.values[index]));
            add("first moment", Part::numbers(&self.moments[index].first));
            add("second moment", Part::numbers(&self.moments[index].second));
            if let Some(best) = best.filter(|_| keeps_best) {
                add("best value", Part::values(&best.values[index]));
            }
            for recent in &self.recent {
                add(&value_after(recent.step), Part::values(&recent.values[index]));
            }
        }
        let metadata = Some([(COUNTS.to_string(), serde_json::to_string(&counts)?)].into());
        safetensors::serialize_to_file(tensors, metadata, path)
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Reads what [`State::write`] wrote of the same graph, and the caller's notes.
    ///
    /// # Errors
    /// The bytes are no such file, or one of another graph.
    pub fn read<S: Arithmetic>(graph: &Graph<S>, bytes: &[u8]) -> Result<(Self, Vec<u8>)> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let counts = metadata.metadata().as_ref().and_then(|map| map.get(COUNTS)).context("it is no checkpoint")?;
        let counts: Counts = serde_json::from_str(counts)?;
        let file = SafeTensors::deserialize(bytes)?;
        let tensors: BTreeMap<&str, &[u8]> = file.iter().map(|(name, view)| (name, view.data())).collect();
        let take = |what: &str| -> Result<Vec<Vec<f32>>> {
            let numbers = graph.parameters().iter().map(|parameter| {
                let name = format!("{what} {}", parameter.name);
                let bytes = tensors.get(name.as_str()).with_context(|| format!("it has no tensor `{name}`"))?;
                let count = parameter.var.elem_count();
                ensure!(bytes.len() == count * size_of::<f32>(), "its tensor `{name}` has not {count} numbers");
                Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
            });
            numbers.collect()
        };
        let numbers = |what: &str| Ok::<_, anyhow::Error>(take(what)?.into_iter().map(Numbers::Host));
        let moments = numbers("first moment")?.zip(numbers("second moment")?);
        let best_values = if counts.keeps_best { take("best value")? } else { Vec::new() };
        let recent = counts.recent.iter().map(|step| Ok(Recent { step: *step, values: take(&value_after(*step))? }));
        let state = Self {
            recent: recent.collect::<Result<_>>()?,
            step: counts.step,
            values: numbers("value")?.collect(),
            moments: moments.map(|(first, second)| Moments { first, second }).collect(),
            best: counts.best.map(|(loss, step)| Best { loss: f64::from_bits(loss), step, values: best_values }),
            failures: counts.failures,
        };
        Ok((state, tensors.get(NOTES).copied().unwrap_or_default().to_vec()))
    }
}

/// What a tensor of the parameters after an earlier step is called, before its name.
fn value_after(step: u64) -> String {
    format!("value after {step}")
}

/// A tensor on its way into the file: one is copied at a time, not all of them together.
struct Part<'a> {
    content: Content<'a>,
    shape: [usize; 1],
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Bytes(&'a [u8]),
    Values(&'a [f32]),
    /// On a device.
    Tensor(&'a Tensor),
}

impl<'a> Part<'a> {
    fn bytes(bytes: &'a [u8]) -> Self {
        Self { content: Content::Bytes(bytes), shape: [bytes.len()] }
    }

    fn values(values: &'a [f32]) -> Self {
        Self { content: Content::Values(values), shape: [values.len()] }
    }

    fn numbers(numbers: &'a Numbers) -> Self {
        match numbers {
            Numbers::Host(values) => Self::values(values),
            Numbers::Device(tensor) => Self { content: Content::Tensor(tensor), shape: [tensor.elem_count()] },
        }
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl View for Part<'_> {
    fn dtype(&self) -> Dtype {
        match self.content {
            Content::Bytes(_) => Dtype::U8,
            Content::Values(_) | Content::Tensor(_) => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.content {
            Content::Bytes(bytes) => bytes.into(),
            Content::Values(values) => bytes_of(values).into(),
            // There is no way to say that a device failed; what is written then is seen to be too short.
            Content::Tensor(tensor) => {
                let values = tensor.flatten_all().and_then(|flat| flat.to_vec1());
                bytes_of(&values.unwrap_or_default()).into()
            }
        }
    }

    fn data_len(&self) -> usize {
        match self.content {
            Content::Bytes(bytes) => bytes.len(),
            Content::Values(_) | Content::Tensor(_) => self.shape[0] * size_of::<f32>(),
        }
    }
}
