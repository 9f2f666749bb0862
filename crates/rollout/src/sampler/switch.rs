//! The penalty on switching thoughts (TIP): for a while after a thought began, the tokens that begin another
//! one are less likely.
//!
//! `ẑ_v = z_v − α` for a switch token `v` while fewer than `β` tokens have passed since the current thought
//! began, else `ẑ_v = z_v`; temperature, top-k and top-p come after it, and the log-probability of a drawn
//! token is that of `softmax(ẑ / T)` as they leave it. A thought begins with its switch token, or with the first
//! token of the assistant's turn.
//!
//! **A prefix belongs to the turn**: its tokens have passed, and its last switch token began the current thought.
//! So a trace that is cut anywhere and gone on from is drawn as it would have been uncut. A prompt does not count.
//!
//! Source: arXiv 2501.18585; its values are α = 3 and β = 600. Of a word with several tokens, the first is
//! penalised. Nothing ends the penalty at `</think>`.
//!
//! Zero cases: α = 0 and β = 0 change no bit. With β beyond the limit of tokens the penalty never ends.

use serde::{Deserialize, Serialize};

use crate::TokenId;

/// A penalty on switching thoughts.
///
/// ```
/// use toehold_rollout::sampler::SwitchPenalty;
/// let tip = SwitchPenalty { tokens: vec![7], penalty: 3.0, window: 2 };
/// // Nothing has been written: the first thought begins now, and two tokens are drawn with the penalty.
/// let age = tip.age(&[]);
/// assert_eq!(tip.penalised(age), [7]);
/// let age = tip.next_age(age, 1);
/// assert_eq!(tip.penalised(age), [7]);
/// let age = tip.next_age(age, 1);
/// assert!(tip.penalised(age).is_empty());
/// // A switch token is the first of its thought's two tokens.
/// let age = tip.next_age(age, 7);
/// assert_eq!(tip.penalised(age), [7]);
/// assert!(tip.penalised(tip.next_age(age, 1)).is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchPenalty {
    /// The tokens that begin another thought, each once.
    pub tokens: Vec<TokenId>,
    /// What is taken from their logits, `α`, in `[0, 1e6]`.
    pub penalty: f32,
    /// Tokens of a thought, `β`: those before it is so long are drawn with the penalty.
    pub window: u32,
}

impl SwitchPenalty {
    /// The largest penalty: far beyond any logit, and far from where logits lose their digits to it.
    pub const MOST: f32 = 1e6;

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn check(&self) -> Result<(), String> {
        let SwitchPenalty { tokens, penalty, .. } = self;
        if !(0.0..=Self::MOST).contains(penalty) {
            return Err(format!("the penalty on switching thoughts is {penalty}, expected in [0, 1e6]"));
        }
        match (0..tokens.len()).find(|&at| tokens[..at].contains(&tokens[at])) {
            Some(at) => Err(format!("token {} switches thoughts twice, expected each token once", tokens[at])),
            None => Ok(()),
        }
    }

    /// How many tokens the current thought has after these, the first ones of the assistant's turn.
    ///
    /// ```
    /// use toehold_rollout::sampler::SwitchPenalty;
    /// let tip = SwitchPenalty { tokens: vec![7, 8], penalty: 3.0, window: 600 };
    /// let ages = [&[][..], &[1, 2], &[1, 7], &[7, 8, 1, 2]].map(|given| tip.age(given));
    /// assert_eq!(ages, [0, 2, 1, 3]);
    /// ```
    pub fn age(&self, given: &[TokenId]) -> u32 {
        let begin = given.iter().rposition(|token| self.tokens.contains(token)).unwrap_or(0);
        u32::try_from(given.len() - begin).unwrap_or(u32::MAX)
    }

    /// How many tokens the current thought has after one more.
    pub fn next_age(&self, age: u32, token: TokenId) -> u32 {
        if self.tokens.contains(&token) { 1 } else { age.saturating_add(1) }
    }

    /// The tokens that are penalised where the current thought has `age` tokens; none once it is long enough.
    pub fn penalised(&self, age: u32) -> &[TokenId] {
        if age < self.window { &self.tokens } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::SwitchPenalty;
    use crate::TokenId;

    /// Where the penalty is on: one letter before each token, `p` or `.`, and one for what comes after all.
    #[track_caller]
    fn check(window: u32, prefix: &[TokenId], completion: &[TokenId], expected: Expect) {
        let tip = SwitchPenalty { tokens: vec![7, 8], penalty: 3.0, window };
        let mut age = tip.age(prefix);
        let mut letters = String::new();
        for token in completion.iter().map(Some).chain([None]) {
            letters.push(if tip.penalised(age).is_empty() { '.' } else { 'p' });
            age = token.map_or(age, |&token| tip.next_age(age, token));
        }
        expected.assert_eq(&letters);
        // Cut anywhere, it is the same.
        let all = [prefix, completion].concat();
        assert_eq!(!tip.penalised(tip.age(&all)).is_empty(), letters.ends_with('p'));
    }

    #[test]
    fn the_window_is_of_so_many_tokens() {
        check(0, &[], &[1, 7, 1], expect!["...."]);
        check(1, &[], &[1, 7, 1], expect!["p..."]);
        check(2, &[], &[1, 1, 7, 1, 1], expect!["pp.p.."]);
        check(3, &[], &[1, 1, 1, 7, 1, 1, 1], expect!["ppp.pp.."]);
        check(2, &[], &[7, 8, 7, 1, 1], expect!["pppp.."]);
        check(u32::MAX, &[], &[1, 1, 1], expect!["pppp"]);
    }

    #[test]
    fn a_prefix_is_the_beginning_of_the_turn() {
        check(3, &[1], &[1, 1, 1], expect!["pp.."]);
        check(3, &[1, 1, 1, 1], &[1], expect![".."]);
        check(3, &[1, 1, 1, 7], &[1, 1, 1], expect!["pp.."]);
        check(3, &[7, 1, 8, 1, 1], &[1, 7, 1], expect!["..pp"]);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let refused = |tokens: &[TokenId], penalty: f32| {
            SwitchPenalty { tokens: tokens.to_vec(), penalty, window: 1 }.check().err().unwrap_or_default()
        };
        assert_eq!([refused(&[], 0.0), refused(&[1, 2], 1e6)], ["", ""]);
        expect!["the penalty on switching thoughts is -1, expected in [0, 1e6]"].assert_eq(&refused(&[1], -1.0));
        expect!["the penalty on switching thoughts is NaN, expected in [0, 1e6]"].assert_eq(&refused(&[1], f32::NAN));
        expect!["token 2 switches thoughts twice, expected each token once"].assert_eq(&refused(&[2, 1, 2], 1.0));
    }
}
