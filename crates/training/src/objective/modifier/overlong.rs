//! What is done to completions that reach the limit of tokens, or come near it.
//!
//! ```text
//! kind = "mask"       a completion that was cut off is not learnt from
//! kind = "penalty"    r + 0                            of at most limit − tail tokens
//!                     r + (limit − tail − tokens)/tail above that: −1 at the limit
//! ```
//!
//! DAPO, arXiv 2503.14476, section 3.4 and equation 13 (`tail` 4096 of a limit of 20480); the
//! limit is `[train] max_tokens`. Without this table a completion that was cut off counts by its reward like
//! any other.
//!
//! Zero cases: a `tail` of the whole limit or more begins at the first token. A batch in which all were
//! cut off has, with `mask`, nothing to learn from.
//!
//! What a masked completion still does: its reward stands in its group's mean and deviation, as in TRL
//! (`mask_truncated_completions`). Its tokens are not counted in what the batch is divided by; as a trace
//! it is counted, as an empty completion is.
//!
//! Departures: rewards here are 0 and 1, the paper's ±1, so a penalty of −1 is the whole of a success.
//! A penalty makes rewards of a group differ in which all succeed, so such a group speaks; the paper leaves
//! it out by its verdicts (dynamic sampling), which is a curriculum's affair. Objectives that read a reward
//! as 0 or 1 read a shaped one in their own way: `w-reinforce` counts it nothing, and the noisy-verifier
//! correction takes any above 0 for a success.

use serde::{Deserialize, Serialize};

use super::{Ending, Fault};

/// What is done to completions that are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Overlong {
    /// Those that were cut off are not learnt from.
    Mask,
    /// A reward falls over the last tokens before the limit.
    Penalty {
        /// How many tokens before the limit it begins to fall, at least 1.
        tail: u32,
    },
}

impl Overlong {
    pub(super) fn fault(&self) -> Option<Fault> {
        (*self == Overlong::Penalty { tail: 0 }).then_some(("overlong.tail", 0.0, "at least 1"))
    }

    /// What is added to the reward of a completion that ended like this; nothing by a mask.
    pub fn part(&self, ending: &Ending, limit: u32) -> f64 {
        match *self {
            Overlong::Mask => 0.0,
            Overlong::Penalty { tail } => penalty(ending.tokens, limit, tail),
        }
    }
}

/// What a completion's length adds to its reward, in `[−1, 0]`.
///
/// ```
/// use toehold_training::objective::modifier::overlong::penalty;
/// // The paper's limit and tail.
/// assert_eq!(penalty(16384, 20480, 4096), 0.0);
/// assert_eq!(penalty(17408, 20480, 4096), -0.25);
/// assert_eq!(penalty(20480, 20480, 4096), -1.0);
/// ```
pub fn penalty(tokens: usize, limit: u32, tail: u32) -> f64 {
    let over = tokens as f64 - (f64::from(limit) - f64::from(tail));
    -(over / f64::from(tail.max(1))).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use toehold_rollout::StopReason;

    use super::super::{Ending, Modifiers, Parts};
    use super::{Overlong, penalty};
    use crate::objective::batch::GroupView;

    #[test]
    fn the_penalty_falls_along_a_line() {
        let found: Vec<f64> = [0, 6, 7, 8, 9, 10, 11].iter().map(|&tokens| penalty(tokens, 10, 4)).collect();
        assert_eq!(found, [0.0, 0.0, -0.25, -0.5, -0.75, -1.0, -1.0]);
        assert_eq!(penalty(1, 10, 10), -0.1);
        assert!(penalty(0, 10, 10).abs() < 1e-12 && penalty(usize::MAX, 0, 0).is_finite());
    }

    #[test]
    fn only_what_was_cut_off_is_masked() {
        let mask = Modifiers { overlong: Some(Overlong::Mask), ..Modifiers::NONE };
        let ended = |stop| Ending { tokens: 10, stop };
        assert!(mask.keeps(&ended(StopReason::EndOfText)) && !mask.keeps(&ended(StopReason::Length)));
        let rewards = |modifiers: &Modifiers, endings: &[Ending]| -> Vec<f64> {
            let group =
                GroupView { rewards: vec![1.0; endings.len()], endings: endings.to_vec(), ..GroupView::default() };
            modifiers.parts(&group, 10).iter().map(Parts::reward).collect()
        };
        assert_eq!(rewards(&mask, &[ended(StopReason::Length)]), [1.0]);
        let soft = Modifiers { overlong: Some(Overlong::Penalty { tail: 4 }), ..Modifiers::NONE };
        assert!(soft.keeps(&ended(StopReason::Length)));
        let endings = [ended(StopReason::Length), Ending { tokens: 3, stop: StopReason::EndOfText }];
        assert_eq!(rewards(&soft, &endings), [0.0, 1.0]);
    }
}
