//! A tie to a reference policy, per token, by the three usual estimators of the divergence.
//!
//! ```text
//! d = current − reference
//!       value           derivative in current
//! k1    d               1
//! k2    d² / 2          d
//! k3    e^−d + d − 1    1 − e^−d
//! ```
//!
//! Schulman's names. Their means under the current policy are the divergence
//! `KL(current ‖ reference)` for k1 and k3, and near it for k2. Their derivatives' means are not all
//! its gradient: k2's is, where the token was drawn from the current policy; k1's is zero, which as a loss is
//! pure noise; k3's is the gradient of the divergence the other way round. So a penalty in the reward
//! with k1 and a term in the loss with k2 are the same thing, and k3 in the loss, as GRPO has it, is
//! another.
//!
//! `weight` times the estimate is a term of the loss (GRPO's has k3 and 0.04, R1's 0.001), so `weight`
//! times its derivative is added to a token's coefficient. The reference is the policy that the run
//! began with, before any imitation.
//!
//! Zero cases: where the policies agree, every value is 0 and so is every derivative but k1's. Traces of
//! advantage zero are held back too, so none may be skipped: every trace is handed to the learner, silent
//! groups included, and to the reference, which costs a forward pass.
//!
//! A limit: where the policy holds a token for much unlikelier than the reference, k3's coefficient grows
//! as `e^−d`, so that a large step overshoots; k2's grows as `d`.
//!
//! Departures: `d` is held within ±20, as verl has it; verl's further limit of 10 on the value of k3 (and so
//! of its derivative) is not here. A penalty in the reward is not here, being k2 in the loss. The tie is
//! to the log-probabilities at temperature 1, and divided like everything else (`[train] aggregation`).

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::objective::grpo;

/// A tie to the reference policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kl {
    /// `k1`, `k2` or `k3`.
    pub estimator: Estimator,
    /// Weight of a nat, at least 0.
    pub weight: f64,
}

impl Kl {
    pub(super) fn fault(&self) -> Option<Fault> {
        let is_weight = self.weight.is_finite() && self.weight >= 0.0;
        (!is_weight).then_some(("kl.weight", self.weight, "at least 0 and finite"))
    }

    /// What the tie adds to each token's coefficient.
    ///
    /// ```
    /// use toehold_training::objective::modifier::kl::{Estimator, Kl};
    /// let tie = Kl { estimator: Estimator::K2, weight: 0.5 };
    /// // The first token is likelier than under the reference and pushed down (a coefficient above 0).
    /// assert_eq!(tie.coefficients(&[-1.0, -2.0], &[-3.0, -2.0]), [1.0, 0.0]);
    /// ```
    pub fn coefficients(&self, current: &[f32], reference: &[f32]) -> Vec<f64> {
        let scores = current.iter().zip(reference);
        scores.map(|(&current, &reference)| self.weight * coefficient(self.estimator, current, reference)).collect()
    }
}

/// Which estimator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Estimator {
    /// The plain log ratio.
    K1,
    /// Half its square.
    K2,
    /// The one that is never negative and has the right mean.
    K3,
}

/// The estimate of one token, in nats.
///
/// ```
/// use toehold_training::objective::modifier::kl::{Estimator, value};
/// // d = 1: 1, 1/2 and 1/e.
/// assert_eq!(value(Estimator::K1, -1.0, -2.0), 1.0);
/// assert_eq!(value(Estimator::K2, -1.0, -2.0), 0.5);
/// assert!((value(Estimator::K3, -1.0, -2.0) - (-1f64).exp()).abs() < 1e-12);
/// ```
pub fn value(estimator: Estimator, current: f32, reference: f32) -> f64 {
    let d = apart(current, reference);
    match estimator {
        Estimator::K1 => d,
        Estimator::K2 => d * d / 2.0,
        Estimator::K3 => (-d).exp() + d - 1.0,
    }
}

