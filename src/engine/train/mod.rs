//! Training: examples and a model in; weights, and a word on every step, out.
//!
//! The same seed gives the same bytes, with any number of threads. Knows no files and no clock.

mod batch;
mod checkpoint;
mod graph;
mod numbers;
pub mod ops;
mod optimizer;
mod order;

pub use batch::{Batch, Example};
pub use checkpoint::{Recent, State};
pub use graph::{Arithmetic, Fused, Graph, Parameter, Trained};
pub(in crate::engine) use graph::{Heads, Sight, parts};
pub use numbers::Numbers;
pub use optimizer::{AdamW, Decay, LearningRate};
pub use order::{Sequence, sequences};

use crate::random::Random;
use anyhow::{Result, ensure};
use checkpoint::Best;
use numbers::{norm, scalars};
use optimizer::clip_factor;
use order::{epoch_order, tokens};

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Sequences per step; the last step of an epoch may have fewer.
    pub batch_size: usize,
    /// Sequences that go through the model together.
    pub micro_batch_size: usize,
    /// Most tokens of a sequence that several rows are packed into; none: every row is one.
    pub packing: Option<usize>,
    /// Whether sequences of like length come into the same step.
    pub group_by_length: bool,
    /// The learning rate, and with it the number of steps.
    pub rate: LearningRate,
    /// The optimiser.
    pub adam: AdamW,
    /// Gradients are scaled down to this norm; 0: never.
    pub max_grad_norm: f64,
    /// Seed of the order of rows.
    pub seed: u64,
    /// Steps between two evaluations.
    pub evaluate_every: u64,
    /// Evaluations in a row that may fail to improve; none: all steps are done.
    pub patience: Option<u32>,
    /// Whether the weights of the best evaluation are kept, not those of the last step.
    pub keep_best: bool,
    /// How many of the last checkpoints are kept besides, one at every evaluation, whether or not there is something to
    /// evaluate on.
    pub keep_last: usize,
}

/// What happens in a training, as it happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Moment {
    /// A step is done.
    Step {
        /// Counted from 1.
        step: u64,
        /// Passes over the rows so far.
        epoch: f64,
        /// Mean over the step's labels.
        loss: f64,
        /// Its rate.
        learning_rate: f64,
        /// Norm of the gradients before clipping.
        grad_norm: f64,
        /// Tokens that went through the model.
        tokens: u64,
    },
    /// The validation rows were looked at.
    Evaluation {
        /// After this step.
        step: u64,
        /// Passes over the rows so far.
        epoch: f64,
        /// Mean over all labels.
        loss: f64,
        /// Whether it is the lowest so far.
        best: bool,
    },
}

/// What came of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The kept numbers of the parameters, in their order.
    pub values: Vec<Vec<f32>>,
    /// Steps done.
    pub steps: u64,
    /// The step whose weights are kept.
    pub kept_step: u64,
    /// The lowest evaluation loss, and its step.
    pub best: Option<(f64, u64)>,
    /// Whether patience ran out before the last step.
    pub stopped_early: bool,
    /// The checkpoints that are kept besides, the last first; behind them the beginning, where they are fewer than asked.
    pub recent: Vec<Recent>,
}

/// Number of steps of one pass over so many sequences.
pub fn steps_per_epoch(sequences: usize, batch_size: usize) -> u64 {
    sequences.div_ceil(batch_size.max(1)) as u64
}

/// Looks at a training while it goes on. A function of moments is one that never keeps anything.
pub trait Watcher {
    /// Hears what happened.
    fn saw(&mut self, moment: &Moment) -> Result<()>;

    /// May keep where the training stands, between two steps.
    fn between(&mut self, state: &State) -> Result<()>;
}

impl<F: FnMut(&Moment) -> Result<()>> Watcher for F {
    fn saw(&mut self, moment: &Moment) -> Result<()> {
        self(moment)
    }

    fn between(&mut self, _: &State) -> Result<()> {
        Ok(())
    }
}

