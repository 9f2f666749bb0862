//! Signs that a success may be a shortcut, from token ids, lengths, success, and how often an answer is stated.
//!
//! ```text
//! repetition   1 − distinct n-grams / n-grams of a completion                     high is suspicious
//! skipping     length of a success / median length of successes from its start    low
//! collapse     moving average of lengths / their first average                    low
//! lone         the only success of a group                                        always
//! parroting    share of a completion's n-grams that its prefix has                high
//! answers      statements of an answer in a text                                  high
//! ```
//!
//! A rare success of an unsolved problem gets a large advantage, and what it is learnt for may be a way
//! around the problem: arXiv 2605.28388 found answers repeated and computation skipped after training on
//! such problems, and one problem whose checker took a bare answer brought the mean length of completions
//! from 510.7 to 45.7 tokens in 58 steps, before accuracy fell. How the paper detects it is not published;
//! the formulas and thresholds here are proposals, but for the repetition, which is open-r1's.
//!
//! Each formula is a function ([`ngrams`](crate::ngrams), [`lengths`], [`answers`], [`lone_success`]); [`inspect()`] puts them to the
//! groups of one step with the thresholds of the table `[detect]`, and [`History`] is what it has to know of
//! the steps before.
//!
//! Invariants: nothing here changes a verdict, and nothing is read but what a rollout's record has anyway, and
//! its text where a judge has it; all that outlives a step is whole numbers, so that a state written as text
//! comes back to the bit.
//!
//! Not here, since it takes sampling of its own: how often the answer can be guessed
//! ([`guessing`](crate::evaluation::guessing), measured on request), and whether a success holds when it is
//! sampled again from near its end (measured nowhere).

pub mod answers;
pub mod history;
pub mod inspect;
pub mod lengths;

pub use history::History;
pub use inspect::{CompletionView, Findings, GroupView, inspect};

/// The place of a group's only success; none where there is no success, or more than one, or no failure
/// beside it.
///
/// ```
/// use toehold_training::detector::lone_success;
/// assert_eq!(lone_success(&[false, false, true, false]), Some(2));
/// assert_eq!(lone_success(&[true, false, true]), None);
/// assert_eq!(lone_success(&[false, false]), None);
/// // One of one is not rare.
/// assert_eq!(lone_success(&[true]), None);
/// ```
pub fn lone_success(is_correct: &[bool]) -> Option<usize> {
    let mut successes = is_correct.iter().enumerate().filter(|(_, is_correct)| **is_correct);
    let (first, second) = (successes.next(), successes.next());
    first.filter(|_| second.is_none() && is_correct.len() > 1).map(|(at, _)| at)
}

/// The value that `percent` of `values` do not exceed, by the nearest rank; none without values.
///
/// ```
/// use toehold_training::detector::percentile;
/// let values: Vec<f64> = (1..=20).map(f64::from).collect();
/// // Ranks 19 and 1 of 20.
/// assert_eq!(percentile(&values, 95), Some(19.0));
/// assert_eq!(percentile(&values, 5), Some(1.0));
/// // Of three, the 95th percentile is the largest: rank 2.85, upwards.
/// assert_eq!(percentile(&[3.0, 1.0, 2.0], 95), Some(3.0));
/// assert_eq!(percentile(&[], 95), None);
/// ```
pub fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent * sorted.len()).div_ceil(100).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied()
}
