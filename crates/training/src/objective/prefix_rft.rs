//! Prefix-RFT: the most open tokens of a prefix are learnt from too, by what starting there was worth.
//!
//! ```text
//! completions:  as GRPO's, over the group of their own start
//! prefix:       A = mean(r of the group) − mean(r of the plain groups of the same problem in the batch)
//!               coefficient = −A for the `share` of its tokens with the highest entropy, 0 for the rest
//! ```
//!
//! "Blending supervised and reinforcement fine-tuning with prefix sampling", arXiv 2507.01679, and its code.
//! The prefix is the policy's as it is now, so its ratio is 1. The entropy decides which tokens are
//! learnt from: a fifth of them in the paper, where all of them made completions explode.
//!
//! Why the baseline mixes starts: the rollouts of a group share their prefix, so with the group's own mean
//! their advantages add up to 0 on it, exactly, and nothing would be learnt from it. Held against plain
//! rollouts of the same problem, a prefix is reinforced by what it added.
//!
//! Zero cases: a prefix counts nothing where no plain group of its problem is in the batch, where it
//! added nothing, and where the policy tells no entropy. A batch that is smaller than the curriculum's
//! round of starts pairs few of them: the recipe's covers it.
//!
//! Departures: the paper's group is N − 1 plain rollouts and one from a prefix, with one baseline over
//! all; here each start has its group and its baseline, as everywhere in this project, and the prefix alone is
//! held against the plain ones. That is what the authors' code computes, in the variant without the
//! deviation (the other one subtracts a raw mean from a standardised score). The paper's prefixes are a
//! stronger model's; lengths that shrink over training are a curriculum's affair. The prefix counts as one
//! trace of the batch, once for its group.

use super::given::{Given, GivenView, Origin};
use super::{Weigh, advantage, advantage::Deviation, grpo};
use crate::recipe::section;

section! {
    /// Settings of Prefix-RFT.
    PrefixRft from PrefixRftWritten {
        /// Part of a prefix that is learnt from, the tokens of the highest entropy, in `[0, 1]`.
        share: f64 = 0.2,
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

/// Which tokens are learnt from: all but the `⌊(1 − share) · tokens⌋` of the lowest entropy; of equal ones
/// the earlier stay.
///
/// ```
/// use toehold_training::objective::prefix_rft::most_open;
/// assert_eq!(most_open(&[0.1, 2.0, 0.5, 1.0], 0.5), [false, true, false, true]);
/// assert_eq!(most_open(&[0.1, 2.0, 0.5], 0.2), [false, true, false]);
/// assert_eq!(most_open(&[1.0, 1.0], 0.5), [true, false]);
/// ```
pub fn most_open(entropy: &[f32], share: f64) -> Vec<bool> {
    // A hair below, so that 0.8 · 5 drops 4 whatever its last bit is.
    let dropped = ((1.0 - share) * entropy.len() as f64 + 1e-9).floor() as usize;
    let mut order: Vec<usize> = (0..entropy.len()).collect();
    order.sort_by(|&a, &b| entropy[a].total_cmp(&entropy[b]).then(b.cmp(&a)));
    let mut is_kept = vec![true; entropy.len()];
    order.into_iter().take(dropped).for_each(|token| is_kept[token] = false);
    is_kept
}

impl Weigh for PrefixRft {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantage::standardised(rewards, self.deviation, self.epsilon)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        grpo::coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }

    fn given(&self) -> Option<&dyn Given> {
        Some(self)
    }

    fn reads_entropy(&self) -> bool {
        true
    }
}

impl Given for PrefixRft {
    fn prefix_advantage(&self, rewards: &[f64], plain: &[f64]) -> Option<f64> {
        let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / rewards.len() as f64;
        let has_both = !rewards.is_empty() && !plain.is_empty();
        has_both.then(|| mean(rewards) - mean(plain)).filter(|&advantage| advantage != 0.0)
    }

    fn given_coefficients(&self, given: &GivenView<'_>) -> Vec<f64> {
        let (Origin::Prefix, Some(entropy)) = (given.origin, given.entropy) else {
            return vec![0.0; given.current.len()];
        };
        let coefficient = |is_kept: bool| if is_kept { -given.advantage } else { 0.0 };
        most_open(entropy, self.share).into_iter().map(coefficient).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{PrefixRft, most_open};
    use crate::objective::advantage::Deviation;
    use crate::objective::given::{Given, GivenView, Origin};
    use crate::objective::{Weigh, gradient_check};

    const PAPER: PrefixRft =
        PrefixRft { share: 0.2, clip_low: 0.2, clip_high: 0.2, deviation: Deviation::Sample, epsilon: 1e-6 };

    #[test]
    fn coefficients_are_the_derivative() {
        let loss = gradient_check::clipped(0.2, 0.2);
        for advantage in [0.5, -0.25, 0.0] {
            gradient_check::check(&PAPER, &loss, advantage, &[-1.7, -1.1, -0.9, -0.3], &[-1.0; 4]);
            // Of five tokens with no entropy told, and of one token that is kept.
            gradient_check::check_given(&PAPER, |_, _| 0.0, Origin::Prefix, advantage, &[-1.0; 5]);
            let all = PrefixRft { share: 1.0, ..PAPER };
            let view =
                GivenView { origin: Origin::Prefix, advantage, current: &[-1.0, -2.0], entropy: Some(&[0.5, 0.1]) };
            let fresh = |at: f64, step: f64| loss(advantage, at + step, at);
            for (found, at) in all.given_coefficients(&view).into_iter().zip([-1.0, -2.0]) {
                let slope = (fresh(at, 1e-5) - fresh(at, -1e-5)) / 2e-5;
                assert!((found - slope).abs() < 1e-6, "{found} {slope}");
            }
        }
    }

    #[test]
    fn a_fifth_of_the_tokens_is_kept() {
        let entropy: Vec<f32> = (0..10).map(|token| (token * 7 % 10) as f32).collect();
        let kept = most_open(&entropy, 0.2);
        assert_eq!(kept.iter().filter(|&&kept| kept).count(), 2);
        assert!(kept[entropy.iter().position(|&e| e == 9.0).unwrap()]);
        for (share, tokens, expected) in [(0.2, 5, 1), (0.2, 1, 1), (0.0, 5, 0), (1.0, 5, 5), (0.2, 0, 0)] {
            let kept = most_open(&vec![1.0; tokens], share);
            assert_eq!(kept.iter().filter(|&&kept| kept).count(), expected, "{share} of {tokens}");
        }
    }

    #[test]
    fn a_prefix_is_worth_what_it_added() {
        assert_eq!(PAPER.prefix_advantage(&[1.0, 0.0], &[0.0; 4]), Some(0.5));
        assert_eq!(PAPER.prefix_advantage(&[0.0, 0.0], &[1.0, 0.0]), Some(-0.5));
        assert_eq!(PAPER.prefix_advantage(&[1.0], &[1.0]), None);
        assert_eq!(PAPER.prefix_advantage(&[1.0, 0.0], &[]), None);
    }

    /// Why it is not the group's own mean.
    #[test]
    fn over_its_own_group_a_prefix_would_count_nothing() {
        let advantages = PAPER.advantages(&[1.0, 0.0, 0.0, 1.0, 1.0]);
        assert!(advantages.iter().sum::<f64>().abs() < 1e-12);
    }
}
