//! Importance-weighted off-policy RL: collected successes, weighted by how likely they are now.
//!
//! ```text
//! fresh traces:   A = r − mean(r of the group)
//!                 coefficient = −min(exp(current − behavior), cap) · A
//! a stored success joins a plain group in which all fail, with A = 1 (the group's mean being 0):
//!                 coefficient = −min(p · Π exp(current − behavior), cap)      ratio = "trace"
//!                             = −min(p · exp(current − behavior), cap)        ratio = "token"
//! ```
//!
//! PrefixRL's off-policy baseline, arXiv 2601.18795, section 5.2 and equations 12.1 to 12.4. A stored
//! success was drawn until one was accepted, so its distribution is `μ = π₀ · 1{success} / p` and
//! `π/μ = p · π/π₀`, with p the chance of being accepted. `trace` is that (12.3); `token`, the paper's
//! and the default, writes `p` to every token (12.4), which weighs long traces far less: a heuristic.
//! What p is made of (`acceptance`):
//!
//! * `rate`: successes / attempts, the paper's `1/R`. Right for a number of attempts fixed beforehand; where
//!   collecting ended with the first success it is too large by `ln(1/p)/(1 − p)` on average, 6.5 times at
//!   p = 1/650.
//! * `unbiased`: (successes − 1)/(attempts − 1), right where collecting ended with the last success. It
//!   needs two successes: with one it is 0, and such traces count nothing.
//!
//! Zero cases: groups in which all succeed count nothing; groups in which all fail count by what joins them,
//! and nothing where nothing was collected. A group of one failure is one in which all fail.
//!
//! Departures: the paper's cap was not to be found; 5 is ScaleRL's. `behavior` of a stored trace is at the
//! temperature it was collected with, and so is its p. `cap` is `weight_cap`. log ratios within ±20, also their sum. One stored
//! success joins at a time, drawn anew in each step where there are several.

use serde::{Deserialize, Serialize};
use toehold_rollout::SuccessCount;

use super::given::{Given, GivenView, Origin};
use super::{Weigh, advantage, cispo, grpo};
use crate::recipe::section;

/// Of what the ratio of a stored trace is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ratio {
    /// Of the whole trace: equation 12.3.
    Trace,
    /// Of each token, the chance of being accepted on every one: equation 12.4.
    Token,
}

/// How the chance of being accepted is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceptance {
    /// Successes over attempts.
    Rate,
    /// The same without the last success.
    Unbiased,
}

section! {
    /// Settings of importance-weighted off-policy RL.
    ImportanceWeighted from ImportanceWeightedWritten {
        /// `token` or `trace`.
        ratio: Ratio = Ratio::Token,
        /// `rate` or `unbiased`.
        acceptance: Acceptance = Acceptance::Rate,
        /// The largest weight of a token, above 0.
        weight_cap: f64 = 5.0,
    }
}

/// The chance of being accepted, in `[0, 1]`.
///
/// ```
/// use toehold_rollout::SuccessCount;
/// use toehold_training::objective::importance_weighted::{Acceptance, acceptance};
/// let campaign = SuccessCount { successes: 2, attempts: 5 };
/// assert_eq!(acceptance(Acceptance::Rate, campaign), 0.4);
/// assert_eq!(acceptance(Acceptance::Unbiased, campaign), 0.25);
/// ```
pub fn acceptance(estimate: Acceptance, campaign: SuccessCount) -> f64 {
    let (successes, attempts) = (campaign.successes as f64, campaign.attempts as f64);
    match estimate {
        Acceptance::Rate => successes / attempts.max(1.0),
        Acceptance::Unbiased => (successes - 1.0).max(0.0) / (attempts - 1.0).max(1.0),
    }
}

/// The weight of each token of a stored success.
///
/// ```
/// use toehold_training::objective::importance_weighted::{Ratio, weights};
/// // Accepted once in four; one token became e times as likely, one stayed: e/4 and 1/4, or e/4 for both.
/// let (current, behavior) = ([-1.0, -2.0], [-2.0, -2.0]);
/// assert_eq!(weights(Ratio::Token, 0.25, 5.0, &current, &behavior), [1f64.exp() / 4.0, 0.25]);
/// assert_eq!(weights(Ratio::Trace, 0.25, 5.0, &current, &behavior), [1f64.exp() / 4.0; 2]);
/// assert_eq!(weights(Ratio::Token, 0.25, 0.5, &current, &behavior), [0.5, 0.25]);
/// ```
pub fn weights(ratio: Ratio, p: f64, cap: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
    let logs = current.iter().zip(behavior).map(|(&current, &behavior)| grpo::log_ratio(current, behavior));
    let weight = |log: f64| (p * log.exp()).min(cap);
    match ratio {
        Ratio::Token => logs.map(weight).collect(),
        Ratio::Trace => {
            let tokens = logs.len();
            vec![weight(logs.sum::<f64>().clamp(-20.0, 20.0)); tokens]
        }
    }
}

impl Weigh for ImportanceWeighted {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantage::centred(rewards)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        cispo::coefficients(advantage, current, behavior, 1.0, self.weight_cap - 1.0)
    }

    fn given(&self) -> Option<&dyn Given> {
        Some(self)
    }
}

