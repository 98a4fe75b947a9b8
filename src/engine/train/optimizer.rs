//! AdamW (arXiv 1711.05101) by torch's rule, learning rates by transformers', clipping by torch's.

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
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
}

/// Numbers of one piece of work.
const NUMBERS_PER_TASK: usize = 16_384;

impl Moments {
    /// Of a parameter of `count` numbers, before the first step.
    pub fn new(count: usize) -> Self {
        Self { first: vec![0.0; count], second: vec![0.0; count] }
    }

    /// One step on `values` by `grad`. `step` counts from 1; `decays` says whether weight decay applies.
    #[expect(clippy::cast_possible_truncation, reason = "constants of a step are kept as f32")]
    pub fn step(&mut self, values: &mut [f32], grad: &[f32], rate: f64, step: u64, adam: &AdamW, decays: bool) {
        let (beta1, beta2) = adam.betas;
        let power = i32::try_from(step).unwrap_or(i32::MAX);
        let size = (rate / (1.0 - beta1.powi(power))) as f32;
        let root = (1.0 - beta2.powi(power)).sqrt() as f32;
        let shrink = if decays { (1.0 - rate * adam.weight_decay) as f32 } else { 1.0 };
        let (keep1, keep2) = (beta1 as f32, beta2 as f32);
        let (take1, take2, eps) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32, adam.eps as f32);
        let moments = self.first.par_chunks_mut(NUMBERS_PER_TASK).zip(self.second.par_chunks_mut(NUMBERS_PER_TASK));
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
}

/// The Euclidean norm of all gradients together.
pub fn norm(grads: &[Vec<f32>]) -> f64 {
    grads.iter().map(|grad| sum_of_squares(grad)).sum::<f64>().sqrt()
}

fn sum_of_squares(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum()
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
        let mut values = vec![1.0, -2.0];
        let mut expected = [1.0f64, -2.0];
        let (mut m, mut v) = ([0.0f64; 2], [0.0f64; 2]);
        let mut moments = Moments::new(2);
        for (step, grad) in [[0.5f32, -0.1], [-1.0, 0.3]].into_iter().enumerate() {
            moments.step(&mut values, &grad, 0.1, step as u64 + 1, &adam, true);
            for i in 0..2 {
                let g = f64::from(grad[i]);
                expected[i] *= 1.0 - 0.1 * 0.5;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.99 * v[i] + 0.01 * g * g;
                let (m_hat, v_hat) =
                    (m[i] / (1.0 - 0.9f64.powi(step as i32 + 1)), v[i] / (1.0 - 0.99f64.powi(step as i32 + 1)));
                expected[i] -= 0.1 * m_hat / (v_hat.sqrt() + 1e-3);
                assert!((f64::from(values[i]) - expected[i]).abs() < 1e-6, "step {step}: {values:?}, {expected:?}");
            }
        }
        let mut free = vec![1.0];
        Moments::new(1).step(&mut free, &[0.0], 0.1, 1, &adam, false);
        assert_eq!(free, [1.0]);
    }

    #[test]
    fn clipping_scales_all_gradients_together() {
        let norm = norm(&[vec![3.0], vec![0.0, 4.0]]);
        assert_eq!(norm, 5.0);
        assert!((clip_factor(norm, 1.0) - 0.2).abs() < 1e-6);
        assert_eq!([clip_factor(norm, 6.0), clip_factor(norm, 0.0)], [1.0, 1.0]);
    }
}
