//! CISPO: the clipped ratio is a weight and not what is differentiated, so no token loses its gradient.
//!
//! ```text
//! A = (r − mean) / (deviation + epsilon)                    over the group
//! w = clamp(exp(current − behavior), 1 − clip_low, 1 + clip_high), held constant
//! M = 0 where A > 0 and the ratio is above 1 + clip_high, or A < 0 and it is below 1 − clip_low, else 1
//! loss(token) = −w A log π(token)        coefficient = −w A, or −M w A with `mask = "clip"`
//! ```
//!
//! MiniMax-M1, arXiv 2506.13585, equations 4 and 5 (7 for the mask), with the mean over all tokens of the batch. The
//! paper has no lower bound in practice (`clip_low = 1`, the default here, since a ratio is above 0) and
//! does not print the upper one; 0.2 is that of verl's example. TRL writes the upper bound as an absolute
//! cap: its 5 (ScaleRL) is `clip_high = 4`.
//!
//! Zero cases: silent groups and groups of one count nothing. On a trace just sampled the coefficient
//! is −A.
//!
//! The mask takes out the tokens that GRPO's clip takes out; what is left is still weighed by the clipped
//! ratio. It is there to compare the two, and off unless asked for. With `clip_low = 1` no failure is masked.
//!
//! Departures: the mask has the bounds of the weight, where the paper's unified form would allow others;
//! the paper's length penalty is `[objective.overlong]`. log ratio within ±20, as in `grpo`.

use serde::{Deserialize, Serialize};

use super::{Weigh, advantage, advantage::Deviation, grpo};
use crate::recipe::section;

/// Which tokens count nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// None of them.
    None,
    /// Those whose ratio has passed the bound on the side to which the advantage pushes it.
    Clip,
}

section! {
    /// Settings of CISPO.
    Cispo from CispoWritten {
        /// The weight is at least 1 minus this, in `[0, 1]`; 1 is no bound.
        clip_low: f64 = 1.0,
        /// The weight is at most 1 plus this, at least 0. ScaleRL: 4.
        clip_high: f64 = 0.2,
        /// `clip` takes out the tokens that GRPO's clip takes out (the paper's equation 7); `none`.
        mask: Mask = Mask::None,
        /// What the deviation divides by: `sample`, `population` or `none`.
        deviation: Deviation = Deviation::Sample,
        /// Added to the deviation, at least 0.
        epsilon: f64 = 1e-6,
    }
}

/// The coefficient of each token of one trace.
///
/// ```
/// use toehold_training::objective::cispo::coefficients;
/// // The ratio e^0.5 = 1.65 is cut to 1.25 whatever the sign of A, and the token still counts.
/// assert_eq!(coefficients(2.0, &[-1.0], &[-1.5], 1.0, 0.25), [-2.5]);
/// assert_eq!(coefficients(-2.0, &[-1.0], &[-1.5], 1.0, 0.25), [2.5]);
/// // Below 1 there is no bound but the one that is asked for.
/// assert_eq!(coefficients(1.0, &[-2.0], &[-1.0], 1.0, 0.25), [-(-1f64).exp()]);
/// assert_eq!(coefficients(1.0, &[-2.0], &[-1.0], 0.5, 0.25), [-0.5]);
/// ```
pub fn coefficients(advantage: f64, current: &[f32], behavior: &[f32], low: f64, high: f64) -> Vec<f64> {
    // Not `clamp`, which would panic on bounds that a recipe has the wrong way round.
    let weight = |ratio: f64| ratio.max(1.0 - low).min(1.0 + high);
    let scores = current.iter().zip(behavior);
    scores.map(|(&current, &behavior)| -weight(grpo::log_ratio(current, behavior).exp()) * advantage).collect()
}

