//! REINFORCE with the group's mean as its baseline.
//!
//! ```text
//! A = r − mean(r of the group)
//! loss(token) = −A · log π(token)        coefficient = −A
//! ```
//!
//! PrefixRL, arXiv 2601.18795, section 2: "use the group baseline for the advantage". No deviation
//! is divided by, no ratio is formed, no KL term and no entropy bonus are added.
//!
//! Zero cases: a group in which all succeed or all fail, and a group of one, count nothing.
//!
//! Departures: none known. The mean includes the trace itself, which scales the unbiased gradient by
//! `1 − 1/n`; the paper does not say leave-one-out. Sampling at a temperature other than 1 makes the
//! gradient that of the policy at temperature 1 on traces of another; the paper does the same with
//! one of its two models.

use super::{Weigh, advantage};
use crate::recipe::section;

section! {
    /// Settings of REINFORCE: there are none.
    Reinforce from ReinforceWritten {}
}

/// One coefficient per token, `−advantage`.
///
/// ```
/// use toehold_training::objective::{advantage::centred, reinforce::coefficients};
/// // One success in four: A = 3/4 for it, −1/4 for a failure.
/// let advantages = centred(&[1.0, 0.0, 0.0, 0.0]);
/// assert_eq!(coefficients(advantages[0], 2), [-0.75, -0.75]);
/// assert_eq!(coefficients(advantages[1], 1), [0.25]);
/// ```
pub fn coefficients(advantage: f64, tokens: usize) -> Vec<f64> {
    vec![-advantage; tokens]
}

impl Weigh for Reinforce {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        advantage::centred(rewards)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], _behavior: &[f32]) -> Vec<f64> {
        coefficients(advantage, current.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Reinforce;
    use crate::objective::{Weigh, gradient_check};

    #[test]
    fn coefficients_are_the_derivative() {
        for advantage in [0.875, -0.125, 0.0] {
            gradient_check::check(&Reinforce {}, gradient_check::linear, advantage, &[-0.1, -3.0], &[-0.2, -1.0]);
        }
    }

    #[test]
    fn silent_groups_count_nothing() {
        assert_eq!(Reinforce {}.advantages(&[1.0; 8]), [0.0; 8]);
        assert_eq!(Reinforce {}.advantages(&[0.0; 8]), [0.0; 8]);
        assert_eq!(Reinforce {}.advantages(&[1.0]), [0.0]);
    }
}
