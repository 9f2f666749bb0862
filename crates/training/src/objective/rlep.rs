//! RLEP: collected successes stand in the group as if they had been sampled now.
//!
//! ```text
//! A = (r − mean) / (deviation + epsilon), over the group and what joins it
//! fresh traces:    loss and coefficient of a token: as GRPO's
//! stored traces:   coefficient = −A
//! ```
//!
//! "RL with experience replay", arXiv 2507.07451, and its code: 16 fresh and 2 stored, clips 0.2 and 0.28, a
//! mean over tokens. The behavior of a stored trace is taken from the policy as it is now, so its ratio
//! is 1 and no clip acts: the bias that importance weights would take out is accepted.
//!
//! Zero cases: a plain group in which all fail has, joined by m successes, the advantages of m in n + m:
//! never silent. One in which all succeed counts nothing. Groups nothing joins are GRPO's.
//!
//! Departures: the baseline mixes policies, as the method has it. The paper pads problems with fewer than
//! two collected successes with empty completions; here fewer join.

use super::given::{Given, GivenView, Origin};
use super::{Weigh, advantage, advantage::Deviation, grpo, reinforce};
use crate::recipe::section;

section! {
    /// Settings of RLEP.
    Rlep from RlepWritten {
        /// Stored successes that join a plain group, at most.
        stored: usize = 2,
        /// How far the ratio of a fresh trace may fall below 1 before the clip acts, in `[0, 1]`.
        clip_low: f64 = 0.2,
        /// How far the ratio of a fresh trace may rise above 1 before the clip acts, at least 0.
        clip_high: f64 = 0.28,
        /// What the deviation divides by: `sample`, `population` or `none`.
        deviation: Deviation = Deviation::Sample,
        /// Added to the deviation, at least 0.
        epsilon: f64 = 1e-6,
    }
}

/// The advantages of the group's own traces, then those of the successes that join it.
///
/// ```
/// use toehold_training::objective::{advantage::Deviation, rlep::joint_advantages};
/// // Two failures, joined by two successes: mean 1/2, the population's deviation 1/2.
/// let found = joint_advantages(&[0.0, 0.0], 2, Deviation::Population, 0.0);
/// assert_eq!(found, (vec![-1.0, -1.0], vec![1.0, 1.0]));
/// ```
pub fn joint_advantages(rewards: &[f64], stored: usize, deviation: Deviation, epsilon: f64) -> (Vec<f64>, Vec<f64>) {
    let mut advantages = advantage::standardised(&[rewards, &vec![1.0; stored]].concat(), deviation, epsilon);
    let joined = advantages.split_off(rewards.len());
    (advantages, joined)
}

impl Weigh for Rlep {
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

impl Given for Rlep {
    fn wanted(&self, _rewards: &[f64]) -> usize {
        self.stored
    }

    fn joint_advantages(&self, rewards: &[f64], stored: usize) -> (Vec<f64>, Vec<f64>) {
        joint_advantages(rewards, stored, self.deviation, self.epsilon)
    }

    fn given_coefficients(&self, given: &GivenView<'_>) -> Vec<f64> {
        match given.origin {
            Origin::Stored { .. } => reinforce::coefficients(given.advantage, given.current.len()),
            Origin::Prefix => vec![0.0; given.current.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use toehold_rollout::SuccessCount;

    use super::{Deviation, Rlep};
    use crate::objective::given::{Given, Origin};
    use crate::objective::{advantage::standardised, gradient_check};

    const PAPER: Rlep = Rlep { stored: 2, clip_low: 0.2, clip_high: 0.28, deviation: Deviation::Sample, epsilon: 1e-6 };

    #[test]
    fn coefficients_are_the_derivative() {
        let loss = gradient_check::clipped(0.2, 0.28);
        for advantage in [2.474867, -0.353552, 0.0] {
            gradient_check::check(&PAPER, &loss, advantage, &[-1.7, -1.1, -0.9, -0.3], &[-1.0; 4]);
            // GRPO's loss where the behavior is the policy's own, held constant.
            for current in [-9.0f32, -0.7] {
                let origin = Origin::Stored { behavior: &[-1.0], campaign: SuccessCount::default() };
                let fresh = |_, at: f64| loss(advantage, at, f64::from(current));
                gradient_check::check_given(&PAPER, fresh, origin, advantage, &[current]);
            }
        }
    }

    #[test]
    fn what_joins_stands_in_the_groups_statistics() {
        let (fresh, joined) = PAPER.joint_advantages(&[0.0; 16], 2);
        let all = standardised(&[[0.0; 16].as_slice(), &[1.0; 2]].concat(), Deviation::Sample, 1e-6);
        assert_eq!([fresh, joined].concat(), all);
        assert_eq!(PAPER.joint_advantages(&[1.0; 3], 2), (vec![0.0; 3], vec![0.0; 2]));
        assert_eq!(PAPER.joint_advantages(&[0.0; 3], 0), (vec![0.0; 3], vec![]));
    }
}
