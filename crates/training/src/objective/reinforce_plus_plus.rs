//! REINFORCE++: advantages whitened over all completion tokens of the batch, and a clipped ratio.
//!
//! ```text
//! a = r, or r − mean(r of the group) with baseline = "group"
//! m = Σ length · a / Σ length            over the batch
//! v = Σ length · (a − m)² / (Σ length − 1)
//! A = (a − m) / √(v + 1e-8)
//! loss and coefficient of a token: as GRPO's
//! ```
//!
//! arXiv 2501.03262; the numbers are verl's. Every token of a trace has its trace's reward
//! (no discount), so long completions weigh more in `m` and `v`.
//!
//! Zero cases: a batch whose rewards are all equal, and a batch of fewer than two tokens, count
//! nothing. A silent group does count where the batch is not silent: without a baseline its traces stand
//! against the batch's mean, and with one `m` is not exactly zero where lengths differ.
//!
//! Departures: the baseline of the plain form mixes start states, which this project otherwise never
//! does: an easy problem's failures and a hard one's are held against one number. No KL penalty in the
//! reward (the paper has one). A group of one has, with `baseline = "group"`, its own reward as the mean,
//! as in `reinforce`; verl takes 0.

use serde::{Deserialize, Serialize};

use super::{Weigh, advantage, grpo};
use crate::recipe::section;

/// What is taken from a reward before the batch is whitened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Baseline {
    /// Nothing: REINFORCE++.
    None,
    /// The mean of the group: REINFORCE++-baseline.
    Group,
}

section! {
    /// Settings of REINFORCE++.
    ReinforcePlusPlus from ReinforcePlusPlusWritten {
        /// What is taken from a reward first: `none` or `group`.
        baseline: Baseline = Baseline::None,
        /// How far the ratio may fall below 1 before the clip acts, in `[0, 1]`.
        clip_low: f64 = 0.2,
        /// How far the ratio may rise above 1 before the clip acts, at least 0.
        clip_high: f64 = 0.2,
    }
}

/// Whitens one number per trace over the tokens of the batch; `lengths` are the completions'.
///
/// ```
/// use toehold_training::objective::reinforce_plus_plus::whiten;
/// // Tokens 1, 1, 0 and 0: mean 1/2, variance 4 · 1/4 / 3 = 1/3, so ±√3 / 2.
/// let mut found = [1.0, 0.0];
/// whiten(&mut found, &[2, 2]);
/// assert!((found[0] - 0.75f64.sqrt()).abs() < 1e-7 && found[1] == -found[0]);
/// // The longer one is nearer to the mean: 1, 0, 0 and 0, with the mean 1/4 and the variance 1/4.
/// let mut found = [1.0, 0.0];
/// whiten(&mut found, &[1, 3]);
/// assert!((found[0] - 1.5).abs() < 1e-7 && (found[1] + 0.5).abs() < 1e-7);
/// ```
pub fn whiten(advantages: &mut [f64], lengths: &[usize]) {
    let tokens = lengths.iter().sum::<usize>();
    if tokens < 2 || advantage::is_silent(advantages) {
        advantages.fill(0.0);
        return;
    }
    let over_tokens = |values: &mut dyn Iterator<Item = f64>| -> f64 {
        values.zip(lengths).map(|(value, &length)| value * length as f64).sum()
    };
    let mean = over_tokens(&mut advantages.iter().copied()) / tokens as f64;
    let squares = over_tokens(&mut advantages.iter().map(|advantage| (advantage - mean).powi(2)));
    let scale = (squares / (tokens - 1) as f64 + 1e-8).sqrt();
    advantages.iter_mut().for_each(|advantage| *advantage = (*advantage - mean) / scale);
}

impl Weigh for ReinforcePlusPlus {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        match self.baseline {
            Baseline::None => rewards.to_vec(),
            Baseline::Group => advantage::centred(rewards),
        }
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        grpo::coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }

    fn normalise_batch(&self, advantages: &mut [f64], lengths: &[usize]) {
        whiten(advantages, lengths);
    }
}

#[cfg(test)]
mod tests {
    use super::{Baseline, ReinforcePlusPlus, whiten};
    use crate::objective::{Weigh, gradient_check};

    const PLAIN: ReinforcePlusPlus = ReinforcePlusPlus { baseline: Baseline::None, clip_low: 0.2, clip_high: 0.2 };

    #[test]
    fn coefficients_are_the_derivative() {
        let loss = gradient_check::clipped(0.2, 0.2);
        for advantage in [1.5, -0.5, 0.0] {
            gradient_check::check(&PLAIN, &loss, advantage, &[-1.7, -1.1, -0.9, -0.3], &[-1.0; 4]);
        }
    }

    /// Of the tokens' advantages the mean is 0 and the variance 1.
    #[test]
    fn tokens_are_white() {
        let lengths = [3, 0, 7, 2];
        let mut found = [1.0, 1.0, 0.0, 1.0];
        whiten(&mut found, &lengths);
        let moment = |power| -> f64 { found.iter().zip(lengths).map(|(a, n)| f64::powi(*a, power) * n as f64).sum() };
        assert!(moment(1).abs() < 1e-12);
        assert!((moment(2) / 11.0 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_silent_batch_counts_nothing() {
        for mut advantages in [vec![], vec![0.1], vec![1.0; 3], vec![0.0; 3]] {
            let lengths = vec![2; advantages.len()];
            whiten(&mut advantages, &lengths);
            assert!(advantages.iter().all(|&advantage| advantage == 0.0));
        }
        let mut one_token = [1.0, 0.0];
        whiten(&mut one_token, &[1, 0]);
        assert_eq!(one_token, [0.0, 0.0]);
    }

    /// Two groups, one silent. With the group's mean taken first and lengths alike, it stays silent.
    #[test]
    fn the_baseline_keeps_silent_groups_silent_where_lengths_are_alike() {
        let batch = |objective: &ReinforcePlusPlus| {
            let mut found: Vec<f64> =
                [[1.0, 0.0], [1.0, 1.0]].iter().flat_map(|group| objective.advantages(group)).collect();
            objective.normalise_batch(&mut found, &[5; 4]);
            found
        };
        let with = batch(&ReinforcePlusPlus { baseline: Baseline::Group, ..PLAIN });
        assert_eq!(with[2..], [0.0, 0.0]);
        assert!(with[0] > 0.0 && with[0] == -with[1]);
        let without = batch(&PLAIN);
        assert!(without[2] > 0.0 && without[0] == without[2]);
    }
}
