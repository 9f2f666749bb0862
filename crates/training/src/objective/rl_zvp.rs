//! RL-ZVP: GRPO on mixed groups, and on silent ones an advantage per token, from its entropy.
//!
//! ```text
//! A(token) = (r − mean) / (deviation + epsilon)             in a mixed group
//!          = alpha · H(token)                               where all succeed
//!          = −alpha · (max H of the trace − H(token))       where all fail
//! loss and coefficient of a token: as GRPO's, with this token's A
//! ```
//!
//! "No Prompt Left Behind", arXiv 2509.21880, equation 5. `H` is the entropy of the current
//! policy over the whole vocabulary, in nats, held constant. alpha 0.1 was the best of 0.05 to 0.3; the
//! clips are 0.2 and 0.28. Where all succeed, open decisions are reinforced; where all fail, the tokens
//! that were written surely are pushed down the most, and the least sure one not at all.
//!
//! Zero cases: a silent group of which the policy tells no entropy counts nothing. Where all fail, a
//! trace whose entropy is the same at every token counts nothing. A group of one is silent, and is
//! treated as its formula says: by its entropy. Such traces are handed to the learner before their
//! entropy is known, so a batch of nothing else is a step with a gradient of zero, not a step left out.
//!
//! Departures: none known. All rewards equal and above 0 is read as "all succeed", as in the paper.

use super::{TraceView, Weigh, advantage, advantage::Deviation, grpo};
use crate::recipe::section;

section! {
    /// Settings of RL-ZVP.
    RlZvp from RlZvpWritten {
        /// Weight of an entropy, per nat, at least 0.
        alpha: f64 = 0.1,
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

/// The advantage of each token of a trace of a silent group.
///
/// ```
/// use toehold_training::objective::rl_zvp::silent_advantages;
/// assert_eq!(silent_advantages(0.5, true, &[2.0, 0.0, 1.0]), [1.0, 0.0, 0.5]);
/// // The most open token is left alone, the surest one is pushed down the most.
/// assert_eq!(silent_advantages(0.5, false, &[2.0, 0.0, 1.0]), [0.0, -1.0, -0.5]);
/// assert!(silent_advantages(0.5, false, &[]).is_empty());
/// ```
pub fn silent_advantages(alpha: f64, all_succeed: bool, entropy: &[f32]) -> Vec<f64> {
    let most = entropy.iter().copied().fold(0.0, f32::max);
    let advantage = |&entropy: &f32| {
        if all_succeed { alpha * f64::from(entropy) } else { alpha * f64::from(entropy - most) }
    };
    entropy.iter().map(advantage).collect()
}

impl Weigh for RlZvp {
    /// In a silent group these are `±alpha`, which only says that its traces are to be looked at.
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        if !advantage::is_silent(rewards) {
            return advantage::standardised(rewards, self.deviation, self.epsilon);
        }
        rewards.iter().map(|&reward| if reward > 0.0 { self.alpha } else { -self.alpha }).collect()
    }

    /// Of a trace of a mixed group.
    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        grpo::coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }

    fn coefficients_of(&self, trace: &TraceView<'_>) -> Vec<f64> {
        let TraceView { advantage, rewards, current, behavior, entropy } = *trace;
        if !advantage::is_silent(rewards) {
            return self.coefficients(advantage, current, behavior);
        }
        let Some(entropy) = entropy.filter(|_| advantage != 0.0) else { return vec![0.0; current.len()] };
        let advantages = silent_advantages(self.alpha, advantage > 0.0, entropy);
        let scores = current.iter().zip(behavior);
        let weigh = |((&current, &behavior), advantage): ((&f32, &f32), f64)| {
            grpo::coefficient(advantage, current, behavior, self.clip_low, self.clip_high)
        };
        scores.zip(advantages).map(weigh).collect()
    }

    fn reads_entropy(&self) -> bool {
        true
    }

    fn reads_outcomes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::RlZvp;
    use crate::objective::{TraceView, Weigh, advantage::Deviation, gradient_check, grpo};

    const PAPER: RlZvp =
        RlZvp { alpha: 0.1, clip_low: 0.2, clip_high: 0.28, deviation: Deviation::Sample, epsilon: 1e-6 };

    fn loss(advantage: f64, current: f64, behavior: f64) -> f64 {
        gradient_check::clipped(PAPER.clip_low, PAPER.clip_high)(advantage, current, behavior)
    }

    #[test]
    fn coefficients_are_the_derivative() {
        for advantage in [2.474867, -0.353552, 0.0] {
            gradient_check::check(&PAPER, loss, advantage, &[-1.7, -1.1, -0.9, -0.3], &[-1.0; 4]);
        }
    }

    /// The same on silent groups, where each token has its own advantage.
    #[test]
    fn silent_coefficients_are_the_derivative() {
        let (current, entropy) = ([-1.7f32, -1.1, -0.9, -0.3], [0.5f32, 2.0, 0.0, 1.0]);
        // 0.1 H, and 0.1 (H − 2).
        for (rewards, expected) in [([1.0; 2], [0.05, 0.2, 0.0, 0.1]), ([0.0; 2], [-0.15, 0.0, -0.2, -0.1])] {
            let advantage = PAPER.advantages(&rewards)[0];
            let (rewards, entropy) = (&rewards, Some(&entropy[..]));
            let view = TraceView { advantage, rewards, current: &current, behavior: &[-1.0; 4], entropy };
            let found = PAPER.coefficients_of(&view);
            for (token, advantage) in expected.into_iter().enumerate() {
                let at = |step: f64| loss(advantage, f64::from(current[token]) + step, -1.0);
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((found[token] - slope).abs() < 1e-6, "token {token}: {}, expected {slope}", found[token]);
            }
        }
    }

    #[test]
    fn without_entropy_it_is_grpo() {
        let scores = [-1.0f32; 3];
        let view =
            |advantage, rewards| TraceView { advantage, rewards, current: &scores, behavior: &scores, entropy: None };
        assert_eq!(PAPER.coefficients_of(&view(0.1, &[1.0, 1.0])), [0.0; 3]);
        let mixed = PAPER.advantages(&[1.0, 0.0]);
        assert_eq!(
            PAPER.coefficients_of(&view(mixed[0], &[1.0, 0.0])),
            grpo::coefficients(mixed[0], &scores, &scores, 0.2, 0.28)
        );
    }
}
