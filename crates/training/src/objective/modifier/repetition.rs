//! A penalty for a completion that repeats itself.
//!
//! ```text
//! r − weight · (1 − distinct n-grams / n-grams)      n-grams of the completion's tokens
//! ```
//!
//! open-r1's repetition penalty (`ngram` 3, its `max_penalty` −1 is `weight = 1`), which cites arXiv 2502.03373,
//! appendix C.2. The share is [`ngrams::repetition`], which the detector of the same name reports.
//!
//! Zero cases: a completion of fewer than `ngram` tokens repeats nothing. The penalty stays above −`weight`,
//! since the first n-gram is never a repetition; it is for the whole completion, wherever it repeats.
//!
//! Departures: open-r1 counts lower-cased words. With a tokenizer that has a token per digit, honest arithmetic
//! repeats n-grams of 3 too: look at `repetition/mean` of a run's `detectors` before choosing `ngram` and
//! `weight`. A success is penalised as well, so with `weight` of 1 or more one that repeats itself for ever is
//! worth as little as a failure; see `shaping` for what a penalty does to groups that are silent otherwise.

use serde::{Deserialize, Serialize};
use toehold_rollout::TokenId;

use super::{Fault, ShapedGroups};
use crate::ngrams;

/// A penalty for completions that repeat themselves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repetition {
    /// What a completion of nothing but repetition nearly loses, above 0; a success is worth 1. open-r1: 1.
    pub weight: f64,
    /// Tokens of the runs that are counted, at least 1. open-r1: 3, of words.
    #[serde(default = "three")]
    pub ngram: usize,
    /// `all`, or `mixed`: groups whose verdicts are all the same keep their rewards.
    #[serde(default)]
    pub groups: ShapedGroups,
}

fn three() -> usize {
    3
}

impl Repetition {
    pub(super) fn fault(&self) -> Option<Fault> {
        if !(self.weight > 0.0 && self.weight.is_finite()) {
            return Some(("repetition.weight", self.weight, "above 0 and finite"));
        }
        (self.ngram == 0).then_some(("repetition.ngram", 0.0, "at least 1"))
    }

    /// What is added to the reward of this completion.
    ///
    /// ```
    /// use toehold_training::objective::modifier::{Repetition, ShapedGroups};
    /// let repetition = Repetition { weight: 0.5, ngram: 3, groups: ShapedGroups::All };
    /// // 1 2 1, 2 1 2, 1 2 1, 2 1 2: two distinct of four, half of the weight.
    /// assert_eq!(repetition.part(&[1, 2, 1, 2, 1, 2]), -0.25);
    /// assert_eq!(repetition.part(&[1, 2, 3, 4, 5]), 0.0);
    /// assert_eq!(repetition.part(&[1, 1]), 0.0);
    /// ```
    pub fn part(&self, completion: &[TokenId]) -> f64 {
        // From 0, so that nothing repeated is 0 and not −0.
        0.0 - self.weight * ngrams::repetition(completion, self.ngram)
    }
}
