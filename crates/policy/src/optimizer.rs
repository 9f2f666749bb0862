//! AdamW with decoupled weight decay, clipping by the global norm, and moving averages of the gradient.
//!
//! All state is host lists beside [`Weights`], so that it is saved and restored to the same bits and a
//! step is one pass over memory.

use serde::{Deserialize, Serialize};
use toehold_rollout::{GradientMoments, LearnError, StepStats};

use crate::Weights;

/// Settings of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Each step a matrix shrinks by `rate · weight_decay`; norms do not.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient; longer ones are scaled down to it. Infinite: never.
    pub clip: f64,
}

impl Default for AdamW {
    /// 0.9, 0.95, 1e-8, no decay, clip 1. The second moment forgets faster than Adam's 0.999 because
    /// runs are a few hundred steps long.
    fn default() -> AdamW {
        AdamW { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.0, clip: 1.0 }
    }
}

/// Decay of the averages that [`GradientMoments`] is made of (PrefixRL's).
const MOMENTS_BETA: f64 = 0.9;

/// What the optimizer remembers: four lists as long as the weights, and how many steps it made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OptimizerState {
    pub(crate) steps: u64,
    /// Adam's moments of the clipped gradient.
    pub(crate) first: Vec<Vec<f32>>,
    pub(crate) second: Vec<Vec<f32>>,
    /// Averages of the gradient before clipping, for [`GradientMoments`].
    pub(crate) mean: Vec<Vec<f32>>,
    pub(crate) square: Vec<Vec<f32>>,
}

impl OptimizerState {
    /// No step made yet.
    pub(crate) fn new(weights: &Weights) -> OptimizerState {
        let zeros = zeros_like(weights);
        OptimizerState { steps: 0, first: zeros.clone(), second: zeros.clone(), mean: zeros.clone(), square: zeros }
    }

    /// Applies `gradient` to `weights`.
    ///
    /// Where the gradient or an updated weight is not finite, weights and state stay as they are.
    pub(crate) fn step(
        &mut self,
        weights: &mut Weights,
        gradient: &[Vec<f32>],
        rate: f64,
        settings: &AdamW,
    ) -> Result<StepStats, LearnError> {
        let norm = gradient.iter().flatten().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(LearnError::NotFinite { norm });
        }
        let clipped = norm > settings.clip;
        let scale = if clipped { settings.clip / norm } else { 1.0 };
        let steps = self.steps + 1;
        let corrected = |beta: f64| 1.0 / (1.0 - beta.powf(steps as f64));
        let update = Update {
            scale: scale as f32,
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            rate: (rate * corrected(settings.beta1)) as f32,
            correction2: corrected(settings.beta2) as f32,
            epsilon: settings.epsilon as f32,
        };
        // A new set is made and swapped in only once it is known to be finite.
        let mut next = (self.first.clone(), self.second.clone(), weights.clone());
        for (i, gradient) in gradient.iter().enumerate() {
            let tensor = &mut next.2.tensors[i];
            let decay = if tensor.shape.len() > 1 { rate * settings.weight_decay } else { 0.0 };
            update.apply((1.0 - decay) as f32, gradient, &mut next.0[i], &mut next.1[i], &mut tensor.values);
        }
        if !next.2.tensors.iter().flat_map(|tensor| &tensor.values).all(|value| value.is_finite()) {
            return Err(LearnError::NotFinite { norm });
        }
        (self.first, self.second, *weights) = next;
        self.steps = steps;
        let moments = self.moments(gradient);
        Ok(StepStats { gradient_norm: norm, clipped, moments: Some(moments) })
    }

    /// Moves the averages on and measures them.
    fn moments(&mut self, gradient: &[Vec<f32>]) -> GradientMoments {
        let (keep, add) = (MOMENTS_BETA as f32, (1.0 - MOMENTS_BETA) as f32);
        let (mut norm, mut deviation) = (0.0, 0.0);
        for ((gradient, mean), square) in gradient.iter().zip(&mut self.mean).zip(&mut self.square) {
            for ((&g, m), v) in gradient.iter().zip(mean).zip(square) {
                *m = keep * *m + add * g;
                *v = keep * *v + add * g * g;
                norm += f64::from(*m * *m);
                deviation += f64::from((*v - *m * *m).max(0.0));
            }
        }
        GradientMoments { norm: norm.sqrt(), deviation: deviation.sqrt() }
    }
}

/// One list of zeros per tensor.
pub(crate) fn zeros_like(weights: &Weights) -> Vec<Vec<f32>> {
    weights.tensors.iter().map(|tensor| vec![0.0; tensor.values.len()]).collect()
}

/// The numbers of one step, corrected for the start.
struct Update {
    scale: f32,
    beta1: f32,
    beta2: f32,
    rate: f32,
    correction2: f32,
    epsilon: f32,
}

impl Update {
    fn apply(&self, keep: f32, gradient: &[f32], first: &mut [f32], second: &mut [f32], weights: &mut [f32]) {
        for (((&g, m), v), w) in gradient.iter().zip(first).zip(second).zip(weights) {
            let g = g * self.scale;
            *m = self.beta1 * *m + (1.0 - self.beta1) * g;
            *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
            let root = (*v * self.correction2).sqrt() + self.epsilon;
            *w = *w * keep - self.rate * (*m / root);
        }
    }
}
