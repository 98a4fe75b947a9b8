//! AdamW (arXiv 1711.05101) by torch's rule, learning rates by transformers', clipping by torch's.

use super::numbers::Numbers;
use anyhow::{Result, bail};
use candle_core::Tensor;
use rayon::prelude::*;

/// How the learning rate goes over the steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// The highest.
    pub peak: f64,
    /// Steps of its rise from zero.
    pub warmup: u64,
    /// All steps.
    pub steps: u64,
    /// How it falls.
    pub decay: Decay,
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// In a straight line to zero.
    Linear,
    /// In half a cosine.
    Cosine {
        /// To this share of the highest.
        floor: f64,
    },
    /// Not at all.
    Constant,
}

impl LearningRate {
    /// The rate of a step, counted from 0 (so the first step of a warm-up learns nothing, as in transformers).
    #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^53")]
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let done = (step - self.warmup) as f64 / (self.steps.saturating_sub(self.warmup)).max(1) as f64;
        self.peak
            * match self.decay {
                Decay::Linear => (1.0 - done).max(0.0),
                Decay::Cosine { floor } => {
                    let cosine = (0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())).max(0.0);
                    cosine * (1.0 - floor) + floor
                }
                Decay::Constant => 1.0,
            }
    }
}

/// Settings of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of a weight that is taken off per step and learning rate.
    pub weight_decay: f64,
}

/// What AdamW remembers of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Numbers,
    /// Running mean of its square.
    pub second: Numbers,
}

/// Numbers of one piece of work.
const NUMBERS_PER_TASK: usize = 16_384;

/// The constants of one step.
struct Step {
    /// What the mean of the gradient is multiplied by.
    size: f32,
    /// What the root of the mean square is divided by.
    root: f32,
    /// What weight decay leaves.
    shrink: f32,
    keep: (f32, f32),
    take: (f32, f32),
    eps: f32,
}

impl Step {
    /// Of a step that is counted from 1.
    #[expect(clippy::cast_possible_truncation, reason = "constants of a step are kept as f32")]
    fn new(rate: f64, step: u64, adam: &AdamW, decays: bool) -> Self {
        let (beta1, beta2) = adam.betas;
        let power = i32::try_from(step).unwrap_or(i32::MAX);
        Self {
            size: (rate / (1.0 - beta1.powi(power))) as f32,
            root: (1.0 - beta2.powi(power)).sqrt() as f32,
            shrink: if decays { (1.0 - rate * adam.weight_decay) as f32 } else { 1.0 },
            keep: (beta1 as f32, beta2 as f32),
            take: ((1.0 - beta1) as f32, (1.0 - beta2) as f32),
            eps: adam.eps as f32,
        }
    }

    fn on_slices(&self, values: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32]) {
        let Self { size, root, shrink, keep: (keep1, keep2), take: (take1, take2), eps } = *self;
        let moments = first.par_chunks_mut(NUMBERS_PER_TASK).zip(second.par_chunks_mut(NUMBERS_PER_TASK));
        values.par_chunks_mut(NUMBERS_PER_TASK).zip(grad.par_chunks(NUMBERS_PER_TASK)).zip(moments).for_each(
            |((values, grad), (first, second))| {
                for (((value, grad), first), second) in values.iter_mut().zip(grad).zip(first).zip(second) {
                    *first = keep1 * *first + take1 * grad;
                    *second = keep2 * *second + take2 * grad * grad;
                    *value = *value * shrink - size * (*first / (second.sqrt() / root + eps));
                }
            },
        );
    }

    /// The new values.
    fn on_tensors(
        &self,
        values: &Tensor,
        grad: &Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
    ) -> candle_core::Result<Tensor> {
        let times = |tensor: &Tensor, factor: f32| tensor.affine(f64::from(factor), 0.0);
        *first = (times(first, self.keep.0)? + times(grad, self.take.0)?)?;
        *second = (times(second, self.keep.1)? + times(&grad.sqr()?, self.take.1)?)?;
        let below = second.sqrt()?.affine(1.0 / f64::from(self.root), f64::from(self.eps))?;
        times(values, self.shrink)? - times(&first.div(&below)?, self.size)?
    }
}

impl Moments {
    /// Of a parameter before the first step.
    pub fn of(values: &Numbers) -> Result<Self> {
        Ok(Self { first: values.zeros()?, second: values.zeros()? })
    }

    /// One step on `values` by `grad`. `step` counts from 1; `decays` says whether weight decay applies.
    pub fn step(
        &mut self,
        values: &mut Numbers,
        grad: &Numbers,
        rate: f64,
        step: u64,
        adam: &AdamW,
        decays: bool,
    ) -> Result<()> {
        let step = Step::new(rate, step, adam, decays);
        match (values, grad, &mut self.first, &mut self.second) {
            (Numbers::Host(values), Numbers::Host(grad), Numbers::Host(first), Numbers::Host(second)) => {
                step.on_slices(values, grad, first, second);
            }
            (Numbers::Device(values), Numbers::Device(grad), Numbers::Device(first), Numbers::Device(second)) => {
                *values = step.on_tensors(values, grad, first, second)?;
            }
            _ => bail!("a step needs all numbers at one place"),
        }
        Ok(())
    }
}

