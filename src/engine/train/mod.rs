//! Training: examples and a model in; weights, and a word on every step, out.
//!
//! The same seed gives the same bytes, with any number of threads. Knows no files and no clock.

mod batch;
mod checkpoint;
mod graph;
pub mod ops;
mod optimizer;

pub use batch::{Batch, Example};
pub use checkpoint::State;
pub use graph::{Graph, Parameter, Trained};
pub use optimizer::{AdamW, Decay, LearningRate};

use crate::engine::random::Random;
use anyhow::{Result, ensure};
use candle_core::Tensor;
use checkpoint::Best;
use optimizer::{clip_factor, norm};

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Rows per step; the last step of an epoch may have fewer.
    pub batch_size: usize,
    /// Rows that go through the model together.
    pub micro_batch_size: usize,
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
}

/// Number of steps of one pass over `rows` rows.
pub fn steps_per_epoch(rows: usize, batch_size: usize) -> u64 {
    rows.div_ceil(batch_size.max(1)) as u64
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
pub fn train(
    graph: &Graph,
    examples: &[Example],
    validation: &[Example],
    config: &TrainConfig,
    state: Option<State>,
    watcher: &mut dyn Watcher,
) -> Result<Outcome> {
    let rows: Vec<(u64, &Example)> = (0..).zip(examples).filter(|(_, example)| example.labels() > 0).collect();
    ensure!(!rows.is_empty(), "no row has a token to learn: every answer is empty, or cut off");
    let per_epoch = steps_per_epoch(rows.len(), config.batch_size);
    let order = Random::new(config.seed, "order of rows");
    let mut learner = Learner::new(graph, config, state)?;
    let mut epoch_order = Vec::new();
    while learner.state.step < config.rate.steps {
        let step = learner.state.step;
        if step % per_epoch == 0 || epoch_order.is_empty() {
            epoch_order = order.part(step / per_epoch).permutation(rows.len());
        }
        let begin = usize::try_from(step % per_epoch)? * config.batch_size;
        let batch: Vec<(u64, &Example)> =
            epoch_order[begin..].iter().take(config.batch_size).map(|index| rows[*index]).collect();
        let (loss, grad_norm) = learner.step(&batch)?;
        let done = learner.state.step;
        #[expect(clippy::cast_precision_loss, reason = "rows and epochs are far below 2^53")]
        let epoch = (step / per_epoch) as f64 + (begin + batch.len()) as f64 / rows.len() as f64;
        let tokens = batch.iter().map(|(_, example)| example.ids.len() as u64).sum();
        let learning_rate = config.rate.at(step);
        watcher.saw(&Moment::Step { step: done, epoch, loss, learning_rate, grad_norm, tokens })?;
        let last = done == config.rate.steps;
        if !validation.is_empty() && (last || done % config.evaluate_every.max(1) == 0) {
            let loss = evaluate(graph, validation, config.micro_batch_size)?;
            let best = learner.judge(loss);
            watcher.saw(&Moment::Evaluation { step: done, epoch, loss, best })?;
            if !last && config.patience.is_some_and(|patience| learner.state.failures >= patience) {
                return Ok(learner.outcome(true));
            }
        }
        watcher.between(&learner.state)?;
    }
    Ok(learner.outcome(false))
}

/// The mean loss over all labels of some rows.
pub fn evaluate(graph: &Graph, examples: &[Example], micro_batch_size: usize) -> Result<f64> {
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
struct Learner<'a> {
    graph: &'a Graph,
    config: &'a TrainConfig,
    state: State,
}

impl<'a> Learner<'a> {
    fn new(graph: &'a Graph, config: &'a TrainConfig, state: Option<State>) -> Result<Self> {
        let state = match state {
            None => State::first(graph),
            Some(state) => {
                for (parameter, values) in graph.parameters().iter().zip(&state.values) {
                    parameter.set(values)?;
                }
                state
            }
        };
        Ok(Self { graph, config, state })
    }

    /// One step of the optimiser; returns the loss, and the gradients' norm before clipping.
    fn step(&mut self, rows: &[(u64, &Example)]) -> Result<(f64, f64)> {
        let step = self.state.step;
        let labels: usize = rows.iter().map(|(_, example)| example.labels()).sum();
        #[expect(clippy::cast_precision_loss, reason = "labels are far below 2^53")]
        let scale = 1.0 / labels as f64;
        let mut loss = 0.0;
        let mut grads: Vec<Vec<f32>> = Vec::new();
        for rows in rows.chunks(self.config.micro_batch_size.max(1)) {
            let value = self.graph.loss(&Batch::new(rows.iter().copied()), scale, Some(step))?;
            loss += f64::from(value.to_scalar::<f32>()?);
            self.accumulate(&value, &mut grads)?;
        }
        ensure!(
            loss.is_finite(),
            "the loss of step {} is {loss}: the training has diverged, try a lower `learning_rate`",
            step + 1
        );
        let norm = norm(&grads);
        if !norm.is_finite() {
            let named = self.graph.parameters().iter().zip(&grads);
            let wrong = named.filter(|(_, grad)| grad.iter().any(|value| !value.is_finite()));
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
                grad.iter_mut().for_each(|value| *value *= factor);
            }
            moments.step(values, grad, rate, step + 1, &self.config.adam, parameter.decays);
            parameter.set(values)?;
        }
        self.state.step += 1;
        Ok((loss, norm))
    }

    /// Takes note of an evaluation; returns whether it is the best so far.
    fn judge(&mut self, loss: f64) -> bool {
        let improved = self.state.best.as_ref().is_none_or(|best| loss < best.loss);
        if improved {
            let values = if self.config.keep_best { self.state.values.clone() } else { Vec::new() };
            self.state.best = Some(Best { loss, step: self.state.step, values });
            self.state.failures = 0;
        } else {
            self.state.failures += 1;
        }
        improved
    }

    /// Adds the gradients of one micro-batch. A parameter that the loss does not reach is a mistake in the graph, and
    /// would silently learn nothing.
    fn accumulate(&self, loss: &Tensor, grads: &mut Vec<Vec<f32>>) -> Result<()> {
        let store = loss.backward()?;
        for (index, parameter) in self.graph.parameters().iter().enumerate() {
            let grad = store.get(&parameter.var);
            let grad = grad.ok_or_else(|| anyhow::anyhow!("no gradient reaches `{}`", parameter.name))?;
            let grad = grad.flatten_all()?.to_vec1::<f32>()?;
            match grads.get_mut(index) {
                None => grads.push(grad),
                Some(sum) => sum.iter_mut().zip(&grad).for_each(|(sum, grad)| *sum += grad),
            }
        }
        Ok(())
    }

    fn outcome(self, stopped_early: bool) -> Outcome {
        let State { step: steps, values, best, .. } = self.state;
        let lowest = best.as_ref().map(|best| (best.loss, best.step));
        let (values, kept_step) = match best {
            Some(best) if self.config.keep_best => (best.values, best.step),
            _ => (values, steps),
        };
        Outcome { values, steps, kept_step, best: lowest, stopped_early }
    }
}

#[cfg(test)]
mod tests;