/// Trains the parameters of `graph`, from the beginning or from where an earlier attempt stood: the result is the same,
/// bit for bit. Rows without a label are passed over. Fails where no row has one, where a token does not fit the model,
/// and where a loss or a gradient is no finite number.
pub fn train<S: Arithmetic>(
    graph: &Graph<S>,
    examples: &[Example],
    validation: &[Example],
    config: &TrainConfig,
    state: Option<State>,
    watcher: &mut dyn Watcher,
) -> Result<Outcome> {
    let sequences = sequences(examples, config.packing);
    ensure!(!sequences.is_empty(), "no row has a token to learn: every answer is empty, or cut off");
    let per_epoch = steps_per_epoch(sequences.len(), config.batch_size);
    let order = Random::new(config.seed, "order of rows");
    let mut learner = Learner::new(graph, config, state)?;
    let mut epoch_order = Vec::new();
    while learner.state.step < config.rate.steps {
        let step = learner.state.step;
        if step % per_epoch == 0 || epoch_order.is_empty() {
            let random = order.part(step / per_epoch);
            epoch_order = self::epoch_order(&sequences, random, config.batch_size, config.group_by_length);
        }
        let begin = usize::try_from(step % per_epoch)? * config.batch_size;
        let batch: Vec<&Sequence<'_>> =
            epoch_order[begin..].iter().take(config.batch_size).map(|index| &sequences[*index]).collect();
        let (loss, grad_norm) = learner.step(&batch)?;
        let done = learner.state.step;
        #[expect(clippy::cast_precision_loss, reason = "rows and epochs are far below 2^53")]
        let epoch = (step / per_epoch) as f64 + (begin + batch.len()) as f64 / sequences.len() as f64;
        let tokens = batch.iter().map(|sequence| tokens(sequence) as u64).sum();
        let learning_rate = config.rate.at(step);
        watcher.saw(&Moment::Step { step: done, epoch, loss, learning_rate, grad_norm, tokens })?;
        let last = done == config.rate.steps;
        let is_time = last || done % config.evaluate_every.max(1) == 0;
        if is_time {
            learner.remember()?;
        }
        if !validation.is_empty() && is_time {
            let loss = evaluate(graph, validation, config.micro_batch_size)?;
            let best = learner.judge(loss)?;
            watcher.saw(&Moment::Evaluation { step: done, epoch, loss, best })?;
            if !last && config.patience.is_some_and(|patience| learner.state.failures >= patience) {
                return learner.outcome(true);
            }
        }
        watcher.between(&learner.state)?;
    }
    learner.outcome(false)
}

/// The mean loss over all labels of some rows.
pub fn evaluate<S: Arithmetic>(graph: &Graph<S>, examples: &[Example], micro_batch_size: usize) -> Result<f64> {
    let labels: usize = examples.iter().map(Example::labels).sum();
    ensure!(labels > 0, "no validation row has a token to look at: every answer is empty, or cut off");
    #[expect(clippy::cast_precision_loss, reason = "labels are far below 2^53")]
    let scale = 1.0 / labels as f64;
    let mut loss = 0.0;
    for rows in examples.chunks(micro_batch_size.max(1)) {
        let batch = Batch::new((0..).zip(rows));
        if !batch.labels.is_empty() {
            loss += f64::from(graph.loss(&batch, scale, None)?.to_scalar::<f32>()?);
        }
    }
    ensure!(loss.is_finite(), "the evaluation loss is {loss}: the training has diverged, try a lower `learning_rate`");
    Ok(loss)
}

/// The parameters on their way.
struct Learner<'a, S: Arithmetic> {
    graph: &'a Graph<S>,
    config: &'a TrainConfig,
    state: State,
}

impl<'a, S: Arithmetic> Learner<'a, S> {
    fn new(graph: &'a Graph<S>, config: &'a TrainConfig, state: Option<State>) -> Result<Self> {
        let state = match state {
            None => {
                let first = State::first(graph)?;
                // The beginning is a checkpoint, until others take its place.
                let begins = (config.keep_last > 0).then(|| Ok(Recent { step: 0, values: in_memory(&first.values)? }));
                State { recent: begins.into_iter().collect::<Result<_>>()?, ..first }
            }
            Some(state) => state.placed(graph)?,
        };
        Ok(Self { graph, config, state })
    }

