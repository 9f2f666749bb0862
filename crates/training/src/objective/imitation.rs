//! Imitation: raise the likelihood of accepted traces.
//!
//! ```text
//! loss(token) = −r · log π(token)        coefficient = −r
//! ```
//!
//! On stored correct traces (`r = 1`) this is supervised fine-tuning, coefficient −1. In the
//! training loop, on traces just sampled, it is rejection-sampling fine-tuning (STaR, arXiv
//! 2203.14465; RAFT, arXiv 2304.06767).
//!
//! Zero cases: a wrong trace counts nothing; unlike every other objective here, a group in which all
//! succeed does count, because there is no baseline.
//!
//! Departures: none.

use super::Weigh;
use crate::recipe::section;

section! {
    /// Settings of imitation: there are none.
    Imitation from ImitationWritten {}
}

/// One coefficient per token, `−advantage`.
///
/// ```
/// assert_eq!(toehold_training::objective::imitation::coefficients(1.0, 3), [-1.0, -1.0, -1.0]);
/// ```
pub fn coefficients(advantage: f64, tokens: usize) -> Vec<f64> {
    vec![-advantage; tokens]
}

impl Weigh for Imitation {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        rewards.to_vec()
    }

    fn coefficients(&self, advantage: f64, current: &[f32], _behavior: &[f32]) -> Vec<f64> {
        coefficients(advantage, current.len())
    }

    fn reads_outcomes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Imitation;
    use crate::objective::{Weigh, gradient_check};

    #[test]
    fn coefficients_are_the_derivative() {
        let loss = |advantage: f64, current: f64, _: f64| -advantage * current;
        gradient_check::check(&Imitation {}, loss, 1.0, &[-0.1, -3.0], &[-0.2, -1.0]);
        gradient_check::check(&Imitation {}, loss, 0.0, &[-0.1], &[-0.2]);
    }

    #[test]
    fn accepted_traces_count_whatever_the_group() {
        assert_eq!(Imitation {}.advantages(&[1.0, 1.0, 1.0]), [1.0, 1.0, 1.0]);
        assert_eq!(Imitation {}.advantages(&[0.0, 1.0]), [0.0, 1.0]);
    }
}
