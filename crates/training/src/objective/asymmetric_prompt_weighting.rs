//! Asymmetric prompt weighting: a group's weight is a function of its success, not symmetric about 1/2.
//!
//! ```text
//! p = mean reward of the group           A = ω(p) · (r − p)
//!
//!            ω                   success       failure         all fail   all pass
//! plain      1                   1 − p         −p              0          0
//! grpo       1/√(p(1 − p))       √((1 − p)/p)  −√(p/(1 − p))   0          0
//! linear     1/p                 (1 − p)/p     −1              −1         0
//! sqrt       1/(p √(1 − p))      √(1 − p)/p    −1/√(1 − p)     −1         0
//! uniform    1/(p(1 − p))        1/p           −1/(1 − p)      −1         1
//!
//! loss(token) = −A · log π(token)        coefficient = −A
//! ```
//!
//! arXiv 2602.11128: `plain`, `grpo` and `linear` as published,
//! `sqrt` up to a constant, `uniform` from its name. In the paper's idealised setting, `grpo` is the best
//! per step and `sqrt` the best where a success costs 1/p rollouts to find; the gain is found where success
//! is rare at first, and none after a warm start.
//!
//! Zero cases: the last two columns are the limits. A group of one is one in which all pass or all fail,
//! and follows them: its failure counts −1 with the last three.
//!
//! Departures: "Plateau-R" is named there without a formula we know, and is not here. The paper warms up
//! problems without a success over 50 or 100 steps: an objective has no clock, so from the first step
//! they count. Advantages reach `n` (one success in 16: 15 or 15.5): the gradient's clip is the guard.

use serde::{Deserialize, Serialize};

use super::{Weigh, reinforce};
use crate::recipe::section;

/// The named weightings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// All groups alike: the group's mean as the baseline.
    Plain,
    /// By the population's deviation.
    Grpo,
    /// Linear-R.
    Linear,
    /// Sqrt-R.
    Sqrt,
    /// Uniform-R: as much for every success p.
    Uniform,
}

section! {
    /// Settings of asymmetric prompt weighting.
    AsymmetricPromptWeighting from AsymmetricPromptWeightingWritten {
        /// `plain`, `grpo`, `linear`, `sqrt` or `uniform`.
        weighting: Weighting = Weighting::Linear,
    }
}

/// The advantage of each trace of a group of rewards 0 and 1.
///
/// ```
/// use toehold_training::objective::asymmetric_prompt_weighting::{Weighting, advantages};
/// // One success in four: p = 1/4.
/// let rewards = [1.0, 0.0, 0.0, 0.0];
/// assert_eq!(advantages(&rewards, Weighting::Linear), [3.0, -1.0, -1.0, -1.0]);
/// assert_eq!(advantages(&rewards, Weighting::Uniform), [4.0, -4.0 / 3.0, -4.0 / 3.0, -4.0 / 3.0]);
/// assert_eq!(advantages(&[0.0, 0.0], Weighting::Linear), [-1.0, -1.0]);
/// ```
pub fn advantages(rewards: &[f64], weighting: Weighting) -> Vec<f64> {
    let p = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
    if p <= 0.0 {
        let failure = match weighting {
            Weighting::Plain | Weighting::Grpo => 0.0,
            Weighting::Linear | Weighting::Sqrt | Weighting::Uniform => -1.0,
        };
        return vec![failure; rewards.len()];
    }
    if p >= 1.0 {
        let success = if weighting == Weighting::Uniform { 1.0 } else { 0.0 };
        return vec![success; rewards.len()];
    }
    let weight = match weighting {
        Weighting::Plain => 1.0,
        Weighting::Grpo => 1.0 / (p * (1.0 - p)).sqrt(),
        Weighting::Linear => 1.0 / p,
        Weighting::Sqrt => 1.0 / (p * (1.0 - p).sqrt()),
        Weighting::Uniform => 1.0 / (p * (1.0 - p)),
    };
    rewards.iter().map(|reward| weight * (reward - p)).collect()
}

impl Weigh for AsymmetricPromptWeighting {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantages(rewards, self.weighting)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], _behavior: &[f32]) -> Vec<f64> {
        reinforce::coefficients(advantage, current.len())
    }

    fn reads_outcomes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::SQRT_2;

    use super::{AsymmetricPromptWeighting, Weighting, advantages};
    use crate::objective::{advantage::Deviation, advantage::centred, advantage::standardised, gradient_check};

    fn rewards(size: usize, successes: usize) -> Vec<f64> {
        (0..size).map(|i| f64::from(u8::from(i < successes))).collect()
    }

    #[test]
    fn coefficients_are_the_derivative() {
        let objective = AsymmetricPromptWeighting { weighting: Weighting::Sqrt };
        for advantage in [7.0, -1.0, 0.0] {
            gradient_check::check(&objective, gradient_check::linear, advantage, &[-0.1, -3.0], &[-0.2, -1.0]);
        }
    }

    /// The expected numbers were worked out apart from this code.
    #[test]
    fn numeric_anchors() {
        for (size, successes, linear, sqrt) in [
            (8, 1, (7.0, -1.0), (7.483315, -1.069045)),
            (8, 2, (3.0, -1.0), (3.464102, -1.154701)),
            (8, 4, (1.0, -1.0), (SQRT_2, -SQRT_2)),
            (8, 7, (0.142857, -1.0), (0.404061, -2.828427)),
            (16, 1, (15.0, -1.0), (15.491933, -1.032796)),
            (16, 15, (0.066667, -1.0), (0.266667, -4.0)),
        ] {
            for (weighting, (success, failure)) in [(Weighting::Linear, linear), (Weighting::Sqrt, sqrt)] {
                let found = advantages(&rewards(size, successes), weighting);
                assert!((found[0] - success).abs() < 1e-6, "{weighting:?} {size} {successes}: {found:?}");
                assert!((found[size - 1] - failure).abs() < 1e-6, "{weighting:?} {size} {successes}: {found:?}");
            }
        }
    }

    #[test]
    fn two_weightings_are_objectives_of_their_own() {
        for successes in 0..=8 {
            let rewards = rewards(8, successes);
            assert_eq!(advantages(&rewards, Weighting::Plain), centred(&rewards));
            let grpo = standardised(&rewards, Deviation::Population, 0.0);
            let found = advantages(&rewards, Weighting::Grpo);
            assert!(found.iter().zip(grpo).all(|(found, grpo)| (found - grpo).abs() < 1e-12));
        }
    }
}
