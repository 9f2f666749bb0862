//! RLOO: the mean reward of the group's other traces as the baseline.
//!
//! ```text
//! A = r − mean(r of the others) = n/(n − 1) · (r − mean of all)
//! loss(token) = −A · log π(token)        coefficient = −A
//! ```
//!
//! arXiv 2402.14740 (the estimator is older). Because a trace is not in
//! its own baseline, the gradient is unbiased: `reinforce`, with the trace in it, is this one times
//! `1 − 1/n`.
//!
//! Zero cases: a group in which all succeed or all fail, and a group of one, count nothing. verl's two
//! versions disagree on the group of one: the loop gives it its reward, the vectorised one zero, as here.
//!
//! Departures: the paper takes a whole completion for one action and adds a KL penalty to the reward;
//! here that is k2 of `[objective.kl]`, left out by default. No ratio and no clip: the loop takes one step on what it sampled.

use super::{Weigh, advantage, reinforce};
use crate::recipe::section;

section! {
    /// Settings of RLOO: there are none.
    Rloo from RlooWritten {}
}

/// Reward minus the mean of the others' rewards, for each trace of a group.
///
/// ```
/// use toehold_training::objective::rloo::advantages;
/// // One success in five: the others of the success have 0, those of a failure 1 in 4.
/// assert_eq!(advantages(&[1.0, 0.0, 0.0, 0.0, 0.0]), [1.0, -0.25, -0.25, -0.25, -0.25]);
/// assert_eq!(advantages(&[1.0]), [0.0]);
/// ```
pub fn advantages(rewards: &[f64]) -> Vec<f64> {
    if advantage::is_silent(rewards) {
        return vec![0.0; rewards.len()];
    }
    let (count, total) = (rewards.len() as f64, rewards.iter().sum::<f64>());
    rewards.iter().map(|reward| (count * reward - total) / (count - 1.0)).collect()
}

impl Weigh for Rloo {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantages(rewards)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], _behavior: &[f32]) -> Vec<f64> {
        reinforce::coefficients(advantage, current.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{Rloo, advantages};
    use crate::objective::{advantage::centred, gradient_check};

    #[test]
    fn coefficients_are_the_derivative() {
        for advantage in [1.0, -0.142857, 0.0] {
            gradient_check::check(&Rloo {}, gradient_check::linear, advantage, &[-0.1, -3.0], &[-0.2, -1.0]);
        }
    }

    /// The expected numbers were worked out apart from this code.
    #[test]
    fn numeric_anchors() {
        for (size, successes, success, failure) in [
            (8, 1, 1.000000, -0.142857),
            (8, 2, 0.857143, -0.285714),
            (8, 4, 0.571429, -0.571429),
            (8, 7, 0.142857, -1.000000),
            (16, 1, 1.000000, -0.066667),
            (16, 15, 0.066667, -1.000000),
        ] {
            let rewards: Vec<f64> = (0..size).map(|i| f64::from(u8::from(i < successes))).collect();
            let found = advantages(&rewards);
            assert!((found[0] - success).abs() < 1e-6 && (found[size - 1] - failure).abs() < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn it_is_the_group_mean_without_its_shrinking() {
        let rewards = [0.3, 1.0, 0.0, 0.0, 0.7];
        for (found, centred) in advantages(&rewards).into_iter().zip(centred(&rewards)) {
            assert!((found * (1.0 - 1.0 / 5.0) - centred).abs() < 1e-12);
        }
    }
}
