//! W-REINFORCE, and its two halves PSR and NSR: successes and failures weighted apart, no baseline.
//!
//! ```text
//! A = success  for r = 1;  A = −failure  for r = 0;  0 for any other reward
//! loss and coefficient of a token: as GRPO's
//! ```
//!
//! | | `success` | `failure` |
//! |---|---|---|
//! | W-REINFORCE | 0.1 | 1 |
//! | PSR, positive samples only | 1 | 0 |
//! | NSR, negative samples only | 0 | 1 |
//!
//! arXiv 2506.01347, and its code; the clipped ratio is the code's.
//!
//! Zero cases: there are no silent groups: a group in which all fail, and a failed group of one, push
//! down everything that was sampled, with the full weight. While a problem is never solved, that is the
//! strongest push of all objectives here, and nothing in it says where to go: watch the entropy.
//!
//! Departures: for PSR and NSR the code leaves the other traces out of the batch before it divides by
//! its size; here they count in the division, as silent traces always do, so a step is smaller by their
//! share.

use super::{Weigh, grpo};
use crate::recipe::section;

section! {
    /// Settings of W-REINFORCE.
    WReinforce from WReinforceWritten {
        /// Weight of a success, at least 0. The paper's λ.
        success: f64 = 0.1,
        /// Weight of a failure, at least 0.
        failure: f64 = 1.0,
        /// How far the ratio may fall below 1 before the clip acts, in `[0, 1]`.
        clip_low: f64 = 0.2,
        /// How far the ratio may rise above 1 before the clip acts, at least 0.
        clip_high: f64 = 0.2,
    }
}

/// The advantage of each trace, whatever its group.
///
/// ```
/// use toehold_training::objective::w_reinforce::advantages;
/// assert_eq!(advantages(&[1.0, 0.0, 0.5], 0.1, 1.0), [0.1, -1.0, 0.0]);
/// // NSR: a success says nothing.
/// assert_eq!(advantages(&[1.0, 0.0], 0.0, 1.0), [0.0, -1.0]);
/// ```
pub fn advantages(rewards: &[f64], success: f64, failure: f64) -> Vec<f64> {
    let advantage = |&reward: &f64| match reward {
        1.0 => success,
        0.0 => -failure,
        _ => 0.0,
    };
    rewards.iter().map(advantage).collect()
}

impl Weigh for WReinforce {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantages(rewards, self.success, self.failure)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        grpo::coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }

    fn reads_outcomes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{WReinforce, advantages};
    use crate::objective::gradient_check;

    const PAPER: WReinforce = WReinforce { success: 0.1, failure: 1.0, clip_low: 0.2, clip_high: 0.2 };

    #[test]
    fn coefficients_are_the_derivative() {
        let loss = gradient_check::clipped(0.2, 0.2);
        for advantage in [0.1, -1.0, 0.0] {
            gradient_check::check(&PAPER, &loss, advantage, &[-1.7, -1.1, -0.9, -0.3], &[-1.0; 4]);
        }
    }

    /// PSR and NSR together are the reward of ±1 without a baseline.
    #[test]
    fn the_halves_make_the_whole() {
        let rewards = [1.0, 0.0, 0.0, 1.0];
        let (positive, negative) = (advantages(&rewards, 1.0, 0.0), advantages(&rewards, 0.0, 1.0));
        let sum: Vec<f64> = positive.iter().zip(negative).map(|(positive, negative)| positive + negative).collect();
        assert_eq!(sum, [1.0, -1.0, -1.0, 1.0]);
    }
}
