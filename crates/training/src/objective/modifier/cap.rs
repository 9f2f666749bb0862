//! Bounds on advantages, after every normalisation.
//!
//! ```text
//! A = 0                               for A > 0 in a group with fewer than `successes` successes
//! A = clamp(A, −advantage, advantage)
//! ```
//!
//! A remedy against what a single success by luck does: standardised over 16 it has the advantage 3.75, and
//! what it did by the way is reinforced with it (research on overly hard problems, arXiv 2605.28388, names
//! the harm; these bounds are ours, none is published).
//!
//! Zero cases: `successes = 1` leaves every success its advantage; `successes = 2` lets a group with one
//! success push down its failures only, so that its advantages no longer add up to 0.
//!
//! Departures: a reward above 0 before shaping is a success. Advantages that a method works out token by
//! token (`rl-zvp` on silent groups) are not bounded.

use serde::{Deserialize, Serialize};

use super::Fault;

/// Bounds on advantages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// The largest magnitude of an advantage, above 0; infinite by default.
    #[serde(default = "no_bound")]
    pub advantage: f64,
    /// Successes a group needs before any of them counts; 1 by default.
    #[serde(default = "one")]
    pub successes: u32,
}

fn no_bound() -> f64 {
    f64::INFINITY
}

fn one() -> u32 {
    1
}

impl Cap {
    pub(super) fn fault(&self) -> Option<Fault> {
        if self.advantage.is_nan() || self.advantage <= 0.0 {
            return Some(("cap.advantage", self.advantage, "above 0"));
        }
        let bounds_nothing = self.advantage.is_infinite() && self.successes <= 1;
        bounds_nothing.then_some(("cap.advantage", self.advantage, "a bound, or `successes` of at least 2"))
    }

    /// Bounds the advantages of one group.
    ///
    /// ```
    /// use toehold_training::objective::modifier::Cap;
    /// let mut advantages = [3.75, -0.25];
    /// Cap { advantage: 2.0, successes: 1 }.bound(&[1.0, 0.0], &mut advantages);
    /// assert_eq!(advantages, [2.0, -0.25]);
    /// Cap { advantage: 2.0, successes: 2 }.bound(&[1.0, 0.0], &mut advantages);
    /// assert_eq!(advantages, [0.0, -0.25]);
    /// ```
    pub fn bound(&self, rewards: &[f64], advantages: &mut [f64]) {
        let successes = rewards.iter().filter(|&&reward| reward > 0.0).count() as u64;
        let highest = if successes < u64::from(self.successes) { 0.0 } else { self.advantage };
        for advantage in advantages {
            *advantage = advantage.min(highest).max(-self.advantage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cap;

    #[test]
    fn both_signs_are_bounded() {
        let mut found = [0.5, 4.0, -4.0, 0.0];
        Cap { advantage: 2.0, successes: 1 }.bound(&[1.0, 1.0, 0.0, 0.0], &mut found);
        assert_eq!(found, [0.5, 2.0, -2.0, 0.0]);
    }

    #[test]
    fn two_successes_are_enough_of_two() {
        let mut found = [1.0, 1.0, -1.0];
        Cap { advantage: f64::INFINITY, successes: 2 }.bound(&[1.0, 1.0, 0.0], &mut found);
        assert_eq!(found, [1.0, 1.0, -1.0]);
        Cap { advantage: f64::INFINITY, successes: 3 }.bound(&[1.0, 1.0, 0.0], &mut found);
        assert_eq!(found, [0.0, 0.0, -1.0]);
        Cap { advantage: 1.0, successes: 3 }.bound(&[], &mut []);
    }
}