/// What gradients of a norm are multiplied by, so that the norm is at most `max` (torch's rule; `max` 0: never).
#[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
pub fn clip_factor(norm: f64, max: f64) -> f32 {
    if max > 0.0 { (max / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall_as_in_transformers() {
        let rate = |decay| LearningRate { peak: 2.0, warmup: 4, steps: 12, decay };
        let at = |decay, steps: [u64; 5]| steps.map(|step| rate(decay).at(step));
        let steps = [0, 2, 4, 8, 12];
        assert_eq!(at(Decay::Linear, steps), [0.0, 1.0, 2.0, 1.0, 0.0]);
        assert_eq!(at(Decay::Constant, steps), [0.0, 1.0, 2.0, 2.0, 2.0]);
        let cosine = at(Decay::Cosine { floor: 0.0 }, steps);
        for (rate, expected) in cosine.iter().zip([0.0, 1.0, 2.0, 1.0, 0.0]) {
            assert!((rate - expected).abs() < 1e-12, "{cosine:?}");
        }
        assert!((rate(Decay::Cosine { floor: 0.0 }).at(6) - (1.0 + 0.5f64.sqrt())).abs() < 1e-12);
    }

    #[test]
    fn rates_are_those_of_transformers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/engine/adapters/schedules.json");
        let schedules: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(schedules.len(), 5);
        for schedule in &schedules {
            let floor = schedule["floor"].as_f64().unwrap();
            let decay = match schedule["name"].as_str().unwrap() {
                "linear" => Decay::Linear,
                "constant_with_warmup" => Decay::Constant,
                _ => Decay::Cosine { floor },
            };
            let number = |name: &str| schedule[name].as_u64().unwrap();
            let rate = LearningRate { peak: 2.0, warmup: number("warmup"), steps: number("steps"), decay };
            for (step, expected) in schedule["rates"].as_array().unwrap().iter().enumerate() {
                let (rate, expected) = (rate.at(step as u64), expected.as_f64().unwrap());
                assert!((rate - expected).abs() < 1e-12, "{}, step {step}: {rate} is not {expected}", schedule["name"]);
            }
        }
    }

    #[test]
    fn steps_are_torchs() {
        // torch.optim.AdamW(lr=0.1, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.5) on [1, -2] with gradients [0.5, -0.1]
        // and then [-1, 0.3], worked out by its documented rule in double precision.
        let adam = AdamW { betas: (0.9, 0.99), eps: 1e-3, weight_decay: 0.5 };
        let host = |values: &[f32]| Numbers::Host(values.to_vec());
        let tensor = |values: &[f32]| {
            Numbers::Device(Tensor::from_slice(values, values.len(), &candle_core::Device::Cpu).unwrap())
        };
        for place in [&host as &dyn Fn(&[f32]) -> Numbers, &tensor] {
            let mut values = place(&[1.0, -2.0]);
            let mut expected = [1.0f64, -2.0];
            let (mut m, mut v) = ([0.0f64; 2], [0.0f64; 2]);
            let mut moments = Moments::of(&values).unwrap();
            for (step, grad) in [[0.5f32, -0.1], [-1.0, 0.3]].into_iter().enumerate() {
                moments.step(&mut values, &place(&grad), 0.1, step as u64 + 1, &adam, true).unwrap();
                for i in 0..2 {
                    let g = f64::from(grad[i]);
                    expected[i] *= 1.0 - 0.1 * 0.5;
                    m[i] = 0.9 * m[i] + 0.1 * g;
                    v[i] = 0.99 * v[i] + 0.01 * g * g;
                    let (m_hat, v_hat) =
                        (m[i] / (1.0 - 0.9f64.powi(step as i32 + 1)), v[i] / (1.0 - 0.99f64.powi(step as i32 + 1)));
                    expected[i] -= 0.1 * m_hat / (v_hat.sqrt() + 1e-3);
                    let value = values.host().unwrap()[i];
                    assert!((f64::from(value) - expected[i]).abs() < 1e-6, "step {step}: {values:?}, {expected:?}");
                }
            }
            let mut free = place(&[1.0]);
            Moments::of(&free).unwrap().step(&mut free, &place(&[0.0]), 0.1, 1, &adam, false).unwrap();
            assert_eq!(free, host(&[1.0]));
        }
    }

    #[test]
    fn clipping_scales_all_gradients_together() {
        assert!((clip_factor(5.0, 1.0) - 0.2).abs() < 1e-6);
        assert_eq!([clip_factor(5.0, 6.0), clip_factor(5.0, 0.0)], [1.0, 1.0]);
    }
}
