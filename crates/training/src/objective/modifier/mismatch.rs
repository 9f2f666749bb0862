//! A weight for tokens to which sampler and learner give different chances.
//!
//! ```text
//! ρ = exp(current − behavior)                                  level = "token"
//!   = exp(Σ (current − behavior)) over the completion          level = "trace"
//! w = clamp(ρ, low, high)                                      beyond = "truncate"
//!   = ρ, or 0 outside [low, high]                              beyond = "mask"
//! coefficient = w · the objective's, with `current` in the place of `behavior`
//! ```
//!
//! | | `beyond` | `level` | `low` | `high` |
//! |---|---|---|---|---|
//! | TIS, truncated importance sampling | `truncate` | `token` or `trace` | 0 | 2: verl's default |
//! | MIS, masked | `mask` | `trace` | 0 | 3: TRL's default |
//! | IcePop | `mask` | `token` | 0.5 | 5: from memory |
//!
//! The weight is held constant. Objectives with a ratio form it here between the learner's own policies
//! before and after a step; the loop takes one step on each batch, so that ratio is 1, and the
//! whole difference between `current` and `behavior` is the mismatch of two engines (or of two
//! temperatures), which is this weight's matter. Without it such an objective clips that difference
//! itself. verl has the same division of labour (its decoupled mode).
//!
//! Zero cases: where both agree, ρ = 1: the objective's own coefficients, unless the interval does not
//! hold 1, which is refused. A trace without tokens has none.
//!
//! Departures: log ρ is held within ±20, also its sum, as in verl. No normalisation of the weights over the
//! batch. A product over a long completion is far from 1 as soon as the two differ at all: prefer
//! `token` there.

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::objective::{TraceView, Weigh, grpo};

/// A correction for the difference between sampler and learner.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mismatch {
    /// What is done outside the bounds.
    pub beyond: Beyond,
    /// Of what a ratio is formed.
    pub level: Level,
    /// The lower bound, in `[0, 1]`; 0 by default.
    #[serde(default)]
    pub low: f64,
    /// The upper bound, at least 1; 2 by default.
    #[serde(default = "two")]
    pub high: f64,
}

/// What is done with a ratio outside the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Beyond {
    /// The bound takes its place.
    Truncate,
    /// What it belongs to is not learnt from.
    Mask,
}

/// Of what a ratio is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Of each token: biased, and steady.
    Token,
    /// Of the whole completion: without bias before it is bounded.
    Trace,
}

fn two() -> f64 {
    2.0
}

impl Mismatch {
    pub(super) fn fault(&self) -> Option<Fault> {
        if !(0.0..=1.0).contains(&self.low) {
            return Some(("mismatch.low", self.low, "in [0, 1]"));
        }
        (self.high.is_nan() || self.high < 1.0).then_some(("mismatch.high", self.high, "at least 1"))
    }

    /// The weight of each token.
    ///
    /// ```
    /// use toehold_training::objective::modifier::mismatch::{Beyond, Level, Mismatch};
    /// let tis = Mismatch { beyond: Beyond::Truncate, level: Level::Token, low: 0.0, high: 2.0 };
    /// // Ratios e^1 = 2.72 and e^−1 = 0.37.
    /// assert_eq!(tis.weights(&[-1.0, -2.0], &[-2.0, -1.0]), [2.0, (-1f64).exp()]);
    /// // Their product is 1.
    /// let mis = Mismatch { beyond: Beyond::Mask, level: Level::Trace, low: 0.0, high: 3.0 };
    /// assert_eq!(mis.weights(&[-1.0, -2.0], &[-2.0, -1.0]), [1.0, 1.0]);
    /// let icepop = Mismatch { beyond: Beyond::Mask, level: Level::Token, low: 0.5, high: 5.0 };
    /// assert_eq!(icepop.weights(&[-1.0, -2.0], &[-2.0, -1.0]), [1f64.exp(), 0.0]);
    /// ```
    pub fn weights(&self, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        let logs = current.iter().zip(behavior).map(|(&current, &behavior)| grpo::log_ratio(current, behavior));
        match self.level {
            Level::Token => logs.map(|log| self.weight(log)).collect(),
            Level::Trace => {
                let tokens = logs.len();
                vec![self.weight(logs.sum::<f64>().clamp(-20.0, 20.0)); tokens]
            }
        }
    }

    fn weight(&self, log_ratio: f64) -> f64 {
        let ratio = log_ratio.exp();
        match self.beyond {
            Beyond::Truncate => ratio.max(self.low).min(self.high),
            Beyond::Mask if ratio < self.low || ratio > self.high => 0.0,
            Beyond::Mask => ratio,
        }
    }

    /// The coefficients of `objective`, corrected.
    pub fn coefficients(&self, objective: &dyn Weigh, trace: &TraceView<'_>) -> Vec<f64> {
        let fresh = TraceView { behavior: trace.current, ..*trace };
        let weights = self.weights(trace.current, trace.behavior);
        objective.coefficients_of(&fresh).into_iter().zip(weights).map(|(own, weight)| own * weight).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Beyond, Level, Mismatch};
    use crate::objective::advantage::Deviation;
    use crate::objective::{TraceView, gspo::Gspo, reinforce::Reinforce};

    const TIS: Mismatch = Mismatch { beyond: Beyond::Truncate, level: Level::Token, low: 0.0, high: 2.0 };

    /// One token at a time: the loss is `−w A log π` with `w` held constant.
    #[test]
    fn coefficients_are_the_derivative() {
        for current in [-3.0f32, -1.2, -1.0, -0.8, -0.1] {
            let ratio = (f64::from(current) + 1.0).exp();
            for (mismatch, weight) in [
                (TIS, ratio.min(2.0)),
                (Mismatch { beyond: Beyond::Mask, ..TIS }, if ratio > 2.0 { 0.0 } else { ratio }),
            ] {
                let loss = |current: f64| -weight * 1.5 * current;
                let slope = (loss(f64::from(current) + 1e-5) - loss(f64::from(current) - 1e-5)) / 2e-5;
                let view =
                    TraceView { advantage: 1.5, rewards: &[], current: &[current], behavior: &[-1.0], entropy: None };
                let found = mismatch.coefficients(&Reinforce {}, &view);
                assert!((found[0] - slope).abs() < 1e-6, "{found:?} {slope}");
            }
        }
    }

    /// What GSPO's narrow clip would take out for the mismatch alone, is weighted instead.
    #[test]
    fn the_objectives_own_ratio_is_one() {
        let gspo = Gspo { clip_low: 3e-4, clip_high: 4e-4, deviation: Deviation::Sample, epsilon: 1e-6 };
        let view =
            TraceView { advantage: 1.0, rewards: &[], current: &[-1.0, -1.0], behavior: &[-1.25, -1.0], entropy: None };
        assert_eq!(TIS.coefficients(&gspo, &view), [-(0.25f64.exp()), -1.0]);
    }

    #[test]
    fn absurd_numbers_stay_finite() {
        for level in [Level::Token, Level::Trace] {
            for beyond in [Beyond::Truncate, Beyond::Mask] {
                let mismatch = Mismatch { beyond, level, high: f64::INFINITY, ..TIS };
                let found = mismatch.weights(&[-1e30, 0.0], &[0.0, f32::NEG_INFINITY]);
                assert!(found.len() == 2 && found.iter().all(|weight| weight.is_finite()), "{found:?}");
                assert!(mismatch.weights(&[], &[]).is_empty());
            }
        }
    }
}
