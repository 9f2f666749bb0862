//! The paper's bounds on the hidden string, as numbers.
//!
//! ```text
//! Proposition 3.4, without stored traces, from 10.49 to 10.53, S = Aᴴ, n < S completions:
//!   E J ≤ n / S + 1 / (S − n)
//!
//! Theorem 3.3, PrefixRL-NPG with T updates of N completions, with probability 1 − δ:
//!   J(μ) − J ≤ c · ( √(2 KL / T) + (1/√m + 1/√(1 − m)) · √(256 · ln(2 T |F| / δ) / N) )
//! ```
//!
//! KL is that of the trace's policy μ to π₀, averaged over its states: ln A here (10.57). The paper's
//! m is 1/2, which makes the factor before the critic's root 2√2, and its total 32√2 (10.42).
//!
//! c is 1 as the paper prints it, and H in [`Convention::PerTrace`]: the performance difference lemma
//! sums advantages over the H states of a trace, where 10.18 averages them. What follows is the one with
//! H (a KL that is summed as well gives the same: H states, each with its own η/2).
//!
//! Doubts: the constant 256 is from our memory of a lemma that the paper takes from elsewhere (Song et
//! al. 2022), and |F| is the reader's choice. The shape in H is not affected.

use serde::{Deserialize, Serialize};

/// Which form of Theorem 3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Convention {
    /// As printed: advantages averaged over the states of the trace.
    PerState,
    /// Summed over them: H times as much.
    PerTrace,
}

/// What Theorem 3.3 is asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Premise {
    /// A: actions in each state, at least 1.
    pub alphabet: u32,
    /// H: actions of a string.
    pub horizon: u32,
    /// m: the chance that the first action is the trace's own.
    pub mixing: f64,
    /// δ: the chance that the bound fails, in `(0, 1)`.
    pub failure: f64,
    /// ln |F|: the logarithm of how many functions the critic is chosen from.
    pub log_class: f64,
    /// Which form.
    pub convention: Convention,
}

/// KL(μ ‖ π₀) of a deterministic μ to the uniform π₀, averaged over states: ln A (equation 10.57).
///
/// Over a whole trace it is H · ln A. That is also ln(1/p) for a trace found by rejection sampling, since
/// p = A⁻ᴴ: on this instance the divergence of one stored trace and that of all that succeed are the same.
pub fn divergence_per_state(alphabet: u32) -> f64 {
    f64::from(alphabet.max(1)).ln()
}

/// S = Aᴴ: how many strings there are, and how many tries finding one by luck takes on average; infinite
/// where it is too large for a number.
pub fn strings(alphabet: u32, horizon: u32) -> f64 {
    f64::from(alphabet).powi(horizon as i32)
}

/// The highest expected reward of any method that has seen `completions` strings and no stored trace
/// (equation 10.53), in `[0, 1]`.
///
/// ```
/// use toehold_training::theory::bounds::highest_reward;
/// // 8 strings, 3 of them tried: found with 3/8 at most, else one of 5 is right.
/// assert!((highest_reward(2, 3, 3.0) - (3.0 / 8.0 + 1.0 / 5.0)).abs() < 1e-12);
/// assert_eq!(highest_reward(2, 3, 8.0), 1.0);
/// ```
pub fn highest_reward(alphabet: u32, horizon: u32, completions: f64) -> f64 {
    let all = strings(alphabet, horizon);
    if completions >= all {
        return 1.0;
    }
    (completions / all + 1.0 / (all - completions)).min(1.0)
}

/// The fewest completions with which [`highest_reward`] is at least `reward`; infinite where they are too
/// many for a number.
///
/// With y = S − n untried strings, 1 − y/S + 1/y ≥ reward is a quadratic in y.
///
/// ```
/// use toehold_training::theory::bounds::least_completions;
/// // 2/8 + 1/6 = 0.417 is below 1/2, 3/8 + 1/5 = 0.575 is not.
/// assert_eq!(least_completions(2, 3, 0.5), 3.0);
/// // Guessing blindly is worth 1/8 already.
/// assert_eq!(least_completions(2, 3, 0.125), 0.0);
/// ```
pub fn least_completions(alphabet: u32, horizon: u32, reward: f64) -> f64 {
    let all = strings(alphabet, horizon);
    let missing = (1.0 - reward).max(0.0);
    let untried_share = (missing + (missing * missing + 4.0 / all).sqrt()) / 2.0;
    // A hair is taken off, so that rounding does not add a completion.
    let least = (all * (1.0 - untried_share) * (1.0 - 1e-12) - 1e-9).ceil();
    least.max(0.0)
}

/// The right-hand side of Theorem 3.3; infinite where m is 0 or 1, and with nothing sampled.
///
/// ```
/// use toehold_training::theory::bounds::{Convention, Premise, suboptimality};
/// let premise = Premise {
///     alphabet: 2,
///     horizon: 3,
///     mixing: 0.5,
///     failure: 0.05,
///     log_class: 0.0,
///     convention: Convention::PerState,
/// };
/// // T = 2, so √(2 ln 2 / 2) = √(ln 2); N = 2048 · ln(2 · 2 / 0.05), so 32√2 · √(1 / 2048) = 1.
/// let bound = suboptimality(&premise, 2.0, 2048.0 * 80f64.ln());
/// assert!((bound - (2f64.ln().sqrt() + 1.0)).abs() < 1e-12);
/// let summed = Premise { convention: Convention::PerTrace, ..premise };
/// assert!((suboptimality(&summed, 2.0, 2048.0 * 80f64.ln()) - 3.0 * bound).abs() < 1e-12);
/// ```
pub fn suboptimality(premise: &Premise, updates: f64, per_update: f64) -> f64 {
    let policy = (2.0 * divergence_per_state(premise.alphabet) / updates).sqrt();
    let critic = premise.critic_factor() * (256.0 * premise.log_choices(updates) / per_update).sqrt();
    premise.scale() * (policy + critic)
}

