//! GRPO: standardised advantages and a clipped probability ratio.
//!
//! ```text
//! A = (r − mean) / (deviation + epsilon)              over the group
//! ρ = exp(current − behavior)
//! loss(token) = −min(ρ A, clamp(ρ, 1 − clip_low, 1 + clip_high) A)
//! coefficient = −ρ A, or 0 where the clamp is what the minimum takes
//! ```
//!
//! DeepSeekMath, arXiv 2402.03300; the two clips are DAPO's, arXiv 2503.14476 (0.2 and 0.28).
//! Defaults: both clips 0.2, the sample's deviation and epsilon 1e-6, as verl has them.
//!
//! Zero cases: silent groups and groups of one count nothing. On a trace just sampled ρ = 1, no clip
//! is active and the coefficient is −A. Exactly on a bound, both branches are equal in value and the
//! coefficient is the unclipped −ρ A, as automatic differentiation of the minimum's first argument
//! would give.
//!
//! Departures: the KL term is `[objective.kl]`, left out by default (PrefixRL, failure-prefix conditioning
//! and DAPO train without); the original's mean over each trace's tokens first is `aggregation =
//! "trace-mean"`, and the default here is the mean over all tokens. No dual clip. `log ρ` is clamped to ±20,
//! as in verl, so that one absurd token cannot make the gradient infinite.
//!
//! `current` is at temperature 1 while `behavior` is at the sampling temperature, with its top-k and
//! top-p: at any other temperature than 1 the ratio is not 1 even on a fresh trace, and the clip acts
//! on that difference. Sample at temperature 1 with this objective, or write `[objective.mismatch]`.
//!
//! Two named variants are settings of this one, and of the aggregation, with a recipe each:
//!
//! * Dr. GRPO, arXiv 2503.20783: `deviation = "none"`, `[train] aggregation = "constant"`.
//! * DAPO, arXiv 2503.14476: `clip_high = 0.28`, `[train] aggregation = "token-mean"`, and
//!   `[objective.overlong]` for what it does to completions that are too long. Its dynamic sampling is a
//!   curriculum's affair.

use super::{Weigh, advantage, advantage::Deviation};
use crate::recipe::section;

section! {
    /// Settings of GRPO.
    Grpo from GrpoWritten {
        /// How far the ratio may fall below 1 before the clip acts, in `[0, 1]`.
        clip_low: f64 = 0.2,
        /// How far the ratio may rise above 1 before the clip acts, at least 0. DAPO: 0.28.
        clip_high: f64 = 0.2,
        /// What the deviation divides by: `sample` (n − 1), `population` (n) or, without a deviation,
        /// `none`.
        deviation: Deviation = Deviation::Sample,
        /// Added to the deviation, at least 0. verl: 1e-6; TRL: 1e-4.
        epsilon: f64 = 1e-6,
    }
}

/// The coefficient of each token of one trace.
///
/// ```
/// use toehold_training::objective::grpo::coefficients;
/// let fresh = coefficients(2.0, &[-1.0], &[-1.0], 0.2, 0.2);
/// assert_eq!(fresh, [-2.0]);
/// // The ratio e^0.5 = 1.65 is above 1.2: with A > 0 the clip takes the token out, with A < 0 not.
/// assert_eq!(coefficients(2.0, &[-1.0], &[-1.5], 0.2, 0.2), [0.0]);
/// assert_eq!(coefficients(-2.0, &[-1.0], &[-1.5], 0.2, 0.2), [2.0 * 0.5f64.exp()]);
/// ```
pub fn coefficients(advantage: f64, current: &[f32], behavior: &[f32], low: f64, high: f64) -> Vec<f64> {
    let scores = current.iter().zip(behavior);
    scores.map(|(&current, &behavior)| coefficient(advantage, current, behavior, low, high)).collect()
}

/// The coefficient of one token.
pub fn coefficient(advantage: f64, current: f32, behavior: f32, low: f64, high: f64) -> f64 {
    let ratio = log_ratio(current, behavior).exp();
    let is_clipped = (advantage > 0.0 && ratio > 1.0 + high) || (advantage < 0.0 && ratio < 1.0 - low);
    if is_clipped { 0.0 } else { -ratio * advantage }
}

/// `current − behavior`, held within ±20.
pub fn log_ratio(current: f32, behavior: f32) -> f64 {
    (f64::from(current) - f64::from(behavior)).clamp(-20.0, 20.0)
}

impl Weigh for Grpo {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantage::standardised(rewards, self.deviation, self.epsilon)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }
}

#[cfg(test)]
mod tests {
    use super::{Grpo, coefficients};
    use crate::objective::{advantage::Deviation, gradient_check};

    const DAPO: Grpo = Grpo { clip_low: 0.2, clip_high: 0.28, deviation: Deviation::Sample, epsilon: 1e-6 };

    #[test]
    fn coefficients_are_the_derivative() {
        let behavior = [-1.0; 8];
        // Ratios from e^-0.7 to e^0.7, on both sides of both clips and none exactly on one.
        let current = [-1.7, -1.3, -1.2, -1.0, -0.9, -0.8, -0.7, -0.3];
        let loss = gradient_check::clipped(DAPO.clip_low, DAPO.clip_high);
        for advantage in [2.474867, -0.353552, 0.0] {
            gradient_check::check(&DAPO, &loss, advantage, &current, &behavior);
        }
    }

    #[test]
    fn one_absurd_token_stays_finite() {
        assert!(coefficients(-1.0, &[0.0], &[-1e30], 0.2, 0.2)[0].is_finite());
        assert_eq!(coefficients(1.0, &[0.0], &[f32::NEG_INFINITY], 0.2, 0.2), [0.0]);
    }
}
