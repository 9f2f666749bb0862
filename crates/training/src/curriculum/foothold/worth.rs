//! What a group from a start is worth, and what it costs.
//!
//! ```text
//! worth = E[value(p)] / tokens        p as the posterior has it
//! value = p (1 − p),  or 1 − pᴳ − (1 − p)ᴳ, the chance that a group of G is mixed
//! tokens = prompt + prefix + G · expected completion
//!          over G · expected completion when cost is by the token that is learnt from,
//!          and 1 when it is by the group
//! ```
//!
//! Prompt and prefix count once, since a group shares them. Which cost is right depends on what a group
//! teaches: the same wherever it began (`tokens`), or in proportion to what was left to do (`learnt`).

use serde::{Deserialize, Serialize};

/// What a group is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// The variance of a reward: what a baseline of the group's mean leaves of the gradient.
    Variance,
    /// The chance that the group is mixed: what a gradient divided by the deviation is left with.
    Mixed,
}

/// What it is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// The tokens that are expected to be computed.
    Tokens,
    /// As many of them as there are for each token that is learnt from.
    Learnt,
    /// Nothing: each group costs the same.
    Groups,
}

/// The value of a group of `group` rollouts that each succeed with chance `p`.
///
/// ```
/// use toehold_training::curriculum::foothold::worth::{Value, value};
/// assert_eq!(value(Value::Variance, 0.25, 2), 3.0 / 16.0);
/// // Of two coins: 1 − 1/16 − 9/16.
/// assert_eq!(value(Value::Mixed, 0.25, 2), 6.0 / 16.0);
/// assert_eq!(value(Value::Mixed, 0.25, 1), 0.0);
/// ```
pub fn value(kind: Value, p: f64, group: u64) -> f64 {
    match kind {
        Value::Variance => p * (1.0 - p),
        Value::Mixed => 1.0 - p.powf(group as f64) - (1.0 - p).powf(group as f64),
    }
}

/// The expected value, from the probability of each level.
///
/// ```
/// use toehold_training::curriculum::foothold::worth::{Value, expected};
/// // Half of the time a coin, half of the time sure: 1/2 · 1/4.
/// assert_eq!(expected(Value::Variance, &[0.5, 1.0], &[0.5, 0.5], 8), 0.125);
/// ```
pub fn expected(kind: Value, levels: &[f64], probabilities: &[f64], group: u64) -> f64 {
    levels.iter().zip(probabilities).map(|(&p, weight)| weight * value(kind, p, group)).sum()
}

/// Tokens that a group computes, what is given once and `group` completions, and what `cost` makes of them.
///
/// ```
/// use toehold_training::curriculum::foothold::worth::{Cost, tokens};
/// // 10 of prompt and 40 of prefix, and 8 completions of 20.
/// assert_eq!(tokens(Cost::Tokens, 10 + 40, 8, 20.0), 210.0);
/// assert_eq!(tokens(Cost::Learnt, 10 + 40, 8, 20.0), 210.0 / 160.0);
/// assert_eq!(tokens(Cost::Groups, 10 + 40, 8, 20.0), 1.0);
/// ```
pub fn tokens(cost: Cost, given: usize, group: u64, completion: f64) -> f64 {
    let learnt = (group as f64 * completion).max(1.0);
    match cost {
        Cost::Tokens => given as f64 + learnt,
        Cost::Learnt => (given as f64 + learnt) / learnt,
        Cost::Groups => 1.0,
    }
}
