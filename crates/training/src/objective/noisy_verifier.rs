//! Correction for a verifier that errs: it accepts a wrong trace, or refuses a right one, at known rates.
//!
//! ```text
//! ρ0 = chance that a wrong trace is accepted     (false_positive)
//! ρ1 = chance that a right trace is refused      (false_negative)
//! backward:  A = (r − ρ0) / (1 − ρ0 − ρ1)        whose mean is 1 for a right trace, 0 for a wrong one
//! forward:   A = ρ1 for an accepted trace, ρ1 − 1 for a refused one
//! loss(token) = −A · log π(token)        coefficient = −A
//! ```
//!
//! arXiv 2510.00915. Backward restores the reward; forward has the mean
//! `(1 − ρ0 − ρ1)(r* − 1)` for the true reward `r*`, which is the direction of the true gradient, and
//! asks for ρ1 alone. With ρ1 = 0, forward is NSR (`w-reinforce`).
//!
//! Zero cases: there is no baseline, so silent groups and groups of one count, like all others.
//!
//! Departures: a baseline is left out on purpose. Standardising over a group takes the backward
//! correction out again, any map of two rewards being affine, and subtracting the group's mean leaves only
//! a constant factor; the paper's later version uses the numbers directly too, with a running scale, which
//! an objective without a memory cannot have. The rates are settings. [`from_appeals`] estimates ρ1 from
//! counts of refused traces that a better verifier looked at again; the paper does so while training, and
//! here nothing asks a second verifier. The forward weights are from memory, checked by the property above.

use serde::{Deserialize, Serialize};

use super::{Weigh, reinforce};
use crate::recipe::section;

/// How the errors are corrected for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Correction {
    /// The reward is made unbiased; asks for both rates.
    Backward,
    /// The gradient has the true direction; asks for `false_negative` alone, and is the steadier one.
    Forward,
}

/// The rate of one kind of error, in `[0, 0.5)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct ErrorRate(f64);

/// A rate at which the corrections have no sense: two of them might add up to 1, or they are none.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("an error rate is {0}, expected in [0, 0.5)")]
pub struct ErrorRateError(f64);

impl TryFrom<f64> for ErrorRate {
    type Error = ErrorRateError;

    fn try_from(rate: f64) -> Result<ErrorRate, ErrorRateError> {
        if (0.0..0.5).contains(&rate) { Ok(ErrorRate(rate)) } else { Err(ErrorRateError(rate)) }
    }
}

impl From<ErrorRate> for f64 {
    fn from(rate: ErrorRate) -> f64 {
        rate.0
    }
}

section! {
    /// Settings of the correction.
    NoisyVerifier from NoisyVerifierWritten {
        /// `backward` or `forward`.
        correction: Correction = Correction::Forward,
        /// Chance that a right trace is refused, in `[0, 0.5)`.
        false_negative: ErrorRate,
        /// Chance that a wrong trace is accepted, in `[0, 0.5)`; `forward` does not read it.
        false_positive: ErrorRate = ErrorRate(0.0),
    }
}

/// The reward that is unbiased: its mean over the verifier's errors is the true one.
///
/// ```
/// use toehold_training::objective::noisy_verifier::{ErrorRate, backward};
/// let rate = |rate: f64| ErrorRate::try_from(rate).unwrap();
/// // One right trace in four is refused, no wrong one is accepted: an accepted one stands for 4/3.
/// assert_eq!(backward(1.0, rate(0.0), rate(0.25)), 4.0 / 3.0);
/// assert_eq!(backward(0.0, rate(0.25), rate(0.25)), -0.5);
/// ```
pub fn backward(reward: f64, false_positive: ErrorRate, false_negative: ErrorRate) -> f64 {
    (reward - false_positive.0) / (1.0 - false_positive.0 - false_negative.0)
}

/// The weight of a trace: ρ1 where it was accepted (a reward above 0), ρ1 − 1 where it was refused.
///
/// ```
/// use toehold_training::objective::noisy_verifier::{ErrorRate, forward};
/// let quarter = ErrorRate::try_from(0.25).unwrap();
/// assert_eq!((forward(1.0, quarter), forward(0.0, quarter)), (0.25, -0.75));
/// ```
pub fn forward(reward: f64, false_negative: ErrorRate) -> f64 {
    if reward > 0.0 { false_negative.0 } else { false_negative.0 - 1.0 }
}

/// What a verifier said of a sample of traces, and what a better one says of some that it refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appeals {
    /// Traces that were accepted.
    pub accepted: u64,
    /// Traces that were refused.
    pub refused: u64,
    /// Of the refused, those that were looked at again, chosen at random.
    pub appealed: u64,
    /// Of these, those that are right after all.
    pub overturned: u64,
}

/// The chance that a right trace is refused. Each appeal stands for `refused / appealed` refused traces,
/// and `false_positive` tells how many of the accepted are right. None without an appeal or without a right
/// trace, where the counts contradict each other, and where the rate is 1/2 or more, which no correction
/// takes.
///
/// ```
/// use toehold_training::objective::noisy_verifier::{Appeals, ErrorRate, from_appeals};
/// // Of 40 refused traces 10 are looked at again and one is right: 4 are, beside the 12 accepted ones.
/// let appeals = Appeals { accepted: 12, refused: 40, appealed: 10, overturned: 1 };
/// let never = ErrorRate::try_from(0.0).unwrap();
/// assert_eq!(from_appeals(appeals, never), ErrorRate::try_from(0.25).ok());
/// ```
pub fn from_appeals(appeals: Appeals, false_positive: ErrorRate) -> Option<ErrorRate> {
    let Appeals { accepted, refused, appealed, overturned } = appeals;
    if appealed == 0 || appealed > refused || overturned > appealed {
        return None;
    }
    let refused_right = refused as f64 * overturned as f64 / appealed as f64;
    // Of the wrong traces, 1 − ρ0 are refused.
    let wrong = (refused as f64 - refused_right) / (1.0 - false_positive.0);
    let right = refused_right + accepted as f64 - false_positive.0 * wrong;
    let rate = refused_right / right;
    if right > 0.0 { ErrorRate::try_from(rate).ok() } else { None }
}

