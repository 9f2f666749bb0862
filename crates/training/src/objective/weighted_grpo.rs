//! Weighted GRPO: of a hard problem the successes, of an easy one the failures, weigh more.
//!
//! ```text
//! w = hard_success for a success where fewer than half succeed,
//!     easy_failure for a failure where more than half succeed, 1 otherwise
//! statistics = "group":  A = w · (r − mean) / (deviation + epsilon)           over the group
//! statistics = "batch":  x = w for a success, −w for a failure
//!                        A = (x − mean) / (deviation + epsilon)               over the batch
//! loss and coefficient of a token: as GRPO's
//! ```
//!
//! "Beyond Variance", arXiv 2602.03452, trains on pairs of a hard problem and an easy one. The paper's
//! own text was not to be had: these are the two readings of what is known of it that do something.
//! Weights before a standardisation over one group would do nothing, since it takes any map of two
//! rewards out again; so the weights come after it (`group`, the default), or the standardisation is over
//! more than a group (`batch`, with `[train] starts = 2` the pair). With one success of n and one failure
//! of n, `batch` gives +1 and −1 whatever is rare: it is `group` that makes rare outcomes count.
//!
//! Zero cases: with `group`, silent groups and groups of one count nothing. With `batch`, only a silent
//! batch counts nothing: a group that all fails or all passes stands against the others.
//!
//! Departures: the weights are not known, so both are 1 by default, which makes `group` GRPO; results
//! with any weights are not a replication. The paper knows a problem's role from a probe before training;
//! here it is read off the group itself, so a role can change and a group of exactly half has none.

use serde::{Deserialize, Serialize};

use super::{Weigh, advantage, advantage::Deviation, grpo};
use crate::recipe::section;

/// Over what mean and deviation are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistics {
    /// One group, and the weights are applied after.
    Group,
    /// The batch, and the weights are applied before.
    Batch,
}

section! {
    /// Settings of weighted GRPO.
    WeightedGrpo from WeightedGrpoWritten {
        /// Weight of a success in a group in which fewer than half succeed, at least 0.
        hard_success: f64 = 1.0,
        /// Weight of a failure in a group in which more than half succeed, at least 0.
        easy_failure: f64 = 1.0,
        /// Over what mean and deviation are taken: `group` or `batch`.
        statistics: Statistics = Statistics::Group,
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

/// The weight of each trace of a group. A reward above 0 is a success.
///
/// ```
/// use toehold_training::objective::weighted_grpo::weights;
/// assert_eq!(weights(&[1.0, 0.0, 0.0], 3.0, 2.0), [3.0, 1.0, 1.0]);
/// assert_eq!(weights(&[1.0, 1.0, 0.0], 3.0, 2.0), [1.0, 1.0, 2.0]);
/// assert_eq!(weights(&[1.0, 0.0], 3.0, 2.0), [1.0, 1.0]);
/// ```
pub fn weights(rewards: &[f64], hard_success: f64, easy_failure: f64) -> Vec<f64> {
    let successes = rewards.iter().filter(|&&reward| reward > 0.0).count();
    let (is_hard, is_easy) = (2 * successes < rewards.len(), 2 * successes > rewards.len());
    let weight = |&reward: &f64| match reward > 0.0 {
        true if is_hard => hard_success,
        false if is_easy => easy_failure,
        _ => 1.0,
    };
    rewards.iter().map(weight).collect()
}

impl Weigh for WeightedGrpo {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        let weights = weights(rewards, self.hard_success, self.easy_failure);
        match self.statistics {
            Statistics::Group => {
                let advantages = advantage::standardised(rewards, self.deviation, self.epsilon);
                advantages.iter().zip(weights).map(|(advantage, weight)| weight * advantage).collect()
            }
            Statistics::Batch => {
                rewards.iter().zip(weights).map(|(&r, weight)| if r > 0.0 { weight } else { -weight }).collect()
            }
        }
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        grpo::coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }

    fn normalise_batch(&self, advantages: &mut [f64], _lengths: &[usize]) {
        if self.statistics == Statistics::Batch {
            advantages.copy_from_slice(&advantage::standardised(advantages, self.deviation, self.epsilon));
        }
    }

    fn reads_outcomes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Statistics, WeightedGrpo};
    use crate::objective::{Weigh, advantage::Deviation, advantage::standardised, gradient_check};

    const PLAIN: WeightedGrpo = WeightedGrpo {
        hard_success: 1.0,
        easy_failure: 1.0,
        statistics: Statistics::Group,
        clip_low: 0.2,
        clip_high: 0.2,
        deviation: Deviation::Sample,
        epsilon: 1e-6,
    };

    /// A hard group with one success of 16, and an easy one with one failure of 16.
    fn pair(objective: &WeightedGrpo) -> Vec<f64> {
        let hard: Vec<f64> = (0..16).map(|i| f64::from(u8::from(i == 0))).collect();
        let easy: Vec<f64> = hard.iter().map(|reward| 1.0 - reward).collect();
        let mut found = [objective.advantages(&hard), objective.advantages(&easy)].concat();
        objective.normalise_batch(&mut found, &[5; 32]);
        found
    }

    #[test]
    fn coefficients_are_the_derivative() {
        let loss = gradient_check::clipped(0.2, 0.2);
        for advantage in [3.749985, -7.5, 0.0] {
            gradient_check::check(&PLAIN, &loss, advantage, &[-1.7, -1.1, -0.9, -0.3], &[-1.0; 4]);
        }
    }

    /// ±3.75 before weights.
    #[test]
    fn over_the_group_rare_outcomes_are_amplified() {
        let found = pair(&WeightedGrpo { hard_success: 2.0, easy_failure: 3.0, ..PLAIN });
        assert!((found[0] - 2.0 * 3.749985).abs() < 1e-5 && (found[1] + 0.249999).abs() < 1e-6, "{found:?}");
        assert!((found[16] + 3.0 * 3.749985).abs() < 1e-5 && (found[17] - 0.249999).abs() < 1e-6, "{found:?}");
    }

    /// Without weights, every success of the pair has +1 and every failure −1.
    #[test]
    fn over_the_pair_they_are_not() {
        let batch =
            WeightedGrpo { statistics: Statistics::Batch, deviation: Deviation::Population, epsilon: 0.0, ..PLAIN };
        let found = pair(&batch);
        assert_eq!((found[0], found[1], found[16], found[17]), (1.0, -1.0, -1.0, 1.0));
        let weighted = pair(&WeightedGrpo { easy_failure: 3.0, ..batch });
        assert!(weighted[16] < weighted[1] && weighted[1] < 0.0, "{weighted:?}");
    }

    /// Why the weights come after: before, the standardisation over a group would take them out.
    #[test]
    fn weights_before_a_standardisation_over_the_group_do_nothing() {
        let plain = standardised(&[1.0, 0.0, 0.0, 0.0], Deviation::Sample, 0.0);
        let weighted = standardised(&[2.0, -3.0, -3.0, -3.0], Deviation::Sample, 0.0);
        assert!(plain.iter().zip(weighted).all(|(plain, weighted)| (plain - weighted).abs() < 1e-12));
    }
}