/// Completions T · N with which Theorem 3.3 promises a reward within `gap` of the best: the fewest when
/// each of its two terms gets half. None where it promises nothing (m is 0 or 1, or `gap` is not above 0).
///
/// The theorem's reward is the mean over the T iterates, so the first iterate to have it is one of them.
///
/// ```
/// use toehold_training::theory::bounds::{Convention, Premise, enough_completions};
/// let premise = Premise {
///     alphabet: 2,
///     horizon: 3,
///     mixing: 0.5,
///     failure: 0.05,
///     log_class: 0.0,
///     convention: Convention::PerState,
/// };
/// // Half of the gap is 1/4: T = 2 ln 2 · 16 = 22.2, so 23; N = 2048 · 16 · ln(2 · 23 / 0.05) = 223,621.1.
/// assert_eq!(enough_completions(&premise, 0.5), Some(23.0 * 223_622.0));
/// ```
pub fn enough_completions(premise: &Premise, gap: f64) -> Option<f64> {
    let half = gap / (2.0 * premise.scale());
    let updates = (2.0 * divergence_per_state(premise.alphabet) / (half * half)).ceil().max(1.0);
    let critic = premise.critic_factor() / half;
    let per_update = (256.0 * premise.log_choices(updates) * critic * critic).ceil();
    let enough = updates * per_update;
    (half > 0.0 && enough.is_finite()).then_some(enough)
}

impl Premise {
    fn scale(&self) -> f64 {
        match self.convention {
            Convention::PerState => 1.0,
            Convention::PerTrace => f64::from(self.horizon),
        }
    }

    /// μ ≤ ρ / m and π ≤ ρ / (1 − m): what changing from ρ to either costs the critic's error (10.26).
    fn critic_factor(&self) -> f64 {
        1.0 / self.mixing.sqrt() + 1.0 / (1.0 - self.mixing).sqrt()
    }

    /// ln(2 T |F| / δ): the union over updates and functions (10.21).
    fn log_choices(&self, updates: f64) -> f64 {
        (2.0 * updates / self.failure).ln() + self.log_class
    }
}

#[cfg(test)]
mod tests {
    use super::{Convention, Premise, enough_completions, highest_reward, least_completions, suboptimality};

    /// The best method of all, which tries strings one after the other, is at most one completion better
    /// than the bound: it has found the string with n / S, and else guesses among the rest.
    #[test]
    fn the_lower_bound_holds_for_exhaustive_search_and_is_tight() {
        for (alphabet, horizon) in [(2, 1), (2, 5), (3, 3), (5, 2)] {
            let strings = f64::from(alphabet).powi(horizon as i32);
            for tried in 0..strings as u32 {
                let tried = f64::from(tried);
                let best = tried / strings + (1.0 - tried / strings) / (strings - tried);
                let bound = highest_reward(alphabet, horizon, tried);
                assert!(best <= bound + 1e-12, "{alphabet} {horizon} {tried}");
                if tried <= strings / 2.0 {
                    assert!(bound <= (tried + 2.0) / strings + 1e-12, "equation 10.54");
                }
            }
        }
    }

    #[test]
    fn the_fewest_completions_are_the_fewest() {
        for (alphabet, horizon) in [(2, 1), (2, 4), (2, 10), (3, 4), (7, 3)] {
            for reward in [0.01, 0.1, 0.25, 0.5, 0.75, 0.99] {
                let least = least_completions(alphabet, horizon, reward);
                assert!(highest_reward(alphabet, horizon, least) >= reward - 1e-9, "{alphabet} {horizon} {reward}");
                let fewer = least - 1.0;
                let below = fewer < 0.0 || highest_reward(alphabet, horizon, fewer) < reward;
                assert!(below, "{alphabet} {horizon} {reward}: {least}");
            }
        }
        assert_eq!(least_completions(2, 5_000, 0.5), f64::INFINITY);
        assert_eq!(highest_reward(2, 5_000, 1e12), 0.0);
    }

    #[test]
    fn what_is_enough_is_enough() {
        for convention in [Convention::PerState, Convention::PerTrace] {
            for horizon in [1, 4, 32] {
                for mixing in [0.1, 0.5, 0.9] {
                    let log_class = f64::from(2 * horizon) * 101f64.ln();
                    let premise = Premise { alphabet: 2, horizon, mixing, failure: 0.05, log_class, convention };
                    let half = 0.25 / premise.scale();
                    let updates = (2.0 * 2f64.ln() / (half * half)).ceil();
                    let enough = enough_completions(&premise, 0.5).unwrap();
                    assert!(suboptimality(&premise, updates, enough / updates) <= 0.5 + 1e-9);
                    assert!(suboptimality(&premise, updates, 0.9 * enough / updates) > 0.5);
                }
            }
        }
    }

    #[test]
    fn where_nothing_is_promised() {
        let premise = Premise {
            alphabet: 2,
            horizon: 4,
            mixing: 0.0,
            failure: 0.05,
            log_class: 9.0,
            convention: Convention::PerTrace,
        };
        assert_eq!(enough_completions(&premise, 0.5), None);
        assert_eq!(enough_completions(&Premise { mixing: 1.0, ..premise }, 0.5), None);
        assert_eq!(enough_completions(&Premise { mixing: 0.5, ..premise }, 0.0), None);
        assert_eq!(suboptimality(&premise, 10.0, 10.0), f64::INFINITY);
    }
}
