//! A penalty for a completion that does not state an answer which can be read.
//!
//! ```text
//! r + 0         where the verifier read an answer, right or wrong
//! r − weight    where there is none, or none that its rule can read
//! ```
//!
//! What the form is, the problem's verifier says: a box, a word, a code block, after a closed thought. So there is
//! no second pattern that a completion could satisfy without its answer being read, as there is with rewards
//! for tags (`<think>…</think><answer>…</answer>`: DeepSeek-R1, arXiv 2501.12948, and open-r1's
//! `format_reward`). GHPO adds 0.5 for the form, AdaBack 0.1.
//!
//! | outcome | form |
//! |---|---|
//! | `correct`, `wrong` | kept |
//! | `timeout`, `memory`, `runtime`, `output_limit` | kept: a program was stated, and ran |
//! | `no_answer`, `unreadable` | missing |
//! | `compile` | missing: what was stated is no program |
//! | `budget` | missing: nothing was shown of it |
//! | `infra` | none of these: such a completion takes no part, and gets 0 here |
//!
//! Zero cases: a success has an answer, so it is never penalised. Where all completions of a group keep the form,
//! or all miss it, the group's rewards are moved by one number, and a baseline takes it out. Verifiers that take
//! the whole text for the answer (`exact`, `pattern_text`) miss it in an empty text alone. A thought that is
//! never closed states no answer, whoever opened it.
//!
//! Departures: a penalty where others give a bonus; see `shaping`, which also says what it does to groups in which
//! all fail. A completion that was cut off mostly has no answer, so this is a penalty on length, too.

use serde::{Deserialize, Serialize};
use toehold_verifier::Outcome;

use super::{Fault, ShapedGroups};

/// A penalty for completions without a readable answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// What such a completion loses, above 0; a success is worth 1.
    pub weight: f64,
    /// `all`, or `mixed`: groups whose verdicts are all the same keep their rewards.
    #[serde(default)]
    pub groups: ShapedGroups,
}

impl Format {
    pub(super) fn fault(&self) -> Option<Fault> {
        let is_in_range = self.weight > 0.0 && self.weight.is_finite();
        (!is_in_range).then_some(("format.weight", self.weight, "above 0 and finite"))
    }

    /// What is added to the reward of a completion with this outcome.
    ///
    /// ```
    /// use toehold_training::objective::modifier::{Format, ShapedGroups};
    /// use toehold_verifier::Outcome;
    /// let format = Format { weight: 0.1, groups: ShapedGroups::All };
    /// let found = [Outcome::Correct, Outcome::Wrong, Outcome::NoAnswer].map(|outcome| format.part(outcome));
    /// assert_eq!(found, [0.0, 0.0, -0.1]);
    /// ```
    pub fn part(&self, outcome: Outcome) -> f64 {
        if is_missing(outcome) { -self.weight } else { 0.0 }
    }
}

/// Whether the text has no answer that could be read.
pub fn is_missing(outcome: Outcome) -> bool {
    match outcome {
        Outcome::NoAnswer | Outcome::Unreadable | Outcome::Compile | Outcome::Budget => true,
        Outcome::Correct
        | Outcome::Wrong
        | Outcome::Timeout
        | Outcome::Memory
        | Outcome::Runtime
        | Outcome::OutputLimit
        | Outcome::Infra => false,
    }
}