/// Its derivative in `current`: what a loss of `weight · value` adds to the token's coefficient, divided
/// by `weight`.
///
/// ```
/// use toehold_training::objective::modifier::kl::{Estimator, coefficient};
/// assert_eq!(coefficient(Estimator::K1, -1.0, -2.0), 1.0);
/// assert_eq!(coefficient(Estimator::K2, -1.0, -2.0), 1.0);
/// assert_eq!(coefficient(Estimator::K3, -1.0, -2.0), 1.0 - (-1f64).exp());
/// assert_eq!(coefficient(Estimator::K3, -1.0, -1.0), 0.0);
/// ```
pub fn coefficient(estimator: Estimator, current: f32, reference: f32) -> f64 {
    let d = apart(current, reference);
    match estimator {
        Estimator::K1 => 1.0,
        Estimator::K2 => d,
        Estimator::K3 => 1.0 - (-d).exp(),
    }
}

fn apart(current: f32, reference: f32) -> f64 {
    grpo::log_ratio(current, reference)
}

#[cfg(test)]
mod tests {
    use super::{Estimator, coefficient, value};

    const ALL: [Estimator; 3] = [Estimator::K1, Estimator::K2, Estimator::K3];

    #[test]
    fn coefficients_are_the_derivative() {
        // A step that f32 holds exactly, and values on its grid.
        const STEP: f32 = 1.0 / 1024.0;
        for estimator in ALL {
            for current in [-3.0, -1.5, -1.0, -0.5] {
                let at = |current| value(estimator, current, -1.0);
                let slope = (at(current + STEP) - at(current - STEP)) / f64::from(2.0 * STEP);
                assert!((coefficient(estimator, current, -1.0) - slope).abs() < 1e-5, "{estimator:?} {current}");
            }
        }
    }

    /// Three tokens of chances p against q: means over p of the values, and of the score times the
    /// derivative, which is the gradient in the logits.
    #[test]
    fn what_their_means_are() {
        let (p, q) = ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5]);
        let log = |chance: f64| chance.ln() as f32;
        let kl = |p: &[f64; 3], q: &[f64; 3]| -> f64 { p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum() };
        let mean = |of: &dyn Fn(usize) -> f64| -> f64 { (0..3).map(|a| p[a] * of(a)).sum() };
        for (estimator, is_exact) in [(Estimator::K1, true), (Estimator::K2, false), (Estimator::K3, true)] {
            let found = mean(&|a| value(estimator, log(p[a]), log(q[a])));
            assert_eq!((found - kl(&p, &q)).abs() < 1e-6, is_exact, "{estimator:?}: {found}");
            assert!((found - kl(&p, &q)).abs() < 0.1);
        }
        let gradient = |estimator: Estimator| -> [f64; 3] {
            let score = |a: usize, logit: usize| f64::from(u8::from(a == logit)) - p[logit];
            [0, 1, 2].map(|logit| mean(&|a| score(a, logit) * coefficient(estimator, log(p[a]), log(q[a]))))
        };
        // ∂KL(p ‖ q)/∂logit = p (log p/q − KL), and ∂KL(q ‖ p)/∂logit = p − q.
        let forward: [f64; 3] = [0, 1, 2].map(|a| p[a] * ((p[a] / q[a]).ln() - kl(&p, &q)));
        let backward: [f64; 3] = [0, 1, 2].map(|a| p[a] - q[a]);
        let near = |found: [f64; 3], expected: [f64; 3]| {
            assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
        };
        near(gradient(Estimator::K1), [0.0; 3]);
        near(gradient(Estimator::K2), forward);
        near(gradient(Estimator::K3), backward);
    }

    #[test]
    fn one_absurd_token_stays_finite() {
        for estimator in ALL {
            assert!(coefficient(estimator, -1e30, -0.1).is_finite());
            assert!(value(estimator, f32::NEG_INFINITY, -0.1).is_finite());
        }
    }
}