    /// One step of the optimiser; returns the loss, and the gradients' norm before clipping.
    fn step(&mut self, sequences: &[&Sequence<'_>]) -> Result<(f64, f64)> {
        let step = self.state.step;
        let labels: usize = sequences.iter().copied().flatten().map(|(_, example)| example.labels()).sum();
        #[expect(clippy::cast_precision_loss, reason = "labels are far below 2^53")]
        let scale = 1.0 / labels as f64;
        let mut loss = 0.0;
        let mut grads: Vec<Numbers> = Vec::new();
        for sequences in sequences.chunks(self.config.micro_batch_size.max(1)) {
            let batch = Batch::new(sequences.iter().copied().flatten().copied());
            let (value, of_batch) = self.graph.gradients(&batch, scale, step)?;
            if !value.is_finite() {
                let place = self.graph.first_not_finite(&batch, Some(step))?;
                let place = place.map_or(String::new(), |place| format!(" (the first bad number is in {place})"));
                anyhow::bail!(
                    "the loss of step {} is {value}{place}: the training has diverged, try a lower `learning_rate`",
                    step + 1
                );
            }
            loss += f64::from(value);
            add(&mut grads, of_batch)?;
        }
        let norm = norm(&grads)?;
        if !norm.is_finite() {
            let named = self.graph.parameters().iter().zip(&grads);
            let wrong = named.filter(|(_, grad)| grad.are_finite().is_ok_and(|finite| !finite));
            let name = wrong.map(|(parameter, _)| parameter.name.as_str()).next().unwrap_or("all parameters");
            anyhow::bail!(
                "the gradient of `{name}` is no finite number in step {}: try a lower `learning_rate`",
                step + 1
            );
        }
        let factor = clip_factor(norm, self.config.max_grad_norm);
        let rate = self.config.rate.at(step);
        let state = self.state.values.iter_mut().zip(&mut self.state.moments).zip(&mut grads);
        for (parameter, ((values, moments), grad)) in self.graph.parameters().iter().zip(state) {
            if factor < 1.0 {
                grad.scale(factor)?;
            }
            moments.step(values, grad, rate, step + 1, &self.config.adam, parameter.decays)?;
            parameter.set(values)?;
            if let Numbers::Device(tensor) = values {
                // The parameter's own: they need not be there twice.
                *tensor = parameter.var.as_detached_tensor();
            }
        }
        self.check_values(step)?;
        self.state.step += 1;
        Ok((loss, norm))
    }

    /// Fails where a step has made what is no number.
    fn check_values(&self, step: u64) -> Result<()> {
        // Nothing times zero is zero but what is finite; so one small transfer tells of all tensors of a device.
        let tensors = self.state.values.iter().filter_map(|values| match values {
            Numbers::Device(tensor) => Some(tensor.affine(0.0, 0.0).and_then(|zeros| zeros.sum_all())),
            Numbers::Host(_) => None,
        });
        let mut of_tensors = scalars(tensors)?.into_iter();
        for (parameter, values) in self.graph.parameters().iter().zip(&self.state.values) {
            let finite = match values {
                Numbers::Host(values) => values.iter().all(|value| value.is_finite()),
                Numbers::Device(_) => of_tensors.next() == Some(0.0),
            };
            ensure!(
                finite,
                "`{}` is no finite number after step {}: try a lower `learning_rate`",
                parameter.name,
                step + 1
            );
        }
        Ok(())
    }

    /// Keeps the weights as they are now, where the last are to be kept.
    fn remember(&mut self) -> Result<()> {
        let State { step, values, recent, .. } = &mut self.state;
        recent.insert(0, Recent { step: *step, values: Vec::new() });
        recent.truncate(self.config.keep_last);
        if let Some(now) = recent.first_mut() {
            now.values = in_memory(values)?;
        }
        Ok(())
    }

    /// Takes note of an evaluation; returns whether it is the best so far.
    fn judge(&mut self, loss: f64) -> Result<bool> {
        let improved = self.state.best.as_ref().is_none_or(|best| loss < best.loss);
        if improved {
            let values = if self.config.keep_best { in_memory(&self.state.values)? } else { Vec::new() };
            self.state.best = Some(Best { loss, step: self.state.step, values });
            self.state.failures = 0;
        } else {
            self.state.failures += 1;
        }
        Ok(improved)
    }

    fn outcome(self, stopped_early: bool) -> Result<Outcome> {
        let State { step: steps, values, best, recent, .. } = self.state;
        let lowest = best.as_ref().map(|best| (best.loss, best.step));
        let (values, kept_step) = match best {
            Some(best) if self.config.keep_best => (best.values, best.step),
            _ => (in_memory(&values)?, steps),
        };
        Ok(Outcome { values, steps, kept_step, best: lowest, stopped_early, recent })
    }
}

fn in_memory(values: &[Numbers]) -> Result<Vec<Vec<f32>>> {
    values.iter().map(|values| values.host().map(std::borrow::Cow::into_owned)).collect()
}

/// Adds the gradients of one micro-batch.
fn add(sums: &mut Vec<Numbers>, grads: Vec<Numbers>) -> Result<()> {
    if sums.is_empty() {
        *sums = grads;
        return Ok(());
    }
    sums.iter_mut().zip(&grads).try_for_each(|(sum, grad)| sum.add(grad))
}

#[cfg(test)]
mod tests;