/// Whether equation 7 takes a token out: its ratio is past the bound towards which the advantage pushes it.
///
/// ```
/// use toehold_training::objective::cispo::is_masked;
/// // e^0.5 = 1.65 is above 1.25, and e^-1 = 0.37 below 0.5.
/// assert!(is_masked(2.0, -1.0, -1.5, 0.5, 0.25) && is_masked(-2.0, -2.0, -1.0, 0.5, 0.25));
/// // The other way the gradient brings the ratio back; within the bounds nothing is taken out.
/// assert!(!is_masked(-2.0, -1.0, -1.5, 0.5, 0.25) && !is_masked(2.0, -2.0, -1.0, 0.5, 0.25));
/// assert!(!is_masked(2.0, -1.0, -1.0, 0.5, 0.25));
/// ```
pub fn is_masked(advantage: f64, current: f32, behavior: f32, low: f64, high: f64) -> bool {
    let ratio = grpo::log_ratio(current, behavior).exp();
    (advantage > 0.0 && ratio > 1.0 + high) || (advantage < 0.0 && ratio < 1.0 - low)
}

impl Weigh for Cispo {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantage::standardised(rewards, self.deviation, self.epsilon)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        let (low, high) = (self.clip_low, self.clip_high);
        let mut found = coefficients(advantage, current, behavior, low, high);
        if self.mask == Mask::Clip {
            for ((coefficient, &current), &behavior) in found.iter_mut().zip(current).zip(behavior) {
                if is_masked(advantage, current, behavior, low, high) {
                    *coefficient = 0.0;
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::{Cispo, Mask};
    use crate::objective::{Weigh, advantage::Deviation, gradient_check, grpo};

    const CISPO: Cispo =
        Cispo { clip_low: 0.2, clip_high: 0.2, mask: Mask::None, deviation: Deviation::Sample, epsilon: 1e-6 };

    /// One token at a time, because the weight is that of the token and held constant.
    #[test]
    fn coefficients_are_the_derivative() {
        for current in [-1.7f32, -1.3, -1.1, -1.0, -0.9, -0.3] {
            let weight = (f64::from(current) + 1.0).exp().clamp(0.8, 1.2);
            for advantage in [2.474867, -0.353552, 0.0] {
                let loss = |advantage: f64, current: f64, _: f64| -weight * advantage * current;
                gradient_check::check(&CISPO, loss, advantage, &[current], &[-1.0]);
            }
        }
    }

    /// Where GRPO's clip takes a token out, it goes on counting.
    #[test]
    fn no_token_is_dropped() {
        let found = CISPO.coefficients(1.0, &[0.0, -5.0], &[-5.0, 0.0]);
        assert_eq!(found, [-1.2, -0.8]);
    }

    /// With the mask the tokens that count are GRPO's, each with the derivative of its weighed log-probability.
    #[test]
    fn the_mask_is_grpos_clip() {
        let masked = Cispo { mask: Mask::Clip, ..CISPO };
        for current in [-1.7f32, -1.3, -1.1, -1.0, -0.9, -0.3] {
            let ratio = (f64::from(current) + 1.0).exp();
            for advantage in [2.474867, -0.353552, 0.0] {
                let counts = grpo::coefficients(advantage, &[current], &[-1.0], 0.2, 0.2)[0] != 0.0;
                let weight = if counts { ratio.clamp(0.8, 1.2) } else { 0.0 };
                let loss = |advantage: f64, current: f64, _: f64| -weight * advantage * current;
                gradient_check::check(&masked, loss, advantage, &[current], &[-1.0]);
            }
        }
        assert_eq!(masked.coefficients(1.0, &[0.0, -5.0], &[-5.0, 0.0]), [0.0, -0.8]);
        assert_eq!(masked.coefficients(-1.0, &[0.0, -5.0], &[-5.0, 0.0]), [1.2, 0.0]);
        // Without a lower bound no failure is.
        let unbounded = Cispo { clip_low: 1.0, ..masked };
        assert!(unbounded.coefficients(-1.0, &[-5.0], &[0.0])[0] > 0.0);
    }
}
