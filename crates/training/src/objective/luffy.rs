//! LUFFY: collected successes stand in the group, and count most where the policy is in doubt.
//!
//! ```text
//! A = r − mean(r), over the group and what joins it
//! fresh traces:    coefficient = −ρ A,  ρ = exp(current − behavior), without a clip
//! stored traces:   loss(token) = −A · π/(π + gamma),  π = exp(current)
//!                  coefficient = −A · gamma π/(π + gamma)²
//! ```
//!
//! "Learning to reason under off-policy guidance", arXiv 2504.14945, and its code. A stored trace is one
//! whose own policy is not asked (its chance is taken for 1). The shaped coefficient is largest at
//! `π = gamma`, A/4, and falls to `A π/gamma` where the policy holds a token for impossible and to
//! `A gamma` where it is sure.
//!
//! Zero cases: a plain group in which all fail has, joined by one success, the advantages of one success in
//! n + 1. One in which all succeed counts nothing. Groups nothing joins (from a prefix; without a collected
//! success) are `reinforce`'s, and a group of one is silent there.
//!
//! Departures: the baseline mixes policies: a success of another's stands in the mean. The paper's group has
//! 1 stored and 7 fresh, so what joins takes a fresh one's place; here it comes on top (`[train] group = 7`
//! is the paper's). Its traces are a stronger model's; here they are the policy's own rare successes, from the
//! collection. Its loss is divided by a fixed width (`aggregation = "constant"`) and has an entropy bonus
//! (`[objective.entropy]`). log ρ within ±20.

use super::given::{Given, GivenView, Origin};
use super::{Weigh, advantage, grpo};
use crate::recipe::section;

section! {
    /// Settings of LUFFY.
    Luffy from LuffyWritten {
        /// Stored successes that join a plain group, at most.
        stored: usize = 1,
        /// The chance at which a token of a stored trace counts most, above 0.
        gamma: f64 = 0.1,
    }
}

/// The coefficient of each token of a stored trace.
///
/// ```
/// use toehold_training::objective::luffy::shaped_coefficients;
/// // A token of the chance 1 with gamma = 1: 1 · 1/(1 + 1)² = 1/4.
/// assert_eq!(shaped_coefficients(2.0, &[0.0], 1.0), [-0.5]);
/// // What the policy holds for impossible has no coefficient, unlike in imitation.
/// assert_eq!(shaped_coefficients(2.0, &[f32::NEG_INFINITY], 0.1), [0.0]);
/// ```
pub fn shaped_coefficients(advantage: f64, current: &[f32], gamma: f64) -> Vec<f64> {
    let coefficient = |&current: &f32| {
        let chance = f64::from(current).exp();
        -advantage * gamma * chance / (chance + gamma).powi(2)
    };
    current.iter().map(coefficient).collect()
}

impl Weigh for Luffy {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantage::centred(rewards)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        grpo::coefficients(advantage, current, behavior, f64::INFINITY, f64::INFINITY)
    }

    fn given(&self) -> Option<&dyn Given> {
        Some(self)
    }
}

impl Given for Luffy {
    fn wanted(&self, _rewards: &[f64]) -> usize {
        self.stored
    }

    fn joint_advantages(&self, rewards: &[f64], stored: usize) -> (Vec<f64>, Vec<f64>) {
        let mut advantages = advantage::centred(&[rewards, &vec![1.0; stored]].concat());
        let joined = advantages.split_off(rewards.len());
        (advantages, joined)
    }

    fn given_coefficients(&self, given: &GivenView<'_>) -> Vec<f64> {
        match given.origin {
            Origin::Stored { .. } => shaped_coefficients(given.advantage, given.current, self.gamma),
            Origin::Prefix => vec![0.0; given.current.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use toehold_rollout::SuccessCount;

    use super::{Luffy, shaped_coefficients};
    use crate::objective::given::{Given, Origin};
    use crate::objective::gradient_check;

    const PAPER: Luffy = Luffy { stored: 1, gamma: 0.1 };

    #[test]
    fn coefficients_are_the_derivative() {
        let ratio = |advantage: f64, current: f64, behavior: f64| -advantage * (current - behavior).exp();
        for advantage in [0.875, -0.125, 0.0] {
            gradient_check::check(&PAPER, ratio, advantage, &[-1.7, -1.0, -0.3], &[-1.0; 3]);
            let shaped = |_, current: f64| -advantage * current.exp() / (current.exp() + 0.1);
            let origin = Origin::Stored { behavior: &[0.0; 4], campaign: SuccessCount::default() };
            gradient_check::check_given(&PAPER, shaped, origin, advantage, &[-9.0, -2.3, -0.7, -0.01]);
        }
    }

    #[test]
    fn a_stored_success_ends_the_silence_of_failures() {
        let (fresh, joined) = PAPER.joint_advantages(&[0.0; 7], 1);
        assert_eq!((fresh, joined), (vec![-0.125; 7], vec![0.875]));
        assert_eq!(PAPER.joint_advantages(&[1.0; 7], 1), (vec![0.0; 7], vec![0.0]));
        assert_eq!(PAPER.joint_advantages(&[0.0; 7], 0), (vec![0.0; 7], vec![]));
        assert_eq!(PAPER.joint_advantages(&[], 0), (vec![], vec![]));
    }

    /// The shaping is flat where imitation is steep.
    #[test]
    fn it_is_largest_at_gamma() {
        let at = |chance: f64| -shaped_coefficients(1.0, &[chance.ln() as f32], 0.1)[0];
        assert!((at(0.1) - 0.25).abs() < 1e-6);
        assert!(at(0.05) < at(0.1) && at(0.2) < at(0.1) && at(1e-6) < 1.1e-5);
    }
}
