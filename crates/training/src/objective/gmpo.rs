//! GMPO: the geometric mean of a trace's ratios, each clipped by itself before.
//!
//! ```text
//! A = (r − mean) / (deviation + epsilon)                    over the group
//! d = current − behavior;  d' = min(d, clip_high) for A > 0, max(d, −clip_low) for A < 0
//! loss(trace) = −A · exp(mean of d' over the trace), mean over the traces
//! coefficient = −A · exp(mean of d'), or 0 for a token whose d was clipped
//! ```
//!
//! arXiv 2507.20673; both clips are 0.4 on the log ratio, so ratios from e^−0.4 to e^0.4.
//! As in `gspo`, the division by the length is `[train] aggregation = "trace-mean"`, which this
//! objective is defined with.
//!
//! Zero cases: silent groups and groups of one count nothing. On a trace just sampled the coefficient
//! is −A. A token exactly on a clip keeps its coefficient.
//!
//! Departures: the official code divides by the length plus 1e-8; we divide by the length. `d` is held
//! within ±20 first, so that one absurd token cannot make the gradient infinite.

use super::{Weigh, advantage, advantage::Deviation, grpo};
use crate::recipe::section;

section! {
    /// Settings of GMPO.
    Gmpo from GmpoWritten {
        /// How far a token's log ratio may fall below 0 before the clip acts, in nats, at least 0.
        clip_low: f64 = 0.4,
        /// How far a token's log ratio may rise above 0 before the clip acts, in nats, at least 0.
        clip_high: f64 = 0.4,
        /// What the deviation divides by: `sample`, `population` or `none`.
        deviation: Deviation = Deviation::Sample,
        /// Added to the deviation, at least 0.
        epsilon: f64 = 1e-6,
    }
}

/// The coefficient of each token of one trace.
///
/// ```
/// use toehold_training::objective::gmpo::coefficients;
/// // Log ratios 1 and 0. For A > 0 the first counts as 0.5 and has no gradient of its own: e^0.25.
/// let found = coefficients(2.0, &[-1.0, -1.0], &[-2.0, -1.0], 0.5, 0.5);
/// assert_eq!(found, [0.0, -2.0 * 0.25f64.exp()]);
/// // For A < 0 it is not clipped: e^0.5.
/// assert_eq!(coefficients(-1.0, &[-1.0, -1.0], &[-2.0, -1.0], 0.5, 0.5), [0.5f64.exp(); 2]);
/// ```
pub fn coefficients(advantage: f64, current: &[f32], behavior: &[f32], low: f64, high: f64) -> Vec<f64> {
    let is_clipped = |d: f64| (advantage > 0.0 && d > high) || (advantage < 0.0 && d < -low);
    let logs: Vec<f64> = current.iter().zip(behavior).map(|(&c, &b)| grpo::log_ratio(c, b)).collect();
    let clipped = |&d: &f64| if is_clipped(d) { d.clamp(-low, high) } else { d };
    let ratio = (logs.iter().map(clipped).sum::<f64>() / logs.len().max(1) as f64).exp();
    logs.iter().map(|&d| if is_clipped(d) { 0.0 } else { -ratio * advantage }).collect()
}

impl Weigh for Gmpo {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantage::standardised(rewards, self.deviation, self.epsilon)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }
}

#[cfg(test)]
mod tests {
    use super::Gmpo;
    use crate::objective::{advantage::Deviation, gradient_check};

    const GMPO: Gmpo = Gmpo { clip_low: 0.4, clip_high: 0.4, deviation: Deviation::Sample, epsilon: 1e-6 };

    /// As the official code writes it: `sign · min(sign · d, sign · clamp(d))`.
    fn loss(advantage: f64, current: &[f64], behavior: &[f64]) -> f64 {
        let sign = if advantage < 0.0 { -1.0 } else { 1.0 };
        let clipped = |(current, behavior): (&f64, &f64)| {
            let d = current - behavior;
            sign * (sign * d).min(sign * d.clamp(-0.4, 0.4))
        };
        let mean = current.iter().zip(behavior).map(clipped).sum::<f64>() / current.len() as f64;
        -advantage * mean.exp()
    }

    #[test]
    fn coefficients_are_the_derivative() {
        // Log ratios from −0.7 to 0.7, on both sides of both clips and none exactly on one.
        let current = [-1.7, -1.3, -1.0, -0.9, -0.8, -0.3];
        for advantage in [2.474867, -0.353552, 0.0] {
            gradient_check::check_trace(&GMPO, loss, advantage, &current, &[-1.0; 6]);
        }
    }
}