impl Given for ImportanceWeighted {
    fn wanted(&self, rewards: &[f64]) -> usize {
        usize::from(rewards.iter().all(|&reward| reward <= 0.0))
    }

    fn joint_advantages(&self, rewards: &[f64], stored: usize) -> (Vec<f64>, Vec<f64>) {
        let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
        (self.advantages(rewards), vec![1.0 - mean; stored])
    }

    fn given_coefficients(&self, given: &GivenView<'_>) -> Vec<f64> {
        let Origin::Stored { behavior, campaign } = given.origin else { return vec![0.0; given.current.len()] };
        let weights =
            weights(self.ratio, acceptance(self.acceptance, campaign), self.weight_cap, given.current, behavior);
        weights.into_iter().map(|weight| -weight * given.advantage).collect()
    }
}

#[cfg(test)]
mod tests {
    use toehold_rollout::SuccessCount;

    use super::{Acceptance, ImportanceWeighted, Ratio, acceptance};
    use crate::objective::given::{Given, GivenView, Origin};
    use crate::objective::gradient_check;

    const DEFAULT: ImportanceWeighted =
        ImportanceWeighted { ratio: Ratio::Token, acceptance: Acceptance::Rate, weight_cap: 5.0 };
    const ONE_IN_FOUR: SuccessCount = SuccessCount { successes: 1, attempts: 4 };

    /// One token at a time: the weight is held constant.
    #[test]
    fn coefficients_are_the_derivative() {
        for current in [-9.0f32, -1.5, -1.0, -0.5, -0.1] {
            let ratio = (f64::from(current) + 4.0).exp();
            let fresh = |advantage: f64, current: f64, _: f64| -ratio.min(5.0) * advantage * current;
            gradient_check::check(&DEFAULT, fresh, -0.25, &[current], &[-4.0]);
            for level in [Ratio::Token, Ratio::Trace] {
                let objective = ImportanceWeighted { ratio: level, ..DEFAULT };
                let origin = Origin::Stored { behavior: &[-4.0], campaign: ONE_IN_FOUR };
                let stored = |current: f64| -(ratio / 4.0).min(5.0) * 1.5 * current;
                gradient_check::check_given(&objective, |_, current| stored(current), origin, 1.5, &[current]);
            }
        }
    }

    /// Three tokens, of which the second and the third are accepted (p = 1/2): drawing from the accepted
    /// ones with these weights is, on average, drawing from the policy and counting successes.
    #[test]
    fn over_accepted_traces_the_weights_give_the_policys_success() {
        let (base, policy, p) = ([0.5f64, 0.3, 0.2], [0.1f64, 0.3, 0.6], 0.5);
        let mean: f64 = [1, 2]
            .iter()
            .map(|&token: &usize| {
                let (current, behavior) = (policy[token].ln() as f32, base[token].ln() as f32);
                (base[token] / p) * super::weights(Ratio::Trace, p, 100.0, &[current], &[behavior])[0]
            })
            .sum();
        assert!((mean - 0.9).abs() < 1e-6, "{mean}");
    }

    /// Collected until the second success, `(s − 1)/(R − 1)` has the mean p, and `s/R` more.
    #[test]
    fn one_estimate_is_unbiased() {
        let p = 0.3f64;
        let mean = |estimate| -> f64 {
            (2u32..400)
                .map(|attempts| {
                    let chance = f64::from(attempts - 1) * p * p * (1.0 - p).powi(attempts as i32 - 2);
                    chance * acceptance(estimate, SuccessCount { successes: 2, attempts: u64::from(attempts) })
                })
                .sum()
        };
        assert!((mean(Acceptance::Unbiased) - p).abs() < 1e-9);
        assert!(mean(Acceptance::Rate) > p + 0.05);
        // Until the first, `1/R` has the mean p ln(1/p) / (1 − p).
        let first: f64 = (1..400).map(|r| p * (1.0 - p).powi(r - 1) / f64::from(r)).sum();
        assert!((first - p * (1.0 / p).ln() / (1.0 - p)).abs() < 1e-9);
    }

    #[test]
    fn they_join_groups_without_a_success_alone() {
        assert_eq!((DEFAULT.wanted(&[0.0; 4]), DEFAULT.wanted(&[0.0, 1.0]), DEFAULT.wanted(&[1.0])), (1, 0, 0));
        assert_eq!(DEFAULT.joint_advantages(&[0.0; 2], 1), (vec![0.0; 2], vec![1.0]));
        assert_eq!(DEFAULT.joint_advantages(&[0.0; 2], 0), (vec![0.0; 2], vec![]));
        let unbiased = ImportanceWeighted { acceptance: Acceptance::Unbiased, ..DEFAULT };
        let origin = Origin::Stored { behavior: &[-1.0], campaign: ONE_IN_FOUR };
        let view = GivenView { origin, advantage: 1.0, current: &[-1.0], entropy: None };
        assert_eq!(unbiased.given_coefficients(&view), [0.0]);
        assert_eq!(acceptance(Acceptance::Unbiased, SuccessCount { successes: 1, attempts: 1 }), 0.0);
        assert_eq!(acceptance(Acceptance::Rate, SuccessCount::default()), 0.0);
    }
}
