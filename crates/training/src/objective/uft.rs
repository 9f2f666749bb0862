//! UFT: GRPO on completions, and a little imitation of the prefix they start from.
//!
//! ```text
//! completions:  as GRPO's
//! prefix:       loss(token) = −weight · log π(token)        coefficient = −weight
//! ```
//!
//! "Unified fine-tuning", arXiv 2505.16984, and its code: weight 0.001, prefixes of whole sentences whose
//! number falls along a cosine until none is left, which is a curriculum's affair.
//!
//! Zero cases: every prefix is imitated, whatever its group's rewards are: silent groups speak by it.
//! Plain groups are GRPO's.
//!
//! Departures: a group's rollouts share their prefix, which is learnt from once and not once per rollout,
//! and counts as one trace of the batch. No KL term by default (the code has one of 0.001: `[objective.kl]`); the code limits logits to
//! ±100, we do not. What is imitated is a stored trace's beginning, a success or, from a curriculum of failure
//! prefixes, a failure: imitate only what is right.

use super::given::{Given, GivenView, Origin};
use super::{Weigh, advantage, advantage::Deviation, grpo};
use crate::recipe::section;

section! {
    /// Settings of UFT.
    Uft from UftWritten {
        /// Weight of the imitation, at least 0.
        weight: f64 = 0.001,
        /// How far the ratio may fall below 1 before the clip acts, in `[0, 1]`.
        clip_low: f64 = 0.2,
        /// How far the ratio may rise above 1 before the clip acts, at least 0.
        clip_high: f64 = 0.2,
        /// What the deviation divides by: `sample`, `population` or `none`.
        deviation: Deviation = Deviation::Sample,
        /// Added to the deviation, at least 0.
        epsilon: f64 = 1e-6,
    }
}

/// The coefficient of each token of a prefix.
///
/// ```
/// use toehold_training::objective::uft::prefix_coefficients;
/// assert_eq!(prefix_coefficients(0.25, 3), [-0.25; 3]);
/// ```
pub fn prefix_coefficients(weight: f64, tokens: usize) -> Vec<f64> {
    vec![-weight; tokens]
}

impl Weigh for Uft {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantage::standardised(rewards, self.deviation, self.epsilon)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        grpo::coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }

    fn given(&self) -> Option<&dyn Given> {
        Some(self)
    }
}

impl Given for Uft {
    /// The weight itself: a prefix is imitated by it, whatever came of it.
    fn prefix_advantage(&self, _rewards: &[f64], _plain: &[f64]) -> Option<f64> {
        (self.weight != 0.0).then_some(self.weight)
    }

    fn given_coefficients(&self, given: &GivenView<'_>) -> Vec<f64> {
        match given.origin {
            Origin::Prefix => prefix_coefficients(given.advantage, given.current.len()),
            Origin::Stored { .. } => vec![0.0; given.current.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Uft;
    use crate::objective::advantage::Deviation;
    use crate::objective::given::{Given, Origin};
    use crate::objective::gradient_check;

    const PAPER: Uft =
        Uft { weight: 0.001, clip_low: 0.2, clip_high: 0.2, deviation: Deviation::Sample, epsilon: 1e-6 };

    #[test]
    fn coefficients_are_the_derivative() {
        let loss = gradient_check::clipped(0.2, 0.2);
        for advantage in [2.474867, -0.353552, 0.0] {
            gradient_check::check(&PAPER, &loss, advantage, &[-1.7, -1.1, -0.9, -0.3], &[-1.0; 4]);
        }
        let imitation = |_, current: f64| -0.001 * current;
        gradient_check::check_given(&PAPER, imitation, Origin::Prefix, 0.001, &[-9.0, -0.1]);
    }

    #[test]
    fn every_prefix_is_imitated_unless_the_weight_is_zero() {
        assert_eq!(PAPER.prefix_advantage(&[0.0; 4], &[]), Some(0.001));
        assert_eq!(PAPER.prefix_advantage(&[1.0; 4], &[1.0]), Some(0.001));
        assert_eq!(Uft { weight: 0.0, ..PAPER }.prefix_advantage(&[0.0], &[]), None);
    }
}
