//! GSPO: one ratio per trace, the geometric mean of its tokens' ratios, and one clip.
//!
//! ```text
//! A = (r − mean) / (deviation + epsilon)                    over the group
//! s = exp(mean of (current − behavior) over the trace)
//! loss(trace) = −min(s A, clamp(s, 1 − clip_low, 1 + clip_high) A), mean over the traces
//! coefficient = −s A, or 0 for the whole trace where the clamp is what the minimum takes
//! ```
//!
//! arXiv 2507.18071, with the clips 3e-4 and 4e-4. The derivative of `s` in a token's
//! log-probability is `s / length`: that division is `[train] aggregation = "trace-mean"`, which this
//! objective is defined with. Under another aggregation it is no longer the derivative of that loss.
//!
//! Zero cases: silent groups and groups of one count nothing. On a trace just sampled s = 1 and the
//! coefficient is −A: what differs from GRPO shows only when sampler and learner differ.
//!
//! Departures: none known. The mean log ratio is held to at most 10, as in verl. The clips are a thousand
//! times narrower than GRPO's, so rounding can set them off: where sampler and learner disagree by more
//! than 4e-4 nats a token on average, in `bf16` or at a temperature other than 1, whole traces fall out,
//! unless `[objective.mismatch]` weighs that difference instead.
//! The event's `mismatch`, a mean of absolute values over all trained tokens, is at least as large as
//! what is typical of a trace.

use super::{Weigh, advantage, advantage::Deviation};
use crate::recipe::section;

section! {
    /// Settings of GSPO.
    Gspo from GspoWritten {
        /// How far the trace's ratio may fall below 1 before the clip acts, in `[0, 1]`.
        clip_low: f64 = 3e-4,
        /// How far the trace's ratio may rise above 1 before the clip acts, at least 0.
        clip_high: f64 = 4e-4,
        /// What the deviation divides by: `sample`, `population` or `none`.
        deviation: Deviation = Deviation::Sample,
        /// Added to the deviation, at least 0.
        epsilon: f64 = 1e-6,
    }
}

/// The coefficient of each token of one trace: the same for all.
///
/// ```
/// use toehold_training::objective::gspo::coefficients;
/// // One token up by 0.5, the other down by 0.5: the trace's ratio is 1.
/// assert_eq!(coefficients(2.0, &[-1.0, -2.0], &[-1.5, -1.5], 3e-4, 4e-4), [-2.0, -2.0]);
/// // Up by 0.5 and by 0: s = e^0.25, above the clip, which acts for A > 0 only.
/// assert_eq!(coefficients(2.0, &[-1.0, -1.0], &[-1.5, -1.0], 3e-4, 4e-4), [0.0, 0.0]);
/// assert_eq!(coefficients(-1.0, &[-1.0, -1.0], &[-1.5, -1.0], 3e-4, 4e-4), [0.25f64.exp(); 2]);
/// ```
pub fn coefficients(advantage: f64, current: &[f32], behavior: &[f32], low: f64, high: f64) -> Vec<f64> {
    let tokens = current.len().min(behavior.len());
    let apart = |(&current, &behavior): (&f32, &f32)| f64::from(current) - f64::from(behavior);
    let mean = current.iter().zip(behavior).map(apart).sum::<f64>() / tokens.max(1) as f64;
    let ratio = mean.min(10.0).exp();
    let is_clipped = (advantage > 0.0 && ratio > 1.0 + high) || (advantage < 0.0 && ratio < 1.0 - low);
    vec![if is_clipped { 0.0 } else { -ratio * advantage }; tokens]
}

impl Weigh for Gspo {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantage::standardised(rewards, self.deviation, self.epsilon)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }
}

#[cfg(test)]
mod tests {
    use super::Gspo;
    use crate::objective::{advantage::Deviation, gradient_check};

    const WIDE: Gspo = Gspo { clip_low: 0.2, clip_high: 0.28, deviation: Deviation::Sample, epsilon: 1e-6 };

    fn loss(advantage: f64, current: &[f64], behavior: &[f64]) -> f64 {
        let sum: f64 = current.iter().zip(behavior).map(|(current, behavior)| current - behavior).sum();
        let ratio = (sum / current.len() as f64).exp();
        -(ratio * advantage).min(ratio.clamp(1.0 - WIDE.clip_low, 1.0 + WIDE.clip_high) * advantage)
    }

    #[test]
    fn coefficients_are_the_derivative() {
        // Mean log ratios of 0, 0.1, 0.5 and −0.5: inside, and out on either side.
        for current in [[-1.2, -0.8, -1.0], [-1.2, -0.5, -1.0], [-0.5, -0.2, -0.8], [-1.5, -2.0, -1.0]] {
            for advantage in [2.474867, -0.353552, 0.0] {
                gradient_check::check_trace(&WIDE, loss, advantage, &current, &[-1.0; 3]);
            }
        }
    }
}
