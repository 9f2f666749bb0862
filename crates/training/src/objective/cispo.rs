//! CISPO: the clipped ratio is a weight and not what is differentiated, so no token loses its gradient.
//!
//! ```text
//! A = (r − mean) / (deviation + epsilon)                    over the group
//! w = clamp(exp(current − behavior), 1 − clip_low, 1 + clip_high), held constant
//! loss(token) = −w A log π(token)        coefficient = −w A
//! ```
//!
//! MiniMax-M1, arXiv 2506.13585, equations 4 and 5, with the mean over all tokens of the batch. The
//! paper has no lower bound in practice (`clip_low = 1`, the default here, since a ratio is above 0) and
//! does not print the upper one; 0.2 is that of verl's example. TRL writes the upper bound as an absolute
//! cap: its 5 (ScaleRL) is `clip_high = 4`.
//!
//! Zero cases: silent groups and groups of one count nothing. On a trace just sampled the coefficient
//! is −A.
//!
//! Departures: the paper's optional mask (equation 7), which would take out the tokens that GRPO's clip
//! takes out, is not here; its length penalty is `[objective.overlong]`. log ratio within ±20, as in `grpo`.

use super::{Weigh, advantage, advantage::Deviation, grpo};
use crate::recipe::section;

section! {
    /// Settings of CISPO.
    Cispo from CispoWritten {
        /// The weight is at least 1 minus this, in `[0, 1]`; 1 is no bound.
        clip_low: f64 = 1.0,
        /// The weight is at most 1 plus this, at least 0. ScaleRL: 4.
        clip_high: f64 = 0.2,
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

impl Weigh for Cispo {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantage::standardised(rewards, self.deviation, self.epsilon)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }
}

#[cfg(test)]
mod tests {
    use super::Cispo;
    use crate::objective::{Weigh, advantage::Deviation, gradient_check};

    const CISPO: Cispo = Cispo { clip_low: 0.2, clip_high: 0.2, deviation: Deviation::Sample, epsilon: 1e-6 };

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
}
