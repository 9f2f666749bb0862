//! Underthinking: how much of a wrong trace comes after a thought that would have led to the answer.
//!
//! `ξ = mean over wrong traces of (1 − T̂ / T)`, where `T` is the trace's tokens and `T̂` those up to the
//! end of its first right thought. A trace without a right thought counts 0: it did not think too
//! little, it never had the idea.
//!
//! Source: arXiv 2501.18585, whose example is 411 of 7681 tokens, 0.946. A thought begins at a switch
//! word there too, but the paper has one model cut traces into thoughts and another judge each.
//!
//! Departures: here a thought begins at a token of a given list and nowhere else; and it is right where
//! the policy itself, going on from its end, succeeds at least half of the time. That asks whether the
//! thought was worth keeping to, for this policy.
//!
//! Zero cases: no wrong trace gives none; a trace without tokens counts 0; a right thought that ends
//! with the trace counts 0.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use toehold_rollout::{SuccessCount, TokenId};

/// A wrong trace and where its first right thought ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thought {
    /// Tokens of the trace.
    pub tokens: usize,
    /// Tokens up to the end of its first right thought; none where no thought was right.
    pub first_right: Option<usize>,
}

/// The thoughts of a trace: a new one begins with each token that `is_switch` says, and with the first.
///
/// ```
/// use toehold_training::evaluation::underthinking::thoughts;
/// // 7 is the word that switches.
/// assert_eq!(thoughts(&[1, 2, 7, 3, 7, 7], |token| token == 7), [0..2, 2..4, 4..5, 5..6]);
/// assert!(thoughts(&[], |token| token == 7).is_empty());
/// ```
pub fn thoughts(tokens: &[TokenId], is_switch: impl Fn(TokenId) -> bool) -> Vec<Range<usize>> {
    let begins = (0..tokens.len()).filter(|&at| at == 0 || is_switch(tokens[at]));
    let ends = (1..=tokens.len()).filter(|&at| at == tokens.len() || is_switch(tokens[at]));
    begins.zip(ends).map(|(begin, end)| begin..end).collect()
}

/// Whether the policy succeeds at least half of the time from there; never without attempts.
pub fn is_right(count: SuccessCount) -> bool {
    count.attempts > 0 && 2 * count.successes >= count.attempts
}

/// ξ of wrong traces; none without one.
///
/// ```
/// use toehold_training::evaluation::underthinking::{Thought, underthinking};
/// let one = Thought { tokens: 7681, first_right: Some(411) };
/// assert!((underthinking(&[one]).unwrap() - 0.946).abs() < 1e-3);
/// // With a trace that never had the idea.
/// let none = Thought { tokens: 100, first_right: None };
/// assert!((underthinking(&[one, none]).unwrap() - 0.473).abs() < 1e-3);
/// ```
pub fn underthinking(wrong: &[Thought]) -> Option<f64> {
    let lost = |thought: &Thought| match thought.first_right {
        Some(right) if thought.tokens > 0 => 1.0 - right.min(thought.tokens) as f64 / thought.tokens as f64,
        _ => 0.0,
    };
    (!wrong.is_empty()).then(|| wrong.iter().map(lost).sum::<f64>() / wrong.len() as f64)
}

#[cfg(test)]
mod tests {
    use toehold_rollout::SuccessCount;

    use super::{Thought, is_right, thoughts, underthinking};

    #[test]
    fn zero_cases() {
        let thought = |tokens, first_right| Thought { tokens, first_right };
        assert_eq!(underthinking(&[]), None);
        assert_eq!(underthinking(&[thought(0, Some(0))]), Some(0.0));
        assert_eq!(underthinking(&[thought(4, Some(4)), thought(4, Some(9))]), Some(0.0));
        assert_eq!(underthinking(&[thought(4, Some(1)), thought(4, None)]), Some(0.375));
    }

    #[test]
    fn thoughts_cover_the_trace() {
        for tokens in [vec![], vec![7], vec![7, 7, 1], vec![1, 1, 7], vec![1]] {
            let found = thoughts(&tokens, |token| token == 7);
            let covered: Vec<usize> = found.iter().flat_map(Clone::clone).collect();
            assert_eq!(covered, (0..tokens.len()).collect::<Vec<_>>(), "{tokens:?}");
            assert!(found.iter().skip(1).all(|thought| tokens[thought.start] == 7));
        }
    }

    #[test]
    fn half_is_right() {
        let right = |successes, attempts| is_right(SuccessCount { successes, attempts });
        assert_eq!([right(0, 0), right(1, 3), right(2, 4), right(4, 4)], [false, false, true, true]);
    }
}
