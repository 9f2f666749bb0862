//! ERPO's reactivation: a group in which all succeed is held against one failure that was not sampled.
//!
//! ```text
//! r' = r, and one 0 more where all of the group succeed
//! A = (r − mean(r')) / (deviation(r') + epsilon)
//! loss and coefficient of a token: as GRPO's
//! ```
//!
//! "Explore Residual Prompts", arXiv 2511.04800. Of n successes the mean is then `n/(n + 1)`, and
//! every one has `A = 1/√(n + 1)` with the sample's deviation, `1/√n` with the population's.
//!
//! Zero cases: a group in which all fail counts nothing. A single success is one in which all succeed: it
//! counts `1/√2`.
//!
//! Departures: how the paper writes the pseudo-reward into its statistics is not known to us (reviews of
//! it say "one pseudo-negative"); this is the plainest form, and whether it divides by the deviation is a
//! setting. The other half of the method, sampling such problems at a rising temperature when they come
//! back, is a curriculum's affair. Clips are DAPO's, which the paper builds on.

use super::{Weigh, advantage, advantage::Deviation, grpo};
use crate::recipe::section;

section! {
    /// Settings of ERPO.
    Erpo from ErpoWritten {
        /// How far the ratio may fall below 1 before the clip acts, in `[0, 1]`.
        clip_low: f64 = 0.2,
        /// How far the ratio may rise above 1 before the clip acts, at least 0.
        clip_high: f64 = 0.28,
        /// What the deviation divides by: `sample`, `population` or `none`.
        deviation: Deviation = Deviation::Sample,
        /// Added to the deviation, at least 0.
        epsilon: f64 = 1e-6,
    }
}

/// The advantage of each trace of a group. All rewards equal and above 0 is "all succeed".
///
/// ```
/// use toehold_training::objective::{advantage::Deviation, erpo::advantages};
/// // Three successes and the failure that was not sampled: mean 3/4, deviation √(3/4 / 3) = 1/2.
/// assert_eq!(advantages(&[1.0; 3], Deviation::Sample, 0.0), [0.5; 3]);
/// assert_eq!(advantages(&[1.0; 3], Deviation::None, 0.0), [0.25; 3]);
/// assert_eq!(advantages(&[0.0; 3], Deviation::Sample, 0.0), [0.0; 3]);
/// ```
pub fn advantages(rewards: &[f64], deviation: Deviation, epsilon: f64) -> Vec<f64> {
    let all_succeed = advantage::is_silent(rewards) && rewards.first().is_some_and(|&reward| reward > 0.0);
    if !all_succeed {
        return advantage::standardised(rewards, deviation, epsilon);
    }
    let mut advantages = advantage::standardised(&[rewards, &[0.0]].concat(), deviation, epsilon);
    advantages.pop();
    advantages
}

impl Weigh for Erpo {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantages(rewards, self.deviation, self.epsilon)
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
    use super::{Erpo, advantages};
    use crate::objective::{advantage::Deviation, advantage::standardised, gradient_check};

    const DEFAULT: Erpo = Erpo { clip_low: 0.2, clip_high: 0.28, deviation: Deviation::Sample, epsilon: 1e-6 };

    #[test]
    fn coefficients_are_the_derivative() {
        let loss = gradient_check::clipped(0.2, 0.28);
        for advantage in [0.333333, -2.474867, 0.0] {
            gradient_check::check(&DEFAULT, &loss, advantage, &[-1.7, -1.1, -0.9, -0.3], &[-1.0; 4]);
        }
    }

    /// 1/√(n + 1) and 1/√n.
    #[test]
    fn numeric_anchors() {
        for (size, deviation, expected) in [
            (8, Deviation::Population, 0.353553),
            (16, Deviation::Population, 0.25),
            (8, Deviation::Sample, 0.333333),
            (16, Deviation::Sample, 0.242536),
            (1, Deviation::Sample, std::f64::consts::FRAC_1_SQRT_2),
        ] {
            let found = advantages(&vec![1.0; size], deviation, 0.0);
            assert_eq!(found.len(), size);
            assert!(found.iter().all(|found| (found - expected).abs() < 1e-6), "{found:?}");
        }
    }

    #[test]
    fn mixed_groups_are_grpos() {
        let rewards = [1.0, 0.0, 1.0];
        let grpo = standardised(&rewards, Deviation::Sample, 1e-6);
        assert_eq!(advantages(&rewards, Deviation::Sample, 1e-6), grpo);
    }
}