impl Weigh for NoisyVerifier {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        let advantage = |&reward: &f64| match self.correction {
            Correction::Backward => backward(reward, self.false_positive, self.false_negative),
            Correction::Forward => forward(reward, self.false_negative),
        };
        rewards.iter().map(advantage).collect()
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
    use expect_test::expect;

    use super::{Appeals, Correction, ErrorRate, NoisyVerifier, from_appeals};
    use crate::objective::{Weigh, advantage::Deviation, advantage::standardised, gradient_check, w_reinforce};

    fn objective(correction: Correction, false_positive: f64, false_negative: f64) -> NoisyVerifier {
        let rate = |rate| ErrorRate::try_from(rate).unwrap();
        NoisyVerifier { correction, false_positive: rate(false_positive), false_negative: rate(false_negative) }
    }

    #[test]
    fn coefficients_are_the_derivative() {
        for advantage in [4.0 / 3.0, -0.75, 0.0] {
            let objective = objective(Correction::Forward, 0.0, 0.25);
            gradient_check::check(&objective, gradient_check::linear, advantage, &[-0.1, -3.0], &[-0.2, -1.0]);
        }
    }

    /// The mean of the advantage over the verifier's errors, for a right trace and for a wrong one.
    #[test]
    fn errors_cancel_on_average() {
        for (rho0, rho1) in [(0.0, 0.0), (0.1, 0.0), (0.0, 0.3), (0.2, 0.4), (0.49, 0.49)] {
            let means = |correction| {
                let found = objective(correction, rho0, rho1).advantages(&[1.0, 0.0]);
                ((1.0 - rho1) * found[0] + rho1 * found[1], rho0 * found[0] + (1.0 - rho0) * found[1])
            };
            let (right, wrong) = means(Correction::Backward);
            assert!((right - 1.0).abs() < 1e-12 && wrong.abs() < 1e-12, "{right} {wrong}");
            let (right, wrong) = means(Correction::Forward);
            assert!(right.abs() < 1e-12 && (wrong + 1.0 - rho0 - rho1).abs() < 1e-12, "{right} {wrong}");
        }
    }

    /// 1000 right traces and 2000 wrong ones, at known rates; every fifth refusal is appealed.
    #[test]
    fn appeals_find_the_rate() {
        let rate = |rate| ErrorRate::try_from(rate).unwrap();
        for (rho0, rho1) in [(0.0, 0.0), (0.0, 0.3), (0.1, 0.2), (0.4, 0.4)] {
            let count = |share: f64, of: f64| (share * of).round() as u64;
            let (missed, fooled) = (count(rho1, 1000.0), count(rho0, 2000.0));
            let refused = missed + 2000 - fooled;
            let appeals =
                Appeals { accepted: 1000 - missed + fooled, refused, appealed: refused / 5, overturned: missed / 5 };
            let found = f64::from(from_appeals(appeals, rate(rho0)).unwrap());
            assert!((found - rho1).abs() < 1e-9, "{rho0} {rho1}: {found}");
        }
    }

    #[test]
    fn appeals_that_say_nothing() {
        let none = |accepted, refused, appealed, overturned| {
            let appeals = Appeals { accepted, refused, appealed, overturned };
            assert_eq!(from_appeals(appeals, ErrorRate::try_from(0.2).unwrap()), None, "{appeals:?}");
        };
        none(3, 5, 0, 0);
        none(3, 5, 6, 1);
        none(3, 5, 2, 3);
        // No right trace at all; then 9 of 10 refused.
        none(0, 5, 5, 0);
        none(1, 9, 9, 9);
    }

    #[test]
    fn forward_without_false_negatives_is_nsr() {
        let rewards = [1.0, 0.0, 0.0];
        let found = objective(Correction::Forward, 0.3, 0.0).advantages(&rewards);
        assert_eq!(found, w_reinforce::advantages(&rewards, 0.0, 1.0));
    }

    /// Why there is no baseline: standardised over its group, a corrected reward is the plain one again.
    #[test]
    fn standardising_would_undo_it() {
        let rewards = [1.0, 0.0, 0.0, 1.0, 0.0];
        let corrected = objective(Correction::Backward, 0.1, 0.3).advantages(&rewards);
        let plain = standardised(&rewards, Deviation::Population, 0.0);
        let undone = standardised(&corrected, Deviation::Population, 0.0);
        assert!(plain.iter().zip(undone).all(|(plain, undone)| (plain - undone).abs() < 1e-12));
    }

    #[test]
    fn rates_without_sense_are_refused() {
        for rate in [-0.1, 0.5, 1.0, f64::NAN] {
            assert!(ErrorRate::try_from(rate).is_err(), "{rate}");
        }
        let refused = |text: &str| NoisyVerifier::read(text.parse().unwrap(), "objective").unwrap_err().to_string();
        expect!["[objective] false_negative: found the float 0.5: an error rate is 0.5, expected in [0, 0.5)"]
            .assert_eq(&refused("false_negative = 0.5"));
        expect!["[objective] needs the key `false_negative`"].assert_eq(&refused(""));
    }
}
